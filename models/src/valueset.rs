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
    /// Whole words that tell a medicine by its name, lower case: clinical-drug codes are too many to
    /// list.
    #[serde(default)]
    pub words: Vec<String>,
    /// Beginnings of words, lower case, that raise a doubt about a concept whose codes are of no
    /// system of this set: too little for a yes, too much for a no.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// Which of the known value sets something belongs to, one bit each.
pub(crate) type Sets = u64;

/// Every value set, indexed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueSets {
    sets: Vec<Arc<ValueSet>>,
    systems: Vec<System>,
    words: HashMap<String, Sets>,
    hints: Vec<(String, Sets)>,
}

#[derive(Debug, Clone)]
struct System {
    uri: String,
    /// The sets that have codes of this system.
    told: Sets,
    codes: HashMap<String, Sets>,
    prefixes: Vec<(String, Sets)>,
}

/// What a concept says about the value sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// It is of these.
    pub(crate) yes: Sets,
    /// It may be of these: its words are like it, and no code tells.
    pub(crate) perhaps: Sets,
    /// It has a code of a system that is known here, or of a medicine, a name.
    pub(crate) understood: bool,
}

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
            system.told |= bit;
            for code in codes {
                *system.codes.entry(code.clone()).or_default() |= bit;
            }
        }
        for (uri, prefixes) in &set.prefixes {
            let system = self.system(uri);
            system.told |= bit;
            system.prefixes.extend(prefixes.iter().map(|p| (p.clone(), bit)));
        }
        for word in &set.words {
            *self.words.entry(word.to_lowercase()).or_default() |= bit;
        }
        self.hints.extend(set.hints.iter().map(|hint| (hint.to_lowercase(), bit)));
        self.sets.push(Arc::new(set));
        Ok(())
    }

    fn system(&mut self, uri: &str) -> &mut System {
        let at = self.systems.iter().position(|s| s.uri == uri).unwrap_or_else(|| {
            self.systems.push(System {
                uri: uri.to_owned(),
                told: 0,
                codes: HashMap::new(),
                prefixes: Vec::new(),
            });
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
        self.coded(concept).fold(0, |all, (system, code)| all | system.sets(code))
    }

    /// What a condition's concept says: by codes, and by words only that it can't be told.
    pub(crate) fn of_condition(&self, concept: &Json) -> Said {
        let told = self.coded(concept).fold(0, |all, (system, _)| all | system.told);
        let hinted = names(concept).fold(0, |all, name| all | self.hinted(&name.to_lowercase()));
        let yes = self.of_concept(concept);
        Said { yes, perhaps: hinted & !told & !yes, understood: told != 0 }
    }

    /// What a medication's concept says: by codes and by the ingredients' names.
    pub(crate) fn of_medication(&self, concept: &Json) -> Said {
        // Both, for a combined pill may be coded as one of its ingredients.
        let yes = names(concept).fold(self.of_concept(concept), |all, name| all | self.of_name(name));
        // A class of medicines is told by the beginning of a code, which is there without any name.
        let classed = self.coded(concept).any(|(system, _)| !system.prefixes.is_empty());
        Said { yes, perhaps: 0, understood: yes != 0 || classed || names(concept).next().is_some() }
    }

    /// What the name of a medicine says.
    pub(crate) fn of_medicine_named(&self, name: &str) -> Said {
        Said { yes: self.of_name(name), perhaps: 0, understood: !name.trim().is_empty() }
    }

    fn coded<'a>(&'a self, concept: &'a Json<'a>) -> impl Iterator<Item = (&'a System, &'a str)> {
        concept.list("coding").iter().filter_map(|coding| {
            let uri = coding.text("system")?;
            Some((self.systems.iter().find(|s| s.uri == uri)?, coding.text("code")?))
        })
    }

    fn hinted(&self, text: &str) -> Sets {
        let begins = |hint: &str| {
            text.match_indices(hint).any(|(at, _)| {
                let before = text.get(..at).and_then(|before| before.chars().next_back());
                !before.is_some_and(char::is_alphanumeric)
            })
        };
        self.hints.iter().filter(|(hint, _)| begins(hint)).fold(0, |all, (_, bit)| all | bit)
    }

    fn of_name(&self, name: &str) -> Sets {
        name.split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 3)
            .filter_map(|word| self.words.get(&word.to_lowercase()))
            .fold(0, |all, bit| all | bit)
    }
}

impl System {
    fn sets(&self, code: &str) -> Sets {
        let exact = self.codes.get(code).copied().unwrap_or_default();
        let begun = self.prefixes.iter().filter(|(p, _)| code.starts_with(p.as_str()));
        begun.fold(exact, |all, (_, bit)| all | bit)
    }
}

/// The words beside the codes.
fn names<'a>(concept: &'a Json<'a>) -> impl Iterator<Item = &'a str> {
    let displays = concept.list("coding").iter().filter_map(|c| c.text("display"));
    displays.chain(concept.text("text")).filter(|name| !name.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use fhir::json::{Limits, parse};

    use super::*;

    fn sets() -> ValueSets {
        let mut sets = ValueSets::default();
        for text in [
            r#"{"id":"diabetes","title":"diabetes mellitus","source":"test","codes":{"http://snomed.info/sct":["44054006"]},"prefixes":{"http://hl7.org/fhir/sid/icd-10-cm":["E11"]},"hints":["diabet"]}"#,
            r#"{"id":"statin","title":"a statin","source":"test","prefixes":{"http://www.whocc.no/atc":["C10AA"]},"words":["simvastatin"]}"#,
        ] {
            sets.add(serde_json::from_str(text).unwrap()).unwrap();
        }
        sets
    }

    fn concept(text: &str) -> Sets {
        let json = parse(text.as_bytes(), &Limits::default()).unwrap();
        sets().of_medication(&json).yes
    }

    #[test]
    fn words_alone_raise_a_doubt_and_a_code_settles_it() {
        let said = |text: &str| sets().of_condition(&parse(text.as_bytes(), &Limits::default()).unwrap());
        let doubt = Said { yes: 0, perhaps: 1, understood: false };
        assert_eq!(said(r#"{"text":"Diabetes mellitus Typ 2"}"#), doubt);
        assert_eq!(
            said(r#"{"coding":[{"system":"http://example.org","code":"7","display":"type 2 diabetes"}]}"#),
            doubt
        );
        assert_eq!(said(r#"{"text":"Prediabetes"}"#), Said::default());
        let settled = Said { yes: 0, perhaps: 0, understood: true };
        assert_eq!(
            said(
                r#"{"coding":[{"system":"http://snomed.info/sct","code":"11687002"}],"text":"gestational diabetes"}"#
            ),
            settled
        );
    }

    #[test]
    fn a_medicine_is_understood_by_class_or_name() {
        let understood = |text: &str| {
            sets().of_medication(&parse(text.as_bytes(), &Limits::default()).unwrap()).understood
        };
        assert!(understood(r#"{"coding":[{"system":"http://www.whocc.no/atc","code":"A10BA02"}]}"#));
        assert!(understood(r#"{"text":"metformin"}"#));
        assert!(!understood(
            r#"{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"314231"}]}"#
        ));
        assert!(!understood(r#"{"text":" "}"#));
        assert!(!understood("{}"));
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
            2
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
