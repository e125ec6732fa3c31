//! `augury validate`: one OperationOutcome a file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fhir::conformance::{self, Strict};
use fhir::outcome::Issues;
use serde_json::json;

use super::input;
use crate::config::Config;
use crate::http::request::LIMITS;
use crate::packages;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// FHIR JSON or NDJSON files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A FHIR package whose profiles are known, a .tgz or a folder; besides those of the settings.
    #[arg(long = "package", value_name = "PATH")]
    packages: Vec<PathBuf>,
    /// A profile every resource has to conform to, besides those it claims.
    #[arg(long = "profile", value_name = "URL")]
    profiles: Vec<String>,
    /// Refuse too what FHIR allows and is hardly meant: extensions nobody defines, HTML in text, addresses of
    /// examples, dead links.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let packages: Vec<PathBuf> = config.packages.iter().chain(&arguments.packages).cloned().collect();
    let profiles = packages::load(&packages)?;
    if let Some(unknown) = arguments.profiles.iter().find(|url| !profiles.knows(url)) {
        anyhow::bail!("the profile {unknown} is in no package");
    }
    let strict = if arguments.strict { Strict::ALL } else { Strict::default() };
    let mut wrong = false;
    for path in input::files(&arguments.paths)? {
        let mut all = Issues::default();
        input::texts(&path, |line, text| {
            let issues = match fhir::json::parse(text, &LIMITS) {
                Ok(resource) => conformance::findings(&resource, &profiles, &arguments.profiles, strict),
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
