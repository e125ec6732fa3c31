//! Any text as the query of any type: a query or findings. The first byte chooses the type.
#![no_main]

use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (Ok(text), Some(kind)) = (std::str::from_utf8(rest), ResourceType::from_index(*first)) else {
        return;
    };
    let pairs: Vec<(String, String)> = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for handling in [Handling::Lenient, Handling::Strict] {
        let _ = SearchQuery::parse(&[kind], &pairs, "http://localhost/fhir", 0, handling);
    }
});
