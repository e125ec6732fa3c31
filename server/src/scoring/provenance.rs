//! Where an assessment comes from (<https://hl7.org/fhir/R4/provenance.html>).

use models::Assessment;
use serde_json::{Value, json};

use super::assessment::{device_id, moment};
use super::terms;

/// Says that the model's Device assembled `targets` (versioned references) from its inputs.
pub(crate) fn provenance(assessment: &Assessment, targets: &[String]) -> Value {
    let mut sources: Vec<&str> =
        assessment.used.iter().flat_map(|input| input.references.iter().map(AsRef::as_ref)).collect();
    sources.sort_unstable();
    sources.dedup();
    let mut provenance = json!({
        "resourceType": "Provenance",
        "target": targets.iter().map(|target| json!({"reference": target})).collect::<Vec<_>>(),
        "recorded": moment(assessment.as_of),
        "activity": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": "CREATE"}]},
        "agent": [{
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "assembler"}]},
            "role": [{"coding": [{
                "system": terms::MODEL_SYSTEM, "version": assessment.model.version, "code": assessment.model.id,
            }]}],
            "who": {"reference": format!("Device/{}", device_id(&assessment.model))}
        }]
    });
    if let (false, Some(object)) = (sources.is_empty(), provenance.as_object_mut()) {
        let entity = sources.iter().map(|source| json!({"role": "source", "what": {"reference": source}}));
        object.insert("entity".into(), entity.collect());
    }
    provenance
}
