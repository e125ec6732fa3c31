//! Who makes and knows the codes of rows, and what this process remembers of those it wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::BigInt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Auditing;
use super::head::{Head, Signer};
use super::log::{FAR, ORIGIN, last_of};
use super::merkle::Hash;
use super::row::Row;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::sql::{Dialect, Sql};

/// Agents that are known to be in the database, at most.
const KNOWN: usize = 50_000;
/// Events that are remembered until they are in the tree, at most.
const WAITING: usize = 500_000;
/// After so long a row that is remembered still should be in the tree.
const AGED: i64 = 10_000_000;
/// Rows that nobody with the key wrote and that are remembered, at most.
const FORGED: usize = 100_000;
/// So many of those are looked at together, and so many events that vanished are remembered.
const LOOKED_AT: usize = 4096;

/// What the tree and its index need of a row.
#[derive(Debug)]
pub(crate) struct Leaves {
    pub(super) low: i64,
    pub(super) hashes: Vec<Hash>,
    /// What its events are about, each once, in order.
    pub(super) about: Vec<i64>,
}

/// Rows of this process that are not in the tree yet, by key: they need not be read again.
#[derive(Default)]
struct Waiting {
    rows: BTreeMap<i64, Arc<Leaves>>,
    events: usize,
}

/// The greatest number that an event has, below that one. What a row says of itself is believed within bounds.
const LAST: &str = "SELECT COALESCE((SELECT key + MAX(1, MIN(events, 1000)) - 1 FROM audit WHERE key < ";
/// The greatest that is known to have been given, whatever rows there are.
const GIVEN: &str = "SELECT MAX(COALESCE((SELECT high FROM audit_block ORDER BY first DESC LIMIT 1), 0), \
                     COALESCE((SELECT MAX(key) FROM audit_retired), 0))";

/// Makes and knows the codes of rows. The key is nowhere in the database.
pub(crate) struct Authority {
    key: Hmac<Sha256>,
    /// That of agents.
    agents: Hmac<Sha256>,
    pub(super) signer: Signer,
    pub(crate) auditing: Auditing,
    /// What this server calls itself.
    pub(crate) site: String,
    pub(super) numbers: Numbers,
    /// The greatest number that this process has given; 0 for none.
    given: AtomicI64,
    known: Mutex<HashSet<i64>>,
    waiting: Mutex<Waiting>,
    /// The last of them that was looked at.
    looked_at: Mutex<i64>,
    /// Events that were taken out before they were in the tree.
    vanished: Mutex<BTreeSet<i64>>,
    /// Rows that were met and that nobody with the key wrote.
    forged: Mutex<BTreeSet<i64>>,
    /// The newest head that this process has seen.
    remembered: Mutex<Option<Head>>,
    /// Of which head it was not decided yet that the log may go on without it, up to which row.
    undecided: Mutex<Option<(Head, i64)>>,
}

/// A code as a number of the database.
fn short(code: Hmac<Sha256>) -> i64 {
    code.finalize().into_bytes().first_chunk::<8>().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

impl Authority {
    pub(crate) fn new(secret: &[u8], auditing: Auditing, site: &str) -> Result<Self, Error> {
        let secret = Hmac::<Sha256>::new_from_slice(secret).map_err(Error::internal)?;
        let derived = |what: &[u8]| secret.clone().chain_update(what).finalize().into_bytes();
        let key = Hmac::new_from_slice(&derived(b"audit row")).map_err(Error::internal)?;
        let agents = Hmac::new_from_slice(&derived(b"audit agent")).map_err(Error::internal)?;
        let seed = Zeroizing::new(derived(b"audit head").into());
        let signer = Signer::new(ORIGIN, &seed).map_err(Error::internal)?;
        let numbers = Numbers::new("audit_key");
        Ok(Self {
            key,
            agents,
            signer,
            auditing,
            site: site.to_owned(),
            numbers,
            given: AtomicI64::new(0),
            known: Mutex::default(),
            waiting: Mutex::default(),
            looked_at: Mutex::default(),
            vanished: Mutex::default(),
            forged: Mutex::default(),
            remembered: Mutex::default(),
            undecided: Mutex::default(),
        })
    }

    /// The public key of the log's heads, as C2SP's signed notes write it.
    pub(crate) fn public_key(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// SQLite: all writers hold the one write lock, so the greatest number so far is known. One that this process
    /// gave is not given again, though its row was taken out: it is then missing.
    pub(crate) fn follow(&self, link: &mut Link) -> Result<(), Fault> {
        if self.auditing == Auditing::Off {
            return Ok(());
        }
        let one = |link: &mut Link, sql: &Sql<'_>| -> Result<i64, Fault> {
            Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
        };
        let mut given = self.given.load(Ordering::Relaxed);
        if given == 0 {
            given = one(link, &Sql::new(Dialect::Sqlite, GIVEN))?.min(i64::MAX / 2);
        }
        let mut sql = Sql::new(Dialect::Sqlite, LAST);
        sql.int(given.saturating_add(FAR)).push(" ORDER BY key DESC LIMIT 1), 0)");
        let last = one(link, &sql)?;
        self.numbers.go_on(last.max(given));
        Ok(())
    }

    /// The code of a row: of all that it says, and of the hashes of its events, which say who the agents are.
    pub(super) fn code(&self, row: &Row, hashes: &[Hash]) -> i64 {
        let mut code = self.key.clone();
        for number in [row.key, row.events, row.low, row.high, row.acts, row.outcomes] {
            code.update(&number.to_be_bytes());
        }
        code.update(hashes.as_flattened());
        code.update(row.body.as_bytes());
        short(code)
    }

    /// What stands for an agent. Callers choose some of the text, so nobody else may know which number it gives.
    pub(super) fn agent(&self, text: &str) -> i64 {
        short(self.agents.clone().chain_update(text))
    }

    /// The code of numbers that say what this is about.
    pub(super) fn number(&self, of: &[u8], numbers: &[i64]) -> i64 {
        let mut code = self.key.clone();
        for number in numbers {
            code.update(&number.to_be_bytes());
        }
        code.update(of);
        short(code)
    }

    /// Of these agents those that are not known to be in the database.
    pub(super) fn unknown<T>(&self, agents: &mut Vec<T>, key: impl Fn(&T) -> i64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        agents.retain(|agent| !known.contains(&key(agent)));
    }

    /// Remembers what the transaction that ended has written.
    pub(crate) fn wrote(&self, met: &mut Vec<i64>, leaves: &mut Vec<(i64, Leaves)>) {
        if !leaves.is_empty() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, leaves) in leaves.drain(..) {
                self.given.fetch_max(last_of(key, leaves.hashes.len()), Ordering::Relaxed);
                if waiting.events < WAITING {
                    waiting.events += leaves.hashes.len();
                    waiting.rows.insert(key, Arc::new(leaves));
                }
            }
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
    pub(super) fn leaves(&self, keys: impl Iterator<Item = i64>) -> HashMap<i64, Arc<Leaves>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        keys.filter_map(|key| Some((key, Arc::clone(waiting.rows.get(&key)?)))).collect()
    }

    /// They wait no longer; what was known of them.
    pub(super) fn sealed(&self, keys: impl Iterator<Item = i64>) -> Vec<(i64, Arc<Leaves>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = keys.filter_map(|key| Some((key, waiting.rows.remove(&key)?))).collect();
        waiting.events -= gone.iter().map(|(_, leaves)| leaves.hashes.len()).sum::<usize>();
        gone
    }

    /// Some of the rows that wait longer than they should: each turn those after the last.
    pub(super) fn aged(&self, at: i64) -> Vec<i64> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let aged = |(_, leaves): &(&i64, &Arc<Leaves>)| leaves.low < at.saturating_sub(AGED);
        let after = (Bound::Excluded(*looked_at), Bound::Unbounded);
        let rows = waiting.rows.range(after);
        let keys: Vec<i64> = rows.filter(aged).map(|(key, _)| *key).take(LOOKED_AT).collect();
        // Behind the last one it begins again.
        *looked_at = keys.last().copied().filter(|_| keys.len() == LOOKED_AT).unwrap_or(i64::MIN);
        keys
    }

    /// These rows were taken out, and wait no longer; the events that were in them.
    pub(super) fn lost(&self, rows: &[i64]) -> Vec<i64> {
        let gone = self.sealed(rows.iter().copied());
        let keys = gone.iter().flat_map(|(key, leaves)| (*key..=i64::MAX).take(leaves.hashes.len()));
        let keys: Vec<i64> = keys.collect();
        let mut vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LOOKED_AT.saturating_sub(vanished.len());
        vanished.extend(keys.iter().take(room));
        keys
    }

    /// Of these spans of numbers that are missing from the log those that were not told yet; they wait no longer.
    pub(super) fn misses(&self, mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
        let vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |from: i64, to: i64| vanished.range(from..=to).count() as u64 > to.abs_diff(from);
        spans.retain(|(from, to)| !told(*from, *to));
        drop(vanished);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = spans.iter().flat_map(|(from, to)| waiting.rows.range(*from..=*to));
        let rows: Vec<i64> = rows.map(|(key, _)| *key).collect();
        drop(waiting);
        self.sealed(rows.into_iter());
        spans
    }

    /// All that were taken out.
    pub(crate) fn vanished(&self) -> Vec<i64> {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Of these rows that nobody with the key wrote, those that were not met before.
    pub(super) fn meets(&self, mut rows: Vec<i64>) -> Vec<i64> {
        let mut forged = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|row| forged.len() < FORGED && forged.insert(*row));
        rows
    }

    /// Up to which row nobody decided that the log may go on without this head, if that was looked at.
    pub(super) fn undecided(&self, head: &Head) -> Option<i64> {
        let undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        undecided.as_ref().filter(|(known, _)| known == head).map(|(_, row)| *row)
    }

    /// Nobody decided that up to this row.
    pub(super) fn decides_not(&self, head: &Head, row: i64) {
        *self.undecided.lock().unwrap_or_else(PoisonError::into_inner) = Some((head.clone(), row));
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
