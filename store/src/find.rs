//! Searches: pages of matches, and the one resource a criterion means.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Order, SearchQuery, Sort, SortKey};

use crate::access::Sight;
use crate::audit::find as events;
use crate::carried::{self, CARRIERS};
use crate::connection::Link;
use crate::cursor::Cursor;
use crate::draft;
use crate::error::{Error, Fault};
use crate::include;
use crate::moment::{Moment, Part};
use crate::plan::Plan;
use crate::record::{Page, Stored};
use crate::row;
use crate::sql::{Dialect, Sql, chunks};

/// Matches that are put in order here, at most: the database orders by what it has an index for.
const MOST_ORDERED: usize = 100_000;
/// Resources that change while a search is paged through, at most: each is put in its place here.
const MOST_CHANGED: usize = 20_000;

/// Charts that are named where a number is told of them, at most.
pub(crate) const MOST_COUNTED: usize = 1_000;

/// Where a page begins: what its place is judged by, and what it comes after.
type Start<'a> = (&'a Moment, Option<&'a Cursor>);

/// One page, and the total where it is wanted or plain to see.
pub(crate) fn page(link: &mut Link, sight: &Sight, query: &SearchQuery) -> Result<Page, Fault> {
    page_of(link, sight, query, None)
}

/// The same of a search that has further pages. A first one is of this snapshot, if `began` says nothing else.
pub(crate) fn page_of(
    link: &mut Link,
    sight: &Sight,
    query: &SearchQuery,
    began: Option<Moment>,
) -> Result<Page, Fault> {
    let narrowed = sight.narrow(query)?;
    let query = narrowed.query();
    if query.kind() == Some(ResourceType::AUDIT_EVENT) {
        let mut page = events::page(link, query)?;
        page.included = include::along(link, sight, &query.includes, &page.entries)?;
        return Ok(page);
    }
    let plan = Plan::of(&narrowed);
    let after = query.after.as_deref().map(|text| begin(link, text)).transpose()?;
    if query.count_only {
        return Ok(Page { total: Some(count(link, sight, &plan)?), ..Page::default() });
    }
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let enough = most.saturating_add(1);
    let start = after.as_ref().map(|(moment, cursor)| (moment, Some(cursor)));
    let (mut found, mut total) = seen(link, sight, query, &plan, start, enough)?;
    let moment = match (&after, began) {
        (Some((moment, _)), _) => Some(moment.clone()),
        (None, _) if found.len() <= most => None,
        (None, None) => Some(Moment::now(link)?),
        (None, Some(began)) => {
            let began = began.here(link)?;
            if !began.is_here() {
                (found, total) = seen(link, sight, query, &plan, Some((&began, None)), enough)?;
            }
            Some(began)
        }
    };
    let total = total.or_else(|| (found.len() <= most && after.is_none()).then_some(found.len()));
    let more = found.len() > most;
    found.truncate(most);
    let last = found.last().filter(|_| more).zip(moment);
    let next = last.map(|((cursor, _), moment)| format!("{moment} {cursor}"));
    let total = match total {
        Some(total) => u64::try_from(total).ok(),
        None if query.total => Some(count(link, sight, &plan)?),
        None => None,
    };
    let entries: Vec<Stored> = found.into_iter().map(|(_, stored)| stored).collect();
    let included = include::along(link, sight, &query.includes, &entries)?;
    Ok(Page { entries, included, total, next })
}

/// Matches, each in its place, and how many match in all if that is known.
type Seen = (Vec<(Cursor, Stored)>, Option<usize>);

/// At most so many matches from the start on that may be seen.
fn seen(
    link: &mut Link,
    sight: &Sight,
    query: &SearchQuery,
    plan: &Plan<'_>,
    start: Option<Start<'_>>,
    most: usize,
) -> Result<Seen, Fault> {
    let mut seen: Vec<(Cursor, Stored)> = Vec::new();
    let mut last: Option<(Moment, Cursor)> = None;
    loop {
        let after = last.as_ref().map(|(moment, cursor)| (moment, Some(cursor))).or(start);
        let (found, all) = if plan.ordered() {
            (placed(link, plan, after, most)?, None)
        } else {
            let (found, all) = ordered(link, query, plan, after, most)?;
            (found, Some(all))
        };
        if !sight.screens(&query.kinds) {
            return Ok((found, all));
        }
        let end = found.last().filter(|_| found.len() >= most).map(|(cursor, _)| cursor.clone());
        let moment = after.map(|(moment, _)| moment.clone());
        for (cursor, stored) in found {
            link.in_time()?;
            if !carried::withholds(link, sight, &stored)? {
                seen.push((cursor, stored));
            }
        }
        let Some(end) = end.filter(|_| seen.len() < most) else { break };
        let moment = moment.map_or_else(|| Moment::now(link), Ok)?;
        last = Some((moment, end));
    }
    seen.truncate(most);
    Ok((seen, None))
}

/// Reads what [`Page::next`] says: of which moment the pages are, and after what this one begins.
fn begin(link: &mut Link, text: &str) -> Result<(Moment, Cursor), Fault> {
    let (moment, cursor) = text.split_once(' ').ok_or_else(Cursor::wrong)?;
    Ok((Moment::parse(link, moment)?, Cursor::parse(cursor)?))
}

/// At most so many matches from the start on, as the database orders.
fn placed(
    link: &mut Link,
    plan: &Plan<'_>,
    after: Option<Start<'_>>,
    most: usize,
) -> Result<Vec<(Cursor, Stored)>, Fault> {
    let found = run(link, &plan.page(link.dialect, after, most)?)?;
    let place = |(order, stored): ([i64; 3], Stored)| -> (Vec<i64>, Stored) {
        (order.into_iter().take(plan.depth()).collect(), stored)
    };
    let mut found: Vec<(Vec<i64>, Stored)> = found.into_iter().map(place).collect();
    if let Some((moment, last)) = after {
        let moved = moved(link, plan, moment)?;
        for (former, now) in moved {
            let place = plan.place(&former, &fhir::search::index(former.kind, &draft::parse(&former.body)?));
            let comes = match last {
                None => true,
                Some(Cursor::At { order, id }) => {
                    plan.compare((&place, &former.id), (order, id)) == Ordering::Greater
                }
                Some(Cursor::Of { .. }) => return Err(Cursor::wrong().into()),
            };
            if comes {
                found.push((place, now));
            }
        }
        found.sort_by(|(a, one), (b, other)| plan.compare((a, &one.id), (b, &other.id)));
        found.truncate(most);
    }
    let cursor = |(order, stored): (Vec<i64>, Stored)| (Cursor::At { order, id: stored.id.clone() }, stored);
    Ok(found.into_iter().map(cursor).collect())
}

/// What matches and was changed since the moment: as it was then, and as it is.
fn moved(link: &mut Link, plan: &Plan<'_>, moment: &Moment) -> Result<Vec<(Stored, Stored)>, Fault> {
    // A chart has few rows to look through; of all charts, the changes are fewer than the matches.
    let sql = if plan.in_one_chart() {
        plan.keys(link.dialect, Some((moment, Part::Changed)), MOST_CHANGED + 1)
    } else {
        plan.changed(link.dialect, moment, MOST_CHANGED + 1)
    };
    let keys: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
    if keys.len() > MOST_CHANGED {
        let details = format!("_page: more than {MOST_CHANGED} resources were changed since; begin again");
        return Err(Error::from(Issue::error("too-costly", details)).into());
    }
    let mut changed = Vec::new();
    for keys in chunks(&keys) {
        link.in_time()?;
        for stored in load(link, keys)? {
            let index = fhir::search::index(stored.kind, &draft::parse(&stored.body)?);
            if plan.matches_alone(&stored, &index) {
                changed.push(stored);
            }
        }
    }
    let keys: Vec<i64> = changed.iter().map(|stored| stored.key).collect();
    let mut reaching: HashSet<i64> = HashSet::new();
    for keys in chunks(&keys) {
        link.in_time()?;
        match plan.reaching(link.dialect, keys) {
            Some(sql) => reaching.extend(sql.rows::<BigInt, i64>(&mut link.connection)?),
            None => reaching.extend(keys),
        }
    }
    changed.retain(|stored| reaching.contains(&stored.key));
    let mut former: HashMap<(ResourceType, String), Stored> = moment
        .former(link, &changed)?
        .into_iter()
        .map(|stored| ((stored.kind, stored.id.clone()), stored))
        .collect();
    let both = |now: Stored| former.remove(&(now.kind, now.id.clone())).map(|former| (former, now));
    Ok(changed.into_iter().filter_map(both).collect())
}

fn load(link: &mut Link, keys: &[i64]) -> Result<Vec<Stored>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT ");
    sql.push(row::COLUMNS).push(" FROM resource r WHERE r.key IN ").ints(keys.iter().copied());
    row::load(link, &sql)
}

/// All matches in the order of the query, those from the start on, at most so many; and how many
/// match in all.
fn ordered(
    link: &mut Link,
    query: &SearchQuery,
    plan: &Plan<'_>,
    after: Option<Start<'_>>,
    most: usize,
) -> Result<(Vec<(Cursor, Stored)>, usize), Fault> {
    let unchanged = after.map(|(moment, _)| (moment, Part::Unchanged));
    let keys: Vec<i64> =
        plan.keys(link.dialect, unchanged, MOST_ORDERED + 1).rows::<BigInt, i64>(&mut link.connection)?;
    if keys.len() > MOST_ORDERED {
        let details = format!("_sort: more than {MOST_ORDERED} resources match; narrow the search");
        return Err(Error::from(Issue::error("too-costly", details)).into());
    }
    let mut found = Vec::with_capacity(keys.len());
    let order = |stored: &Stored| -> Result<Vec<Option<Order>>, Fault> {
        let json = draft::parse(&stored.body)?;
        let of_kind = Some(Order::Number(i64::from(stored.kind.index())));
        let of_kind = query.kind().is_none().then_some(of_kind);
        Ok(query.sort.iter().map(|sort| order_of(sort, stored, &json)).chain(of_kind).collect())
    };
    for keys in chunks(&keys) {
        link.in_time()?;
        for stored in load(link, keys)? {
            found.push((order(&stored)?, stored.id, stored.key));
        }
    }
    if let Some((moment, _)) = after {
        for (former, now) in moved(link, plan, moment)? {
            found.push((order(&former)?, now.id, now.key));
        }
    }
    let compare = |a: (&[Option<Order>], &str), b: (&[Option<Order>], &str)| {
        let descending = query.sort.iter().map(|sort| sort.descending).chain([false]);
        let first = descending.zip(a.0.iter().zip(b.0)).map(|(descending, (a, b))| match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => {
                let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
                if descending { order.reverse() } else { order }
            }
        });
        first.fold(Ordering::Equal, Ordering::then).then_with(|| a.1.cmp(b.1))
    };
    found.sort_by(|(a, one, _), (b, other, _)| compare((a, one), (b, other)));
    let all = found.len();
    if let Some((_, Some(after))) = after {
        let Cursor::Of { order, id } = after else { return Err(Cursor::wrong().into()) };
        if order.len() != query.sort.len() + usize::from(query.kind().is_none()) {
            return Err(Cursor::wrong().into());
        }
        found.retain(|(of, one, _)| compare((of, one), (order, id)) == Ordering::Greater);
    }
    found.truncate(most);
    // Only now: the texts of all matches could be more than there is memory.
    let keys: Vec<i64> = found.iter().map(|(_, _, key)| *key).collect();
    let mut texts: HashMap<i64, Stored> = HashMap::with_capacity(keys.len());
    for keys in chunks(&keys) {
        texts.extend(load(link, keys)?.into_iter().map(|stored| (stored.key, stored)));
    }
    let cursor = |(order, id, key)| texts.remove(&key).map(|stored| (Cursor::Of { order, id }, stored));
    Ok((found.into_iter().filter_map(cursor).collect(), all))
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

/// The patients that all matches are about; none if they are in more than [`MOST_COUNTED`] charts.
pub(crate) fn counted(
    link: &mut Link,
    sight: &Sight,
    query: &SearchQuery,
) -> Result<Option<Vec<String>>, Fault> {
    if query.kind() == Some(ResourceType::AUDIT_EVENT) {
        return Ok(Some(Vec::new()));
    }
    let narrowed = sight.narrow(query)?;
    let plan = Plan::of(&narrowed);
    let sql = plan.patients(link.dialect, MOST_COUNTED + 1);
    let mut found: Vec<String> = sql.rows::<Text, String>(&mut link.connection)?;
    if CARRIERS.iter().any(|kind| plan.kinds().contains(kind)) {
        let sql = plan.among(link.dialect, &CARRIERS, MOST_COUNTED + 1);
        let keys: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
        if keys.len() > MOST_COUNTED {
            return Ok(None);
        }
        for stored in load(link, &keys)? {
            let Some(patients) = carried::patients(link, sight, &stored)? else { return Ok(None) };
            found.extend(patients);
        }
    }
    Ok((found.len() <= MOST_COUNTED).then_some(found))
}

fn count(link: &mut Link, sight: &Sight, plan: &Plan<'_>) -> Result<u64, Fault> {
    let counted: Vec<i64> = plan.count(link.dialect).rows::<BigInt, i64>(&mut link.connection)?;
    let counted = counted.first().and_then(|count| u64::try_from(*count).ok()).unwrap_or_default();
    if !sight.screens(plan.kinds()) {
        return Ok(counted);
    }
    let sql = plan.among(link.dialect, &CARRIERS, MOST_ORDERED + 1);
    let keys: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
    if keys.len() > MOST_ORDERED {
        let details =
            format!("more than {MOST_ORDERED} resources would have to be looked into; narrow the search");
        return Err(Error::from(Issue::error("too-costly", details)).into());
    }
    let mut withheld = 0;
    for keys in chunks(&keys) {
        for stored in load(link, keys)? {
            link.in_time()?;
            withheld += u64::from(carried::withholds(link, sight, &stored)?);
        }
    }
    Ok(counted.saturating_sub(withheld))
}

/// The resource that matches; it is an error if several do.
pub(crate) fn only(link: &mut Link, sight: &Sight, query: &SearchQuery) -> Result<Option<Stored>, Fault> {
    let mut found = few(link, sight, query)?;
    if found.len() > 1 {
        return Err(Error::Ambiguous.into());
    }
    Ok(found.pop())
}

/// Some of the resources that match. Index rows hold hashes, so what they find is compared once more
/// with the resource itself.
pub(crate) fn few(link: &mut Link, sight: &Sight, query: &SearchQuery) -> Result<Vec<Stored>, Fault> {
    if query.clauses.is_empty() {
        return Err(Error::Precondition("a condition without criteria matches everything".into()).into());
    }
    let narrowed = sight.narrow(query)?;
    let plan = Plan::of(&narrowed);
    let mut found = Vec::new();
    let sql = plan.page(link.dialect, None, 8)?;
    for (_, stored) in link.ask(link.patience, |link| run(link, &sql))? {
        let index = fhir::search::index(stored.kind, &draft::parse(&stored.body)?);
        if plan.matches_alone(&stored, &index) && !carried::withholds(link, sight, &stored)? {
            found.push(stored);
        }
    }
    Ok(found)
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

type Columns = (BigInt, BigInt, BigInt, BigInt, BigInt, Text, BigInt, BigInt, Bool, Text, Text);
type Found = (i64, i64, i64, i64, i64, String, i64, i64, bool, String, String);

fn run(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<([i64; 3], Stored)>, Fault> {
    let rows: Vec<Found> = sql.rows::<Columns, Found>(&mut link.connection)?;
    rows.into_iter()
        .map(|(a, b, c, key, kind, id, version, updated, deleted, patient, body)| {
            Ok(([a, b, c], row::stored((key, kind, id, version, updated, deleted, patient, body))?))
        })
        .collect()
}
