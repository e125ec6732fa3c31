//! Two patients with the same in their charts: what scopes must tell apart.

use serde_json::{Value, json};

use crate::check::Stop;
use crate::server::{Made, Server, list, text, unique};

/// A patient, and what finds them among others.
#[derive(Debug, Clone)]
pub(crate) struct Patient {
    pub(crate) made: Made,
    pub(crate) family: String,
}

/// A chart.
pub(crate) struct Chart {
    pub(crate) patient: Patient,
    pub(crate) encounter: Made,
    /// All else, as it was sent, by where it is.
    pub(crate) all: Vec<(Made, Value)>,
}

/// The patient whom the tests are about, and another.
pub(crate) struct World {
    pub(crate) own: Chart,
    pub(crate) other: Chart,
}

/// A category: its system, its code.
pub(crate) type Category = (&'static str, &'static str);

const CONDITION: &str = "http://terminology.hl7.org/CodeSystem/condition-category";
const OBSERVATION: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

/// The types that granular scopes are tried with, and their categories.
#[rustfmt::skip]
pub(crate) const CATEGORIES: &[(&str, &[Category])] = &[
    ("Condition", &[
        (CONDITION, "encounter-diagnosis"), (CONDITION, "problem-list-item"),
        ("http://hl7.org/fhir/us/core/CodeSystem/condition-category", "health-concern"),
    ]),
    ("Observation", &[
        (OBSERVATION, "laboratory"), (OBSERVATION, "vital-signs"), (OBSERVATION, "social-history"), (OBSERVATION, "survey"),
        ("http://hl7.org/fhir/us/core/CodeSystem/us-core-category", "sdoh"),
    ]),
    ("DiagnosticReport", &[
        ("http://terminology.hl7.org/CodeSystem/v2-0074", "LAB"), ("http://loinc.org", "LP29684-5"),
    ]),
    ("DocumentReference", &[
        ("http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category", "clinical-note"),
        ("http://loinc.org", "34133-9"),
    ]),
    ("ServiceRequest", &[
        ("http://snomed.info/sct", "387713003"), ("http://hl7.org/fhir/us/core/CodeSystem/us-core-category", "sdoh"),
    ]),
];

/// The categories of a type.
pub(crate) fn categories(kind: &str) -> &'static [Category] {
    CATEGORIES.iter().find(|(one, _)| *one == kind).map_or(&[], |(_, all)| *all)
}

/// Has a resource one of these categories?
pub(crate) fn is_of(resource: &Value, categories: &[Category]) -> bool {
    let codings = list(resource, "/category").iter().flat_map(|one| list(one, "/coding"));
    let mut found = codings.map(|coding| (text(coding, "/system"), text(coding, "/code")));
    found.any(|one| categories.contains(&one))
}

impl Chart {
    /// What is in it of a type.
    pub(crate) fn of<'c>(&'c self, kind: &str) -> impl Iterator<Item = &'c (Made, Value)> {
        self.all.iter().filter(move |(made, _)| made.kind == kind)
    }
}

/// The charts; made by whoever asks first.
pub(crate) fn world(server: &Server) -> Result<&World, Stop> {
    let made = server.smart.world.get_or_init(|| Ok(World { own: chart(server)?, other: chart(server)? }));
    made.as_ref().map_err(Clone::clone)
}

fn chart(server: &Server) -> Result<Chart, Stop> {
    // Of letters alone: where names are typed, digits may be taken for a number.
    let letters = |c: char| if c.is_ascii_digit() { char::from(c as u8 - b'0' + b'g') } else { c };
    let family: String = unique("Smart").chars().filter(|c| *c != '-').map(letters).collect();
    let made = server
        .create(&json!({"resourceType": "Patient", "name": [{"family": family, "given": ["Ada"]}],
        "gender": "female", "birthDate": "1970-01-02"}))?;
    let subject = json!({"reference": made.reference()});
    let encounter = server
        .create(&json!({"resourceType": "Encounter", "status": "finished", "subject": subject,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}))?;
    let mut all = Vec::new();
    for (kind, categories) in CATEGORIES {
        // Two of each category, one of all of them, and one of none.
        let mut sets: Vec<&[Category]> = categories.chunks(1).chain(categories.chunks(1)).collect();
        sets.extend([*categories, &[]]);
        for (place, set) in sets.into_iter().enumerate() {
            let mut resource = resource(kind, set, &subject, place);
            if let ("Observation", Some(body)) = (*kind, resource.as_object_mut()) {
                body.insert("encounter".to_owned(), json!({"reference": encounter.reference()}));
            }
            all.push((server.create(&resource)?, resource));
        }
    }
    let own = all.iter().find(|(made, _)| made.kind == "Observation").map(|(made, _)| made.reference());
    let provenance = json!({"resourceType": "Provenance", "target": [{"reference": own.unwrap_or_default()}],
        "recorded": "2020-01-02T03:04:05Z", "agent": [{"who": {"display": "conformance"}}]});
    all.push((server.create(&provenance)?, provenance));
    Ok(Chart { patient: Patient { made, family }, encounter, all })
}

fn resource(kind: &str, categories: &[Category], subject: &Value, place: usize) -> Value {
    let category: Vec<Value> = categories
        .iter()
        .map(|(system, code)| json!({"coding": [{"system": system, "code": code}]}))
        .collect();
    let date = format!("2021-01-{:02}", place + 1);
    let mut body = match kind {
        "Condition" => {
            json!({"clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}, "onsetDateTime": date})
        }
        "Observation" => {
            json!({"status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "effectiveDateTime": date, "valueString": "conformance"})
        }
        "DiagnosticReport" => {
            json!({"status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "24323-8"}]}, "effectiveDateTime": date})
        }
        "DocumentReference" => {
            json!({"status": "current", "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
            "date": format!("{date}T00:00:00Z"), "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}]})
        }
        _ => {
            json!({"status": "active", "intent": "order", "code": {"coding": [{"system": "http://snomed.info/sct", "code": "104177005"}]}, "authoredOn": date})
        }
    };
    if let Some(body) = body.as_object_mut() {
        body.insert("resourceType".to_owned(), json!(kind));
        body.insert("subject".to_owned(), subject.clone());
        if !category.is_empty() {
            body.insert("category".to_owned(), json!(category));
        }
    }
    body
}
