//! Versions of resources in their tables.

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::reference::hash;
use fhir::resource_type::ResourceType;

use crate::connection::Link;
use crate::error::Fault;
use crate::record::Stored;
use crate::sql::{Dialect, Sql, chunks};

/// SQL types of [`COLUMNS`].
pub(crate) type Columns = (BigInt, BigInt, Text, BigInt, BigInt, Bool, Text, Text);
/// Rust types of [`COLUMNS`].
pub(crate) type Tuple = (i64, i64, String, i64, i64, bool, String, String);
/// The columns of one version.
pub(crate) const COLUMNS: &str = "r.key, r.kind, r.id, r.version, r.updated, r.deleted, r.patient, r.body";

pub(crate) fn stored(
    (key, kind, id, version, updated, deleted, patient, body): Tuple,
) -> Result<Stored, Fault> {
    let kind = u8::try_from(kind)
        .ok()
        .and_then(ResourceType::from_index)
        .ok_or_else(|| Fault::Database(format!("a row has the resource type {kind}")))?;
    Ok(Stored { key, kind, id, version, updated, deleted, patient, body })
}

pub(crate) fn load(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<Stored>, Fault> {
    let rows: Vec<Tuple> = sql.rows::<Columns, Tuple>(&mut link.connection)?;
    rows.into_iter().map(stored).collect()
}

/// The current version, deleted or not.
pub(crate) fn current(link: &mut Link, kind: ResourceType, id: &str) -> Result<Option<Stored>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT ");
    sql.push(COLUMNS).push(" FROM resource r WHERE r.kind = ").int(i64::from(kind.index()));
    sql.push(" AND r.id = ").text(id);
    Ok(load(link, &sql)?.pop())
}

/// Current versions, deleted or not, those that there are, in no order.
pub(crate) fn all_current(link: &mut Link, wanted: &[(ResourceType, &str)]) -> Result<Vec<Stored>, Fault> {
    let mut found = Vec::with_capacity(wanted.len());
    for wanted in chunks(wanted) {
        let wanted = wanted.iter().map(|(kind, id)| (i64::from(kind.index()), *id));
        found.extend(load(link, &named(link.dialect, wanted))?);
    }
    Ok(found)
}

/// Asks for the current versions of these types and ids.
fn named<'s>(dialect: Dialect, wanted: impl Iterator<Item = (i64, &'s str)>) -> Sql<'s> {
    let mut sql = Sql::new(dialect, "SELECT ");
    sql.push(COLUMNS).push(" FROM resource r WHERE (r.kind, r.id) IN (VALUES ");
    for (n, (kind, id)) in wanted.enumerate() {
        sql.push(if n > 0 { ",(" } else { "(" }).int(kind).push(",").text(id).push(")");
    }
    sql.push(")");
    sql
}

/// One earlier version.
pub(crate) fn earlier(
    link: &mut Link,
    kind: ResourceType,
    id: &str,
    version: i64,
) -> Result<Option<Stored>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT ");
    sql.push(COLUMNS).push(" FROM history r WHERE r.kind = ").int(i64::from(kind.index()));
    sql.push(" AND r.id = ").text(id).push(" AND r.version = ").int(version);
    Ok(load(link, &sql)?.pop())
}

/// Earlier versions, those that there are, in no order.
pub(crate) fn all_earlier(
    link: &mut Link,
    wanted: &[(ResourceType, &str, i64)],
) -> Result<Vec<Stored>, Fault> {
    let mut found = Vec::with_capacity(wanted.len());
    for wanted in chunks(wanted) {
        let mut sql = Sql::new(link.dialect, "SELECT ");
        sql.push(COLUMNS).push(" FROM history r WHERE (r.kind, r.id, r.version) IN (VALUES ");
        for (n, (kind, id, version)) in wanted.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(i64::from(kind.index()));
            sql.push(",").text(*id).push(",").int(*version).push(")");
        }
        sql.push(")");
        found.extend(load(link, &sql)?);
    }
    Ok(found)
}

/// Current versions to be replaced, held against others until the transaction ends, always in
/// the same order so that two bundles can't wait for each other.
pub(crate) fn held(link: &mut Link, targets: &[(ResourceType, &str)]) -> Result<Vec<Stored>, Fault> {
    if link.dialect == Dialect::Sqlite {
        let found = targets.iter().map(|(kind, id)| current(link, *kind, id));
        return found.filter_map(Result::transpose).collect();
    }
    let mut targets: Vec<(i64, &str)> =
        targets.iter().map(|(kind, id)| (i64::from(kind.index()), *id)).collect();
    targets.sort_unstable();
    let mut found = Vec::with_capacity(targets.len());
    for targets in chunks(&targets) {
        let mut sql = named(link.dialect, targets.iter().copied());
        sql.push(" ORDER BY r.kind, r.id FOR UPDATE OF r");
        found.extend(load(link, &sql)?);
    }
    Ok(found)
}

/// New resources, always in the same order: who brings the same ones at the same time waits for
/// the other at the first of them, and not crosswise.
pub(crate) fn insert(link: &mut Link, rows: &[&Stored]) -> Result<(), Fault> {
    let mut rows = rows.to_vec();
    rows.sort_unstable_by_key(|row| (row.kind, row.id.as_str()));
    for rows in chunks(&rows) {
        let mut sql = Sql::new(
            link.dialect,
            "INSERT INTO resource (key, kind, id, version, updated, deleted, hash, patient, body) VALUES ",
        );
        for (n, row) in rows.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(row.key).push(",");
            sql.int(i64::from(row.kind.index())).push(",").text(row.id.as_str()).push(",");
            sql.int(row.version).push(",").int(row.updated).push(",").bool(row.deleted);
            sql.push(",").int(hash(row.kind, &row.id)).push(",").text(row.patient.as_str());
            sql.push(",").text(row.body.as_str()).push(")");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// New versions: the old ones, by key, go into history and the new ones take their place.
pub(crate) fn replace(link: &mut Link, rows: &[(i64, &Stored)]) -> Result<(), Fault> {
    for rows in chunks(rows) {
        let mut sql = Sql::new(
            link.dialect,
            "INSERT INTO history (key, kind, id, version, updated, deleted, patient, body) \
             SELECT key, kind, id, version, updated, deleted, patient, body FROM resource WHERE key IN ",
        );
        sql.ints(rows.iter().map(|(old, _)| *old));
        let moved = sql.run(&mut link.connection)?;
        let mut sql = Sql::new(
            link.dialect,
            "UPDATE resource SET key = v.column2, version = v.column3, updated = v.column4, \
             deleted = v.column5, patient = v.column6, body = v.column7 FROM (VALUES ",
        );
        for (n, (old, row)) in rows.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*old).push(",").int(row.key).push(",");
            sql.int(row.version).push(",").int(row.updated).push(",").bool(row.deleted);
            sql.push(",").text(row.patient.as_str()).push(",").text(row.body.as_str()).push(")");
        }
        sql.push(") AS v WHERE resource.key = v.column1");
        let replaced = sql.run(&mut link.connection)?;
        if moved != rows.len() || replaced != rows.len() {
            return Err(Fault::Transient("a version was replaced by somebody else".into()));
        }
    }
    Ok(())
}
