//! Definitions and a resource, one a line: read and checked in bounded time, with findings an
//! OperationOutcome can say, and the same twice.
#![no_main]

use fhir::conformance::{Strict, claimed, findings};
use fhir::json::{Limits, parse};
use fhir::profile::Profiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let mut trees = bytes.split(|byte| *byte == b'\n').filter_map(|line| parse(line, &Limits::default()).ok());
    let Some(resource) = trees.next() else { return };
    let mut profiles = Profiles::new();
    let mut asked = Vec::new();
    for tree in trees {
        if profiles.add(&tree) {
            asked.extend(tree.text("url").map(str::to_owned));
        }
    }
    let issues = findings(&resource, &profiles, &asked, Strict::ALL);
    assert!(issues.0.len() <= 100_000);
    assert_eq!(issues, findings(&resource, &profiles, &asked, Strict::ALL));
    let _ = issues.outcome();
    let _ = claimed(&resource, &profiles, true);
});
