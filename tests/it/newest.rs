//! Which value counts: the newest that does, by every way of asking; and what follows from
//! corrections.

use harness::{BOTH, Server, instant};
use serde_json::{Value, json};

fn ago(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    instant(now - seconds)
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1970-01-01"})
}

fn coded(id: &str, of: &str, loinc: &str, seconds: u64) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
        "subject": {"reference": format!("Patient/{of}")}, "effectiveDateTime": ago(seconds)})
}

fn measured(id: &str, of: &str, loinc: &str, (value, unit): (f64, &str), seconds: u64) -> Value {
    let quantity = json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit});
    with(coded(id, of, loinc, seconds), &[("valueQuantity", quantity)])
}

fn creatinine(id: &str, of: &str, value: f64, seconds: u64) -> Value {
    measured(id, of, "2160-0", (value, "mg/dL"), seconds)
}

fn with(mut resource: Value, members: &[(&str, Value)]) -> Value {
    for (name, value) in members {
        resource[*name] = value.clone();
    }
    resource
}

fn post(server: &Server, resources: &[Value]) {
    let entry = |one: &Value| {
        let url = format!("{}/{}", one["resourceType"].as_str().unwrap(), one["id"].as_str().unwrap());
        json!({"resource": one, "request": {"method": "PUT", "url": url}})
    };
    let entries: Vec<Value> = resources.iter().map(entry).collect();
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    server.post("/fhir", &bundle).unwrap().expect(200).unwrap();
    server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
}

fn of_model(bundle: &Value, model: &str) -> Vec<Value> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let all = entries.into_iter().map(|entry| entry["resource"].clone());
    all.filter(|one| one["method"]["coding"][0]["code"] == model).collect()
}

/// What a model says: the fraction, else the score, else nothing.
fn number(assessment: &Value) -> Option<f64> {
    let prediction = &assessment["prediction"][0];
    let extensions = [&prediction["_probabilityDecimal"]["extension"], &prediction["extension"]];
    let all = extensions.into_iter().filter_map(Value::as_array).flatten();
    let of = |name: &str, one: &&Value| one["url"].as_str().is_some_and(|url| url.ends_with(name));
    let value = |one: &Value| one["valueDecimal"].as_f64().or_else(|| one["valueQuantity"]["value"].as_f64());
    all.clone()
        .find(|one| of("/risk-fraction", one))
        .or_else(|| all.clone().find(|one| of("/score", one)))
        .and_then(value)
}

/// On write, asked of what is stored, and asked of the same resources sent: one answer.
fn everywhere(server: &Server, id: &str, resources: &[Value], model: &str) -> Option<f64> {
    let stored =
        server.get(&format!("/fhir/Patient/{id}/$assess-risk?model={model}")).unwrap().expect(200).unwrap();
    let entries: Vec<Value> = resources.iter().map(|one| json!({"resource": one})).collect();
    let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": entries});
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "model", "valueString": model}, {"name": "bundle", "resource": bundle}]});
    let sent = server.post("/fhir/$assess-risk", &parameters).unwrap().expect(200).unwrap();
    let written =
        server.get(&format!("/fhir/RiskAssessment?patient={id}&_sort=-date&_count=1000")).unwrap().json;
    let valid = |one: &&Value| matches!(one["status"].as_str(), Some("final" | "preliminary"));
    let written = of_model(&written, model).iter().find(valid).and_then(number);
    let (stored, sent) = (of_model(&stored.json, model), of_model(&sent.json, model));
    let (stored, sent) = (stored.first().and_then(number), sent.first().and_then(number));
    assert_eq!(stored, sent, "{id}: stored and sent");
    assert_eq!(written, stored, "{id}: on write and asked");
    stored
}

fn near(found: Option<f64>, wanted: f64) {
    assert!(
        found.is_some_and(|found| (found - wanted).abs() < 0.05 * wanted),
        "{found:?} instead of {wanted}"
    );
}

#[test]
fn what_does_not_count_hides_nothing() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let mut cases: Vec<(&str, Vec<Value>, f64)> = Vec::new();

        let mut period = vec![patient("period")];
        period.extend((1..12).map(|n| creatinine(&format!("period-{n}"), "period", 1.0, n * DAY)));
        let mut long = creatinine("period-long", "period", 2.5, 0);
        long.as_object_mut().unwrap().remove("effectiveDateTime");
        period.push(with(long, &[("effectivePeriod", json!({"start": ago(100 * DAY), "end": ago(HOUR)}))]));
        cases.push(("period", period, 22.0));

        let mut moment = vec![patient("moment")];
        for n in 0..10_u64 {
            let one = creatinine(&format!("moment-{n}"), "moment", if n == 0 { 3.0 } else { 1.0 }, DAY);
            let issued = ago(if n == 0 { HOUR } else { 12 * HOUR });
            moment.push(with(one, &[("issued", json!(issued))]));
        }
        cases.push(("moment", moment, 17.7));

        let mut empty = vec![patient("empty"), creatinine("empty-0", "empty", 1.0, 20 * DAY)];
        empty.extend((1..10).map(|n| {
            with(
                coded(&format!("empty-{n}"), "empty", "2160-0", n * HOUR),
                &[("valueQuantity", json!({"unit": "mg/dL"}))],
            )
        }));
        cases.push(("empty", empty, 66.1));

        let mut tie =
            vec![patient("tie"), creatinine("cr", "tie", 1.0, DAY), creatinine("cr-2", "tie", 2.0, DAY)];
        let same = tie[1]["effectiveDateTime"].clone();
        tie[2]["effectiveDateTime"] = same;
        cases.push(("tie", tie, 28.8));

        for (id, resources, wanted) in &cases {
            post(&server, resources);
            near(everywhere(&server, id, resources, "ckd-epi-2021"), *wanted);
        }
    }
}

/// All that PREVENT needs, but kidney and weight.
fn cardiac(id: &str) -> Vec<Value> {
    let smoker = json!({"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]});
    vec![
        patient(id),
        measured(&format!("{id}-tc"), id, "2093-3", (200.0, "mg/dL"), 9 * DAY),
        measured(&format!("{id}-hdl"), id, "2085-9", (50.0, "mg/dL"), 9 * DAY),
        measured(&format!("{id}-sbp"), id, "8480-6", (130.0, "mm[Hg]"), 9 * DAY),
        with(coded(&format!("{id}-smoke"), id, "72166-2", 9 * DAY), &[("valueCodeableConcept", smoker)]),
    ]
}

#[test]
fn the_newer_of_two_ways_to_know_counts() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    let egfr = |id: &str, value: f64, seconds| {
        measured(&format!("{id}-egfr"), id, "98979-8", (value, "mL/min/{1.73_m2}"), seconds)
    };
    let bmi = |id: &str, value: f64, seconds| {
        measured(&format!("{id}-bmi"), id, "39156-5", (value, "kg/m2"), seconds)
    };

    let mut plain = cardiac("plain");
    plain.extend([bmi("plain", 26.0, 9 * DAY), egfr("plain", 25.0, DAY)]);
    let mut kidney = cardiac("kidney");
    kidney.extend([
        bmi("kidney", 26.0, 9 * DAY),
        creatinine("kidney-cr", "kidney", 0.8, 300 * DAY),
        egfr("kidney", 25.0, DAY),
    ]);
    let mut weight = cardiac("weight");
    weight.extend([
        bmi("weight", 34.0, 600 * DAY),
        egfr("weight", 25.0, DAY),
        measured("weight-kg", "weight", "29463-7", (65.0, "kg"), DAY),
        measured("weight-cm", "weight", "8302-2", (158.113_883, "cm"), 900 * DAY),
    ]);
    for all in [&plain, &kidney, &weight] {
        post(&server, all);
    }
    let wanted = everywhere(&server, "plain", &plain, "prevent-base").unwrap();
    assert_eq!(everywhere(&server, "kidney", &kidney, "prevent-base"), Some(wanted));
    let by_weight = everywhere(&server, "weight", &weight, "prevent-base").unwrap();
    assert!((by_weight - wanted).abs() < 1e-6 * wanted, "{by_weight} {wanted}");
}

#[test]
fn what_was_known_and_is_not_any_more_is_no_no() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    let alert = json!({"coding": [{"system": "http://snomed.info/sct", "code": "248234008"}]});
    let vitals = |id: &str| {
        vec![
            patient(id),
            measured(&format!("{id}-rr"), id, "9279-1", (18.0, "/min"), 300),
            measured(&format!("{id}-spo2"), id, "59408-5", (97.0, "%"), 300),
            measured(&format!("{id}-sbp"), id, "8480-6", (120.0, "mm[Hg]"), 300),
            measured(&format!("{id}-pulse"), id, "8867-4", (80.0, "/min"), 300),
            measured(&format!("{id}-temp"), id, "8310-5", (37.0, "Cel"), 300),
            with(
                coded(&format!("{id}-alert"), id, "67775-7", 300),
                &[("valueCodeableConcept", alert.clone())],
            ),
        ]
    };
    let flow = |id: &str, value: f64, seconds| {
        measured(&format!("{id}-flow"), id, "3151-8", (value, "L/min"), seconds)
    };
    let mut air = vitals("air");
    let mut stale = vitals("stale");
    stale.push(flow("stale", 4.0, 4000));
    let mut torn = vitals("torn");
    torn.push(flow("torn", 0.0, 300));
    torn.push(measured("torn-fio2", "torn", "3150-6", (40.0, "%"), 300));
    let same = torn[7]["effectiveDateTime"].clone();
    torn[8]["effectiveDateTime"] = same;
    for all in [&air, &stale, &torn] {
        post(&server, all);
    }
    assert_eq!(everywhere(&server, "air", &air, "news2"), Some(0.0));
    assert_eq!(everywhere(&server, "stale", &stale, "news2"), None);
    assert_eq!(everywhere(&server, "torn", &torn, "news2"), None);
    // Somebody expects a child: the score is not for her.
    let expecting = json!({"coding": [{"system": "http://snomed.info/sct", "code": "77386006"}]});
    air[0]["id"] = json!("expecting");
    for one in &mut air {
        if one["resourceType"] == "Observation" {
            one["id"] = json!(one["id"].as_str().unwrap().replace("air", "expecting"));
            one["subject"]["reference"] = json!("Patient/expecting");
        }
    }
    air.push(with(
        coded("expecting-1", "expecting", "82810-3", 20 * DAY),
        &[("valueCodeableConcept", expecting)],
    ));
    post(&server, &air);
    assert_eq!(everywhere(&server, "expecting", &air, "news2"), None);
}

#[test]
fn two_values_in_one_observation_and_bare_numbers_give_none() {
    let server = Server::start_with(harness::Backend::Sqlite, &[("AUGURY_REGION", "north-america")]).unwrap();
    let mut panel = cardiac("panel");
    panel.push(measured("panel-bmi", "panel", "39156-5", (26.0, "kg/m2"), DAY));
    panel.push(creatinine("panel-cr", "panel", 0.8, DAY));
    let systolic = |value: u8| {
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}})
    };
    let both = json!([systolic(120), systolic(180)]);
    panel.push(with(coded("panel-bp", "panel", "85354-9", HOUR), &[("component", both)]));
    post(&server, &panel);
    assert_eq!(everywhere(&server, "panel", &panel, "prevent-base"), None);

    let kidney = |id: &str, unit: &str, country: &str| {
        let lives = with(patient(id), &[("address", json!([{"country": country}]))]);
        vec![
            lives,
            creatinine(&format!("{id}-cr"), id, 2.0, DAY),
            measured(&format!("{id}-uacr"), id, "9318-7", (if unit == "1" { 0.3 } else { 300.0 }, unit), DAY),
        ]
    };
    let ask = |id: &str, unit: &str, country: &str| {
        let all = kidney(id, unit, country);
        post(&server, &all);
        everywhere(&server, id, &all, "kfre-4")
    };
    let germany = ask("de", "mg/g", "DE").unwrap();
    assert_eq!(ask("germany", "mg/g", "Germany"), Some(germany));
    assert_eq!(ask("england", "mg/g", "England"), Some(germany));
    assert_ne!(ask("usa", "mg/g", "USA"), Some(germany));
    assert_eq!(ask("nowhere", "mg/g", "Utopia"), None);
    assert_eq!(ask("bare", "1", "DE"), None);
}

fn statuses(server: &Server, path: &str, model: &str) -> Vec<String> {
    let found = server.get(path).unwrap().expect(200).unwrap().json;
    of_model(&found, model).iter().map(|one| one["status"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_correction_that_is_taken_back_leaves_one_that_holds() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let born = |date: &str| with(patient("back"), &[("birthDate", json!(date))]);
        let all = [born("1970-01-01"), creatinine("back-cr", "back", 1.0, DAY)];
        post(&server, &all);
        post(&server, &[born("1940-01-01")]);
        post(&server, &[born("1970-01-01")]);
        near(everywhere(&server, "back", &all, "ckd-epi-2021"), 66.1);
        for path in ["/fhir/RiskAssessment?patient=back", "/fhir/Observation?patient=back"] {
            let mut found = statuses(&server, path, "ckd-epi-2021");
            found.sort();
            assert_eq!(found, ["amended", "final"], "{path}");
        }
        server.delete("/fhir/Patient/back").unwrap();
        server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
        let found = statuses(&server, "/fhir/Observation?patient=back", "ckd-epi-2021");
        assert!(!found.contains(&"final".to_owned()), "{found:?}");
    }
}

#[test]
fn a_refusal_falls_with_its_reason() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let good = [patient("why"), creatinine("why-1", "why", 1.0, DAY)];
        post(&server, &good);
        post(&server, &[measured("why-2", "why", "2160-0", (2.0, "mm[Hg]"), HOUR)]);
        let path = "/fhir/RiskAssessment?patient=why&_sort=-date";
        assert_eq!(statuses(&server, path, "ckd-epi-2021").len(), 2);
        server.delete("/fhir/Observation/why-2").unwrap();
        server.wait_for("/health", |health| health["queue"]["waiting"] == 0).unwrap();
        let mut found = statuses(&server, path, "ckd-epi-2021");
        found.sort();
        assert_eq!(found, ["entered-in-error", "final"]);
        near(everywhere(&server, "why", &good, "ckd-epi-2021"), 66.1);
        // What stood in the way is changed and still does: the refusal is said anew.
        post(&server, &[measured("why-3", "why", "2160-0", (2.0, "mm[Hg]"), HOUR)]);
        post(&server, &[measured("why-3", "why", "2160-0", (3.0, "mm[Hg]"), HOUR)]);
        let found = server.get(path).unwrap().json;
        let newest = of_model(&found, "ckd-epi-2021");
        assert_eq!(newest[0]["status"], "final");
        assert_eq!(number(&newest[0]), None);
        assert_eq!(
            everywhere(
                &server,
                "why",
                &[good[0].clone(), measured("why-3", "why", "2160-0", (3.0, "mm[Hg]"), HOUR)],
                "ckd-epi-2021"
            ),
            None
        );
    }
}

#[test]
fn nothing_is_kept_of_tomorrow() {
    let server = Server::start(harness::Backend::Sqlite).unwrap();
    post(&server, &[patient("future"), creatinine("future-1", "future", 1.0, DAY)]);
    let path = "/fhir/Patient/future/$assess-risk?persist=true&asOf=2100-01-01";
    let refused = server.post(path, &json!({"resourceType": "Parameters"})).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.json);
}
