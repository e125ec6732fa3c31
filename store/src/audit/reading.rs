//! Looking at the rows of the trail in the log's order: are their events the leaves of its blocks, as they were
//! recorded, and no others?

use std::collections::{BTreeMap, HashMap};

use super::act::Act;
use super::authority::Authority;
use super::log::{Block, Position, after, in_order, up_to};
use super::merkle::Hash;
use super::row::{self, Agents, Opened, SELECT, rows};
use super::verify::{Finding, Verified};
use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};

/// Rows that wait are read so many at a time.
const TOGETHER: usize = 1024;

/// An event that was met.
struct Met {
    position: Position,
    /// The key of its row.
    row: i64,
    /// Its leaf, and when it said that the log is accepted; none where there is no event to be read.
    said: Option<(Hash, Option<i64>)>,
}

/// A row that this server did not write as it is.
struct Doubted {
    events: i64,
    lines: usize,
    /// What is wrong with it was named.
    named: bool,
}

/// How far the rows were read.
pub(super) struct Reading {
    agents: Agents,
    from: Position,
    /// Of the last rows, what belongs to the next block.
    ahead: Vec<Met>,
    doubted: BTreeMap<i64, Doubted>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            agents: Agents::default(),
            from: (i64::MIN, i64::MIN),
            ahead: Vec::new(),
            doubted: BTreeMap::new(),
        }
    }
}

fn met(opened: &Opened) -> impl Iterator<Item = Met> {
    let (epoch, row) = (opened.row.epoch, opened.row.key);
    opened.keys().zip(&opened.lines).map(move |(key, line)| {
        let said = line.as_ref().map(|(event, hash)| {
            let accepted = (event.act == Act::Accept.number()).then_some(event.at);
            (*hash, accepted)
        });
        Met { position: (epoch, key), row, said }
    })
}

impl Reading {
    /// Are the events of the next block there, as they were, and no others?
    pub(super) fn block(
        &mut self,
        link: &mut Link,
        authority: &Authority,
        block: &Block,
        verified: &mut Verified,
    ) -> Result<(), Fault> {
        let mut sql = Sql::new(link.dialect, SELECT);
        sql.push(" WHERE 1 = 1");
        after(&mut sql, link.dialect, self.from);
        up_to(&mut sql, link.dialect, block.last);
        in_order(&mut sql, link.dialect);
        self.from = block.last;
        let found = rows(link, &sql)?;
        for opened in row::open(link, authority, &mut self.agents, found)? {
            for hash in opened.leaves().about {
                verified.index.one(hash, opened.row.key);
            }
            self.ahead.extend(met(&opened));
            if !opened.genuine {
                let (events, lines) = (opened.row.events, opened.lines.len());
                self.doubted.insert(opened.row.key, Doubted { events, lines, named: false });
            }
        }
        let beyond = |(epoch, key): Position| match link.dialect {
            Dialect::Sqlite => key > block.last.1,
            Dialect::Postgres => (epoch, key) > block.last,
        };
        let mut here: HashMap<i64, Vec<Met>> = HashMap::with_capacity(block.keys.len());
        for one in self.ahead.extract_if(.., |one| !beyond(one.position)) {
            here.entry(one.position.1).or_default().push(one);
        }
        let mut missing: Vec<i64> = Vec::new();
        for (key, (epoch, hash)) in block.keys.iter().zip(block.epochs.iter().zip(&block.leaves)) {
            let mut all = here.remove(key).unwrap_or_default();
            let is_it = |one: &Met| {
                one.position.0 == *epoch && one.said.as_ref().is_some_and(|(known, _)| known == hash)
            };
            match all.iter().position(is_it) {
                Some(place) => {
                    let accepted = all.swap_remove(place).said.and_then(|(_, accepted)| accepted);
                    verified.accepted = verified.accepted.max(accepted.unwrap_or_default());
                }
                None if all.is_empty() => missing.push(*key),
                None => self.name(all.swap_remove(0).row, Finding::Changed(*key), verified),
            }
            // It is there twice.
            for one in all {
                self.name(one.row, Finding::Inserted(*key), verified);
            }
        }
        for one in here.into_values().flatten() {
            self.name(one.row, Finding::Inserted(one.position.1), verified);
        }
        // The place of its row may have been changed.
        let moved = row::events(link, &missing)?;
        for key in missing {
            let of = self.doubted.range(..=key).next_back();
            let of = of.filter(|(row, doubted)| key - **row < doubted.events).map_or(key, |(row, _)| *row);
            let is_there = moved.contains_key(&key);
            let finding = if is_there { Finding::Changed(key) } else { Finding::Removed(key) };
            self.name(of, finding, verified);
        }
        Ok(())
    }

    fn name(&mut self, row: i64, finding: Finding, verified: &mut Verified) {
        if let Some(doubted) = self.doubted.get_mut(&row) {
            doubted.named = true;
        }
        verified.add(finding);
    }

    /// After the last block: nothing is left over, and of rows that are not as they were written, though their
    /// events are, all may be missed by a search.
    pub(super) fn end(&mut self, verified: &mut Verified) {
        for one in std::mem::take(&mut self.ahead) {
            self.name(one.row, Finding::Inserted(one.position.1), verified);
        }
        for (row, doubted) in std::mem::take(&mut self.doubted) {
            if !doubted.named {
                (row..).take(doubted.lines).for_each(|key| verified.add(Finding::Changed(key)));
            }
        }
    }

    /// What is not in the log yet must at least be this server's.
    pub(super) fn waiting(
        mut self,
        link: &mut Link,
        authority: &Authority,
        verified: &mut Verified,
    ) -> Result<(), Fault> {
        loop {
            let mut sql = Sql::new(link.dialect, SELECT);
            sql.push(" WHERE 1 = 1");
            after(&mut sql, link.dialect, self.from);
            in_order(&mut sql, link.dialect);
            sql.limit(TOGETHER);
            let found = rows(link, &sql)?;
            let Some(last) = found.last() else { return Ok(()) };
            self.from = (last.epoch, last.key);
            for opened in row::open(link, authority, &mut self.agents, found)? {
                if !opened.genuine {
                    opened.keys().for_each(|key| verified.add(Finding::Inserted(key)));
                    continue;
                }
                verified.waiting += opened.lines.len() as u64;
                let accepted = met(&opened).filter_map(|one| one.said?.1).max().unwrap_or_default();
                verified.accepted = verified.accepted.max(accepted);
            }
        }
    }
}
