//! The invariants of the base specification that cost nothing to look at on the walk. The rest
//! needs FHIRPath.

use crate::json::{Json, Object};
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
    if resource.get("total").is_some() && !matches!(bundle, "searchset" | "history") {
        walk.error(&at.element("total"), "invariant", "only a searchset or history has a total (bdl-1)");
    }
}
