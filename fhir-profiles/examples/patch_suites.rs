//! Runs the suites of FHIRPath Patch (HL7's XML) and JSON Patch (the list of `json-patch-tests`).
//!
//! `patch_suites FOLDER`

use std::io::Write;
use std::process::ExitCode;

use fhir::json::{Json, Limits, parse};
use fhir::patch::{FhirPathPatch, JsonPatch};
use fhir::xml;

fn main() -> std::io::Result<ExitCode> {
    let folder = std::env::args().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    let mut failed = count("FHIRPath Patch", fhirpath(&read("fhir-patch-tests.xml")))?;
    failed += count("JSON Patch", json(&read("json-patch-tests.json")))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what failed; says how many did. No case at all is a failure too.
fn count(suite: &str, results: Vec<(String, Result<(), String>)>) -> std::io::Result<usize> {
    let mut out = std::io::stdout();
    let all = results.len();
    let failed: Vec<_> =
        results.into_iter().filter_map(|(name, result)| Some((name, result.err()?))).collect();
    for (name, why) in &failed {
        writeln!(out, "{name}: {why}")?;
    }
    writeln!(out, "{suite}: {} of {all} cases pass", all - failed.len())?;
    Ok(failed.len() + usize::from(all == 0))
}

fn fhirpath(text: &str) -> Vec<(String, Result<(), String>)> {
    let cases = text.split("<case ").skip(1);
    cases
        .map(|case| (between(case, "name=\"", "\"").unwrap_or_default().to_owned(), fhirpath_case(case)))
        .collect()
}

fn fhirpath_case(case: &str) -> Result<(), String> {
    let resource = |tag: &str| -> Result<Json<'static>, String> {
        let text = between(case, &format!("<{tag}>"), &format!("</{tag}>")).ok_or(format!("no {tag}"))?;
        let read = xml::read(text.trim().as_bytes(), &Limits::default());
        read.map(Json::into_owned).map_err(|issues| format!("{tag}: {issues}"))
    };
    let patched = resource("diff").and_then(|diff| {
        let patch = FhirPathPatch::parse(&diff).map_err(|issues| issues.to_string())?;
        patch.apply(&resource("input")?).map_err(|issues| issues.to_string())
    });
    if case.contains("<error ") {
        return patched.map_or(Ok(()), |patched| Err(format!("not refused: {}", patched.to_text())));
    }
    same(&patched?.to_text(), &resource("output")?.to_text())
}

fn same(patched: &str, expected: &str) -> Result<(), String> {
    let value = |text: &str| {
        // In a narrative both mean the same quotation mark.
        let alike = text.replace("&quot;", "\\\"");
        serde_json::from_str::<serde_json::Value>(&alike).map_err(|error| error.to_string())
    };
    if value(patched)? == value(expected)? { Ok(()) } else { Err(format!("{patched} instead of {expected}")) }
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    text.split_once(from)?.1.split_once(to).map(|(found, _)| found)
}

fn json(text: &str) -> Vec<(String, Result<(), String>)> {
    let cases = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let cases = cases.as_array().cloned().unwrap_or_default();
    let judged = cases.iter().filter(|case| !case["disabled"].as_bool().unwrap_or(false));
    judged.map(|case| (case["comment"].as_str().unwrap_or("?").to_owned(), json_case(case))).collect()
}

fn json_case(case: &serde_json::Value) -> Result<(), String> {
    let (document, patch) = (case["doc"].to_string(), case["patch"].to_string());
    let document = parse(document.as_bytes(), &Limits::default()).map_err(|issues| issues.to_string())?;
    let patched = JsonPatch::parse(patch.as_bytes(), &Limits::default())
        .and_then(|patch| patch.apply_whole(&document, &Limits::default()));
    match (patched, case.get("expected")) {
        (Err(_), None) if case.get("error").is_some() => Ok(()),
        (Err(issues), _) => Err(issues.to_string()),
        (Ok(patched), Some(expected)) => same(&patched.to_text(), &expected.to_string()),
        (Ok(_), None) if case.get("error").is_none() => Ok(()),
        (Ok(patched), None) => Err(format!("not refused: {}", patched.to_text())),
    }
}
