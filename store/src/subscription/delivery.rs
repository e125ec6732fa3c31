//! Who sends what to whom: a Subscription is held by one process at a time, which sends what it does not have
//! yet, in order, and says how far it is.

use std::sync::Arc;

use diesel::sql_types::BigInt;
use fhir::scope::Op;

use super::line::{UNCONNECTED, is_to};
use super::{Subscription, SubscriptionStatus, change, dead_letter, effect, load};
use crate::audit::{Act, Entry};
use crate::connection::Link;
use crate::consent;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::reader::{Reader, is_shown};
use crate::record::{Effect, Stored};
use crate::sql::{Dialect, Sql, chunks};
use crate::store::Store;
use crate::unit::Unit;

/// What is due for so long could have been done by the process that a subscriber is connected to, if there was one.
const DEAD: i64 = 600_000_000;
/// When there is nothing to do.
pub(crate) const NEVER: i64 = i64::MAX;

/// What a Subscription is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counted from 1.
    pub number: i64,
    /// What was done.
    pub effect: Effect,
    /// When, microseconds since 1970 UTC.
    pub at: i64,
    /// The version; none if it may not be seen by whom it is for, or not any more.
    pub stored: Option<Stored>,
}

/// What changed after some stamp.
#[derive(Debug)]
pub struct Changed {
    /// The last stamp there is.
    pub stamp: i64,
    /// The last that a topic was changed with.
    pub topics: i64,
    /// Those that changed.
    pub subscriptions: Vec<Subscription>,
}

/// How far a Subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// [`Subscription::number`]
    pub subscription: i64,
    /// Who sends, as it was said when it was claimed.
    pub holder: Arc<str>,
    /// It has the events up to this one.
    pub delivered: i64,
    /// What comes then.
    pub then: Next,
}

/// What comes after a delivery, or instead of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Something was taken; the same process goes on, and nobody else until then (by [`Store::time`], as all that follow).
    GoOn(i64),
    /// The same process goes on until then, whatever comes of it.
    Hold(i64),
    /// The same process goes on until then, as after [`Next::GoOn`]: an event was put aside that is not taken.
    Bury {
        /// Its number.
        event: i64,
        /// Why; never a patient's data.
        error: String,
        /// And nobody else until then.
        until: i64,
    },
    /// The same: an event that was put aside was taken; or none is left to be sent again.
    Raise {
        /// Its number.
        event: Option<i64>,
        /// And nobody else until then.
        until: i64,
    },
    /// Anybody, when there are more events, or else at that time; none for never.
    Rest(Option<i64>),
    /// Anybody, at that time and not sooner.
    Later(i64),
    /// Nobody: it is not told any more.
    End {
        /// Why; never a patient's data.
        error: String,
        /// When it is looked at again; none for never.
        again: Option<i64>,
    },
    /// It failed; anybody may try again then.
    Fail {
        /// What was sent was taken to be wrong.
        wrong: bool,
        /// When.
        again: i64,
        /// Why; never a patient's data.
        error: String,
    },
}

/// Claims, inside the open transaction, what is due.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) holder: Arc<str>,
    /// What the process is called that claims.
    pub(crate) process: Arc<str>,
    pub(crate) until: i64,
    pub(crate) most: usize,
    pub(crate) failing: bool,
}

pub(crate) fn claim(link: &mut Link, claim: &Claim, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET holder = ");
    sql.text(&*claim.holder).push(", until = ").int(claim.until).push(", due = ").int(claim.until);
    sql.push(" WHERE number IN (SELECT number FROM subscription WHERE ");
    is_due(&mut sql, &claim.process, claim.failing, at);
    sql.push(" ORDER BY due");
    sql.limit(claim.most);
    if link.dialect == Dialect::Postgres {
        sql.push(" FOR UPDATE SKIP LOCKED");
    }
    sql.push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Of the claimed ones that are to begin: whoever wrote without knowing of them has a smaller number than this
/// transaction, which is one of its own, for that reason.
fn set_horizon(link: &mut Link, holder: &str, until: i64) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let mut sql = Sql::new(
        link.dialect,
        "UPDATE subscription SET horizon = CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) WHERE holder = ",
    );
    sql.text(holder.to_owned()).push(" AND until = ").int(until).push(" AND status = ");
    sql.int(super::number(SubscriptionStatus::Requested));
    sql.run(&mut link.connection)?;
    Ok(())
}

/// There is something to do, nobody does it, and this process could.
fn is_due(sql: &mut Sql<'_>, process: &str, failing: bool, at: i64) {
    sql.push("due <= ").int(at).push(" AND until <= ").int(at);
    sql.push(" AND (line IN ").texts(["", UNCONNECTED].map(str::to_owned)).push(" OR ");
    is_to(sql, process);
    // Whoever it was connected to is no more.
    sql.push(" OR due <= ").int(at - DEAD).push(")");
    sql.push(if failing { " AND tries > 0" } else { " AND tries = 0" });
}

/// Writes it, inside the open transaction; `Conflict` if another process sends meanwhile.
pub(crate) fn proceed(link: &mut Link, progress: &Progress, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET delivered = ");
    sql.int(progress.delivered);
    match &progress.then {
        Next::GoOn(until) | Next::Raise { until, .. } => {
            sql.push(", tries = 0, refusals = 0, failing = 0, error = '', until = ")
                .int(*until)
                .push(", due = ")
                .int(*until);
        }
        Next::Hold(until) => {
            sql.push(", until = ").int(*until).push(", due = ").int(*until);
        }
        // It has not taken anything.
        Next::Bury { until, .. } => {
            sql.push(", tries = 0, refusals = 0, until = ").int(*until).push(", due = ").int(*until);
        }
        Next::Rest(due) => {
            sql.push(
                ", tries = 0, refusals = 0, failing = 0, error = '', until = 0, due = CASE WHEN events > ",
            );
            sql.int(progress.delivered).push(" OR again THEN ").int(at).push(" ELSE ");
            sql.int(due.unwrap_or(NEVER)).push(" END");
        }
        Next::Later(due) => {
            sql.push(", until = 0, due = ").int(*due);
        }
        Next::End { error, again } => {
            sql.push(", until = 0, error = ").text(error.as_str());
            sql.push(", due = ").int(again.unwrap_or(NEVER));
        }
        Next::Fail { again, error, wrong } => {
            sql.push(if *wrong { ", refusals = refusals + 1" } else { ", refusals = 0" });
            sql.push(", tries = tries + 1, failing = CASE WHEN failing = 0 THEN ").int(at);
            sql.push(" ELSE failing END, until = 0, error = ")
                .text(error.as_str())
                .push(", due = ")
                .int(*again);
        }
    }
    sql.push(" WHERE number = ").int(progress.subscription).push(" AND holder = ").text(&*progress.holder);
    sql.push(" AND delivered <= ").int(progress.delivered);
    if sql.run(&mut link.connection)? == 0 {
        return Err(Error::Conflict { current: 0 }.into());
    }
    match &progress.then {
        Next::Bury { event, error, .. } => dead_letter::bury(link, progress.subscription, *event, error, at),
        Next::Raise { event: None, .. } => dead_letter::look(link, progress.subscription),
        Next::Raise { event: Some(event), .. } => dead_letter::raise(link, progress.subscription, *event),
        _ => Ok(()),
    }
}

/// Makes Subscriptions due, inside the open transaction, and takes them from those whose names begin so, if there is one.
pub(crate) fn nudge(link: &mut Link, numbers: &[i64], holder: Option<&str>, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    for numbers in chunks(numbers) {
        let mut sql = Sql::new(link.dialect, "UPDATE subscription SET ");
        sql.push(holder.map_or("", |_| "holder = '', until = 0, ")).push("due = ").int(at);
        sql.push(" WHERE due > ").int(at).push(" AND number IN ").ints(numbers.iter().copied());
        if let Some(holder) = holder {
            // Another may have it since these were looked for.
            sql.push(" AND ");
            is_held(&mut sql, holder);
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Somebody has it whose name begins so.
fn is_held(sql: &mut Sql<'_>, name: &str) {
    sql.push("substr(holder, 1, CAST(").int(i64::try_from(name.chars().count()).unwrap_or(i64::MAX));
    sql.push(" AS INTEGER)) = ").text(name.to_owned());
}

/// Events after that number.
fn events(link: &mut Link, subscription: i64, after: i64, most: usize) -> Result<Vec<(Event, i64)>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT number, key, effect, at FROM event WHERE subscription = ");
    sql.int(subscription).push(" AND number > ").int(after).push(" ORDER BY number").limit(most);
    let rows = sql.rows::<(BigInt, BigInt, BigInt, BigInt), (i64, i64, i64, i64)>(&mut link.connection)?;
    let event = |(number, key, done, at)| (Event { number, effect: effect(done), at, stored: None }, key);
    Ok(rows.into_iter().map(event).collect())
}

/// Events with their versions, as far as the one who asks may see them.
pub(super) fn seen(link: &mut Link, asker: &Context, found: Vec<(Event, i64)>) -> Result<Vec<Event>, Fault> {
    let keys: Vec<i64> = found.iter().map(|(_, key)| *key).collect();
    let mut versions = change::versions(link, &keys)?;
    let sight = consent::sight(link, asker)?;
    let mut seen = Vec::with_capacity(found.len());
    for (event, key) in found {
        let mut stored = versions.remove(&key);
        if let Some(version) = &stored
            && !is_shown(link, &sight, Op::Read, version)?
        {
            stored = None;
        }
        seen.push(Event { stored, ..event });
    }
    Ok(seen)
}

impl Store {
    /// Claims Subscriptions for which there is something to do, `most` of them, as `holder`, until that time (by [`Self::time`]):
    /// those that nobody holds, or nobody in time. Of them, those that failed the last time, or the others. Those
    /// whose subscribers are connected are for the `process` that they are connected to.
    pub async fn claim_subscriptions(
        &self,
        context: &Context,
        process: &Arc<str>,
        holder: &Arc<str>,
        until: i64,
        most: usize,
        failing: bool,
    ) -> Result<Vec<Subscription>, Error> {
        let (at, of) = (context.at, Arc::clone(process));
        // Mostly there is nothing, and a claim is a write.
        let any = move |link: &mut Link| {
            let mut sql = Sql::new(link.dialect, "SELECT number FROM subscription WHERE ");
            is_due(&mut sql, &of, failing, link.time(at));
            sql.limit(1);
            Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop())
        };
        if most == 0 || self.pool.run(any).await?.is_none() {
            return Ok(Vec::new());
        }
        let (holder, process) = (Arc::clone(holder), Arc::clone(process));
        let claim = Claim { holder: Arc::clone(&holder), process, until, most, failing };
        self.write(Unit::claiming(context, claim)).await?;
        let by = Arc::clone(&holder);
        let held = move |link: &mut Link| {
            load(link, |sql| {
                sql.push("s.holder = ").text(holder.to_string()).push(" AND s.until = ").int(until);
            })
        };
        let claimed = self.pool.run(held).await?;
        if claimed.iter().any(|one| one.status == SubscriptionStatus::Requested) {
            self.pool.run(move |link| set_horizon(link, &by, until)).await?;
        }
        Ok(claimed)
    }

    /// What is held by those whose names begin so is anybody's: they tell no more.
    pub async fn release_subscriptions(&self, context: &Context, name: &str) -> Result<(), Error> {
        let (holder, at) = (name.to_owned(), context.at);
        let held = move |link: &mut Link| {
            let mut sql = Sql::new(link.dialect, "SELECT number FROM subscription WHERE ");
            is_held(&mut sql, &holder);
            sql.push(" AND until > ").int(link.time(at));
            Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
        };
        let held: Vec<i64> = self.pool.run(held).await?;
        if held.is_empty() {
            Ok(())
        } else {
            self.write(Unit::releasing(context, held, name)).await.map(drop)
        }
    }

    /// Whoever sends is to look at these.
    pub async fn nudge_subscriptions(&self, context: &Context, numbers: Vec<i64>) -> Result<(), Error> {
        self.write(Unit::nudging(context, numbers)).await.map(drop)
    }

    /// Events after that number as the one who asks may see them.
    pub async fn events(
        &self,
        context: &Context,
        subscription: i64,
        after: i64,
        most: usize,
    ) -> Result<Vec<Event>, Error> {
        let asker = context.clone();
        let look = move |link: &mut Link| {
            let found = events(link, subscription, after, most)?;
            seen(link, &asker, found)
        };
        let seen: Vec<Event> = self.pool.run(look).await?;
        let shown = seen.iter().filter_map(|event| event.stored.as_ref());
        context.saw_list(Act::Operation, None, shown.map(|stored| stored.patient.as_str()));
        Ok(seen)
    }

    /// How it stands with Subscriptions of these ids; those that are not known are left out.
    pub async fn subscriptions(&self, ids: Vec<String>) -> Result<Vec<Subscription>, Error> {
        let look = move |link: &mut Link| {
            let mut found = Vec::with_capacity(ids.len());
            for ids in chunks(&ids) {
                found.extend(load(link, |sql| {
                    sql.push("s.id IN ").texts(ids.iter().cloned()).push(" ORDER BY s.number");
                })?);
            }
            Ok(found)
        };
        self.pool.run(look).await
    }

    /// Says how far a Subscription is, and records what was done.
    ///
    /// # Errors
    /// `Conflict` if another process sends to it meanwhile, or it was written: who sent has to stop.
    pub async fn proceed(
        &self,
        context: &Context,
        progress: Progress,
        notes: Vec<Entry>,
    ) -> Result<(), Error> {
        self.recorder.commit(Unit::proceeding(context, progress, notes)).await.map(drop)
    }

    /// What changed after that stamp.
    pub async fn subscriptions_since(&self, since: i64) -> Result<Changed, Error> {
        self.pool.run(move |link| changed(link, since)).await
    }
}

/// What changed after that stamp: more than up to the last, if more changes meanwhile.
fn changed(link: &mut Link, since: i64) -> Result<Changed, Fault> {
    let sql = Sql::new(link.dialect, "SELECT stamp, topics FROM subscription_state");
    let last = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?.pop();
    let (stamp, topics) = last.unwrap_or_default();
    let mut changed = Changed { stamp, topics, subscriptions: Vec::new() };
    if stamp != since {
        changed.subscriptions = load(link, |sql| {
            sql.push("s.stamp > ").int(since).push(" ORDER BY s.stamp");
        })?;
    }
    Ok(changed)
}

impl Reader<'_> {
    /// Which of these versions somebody may see; of one that says a resource was deleted, the one before counts.
    pub fn shown_to(&mut self, context: &Context, versions: &[&Stored]) -> Result<Vec<bool>, Error> {
        let sight = consent::sight(self.link(), context)?;
        versions.iter().map(|version| is_shown(self.link(), &sight, Op::Read, version)).collect()
    }

    /// [`Store::subscriptions_since`]
    pub fn subscriptions_since(&mut self, since: i64) -> Result<Changed, Error> {
        Ok(changed(self.link(), since)?)
    }
}
