//! Our own profiles (`profiles/*.json`), enforced on what we write: the cardinalities of their
//! differentials, and that a RiskAssessment has a number or says why not.

use std::sync::LazyLock;

use crate::json::{Json, Limits, parse};
use crate::outcome::{Issue, Issues};

const SOURCES: [&str; 3] = [
    include_str!("../profiles/augury-risk-assessment.json"),
    include_str!("../profiles/augury-device.json"),
    include_str!("../profiles/augury-observation-input.json"),
];

const OPERATIONS: [&str; 7] = [
    include_str!("../operations/Resource-validate.json"),
    include_str!("../operations/Resource-meta.json"),
    include_str!("../operations/Resource-meta-add.json"),
    include_str!("../operations/Resource-meta-delete.json"),
    include_str!("../operations/Patient-everything.json"),
    include_str!("../operations/assess-risk.json"),
    include_str!("../operations/replay.json"),
];

const EXTENSIONS: [&str; 10] = [
    include_str!("../profiles/extension-assumed-input.json"),
    include_str!("../profiles/extension-contribution-baseline.json"),
    include_str!("../profiles/extension-contribution.json"),
    include_str!("../profiles/extension-data-time.json"),
    include_str!("../profiles/extension-input-issue.json"),
    include_str!("../profiles/extension-linear-predictor.json"),
    include_str!("../profiles/extension-risk-fraction.json"),
    include_str!("../profiles/extension-score.json"),
    include_str!("../profiles/extension-superseded-by.json"),
    include_str!("../profiles/extension-supersedes.json"),
];

/// The definitions a server of these profiles and operations has to show: our profiles and
/// extensions, and every operation, HL7's own too. JSON texts.
pub fn definitions() -> impl Iterator<Item = &'static str> {
    SOURCES.into_iter().chain(EXTENSIONS).chain(OPERATIONS)
}

const RISK_FRACTION: &str = "https://augury.dev/fhir/StructureDefinition/risk-fraction";
const SCORE: &str = "https://augury.dev/fhir/StructureDefinition/score";
const DATA_ABSENT_REASON: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

struct Profile {
    url: String,
    /// The type it is a profile of.
    of: String,
    /// Path below the resource, and how often it must be there.
    required: Vec<(Vec<String>, usize)>,
}

static PROFILES: LazyLock<Vec<Profile>> =
    LazyLock::new(|| SOURCES.iter().filter_map(|text| read(text)).collect());

fn read(text: &str) -> Option<Profile> {
    let definition = parse(text.as_bytes(), &Limits::default()).ok()?;
    let elements = definition.get("differential")?.list("element");
    let required = elements.iter().filter_map(|element| {
        let min = element.get("min")?.as_number()?.parse().ok().filter(|min| *min > 0)?;
        let (_, path) = element.text("path")?.split_once('.')?;
        Some((path.split('.').map(str::to_owned).collect(), min))
    });
    let (url, of) = (definition.text("url")?.to_owned(), definition.text("type")?.to_owned());
    Some(Profile { url, of, required: required.collect() })
}

/// The code system of models: what carries one of its codes says that a model made it.
pub const MODEL_SYSTEM: &str = "https://augury.dev/fhir/CodeSystem/model";

/// Does it say of itself that a model made it (an assessment, a score, their Provenance), or that it
/// is one (a Device)?
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
        _ => false,
    }
}

/// Findings of a resource against the profiles of ours that its `meta.profile` claims.
pub fn check(resource: &Json) -> Issues {
    let claimed = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
    let claimed = claimed.iter().filter_map(Json::as_str);
    Issues(claimed.filter_map(|url| check_against(resource, url)).flat_map(|found| found.0).collect())
}

/// Findings against one profile; none if it is not known.
pub fn check_against(resource: &Json, url: &str) -> Option<Issues> {
    let profile = PROFILES.iter().find(|known| known.url == url)?;
    let mut issues = Issues::default();
    let name = resource.text("resourceType").unwrap_or("Resource");
    if name != profile.of {
        let issue = Issue::error("invalid", format!("the profile is for {}", profile.of));
        issues.0.push(issue.at("resourceType"));
        return Some(issues);
    }
    for (path, min) in &profile.required {
        missing(resource, path, *min, &mut name.to_owned(), &mut issues);
    }
    if name == "RiskAssessment" {
        for (n, prediction) in resource.list("prediction").iter().enumerate() {
            let at = format!("RiskAssessment.prediction[{n}]");
            issues
                .0
                .extend(number_or_reason(prediction).map(|details| Issue::error("required", details).at(at)));
        }
    }
    Some(issues)
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

/// Every parent that is there must have the last step of the path.
fn missing(node: &Json, path: &[String], min: usize, at: &mut String, issues: &mut Issues) {
    if let Json::Array(items) = node {
        let length = at.len();
        for (n, item) in items.iter().enumerate() {
            at.push_str(&format!("[{n}]"));
            missing(item, path, min, at, issues);
            at.truncate(length);
        }
        return;
    }
    let Some((step, rest)) = path.split_first() else { return };
    let found = node.get(step);
    let length = at.len();
    at.push('.');
    at.push_str(step);
    if rest.is_empty() {
        let count = match found {
            None => 0,
            Some(Json::Array(items)) => items.len(),
            Some(_) => 1,
        };
        if count < min {
            issues.0.push(Issue::error("required", "our profile needs the element").at(at.clone()));
        }
    } else if let Some(found) = found {
        missing(found, rest, min, at, issues);
    }
    at.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_profile_needs_is_missed() {
        let url = "https://augury.dev/fhir/StructureDefinition/augury-risk-assessment";
        assert!(PROFILES.iter().any(|profile| profile.url == url));
        let text = format!(
            r#"{{"resourceType":"RiskAssessment","meta":{{"profile":["{url}"]}},"status":"final","prediction":[{{"outcome":{{"text":"x"}}}},{{}}]}}"#
        );
        let issues = check(&parse(text.as_bytes(), &Limits::default()).unwrap());
        let at: Vec<&str> = issues.0.iter().map(|issue| issue.expression.as_str()).collect();
        assert!(at.contains(&"RiskAssessment.method"), "{at:?}");
        assert!(at.contains(&"RiskAssessment.prediction[1].outcome"), "{at:?}");
        assert!(at.contains(&"RiskAssessment.prediction[0]"), "{at:?}");
    }
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
