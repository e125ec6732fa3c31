//! Resources within resources: what FHIR allows them to be
//! (<https://hl7.org/fhir/R4/references.html#contained>; dom-2 to dom-5, ref-1).

use std::collections::HashSet;

use crate::json::Json;
use crate::validate::{At, Walk};

/// Checks the contained resources of `resource`, and its references to them.
pub(crate) fn check(walk: &mut Walk<'_>, resource: &Json, at: &At<'_>, depth: usize) {
    let contained = resource.list("contained");
    // Within a contained resource `#x` means one beside it; that one was checked with the whole.
    let is_contained = depth > 0 && resource.text("resourceType") != Some("Bundle") && at.is_contained();
    if is_contained {
        let here = at.element("contained");
        if resource.get("contained").is_some() {
            walk.error(&here, "invariant", "a contained resource contains no other (dom-2)");
        }
        let meta = resource.get("meta");
        if meta.is_some_and(|meta| meta.get("versionId").is_some() || meta.get("lastUpdated").is_some()) {
            walk.error(&at.element("meta"), "invariant", "a contained resource has no version (dom-4)");
        }
        if meta.is_some_and(|meta| meta.get("security").is_some()) {
            walk.error(
                &at.element("meta"),
                "invariant",
                "a contained resource has no security label (dom-5)",
            );
        }
        return;
    }
    let (mut cited, mut named) = (HashSet::new(), HashSet::new());
    citations(resource, true, &mut cited, &mut named);
    if contained.is_empty() && cited.is_empty() {
        return;
    }
    let here = at.element("contained");
    let mut ids = HashSet::new();
    for (n, inner) in contained.iter().enumerate() {
        match inner.text("id") {
            Some(id) => {
                if !ids.insert(id) {
                    walk.error(&here.item(n), "duplicate", "two contained resources have the same id");
                }
                let (mut own, mut rest) = (HashSet::new(), HashSet::new());
                citations(inner, false, &mut own, &mut rest);
                if !cited.contains(id) && !named.contains(id) && !own.contains("") {
                    walk.error(
                        &here.item(n),
                        "invariant",
                        "nothing refers to the contained resource (dom-3)",
                    );
                }
            }
            None => walk.error(&here.item(n), "required", "a contained resource needs an id"),
        }
    }
    let missing: HashSet<&str> = cited.into_iter().filter(|id| !id.is_empty() && !ids.contains(id)).collect();
    if !missing.is_empty() {
        dangling(walk, resource, true, &missing, at);
    }
}

/// A finding at each reference to what is missing; only walked when there is one.
fn dangling(walk: &mut Walk<'_>, node: &Json, top: bool, missing: &HashSet<&str>, at: &At<'_>) {
    let Json::Object(object) = node else { return };
    for (key, value) in object.iter() {
        match (key, value) {
            ("resource", Json::Object(inner)) if !top && inner.get("resourceType").is_some() => {}
            ("reference", Json::String(text)) => {
                if let Some(id) = text.strip_prefix('#').filter(|id| missing.contains(id)) {
                    let id: String = id.chars().take(64).collect();
                    walk.error(
                        &at.element("reference"),
                        "not-found",
                        format!("nothing contained has the id {id}"),
                    );
                }
            }
            (_, Json::Array(items)) => {
                let here = at.element(name(key));
                for (n, item) in items.iter().enumerate() {
                    dangling(walk, item, false, missing, &here.item(n));
                }
            }
            _ => dangling(walk, value, false, missing, &at.element(name(key))),
        }
    }
}

/// FHIRPath knows `valueReference` as `value`, and `_birthDate` as `birthDate`.
fn name(key: &str) -> &str {
    if key.starts_with("value") { "value" } else { key.trim_start_matches('_') }
}

/// Collects what `#x` names: references, which must lead somewhere (`cited`), and any other text,
/// which may be a canonical that does. Bundle entries and parameters are resources of their own.
fn citations<'a>(node: &'a Json, top: bool, cited: &mut HashSet<&'a str>, named: &mut HashSet<&'a str>) {
    match node {
        Json::String(text) => named.extend(text.strip_prefix('#')),
        Json::Array(items) => items.iter().for_each(|item| citations(item, false, cited, named)),
        Json::Object(object) => {
            for (key, value) in object.iter() {
                match (key, value) {
                    ("resource", Json::Object(inner)) if !top && inner.get("resourceType").is_some() => {}
                    ("reference", Json::String(text)) => cited.extend(text.strip_prefix('#')),
                    // Images and hyperlinks of a narrative.
                    ("div", Json::String(text)) => {
                        let after = text.split("=\"#").skip(1);
                        named.extend(after.filter_map(|rest| rest.split('"').next()));
                    }
                    _ => citations(value, false, cited, named),
                }
            }
        }
        _ => {}
    }
}
