//! What the audit trail holds of what was sent.

use std::sync::Arc;

use fhir::resource_type::ResourceType;
use fhir::subscription::{Content, Payload};
use store::{Act, Agent, Commit, Context, Entry as Note, Error, Event, Outcome, Progress, Who};

use super::book::Entry;
use crate::app::App;

/// Says how far a Subscription is. What was sent is recorded, also by who lost it meanwhile.
pub(super) async fn proceed(
    app: &App,
    context: &Context,
    progress: Progress,
    notes: Vec<Note>,
) -> Result<(), Error> {
    let answer = app.store.proceed(context, progress, notes.clone()).await;
    if matches!(answer, Err(Error::Conflict { .. })) {
        keep(app, context, notes).await;
    }
    answer
}

pub(super) async fn keep(app: &App, context: &Context, notes: Vec<Note>) {
    if notes.is_empty() {
        return;
    }
    let commit = Commit { notes, ..Commit::default() };
    if let Err(error) = app.store.commit(context, commit).await {
        tracing::error!(%error, "what was sent to a Subscription could not be recorded");
    }
}

/// Where it is sent, or whoever connected is, and in whose name. Of an address its path and query may hold secrets.
pub(super) fn addressee(app: &App, entry: &Entry, context: &Context) -> Arc<Who> {
    Who::new(Agent {
        system: Some("subscriptions".to_owned()),
        address: entry.origin().or_else(|| app.lines.address(entry)),
        token: None,
        opaque: None,
        ..context.who.agent.clone()
    })
}

/// What is recorded of an event that was sent, or was tried to: once for each patient that it is about.
pub(super) fn told(entry: &Entry, event: &Event, sent: Result<(), &str>) -> Vec<Note> {
    let stored = event.stored.as_ref().filter(|stored| !stored.deleted);
    let act = match &entry.asked.payload {
        Payload::Resource(_) if stored.is_none() => return Vec::new(),
        Payload::Resource(_) | Payload::Notification(_, Content::FullResource) if stored.is_some() => {
            Act::Disclose
        }
        _ => Act::Deliver,
    };
    let named = format!("event {} of {}", event.number, name(entry));
    let (outcome, note) = match sent {
        Ok(()) => (Outcome::Success, named),
        Err(why) => (Outcome::Serious, format!("{named}: {why}")),
    };
    let entity = event.stored.as_ref().map(|stored| (stored.kind, stored.id.clone(), stored.version));
    let patients = event.stored.as_ref().map_or("", |stored| stored.patient.as_str());
    let nobody = patients.is_empty().then_some("");
    let of = |patient: &str| Note {
        outcome,
        entity: entity.clone(),
        patient: patient.to_owned(),
        query: name(entry),
        note: note.clone(),
        ..Note::of(act)
    };
    patients.split_ascii_whitespace().chain(nobody).map(of).collect()
}

/// What is recorded where there was no event to tell.
pub(super) fn failed(entry: &Entry, note: String) -> Note {
    let entity = Some((ResourceType::SUBSCRIPTION, entry.subscription.id.clone(), 0));
    Note { outcome: Outcome::Serious, entity, note, ..Note::of(Act::Deliver) }
}

fn name(entry: &Entry) -> String {
    format!("Subscription/{}", entry.subscription.id)
}
