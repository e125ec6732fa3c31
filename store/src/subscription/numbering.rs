//! For whom a change is: each Subscription's events are numbered from 1 without a gap, in the order of the
//! changes.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Bool};

use super::change::{self, Change};
use super::line::UNCONNECTED;
use crate::access::{Access, Sight};
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::reader::{self, Reader};
use crate::record::Effect;
use crate::sql::{Sql, chunks};
use crate::store::{Store, Writer};
use crate::transaction;
use crate::unit::Unit;

/// One process at a time numbers: another number would be another order.
const LOCK: i64 = 0x6175_6775_7279_6e75;

/// A change is for a Subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// [`super::Subscription::number`]
    pub subscription: i64,
    /// [`super::Subscription::stamp`], when that was decided.
    pub stamp: i64,
    /// Which of the changes.
    pub change: usize,
}

/// Of a Subscription, as it was by its stamp, key, effect and time of each event, in order.
type Events = BTreeMap<(i64, i64), Vec<(i64, i64, i64)>>;

/// What was decided of some changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbering {
    places: Vec<i64>,
    events: Events,
}

impl Numbering {
    fn new(changes: &[Change], matches: &[Match]) -> Self {
        let mut events = Events::new();
        let mut matches = matches.to_vec();
        matches.sort_by_key(|one| (one.subscription, one.change));
        matches.dedup();
        for one in matches {
            let Some(change) = changes.get(one.change) else { continue };
            let effect = match change.effect() {
                Effect::Created => 0,
                Effect::Deleted => 2,
                _ => 1,
            };
            events.entry((one.subscription, one.stamp)).or_default().push((
                change.now.key,
                effect,
                change.now.updated,
            ));
        }
        Self { places: changes.iter().map(|change| change.place).collect(), events }
    }
}

/// Writes it, inside the open transaction; `Conflict` if another process did.
pub(crate) fn write(link: &mut Link, numbering: &Numbering, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    for places in chunks(&numbering.places) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM change WHERE place IN ");
        sql.ints(places.iter().copied());
        if sql.run(&mut link.connection)? != places.len() {
            return Err(Error::Conflict { current: 0 }.into());
        }
    }
    let mut rows: Vec<[i64; 5]> = Vec::new();
    for ((subscription, stamp), events) in &numbering.events {
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let mut sql = Sql::new(link.dialect, "UPDATE subscription SET events = events + ");
        // Who waits after a failure goes on waiting.
        sql.int(count).push(", due = CASE WHEN tries = 0 AND due > ").int(at).push(" AND status = ");
        sql.int(super::number(super::SubscriptionStatus::Active))
            .push(" AND line <> ")
            .text(UNCONNECTED)
            .push(" THEN ")
            .int(at)
            .push(" ELSE due END");
        sql.push(" WHERE started AND number = ").int(*subscription).push(" AND stamp = ").int(*stamp);
        sql.push(" RETURNING events");
        let Some(last) = sql.rows::<BigInt, i64>(&mut link.connection)?.pop() else {
            // It may be in another name by now, or ask for something else.
            let mut sql =
                Sql::new(link.dialect, "SELECT number FROM subscription WHERE started AND number = ");
            sql.int(*subscription);
            if sql.rows::<BigInt, i64>(&mut link.connection)?.is_empty() {
                continue;
            }
            return Err(Error::Conflict { current: 0 }.into());
        };
        for (number, (key, effect, at)) in (last - count + 1..).zip(events) {
            rows.push([*subscription, number, *key, *effect, *at]);
        }
    }
    for rows in chunks(&rows) {
        let mut sql =
            Sql::new(link.dialect, "INSERT INTO event (subscription, number, key, effect, at) VALUES ");
        for (n, row) in rows.iter().enumerate() {
            sql.push(if n > 0 { "," } else { "" }).ints(row.iter().copied());
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

impl Store {
    /// Takes queued changes, oldest first; lets `decide` say for whom they are, on one snapshot; numbers
    /// them. Says how many it took; none where another process is at it, or where there are none.
    ///
    /// # Errors
    /// Those of `decide`; `Conflict` if another process was quicker.
    pub async fn number_changes<F>(&self, context: &Context, most: usize, decide: F) -> Result<usize, Error>
    where
        F: FnOnce(&mut Reader<'_>, &[Change]) -> Result<Vec<Match>, Error> + Send + 'static,
    {
        let by = context.clone();
        let mut decide = Some(decide);
        match &self.writer {
            Writer::Lane(_) => {
                let look = move |link: &mut Link| {
                    let Some(decide) = decide.take() else { return Ok(None) };
                    Ok(Some(reader::asked(link, &by, |reader| reader.numbering(most, decide))?))
                };
                let Some(numbering) = self.pool.run(look).await? else { return Ok(0) };
                let count = numbering.places.len();
                if count > 0 {
                    self.write(Unit::numbering(context, numbering)).await?;
                }
                Ok(count)
            }
            Writer::Group(_) => {
                let run = move |link: &mut Link| {
                    transaction::within(link, |link| {
                        let mut sql = Sql::new(link.dialect, "SELECT pg_try_advisory_xact_lock(");
                        sql.int(LOCK).push(")");
                        let free = sql.rows::<Bool, bool>(&mut link.connection)?.pop().unwrap_or_default();
                        let Some(decide) = decide.take().filter(|_| free) else { return Ok(0) };
                        let sight = Sight::of(&Access::Whole);
                        let numbering = Reader::new(link, &sight).numbering(most, decide)?;
                        write(link, &numbering, by.at)?;
                        Ok(numbering.places.len())
                    })
                };
                self.pool.run(run).await
            }
        }
    }
}

impl Reader<'_> {
    fn numbering<F>(&mut self, most: usize, decide: F) -> Result<Numbering, Error>
    where
        F: FnOnce(&mut Self, &[Change]) -> Result<Vec<Match>, Error>,
    {
        let changes = change::waiting(self.link(), most)?;
        if changes.is_empty() {
            return Ok(Numbering::default());
        }
        let matches = decide(self, &changes)?;
        Ok(Numbering::new(&changes, &matches))
    }
}
