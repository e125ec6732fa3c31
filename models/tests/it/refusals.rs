//! Every kind of refusal: its kind, that it names the record, and that it says what would help.

use models::assessment::IssueKind;
use serde_json::{Value, json};

use crate::patient::{Patient, condition, quantity};

fn creatinine(change: impl FnOnce(&mut Value)) -> models::assessment::InputIssue {
    let issue = Patient::complete().change("creatinine", change).refusal("ckd-epi-2021");
    assert_eq!(issue.input.as_ref(), "creatinine");
    assert_eq!(issue.reference.as_deref(), Some("Observation/creatinine/_history/1"));
    assert!(!issue.details.is_empty() && !issue.remedy.is_empty());
    assert!(issue.codes.iter().any(|c| c.as_ref() == "2160-0"));
    issue
}

#[test]
fn missing_names_the_code_and_the_unit() {
    let issue = Patient::complete().without("creatinine").refusal("ckd-epi-2021");
    assert_eq!(issue.kind, IssueKind::Missing);
    assert!(issue.remedy.contains("2160-0") && issue.remedy.contains("mg/dL or umol/L"), "{}", issue.remedy);
    let issue = Patient::complete().without("creatinine").refusal("kfre-4");
    assert_eq!((issue.input.as_ref(), issue.kind), ("egfr", IssueKind::Missing));
    assert!(issue.remedy.contains("2160-0") && issue.remedy.contains("98979-8"), "{}", issue.remedy);
}

#[test]
fn one_observation_many_ways_to_be_unusable() {
    type Case = (IssueKind, fn(&mut Value));
    let cases: Vec<Case> = vec![
        (IssueKind::Missing, |r| r["status"] = json!("entered-in-error")),
        (IssueKind::Stale, |r| r["effectiveDateTime"] = json!("2024-12-31")),
        (IssueKind::OutOfRange, |r| r["valueQuantity"]["value"] = json!(88.0)),
        (IssueKind::OutOfRange, |r| r["valueQuantity"]["value"] = json!(-1)),
        (IssueKind::Unit, |r| r["valueQuantity"]["code"] = json!("mmol")),
        (IssueKind::Unit, |r| r["valueQuantity"]["code"] = json!("bogus")),
        (IssueKind::Unit, |r| {
            let quantity = r["valueQuantity"].as_object_mut().unwrap();
            quantity.remove("system");
            quantity.remove("code");
        }),
        (IssueKind::Unit, |r| r["valueQuantity"] = json!({"value": 1.5})),
        (IssueKind::Comparator, |r| r["valueQuantity"]["comparator"] = json!("<")),
        (IssueKind::AbsentReason, |r| {
            r.as_object_mut().unwrap().remove("valueQuantity");
            r["dataAbsentReason"] = json!({"coding": [{"code": "not-performed"}]});
        }),
        (IssueKind::AbsentReason, |r| r["valueQuantity"] = json!({"unit": "mg/dL"})),
        (IssueKind::Value, |r| {
            r.as_object_mut().unwrap().remove("valueQuantity");
            r["valueString"] = json!("1.5 mg/dL");
        }),
        (IssueKind::Value, |r| {
            r.as_object_mut().unwrap().remove("valueQuantity");
            r["valueBoolean"] = json!(true);
        }),
        (IssueKind::Future, |r| r["effectiveDateTime"] = json!("2027-01-01")),
        (IssueKind::Undated, |r| {
            r.as_object_mut().unwrap().remove("effectiveDateTime");
        }),
    ];
    for (number, (kind, change)) in cases.into_iter().enumerate() {
        if kind == IssueKind::Future {
            // A value to come is also mentioned as such.
            let answer = Patient::complete().change("creatinine", change).ask("ckd-epi-2021");
            assert!(answer.scored().is_none());
            assert!(answer.refusals().all(|i| i.kind == kind));
            continue;
        }
        assert_eq!(creatinine(change).kind, kind, "case {number}");
    }
}

#[test]
fn a_suspected_unit_is_named() {
    let issue = creatinine(|r| r["valueQuantity"]["value"] = json!(88.0));
    assert!(issue.remedy.contains("umol/L"), "{}", issue.remedy);
    let bare = creatinine(|r| {
        let quantity = r["valueQuantity"].as_object_mut().unwrap();
        quantity.remove("system");
        quantity.remove("code");
    });
    assert!(
        bare.remedy.contains("http://unitsofmeasure.org") && bare.remedy.contains("mg/dL"),
        "{}",
        bare.remedy
    );
}

#[test]
fn population() {
    let about = |patient: Patient, id: &str| {
        let issue = patient.refusal(id);
        assert_eq!((issue.input.as_ref(), issue.kind), ("population", IssueKind::Population));
        issue.details
    };
    let infarction = condition("mi", "22298006", "resolved");
    assert!(about(Patient::complete().with(infarction), "prevent-base").contains("cardiovascular"));
    assert!(
        about(Patient::complete().with(condition("d", "105502003", "active")), "kfre-4").contains("dialysis")
    );
    assert!(
        about(Patient::complete().with(condition("p", "77386006", "active")), "news2").contains("pregnant")
    );
    let past = condition("p", "77386006", "resolved");
    assert!(Patient::complete().with(past).ask("news2").scored().is_some());
    let child = Patient::complete().change("patient", |r| r["birthDate"] = json!("2016-01-01"));
    assert!(about(child, "ckd-epi-2021").contains("age 10"));
    let dead = Patient::complete().change("patient", |r| r["deceasedDateTime"] = json!("2026-02-27"));
    assert!(about(dead, "ckd-epi-2021").contains("2026-02-27"));
    let dead = Patient::complete().change("patient", |r| r["deceasedBoolean"] = json!(true));
    about(dead, "ckd-epi-2021");
    let stranger = ("other".to_owned(), json!({"resourceType": "Patient", "id": "q", "gender": "male"}));
    assert!(about(Patient::complete().with(stranger), "ckd-epi-2021").contains("Patient/q"));
}

#[test]
fn age_and_sex() {
    let with = |key: &str, value: Value| {
        Patient::complete().change("patient", |r| r[key] = value).refusal("ckd-epi-2021")
    };
    assert_eq!(with("gender", json!("unknown")).kind, IssueKind::Value);
    assert_eq!(with("birthDate", json!("1973")).kind, IssueKind::Value);
    assert_eq!(with("birthDate", json!("2030-01-01")).kind, IssueKind::Value);
    assert_eq!(with("birthDate", json!("soon")).kind, IssueKind::Missing);
    let partial = Patient::complete().change("patient", |r| r["birthDate"] = json!("1973-06"));
    assert!(partial.ask("ckd-epi-2021").scored().is_some());
    let nobody = Patient::complete().without("patient").ask("ckd-epi-2021");
    assert_eq!(nobody.refusals().count(), 2);
    let score = Patient::complete().without("patient").ask("news2");
    assert!(
        score.scored().is_some()
            && score.issues.iter().all(|i| !i.refuses && i.kind == IssueKind::Population)
    );
}

#[test]
fn acute_vitals_are_stale_after_an_hour() {
    let issue = Patient::complete()
        .instead(quantity("pulse", "8867-4", 96.0, "/min", "2026-03-01T10:59:00Z"))
        .refusal("news2");
    assert_eq!((issue.input.as_ref(), issue.kind), ("pulse", IssueKind::Stale));
}

#[test]
fn a_date_without_a_time_is_too_vague_for_an_hour() {
    let issue =
        Patient::complete().instead(quantity("pulse", "8867-4", 96.0, "/min", "2026-03-01")).refusal("news2");
    assert_eq!(issue.kind, IssueKind::Stale);
}

#[test]
fn nothing_at_all_is_refused_by_all() {
    for model in crate::patient::models() {
        let answer = Patient(Vec::new()).ask(&model.identity.id);
        assert!(answer.scored().is_none() && answer.refusals().count() > 0);
    }
}
