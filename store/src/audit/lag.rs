//! What is recorded and not in the log yet: how old it is, and what holds it back.

use std::collections::HashSet;

use diesel::sql_types::BigInt;

use super::authority::Authority;
use super::log::{self, signed};
use super::merkle::Hash;
use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};

/// Keys looked at by one statement.
const TOGETHER: usize = 256;

/// What waits for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// When the oldest event was recorded that is not in it.
    pub oldest: Option<i64>,
    /// Since when a transaction is open that it may have to wait for: on PostgreSQL any that has written something
    /// into this database.
    pub held: Option<i64>,
}

/// Where the first row stands that is not in the tree, and what it waits for.
pub(super) fn lag(link: &mut Link) -> Result<Lag, Fault> {
    let from = log::last(link)?;
    let mut sql = Sql::new(link.dialect, "SELECT a.low FROM audit a WHERE 1 = 1");
    if let Some(from) = from {
        log::after(&mut sql, link.dialect, from);
    }
    log::in_order(&mut sql, link.dialect);
    sql.limit(1);
    let oldest = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    if oldest.is_none() || link.dialect == Dialect::Sqlite {
        return Ok(Lag { oldest, held: None });
    }
    // Of other roles' transactions the times are not shown to everybody; those that are prepared are.
    let sql = Sql::new(
        link.dialect,
        "SELECT COALESCE(CAST(EXTRACT(EPOCH FROM MIN(since)) * 1000000 AS BIGINT), 0) FROM \
         (SELECT xact_start AS since FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
         AND datname = current_database() \
         UNION ALL SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()) t",
    );
    let held = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().filter(|since| *since > 0);
    Ok(Lag { oldest, held })
}

/// Of rows that this process remembers although they were written long ago: those that are in the tree, by
/// another process, are forgotten; those that are no longer there were taken out, and their events are given back.
pub(super) fn vanished(link: &mut Link, authority: &Authority, keys: &[i64]) -> Result<Vec<i64>, Fault> {
    let mut gone = Vec::new();
    let last = log::last(link)?;
    for keys in keys.chunks(TOGETHER) {
        let mut sql = Sql::new(link.dialect, "SELECT a.epoch, a.key FROM audit a WHERE a.key IN ");
        sql.ints(keys.iter().copied());
        let found = sql.rows::<(BigInt, BigInt), log::Position>(&mut link.connection)?;
        let behind = |one: &log::Position| last.is_none_or(|last| log::is_after(link.dialect, *one, last));
        let (wait, passed): (Vec<_>, Vec<_>) = found.into_iter().partition(behind);
        let sealed = sealed(link, authority, &passed)?;
        let is = |all: &[log::Position], key: i64| all.iter().any(|(_, known)| *known == key);
        gone.extend(keys.iter().copied().filter(|key| !is(&wait, *key) && !sealed.contains(key)));
        authority.sealed(sealed.into_iter());
    }
    Ok(authority.lost(&gone))
}

/// Those of these rows that are in the tree: what says where a row stands is not authenticated by itself.
fn sealed(link: &mut Link, authority: &Authority, rows: &[log::Position]) -> Result<HashSet<i64>, Fault> {
    let (Some(first), Some(last)) = (rows.iter().min(), rows.iter().max()) else { return Ok(HashSet::new()) };
    let known = authority.leaves(rows.iter().map(|(_, key)| *key));
    let (mut after, mut found) = (-1, HashSet::new());
    loop {
        let blocks = log::blocks(link, |sql| {
            sql.push(" WHERE (epoch, high) >= (").int(first.0).push(", ").int(first.1).push(")");
            sql.push(" AND first > ").int(after).push(" ORDER BY first").limit(TOGETHER);
        })?;
        for block in &blocks {
            let leaves = block.keys.iter().zip(&block.leaves);
            let of_ours = |(key, leaf): &(&i64, &Hash)| {
                known.get(key).is_some_and(|known| known.hashes.first() == Some(leaf))
            };
            found.extend(leaves.filter(of_ours).map(|(key, _)| *key));
        }
        match blocks.last() {
            Some(block) if block.last < *last => after = signed(block.first),
            _ => return Ok(found),
        }
    }
}
