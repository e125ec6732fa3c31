//! What patients withhold from who asks, as a filter.

use std::sync::Arc;

use fhir::consent::{by_medication, tells_apart};
use fhir::profile::MODEL_SYSTEM;
use fhir::reference::hash_text;
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, ExactTest, Index, Test, parameter};

/// Patients in the order of their ids, each with the hash of the reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patients {
    ids: Arc<[String]>,
    charts: Arc<[i64]>,
}

impl Patients {
    pub(crate) fn new(mut all: Vec<(String, i64)>) -> Self {
        all.sort_unstable();
        all.dedup();
        let (ids, charts): (Vec<String>, Vec<i64>) = all.into_iter().unzip();
        Self { ids: ids.into(), charts: charts.into() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, i64)> + '_ {
        self.ids.iter().cloned().zip(self.charts.iter().copied())
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.ids.binary_search_by(|one| one.as_str().cmp(id)).is_ok()
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    /// Those of the chart, or all.
    fn of(&self, chart: Option<i64>) -> Arc<[String]> {
        let Some(chart) = chart else { return Arc::clone(&self.ids) };
        self.iter().filter(|(_, one)| *one == chart).map(|(id, _)| id).collect()
    }
}

/// What some patients withhold from who asks.
#[derive(Debug)]
pub(crate) struct Withheld {
    patients: Patients,
    /// What of their records: all of these hold of it, where none means all.
    what: Vec<Clause>,
    /// The same, where the codes of the Medications that resources refer to count too, be it as an exception.
    medicated: Vec<Clause>,
    /// Of what types that can be; none for all.
    kinds: Option<Vec<ResourceType>>,
}

impl Withheld {
    pub(crate) fn new(what: Vec<Clause>, patients: Patients) -> Self {
        let kinds = what.iter().find_map(|one| match &one.test {
            Test::Kind(kinds) if !one.negated => Some(kinds.clone()),
            _ => None,
        });
        let is_read = |kinds: &Vec<ResourceType>| kinds.iter().any(|kind| INPUTS.contains(kind));
        if what.is_empty() || kinds.as_ref().is_some_and(|kinds| !is_read(kinds)) {
            return Self::of(patients, what, kinds);
        }
        // What a model made of it says it too: with its inputs' values, or as a number that stands on them.
        let score = ExactTest { value: None, system: Some(hash_text(MODEL_SYSTEM)) };
        let made = parameter(ResourceType::OBSERVATION, "method")
            .map(|one| Clause::new(one.params.clone(), Test::Exact(vec![score])));
        let assessed = Clause::new(Vec::new(), Test::Kind(vec![ResourceType::RISK_ASSESSMENT]));
        let any = [Clause::all(what), assessed].into_iter().chain(made).collect();
        let made_of_it = [ResourceType::RISK_ASSESSMENT, ResourceType::OBSERVATION];
        let kinds = kinds.map(|kinds| kinds.into_iter().chain(made_of_it).collect());
        Self::of(patients, vec![Clause::new(Vec::new(), Test::Either(any))], kinds)
    }

    fn of(patients: Patients, what: Vec<Clause>, kinds: Option<Vec<ResourceType>>) -> Self {
        let by_code: Vec<Clause> = what.iter().map(by_medication).collect();
        let medicated = if by_code == what {
            what.clone()
        } else {
            let either = [what.clone(), by_code].map(Clause::all);
            vec![Clause::new(Vec::new(), Test::Either(either.into()))]
        };
        Self { patients, what, medicated, kinds }
    }

    /// What is not withheld, of patients in that chart or in all; none if nothing is.
    pub(crate) fn rest(&self, chart: Option<i64>, kinds: &[ResourceType]) -> Option<Clause> {
        let concerned = |kind: &ResourceType| {
            !is_open(*kind) && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
        };
        if !kinds.iter().any(concerned) {
            return None;
        }
        let patients = self.patients.of(chart);
        if patients.is_empty() {
            return None;
        }
        let mut all = vec![Clause::new(Vec::new(), Test::About(patients))];
        if kinds.len() > 1 {
            let open = Test::Kind(ResourceType::all().filter(|kind| is_open(*kind)).collect());
            all.push(!Clause::new(Vec::new(), open));
        }
        let medicated = kinds.iter().any(|kind| parameter(*kind, MEDICATION).is_some());
        all.extend(if medicated { &self.medicated } else { &self.what }.iter().cloned());
        Some(!Clause::all(all))
    }

    /// Is more or less withheld of what refers to a Medication, where it is the one and not the other?
    pub(crate) fn tells_apart(&self, one: &Index, other: &Index) -> bool {
        self.what.iter().any(|what| tells_apart(what, one, other))
    }

    /// How many patients that are.
    pub(crate) fn breadth(&self) -> usize {
        self.patients.len()
    }

    /// Those patients.
    pub(crate) fn patients(&self) -> &Patients {
        &self.patients
    }

    /// Is one of these patients among those it is about?
    pub(crate) fn is_about(&self, patients: &str) -> bool {
        patients.split_ascii_whitespace().any(|id| self.patients.has(id))
    }

    /// Is it what has these index entries, and is about one of the patients?
    pub(crate) fn is(&self, of: &Index, id: &str, updated: i64) -> bool {
        self.is_about(&of.patients) && self.what.iter().all(|what| what.matches(of, id, updated))
    }
}

/// By what a resource refers to a Medication.
pub(crate) const MEDICATION: &str = "medication";

/// What models read.
const INPUTS: [ResourceType; 6] = [
    ResourceType::PATIENT,
    ResourceType::OBSERVATION,
    ResourceType::CONDITION,
    ResourceType::MEDICATION,
    ResourceType::MEDICATION_REQUEST,
    ResourceType::MEDICATION_STATEMENT,
];

/// What no patient withholds: their decisions, and who did what.
pub(crate) fn is_open(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::CONSENT | ResourceType::AUDIT_EVENT)
}
