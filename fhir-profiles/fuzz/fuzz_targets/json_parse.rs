//! Any bytes: refused, or a tree that its own text gives again.
#![no_main]

use fhir::json::{Limits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    if let Ok(tree) = parse(bytes, &Limits::default()) {
        let text = tree.to_text();
        assert_eq!(parse(text.as_bytes(), &Limits::default()).as_ref(), Ok(&tree));
    }
});
