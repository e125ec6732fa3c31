//! Rows of the trail: made, authenticated, written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::agent::Who;
use super::head::{Head, Signer};
use super::log::ORIGIN;
use super::merkle::{Hash, leaf};
use super::{Auditing, Entry};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::sql::{Dialect, Sql, chunks};

/// Agents that are known to be in the database, at most.
const KNOWN: usize = 50_000;
/// Rows that are remembered until they are in the tree, at most.
const WAITING: usize = 500_000;
/// After so long a row that is remembered still should be in the tree.
const AGED: i64 = 10_000_000;
/// So many of those are looked at together, and so many that vanished are remembered.
const LOOKED_AT: usize = 4096;

/// One row that is still to be written.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) at: i64,
    pub(crate) request: Arc<str>,
    pub(crate) who: Arc<Who>,
    pub(crate) entry: Entry,
}

/// The columns that say what happened, as they are authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) key: i64,
    pub(crate) epoch: i64,
    pub(crate) at: i64,
    pub(crate) act: i64,
    pub(crate) outcome: i64,
    pub(crate) agent: i64,
    pub(crate) request: String,
    pub(crate) kind: i64,
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) entity: i64,
    pub(crate) patient: String,
    pub(crate) chart: i64,
    pub(crate) query: String,
    pub(crate) note: String,
}

impl Columns {
    fn of(key: i64, row: &Row) -> Self {
        let Entry { act, outcome, entity, patient, query, note } = &row.entry;
        let (kind, id, version) = match entity {
            Some((kind, id, version)) => (i64::from(kind.index()), id.as_str(), *version),
            None => (-1, "", 0),
        };
        let of = |kind: ResourceType, id: &str| if id.is_empty() { 0 } else { hash(kind, id) };
        Self {
            key,
            epoch: 0,
            at: row.at,
            act: act.number(),
            outcome: outcome.number(),
            agent: row.who.key,
            request: row.request.to_string(),
            kind,
            id: id.to_owned(),
            version,
            entity: entity.as_ref().map_or(0, |(kind, id, _)| of(*kind, id)),
            patient: patient.clone(),
            chart: of(ResourceType::PATIENT, patient),
            query: query.clone(),
            note: note.clone(),
        }
    }

    /// What is hashed and authenticated: a JSON array of the columns in their order, the agent's text
    /// in its place.
    pub(crate) fn canonical(&self, agent: &str) -> Vec<u8> {
        let of = (
            (self.key, self.at, self.act, self.outcome, agent, &self.request),
            (self.kind, &self.id, self.version, self.entity, &self.patient, self.chart),
            (&self.query, &self.note),
        );
        serde_json::to_vec(&of).unwrap_or_default()
    }
}

/// Makes and knows the codes of rows. The key is nowhere in the database.
pub(crate) struct Authority {
    key: Hmac<Sha256>,
    pub(super) signer: Signer,
    pub(crate) auditing: Auditing,
    /// What this server calls itself.
    pub(crate) site: String,
    numbers: Numbers,
    known: Mutex<HashSet<i64>>,
    /// Rows of this process that are not in the tree yet, by key: they need not be read again.
    leaves: Mutex<BTreeMap<i64, Leaf>>,
    /// The last of them that was looked at.
    looked_at: Mutex<i64>,
    /// Rows that were taken out before they were in the tree.
    vanished: Mutex<BTreeSet<i64>>,
    /// The newest head that this process has seen.
    remembered: Mutex<Option<Head>>,
}

/// What the tree and its index need of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    pub(crate) hash: Hash,
    at: i64,
    /// Chart, entity and agent.
    pub(crate) about: [i64; 3],
}

impl Leaf {
    pub(crate) fn of(columns: &Columns, canonical: &[u8]) -> Self {
        Self { hash: leaf(canonical), at: columns.at, about: [columns.chart, columns.entity, columns.agent] }
    }
}

impl Authority {
    pub(crate) fn new(secret: &[u8], auditing: Auditing, site: &str) -> Result<Self, Error> {
        let secret = Hmac::<Sha256>::new_from_slice(secret).map_err(Error::internal)?;
        let derived = |what: &[u8]| secret.clone().chain_update(what).finalize().into_bytes();
        let key = Hmac::new_from_slice(&derived(b"audit row")).map_err(Error::internal)?;
        let seed = Zeroizing::new(derived(b"audit head").into());
        let signer = Signer::new(ORIGIN, &seed).map_err(Error::internal)?;
        let numbers = Numbers::new("audit_key", "SELECT COALESCE((SELECT MAX(key) FROM audit), 0)");
        Ok(Self {
            key,
            signer,
            auditing,
            site: site.to_owned(),
            numbers,
            known: Mutex::default(),
            leaves: Mutex::default(),
            looked_at: Mutex::default(),
            vanished: Mutex::default(),
            remembered: Mutex::default(),
        })
    }

    /// The public key of the log's heads, as C2SP's signed notes write it.
    pub(crate) fn public_key(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// SQLite: all writers hold the one write lock, so the greatest number so far is known.
    pub(crate) fn follow(&self, link: &mut Link) -> Result<(), Fault> {
        if self.auditing == Auditing::Off { Ok(()) } else { self.numbers.follow(link) }
    }

    /// The code of a row.
    pub(crate) fn code(&self, columns: &Columns, agent: &str) -> i64 {
        self.code_of(&columns.canonical(agent))
    }

    fn code_of(&self, canonical: &[u8]) -> i64 {
        let code = self.key.clone().chain_update(canonical).finalize().into_bytes();
        code.first_chunk::<8>().map_or(0, |bytes| i64::from_be_bytes(*bytes))
    }

    /// Remembers what the transaction that ended has written.
    pub(crate) fn wrote(&self, met: &mut Vec<i64>, leaves: &mut Vec<(i64, Leaf)>) {
        if !leaves.is_empty() {
            let mut waiting = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < WAITING {
                waiting.extend(leaves.drain(..));
            }
            leaves.clear();
        }
        if met.is_empty() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > KNOWN {
            known.clear();
        }
        known.extend(met.drain(..));
    }

    /// What is known of rows that wait, by their keys.
    pub(crate) fn leaves(&self, keys: impl Iterator<Item = i64>) -> HashMap<i64, Leaf> {
        let waiting = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        keys.filter_map(|key| Some((key, *waiting.get(&key)?))).collect()
    }

    /// They wait no longer.
    pub(crate) fn sealed(&self, keys: impl Iterator<Item = i64>) {
        let mut waiting = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            waiting.remove(&key);
        }
    }

    /// Some of the rows that wait longer than they should: each turn those after the last.
    pub(crate) fn aged(&self, at: i64) -> Vec<i64> {
        let waiting = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let aged = |(_, leaf): &(&i64, &Leaf)| leaf.at < at.saturating_sub(AGED);
        let after = (Bound::Excluded(*looked_at), Bound::Unbounded);
        let keys: Vec<i64> = waiting.range(after).filter(aged).map(|(key, _)| *key).take(LOOKED_AT).collect();
        // Behind the last one it begins again.
        *looked_at = keys.last().copied().filter(|_| keys.len() == LOOKED_AT).unwrap_or(i64::MIN);
        keys
    }

    /// They were taken out, and wait no longer.
    pub(crate) fn lost(&self, keys: &[i64]) {
        self.sealed(keys.iter().copied());
        let mut vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LOOKED_AT.saturating_sub(vanished.len());
        vanished.extend(keys.iter().take(room));
    }

    /// All that were taken out.
    pub(crate) fn vanished(&self) -> Vec<i64> {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The newest head that is known.
    pub(crate) fn remembered(&self) -> Option<Head> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this one is remembered.
    pub(crate) fn replace(&self, head: Head) {
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }
}

/// Writes the rows that the open transaction has gathered.
pub(crate) fn flush(link: &mut Link) -> Result<(), Fault> {
    let rows = std::mem::take(&mut link.audited);
    let Some(authority) = link.authority.clone().filter(|one| one.auditing != Auditing::Off) else {
        return Ok(());
    };
    if rows.is_empty() {
        return Ok(());
    }
    let mut met: Vec<&Arc<Who>> = rows.iter().map(|row| &row.who).collect();
    met.sort_unstable_by_key(|who| who.key);
    met.dedup_by_key(|who| who.key);
    {
        let known = authority.known.lock().unwrap_or_else(PoisonError::into_inner);
        met.retain(|who| !known.contains(&who.key));
    }
    for met in chunks(&met) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO audit_agent (key, text) VALUES ");
        for (n, who) in met.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(who.key).push(",").text(who.text.as_str()).push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        sql.run(&mut link.connection)?;
    }
    link.met.extend(met.iter().map(|who| who.key));
    let keys = authority.numbers.take(link, rows.len())?;
    let made: Vec<(Columns, i64)> = keys
        .into_iter()
        .zip(&rows)
        .map(|(key, row)| {
            let columns = Columns::of(key, row);
            let canonical = columns.canonical(&row.who.text);
            link.leaves.push((key, Leaf::of(&columns, &canonical)));
            let code = authority.code_of(&canonical);
            (columns, code)
        })
        .collect();
    let sqlite = link.dialect == Dialect::Sqlite;
    let (more, zero) = if sqlite { (", epoch", ",0") } else { ("", "") };
    for made in chunks(&made) {
        let mut sql =
            Sql::new(link.dialect, "INSERT INTO audit (key, at, act, outcome, agent, request, kind, ");
        sql.push("id, version, entity, patient, chart, query, note, mac").push(more).push(") VALUES ");
        for (n, (of, code)) in made.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(of.key).push(",").int(of.at).push(",").int(of.act);
            sql.push(",").int(of.outcome).push(",").int(of.agent).push(",").text(of.request.as_str());
            sql.push(",").int(of.kind).push(",").text(of.id.as_str()).push(",").int(of.version);
            sql.push(",").int(of.entity).push(",").text(of.patient.as_str()).push(",").int(of.chart);
            sql.push(",").text(of.query.as_str()).push(",").text(of.note.as_str()).push(",").int(*code);
            sql.push(zero).push(")");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}
