//! `model.json`: a model as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// The whole manifest of one model version.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Model id, `[a-z0-9-]+`.
    pub id: String,
    /// Version, `MAJOR.MINOR.PATCH`.
    pub version: String,
    /// For a person to read.
    pub title: String,
    /// Full citation of the publication.
    pub citation: String,
    /// DOI of the publication, without resolver.
    pub doi: String,
    /// What the model is used for, one sentence.
    pub purpose: String,
    /// Rule-based equation or network.
    #[serde(default)]
    pub learned: bool,
    /// Not on unless the operator switches it on.
    #[serde(default)]
    pub off_by_default: bool,
    /// Whom it is for.
    pub population: Population,
    /// Everything it reads, in the order of citation.
    pub inputs: Vec<InputSpec>,
    /// Intermediate values, each may use inputs and earlier variables.
    #[serde(default)]
    pub variables: Vec<Definition>,
    /// The columns of the feature matrix.
    pub features: Vec<Definition>,
    /// What turns features into linear predictors.
    pub network: NetworkSpec,
    /// What comes out.
    pub outputs: Vec<Arc<OutputSpec>>,
    /// The patient that contributions are measured against.
    pub reference: Reference,
}

/// Whom a model is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// In words.
    pub description: String,
    /// Completed years, inclusive.
    pub age: Option<Range>,
    /// Conditions and the like that exclude a patient.
    #[serde(default)]
    pub exclude: Vec<Exclusion>,
}

/// One reason not to use a model on a patient.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Name of a value set of conditions.
    pub valueset: String,
    /// In words, as the patient's chart would put it.
    pub title: String,
    /// A resolved or inactive condition excludes as well.
    #[serde(default)]
    pub ever: bool,
    /// Observations whose value may be of the value set, too.
    #[serde(default)]
    pub observation: Option<ExclusionObservation>,
}

/// Where a status that excludes is recorded as an Observation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExclusionObservation {
    /// LOINC codes.
    pub codes: Vec<Arc<str>>,
    /// How long the latest one holds, an ISO 8601 duration.
    pub lookback: String,
}

/// Bounds; each may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest allowed.
    pub min: Option<f64>,
    /// Largest allowed.
    pub max: Option<f64>,
    /// First value above what is allowed.
    pub below: Option<f64>,
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputKind {
    /// A number with a unit.
    Quantity,
    /// Yes or no.
    Boolean,
    /// One of `values`.
    Code,
    /// Age in years; completed years when it comes from a birth date.
    Age,
    /// `male` or `female`.
    Sex,
}

/// What to do when nothing usable is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// No number.
    #[default]
    Refuse,
    /// The formulas deal with it (`missing(x)`), e.g. by a published coefficient.
    Missing,
    /// Taken as `false`, and said so.
    AssumeFalse,
}

/// One thing a model reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Name in formulas and among named inputs.
    pub name: Arc<str>,
    /// For a person to read, lower case.
    pub title: Arc<str>,
    /// What it is.
    pub kind: InputKind,
    /// Canonical UCUM unit of a quantity.
    pub unit: Option<Arc<str>>,
    /// Allowed codes of a code input; the first has index 0 in formulas.
    #[serde(default)]
    pub values: Vec<Arc<str>>,
    /// Read from Observations.
    pub observation: Option<ObservationSource>,
    /// True if the patient has an active condition of this value set.
    pub condition: Option<String>,
    /// True if the patient takes a medicine of this value set.
    pub medication: Option<String>,
    /// An output of another model, asked before the Observations.
    pub model: Option<ModelSource>,
    /// From other inputs, where no Observation is usable.
    pub otherwise: Option<String>,
    /// A setting of the operator by this name.
    pub setting: Option<String>,
    /// From the country of the patient's address.
    pub country: Option<CountryRule>,
    /// Where the equation is valid; outside is refused.
    pub range: Option<Range>,
    /// The only numbers it can be, e.g. the points of a score; empty for any.
    #[serde(default)]
    pub points: Vec<f64>,
    /// Declared rounding before use, in decimals, halves away from zero.
    pub decimals: Option<u8>,
    /// Nothing recorded: what then.
    #[serde(default)]
    pub absent: Absence,
    /// Words for what is taken for granted when `absent` is `assume-false`.
    pub assumption: Option<Arc<str>>,
    /// Not needed when this other input is given; both at once are refused.
    pub unless: Option<Arc<str>>,
}

/// How an input is read from Observations.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationSource {
    /// LOINC codes (of the Observation or of a component), best first.
    pub codes: Vec<Arc<str>>,
    /// Codes that are accepted with a remark, e.g. an older equation or another posture.
    #[serde(default)]
    pub remarked: BTreeMap<Arc<str>, Arc<str>>,
    /// How old it may be: `P1Y`, `P180D`, `PT1H`.
    pub lookback: String,
    /// Conversions UCUM can't know: the factor of the analyte.
    #[serde(default)]
    pub conversions: Vec<Conversion>,
    /// Spellings seen in the wild, each mapped on purpose to a UCUM unit.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// A boolean from a coded value: value sets for yes and no.
    pub coded: Option<CodedFlag>,
    /// A boolean from a number: a formula over `value`, e.g. `value > 0`, and the number's unit.
    #[serde(default)]
    pub measured: BTreeMap<Arc<str>, MeasuredFlag>,
}

/// Which coded values mean yes, and which no.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodedFlag {
    /// Name of the value set that means yes.
    pub yes: String,
    /// Name of the value set that means no.
    pub no: String,
}

/// A yes or no read off a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredFlag {
    /// UCUM unit `value` is in.
    pub unit: Arc<str>,
    /// What can be measured at all; outside is refused.
    pub range: Range,
    /// Formula over `value`.
    pub when: String,
}

/// A conversion by the analyte's own factor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// UCUM unit it converts from.
    pub unit: Arc<str>,
    /// Canonical = value × this + `plus`.
    pub multiply: Option<f64>,
    /// Canonical = value ÷ this.
    pub divide: Option<f64>,
    /// Added after multiplying.
    #[serde(default)]
    pub plus: f64,
    /// Where the constant comes from.
    pub source: String,
}

/// An output of another model as an input.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// The other model's id.
    pub id: String,
    /// Key of its output; unrounded.
    pub output: String,
}

/// A code by the patient's country.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryRule {
    /// Country text, upper case, to code.
    pub values: BTreeMap<String, String>,
    /// For any other ISO 3166 code.
    pub other: Option<String>,
}

/// A name and its formula.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name in later formulas and in weights.
    pub name: Arc<str>,
    /// The formula.
    pub formula: String,
    /// The inputs its contribution is reported under, where the formula's own would mislead.
    pub of: Option<Vec<Arc<str>>>,
}

/// What turns features into linear predictors.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// One weight per output and feature, by stratum.
    Linear(Vec<Stratum>),
    /// A multi-layer perceptron; its tensors are in `weights.safetensors`.
    Mlp(MlpSpec),
}

/// Weights for the patients `when` holds for; the first that holds is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// For a person to read.
    pub name: String,
    /// Formula; absent for everybody.
    pub when: Option<String>,
    /// By output key.
    pub weights: BTreeMap<String, Weights>,
}

/// The weights of one output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Added to the sum.
    #[serde(default)]
    pub intercept: f64,
    /// By feature; a feature that is not named has weight 0.
    pub coefficients: BTreeMap<Arc<str>, f64>,
    /// Baseline survival of a Cox link.
    pub s0: Option<f64>,
    /// Recalibration of a Cox link on the complementary log-log scale: intercept and slope.
    pub recalibration: Option<[f64; 2]>,
}

/// Layers of a perceptron.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpSpec {
    /// In order.
    pub layers: Vec<LayerSpec>,
    /// Keys of the last layer's units.
    pub outputs: Vec<String>,
}

/// One dense layer: tensors `weight` (out × in) and `bias` (out), both f64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// Name of the weight tensor.
    pub weight: String,
    /// Name of the bias tensor.
    pub bias: String,
    /// After the affine map.
    pub activation: Activation,
}

/// What follows an affine map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0)
    Relu,
    /// tanh x
    Tanh,
    /// 1/(1+e⁻ˣ)
    Sigmoid,
}

/// From linear predictor to value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// lp
    Identity,
    /// e^lp
    Exp,
    /// 1/(1+e^−lp)
    Logistic,
    /// 1 − s0^(e^lp), then recalibrated where the stratum says so
    Cox,
}

/// Is it a probability?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// A fraction 0–1 of patients who will have the outcome within the horizon.
    Probability,
    /// A number that is no probability.
    Score,
    /// A part of a score.
    Component,
    /// Yes (1) or no (0).
    Flag,
}

/// One number that comes out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// E.g. `10y.total_cvd`.
    pub key: String,
    /// For a person to read.
    pub title: String,
    /// Is it a probability?
    pub kind: OutputKind,
    /// From linear predictor to value.
    pub link: Link,
    /// Part of an assessment; otherwise computed for verification only.
    #[serde(default = "yes")]
    pub reported: bool,
    /// Years ahead the probability is about.
    pub horizon_years: Option<u32>,
    /// What is predicted or measured.
    pub coding: Vec<Coding>,
    /// UCUM unit of a score.
    pub unit: Option<String>,
    /// Rounding that belongs to the score's definition, halves away from zero.
    pub round: Option<u8>,
    /// Bounds that belong to the score's definition, applied after rounding.
    pub clamp: Option<[f64; 2]>,
    /// Decimals for display and before bands are looked up (of percent for a probability).
    #[serde(default)]
    pub decimals: u8,
    /// Completed years of age this output is valid for.
    pub age: Option<Range>,
    /// Bands as published, first match counts.
    #[serde(default)]
    pub bands: Vec<Arc<Band>>,
    /// Who published the bands.
    pub bands_source: Option<String>,
}

/// A code of a terminology.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coding {
    /// URI of the code system.
    pub system: String,
    /// The code.
    pub code: String,
    /// Its display.
    pub display: String,
}

/// A published band of an output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Formula over `value` (in display units: percent for a probability) and other output keys.
    pub when: String,
    /// For a person to read.
    pub label: String,
    /// Code of `http://terminology.hl7.org/CodeSystem/risk-probability`, if the band is one of risk.
    pub risk: Option<String>,
}

/// The patient that contributions are measured against.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// In words.
    pub description: String,
    /// Values of features; 0 where not named.
    #[serde(default)]
    pub features: BTreeMap<Arc<str>, f64>,
}

fn yes() -> bool {
    true
}
