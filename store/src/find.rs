//! Searches: pages of matches, and the one resource a criterion means.

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::search::SearchQuery;

use crate::connection::Link;
use crate::draft;
use crate::error::{Error, Fault};
use crate::plan::{Cursor, Plan};
use crate::record::{Page, Stored};
use crate::row;
use crate::sql::{Dialect, Sql};

/// One page, and the total where it is wanted or plain to see.
pub(crate) fn page(link: &mut Link, query: &SearchQuery) -> Result<Page, Fault> {
    let plan = Plan::of(query);
    let after = query.after.as_deref().map(Cursor::parse).transpose()?;
    if query.count_only {
        return Ok(Page { total: Some(count(link, &plan)?), ..Page::default() });
    }
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let mut found = run(link, &plan.page(link.dialect, after.as_ref(), most.saturating_add(1))?)?;
    let more = found.len() > most;
    found.truncate(most);
    let end = found.last().filter(|_| more);
    let next = end.map(|(a, b, stored)| {
        if plan.by_id() { Cursor::Id(stored.id.clone()) } else { Cursor::Numbers([*a, *b, stored.key]) }
    });
    let total = if !more && after.is_none() {
        u64::try_from(found.len()).ok()
    } else if query.total {
        Some(count(link, &plan)?)
    } else {
        None
    };
    let entries = found.into_iter().map(|(_, _, stored)| stored).collect();
    Ok(Page { entries, total, next: next.map(|cursor| cursor.to_string()) })
}

fn count(link: &mut Link, plan: &Plan<'_>) -> Result<u64, Fault> {
    let counted: Vec<i64> = plan.count(link.dialect)?.rows::<BigInt, i64>(&mut link.connection)?;
    Ok(counted.first().and_then(|count| u64::try_from(*count).ok()).unwrap_or_default())
}

/// The resource that matches; it is an error if several do. Index rows hold hashes, so what they
/// find is compared once more with the resource itself.
pub(crate) fn only(link: &mut Link, query: &SearchQuery) -> Result<Option<Stored>, Fault> {
    if query.clauses.is_empty() {
        return Err(Error::Precondition("a condition without criteria matches everything".into()).into());
    }
    let plan = Plan::of(query);
    let mut found = Vec::new();
    for (_, _, stored) in run(link, &plan.page(link.dialect, None, 8)?)? {
        let index = fhir::search::index(stored.kind, &draft::parse(&stored.body)?);
        if query.clauses.iter().all(|clause| clause.matches(&index, &stored.id, stored.updated)) {
            found.push(stored);
        }
    }
    if found.len() > 1 {
        return Err(Error::Ambiguous(u32::try_from(found.len()).unwrap_or(u32::MAX)).into());
    }
    Ok(found.pop())
}

/// One of 4,096 locks: so many at most a bundle can hold, however large it is.
fn digest(query: &SearchQuery) -> i64 {
    let text = format!("{} {:?}", query.kind, query.clauses);
    LOCKS | (fhir::reference::hash_text(&text) & 0xfff)
}

/// Two requests with the same criterion, on whatever machine, wait for each other here, so that
/// the second one finds what the first one created. SQLite has one writer anyhow.
pub(crate) fn lock(link: &mut Link, criteria: &[&SearchQuery]) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite || criteria.is_empty() {
        return Ok(());
    }
    let mut locks: Vec<i64> = criteria.iter().map(|query| digest(query)).collect();
    locks.sort_unstable();
    locks.dedup();
    for locks in crate::sql::chunks(&locks) {
        let mut sql =
            Sql::new(link.dialect, "SELECT pg_advisory_xact_lock(l) FROM (SELECT column1 AS l FROM (VALUES ");
        for (n, lock) in locks.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*lock).push(")");
        }
        sql.push(") v ORDER BY 1) s");
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Advisory locks of criteria lie apart from all others.
const LOCKS: i64 = 0x6361_7365_0000;

type Found = (i64, i64, i64, i64, String, i64, i64, bool, String);

fn run(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<(i64, i64, Stored)>, Fault> {
    let rows: Vec<Found> = sql
        .rows::<(BigInt, BigInt, BigInt, BigInt, Text, BigInt, BigInt, Bool, Text), Found>(
            &mut link.connection,
        )?;
    rows.into_iter()
        .map(|(a, b, key, kind, id, version, updated, deleted, body)| {
            Ok((a, b, row::stored((key, kind, id, version, updated, deleted, body))?))
        })
        .collect()
}
