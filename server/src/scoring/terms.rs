//! Addresses of our own profiles, extensions and code systems (`fhir-profiles/profiles`).

/// Profile of a RiskAssessment that scoring writes.
pub(crate) const PROFILE: &str = "https://augury.dev/fhir/StructureDefinition/augury-risk-assessment";
/// Profile of the Device that stands for a model's version.
pub(crate) const DEVICE_PROFILE: &str = "https://augury.dev/fhir/StructureDefinition/augury-device";
/// Systems.
pub(crate) use fhir::profile::MODEL_SYSTEM;
pub(crate) const OUTPUT_SYSTEM: &str = "https://augury.dev/fhir/CodeSystem/output";
pub(crate) const ASSESSMENT_SYSTEM: &str = "https://augury.dev/fhir/assessment";
/// The probability as a fraction (0–1), in full precision.
pub(crate) const RISK_FRACTION: &str = "https://augury.dev/fhir/StructureDefinition/risk-fraction";
/// The band that the assessment before was in, where it was another.
pub(crate) const BAND_BEFORE: &str = "https://augury.dev/fhir/StructureDefinition/band-before";
/// A score that is no probability.
pub(crate) const SCORE: &str = "https://augury.dev/fhir/StructureDefinition/score";
/// What one input (or several together) adds on the scale of the linear predictor.
pub(crate) const CONTRIBUTION: &str = "https://augury.dev/fhir/StructureDefinition/contribution";
/// The linear predictor of the reference patient; with the contributions it sums to the prediction's.
pub(crate) const BASELINE: &str = "https://augury.dev/fhir/StructureDefinition/contribution-baseline";
/// The prediction on the scale on which baseline and contributions add up, before link and rounding.
pub(crate) const LINEAR_PREDICTOR: &str = "https://augury.dev/fhir/StructureDefinition/linear-predictor";
/// Why an input could not be used, and what would make it usable.
pub(crate) const INPUT_ISSUE: &str = "https://augury.dev/fhir/StructureDefinition/input-issue";
/// A value that was taken for granted because the record is silent.
pub(crate) const ASSUMED_INPUT: &str = "https://augury.dev/fhir/StructureDefinition/assumed-input";
/// The newest effective time among the inputs.
pub(crate) const DATA_TIME: &str = "https://augury.dev/fhir/StructureDefinition/data-time";
/// The assessment that this one replaces.
pub(crate) const SUPERSEDES: &str = "https://augury.dev/fhir/StructureDefinition/supersedes";
/// The assessment that replaces this one.
pub(crate) const SUPERSEDED_BY: &str = "https://augury.dev/fhir/StructureDefinition/superseded-by";
/// FHIR's reason for an absent value.
pub(crate) const DATA_ABSENT_REASON: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
/// FHIR's words for a risk's height.
pub(crate) const RISK_PROBABILITY: &str = "http://terminology.hl7.org/CodeSystem/risk-probability";
