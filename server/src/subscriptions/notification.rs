//! What is sent of events.

use fhir::json::{self, Limits};
use fhir::subscription::{self, Content, Format, Interaction, Media, Occasion, Payload, Status, Told};
use fhir::xml::{self, Layout};
use reqwest::Method;
use store::{Effect, Event, SubscriptionStatus};
use uuid::Uuid;

use super::book::Entry;
use super::webhook::Refusal;
use crate::app::{self, App};

/// Content type and text.
pub(super) type Body = (String, String);

/// How one event is sent: with which method, behind which address, and what.
pub(super) type Plain = (Method, Vec<String>, Option<Body>);

/// How a Subscription stands, in FHIR's words.
pub(super) fn status<'s>(entry: &'s Entry, base: &'s str, content: Content) -> Status<'s> {
    Status {
        base,
        id: &entry.subscription.id,
        topic: entry.asked.topic.as_deref(),
        standing: standing(entry.subscription.status),
        content,
        events: entry.subscription.events.unsigned_abs(),
        failure: None,
    }
}

fn standing(status: SubscriptionStatus) -> subscription::Standing {
    match status {
        SubscriptionStatus::Requested => subscription::Standing::Requested,
        SubscriptionStatus::Active => subscription::Standing::Active,
        SubscriptionStatus::Error => subscription::Standing::Error,
        SubscriptionStatus::Off => subscription::Standing::Off,
    }
}

/// Events as they are told.
pub(super) fn events<'e>(all: &'e [Event]) -> Vec<subscription::Event<'e>> {
    all.iter()
        .filter_map(|event| {
            Some(subscription::Event {
                number: event.number.unsigned_abs(),
                at: event.at,
                focus: event.stored.as_ref().map(|stored| Told {
                    kind: stored.kind,
                    id: &stored.id,
                    body: Some(stored.body.as_str()).filter(|body| !body.is_empty()),
                })?,
                what: match event.effect {
                    Effect::Created => Interaction::Create,
                    Effect::Deleted => Interaction::Delete,
                    _ => Interaction::Update,
                },
                context: Vec::new(),
            })
        })
        .collect()
}

/// A notification of a topic; none for a Subscription without one.
pub(super) fn text(
    app: &App,
    entry: &Entry,
    occasion: Occasion,
    told: &[Event],
) -> Option<Result<Body, Refusal>> {
    let Payload::Notification(media, content) = &entry.asked.payload else { return None };
    let base = app.config.fhir_base();
    let mut status = status(entry, &base, *content);
    // Events that come meanwhile are told of later.
    if let Some(last) = told.last() {
        status.events = status.events.max(last.number.unsigned_abs());
    }
    let id = Uuid::new_v4().hyphenated().to_string();
    let text = status.notification(occasion, &id, app::now(), &events(told));
    Some(formatted(media, text).map(|text| (media.text.clone(), text)))
}

/// What is sent of one event without a topic; nothing of what may not be seen any more.
pub(super) fn plain(entry: &Entry, event: &Event) -> Result<Option<Plain>, Refusal> {
    Ok(match (&entry.asked.payload, &event.stored) {
        (Payload::Nothing, _) => Some((Method::POST, Vec::new(), None)),
        (Payload::Resource(media), Some(stored)) if !stored.deleted => {
            let path = vec![stored.kind.name().to_owned(), stored.id.clone()];
            let body = (media.text.clone(), formatted(media, stored.body.clone())?);
            Some((Method::PUT, path, Some(body)))
        }
        // It may not be seen any more.
        (Payload::Resource(_) | Payload::Notification(..), _) => None,
    })
}

fn formatted(media: &Media, text: String) -> Result<String, Refusal> {
    if media.format == Format::Json {
        return Ok(text);
    }
    let unwritten = |_| Refusal::Forbidden("what is sent can't be written as XML");
    let resource = json::parse(text.as_bytes(), &Limits::STORED).map_err(unwritten)?;
    xml::write(&resource, Layout::Compact).map_err(unwritten)
}
