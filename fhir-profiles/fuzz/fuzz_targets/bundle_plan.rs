//! Any JSON as a transaction or batch: a plan whose order names each entry once, or findings.
#![no_main]

use fhir::bundle::plan;
use fhir::json::{Limits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let Ok(tree) = parse(bytes, &Limits::default()) else { return };
    let mut count = 0_u32;
    let planned = plan(tree, "http://localhost/fhir", &mut || {
        count += 1;
        count.to_string()
    });
    match planned {
        Ok(plan) => {
            let mut order = plan.order.clone();
            order.sort_unstable();
            assert!(order.into_iter().eq(0..plan.entries.len()));
        }
        Err(issues) => {
            let _ = issues.outcome();
        }
    }
});
