//! What came of the checks: for people, for JUnit's readers, and as a FHIR TestReport.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::check::{Done, Stop};

/// Numbers of checks passed, failed, skipped.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    pub(crate) fn of<'d>(results: impl Iterator<Item = &'d Done>) -> Self {
        let mut counts = Self::default();
        for done in results {
            match done.outcome {
                Ok(()) => counts.passed += 1,
                Err(Stop::Fail(_)) => counts.failed += 1,
                Err(Stop::Skip(_)) => counts.skipped += 1,
            }
        }
        counts
    }
}

/// The first part of an id.
fn part(done: &Done) -> &str {
    done.check.id.split('/').next().unwrap_or_default()
}

/// Chapter by chapter what failed and what was skipped, and how many passed.
pub(crate) fn text(results: &[Done]) -> String {
    let mut out = String::new();
    let mut chapters: Vec<&str> = results.iter().map(part).collect();
    chapters.dedup();
    for chapter in chapters {
        let of = || results.iter().filter(|done| part(done) == chapter);
        let counts = Counts::of(of());
        let _ = writeln!(
            out,
            "{chapter}: {} passed, {} failed, {} skipped",
            counts.passed, counts.failed, counts.skipped
        );
        for done in of() {
            let check = &done.check;
            match &done.outcome {
                Ok(()) => {}
                Err(Stop::Fail(why)) => {
                    let _ = writeln!(out, "  FAIL {} ({}) {}: {why}", check.id, check.section, check.title);
                }
                Err(Stop::Skip(why)) => {
                    let _ = writeln!(out, "  skip {} ({}): {why}", check.id, check.section);
                }
            }
        }
    }
    let counts = Counts::of(results.iter());
    let took: f64 = results.iter().map(|done| done.took.as_secs_f64()).sum();
    let _ = writeln!(
        out,
        "{} passed, {} failed, {} skipped; {took:.1} s of checks",
        counts.passed, counts.failed, counts.skipped
    );
    out
}

/// JUnit's XML: a test suite for each chapter.
pub(crate) fn junit(name: &str, results: &[Done]) -> String {
    let mut suites: BTreeMap<&str, Vec<&Done>> = BTreeMap::new();
    for done in results {
        suites.entry(done.check.chapter()).or_default().push(done);
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"{}\">", escaped(name));
    for (chapter, all) in suites {
        let counts = Counts::of(all.iter().copied());
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            escaped(chapter),
            all.len(),
            counts.failed,
            counts.skipped
        );
        for done in all {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}: {}\" time=\"{:.3}\"",
                escaped(chapter),
                escaped(&done.check.id),
                escaped(&done.check.title),
                done.took.as_secs_f64()
            );
            let _ = match &done.outcome {
                Ok(()) => writeln!(out, "/>"),
                Err(Stop::Fail(why)) => {
                    writeln!(
                        out,
                        "><failure message=\"{}\">{}</failure></testcase>",
                        escaped(why),
                        done.check.section
                    )
                }
                Err(Stop::Skip(why)) => writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(why)),
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(' '),
            // No XML can have the others.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A FHIR R4 TestReport (<https://hl7.org/fhir/R4/testreport.html>).
pub(crate) fn test_report(name: &str, base: &str, results: &[Done]) -> String {
    let counts = Counts::of(results.iter());
    let test = |done: &Done| -> Value {
        let (result, message) = match &done.outcome {
            Ok(()) => ("pass", None),
            Err(Stop::Fail(why)) => ("fail", Some(why)),
            Err(Stop::Skip(why)) => ("skip", Some(why)),
        };
        let mut assert = json!({"result": result, "detail": done.check.address()});
        if let (Some(message), Some(assert)) =
            (message.filter(|message| !message.is_empty()), assert.as_object_mut())
        {
            // What a server sends may hold what no FHIR string has.
            let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            assert.insert("message".to_owned(), json!(message));
        }
        json!({"name": done.check.id, "description": done.check.title, "action": [{"assert": assert}]})
    };
    let ran = counts.passed + counts.failed;
    let score = (counts.passed * 10_000).checked_div(ran).unwrap_or(0);
    let report = json!({
        "resourceType": "TestReport",
        "name": name,
        "status": "completed",
        "testScript": {"display": "FHIR R4 conformance checks"},
        "result": if counts.failed == 0 { "pass" } else { "fail" },
        "score": serde_json::from_str::<Value>(&format!("{}.{:02}", score / 100, score % 100)).unwrap_or(Value::Null),
        "tester": "conformance",
        "issued": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "participant": [{"type": "server", "uri": base, "display": name}],
        "test": results.iter().map(test).collect::<Vec<_>>()
    });
    format!("{report:#}\n")
}
