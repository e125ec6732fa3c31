//! Searches: pages of matches, and the one resource a criterion means.

use std::cmp::Ordering;

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::search::{Order, SearchQuery, Sort, SortKey};

use crate::connection::Link;
use crate::cursor::Cursor;
use crate::draft;
use crate::error::{Error, Fault};
use crate::include;
use crate::plan::Plan;
use crate::record::{Page, Stored};
use crate::row;
use crate::sql::{Dialect, Sql, chunks};

/// Matches that are put in order here, at most: the database orders by what it has an index for.
const MOST_ORDERED: usize = 10_000;

/// One page, and the total where it is wanted or plain to see.
pub(crate) fn page(link: &mut Link, query: &SearchQuery) -> Result<Page, Fault> {
    let plan = Plan::of(query);
    let after = query.after.as_deref().map(Cursor::parse).transpose()?;
    if query.count_only {
        return Ok(Page { total: Some(count(link, &plan)?), ..Page::default() });
    }
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let (mut found, total) = if plan.ordered() {
        let found = run(link, &plan.page(link.dialect, after.as_ref(), most.saturating_add(1))?)?;
        let all = (found.len() <= most && after.is_none()).then_some(found.len());
        let end = |(a, b, stored): (i64, i64, Stored)| {
            let order = [a, b].into_iter().take(plan.depth()).collect();
            (Cursor::At { order, id: stored.id.clone() }, stored)
        };
        (found.into_iter().map(end).collect::<Vec<_>>(), all)
    } else {
        let (found, all) = ordered(link, query, &plan, after.as_ref(), most.saturating_add(1))?;
        (found, Some(all))
    };
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
    let total = match total {
        Some(total) => u64::try_from(total).ok(),
        None if query.total => Some(count(link, &plan)?),
        None => None,
    };
    let entries: Vec<Stored> = found.into_iter().map(|(_, stored)| stored).collect();
    let included = include::along(link, &query.includes, &entries)?;
    Ok(Page { entries, included, total, next })
}

/// All matches in the order of the query, those after the cursor, at most so many; and how many
/// match in all.
fn ordered(
    link: &mut Link,
    query: &SearchQuery,
    plan: &Plan<'_>,
    after: Option<&Cursor>,
    most: usize,
) -> Result<(Vec<(Cursor, Stored)>, usize), Fault> {
    let keys: Vec<i64> =
        plan.keys(link.dialect, MOST_ORDERED + 1).rows::<BigInt, i64>(&mut link.connection)?;
    if keys.len() > MOST_ORDERED {
        let details = format!("_sort: more than {MOST_ORDERED} resources match; narrow the search");
        return Err(Error::from(Issue::error("too-costly", details)).into());
    }
    let mut found = Vec::with_capacity(keys.len());
    for keys in chunks(&keys) {
        let mut sql = Sql::new(link.dialect, "SELECT ");
        sql.push(row::COLUMNS).push(" FROM resource r WHERE r.key IN ").ints(keys.iter().copied());
        for stored in row::load(link, &sql)? {
            let json = draft::parse(&stored.body)?;
            let order: Vec<Option<Order>> =
                query.sort.iter().map(|sort| order_of(sort, &stored, &json)).collect();
            drop(json);
            found.push((order, stored));
        }
    }
    let compare = |a: (&[Option<Order>], &str), b: (&[Option<Order>], &str)| {
        let keys = query.sort.iter().zip(a.0.iter().zip(b.0));
        let first = keys.map(|(sort, (a, b))| match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => {
                let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
                if sort.descending { order.reverse() } else { order }
            }
        });
        first.fold(Ordering::Equal, Ordering::then).then_with(|| a.1.cmp(b.1))
    };
    found.sort_by(|(a, one), (b, other)| compare((a, &one.id), (b, &other.id)));
    let all = found.len();
    if let Some(after) = after {
        let Cursor::Of { order, id } = after else { return Err(Cursor::wrong().into()) };
        if order.len() != query.sort.len() {
            return Err(Cursor::wrong().into());
        }
        found.retain(|(of, stored)| compare((of, &stored.id), (order, id)) == Ordering::Greater);
    }
    found.truncate(most);
    let cursor =
        |(order, stored): (Vec<Option<Order>>, Stored)| (Cursor::Of { order, id: stored.id.clone() }, stored);
    Ok((found.into_iter().map(cursor).collect(), all))
}

fn order_of(sort: &Sort, stored: &Stored, json: &Json) -> Option<Order> {
    let of = |code: &str| {
        let parameter = fhir::search::parameter(stored.kind, code)?;
        fhir::search::order(parameter, json, sort.descending)
    };
    match &sort.key {
        SortKey::Date => of("date"),
        SortKey::Updated => Some(Order::Number(stored.updated)),
        SortKey::Id => Some(Order::Text(stored.id.clone())),
        SortKey::Of(code) => of(code),
    }
}

fn count(link: &mut Link, plan: &Plan<'_>) -> Result<u64, Fault> {
    let counted: Vec<i64> = plan.count(link.dialect).rows::<BigInt, i64>(&mut link.connection)?;
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
    let sql = plan.page(link.dialect, None, 8)?;
    for (_, _, stored) in link.ask(|link| run(link, &sql))? {
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
    let text = format!("{:?} {:?}", query.kinds, query.clauses);
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
