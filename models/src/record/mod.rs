//! What the models can read of one patient.

mod chart;
mod reading;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir::json::Json;

use crate::catalogue::Catalogue;
use crate::moment::{self, Birth};
use crate::valueset::{Said, Sets};
use crate::vocabulary::{CodeId, Vocabulary};

/// What the models can read of one patient: compact, owned, independent of the resources.
#[derive(Debug, Clone, Default)]
pub struct PatientRecord {
    pub(crate) patient: Option<Arc<str>>,
    pub(crate) latest: Option<DateTime<Utc>>,
    pub(crate) person: Option<Person>,
    /// Sorted by code, then by clinical time, newest last.
    readings: Vec<Reading>,
    pub(crate) facts: Vec<Fact>,
    references: Vec<Arc<str>>,
    /// An active medicine of which nobody says what it is.
    unknown_medicine: Option<u32>,
    /// A condition without any code that is known here.
    uncoded_condition: Option<u32>,
    /// A second patient's resources were offered.
    pub(crate) stranger: Option<Arc<str>>,
}

/// What the Patient resource says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Person {
    pub(crate) reference: Arc<str>,
    pub(crate) birth: Option<Birth>,
    pub(crate) sex: Option<Arc<str>>,
    pub(crate) died: Option<Died>,
    pub(crate) country: Option<Arc<str>>,
    /// Why nothing may be concluded from it, and what to do.
    pub(crate) unusable: Option<String>,
    /// `active` is false.
    pub(crate) inactive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Died {
    At(DateTime<Utc>),
    Sometime,
}

/// One relevant value of one Observation or component.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) code: CodeId,
    pub(crate) effective: Option<DateTime<Utc>>,
    pub(crate) issued: Option<DateTime<Utc>>,
    pub(crate) updated: Option<DateTime<Utc>>,
    pub(crate) status: Status,
    pub(crate) value: Value,
    reference: u32,
}

impl Reading {
    /// Is there a value to be used, or to be refused for its own sake?
    pub(crate) fn counts(&self) -> bool {
        !matches!(self.status, Status::Excluded(_)) && !matches!(self.value, Value::Absent(_))
    }
}

/// Whether an Observation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Final,
    Preliminary,
    /// With the status as written.
    Excluded(&'static str),
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Quantity {
        number: f64,
        text: Box<str>,
        unit: Unit,
    },
    /// A comparator stands before the number.
    Bound(Box<str>),
    Coded {
        sets: Sets,
        text: Box<str>,
    },
    Flag(bool),
    /// Of a type that is no measurement, e.g. a string.
    Other(&'static str),
    /// With the reason, if one is given.
    Absent(Option<Box<str>>),
}

/// The unit of a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A UCUM code, and the words for people where they are others.
    Ucum(Arc<str>, Option<Arc<str>>),
    /// Text without a UCUM code.
    Bare(Arc<str>),
    /// A plain number (`valueInteger`) or no unit at all.
    Without,
}

impl Unit {
    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Ucum(text, _) | Self::Bare(text) => text,
            Self::Without => "",
        }
    }
}

/// A condition or a medicine in use.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) sets: Sets,
    pub(crate) kind: FactKind,
    /// By its own status; a condition may count although it is over.
    pub(crate) active: bool,
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) preliminary: bool,
    pub(crate) doubt: Option<Doubt>,
    reference: u32,
}

/// Why a fact can be taken neither as a yes nor as a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Something that is not understood may turn it into its opposite.
    Qualified,
    /// Its words sound like it, and it has no code that would tell.
    Uncoded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FactKind {
    Condition,
    Medication,
}

impl PatientRecord {
    /// The patient, e.g. `Patient/1`.
    pub fn patient(&self) -> Option<&Arc<str>> {
        self.patient.as_ref()
    }

    /// The clinical time of the newest Observation of any kind that counts.
    pub fn latest_observation(&self) -> Option<DateTime<Utc>> {
        self.latest
    }

    /// When the next value that lies in the future of `moment` comes to count.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let counts = |reading: &&Reading| !matches!(reading.status, Status::Excluded(_));
        let times = self.readings.iter().filter(counts).filter_map(|reading| reading.effective);
        times.filter(|time| *time > moment).min()
    }

    /// The readings of one code, oldest first.
    pub(crate) fn of(&self, code: CodeId) -> &[Reading] {
        let from = self.readings.partition_point(|r| r.code < code);
        let to = self.readings.partition_point(|r| r.code <= code);
        self.readings.get(from..to).unwrap_or_default()
    }

    pub(crate) fn cite(&self, reading: &Reading) -> Option<&Arc<str>> {
        self.references.get(usize::try_from(reading.reference).ok()?)
    }

    /// The resource it was read from, whichever version.
    pub(crate) fn source(&self, reading: &Reading) -> Option<&str> {
        self.cite(reading).map(|text| chart::unversioned(text))
    }

    /// The request or statement of an active medicine of which nobody says what it is.
    pub(crate) fn unknown_medicine(&self) -> Option<&Arc<str>> {
        self.references.get(usize::try_from(self.unknown_medicine?).ok()?)
    }

    /// A condition that could not be looked at.
    pub(crate) fn uncoded_condition(&self) -> Option<&Arc<str>> {
        self.references.get(usize::try_from(self.uncoded_condition?).ok()?)
    }

    pub(crate) fn cite_fact(&self, fact: &Fact) -> Option<&Arc<str>> {
        self.references.get(usize::try_from(fact.reference).ok()?)
    }
}

/// Builds a [`PatientRecord`] from resources in any order. All of them must be of one patient.
#[derive(Debug)]
pub struct RecordBuilder<'c> {
    vocabulary: &'c Vocabulary,
    record: PatientRecord,
    units: Vec<Arc<str>>,
    /// Medicines by reference, and the requests that wait for them.
    medicines: HashMap<String, Said>,
    waiting: Vec<Waiting>,
    /// The Patient that was read.
    subject: Option<String>,
}

/// The use of a medicine that another resource describes.
#[derive(Debug)]
struct Waiting {
    medicine: String,
    /// What the name beside the reference says.
    named: Said,
    fact: Fact,
}

impl<'c> RecordBuilder<'c> {
    /// An empty record of what the models of `catalogue` read.
    pub fn new(catalogue: &'c Catalogue) -> Self {
        Self {
            vocabulary: catalogue.vocabulary(),
            record: PatientRecord::default(),
            units: Vec::new(),
            medicines: HashMap::new(),
            waiting: Vec::new(),
            subject: None,
        }
    }

    /// Names the patient, where no Patient resource will (`Patient/1`).
    pub fn patient(&mut self, reference: &str) {
        self.record.patient = Some(Arc::from(reference));
    }

    /// Takes in what is relevant; `reference` is how the resource is to be cited,
    /// e.g. `Observation/1/_history/3`.
    pub fn add(&mut self, resource: &Json, reference: &str) {
        match resource.text("resourceType") {
            Some("Observation") => self.observation(resource, reference),
            Some("Condition") => self.condition(resource, reference),
            Some("MedicationRequest" | "MedicationStatement") => self.medication_use(resource, reference),
            Some("Medication") => self.medicine(resource, reference),
            Some("Patient") => self.person(resource, reference),
            _ => {}
        }
    }

    /// Of the medicines added so far, those that are waited for are what is meant: what is added
    /// later may have their names and be others.
    pub fn settle_medicines(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match self.medicines.get(&waiting.medicine) {
                Some(said) => self.takes(chart::either(*said, waiting.named), waiting.fact),
                None => self.waiting.push(waiting),
            }
        }
        self.medicines.clear();
    }

    /// The clinical time of the newest value of a LOINC code that counts at a moment: what is older
    /// than that changes no assessment of the moment.
    pub fn newest(&self, code: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let id = self.vocabulary.id(code)?;
        let of_code = self.record.readings.iter().filter(|reading| reading.code == id && reading.counts());
        of_code.filter_map(|reading| reading.effective).filter(|effective| *effective <= at).max()
    }

    /// Takes back what was read from a resource that is cited so; a newer version follows.
    pub fn forget(&mut self, reference: &str) {
        let record = &mut self.record;
        let gone: Vec<u32> = (0..)
            .zip(&record.references)
            .filter(|(_, r)| r.as_ref() == reference)
            .map(|(at, _)| at)
            .collect();
        record.readings.retain(|reading| !gone.contains(&reading.reference));
        record.facts.retain(|fact| !gone.contains(&fact.reference));
        self.waiting.retain(|waiting| !gone.contains(&waiting.fact.reference));
        record.unknown_medicine = record.unknown_medicine.filter(|at| !gone.contains(at));
        record.uncoded_condition = record.uncoded_condition.filter(|at| !gone.contains(at));
        if record.person.as_ref().is_some_and(|person| person.reference.as_ref() == reference) {
            record.person = None;
        }
    }

    /// The record.
    pub fn build(mut self) -> PatientRecord {
        self.settle_medicines();
        for waiting in std::mem::take(&mut self.waiting) {
            self.takes(waiting.named, waiting.fact);
        }
        let mut record = self.record;
        // By id and not by version: the same order whether or not versions are known.
        let cited = |at: u32| {
            let text = usize::try_from(at).ok().and_then(|at| record.references.get(at));
            text.map(|text| chart::unversioned(text))
        };
        record.readings.sort_by(|a, b| {
            (a.code, a.effective, a.issued, a.updated, cited(a.reference)).cmp(&(
                b.code,
                b.effective,
                b.issued,
                b.updated,
                cited(b.reference),
            ))
        });
        record.facts.sort_by(|a, b| (a.from, cited(a.reference)).cmp(&(b.from, cited(b.reference))));
        record
    }

    /// Why what the resource says can't be taken as it stands.
    fn qualified(resource: &Json) -> Option<&'static str> {
        if resource.get("modifierExtension").is_some() {
            return Some("qualified by a modifierExtension");
        }
        resource.get("implicitRules").map(|_| "made under implicitRules that are not known here")
    }

    fn cited(&mut self, reference: &str) -> u32 {
        // A panel's components come one after the other.
        if self.record.references.last().is_none_or(|last| last.as_ref() != reference) {
            self.record.references.push(Arc::from(reference));
        }
        u32::try_from(self.record.references.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn person(&mut self, resource: &Json, reference: &str) {
        let subject = match resource.text("id") {
            Some(id) => format!("Patient/{id}"),
            None => reference.split("/_history/").next().unwrap_or(reference).to_owned(),
        };
        let person = Person::read(resource, reference);
        if let Some(known) = &self.record.person {
            let same = known.birth == person.birth && known.sex == person.sex;
            if self.subject.as_deref() != Some(&subject) || !same {
                self.record.stranger = Some(Arc::from(subject));
            }
            return;
        }
        if self.record.patient.is_none() {
            self.record.patient = Some(Arc::from(subject.as_str()));
        }
        self.subject = Some(subject);
        self.record.person = Some(person);
    }
}

impl Person {
    fn read(resource: &Json, reference: &str) -> Self {
        let died = match (resource.text("deceasedDateTime"), resource.get("deceasedBoolean")) {
            (Some(at), _) => Some(moment::start(at).map_or(Died::Sometime, Died::At)),
            (None, Some(Json::Bool(true))) => Some(Died::Sometime),
            _ => None,
        };
        // The current address, if periods or uses tell; the first otherwise.
        let addresses = resource.list("address");
        let current = |a: &&Json| a.text("use") != Some("old") && a.at(&["period", "end"]).is_none();
        let address = addresses.iter().find(current).or(addresses.first());
        let replaced = resource.list("link").iter().find(|link| link.text("type") == Some("replaced-by"));
        let unusable = match (RecordBuilder::qualified(resource), replaced) {
            (Some(why), _) => Some(format!("the Patient is {why}")),
            (None, Some(link)) => {
                let other = link.get("other").and_then(|other| other.text("reference"));
                Some(format!(
                    "the Patient was replaced by {}: ask about that one",
                    other.unwrap_or("another")
                ))
            }
            _ => None,
        };
        Self {
            reference: Arc::from(reference),
            birth: resource.text("birthDate").and_then(Birth::parse),
            sex: sex(resource).map(Arc::from),
            died,
            country: address
                .and_then(|a| a.text("country"))
                .map(|c| Arc::from(c.trim().replace('.', "").to_uppercase()))
                .filter(|c: &Arc<str>| !c.is_empty()),
            unusable,
            inactive: resource.get("active").and_then(Json::as_bool) == Some(false),
        }
    }
}

const SEX_PARAMETER: &str = "http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse";

/// The sex parameter for clinical use where one is given, else the administrative gender.
fn sex<'a>(patient: &'a Json) -> Option<&'a str> {
    let part = |e: &'a Json<'a>, url: &str| e.list("extension").iter().find(|e| e.text("url") == Some(url));
    let mut parameters = patient
        .list("extension")
        .iter()
        .filter(|e| e.text("url") == Some(SEX_PARAMETER))
        // What has an end is of another time.
        .filter(|e| part(e, "period").is_none_or(|p| p.at(&["valuePeriod", "end"]).is_none()))
        .filter_map(|e| part(e, "value")?.at(&["valueCodeableConcept", "coding", "code"])?.as_str());
    let sex = match parameters.next() {
        Some("female-typical") => Some("female"),
        Some("male-typical") => Some("male"),
        Some(other) => Some(other),
        None => return patient.text("gender"),
    };
    let typical = |other: &str| other.strip_suffix("-typical").unwrap_or(other) == sex.unwrap_or_default();
    if parameters.all(typical) { sex } else { Some("contradictory (sex parameters for clinical use)") }
}
