//! What is of a patient only through another record: it is withheld with each record that it is about.

use fhir::json::Json;
use fhir::reference::{Reference, parse};
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{index, parameter, references};

use crate::access::Sight;
use crate::connection::Link;
use crate::draft;
use crate::error::{Error, Fault};
use crate::reader::last;
use crate::record::Stored;
use crate::withheld::MEDICATION;

/// How far it is followed.
const DEEPEST: usize = 4;

/// The types of such resources.
pub(crate) const CARRIERS: [ResourceType; 4] =
    [ResourceType::BINARY, ResourceType::BUNDLE, ResourceType::LINKAGE, ResourceType::PROVENANCE];

/// Does it carry what a patient withholds?
pub(crate) fn withholds(link: &mut Link, sight: &Sight, stored: &Stored) -> Result<bool, Error> {
    if !stored.deleted && sight.concerns(&stored.patient) && medicates(link, sight, stored)? {
        return Ok(true);
    }
    if stored.deleted || !sight.screens(&[stored.kind]) {
        return Ok(false);
    }
    Ok(carries(link, sight, stored.kind, &draft::parse(&stored.body)?, DEEPEST)?)
}

/// Does a patient withhold it by the code of the Medication that it refers to?
fn medicates(link: &mut Link, sight: &Sight, stored: &Stored) -> Result<bool, Error> {
    let Some(by) = parameter(stored.kind, MEDICATION) else { return Ok(false) };
    let json = draft::parse(&stored.body)?;
    let mut named = None;
    references(by, &json, &mut |kind, id| {
        named = (kind == ResourceType::MEDICATION).then(|| id.to_owned());
    });
    let medication = named.map(|id| last(link, ResourceType::MEDICATION, &id)).transpose()?.flatten();
    let Some(medication) = medication else { return Ok(false) };
    let is_code = |param: i64| {
        parameter(ResourceType::MEDICATION, "code").is_some_and(|code| code.params.contains(&param))
    };
    let mut of = index(stored.kind, &json);
    let codes = index(medication.kind, &draft::parse(&medication.body)?).rows;
    of.rows.extend(codes.into_iter().filter(|row| is_code(row.param())));
    Ok(sight.withholds_of(&of, &stored.id, stored.updated))
}

fn carries(
    link: &mut Link,
    sight: &Sight,
    kind: ResourceType,
    json: &Json,
    deepest: usize,
) -> Result<bool, Fault> {
    // What lies deeper is not shown.
    let Some(deepest) = deepest.checked_sub(1) else { return Ok(true) };
    let about: Vec<&Json> = match kind {
        ResourceType::BINARY => json.get("securityContext").into_iter().collect(),
        ResourceType::LINKAGE => json.list("item").iter().filter_map(|item| item.get("resource")).collect(),
        ResourceType::PROVENANCE => json.list("target").iter().collect(),
        _ => Vec::new(),
    };
    for reference in about {
        let Some(Reference::Local { kind, id, .. }) = reference.text("reference").map(|text| parse(text, ""))
        else {
            continue;
        };
        let Some(stored) = last(link, kind, id)? else { continue };
        if sight.withholds(Op::Read, &stored)? {
            return Ok(true);
        }
        if CARRIERS.contains(&kind) && carries(link, sight, kind, &draft::parse(&stored.body)?, deepest)? {
            return Ok(true);
        }
    }
    let entries = if kind == ResourceType::BUNDLE { json.list("entry") } else { &[] };
    for resource in entries.iter().filter_map(|entry| entry.get("resource")) {
        let Some(kind) = resource.text("resourceType").and_then(ResourceType::parse) else { continue };
        let (of, id) = (index(kind, resource), resource.text("id").unwrap_or_default());
        if sight.withholds_of(&of, id, 0) || carries(link, sight, kind, resource, deepest)? {
            return Ok(true);
        }
    }
    Ok(false)
}
