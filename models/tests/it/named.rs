//! Plain named inputs.

use fhir::json::{Limits, parse};
use models::assessment::{Assessment, IssueKind};
use models::{NamedInputs, Settings, assess_named, compute_named, eval};

use crate::patient::{CATALOGUE, Patient, kinds, model, now, value};

fn inputs(text: &str) -> NamedInputs {
    NamedInputs::from_json(&parse(text.as_bytes(), &Limits::default()).unwrap()).unwrap()
}

fn ask(id: &str, text: &str) -> Assessment {
    assess_named(&CATALOGUE, &[inputs(text)], model(id), now(), &Settings::default()).pop().unwrap()
}

#[test]
fn the_same_number_as_from_a_record() {
    let answer = ask(
        "prevent-base",
        r#"{"age": 52, "sex": "female", "total_cholesterol": {"value": 212, "unit": "mg/dL"},
            "hdl_cholesterol": {"value": 48, "unit": "mg/dL"}, "systolic_bp": {"value": 142, "unit": "mm[Hg]"},
            "bmi": {"value": 29.4, "unit": "kg/m2"}, "creatinine": {"value": 1.5, "unit": "mg/dL"},
            "diabetes": true, "current_smoker": false, "antihypertensive": true, "statin": false}"#,
    );
    let record = Patient::complete().ask("prevent-base");
    for output in &record.scored().unwrap().outputs {
        assert_eq!(value(&answer, &output.spec.key).to_bits(), output.value.to_bits(), "{}", output.spec.key);
    }
}

#[test]
fn points_are_points_and_stand_alone() {
    let ask = |text: &str| {
        let vitals = r#""respiratory_rate": {"value": 18, "unit": "/min"}, "spo2": {"value": 97, "unit": "%"},
            "supplemental_o2": false, "systolic_bp": {"value": 130, "unit": "mm[Hg]"},
            "pulse": {"value": 80, "unit": "/min"}, "alert": true"#;
        ask("news2", &format!(r#"{{"age": 50, {vitals}, {text}}}"#))
    };
    let temperature = r#""temperature": {"value": 37, "unit": "Cel"}"#;
    assert!(ask(temperature).scored().is_some());
    assert!(ask(r#""subscores": {"temp": 1}"#).scored().is_some());
    for points in ["0.5", "4", "-1"] {
        let answer = ask(&format!(r#""subscores": {{"temp": {points}}}"#));
        assert!(answer.refusals().any(|i| i.kind == IssueKind::OutOfRange), "{points}");
    }
    let both = ask(&format!(r#"{temperature}, "subscores": {{"temp": 1}}"#));
    assert_eq!(both.refusals().next().unwrap().kind, IssueKind::Conflict);
    for age in ["-1", "123", "1e9"] {
        let answer = crate::named::ask("fib-4", &format!(r#"{{"age": {age}}}"#));
        assert!(answer.refusals().any(|i| i.input.as_ref() == "age" && i.kind == IssueKind::Value), "{age}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let creatinine = |what: &str| format!(r#"{{"age": 50, "sex": "male", "creatinine": {what}}}"#);
    for (what, kind) in [
        ("1.1", IssueKind::Unit),
        (r#"{"value": 1.1, "unit": "bananas"}"#, IssueKind::Unit),
        (r#"{"value": 110, "unit": "mg/dL"}"#, IssueKind::OutOfRange),
        (r#""1.1""#, IssueKind::Value),
        ("true", IssueKind::Value),
        ("null", IssueKind::Missing),
    ] {
        assert_eq!(kinds(&ask("ckd-epi-2021", &creatinine(what))), [("creatinine", kind)], "{what}");
    }
    assert!(ask("ckd-epi-2021", &creatinine(r#"{"value": 97, "unit": "umol/L"}"#)).scored().is_some());
    let stray =
        ask("ckd-epi-2021", r#"{"age": 50, "sex": "male", "creatinin": {"value": 1, "unit": "mg/dL"}}"#);
    assert_eq!(kinds(&stray), [("creatinin", IssueKind::UnknownInput), ("creatinine", IssueKind::Missing)]);
    assert_eq!(
        kinds(&ask(
            "ckd-epi-2021",
            r#"{"age": 50, "sex": "m", "creatinine": {"value": 1, "unit": "mg/dL"}}"#
        )),
        [("sex", IssueKind::Value)]
    );
    assert_eq!(
        kinds(&ask(
            "ckd-epi-2021",
            r#"{"age": 12, "sex": "male", "creatinine": {"value": 1, "unit": "mg/dL"}}"#
        )),
        [("population", IssueKind::Population)]
    );
    for text in [
        "[]",
        r#"{"a": []}"#,
        r#"{"a": {"value": "1"}}"#,
        r#"{"a": {"value": 1, "units": "mg"}}"#,
        r#"{"a": 1e999}"#,
    ] {
        let json = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert!(NamedInputs::from_json(&json).is_err(), "{text}");
    }
}

#[test]
fn verification_looks_past_ranges() {
    let young = inputs(r#"{"age": 12, "sex": "male", "creatinine": {"value": 90, "unit": "mg/dL"}}"#);
    let found = compute_named(&CATALOGUE, &[young], model("ckd-epi-2021")).pop().unwrap().unwrap();
    assert!(found["egfr"] > 0.0);
    let missing = compute_named(&CATALOGUE, &[inputs("{}")], model("ckd-epi-2021")).pop().unwrap();
    assert_eq!(missing.unwrap_err().len(), 3);
}

#[test]
fn vectors_are_judged_by_their_own_tolerance() {
    let judge = |row: &str| {
        let text = format!(r#"{{"absolute_tolerance": 1e-12, "vectors": [{row}]}}"#);
        eval(&CATALOGUE, "fib-4", &parse(text.as_bytes(), &Limits::default()).unwrap()).unwrap()
    };
    let inputs = r#""inputs": {"age": {"value": 50, "unit": "a"}, "ast": {"value": 40, "unit": "U/L"}, "alt": {"value": 25, "unit": "U/L"}, "platelets": {"value": 200, "unit": "10*9/L"}}"#;
    assert!(judge(&format!(r#"{{"id": "a", {inputs}, "expected": {{"fib4": 2}}}}"#)).failures.is_empty());
    assert!(
        judge(&format!(r#"{{"id": "a", {inputs}, "expected": {{"fib4": 2.004}}, "decimals": 2}}"#))
            .failures
            .is_empty()
    );
    assert_eq!(
        judge(&format!(r#"{{"id": "a", {inputs}, "expected": {{"fib4": 2.004}}}}"#)).failures.len(),
        1
    );
    assert_eq!(judge(&format!(r#"{{"id": "a", {inputs}, "expected": {{"other": 2}}}}"#)).failures.len(), 1);
    assert_eq!(judge(&format!(r#"{{"id": "a", {inputs}}}"#)).failures.len(), 1);
    assert_eq!(judge(r#"{"id": "a", "inputs": {}, "expected": {"fib4": 2}}"#).failures.len(), 1);
    assert!(eval(&CATALOGUE, "nothing", &parse(b"{}", &Limits::default()).unwrap()).is_err());
    assert!(eval(&CATALOGUE, "fib-4", &parse(b"{}", &Limits::default()).unwrap()).is_err());
}
