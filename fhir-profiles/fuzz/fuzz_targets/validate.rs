//! Any JSON: findings in bounded number, each an OperationOutcome can say; the same twice.
#![no_main]

use fhir::json::{Limits, parse};
use fhir::{profile, validate::validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = parse(bytes, &Limits::default()) else { return };
    let issues = validate(&tree);
    assert!(issues.0.len() <= 1000);
    assert_eq!(issues, validate(&tree));
    let _ = issues.outcome();
    let _ = profile::check(&tree);
});
