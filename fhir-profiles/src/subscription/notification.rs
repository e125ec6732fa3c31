//! What is sent, as text: the status of a Subscription and the Bundle of its events
//! (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html>).
//!
//! Resources are put in as the text that they are stored as, and are not read again.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::change::Interaction;
use super::payload::Content;
use crate::resource_type::ResourceType;
use crate::time::format_instant;

const STATUS_PROFILE: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4";
const NOTIFICATION_PROFILE: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-notification-r4";
const ERRORS: &str = "http://terminology.hl7.org/CodeSystem/subscription-error";

/// What a Subscription is (<https://hl7.org/fhir/R4/valueset-subscription-status.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// Its endpoint has not answered a handshake yet.
    Requested,
    /// It is told.
    Active,
    /// It can't be told at present.
    Error,
    /// It is not told: it ended, or was turned off.
    Off,
}

impl SubscriptionStatus {
    const ALL: [Self; 4] = [Self::Requested, Self::Active, Self::Error, Self::Off];

    /// The one of that code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// As FHIR writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }
}

/// Why something is said (<https://hl7.org/fhir/R5/valueset-subscription-notification-type.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// To see whether somebody listens.
    Handshake,
    /// Nothing happened.
    Heartbeat,
    /// Something happened.
    EventNotification,
    /// Somebody asked how it stands.
    QueryStatus,
    /// Somebody asked what happened.
    QueryEvent,
}

impl Occasion {
    /// As FHIR writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Heartbeat => "heartbeat",
            Self::EventNotification => "event-notification",
            Self::QueryStatus => "query-status",
            Self::QueryEvent => "query-event",
        }
    }
}

/// Why nothing arrives (<https://terminology.hl7.org/CodeSystem-subscription-error.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The address leads nowhere.
    DnsResolution,
    /// Nobody answers.
    NoResponse,
    /// The answer is an error.
    ErrorResponse,
}

impl Failure {
    const ALL: [Self; 3] = [Self::DnsResolution, Self::NoResponse, Self::ErrorResponse];

    /// The one of that code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// As the code system has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::DnsResolution => "dns-resolution-error",
            Self::NoResponse => "no-response",
            Self::ErrorResponse => "error-response",
        }
    }
}

/// How a Subscription stands.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    /// This server's address, e.g. `https://h.example/fhir`.
    pub base: &'a str,
    /// Id of the Subscription.
    pub id: &'a str,
    /// The topic's canonical; none for R4's own criteria.
    pub topic: Option<&'a str>,
    /// What it is.
    pub standing: SubscriptionStatus,
    /// How much is told of each event.
    pub content: Content,
    /// Events since it began, those that did not arrive too.
    pub events: u64,
    /// Why it failed, and in words.
    pub failure: Option<(Failure, &'a str)>,
}

/// A resource that is told of, with its JSON text where that may be told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Its type.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: &'a str,
    /// Its JSON text; what is none is a reference alone.
    pub body: Option<&'a str>,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its place among the events of the Subscription, from 1.
    pub number: u64,
    /// When it happened, microseconds since 1970 UTC.
    pub at: i64,
    /// What it is about; none where that may not be told any more, nor when it happened.
    pub focus: Option<Told<'a>>,
    /// What was done to it.
    pub what: Interaction,
    /// What comes along.
    pub context: Vec<Told<'a>>,
}

impl Status<'_> {
    /// The Parameters of backport-subscription-status-r4, JSON text. `id` is its own. How much of the
    /// events is told is what the Subscription says; a handshake and a heartbeat tell of none.
    pub fn parameters(&self, occasion: Occasion, id: &str, events: &[Event<'_>]) -> String {
        let name = |name: &str, of: &str, value: Value| json!({"name": name, of: value});
        let reference =
            |what: &Told<'_>| json!({"reference": format!("{}/{}/{}", self.base, what.kind, what.id)});
        let mut all = vec![name(
            "subscription",
            "valueReference",
            json!({"reference": format!("{}/Subscription/{}", self.base, self.id)}),
        )];
        if let Some(topic) = self.topic.filter(|_| self.content != Content::Empty) {
            all.push(name("topic", "valueCanonical", json!(topic)));
        }
        all.push(name("status", "valueCode", json!(self.standing.code())));
        all.push(name("type", "valueCode", json!(occasion.code())));
        all.push(name("events-since-subscription-start", "valueString", json!(self.events.to_string())));
        for event in told_of(occasion, events) {
            let mut part = vec![name("event-number", "valueString", json!(event.number.to_string()))];
            if event.focus.is_some() {
                part.push(name("timestamp", "valueInstant", json!(format_instant(event.at))));
            }
            if self.content != Content::Empty {
                part.extend(event.focus.iter().map(|one| name("focus", "valueReference", reference(one))));
                let along = event.context.iter();
                part.extend(along.map(|one| name("additional-context", "valueReference", reference(one))));
            }
            all.push(json!({"name": "notification-event", "part": part}));
        }
        if let Some((failure, text)) = self.failure {
            let mut concept = json!({"coding": [{"system": ERRORS, "code": failure.code()}]});
            if let (false, Some(object)) = (text.is_empty(), concept.as_object_mut()) {
                object.insert("text".to_owned(), json!(text));
            }
            all.push(name("error", "valueCodeableConcept", concept));
        }
        json!({
            "resourceType": "Parameters",
            "id": id,
            "meta": {"profile": [STATUS_PROFILE]},
            "parameter": all,
        })
        .to_string()
    }

    /// The Bundle of a notification, JSON text, at a moment in microseconds since 1970 UTC: the status, and
    /// behind it each version that an event is about. `uuid` is the status' own, e.g.
    /// `63c28e8a-f402-43e4-beb2-75b1c0f6833f`.
    pub fn notification(&self, occasion: Occasion, uuid: &str, at: i64, events: &[Event<'_>]) -> String {
        let room = events.iter().flat_map(|event| event.context.iter().chain(&event.focus));
        let room: usize = room.map(|told| told.body.map_or(0, str::len) + 512).sum();
        let mut out = String::with_capacity(1024 + room);
        let _ = write!(
            out,
            r#"{{"resourceType":"Bundle","meta":{{"profile":["{NOTIFICATION_PROFILE}"]}},"type":"history","timestamp":"{}","entry":["#,
            format_instant(at)
        );
        let own = format!("{}/Subscription/{}/$status", self.base, self.id);
        let status = self.parameters(occasion, uuid, events);
        entry(&mut out, &format!("urn:uuid:{uuid}"), Some(&status), ("GET", &own), "200");
        if self.content != Content::Empty {
            for (told, request) in told(told_of(occasion, events)) {
                let Told { kind, id, body } = told;
                let path = format!("{kind}/{id}");
                let (request, status) = match request {
                    None => (("GET", path.as_str()), "200"),
                    Some(Interaction::Create) => (("POST", kind.name()), "201"),
                    Some(Interaction::Update) => (("PUT", path.as_str()), "200"),
                    Some(Interaction::Delete) => (("DELETE", path.as_str()), "204"),
                };
                let body = body.filter(|_| self.content == Content::FullResource && status != "204");
                out.push(',');
                entry(&mut out, &format!("{}/{path}", self.base), body, request, status);
            }
        }
        out.push_str("]}");
        out
    }
}

/// The answer of `$status`, a searchset, JSON text: each with its own uuid. `url` is what was asked at.
pub fn statuses<'a>(all: impl IntoIterator<Item = (Status<'a>, &'a str)>, url: &str, at: i64) -> String {
    let entries: Vec<String> = all
        .into_iter()
        .map(|(status, uuid)| {
            let full_url = quoted(&format!("urn:uuid:{uuid}"));
            let resource = status.parameters(Occasion::QueryStatus, uuid, &[]);
            format!(r#"{{"fullUrl":{full_url},"resource":{resource},"search":{{"mode":"match"}}}}"#)
        })
        .collect();
    // Without one, the array would be empty, which FHIR's JSON has not.
    let list =
        if entries.is_empty() { String::new() } else { format!(r#","entry":[{}]"#, entries.join(",")) };
    format!(
        r#"{{"resourceType":"Bundle","type":"searchset","timestamp":"{}","total":{},"link":[{{"relation":"self","url":{}}}]{list}}}"#,
        format_instant(at),
        entries.len(),
        quoted(url)
    )
}

fn told_of<'e, 'a>(occasion: Occasion, events: &'e [Event<'a>]) -> &'e [Event<'a>] {
    match occasion {
        Occasion::Handshake | Occasion::Heartbeat => &[],
        _ => events,
    }
}

/// Each version that an event is about, in order, as a history Bundle has them; what comes along once, if no
/// event is about it.
fn told<'a>(events: &[Event<'a>]) -> Vec<(Told<'a>, Option<Interaction>)> {
    let mut known: HashSet<(ResourceType, &'a str)> =
        events.iter().filter_map(|event| event.focus).map(|focus| (focus.kind, focus.id)).collect();
    let mut all = Vec::new();
    for event in events {
        all.extend(event.focus.map(|focus| (focus, Some(event.what))));
        let along = event.context.iter().filter(|told| known.insert((told.kind, told.id)));
        all.extend(along.map(|told| (*told, None)));
    }
    all
}

fn entry(out: &mut String, full_url: &str, body: Option<&str>, request: (&str, &str), status: &str) {
    out.push_str(r#"{"fullUrl":"#);
    out.push_str(&quoted(full_url));
    if let Some(body) = body {
        out.push_str(r#","resource":"#);
        out.push_str(body);
    }
    let (method, url) = request;
    let _ = write!(
        out,
        r#","request":{{"method":"{method}","url":{}}},"response":{{"status":"{status}"}}}}"#,
        quoted(url)
    );
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
