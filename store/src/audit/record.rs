//! One event of the trail: what is to be recorded, and what was.

use std::borrow::Cow;
use std::sync::Arc;

use fhir::reference::hash;
use fhir::resource_type::ResourceType;

use super::Entry;
use super::agent::{Agent, Who};

/// One that is still to be written.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: i64,
    pub(crate) request: Arc<str>,
    pub(crate) who: Arc<Who>,
    pub(crate) entry: Entry,
}

/// What is known of one. What it is about is known twice, by name and by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) key: i64,
    pub(crate) at: i64,
    pub(crate) act: i64,
    pub(crate) outcome: i64,
    pub(crate) agent: i64,
    pub(crate) request: Cow<'a, str>,
    pub(crate) kind: i64,
    pub(crate) id: Cow<'a, str>,
    pub(crate) version: i64,
    pub(crate) entity: i64,
    pub(crate) patient: Cow<'a, str>,
    pub(crate) chart: i64,
    pub(crate) query: Cow<'a, str>,
    pub(crate) note: Cow<'a, str>,
    /// The public id of the token that was shown.
    pub(crate) token: Cow<'a, str>,
    /// What stands for a token that has no such id.
    pub(crate) opaque: Cow<'a, str>,
}

/// An event as a line of a row, without what the row says of all of its events: the time since the first,
/// act, outcome, agent, request, type, id, version, patient, query, note, token, opaque token.
type Line = ((i64, i64, i64, i64), (String, i64, String, i64), (String, String, String, String, String));

fn about(kind: ResourceType, id: &str) -> i64 {
    if id.is_empty() { 0 } else { hash(kind, id) }
}

impl<'a> Event<'a> {
    /// `agent` stands for the one who did it.
    pub(super) fn of(key: i64, agent: i64, record: &'a Record) -> Self {
        let Entry { act, outcome, entity, patient, query, note } = &record.entry;
        let Agent { token, opaque, .. } = &record.who.agent;
        let (kind, id, version) = match entity {
            Some((kind, id, version)) => (i64::from(kind.index()), id.as_str(), *version),
            None => (-1, "", 0),
        };
        Self {
            key,
            at: record.at,
            act: act.number(),
            outcome: outcome.number(),
            agent,
            request: Cow::Borrowed(&record.request),
            kind,
            id: Cow::Borrowed(id),
            version,
            entity: entity.as_ref().map_or(0, |(kind, id, _)| about(*kind, id)),
            patient: Cow::Borrowed(patient),
            chart: about(ResourceType::PATIENT, patient),
            query: Cow::Borrowed(query),
            note: Cow::Borrowed(note),
            token: Cow::Borrowed(token.as_deref().unwrap_or_default()),
            opaque: Cow::Borrowed(opaque.as_deref().unwrap_or_default()),
        }
    }

    /// Adds its line to a row whose events are from that time on.
    pub(super) fn write(&self, low: i64, body: &mut Vec<u8>) -> serde_json::Result<()> {
        let of = (
            (self.at.saturating_sub(low), self.act, self.outcome, self.agent),
            (&self.request, self.kind, &self.id, self.version),
            (&self.patient, &self.query, &self.note, &self.token, &self.opaque),
        );
        serde_json::to_writer(body, &of)
    }

    /// The event of that key, of a line; none of what is no line.
    pub(super) fn read(key: i64, low: i64, line: &str) -> Option<Event<'static>> {
        let (numbers, entity, texts): Line = serde_json::from_str(line).ok()?;
        let (since, act, outcome, agent) = numbers;
        let (request, kind, id, version) = entity;
        let (patient, query, note, token, opaque) = texts;
        let known = u8::try_from(kind).ok().and_then(ResourceType::from_index);
        Some(Event {
            key,
            at: low.checked_add(since)?,
            act,
            outcome,
            agent,
            kind,
            entity: known.map_or(0, |kind| about(kind, &id)),
            chart: about(ResourceType::PATIENT, &patient),
            request: Cow::Owned(request),
            id: Cow::Owned(id),
            version,
            patient: Cow::Owned(patient),
            query: Cow::Owned(query),
            note: Cow::Owned(note),
            token: Cow::Owned(token),
            opaque: Cow::Owned(opaque),
        })
    }

    /// What is hashed into the log: a JSON array of what is known, the agent's text in its place.
    pub(super) fn canonical(&self, agent: &str, into: &mut Vec<u8>) {
        let of = (
            (self.key, self.at, self.act, self.outcome, agent, &self.request),
            (self.kind, &self.id, self.version, self.entity, &self.patient, self.chart),
            (&self.query, &self.note, &self.token, &self.opaque),
        );
        into.clear();
        // A Vec takes all, and there is nothing in it that is not JSON.
        let _ = serde_json::to_writer(into, &of);
    }

    /// What it is found by: chart, entity and agent; 0 for none.
    pub(super) fn about(&self) -> [i64; 3] {
        [self.chart, self.entity, self.agent]
    }
}
