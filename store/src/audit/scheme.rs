//! What the database has for tables of the trail. Whoever may change that could keep events out of it, and leave
//! nothing behind: so nothing stands in for a table, and nothing acts when one is written.

use diesel::sql_types::{Binary, Bool};

use super::verify::Finding;
use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql, lossy};

/// The tables, and what is in them.
pub(super) const TABLES: [(&str, &str); 8] = [
    ("audit", "the events"),
    ("audit_agent", "the ones who did it"),
    ("audit_run", "the parts of the index"),
    ("audit_index", "the pages of the index"),
    ("audit_block", "the leaves of the log"),
    ("audit_head", "the signed heads"),
    ("audit_retired", "the accounts of what left by policy"),
    ("audit_destination", "the receivers"),
];

/// All that has a name, and whether it is a table that keeps its rows, in parts or not; what the parts are called is
/// nobody's concern.
const SQLITE_NAMES: &str = "SELECT CAST(lower(name) AS BLOB), type = 'table' AND rootpage > 0 FROM sqlite_master \
                            WHERE type IN ('table', 'view')";
const POSTGRES_NAMES: &str = "SELECT CAST(CAST(relname AS TEXT) AS BYTEA), relpersistence = 'p' \
     AND relkind = CASE relname WHEN 'audit' THEN 'p' ELSE 'r' END AND NOT EXISTS (SELECT 1 FROM pg_inherits i \
     JOIN pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = c.oid \
     AND (p.relkind <> 'r' OR p.relpersistence <> 'p')) FROM pg_class c WHERE pg_table_is_visible(oid) AND relname LIKE 'audit%'";

/// What acts when something is written. This program has none of them, and one of another table, put off until a
/// transaction ends, reaches the trail too. What a part has as its table has it is said of the table alone.
const SQLITE_ACTING: &str = "SELECT CAST('trigger' AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB) \
                             FROM sqlite_master WHERE type = 'trigger' ORDER BY name";
const POSTGRES_ACTING: &str = "SELECT CAST(what AS BYTEA), CAST(CAST(name AS TEXT) AS BYTEA), \
     CAST(CAST(c.relname AS TEXT) AS BYTEA) FROM (SELECT 'trigger' AS what, tgname AS name, tgrelid AS at, \
     tgisinternal AS own FROM pg_trigger WHERE tgparentid = 0 \
     UNION ALL SELECT 'rule', rulename, ev_class, ev_type = '1' FROM pg_rewrite UNION ALL SELECT 'policy', polname, polrelid, FALSE FROM pg_policy) t JOIN pg_class c ON c.oid = t.at \
     LEFT JOIN (SELECT inhrelid FROM pg_inherits JOIN pg_class ON oid = inhparent WHERE relname = 'audit' \
     AND pg_table_is_visible(oid)) part ON part.inhrelid = c.oid \
     WHERE (part.inhrelid IS NOT NULL OR c.relnamespace IN (SELECT relnamespace FROM pg_class \
     WHERE relname IN ('audit', 'audit_agent') AND pg_table_is_visible(oid))) \
     AND (NOT own OR (part.inhrelid IS NOT NULL OR c.relname LIKE 'audit%') AND c.relkind IN ('p', 'r')) \
     ORDER BY 1, 2, 3";

/// What is wrong with it.
pub(super) fn harm(link: &mut Link) -> Result<Vec<Finding>, Fault> {
    let (names, acting) = match link.dialect {
        Dialect::Sqlite => (SQLITE_NAMES, SQLITE_ACTING),
        Dialect::Postgres => (POSTGRES_NAMES, POSTGRES_ACTING),
    };
    let names = Sql::new(link.dialect, names);
    let names = names.rows::<(Binary, Bool), (Vec<u8>, bool)>(&mut link.connection)?;
    let table = |(table, _): (&'static str, _)| {
        let found = names.iter().find(|(name, _)| name == table.as_bytes());
        match found {
            Some((_, true)) => None,
            Some((_, false)) => Some(Finding::Replaced(table)),
            None => Some(Finding::Gone(table)),
        }
    };
    let mut harm: Vec<Finding> = TABLES.into_iter().filter_map(table).collect();
    let acting = Sql::new(link.dialect, acting);
    let acting =
        acting.rows::<(Binary, Binary, Binary), (Vec<u8>, Vec<u8>, Vec<u8>)>(&mut link.connection)?;
    let acts = |(what, name, table)| Finding::Acting(lossy(what), lossy(name), lossy(table));
    harm.extend(acting.into_iter().map(acts));
    Ok(harm)
}
