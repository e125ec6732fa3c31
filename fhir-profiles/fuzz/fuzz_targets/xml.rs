//! Any bytes: what is read as XML is JSON that the parser takes, and comes back the same from both
//! layouts. JSON that the validator accepts can be written, and is read again to the same text.
#![no_main]

use fhir::json::{Limits, parse};
use fhir::validate::validate;
use fhir::xml::{Layout, read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let limits = Limits::default();
    match read(bytes, &limits) {
        Ok(resource) => {
            let json = resource.to_text();
            assert_eq!(parse(json.as_bytes(), &limits).as_ref(), Ok(&resource));
            for layout in [Layout::Compact, Layout::Pretty] {
                let xml = write(&resource, layout).unwrap();
                assert_eq!(read(xml.as_bytes(), &limits).as_ref(), Ok(&resource));
            }
        }
        Err(issues) => assert!(issues.has_error() && issues.0.len() <= 101),
    }
    let Ok(resource) = parse(bytes, &limits) else { return };
    match write(&resource, Layout::Compact) {
        Ok(xml) => {
            let again = read(xml.as_bytes(), &limits).unwrap();
            assert_eq!(write(&again, Layout::Compact).as_ref(), Ok(&xml));
        }
        Err(issues) => {
            assert_eq!(issues.0.len(), 1);
            assert!(validate(&resource).has_error(), "{issues}");
        }
    }
});
