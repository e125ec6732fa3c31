//! What is older than the policy says leaves the trail: whole rows, the oldest first, and only as they were
//! sealed. Their leaves stay in the tree, so its heads hold as before; what left is counted and authenticated, so
//! that nobody else's removals pass for it.

use diesel::sql_types::BigInt;

use super::act::Act;
use super::authority::Authority;
use super::log::{self, BLOCK, Position, after, in_order, signed};
use super::row::{self, Agents, SELECT, rows};
use super::verify::Sum;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Sql, chunks};

/// Rows that leave together, at most.
const ROWS: usize = 4096;
/// The blocks that these are looked up in.
const BLOCKS: usize = 256;

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

/// What has left, and its code; none if nothing did, or nobody with the key says so.
pub(super) fn retired(link: &mut Link, authority: &Authority) -> Result<Option<(Retired, i64)>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT events, epoch, key, accepted, sum, mac FROM audit_retired");
    let found = sql.rows::<Types, Numbers>(&mut link.connection)?;
    let read = |(events, epoch, key, accepted, sum, mac): Numbers| {
        let events = u64::try_from(events).ok()?;
        let retired = Retired { events, last: (epoch, key), accepted, sum: Sum::from(sum) };
        (code(authority, &retired) == mac).then_some((retired, mac))
    };
    Ok(found.into_iter().filter_map(read).max_by_key(|(retired, _)| retired.events))
}

fn code(authority: &Authority, Retired { events, last: (epoch, key), accepted, sum }: &Retired) -> i64 {
    authority.number(b"retired", &[signed(*events), *epoch, *key, *accepted, i64::from(*sum)])
}

/// The oldest events, if all of their rows were recorded before that time, are in the log before that place, and
/// are what was sealed.
pub(super) fn prepare(
    link: &mut Link,
    authority: &Authority,
    before: i64,
    place: u64,
) -> Result<Option<Retiring>, Fault> {
    let known = retired(link, authority)?;
    let (mut so_far, base) = known
        .unwrap_or((Retired { events: 0, last: (i64::MIN, i64::MIN), accepted: 0, sum: Sum::default() }, 0));
    let before_these = so_far.events;
    let blocks = log::blocks(link, |sql| {
        sql.push(" WHERE first >= ").int(signed(so_far.events / BLOCK * BLOCK));
        sql.push(" AND first < ").int(signed(place)).push(" ORDER BY first").limit(BLOCKS);
    })?;
    let leaves = blocks.iter().flat_map(|block| {
        let positions = block.epochs.iter().copied().zip(block.keys.iter().copied());
        (block.first..).zip(positions.zip(&block.leaves))
    });
    let mut leaves = leaves
        .filter(|(at, _)| (before_these..place).contains(at))
        .map(|(_, (position, hash))| (position, *hash));
    let mut sql = Sql::new(link.dialect, SELECT);
    sql.push(" WHERE a.high < ").int(before);
    after(&mut sql, link.dialect, so_far.last);
    in_order(&mut sql, link.dialect);
    sql.limit(ROWS);
    let found = rows(link, &sql)?;
    let mut gone = Vec::new();
    for opened in row::open(link, authority, &mut Agents::default(), found)? {
        let epoch = opened.row.epoch;
        let mut here = opened.keys().zip(&opened.lines);
        let sealed = |(key, line): (i64, &Option<(_, _)>)| {
            leaves.next().is_some_and(|(position, hash)| {
                position == (epoch, key) && line.as_ref().is_some_and(|(_, known)| *known == hash)
            })
        };
        if !opened.genuine || !here.all(sealed) {
            break;
        }
        so_far.last = (epoch, opened.last());
        for (event, _) in opened.lines.iter().flatten().filter(|(event, _)| event.act == Act::Accept.number())
        {
            so_far.accepted = so_far.accepted.max(event.at);
        }
        opened.leaves().about.iter().for_each(|hash| so_far.sum.one(*hash, opened.row.key));
        so_far.events += opened.lines.len() as u64;
        gone.push(opened.row.key);
    }
    let mac = code(authority, &so_far);
    let events = so_far.events - before_these;
    Ok((events > 0).then_some(Retiring { base, rows: gone, after: so_far, mac, events }))
}

/// They leave, inside the open transaction.
pub(crate) fn write(link: &mut Link, retiring: &Retiring) -> Result<(), Fault> {
    log::lock(link)?;
    let Some(authority) = link.authority.clone() else { return Ok(()) };
    if retired(link, &authority)?.map_or(0, |(_, mac)| mac) != retiring.base {
        return Err(Error::Conflict { current: 0 }.into());
    }
    link.touched = true;
    for rows in chunks(&retiring.rows) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM audit WHERE key IN ");
        sql.ints(rows.iter().copied());
        sql.run(&mut link.connection)?;
    }
    link.execute("DELETE FROM audit_retired")?;
    let Retired { events, last: (epoch, key), accepted, sum } = retiring.after;
    let mut sql =
        Sql::new(link.dialect, "INSERT INTO audit_retired (events, epoch, key, accepted, sum, mac) VALUES (");
    sql.int(signed(events))
        .push(", ")
        .int(epoch)
        .push(", ")
        .int(key)
        .push(", ")
        .int(accepted)
        .push(", ")
        .int(i64::from(sum));
    sql.push(", ").int(retiring.mac).push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}
