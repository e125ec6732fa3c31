//! Rows of the trail: each holds all events that one transaction recorded and whose keys follow each other,
//! one a line. Inserting a row costs more than making ten events. What is in a row is said by its columns as
//! well, so that a search need not read the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use diesel::sql_types::{BigInt, Binary, Bool};

use super::act::Act;
use super::agent::Who;
use super::authority::{Authority, Leaves};
use super::log::signed;
use super::merkle::{Hash, leaf};
use super::record::{Event, Record, Records};
use super::{Auditing, Outcome};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql, chunks, lossy};

/// Events of one row, at most: who looks for one reads the row.
const MOST: usize = 128;
/// Agents whose texts are remembered while rows are read, at most.
const AGENTS: usize = 20_000;

/// A row as it lies in the database.
#[derive(Debug)]
pub(super) struct Row {
    /// Of its first event; those of the others follow.
    pub(super) key: i64,
    pub(super) epoch: i64,
    pub(super) events: i64,
    /// When the first and the last were recorded.
    pub(super) low: i64,
    pub(super) high: i64,
    /// A bit for each act and outcome that is in it.
    pub(super) acts: i64,
    pub(super) outcomes: i64,
    pub(super) mac: i64,
    pub(super) body: String,
}

/// Rows `a`.
pub(super) const SELECT: &str =
    "SELECT a.key, a.epoch, a.events, a.low, a.high, a.acts, a.outcomes, a.mac, a.body FROM audit a";

type Types = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, Binary);
type Tuple = (i64, i64, i64, i64, i64, i64, i64, i64, Vec<u8>);

/// The rows that the statement asks for.
pub(super) fn rows(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<Row>, Fault> {
    let row = |(key, epoch, events, low, high, acts, outcomes, mac, body): Tuple| Row {
        key,
        epoch,
        events,
        low,
        high,
        acts,
        outcomes,
        mac,
        body: lossy(body),
    };
    Ok(sql.rows::<Types, Tuple>(&mut link.connection)?.into_iter().map(row).collect())
}

/// The bit of a number.
pub(super) fn bit(number: i64) -> i64 {
    u32::try_from(number).ok().and_then(|number| 1_i64.checked_shl(number)).unwrap_or_default()
}

/// Those of acts.
pub(super) fn acts(of: impl Iterator<Item = Act>) -> i64 {
    of.fold(0, |all, act| all | bit(act.number()))
}

/// Those of outcomes.
pub(super) fn outcomes(of: impl Iterator<Item = Outcome>) -> i64 {
    of.fold(0, |all, outcome| all | bit(outcome.number()))
}

impl Row {
    /// Of records whose keys begin with that one, and the numbers of their agents; and what the tree needs of it.
    fn of<'a>(
        authority: &Authority,
        key: i64,
        records: impl Iterator<Item = Record<'a>> + Clone,
        agents: &'a [(i64, Arc<Who>)],
    ) -> serde_json::Result<(Self, Leaves)> {
        let times = || records.clone().map(|record| record.at);
        let (low, high) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let (mut body, mut canonical) = (Vec::with_capacity(MOST * 256), Vec::with_capacity(1024));
        let mut leaves =
            Leaves { low, hashes: Vec::with_capacity(MOST), about: Vec::with_capacity(MOST * 4) };
        for (key, record) in (key..).zip(records.clone()) {
            let missing = || <serde_json::Error as serde::ser::Error>::custom("an event of nobody");
            let (agent, who) = agents.get(record.agent).ok_or_else(missing)?;
            let event = Event::of(key, *agent, who, &record);
            if !body.is_empty() {
                body.push(b'\n');
            }
            event.write(low, &mut body)?;
            event.canonical(&who.text, &mut canonical);
            leaves.hashes.push(leaf(&canonical));
            leaves.about.extend(event.about());
        }
        settle(&mut leaves.about);
        let mut row = Self {
            key,
            epoch: 0,
            events: i64::try_from(leaves.hashes.len()).unwrap_or(i64::MAX),
            low,
            high,
            acts: acts(records.clone().map(|record| record.act)),
            outcomes: outcomes(records.map(|record| record.outcome)),
            mac: 0,
            body: String::from_utf8(body).map_err(<serde_json::Error as serde::ser::Error>::custom)?,
        };
        row.mac = authority.code(&row, &leaves.hashes);
        Ok((row, leaves))
    }

    /// Its lines, each with the key of its event.
    pub(super) fn lines(&self) -> impl Iterator<Item = (i64, &str)> {
        (self.key..=i64::MAX).zip(self.body.split('\n'))
    }

    /// All of its events that can be read.
    pub(super) fn read(&self) -> impl Iterator<Item = Event<'static>> {
        self.lines().filter_map(|(key, line)| Event::read(key, self.low, line))
    }

    /// The one with that key.
    fn event(&self, key: i64) -> Option<Event<'static>> {
        let place = usize::try_from(key.checked_sub(self.key)?).ok()?;
        Event::read(key, self.low, self.body.split('\n').nth(place)?)
    }
}

/// Each hash once, in order; 0 is none.
fn settle(about: &mut Vec<i64>) {
    about.retain(|hash| *hash != 0);
    about.sort_unstable();
    about.dedup();
}

/// The texts of agents, as far as they were asked for.
#[derive(Default)]
pub(super) struct Agents(HashMap<i64, Arc<str>>);

impl Agents {
    /// Reads those that are not known yet.
    pub(super) fn learn(&mut self, link: &mut Link, of: impl Iterator<Item = i64>) -> Result<(), Fault> {
        if self.0.len() > AGENTS {
            self.0.clear();
        }
        let mut new: Vec<i64> = of.filter(|key| !self.0.contains_key(key)).collect();
        new.sort_unstable();
        new.dedup();
        for keys in chunks(&new) {
            let mut sql = Sql::new(link.dialect, "SELECT key, text FROM audit_agent WHERE key IN ");
            sql.ints(keys.iter().copied());
            let found = sql.rows::<(BigInt, Binary), (i64, Vec<u8>)>(&mut link.connection)?;
            self.0.extend(found.into_iter().map(|(key, text)| (key, Arc::from(lossy(text)))));
        }
        Ok(())
    }

    /// Empty for one who is not there.
    pub(super) fn text(&self, key: i64) -> Arc<str> {
        self.0.get(&key).map_or_else(|| Arc::from(""), Arc::clone)
    }
}

/// An event, and the text of the one who did it.
pub(super) struct Found {
    /// That of its row.
    pub(super) epoch: i64,
    pub(super) event: Event<'static>,
    pub(super) agent: Arc<str>,
}

impl Found {
    /// Its leaf in the log is the hash of this.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut canonical = Vec::with_capacity(1024);
        self.event.canonical(&self.agent, &mut canonical);
        canonical
    }
}

/// Writes `a.key IN …` of the rows that hold these keys: of each the one with the greatest key that is not
/// greater, and not so much less that a row does not reach there: so that few parts of the table are asked.
pub(super) fn holding(sql: &mut Sql<'_>, keys: &[i64]) {
    sql.push("a.key IN (");
    for (n, key) in keys.iter().enumerate() {
        sql.push(if n > 0 { ", " } else { "" }).push("(SELECT MAX(b.key) FROM audit b WHERE b.key <= ");
        sql.int(*key).push(" AND b.key > ").int(key.saturating_sub(signed(MOST as u64))).push(")");
    }
    sql.push(if keys.is_empty() { "NULL)" } else { ")" });
}

/// The events with these keys, as far as there are any.
pub(super) fn events(link: &mut Link, keys: &[i64]) -> Result<HashMap<i64, Found>, Fault> {
    let (mut agents, mut found) = (Agents::default(), HashMap::with_capacity(keys.len()));
    for keys in chunks(keys) {
        let mut sql = Sql::new(link.dialect, SELECT);
        holding(sql.push(" WHERE "), keys);
        let rows: BTreeMap<i64, Row> = rows(link, &sql)?.into_iter().map(|row| (row.key, row)).collect();
        let event = |key: &i64| {
            let (_, row) = rows.range(..=key).next_back()?;
            Some((row.epoch, row.event(*key)?))
        };
        let events: Vec<(i64, Event<'static>)> = keys.iter().filter_map(event).collect();
        agents.learn(link, events.iter().map(|(_, event)| event.agent))?;
        for (epoch, event) in events {
            let agent = agents.text(event.agent);
            found.insert(event.key, Found { epoch, event, agent });
        }
    }
    Ok(found)
}

/// A row that was looked at closely.
pub(super) struct Opened {
    pub(super) row: Row,
    /// Of each of its lines the event and its leaf; none where it is no event.
    pub(super) lines: Vec<Option<(Event<'static>, Hash)>>,
    /// This server wrote it as it is.
    pub(super) genuine: bool,
}

impl Opened {
    /// The keys of its events.
    pub(super) fn keys(&self) -> impl Iterator<Item = i64> + use<> {
        (self.row.key..=i64::MAX).take(self.lines.len())
    }

    /// The key of the last of them.
    pub(super) fn last(&self) -> i64 {
        self.keys().last().unwrap_or(self.row.key)
    }

    /// What the tree and the index need of it.
    pub(super) fn leaves(&self) -> Leaves {
        let events = || self.lines.iter().flatten();
        let mut about = events().flat_map(|(event, _)| event.about()).collect();
        settle(&mut about);
        Leaves { low: self.row.low, hashes: events().map(|(_, hash)| *hash).collect(), about }
    }
}

/// Looks at rows closely.
pub(super) fn open(
    link: &mut Link,
    authority: &Authority,
    agents: &mut Agents,
    rows: Vec<Row>,
) -> Result<Vec<Opened>, Fault> {
    let mut opened = Vec::with_capacity(rows.len());
    let mut canonical = Vec::with_capacity(1024);
    for row in rows {
        let events = row.lines().map(|(key, line)| Event::read(key, row.low, line));
        let events: Vec<Option<Event<'static>>> = events.collect();
        agents.learn(link, events.iter().flatten().map(|event| event.agent))?;
        let mut look = |event: Event<'static>| {
            event.canonical(&agents.text(event.agent), &mut canonical);
            let hash = leaf(&canonical);
            (event, hash)
        };
        let lines: Vec<_> = events.into_iter().map(|event| event.map(&mut look)).collect();
        let hashes: Option<Vec<Hash>> = lines.iter().map(|line| Some(line.as_ref()?.1)).collect();
        let counted = usize::try_from(row.events).is_ok_and(|events| events == lines.len());
        let genuine = counted && hashes.is_some_and(|hashes| authority.code(&row, &hashes) == row.mac);
        opened.push(Opened { row, lines, genuine });
    }
    Ok(opened)
}

/// Writes what the open transaction has gathered.
pub(crate) fn flush(link: &mut Link) -> Result<(), Fault> {
    let mut records = std::mem::take(&mut link.audited);
    let authority = link.authority.clone().filter(|one| one.auditing != Auditing::Off && !records.is_empty());
    if let Some(authority) = authority {
        write(link, &authority, &records)?;
    }
    records.clear();
    link.audited = records;
    Ok(())
}

fn write(link: &mut Link, authority: &Authority, records: &Records) -> Result<(), Fault> {
    let agent = |who: &Arc<Who>| (authority.agent(&who.text), Arc::clone(who));
    let agents: Vec<(i64, Arc<Who>)> = records.agents().iter().map(agent).collect();
    meet(link, authority, agents.clone())?;
    let keys = authority.numbers.take(link, records.len())?;
    let (mut made, mut done) = (Vec::new(), 0);
    for keys in keys.chunk_by(|one, next| *next == one + 1).flat_map(|run| run.chunks(MOST)) {
        let Some(first) = keys.first() else { continue };
        let part = records.part(done, keys.len());
        let (row, leaves) = Row::of(authority, *first, part, &agents).map_err(Error::internal)?;
        link.leaves.push((row.key, leaves));
        made.push(row);
        done += keys.len();
    }
    if done != records.len() {
        return Err(Fault::Database("the audit trail: not as many numbers as events".into()));
    }
    for made in chunks(&made) {
        insert(link, made)?;
    }
    Ok(())
}

/// Writes the agents that were not met yet.
fn meet(link: &mut Link, authority: &Authority, mut met: Vec<(i64, Arc<Who>)>) -> Result<(), Fault> {
    met.sort_unstable_by_key(|(key, _)| *key);
    met.dedup_by_key(|(key, _)| *key);
    authority.unknown(&mut met, |(key, _)| *key);
    for met in chunks(&met) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO audit_agent (key, text) VALUES ");
        for (n, (key, who)) in met.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*key).push(",").text(who.text.as_str()).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.run(&mut link.connection)?;
    }
    link.met.extend(met.iter().map(|(key, _)| *key));
    Ok(())
}

/// Does something act where the trail is written, the table or the part of it, or might it still?
const ACTING: &str = "(SELECT relkind <> 'p' OR relhastriggers OR relhasrules OR relrowsecurity FROM pg_class \
                      WHERE oid = CAST('audit' AS regclass)) OR (SELECT relkind <> 'r' OR relhastriggers OR relhasrules \
                      OR relrowsecurity FROM pg_class WHERE oid = audit.tableoid)";

/// PostgreSQL numbers the transactions itself.
fn insert(link: &mut Link, rows: &[Row]) -> Result<(), Fault> {
    let (more, zero) = if link.dialect == Dialect::Sqlite { (", epoch", ",0") } else { ("", "") };
    let mut sql = Sql::new(link.dialect, "INSERT INTO audit (key, events, low, high, acts, outcomes, mac, ");
    sql.push("body").push(more).push(") VALUES ");
    for (n, row) in rows.iter().enumerate() {
        sql.push(if n > 0 { ",(" } else { "(" }).int(row.key);
        for number in [row.events, row.low, row.high, row.acts, row.outcomes, row.mac] {
            sql.push(",").int(number);
        }
        sql.push(",").text(row.body.as_str()).push(zero).push(")");
    }
    let kept = match link.dialect {
        Dialect::Sqlite => {
            sql.run(&mut link.connection)?;
            are_there(link, rows)?
        }
        // To ask once more is a round trip for each commit: only where what was said may not be so.
        Dialect::Postgres => {
            sql.push(" RETURNING key, ").push(ACTING);
            let said = sql.rows::<(BigInt, Bool), (i64, bool)>(&mut link.connection).map_err(Fault::from);
            if let (Err(Fault::Transient(_)), Some(authority)) = (&said, &link.authority) {
                // The numbers may be of a part that is gone: the next try has others.
                authority.numbers.forget();
            }
            let said = said?;
            if said.iter().any(|(_, acting)| *acting) {
                link.execute("SET CONSTRAINTS ALL IMMEDIATE")?;
                are_there(link, rows)?
            } else {
                said.len() == rows.len() && rows.iter().all(|row| said.iter().any(|(key, _)| *key == row.key))
            }
        }
    };
    if kept { Ok(()) } else { Err(Fault::Database("the audit trail: an event was not kept".into())) }
}

/// Whoever changed what the table is could have it take rows and keep none.
fn are_there(link: &mut Link, rows: &[Row]) -> Result<bool, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM audit WHERE key IN ");
    sql.ints(rows.iter().map(|row| row.key));
    let found = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    Ok(found.is_some_and(|found| usize::try_from(found) == Ok(rows.len())))
}
