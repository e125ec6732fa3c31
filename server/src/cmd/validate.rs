//! `augury validate`: one OperationOutcome a file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fhir::outcome::Issues;
use serde_json::json;

use super::input;
use crate::http::request::LIMITS;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// FHIR JSON or NDJSON files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut wrong = false;
    for path in input::files(&arguments.paths)? {
        let mut all = Issues::default();
        input::texts(&path, |line, text| {
            let issues = match fhir::json::parse(text, &LIMITS) {
                Ok(resource) => {
                    let mut issues = fhir::validate::validate(&resource);
                    issues.0.extend(fhir::profile::check(&resource).0);
                    issues
                }
                Err(issues) => issues,
            };
            for mut issue in issues.0 {
                if line > 0 {
                    issue.details = format!("line {line}: {}", issue.details).into();
                }
                all.0.push(issue);
            }
            Ok(())
        })?;
        wrong |= all.has_error();
        let mut outcome = all.outcome();
        if let Some(object) = outcome.as_object_mut() {
            let source = json!([{"url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-file", "valueString": path.display().to_string()}]);
            object.insert("extension".into(), source);
        }
        writeln!(out, "{outcome}")?;
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
