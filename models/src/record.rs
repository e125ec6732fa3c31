//! What the models can read of one patient.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fhir::json::Json;

use crate::catalogue::Catalogue;

/// What the models can read of one patient: compact, owned, independent of the resources.
#[derive(Debug, Clone, Default)]
pub struct PatientRecord {
    patient: Option<Arc<str>>,
    latest: Option<DateTime<Utc>>,
}

impl PatientRecord {
    /// The patient, e.g. `Patient/1`.
    pub fn patient(&self) -> Option<&Arc<str>> {
        self.patient.as_ref()
    }

    /// The clinical time of the newest Observation of any kind.
    pub fn latest_observation(&self) -> Option<DateTime<Utc>> {
        self.latest
    }
}

/// Builds a [`PatientRecord`] from resources in any order. All of them must be of one patient.
#[derive(Debug)]
pub struct RecordBuilder<'c> {
    catalogue: &'c Catalogue,
}

impl<'c> RecordBuilder<'c> {
    /// An empty record of what the models of `catalogue` read.
    pub fn new(catalogue: &'c Catalogue) -> Self {
        Self { catalogue }
    }

    /// Names the patient, where no Patient resource will (`Patient/1`).
    pub fn patient(&mut self, reference: &str) {
        let _ = reference;
    }

    /// Takes in what is relevant; `reference` is how the resource is to be cited,
    /// e.g. `Observation/1/_history/3`.
    pub fn add(&mut self, resource: &Json, reference: &str) {
        let _ = (resource, reference, self.catalogue);
    }

    /// The record.
    pub fn build(self) -> PatientRecord {
        PatientRecord::default()
    }
}
