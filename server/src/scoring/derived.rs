//! A score that is no probability, as an Observation: what an EMR can chart.

use models::Assessment;
use models::manifest::{OutputKind, OutputSpec};
use serde_json::{Map, Value, json};

use super::assessment::{device_id, moment};
use super::terms;

/// The Observation of a score model's result, derived from its inputs; none for models that
/// predict probabilities, or where there is no number.
pub(crate) fn observation(assessment: &Assessment) -> Option<Value> {
    let scored = assessment.scored()?;
    let main =
        scored.outputs.iter().find(|output| output.spec.reported && output.spec.kind == OutputKind::Score)?;
    let time = assessment.data_time().unwrap_or(assessment.as_of);
    let mut sources: Vec<&str> = assessment
        .used
        .iter()
        .flat_map(|input| input.references.iter().map(AsRef::as_ref))
        .filter(|reference: &&str| reference.starts_with("Observation/"))
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let components: Vec<Value> = scored
        .outputs
        .iter()
        .filter(|output| output.spec.kind == OutputKind::Component)
        .map(|output| json!({"code": concept(&output.spec), "valueQuantity": quantity(&output.spec, output.value)}))
        .collect();
    let mut out = Map::new();
    out.insert("resourceType".into(), json!("Observation"));
    out.insert("status".into(), json!(if scored.preliminary { "preliminary" } else { "final" }));
    out.insert(
        "category".into(),
        json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey"}]}]),
    );
    out.insert("code".into(), concept(&main.spec));
    if let Some(patient) = assessment.patient.as_deref() {
        out.insert("subject".into(), json!({"reference": patient}));
    }
    out.insert("effectiveDateTime".into(), json!(moment(time)));
    out.insert("issued".into(), json!(moment(assessment.as_of)));
    out.insert("valueQuantity".into(), quantity(&main.spec, main.value));
    if let Some(band) = &main.band {
        out.insert("interpretation".into(), json!([{"text": band.label}]));
    }
    out.insert(
        "method".into(),
        json!({"coding": [{
            "system": terms::MODEL_SYSTEM, "version": assessment.model.version, "code": assessment.model.id,
        }]}),
    );
    out.insert("device".into(), json!({"reference": format!("Device/{}", device_id(&assessment.model))}));
    if !sources.is_empty() {
        let derived = sources.iter().map(|source| json!({"reference": source}));
        out.insert("derivedFrom".into(), derived.collect());
    }
    if !components.is_empty() {
        out.insert("component".into(), Value::Array(components));
    }
    Some(Value::Object(out))
}

fn concept(spec: &OutputSpec) -> Value {
    let mut coding: Vec<Value> = spec
        .coding
        .iter()
        .map(|one| json!({"system": one.system, "code": one.code, "display": one.display}))
        .collect();
    coding.push(json!({"system": terms::OUTPUT_SYSTEM, "code": spec.key}));
    json!({"coding": coding, "text": spec.title})
}

fn quantity(spec: &OutputSpec, value: f64) -> Value {
    let unit = spec.unit.as_deref().unwrap_or("1");
    json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit})
}
