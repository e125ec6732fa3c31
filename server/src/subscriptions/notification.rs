//! What is sent of events.

use fhir::json::{self, Limits};
use fhir::resource_type::ResourceType;
use fhir::search::{parameter, references};
use fhir::subscription::{
    self, Content, Failure, Format, Interaction, Media, Occasion, Payload, Status, Told,
};
use fhir::xml::{self, Layout};
use reqwest::Method;
use store::{Context, Effect, Error, Event, Stored};
use uuid::Uuid;

use super::book::Entry;
use super::webhook::Refusal;
use crate::app::{self, App};

/// Content type and text.
pub(super) type Body = (String, String);

/// How one event is sent: with which method, behind which address, and what.
pub(super) type Plain = (Method, Vec<String>, Option<Body>);

/// How a Subscription stands, in FHIR's words.
pub(crate) fn standing<'s>(
    of: &'s store::Subscription,
    topic: Option<&'s str>,
    base: &'s str,
    content: Content,
) -> Status<'s> {
    let failure = (!of.error.is_empty()).then(|| {
        let answered = of.error.contains(Refusal::ANSWERED);
        (if answered { Failure::ErrorResponse } else { Failure::NoResponse }, of.error.as_str())
    });
    Status {
        base,
        id: &of.id,
        topic,
        standing: of.status,
        content,
        events: of.events.unsigned_abs(),
        failure,
    }
}

/// The canonical of the topic that a Subscription is about.
pub(crate) fn topic(of: &store::Subscription) -> Option<String> {
    let resource = json::parse(of.body.as_bytes(), &Limits::STORED).ok()?;
    let criteria = resource.text("criteria")?;
    ["http://", "https://"].iter().any(|begin| criteria.starts_with(begin)).then(|| criteria.to_owned())
}

/// How much a Subscription is told of an event.
pub(crate) fn content(of: &store::Subscription) -> Content {
    let told = |resource: &json::Json<'_>| {
        let channel = resource.get("channel")?;
        let extensions = channel.get("_payload").map_or(&[][..], |beside| beside.list("extension"));
        let code = extensions.iter().find_map(|one| Content::parse(one.text("valueCode")?));
        let plain = if channel.text("payload").is_some() { Content::FullResource } else { Content::IdOnly };
        Some(code.unwrap_or(plain))
    };
    let resource = json::parse(of.body.as_bytes(), &Limits::STORED);
    resource.ok().and_then(|resource| told(&resource)).unwrap_or(Content::IdOnly)
}

/// What comes along with each event, as far as who asks may see it.
pub(crate) async fn along(
    app: &App,
    context: &Context,
    entry: &Entry,
    events: &[Event],
) -> Result<Vec<Vec<Stored>>, Error> {
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let mut along = Vec::new();
        for (kind, id) in referred(entry, event) {
            match app.store.read(context, kind, &id).await {
                Ok(stored) => along.push(stored),
                Err(Error::NotFound | Error::Gone { .. } | Error::Denied(..)) => {}
                Err(error) => return Err(error),
            }
        }
        all.push(along);
    }
    Ok(all)
}

/// The references of an event's resource that come along with it, as its topic says.
fn referred(entry: &Entry, event: &Event) -> Vec<(ResourceType, String)> {
    let mut found = Vec::new();
    let (Some(topic), Some(stored)) = (entry.asked.interest.topic(), &event.stored) else { return found };
    let Ok(resource) = json::parse(stored.body.as_bytes(), &Limits::STORED) else { return found };
    for include in topic.includes(stored.kind).filter(|include| !include.reverse) {
        let Some(parameter) = include.code.as_deref().and_then(|code| parameter(stored.kind, code)) else {
            continue;
        };
        references(parameter, &resource, &mut |kind, id| {
            if include.target.is_none_or(|target| target == kind) {
                found.push((kind, id.to_owned()));
            }
        });
    }
    found
}

/// Events as they are told, each with what comes along.
pub(crate) fn events<'e>(all: &'e [Event], along: &'e [Vec<Stored>]) -> Vec<subscription::Event<'e>> {
    let told = |stored: &'e Stored| {
        let body = Some(stored.body.as_str()).filter(|body| !body.is_empty());
        Told { kind: stored.kind, id: &stored.id, body }
    };
    let along = along.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..]));
    let event = |(event, along): (&'e Event, &'e [Stored])| subscription::Event {
        number: event.number.unsigned_abs(),
        at: event.at,
        focus: event.stored.as_ref().map(told),
        what: match event.effect {
            Effect::Created => Interaction::Create,
            Effect::Deleted => Interaction::Delete,
            _ => Interaction::Update,
        },
        context: along.iter().map(told).collect(),
    };
    all.iter().zip(along).map(event).collect()
}

/// A notification of a topic; none for a Subscription without one.
pub(super) fn text(
    app: &App,
    entry: &Entry,
    occasion: Occasion,
    told: &[Event],
    along: &[Vec<Stored>],
) -> Option<Result<Body, Refusal>> {
    let Payload::Notification(media, content) = &entry.asked.payload else { return None };
    let base = app.config.fhir_base();
    let mut status = standing(&entry.subscription, entry.asked.topic.as_deref(), &base, *content);
    status.failure = None;
    // Events that come meanwhile are told of later.
    if let Some(last) = told.last() {
        status.events = status.events.max(last.number.unsigned_abs());
    }
    let id = Uuid::new_v4().hyphenated().to_string();
    let text = status.notification(occasion, &id, app::now(), &events(told, along));
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
