//! Our own profiles (`profiles/*.json`), enforced on what we write, and what no profile can say: that
//! the percentage and the fraction of a RiskAssessment are the same number.

use crate::json::Json;
use crate::outcome::{Issue, Issues};

const SOURCES: [&str; 5] = [
    include_str!("../../profiles/augury-risk-assessment.json"),
    include_str!("../../profiles/augury-device.json"),
    include_str!("../../profiles/augury-observation-input.json"),
    include_str!("../../profiles/augury-score.json"),
    include_str!("../../profiles/augury-provenance.json"),
];

const OPERATIONS: [&str; 16] = [
    include_str!("../../operations/Resource-validate.json"),
    include_str!("../../operations/Resource-meta.json"),
    include_str!("../../operations/Resource-meta-add.json"),
    include_str!("../../operations/Resource-meta-delete.json"),
    include_str!("../../operations/Patient-everything.json"),
    include_str!("../../operations/assess-risk.json"),
    include_str!("../../operations/replay.json"),
    include_str!("../../operations/verify.json"),
    include_str!("../../operations/proof.json"),
    include_str!("../../operations/accounting-of-disclosures.json"),
    include_str!("../../operations/webhook-secret.json"),
    include_str!("../../operations/dead-letters.json"),
    include_str!("../../operations/redeliver.json"),
    include_str!("../../operations/backport-subscription-status.json"),
    include_str!("../../operations/backport-subscription-events.json"),
    include_str!("../../operations/backport-subscription-get-ws-binding-token.json"),
];

const EXTENSIONS: [&str; 11] = [
    include_str!("../../profiles/extension-assumed-input.json"),
    include_str!("../../profiles/extension-contribution-baseline.json"),
    include_str!("../../profiles/extension-contribution.json"),
    include_str!("../../profiles/extension-data-time.json"),
    include_str!("../../profiles/extension-input-issue.json"),
    include_str!("../../profiles/extension-linear-predictor.json"),
    include_str!("../../profiles/extension-band-before.json"),
    include_str!("../../profiles/extension-risk-fraction.json"),
    include_str!("../../profiles/extension-score.json"),
    include_str!("../../profiles/extension-superseded-by.json"),
    include_str!("../../profiles/extension-supersedes.json"),
];

/// The definitions a server of these profiles and operations has to show: our profiles and
/// extensions, and every operation, HL7's own too. JSON texts.
pub fn definitions() -> impl Iterator<Item = &'static str> {
    SOURCES.into_iter().chain(EXTENSIONS).chain(OPERATIONS)
}

const RISK_FRACTION: &str = "https://augury.dev/fhir/StructureDefinition/risk-fraction";
const SCORE: &str = "https://augury.dev/fhir/StructureDefinition/score";
const DATA_ABSENT_REASON: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

/// What the addresses of our definitions begin with.
pub(super) const BASE: &str = "https://augury.dev/fhir/StructureDefinition/";

/// Our profiles and extensions. JSON texts.
pub(super) fn profiles() -> impl Iterator<Item = &'static str> {
    SOURCES.into_iter().chain(EXTENSIONS)
}

/// The profile that what a model made of that type has to conform to.
pub(crate) fn of_a_model(resource: &Json) -> Option<&'static str> {
    Some(match resource.text("resourceType")? {
        "RiskAssessment" => "https://augury.dev/fhir/StructureDefinition/augury-risk-assessment",
        "Observation" => "https://augury.dev/fhir/StructureDefinition/augury-score",
        "Provenance" => "https://augury.dev/fhir/StructureDefinition/augury-provenance",
        "Device" => "https://augury.dev/fhir/StructureDefinition/augury-device",
        _ => return None,
    })
}

/// The code system of models: what carries one of its codes says that a model made it.
pub const MODEL_SYSTEM: &str = "https://augury.dev/fhir/CodeSystem/model";

/// What the addresses of all that this server defines begin with.
pub const OWN: &str = "https://augury.dev/fhir/";

/// Does it say of itself that a model made it (an assessment, a score, their Provenance), that it is one
/// (a Device), or that it defines what these are?
pub fn is_of_a_model(resource: &Json) -> bool {
    let of_model = |concept: &Json| {
        concept.list("coding").iter().any(|coding| coding.text("system") == Some(MODEL_SYSTEM))
    };
    match resource.text("resourceType") {
        Some("RiskAssessment" | "Observation") => resource.get("method").is_some_and(of_model),
        Some("Device") => {
            resource.list("identifier").iter().any(|one| one.text("system") == Some(MODEL_SYSTEM))
        }
        Some("Provenance") => {
            resource.list("agent").iter().any(|agent| agent.list("role").iter().any(of_model))
        }
        Some("StructureDefinition" | "OperationDefinition") => {
            resource.text("url").is_some_and(|url| url.starts_with(OWN))
        }
        _ => false,
    }
}

/// What its profile asks of a RiskAssessment beyond what a StructureDefinition can say.
pub(super) fn further(resource: &Json) -> Issues {
    let predictions = match resource.text("resourceType") {
        Some("RiskAssessment") => resource.list("prediction"),
        _ => &[],
    };
    let found = predictions.iter().enumerate().filter_map(|(n, prediction)| {
        let details = number_or_reason(prediction)?;
        Some(Issue::error("required", details).at(format!("RiskAssessment.prediction[{n}]")))
    });
    Issues(found.collect())
}

/// A prediction has a percentage with its fraction, or a score, or says why it has no number; and
/// never a number beside a reason that there is none.
fn number_or_reason(prediction: &Json) -> Option<&'static str> {
    let beside = prediction.get("_probabilityDecimal");
    let has = |url: &str| beside.is_some_and(|beside| extension(beside, url).is_some());
    let (absent, fraction) = (has(DATA_ABSENT_REASON), has(RISK_FRACTION));
    match prediction.get("probabilityDecimal").and_then(Json::as_number) {
        Some(_) if absent => Some("a number, and a reason why there is none"),
        Some(_) if !fraction => Some("the percentage stands without its fraction"),
        Some(percent) => {
            let fraction = beside.and_then(|beside| extension(beside, RISK_FRACTION)?.get("valueDecimal"));
            let parsed = |text: &str| text.parse::<f64>().ok();
            let both = (parsed(percent), fraction.and_then(Json::as_number).and_then(parsed));
            // The percentage is rounded to four decimals.
            let agree = matches!(both, (Some(p), Some(f)) if (0.0..=1.0).contains(&f) && (p - f * 100.0).abs() < 1e-4);
            (!agree).then_some("the percentage and the fraction differ")
        }
        None if absent || extension(prediction, SCORE).is_some() => None,
        None => Some("neither a number nor a reason why there is none"),
    }
}

fn extension<'a, 'j>(element: &'a Json<'j>, url: &str) -> Option<&'a Json<'j>> {
    element.list("extension").iter().find(|one| one.text("url") == Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, parse};

    #[test]
    fn a_prediction_has_a_number_or_says_why_not() {
        let told = |prediction: &str| {
            let text = format!("{{{prediction}}}");
            number_or_reason(&parse(text.as_bytes(), &Limits::default()).unwrap())
        };
        let beside = |url: &str, value: &str| {
            format!(r#""_probabilityDecimal":{{"extension":[{{"url":"{url}",{value}}}]}}"#)
        };
        let absent = beside(DATA_ABSENT_REASON, r#""valueCode":"unknown""#);
        let number = |percent: &str, fraction: &str| {
            let fraction = beside(RISK_FRACTION, &format!(r#""valueDecimal":{fraction}"#));
            format!(r#""probabilityDecimal":{percent},{fraction}"#)
        };
        assert_eq!(told(&absent), None);
        assert_eq!(told(&number("12.3457", "0.123456789")), None);
        assert_eq!(told(&format!(r#""extension":[{{"url":"{SCORE}"}}]"#)), None);
        for wrong in [
            String::new(),
            r#""probabilityDecimal":1"#.to_owned(),
            format!(r#""probabilityDecimal":1,{absent}"#),
            r#""_probabilityDecimal":{"id":"x"}"#.to_owned(),
            r#""extension":[{"url":"http://x/contribution"}]"#.to_owned(),
            number("0.123", "0.123"),
            number("120", "1.2"),
        ] {
            assert!(told(&wrong).is_some(), "{wrong}");
        }
    }
}
