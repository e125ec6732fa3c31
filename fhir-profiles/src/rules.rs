//! Rules that no invariant of the base specification states, and invariants that cost less here than
//! as FHIRPath, or have a better place.

use std::collections::HashSet;

use crate::fhirpath::{Error, Expression};
use crate::json::{Json, Object};
use crate::resource_type::ResourceType;
use crate::validate::{At, Walk};
use crate::{primitive, search};

/// Rules of data types.
pub(crate) fn of_type(walk: &mut Walk<'_>, kind: &str, object: &Object<'_>, at: &At<'_>) {
    let any = |keys: &[&str]| keys.iter().any(|key| object.get(key).is_some());
    let begins = |stem: &str| object.iter().any(|(key, _)| key.starts_with(stem));
    let broken = match kind {
        "Extension" if (begins("value") || begins("_value")) == any(&["extension"]) => {
            "an extension has either a value or extensions (ext-1)"
        }
        "Extension"
            if relative(object, "url") && !matches!(at.parent(), "extension" | "modifierExtension") =>
        {
            // HL7's own tests of 4.0.1 have relative ones.
            return walk.doubt(at, "invalid", "the url of an extension is an absolute address");
        }
        "Period" if reversed(object) => "a period starts before it ends (per-1)",
        "Period" if unclear(object) => {
            let details = "whether the period starts before it ends can't be told (per-1)";
            return walk.doubt(at, "invariant", details);
        }
        "Attachment" if other_size(object) => "the size is not that of the data",
        "Reference"
            if !any(&["reference", "identifier", "display", "extension", "_reference", "_display"]) =>
        {
            "a reference has a reference, an identifier or a display (ref-2)"
        }
        // HL7's own examples name a contained code system by `#`.
        "ValueSet.compose.include" if relative(object, "system") && !fragment(object, "system") => {
            "the system of an included set is an absolute address"
        }
        "CodeSystem"
            if object.get("supplements").is_some()
                && object.get("content").and_then(Json::as_str) != Some("supplement") =>
        {
            "the content of a supplement is supplement"
        }
        "SearchParameter"
            if object.get("type").and_then(Json::as_str) == Some("composite")
                && object.get("component").map_or(0, |parts| parts.items().len()) < 2 =>
        {
            "a composite parameter has two components or more"
        }
        "SearchParameter" if unreadable(object) => "the expression is no FHIRPath",
        "SearchParameter" if elsewhere(object) => {
            let details = "the expression begins with another type than the parameter's bases";
            return walk.doubt(at, "invalid", details);
        }
        "SearchParameter" if derived(object) => "the parameter it is derived from has another type",
        "CapabilityStatement.rest.resource" if other_type(object) => {
            "a search parameter has another type than its definition"
        }
        "Coding" if relative(object, "system") => "a Coding's system is an absolute address",
        "Bundle.entry" if relative(object, "fullUrl") => "a fullUrl is an absolute address",
        _ => return,
    };
    walk.error(at, "invariant", broken);
}

fn reversed(period: &Object<'_>) -> bool {
    matches!((span(period, "start"), span(period, "end")), (Some(start), Some(end)) if start.low > end.high)
}

/// A day and a moment of that day have no order.
fn unclear(period: &Object<'_>) -> bool {
    matches!((span(period, "start"), span(period, "end")), (Some(start), Some(end))
        if start.high > end.low && end.high - end.low != start.high - start.low)
}

fn other_size(attachment: &Object<'_>) -> bool {
    let size = attachment.get("size").and_then(Json::as_number).and_then(|size| size.parse::<usize>().ok());
    let data = attachment.get("data").and_then(Json::as_str).and_then(primitive::base64_length);
    matches!((size, data), (Some(size), Some(data)) if size != data)
}

fn relative(object: &Object<'_>, key: &str) -> bool {
    object.get(key).and_then(Json::as_str).is_some_and(|address| !address.contains(':'))
}

fn fragment(object: &Object<'_>, key: &str) -> bool {
    object.get(key).and_then(Json::as_str).is_some_and(|address| address.starts_with('#'))
}

/// What is not supported here may still be an expression elsewhere.
fn unreadable(parameter: &Object<'_>) -> bool {
    let text = parameter.get("expression").and_then(Json::as_str);
    text.is_some_and(|text| matches!(Expression::parse(text), Err(Error::Syntax { .. })))
}

/// Does a part of the expression begin with a resource type that is no base of the parameter?
fn elsewhere(parameter: &Object<'_>) -> bool {
    let text = parameter.get("expression").and_then(Json::as_str).unwrap_or_default();
    let bases = parameter.get("base").map_or(&[][..], Json::items);
    let bases: HashSet<&str> = bases.iter().filter_map(Json::as_str).collect();
    if bases.iter().any(|base| base.ends_with("Resource")) {
        return false;
    }
    text.split('|').any(|part| {
        let name = part.trim().trim_start_matches('(').split(['.', ' ', ')']).next().unwrap_or_default();
        ResourceType::parse(name).is_some() && !bases.contains(name)
    })
}

/// `Organization-name` of the base specification is the parameter `name` of Organization.
fn derived(parameter: &Object<'_>) -> bool {
    let text = |key: &str| parameter.get(key).and_then(Json::as_str);
    let known = text("derivedFrom")
        .and_then(|url| url.strip_prefix("http://hl7.org/fhir/SearchParameter/")?.split_once('-'))
        .and_then(|(kind, code)| search::parameter(ResourceType::parse(kind)?, code));
    matches!((known, text("type")), (Some(known), Some(own)) if known.kind != search::kind(own))
}

/// Does a `searchParam` that names a parameter of the base specification say another type?
fn other_type(resource: &Object<'_>) -> bool {
    let Some(kind) = resource.get("type").and_then(Json::as_str).and_then(ResourceType::parse) else {
        return false;
    };
    resource.get("searchParam").map_or(&[][..], Json::items).iter().any(|one| {
        let official = one
            .text("definition")
            .is_some_and(|url| url.starts_with("http://hl7.org/fhir/SearchParameter/") && !url.contains('|'));
        let known = one.text("name").and_then(|name| search::parameter(kind, name));
        official && matches!((known, one.text("type")), (Some(known), Some(own)) if known.kind != search::kind(own))
    })
}

fn span(object: &Object<'_>, key: &str) -> Option<crate::time::Span> {
    crate::time::parse(object.get(key)?.as_str()?)
}
