//! Records out of loose resources: a Bundle of a request, or files on disk.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::profile::is_of_a_model;
use fhir::resource_type::ResourceType;
use models::{Catalogue, PatientRecord, RecordBuilder};

/// Resources sorted by the patient they are about.
#[derive(Debug)]
pub(crate) struct Collection<'c> {
    catalogue: &'c Catalogue,
    patients: BTreeMap<String, RecordBuilder<'c>>,
    /// Medicines that others name, of no patient, by how they are cited.
    medicines: BTreeMap<String, Vec<Json<'static>>>,
    /// The version of each resource of a patient that was read, and how it is cited.
    versions: HashMap<(String, String), Version>,
}

/// Which version of a resource was read.
#[derive(Debug)]
struct Version {
    age: (u64, String),
    cited: String,
}

/// What of a patient is read at all.
const READ: [&str; 5] = ["Patient", "Observation", "Condition", "MedicationRequest", "MedicationStatement"];

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
        // A relative reference is on the server that its entry comes from, or to an entry without address.
        let beside = full_url.filter(|url| url.contains("://"));
        if let Some(root) = beside.and_then(|url| Some(url.rsplit_once('/')?.0.rsplit_once('/')?.0)) {
            let address = format!("{root}/{reference}");
            if let Some(key) = self.by_url.get(address.as_str()) {
                return Ok(key.clone());
            }
            let own = self.by_id.get(id).is_some_and(|keys| keys.len() == 1 && keys.contains(reference));
            return Ok(if own || self.by_id.is_empty() { reference.to_owned() } else { address });
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
fn age(resource: &Json) -> (u64, String) {
    let meta = |member| resource.at(&["meta", member]).and_then(Json::as_str);
    let version = meta("versionId").and_then(|version| version.parse().ok()).unwrap_or(0);
    (version, meta("lastUpdated").unwrap_or_default().to_owned())
}

impl<'c> Collection<'c> {
    pub(crate) fn new(catalogue: &'c Catalogue) -> Self {
        Self { catalogue, patients: BTreeMap::new(), medicines: BTreeMap::new(), versions: HashMap::new() }
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
                let entries = newest(entries);
                let mut touched = BTreeSet::new();
                for entry in &entries {
                    if let Some(inner) = entry.get("resource") {
                        touched.extend(self.add_one(inner, entry.text("fullUrl"), &people)?);
                    }
                }
                self.settle_medicines(&entries, &touched);
                Ok(())
            }
            Some(_) => self.add_one(resource, None, &People::default()).map(drop),
            None => Err(Issue::error("structure", "not a FHIR resource: resourceType is missing").into()),
        }
    }

    /// A Bundle's own medicines are what its patients take: another Bundle may use the same ids.
    fn settle_medicines(&mut self, entries: &[&Json], touched: &BTreeSet<String>) {
        let medicine = |entry: &&Json| {
            entry.get("resource").is_some_and(|one| one.text("resourceType") == Some("Medication"))
        };
        for patient in touched {
            let Some(builder) = self.patients.get_mut(patient) else { continue };
            for entry in entries.iter().copied().filter(medicine) {
                let Some(resource) = entry.get("resource") else { continue };
                let url = entry.text("fullUrl");
                builder.add(resource, &cite("Medication", resource, url));
                if let Some(url) = url {
                    builder.add(resource, url);
                }
            }
            builder.settle_medicines();
        }
    }

    /// Keeps a medicine for whoever names it: of several versions the newest.
    fn keep_medicine(&mut self, resource: &Json, cited: &str) {
        let name = cited.split("/_history/").next().unwrap_or(cited);
        let known = self.medicines.entry(name.to_owned()).or_default();
        known.retain(|one| age(one) >= age(resource));
        if known.iter().all(|one| age(one) == age(resource)) {
            known.push(resource.clone().into_owned());
        }
    }

    /// Gives the patient of the resource, if it has one.
    fn add_one(
        &mut self,
        resource: &Json,
        full_url: Option<&str>,
        people: &People<'_>,
    ) -> Result<Option<String>, Issues> {
        let Some(kind) = resource.text("resourceType").filter(|_| !is_of_a_model(resource)) else {
            return Ok(None);
        };
        let cited = cite(kind, resource, full_url);
        if kind == "Medication" {
            self.keep_medicine(resource, &cited);
            if let Some(url) = full_url.filter(|url| *url != cited) {
                self.keep_medicine(resource, url);
            }
            return Ok(None);
        }
        let patient = match (kind, subject(resource)) {
            ("Patient", _) => key_of_patient(resource.text("id"), full_url),
            // A group's or a device's values are nobody's.
            (_, Some(reference)) if of_no_patient(reference, resource) => None,
            // Whoever is described inside of one resource is known from no other.
            (_, Some(reference)) if reference.starts_with('#') => {
                Some(format!("{}{reference}", full_url.unwrap_or(&cited)))
            }
            (_, Some(reference)) => Some(people.meant(reference, full_url)?),
            (_, None) if self.catalogue.reads(resource) => {
                let issue = Issue::error("required", "without it, it can't be told whose this is");
                return Err(issue.at(format!("{kind}.subject")).into());
            }
            _ => None,
        };
        let Some(patient) = patient else { return Ok(None) };
        if let Some(id) = resource.text("id").filter(|_| READ.contains(&kind)) {
            let this = Version { age: age(resource), cited: cited.clone() };
            match self.versions.entry((patient.clone(), format!("{kind}/{id}"))) {
                Entry::Occupied(known) if known.get().age > this.age => return Ok(Some(patient)),
                Entry::Occupied(mut known) => {
                    let before = known.insert(this);
                    if let Some(builder) = self.patients.get_mut(&patient) {
                        builder.forget(&before.cited);
                    }
                }
                Entry::Vacant(free) => {
                    free.insert(this);
                }
            }
        }
        if let Some(builder) = self.patients.get_mut(&patient) {
            builder.add(resource, &cited);
            return Ok(Some(patient));
        }
        let mut builder = RecordBuilder::new(self.catalogue);
        // Two servers' patients may have one id: then only the address tells them apart.
        let id = patient.rsplit_once("Patient/").map(|(_, id)| id);
        let alone = id.is_some_and(|id| people.by_id.get(id).is_none_or(|keys| keys.len() == 1));
        builder.patient(&match id.filter(|_| alone) {
            Some(id) => format!("Patient/{id}"),
            None => patient.clone(),
        });
        if let Some(inside) = subject(resource).and_then(|reference| contained(resource, reference)) {
            builder.add(inside, &patient);
        }
        builder.add(resource, &cited);
        self.patients.insert(patient.clone(), builder);
        Ok(Some(patient))
    }

    /// One record a patient, in the order of their ids.
    pub(crate) fn records(self) -> Vec<PatientRecord> {
        let Self { patients, medicines, .. } = self;
        let with_medicines = |mut builder: RecordBuilder<'c>| {
            for (cited, known) in &medicines {
                for medicine in known {
                    builder.add(medicine, cited);
                }
            }
            builder.build()
        };
        patients.into_values().map(with_medicines).collect()
    }
}

/// Is it about something that is no patient: a group, a device, a place?
fn of_no_patient(reference: &str, resource: &Json) -> bool {
    if reference.starts_with('#') {
        return contained(resource, reference).and_then(|one| one.text("resourceType")) != Some("Patient");
    }
    let plain = reference.split("/_history/").next().unwrap_or(reference);
    let mut parts = plain.rsplit('/');
    let kind = parts.nth(1).and_then(ResourceType::parse);
    kind.is_some_and(|kind| kind != ResourceType::PATIENT)
}

fn contained<'a>(resource: &'a Json<'a>, reference: &str) -> Option<&'a Json<'a>> {
    let id = reference.strip_prefix('#')?;
    resource.list("contained").iter().find(|one| one.text("id") == Some(id))
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
