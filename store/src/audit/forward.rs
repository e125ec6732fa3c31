//! Who the events are sent to. The sealed log is the outbox: its leaves stand in one order for ever, so of a
//! receiver nothing has to be known but how many of them it has.

use std::fmt::Write as _;

use diesel::sql_types::{BigInt, Text};

use super::find::stored;
use super::log::{self, BLOCK, number, signed};
use super::merkle::leaf;
use super::retire;
use super::row::{self, Found};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::record::Stored;
use crate::sql::Sql;

/// An event on its way to others.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Its place in the log, from 0.
    pub index: u64,
    /// What it is known by besides its id, which another event may have had before a database was put back:
    /// the beginning of its hash.
    pub mark: String,
    /// The event as a resource.
    pub event: Stored,
}

/// Events that follow each other in the log.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In their order; what was changed or removed is not among them.
    pub events: Vec<Leaving>,
    /// The place after the last that was looked at.
    pub end: u64,
}

/// How far a receiver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What it is called.
    pub name: String,
    /// So many events of the log it has.
    pub delivered: u64,
    /// So many it does not have yet.
    pub waiting: u64,
    /// When the oldest of these was recorded.
    pub oldest: Option<i64>,
}

/// What changes about a receiver.
#[derive(Debug, Clone)]
pub(crate) enum Forwarding {
    /// This process sends to it until then, by [`crate::Store::time`].
    Claim { name: String, holder: String, until: i64 },
    /// It has the events before this place; who sent them still sends.
    Move { name: String, holder: String, from: u64, to: u64 },
    /// Another process may send.
    Release { name: String, holder: String },
    /// The log is another one, or is to be made anew: every receiver gets all of it.
    Again { anew: bool },
}

/// Writes it, inside the open transaction; `Conflict` if another process sends to the receiver.
pub(crate) fn write(link: &mut Link, forwarding: &Forwarding, at: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "");
    match forwarding {
        Forwarding::Claim { name, holder, until } => {
            sql.push("INSERT INTO audit_destination (name, delivered, mac, holder, until) VALUES (");
            sql.text(name.as_str()).push(", 0, 0, ").text(holder.as_str()).push(", ").int(*until);
            sql.push(") ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until ");
            sql.push("WHERE audit_destination.holder = excluded.holder OR audit_destination.until < ")
                .int(link.time(at));
        }
        Forwarding::Move { name, holder, from, to } => {
            let mac = receipt(link, name, signed(*to))?;
            sql.push("UPDATE audit_destination SET delivered = ").int(signed(*to)).push(", mac = ").int(mac);
            sql.push(" WHERE name = ").text(name.as_str()).push(" AND holder = ").text(holder.as_str());
            sql.push(" AND delivered = ").int(signed(*from));
        }
        Forwarding::Release { name, holder } => {
            sql.push("UPDATE audit_destination SET until = 0 WHERE name = ").text(name.as_str());
            sql.push(" AND holder = ").text(holder.as_str());
        }
        Forwarding::Again { anew } => {
            if *anew {
                log::forget(link)?;
            }
            // Whoever sends has it counted from the beginning.
            sql.push("UPDATE audit_destination SET delivered = 0, mac = 0");
        }
    }
    let touched = sql.run(&mut link.connection)?;
    link.touched |= touched > 0;
    match forwarding {
        Forwarding::Claim { .. } | Forwarding::Move { .. } if touched == 0 => {
            Err(Error::Conflict { current: 0 }.into())
        }
        Forwarding::Claim { name, .. } => count(link, name),
        _ => Ok(()),
    }
}

/// The code of how many events a receiver has, and of the last of them: another log has another.
fn receipt(link: &mut Link, name: &str, delivered: i64) -> Result<i64, Fault> {
    let Some(authority) = link.authority.clone() else { return Ok(0) };
    let last = match u64::try_from(delivered.saturating_sub(1)) {
        Ok(last) => log::leaf(link, last)?,
        Err(_) => None,
    };
    let of = [b"receipt ", name.as_bytes(), &last.unwrap_or_default()].concat();
    Ok(authority.number(&of, &[delivered]))
}

/// What is counted is believed only if one of these processes counted it; else it begins again.
fn count(link: &mut Link, name: &str) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT delivered, mac FROM audit_destination WHERE name = ");
    sql.text(name);
    let found = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?.pop();
    let Some((delivered, mac)) = found.filter(|(delivered, _)| *delivered != 0) else { return Ok(()) };
    if receipt(link, name, delivered)? == mac {
        return Ok(());
    }
    tracing::error!(to = name, "how many events it has was changed by somebody else: all are sent again");
    let mut sql = Sql::new(link.dialect, "UPDATE audit_destination SET delivered = 0 WHERE name = ");
    sql.text(name);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// How many events a receiver has.
pub(super) fn delivered(link: &mut Link, name: &str) -> Result<u64, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT delivered FROM audit_destination WHERE name = ");
    sql.text(name);
    number(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
}

/// All receivers that were ever sent to.
pub(super) fn destinations(link: &mut Link) -> Result<Vec<Destination>, Fault> {
    let size = log::size(link)?;
    let sql = Sql::new(link.dialect, "SELECT name, delivered, mac FROM audit_destination ORDER BY name");
    let all = sql.rows::<(Text, BigInt, BigInt), (String, i64, i64)>(&mut link.connection)?;
    let mut destinations = Vec::with_capacity(all.len());
    for (name, delivered, mac) in all {
        let delivered = if receipt(link, &name, delivered)? == mac { number(delivered)? } else { 0 };
        let next = batch(link, delivered, 1)?.events.pop();
        let (waiting, oldest) = (size.saturating_sub(delivered), next.map(|next| next.event.updated));
        destinations.push(Destination { name, delivered, waiting, oldest });
    }
    Ok(destinations)
}

/// The events from a place in the log on.
pub(super) fn batch(link: &mut Link, from: u64, most: usize) -> Result<Batch, Fault> {
    // What has left the trail can't be sent any more.
    let retired = match link.authority.clone() {
        Some(authority) => retire::retired(link, &authority)?.map_or(0, |retired| retired.events),
        None => 0,
    };
    let from = from.max(retired);
    let blocks = log::blocks(link, |sql| {
        sql.push(" WHERE first >= ").int(signed(from / BLOCK * BLOCK)).push(" ORDER BY first");
        sql.limit(most.div_ceil(256) + 1);
    })?;
    let leaves = blocks
        .into_iter()
        .flat_map(|block| (block.first..).zip(block.keys.into_iter().zip(block.leaves)).collect::<Vec<_>>());
    let wanted: Vec<_> = leaves.filter(|(index, _)| *index >= from).take(most).collect();
    let keys: Vec<i64> = wanted.iter().map(|(_, (key, _))| *key).collect();
    let mut found = row::events(link, &keys)?;
    let mut batch = Batch { events: Vec::with_capacity(wanted.len()), end: from };
    for (index, (key, hash)) in wanted {
        batch.end = index + 1;
        let genuine = |one: &Found| leaf(&one.canonical()) == hash;
        let Some(one) = found.remove(&key).filter(genuine) else {
            tracing::error!(audit = key, "an event is not what was recorded, and is not sent");
            continue;
        };
        let mut mark = String::with_capacity(16);
        for byte in hash.iter().take(8) {
            let _ = write!(mark, "{byte:02x}");
        }
        batch.events.push(Leaving { index, mark, event: stored(link, one) });
    }
    Ok(batch)
}
