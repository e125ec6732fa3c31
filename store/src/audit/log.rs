//! The trail as a Merkle log: rows become leaves soon after they were written, by one process at a time,
//! and each new head of the tree is signed. What is changed, taken out, put in or moved afterwards is
//! found, and named.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diesel::sql_types::{BigInt, Text};

use super::authority::{Authority, Leaves};
use super::head::Head;
use super::index;
use super::merkle::{Frontier, Hash};
use super::row::{self, Agents, SELECT, rows};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql, chunks};

/// Leaves of a block.
pub(super) const BLOCK: u64 = 256;
/// Events taken into the tree at a time, or a few more: a row is taken in wholly.
const MOST: usize = 16_384;
/// Which log the heads are of.
pub(super) const ORIGIN: &str = "augury.dev/audit";
/// Of the heads of one minute the last stays.
const MINUTE: i64 = 60_000_000;
/// Only one process seals at a time.
const LOCK: i64 = 0x6175_6469_7400;

/// Where an event stands: on SQLite by its key, on PostgreSQL first by the transaction that wrote it.
pub(super) type Position = (i64, i64);

/// The tree as it is.
pub(super) struct State {
    pub(super) frontier: Frontier,
    pub(super) note: String,
    pub(super) recorded: i64,
}

impl State {
    /// How many events are in it.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }
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

/// The newest head; none where nothing was sealed yet.
pub(super) fn state(link: &mut Link) -> Result<Option<State>, Fault> {
    let sql =
        Sql::new(link.dialect, "SELECT recorded, frontier, note FROM audit_head ORDER BY size DESC LIMIT 1");
    let found = sql.rows::<(BigInt, Text, Text), (i64, String, String)>(&mut link.connection)?.pop();
    let Some((recorded, text, note)) = found else { return Ok(None) };
    let frontier = STANDARD.decode(text).ok().and_then(|bytes| Frontier::from_bytes(&bytes));
    Ok(Some(State { frontier: frontier.ok_or_else(|| broken("an unreadable frontier"))?, note, recorded }))
}

type BlockTypes = (BigInt, BigInt, BigInt, Text, Text, Text);
type BlockRow = (i64, i64, i64, String, String, String);

/// The blocks that the rest of the statement asks for.
pub(super) fn blocks(link: &mut Link, rest: impl FnOnce(&mut Sql<'_>)) -> Result<Vec<Block>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT first, epoch, high, keys, leaves, root FROM audit_block");
    rest(&mut sql);
    let rows = sql.rows::<BlockTypes, BlockRow>(&mut link.connection)?;
    rows.into_iter().map(|row| block(row).ok_or_else(|| broken("an unreadable block"))).collect()
}

fn block((first, epoch, high, keys, leaves, root): BlockRow) -> Option<Block> {
    let (mut all, mut epochs) = (Vec::with_capacity(256), Vec::with_capacity(256));
    let (mut last, mut last_epoch) = (0_i64, 0_i64);
    for step in keys.split(',').filter(|step| !step.is_empty()) {
        let (step, moved) = step.split_once('@').map_or((step, None), |(step, moved)| (step, Some(moved)));
        last = last.checked_add(step.parse().ok()?)?;
        if let Some(moved) = moved {
            last_epoch = last_epoch.checked_add(moved.parse().ok()?)?;
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

/// What no transaction that is still open can have written: rows before this epoch are all there.
fn horizon(link: &mut Link) -> Result<i64, Fault> {
    let text = match link.dialect {
        Dialect::Sqlite => "SELECT COALESCE((SELECT MAX(key) FROM audit), 0) + 1",
        Dialect::Postgres => {
            "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) + shift FROM audit_shift"
        }
    };
    let sql = Sql::new(link.dialect, text);
    sql.rows::<BigInt, i64>(&mut link.connection)?.pop().ok_or_else(|| broken("no horizon"))
}

/// Where the last row stands that is in the tree.
pub(super) fn last(link: &mut Link) -> Result<Option<Position>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT epoch, high FROM audit_block ORDER BY first DESC LIMIT 1");
    Ok(sql.rows::<(BigInt, BigInt), Position>(&mut link.connection)?.pop())
}

/// Where rows stand that are complete and not in the tree, in their order; and are there more?
fn waiting(link: &mut Link, from: Option<Position>) -> Result<(Vec<Position>, bool), Fault> {
    let to = horizon(link)?;
    if link.dialect == Dialect::Postgres && from.is_some_and(|(epoch, _)| epoch >= to) {
        return Err(broken("transactions are numbered anew, as after a restore: start the server again"));
    }
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
/// process with the same secret.
fn leaves(
    link: &mut Link,
    authority: &Authority,
    found: &[Position],
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
                tracing::error!(audit = key, "a row of the audit trail was not written by this server");
            }
        }
    }
    Ok(known)
}

/// The newest head and its tree, which must be one that this server signed.
pub(super) fn genuine(link: &mut Link, authority: &Authority) -> Result<Option<State>, Fault> {
    let state = state(link)?;
    if let Some(state) = &state {
        let trusted = authority.signer.verifier();
        let head = trusted.open(&state.note).map_err(|_| broken("the newest head is not genuine"))?;
        if head.size != state.frontier.size() || head.root != state.frontier.root() {
            return Err(broken("the newest head is not of this tree"));
        }
    }
    Ok(state)
}

/// What there is to seal; none if there is nothing.
pub(super) fn prepare(
    link: &mut Link,
    authority: &Authority,
    state: Option<State>,
    at: i64,
) -> Result<Option<Sealing>, Fault> {
    let State { mut frontier, note: base, recorded: before } =
        state.unwrap_or_else(|| State { frontier: Frontier::default(), note: String::new(), recorded: 0 });
    let from = last(link)?;
    let (found, more) = waiting(link, from)?;
    let size = frontier.size();
    let mut open = match size % BLOCK {
        0 => None,
        over => blocks(link, |sql| {
            sql.push(" WHERE first = ").int(signed(size - over));
        })?
        .pop(),
    };
    if size % BLOCK != open.as_ref().map_or(0, |block| block.leaves.len() as u64) {
        return Err(broken("the last block is not what the head says"));
    }
    let known = leaves(link, authority, &found)?;
    let (mut done, mut index, mut rows) = (Vec::new(), Vec::new(), Vec::with_capacity(found.len()));
    let mut leaves = Vec::with_capacity(MOST);
    for (epoch, key) in found {
        let Some(known) = known.get(&key) else { continue };
        rows.push(key);
        index.extend(known.about.iter().map(|hash| (*hash, key)));
        leaves.extend((key..).zip(&known.hashes).map(|(key, hash)| (epoch, key, *hash)));
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
    let head = Head { origin: ORIGIN.to_owned(), size: frontier.size(), root: frontier.root(), recorded: at };
    let note = authority.signer.sign(&head).map_err(Error::internal)?;
    Ok(Some(Sealing {
        from: size,
        base,
        more,
        blocks: done,
        rows,
        index,
        frontier,
        recorded: at,
        before,
        note,
    }))
}

/// Adds it to the tree, inside the open transaction.
pub(crate) fn write(link: &mut Link, sealing: &Sealing) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        let mut sql = Sql::new(link.dialect, "SELECT pg_advisory_xact_lock(");
        sql.int(LOCK).push(")");
        sql.run(&mut link.connection)?;
    }
    if state(link)?.map_or_else(String::new, |state| state.note) != sealing.base {
        return Err(Error::Conflict { current: 0 }.into());
    }
    link.touched = true;
    for block in &sealing.blocks {
        let (mut last, mut last_epoch) = (0, 0);
        let keys = block.keys.iter().zip(&block.epochs).map(|(key, epoch)| {
            let step = key - std::mem::replace(&mut last, *key);
            match epoch - std::mem::replace(&mut last_epoch, *epoch) {
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
