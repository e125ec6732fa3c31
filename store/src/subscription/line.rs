//! Subscribers that open a connection themselves and are told over it: to which process they are connected, which
//! alone can tell them.

use std::sync::Arc;

use super::{Subscription, SubscriptionStatus, number};
use crate::audit::Entry;
use crate::connection::Link;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::sql::Sql;
use crate::store::Store;
use crate::unit::Unit;

/// Stands for a process where there is none.
pub const UNCONNECTED: &str = "-";

/// A subscriber comes or goes.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// One comes, for whom it is as long as it is told in the name of that owner; whoever was connected before is not
    /// any more.
    Opened { subscription: i64, owner: String, process: Arc<str> },
    /// These go, or all of the process. Who does not come back until then is told no more.
    Closed { subscriptions: Option<Vec<i64>>, process: Arc<str>, until: i64 },
}

/// Writes it, inside the open transaction; `Conflict` where nobody is told over a connection.
pub(crate) fn write(link: &mut Link, change: &Line, at: i64) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET holder = '', until = 0, ");
    match change {
        Line::Opened { subscription, owner, process } => {
            link.touched = true;
            sql.push("tries = 0, failing = 0, error = '', line = ").text(&**process);
            sql.push(", due = ").int(at).push(" WHERE line <> '' AND status IN ");
            sql.ints([SubscriptionStatus::Requested, SubscriptionStatus::Active].map(number));
            sql.push(" AND number = ").int(*subscription).push(" AND owner = ").text(owner.as_str());
            if sql.run(&mut link.connection)? == 0 {
                return Err(Error::Conflict { current: 0 }.into());
            }
        }
        Line::Closed { subscriptions, process, until } => {
            sql.push("line = ").text(UNCONNECTED).push(", due = CASE WHEN status = ");
            sql.int(number(SubscriptionStatus::Active)).push(" THEN ").int(*until);
            sql.push(" ELSE due END WHERE line = ").text(&**process);
            if let Some(subscriptions) = subscriptions {
                sql.push(" AND number IN ").ints(subscriptions.iter().copied());
            }
            sql.run(&mut link.connection)?;
        }
    }
    Ok(())
}

impl Store {
    /// A subscriber is connected to `process`, which alone tells it from now on; what is noted is recorded with it.
    ///
    /// # Errors
    /// `Conflict` if the Subscription is of another channel, is told no more, or is another's by now.
    pub async fn connect_subscriber(
        &self,
        context: &Context,
        subscription: &Subscription,
        process: &Arc<str>,
        notes: Vec<Entry>,
    ) -> Result<(), Error> {
        let (number, owner) = (subscription.number, subscription.owner.clone());
        let line = Line::Opened { subscription: number, owner, process: Arc::clone(process) };
        self.write(Unit::connecting(context, line, notes)).await.map(drop)
    }

    /// Subscribers of these Subscriptions, or of all that were connected to `process`, are not any more. Who is
    /// not connected until then is to be told no more.
    pub async fn disconnect_subscribers(
        &self,
        context: &Context,
        subscriptions: Option<Vec<i64>>,
        process: &Arc<str>,
        until: i64,
    ) -> Result<(), Error> {
        let line = Line::Closed { subscriptions, process: Arc::clone(process), until };
        self.write(Unit::connecting(context, line, Vec::new())).await.map(drop)
    }
}
