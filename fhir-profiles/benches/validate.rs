//! What the gate costs for one Observation: reading and validating it, beside serde_json's reading
//! alone. `cargo bench -p fhir` prints the ratio.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use fhir::json::{Limits, parse};
use fhir::validate::validate;

/// A laboratory result of the usual kind, about 1.2 kB.
const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"creatinine-1","meta":{"profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Creatinine 1.10 mg/dL</p></div>"},"identifier":[{"system":"urn:oid:2.16.840.1.113883.19","value":"1234567"}],"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"2160-0","display":"Creatinine [Mass/volume] in Serum or Plasma"}],"text":"Creatinine"},"subject":{"reference":"Patient/example"},"encounter":{"reference":"Encounter/e1"},"effectiveDateTime":"2024-05-06T07:08:09+02:00","issued":"2024-05-06T09:10:11.123Z","performer":[{"reference":"Organization/lab"}],"valueQuantity":{"value":1.10,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"},"referenceRange":[{"low":{"value":0.6,"unit":"mg/dL"},"high":{"value":1.2,"unit":"mg/dL"}}]}"#;

fn gate(text: &str) -> usize {
    parse(text.as_bytes(), &Limits::default()).map_or(1, |resource| validate(&resource).0.len())
}

fn plain(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// The least of several rounds: what else the machine does only ever adds.
fn least(mut once: impl FnMut()) -> Duration {
    let round = |once: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..2000).for_each(|_| once());
        start.elapsed() / 2000
    };
    (0..20).map(|_| round(&mut once)).min().unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "a benchmark is read")]
fn main() {
    assert_eq!(gate(OBSERVATION), 0, "the Observation is valid");
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("parse and validate", |b| b.iter(|| gate(black_box(OBSERVATION))));
    criterion.bench_function("serde_json::Value", |b| b.iter(|| plain(black_box(OBSERVATION))));
    criterion.final_summary();
    let gate = least(|| {
        black_box(gate(black_box(OBSERVATION)));
    });
    let plain = least(|| {
        black_box(plain(black_box(OBSERVATION)));
    });
    let ratio = gate.as_secs_f64() / plain.as_secs_f64();
    println!("{} bytes: the gate {gate:?}, serde_json alone {plain:?}, ratio {ratio:.2}", OBSERVATION.len());
}
