//! What an assessment costs, beside the same arithmetic written out by hand.

use std::hint::black_box;

use chrono::{DateTime, Utc};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fhir::json::{Limits, parse};
use models::manifest::NetworkSpec;
use models::{Catalogue, Model, PatientRecord, RecordBuilder, Settings, assess, assess_batch};
use serde_json::{Value, json};

const UCUM: &str = "http://unitsofmeasure.org";

fn observation(n: usize, code: &str, value: f64, unit: &str) -> Value {
    json!({
        "resourceType": "Observation", "id": format!("{code}-{n}"), "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": format!("2026-03-01T11:{:02}:00Z", n % 60),
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
    })
}

/// A patient with some history: ten values of each, complete for every model.
fn resources(seed: u32) -> Vec<Value> {
    let spread = f64::from(seed % 89) / 89.0;
    let mut all = vec![json!({
        "resourceType": "Patient", "id": format!("{seed}"), "gender": if seed.is_multiple_of(2) { "male" } else { "female" },
        "birthDate": format!("{}-06-15", 1950 + seed % 40), "address": [{"country": "US"}],
    })];
    for n in 10..20 {
        for (code, value, unit) in [
            ("2093-3", 150.0 + 100.0 * spread, "mg/dL"),
            ("2085-9", 40.0 + 30.0 * spread, "mg/dL"),
            ("8480-6", 110.0 + 50.0 * spread, "mm[Hg]"),
            ("39156-5", 21.0 + 10.0 * spread, "kg/m2"),
            ("2160-0", 1.5 + spread, "mg/dL"),
            ("9318-7", 30.0 + 500.0 * spread, "mg/g"),
            ("1920-8", 30.0, "U/L"),
            ("1742-6", 33.0, "U/L"),
            ("777-3", 210.0, "10*9/L"),
            ("1975-2", 2.0, "mg/dL"),
            ("6301-6", 1.4, "{INR}"),
            ("2951-2", 135.0, "mmol/L"),
            ("1751-7", 3.3, "g/dL"),
            ("9279-1", 18.0, "/min"),
            ("59408-5", 96.0, "%"),
            ("8867-4", 88.0, "/min"),
            ("8310-5", 37.2, "Cel"),
            ("9269-2", 15.0, "{score}"),
        ] {
            all.push(observation(n, code, value, unit));
        }
    }
    all.push(json!({
        "resourceType": "Observation", "id": "smoking", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]},
        "effectiveDateTime": "2026-01-01",
        "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]},
    }));
    all
}

fn record(catalogue: &Catalogue, seed: u32) -> PatientRecord {
    let mut builder = RecordBuilder::new(catalogue);
    for resource in resources(seed) {
        let text = resource.to_string();
        if let Ok(json) = parse(text.as_bytes(), &Limits::default()) {
            let reference = format!("{}/{}/_history/1", json.text("resourceType").unwrap_or_default(), seed);
            builder.add(&json, &reference);
        }
    }
    builder.build()
}

/// The ten equations of one sex, by hand: 23 terms each, the least that can be done.
fn by_hand(weights: &[(f64, Vec<f64>)], x: &[f64; 9], flags: [f64; 2]) -> f64 {
    let [age, tc, hdl, sbp, bmi, egfr, diabetes, smoker, treated] = *x;
    let [statin, _] = flags;
    let a = (age - 55.0) / 10.0;
    let nonhdl = (tc - hdl) * 0.02586 - 3.5;
    let high = (hdl * 0.02586 - 1.3) / 0.3;
    let pressure = (sbp.max(110.0) - 130.0) / 20.0;
    let heavy = (bmi.max(30.0) - 30.0) / 5.0;
    let low = (egfr.min(60.0) - 60.0) / -15.0;
    let terms = [
        a,
        a * a,
        nonhdl,
        high,
        (sbp.min(110.0) - 110.0) / 20.0,
        pressure,
        diabetes,
        smoker,
        (bmi.min(30.0) - 25.0) / 5.0,
        heavy,
        low,
        (egfr.max(60.0) - 90.0) / -15.0,
        treated,
        statin,
        treated * pressure,
        statin * nonhdl,
        a * nonhdl,
        a * high,
        a * pressure,
        a * diabetes,
        a * smoker,
        a * heavy,
        a * low,
    ];
    weights.iter().fold(0.0, |all, (intercept, weights)| {
        let lp = weights.iter().zip(&terms).fold(*intercept, |sum, (w, t)| sum + w * t);
        all + 1.0 / (1.0 + (-lp).exp())
    })
}

fn benches(criterion: &mut Criterion) {
    let Ok(catalogue) = Catalogue::built_in() else { return };
    let models: Vec<&Model> = catalogue.active().map(AsRef::as_ref).collect();
    let settings = Settings::default();
    let as_of: DateTime<Utc> = DateTime::from_timestamp(1_772_366_400, 0).unwrap_or_default();
    let records: Vec<PatientRecord> = (0..512).map(|n| record(&catalogue, n)).collect();
    let patients: Vec<_> = records.iter().map(|r| (r, as_of)).collect();

    criterion.bench_function("load the built-in bundles", |b| b.iter(Catalogue::built_in));

    let mut group = criterion.benchmark_group("six models");
    for size in [1, 16, 128, 512] {
        let part = patients.get(..size).unwrap_or_default();
        group.throughput(Throughput::Elements((size * models.len()) as u64));
        group.bench_function(format!("{size} patients"), |b| {
            b.iter(|| assess_batch(&catalogue, black_box(part), &models, &settings));
        });
    }
    group.finish();

    let Some(prevent) = catalogue.get("prevent-base") else { return };
    let mut group = criterion.benchmark_group("PREVENT alone");
    group.throughput(Throughput::Elements(1));
    if let Some(first) = records.first() {
        group.bench_function("record to reasons", |b| {
            b.iter(|| assess(&catalogue, black_box(first), &[prevent], as_of, &settings));
        });
    }
    let weights: Vec<(f64, Vec<f64>)> = match &prevent.manifest.network {
        NetworkSpec::Linear(strata) => strata.first().map_or_else(Vec::new, |s| {
            let of = |w: &models::manifest::Weights| {
                let names = prevent.manifest.features.iter();
                names.map(|f| w.coefficients.get(&f.name).copied().unwrap_or_default()).collect()
            };
            s.weights.values().map(|w| (w.intercept, of(w))).collect()
        }),
        NetworkSpec::Mlp(_) => Vec::new(),
    };
    let x = [52.0, 212.0, 48.0, 142.0, 29.4, 41.0, 1.0, 0.0, 1.0];
    group.bench_function("arithmetic by hand", |b| b.iter(|| by_hand(&weights, black_box(&x), [0.0; 2])));
    group.finish();

    let texts: Vec<String> = resources(1).iter().map(Value::to_string).collect();
    let parsed: Vec<_> = texts.iter().filter_map(|t| parse(t.as_bytes(), &Limits::default()).ok()).collect();
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(parsed.len() as u64));
    group.bench_function("built from parsed resources", |b| {
        b.iter(|| {
            let mut builder = RecordBuilder::new(&catalogue);
            for json in &parsed {
                builder.add(black_box(json), "Observation/1/_history/1");
            }
            builder.build()
        });
    });
    group.finish();
}

criterion_group!(score, benches);
criterion_main!(score);
