//! Contributions add up, and say what they are measured against.

use fhir::json::Json;
use models::assessment::Assessment;
use models::{NamedInputs, Settings, assess_named};
use proptest::prelude::*;
use serde_json::json;

use crate::patient::{CATALOGUE, Patient, model, models, now};

fn add_up(answer: &Assessment) {
    for output in &answer.scored().unwrap().outputs {
        if output.contributions.is_empty() {
            continue;
        }
        let sum: f64 = output.contributions.iter().map(|c| c.value).sum();
        let difference = (output.baseline + sum - output.linear_predictor).abs();
        assert!(difference < 1e-12, "{} {}: {difference:e}", answer.model.id, output.spec.key);
    }
}

#[test]
fn contributions_and_baseline_are_the_linear_predictor() {
    let mut varied = vec![Patient::complete(), Patient::complete().without("diabetes").without("pill")];
    for (name, value) in [
        ("creatinine", 0.6),
        ("creatinine", 4.4),
        ("cholesterol", 300.0),
        ("pulse", 140.0),
        ("bilirubin", 30.0),
    ] {
        varied.push(Patient::complete().change(name, |r| r["valueQuantity"]["value"] = json!(value)));
        varied.push(
            Patient::complete()
                .change(name, |r| r["valueQuantity"]["value"] = json!(value))
                .change("patient", |r| r["gender"] = json!("male")),
        );
    }
    let mut scored = 0;
    for patient in varied {
        for model in models() {
            let answer = patient.ask(&model.identity.id);
            if answer.scored().is_some() {
                add_up(&answer);
                scored += 1;
            }
        }
    }
    assert!(scored > 50, "{scored}");
}

#[test]
fn interactions_are_shown_as_such() {
    let answer = Patient::complete().ask("prevent-base");
    let total = &answer.scored().unwrap().outputs[0];
    let labels: Vec<&str> = total.contributions.iter().map(|c| c.label.as_ref()).collect();
    for label in [
        "age",
        "systolic_bp",
        "egfr",
        "diabetes",
        "age × systolic_bp",
        "age × diabetes",
        "total_cholesterol × hdl_cholesterol",
    ] {
        assert!(labels.contains(&label), "{label} not in {labels:?}");
    }
    // Total cardiovascular disease has no weight on BMI; heart failure has.
    assert!(!labels.contains(&"bmi"));
    let failure = answer.scored().unwrap().outputs.iter().find(|o| o.spec.key == "10y.hf").unwrap();
    assert!(failure.contributions.iter().any(|c| c.label.as_ref() == "bmi"));
}

#[test]
fn points_are_the_contributions_of_a_score() {
    let answer = Patient::complete().ask("news2");
    let score = answer.scored().unwrap().outputs.iter().find(|o| o.spec.key == "score").unwrap();
    let points: Vec<(&str, f64)> = score.contributions.iter().map(|c| (c.label.as_ref(), c.value)).collect();
    let expected = [
        ("respiratory_rate", 2.0),
        ("spo2", 1.0),
        ("supplemental_o2", 2.0),
        ("systolic_bp", 0.0),
        ("pulse", 1.0),
        ("alert", 0.0),
        ("temperature", 1.0),
    ];
    assert_eq!(points, expected);
    assert_eq!(score.band.as_ref().unwrap().risk.as_deref(), Some("high"));
}

#[test]
fn bands_are_those_published() {
    let band = |patient: &Patient, id: &str, key: &str| {
        let answer = patient.ask(id);
        let output = answer.scored().unwrap().outputs.iter().find(|o| o.spec.key == key).unwrap().clone();
        output.band.map(|b| b.label.clone()).unwrap_or_default()
    };
    let patient = Patient::complete();
    assert!(band(&patient, "ckd-epi-2021", "egfr").starts_with("G3b"));
    assert!(band(&patient, "fib-4", "fib4").starts_with("1.45"));
    assert_eq!(band(&patient, "prevent-base", "10y.total_cvd"), "");
    // Thresholds are compared after rounding as shown: 59.6 is a 60.
    let near = (60..200).map(|n| f64::from(n) / 100.0).find(|creatinine| {
        let p = Patient::complete().change("creatinine", |r| r["valueQuantity"]["value"] = json!(creatinine));
        let egfr = p.value("ckd-epi-2021", "egfr");
        (59.5..60.0).contains(&egfr)
    });
    if let Some(creatinine) = near {
        let p = Patient::complete().change("creatinine", |r| r["valueQuantity"]["value"] = json!(creatinine));
        assert!(band(&p, "ckd-epi-2021", "egfr").starts_with("G2"));
    }
    let single = Patient::complete()
        .change("respiration", |r| r["valueQuantity"]["value"] = json!(16))
        .change("spo2", |r| r["valueQuantity"]["value"] = json!(90))
        .change("pulse", |r| r["valueQuantity"]["value"] = json!(80))
        .change("temperature", |r| r["valueQuantity"]["value"] = json!(37))
        .without("oxygen");
    assert!(band(&single, "news2", "score").starts_with("low-medium"));
}

proptest! {
    #[test]
    fn contributions_add_up_for_anybody(
        age in 30u32..80, female: bool, tc in 131.0..319.0, hdl in 21.0..99.0, sbp in 91.0..199.0, bmi in 18.6..39.9,
        creatinine in 0.55..4.0, acr in 1.0..20_000.0, flags in proptest::collection::vec(any::<bool>(), 4),
    ) {
        let sex = if female { "female" } else { "male" };
        let creatinine = json!({"value": creatinine, "unit": "mg/dL"});
        let everything = [
            ("prevent-base", json!({
                "age": age, "sex": sex, "creatinine": creatinine,
                "total_cholesterol": {"value": tc, "unit": "mg/dL"}, "hdl_cholesterol": {"value": hdl, "unit": "mg/dL"},
                "systolic_bp": {"value": sbp, "unit": "mm[Hg]"}, "bmi": {"value": bmi, "unit": "kg/m2"},
                "diabetes": flags[0], "current_smoker": flags[1], "antihypertensive": flags[2], "statin": flags[3],
            })),
            ("kfre-4", json!({
                "age": age, "sex": sex, "creatinine": creatinine, "uacr": {"value": acr, "unit": "mg/g"}, "region": "NA",
            })),
            ("ckd-epi-2021", json!({"age": age, "sex": sex, "creatinine": creatinine})),
        ];
        for (id, inputs) in everything {
            let inputs = NamedInputs::from_json(&Json::from(&inputs)).unwrap();
            let answer = assess_named(&CATALOGUE, &[inputs], model(id), now(), &Settings::default()).pop().unwrap();
            if answer.scored().is_some() {
                add_up(&answer);
            } else {
                // eGFR is the only thing that can fall outside.
                prop_assert!(answer.refusals().all(|i| i.input.as_ref() == "egfr"), "{:?}", answer.issues);
            }
        }
    }
}
