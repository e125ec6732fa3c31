//! Which codes matter to any model: everything else in a record is passed over.

use std::collections::HashMap;
use std::sync::Arc;

use fhir::json::Json;

use crate::valueset::ValueSets;

/// A LOINC code that some model reads.
pub(crate) type CodeId = u16;

/// The codes and value sets of all loaded models; grows, never renumbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    ids: HashMap<Arc<str>, CodeId>,
    pub(crate) sets: ValueSets,
}

const LOINC: [&str; 2] = ["http://loinc.org", "urn:oid:2.16.840.1.113883.6.1"];

impl Vocabulary {
    /// # Errors
    /// More codes than any catalogue can mean.
    pub(crate) fn intern(&mut self, code: &Arc<str>) -> Result<CodeId, String> {
        if let Some(id) = self.ids.get(code) {
            return Ok(*id);
        }
        let id = CodeId::try_from(self.ids.len()).map_err(|_| "too many LOINC codes".to_owned())?;
        self.ids.insert(Arc::clone(code), id);
        Ok(id)
    }

    pub(crate) fn id(&self, code: &str) -> Option<CodeId> {
        self.ids.get(code).copied()
    }

    /// The relevant LOINC codes of a `CodeableConcept`.
    pub(crate) fn codes<'a>(&'a self, concept: Option<&'a Json<'a>>) -> impl Iterator<Item = CodeId> + 'a {
        concept
            .map_or(&[][..], |c| c.list("coding"))
            .iter()
            .filter(|coding| coding.text("system").is_some_and(|s| LOINC.contains(&s)))
            .filter_map(|coding| self.ids.get(coding.text("code")?).copied())
    }

    /// Could this resource change any assessment?
    pub(crate) fn reads(&self, resource: &Json) -> bool {
        match resource.text("resourceType") {
            Some("Patient" | "Medication") => true,
            Some("Observation") => {
                self.codes(resource.get("code")).next().is_some()
                    || resource.list("component").iter().any(|c| self.codes(c.get("code")).next().is_some())
            }
            Some("Condition") => resource.get("code").is_some_and(|c| {
                let said = self.sets.of_condition(c);
                said.yes | said.perhaps != 0
            }),
            // Its medicine may stand in another resource.
            Some("MedicationRequest" | "MedicationStatement") => {
                resource.get("medicationCodeableConcept").is_none_or(|c| {
                    let said = self.sets.of_medication(c);
                    said.yes != 0 || !said.understood
                })
            }
            _ => false,
        }
    }
}
