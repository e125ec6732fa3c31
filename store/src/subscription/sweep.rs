//! How it stands with all of them, and what has been kept for long enough.

use diesel::sql_types::{BigInt, Nullable};

use super::SubscriptionStatus;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::partition::{self, Part};
use crate::prune::Leaving;
use crate::sql::{Dialect, Sql};
use crate::store::Store;
use crate::transaction;
use crate::unit::Unit;

/// Events that leave in one transaction.
const TOGETHER: usize = 1000;

/// Events that are still waited for and leave their part before it is dropped, at most.
const MOVED: usize = 50_000;

/// Subscriptions that are told of one by one, at most.
const MOST: usize = 10_000;

/// How it stands with all Subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Those that have not answered yet.
    pub requested: i64,
    /// Those that are told.
    pub active: i64,
    /// Of these, those that could not be told the last time.
    pub failing: i64,
    /// Those that are told no more because they could not be.
    pub error: i64,
    /// Events that were not delivered yet.
    pub undelivered: i64,
    /// Events that were put aside, as their endpoints would not take them.
    pub dead: i64,
    /// When the oldest of those that are undelivered happened, microseconds since 1970 UTC.
    pub oldest: Option<i64>,
    /// Those that were not told of everything yet, or failed.
    pub behind: Vec<Behind>,
    /// Changes of which it is not decided for whom they are.
    pub changes: i64,
}

/// A Subscription that was not told of everything yet, or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// [`super::Subscription::number`]
    pub subscription: i64,
    /// So many events it does not have.
    pub undelivered: i64,
    /// It could not be told the last time.
    pub failing: bool,
}

/// Events that leave together.
#[derive(Debug, Clone)]
pub(crate) enum Sweep {
    /// Those of one Subscription, all up to a number, that are no part's.
    Rows { subscription: i64, upto: i64 },
    /// Those of a part of the table.
    Part(Part),
}

/// Where events are that leave row by row: on PostgreSQL those of days that have no part.
fn rest(link: &Link) -> &'static str {
    match link.dialect {
        Dialect::Sqlite => "event",
        Dialect::Postgres => partition::REST,
    }
}

/// Until the open transaction ends, the table before any part of it, as whoever drops one does.
fn hold(link: &mut Link, mode: &str) -> Result<(), Fault> {
    match link.dialect {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => link.execute(&format!("LOCK TABLE ONLY event IN {mode} MODE")),
    }
}

/// Removes them, inside the open transaction, with what was put aside of them.
///
/// # Errors
/// `Conflict` if many of a part's are still to be delivered, or another process was quicker.
pub(crate) fn write(link: &mut Link, sweep: &Sweep) -> Result<(), Fault> {
    let (subscription, upto) = match sweep {
        Sweep::Part(part) => return drop_part(link, part),
        Sweep::Rows { subscription, upto } => (*subscription, *upto),
    };
    hold(link, "ROW EXCLUSIVE")?;
    let mut sql = Sql::new(link.dialect, "DELETE FROM ");
    sql.push(rest(link)).push(" WHERE subscription = ").int(subscription).push(" AND number <= ").int(upto);
    sql.run(&mut link.connection)?;
    let mut sql = Sql::new(link.dialect, "DELETE FROM dead_letter WHERE subscription = ");
    sql.int(subscription).push(" AND number <= ").int(upto);
    sql.push(" AND NOT EXISTS (SELECT 1 FROM event e WHERE e.subscription = dead_letter.subscription");
    sql.push(" AND e.number = dead_letter.number)");
    sql.run(&mut link.connection)?;
    Ok(())
}

/// What is waited for goes where events are that leave row by row: one who can't be told is no reason to keep all.
fn drop_part(link: &mut Link, part: &Part) -> Result<(), Fault> {
    // The table first, as whoever reads or numbers does: then nothing comes into the part, nor is delivered from it.
    link.execute(partition::TURN)?;
    hold(link, "ACCESS EXCLUSIVE")?;
    if !partition::parts(link, "event")?.contains(part) || !is_soon_moved(link, part)? {
        return Err(Error::Conflict { current: 0 }.into());
    }
    let name = &part.name;
    link.execute(&format!("ALTER TABLE event DETACH PARTITION {name}"))?;
    let mut sql = Sql::new(link.dialect, "INSERT INTO event (subscription, number, key, effect, at) ");
    sql.push("SELECT e.subscription, e.number, e.key, e.effect, e.at FROM ");
    waited_for(&mut sql, part);
    sql.run(&mut link.connection)?;
    let has = |table: &str| {
        format!(
            "EXISTS (SELECT 1 FROM {table} e WHERE e.subscription = d.subscription AND e.number = d.number)"
        )
    };
    let (left, moved) = (has(name), has("event"));
    link.execute(&format!("DELETE FROM dead_letter d WHERE {left} AND NOT {moved}; DROP TABLE {name}"))
}

/// Writes the part, as `e`, with what of it is still to be delivered.
fn waited_for(sql: &mut Sql<'_>, part: &Part) {
    sql.push(&part.name)
        .push(" e JOIN subscription s ON s.number = e.subscription AND e.number > s.delivered");
    sql.push(" WHERE s.events > s.delivered AND s.status <> ");
    sql.int(super::number(SubscriptionStatus::Off));
}

/// Are few of its events still to be delivered? All wait while they are moved.
fn is_soon_moved(link: &mut Link, part: &Part) -> Result<bool, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM (SELECT e.number FROM ");
    waited_for(&mut sql, part);
    sql.limit(MOVED + 1).push(") w");
    let many = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    Ok(usize::try_from(many).is_ok_and(|many| many <= MOVED))
}

/// Parts that were over before that, and of whose events few are still to be delivered.
fn old_parts(link: &mut Link, before: i64) -> Result<Vec<Part>, Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    transaction::within(link, |link| {
        // Another process may drop one at any time but while the table is locked.
        hold(link, "ACCESS SHARE")?;
        let mut old = Vec::new();
        for part in partition::parts(link, "event")?.into_iter().filter(|part| part.high <= before) {
            if is_soon_moved(link, &part)? {
                old.push(part);
            }
        }
        Ok(old)
    })
}

/// What of a Subscription was delivered, or can't be any more, and happened before that, or before something that has
/// left: a clock may have been wrong.
fn old(link: &mut Link, subscription: i64, before: i64) -> Result<Option<Sweep>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT MAX(number) FROM (SELECT e.number, e.at, s.events FROM ");
    sql.push(rest(link));
    sql.push(" e JOIN subscription s ON s.number = e.subscription WHERE e.subscription = ");
    sql.int(subscription).push(" AND (e.number <= s.delivered OR s.status = ");
    sql.int(super::number(SubscriptionStatus::Off)).push(") ORDER BY e.number").limit(TOGETHER);
    sql.push(") first WHERE at < ").int(before);
    if link.dialect == Dialect::Postgres {
        sql.push(" OR number < events AND NOT EXISTS (SELECT 1 FROM event n WHERE n.subscription = ");
        sql.int(subscription).push(" AND n.number = first.number + 1)");
    }
    let upto = match link.dialect {
        Dialect::Sqlite => sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?,
        Dialect::Postgres => transaction::within(link, |link| {
            hold(link, "ACCESS SHARE")?;
            Ok(sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?)
        })?,
    };
    let upto = upto.into_iter().next().flatten();
    Ok(upto.map(|upto| Sweep::Rows { subscription, upto }))
}

/// The Subscriptions that may have events that leave row by row.
fn swept(link: &mut Link) -> Result<Vec<i64>, Fault> {
    let mut any = Sql::new(link.dialect, "SELECT e.number FROM ");
    any.push(rest(link)).push(" e LIMIT 1");
    if any.rows::<BigInt, i64>(&mut link.connection)?.is_empty() {
        return Ok(Vec::new());
    }
    let sql = Sql::new(link.dialect, "SELECT number FROM subscription ORDER BY number");
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
}

fn deliveries(link: &mut Link) -> Result<Deliveries, Fault> {
    let sql = Sql::new(
        link.dialect,
        "SELECT status, COUNT(*), CAST(SUM(CASE WHEN tries > 0 THEN 1 ELSE 0 END) AS BIGINT), \
         CAST(SUM(events - delivered) AS BIGINT) FROM subscription GROUP BY status",
    );
    let rows: Vec<(i64, i64, i64, i64)> =
        sql.rows::<(BigInt, BigInt, BigInt, BigInt), (i64, i64, i64, i64)>(&mut link.connection)?;
    let mut all = Deliveries::default();
    for (status, count, failing, undelivered) in rows {
        match super::status(status) {
            SubscriptionStatus::Requested => all.requested = count,
            SubscriptionStatus::Active => (all.active, all.failing) = (count, failing),
            SubscriptionStatus::Error => all.error = count,
            SubscriptionStatus::Off => continue,
        }
        all.undelivered += undelivered;
    }
    let mut sql = Sql::new(
        link.dialect,
        "SELECT number, events - delivered, tries FROM subscription WHERE (events > delivered OR tries > 0) AND status <> ",
    );
    sql.int(super::number(SubscriptionStatus::Off)).push(" ORDER BY number").limit(MOST);
    let behind =
        |(subscription, undelivered, tries)| Behind { subscription, undelivered, failing: tries > 0 };
    let rows = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?;
    all.behind = rows.into_iter().map(behind).collect();
    let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM dead_letter");
    all.dead = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM change");
    all.changes = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    if all.undelivered > 0 {
        let mut sql = Sql::new(
            link.dialect,
            "SELECT MIN(e.at) FROM subscription s JOIN event e ON e.subscription = s.number \
             AND e.number = s.delivered + 1 WHERE s.events > s.delivered AND s.status <> ",
        );
        sql.int(super::number(SubscriptionStatus::Off));
        all.oldest = sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?.pop().flatten();
    }
    Ok(all)
}

impl Store {
    /// How it stands with all Subscriptions.
    pub async fn deliveries(&self) -> Result<Deliveries, Error> {
        self.pool.run(deliveries).await
    }

    /// Drops events that happened before that and are not to be delivered any more, of all Subscriptions.
    ///
    /// # Errors
    /// `Busy` while somebody reads for so long that a part of the table can't be dropped: it and those after it are not.
    pub async fn sweep_events(&self, context: &Context, before: i64) -> Result<(), Error> {
        let mut busy = false;
        for part in self.pool.run(move |link| old_parts(link, before)).await? {
            match self.write(Unit::dropping(context, Leaving::Events(Sweep::Part(part)), Vec::new())).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                // Whoever reads the table is in the way of the others too, and all that is written waits each time.
                Err(Error::Busy) => {
                    busy = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        for subscription in self.pool.run(swept).await? {
            while let Some(sweep) = self.pool.run(move |link| old(link, subscription, before)).await? {
                self.write(Unit::dropping(context, Leaving::Events(sweep), Vec::new())).await?;
            }
        }
        if busy { Err(Error::Busy) } else { Ok(()) }
    }
}
