//! Conditions and medicines: what is so, and since when.

use chrono::{DateTime, Utc};
use fhir::json::Json;

use crate::moment;
use crate::record::{Fact, FactKind, RecordBuilder};
use crate::valueset::Sets;

impl RecordBuilder<'_> {
    pub(super) fn condition(&mut self, resource: &Json, reference: &str) {
        let sets = resource.get("code").map_or(0, |c| self.vocabulary.sets.of_concept(c));
        let verification = code(resource, "verificationStatus");
        if sets == 0 || matches!(verification, Some("refuted" | "entered-in-error")) {
            return;
        }
        let active = match code(resource, "clinicalStatus") {
            Some("inactive" | "remission" | "resolved") => false,
            Some(_) | None => true,
        };
        let fact = Fact {
            sets,
            kind: FactKind::Condition,
            active,
            from: moment_of(resource, &["onsetDateTime", "recordedDate"])
                .or_else(|| period(resource, "onsetPeriod", "start")),
            until: moment_of(resource, &["abatementDateTime"])
                .or_else(|| period(resource, "abatementPeriod", "end")),
            qualified: Self::qualified(resource).is_some(),
            preliminary: matches!(verification, Some("unconfirmed" | "provisional" | "differential")),
            reference: self.cited(reference),
        };
        self.record.facts.push(fact);
    }

    pub(super) fn medication_use(&mut self, resource: &Json, reference: &str) {
        let statement = resource.text("resourceType") == Some("MedicationStatement");
        let planned = matches!(resource.text("intent"), Some("proposal" | "plan" | "option"));
        let forbidden = resource.get("doNotPerform").and_then(Json::as_bool) == Some(true);
        if planned || forbidden || resource.text("status") != Some("active") {
            return;
        }
        let mut fact = Fact {
            sets: 0,
            kind: FactKind::Medication,
            active: true,
            from: if statement {
                moment_of(resource, &["effectiveDateTime", "dateAsserted"])
                    .or_else(|| period(resource, "effectivePeriod", "start"))
            } else {
                moment_of(resource, &["authoredOn"])
            },
            until: period(resource, "effectivePeriod", "end"),
            preliminary: false,
            qualified: Self::qualified(resource).is_some(),
            reference: 0,
        };
        if let Some(concept) = resource.get("medicationCodeableConcept") {
            fact.sets = self.vocabulary.sets.of_medication(concept);
            if fact.sets != 0 {
                fact.reference = self.cited(reference);
                self.record.facts.push(fact);
            }
            return;
        }
        let Some(target) = resource.at(&["medicationReference", "reference"]).and_then(Json::as_str) else {
            return;
        };
        if let Some(id) = target.strip_prefix('#') {
            let contained = resource.list("contained").iter().find(|c| c.text("id") == Some(id));
            fact.sets = contained.map_or(0, |c| self.sets_of_medicine(c));
            if fact.sets != 0 {
                fact.reference = self.cited(reference);
                self.record.facts.push(fact);
            }
            return;
        }
        fact.reference = self.cited(reference);
        self.waiting.push((unversioned(target).to_owned(), fact));
    }

    pub(super) fn medicine(&mut self, resource: &Json, reference: &str) {
        let sets = self.sets_of_medicine(resource);
        if let Some(id) = resource.text("id") {
            self.medicines.insert(format!("Medication/{id}"), sets);
        }
        self.medicines.insert(unversioned(reference).to_owned(), sets);
    }

    fn sets_of_medicine(&self, medicine: &Json) -> Sets {
        let ingredients = medicine.list("ingredient").iter().filter_map(|i| i.get("itemCodeableConcept"));
        ingredients
            .chain(medicine.get("code"))
            .fold(0, |all, concept| all | self.vocabulary.sets.of_medication(concept))
    }
}

fn code<'a>(resource: &'a Json, element: &str) -> Option<&'a str> {
    resource.get(element)?.list("coding").iter().find_map(|c| c.text("code"))
}

fn moment_of(resource: &Json, elements: &[&str]) -> Option<DateTime<Utc>> {
    elements.iter().find_map(|element| moment::start(resource.text(element)?))
}

fn period(resource: &Json, element: &str, end: &str) -> Option<DateTime<Utc>> {
    moment::start(resource.get(element)?.text(end)?)
}

fn unversioned(reference: &str) -> &str {
    reference.split_once("/_history/").map_or(reference, |(before, _)| before)
}
