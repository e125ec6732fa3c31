//! Reading a Subscription, R4's own or of a topic.

use std::sync::Arc;

use super::change::Change;
use super::channel::Channel;
use super::filter::Text;
use super::interest::{Cause, Interest};
use super::payload::{Payload, extensions};
use super::topic::{Publication, Topic, Topics};
use crate::json::Json;
use crate::outcome::{Issue, Issues};
use crate::resource_type::ResourceType;
use crate::search::Clause;
use crate::time;

/// Why there is nothing to be told of AuditEvents.
pub(super) const UNTOLD: &str = "nobody is told of the audit trail: search it, or have it forwarded";
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
/// What R5 has, in extensions of a resource.
const CROSS_VERSION: &str = "/StructureDefinition/extension-Subscription.";
/// Filters of one Subscription.
const MOST_FILTERS: usize = 24;
/// Seconds an attempt may take, at most.
const LONGEST_TIMEOUT: u32 = 60;
/// Seconds between heartbeats, at most: 31 days.
const LONGEST_HEARTBEAT: u32 = 31 * 86_400;

/// What the subscriber wants it to be (`Subscription.status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// In use: `requested` or `active`. It is so after a handshake only.
    Active,
    /// Not in use.
    Off,
    /// Not in use since it failed.
    Error,
}

/// A Subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// What it is wanted to be.
    pub wanted: Wanted,
    /// When it ends, microseconds since 1970 UTC.
    pub end: Option<i64>,
    /// The topic as it was named, perhaps with its version; none for R4's own.
    pub topic: Option<String>,
    /// Which changes it is about.
    pub interest: Interest,
    /// How somebody is told.
    pub channel: Channel,
    /// What somebody is told.
    pub payload: Payload,
    /// Seconds after which something is sent although nothing happened.
    pub heartbeat: Option<u32>,
    /// Seconds an attempt may take, 1 to 60.
    pub timeout: Option<u32>,
    /// Events in one notification, at most.
    pub max_count: Option<u32>,
}

impl Subscription {
    /// Reads a Subscription; `base` is this server's address, e.g. `https://h.example/fhir`, below which
    /// references in filters are its own.
    ///
    /// # Errors
    /// Everything of it that can't be kept to, each with its element: `not-supported` for what is not done
    /// here, `not-found` for a topic that is not known, `value` and `required` for what is wrong.
    pub fn parse(subscription: &Json, topics: &Topics, base: &str) -> Result<Self, Issues> {
        let mut reader = Reader { wrong: Vec::new(), base };
        let nothing = Json::Null;
        let channel = subscription.get("channel").unwrap_or(&nothing);
        reader.extensions(subscription, channel);
        let criteria = subscription.text("criteria").unwrap_or_default();
        let with_topic = criteria.starts_with("http://") || criteria.starts_with("https://");
        let interest = if with_topic {
            reader.topic(subscription, criteria, topics)
        } else {
            reader.criteria(subscription, criteria)
        };
        let wanted = match subscription.text("status") {
            Some("requested" | "active") => Some(Wanted::Active),
            Some("off") => Some(Wanted::Off),
            Some("error") => Some(Wanted::Error),
            _ => {
                reader.refuse("value", "requested, active, error or off is needed", "Subscription.status");
                None
            }
        };
        let end = subscription.get("end").and_then(|end| {
            let read = end.as_str().and_then(time::parse);
            if read.is_none() {
                reader.refuse("value", "not an instant", "Subscription.end");
            }
            read.map(|span| span.low)
        });
        let wire = reader.keep(Channel::parse(channel));
        let payload = reader.keep(Payload::parse(channel, with_topic));
        let heartbeat = reader.number(channel, "backport-heartbeat-period", 1..=LONGEST_HEARTBEAT);
        let timeout = reader.number(channel, "backport-timeout", 1..=LONGEST_TIMEOUT);
        let max_count = reader.number(channel, "backport-max-count", 1..=u32::MAX);
        if !with_topic && (heartbeat.is_some() || max_count.is_some()) {
            let why = "heartbeats and a greatest number of events are for a Subscription with a topic";
            reader.refuse("not-supported", why, "Subscription.channel.extension");
        }
        match (wanted, interest, wire, payload) {
            (Some(wanted), Some(interest), Some(channel), Some(payload)) if reader.wrong.is_empty() => {
                let topic = with_topic.then(|| criteria.to_owned());
                Ok(Self { wanted, end, topic, interest, channel, payload, heartbeat, timeout, max_count })
            }
            _ => Err(Issues(reader.wrong)),
        }
    }

    /// Is it about the change?
    pub fn is_about(&self, change: &Change<'_>) -> bool {
        self.interest.is_about(change)
    }
}

struct Reader<'b> {
    wrong: Vec<Issue>,
    base: &'b str,
}

impl Reader<'_> {
    fn refuse(&mut self, code: &'static str, why: impl Into<String>, at: &str) {
        self.wrong.push(Issue::error(code, why.into()).at(at));
    }

    fn keep<T>(&mut self, read: Result<T, impl Into<Issues>>) -> Option<T> {
        read.map_err(|issues| self.wrong.extend(issues.into().0)).ok()
    }

    /// The same, at that element.
    fn keep_at<T>(&mut self, read: Result<T, impl Into<Issues>>, at: &str) -> Option<T> {
        let located = |issues: Issues| Issues(issues.0.into_iter().map(|issue| issue.at(at)).collect());
        self.keep(read.map_err(|issues| located(issues.into())))
    }

    /// What would be promised by an extension and is not kept.
    fn extensions(&mut self, subscription: &Json, channel: &Json) {
        if !subscription.list("modifierExtension").is_empty() {
            let why = "a modifier extension that is not known";
            self.refuse("extension", why, "Subscription.modifierExtension");
        }
        let known = ["backport-heartbeat-period", "backport-timeout", "backport-max-count"];
        for (n, one) in channel.list("extension").iter().enumerate() {
            let url = one.text("url").unwrap_or_default();
            let unkept = url.strip_prefix(BACKPORT).is_some_and(|name| !known.contains(&name));
            if unkept || url.contains(CROSS_VERSION) {
                let why = format!("extension {} is not supported here", shown(url));
                self.refuse("not-supported", why, &format!("Subscription.channel.extension[{n}]"));
            }
        }
    }

    fn number(&mut self, channel: &Json, name: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let is = |one: &&Json| one.text("url").and_then(|url| url.strip_prefix(BACKPORT)) == Some(name);
        let mut found = channel.list("extension").iter().filter(is);
        let one = found.next()?;
        let value = ["valueUnsignedInt", "valuePositiveInt"].iter().find_map(|of| one.get(of)?.as_number());
        let read = value.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        if read.is_none() || found.next().is_some() {
            let why = format!("{name} is one number from {} to {}", range.start(), range.end());
            self.refuse("value", why, "Subscription.channel.extension");
        }
        read
    }

    fn criteria(&mut self, subscription: &Json, criteria: &str) -> Option<Interest> {
        const AT: &str = "Subscription.criteria";
        if extensions(subscription, "criteria").next().is_some() {
            let why = "an extension of the criteria is for a Subscription with a topic";
            self.refuse("not-supported", why, "Subscription.criteria.extension[0]");
        }
        // A type alone is all of it.
        let asked = match ResourceType::parse(criteria) {
            Some(kind) => Text { kind: Some(kind), pairs: Vec::new() },
            None => self.keep_at(Text::parse(criteria), AT)?,
        };
        let Some(kind) = asked.kind else {
            let why = "a search as Type?parameter=value, or the http address of a topic is needed";
            self.refuse("value", why, AT);
            return None;
        };
        if kind == ResourceType::AUDIT_EVENT {
            self.refuse("not-supported", UNTOLD, AT);
            return None;
        }
        let conditions = self.keep_at(asked.conditions(kind, self.base), AT)?;
        Some(Interest { cause: Cause::Written(kind), filters: vec![(kind, conditions)] })
    }

    fn topic(&mut self, subscription: &Json, canonical: &str, topics: &Topics) -> Option<Interest> {
        const AT: &str = "Subscription.criteria";
        let Some(topic) = topics.find(canonical) else {
            self.refuse("not-found", format!("there is no topic {}", shown(canonical)), AT);
            return None;
        };
        if topic.status == Publication::Retired {
            self.refuse("business-rule", format!("the topic {} is retired", shown(canonical)), AT);
        }
        let mut filters = Vec::new();
        for (n, one) in extensions(subscription, "criteria").enumerate() {
            let at = format!("{AT}.extension[{n}]");
            let url = one.text("url").unwrap_or_default();
            match (url.strip_prefix(BACKPORT), one.text("valueString")) {
                (Some("backport-filter-criteria"), Some(text)) if n < MOST_FILTERS => {
                    self.filter(topic, text, &at, &mut filters);
                }
                (Some("backport-filter-criteria"), Some(_)) => {
                    self.refuse("too-costly", format!("more than {MOST_FILTERS} filters"), &at);
                    break;
                }
                (Some("backport-filter-criteria"), None) => self.refuse("value", "a text is needed", &at),
                _ => {
                    let why = format!("extension {} would narrow it in a way that is not known", shown(url));
                    self.refuse("not-supported", why, &at);
                }
            }
        }
        Some(Interest { cause: Cause::Topic(Arc::clone(topic)), filters })
    }

    fn filter(
        &mut self,
        topic: &Topic,
        text: &str,
        at: &str,
        filters: &mut Vec<(ResourceType, Vec<Clause>)>,
    ) {
        let Some(text) = self.keep_at(Text::parse(text), at) else { return };
        if text.pairs.is_empty() {
            return self.refuse("value", "a filter as Type?parameter=value is needed", at);
        }
        let kinds = topic.kinds();
        let of = match text.kind {
            // One that is about nothing the topic speaks of would narrow nothing.
            Some(kind) if !kinds.contains(&kind) => {
                return self.refuse("not-supported", format!("the topic is not about a {kind}"), at);
            }
            Some(kind) => vec![kind],
            None => kinds,
        };
        for kind in of {
            let mut pairs = text.pairs.iter();
            if let Some((name, _)) = pairs.find(|(name, value)| !topic.can_filter(kind, name, value)) {
                let why = format!("the topic can't be filtered so by {} of {kind}", shown(name));
                self.refuse("not-supported", why, at);
                continue;
            }
            if let Some(conditions) = self.keep_at(text.conditions(kind, self.base), at) {
                filters.push((kind, conditions));
            }
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
