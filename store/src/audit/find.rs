//! Reading the trail: one event, or those that a search asks for.
//!
//! Columns leave few rows; what an event then says of itself decides, by the same index entries as of
//! any resource.

use std::collections::HashMap;
use std::sync::LazyLock;

use diesel::sql_types::{BigInt, Text};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Index, SearchQuery, SortKey, Test, index, parameter};

use super::act::{Act, Outcome};
use super::agent::Agent;
use super::event::render;
use super::log;
use super::row::Columns;
use crate::connection::Link;
use crate::cursor::Cursor;
use crate::draft;
use crate::error::{Error, Fault};
use crate::record::{Page, Stored};
use crate::sql::{Dialect, Sql};

/// Rows looked at by one statement.
const TOGETHER: usize = 1000;
/// Agents that are looked through for a search, and named in one.
const MOST_AGENTS: usize = 20_000;
const FEW_AGENTS: usize = 500;
/// The trail is one; its events are never changed.
const VERSION: i64 = 1;

type Tuple =
    (i64, i64, i64, i64, i64, i64, String, i64, String, i64, i64, String, i64, String, String, (i64, String));
type Types = (
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    Text,
    BigInt,
    Text,
    BigInt,
    BigInt,
    Text,
    BigInt,
    Text,
    Text,
    (BigInt, Text),
);

/// A row as it lies in the database.
pub(crate) struct Found {
    pub(crate) columns: Columns,
    pub(crate) mac: i64,
    pub(crate) agent: String,
}

/// Rows `a`, and the ones who did it.
pub(crate) const SELECT: &str = "SELECT a.key, a.epoch, a.at, a.act, a.outcome, a.agent, a.request, a.kind, \
     a.id, a.version, a.entity, a.patient, a.chart, a.query, a.note, a.mac, COALESCE(g.text, '') \
     FROM audit a LEFT JOIN audit_agent g ON g.key = a.agent";

/// Writes ` WHERE …` of rows that are about any of these, and of those that no index knows yet.
fn about(link: &mut Link, sql: &mut Sql<'_>, hashes: &[i64]) -> Result<(), Fault> {
    let last = log::last(link)?;
    sql.push(" WHERE a.key IN (SELECT i.key FROM audit_index i WHERE i.hash IN ");
    sql.ints(hashes.iter().copied()).push(" UNION ALL SELECT y.key FROM audit y");
    if let Some((epoch, key)) = last {
        match link.dialect {
            Dialect::Sqlite => sql.push(" WHERE y.key > ").int(key),
            Dialect::Postgres => {
                sql.push(" WHERE (y.epoch, y.key) > (").int(epoch).push(", ").int(key).push(")")
            }
        };
    }
    sql.push(")");
    Ok(())
}

pub(crate) fn rows(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<Found>, Fault> {
    let rows: Vec<Tuple> = sql.rows::<Types, Tuple>(&mut link.connection)?;
    let found = |row: Tuple| {
        let (key, epoch, at, act, outcome, agent, request, kind, id, version, entity, patient, ..) =
            row.clone();
        let (.., chart, query, note, (mac, text)) = row;
        let columns = Columns {
            key,
            epoch,
            at,
            act,
            outcome,
            agent,
            request,
            kind,
            id,
            version,
            entity,
            patient,
            chart,
            query,
            note,
        };
        Found { columns, mac, agent: text }
    };
    Ok(rows.into_iter().map(found).collect())
}

pub(super) fn event(link: &Link, found: Found) -> Stored {
    let site = link.authority.as_ref().map_or("", |authority| authority.site.as_str());
    let agent: Agent = serde_json::from_str(&found.agent).unwrap_or_default();
    let body = render(&found.columns, &agent, site).to_string();
    Stored {
        key: found.columns.key,
        kind: ResourceType::AUDIT_EVENT,
        id: found.columns.key.to_string(),
        version: VERSION,
        updated: found.columns.at,
        deleted: false,
        patient: found.columns.patient,
        body,
    }
}

/// The event of that id.
pub(crate) fn one(link: &mut Link, id: &str) -> Result<Option<Stored>, Fault> {
    let key: Option<i64> = id.parse().ok().filter(|key: &i64| key.to_string() == id);
    let Some(key) = key else { return Ok(None) };
    let mut sql = Sql::new(link.dialect, SELECT);
    sql.push(" WHERE a.key = ").int(key);
    let found = rows(link, &sql)?.pop();
    Ok(found.map(|found| event(link, found)))
}

/// Something that was done to nothing.
fn nothing(act: Act, outcome: Outcome) -> Columns {
    let empty = String::new;
    Columns {
        key: 0,
        epoch: 0,
        at: 0,
        act: act.number(),
        outcome: outcome.number(),
        agent: 0,
        request: empty(),
        kind: -1,
        id: empty(),
        version: 0,
        entity: 0,
        patient: empty(),
        chart: 0,
        query: empty(),
        note: empty(),
    }
}

/// What an event says of itself by what was done and how it ended alone.
static TEMPLATES: LazyLock<HashMap<(Act, Outcome), Index>> = LazyLock::new(|| {
    let template = |(act, outcome): (Act, Outcome)| {
        let text = render(&nothing(act, outcome), &Agent::default(), "").to_string();
        let index = draft::parse(&text).map(|json| index(ResourceType::AUDIT_EVENT, &json));
        index.ok().map(|index| ((act, outcome), index))
    };
    let all = Act::all().flat_map(|act| Outcome::ALL.into_iter().map(move |outcome| (act, outcome)));
    all.filter_map(template).collect()
});

/// Is it a condition of one of these search parameters?
fn is_of(clause: &Clause, codes: &[&str]) -> bool {
    let mut known = codes.iter().filter_map(|code| parameter(ResourceType::AUDIT_EVENT, code));
    known.any(|one| one.params == clause.params)
}

/// What the index is entered by.
fn lead(clause: &Clause) -> Option<Vec<i64>> {
    match &clause.test {
        Test::Exact(any) if !clause.negated && is_of(clause, &["patient", "entity"]) => {
            any.iter().map(|one| one.value).collect()
        }
        _ => None,
    }
}

/// ` AND …` of what the columns know.
fn narrow<'q>(sql: &mut Sql<'q>, clause: &'q Clause) {
    if clause.negated {
        return;
    }
    let hashes = |test: &Test| -> Option<Vec<i64>> {
        let Test::Exact(any) = test else { return None };
        any.iter().map(|one| one.value).collect()
    };
    match (&clause.test, hashes(&clause.test)) {
        (Test::Id(ids), _) => {
            sql.push(" AND a.key IN ").ints(ids.iter().filter_map(|id| id.parse().ok()));
        }
        (_, Some(values)) if is_of(clause, &["patient"]) => {
            sql.push(" AND a.chart IN ").ints(values);
        }
        (_, Some(values)) if is_of(clause, &["entity"]) => {
            sql.push(" AND (a.entity IN ")
                .ints(values.clone())
                .push(" OR a.chart IN ")
                .ints(values)
                .push(")");
        }
        (Test::Updated(spans), _) => crate::compare::spans(sql, "a.at", "a.at", spans),
        (Test::Range(spans), _) if is_of(clause, &["date"]) => {
            crate::compare::spans(sql, "a.at", "a.at", spans);
        }
        _ if is_of(clause, &["type", "subtype", "action", "outcome"]) => {
            let fits = |(_, index): &(&(Act, Outcome), &Index)| clause.matches(index, "", 0);
            let fitting: Vec<(Act, Outcome)> = TEMPLATES.iter().filter(fits).map(|(both, _)| *both).collect();
            sql.push(" AND a.act IN ").ints(fitting.iter().map(|(act, _)| act.number()));
            sql.push(" AND a.outcome IN ").ints(fitting.iter().map(|(_, outcome)| outcome.number()));
        }
        _ => {}
    }
}

/// Those who fit a condition about who did it; none if the condition is about something else, or there are
/// too many to tell.
fn agents(link: &mut Link, clause: &Clause) -> Result<Option<Vec<i64>>, Fault> {
    let about = ["agent", "agent-name", "agent-role", "altid", "policy", "address"];
    if clause.negated || !is_of(clause, &about) {
        return Ok(None);
    }
    let mut sql = Sql::new(link.dialect, "SELECT key, text FROM audit_agent");
    sql.limit(MOST_AGENTS + 1);
    let all = sql.rows::<(BigInt, Text), (i64, String)>(&mut link.connection)?;
    if all.len() > MOST_AGENTS {
        return Ok(None);
    }
    let site = link.authority.as_ref().map_or("", |authority| authority.site.as_str());
    let mut fitting = Vec::new();
    for (key, text) in all {
        link.in_time()?;
        let agent: Agent = serde_json::from_str(&text).unwrap_or_default();
        let event = render(&nothing(Act::Read, Outcome::Success), &agent, site).to_string();
        if clause.matches(&index(ResourceType::AUDIT_EVENT, &draft::parse(&event)?), "", 0) {
            fitting.push(key);
        }
    }
    Ok((fitting.len() <= FEW_AGENTS).then_some(fitting))
}

/// One page, newest first where nothing else is said.
pub(crate) fn page(link: &mut Link, query: &SearchQuery) -> Result<Page, Fault> {
    if query.clauses.iter().any(|clause| !clause.alone()) {
        let details = "of AuditEvents only what they say themselves is searched: no chain, no _has, no _list";
        return Err(Error::from(Issue::error("not-supported", details)).into());
    }
    let descending = match query.sort.as_slice() {
        [] => true,
        [sort] if !matches!(sort.key, SortKey::Of(_)) => sort.descending,
        _ => {
            let details = "AuditEvents are sorted by date, _lastUpdated or _id";
            return Err(Error::from(Issue::error("not-supported", details)).into());
        }
    };
    let mut after = match query.after.as_deref().map(Cursor::parse).transpose()? {
        None => None,
        Some(Cursor::At { order, .. }) => Some(order.first().copied().ok_or_else(Cursor::wrong)?),
        Some(Cursor::Of { .. }) => return Err(Cursor::wrong().into()),
    };
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let counting = query.count_only || query.total && after.is_none();
    if query.count_only && query.clauses.is_empty() {
        let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM audit");
        let counted: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
        let total = counted.first().and_then(|count| u64::try_from(*count).ok());
        return Ok(Page { total, ..Page::default() });
    }
    let mut known: Vec<Vec<i64>> = Vec::new();
    for clause in &query.clauses {
        known.extend(agents(link, clause)?);
    }
    let led = query.clauses.iter().find_map(lead).or_else(|| known.first().cloned());
    let (mut entries, mut total) = (Vec::new(), 0_u64);
    loop {
        link.in_time()?;
        let mut sql = Sql::new(link.dialect, SELECT);
        match &led {
            Some(hashes) => about(link, &mut sql, hashes)?,
            None => {
                sql.push(" WHERE 1 = 1");
            }
        }
        sql.in_time("a.key");
        for clause in &query.clauses {
            narrow(&mut sql, clause);
        }
        for agents in &known {
            sql.push(" AND a.agent IN ").ints(agents.iter().copied());
        }
        if let Some(after) = after {
            sql.push(if descending { " AND a.key < " } else { " AND a.key > " }).int(after);
        }
        sql.push(if descending { " ORDER BY a.key DESC" } else { " ORDER BY a.key" }).limit(TOGETHER);
        let found = rows(link, &sql)?;
        let last = found.last().map(|one| one.columns.key).filter(|_| found.len() == TOGETHER);
        for found in found {
            let stored = event(link, found);
            let of = index(stored.kind, &draft::parse(&stored.body)?);
            if query.clauses.iter().all(|clause| clause.matches(&of, &stored.id, stored.updated)) {
                total += 1;
                if entries.len() <= most && !query.count_only {
                    entries.push(stored);
                }
            }
        }
        after = last;
        if after.is_none() || (entries.len() > most && !counting) {
            break;
        }
    }
    let more = entries.len() > most;
    entries.truncate(most);
    let end = |last: &Stored| Cursor::At { order: vec![last.key], id: last.id.clone() }.to_string();
    let next = entries.last().filter(|_| more).map(end);
    Ok(Page { entries, included: Vec::new(), total: counting.then_some(total), next })
}
