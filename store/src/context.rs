//! Who asks, when, and in which request: the first argument of every call.

use std::sync::Arc;

use fhir::resource_type::ResourceType;
use fhir::search::named;

use crate::access::Access;
use crate::audit::{Act, BRIEFER, Entry, Trail, Who, briefly};
use crate::record::Stored;

/// Patients whom a request names that are told of one by one, however many searches it holds.
const MOST_NAMED: usize = 1000;

/// One request to the store.
#[derive(Debug, Clone)]
pub struct Context {
    /// The request's id, for the log and the audit trail.
    pub request: Arc<str>,
    /// The time of the request in microseconds since 1970 UTC; what is written carries it.
    pub at: i64,
    /// Who asks.
    pub who: Arc<Who>,
    /// What they may do.
    pub access: Access,
    /// In whose name, and with what rights, things go on after the request; empty for a part of the program.
    /// What it means is known to who made it.
    pub mandate: Arc<str>,
    /// Where what they see is noted; a part of the program itself leaves no such trail.
    pub trail: Option<Trail>,
}

impl Context {
    /// A request by a part of the program.
    pub fn system(name: &'static str, at: i64) -> Self {
        Self {
            request: "".into(),
            at,
            who: Who::system(name),
            access: Access::Whole,
            mandate: "".into(),
            trail: None,
        }
    }

    /// The same caller, on whose behalf a part of the program does what they may not do themselves.
    #[must_use]
    pub fn on_behalf(&self) -> Self {
        Self { access: Access::Whole, ..self.clone() }
    }

    /// Adds to the trail.
    pub fn note(&self, entry: Entry) {
        if let Some(trail) = &self.trail {
            trail.note(entry);
        }
    }

    /// It asks this too.
    pub fn asks(&self, more: &str) {
        if let Some(trail) = &self.trail {
            trail.asks(more);
        }
    }

    /// It is about this patient.
    pub fn is_about(&self, patient: Option<&str>) {
        if let (Some(trail), Some(patient)) = (&self.trail, patient) {
            trail.is_about(patient);
        }
    }

    /// One resource was shown.
    pub(crate) fn saw(&self, act: Act, stored: &Stored) {
        if let Some(trail) = &self.trail {
            let entity = |version| Some((stored.kind, stored.id.clone(), version));
            for patient in each(&stored.patient) {
                let patient = patient.to_owned();
                trail.note(Entry { entity: entity(stored.version), patient, ..Entry::of(act) });
            }
        }
    }

    /// A list was shown: once for each patient that is in it, or whom who asked named.
    pub(crate) fn saw_list<'s>(
        &self,
        act: Act,
        of: Option<(ResourceType, &str)>,
        patients: impl IntoIterator<Item = &'s str>,
    ) {
        let Some(trail) = &self.trail else { return };
        let asked = trail.asked();
        let most = MOST_NAMED.saturating_sub(trail.len());
        let mut named = named(&asked, most + 1);
        let note = if named.len() > most {
            named.truncate(most);
            format!("more than {most} patients were named")
        } else {
            String::new()
        };
        let shown = patients.into_iter().flat_map(str::split_ascii_whitespace);
        let mut patients: Vec<&str> = shown.map(|one| one as &str).collect();
        patients.extend(named.iter().map(String::as_str));
        patients.sort_unstable();
        patients.dedup();
        if patients.is_empty() {
            patients.push("");
        }
        for (n, patient) in patients.into_iter().enumerate() {
            let entity = of.map(|(kind, id)| (kind, id.to_owned(), 0));
            let query = if n == 0 { asked.clone() } else { briefly(&asked, BRIEFER) };
            let (patient, note) = (patient.to_owned(), note.clone());
            trail.note(Entry { entity, patient, query, note, ..Entry::of(act) });
        }
    }
}

/// Every patient, or once nobody.
pub(crate) fn each(patients: &str) -> impl Iterator<Item = &str> {
    let nobody = patients.is_empty().then_some("");
    patients.split_ascii_whitespace().chain(nobody)
}
