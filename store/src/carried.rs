//! What is of a patient only through another record: it is withheld with each record that it is about.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};

use fhir::json::Json;
use fhir::reference::{Reference, parse};
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{Index, MOST_HELD, Row, index, parameter, patients as patients_of, references};

use crate::access::Sight;
use crate::connection::Link;
use crate::draft::{self, replace_references};
use crate::error::{Error, Fault};
use crate::reader::{all_last, last};
use crate::record::Stored;
use crate::withheld::MEDICATION;

/// How far it is followed, and how many resources are looked up on the way: what lies beyond is not shown.
const DEEPEST: usize = 4;
const MOST: usize = 1000;

/// The types of such resources.
pub(crate) const CARRIERS: [ResourceType; 4] =
    [ResourceType::BINARY, ResourceType::BUNDLE, ResourceType::LINKAGE, ResourceType::PROVENANCE];

/// Does it carry what a patient withholds?
pub(crate) fn withholds(link: &mut Link, sight: &Sight, stored: &Stored) -> Result<bool, Error> {
    if !stored.deleted && medicates(link, sight, stored)? {
        return Ok(true);
    }
    if stored.deleted || !sight.screens(&[stored.kind]) {
        return Ok(false);
    }
    Ok(Walk::new(sight).carries(link, stored.kind, &draft::parse(&stored.body)?, DEEPEST)?)
}

/// Whom it is about, for all of them to be named; none if that can't be followed, and somebody withholds
/// something.
pub(crate) fn patients(
    link: &mut Link,
    sight: &Sight,
    stored: &Stored,
) -> Result<Option<BTreeSet<String>>, Fault> {
    let mut walk = Walk::new(sight);
    walk.names(&stored.patient);
    let lost = walk.carries(link, stored.kind, &draft::parse(&stored.body)?, DEEPEST)?;
    Ok((!lost && !walk.more || !sight.is_bound()).then_some(walk.patients))
}

/// Does a patient withhold it by the code of the Medication that it refers to?
fn medicates(link: &mut Link, sight: &Sight, stored: &Stored) -> Result<bool, Error> {
    if !sight.concerns(&stored.patient) || parameter(stored.kind, MEDICATION).is_none() {
        return Ok(false);
    }
    let json = draft::parse(&stored.body)?;
    let codes = medication(link, stored.kind, &json)?;
    Ok(is_by_code(sight, index(stored.kind, &json), codes, &stored.id, stored.updated))
}

/// Is it withheld as if these codes were its own?
fn is_by_code(sight: &Sight, mut of: Index, codes: Vec<Row>, id: &str, updated: i64) -> bool {
    let named = !codes.is_empty();
    of.rows.extend(codes);
    named && sight.withholds_of(&of, id, updated)
}

/// The codes of the Medication that a resource refers to.
fn medication(link: &mut Link, kind: ResourceType, json: &Json) -> Result<Vec<Row>, Fault> {
    let Some(by) = parameter(kind, MEDICATION) else { return Ok(Vec::new()) };
    let mut named = None;
    references(by, json, &mut |kind, id| {
        named = (kind == ResourceType::MEDICATION).then(|| id.to_owned());
    });
    let medication = named.map(|id| last(link, ResourceType::MEDICATION, &id)).transpose()?.flatten();
    medication.map_or(Ok(Vec::new()), |medication| Ok(codes(&draft::parse(&medication.body)?)))
}

/// The codes of a Medication.
pub(crate) fn codes(medication: &Json) -> Vec<Row> {
    let is_code = |row: &Row| {
        parameter(ResourceType::MEDICATION, "code").is_some_and(|code| code.params.contains(&row.param()))
    };
    index(ResourceType::MEDICATION, medication).rows.into_iter().filter(is_code).collect()
}

fn kind_of(resource: &Json) -> Option<ResourceType> {
    resource.text("resourceType").and_then(ResourceType::parse)
}

/// One look along what a resource is about.
struct Walk<'w> {
    sight: &'w Sight,
    /// What was looked up: nothing of it is withheld.
    met: HashSet<(ResourceType, String)>,
    /// Whom it is about.
    patients: BTreeSet<String>,
    /// It is about more than are named.
    more: bool,
}

impl<'w> Walk<'w> {
    fn new(sight: &'w Sight) -> Self {
        Self { sight, met: HashSet::new(), patients: BTreeSet::new(), more: false }
    }

    fn names(&mut self, patients: &str) {
        for id in patients.split_ascii_whitespace() {
            let full = self.patients.len() >= MOST_HELD;
            self.more |= full && !self.patients.contains(id);
            if !full {
                self.patients.insert(id.to_owned());
            }
        }
    }

    fn carries(
        &mut self,
        link: &mut Link,
        kind: ResourceType,
        json: &Json,
        deepest: usize,
    ) -> Result<bool, Fault> {
        let Some(deepest) = deepest.checked_sub(1) else { return Ok(true) };
        let about: Vec<&Json> = match kind {
            ResourceType::BUNDLE => return self.holds(link, json.list("entry"), deepest),
            ResourceType::BINARY => json.get("securityContext").into_iter().collect(),
            ResourceType::LINKAGE => {
                json.list("item").iter().filter_map(|item| item.get("resource")).collect()
            }
            ResourceType::PROVENANCE => json.list("target").iter().collect(),
            _ => Vec::new(),
        };
        let local = |reference: &Json| match parse(reference.text("reference")?, "") {
            Reference::Local { kind, id, .. } => Some((kind, id.to_owned())),
            _ => None,
        };
        let mut new: Vec<_> = about.into_iter().filter_map(local).collect();
        new.retain(|one| self.met.insert(one.clone()));
        let beyond = self.met.len().saturating_sub(MOST);
        new.truncate(new.len().saturating_sub(beyond));
        link.in_time()?;
        let wanted: Vec<(ResourceType, &str)> = new.iter().map(|(kind, id)| (*kind, id.as_str())).collect();
        for stored in all_last(link, &wanted)? {
            link.in_time()?;
            self.names(&stored.patient);
            if self.sight.withholds(Op::Read, &stored)? || medicates(link, self.sight, &stored)? {
                return Ok(true);
            }
            if CARRIERS.contains(&stored.kind)
                && self.carries(link, stored.kind, &draft::parse(&stored.body)?, deepest)?
            {
                return Ok(true);
            }
        }
        Ok(beyond > 0)
    }

    /// The same of the entries of a Bundle, which may refer to each other. Who has no id in it may be who
    /// withholds, and so may whoever is not in it.
    fn holds(&mut self, link: &mut Link, entries: &[Json], deepest: usize) -> Result<bool, Fault> {
        if !self.sight.is_bound() {
            for resource in entries.iter().filter_map(|entry| entry.get("resource")) {
                let Some(kind) = kind_of(resource) else { continue };
                link.in_time()?;
                self.names(&patients_of(kind, resource));
                if CARRIERS.contains(&kind) {
                    self.carries(link, kind, resource, deepest)?;
                }
            }
            return Ok(false);
        }
        let unknown = Cell::new(false);
        let resources = || entries.iter().filter_map(|entry| Some((entry, entry.get("resource")?)));
        let by_url: HashMap<&str, &Json> =
            resources().filter_map(|(entry, resource)| Some((entry.text("fullUrl")?, resource))).collect();
        let named = |text: &str| {
            let resource = by_url.get(Some(text).filter(|text| text.starts_with("urn:"))?);
            unknown.set(unknown.get() || resource.is_none());
            Some(format!("{}/{}", kind_of(resource?)?, resource?.text("id")?))
        };
        let is_medication = |(_, one): &(&Json, &Json)| kind_of(one) == Some(ResourceType::MEDICATION);
        let given: Vec<Row> = resources().filter(is_medication).flat_map(|(_, one)| codes(one)).collect();
        for (_, resource) in resources() {
            let Some(kind) = kind_of(resource) else { continue };
            link.in_time()?;
            let mut resource = resource.clone();
            replace_references(&mut resource, &named);
            let (of, id) = (index(kind, &resource), resource.text("id").unwrap_or_default());
            let nameless = kind == ResourceType::PATIENT && id.is_empty();
            self.names(&of.patients);
            let untold = (nameless || unknown.get()) && !self.sight.is_through_glass();
            if untold || self.sight.withholds_of(&of, id, 0) {
                return Ok(true);
            }
            if parameter(kind, MEDICATION).is_some() && self.sight.concerns(&of.patients) {
                link.in_time()?;
                let mut codes = medication(link, kind, &resource)?;
                codes.extend(given.iter().cloned());
                if is_by_code(self.sight, of, codes, id, 0) {
                    return Ok(true);
                }
            }
            if self.carries(link, kind, &resource, deepest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
