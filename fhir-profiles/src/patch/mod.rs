//! Changes of a resource, said as what is to be done to it
//! (<https://hl7.org/fhir/R4/http.html#patch>).

mod fhirpath_patch;
mod json_patch;

pub use fhirpath_patch::FhirPathPatch;
pub use json_patch::JsonPatch;

use crate::json::Json;

/// Takes out what a change left empty: in FHIR nothing is, but `null` beside a primitive's extensions.
fn prune(node: &mut Json) -> bool {
    match node {
        Json::Array(items) => {
            for item in items.iter_mut() {
                prune(item);
            }
            items.retain(|item| !matches!(item, Json::Object(object) if object.is_empty()));
            items.is_empty() || items.iter().all(|item| *item == Json::Null)
        }
        Json::Object(object) => {
            let mut empty = Vec::new();
            for (key, value) in object.iter_mut() {
                if prune(value) {
                    empty.push(key.to_owned());
                }
            }
            for key in empty {
                object.remove(&key);
            }
            object.is_empty()
        }
        _ => false,
    }
}
