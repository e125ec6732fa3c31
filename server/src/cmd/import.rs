//! `augury import`: FHIR files into the store. A file's items already taken in are skipped by a
//! second run, so an interrupted import goes on where it ended.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use fhir::outcome::{Issue, Issues};
use sha2::{Digest, Sha256};
use store::Context;

use super::input;
use crate::app::{self, App};
use crate::config::Config;
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
    let mut journal = Journal::open(&config.data_dir)?;
    let bar = input::progress(files.len());
    let (mut taken, mut failed) = (0_usize, 0_usize);
    for path in &files {
        let result = input::texts(path, |line, text| {
            let digest = format!("{:x}", Digest256(Sha256::digest(text).into()));
            if journal.done.contains(&digest) {
                return Ok(());
            }
            match runtime.block_on(take(&app, text)) {
                Ok(count) => {
                    taken += count;
                    journal.add(digest)?;
                }
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

/// Stores one resource or Bundle; says how many resources that were.
async fn take(app: &Arc<App>, text: &[u8]) -> Result<usize, Issues> {
    let resource = fhir::json::parse(text, &LIMITS)?;
    let findings = fhir::validate::validate(&resource);
    if findings.has_error() {
        return Err(findings);
    }
    let context = Context::system("import", app::now());
    bundle::import(app, &context, resource).await.map(|written| written.len()).map_err(|failure| {
        if failure.issues.0.is_empty() {
            Issue::error("exception", "not stored").into()
        } else {
            failure.issues
        }
    })
}

/// Digests of the items taken in, one a line.
struct Journal {
    done: HashSet<String>,
    file: std::fs::File,
}

impl Journal {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("import.journal");
        let done = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { done, file })
    }

    fn add(&mut self, digest: String) -> anyhow::Result<()> {
        writeln!(self.file, "{digest}")?;
        self.done.insert(digest);
        Ok(())
    }
}

struct Digest256([u8; 32]);

impl std::fmt::LowerHex for Digest256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
