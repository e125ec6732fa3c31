//! PostgreSQL's numbers of transactions order the trail. They grow for ever in one cluster, but another one,
//! into which the database was restored, begins with its own: what is written there is to come after what
//! was restored all the same.

use diesel::sql_types::BigInt;

use super::verify::is_there;
use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};
use crate::transaction;

/// Nothing counts so far; a number beyond is not one of ours.
const FAR: i64 = 1 << 60;

/// What is added to the numbers of this cluster: the column's default says it, so that rows and this can't differ.
pub(super) const SHIFT: &str = "COALESCE((SELECT CAST(SUBSTRING(pg_get_expr(d.adbin, d.adrelid) FROM \
    '[+] ''?([0-9]+)') AS BIGINT) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid \
    AND a.attnum = d.adnum WHERE a.attrelid = 'audit'::regclass AND a.attname = 'epoch'), 0)";

/// Are there epochs that no transaction of this cluster can have had? The greatest, if so.
fn beyond(link: &mut Link) -> Result<Option<i64>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT) + ",
    );
    sql.push(SHIFT).push(", GREATEST((SELECT COALESCE(MAX(epoch), 0) FROM audit WHERE epoch < ");
    sql.int(FAR).push("), (SELECT COALESCE(MAX(epoch), 0) FROM audit_block))");
    let found = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?.pop();
    Ok(found.filter(|(next, greatest)| greatest >= next).map(|(_, greatest)| greatest))
}

/// Makes epochs go on above all that there are. Who writes meanwhile is waited for, and waits.
pub(crate) fn go_on(link: &mut Link) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(());
    }
    // Where a table is gone, whoever looks at the trail is to learn it.
    if !is_there(link, "audit")? || !is_there(link, "audit_block")? || beyond(link)?.is_none() {
        return Ok(());
    }
    transaction::within(link, |link| {
        link.execute("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")?;
        let Some(shift) = beyond(link)? else { return Ok(()) };
        tracing::warn!(
            shift,
            "transactions are numbered anew, as after a restore: the audit log goes on above"
        );
        link.execute(&format!(
            "ALTER TABLE audit ALTER COLUMN epoch \
             SET DEFAULT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) + {shift}"
        ))
    })
}
