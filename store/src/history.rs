//! The versions of a resource, of a type, or of all that is here, newest first.

use diesel::sql_types::BigInt;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::time::Span;

use crate::access::Sight;
use crate::connection::Link;
use crate::cursor::Cursor;
use crate::error::{Error, Fault};
use crate::record::{Page, Stored};
use crate::sql::{Sql, chunks};
use crate::{reader, row};

/// Versions looked at by one statement, where not all may be seen.
const STEP: usize = 500;

/// Which versions are asked for (<https://hl7.org/fhir/R4/http.html#history>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of resources of these types.
    pub kinds: Vec<ResourceType>,
    /// Of this one alone.
    pub id: Option<String>,
    /// Made at this moment or later, microseconds since 1970 UTC.
    pub since: Option<i64>,
    /// Current at some time in this span.
    pub at: Option<Span>,
    /// Versions a page, at most.
    pub count: u32,
    /// Where the page begins: what the page before gave.
    pub after: Option<String>,
    /// What the pages are of, as they came: a page's end holds for this alone.
    pub used: Vec<(String, String)>,
}

impl HistoryQuery {
    /// What orders versions: of one resource their numbers; else when they were made, and those of
    /// one moment as they were written.
    fn order(&self) -> [&'static str; 2] {
        if self.id.is_some() { ["version", "key"] } else { ["updated", "key"] }
    }

    /// ` AND …`
    fn narrow<'q>(&'q self, sql: &mut Sql<'q>, after: Option<[i64; 2]>) {
        sql.in_time("r.key");
        if let Some(id) = &self.id {
            sql.push(" AND r.id = ").text(id.as_str());
        }
        if let Some(since) = self.since {
            sql.push(" AND r.updated >= ").int(since);
        }
        if let Some(at) = self.at {
            sql.push(" AND r.updated <= ").int(at.high);
            for table in ["resource", "history"] {
                sql.push(" AND NOT EXISTS (SELECT 1 FROM ").push(table).push(" n WHERE n.kind = r.kind");
                // The one that came next may have been dropped.
                sql.push(" AND n.id = r.id AND n.version > r.version AND n.updated <= ").int(at.low);
                sql.push(")");
            }
        }
        if let Some([first, key]) = after {
            let column = self.order()[0];
            sql.push(" AND r.").push(column).push(" <= ").int(first);
            sql.push(" AND (r.").push(column).push(", r.key) < (").int(first).push(", ").int(key).push(")");
        }
    }
}

/// One page of versions, tombstones included; the total of a resource's versions, where all are asked for
/// and all may be seen.
pub(crate) fn page(link: &mut Link, sight: &Sight, query: &HistoryQuery) -> Result<Page, Fault> {
    let op = if query.id.is_some() { Op::Read } else { Op::Search };
    if query.kinds == [ResourceType::AUDIT_EVENT] {
        let details = "an AuditEvent is never changed: it has no history";
        return Err(Error::from(Issue::error("not-supported", details)).into());
    }
    let mut query = query.clone();
    if let Some(denied) = query.kinds.iter().find_map(|kind| sight.access().permits(op, *kind).err()) {
        query.kinds.retain(|kind| sight.access().permits(op, *kind).is_ok());
        if query.kinds.is_empty() {
            return Err(denied.into());
        }
    }
    let whole = query.kinds.iter().all(|kind| sight.is_whole(op, *kind));
    let mut after = match query.after.as_deref().map(Cursor::parse).transpose()? {
        None => None,
        Some(Cursor::At { order, .. }) => {
            Some(<[i64; 2]>::try_from(order).map_err(|_| Fault::from(Cursor::wrong()))?)
        }
        Some(Cursor::Of { .. }) => return Err(Cursor::wrong().into()),
    };
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let mut entries: Vec<([i64; 2], Stored)> = Vec::with_capacity(most.saturating_add(1));
    loop {
        // Of those who see little, much has to be looked at.
        let step = if whole { most.saturating_add(1) } else { most.saturating_add(1).max(STEP) };
        let found = versions(link, &query, after, step)?;
        let last = found.last().map(|(place, _)| *place).filter(|_| found.len() >= step);
        for (place, stored) in found {
            if entries.len() <= most && (whole || reader::is_shown(link, sight, op, &stored)?) {
                entries.push((place, stored));
            }
        }
        after = last;
        if after.is_none() || entries.len() > most {
            break;
        }
    }
    let more = entries.len() > most;
    entries.truncate(most);
    let end = |(place, _): &([i64; 2], Stored)| Cursor::At { order: place.to_vec(), id: "0".to_owned() };
    let next = entries.last().filter(|_| more).map(|last| end(last).to_string());
    let total = match &query.id {
        Some(_) if whole && query.since.is_none() && query.at.is_none() => Some(count(link, &query)?),
        _ => None,
    };
    let entries = entries.into_iter().map(|(_, stored)| stored).collect();
    Ok(Page { entries, included: Vec::new(), total, next })
}

/// At most so many versions after that place, each with its own.
fn versions(
    link: &mut Link,
    query: &HistoryQuery,
    after: Option<[i64; 2]>,
    most: usize,
) -> Result<Vec<([i64; 2], Stored)>, Fault> {
    let column = query.order()[0];
    let mut places: Vec<[i64; 2]> = Vec::new();
    for kinds in query.kinds.chunks(100) {
        let mut sql = Sql::new(link.dialect, "");
        let tables = ["resource", "history"];
        for (n, (kind, table)) in kinds.iter().flat_map(|kind| tables.map(|t| (*kind, t))).enumerate() {
            sql.push(if n > 0 { " UNION ALL " } else { "" });
            sql.push("SELECT * FROM (SELECT r.").push(column).push(" AS place, r.key AS key FROM ");
            sql.push(table).push(" r WHERE r.kind = ").int(i64::from(kind.index()));
            query.narrow(&mut sql, after);
            sql.push(" ORDER BY r.").push(column).push(" DESC, r.key DESC");
            sql.limit(most).push(") p").push(&n.to_string());
        }
        link.in_time()?;
        let rows = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?;
        places.extend(rows.into_iter().map(|(place, key)| [place, key]));
    }
    places.sort_unstable_by(|one, other| other.cmp(one));
    places.truncate(most);
    let mut entries: Vec<([i64; 2], Stored)> = Vec::with_capacity(places.len());
    for places in chunks(&places) {
        for table in ["resource", "history"] {
            let mut sql = Sql::new(link.dialect, "SELECT ");
            sql.push(row::COLUMNS).push(" FROM ").push(table).push(" r WHERE r.key IN ");
            sql.ints(places.iter().map(|[_, key]| *key));
            let at_its_place = |stored: Stored| {
                places.iter().find(|[_, key]| *key == stored.key).map(|place| (*place, stored))
            };
            entries.extend(row::load(link, &sql)?.into_iter().filter_map(at_its_place));
        }
    }
    entries.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    Ok(entries)
}

fn count(link: &mut Link, query: &HistoryQuery) -> Result<u64, Fault> {
    let mut total = 0;
    for kind in &query.kinds {
        for table in ["resource", "history"] {
            let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM ");
            sql.push(table).push(" r WHERE r.kind = ").int(i64::from(kind.index()));
            query.narrow(&mut sql, None);
            let found = sql.rows::<BigInt, i64>(&mut link.connection)?;
            total += found.first().and_then(|count| u64::try_from(*count).ok()).unwrap_or(0);
        }
    }
    Ok(total)
}
