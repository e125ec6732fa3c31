//! `augury import`: FHIR files into the store. A file's items already taken in are skipped by a
//! second run, so an interrupted import goes on where it ended.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use fhir::outcome::{Issue, Issues};
use sha2::{Digest, Sha256};
use store::Context;

use super::input;
use crate::app::{self, App};
use crate::config::Config;
use crate::http::failure::Failure;
use crate::http::request::LIMITS;
use crate::rest::bundle;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// FHIR JSON files (resources, Bundles), NDJSON files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let files = input::files(&arguments.paths)?;
    let runtime = super::runtime()?;
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let app = Arc::new(runtime.block_on(App::open(config.clone(), metrics))?);
    let context = super::context();
    let bar = input::progress(files.len());
    let (mut taken, mut failed) = (0_usize, 0_usize);
    for path in &files {
        let result = input::texts(path, |line, text| {
            match runtime.block_on(take(&app, &context, text)) {
                Ok(count) => taken += count,
                Err(issues) => {
                    failed += 1;
                    let place = if line == 0 { String::new() } else { format!(" line {line}") };
                    bar.suspend(|| writeln!(std::io::stderr(), "{}{place}: {issues}", path.display()))?;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            failed += 1;
            bar.suspend(|| writeln!(std::io::stderr(), "{}: {error:#}", path.display()))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    writeln!(std::io::stdout(), "{taken} resources taken in, {failed} items refused")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stores one resource or Bundle, unless that was done before; says how many resources that were.
async fn take(app: &Arc<App>, given: &Context, text: &[u8]) -> Result<usize, Issues> {
    let context = Context { at: app::now(), ..given.clone() };
    let failed = |failure: Failure| match failure.issues {
        issues if issues.0.is_empty() => Issue::error("exception", "not stored").into(),
        issues => issues,
    };
    let digest = format!("{:x}", Digest256(Sha256::digest(text).into()));
    let asked = digest.clone();
    let known = app.store.reading(&context, move |reader| reader.is_taken(&asked)).await;
    if known.map_err(|error| failed(error.into()))? {
        return Ok(0);
    }
    let resource = fhir::json::parse(text, &LIMITS)?;
    let mut findings = fhir::validate::validate(&resource);
    findings.0.extend(app.claims.check(&resource).0);
    if findings.has_error() {
        return Err(findings);
    }
    bundle::import(app, &context, resource, Some(digest)).await.map(|written| written.len()).map_err(failed)
}

struct Digest256([u8; 32]);

impl std::fmt::LowerHex for Digest256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
