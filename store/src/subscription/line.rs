//! Subscribers that open a connection themselves and are told over it: to which process they are connected, which
//! alone can tell them.

use std::sync::Arc;

use super::keep::next_stamp;
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

const RELEASE: &str = "UPDATE subscription SET holder = '', until = 0, ";

/// A subscriber comes or goes.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// One comes, for whom it is as long as it is told in the name of that owner; whoever was connected before is not
    /// any more.
    Opened { subscription: i64, owner: String, connection: Arc<str> },
    /// One goes. Who does not come back until then is told no more, and sooner those whose end that is.
    Closed { connection: Arc<str>, until: i64, ends: Vec<(i64, i64)> },
    /// All of a process go.
    Ended { process: Arc<str>, until: i64, ends: Vec<(i64, i64)> },
}

/// Is the subscriber connected to that process? The name of a connection begins with it.
pub(super) fn is_to(sql: &mut Sql<'_>, process: &str) {
    let begin = format!("{process} ");
    sql.push("substr(line, 1, CAST(").int(i64::try_from(begin.chars().count()).unwrap_or(i64::MAX));
    sql.push(" AS INTEGER)) = ").text(begin);
}

/// Of some it may be known when they end, by their numbers; then they are due, if that is before `until`.
fn close(
    link: &mut Link,
    until: i64,
    ends: &[(i64, i64)],
    whose: impl Fn(&mut Sql<'_>),
) -> Result<(), Fault> {
    let sooner = ends.iter().filter(|(_, end)| *end < until).map(|(number, end)| (Some(*number), *end));
    for (one, due) in sooner.chain([(None, until)]) {
        let mut sql = Sql::new(link.dialect, RELEASE);
        sql.push("line = ").text(UNCONNECTED).push(", due = CASE WHEN status = ");
        sql.int(number(SubscriptionStatus::Active)).push(" THEN ").int(due).push(" ELSE due END WHERE ");
        whose(&mut sql);
        if let Some(one) = one {
            sql.push(" AND number = ").int(one);
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Writes it, inside the open transaction; `Conflict` where nobody is told over a connection.
pub(crate) fn write(link: &mut Link, change: &Line, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    match change {
        Line::Opened { subscription, owner, connection } => {
            // Whoever was connected before hears of it.
            let stamp = next_stamp(link)?;
            link.touched = true;
            let mut sql = Sql::new(link.dialect, RELEASE);
            sql.push("tries = 0, failing = 0, error = '', stamp = ").int(stamp);
            sql.push(", line = ").text(&**connection);
            sql.push(", due = ").int(at).push(" WHERE line <> '' AND status IN ");
            sql.ints([SubscriptionStatus::Requested, SubscriptionStatus::Active].map(number));
            sql.push(" AND number = ").int(*subscription).push(" AND owner = ").text(owner.as_str());
            if sql.run(&mut link.connection)? == 0 {
                return Err(Error::Conflict { current: 0 }.into());
            }
        }
        Line::Closed { connection, until, ends } => {
            close(link, *until, ends, |sql| {
                sql.push("line = ").text(connection.to_string());
            })?;
        }
        Line::Ended { process, until, ends } => close(link, *until, ends, |sql| is_to(sql, process))?,
    }
    Ok(())
}

impl Store {
    /// A subscriber is connected, and told over that connection alone from now on: its name begins with the process,
    /// and a space. What is noted is recorded with it.
    ///
    /// # Errors
    /// `Conflict` if the Subscription is of another channel, is told no more, or is another's by now.
    pub async fn connect_subscriber(
        &self,
        context: &Context,
        subscription: &Subscription,
        connection: &Arc<str>,
        notes: Vec<Entry>,
    ) -> Result<(), Error> {
        let (number, owner) = (subscription.number, subscription.owner.clone());
        let line = Line::Opened { subscription: number, owner, connection: Arc::clone(connection) };
        self.write(Unit::connecting(context, line, notes)).await.map(drop)
    }

    /// That connection has ended. Whoever is not connected anew until then is to be told no more; the Subscriptions
    /// whose `ends` are known, by their numbers, are looked at then if that is sooner.
    pub async fn disconnect_subscriber(
        &self,
        context: &Context,
        connection: &Arc<str>,
        until: i64,
        ends: Vec<(i64, i64)>,
    ) -> Result<(), Error> {
        let line = Line::Closed { connection: Arc::clone(connection), until, ends };
        self.write(Unit::connecting(context, line, Vec::new())).await.map(drop)
    }

    /// All connections to a process of that name have ended: that was another one, which is dead.
    pub async fn disconnect_subscribers(
        &self,
        context: &Context,
        process: &Arc<str>,
        until: i64,
        ends: Vec<(i64, i64)>,
    ) -> Result<(), Error> {
        let line = Line::Ended { process: Arc::clone(process), until, ends };
        self.write(Unit::connecting(context, line, Vec::new())).await.map(drop)
    }
}
