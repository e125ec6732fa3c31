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

struct Profile {
    url: String,
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
    Some(Profile { url: definition.text("url")?.to_owned(), required: required.collect() })
}

/// Findings of a resource against a profile of ours; a profile that is not ours is not checked.
pub fn check(resource: &Json, profile: &str) -> Issues {
    let mut issues = Issues::default();
    let name = resource.text("resourceType").unwrap_or("Resource");
    for profile in PROFILES.iter().filter(|known| known.url == profile) {
        for (path, min) in &profile.required {
            missing(resource, path, *min, &mut name.to_owned(), &mut issues);
        }
    }
    if name == "RiskAssessment" {
        for (n, prediction) in resource.list("prediction").iter().enumerate() {
            let reason = prediction.get("_probabilityDecimal").is_some();
            let score = !prediction.list("extension").is_empty();
            if prediction.get("probabilityDecimal").is_none() && !reason && !score {
                let issue = Issue::error("required", "neither a number nor a reason why there is none");
                issues.0.push(issue.at(format!("RiskAssessment.prediction[{n}]")));
            }
        }
    }
    issues
}

/// Every parent that is there must have the last step of the path.
fn missing(node: &Json, path: &[String], min: usize, at: &mut String, issues: &mut Issues) {
    if let Json::Array(items) = node {
        for item in items {
            missing(item, path, min, at, issues);
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
        let text = r#"{"resourceType":"RiskAssessment","status":"final","prediction":[{"outcome":{"text":"x"}},{}]}"#;
        let issues = check(&parse(text.as_bytes(), &Limits::default()).unwrap(), url);
        let at: Vec<&str> = issues.0.iter().map(|issue| issue.expression.as_str()).collect();
        assert!(at.contains(&"RiskAssessment.method"), "{at:?}");
        assert!(at.contains(&"RiskAssessment.prediction.outcome"), "{at:?}");
        assert!(at.contains(&"RiskAssessment.prediction[0]"), "{at:?}");
    }
}
