//! Rows by what their events are about: charts, entities, agents. It is written when rows are taken into the
//! tree, in order, which costs less than with each row.

use diesel::sql_types::BigInt;

use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Sql, chunks};

/// Pairs read by one statement.
const TOGETHER: usize = 10_000;

/// What rows are about, and the key of the row.
pub(super) type Pair = (i64, i64);

/// Adds pairs, which are in order.
pub(super) fn write(link: &mut Link, pairs: &[Pair]) -> Result<(), Fault> {
    for pairs in chunks(pairs) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO audit_index (hash, key) VALUES ");
        for (n, (hash, key)) in pairs.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*hash).push(",").int(*key).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// The first so many rows about any of these, in growing order from a key on, or from below it downwards.
pub(super) fn about(
    link: &mut Link,
    hashes: &[i64],
    from: i64,
    descending: bool,
    most: usize,
) -> Result<Vec<i64>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT DISTINCT i.key FROM audit_index i WHERE i.hash IN ");
    sql.ints(hashes.iter().copied());
    sql.push(if descending { " AND i.key < " } else { " AND i.key >= " }).int(from);
    sql.push(if descending { " ORDER BY i.key DESC" } else { " ORDER BY i.key" }).limit(most);
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
}

/// All pairs.
pub(super) fn all(link: &mut Link, seen: &mut dyn FnMut(Pair)) -> Result<(), Fault> {
    let mut last: Option<Pair> = None;
    loop {
        let mut sql = Sql::new(link.dialect, "SELECT hash, key FROM audit_index");
        if let Some((hash, key)) = last {
            sql.push(" WHERE (hash, key) > (").int(hash).push(", ").int(key).push(")");
        }
        sql.push(" ORDER BY hash, key").limit(TOGETHER);
        let found = sql.rows::<(BigInt, BigInt), Pair>(&mut link.connection)?;
        found.iter().copied().for_each(&mut *seen);
        last = found.last().copied();
        if found.len() < TOGETHER {
            return Ok(());
        }
    }
}
