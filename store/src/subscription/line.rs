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

/// A subscriber comes or goes.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// One comes, for whom it is as long as it is told in the name of that owner; whoever was connected before is not
    /// any more.
    Opened { subscription: i64, owner: String, connection: Arc<str> },
    /// One goes. Who does not come back until then is told no more.
    Closed { connection: Arc<str>, until: i64 },
    /// All of a process go.
    Ended { process: Arc<str>, until: i64 },
}

/// Is the subscriber connected to that process? The name of a connection begins with it.
pub(super) fn is_to(sql: &mut Sql<'_>, process: &str) {
    let begin = format!("{process} ");
    sql.push("substr(line, 1, CAST(").int(i64::try_from(begin.chars().count()).unwrap_or(i64::MAX));
    sql.push(" AS INTEGER)) = ").text(begin);
}

fn close(sql: &mut Sql<'_>, until: i64) {
    sql.push("line = ").text(UNCONNECTED).push(", due = CASE WHEN status = ");
    sql.int(number(SubscriptionStatus::Active)).push(" THEN ").int(until).push(" ELSE due END WHERE ");
}

/// Writes it, inside the open transaction; `Conflict` where nobody is told over a connection.
pub(crate) fn write(link: &mut Link, change: &Line, at: i64) -> Result<(), Fault> {
    let at = link.time(at);
    let begin = "UPDATE subscription SET holder = '', until = 0, ";
    match change {
        Line::Opened { subscription, owner, connection } => {
            // Whoever was connected before hears of it.
            let stamp = next_stamp(link)?;
            link.touched = true;
            let mut sql = Sql::new(link.dialect, begin);
            sql.push("tries = 0, failing = 0, error = '', stamp = ").int(stamp);
            sql.push(", line = ").text(&**connection);
            sql.push(", due = ").int(at).push(" WHERE line <> '' AND status IN ");
            sql.ints([SubscriptionStatus::Requested, SubscriptionStatus::Active].map(number));
            sql.push(" AND number = ").int(*subscription).push(" AND owner = ").text(owner.as_str());
            if sql.run(&mut link.connection)? == 0 {
                return Err(Error::Conflict { current: 0 }.into());
            }
        }
        Line::Closed { connection, until } => {
            let mut sql = Sql::new(link.dialect, begin);
            close(&mut sql, *until);
            sql.push("line = ").text(&**connection);
            sql.run(&mut link.connection)?;
        }
        Line::Ended { process, until } => {
            let mut sql = Sql::new(link.dialect, begin);
            close(&mut sql, *until);
            is_to(&mut sql, process);
            sql.run(&mut link.connection)?;
        }
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

    /// That connection has ended. Whoever is not connected anew until then is to be told no more.
    pub async fn disconnect_subscriber(
        &self,
        context: &Context,
        connection: &Arc<str>,
        until: i64,
    ) -> Result<(), Error> {
        let line = Line::Closed { connection: Arc::clone(connection), until };
        self.write(Unit::connecting(context, line, Vec::new())).await.map(drop)
    }

    /// All connections to a process of that name have ended: that was another one, which is dead.
    pub async fn disconnect_subscribers(
        &self,
        context: &Context,
        process: &Arc<str>,
        until: i64,
    ) -> Result<(), Error> {
        let line = Line::Ended { process: Arc::clone(process), until };
        self.write(Unit::connecting(context, line, Vec::new())).await.map(drop)
    }
}
