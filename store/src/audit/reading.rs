//! Looking at the rows of the trail in the log's order: are their events the leaves of its blocks, as they were
//! recorded, and no others?

use std::collections::{BTreeMap, HashMap};

use super::act::Act;
use super::authority::Authority;
use super::log::{Block, Position, after, gap, in_order, is_after, up_to};
use super::merkle::Hash;
use super::retire::Retired;
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
    /// Its leaf, when it was recorded, and whether it says that the log is accepted; none where there is no
    /// event to be read.
    said: Option<(Hash, i64, bool)>,
}

/// A row that this server did not write as it is.
struct Doubted {
    events: i64,
    lines: usize,
    /// What is wrong with it was named.
    named: bool,
}

/// How far the rows were read.
#[derive(Default)]
pub(super) struct Reading {
    agents: Agents,
    /// So many of the first events have left the trail.
    retired: u64,
    from: Option<Position>,
    /// Of the last rows, what belongs to the next block.
    ahead: Vec<Met>,
    doubted: BTreeMap<i64, Doubted>,
    /// The greatest number so far; numbers that are missing, and when the next event was recorded.
    end: i64,
    pub(super) gaps: Vec<(Finding, i64)>,
}

fn met(opened: &Opened) -> impl Iterator<Item = Met> {
    let (epoch, row) = (opened.row.epoch, opened.row.key);
    opened.keys().zip(&opened.lines).map(move |(key, line)| {
        let said = line.as_ref().map(|(event, hash)| (*hash, event.at, event.act == Act::Accept.number()));
        Met { position: (epoch, key), row, said }
    })
}

impl Reading {
    /// These have left the trail.
    pub(super) fn after(retired: &Retired) -> Self {
        Self { retired: retired.events, from: Some(retired.last), end: retired.last.1, ..Self::default() }
    }

    /// Rows that nobody can have left there, before those that follow what has left.
    pub(super) fn before(&mut self, link: &mut Link, verified: &mut Verified) -> Result<(), Fault> {
        let Some(from) = self.from else { return Ok(()) };
        let mut sql = Sql::new(link.dialect, SELECT);
        sql.push(" WHERE 1 = 1");
        up_to(&mut sql, link.dialect, from);
        sql.limit(TOGETHER);
        rows(link, &sql)?.iter().for_each(|row| verified.add(Finding::Inserted(row.key)));
        Ok(())
    }

    /// The rows that are next, up to there at most; none where there are no more.
    fn next(
        &mut self,
        link: &mut Link,
        authority: &Authority,
        to: Option<Position>,
    ) -> Result<Option<Vec<Opened>>, Fault> {
        let mut sql = Sql::new(link.dialect, SELECT);
        sql.push(" WHERE 1 = 1");
        if let Some(from) = self.from {
            after(&mut sql, link.dialect, from);
        }
        if let Some(to) = to {
            up_to(&mut sql, link.dialect, to);
        }
        in_order(&mut sql, link.dialect);
        sql.limit(TOGETHER);
        let found = rows(link, &sql)?;
        let Some(last) = found.last() else { return Ok(None) };
        self.from = Some((last.epoch, last.key));
        Ok(Some(row::open(link, authority, &mut self.agents, found)?))
    }

    /// Are the events of the next block there, as they were, and no others?
    pub(super) fn block(
        &mut self,
        link: &mut Link,
        authority: &Authority,
        block: &Block,
        verified: &mut Verified,
    ) -> Result<(), Fault> {
        let retired = usize::try_from(self.retired.saturating_sub(block.first)).unwrap_or(usize::MAX);
        if retired >= block.leaves.len() {
            return Ok(());
        }
        while let Some(opened) = self.next(link, authority, Some(block.last))? {
            for opened in opened {
                for hash in opened.leaves().about {
                    verified.index.one(authority, hash, opened.row.key);
                }
                self.ahead.extend(met(&opened));
                if !opened.genuine {
                    let (events, lines) = (opened.row.events, opened.lines.len());
                    self.doubted.insert(opened.row.key, Doubted { events, lines, named: false });
                }
            }
        }
        self.from = Some(block.last);
        let mut here: HashMap<i64, Vec<Met>> = HashMap::with_capacity(block.keys.len());
        for one in self.ahead.extract_if(.., |one| !is_after(link.dialect, one.position, block.last)) {
            here.entry(one.position.1).or_default().push(one);
        }
        let mut missing: Vec<i64> = Vec::new();
        let leaves = block.keys.iter().zip(block.epochs.iter().zip(&block.leaves));
        for (key, (epoch, hash)) in leaves.skip(retired) {
            let mut all = here.remove(key).unwrap_or_default();
            let is_it = |one: &Met| {
                one.position.0 == *epoch && one.said.as_ref().is_some_and(|(known, ..)| known == hash)
            };
            let place = all.iter().position(is_it);
            let said = place.and_then(|place| all.get(place)?.said);
            self.goes_on(link.dialect, *key, *key, said.map_or(i64::MAX, |(_, at, _)| at));
            match place {
                Some(place) => {
                    all.swap_remove(place);
                    verified.accepts(said);
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
            let of = of
                .filter(|(row, doubted)| key.saturating_sub(**row) < doubted.events)
                .map_or(key, |(row, _)| *row);
            let is_there = moved.contains_key(&key);
            let finding = if is_there { Finding::Changed(key) } else { Finding::Removed(key) };
            self.name(of, finding, verified);
        }
        Ok(())
    }

    fn goes_on(&mut self, dialect: Dialect, first: i64, last: i64, at: i64) {
        let gap = gap(dialect, &mut self.end, first, last);
        self.gaps.extend(gap.map(|(from, to)| (Finding::Vanished(from, to), at)));
    }

    fn name(&mut self, row: i64, finding: Finding, verified: &mut Verified) {
        if let Some(doubted) = self.doubted.get_mut(&row) {
            doubted.named = true;
        }
        verified.add(finding);
    }

    /// After the last block that could be read: if that was the last, nothing is left over, and of rows that are not
    /// as they were written, though their events are, all may be missed by a search.
    pub(super) fn end(&mut self, dialect: Dialect, whole: bool, verified: &mut Verified) {
        for one in std::mem::take(&mut self.ahead) {
            let key = one.position.1;
            if whole || self.doubted.contains_key(&one.row) {
                self.name(one.row, Finding::Inserted(key), verified);
            } else {
                verified.waiting += 1;
            }
            if !whole {
                self.goes_on(dialect, key, key, one.said.map_or(i64::MAX, |(_, at, _)| at));
            }
        }
        for (row, doubted) in std::mem::take(&mut self.doubted) {
            if !doubted.named {
                (row..=i64::MAX).take(doubted.lines).for_each(|key| verified.add(Finding::Changed(key)));
            }
        }
    }

    /// What is not in the log yet must at least be this server's.
    pub(super) fn waiting(
        &mut self,
        link: &mut Link,
        authority: &Authority,
        verified: &mut Verified,
    ) -> Result<(), Fault> {
        while let Some(opened) = self.next(link, authority, None)? {
            for opened in opened {
                if !opened.genuine {
                    opened.keys().for_each(|key| verified.add(Finding::Inserted(key)));
                    continue;
                }
                verified.waiting += opened.lines.len() as u64;
                self.goes_on(link.dialect, opened.row.key, opened.last(), opened.row.low);
                met(&opened).for_each(|one| verified.accepts(one.said));
            }
        }
        Ok(())
    }
}
