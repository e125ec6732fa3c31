//! Any text as the query of any type: a query that can be asked of a resource, or findings. The
//! first byte chooses the type.
#![no_main]

use std::sync::LazyLock;

use fhir::json::{Limits, parse};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, Index, SearchQuery, index};
use libfuzzer_sys::fuzz_target;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let text = br#"{"resourceType":"Observation","code":{"coding":[{"system":"http://loinc.org","code":"1"}],"text":"x"},"subject":{"reference":"Patient/1"},"effectivePeriod":{"start":"2024"},"valueQuantity":{"value":1.5,"system":"http://unitsofmeasure.org","code":"mg"}}"#;
    index(ResourceType::OBSERVATION, &parse(text, &Limits::default()).unwrap())
});

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
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
        let read = SearchQuery::parse(&[kind], &pairs, "http://localhost/fhir", 0, handling);
        for clause in read.iter().flat_map(|(query, _)| &query.clauses) {
            let _ = clause.matches(&INDEX, "o", 0);
        }
    }
});
