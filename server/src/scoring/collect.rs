//! Records out of loose resources: a Bundle of a request, or files on disk.

use std::collections::BTreeMap;

use super::gather::is_ours;
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use models::{Catalogue, PatientRecord, RecordBuilder};

/// Resources sorted by the patient they are about.
#[derive(Debug)]
pub(crate) struct Collection<'c> {
    catalogue: &'c Catalogue,
    patients: BTreeMap<String, RecordBuilder<'c>>,
}

impl<'c> Collection<'c> {
    pub(crate) fn new(catalogue: &'c Catalogue) -> Self {
        Self { catalogue, patients: BTreeMap::new() }
    }

    /// Takes in a resource, or all resources of a Bundle.
    ///
    /// # Errors
    /// It is no resource.
    pub(crate) fn add(&mut self, resource: &Json) -> Result<(), Issues> {
        match resource.text("resourceType") {
            Some("Bundle") => {
                let entries = resource.list("entry");
                let ids: BTreeMap<&str, &str> = entries.iter().filter_map(patient_of_entry).collect();
                for entry in entries {
                    if let Some(inner) = entry.get("resource") {
                        self.add_one(inner, entry.text("fullUrl"), &ids);
                    }
                }
                Ok(())
            }
            Some(_) => {
                self.add_one(resource, None, &BTreeMap::new());
                Ok(())
            }
            None => Err(Issue::error("structure", "not a FHIR resource: resourceType is missing").into()),
        }
    }

    fn add_one(&mut self, resource: &Json, full_url: Option<&str>, ids: &BTreeMap<&str, &str>) {
        let Some(kind) = resource.text("resourceType").filter(|_| !is_ours(resource)) else { return };
        let patient = if kind == "Patient" {
            resource.text("id").or(full_url)
        } else {
            subject(resource).map(|reference| ids.get(reference).copied().unwrap_or_else(|| bare(reference)))
        };
        let Some(patient) = patient else { return };
        let cited = cite(kind, resource, full_url);
        if let Some(builder) = self.patients.get_mut(patient) {
            builder.add(resource, &cited);
            return;
        }
        let mut builder = RecordBuilder::new(self.catalogue);
        let reference = if patient.contains(':') { patient.to_owned() } else { format!("Patient/{patient}") };
        builder.patient(&reference);
        builder.add(resource, &cited);
        self.patients.insert(patient.to_owned(), builder);
    }

    /// One record a patient, in the order of their ids.
    pub(crate) fn records(self) -> Vec<PatientRecord> {
        self.patients.into_values().map(RecordBuilder::build).collect()
    }
}

fn subject<'a>(resource: &'a Json) -> Option<&'a str> {
    ["subject", "patient"].iter().find_map(|member| resource.get(member)?.text("reference"))
}

/// `Patient/x`, `http://…/Patient/x` and `Patient/x/_history/2` are all `x`.
fn bare(reference: &str) -> &str {
    let unversioned = reference.split("/_history/").next().unwrap_or(reference);
    match unversioned.rsplit_once("Patient/") {
        Some((_, id)) if !id.is_empty() => id,
        _ => reference,
    }
}

fn patient_of_entry<'a>(entry: &'a Json) -> Option<(&'a str, &'a str)> {
    let resource = entry.get("resource")?;
    let full_url = entry.text("fullUrl")?;
    (resource.text("resourceType") == Some("Patient"))
        .then(|| (full_url, resource.text("id").unwrap_or(full_url)))
}

/// How a resource is cited: with its version where it has one.
pub(crate) fn cite(kind: &str, resource: &Json, full_url: Option<&str>) -> String {
    match (resource.text("id"), resource.at(&["meta", "versionId"]).and_then(Json::as_str)) {
        (Some(id), Some(version)) => format!("{kind}/{id}/_history/{version}"),
        (Some(id), None) => format!("{kind}/{id}"),
        (None, _) => full_url.unwrap_or(kind).to_owned(),
    }
}
