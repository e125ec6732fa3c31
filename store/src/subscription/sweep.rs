//! How it stands with all of them, and what has been kept for long enough.

use diesel::sql_types::{BigInt, Nullable};

use super::SubscriptionStatus;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::Sql;
use crate::store::Store;
use crate::unit::Unit;

/// Events that leave in one transaction.
const TOGETHER: usize = 1000;

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

/// Some events of one Subscription, all up to a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    subscription: i64,
    upto: i64,
}

/// Removes them, inside the open transaction.
pub(crate) fn write(link: &mut Link, sweep: Sweep) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "DELETE FROM event WHERE subscription = ");
    sql.int(sweep.subscription).push(" AND number <= ").int(sweep.upto);
    sql.run(&mut link.connection)?;
    let mut sql = Sql::new(link.dialect, "DELETE FROM dead_letter WHERE subscription = ");
    sql.int(sweep.subscription).push(" AND number <= ").int(sweep.upto);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// What of a Subscription was delivered, or can't be any more, and happened before that.
fn old(link: &mut Link, subscription: i64, before: i64) -> Result<Option<Sweep>, Fault> {
    let mut sql = Sql::new(
        link.dialect,
        "SELECT MAX(number) FROM (SELECT e.number, e.at FROM event e JOIN subscription s ON s.number = e.subscription \
         WHERE e.subscription = ",
    );
    sql.int(subscription).push(" AND (e.number <= s.delivered OR s.status = ");
    sql.int(super::number(SubscriptionStatus::Off)).push(") ORDER BY e.number").limit(TOGETHER);
    sql.push(") first WHERE at < ").int(before);
    let upto = sql.rows::<Nullable<BigInt>, Option<i64>>(&mut link.connection)?.pop().flatten();
    Ok(upto.map(|upto| Sweep { subscription, upto }))
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
    pub async fn sweep_events(&self, context: &Context, before: i64) -> Result<(), Error> {
        let all = self
            .pool
            .run(|link| {
                let sql = Sql::new(link.dialect, "SELECT number FROM subscription ORDER BY number");
                Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
            })
            .await?;
        for subscription in all {
            while let Some(sweep) = self.pool.run(move |link| old(link, subscription, before)).await? {
                self.write(Unit::sweeping(context, sweep)).await?;
            }
        }
        Ok(())
    }
}
