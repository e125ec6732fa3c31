//! Records out of loose resources: a Bundle of a request, or files on disk.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::is_ours;
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use models::{Catalogue, PatientRecord, RecordBuilder};

/// Resources sorted by the patient they are about.
#[derive(Debug)]
pub(crate) struct Collection<'c> {
    catalogue: &'c Catalogue,
    patients: BTreeMap<String, RecordBuilder<'c>>,
    /// Medicines that others name: of no patient. With how they are cited.
    medicines: Vec<(Json<'static>, String)>,
}

/// The Patients of a Bundle by what may stand for them.
#[derive(Debug, Default)]
struct People<'a> {
    /// By fullUrl.
    by_url: BTreeMap<&'a str, String>,
    /// By id; several if Patients of several servers have it.
    by_id: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> People<'a> {
    fn of(entries: &'a [Json<'_>]) -> Self {
        let mut people = Self::default();
        for entry in entries {
            let Some(resource) =
                entry.get("resource").filter(|one| one.text("resourceType") == Some("Patient"))
            else {
                continue;
            };
            let (id, url) = (resource.text("id"), entry.text("fullUrl"));
            let Some(key) = key_of_patient(id, url) else { continue };
            if let Some(url) = url {
                people.by_url.insert(url, key.clone());
            }
            if let Some(id) = id {
                people.by_id.entry(id).or_default().insert(key);
            }
        }
        people
    }

    /// Who a reference means, from an entry with that fullUrl.
    fn meant(&self, reference: &str, full_url: Option<&str>) -> Result<String, Issue> {
        let reference = reference.split("/_history/").next().unwrap_or(reference);
        if let Some(key) = self.by_url.get(reference) {
            return Ok(key.clone());
        }
        let Some((root, id)) = reference.rsplit_once("Patient/").filter(|(_, id)| !id.is_empty()) else {
            return Ok(reference.to_owned());
        };
        if !root.is_empty() {
            // An address that no entry has: still the one Patient of that id that has no address.
            let own = format!("Patient/{id}");
            let known = self.by_id.get(id).is_some_and(|keys| keys.len() == 1 && keys.contains(&own));
            return Ok(if known { own } else { reference.to_owned() });
        }
        // A relative reference is on the server that its entry comes from.
        let beside = full_url.and_then(|url| Some(url.rsplit_once('/')?.0.rsplit_once('/')?.0));
        if let Some(key) = beside.and_then(|root| self.by_url.get(format!("{root}/{reference}").as_str())) {
            return Ok(key.clone());
        }
        match self.by_id.get(id).map(|keys| (keys.len(), keys.first())) {
            Some((1, Some(key))) => Ok(key.clone()),
            Some((2.., _)) => Err(Issue::error(
                "multiple-matches",
                "a relative reference could mean several Patients of the Bundle",
            )),
            _ => Ok(reference.to_owned()),
        }
    }
}

/// What a Patient is known by: its address, or `Patient/id` without one.
fn key_of_patient(id: Option<&str>, full_url: Option<&str>) -> Option<String> {
    let url = full_url.filter(|url| url.contains("://") || id.is_none());
    url.map(str::to_owned).or_else(|| id.map(|id| format!("Patient/{id}")))
}

/// Of resources that occur in several versions only the newest counts; what is deleted does not.
fn newest<'a>(entries: &'a [Json<'_>]) -> Vec<&'a Json<'a>> {
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut kept: Vec<Option<&Json>> = Vec::with_capacity(entries.len());
    for entry in entries {
        let deleted = entry.at(&["request", "method"]).and_then(Json::as_str) == Some("DELETE");
        let Some(resource) = entry.get("resource").filter(|_| !deleted) else { continue };
        let root = entry.text("fullUrl").filter(|url| url.contains("://")).unwrap_or_default();
        let root = root.split("/_history/").next().unwrap_or_default().to_owned();
        let name = |id: &str| (root, format!("{}/{id}", resource.text("resourceType").unwrap_or_default()));
        let Some(name) = resource.text("id").map(name) else {
            kept.push(Some(entry));
            continue;
        };
        if let Some(slot) = places.get(&name).and_then(|place| kept.get_mut(*place)) {
            if slot.and_then(|one| one.get("resource")).map(age) <= Some(age(resource)) {
                *slot = Some(entry);
            }
        } else {
            places.insert(name, kept.len());
            kept.push(Some(entry));
        }
    }
    kept.into_iter().flatten().collect()
}

/// Orders versions of one resource.
fn age<'a>(resource: &'a Json) -> (u64, &'a str) {
    let meta = |member| resource.at(&["meta", member]).and_then(Json::as_str);
    let version = meta("versionId").and_then(|version| version.parse().ok()).unwrap_or(0);
    (version, meta("lastUpdated").unwrap_or_default())
}

impl<'c> Collection<'c> {
    pub(crate) fn new(catalogue: &'c Catalogue) -> Self {
        Self { catalogue, patients: BTreeMap::new(), medicines: Vec::new() }
    }

    /// Takes in a resource, or all resources of a Bundle.
    ///
    /// # Errors
    /// It is no resource, or it can't be told whose it is.
    pub(crate) fn add(&mut self, resource: &Json) -> Result<(), Issues> {
        match resource.text("resourceType") {
            Some("Bundle") => {
                let entries = resource.list("entry");
                let people = People::of(entries);
                for entry in newest(entries) {
                    if let Some(inner) = entry.get("resource") {
                        self.add_one(inner, entry.text("fullUrl"), &people)?;
                    }
                }
                Ok(())
            }
            Some(_) => self.add_one(resource, None, &People::default()),
            None => Err(Issue::error("structure", "not a FHIR resource: resourceType is missing").into()),
        }
    }

    fn add_one(
        &mut self,
        resource: &Json,
        full_url: Option<&str>,
        people: &People<'_>,
    ) -> Result<(), Issues> {
        let Some(kind) = resource.text("resourceType").filter(|_| !is_ours(resource)) else { return Ok(()) };
        let cited = cite(kind, resource, full_url);
        if kind == "Medication" {
            self.medicines.push((resource.clone().into_owned(), cited.clone()));
            if let Some(url) = full_url.filter(|url| *url != cited) {
                self.medicines.push((resource.clone().into_owned(), url.to_owned()));
            }
            return Ok(());
        }
        let patient = match (kind, subject(resource)) {
            ("Patient", _) => key_of_patient(resource.text("id"), full_url),
            // A group's or a device's values are nobody's.
            (_, Some(reference)) if of_no_patient(reference) => None,
            (_, Some(reference)) => Some(people.meant(reference, full_url)?),
            (_, None) if self.catalogue.reads(resource) => {
                let issue = Issue::error("required", "without it, it can't be told whose this is");
                return Err(issue.at(format!("{kind}.subject")).into());
            }
            _ => None,
        };
        let Some(patient) = patient else { return Ok(()) };
        if let Some(builder) = self.patients.get_mut(&patient) {
            builder.add(resource, &cited);
            return Ok(());
        }
        let mut builder = RecordBuilder::new(self.catalogue);
        // Two servers' patients may have one id: then only the address tells them apart.
        let id = patient.rsplit_once("Patient/").map(|(_, id)| id);
        let alone = id.is_some_and(|id| people.by_id.get(id).is_none_or(|keys| keys.len() == 1));
        builder.patient(&match id.filter(|_| alone) {
            Some(id) => format!("Patient/{id}"),
            None => patient.clone(),
        });
        builder.add(resource, &cited);
        self.patients.insert(patient, builder);
        Ok(())
    }

    /// One record a patient, in the order of their ids.
    pub(crate) fn records(self) -> Vec<PatientRecord> {
        let Self { patients, medicines, .. } = self;
        let with_medicines = |mut builder: RecordBuilder<'c>| {
            for (medicine, cited) in &medicines {
                builder.add(medicine, cited);
            }
            builder.build()
        };
        patients.into_values().map(with_medicines).collect()
    }
}

fn of_no_patient(reference: &str) -> bool {
    match reference::parse(reference, "") {
        Reference::Local { kind, .. } => kind != ResourceType::PATIENT,
        _ => false,
    }
}

fn subject<'a>(resource: &'a Json) -> Option<&'a str> {
    ["subject", "patient"].iter().find_map(|member| resource.get(member)?.text("reference"))
}

/// How a resource is cited: with its version where it has one.
pub(crate) fn cite(kind: &str, resource: &Json, full_url: Option<&str>) -> String {
    match (resource.text("id"), resource.at(&["meta", "versionId"]).and_then(Json::as_str)) {
        (Some(id), Some(version)) => format!("{kind}/{id}/_history/{version}"),
        (Some(id), None) => format!("{kind}/{id}"),
        (None, _) => full_url.unwrap_or(kind).to_owned(),
    }
}
