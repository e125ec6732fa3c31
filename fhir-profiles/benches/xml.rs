//! What XML costs beside JSON, for a bundle of 100 laboratory results: `cargo bench -p fhir --bench xml`.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use fhir::json::{Json, Limits, parse};
use fhir::xml::{Layout, read, write};

fn bundle() -> String {
    let mut entries = String::new();
    for n in 0..100 {
        let comma = if n > 0 { "," } else { "" };
        let _ = write!(
            entries,
            r#"{comma}{{"fullUrl":"http://example.org/fhir/Observation/o{n}","resource":{{"resourceType":"Observation","id":"o{n}","text":{{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Creatinine <b>1.{n}0</b> mg/dL &amp; stable</p></div>"}},"identifier":[{{"system":"urn:oid:2.16.840.1.113883.19","value":"{n}"}}],"status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"2160-0","display":"Creatinine [Mass/volume] in Serum or Plasma"}}],"text":"Creatinine"}},"subject":{{"reference":"Patient/example"}},"effectiveDateTime":"2024-05-06T07:08:09+02:00","issued":"2024-05-06T09:10:11.123Z","valueQuantity":{{"value":1.{n}0,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}},"referenceRange":[{{"low":{{"value":0.6,"unit":"mg/dL"}},"high":{{"value":1.2,"unit":"mg/dL"}}}}]}}}}"#
        );
    }
    format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{entries}]}}"#)
}

fn main() {
    let json = bundle();
    let tree = parse(json.as_bytes(), &Limits::default()).unwrap_or(Json::Null);
    let xml = write(&tree, Layout::Compact).unwrap_or_default();
    assert_eq!(read(xml.as_bytes(), &Limits::default()), Ok(tree.clone()), "the bundle comes back");
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("bundle of 100");
    group.throughput(Throughput::Bytes(xml.len() as u64));
    group.bench_function("read XML", |b| b.iter(|| read(black_box(xml.as_bytes()), &Limits::default())));
    group.bench_function("write XML", |b| b.iter(|| write(black_box(&tree), Layout::Compact)));
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("read JSON", |b| b.iter(|| parse(black_box(json.as_bytes()), &Limits::default())));
    group.bench_function("write JSON", |b| b.iter(|| black_box(&tree).to_text()));
    group.finish();
    criterion.final_summary();
}
