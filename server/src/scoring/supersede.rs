//! Assessments that no longer hold: an input they cite was changed or withdrawn. They stay, and
//! their status says so: `amended`, or `entered-in-error` where an input was.

use std::borrow::Cow;

use fhir::json::Json;
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use serde_json::json;
use store::{Commit, Error, Reader, Stored};

use super::gather::parse;
use super::settle::put;
use super::terms;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Holds,
    Changed,
    Withdrawn,
}

/// Looks at the RiskAssessment `id` and marks it, and the Observation of its score, if an input
/// changed. `by` is the one that takes its place. Says whether it no longer holds.
pub(crate) fn mark(
    reader: &mut Reader<'_>,
    id: &str,
    by: Option<&str>,
    commit: &mut Commit<'static>,
) -> Result<bool, Error> {
    // The assessment cites all that its score rests on. Each by itself: one may have been deleted.
    let kinds = [(ResourceType::RISK_ASSESSMENT, by), (ResourceType::OBSERVATION, None)];
    let mut pair = Vec::with_capacity(kinds.len());
    for (kind, by) in kinds {
        pair.extend(present(reader, kind, id)?.map(|stored| (stored, by)));
    }
    let mut verdict = Verdict::Holds;
    let mut resources = Vec::with_capacity(pair.len());
    for (stored, by) in &pair {
        let resource = parse(&stored.body)?;
        verdict = verdict.max(judge(reader, &resource)?);
        resources.push((stored.kind, *by, resource));
    }
    let status = match verdict {
        Verdict::Holds => return Ok(false),
        Verdict::Changed => "amended",
        Verdict::Withdrawn => "entered-in-error",
    };
    for (kind, by, resource) in resources {
        if !matches!(resource.text("status"), Some(now) if now == status || now == "entered-in-error") {
            rewrite(commit, kind, id, resource.into_owned(), status, by)?;
        }
    }
    Ok(true)
}

/// Does the RiskAssessment `id` hold, and say so? One that was deleted says nothing against it.
pub(crate) fn stands(reader: &mut Reader<'_>, id: &str) -> Result<bool, Error> {
    let Some(stored) = present(reader, ResourceType::RISK_ASSESSMENT, id)? else { return Ok(true) };
    let resource = parse(&stored.body)?;
    let said = matches!(resource.text("status"), Some("final" | "preliminary" | "corrected"));
    Ok(said && judge(reader, &resource)? == Verdict::Holds)
}

fn present(reader: &mut Reader<'_>, kind: ResourceType, id: &str) -> Result<Option<Stored>, Error> {
    match reader.read(kind, id) {
        Ok(stored) => Ok(Some(stored)),
        Err(Error::NotFound | Error::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The versions that a number rests on, and those that stood in the way of one.
fn grounds<'a>(resource: &'a Json<'_>) -> Vec<&'a str> {
    let cited = resource.list("basis").iter().chain(resource.list("derivedFrom"));
    let mut grounds: Vec<&str> = cited.filter_map(|cited| cited.text("reference")).collect();
    for holder in std::iter::once(resource).chain(resource.list("prediction")) {
        let beside = holder.get("_probabilityDecimal").into_iter();
        let holders = std::iter::once(holder).chain(beside);
        let issues = holders.flat_map(|holder| holder.list("extension"));
        for issue in issues.filter(|one| one.text("url") == Some(terms::INPUT_ISSUE)) {
            let parts = issue.list("extension");
            let named = |name: &str| parts.iter().find(|part| part.text("url") == Some(name));
            if named("effect").and_then(|part| part.text("valueCode")) == Some("refuses") {
                let reference = named("reference").and_then(|part| part.get("valueReference"));
                grounds.extend(reference.and_then(|reference| reference.text("reference")));
            }
        }
    }
    grounds
}

/// The worst that happened to any cited version.
fn judge(reader: &mut Reader<'_>, resource: &Json) -> Result<Verdict, Error> {
    let mut worst = Verdict::Holds;
    for text in grounds(resource) {
        let Reference::Local { kind, id, version: Some(version) } = reference::parse(text, "") else {
            continue;
        };
        let verdict = match reader.read(kind, id) {
            Ok(current) if current.version.to_string() == version => Verdict::Holds,
            Ok(current) if withdrawn(&parse(&current.body)?) => Verdict::Withdrawn,
            Ok(current) if kind == ResourceType::PATIENT && same_person(reader, &current, version)? => {
                Verdict::Holds
            }
            Ok(_) => Verdict::Changed,
            Err(Error::NotFound | Error::Gone { .. }) => Verdict::Withdrawn,
            Err(error) => return Err(error),
        };
        worst = worst.max(verdict);
    }
    Ok(worst)
}

/// Does the cited version of a Patient say the same of what models read? A new telephone changes
/// no number.
fn same_person(reader: &mut Reader<'_>, current: &Stored, version: &str) -> Result<bool, Error> {
    let Ok(version) = version.parse() else { return Ok(false) };
    let cited = match reader.vread(ResourceType::PATIENT, &current.id, version) {
        Ok(cited) => cited,
        Err(Error::NotFound | Error::Gone { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let (old, new) = (parse(&cited.body)?, parse(&current.body)?);
    let read = [
        "birthDate",
        "gender",
        "deceasedBoolean",
        "deceasedDateTime",
        "active",
        "link",
        "extension",
        "modifierExtension",
        "implicitRules",
    ];
    let countries = |one: &Json| -> Vec<Option<String>> {
        one.list("address").iter().map(|address| address.text("country").map(str::to_owned)).collect()
    };
    Ok(read.iter().all(|member| old.get(member) == new.get(member)) && countries(&old) == countries(&new))
}

/// Observations and medicines say so in `status`, conditions in `verificationStatus`.
fn withdrawn(resource: &Json) -> bool {
    let status = resource.text("status");
    let verified = resource.at(&["verificationStatus", "coding", "code"]).and_then(Json::as_str);
    [status, verified].contains(&Some("entered-in-error"))
}

fn rewrite(
    commit: &mut Commit<'static>,
    kind: ResourceType,
    id: &str,
    mut resource: Json<'static>,
    status: &'static str,
    by: Option<&str>,
) -> Result<(), Error> {
    if let Some(object) = resource.as_object_mut() {
        object.set(usize::MAX, "status", Json::String(Cow::Borrowed(status)));
        if let Some(by) = by {
            let extension = json!({"url": terms::SUPERSEDED_BY, "valueReference": {"reference": format!("RiskAssessment/{by}")}});
            match object.get_mut("extension") {
                Some(Json::Array(all)) => all.push(Json::from(&extension)),
                _ => object.set(3, "extension", Json::Array(vec![Json::from(&extension)])),
            }
        }
    }
    put(commit, kind, id, resource)
}
