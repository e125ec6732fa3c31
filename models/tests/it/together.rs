//! Many patients at once: the same bits as each alone.

use chrono::TimeDelta;
use models::{PatientRecord, Settings, assess, assess_batch};
use serde_json::json;

use crate::patient::{CATALOGUE, Patient, models, now};

/// Different patients, some of them refused, so that rows are not where their patients are.
fn crowd(count: u32) -> Vec<PatientRecord> {
    (0..count)
        .map(|n| {
            let spread = f64::from(n % 97) / 97.0;
            let mut patient = Patient::complete()
                .change("patient", |r| {
                    r["birthDate"] = json!(format!("{}-06-15", 1936 + n % 75));
                    r["gender"] = json!(if n % 3 == 0 { "male" } else { "female" });
                })
                .change("creatinine", |r| r["valueQuantity"]["value"] = json!(0.5 + 2.0 * spread))
                .change("cholesterol", |r| r["valueQuantity"]["value"] = json!(140.0 + 170.0 * spread))
                .change("inr", |r| r["valueQuantity"]["value"] = json!(0.9 + 3.1 * spread));
            if n % 5 == 0 {
                patient = patient.without("diabetes");
            }
            if n % 11 == 0 {
                patient = patient.without("hdl").without("pulse").without("sodium");
            }
            patient.record()
        })
        .collect()
}

#[test]
fn a_batch_has_the_bits_of_each_alone() {
    let records = crowd(600);
    let (models, settings) = (models(), Settings::default());
    let alone: Vec<_> = records.iter().map(|r| assess(&CATALOGUE, r, &models, now(), &settings)).collect();
    let scored = alone.iter().flatten().filter(|a| a.scored().is_some()).count();
    assert!(scored > 2000 && scored < 3600, "{scored}");
    for size in [1, 2, 7, 64, 512, 600] {
        let mut together = Vec::new();
        for part in records.chunks(size) {
            let patients: Vec<_> = part.iter().map(|r| (r, now())).collect();
            together.extend(assess_batch(&CATALOGUE, &patients, &models, &settings));
        }
        for (one, many) in alone.iter().flatten().zip(together.iter().flatten()) {
            assert_eq!(one, many);
            for (a, b) in one.scored().iter().zip(many.scored().iter()) {
                for (a, b) in a.outputs.iter().zip(&b.outputs) {
                    assert_eq!(a.value.to_bits(), b.value.to_bits(), "{} in batches of {size}", a.spec.key);
                    assert_eq!(a.linear_predictor.to_bits(), b.linear_predictor.to_bits());
                }
            }
        }
    }
}

#[test]
fn each_patient_has_a_moment_and_each_model_an_answer() {
    let record = Patient::complete().record();
    let models = models();
    let moments = [now(), now() + TimeDelta::days(500)];
    let patients: Vec<_> = moments.iter().map(|t| (&record, *t)).collect();
    let answers = assess_batch(&CATALOGUE, &patients, &models, &Settings::default());
    assert!(answers[0].iter().all(|a| a.scored().is_some()));
    assert!(answers[1].iter().all(|a| a.scored().is_none() && a.as_of == moments[1]));
    let asked: Vec<&str> = models.iter().map(|m| m.identity.id.as_str()).collect();
    let given: Vec<&str> = answers[0].iter().map(|a| a.model.id.as_str()).collect();
    assert_eq!(asked, given);
    // A model named twice counts once; one that another reads is not answered unasked.
    let prevent = CATALOGUE.get("prevent-base").unwrap().as_ref();
    let twice = assess(&CATALOGUE, &record, &[prevent, prevent], now(), &Settings::default());
    assert_eq!(twice.len(), 1);
    assert!(assess_batch(&CATALOGUE, &[], &models, &Settings::default()).is_empty());
}
