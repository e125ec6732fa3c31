//! PostgreSQL's tables that only grow are in parts, so that what is old is dropped with its part and not row by row:
//! `audit` and `history` by key, `event` by day.
//!
//! The parts by key are as wide as no sequence ever gets within one. What makes a part of about a month, or a year,
//! is that the sequence is moved on to the beginning of a new part, by one process at a time and only ever upwards.
//! If no part can be made, the last one goes on; what happened on a day without one lies in `event_default`.

use diesel::sql_types::{BigInt, Bool, Text};

use crate::clock;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql};
use crate::store::Store;
use crate::transaction;

/// Numbers of a part: two million a second for a month.
const STRIDE: i64 = 1 << 42;
/// One process at a time makes parts.
const LOCK: i64 = 0x6175_6775_7279_7061;
/// Whoever comes meanwhile waits behind who waits for a table, so nobody does for long.
pub(crate) const TURN: &str = "SET LOCAL lock_timeout = '1s'";
/// Microseconds.
const DAY: i64 = 86_400_000_000;
/// Days for which there is a part before they begin.
const AHEAD: i64 = 3;
/// Where events are that have no part of their own.
pub(crate) const REST: &str = "event_default";

/// A table whose parts are by key, the sequence that gives these, and how often a new part begins.
type ByKey = (&'static str, &'static str, &'static str);
const AUDIT: ByKey = ("audit", "audit_key", "YYYYMM");
const HISTORY: ByKey = ("history", "resource_key", "YYYY");

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// As statements call it.
    pub(crate) name: String,
    /// What is in it: from, and up to but not with.
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// When it was begun, as its name says.
    period: String,
}

/// `FOR VALUES FROM ('1') TO ('2')`
fn bounds(text: &str) -> Option<(i64, i64)> {
    let (low, high) = text.strip_prefix("FOR VALUES FROM ")?.split_once(" TO ")?;
    let number = |text: &str| match text.trim_matches(['(', ')', '\'']) {
        "MINVALUE" => Some(i64::MIN),
        "MAXVALUE" => Some(i64::MAX),
        number => number.parse().ok(),
    };
    Some((number(low)?, number(high)?))
}

/// The parts of a table in their order, without the one of what has no other.
pub(crate) fn parts(link: &mut Link, table: &'static str) -> Result<Vec<Part>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT CAST(CAST(c.oid AS regclass) AS TEXT), CAST(c.relname AS TEXT), \
         COALESCE(pg_get_expr(c.relpartbound, c.oid), '') FROM pg_inherits i \
         JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent \
         WHERE pg_table_is_visible(p.oid) AND p.relname = ",
    );
    sql.text(table);
    let rows = sql.rows::<(Text, Text, Text), (String, String, String)>(&mut link.connection)?;
    let part = |(name, own, bound): (String, String, String)| {
        let (low, high) = bounds(&bound)?;
        let period = own.rsplit('_').next().unwrap_or_default().to_owned();
        Some(Part { name, low, high, period })
    };
    let mut parts: Vec<Part> = rows.into_iter().filter_map(part).collect();
    parts.sort_unstable_by_key(|part| part.low);
    Ok(parts)
}

/// The part of the oldest events of the trail, if nothing is written there any more.
pub(crate) fn closed(link: &mut Link) -> Result<Option<Part>, Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(None);
    }
    let given = given(link, AUDIT.1)?;
    let sql = Sql::new(link.dialect, "SELECT a.key FROM audit a ORDER BY a.key LIMIT 1");
    let Some(first) = sql.rows::<BigInt, i64>(&mut link.connection)?.pop() else { return Ok(None) };
    let mut parts = parts(link, AUDIT.0)?.into_iter();
    Ok(parts.find(|part| (part.low..part.high).contains(&first) && part.high <= given))
}

/// Makes it, beside all who use the table.
fn make(link: &mut Link, table: &str, name: &str, low: i64, high: i64) -> Result<(), Fault> {
    tracing::info!(table, name, "a new part of a table");
    link.execute(&format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS); \
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')"
    ))
}

/// Is this process the one, until the open transaction ends?
fn is_our_turn(link: &mut Link) -> Result<bool, Fault> {
    link.execute(TURN)?;
    let mut sql =
        Sql::new(link.dialect, "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema(), ");
    sql.int(LOCK).push("))");
    Ok(sql.rows::<Bool, bool>(&mut link.connection)?.pop().unwrap_or_default())
}

/// The database's own clock: one for all processes.
fn period(link: &mut Link, how: &str) -> Result<String, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT to_char(now() AT TIME ZONE 'UTC', ");
    sql.text(how.to_owned()).push(")");
    let now = sql.rows::<Text, String>(&mut link.connection)?.pop();
    now.ok_or_else(|| Fault::Database("the database has no clock".into()))
}

/// How far the sequence is.
fn given(link: &mut Link, sequence: &str) -> Result<i64, Fault> {
    let sql = Sql::new(link.dialect, &format!("SELECT last_value FROM {sequence}"));
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
}

/// The last part by key, of those that this server made.
fn last(link: &mut Link, table: &'static str) -> Result<Option<Part>, Fault> {
    Ok(parts(link, table)?.into_iter().rfind(|part| part.high % STRIDE == 0))
}

/// Begins a new part if the last one is of another time, or filled by half.
fn cut(link: &mut Link, (table, sequence, how): ByKey) -> Result<(), Fault> {
    transaction::within(link, |link| {
        if !is_our_turn(link)? {
            return Ok(());
        }
        let now = period(link, how)?;
        let Some(last) = last(link, table)? else { return Ok(()) };
        if last.period == now && given(link, sequence)? < last.high.saturating_sub(STRIDE / 2) {
            return Ok(());
        }
        let high = last.high.saturating_add(STRIDE);
        make(link, table, &format!("{table}_{}_{now}", last.high / STRIDE), last.high, high)
    })?;
    // What a sequence gives is not taken back with a transaction: it is moved once there is a part to move to.
    transaction::within(link, |link| {
        if !is_our_turn(link)? {
            return Ok(());
        }
        if let Some(last) = last(link, table)?.filter(|last| last.low > 0) {
            let mut sql = Sql::new(link.dialect, &format!("SELECT setval('{sequence}', "));
            sql.int(last.low).push(&format!(", FALSE) FROM {sequence} WHERE last_value < ")).int(last.low);
            sql.rows::<BigInt, i64>(&mut link.connection)?;
        }
        Ok(())
    })
}

/// Drops parts of the table in which nothing is left. Of the last one but one somebody may still have a number.
fn tidy(link: &mut Link, (table, sequence, _): ByKey) -> Result<(), Fault> {
    let begun = given(link, sequence)? / STRIDE * STRIDE;
    for part in parts(link, table)? {
        // Another process may drop it at any time but while the table is locked.
        let mut locked = |mode: &str, drop: bool| {
            transaction::within(link, |link| {
                if !is_our_turn(link)? {
                    return Ok(false);
                }
                link.execute(&format!("LOCK TABLE ONLY {table} IN {mode} MODE"))?;
                let empty = self::parts(link, table)?.contains(&part) && is_empty(link, table, &part)?;
                if empty && drop {
                    link.execute(&format!("DROP TABLE {}", part.name))?;
                }
                Ok(empty)
            })
        };
        if part.high <= begun - STRIDE && locked("ACCESS SHARE", false)? {
            locked("ACCESS EXCLUSIVE", true)?;
        }
    }
    Ok(())
}

/// Drops parts of history in which nothing is left, and into which nothing can come any more.
pub(crate) fn tidy_history(link: &mut Link) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite { Ok(()) } else { tidy(link, HISTORY) }
}

/// What is current comes into its part of history when it is replaced.
fn is_empty(link: &mut Link, table: &str, part: &Part) -> Result<bool, Fault> {
    let mut sql = Sql::new(link.dialect, &format!("SELECT p.key FROM {} p", part.name));
    if table == HISTORY.0 {
        sql.push(" UNION ALL SELECT r.key FROM resource r WHERE r.key >= ").int(part.low);
        sql.push(" AND r.key < ").int(part.high);
    }
    sql.push(" LIMIT 1");
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.is_empty())
}

/// Days of one part: where events are kept for long there are to be as few.
fn span(kept: u32) -> i64 {
    match kept {
        ..=31 => DAY,
        32..=400 => 7 * DAY,
        _ => 30 * DAY,
    }
}

/// Makes the parts of days that are about to come.
fn days(link: &mut Link, kept: u32) -> Result<(), Fault> {
    let now = clock::told(link)?;
    let (until, span) = (now.saturating_add(AHEAD * DAY), span(kept));
    let there: Vec<(i64, i64)> =
        parts(link, "event")?.into_iter().map(|part| (part.low, part.high)).collect();
    let mut low = now / DAY * DAY;
    while low <= until {
        // A clock that was ahead may have left some anywhere.
        if let Some((_, high)) = there.iter().find(|(from, to)| (*from..*to).contains(&low)) {
            low = *high;
            continue;
        }
        let next = there.iter().map(|(from, _)| *from).find(|from| *from > low);
        let high = next.unwrap_or(i64::MAX).min((low / span + 1) * span);
        transaction::within(link, |link| {
            // What lies there already would have to be moved.
            if !is_our_turn(link)? {
                return Ok(());
            }
            // The table first, as whoever drops a part does.
            link.execute("LOCK TABLE ONLY event IN SHARE UPDATE EXCLUSIVE MODE")?;
            if lies_in_rest(link, low, high)? {
                return Ok(());
            }
            let mut sql = Sql::new(link.dialect, "SELECT to_char(to_timestamp(");
            sql.int(low / 1_000_000).push(") AT TIME ZONE 'UTC', 'YYYYMMDD')");
            let day = sql.rows::<Text, String>(&mut link.connection)?.pop().unwrap_or_default();
            // Another process may have made it meanwhile.
            if parts(link, "event")?.iter().any(|part| part.low < high && low < part.high) {
                return Ok(());
            }
            make(link, "event", &format!("event_{day}"), low, high)
        })?;
        low = high;
    }
    Ok(())
}

fn lies_in_rest(link: &mut Link, low: i64, high: i64) -> Result<bool, Fault> {
    let mut sql = Sql::new(link.dialect, &format!("SELECT e.at FROM {REST} e WHERE e.at >= "));
    sql.int(low).push(" AND e.at < ").int(high).push(" LIMIT 1");
    Ok(!sql.rows::<BigInt, i64>(&mut link.connection)?.is_empty())
}

/// Does what is to be done now; what can't be is no reason not to do the rest.
pub(crate) fn keep(link: &mut Link, kept: u32) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let done = [cut(link, AUDIT), cut(link, HISTORY), days(link, kept), tidy(link, AUDIT)];
    done.into_iter().collect()
}

impl Store {
    /// Makes the parts of PostgreSQL's tables that are due, and drops those of the audit trail in which nothing is
    /// left. Of several processes one does it, the others have nothing to do.
    ///
    /// # Errors
    /// `Busy` while somebody else uses a table for long; it is to be tried again. `Internal` where this may not be done.
    pub async fn keep_parts(&self) -> Result<(), Error> {
        let kept = self.event_days;
        self.pool.run(move |link| keep(link, kept)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_postgresql_says_them() {
        assert_eq!(bounds("FOR VALUES FROM ('-5') TO ('7')"), Some((-5, 7)));
        assert_eq!(bounds("FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"), Some((i64::MIN, i64::MAX)));
        assert_eq!(bounds("DEFAULT"), None);
    }
}
