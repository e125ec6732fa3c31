//! What is older than the policy says leaves the trail: whole rows, the oldest first, and only as they were
//! sealed. Their leaves stay in the tree, so its heads hold as before; what left is counted and authenticated, so
//! that nobody else's removals pass for it.

use diesel::sql_types::{BigInt, Binary};

use super::act::Act;
use super::authority::Authority;
use super::log::{self, BLOCK, Position, after, in_order, signed};
use super::merkle::Hash;
use super::row::{self, Agents, SELECT, rows};
use super::verify::Sum;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Sql, chunks, lossy};

/// Rows that leave together, at most.
const ROWS: usize = 512;
/// The blocks that these are looked up in.
const BLOCKS: usize = 256;

/// Microseconds. A time in which nothing was sealed counts as so long at most.
const SILENCE: i64 = 7 * 86_400_000_000;

/// What has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retired {
    /// So many events, which were the first of the log.
    pub(super) events: u64,
    /// Where the last one stood.
    pub(super) last: Position,
    /// When the log was last accepted by one of them; 0 if by none.
    pub(super) accepted: i64,
    /// Over what the index still says of them.
    pub(super) sum: Sum,
}

/// Whether something leaves.
#[derive(Debug)]
pub(super) enum Old {
    /// Nothing is so old.
    Nothing,
    /// The row is the oldest, and is not what was sealed.
    Doubted(i64),
    /// These.
    Leaves(Retiring),
}

/// What leaves now.
#[derive(Debug)]
pub(crate) struct Retiring {
    /// The code of what has left before.
    base: i64,
    rows: Vec<i64>,
    after: Retired,
    mac: i64,
    /// How many events.
    pub(super) events: u64,
}

impl Retiring {
    /// The number of the last event that leaves.
    pub(super) fn last(&self) -> i64 {
        self.after.last.1
    }
}

type Numbers = (i64, i64, i64, i64, i64, i64);
type Types = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);

/// What has left this log, as somebody with the key says.
pub(super) fn retired(link: &mut Link, authority: &Authority) -> Result<Option<Retired>, Fault> {
    Ok(kept(link, authority)?.map(|(retired, _)| retired))
}

/// Is that all there is, and nothing that somebody else says?
pub(super) fn is_sound(link: &mut Link, authority: &Authority) -> Result<bool, Fault> {
    let known = usize::from(kept(link, authority)?.is_some());
    let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM audit_retired");
    let rows = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    Ok(rows.is_some_and(|rows| usize::try_from(rows) == Ok(known)))
}

/// The same, and its code.
fn kept(link: &mut Link, authority: &Authority) -> Result<Option<(Retired, i64)>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT events, epoch, key, accepted, sum, mac FROM audit_retired");
    let found = sql.rows::<Types, Numbers>(&mut link.connection)?;
    if found.is_empty() {
        return Ok(None);
    }
    let log = log::leaf(link, 0)?;
    let read = |(events, epoch, key, accepted, sum, mac): Numbers| {
        let events = u64::try_from(events).ok()?;
        let retired = Retired { events, last: (epoch, key), accepted, sum: Sum::from(sum) };
        (code(authority, &retired, log) == mac).then_some((retired, mac))
    };
    Ok(found.into_iter().filter_map(read).max_by_key(|(retired, _)| retired.events))
}

/// The first leaf tells one log from another that was made anew; where nothing has left, it is any log's.
fn code(authority: &Authority, retired: &Retired, log: Option<Hash>) -> i64 {
    let Retired { events, last: (epoch, key), accepted, sum } = retired;
    let log = log.filter(|_| *events > 0).unwrap_or_default();
    let of = [b"retired".as_slice(), &log].concat();
    authority.number(&of, &[signed(*events), *epoch, *key, *accepted, i64::from(*sum)])
}

/// The log begins anew, behind what has left the one before.
pub(super) fn begin_anew(link: &mut Link) -> Result<(), Fault> {
    let Some(authority) = link.authority.clone() else { return Ok(()) };
    let Some(retired) = retired(link, &authority)? else { return Ok(()) };
    let anew = Retired { events: 0, sum: Sum::default(), ..retired };
    put(link, &anew, code(&authority, &anew, None))
}

fn put(link: &mut Link, retired: &Retired, mac: i64) -> Result<(), Fault> {
    link.execute("DELETE FROM audit_retired")?;
    let Retired { events, last: (epoch, key), accepted, sum } = *retired;
    let columns = "INSERT INTO audit_retired (events, epoch, key, accepted, sum, mac) VALUES (";
    let mut sql = Sql::new(link.dialect, columns);
    sql.int(signed(events));
    for number in [epoch, key, accepted, i64::from(sum), mac] {
        sql.push(", ").int(number);
    }
    sql.push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Since when what was recorded is not as old yet as what was recorded `before`, as the signed heads tell: one clock
/// that is years ahead makes a head, and not the years.
fn cutoff(link: &mut Link, authority: &Authority, at: i64, before: i64) -> Result<i64, Fault> {
    let sql = Sql::new(
        link.dialect,
        "SELECT note FROM audit_head WHERE size IN \
         (SELECT MAX(size) FROM audit_head GROUP BY recorded / 86400000000)",
    );
    let trusted = authority.signer.verifier();
    let notes = sql.rows::<Binary, Vec<u8>>(&mut link.connection)?.into_iter();
    let times = notes.filter_map(|note| Some(trusted.open(&lossy(note)).ok()?.recorded));
    let mut times: Vec<i64> = times.filter(|time| *time <= at).collect();
    times.sort_unstable();
    let (mut rest, mut from) = (at.saturating_sub(before), at);
    for time in times.into_iter().rev() {
        let step = (from - time).min(SILENCE);
        if step >= rest {
            return Ok(time + (step - rest));
        }
        (rest, from) = (rest - step, time);
    }
    Ok(if rest <= SILENCE { from - rest } else { i64::MIN })
}

/// The oldest events, if all of their rows were recorded before that time, are in the log before that place, and
/// are what was sealed.
pub(super) fn prepare(
    link: &mut Link,
    authority: &Authority,
    at: i64,
    before: i64,
    place: u64,
) -> Result<Old, Fault> {
    let known = kept(link, authority)?;
    let (base, from) = (known.map_or(0, |(_, mac)| mac), known.map(|(retired, _)| retired.last));
    let nothing = Retired { events: 0, last: (0, 0), accepted: 0, sum: Sum::default() };
    let mut so_far = known.map_or(nothing, |(retired, _)| retired);
    let first = so_far.events;
    let blocks = log::blocks(link, |sql| {
        sql.push(" WHERE first >= ").int(signed(first / BLOCK * BLOCK));
        sql.push(" AND first < ").int(signed(place)).push(" ORDER BY first").limit(BLOCKS);
    })?;
    let leaves = blocks.iter().flat_map(|block| {
        let positions = block.epochs.iter().copied().zip(block.keys.iter().copied());
        (block.first..).zip(positions.zip(block.leaves.iter().copied()))
    });
    let mut leaves = leaves.filter(|(at, _)| (first..place).contains(at)).map(|(_, leaf)| leaf);
    let mut sql = Sql::new(link.dialect, SELECT);
    sql.push(" WHERE 1 = 1");
    if let Some(from) = from {
        after(&mut sql, link.dialect, from);
    }
    in_order(&mut sql, link.dialect);
    sql.limit(ROWS);
    let found = rows(link, &sql)?;
    if found.first().is_none_or(|oldest| oldest.high >= before) {
        return Ok(Old::Nothing);
    }
    let before = cutoff(link, authority, at, before)?.min(before);
    let (mut gone, mut doubted) = (Vec::new(), None);
    for opened in row::open(link, authority, &mut Agents::default(), found)? {
        let sealed: Vec<_> = leaves.by_ref().take(opened.lines.len()).collect();
        if opened.row.high >= before || sealed.len() < opened.lines.len() {
            break;
        }
        let here = opened.keys().map(|key| (opened.row.epoch, key));
        let hashes = opened.lines.iter().map(|line| line.as_ref().map(|(_, hash)| *hash));
        let same = here.zip(hashes).eq(sealed.into_iter().map(|(position, hash)| (position, Some(hash))));
        if !opened.genuine || !same {
            doubted = Some(opened.row.key);
            break;
        }
        so_far.last = (opened.row.epoch, opened.last());
        so_far.events += opened.lines.len() as u64;
        for (event, _) in opened.lines.iter().flatten().filter(|(event, _)| event.act == Act::Accept.number())
        {
            so_far.accepted = so_far.accepted.max(event.at);
        }
        opened.leaves().about.iter().for_each(|hash| so_far.sum.one(authority, *hash, opened.row.key));
        gone.push(opened.row.key);
    }
    if gone.is_empty() {
        return Ok(doubted.map_or(Old::Nothing, Old::Doubted));
    }
    let log = log::leaf(link, 0)?;
    let (mac, events) = (code(authority, &so_far, log), so_far.events - first);
    Ok(Old::Leaves(Retiring { base, rows: gone, after: so_far, mac, events }))
}

/// They leave, inside the open transaction.
pub(crate) fn write(link: &mut Link, retiring: &Retiring) -> Result<(), Fault> {
    log::lock(link)?;
    let Some(authority) = link.authority.clone() else { return Ok(()) };
    if kept(link, &authority)?.map_or(0, |(_, mac)| mac) != retiring.base {
        return Err(Error::Conflict { current: 0 }.into());
    }
    link.touched = true;
    for rows in chunks(&retiring.rows) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM audit WHERE key IN ");
        sql.ints(rows.iter().copied());
        sql.run(&mut link.connection)?;
    }
    put(link, &retiring.after, retiring.mac)
}
