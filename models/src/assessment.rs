//! What a model says about one patient: numbers with their reasons, or a reasoned refusal.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::manifest::{Band, OutputSpec};

/// Which model, to the byte: what a Device resource names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Model id, e.g. `prevent-base`.
    pub id: String,
    /// Version of the bundle, e.g. `1.0.0`.
    pub version: String,
    /// Lower-case hex SHA-256 over the bundle's files.
    pub sha256: String,
    /// For a person to read.
    pub title: String,
}

/// One patient, one model, one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// The model that was asked.
    pub model: Arc<ModelIdentity>,
    /// The patient as the record cites it, e.g. `Patient/1`; none for plain named inputs.
    pub patient: Option<Arc<str>>,
    /// The moment the question was asked for.
    pub as_of: DateTime<Utc>,
    /// The numbers, or that there are none.
    pub outcome: Outcome,
    /// What the numbers rest on, in the manifest's order.
    pub used: Vec<UsedInput>,
    /// What was taken for granted because nothing was recorded.
    pub assumed: Vec<Assumption>,
    /// What was wrong or noteworthy; in a refusal at least one of them `refuses`.
    pub issues: Vec<InputIssue>,
}

impl Assessment {
    /// The numbers, if there are any.
    pub fn scored(&self) -> Option<&Scored> {
        if let Outcome::Scored(scored) = &self.outcome { Some(scored) } else { None }
    }

    /// The issues that stood in the way.
    pub fn refusals(&self) -> impl Iterator<Item = &InputIssue> {
        self.issues.iter().filter(|issue| issue.refuses)
    }

    /// The newest clinical time among the inputs used: how fresh the data are.
    pub fn data_time(&self) -> Option<DateTime<Utc>> {
        self.used.iter().filter_map(|input| input.effective).max()
    }
}

/// Numbers, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// At least one output could be computed.
    Scored(Scored),
    /// No number: see the issues that `refuses`.
    Refused,
}

/// The numbers of a model that could be computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// In the manifest's order; an output whose own conditions fail is absent and an issue says so.
    pub outputs: Vec<Output>,
    /// Some input is not final yet.
    pub preliminary: bool,
}

/// One number of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Key, title, kind, unit, horizon, coding: what the manifest says of it.
    pub spec: Arc<OutputSpec>,
    /// A probability as a fraction 0–1, else a score in `spec.unit`.
    pub value: f64,
    /// The value on the scale on which the contributions add up.
    pub linear_predictor: f64,
    /// The linear predictor of the reference patient.
    pub baseline: f64,
    /// What each input (or group of inputs) adds to the baseline; empty for networks.
    pub contributions: Vec<Contribution>,
    /// The published band the value falls into.
    pub band: Option<Arc<Band>>,
}

/// What one input, or several together, add to the reference patient's linear predictor.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// Input names joined by ` × `.
    pub label: Arc<str>,
    /// Signed, on the linear predictor's scale.
    pub value: f64,
}

/// The value of an input in the model's own terms.
#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// In the manifest's unit.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// One of the manifest's codes.
    Code(Arc<str>),
}

/// One input that was used, traceable to its source.
#[derive(Debug, Clone, PartialEq)]
pub struct UsedInput {
    /// The manifest's name of it.
    pub name: Arc<str>,
    /// In the manifest's unit, as it went into the model.
    pub value: InputValue,
    /// UCUM; none for flags and codes.
    pub unit: Option<Arc<str>>,
    /// Number and unit as recorded, where they differ in text from what was used.
    pub original: Option<(String, String)>,
    /// The resources it came from, as cited (versioned where the caller gave a version).
    pub references: Vec<Arc<str>>,
    /// The clinical time of the newest of them.
    pub effective: Option<DateTime<Utc>>,
    /// The model whose output it is.
    pub derived_by: Option<Arc<ModelIdentity>>,
    /// The operator's setting it comes from: it stands on no resource.
    pub setting: Option<Arc<str>>,
    /// The source resource is preliminary.
    pub preliminary: bool,
}

/// Something taken for granted.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumption {
    /// The manifest's name of the input.
    pub input: Arc<str>,
    /// What was taken.
    pub value: InputValue,
    /// Why, in plain words.
    pub reason: Arc<str>,
}

/// What kind of trouble an input gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssueKind {
    /// Nothing recorded.
    Missing,
    /// The newest record is older than the model allows.
    Stale,
    /// Outside the range the equation was validated in.
    OutOfRange,
    /// A unit that is absent, unknown or not convertible.
    Unit,
    /// `<`, `>` and the like: no number to calculate with.
    Comparator,
    /// Recorded as not available (`dataAbsentReason`), or without a value.
    AbsentReason,
    /// A value of a kind the model can't read (text for a number, an unknown code).
    Value,
    /// The patient is not in the population the model is for.
    Population,
    /// Recorded for a time after the moment asked for.
    Future,
    /// Recorded without a clinical time.
    Undated,
    /// Several different values for the same time; one was taken by a stated rule.
    Conflict,
    /// A measured value was used where a computed one is preferred, or the like.
    Quality,
    /// An unknown name among named inputs.
    UnknownInput,
    /// A setting the operator has to make.
    Setting,
    /// The calculation gave no finite number.
    NotFinite,
    /// What matters is said by a reference that leads nowhere.
    Unresolved,
}

impl IssueKind {
    /// A stable code in lower-case words with hyphens, e.g. `out-of-range`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Unresolved => "unresolved",
            Self::OutOfRange => "out-of-range",
            Self::Unit => "unit",
            Self::Comparator => "comparator",
            Self::AbsentReason => "absent-reason",
            Self::Value => "value",
            Self::Population => "population",
            Self::Future => "future",
            Self::Undated => "undated",
            Self::Conflict => "conflict",
            Self::Quality => "quality",
            Self::UnknownInput => "unknown-input",
            Self::Setting => "setting",
            Self::NotFinite => "not-finite",
        }
    }
}

/// One thing to know about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputIssue {
    /// The manifest's name of the input, or `population`, or the key of an output.
    pub input: Arc<str>,
    /// What kind.
    pub kind: IssueKind,
    /// There is no number because of this; otherwise it is for information.
    pub refuses: bool,
    /// What was found, in plain words.
    pub details: String,
    /// What would make the number computable; empty where nothing would.
    pub remedy: String,
    /// The resource it is about.
    pub reference: Option<Arc<str>>,
    /// LOINC codes that would supply the input, in order of preference.
    pub codes: Vec<Arc<str>>,
}
