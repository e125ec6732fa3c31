//! Whatever is in a resource: an answer, and every number finite.

use models::{Settings, assess};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::patient::{CATALOGUE, Patient, models, now};

/// Every place in a tree that can be put something else in.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, inner)| places(inner, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, inner)| places(inner, &format!("{path}/{n}"), found));
        }
        _ => {}
    }
}

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[{"coding": [{}]}]])),
        Just(json!({"value": {"value": 1}})),
        Just(json!(true)),
        Just(json!("")),
        Just(json!("\u{b5}\u{301}")),
        Just(json!("2024-02-30T99:99:99+99:99")),
        Just(json!("9999-12-31T23:59:59.999999999-14:00")),
        Just(json!("0001-01-01")),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_filter("JSON has no such number", |x| x.is_finite()).prop_map(|x| json!(x)),
        "[ -~]{0,80}".prop_map(|text| json!(text)),
        "[A-Za-z/0-9.%\\[\\]{}*^]{0,20}".prop_map(|text| json!(text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_resource_is_survived(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), junk()), 1..4)) {
        let mut patient = Patient::complete();
        for (resource, place, junk) in changes {
            let at = resource.index(patient.0.len());
            let mut found = Vec::new();
            places(&patient.0[at].1, "", &mut found);
            // Not the whole resource, nor what the harness itself reads.
            found.retain(|p| !p.is_empty() && p != "/id" && p != "/resourceType");
            if let Some(old) = patient.0[at].1.pointer_mut(&found[place.index(found.len())]) {
                *old = junk;
            }
        }
        let record = patient.record();
        for answer in assess(&CATALOGUE, &record, &models(), now(), &Settings::default()) {
            match answer.scored() {
                Some(scored) => {
                    prop_assert!(scored.outputs.iter().all(|o| o.value.is_finite()));
                    prop_assert_eq!(answer.refusals().count(), 0);
                }
                None => prop_assert!(answer.refusals().count() > 0),
            }
        }
    }
}
