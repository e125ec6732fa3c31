//! What is recorded in a way that leaves a doubt gives no number.

use models::Settings;
use models::assessment::IssueKind;
use serde_json::{Value, json};

use crate::patient::{Patient, coded, condition, kinds, now, quantity};

fn refused(patient: &Patient, model: &str) -> Option<(String, IssueKind)> {
    let answer = patient.ask(model);
    answer.refusals().next().map(|issue| (issue.input.to_string(), issue.kind))
}

#[test]
fn an_annotation_is_no_unit() {
    for unit in ["{mg/g}", "{ratio}", "1{mg/g}"] {
        let patient = Patient::complete().instead(quantity("uacr", "9318-7", 0.03, unit, "2026-02-20"));
        assert_eq!(refused(&patient, "kfre-4"), Some(("uacr".into(), IssueKind::Unit)), "{unit}");
    }
    let seconds = Patient::complete().instead(quantity("inr", "6301-6", 12.0, "{sec}", "2026-02-20"));
    assert_eq!(refused(&seconds, "meld-3"), Some(("inr".into(), IssueKind::Unit)));
    let ratio = Patient::complete().instead(quantity("inr", "6301-6", 1.6, "{ratio}", "2026-02-20"));
    assert_eq!(refused(&ratio, "meld-3"), None);
}

#[test]
fn words_for_people_must_not_contradict_the_unit() {
    let said = |unit: &str| {
        let patient = Patient::complete().change("creatinine", |r| r["valueQuantity"]["unit"] = json!(unit));
        refused(&patient, "ckd-epi-2021")
    };
    assert_eq!(said("umol/L"), Some(("creatinine".into(), IssueKind::Unit)));
    assert_eq!(said("milligram per deciliter"), None);
    assert_eq!(said("mg/dl"), None);
}

#[test]
fn what_can_not_be_measured_decides_nothing() {
    let vital = "2026-03-01T11:40:00Z";
    for (code, value, unit, fits) in [
        ("3151-8", 2.0, "L/min", true),
        ("3151-8", -2.0, "L/min", false),
        ("3151-8", 4000.0, "L/min", false),
        ("3150-6", 40.0, "%", true),
        ("3150-6", 0.4, "%", false),
        ("3150-6", 400.0, "%", false),
    ] {
        let patient = Patient::complete().instead(quantity("oxygen", code, value, unit, vital));
        let expected = (!fits).then(|| ("supplemental_o2".to_owned(), IssueKind::OutOfRange));
        assert_eq!(refused(&patient, "news2"), expected, "{code} {value} {unit}");
    }
    for (score, fits) in [(15.0, true), (3.0, true), (2.0, false), (150.0, false)] {
        let patient = Patient::complete().instead(quantity("alert", "9269-2", score, "{score}", vital));
        let expected = (!fits).then(|| ("alert".to_owned(), IssueKind::OutOfRange));
        assert_eq!(refused(&patient, "news2"), expected, "{score}");
    }
}

#[test]
fn codes_that_contradict_each_other_are_no_answer() {
    let both = |name: &str, code: &str, system: &str, one: &str, other: &str| {
        let (name, mut resource) = coded(name, code, system, one);
        let second = json!({"system": system, "code": other});
        resource["valueCodeableConcept"]["coding"].as_array_mut().unwrap().push(second);
        Patient::complete().instead((name, resource))
    };
    let alert = both("alert", "67775-7", "http://loinc.org", "LA9340-6", "LA9343-0");
    assert_eq!(refused(&alert, "news2"), Some(("alert".into(), IssueKind::Conflict)));
    let smoker = both("smoking", "72166-2", "http://snomed.info/sct", "266919005", "449868002");
    assert_eq!(refused(&smoker, "prevent-base"), Some(("current_smoker".into(), IssueKind::Conflict)));
    // Two codes of one moment: the better is taken, and the other is told.
    let coma = quantity("coma", "9269-2", 9.0, "{score}", "2026-03-01T11:30:00Z");
    let answer = Patient::complete().with(coma).ask("news2");
    assert!(answer.scored().is_some());
    assert_eq!(kinds(&answer), [("alert", IssueKind::Conflict)]);
}

fn taking(medicine: &Value) -> Patient {
    let mut request = json!({
        "resourceType": "MedicationRequest", "id": "another", "status": "active", "intent": "order",
        "authoredOn": "2025-06-01",
    });
    for (name, value) in medicine.as_object().unwrap() {
        request[name] = value.clone();
    }
    Patient::complete().with(("another".into(), request))
}

#[test]
fn a_medicine_that_can_not_be_told_is_not_taken_as_none() {
    let statin = Some(("statin".to_owned(), IssueKind::Unresolved));
    let rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm";
    for medicine in [
        json!({"medicationCodeableConcept": {"coding": [{"system": rxnorm, "code": "617310"}]}}),
        json!({"medicationCodeableConcept": {"coding": [{"system": "urn:local", "code": "7"}]}}),
        json!({"medicationReference": {"identifier": {"value": "x"}}}),
        json!({"medicationReference": {"reference": "#m"}, "contained": [{"resourceType": "Medication", "id": "m"}]}),
        json!({"medicationReference": {"reference": "Medication/gone"}}),
    ] {
        assert_eq!(refused(&taking(&medicine), "prevent-base"), statin, "{medicine}");
    }
    for medicine in [
        json!({"medicationCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "1", "display": "Atorvastatin"}]}}),
        json!({"medicationReference": {"display": "Atorvastatin 20 mg"}}),
        json!({"medicationReference": {"reference": "Medication/gone", "display": "Atorvastatin 20 mg"}}),
    ] {
        let answer = taking(&medicine).ask("prevent-base");
        assert!(answer.scored().is_some() && answer.assumed.is_empty(), "{medicine}: {:?}", answer.assumed);
    }
    let atc = json!({"medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "A10BA02"}]}});
    assert_eq!(refused(&taking(&atc), "prevent-base"), None);
}

#[test]
fn a_condition_in_words_alone_is_neither_yes_nor_no() {
    let named = |text: &str| {
        let (name, mut resource) = condition("diabetes", "0", "active");
        resource["code"] = json!({"text": text});
        Patient::complete().instead((name, resource))
    };
    let doubtful = named("Diabetes mellitus Typ 2");
    assert_eq!(refused(&doubtful, "prevent-base"), Some(("diabetes".into(), IssueKind::Unresolved)));
    let stroke = named("Old ischaemic stroke");
    assert_eq!(refused(&stroke, "prevent-base"), Some(("population".into(), IssueKind::Population)));
    let other = named("Hay fever").ask("prevent-base");
    assert!(other.scored().is_some());
    assert_eq!(kinds(&other), [("diabetes", IssueKind::Quality)]);
    let mut german = condition("diabetes", "0", "active");
    german.1["code"] =
        json!({"coding": [{"system": "http://fhir.de/CodeSystem/bfarm/icd-10-gm", "code": "E11.90"}]});
    let answer = Patient::complete().instead(german).ask("prevent-base");
    assert!(answer.assumed.iter().all(|a| a.input.as_ref() != "diabetes"));
}

#[test]
fn a_patient_record_that_is_no_longer_one_gives_no_number() {
    let population = Some(("population".to_owned(), IssueKind::Population));
    for change in [
        json!({"link": [{"type": "replaced-by", "other": {"reference": "Patient/q"}}]}),
        json!({"modifierExtension": [{"url": "urn:x", "valueBoolean": true}]}),
        json!({"implicitRules": "urn:x"}),
    ] {
        let patient = Patient::complete().change("patient", |r| {
            for (name, value) in change.as_object().unwrap() {
                r[name] = value.clone();
            }
        });
        assert_eq!(refused(&patient, "ckd-epi-2021"), population, "{change}");
    }
    let inactive = Patient::complete().change("patient", |r| r["active"] = json!(false)).ask("ckd-epi-2021");
    assert!(inactive.scored().is_some());
    assert_eq!(kinds(&inactive), [("population", IssueKind::Population)]);
}

#[test]
fn sex_parameters_of_another_time_or_that_contradict() {
    let parameter = |code: &str, period: Option<Value>| {
        let mut parts = vec![json!({"url": "value", "valueCodeableConcept": {"coding": [{"code": code}]}})];
        parts.extend(period.map(|period| json!({"url": "period", "valuePeriod": period})));
        json!({"url": "http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse", "extension": parts})
    };
    let with = |all: Vec<Value>| {
        let patient = Patient::complete().change("patient", |r| r["extension"] = json!(all));
        patient.ask_at("ckd-epi-2021", now(), &Settings::default())
    };
    let plain = Patient::complete().value("ckd-epi-2021", "egfr");
    let ended = with(vec![parameter("male-typical", Some(json!({"end": "2020-01-01"})))]);
    assert_eq!(crate::patient::value(&ended, "egfr").to_bits(), plain.to_bits());
    let both = with(vec![parameter("male-typical", None), parameter("female-typical", None)]);
    assert_eq!(kinds(&both), [("sex", IssueKind::Value)]);
}
