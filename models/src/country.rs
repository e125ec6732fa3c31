//! Inputs that depend on where a patient lives.

use std::sync::Arc;

use crate::assessment::{InputIssue, InputValue, IssueKind};
use crate::gather::{Found, excerpt};
use crate::inputs::Input;
use crate::manifest::CountryRule;
use crate::select::Chart;

/// What stands in the place of a country of which nothing is known.
const UNKNOWN: [&str; 2] = ["UNK", "UNKNOWN"];

/// What people write for the one country that ISO 3166 knows by a long name alone.
const BRITAIN: [&str; 6] =
    ["UNITED KINGDOM", "GREAT BRITAIN", "ENGLAND", "SCOTLAND", "WALES", "NORTHERN IRELAND"];

impl Chart<'_> {
    /// The patient's own country says more than what the operator decided for all.
    pub(crate) fn by_country(&self, input: &Input) -> Option<Found> {
        let (person, rule) = (self.record.person.as_ref()?, input.spec.country.as_ref()?);
        let country = person.country.as_ref().filter(|country| !UNKNOWN.contains(&country.as_ref()))?;
        let Some((number, code)) = region(rule, country).and_then(|region| input.code_index(region)) else {
            // What the operator decided is for patients of whom no country is known.
            let details = format!(
                "{} can't be told: the country of the patient's address, `{}`, is none of ISO 3166",
                input.spec.title,
                excerpt(country)
            );
            let issue = input.issue(IssueKind::Value, details);
            return Some(Found::Refused(Box::new(InputIssue {
                reference: Some(Arc::clone(&person.reference)),
                remedy: "record the country by its code of ISO 3166, such as DE".to_owned(),
                ..issue
            })));
        };
        let mut picked = input.picked(number, InputValue::Code(code));
        picked.used.references.push(Arc::clone(&person.reference));
        picked.used.original = Some((country.to_string(), String::new()));
        Some(Found::Value(picked))
    }
}

/// The code for a country by its ISO 3166 code or English name; what is neither listed nor a country
/// has none.
fn region<'r>(rule: &'r CountryRule, country: &str) -> Option<&'r str> {
    let by_name = || {
        let britain = BRITAIN.contains(&country);
        let named = |one: &&rust_iso3166::CountryCode| {
            one.name.to_uppercase() == country || (britain && one.alpha2 == "GB")
        };
        rust_iso3166::ALL.iter().find(named).copied()
    };
    let iso =
        rust_iso3166::from_alpha2(country).or_else(|| rust_iso3166::from_alpha3(country)).or_else(by_name);
    let listed = |key: &str| rule.values.get(key);
    let value = listed(country)
        .or_else(|| listed(iso.as_ref()?.alpha2))
        .or(rule.other.as_ref().filter(|_| iso.is_some()));
    value.map(String::as_str)
}
