//! Sets of codes that mean one thing to a model: a disease, a class of medicines, an answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fhir::json::Json;
use serde::Deserialize;

/// A set of codes as written in `valuesets/*.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueSet {
    /// Name in manifests.
    pub id: String,
    /// For a person to read.
    pub title: String,
    /// Who chose the codes, and from what.
    pub source: String,
    /// Codes by system URI.
    #[serde(default)]
    pub codes: BTreeMap<String, Vec<String>>,
    /// Beginnings of codes by system URI, for hierarchical systems (ICD-10, ATC).
    #[serde(default)]
    pub prefixes: BTreeMap<String, Vec<String>>,
    /// Whole words that tell a medicine by its name, lower case; only looked for in the displays of
    /// drug codes and in the text of a medication: clinical-drug codes are too many to list.
    #[serde(default)]
    pub words: Vec<String>,
}

/// Which of the known value sets something belongs to, one bit each.
pub(crate) type Sets = u64;

/// Every value set, indexed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueSets {
    sets: Vec<Arc<ValueSet>>,
    systems: Vec<System>,
    words: HashMap<String, Sets>,
}

#[derive(Debug, Clone)]
struct System {
    uri: String,
    codes: HashMap<String, Sets>,
    prefixes: Vec<(String, Sets)>,
}

const DRUG_SYSTEMS: [&str; 2] = ["http://www.nlm.nih.gov/research/umls/rxnorm", "http://www.whocc.no/atc"];

impl ValueSets {
    /// # Errors
    /// A second set of the same name, or too many.
    pub(crate) fn add(&mut self, set: ValueSet) -> Result<(), String> {
        if self.bit(&set.id).is_some() {
            return Err(format!("value set {} exists already", set.id));
        }
        let bit = 1u64.checked_shl(u32::try_from(self.sets.len()).unwrap_or(64));
        let bit = bit.ok_or("more than 64 value sets")?;
        for (uri, codes) in &set.codes {
            let system = self.system(uri);
            for code in codes {
                *system.codes.entry(code.clone()).or_default() |= bit;
            }
        }
        for (uri, prefixes) in &set.prefixes {
            self.system(uri).prefixes.extend(prefixes.iter().map(|p| (p.clone(), bit)));
        }
        for word in &set.words {
            *self.words.entry(word.to_lowercase()).or_default() |= bit;
        }
        self.sets.push(Arc::new(set));
        Ok(())
    }

    fn system(&mut self, uri: &str) -> &mut System {
        let at = self.systems.iter().position(|s| s.uri == uri).unwrap_or_else(|| {
            self.systems.push(System { uri: uri.to_owned(), codes: HashMap::new(), prefixes: Vec::new() });
            self.systems.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was just found or made")]
        &mut self.systems[at]
    }

    pub(crate) fn bit(&self, id: &str) -> Option<Sets> {
        self.sets.iter().position(|s| s.id == id).map(|at| 1 << at)
    }

    /// The sets a `CodeableConcept` belongs to by its codes.
    pub(crate) fn of_concept(&self, concept: &Json) -> Sets {
        concept.list("coding").iter().fold(0, |all, coding| {
            let (Some(uri), Some(code)) = (coding.text("system"), coding.text("code")) else { return all };
            let Some(system) = self.systems.iter().find(|s| s.uri == uri) else { return all };
            let exact = system.codes.get(code).copied().unwrap_or_default();
            let begun = system.prefixes.iter().filter(|(p, _)| code.starts_with(p.as_str()));
            all | exact | begun.fold(0, |all, (_, bit)| all | bit)
        })
    }

    /// The sets a medication's concept belongs to: by codes and by the ingredients' names.
    pub(crate) fn of_medication(&self, concept: &Json) -> Sets {
        let displays = concept
            .list("coding")
            .iter()
            .filter(|c| c.text("system").is_some_and(|s| DRUG_SYSTEMS.contains(&s)))
            .filter_map(|c| c.text("display"));
        // Both, for a combined pill may be coded as one of its ingredients.
        let names = displays.chain(concept.text("text"));
        names.fold(self.of_concept(concept), |all, name| all | self.of_name(name))
    }

    fn of_name(&self, name: &str) -> Sets {
        name.split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 3)
            .filter_map(|word| self.words.get(&word.to_lowercase()))
            .fold(0, |all, bit| all | bit)
    }
}

#[cfg(test)]
mod tests {
    use fhir::json::{Limits, parse};

    use super::*;

    fn sets() -> ValueSets {
        let mut sets = ValueSets::default();
        for text in [
            r#"{"id":"diabetes","title":"diabetes mellitus","source":"test","codes":{"http://snomed.info/sct":["44054006"]},"prefixes":{"http://hl7.org/fhir/sid/icd-10-cm":["E11"]}}"#,
            r#"{"id":"statin","title":"a statin","source":"test","prefixes":{"http://www.whocc.no/atc":["C10AA"]},"words":["simvastatin"]}"#,
        ] {
            sets.add(serde_json::from_str(text).unwrap()).unwrap();
        }
        sets
    }

    fn concept(text: &str) -> Sets {
        let json = parse(text.as_bytes(), &Limits::default()).unwrap();
        sets().of_medication(&json)
    }

    #[test]
    fn by_code_by_prefix_by_name() {
        assert_eq!(concept(r#"{"coding":[{"system":"http://snomed.info/sct","code":"44054006"}]}"#), 1);
        assert_eq!(
            concept(r#"{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"E11.9"}]}"#),
            1
        );
        assert_eq!(concept(r#"{"coding":[{"system":"http://example.org","code":"44054006"}]}"#), 0);
        assert_eq!(concept(r#"{"coding":[{"system":"http://www.whocc.no/atc","code":"C10AA01"}]}"#), 2);
        assert_eq!(
            concept(
                r#"{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"1","display":"Simvastatin 10 MG Oral Tablet"}]}"#
            ),
            2
        );
        assert_eq!(
            concept(r#"{"coding":[{"system":"http://example.org","code":"1","display":"Simvastatin"}]}"#),
            0
        );
        assert_eq!(concept(r#"{"text":"no simvastatins"}"#), 0);
        assert_eq!(concept(r#"{"text":"simvastatin 20 mg"}"#), 2);
    }

    #[test]
    fn a_second_set_of_a_name_is_refused() {
        let mut sets = sets();
        let again = r#"{"id":"statin","title":"","source":""}"#;
        assert!(sets.add(serde_json::from_str(again).unwrap()).is_err());
    }
}
