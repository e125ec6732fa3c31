//! Any patch of any resource: done or refused, and what comes out is as deep and as large as the door allows.
#![no_main]

use fhir::json::{Json, Limits, parse};
use fhir::patch::{FhirPathPatch, JsonPatch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(tree) = parse(bytes, &limits) else { return };
    let (Some(resource), Some(patch)) = (tree.get("resource"), tree.get("patch")) else { return };
    let patched = match patch {
        Json::Array(_) => {
            JsonPatch::parse(patch.to_text().as_bytes(), &limits).and_then(|patch| patch.apply(resource, &limits))
        }
        _ => FhirPathPatch::parse(patch).and_then(|patch| patch.apply(resource)),
    };
    if let Ok(patched) = patched {
        let text = patched.to_text();
        let again = parse(text.as_bytes(), &Limits::STORED).unwrap();
        assert_eq!(again, patched);
    }
});
