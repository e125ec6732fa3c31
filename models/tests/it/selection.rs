//! Which record is taken.

use chrono::{TimeDelta, Utc};
use models::Settings;
use models::assessment::{InputValue, IssueKind};
use serde_json::json;

use crate::patient::{Patient, condition, kinds, medicine, model, models, now, quantity, value};

fn creatinine_used(patient: &Patient) -> (f64, String) {
    let answer = patient.ask("ckd-epi-2021");
    let used = answer.used.iter().find(|u| u.name.as_ref() == "creatinine").unwrap();
    let InputValue::Number(number) = used.value else { panic!("{used:?}") };
    (number, used.references[0].to_string())
}

#[test]
fn a_complete_patient_is_scored_by_every_model() {
    let patient = Patient::complete();
    for model in models() {
        let answer = patient.ask(&model.identity.id);
        assert!(answer.scored().is_some(), "{}: {:?}", model.identity.id, answer.issues);
        assert_eq!(answer.patient.as_deref(), Some("Patient/p"));
        assert_eq!(answer.model.sha256.len(), 64);
    }
    // 22/min 2, 95 % 1, oxygen 2, 142 mmHg 0, 96/min 1, alert 0, 38.4 degrees 1
    assert_eq!(patient.value("news2", "score").to_bits(), 7f64.to_bits());
    let egfr = 142.0 * (1.5f64 / 0.7).powf(-1.2) * 0.9938f64.powi(52) * 1.012;
    assert!((patient.value("ckd-epi-2021", "egfr") - egfr).abs() < 1e-10);
    let answer = patient.ask("prevent-base");
    assert_eq!(answer.scored().unwrap().outputs.len(), 6);
    let assumed: Vec<&str> = answer.assumed.iter().map(|a| a.input.as_ref()).collect();
    assert_eq!(assumed, ["statin"]);
    let used = answer.used.iter().find(|u| u.name.as_ref() == "egfr").unwrap();
    assert_eq!(used.derived_by.as_ref().unwrap().id, "ckd-epi-2021");
    assert!(used.references.iter().any(|r| r.as_ref() == "Observation/creatinine/_history/1"));
    let InputValue::Number(chained) = used.value else { panic!() };
    assert!((chained - egfr).abs() < 1e-10, "unrounded");
}

#[test]
fn the_latest_that_counts_is_taken() {
    let older = quantity("older", "2160-0", 0.9, "mg/dL", "2026-01-01T08:00:00Z");
    let newer = quantity("newer", "38483-4", 1.1, "mg/dL", "2026-02-25");
    let patient = Patient::complete().with(older).with(newer);
    assert_eq!(creatinine_used(&patient), (1.1, "Observation/newer/_history/1".into()));

    for status in ["entered-in-error", "cancelled", "registered", "unknown"] {
        let patient = patient.clone().change("newer", |r| r["status"] = json!(status));
        assert_eq!(creatinine_used(&patient).0.to_bits(), 1.5f64.to_bits(), "{status}");
    }
    for status in ["amended", "corrected"] {
        let patient = patient.clone().change("newer", |r| r["status"] = json!(status));
        assert_eq!(creatinine_used(&patient).0.to_bits(), 1.1f64.to_bits(), "{status}");
        assert!(!patient.ask("ckd-epi-2021").scored().unwrap().preliminary);
    }
    let preliminary = patient.clone().change("newer", |r| r["status"] = json!("preliminary"));
    assert_eq!(creatinine_used(&preliminary).0.to_bits(), 1.1f64.to_bits());
    assert!(preliminary.ask("ckd-epi-2021").scored().unwrap().preliminary);
    assert!(preliminary.ask("prevent-base").scored().unwrap().preliminary, "through the derived eGFR");

    let empty = patient.clone().change("newer", |r| {
        r.as_object_mut().unwrap().remove("valueQuantity");
        r["dataAbsentReason"] = json!({"coding": [{"code": "not-performed"}]});
    });
    assert_eq!(creatinine_used(&empty).0.to_bits(), 1.5f64.to_bits());
    assert_eq!(kinds(&empty.ask("ckd-epi-2021")), [("creatinine", IssueKind::AbsentReason)]);

    let future = patient.change("newer", |r| r["effectiveDateTime"] = json!("2026-03-02"));
    assert_eq!(creatinine_used(&future).0.to_bits(), 1.5f64.to_bits());
    assert_eq!(kinds(&future.ask("ckd-epi-2021")), [("creatinine", IssueKind::Future)]);
}

#[test]
fn ties_are_broken_the_same_way_in_any_order() {
    let at = "2026-02-20T08:00:00Z";
    // The code first in the list wins; among equals the last issued, then the last updated, then the name.
    let other = quantity("a", "38483-4", 1.1, "mg/dL", at);
    assert_eq!(creatinine_used(&Patient::complete().with(other)).1, "Observation/creatinine/_history/1");
    let mut twin = quantity("b", "2160-0", 1.2, "mg/dL", at);
    twin.1["issued"] = json!("2026-02-20T09:00:00Z");
    let patient = Patient::complete().with(twin.clone());
    assert_eq!(creatinine_used(&patient).0.to_bits(), 1.2f64.to_bits());
    assert_eq!(kinds(&patient.ask("ckd-epi-2021")), [("creatinine", IssueKind::Conflict)]);
    let mut turned = patient.clone();
    turned.0.reverse();
    assert_eq!(turned.ask("ckd-epi-2021"), patient.ask("ckd-epi-2021"));
    let same = quantity("c", "2160-0", 1.5, "mg/dL", at);
    assert!(kinds(&Patient::complete().with(same).ask("ckd-epi-2021")).is_empty());
}

#[test]
fn a_bad_latest_value_is_not_replaced_by_an_older_one() {
    let bad = quantity("bad", "2160-0", 88.0, "[degF]", "2026-02-25");
    assert_eq!(Patient::complete().with(bad).refusal("ckd-epi-2021").kind, IssueKind::Unit);
}

#[test]
fn freshness_is_relative_to_the_moment_asked_for() {
    let patient = Patient::complete();
    let later = now() + TimeDelta::days(400);
    let answer = patient.ask_at("ckd-epi-2021", later, &Settings::default());
    assert!(answer.scored().is_none());
    assert_eq!(kinds(&answer), [("creatinine", IssueKind::Stale)]);
    assert!(answer.issues[0].details.contains("2026-02-20") && answer.issues[0].details.contains("1 year"));
    let latest = patient.record().latest_observation().unwrap();
    assert_eq!(latest, "2026-03-01T11:40:00Z".parse::<chrono::DateTime<Utc>>().unwrap());
    assert!(patient.ask_at("news2", latest, &Settings::default()).scored().is_some());
    let hour = now() + TimeDelta::hours(1);
    assert!(patient.ask_at("news2", hour, &Settings::default()).scored().is_none());
}

#[test]
fn bmi_comes_from_weight_and_height_where_it_is_not_recorded() {
    let patient = Patient::complete()
        .without("bmi")
        .with(quantity("weight", "29463-7", 80.0, "kg", "2026-02-01"))
        .with(quantity("height", "8302-2", 65.0, "[in_i]", "2024-02-01"));
    let answer = patient.ask("prevent-base");
    let used = answer.used.iter().find(|u| u.name.as_ref() == "bmi").unwrap();
    let InputValue::Number(bmi) = used.value else { panic!() };
    assert!((bmi - 80.0 / 1.651f64.powi(2)).abs() < 1e-12);
    assert_eq!(used.references.len(), 2);
    // A weight in a bad unit is nobody's business while there is a BMI.
    let idle = Patient::complete().with(quantity("weight", "29463-7", 80.0, "bogus", "2026-02-01"));
    assert!(idle.ask("prevent-base").issues.is_empty());
    let refused = patient.change("weight", |r| r["valueQuantity"]["code"] = json!("bogus"));
    assert_eq!(refused.refusal("prevent-base").input.as_ref(), "bmi");
}

#[test]
fn a_measured_egfr_serves_only_without_creatinine() {
    let measured = quantity("egfr", "33914-3", 51.0, "mL/min", "2026-02-28");
    let both = Patient::complete().with(measured.clone());
    assert!(
        (both.value("kfre-4", "kidney_failure_5y")
            - Patient::complete().value("kfre-4", "kidney_failure_5y"))
        .abs()
            < 1e-15
    );
    let alone = both.without("creatinine");
    let answer = alone.ask("kfre-4");
    assert!(answer.scored().is_some());
    assert_eq!(kinds(&answer), [("egfr", IssueKind::Quality)]);
    let bad = alone.with(quantity("creatinine", "2160-0", 900.0, "mg/dL", "2026-02-20"));
    let issue = bad.refusal("kfre-4");
    assert_eq!((issue.input.as_ref(), issue.kind), ("egfr", IssueKind::OutOfRange));
}

#[test]
fn conditions_and_medicines_hold_at_the_moment_asked_for() {
    let risk = |p: &Patient| p.value("prevent-base", "10y.total_cvd");
    let base = risk(&Patient::complete());
    assert!(risk(&Patient::complete().without("diabetes")) < base);
    let gone = risk(&Patient::complete().without("diabetes")).to_bits();
    for change in [
        json!({"clinicalStatus": {"coding": [{"code": "resolved"}]}}),
        json!({"verificationStatus": {"coding": [{"code": "refuted"}]}}),
        json!({"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}),
        json!({"abatementDateTime": "2025-01-01"}),
        json!({"onsetDateTime": "2026-04-01"}),
    ] {
        let patient = Patient::complete().change("diabetes", |r| {
            for (key, value) in change.as_object().unwrap() {
                r[key] = value.clone();
            }
        });
        assert_eq!(risk(&patient).to_bits(), gone, "{change}");
    }
    let untreated = risk(&Patient::complete().without("pill")).to_bits();
    for (key, value) in [("status", "stopped"), ("intent", "plan"), ("authoredOn", "2026-04-01")] {
        let patient = Patient::complete().change("pill", |r| r[key] = json!(value));
        assert_eq!(risk(&patient).to_bits(), untreated, "{key}");
    }
    let referred = Patient::complete()
        .without("pill")
        .with((
            "m".into(),
            json!({"resourceType": "Medication", "id": "m", "code": {"coding": [
            {"system": "http://www.whocc.no/atc", "code": "C08CA01"}]}}),
        ))
        .with((
            "pill".into(),
            json!({"resourceType": "MedicationStatement", "id": "s", "status": "active",
            "medicationReference": {"reference": "Medication/m"}}),
        ));
    assert_eq!(risk(&referred).to_bits(), base.to_bits());
    assert!(risk(&Patient::complete().with(medicine("statin", "Simvastatin 20 MG Oral Tablet"))) < base);
}

#[test]
fn smoking_answers_are_read_and_unclear_ones_refused() {
    let with = |code: &str| {
        Patient::complete().change("smoking", |r| {
            r["valueCodeableConcept"]["coding"][0]["code"] = json!(code);
        })
    };
    let never = with("266919005").value("prevent-base", "10y.total_cvd");
    assert_eq!(with("8517006").value("prevent-base", "10y.total_cvd").to_bits(), never.to_bits());
    assert!(with("449868002").value("prevent-base", "10y.total_cvd") > never);
    assert_eq!(with("266927001").refusal("prevent-base").kind, IssueKind::Value);
}

#[test]
fn the_sex_parameter_for_clinical_use_comes_first() {
    let patient = Patient::complete().change("patient", |r| {
        r["gender"] = json!("other");
        r["extension"] = json!([{
            "url": "http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse",
            "extension": [{"url": "value", "valueCodeableConcept": {"coding": [{"code": "female-typical"}]}}],
        }]);
    });
    assert_eq!(
        patient.value("ckd-epi-2021", "egfr").to_bits(),
        Patient::complete().value("ckd-epi-2021", "egfr").to_bits()
    );
}

#[test]
fn the_region_comes_from_the_country_then_from_the_setting() {
    let risk = |country: Option<&str>, setting: Option<&str>| {
        let patient = Patient::complete().change("patient", |r| match country {
            Some(country) => r["address"][0]["country"] = json!(country),
            None => {
                r.as_object_mut().unwrap().remove("address");
            }
        });
        let mut settings = Settings::default();
        if let Some(value) = setting {
            settings.0.insert("kfre-region".into(), value.into());
        }
        let answer = patient.ask_at("kfre-4", now(), &settings);
        answer.scored().is_some().then(|| value(&answer, "kidney_failure_5y"))
    };
    let (inside, outside) = (risk(Some("US"), None), risk(Some("DE"), None));
    assert!(inside > outside && outside.is_some());
    assert_eq!(risk(Some("canada"), None), inside);
    assert_eq!(risk(None, Some("NA")), inside);
    assert_eq!(risk(Some("U.S."), Some("nonNA")), inside);
    assert_eq!(risk(Some("PR"), None), inside);
    assert_eq!(risk(Some("UNK"), Some("nonNA")), outside);
    for nowhere in ["UNK", "TX", "XX", "Europe"] {
        assert_eq!(risk(Some(nowhere), None), None, "{nowhere}");
    }
    assert_eq!(risk(None, None), None);
    assert_eq!(risk(Some("somewhere"), None), None);
    assert_eq!(risk(None, Some("Mars")), None);
    assert_eq!(model("kfre-4").unset(&Settings::default()).collect::<Vec<_>>(), ["kfre-region"]);
}

#[test]
fn thirty_year_risks_end_at_59() {
    let old = Patient::complete().change("patient", |r| r["birthDate"] = json!("1960-01-01"));
    let answer = old.ask("prevent-base");
    let keys: Vec<&str> = answer.scored().unwrap().outputs.iter().map(|o| o.spec.key.as_str()).collect();
    assert_eq!(keys, ["10y.total_cvd", "10y.ascvd", "10y.hf"]);
    assert_eq!(answer.issues.len(), 3);
    assert_eq!(answer.refusals().count(), 0);
}

#[test]
fn the_record_knows_what_matters() {
    let reads = |value: &serde_json::Value| {
        let text = value.to_string();
        crate::patient::CATALOGUE
            .reads(&fhir::json::parse(text.as_bytes(), &fhir::json::Limits::default()).unwrap())
    };
    for (name, resource) in Patient::complete().0 {
        assert!(reads(&resource), "{name}");
    }
    assert!(!reads(&quantity("x", "72514-3", 1.0, "1", "2026-01-01").1));
    assert!(!reads(&condition("x", "195662009", "active").1));
    assert!(!reads(&medicine("x", "Amoxicillin 250 MG Oral Capsule").1));
    assert!(!reads(&json!({"resourceType": "Encounter"})));
    assert!(!reads(&json!([])));
}
