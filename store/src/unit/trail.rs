//! What a unit leaves in the audit trail.

use std::collections::BTreeSet;

use fhir::resource_type::ResourceType;
use fhir::search::named;

use super::{Planned, Sought, Unit};
use crate::audit::{Act, BRIEFER, Entry, Outcome, briefly, kept};
use crate::commit::{Activate, ClientChange};
use crate::connection::Link;
use crate::context::each;
use crate::record::{Effect, Written};
use crate::version::Move;

/// Patients that are named by the criteria of one unit.
const MOST_NAMED: usize = 1000;

impl Unit {
    /// Who did what, to be written before the transaction ends.
    pub(super) fn audit(&self, link: &mut Link, written: &[Written], moves: &[Move], sought: &[Sought<'_>]) {
        if link.authority.is_none() {
            return;
        }
        let mut note = |entry: Entry| {
            link.audited.push(self.at, &self.request, &self.who, &entry);
        };
        let mut touched: BTreeSet<String> = BTreeSet::new();
        let mut room = MOST_NAMED;
        for ((planned, Written { effect, stored }), moved) in self.writes.iter().zip(written).zip(moves) {
            let act = match (planned, effect) {
                (_, Effect::Created) => Act::Create,
                // It was there already, and is shown.
                (Planned::Create { .. }, _) => Act::Read,
                (Planned::Update { .. }, _) => Act::Update,
                (Planned::Patch { .. }, _) => Act::Patch,
                (Planned::Delete { .. }, _) => Act::Delete,
            };
            let query = planned.asked();
            let absent = *effect == Effect::Absent;
            // What goes from one chart into another concerns both.
            let mut patients =
                if moved.patients.is_empty() { stored.patient.clone() } else { moved.patients.join(" ") };
            if !query.is_empty() {
                // Whether there is something of theirs, the answer has told.
                name(&mut patients, &query, &mut room);
            }
            for (n, patient) in each(&patients).enumerate() {
                let entity =
                    (!stored.id.is_empty()).then(|| (stored.kind, stored.id.clone(), stored.version));
                let (outcome, text) = match (moved.hidden, absent) {
                    (true, _) => (Outcome::Minor, "it was not deleted: who asked may not see it"),
                    (false, true) => (Outcome::Success, "there was nothing to delete"),
                    (false, false) => (Outcome::Success, ""),
                };
                let (patient, text, query) = (patient.to_owned(), text.to_owned(), in_event(n, &query));
                touched.insert(patient.clone());
                note(Entry { outcome, entity, patient, query, note: text, ..Entry::of(act) });
            }
        }
        for (text, patients) in sought {
            let (mut patients, query) = (patients.clone(), kept(&format!("GET {text}")));
            name(&mut patients, &query, &mut room);
            for (n, patient) in each(&patients).enumerate() {
                let (patient, query) = (patient.to_owned(), in_event(n, &query));
                note(Entry { patient, query, ..Entry::of(Act::SearchType) });
            }
        }
        // In an emergency each patient has an event of their own, of what was written too.
        for patient in touched.into_iter().filter(|_| self.who.agent.breaks_glass()) {
            note(Entry { patient, query: self.asked.clone(), ..Entry::of(Act::BreakGlass) });
        }
        for done in &self.assessments {
            let entity = Some((ResourceType::RISK_ASSESSMENT, done.resource_id.clone(), 0));
            let (patient, text) = (done.patient.clone(), format!("{}@{}", done.model, done.version));
            note(Entry { entity, patient, note: text, ..Entry::of(Act::Score) });
        }
        for Activate { model, version } in &self.activate {
            note(Entry { note: format!("{model}@{version}"), ..Entry::of(Act::Activate) });
        }
        for change in &self.clients {
            let (account, text) = match change {
                ClientChange::Add { id, .. } => (id.clone(), format!("client {id} added")),
                ClientChange::Revoke { id } => (id.clone(), format!("client {id} revoked")),
            };
            note(Entry { account, note: text, ..Entry::of(Act::Security) });
        }
        for entry in &self.notes {
            link.audited.push(self.at, &self.request, &self.who, entry);
        }
        if let Some(records) = &self.records {
            link.audited.extend(records, usize::MAX);
        }
    }
}

impl Planned {
    /// What it asks by criteria, which are a search; empty where it names its target.
    fn asked(&self) -> String {
        let Some(query) = self.criteria() else { return String::new() };
        let kind = query.kind().map_or("", ResourceType::name);
        let before = match self {
            Self::Create { .. } => format!("POST {kind} If-None-Exist: "),
            Self::Update { .. } => format!("PUT {kind}?"),
            Self::Patch { .. } => format!("PATCH {kind}?"),
            Self::Delete { .. } => format!("DELETE {kind}?"),
        };
        let pair = |(name, value): &(String, String)| {
            format!("{name}={}", value.replace('%', "%25").replace('&', "%26"))
        };
        kept(&(before + &query.used.iter().map(pair).collect::<Vec<_>>().join("&")))
    }
}

/// Adds those whom criteria name, as long as there is room.
fn name(patients: &mut String, asked: &str, room: &mut usize) {
    let known: BTreeSet<&str> = patients.split_ascii_whitespace().collect();
    let mut more: Vec<String> = named(asked, *room);
    more.retain(|id| !known.contains(id.as_str()));
    *room -= more.len();
    for id in more {
        patients.push_str(if patients.is_empty() { "" } else { " " });
        patients.push_str(&id);
    }
}

/// The first of several events has criteria whole.
fn in_event(event: usize, query: &str) -> String {
    if event == 0 { query.to_owned() } else { briefly(query, BRIEFER) }
}
