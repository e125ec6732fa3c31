//! A RiskAssessment in plain words of JSON. Both APIs answer from the same resource, so their
//! numbers can't differ.

use fhir::json::Json;
use serde_json::{Map, Value, json};

use crate::scoring::terms;

/// The plain form of a RiskAssessment that scoring wrote.
pub(crate) fn prediction(resource: &Json) -> Value {
    let method = resource.at(&["method", "coding"]);
    let outputs: Vec<Value> = resource.list("prediction").iter().map(output).collect();
    let refused =
        outputs.iter().all(|output| output.get("fraction").is_none() && output.get("score").is_none());
    let mut out = Map::new();
    put_text(&mut out, "id", resource.text("id"));
    let patient = resource.at(&["subject", "reference"]).and_then(Json::as_str);
    put_text(&mut out, "patient", patient.map(|p| p.strip_prefix("Patient/").unwrap_or(p)));
    put_text(&mut out, "model", method.and_then(first).and_then(|coding| coding.text("code")));
    put_text(&mut out, "version", method.and_then(first).and_then(|coding| coding.text("version")));
    out.insert("result".into(), json!(if refused { "refused" } else { "scored" }));
    put_text(&mut out, "status", resource.text("status"));
    put_text(&mut out, "asOf", resource.text("occurrenceDateTime"));
    out.insert("outputs".into(), Value::Array(outputs));
    let basis = resource.list("basis").iter().map(|one| {
        let mut basis = Map::new();
        put_text(&mut basis, "reference", one.text("reference"));
        put_text(&mut basis, "input", one.text("display"));
        Value::Object(basis)
    });
    out.insert("basis".into(), basis.collect());
    out.insert("assumptions".into(), extensions(resource, terms::ASSUMED_INPUT).map(nested).collect());
    out.insert("issues".into(), extensions(resource, terms::INPUT_ISSUE).map(nested).collect());
    Value::Object(out)
}

fn first<'a, 'j>(list: &'a Json<'j>) -> Option<&'a Json<'j>> {
    list.items().first()
}

fn put_text(out: &mut Map<String, Value>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.insert(key.into(), json!(text));
    }
}

fn extensions<'a, 'j>(of: &'a Json<'j>, url: &'static str) -> impl Iterator<Item = &'a Json<'j>> {
    of.list("extension").iter().filter(move |one| one.text("url") == Some(url))
}

/// A JSON number exactly as the resource has it.
fn number(value: Option<&Json>) -> Value {
    value.and_then(Json::as_number).and_then(|n| n.parse().ok()).map_or(Value::Null, Value::Number)
}

/// A complex extension as an object: sub-extension urls become keys.
fn nested(extension: &Json) -> Value {
    let pairs = extension.list("extension").iter().filter_map(|part| {
        let (_, value) = part.as_object()?.iter().find(|(key, _)| key.starts_with("value"))?;
        let value = match value {
            Json::Number(_) => number(Some(value)),
            Json::Object(_) => json!(value.text("reference")?),
            other => json!(other.as_str()?),
        };
        Some((part.text("url")?.to_owned(), value))
    });
    Value::Object(pairs.collect())
}

fn output(prediction: &Json) -> Value {
    let mut out = Map::new();
    let codings = prediction.at(&["outcome", "coding"]).map_or(&[][..], Json::items);
    let ours = codings.iter().find(|coding| coding.text("system") == Some(terms::OUTPUT_SYSTEM));
    put_text(&mut out, "name", ours.and_then(|coding| coding.text("code")));
    put_text(&mut out, "outcome", prediction.at(&["outcome", "text"]).and_then(Json::as_str));
    if let Some(percent) = prediction.get("probabilityDecimal") {
        let fraction = prediction
            .get("_probabilityDecimal")
            .and_then(|element| extensions(element, terms::RISK_FRACTION).next())
            .and_then(|extension| extension.get("valueDecimal"));
        out.insert("fraction".into(), number(fraction));
        out.insert("percent".into(), number(Some(percent)));
    }
    if let Some(quantity) = extensions(prediction, terms::SCORE).next().and_then(|e| e.get("valueQuantity")) {
        out.insert("score".into(), number(quantity.get("value")));
        put_text(&mut out, "unit", quantity.text("code"));
    }
    if let Some(risk) = prediction.get("qualitativeRisk") {
        let code = risk.at(&["coding", "code"]).and_then(Json::as_str);
        put_text(&mut out, "risk", code);
        put_text(&mut out, "band", risk.text("text"));
    }
    put_text(&mut out, "from", prediction.at(&["whenPeriod", "start"]).and_then(Json::as_str));
    put_text(&mut out, "until", prediction.at(&["whenPeriod", "end"]).and_then(Json::as_str));
    let contributions: Vec<Value> = extensions(prediction, terms::CONTRIBUTION).map(nested).collect();
    if !contributions.is_empty() {
        let predictor = extensions(prediction, terms::LINEAR_PREDICTOR).next();
        out.insert("linearPredictor".into(), number(predictor.and_then(|e| e.get("valueDecimal"))));
        let baseline = extensions(prediction, terms::BASELINE).next();
        out.insert("baseline".into(), number(baseline.and_then(|e| e.get("valueDecimal"))));
        out.insert("contributions".into(), Value::Array(contributions));
    }
    put_text(&mut out, "rationale", prediction.text("rationale"));
    Value::Object(out)
}
