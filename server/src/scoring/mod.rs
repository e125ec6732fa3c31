//! From what was written to RiskAssessments.
//!
//! - [`worker`]: takes queued patients, scores, writes; [`gather`]: a patient's record from the
//!   store; [`collect`]: records from loose resources.
//! - [`assessment`], [`derived`], [`provenance`], [`device`]: how it looks in FHIR.

pub(crate) mod ask;
pub(crate) mod assessment;
pub(crate) mod collect;
pub(crate) mod derived;
pub(crate) mod device;
pub(crate) mod gather;
pub(crate) mod provenance;
pub(crate) mod resource;
pub(crate) mod settle;
pub(crate) mod supersede;
pub(crate) mod terms;
pub(crate) mod worker;

use chrono::{DateTime, Utc};
use fhir::json::Json;
use fhir::resource_type::ResourceType;

use crate::app::App;

/// The store's number for "score this patient" after something new.
pub(crate) const WRITE: i64 = 1;
/// The same after a change of what was there: older assessments are looked at too.
pub(crate) const CHANGE: i64 = 2;

/// "Score everybody who takes this medicine": the task's patient is `Medication/id`.
pub(crate) const MEDICINE: i64 = 3;

/// Could writing this change an assessment?
pub(crate) fn concerns(app: &App, resource: &Json) -> bool {
    app.models().catalogue.reads(resource)
}

/// May models read resources of this type at all?
pub(crate) fn is_read(kind: ResourceType) -> bool {
    matches!(
        kind,
        ResourceType::PATIENT
            | ResourceType::OBSERVATION
            | ResourceType::CONDITION
            | ResourceType::MEDICATION_REQUEST
            | ResourceType::MEDICATION_STATEMENT
    )
}

/// The moment a caller asked for: an instant as it is, of a date the end, so that what was
/// measured on that day counts.
pub(crate) fn moment_asked(text: &str) -> Option<DateTime<Utc>> {
    let span = fhir::time::parse(text)?;
    let micros = if text.contains('T') { span.low } else { span.high };
    DateTime::from_timestamp_micros(micros)
}
