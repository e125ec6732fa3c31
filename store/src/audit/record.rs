//! One event of the trail: what is to be recorded, and what was.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::search::identified;

use super::agent::Who;
use super::{Act, Entry, Outcome};

/// Texts of an event.
const TEXTS: usize = 5;
/// Letters and events whose memory is kept for those that come after.
const ROOM: (usize, usize) = (1 << 20, 1 << 14);

/// Events that are still to be written. Their texts are one piece of memory, and each agent is there once: to keep
/// each event by itself until then costs as much as to write it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    texts: String,
    packed: Vec<Packed>,
    agents: Vec<Arc<Who>>,
    /// Where each of them is.
    places: HashMap<Arc<Who>, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    at: i64,
    agent: usize,
    act: Act,
    outcome: Outcome,
    kind: Option<ResourceType>,
    version: i64,
    /// Where its texts begin, and each of them ends.
    start: usize,
    ends: [usize; TEXTS],
}

/// One that is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) at: i64,
    /// Which of the agents.
    pub(crate) agent: usize,
    pub(crate) act: Act,
    pub(crate) outcome: Outcome,
    pub(crate) request: &'a str,
    pub(crate) entity: Option<(ResourceType, &'a str, i64)>,
    /// The account or client it was done to; empty where there is an entity.
    pub(crate) account: &'a str,
    pub(crate) patient: &'a str,
    pub(crate) query: &'a str,
    pub(crate) note: &'a str,
}

impl Records {
    /// Adds one of that time, request and agent.
    pub(crate) fn push(&mut self, at: i64, request: &str, who: &Arc<Who>, entry: &Entry) {
        let Entry { act, outcome, entity, account, patient, query, note } = entry;
        // What is of no type of resource has the place of an id alone.
        let (kind, id, version) = match entity {
            Some((kind, id, version)) => (Some(*kind), id.as_str(), *version),
            None => (None, account.as_str(), 0),
        };
        let (agent, start) = (self.place(who), self.texts.len());
        let ends = [request, id, patient, query, note].map(|text| {
            self.texts.push_str(text);
            self.texts.len()
        });
        self.packed.push(Packed { at, agent, act: *act, outcome: *outcome, kind, version, start, ends });
    }

    fn place(&mut self, who: &Arc<Who>) -> usize {
        match self.agents.last() {
            Some(last) if Arc::ptr_eq(last, who) => self.agents.len() - 1,
            _ => *self.places.entry(Arc::clone(who)).or_insert_with(|| {
                self.agents.push(Arc::clone(who));
                self.agents.len() - 1
            }),
        }
    }

    /// Adds others, as far as there are not more than so many then.
    pub(crate) fn extend(&mut self, others: &Self, most: usize) {
        let room = most.saturating_sub(self.packed.len());
        let more = others.packed.get(..room).unwrap_or(&others.packed);
        let from = self.texts.len();
        self.texts.push_str(others.texts.get(..more.last().map_or(0, Packed::end)).unwrap_or_default());
        for record in more {
            // Each of them has its agent.
            let Some(who) = others.agents.get(record.agent) else { continue };
            let agent = self.place(who);
            let (start, ends) = (record.start + from, record.ends.map(|end| end + from));
            self.packed.push(Packed { agent, start, ends, ..*record });
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Leaves the first so many.
    pub(crate) fn truncate(&mut self, many: usize) {
        self.packed.truncate(many);
        self.texts.truncate(self.packed.last().map_or(0, Packed::end));
        let agents = self.packed.iter().map(|record| record.agent + 1).max().unwrap_or_default();
        self.agents.truncate(agents);
        self.places.retain(|_, place| *place < agents);
    }

    /// Leaves none; the memory stays, if it is not much.
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
        self.texts.shrink_to(ROOM.0);
        self.packed.shrink_to(ROOM.1);
    }

    /// Those who did it.
    pub(super) fn agents(&self) -> &[Arc<Who>] {
        &self.agents
    }

    /// Some of them, in order.
    pub(super) fn part(&self, from: usize, many: usize) -> impl Iterator<Item = Record<'_>> + Clone {
        self.packed.iter().skip(from).take(many).map(|packed| self.unpack(packed))
    }

    fn unpack(&self, packed: &Packed) -> Record<'_> {
        let Packed { at, agent, act, outcome, kind, version, start, ends } = *packed;
        let mut from = start;
        let [request, id, patient, query, note] = ends.map(|end| {
            let text = self.texts.get(from..end).unwrap_or_default();
            from = end;
            text
        });
        let entity = kind.map(|kind| (kind, id, version));
        let account = if entity.is_none() { id } else { "" };
        Record { at, agent, act, outcome, request, entity, account, patient, query, note }
    }
}

impl Packed {
    fn end(&self) -> usize {
        let [.., end] = self.ends;
        end
    }
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

/// An account or client is no resource: `entity:identifier` asks for it.
fn about_account(id: &str) -> i64 {
    if id.is_empty() { 0 } else { identified(id) }
}

impl<'a> Event<'a> {
    /// `agent` stands for the one who did it.
    pub(super) fn of(key: i64, agent: i64, who: &'a Who, record: &Record<'a>) -> Self {
        let (kind, id, version) = match record.entity {
            Some((kind, id, version)) => (i64::from(kind.index()), id, version),
            None => (-1, record.account, 0),
        };
        Self {
            key,
            at: record.at,
            act: record.act.number(),
            outcome: record.outcome.number(),
            agent,
            request: Cow::Borrowed(record.request),
            kind,
            id: Cow::Borrowed(id),
            version,
            entity: match record.entity {
                Some((kind, id, _)) => about(kind, id),
                None => about_account(record.account),
            },
            patient: Cow::Borrowed(record.patient),
            chart: about(ResourceType::PATIENT, record.patient),
            query: Cow::Borrowed(record.query),
            note: Cow::Borrowed(record.note),
            token: Cow::Borrowed(who.agent.token.as_deref().unwrap_or_default()),
            opaque: Cow::Borrowed(who.agent.opaque.as_deref().unwrap_or_default()),
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
            entity: known.map_or_else(|| about_account(&id), |kind| about(kind, &id)),
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

    /// What it is found by: chart, entity, Subscription and agent; 0 for none.
    pub(super) fn about(&self) -> [i64; 4] {
        [self.chart, self.entity, self.subscriber(), self.agent]
    }

    /// The Subscription that was told; 0 for none.
    pub(super) fn subscriber(&self) -> i64 {
        let tells = [Act::Deliver, Act::Disclose].iter().any(|act| act.number() == self.act);
        let id = self.query.strip_prefix("Subscription/").filter(|_| tells);
        id.map_or(0, |id| about(ResourceType::SUBSCRIPTION, id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Agent;
    use super::*;

    fn entry(id: &str, note: &str) -> Entry {
        let entity = (!id.is_empty()).then(|| (ResourceType::PATIENT, id.to_owned(), 3));
        Entry { entity, patient: id.to_owned(), note: note.to_owned(), ..Entry::of(Act::Read) }
    }

    fn who(address: &str) -> Arc<Who> {
        Who::new(Agent { address: Some(address.to_owned()), ..Agent::default() })
    }

    fn seen(records: &Records) -> Vec<(i64, String, String)> {
        let of = |record: Record<'_>| {
            let id = record.entity.map_or("-", |(_, id, _)| id);
            let text = records.agents()[record.agent].agent.address.clone().unwrap();
            (record.at, text, format!("{} {id} {} {}", record.request, record.patient, record.note))
        };
        records.part(0, usize::MAX).map(of).collect()
    }

    #[test]
    fn what_is_packed_is_what_was_added() {
        let mut one = Records::default();
        one.push(1, "r1", &who("a"), &entry("p", "é"));
        one.push(2, "r2", &who("b"), &entry("", ""));
        one.push(3, "r3", &who("a"), &entry("q", "n"));
        assert_eq!(one.agents().len(), 2);
        let of = |at, who: &str, text: &str| (at, who.to_owned(), text.to_owned());
        let all = vec![of(1, "a", "r1 p p é"), of(2, "b", "r2 -  "), of(3, "a", "r3 q q n")];
        assert_eq!(seen(&one), all);

        let mut more = Records::default();
        more.push(0, "r0", &who("b"), &entry("z", ""));
        more.extend(&one, 3);
        assert_eq!(seen(&more), [&[of(0, "b", "r0 z z ")], &all[..2]].concat());
        let mut full = more.clone();
        full.extend(&one, 3);
        assert_eq!((full.len(), full.agents().len()), (3, 2), "who has no room brings no agent");
        more.truncate(1);
        assert_eq!((seen(&more), more.agents().len()), (vec![of(0, "b", "r0 z z ")], 1));
        more.extend(&one, 2);
        more.extend(&one, 9);
        assert_eq!(seen(&more), [&[of(0, "b", "r0 z z "), all[0].clone()], &all[..]].concat());

        more.clear();
        assert!(more.is_empty() && more.agents().is_empty() && more.texts.is_empty());
    }
}
