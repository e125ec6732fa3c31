//! The trail as a Merkle log: rows become leaves soon after they were written, by one process at a time,
//! and each new head of the tree is signed. What is changed, taken out, put in or moved afterwards is
//! found, and named.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diesel::sql_types::{BigInt, Binary};

use super::authority::{Authority, Leaves};
use super::epoch::SHIFT;
use super::head::Head;
use super::index;
use super::memory::Astray;
use super::merkle::{Frontier, Hash};
use super::retire;
use super::row::{self, Agents, SELECT, rows};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql, chunks, lossy};

/// Leaves of a block.
pub(super) const BLOCK: u64 = 256;
/// Events taken into the tree at a time, or a few more: a row is taken in wholly.
const MOST: usize = 16_384;
/// A number so far behind the last one was not given by this server.
pub(super) const FAR: i64 = 1 << 40;
/// Which log the heads are of.
pub(super) const ORIGIN: &str = "augury.dev/audit";
/// Of the heads of one minute the last stays.
const MINUTE: i64 = 60_000_000;
/// What the lock is called.
const LOCK: i64 = 0x6175_6469_7400;

/// Where an event stands: on SQLite by its key, on PostgreSQL first by the transaction that wrote it.
pub(super) type Position = (i64, i64);

/// The tree as it is.
#[derive(Default)]
pub(super) struct State {
    pub(super) frontier: Frontier,
    /// None where nothing was sealed yet.
    pub(super) head: Option<Head>,
    note: String,
    last: Option<Block>,
}

/// 256 leaves, or the fewer that there are at the end.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) last: Position,
    pub(super) keys: Vec<i64>,
    /// Of each key; 0 on SQLite.
    pub(super) epochs: Vec<i64>,
    pub(super) leaves: Vec<Hash>,
    pub(super) root: Option<Hash>,
}

impl Block {
    /// The place in the log after its last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// Where its last event stands.
    pub(super) fn position(&self) -> Option<Position> {
        Some((*self.epochs.last()?, *self.keys.last()?))
    }

    /// Do its events stand behind the end of the one before, each behind the other, and does it end with the last?
    pub(super) fn follows(&self, before: Option<Position>) -> bool {
        let all = self.epochs.iter().copied().zip(self.keys.iter().copied());
        before.into_iter().chain(all).is_sorted_by(|one, next| one < next)
            && self.position() == Some(self.last)
    }
}

/// What sealing adds, to be written if the tree is still the same.
#[derive(Debug)]
pub(crate) struct Sealing {
    from: u64,
    /// The head it builds on; empty for none.
    base: String,
    /// There is more to take in.
    pub(super) more: bool,
    blocks: Vec<Block>,
    /// The rows that are new.
    pub(super) rows: Vec<i64>,
    /// Numbers that are missing before one of them: from, to.
    pub(super) gaps: Vec<(i64, i64)>,
    /// What they are about.
    index: index::Adding,
    frontier: Frontier,
    recorded: i64,
    before: i64,
    note: String,
}

impl Sealing {
    /// The new head.
    pub(super) fn note(&self) -> &str {
        &self.note
    }

    /// The same, as what it says.
    pub(super) fn head(&self) -> Head {
        Head {
            origin: ORIGIN.to_owned(),
            size: self.frontier.size(),
            root: self.frontier.root(),
            recorded: self.recorded,
            last: self.blocks.last().map_or((0, 0), |block| block.last),
        }
    }
}

fn broken(what: &str) -> Fault {
    Fault::Database(format!("the audit log: {what}"))
}

pub(super) fn number(value: i64) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| broken("a negative number"))
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The newest head and the edge of its tree, as they are written; none where nothing was sealed yet.
pub(super) fn newest(link: &mut Link) -> Result<Option<(String, Vec<u8>)>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT note, frontier FROM audit_head ORDER BY size DESC LIMIT 1");
    let found = sql.rows::<(Binary, Binary), (Vec<u8>, Vec<u8>)>(&mut link.connection)?.pop();
    Ok(found.map(|(note, edge)| (lossy(note), edge)))
}

/// How many events are in the tree, by its newest head.
pub(super) fn size(link: &mut Link) -> Result<u64, Fault> {
    let sql = Sql::new(link.dialect, "SELECT COALESCE(MAX(size), 0) FROM audit_head");
    number(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
}

type BlockTypes = (BigInt, BigInt, BigInt, Binary, Binary, Binary);
type BlockRow = (i64, i64, i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// The blocks that the rest of the statement asks for.
pub(super) fn blocks(link: &mut Link, rest: impl FnOnce(&mut Sql<'_>)) -> Result<Vec<Block>, Fault> {
    let (found, all) = readable(link, rest)?;
    if all { Ok(found) } else { Err(broken("an unreadable block")) }
}

/// The same, up to the first that can't be read; and are these all?
pub(super) fn readable(
    link: &mut Link,
    rest: impl FnOnce(&mut Sql<'_>),
) -> Result<(Vec<Block>, bool), Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT first, epoch, high, keys, leaves, root FROM audit_block");
    rest(&mut sql);
    let rows = sql.rows::<BlockTypes, BlockRow>(&mut link.connection)?;
    let many = rows.len();
    let found: Vec<Block> = rows.into_iter().map_while(block).collect();
    let all = found.len() == many;
    Ok((found, all))
}

fn block((first, epoch, high, keys, leaves, root): BlockRow) -> Option<Block> {
    let (mut all, mut epochs) = (Vec::with_capacity(256), Vec::with_capacity(256));
    let (mut last, mut last_epoch) = (0_i64, 0_i64);
    for step in lossy(keys).split(',').filter(|step| !step.is_empty()) {
        let (step, moved) = step.split_once('@').map_or((step, None), |(step, moved)| (step, Some(moved)));
        last = last.wrapping_add(step.parse().ok()?);
        if let Some(moved) = moved {
            last_epoch = last_epoch.wrapping_add(moved.parse().ok()?);
        }
        all.push(last);
        epochs.push(last_epoch);
    }
    let bytes = STANDARD.decode(leaves).ok()?;
    let (leaves, rest) = bytes.as_chunks::<32>();
    if leaves.len() != all.len() || !rest.is_empty() || leaves.is_empty() || leaves.len() > 256 {
        return None;
    }
    let root = if root.is_empty() { None } else { Some(STANDARD.decode(root).ok()?.try_into().ok()?) };
    let first = u64::try_from(first).ok()?;
    Some(Block { first, last: (epoch, high), keys: all, epochs, leaves: leaves.to_vec(), root })
}

/// The leaf at a place in the log, as far as there is one that can be read.
pub(super) fn leaf(link: &mut Link, place: u64) -> Result<Option<Hash>, Fault> {
    let found = blocks(link, |sql| {
        sql.push(" WHERE first = ").int(signed(place / BLOCK * BLOCK));
    });
    let at = usize::try_from(place % BLOCK).unwrap_or(usize::MAX);
    match found {
        Ok(mut found) => Ok(found.pop().and_then(|block| block.leaves.get(at).copied())),
        // Who looks at all of the log names it.
        Err(Fault::Database(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Does a position come after another?
pub(super) fn is_after(dialect: Dialect, position: Position, other: Position) -> bool {
    match dialect {
        Dialect::Sqlite => position.1 > other.1,
        Dialect::Postgres => position > other,
    }
}

/// The numbers that are missing between the last one so far and those from `first` to `last`. SQLite has one writer:
/// what it gives has no gaps.
pub(super) fn gap(dialect: Dialect, end: &mut i64, first: i64, last: i64) -> Option<(i64, i64)> {
    let next = std::mem::replace(end, last).saturating_add(1);
    (dialect == Dialect::Sqlite && first > next).then(|| (next, first - 1))
}

/// Writes ` AND …` for rows after a position, and the order they stand in.
pub(super) fn after(sql: &mut Sql<'_>, dialect: Dialect, position: Position) {
    match dialect {
        Dialect::Sqlite => sql.push(" AND a.key > ").int(position.1),
        Dialect::Postgres => {
            sql.push(" AND (a.epoch, a.key) > (").int(position.0).push(", ").int(position.1).push(")")
        }
    };
}

pub(super) fn up_to(sql: &mut Sql<'_>, dialect: Dialect, position: Position) {
    match dialect {
        Dialect::Sqlite => sql.push(" AND a.key <= ").int(position.1),
        Dialect::Postgres => {
            sql.push(" AND (a.epoch, a.key) <= (").int(position.0).push(", ").int(position.1).push(")")
        }
    };
}

pub(super) fn in_order(sql: &mut Sql<'_>, dialect: Dialect) {
    sql.push(match dialect {
        Dialect::Sqlite => " ORDER BY a.key",
        Dialect::Postgres => " ORDER BY a.epoch, a.key",
    });
}

/// Rows before this epoch are all there. `ended` is what was said before the snapshot (`ended_before`).
fn horizon(link: &mut Link, from: Option<Position>, ended: i64) -> Result<i64, Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(from.map_or(0, |(_, key)| key).saturating_add(FAR));
    }
    let mut sql = Sql::new(link.dialect, "SELECT s.shift + ");
    sql.int(ended).push(", s.shift + CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT) ");
    sql.push("FROM (SELECT ").push(SHIFT).push(" AS shift) s");
    let found = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?.pop();
    let (to, next) = found.ok_or_else(|| broken("no horizon"))?;
    // Another process may have taken in more since `ended` was asked for, but nothing that is yet to be numbered.
    if from.is_some_and(|(epoch, _)| epoch >= next) {
        return Err(broken("transactions are numbered anew, as after a restore: start the server again"));
    }
    Ok(to)
}

/// Where the last row stands that is in the tree.
pub(super) fn last(link: &mut Link) -> Result<Option<Position>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT epoch, high FROM audit_block ORDER BY first DESC LIMIT 1");
    Ok(sql.rows::<(BigInt, BigInt), Position>(&mut link.connection)?.pop())
}

/// Where rows stand that are complete and not in the tree, in their order; and are there more?
fn waiting(link: &mut Link, from: Option<Position>, ended: i64) -> Result<(Vec<Position>, bool), Fault> {
    let to = horizon(link, from, ended)?;
    let column = match link.dialect {
        Dialect::Sqlite => "a.key",
        Dialect::Postgres => "a.epoch",
    };
    let ask = |link: &mut Link, to: i64, most: usize| -> Result<Vec<(Position, i64)>, Fault> {
        let mut sql = Sql::new(link.dialect, "SELECT a.epoch, a.key, a.events FROM audit a WHERE ");
        sql.push(column).push(" < ").int(to);
        if let Some(from) = from {
            after(&mut sql, link.dialect, from);
        }
        in_order(&mut sql, link.dialect);
        sql.limit(most);
        let rows = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?;
        Ok(rows.into_iter().map(|(epoch, key, events)| ((epoch, key), events)).collect())
    };
    let mut found = ask(link, to, MOST)?;
    let mut events = 0_u64;
    let enough = found.iter().position(|(_, more)| {
        events = events.saturating_add(u64::try_from(*more).unwrap_or(0));
        events >= MOST as u64
    });
    let more = found.len() == MOST || enough.is_some_and(|last| last + 1 < found.len());
    found.truncate(enough.map_or(found.len(), |last| last + 1));
    let epoch = |one: Option<&(Position, i64)>| one.map(|((epoch, _), _)| *epoch);
    if let (Some(first), Some(last), true, Dialect::Postgres) =
        (epoch(found.first()), epoch(found.last()), more, link.dialect)
    {
        if first == last {
            // One transaction wrote more than that.
            found = ask(link, last.saturating_add(1), usize::MAX)?;
        } else {
            found.retain(|((epoch, _), _)| *epoch < last);
        }
    }
    Ok((found.into_iter().map(|(position, _)| position).collect(), more))
}

/// The leaves of rows: those that this process wrote are known, the others are read, and must be of a
/// process with the same secret, or are `forged`.
fn leaves(
    link: &mut Link,
    authority: &Authority,
    found: &[Position],
    forged: &mut Vec<i64>,
) -> Result<HashMap<i64, Arc<Leaves>>, Fault> {
    let mut known = authority.leaves(found.iter().map(|(_, key)| *key));
    let others: Vec<i64> = found.iter().map(|(_, key)| *key).filter(|key| !known.contains_key(key)).collect();
    let mut agents = Agents::default();
    for others in chunks(&others) {
        let mut sql = Sql::new(link.dialect, SELECT);
        sql.push(" WHERE a.key IN ").ints(others.iter().copied());
        let found = rows(link, &sql)?;
        for opened in row::open(link, authority, &mut agents, found)? {
            let key = opened.row.key;
            if opened.genuine {
                known.insert(key, Arc::new(opened.leaves()));
            } else {
                forged.push(key);
            }
        }
    }
    Ok(known)
}

/// The newest head and its tree, as this server signed it.
pub(super) fn genuine(
    link: &mut Link,
    authority: &Authority,
) -> Result<Result<Option<State>, Astray>, Fault> {
    let last = match blocks(link, |sql| {
        sql.push(" ORDER BY first DESC").limit(1);
    }) {
        Ok(mut found) => Ok(found.pop()),
        Err(Fault::Database(_)) => Err("its last block is unreadable"),
        Err(fault) => return Err(fault),
    };
    let found = last.as_ref().ok().and_then(Option::as_ref).map_or(0, Block::end);
    let newest = newest(link)?;
    let head = newest.as_ref().map(|(note, _)| authority.signer.verifier().open(note).ok());
    let known = head.clone().flatten().or_else(|| authority.remembered()).map_or(0, |head| head.size);
    let astray = |why| Ok(Err(Astray { known, found, why }));
    let last = match last {
        Ok(last) => last,
        Err(why) => return astray(why),
    };
    let (head, note, edge) = match (head, newest) {
        (Some(Some(head)), Some((note, edge))) => (head, note, edge),
        (None, None) if last.is_none() => return Ok(Ok(None)),
        (Some(None), _) => return astray("its newest head is not genuine"),
        _ => return astray("it has no head"),
    };
    // What is behind that position is taken in next: who could move it would keep events out.
    let is_there = |last: &Block| last.position() == Some(head.last) && last.last == head.last;
    if head.size != found || !last.as_ref().is_some_and(is_there) {
        return astray("its last block is not what its head says");
    }
    let is = |frontier: &Frontier| frontier.size() == head.size && frontier.root() == head.root;
    let edge = STANDARD.decode(edge).ok().and_then(|bytes| Frontier::from_bytes(&bytes)).filter(is);
    let frontier = match edge {
        Some(edge) => edge,
        None => match edge_of(link, last.as_ref())? {
            edge if is(&edge) => edge,
            _ => return astray("its blocks are not what its head says"),
        },
    };
    Ok(Ok(Some(State { frontier, head: Some(head), note, last })))
}

/// The edge of the tree that the blocks make.
fn edge_of(link: &mut Link, last: Option<&Block>) -> Result<Frontier, Fault> {
    let sql = Sql::new(link.dialect, "SELECT root FROM audit_block WHERE root <> '' ORDER BY first");
    let mut edge = Frontier::default();
    for root in sql.rows::<Binary, Vec<u8>>(&mut link.connection)? {
        if let Some(root) = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok()) {
            edge.add(8, root);
        }
    }
    for leaf in last.filter(|last| last.root.is_none()).into_iter().flat_map(|last| &last.leaves) {
        edge.append(*leaf);
    }
    Ok(edge)
}

/// What there is to seal, as far as all had `ended` before the snapshot; none if there is nothing. `forged` gets the
/// rows that were met and passed over.
pub(super) fn prepare(
    link: &mut Link,
    authority: &Authority,
    state: Option<State>,
    at: i64,
    ended: i64,
    forged: &mut Vec<i64>,
) -> Result<Option<Sealing>, Fault> {
    let State { mut frontier, head, note: base, last } = state.unwrap_or_default();
    let before = head.map_or(0, |head| head.recorded);
    let (size, mut from) = (frontier.size(), last.as_ref().and_then(Block::position));
    let end = match from {
        Some(from) => Some(from),
        None => retire::retired(link, authority)?.map(|retired| retired.last),
    };
    let mut end = end.map_or(0, |(_, key)| key);
    let (found, known, more) = loop {
        let (found, more) = waiting(link, from, ended)?;
        let known = leaves(link, authority, &found, forged)?;
        match found.last() {
            Some(last) if known.is_empty() && more => from = Some(*last),
            _ => break (found, known, more),
        }
    };
    let mut open = last.filter(|last| last.root.is_none());
    let (mut done, mut index, mut rows) = (Vec::new(), Vec::new(), Vec::with_capacity(found.len()));
    let mut gaps = Vec::new();
    let mut leaves = Vec::with_capacity(MOST);
    for (epoch, key) in found {
        let events = known.get(&key).map_or(1, |known| known.hashes.len());
        let gap = gap(link.dialect, &mut end, key, last_of(key, events));
        let Some(known) = known.get(&key) else { continue };
        gaps.extend(gap);
        rows.push(key);
        index.extend(known.about.iter().map(|hash| (*hash, key)));
        leaves.extend((key..=i64::MAX).zip(&known.hashes).map(|(key, hash)| (epoch, key, *hash)));
    }
    for (epoch, key, hash) in leaves {
        let mut block = open.take().unwrap_or_else(|| Block {
            first: frontier.size(),
            last: (0, 0),
            keys: Vec::with_capacity(256),
            epochs: Vec::with_capacity(256),
            leaves: Vec::with_capacity(256),
            root: None,
        });
        block.keys.push(key);
        block.epochs.push(epoch);
        block.leaves.push(hash);
        block.last = (epoch, key);
        block.root = frontier.append(hash).into_iter().find(|node| node.level == 8).map(|node| node.hash);
        if block.root.is_some() {
            done.push(block);
        } else {
            open = Some(block);
        }
    }
    if frontier.size() == size {
        return Ok(None);
    }
    done.extend(open);
    let index = index::prepare(link, signed(size), index)?;
    let mut sealing = Sealing {
        from: size,
        base,
        more,
        blocks: done,
        rows,
        gaps,
        index,
        frontier,
        recorded: at,
        before,
        note: String::new(),
    };
    sealing.note = authority.signer.sign(&sealing.head()).map_err(Error::internal)?;
    Ok(Some(sealing))
}

/// Only one process changes the tree, or takes out what it is of, at a time: until the open transaction ends.
pub(super) fn lock(link: &mut Link) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        let mut sql = Sql::new(link.dialect, "SELECT pg_advisory_xact_lock(");
        sql.int(LOCK).push(")");
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Until the open transaction ends, no part of the table leaves. It comes before the first question: a snapshot that is
/// older would miss the rows. Where there is no such table, or none that may be locked, whoever asks on learns it; who
/// could only not wait for it holds nothing.
pub(super) fn hold(link: &mut Link) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        link.execute("SAVEPOINT before")?;
        match link.execute("LOCK TABLE ONLY audit IN ACCESS SHARE MODE") {
            Err(Fault::Database(_)) => link.execute("ROLLBACK TO SAVEPOINT before")?,
            held => held?,
        }
    }
    Ok(())
}

/// The number of the last of so many events.
pub(super) fn last_of(first: i64, events: usize) -> i64 {
    first.saturating_add(signed(events as u64).saturating_sub(1))
}

/// Forgets the tree, inside the open transaction: it is made anew of the rows that there are.
pub(super) fn forget(link: &mut Link) -> Result<(), Fault> {
    lock(link)?;
    retire::begin_anew(link)?;
    link.touched = true;
    ["audit_block", "audit_head", "audit_run", "audit_index"]
        .iter()
        .try_for_each(|table| link.execute(&format!("DELETE FROM {table}")))
}

/// Adds it to the tree, inside the open transaction.
pub(crate) fn write(link: &mut Link, sealing: &Sealing) -> Result<(), Fault> {
    lock(link)?;
    if newest(link)?.map_or_else(String::new, |(note, _)| note) != sealing.base {
        return Err(Error::Conflict { current: 0 }.into());
    }
    link.touched = true;
    for block in &sealing.blocks {
        let (mut last, mut last_epoch) = (0, 0);
        let keys = block.keys.iter().zip(&block.epochs).map(|(key, epoch)| {
            let step = key.wrapping_sub(std::mem::replace(&mut last, *key));
            match epoch.wrapping_sub(std::mem::replace(&mut last_epoch, *epoch)) {
                0 => step.to_string(),
                moved => format!("{step}@{moved}"),
            }
        });
        let keys: Vec<String> = keys.collect();
        let mut sql = Sql::new(
            link.dialect,
            "INSERT INTO audit_block (first, epoch, high, keys, leaves, root) VALUES (",
        );
        sql.int(signed(block.first)).push(",").int(block.last.0).push(",").int(block.last.1);
        sql.push(",").text(keys.join(",")).push(",").text(STANDARD.encode(block.leaves.as_flattened()));
        sql.push(",").text(block.root.map_or_else(String::new, |root| STANDARD.encode(root)));
        sql.push(") ON CONFLICT (first) DO UPDATE SET epoch = excluded.epoch, high = excluded.high, ");
        sql.push("keys = excluded.keys, leaves = excluded.leaves, root = excluded.root");
        sql.run(&mut link.connection)?;
    }
    index::write(link, &sealing.index)?;
    if sealing.before / MINUTE == sealing.recorded / MINUTE {
        let mut sql = Sql::new(link.dialect, "DELETE FROM audit_head WHERE size = ");
        sql.int(signed(sealing.from));
        sql.run(&mut link.connection)?;
    }
    let mut sql = Sql::new(link.dialect, "INSERT INTO audit_head (size, recorded, frontier, note) VALUES (");
    sql.int(signed(sealing.frontier.size())).push(",").int(sealing.recorded);
    sql.push(",").text(STANDARD.encode(sealing.frontier.to_bytes())).push(",").text(sealing.note.as_str());
    sql.push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}
