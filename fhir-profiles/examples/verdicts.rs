//! Holds the validator's verdict — is there an error? — against what the field's reference validator
//! said.
//!
//! `verdicts FOLDER LIST`: of the cases in FOLDER/index.csv that are R4 and need no package, support
//! file or terminology server, at least 95 % have to agree; those that do not stand in LIST
//! (`file TAB case TAB reason`).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use fhir::conformance::{Strict, findings};
use fhir::json::{Json, Limits, parse};
use fhir::outcome::{Issue, Issues, Severity};
use fhir::profile::Profiles;
use fhir::xml::read;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder, list] => verdicts(Path::new(folder), Path::new(list)),
        _ => Err("usage: verdicts FOLDER LIST".into()),
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

fn verdicts(folder: &Path, list: &Path) -> Result<String, String> {
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let manifest = text(&folder.join("manifest.subset.json"))?;
    let manifest = parse(manifest.as_bytes(), &Limits::default()).map_err(|issues| issues.to_string())?;
    let options: HashMap<&str, &Json> =
        manifest.list("test-cases").iter().filter_map(|one| Some((one.text("name")?, one))).collect();
    let (mut total, mut refused, mut other) = (0_u32, 0_u32, BTreeMap::new());
    for row in text(&folder.join("index.csv"))?.lines().skip(1) {
        let fields = csv(row);
        let field = |n: usize| fields.get(n).map(String::as_str).unwrap_or_default();
        let (name, file, format) = (field(0), field(1), field(2));
        let needs = !field(12).is_empty() || !field(13).is_empty() || field(4) == "tx";
        // Without an outcome there is nothing to agree with.
        if !field(3).starts_with('4') || needs || field(5).is_empty() {
            continue;
        }
        let wanted = field(5) != "0";
        let bytes = std::fs::read(folder.join(file)).map_err(|e| format!("{file}: {e}"))?;
        let case = options.get(name).copied();
        let mut issues = verdict(format, &bytes, strictness(case));
        issues.0.retain(|issue| !is_passed_over(issue, case));
        total += 1;
        if issues.has_error() == wanted {
            refused += u32::from(wanted);
        } else {
            let said = if wanted { field(8).chars().take(160).collect() } else { first(&issues) };
            other.insert((file.to_owned(), name.to_owned()), said);
        }
    }
    let known = text(list)?;
    let known: BTreeMap<(String, String), &str> = known
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some(((fields.next()?.to_owned(), fields.next()?.to_owned()), fields.next()?))
        })
        .collect();
    let unlisted: Vec<_> = other.iter().filter(|(case, _)| !known.contains_key(case)).collect();
    let stale: Vec<_> = known.keys().filter(|case| !other.contains_key(case)).collect();
    let agree = total - u32::try_from(other.len()).unwrap_or(total);
    let share = f64::from(agree) / f64::from(total.max(1)) * 100.0;
    let line = format!(
        "{agree} of {total} verdicts agree ({share:.1} %): {refused} with errors, {} without; {} on the list",
        agree - refused,
        known.len()
    );
    if !unlisted.is_empty() || !stale.is_empty() {
        return Err(format!("not on the list: {unlisted:#?}\non the list and agreeing: {stale:#?}\n{line}"));
    }
    if share < 95.0 { Err(line) } else { Ok(line) }
}

/// What the case asked the reference validator to be strict about. That one always refuses extensions
/// it does not know, and hyperlinks that lead nowhere.
fn strictness(case: Option<&Json>) -> Strict {
    let flag = |name: &str| case.and_then(|case| case.get(name)).and_then(Json::as_bool);
    Strict {
        extensions: true,
        links: true,
        html: flag("security-checks") == Some(true) || flag("noHtmlInMarkdown") == Some(true),
        examples: flag("examples") == Some(false),
    }
}

/// What the case told the reference validator to pass over: extensions of a domain, or what is contained.
fn is_passed_over(issue: &Issue, case: Option<&Json>) -> bool {
    let domain = case.and_then(|case| case.text("allowed-extension-domain"));
    let known = domain.is_some_and(|domain| issue.details.starts_with(&format!("the extension {domain}")));
    let ignored = case.and_then(|case| case.text("validateContains")) == Some("IGNORE");
    known || ignored && issue.expression.contains(".contained[")
}

fn verdict(format: &str, text: &[u8], strict: Strict) -> Issues {
    let limits = Limits::default();
    let all = |resource: Json<'_>| findings(&resource, Profiles::built_in(), &[], strict);
    match format {
        "xml" => read(text, &limits).map_or_else(|issues| issues, all),
        "ndjson" => {
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            Issues(lines.flat_map(|line| parse(line, &limits).map_or_else(|issues| issues, all).0).collect())
        }
        _ => parse(text, &limits).map_or_else(|issues| issues, all),
    }
}

fn first(issues: &Issues) -> String {
    let errors = issues.0.iter().filter(|issue| issue.severity >= Severity::Error);
    let shown: Vec<String> =
        errors.take(3).map(|i| format!("{} {} {}", i.code, i.expression, i.details)).collect();
    format!("we: {}", shown.join("; "))
}

fn csv(row: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in row.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}
