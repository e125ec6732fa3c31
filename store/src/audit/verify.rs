//! Is the trail what was recorded? And the proof for somebody else that an event is in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diesel::sql_types::{BigInt, Binary};

use super::authority::Authority;
use super::head::{Head, Verifier};
use super::index;
use super::lag::{Lag, lag};
use super::log::{self, BLOCK, signed};
use super::merkle::{
    Frontier, Hash, Span, consistency, inclusion, leaf, verify_consistency, verify_inclusion,
};
use super::reading::Reading;
use super::retire::Retired;
use super::scheme::{self, TABLES};
use super::{retire, row};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql, lossy};

/// Blocks read at a time.
const TOGETHER: usize = 16;
/// Heads and agents read at a time.
const READ: usize = 1024;
/// Findings that are named, at most.
const NAMED: usize = 1000;
/// After so long an event should be in the log, and its head at every witness.
const LATE: i64 = 60_000_000;

/// What is wrong with the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The event is not what was recorded.
    Changed(i64),
    /// The event is no longer there.
    Removed(i64),
    /// The event was not written by this server, or is there twice.
    Inserted(i64),
    /// The events from this place in the log on are not those that were signed.
    Tree(u64),
    /// What the log says of where these events, from and to, stand is not so.
    Place(i64, i64),
    /// The head of this size is not one that this server signed, or something else is said of it than it says.
    Head(u64),
    /// Who that is was not recorded by this server.
    Agent(i64),
    /// The log was longer once: a head of this size is known elsewhere.
    Shortened(u64),
    /// Events are not found by what they are about, or by what they are not.
    Index,
    /// The events of these numbers, from and to, were taken out before they were in the log.
    Vanished(i64, i64),
    /// What is said of events that left by policy was not said by this server.
    Retired,
    /// A table of the trail is gone.
    Gone(&'static str),
    /// What has the name of a table of the trail keeps no rows.
    Replaced(&'static str),
    /// A trigger, rule or policy, its name, and the table at which it acts.
    Acting(String, String, String),
    /// A witness has none of the heads that it was shown.
    Witness(String),
    /// For so many seconds an event waits to be taken into the log, and a transaction of the database is open.
    Late(i64, Option<i64>),
}

impl Finding {
    /// Is it so bad that nothing else can be looked at?
    pub fn ends(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Replaced(_))
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(key) => write!(f, "AuditEvent/{key} was changed"),
            Self::Removed(key) => write!(f, "AuditEvent/{key} was removed"),
            Self::Inserted(key) => write!(f, "AuditEvent/{key} was not recorded by this server"),
            Self::Tree(place) => write!(f, "the log from entry {place} on is not the one that was signed"),
            Self::Place(from, to) => {
                write!(
                    f,
                    "where AuditEvent/{from} to AuditEvent/{to} stand in the log is not where they are looked for"
                )
            }
            Self::Head(size) => write!(f, "the signed head of {size} entries is not genuine"),
            Self::Agent(key) => {
                write!(f, "who stands behind the number {key} was not recorded by this server")
            }
            Self::Shortened(size) => write!(f, "the log had {size} entries once"),
            Self::Index => write!(f, "the index by patient, entity and agent is not that of the events"),
            Self::Vanished(key, to) if key == to => {
                write!(f, "AuditEvent/{key} was removed before it was in the log")
            }
            Self::Vanished(from, to) => {
                write!(f, "AuditEvent/{from} to AuditEvent/{to} were removed before they were in the log")
            }
            Self::Retired => write!(f, "what is said of events that left by policy is not genuine"),
            Self::Gone(table) => {
                let (_, what) = TABLES.iter().find(|(name, _)| name == table).unwrap_or(&("", ""));
                write!(f, "{what} of the trail are gone: there is no table {table}")
            }
            Self::Replaced(table) => write!(f, "{table} is not the table of the trail, but stands in for it"),
            Self::Acting(what, name, table) => {
                write!(f, "the {what} {name} at the table {table} can keep events out of the trail")
            }
            Self::Witness(name) => write!(f, "the witness {name} is missing, and the log is older"),
            Self::Late(seconds, held) => {
                write!(f, "the oldest event that is not in the log yet waits for {seconds} s")?;
                match held {
                    Some(open) => write!(f, "; a transaction of the database is open for {open} s"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What came of looking at all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Events of the log that could be compared with what was signed: all of them, or those before the first place
    /// where it is harmed.
    pub events: u64,
    /// Events in the log, as its newest head says.
    pub signed: u64,
    /// Those of them that left the trail by policy.
    pub retired: u64,
    /// Events that wait to be taken into it.
    pub waiting: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// The newest head, as a signed note.
    pub head: Option<String>,
    pub(super) index: Sum,
    /// When the log was last accepted as it was.
    pub(super) accepted: i64,
}

/// What is known of the log elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Witnessed {
    /// Heads that were kept.
    pub heads: Vec<String>,
    /// The names of witnesses of which nothing is left.
    pub missing: Vec<String>,
}

/// A sum over index rows, in whatever order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl From<i64> for Sum {
    fn from(number: i64) -> Self {
        Self(number.cast_unsigned())
    }
}

impl From<Sum> for i64 {
    fn from(Sum(number): Sum) -> Self {
        number.cast_signed()
    }
}

impl Sum {
    /// Who doesn't have the key can't find others that come to the same.
    pub(super) fn one(&mut self, authority: &Authority, hash: i64, key: i64) {
        self.0 = self.0.wrapping_add(authority.number(b"pair", &[hash, key]).cast_unsigned());
    }
}

impl Verified {
    pub(super) fn add(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < NAMED {
            self.findings.push(finding);
        }
    }

    /// An event was met that may say that the log was accepted: leaf, time, and whether it does.
    pub(super) fn accepts(&mut self, said: Option<(Hash, i64, bool)>) {
        if let Some((_, at, true)) = said {
            self.accepted = self.accepted.max(at);
        }
    }
}

/// Numbers in their order as what follows each other, from and to.
pub(super) fn spans(numbers: &[i64]) -> Vec<(i64, i64)> {
    let runs = numbers.chunk_by(|one, next| *next == one.saturating_add(1));
    runs.filter_map(|run| Some((*run.first()?, *run.last()?))).collect()
}

/// Looks at all of it, at a time.
pub(super) fn verify(
    link: &mut Link,
    authority: &Authority,
    witnessed: &Witnessed,
    at: i64,
    seen: &mut dyn FnMut(u64),
) -> Result<Verified, Fault> {
    let mut verified = Verified::default();
    scheme::harm(link)?.into_iter().for_each(|finding| verified.add(finding));
    if verified.findings.iter().any(Finding::ends) {
        return Ok(verified);
    }
    let trusted = authority.signer.verifier();
    // Each with when it was shown elsewhere: what was accepted since then no longer counts.
    let mut heads: Vec<(Head, i64)> =
        heads(link, &trusted, &mut verified)?.into_iter().map(|head| (head, i64::MAX)).collect();
    let mut doubts: Vec<(Finding, i64)> = Vec::new();
    let (newest, newest_last) = heads.last().map_or((0, None), |(head, _)| (head.size, Some(head.last)));
    if heads.first().is_some_and(|(head, _)| head.recorded < at.saturating_sub(LATE)) {
        let missing = witnessed.missing.iter().cloned();
        missing.map(Finding::Witness).for_each(|finding| verified.add(finding));
    }
    for note in &witnessed.heads {
        match trusted.open(note) {
            Ok(head) if head.size > newest => doubts.push((Finding::Shortened(head.size), head.recorded)),
            Ok(head) => {
                let shown = head.recorded;
                heads.push((head, shown));
            }
            Err(_) => verified.add(Finding::Head(0)),
        }
    }
    heads.sort_unstable_by_key(|(head, _)| head.size);
    other_kinds(link, &mut verified)?;
    agents(link, authority, &mut verified)?;
    misplaced(link, &mut verified)?;
    let mut heads = heads.into_iter().peekable();
    let mut frontier = Frontier::default();
    let mut reading = Reading::default();
    let retired = retire::retired(link, authority)?;
    if let Some(retired) = &retired {
        (verified.index, verified.accepted, verified.retired) =
            (retired.sum, retired.accepted, retired.events);
        reading = Reading::after(retired);
        reading.before(link, &mut verified)?;
    }
    if !retire::is_sound(link, authority)? {
        verified.add(Finding::Retired);
    }
    let (mut whole, mut before) = (true, None);
    loop {
        let from = frontier.size();
        let (found, readable) = log::readable(link, |sql| {
            sql.push(" WHERE first >= ").int(signed(from)).push(" ORDER BY first").limit(TOGETHER);
        })?;
        let last = found.len() < TOGETHER;
        for block in found {
            if block.first != frontier.size() {
                verified.add(Finding::Tree(frontier.size()));
                whole = false;
                break;
            }
            // An event is looked for, to be proved, by where its block is said to end.
            let beyond = |left: &Retired| block.end() <= left.events && block.last > left.last;
            if (!block.follows(before) || retired.as_ref().is_some_and(beyond)) && block.end() != newest {
                let (from, to) = (block.keys.first(), block.keys.last());
                verified.add(Finding::Place(from.copied().unwrap_or(0), to.copied().unwrap_or(0)));
            }
            let behind = std::mem::replace(&mut before, block.position());
            reading.block(link, authority, &block, &mut verified)?;
            let (complete, root) = (block.leaves.len() as u64 == BLOCK, block.root);
            // What is behind the last one is taken in next.
            if block.end() == newest && (Some(block.last) != newest_last || !block.follows(behind)) {
                verified.add(Finding::Tree(newest));
            }
            let mut made = None;
            for hash in block.leaves {
                made = frontier.append(hash).into_iter().find(|node| node.level == 8).map(|node| node.hash);
                while let Some((head, shown)) = heads.next_if(|(head, _)| head.size <= frontier.size()) {
                    if head.size == frontier.size() && head.root != frontier.root() {
                        doubts.push((Finding::Tree(block.first), shown));
                    }
                }
            }
            if root != made.filter(|_| complete) {
                verified.add(Finding::Tree(block.first));
            }
        }
        if whole && !readable {
            verified.add(Finding::Tree(frontier.size()));
            whole = false;
        }
        seen(frontier.size());
        if last || !whole {
            break;
        }
    }
    (verified.events, verified.signed) = (frontier.size(), newest);
    if let Some((head, shown)) = heads.next().filter(|_| whole) {
        doubts.push((Finding::Tree(head.size), shown));
    }
    if frontier.size() > newest && whole {
        // Nobody signed these.
        verified.add(Finding::Tree(newest));
    }
    if frontier.size() < newest && whole {
        verified.add(Finding::Shortened(newest));
    }
    reading.end(link.dialect, whole, &mut verified);
    if whole && indexed(link, authority)? != Some(verified.index) {
        verified.add(Finding::Index);
    }
    reading.waiting(link, authority, &mut verified)?;
    doubts.append(&mut reading.gaps);
    for (finding, shown) in doubts {
        if shown > verified.accepted {
            verified.add(finding);
        }
    }
    for (from, to) in spans(&authority.vanished()) {
        // A gap may have told it already.
        if !verified.findings.contains(&Finding::Vanished(from, to)) {
            verified.add(Finding::Vanished(from, to));
        }
    }
    let Lag { oldest, held } = lag(link)?;
    let since = |then: i64| at.saturating_sub(then) / 1_000_000;
    if let Some(oldest) = oldest.filter(|oldest| at.saturating_sub(*oldest) > LATE) {
        verified.add(Finding::Late(since(oldest), held.map(since)));
    }
    Ok(verified)
}

/// Is there such a table?
pub(super) fn is_there(link: &mut Link, table: &'static str) -> Result<bool, Fault> {
    let tables = match link.dialect {
        Dialect::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ",
        Dialect::Postgres => "SELECT COUNT(*) FROM pg_class WHERE pg_table_is_visible(oid) AND relname = ",
    };
    let mut sql = Sql::new(link.dialect, tables);
    sql.text(table);
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop() == Some(1))
}

/// Tables, what names their rows in a finding, and their columns of texts and of numbers.
const KINDS: [(&str, &str, &[&str], &[&str]); 7] = [
    ("audit", "key", &["body"], &["epoch", "events", "low", "high", "acts", "outcomes", "mac"]),
    ("audit_agent", "key", &["text"], &[]),
    ("audit_run", "0", &[], &["level", "pairs"]),
    ("audit_index", "0", &["pairs"], &["run", "first", "key"]),
    ("audit_block", "first", &["keys", "leaves", "root"], &["epoch", "high"]),
    ("audit_head", "size", &["frontier", "note"], &["recorded"]),
    ("audit_retired", "0", &[], &["events", "epoch", "key", "accepted", "sum", "mac"]),
];

/// A cell of SQLite may hold what its column is not for: read as that, it may say what it said, and a search
/// compares it otherwise.
fn other_kinds(link: &mut Link, verified: &mut Verified) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        return Ok(());
    }
    for (table, name, texts, numbers) in KINDS {
        let mut sql = Sql::new(link.dialect, "SELECT DISTINCT ");
        sql.push(name).push(" FROM ").push(table).push(" WHERE 1 = 0");
        for (columns, kind) in [(texts, "'text'"), (numbers, "'integer'")] {
            for column in columns {
                sql.push(" OR typeof(").push(column).push(") <> ").push(kind);
            }
        }
        sql.push(" ORDER BY 1");
        for name in sql.rows::<BigInt, i64>(&mut link.connection)? {
            verified.add(match table {
                "audit" => Finding::Changed(name),
                "audit_agent" => Finding::Agent(name),
                "audit_block" => Finding::Tree(name.unsigned_abs()),
                "audit_head" => Finding::Head(name.unsigned_abs()),
                "audit_retired" => Finding::Retired,
                _ => Finding::Index,
            });
        }
    }
    Ok(())
}

/// Blocks that stand before the beginning of the log, or between its blocks.
fn misplaced(link: &mut Link, verified: &mut Verified) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT first FROM audit_block WHERE first < 0 OR first % ");
    sql.int(signed(BLOCK)).push(" <> 0 ORDER BY first");
    for first in sql.rows::<BigInt, i64>(&mut link.connection)? {
        verified.add(Finding::Tree(u64::try_from(first).unwrap_or_default()));
    }
    Ok(())
}

/// Is everybody there who this server says they are, and nobody else?
fn agents(link: &mut Link, authority: &Authority, verified: &mut Verified) -> Result<(), Fault> {
    let mut from = None;
    loop {
        let mut sql = Sql::new(link.dialect, "SELECT key, text FROM audit_agent");
        if let Some(from) = from {
            sql.push(" WHERE key > ").int(from);
        }
        sql.push(" ORDER BY key").limit(READ);
        let found = sql.rows::<(BigInt, Binary), (i64, Vec<u8>)>(&mut link.connection)?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        from = Some(*last);
        for (key, text) in found {
            if authority.agent(&lossy(text)) != key {
                verified.add(Finding::Agent(key));
            }
        }
    }
}

/// The genuine heads by their sizes; of the others, and of those of which something else is said, a finding.
fn heads(link: &mut Link, trusted: &Verifier, verified: &mut Verified) -> Result<Vec<Head>, Fault> {
    type Kept = (i64, i64, Vec<u8>, Vec<u8>);
    let (mut heads, mut from) = (Vec::new(), None);
    loop {
        let mut sql = Sql::new(link.dialect, "SELECT size, recorded, frontier, note FROM audit_head");
        if let Some(from) = from {
            sql.push(" WHERE size > ").int(from);
        }
        sql.push(" ORDER BY size").limit(READ);
        let found = sql.rows::<(BigInt, BigInt, Binary, Binary), Kept>(&mut link.connection)?;
        let Some((last, ..)) = found.last() else { return Ok(heads) };
        from = Some(*last);
        for (size, recorded, edge, note) in found {
            let note = lossy(note);
            let head = trusted.open(&note).ok().filter(|head| signed(head.size) == size);
            let edge = STANDARD.decode(edge).ok().and_then(|bytes| Frontier::from_bytes(&bytes));
            let is_so = head.as_ref().zip(edge).is_some_and(|(head, edge)| {
                head.recorded == recorded && edge.size() == head.size && edge.root() == head.root
            });
            if !is_so {
                verified.add(Finding::Head(size.unsigned_abs()));
            }
            heads.extend(head);
            verified.head = Some(note);
        }
    }
}

/// The sum over the index as it is; none where it is no index.
fn indexed(link: &mut Link, authority: &Authority) -> Result<Option<Sum>, Fault> {
    let mut sum = Sum::default();
    let sound = index::all(link, &mut |(hash, key)| sum.one(authority, hash, key))?;
    Ok(sound.then_some(sum))
}

/// All that somebody with the public key needs to see that an event is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What was hashed: a JSON array of what is known of the event.
    pub leaf: Vec<u8>,
    /// Its place in the log, from 0.
    pub index: u64,
    /// The hashes beside its way up.
    pub path: Vec<[u8; 32]>,
    /// The head it leads to, as a signed note.
    pub head: String,
    /// The hashes that lead from an older head to this one.
    pub consistency: Option<Vec<[u8; 32]>>,
}

impl Proof {
    /// Does it hold for whoever trusts this key, and knows the log by this older head?
    pub fn holds(&self, key: &str, older: Option<&str>) -> bool {
        let Ok(verifier) = key.parse::<Verifier>() else { return false };
        let Ok(head) = verifier.open(&self.head) else { return false };
        let hash = leaf(&self.leaf);
        let is_in = verify_inclusion(&hash, self.index, head.size, &self.path, &head.root);
        is_in
            && match (older, &self.consistency) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(older), Some(path)) => verifier.open(older).is_ok_and(|older| {
                    verify_consistency(older.size, &older.root, head.size, &head.root, path)
                }),
            }
    }
}

/// The proof of one event, and that the log of `older` entries is the beginning of this one; `NotFound`
/// while it is not yet in the log.
pub(super) fn prove(link: &mut Link, key: i64, older: Option<u64>) -> Result<Proof, Fault> {
    let one = row::events(link, &[key])?.remove(&key).ok_or(Error::NotFound)?;
    let at = (one.epoch, key);
    let block = log::blocks(link, |sql| {
        sql.push(" WHERE (epoch, high) >= (").int(at.0).push(", ").int(at.1);
        sql.push(") ORDER BY epoch, high").limit(1);
    })?;
    let block = block.into_iter().next().ok_or(Error::NotFound)?;
    let place = block.keys.iter().position(|known| *known == key).ok_or(Error::NotFound)?;
    let index = block.first + place as u64;
    let (head, _) = log::newest(link)?.ok_or(Error::NotFound)?;
    let size = log::size(link)?;
    let path = inclusion(index, size, &mut |span| stored(link, span))?.ok_or(Error::NotFound)?;
    let consistency = match older {
        Some(older) => {
            let proof = consistency(older, size, &mut |span| stored(link, span))?;
            Some(proof.ok_or_else(|| Error::Precondition("the log was never of that size".into()))?)
        }
        None => None,
    };
    Ok(Proof { leaf: one.canonical(), index, path, head, consistency })
}

/// Hashes that the proof reads.
pub(super) fn stored(link: &mut Link, Span { level, first, count }: Span) -> Result<Vec<Hash>, Fault> {
    if level == 0 {
        let block = first / BLOCK * BLOCK;
        let found = log::blocks(link, |sql| {
            sql.push(" WHERE first >= ").int(signed(block));
            sql.push(" AND first < ").int(signed(first + count)).push(" ORDER BY first");
        })?;
        let all = found.into_iter().flat_map(|block| (block.first..).zip(block.leaves));
        return Ok(all.filter(|(at, _)| (first..first + count).contains(at)).map(|(_, hash)| hash).collect());
    }
    let wide = u32::from(level) - 8;
    let (low, high) = (first << wide, (first + count) << wide);
    let mut sql = Sql::new(link.dialect, "SELECT root FROM audit_block WHERE first >= ");
    sql.int(signed(low * BLOCK)).push(" AND first < ").int(signed(high * BLOCK));
    sql.push(" AND root <> '' ORDER BY first");
    let found = sql.rows::<Binary, Vec<u8>>(&mut link.connection)?;
    let root = |text: Vec<u8>| STANDARD.decode(text).ok()?.try_into().ok();
    let roots: Option<Vec<Hash>> = found.into_iter().map(root).collect();
    let roots = roots.ok_or_else(|| Fault::Database("the audit log: an unreadable root".into()))?;
    Ok(roots
        .chunks_exact(1 << wide)
        .map(|part| super::merkle::top(part.to_vec()).unwrap_or_default())
        .collect())
}
