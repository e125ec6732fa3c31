//! Reading the trail: one event, or those that a search asks for.
//!
//! Columns leave few rows, and what an event says plainly few events; what it says of itself as a resource
//! then decides, by the same index entries as of any.

use diesel::sql_types::{BigInt, Nullable};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, SearchQuery, SortKey, index};

use super::agent::Agent;
use super::event::render;
use super::index::{about, settle};
use super::log;
use super::row::{self, Agents, Found, Row, SELECT};
use super::sieve::{Shapes, Sieve, shape};
use crate::connection::Link;
use crate::cursor::Cursor;
use crate::draft;
use crate::error::{Error, Fault};
use crate::record::{Page, Stored};
use crate::sql::{Sql, chunk};

/// Rows looked at by one statement, at first and at most.
const FEW: usize = 8;
const TOGETHER: usize = 256;
/// Rows that the index leads to, of which the keys are read together.
const AHEAD: usize = 1 << 16;
/// The trail is one; its events are never changed.
const VERSION: i64 = 1;

pub(super) fn stored(link: &Link, Found { event, agent, .. }: Found) -> Stored {
    let site = link.authority.as_ref().map_or("", |authority| authority.site.as_str());
    let mut agent: Agent = serde_json::from_str(&agent).unwrap_or_default();
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (agent.token, agent.opaque) = (said(&event.token), said(&event.opaque));
    let body = render(&event, &agent, site).to_string();
    Stored {
        key: event.key,
        kind: ResourceType::AUDIT_EVENT,
        id: event.key.to_string(),
        version: VERSION,
        updated: event.at,
        deleted: false,
        patient: event.patient.into_owned(),
        body,
    }
}

/// The event of that id.
pub(crate) fn one(link: &mut Link, id: &str) -> Result<Option<Stored>, Fault> {
    let key: Option<i64> = id.parse().ok().filter(|key: &i64| key.to_string() == id);
    let Some(key) = key else { return Ok(None) };
    let found = row::events(link, &[key])?.remove(&key);
    Ok(found.map(|found| stored(link, found)))
}

/// Rows in the order of their keys, as few at a time as may be enough.
struct Walk<'w> {
    sieves: &'w [Sieve<'w>],
    /// What the index is entered by, if it is.
    led: Option<&'w [i64]>,
    /// Rows that it leads to, the next one last.
    ahead: Vec<i64>,
    /// The first row that there is: the index still names those that left before it.
    first: i64,
    descending: bool,
    /// The next row that is not among these is from here on, or before it.
    from: i64,
    most: usize,
    over: bool,
}

impl<'w> Walk<'w> {
    /// Those that may hold events behind this one.
    fn new(
        link: &mut Link,
        sieves: &'w [Sieve<'w>],
        descending: bool,
        after: Option<i64>,
    ) -> Result<Self, Fault> {
        let sql = Sql::new(link.dialect, "SELECT MIN(key) FROM audit");
        let found = sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?.pop();
        let first = found.flatten().unwrap_or(i64::MIN);
        let from = match after {
            None if descending => i64::MAX,
            None => first,
            Some(after) if descending => after,
            Some(after) => {
                let mut sql = Sql::new(link.dialect, "SELECT MAX(key) FROM audit WHERE key <= ");
                sql.int(after);
                let found = sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?.pop();
                found.flatten().unwrap_or(after)
            }
        };
        let (led, ahead) = (Sieve::lead(sieves), Vec::new());
        Ok(Self { sieves, led, ahead, first, descending, from, most: FEW, over: false })
    }

    /// Writes ` AND …` for the rows that are next, and their order.
    fn next(&self, sql: &mut Sql<'_>, most: usize) {
        sql.push(if self.descending { " AND a.key < " } else { " AND a.key >= " }).int(self.from);
        self.in_order(sql, most);
    }

    fn in_order(&self, sql: &mut Sql<'_>, most: usize) {
        sql.push(if self.descending { " ORDER BY a.key DESC" } else { " ORDER BY a.key" }).limit(most);
    }

    fn passed(&mut self, last: Option<i64>) {
        if let Some(last) = last {
            self.from = if self.descending { last } else { last.saturating_add(1) };
        }
    }

    /// The next rows about what the index is entered by, and those that it does not know yet.
    fn lead(&mut self, link: &mut Link, hashes: &[i64]) -> Result<(), Fault> {
        let mut keys = about(link, hashes, self.from, self.descending, AHEAD)?;
        keys.retain(|key| *key >= self.first);
        let mut sql = Sql::new(link.dialect, "SELECT a.key FROM audit a WHERE 1 = 1");
        if let Some(last) = log::last(link)? {
            log::after(&mut sql, link.dialect, last);
        }
        self.next(&mut sql, AHEAD);
        keys.extend(sql.rows::<BigInt, i64>(&mut link.connection)?);
        settle(&mut keys, self.descending, AHEAD);
        self.over = keys.len() < AHEAD;
        self.passed(keys.last().copied());
        keys.reverse();
        self.ahead = keys;
        Ok(())
    }

    /// The next of them; none where there are no more.
    fn rows(&mut self, link: &mut Link) -> Result<Option<Vec<Row>>, Fault> {
        link.in_time()?;
        if let Some(hashes) = self.led.filter(|_| self.ahead.is_empty() && !self.over) {
            self.lead(link, hashes)?;
        }
        if self.ahead.is_empty() && (self.over || self.led.is_some()) {
            return Ok(None);
        }
        let mut sql = Sql::new(link.dialect, SELECT);
        if self.led.is_some() {
            let keys = self.ahead.split_off(self.ahead.len().saturating_sub(self.most));
            let many = chunk(keys.len());
            let (later, now) = keys.split_at(keys.len() - many);
            self.ahead.extend(later);
            sql.push(" WHERE a.key IN ").ints(now.iter().copied()).in_time("a.key");
            self.sieves.iter().for_each(|sieve| sieve.rows(&mut sql));
            self.in_order(&mut sql, many);
        } else {
            sql.push(" WHERE 1 = 1").in_time("a.key");
            self.sieves.iter().for_each(|sieve| sieve.rows(&mut sql));
            self.next(&mut sql, self.most);
        }
        let rows = row::rows(link, &sql)?;
        if self.led.is_none() {
            self.over = rows.len() < self.most;
            self.passed(rows.last().map(|row| row.key));
        }
        self.most = (self.most * 2).min(TOGETHER);
        Ok(Some(rows))
    }
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
    let after = match query.after.as_deref().map(Cursor::parse).transpose()? {
        None => None,
        Some(Cursor::At { order, .. }) => Some(order.first().copied().ok_or_else(Cursor::wrong)?),
        Some(Cursor::Of { .. }) => return Err(Cursor::wrong().into()),
    };
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).max(1);
    let counting = query.count_only || query.total && after.is_none();
    if query.count_only && query.clauses.is_empty() {
        let sql = Sql::new(link.dialect, "SELECT CAST(COALESCE(SUM(events), 0) AS BIGINT) FROM audit");
        let counted: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
        let total = counted.first().and_then(|count| u64::try_from(*count).ok());
        return Ok(Page { total, ..Page::default() });
    }
    let sieves = query.clauses.iter().map(|clause| Sieve::of(link, clause));
    let sieves = sieves.collect::<Result<Vec<_>, Fault>>()?;
    let mut walk = Walk::new(link, &sieves, descending, after)?;
    let behind = |key: i64| after.is_none_or(|after| if descending { key < after } else { key > after });
    let (mut entries, mut total, mut agents) = (Vec::new(), 0_u64, Agents::default());
    let mut shapes = Shapes::of(&query.clauses);
    'walk: while let Some(rows) = walk.rows(link)? {
        for row in rows {
            let mut events: Vec<_> = row
                .read()
                .filter(|event| behind(event.key) && sieves.iter().all(|sieve| sieve.lets(event)))
                .collect();
            if descending {
                events.reverse();
            }
            agents.learn(link, events.iter().map(|event| event.agent))?;
            for event in events {
                link.in_time()?;
                let shape = shape(&event);
                if !shapes.lets(&shape) {
                    continue;
                }
                let agent = agents.text(event.agent);
                let stored = stored(link, Found { epoch: row.epoch, event, agent });
                let of = index(stored.kind, &draft::parse(&stored.body)?);
                let matches = |clause: &Clause| clause.matches(&of, &stored.id, stored.updated);
                shapes.learn(shape, matches);
                if query.clauses.iter().all(matches) {
                    total += 1;
                    if entries.len() <= most && !query.count_only {
                        entries.push(stored);
                    }
                }
                if entries.len() > most && !counting {
                    break 'walk;
                }
            }
        }
    }
    let more = entries.len() > most;
    entries.truncate(most);
    let end = |last: &Stored| Cursor::At { order: vec![last.key], id: last.id.clone() }.to_string();
    let next = entries.last().filter(|_| more).map(end);
    Ok(Page { entries, included: Vec::new(), total: counting.then_some(total), next })
}
