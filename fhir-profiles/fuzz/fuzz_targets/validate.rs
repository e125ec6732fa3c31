//! Any JSON: findings in bounded number, each an OperationOutcome can say; the same twice. And it
//! can be indexed, whatever it is.
#![no_main]

use fhir::json::{Limits, parse};
use fhir::conformance::claimed;
use fhir::profile::Profiles;
use fhir::resource_type::ResourceType;
use fhir::{search, validate::validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let Ok(tree) = parse(bytes, &Limits::default()) else { return };
    let issues = validate(&tree);
    assert!(issues.0.len() <= 1000);
    assert_eq!(issues, validate(&tree));
    let _ = issues.outcome();
    let _ = claimed(&tree, Profiles::built_in(), true);
    if let Some(kind) = tree.text("resourceType").and_then(ResourceType::parse) {
        assert_eq!(search::index(kind, &tree), search::index(kind, &tree));
        for one in search::of_type(kind) {
            let _ = search::order(one, &tree, bytes.len() % 2 == 0);
        }
    }
});
