//! A black-box runner against any FHIR R4 server: what the specification asks of it, each check with
//! the section it comes from. What the server does not claim in its CapabilityStatement is skipped.
//!
//!     cargo run -p conformance -- --base http://127.0.0.1:8080/fhir

mod bundles;
mod capability;
mod check;
mod conditional;
mod deletion;
mod element;
mod errors;
mod formats;
mod history;
mod http;
mod operations;
mod patch;
mod report;
mod requirements;
mod search;
mod server;
mod smart;
mod subscriptions;
mod table;
mod types;
mod us_core;
mod validation;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use check::Check;
use server::Server;

/// Checks a FHIR R4 server from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Base address of the server, e.g. `http://127.0.0.1:8080/fhir`.
    #[arg(long, required_unless_present_any = ["list", "table"])]
    base: Option<String>,
    /// Bearer token, if the server wants one.
    #[arg(long)]
    token: Option<String>,
    /// Only checks whose id begins so.
    #[arg(long, default_value = "")]
    only: String,
    /// What the server is called in the reports.
    #[arg(long)]
    name: Option<String>,
    /// Checks at the same time.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Also writes a JUnit report.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also writes a FHIR TestReport.
    #[arg(long, value_name = "FILE")]
    test_report: Option<PathBuf>,
    /// Prints all checks: id, section, title, and the requirements they hold; asks no server.
    #[arg(long)]
    list: bool,
    /// Prints a table of the results in these TestReports; asks no server.
    #[arg(long, value_name = "TEST_REPORT", num_args = 1..)]
    table: Option<Vec<PathBuf>>,
    #[command(flatten)]
    smart: smart::Options,
    #[command(flatten)]
    subscriptions: subscriptions::Options,
}

/// Every check, by chapter.
fn all() -> Vec<Check> {
    let chapters = [
        capability::checks(),
        http::checks(),
        deletion::checks(),
        conditional::checks(),
        errors::checks(),
        formats::checks(),
        bundles::checks(),
        patch::checks(),
        history::checks(),
        search::checks(),
        validation::checks(),
        operations::checks(),
        us_core::checks(),
        types::checks(),
        smart::checks(),
        subscriptions::checks(),
    ];
    chapters.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    // Another was chosen already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
fn run(arguments: Arguments) -> Result<bool, String> {
    let mut out = std::io::stdout().lock();
    let mut print = |text: &str| out.write_all(text.as_bytes()).map_err(|e| e.to_string());
    let mut checks = all();
    checks.retain(|check| check.id.starts_with(&arguments.only));
    if arguments.list {
        let line = |one: &Check| {
            let held = requirements::of(&one.id).join(" ");
            format!("{}\t{}\t{}\t{held}\n", one.id, one.section, one.title)
        };
        return print(&checks.iter().map(line).collect::<String>()).map(|()| true);
    }
    if let Some(files) = arguments.table {
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))
        };
        let reports = files.iter().map(read).collect::<Result<Vec<_>, String>>()?;
        return print(&table::markdown(&checks, &reports)).map(|()| true);
    }
    let base = arguments.base.unwrap_or_default();
    let smart = smart::Smart::new(arguments.smart)?;
    let subscriptions = subscriptions::Subscriptions::new(arguments.subscriptions);
    let server = Server::new(&base, arguments.token, smart, subscriptions)?;
    let name = arguments.name.unwrap_or_else(|| server.software().to_owned());
    let results = check::run(&server, checks, arguments.threads.max(1));
    print(&report::text(&results))?;
    let write = |file: Option<&Path>, text: String| match file {
        Some(file) => std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display())),
        None => Ok(()),
    };
    write(arguments.junit.as_deref(), report::junit(&name, &results))?;
    write(arguments.test_report.as_deref(), report::test_report(&name, &base, &results))?;
    Ok(results.iter().all(|result| !result.failed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_an_id_of_its_own_and_a_section() {
        let checks = all();
        let mut ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
        ids.sort_unstable();
        let before = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), before);
        for check in &checks {
            let fits = check
                .section
                .split_once('#')
                .is_some_and(|(page, anchor)| page.contains(".html") && !anchor.is_empty());
            assert!(fits && !check.title.is_empty(), "{}: {}", check.id, check.section);
        }
    }

    #[test]
    fn each_requirement_is_checked() {
        let checks = all();
        for one in requirements::all() {
            for prefix in one.checks {
                assert!(checks.iter().any(|check| check.id.starts_with(prefix)), "{}: {prefix}", one.id);
            }
        }
    }

    #[test]
    fn the_table_names_every_check() {
        let table = include_str!("../README.md");
        for check in all() {
            let shown = match check.id.strip_prefix("types/") {
                Some(rest) => format!("| {} |", rest.split('/').next().unwrap_or_default()),
                None => format!("`{}`", check.id),
            };
            assert!(table.contains(&shown), "{} is not in README.md: `just conformance-table`", check.id);
        }
    }
}
