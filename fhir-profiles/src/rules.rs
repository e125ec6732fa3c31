//! The invariants of the base specification that cost nothing to look at on the walk. The rest
//! needs FHIRPath.

use std::collections::HashSet;

use crate::json::{Json, Object};
use crate::primitive;
use crate::validate::{At, Walk};

/// Rules of data types.
pub(crate) fn of_type(walk: &mut Walk, kind: &str, object: &Object<'_>, at: &At<'_>) {
    let has = |key: &str| object.get(key).is_some();
    let any = |keys: &[&str]| keys.iter().any(|key| has(key));
    let begins = |stem: &str| object.iter().any(|(key, _)| key.starts_with(stem));
    let broken = match kind {
        "Extension" if (begins("value") || begins("_value")) == has("extension") => {
            "an extension has either a value or extensions (ext-1)"
        }
        "Period" if reversed(object) => "a period starts before it ends (per-1)",
        "Quantity" | "Age" | "Duration" | "Count" | "Distance" if has("code") && !has("system") => {
            "a unit's code needs its system (qty-3)"
        }
        "Attachment" if has("data") && !any(&["contentType", "_contentType"]) => {
            "data needs a contentType (att-1)"
        }
        "Attachment" if other_size(object) => "the size is not that of the data",
        "ContactPoint" if has("value") && !any(&["system", "_system"]) => {
            "a contact's value needs its system (cpt-2)"
        }
        "Ratio" if has("numerator") != has("denominator") || !any(&["numerator", "extension"]) => {
            "a ratio has both its parts, or none and an extension (rat-1)"
        }
        "Reference"
            if !any(&["reference", "identifier", "display", "extension", "_reference", "_display"]) =>
        {
            "a reference has a reference, an identifier or a display (ref-2)"
        }
        "Observation" if begins("value") && has("dataAbsentReason") => {
            "an Observation with a value has no dataAbsentReason (obs-6)"
        }
        "Observation" if begins("value") && repeated(object) => {
            "a component has the Observation's own code, so the Observation has no value (obs-7)"
        }
        "Observation.referenceRange" if !any(&["low", "high", "text", "_text"]) => {
            "a reference range has a bound or a text (obs-3)"
        }
        "Range" if upside_down(object) => "a range begins below its end (rng-2)",
        "Condition" if has("clinicalStatus") && is(object, "verificationStatus", &["entered-in-error"]) => {
            "a Condition entered in error has no clinical status (con-5)"
        }
        "Condition"
            if begins("abatement")
                && has("clinicalStatus")
                && !is(object, "clinicalStatus", &["inactive", "resolved", "remission"]) =>
        {
            "a Condition that has abated is inactive, resolved or in remission (con-4)"
        }
        "Questionnaire.item"
            if object.get("enableWhen").is_some_and(|when| when.items().len() > 1)
                && !any(&["enableBehavior", "_enableBehavior"]) =>
        {
            "several enableWhen need an enableBehavior (que-12)"
        }
        "Coding" if relative(object, "system") => "a Coding's system is an absolute address",
        "Bundle.entry" if relative(object, "fullUrl") => "a fullUrl is an absolute address",
        "RiskAssessment.prediction" if above_hundred(object) => "a probability is at most 100 (ras-2)",
        "Patient.contact" if !any(&["name", "telecom", "address", "organization"]) => {
            "a contact has details or an organization (pat-1)"
        }
        "Bundle.entry" if !any(&["resource", "request", "response", "link", "fullUrl"]) => {
            "an entry has a resource, a request or a response (bdl-5)"
        }
        _ => return,
    };
    walk.error(at, "invariant", broken);
}

fn reversed(period: &Object<'_>) -> bool {
    matches!((span(period, "start"), span(period, "end")), (Some(start), Some(end)) if start.low > end.high)
}

fn other_size(attachment: &Object<'_>) -> bool {
    let size = attachment.get("size").and_then(Json::as_number).and_then(|size| size.parse::<usize>().ok());
    let data = attachment.get("data").and_then(Json::as_str).and_then(primitive::base64_length);
    matches!((size, data), (Some(size), Some(data)) if size != data)
}

fn repeated(observation: &Object<'_>) -> bool {
    let codings = observation.get("code").map_or(&[][..], |code| code.list("coding"));
    let components = observation.get("component").map_or(&[][..], Json::items);
    // A hostile Observation must not cost a square; a real one has a handful.
    components.iter().take(100).any(|component| {
        let own = component.get("code").map_or(&[][..], |code| code.list("coding"));
        own.iter().take(10).any(|coding| codings.iter().take(10).any(|other| other == coding))
    })
}

/// Only where both bounds are in the same unit.
fn upside_down(range: &Object<'_>) -> bool {
    let (Some(low), Some(high)) = (range.get("low"), range.get("high")) else { return false };
    let value =
        |bound: &Json| bound.get("value").and_then(Json::as_number).and_then(|n| n.parse::<f64>().ok());
    low.get("code") == high.get("code")
        && low.get("unit") == high.get("unit")
        && matches!((value(low), value(high)), (Some(low), Some(high)) if low > high)
}

/// Has the concept under `key` one of the codes?
fn is(object: &Object<'_>, key: &str, codes: &[&str]) -> bool {
    let codings = object.get(key).map_or(&[][..], |concept| concept.list("coding"));
    codings.iter().filter_map(|coding| coding.text("code")).any(|code| codes.contains(&code))
}

fn relative(object: &Object<'_>, key: &str) -> bool {
    object.get(key).and_then(Json::as_str).is_some_and(|address| !address.contains(':'))
}

fn above_hundred(prediction: &Object<'_>) -> bool {
    let percent = prediction.get("probabilityDecimal").and_then(Json::as_number);
    percent.and_then(|number| number.parse::<f64>().ok()).is_some_and(|number| number > 100.0)
}

fn span(object: &Object<'_>, key: &str) -> Option<crate::time::Span> {
    crate::time::parse(object.get(key)?.as_str()?)
}

/// Rules of whole resources.
pub(crate) fn of_resource(walk: &mut Walk, kind: &str, resource: &Json, at: &At<'_>) {
    if kind != "Bundle" {
        return;
    }
    let bundle = resource.text("type").unwrap_or_default();
    let entries = resource.list("entry");
    let here = at.element("entry");
    for (n, entry) in entries.iter().enumerate() {
        let request = entry.get("request").is_some();
        if request != matches!(bundle, "batch" | "transaction" | "history") {
            let details = if request {
                "only a batch, transaction or history has requests (bdl-3)"
            } else {
                "the entry needs a request (bdl-3)"
            };
            walk.error(&here.item(n).element("request"), "invariant", details);
        }
        if entry.get("response").is_some()
            && !matches!(bundle, "batch-response" | "transaction-response" | "history")
        {
            walk.error(
                &here.item(n).element("response"),
                "invariant",
                "only a response or history has responses (bdl-4)",
            );
        }
        if entry.get("search").is_some() && bundle != "searchset" {
            walk.error(&here.item(n).element("search"), "invariant", "only a searchset has searches (bdl-2)");
        }
    }
    same_url_twice(walk, entries, &here);
    let first = match bundle {
        "document" => Some(("Composition", "a document begins with its Composition (bdl-11)")),
        "message" => Some(("MessageHeader", "a message begins with its MessageHeader (bdl-12)")),
        _ => None,
    };
    if let (Some((kind, details)), Some(entry)) = (first, entries.first())
        && entry.at(&["resource", "resourceType"]).and_then(Json::as_str) != Some(kind)
    {
        walk.error(&here.item(0), "invariant", details);
    }
    if resource.get("total").is_some() && !matches!(bundle, "searchset" | "history") {
        walk.error(&at.element("total"), "invariant", "only a searchset or history has a total (bdl-1)");
    }
}

/// bdl-7 and bdl-8.
fn same_url_twice(walk: &mut Walk, entries: &[Json], here: &At<'_>) {
    let mut seen = HashSet::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let Some(url) = entry.text("fullUrl") else { continue };
        let version = entry.at(&["resource", "meta", "versionId"]).and_then(Json::as_str);
        if !seen.insert((url, version)) {
            let at = here.item(n);
            walk.error(&at.element("fullUrl"), "invariant", "two entries have this fullUrl (bdl-7)");
        }
        if url.contains("/_history/") {
            let at = here.item(n);
            walk.error(&at.element("fullUrl"), "invariant", "a fullUrl names no version (bdl-8)");
        }
    }
}
