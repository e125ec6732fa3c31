//! Holds the validator against files of known worth.
//!
//! `corpus examples FOLDER…`: every JSON file must be accepted, with the vital signs it claims to be,
//! and come back the same, numbers
//! digit for digit. `corpus bad FOLDER LIST`: every file that ought to be refused is, at the right
//! element, or stands in LIST (`file TAB reason`). `corpus bad FOLDER LIST --write` makes LIST anew.
//! `corpus specification FOLDER`: what `manifest.fixed.json` counts errors in is refused, the rest
//! accepted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fhir::conformance::claimed;
use fhir::json::{Json, Limits, parse};
use fhir::outcome::{Issues, Severity};
use fhir::profile::Profiles;
use fhir::validate::validate;
use fhir::xml::read;

/// A published example that breaks R4's own rules: its items have no linkId.
const KNOWN: [&str; 1] = ["Questionnaire-qs1.json"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["examples", folders @ ..] => examples(folders),
        ["specification", folder] => specification(Path::new(folder)),
        ["bad", folder, list] => bad(Path::new(folder), Path::new(list), false),
        ["bad", folder, list, "--write"] => bad(Path::new(folder), Path::new(list), true),
        _ => Err("usage: corpus examples FOLDER… | corpus bad FOLDER LIST [--write]".into()),
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

fn json_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            json_files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

fn examples(folders: &[&str]) -> Result<String, String> {
    let mut files = Vec::new();
    for folder in folders {
        json_files(Path::new(folder), &mut files)?;
    }
    let mut wrong = Vec::new();
    for path in &files {
        let text = std::fs::read(path).map_err(|e| e.to_string())?;
        let resource = match parse(&text, &Limits::default()) {
            Ok(resource) => resource,
            Err(issues) => {
                wrong.push(format!("{}: {issues}", path.display()));
                continue;
            }
        };
        if resource.get("resourceType").is_none() {
            continue;
        }
        let mut issues = validate(&resource);
        issues.0.extend(claimed(&resource, Profiles::built_in(), false).0);
        let known = KNOWN.iter().any(|name| path.ends_with(name));
        if issues.has_error() && !known {
            wrong.push(format!("{}: {}", path.display(), first(&issues)));
        }
        let again = resource.to_text();
        if parse(again.as_bytes(), &Limits::default()).as_ref() != Ok(&resource) {
            wrong.push(format!("{}: comes back changed", path.display()));
        }
    }
    if wrong.is_empty() {
        Ok(format!("{} files accepted and unchanged", files.len()))
    } else {
        Err(format!("{}\n{} of {} files", wrong.join("\n"), wrong.len(), files.len()))
    }
}

fn first(issues: &Issues) -> String {
    let errors = issues.0.iter().filter(|issue| issue.severity >= Severity::Error);
    errors
        .take(3)
        .map(|i| format!("{} {} {}", i.code, i.expression, i.details))
        .collect::<Vec<_>>()
        .join("; ")
}

/// What the field's reference validator found: element paths of its errors.
fn expected(outcome: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read(outcome) else { return Vec::new() };
    let Ok(outcome) = parse(&text, &Limits::default()) else { return Vec::new() };
    let errors =
        outcome.list("issue").iter().filter(|i| matches!(i.text("severity"), Some("error" | "fatal")));
    errors
        .flat_map(|i| i.list("expression").iter().filter_map(Json::as_str).map(plain).collect::<Vec<_>>())
        .collect()
}

/// A path without indices, slices, comments and choice types, to be compared across validators.
fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut skip = 0_u32;
    let mut bare = String::new();
    let mut rest = path;
    while let Some((before, comment)) = rest.split_once("/*") {
        bare.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    bare.push_str(rest);
    for c in bare.chars() {
        match c {
            '[' | '(' => skip += 1,
            ']' | ')' => skip = skip.saturating_sub(1),
            '/' if skip == 0 => break,
            c if skip == 0 => out.push(c),
            _ => {}
        }
    }
    out.replace(".ofType", "").replace(".resource", "").trim_matches('.').to_owned()
}

/// The same element, or one is the parent of the other: where a part is missing, some name the
/// whole and some the part.
fn near(found: &str, wanted: &str) -> bool {
    let parent = |path: &str| path.rsplit_once('.').map(|(parent, _)| parent.to_owned());
    found == wanted || parent(found).as_deref() == Some(wanted) || parent(wanted).as_deref() == Some(found)
}

fn bad(folder: &Path, list: &Path, write: bool) -> Result<String, String> {
    let index = std::fs::read_to_string(folder.join("index.csv")).map_err(|e| e.to_string())?;
    let mut accepted: BTreeMap<String, String> = BTreeMap::new();
    let (mut refused, mut total) = (0, 0);
    for row in index.lines().skip(1) {
        let fields = csv(row);
        let field = |n: usize| fields.get(n).map(String::as_str).unwrap_or_default();
        let (file, format, version) = (field(1), field(2), field(3));
        if !matches!(format, "json" | "xml") {
            continue;
        }
        total += 1;
        let errors: u32 = field(5).parse().unwrap_or(0);
        let text = std::fs::read(folder.join(file)).map_err(|e| format!("{file}: {e}"))?;
        // What can't be read has no elements: then the place in the text is what there is to say.
        // What XML itself rules out, such as an unknown element, has its element already.
        let (issues, readable) = match read_as(format, &text) {
            Ok(resource) => (validate(&resource), true),
            Err(issues) => {
                let located = format == "xml" && issues.0.iter().any(|i| i.expression.contains('.'));
                (issues, located)
            }
        };
        let wanted = expected(&folder.join(field(14)));
        let found = issues.0.iter().filter(|issue| issue.severity >= Severity::Error);
        let places: Vec<String> = found.map(|issue| plain(&issue.expression)).collect();
        let right = !readable
            || wanted.is_empty()
            || places.iter().any(|place| wanted.iter().any(|wanted| near(place, wanted)));
        if issues.has_error() && right {
            refused += 1;
            continue;
        }
        let reason = if issues.has_error() {
            format!("refused at another element: {}", first(&issues))
        } else if errors == 0 {
            "valid: the reference validator finds no error".to_owned()
        } else if !version.starts_with('4') {
            "written for another FHIR version".to_owned()
        } else if !field(12).is_empty() || !field(13).is_empty() || !field(11).is_empty() {
            "needs a profile, package or other resource".to_owned()
        } else if field(4) == "tx" || field(7).contains("code-invalid") || field(7).contains("not-found") {
            "needs a terminology server".to_owned()
        } else if field(7).contains("invariant") {
            "needs a FHIRPath invariant".to_owned()
        } else {
            format!(
                "not structural: {}",
                field(8).chars().take(100).collect::<String>().replace(['\t', '\n'], " ")
            )
        };
        accepted.insert(file.to_owned(), reason);
    }
    if write {
        // A reason somebody wrote is better than one made up here.
        let before = std::fs::read_to_string(list).unwrap_or_default();
        for (file, reason) in before.lines().filter_map(|line| line.split_once('\t')) {
            if let Some(made) = accepted.get_mut(file) {
                reason.clone_into(made);
            }
        }
        let lines: Vec<String> = accepted.iter().map(|(file, reason)| format!("{file}\t{reason}")).collect();
        std::fs::write(list, lines.join("\n") + "\n").map_err(|e| e.to_string())?;
    }
    let known = std::fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    let known: BTreeMap<&str, &str> = known.lines().filter_map(|line| line.split_once('\t')).collect();
    let missing: Vec<_> = accepted.iter().filter(|(file, _)| !known.contains_key(file.as_str())).collect();
    let stale: Vec<_> = known.keys().filter(|file| !accepted.contains_key(**file)).collect();
    if !stale.is_empty() {
        return Err(format!("on the list, but refused by now: {stale:#?}"));
    }
    if missing.is_empty() {
        Ok(format!("{total} files: {refused} refused at the right element, {} on the list", accepted.len()))
    } else {
        Err(format!("neither refused nor on the list: {missing:#?}"))
    }
}

/// Judged sound by the specification's own list, and yet not R4: `fhir_comments` and empty arrays
/// are from before it.
const BEFORE_R4: [&str; 5] = [
    "list-empty2.json",
    "list-extension1.json",
    "list-minimal.json",
    "list-xhtml-correct1.json",
    "list-xhtml-correct2.json",
];

/// What the list says of tests whose errors show only with a terminology server, the resources
/// referred to, or the questionnaire answered.
const BEYOND: [&str; 3] = ["tx-dependent", "validate", "questionnaire"];

fn specification(folder: &Path) -> Result<String, String> {
    let manifest = std::fs::read(folder.join("manifest.fixed.json")).map_err(|e| e.to_string())?;
    let manifest = parse(&manifest, &Limits::default()).map_err(|issues| issues.to_string())?;
    let tests = |format| manifest.at(&["validator-tests", format]).and_then(Json::as_object).into_iter();
    let tests = tests("Json").chain(tests("Xml"));
    let (mut refused, mut accepted, mut wrong) = (0, 0, Vec::new());
    for (file, expectation) in tests.flat_map(fhir::json::Object::iter) {
        if BEYOND.iter().any(|key| expectation.get(key).is_some()) {
            continue;
        }
        let Ok(text) = std::fs::read(folder.join(file)) else { continue };
        let format = file.rsplit('.').next().unwrap_or_default();
        let issues = read_as(format, &text).map_or_else(|issues| issues, |resource| validate(&resource));
        let bad = expectation.get("errorCount").and_then(Json::as_number) != Some("0");
        let old = BEFORE_R4.contains(&file);
        match (issues.has_error(), bad || old) {
            (true, true) => refused += 1,
            (false, false) => accepted += 1,
            (true, false) => wrong.push(format!("{file} is refused: {}", first(&issues))),
            (false, true) => wrong.push(format!("{file} is accepted")),
        }
    }
    if wrong.is_empty() && refused > 0 {
        Ok(format!("{refused} of the specification's own tests refused, {accepted} accepted"))
    } else {
        Err(wrong.join("\n"))
    }
}

fn read_as<'a>(format: &str, text: &'a [u8]) -> Result<Json<'a>, Issues> {
    if format == "xml" { read(text, &Limits::default()) } else { parse(text, &Limits::default()) }
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
