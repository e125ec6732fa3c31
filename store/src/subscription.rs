//! Subscriptions: who is told of what, from the change to its delivery
//! (<https://hl7.org/fhir/R4/subscription.html>).
//!
//! A version that somebody may be to be told of is queued in the transaction that writes it (`change`). One
//! process at a time decides for whom it is, and numbers it for each (`numbering`). Whoever holds a
//! Subscription sends it what it does not have yet, in order (`delivery`). The row of a Subscription follows
//! its resource (`keep`).

pub(crate) mod change;
pub(crate) mod dead_letter;
pub(crate) mod delivery;
pub(crate) mod keep;
pub(crate) mod line;
pub(crate) mod numbering;
pub(crate) mod rotation;
pub(crate) mod sweep;
mod topic;
mod vault;

use std::sync::{Arc, PoisonError, RwLock};

use diesel::sql_types::{BigInt, Bool, Text};
use fhir::resource_type::ResourceType;
use fhir::search::Index;
pub use fhir::subscription::SubscriptionStatus;
use tokio::sync::Notify;

pub use self::change::Change;
pub use self::dead_letter::DeadLetter;
pub use self::delivery::{Changed, Event, Next, Progress};
pub use self::line::UNCONNECTED;
pub use self::numbering::Match;
pub use self::rotation::Rotate;
pub use self::sweep::{Behind, Deliveries};
use self::vault::Vault;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::record::Effect;
use crate::sql::Sql;

/// What stands for a status in the database.
pub(crate) fn number(status: SubscriptionStatus) -> i64 {
    match status {
        SubscriptionStatus::Requested => 0,
        SubscriptionStatus::Active => 1,
        SubscriptionStatus::Error => 2,
        SubscriptionStatus::Off => 3,
    }
}

fn status(number: i64) -> SubscriptionStatus {
    match number {
        0 => SubscriptionStatus::Requested,
        1 => SubscriptionStatus::Active,
        2 => SubscriptionStatus::Error,
        _ => SubscriptionStatus::Off,
    }
}

/// A Subscription and how it stands with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its number, which no other one ever gets.
    pub number: i64,
    /// Id of the resource.
    pub id: String,
    /// Grows with each change of what it asks for.
    pub stamp: i64,
    /// Its status.
    pub status: SubscriptionStatus,
    /// It was active since it last was off: its events are numbered.
    pub started: bool,
    /// [`Change::place`] of the last change that is not for it.
    pub since: i64,
    /// In whose name it is told: [`crate::Context::mandate`] of who wrote it.
    pub owner: String,
    /// Header lines that its endpoint gets.
    pub headers: Vec<String>,
    /// So many events it has.
    pub events: i64,
    /// So many of them were delivered.
    pub delivered: i64,
    /// How often in a row telling it failed.
    pub tries: i64,
    /// Since when, microseconds since 1970 UTC.
    pub failing: Option<i64>,
    /// Why it failed the last time.
    pub error: String,
    /// Of its secret: grows each time that another one takes its place.
    pub generation: i64,
    /// Since when it is this one; none for the first.
    pub rotated: Option<i64>,
    /// What its subscriber's connection is called, which begins with the process it is to: empty if it is sent to
    /// instead, [`UNCONNECTED`] if it is to be connected and is not.
    pub line: String,
    /// Dead letters are to be sent again.
    pub again: bool,
    /// How often in a row its endpoint took the next event to be wrong.
    pub refusals: i64,
    /// The resource as it is now (JSON); empty if it was deleted.
    pub body: String,
}

/// Could a version be for anybody? It is asked with the index entries of the version before and of the new one.
pub type Interest = dyn Fn(ResourceType, Option<&Index>, Option<&Index>) -> bool + Send + Sync;

/// What this process knows of Subscriptions, and what it seals their secrets with.
pub(crate) struct Register {
    vault: Vault,
    interest: RwLock<(i64, Option<Arc<Interest>>)>,
    /// Changes were queued.
    pub(crate) queued: Notify,
}

impl Register {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, Error> {
        Ok(Self { vault: Vault::new(secret)?, interest: RwLock::new((0, None)), queued: Notify::new() })
    }

    /// From now on this decides, of the Subscriptions up to that stamp.
    pub(crate) fn watch(&self, stamp: i64, interest: Arc<Interest>) {
        let mut known = self.interest.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 <= stamp {
            *known = (stamp, Some(interest));
        }
    }

    /// What decides, if it knows all Subscriptions up to that stamp.
    fn interest(&self, stamp: i64) -> (bool, Option<Arc<Interest>>) {
        let known = self.interest.read().unwrap_or_else(PoisonError::into_inner);
        (known.0 == stamp, known.1.clone())
    }
}

/// The last stamp that was given.
pub(crate) fn stamp(link: &mut Link) -> Result<i64, Fault> {
    let sql = Sql::new(link.dialect, "SELECT stamp FROM subscription_state");
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
}

type Types = (
    (BigInt, Text, BigInt, BigInt, Bool, BigInt, Text, Text),
    (BigInt, BigInt, BigInt, BigInt, Text, BigInt, BigInt, Text, Bool, BigInt, Text),
);
type Row = (
    (i64, String, i64, i64, bool, i64, String, String),
    (i64, i64, i64, i64, String, i64, i64, String, bool, i64, String),
);
const COLUMNS: &str = "s.number, s.id, s.stamp, s.status, s.started, s.since, s.owner, s.headers, s.events, \
                       s.delivered, s.tries, s.failing, s.error, s.generation, s.rotated, s.line, s.again, s.refusals, \
                       COALESCE(r.body, '')";

/// Subscriptions by what `which` says of `s`.
pub(crate) fn load<'a>(
    link: &mut Link,
    which: impl FnOnce(&mut Sql<'a>),
) -> Result<Vec<Subscription>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT ");
    sql.push(COLUMNS).push(" FROM subscription s LEFT JOIN resource r ON r.kind = ");
    sql.int(i64::from(ResourceType::SUBSCRIPTION.index())).push(" AND r.id = s.id WHERE ");
    which(&mut sql);
    let rows = sql.rows::<Types, Row>(&mut link.connection)?;
    let register = link.register.clone();
    let of = |((number, id, stamp, status, started, since, owner, headers), rest): Row| {
        let (events, delivered, tries, failing, error, generation, rotated, process, again, refusals, body) =
            rest;
        let open = |headers: &str| register.as_ref()?.vault.open(&id, headers);
        let headers = open(&headers).unwrap_or_else(|| {
            tracing::error!(subscription = id, "its headers were sealed with another secret");
            Vec::new()
        });
        let (status, failing) = (self::status(status), (failing > 0).then_some(failing));
        Subscription {
            number,
            id,
            stamp,
            status,
            started,
            since,
            owner,
            headers,
            events,
            delivered,
            tries,
            failing,
            error,
            generation,
            rotated: (rotated > 0).then_some(rotated),
            line: process,
            again,
            refusals,
            body,
        }
    };
    Ok(rows.into_iter().map(of).collect())
}

fn effect(number: i64) -> Effect {
    match number {
        0 => Effect::Created,
        1 => Effect::Updated,
        _ => Effect::Deleted,
    }
}
