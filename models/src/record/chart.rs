//! Conditions and medicines: what is so, and since when.

use chrono::{DateTime, Utc};
use fhir::json::Json;

use crate::moment;
use crate::record::{Doubt, Fact, FactKind, RecordBuilder, Waiting};
use crate::valueset::Said;

impl RecordBuilder<'_> {
    pub(super) fn condition(&mut self, resource: &Json, reference: &str) {
        let said = resource.get("code").map(|c| self.vocabulary.sets.of_condition(c)).unwrap_or_default();
        let verification = code(resource, "verificationStatus");
        if matches!(verification, Some("refuted" | "entered-in-error")) {
            return;
        }
        let (sets, uncoded) = match said {
            Said { yes: 0, perhaps: 0, understood } => {
                if !understood && self.record.uncoded_condition.is_none() {
                    self.record.uncoded_condition = Some(self.cited(reference));
                }
                return;
            }
            Said { yes: 0, perhaps, .. } => (perhaps, Some(Doubt::Uncoded)),
            Said { yes, .. } => (yes, None),
        };
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
            doubt: Self::qualified(resource).map(|_| Doubt::Qualified).or(uncoded),
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
        let fact = Fact {
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
            doubt: Self::qualified(resource).map(|_| Doubt::Qualified),
            reference: self.cited(reference),
        };
        if let Some(concept) = resource.get("medicationCodeableConcept") {
            let said = self.vocabulary.sets.of_medication(concept);
            self.takes(said, fact);
            return;
        }
        let medicine = resource.get("medicationReference");
        let named = medicine.and_then(|m| m.text("display"));
        let named = named.map(|name| self.vocabulary.sets.of_medicine_named(name)).unwrap_or_default();
        let Some(target) = medicine.and_then(|m| m.text("reference")) else {
            self.takes(named, fact);
            return;
        };
        if let Some(id) = target.strip_prefix('#') {
            let contained = resource.list("contained").iter().find(|c| c.text("id") == Some(id));
            let said = contained.map(|c| self.of_medicine(c)).unwrap_or_default();
            self.takes(either(said, named), fact);
            return;
        }
        self.waiting.push(Waiting { medicine: unversioned(target).to_owned(), named, fact });
    }

    /// An active medicine, and what is known of it.
    pub(super) fn takes(&mut self, said: Said, mut fact: Fact) {
        fact.sets = said.yes;
        if said.yes != 0 {
            self.record.facts.push(fact);
        } else if !said.understood && self.record.unknown_medicine.is_none() {
            self.record.unknown_medicine = Some(fact.reference);
        }
    }

    pub(super) fn medicine(&mut self, resource: &Json, reference: &str) {
        let said = self.of_medicine(resource);
        let by_id = resource.text("id").map(|id| format!("Medication/{id}"));
        for name in by_id.into_iter().chain([unversioned(reference).to_owned()]) {
            // Two of one name that differ: nobody can say which is meant.
            let known = self.medicines.entry(name).or_insert(said);
            if *known != said {
                *known = Said::default();
            }
        }
    }

    fn of_medicine(&self, medicine: &Json) -> Said {
        let ingredients = medicine.list("ingredient").iter();
        let ingredients = ingredients.filter_map(|i| i.get("itemCodeableConcept"));
        let concepts = ingredients.chain(medicine.get("code"));
        concepts.fold(Said::default(), |all, one| either(all, self.vocabulary.sets.of_medication(one)))
    }
}

/// What either of two descriptions of one medicine says.
pub(super) fn either(one: Said, other: Said) -> Said {
    Said {
        yes: one.yes | other.yes,
        perhaps: one.perhaps | other.perhaps,
        understood: one.understood || other.understood,
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

/// A citation without its version.
pub(crate) fn unversioned(reference: &str) -> &str {
    reference.split_once("/_history/").map_or(reference, |(before, _)| before)
}
