//! Vectors: named inputs with the outputs they must give.

use fhir::json::Json;
use fhir::outcome::{Issue, Issues};

use crate::bundle::Model;
use crate::catalogue::Catalogue;
use crate::named::{NamedInputs, compute};

/// Where a file states no tolerance.
const TOLERANCE: f64 = 1e-9;

/// How a model did on a file of vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalReport {
    /// Vectors evaluated.
    pub count: usize,
    /// Values compared.
    pub values: usize,
    /// Largest difference among values without a tolerance of their own (`decimals`, `tolerance`).
    pub max_abs_difference: f64,
    /// `ID of the vector: what is wrong`, one each.
    pub failures: Vec<String>,
}

/// Evaluates the active (else the newest) version of a model on a file in the form
/// `{"absolute_tolerance": 1e-12, "vectors": [{"id", "inputs", "expected", "tolerance"?, "decimals"?}]}`.
///
/// # Errors
/// Not in that form, or no such model.
pub fn eval(catalogue: &Catalogue, id: &str, vectors: &Json) -> Result<EvalReport, Issues> {
    let model = catalogue.get(id).or_else(|| catalogue.newest(id));
    let model = model.ok_or_else(|| Issue::error("not-found", format!("no model {id}")))?;
    evaluate(Some(catalogue), model, vectors)
}

/// As [`eval`], for a bundle on its own.
pub(crate) fn run(model: &Model, vectors: &Json) -> Result<EvalReport, Issues> {
    evaluate(None, model, vectors)
}

fn evaluate(catalogue: Option<&Catalogue>, model: &Model, vectors: &Json) -> Result<EvalReport, Issues> {
    let rows = vectors
        .get("vectors")
        .filter(|v| matches!(v, Json::Array(_)))
        .ok_or_else(|| Issue::error("structure", "no array `vectors`"))?
        .items();
    let general = number(vectors.get("absolute_tolerance")).unwrap_or(TOLERANCE);
    let mut inputs = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let located = |mut issues: Issues| {
            for issue in &mut issues.0 {
                issue.expression = format!("vectors[{at}].inputs.{}", issue.expression);
            }
            issues
        };
        inputs.push(NamedInputs::from_json(row.get("inputs").unwrap_or(&Json::Null)).map_err(located)?);
    }
    let mut report = EvalReport { count: rows.len(), ..EvalReport::default() };
    for ((at, row), found) in rows.iter().enumerate().zip(compute(catalogue, &inputs, model)) {
        let name = row.text("id").map_or_else(|| format!("vector {at}"), str::to_owned);
        let found = match found {
            Ok(found) => found,
            Err(issues) => {
                let why = issues.iter().find(|i| i.refuses).map_or("", |i| i.details.as_str());
                report.failures.push(format!("{name}: no number: {why}"));
                continue;
            }
        };
        let own = number(row.get("tolerance")).or_else(|| {
            // A figure printed with so many decimals may be half of the last one off, and a hair.
            let decimals: i32 = row.get("decimals")?.as_number()?.parse().ok()?;
            Some(0.5 * 10f64.powi(-decimals) * (1.0 + 1e-9))
        });
        let mut expected = Vec::new();
        flatten("", row.get("expected").unwrap_or(&Json::Null), &mut expected);
        if expected.is_empty() {
            report.failures.push(format!("{name}: nothing is expected"));
        }
        for (key, value) in expected {
            let (Some(want), Some(got)) = (value, found.get(&key)) else {
                report.failures.push(format!("{name}: no output {key}"));
                continue;
            };
            let difference = (want - got).abs();
            report.values += 1;
            if own.is_none() {
                report.max_abs_difference = report.max_abs_difference.max(difference);
            }
            if difference.is_nan() || difference > own.unwrap_or(general) {
                report.failures.push(format!("{name}: {key} is {got}, expected {want}"));
            }
        }
    }
    Ok(report)
}

fn number(json: Option<&Json>) -> Option<f64> {
    json?.as_number()?.parse().ok()
}

/// Nested members by dotted name; yes is 1 and no is 0.
fn flatten(prefix: &str, json: &Json, out: &mut Vec<(String, Option<f64>)>) {
    let Some(object) = json.as_object() else { return };
    for (key, value) in object.iter() {
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            Json::Object(_) => flatten(&name, value, out),
            Json::Bool(yes) => out.push((name, Some(if *yes { 1.0 } else { 0.0 }))),
            other => out.push((name, number(Some(other)))),
        }
    }
}
