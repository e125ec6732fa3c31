//! A patient to vary: complete for every model, unless told otherwise.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use fhir::json::{Json, Limits, parse};
use models::assessment::{Assessment, InputIssue, IssueKind};
use models::{Catalogue, Model, PatientRecord, RecordBuilder, Settings, assess};
use serde_json::{Value, json};

pub(crate) static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::built_in().unwrap());

pub(crate) fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn model(id: &str) -> &'static Model {
    CATALOGUE.get(id).unwrap()
}

pub(crate) fn models() -> Vec<&'static Model> {
    CATALOGUE.active().map(AsRef::as_ref).collect()
}

/// Resources, by a name to replace or leave them out by.
#[derive(Clone)]
pub(crate) struct Patient(pub(crate) Vec<(String, Value)>);

pub(crate) fn quantity(name: &str, code: &str, value: f64, unit: &str, effective: &str) -> (String, Value) {
    let resource = json!({
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": effective,
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    });
    (name.to_owned(), resource)
}

pub(crate) fn coded(name: &str, code: &str, system: &str, answer: &str) -> (String, Value) {
    let resource = json!({
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": "2026-03-01T11:30:00Z",
        "valueCodeableConcept": {"coding": [{"system": system, "code": answer}], "text": answer},
    });
    (name.to_owned(), resource)
}

pub(crate) fn condition(name: &str, code: &str, status: &str) -> (String, Value) {
    let resource = json!({
        "resourceType": "Condition",
        "id": name,
        "clinicalStatus": {"coding": [{"code": status}]},
        "verificationStatus": {"coding": [{"code": "confirmed"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "onsetDateTime": "2020-01-01",
    });
    (name.to_owned(), resource)
}

pub(crate) fn medicine(name: &str, display: &str) -> (String, Value) {
    let resource = json!({
        "resourceType": "MedicationRequest",
        "id": name,
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [
            {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "0", "display": display},
        ]},
        "authoredOn": "2025-06-01",
    });
    (name.to_owned(), resource)
}

impl Patient {
    /// A woman of 52, complete for all six models.
    pub(crate) fn complete() -> Self {
        const LAB: &str = "2026-02-20T08:00:00Z";
        const VITAL: &str = "2026-03-01T11:40:00Z";
        let person = json!({
            "resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1973-06-15",
            "address": [{"country": "US"}],
        });
        let pressure = json!({
            "resourceType": "Observation", "id": "bp", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
            "effectiveDateTime": VITAL,
            "component": [
                {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                 "valueQuantity": {"value": 142, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
                {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
                 "valueQuantity": {"value": 88, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
            ],
        });
        Self(vec![
            ("patient".into(), person),
            ("pressure".into(), pressure),
            quantity("cholesterol", "2093-3", 212.0, "mg/dL", LAB),
            quantity("hdl", "2085-9", 48.0, "mg/dL", LAB),
            quantity("bmi", "39156-5", 29.4, "kg/m2", LAB),
            quantity("creatinine", "2160-0", 1.5, "mg/dL", LAB),
            quantity("uacr", "9318-7", 240.0, "mg/g", LAB),
            quantity("ast", "1920-8", 44.0, "U/L", LAB),
            quantity("alt", "1742-6", 39.0, "U/L", LAB),
            quantity("platelets", "777-3", 182.0, "10*9/L", LAB),
            quantity("bilirubin", "1975-2", 2.4, "mg/dL", LAB),
            quantity("inr", "6301-6", 1.6, "{INR}", LAB),
            quantity("sodium", "2951-2", 133.0, "mmol/L", LAB),
            quantity("albumin", "1751-7", 3.0, "g/dL", LAB),
            quantity("respiration", "9279-1", 22.0, "/min", VITAL),
            quantity("spo2", "59408-5", 95.0, "%", VITAL),
            quantity("pulse", "8867-4", 96.0, "/min", VITAL),
            quantity("temperature", "8310-5", 38.4, "Cel", VITAL),
            quantity("oxygen", "3151-8", 2.0, "L/min", VITAL),
            coded("alert", "67775-7", "http://loinc.org", "LA9340-6"),
            coded("smoking", "72166-2", "http://snomed.info/sct", "266919005"),
            condition("diabetes", "44054006", "active"),
            medicine("pill", "Amlodipine 5 MG Oral Tablet"),
        ])
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != name);
        self
    }

    pub(crate) fn with(mut self, resource: (String, Value)) -> Self {
        self.0.push(resource);
        self
    }

    pub(crate) fn instead(self, resource: (String, Value)) -> Self {
        self.without(&resource.0.clone()).with(resource)
    }

    pub(crate) fn change(mut self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let found = self.0.iter_mut().find(|(n, _)| n == name).unwrap();
        change(&mut found.1);
        self
    }

    pub(crate) fn record(&self) -> PatientRecord {
        let mut builder = RecordBuilder::new(&CATALOGUE);
        for (_, resource) in &self.0 {
            let text = resource.to_string();
            let json: Json = parse(text.as_bytes(), &Limits::default()).unwrap();
            let reference =
                format!("{}/{}/_history/1", json.text("resourceType").unwrap(), json.text("id").unwrap());
            builder.add(&json, &reference);
        }
        builder.build()
    }

    pub(crate) fn ask(&self, id: &str) -> Assessment {
        self.ask_at(id, now(), &Settings::default())
    }

    pub(crate) fn ask_at(&self, id: &str, as_of: DateTime<Utc>, settings: &Settings) -> Assessment {
        assess(&CATALOGUE, &self.record(), &[model(id)], as_of, settings).pop().unwrap()
    }

    /// The one issue that refuses.
    pub(crate) fn refusal(&self, id: &str) -> InputIssue {
        let answer = self.ask(id);
        let all: Vec<_> = answer.refusals().cloned().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(answer.scored().is_none());
        all.into_iter().next().unwrap()
    }

    pub(crate) fn value(&self, id: &str, key: &str) -> f64 {
        value(&self.ask(id), key)
    }
}

pub(crate) fn value(answer: &Assessment, key: &str) -> f64 {
    let scored = answer.scored().unwrap_or_else(|| panic!("refused: {:?}", answer.issues));
    scored.outputs.iter().find(|o| o.spec.key == key).unwrap().value
}

pub(crate) fn kinds(answer: &Assessment) -> Vec<(&str, IssueKind)> {
    answer.issues.iter().map(|i| (i.input.as_ref(), i.kind)).collect()
}
