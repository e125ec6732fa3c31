//! Holds the profile validator against a package and its own examples.
//!
//! `package DEFINITIONS EXAMPLES MUTANTS`: every JSON file of EXAMPLES has to conform to the profiles it
//! claims, with those of DEFINITIONS known; every line of MUTANTS (`file TAB JSON Patch TAB element TAB
//! what`) has to be refused at that element or below it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fhir::conformance::claimed;
use fhir::json::{Json, Limits, parse};
use fhir::outcome::{Issues, Severity};
use fhir::patch::JsonPatch;
use fhir::profile::Profiles;
use fhir::validate::validate;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [definitions, examples, mutants] => {
            check(Path::new(definitions), Path::new(examples), Path::new(mutants))
        }
        _ => Err("usage: package DEFINITIONS EXAMPLES MUTANTS".into()),
    };
    match result {
        Ok(line) => {
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn check(definitions: &Path, examples: &Path, mutants: &Path) -> Result<String, String> {
    let mut profiles = Profiles::new();
    for path in files(definitions)? {
        let text = text(&path)?;
        profiles.add(&parse(&text, &Limits::default()).map_err(|issues| issues.to_string())?);
    }
    let (mut wrong, mut count, mut claims) = (Vec::new(), 0, BTreeSet::new());
    for path in files(examples)? {
        let text = text(&path)?;
        let resource = parse(&text, &Limits::default()).map_err(|issues| issues.to_string())?;
        let claimed = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
        claims.extend(
            claimed.iter().filter_map(Json::as_str).filter(|url| profiles.knows(url)).map(str::to_owned),
        );
        let issues = all(&resource, &profiles);
        count += 1;
        if issues.has_error() {
            wrong.push(format!("{}: {}", path.display(), errors(&issues)));
        }
    }
    let list = String::from_utf8(text(mutants)?).map_err(|e| e.to_string())?;
    let mut refused = 0;
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, patch, element, what] = fields.as_slice() else {
            return Err(format!("not four fields: {line}"));
        };
        let text = text(&examples.join(file))?;
        let resource = parse(&text, &Limits::default()).map_err(|issues| issues.to_string())?;
        let patched = JsonPatch::parse(patch.as_bytes(), &Limits::default())
            .and_then(|patch| patch.apply(&resource, &Limits::default()))
            .map_err(|issues| format!("{file}: {issues}"))?;
        let issues = all(&patched, &profiles);
        let named = issues
            .0
            .iter()
            .any(|issue| issue.severity >= Severity::Error && issue.expression.starts_with(element));
        refused += u32::from(named);
        if !named {
            wrong.push(format!("{file} with {what} ({element}): {}", errors(&issues)));
        }
    }
    let line = format!(
        "{count} examples conform to the {} profiles they claim; {refused} mutants refused at their element",
        claims.len()
    );
    if wrong.is_empty() && count > 0 && refused > 0 { Ok(line) } else { Err(wrong.join("\n")) }
}

fn all(resource: &Json, profiles: &Profiles) -> Issues {
    let mut issues = validate(resource);
    issues.0.extend(claimed(resource, profiles, true).0);
    issues
}

fn errors(issues: &Issues) -> String {
    let errors = issues.0.iter().filter(|issue| issue.severity >= Severity::Error);
    errors.take(3).map(|one| format!("{} {}", one.expression, one.details)).collect::<Vec<_>>().join("; ")
}

fn text(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "json"));
    found.sort();
    Ok(found)
}
