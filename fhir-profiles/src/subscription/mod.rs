//! Subscriptions: who is told of which change, and in what words. Pure: whether somebody may be told,
//! when, and over which wire is not known here.
//!
//! - R4's own, whose criteria is a search: <https://hl7.org/fhir/R4/subscription.html>
//! - of a topic, in R4's resource: <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/>
//! - the topics themselves: <https://hl7.org/fhir/R5/subscriptiontopic.html>

mod basic;
mod built_in;
mod change;
mod channel;
mod filter;
mod interest;
mod matcher;
mod notification;
mod parse;
mod payload;
#[cfg(test)]
mod tests;
mod topic;
mod trigger;

pub use change::{Change, Interaction, State, Unclear};
pub use channel::{Channel, Header};
pub use interest::Interest;
pub use matcher::Matcher;
pub use notification::{Event, Failure, Occasion, Status, SubscriptionStatus, Told, statuses};
pub use parse::{Subscription, Wanted};
pub use payload::{Content, Format, Media, Payload};
pub use topic::{FilterBy, Publication, Shape, Topic, Topics};
pub use trigger::{Criterion, Query, QueryCriteria, Trigger, Versions};
