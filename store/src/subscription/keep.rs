//! The row of a Subscription follows its resource.

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::json::{Json, Object};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;

use super::delivery::NEVER;
use super::line::UNCONNECTED;
use super::{SubscriptionStatus, change, dead_letter, topic};
use crate::connection::Link;
use crate::draft;
use crate::error::{Error, Fault};
use crate::record::Stored;
use crate::row;
use crate::sql::{Dialect, Sql};
use crate::transaction;

/// Stands for what a header says where it is shown; written, it means what is kept.
const UNSAID: &str = "********";

/// Who writes a Subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By<'a> {
    /// A caller, in whose name it is told from now on.
    Caller(&'a str),
    /// Who sends, who alone decides whether it is active.
    Delivery,
}

/// A version that was written.
pub(crate) struct Kept<'a> {
    pub(crate) id: &'a str,
    pub(crate) version: i64,
    pub(crate) at: i64,
    /// None deletes.
    pub(crate) status: Option<SubscriptionStatus>,
    /// Header lines as they were sent.
    pub(crate) headers: &'a [String],
    /// The subscriber connects, and is not sent to.
    pub(crate) connects: bool,
    /// Where it is sent to.
    pub(crate) endpoint: Option<&'a str>,
}

type Before = (i64, i64, bool, String);

/// What a caller asks for: who wants it to be active requests that.
pub(crate) fn requested(resource: &mut Json<'_>) {
    let Some(object) = resource.as_object_mut() else { return };
    if object.get("status").and_then(Json::as_str) == Some(SubscriptionStatus::Active.code()) {
        object.set(0, "status", Json::String(SubscriptionStatus::Requested.code().into()));
    }
}

/// What a version says of its status.
pub(crate) fn status(resource: &Json<'_>) -> Result<SubscriptionStatus, Error> {
    let said = resource.text("status").and_then(SubscriptionStatus::parse);
    said.ok_or_else(|| {
        Issue::error("required", "a Subscription has a status").at("Subscription.status").into()
    })
}

/// Takes the header lines out, and leaves their names.
pub(crate) fn conceal(resource: &mut Json<'_>) -> Vec<String> {
    let channel = resource.as_object_mut().and_then(|object| object.get_mut("channel"));
    let Some(Json::Array(lines)) =
        channel.and_then(Json::as_object_mut).and_then(|channel: &mut Object<'_>| channel.get_mut("header"))
    else {
        return Vec::new();
    };
    let mut taken = Vec::with_capacity(lines.len());
    for line in lines {
        let Some(text) = line.as_str() else { continue };
        let (name, _) = text.split_once(':').unwrap_or((text, ""));
        let shown = format!("{}: {UNSAID}", name.trim());
        taken.push(text.to_owned());
        *line = Json::String(shown.into());
    }
    taken
}

/// Do these lines say anything that is not kept already?
pub(crate) fn says_more(headers: &[String]) -> bool {
    headers.iter().any(|line| split(line).1 != UNSAID)
}

fn split(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.trim(), value.trim())
}

/// What is sent, where some of it is what was kept.
fn resolved(before: &[String], headers: &[String], elsewhere: bool) -> Result<Vec<String>, Error> {
    let kept: HashMap<String, &String> =
        before.iter().map(|line| (split(line).0.to_ascii_lowercase(), line)).collect();
    let mut lines = Vec::with_capacity(headers.len());
    for (n, line) in headers.iter().enumerate() {
        let wrong =
            |why: &'static str| Issue::error("value", why).at(format!("Subscription.channel.header[{n}]"));
        let (name, value) = split(line);
        if line.contains(char::is_control) {
            // It would be more lines than one, to whoever it is sent to.
            return Err(wrong("a header is one line").into());
        }
        if headers.iter().take(n).any(|other| split(other).0.eq_ignore_ascii_case(name)) {
            // Asterisks could not say which of them they stand for.
            return Err(wrong("each header is named once").into());
        }
        if value != UNSAID {
            lines.push(line.clone());
        } else if elsewhere {
            // Who may change a Subscription need not be one who may know what is sent with it.
            let why =
                "asterisks stand for a value that is kept for the endpoint before: say it to another anew";
            return Err(wrong(why).into());
        } else if let Some(line) = kept.get(&name.to_ascii_lowercase()) {
            lines.push((*line).clone());
        } else {
            return Err(wrong("asterisks stand for a value that is kept, and of this header none is").into());
        }
    }
    Ok(lines)
}

/// The next stamp; who else wants one waits until this transaction has ended.
pub(super) fn next_stamp(link: &mut Link) -> Result<i64, Fault> {
    stamped(link, "UPDATE subscription_state SET stamp = stamp + 1 RETURNING stamp")
}

fn stamped(link: &mut Link, sql: &'static str) -> Result<i64, Fault> {
    link.queued = true;
    let sql = Sql::new(link.dialect, sql);
    let stamp = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    stamp.ok_or_else(|| Fault::Database("subscription_state has no row".into()))
}

/// What topics there are is no longer what it was: all Subscriptions are to be read anew.
///
/// # Errors
/// `Unkept` if one of these is another one already.
pub(crate) fn renew(link: &mut Link, written: &[&Stored]) -> Result<(), Fault> {
    stamped(link, "UPDATE subscription_state SET stamp = stamp + 1, topics = stamp + 1 RETURNING stamp")?;
    topic::only(link, written)
}

/// Does a Basic say, or did it, when there is something to tell of?
pub(crate) fn is_topic(body: &str) -> bool {
    body.contains("SubscriptionTopic")
}

/// Makes the row what the version says.
pub(crate) fn keep(link: &mut Link, kept: &Kept<'_>, by: By<'_>) -> Result<(), Fault> {
    let stamp = next_stamp(link)?;
    let mut sql =
        Sql::new(link.dialect, "SELECT number, status, started, headers FROM subscription WHERE id = ");
    sql.text(kept.id);
    let before = sql.rows::<(BigInt, BigInt, Bool, Text), Before>(&mut link.connection)?.pop();
    match (kept.status, by, before) {
        (None, _, before) => match before {
            Some((number, ..)) => {
                dead_letter::forget(link, number)?;
                change_row(link, number, stamp, |sql| {
                    sql.push(", started = ")
                        .bool(false)
                        .push(", headers = '', owner = '', holder = '', until = 0, line = ''");
                    // Whoever makes one of that id again may be somebody else.
                    sql.push(", generation = generation + 1, rotated = 0");
                    sql.push(", status = ")
                        .int(super::number(SubscriptionStatus::Off))
                        .push(", again = ")
                        .bool(false)
                        .push(", refusals = 0, due = ")
                        .int(NEVER);
                })
            }
            None => Ok(()),
        },
        (Some(status), By::Delivery, Some((number, ..))) => {
            if status == SubscriptionStatus::Active {
                after_all_before_it(link, number)?;
            }
            change_row(link, number, stamp, |sql| {
                sql.push(", status = ").int(super::number(status));
                match status {
                    SubscriptionStatus::Active => {
                        sql.push(", started = ").bool(true);
                    }
                    SubscriptionStatus::Off => {
                        sql.push(", started = ").bool(false).push(", due = ").int(NEVER);
                    }
                    SubscriptionStatus::Requested | SubscriptionStatus::Error => {}
                }
            })
        }
        (Some(_), By::Delivery, None) => Err(Error::Conflict { current: 0 }.into()),
        (Some(status), By::Caller(owner), before) => asked(link, kept, status, owner, stamp, before.as_ref()),
    }
}

/// Where the version before was sent to, which lies in the history by now.
fn endpoint_before(link: &mut Link, kept: &Kept<'_>) -> Result<Option<String>, Fault> {
    let before = row::earlier(link, ResourceType::SUBSCRIPTION, kept.id, kept.version - 1)?;
    let Some(before) = before.filter(|before| !before.deleted) else { return Ok(None) };
    let resource = draft::parse(&before.body)?;
    Ok(resource.get("channel").and_then(|channel| channel.text("endpoint")).map(str::to_owned))
}

fn asked(
    link: &mut Link,
    kept: &Kept<'_>,
    status: SubscriptionStatus,
    owner: &str,
    stamp: i64,
    before: Option<&Before>,
) -> Result<(), Fault> {
    let register = link.register.clone();
    let register = register.ok_or_else(|| Fault::Database("a connection that can't seal".into()))?;
    let sealed = before.map_or("", |(.., headers)| headers.as_str());
    let keeps = kept.headers.iter().any(|line| split(line).1 == UNSAID);
    let elsewhere = keeps && !sealed.is_empty() && endpoint_before(link, kept)?.as_deref() != kept.endpoint;
    let said = resolved(&register.vault.open(kept.id, sealed).unwrap_or_default(), kept.headers, elsewhere)?;
    let headers = register.vault.seal(kept.id, &said)?;
    // Who sends looks at what is in error too, and when it is to be off.
    let looked_at = matches!(status, SubscriptionStatus::Requested | SubscriptionStatus::Error);
    let due = if looked_at { link.time(kept.at) } else { NEVER };
    let since = change::last(link)?;
    let connected = if kept.connects { UNCONNECTED } else { "" };
    let Some(&(number, was, started, _)) = before else {
        let mut sql = Sql::new(
            link.dialect,
            "INSERT INTO subscription (id, stamp, status, started, since, horizon, owner, headers, events, \
             delivered, due, tries, failing, holder, until, error, generation, rotated, line, again, refusals) VALUES (",
        );
        sql.text(kept.id).push(",").int(stamp).push(",").int(super::number(status)).push(",").bool(false);
        sql.push(",").int(since).push(",0,").text(owner).push(",").text(headers.as_str());
        sql.push(",0,0,")
            .int(due)
            .push(",0,0,'',0,'',1,0,")
            .text(connected)
            .push(",")
            .bool(false)
            .push(",0)");
        sql.run(&mut link.connection)?;
        return Ok(());
    };
    let goes_on =
        started && was != super::number(SubscriptionStatus::Off) && status != SubscriptionStatus::Off;
    if !goes_on {
        dead_letter::forget(link, number)?;
    }
    change_row(link, number, stamp, |sql| {
        sql.push(", status = ").int(super::number(status)).push(", owner = ").text(owner.to_owned());
        sql.push(", headers = ").text(headers).push(", due = ").int(due);
        // Who sends at present has what was asked before.
        sql.push(", tries = 0, refusals = 0, failing = 0, holder = '', until = 0, error = '', started = ")
            .bool(goes_on);
        // Who was connected was so by what was asked before.
        sql.push(", line = ").text(connected);
        if !goes_on {
            sql.push(", delivered = events, again = ").bool(false).push(", since = ").int(since);
        }
    })
}

fn change_row<'a>(
    link: &mut Link,
    number: i64,
    stamp: i64,
    what: impl FnOnce(&mut Sql<'a>),
) -> Result<(), Fault> {
    let mut sql = Sql::new(link.dialect, "UPDATE subscription SET stamp = ");
    sql.int(stamp);
    what(&mut sql);
    sql.push(" WHERE number = ").int(number);
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Whoever wrote without knowing of the Subscription has to be done before it is called active: what is
/// written from then on is told.
///
/// # Errors
/// `Busy` while somebody is not; to be tried again.
fn after_all_before_it(link: &mut Link, number: i64) -> Result<(), Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(());
    }
    // A number that is yet to come is of another cluster, out of which the database was brought here.
    let mut sql = Sql::new(link.dialect, "SELECT 1::bigint FROM subscription WHERE horizon > ");
    sql.int(transaction::ended_before(link)?);
    sql.push(" AND horizon <= CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) AND number = ").int(number);
    if sql.rows::<BigInt, i64>(&mut link.connection)?.is_empty() {
        return Ok(());
    }
    Err(Error::Busy.into())
}
