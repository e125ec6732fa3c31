//! Events that an endpoint would not take again and again: they are put aside, so that those behind them go on, until
//! somebody asks for them to be sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::sql_types::{BigInt, Text};
use fhir::outcome::Issue;

use super::delivery::{Event, seen};
use super::line::UNCONNECTED;
use super::rotation::may_change;
use super::{SubscriptionStatus, effect, number};
use crate::access::Sight;
use crate::audit::Act;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::{Sql, chunks};
use crate::store::Store;
use crate::unit::Unit;

/// An event that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub event: Event,
    /// Since when, microseconds since 1970 UTC.
    pub since: i64,
    /// Why; never a patient's data.
    pub error: String,
    /// It is to be sent again.
    pub again: bool,
}

/// Somebody wants these events of a Subscription to be sent again, or all.
#[derive(Debug, Clone)]
pub(crate) struct Again {
    pub(crate) id: String,
    pub(crate) numbers: BTreeSet<i64>,
    /// How many that are.
    pub(crate) count: Arc<AtomicUsize>,
}

/// Puts an event aside, inside the open transaction.
pub(super) fn bury(
    link: &mut Link,
    subscription: i64,
    event: i64,
    error: &str,
    at: i64,
) -> Result<(), Fault> {
    let mut sql =
        Sql::new(link.dialect, "INSERT INTO dead_letter (subscription, number, at, error, again) VALUES (");
    sql.int(subscription).push(",").int(event).push(",").int(at).push(",").text(error.to_owned());
    sql.push(",").bool(false).push(") ON CONFLICT (subscription, number) DO UPDATE SET at = excluded.at, ");
    sql.push("error = excluded.error, again = excluded.again");
    sql.run(&mut link.connection)?;
    Ok(())
}

/// It was taken after all.
pub(super) fn raise(link: &mut Link, subscription: i64, event: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "DELETE FROM dead_letter WHERE subscription = ");
    sql.int(subscription).push(" AND number = ").int(event);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// What was put aside was for what it was before.
pub(super) fn forget(link: &mut Link, subscription: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "DELETE FROM dead_letter WHERE subscription = ");
    sql.int(subscription);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Is anything of it to be sent again? A statement of its own: what waits for a lock does not see what it waited for.
pub(super) fn look(link: &mut Link, subscription: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "UPDATE subscription SET again = EXISTS (SELECT 1 FROM dead_letter WHERE again AND subscription = ",
    );
    sql.int(subscription).push(") WHERE number = ").int(subscription);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Only for who may change the Subscription, which has to be active.
pub(crate) fn again(link: &mut Link, sight: &Sight, again: &Again, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    may_change(link, sight, &again.id)?;
    link.touched = true;
    // Whoever sends waits from here on, and finds what is asked for.
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET again = again WHERE id = ");
    sql.text(again.id.clone()).push(" AND status = ").int(number(SubscriptionStatus::Active));
    let Some(subscription) = sql.push(" RETURNING number").rows::<BigInt, i64>(&mut link.connection)?.pop()
    else {
        return Err(Error::Conflict { current: 0 }.into());
    };
    let mut ask = |numbers: Option<&[i64]>| {
        let mut sql = Sql::new(link.dialect, "UPDATE dead_letter SET again = ");
        sql.bool(true).push(" WHERE subscription = ").int(subscription);
        if let Some(numbers) = numbers {
            sql.push(" AND number IN ").ints(numbers.iter().copied());
        }
        sql.push(" RETURNING number").rows::<BigInt, i64>(&mut link.connection)
    };
    let asked: Vec<i64> = again.numbers.iter().copied().collect();
    let mut found = BTreeSet::new();
    if asked.is_empty() {
        found.extend(ask(None)?);
    }
    for numbers in chunks(&asked) {
        found.extend(ask(Some(numbers))?);
    }
    if let Some(other) = asked.iter().find(|number| !found.contains(*number)) {
        let why = format!("event {other} is no dead letter of this Subscription: nothing is sent again");
        return Err(Error::from(Issue::error("not-found", why)).into());
    }
    again.count.store(found.len(), Ordering::Relaxed);
    if found.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET again = ");
    sql.bool(true).push(", due = CASE WHEN until > ").int(at).push(" OR line = ");
    sql.text(UNCONNECTED).push(" THEN due ELSE ").int(at).push(" END WHERE number = ").int(subscription);
    sql.run(&mut link.connection)?;
    Ok(())
}

type Row = (i64, i64, i64, i64, i64, String, bool);

impl Store {
    /// What was put aside of a Subscription, in order, as the one who asks may see it: all, or what is to be sent
    /// again.
    pub async fn dead_letters(
        &self,
        context: &Context,
        subscription: i64,
        again: bool,
        most: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let asker = context.clone();
        let look = move |link: &mut Link| {
            let mut sql = Sql::new(
                link.dialect,
                "SELECT d.number, e.key, e.effect, e.at, d.at, d.error, d.again FROM dead_letter d \
                 JOIN event e ON e.subscription = d.subscription AND e.number = d.number WHERE d.subscription = ",
            );
            sql.int(subscription);
            if again {
                sql.push(" AND d.again = ").bool(true);
            }
            sql.push(" ORDER BY d.number").limit(most);
            let rows = sql
                .rows::<(BigInt, BigInt, BigInt, BigInt, BigInt, Text, diesel::sql_types::Bool), Row>(
                    &mut link.connection,
                )?;
            let (mut events, mut rest) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            for (number, key, done, at, since, error, again) in rows {
                events.push((Event { number, effect: effect(done), at, stored: None }, key));
                rest.push((since, error, again));
            }
            let events = seen(link, &asker, events)?;
            let letter = |(event, (since, error, again))| DeadLetter { event, since, error, again };
            Ok(events.into_iter().zip(rest).map(letter).collect::<Vec<_>>())
        };
        let seen: Vec<DeadLetter> = self.pool.run(look).await?;
        let shown = seen.iter().filter_map(|letter| letter.event.stored.as_ref());
        context.saw_list(Act::Operation, None, shown.map(|stored| stored.patient.as_str()));
        Ok(seen)
    }

    /// Has these events sent again that were put aside, or all of them; says how many that are.
    ///
    /// # Errors
    /// `NotFound` or `Denied` if the caller may not change the Subscription; `Conflict` if it is not active; `Invalid`
    /// if one of them was not put aside: then none is sent.
    pub async fn redeliver(
        &self,
        context: &Context,
        id: &str,
        numbers: BTreeSet<i64>,
    ) -> Result<usize, Error> {
        let count = Arc::new(AtomicUsize::new(0));
        let again = Again { id: id.to_owned(), numbers, count: Arc::clone(&count) };
        self.write(Unit::redelivering(context, again)).await?;
        Ok(count.load(Ordering::Relaxed))
    }
}
