//! HL7's vital signs profiles (<https://hl7.org/fhir/R4/observation-vitalsigns.html>): which
//! Observation has to conform to which.

use crate::json::Json;

const BASE: &str = "http://hl7.org/fhir/StructureDefinition/";

/// Profile, its LOINC code, and the SNOMED CT concept of the same measurement.
const TABLE: [(&str, &str, &str); 10] = [
    ("http://hl7.org/fhir/StructureDefinition/vitalspanel", "85353-1", ""),
    ("http://hl7.org/fhir/StructureDefinition/resprate", "9279-1", "86290005"),
    ("http://hl7.org/fhir/StructureDefinition/heartrate", "8867-4", "364075005"),
    ("http://hl7.org/fhir/StructureDefinition/oxygensat", "2708-6", "431314004"),
    ("http://hl7.org/fhir/StructureDefinition/bodytemp", "8310-5", "276885007"),
    ("http://hl7.org/fhir/StructureDefinition/bodyheight", "8302-2", "50373000"),
    ("http://hl7.org/fhir/StructureDefinition/headcircum", "9843-4", "363812007"),
    ("http://hl7.org/fhir/StructureDefinition/bodyweight", "29463-7", "27113001"),
    ("http://hl7.org/fhir/StructureDefinition/bmi", "39156-5", "60621009"),
    ("http://hl7.org/fhir/StructureDefinition/bp", "85354-9", "75367002"),
];

/// Is it one of the vital signs profiles?
pub(crate) fn is_one(url: &str) -> bool {
    url.strip_prefix(BASE) == Some("vitalsigns") || TABLE.iter().any(|(own, ..)| *own == url)
}

/// The profile of what an Observation measures, by its code.
pub(crate) fn profile(resource: &Json) -> Option<&'static str> {
    if resource.text("resourceType") != Some("Observation") {
        return None;
    }
    let codings = resource.get("code")?.list("coding");
    TABLE.iter().find_map(|(url, loinc, snomed)| {
        let is = |coding: &Json| match (coding.text("system"), coding.text("code")) {
            (Some("http://loinc.org"), Some(code)) => code == *loinc,
            (Some("http://snomed.info/sct"), Some(code)) => code == *snomed,
            _ => false,
        };
        codings.iter().any(is).then_some(*url)
    })
}
