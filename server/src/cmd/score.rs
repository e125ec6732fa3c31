//! `augury score`: offline, from files, one RiskAssessment a line.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use chrono::{DateTime, Utc};
use clap::Args;
use models::{Model, PatientRecord, assess_batch};

use super::input;
use crate::app;
use crate::config::Config;
use crate::http::request::LIMITS;
use crate::scoring::assessment::{Framing, risk_assessment};
use crate::scoring::collect::Collection;

/// Patients scored in one tensor pass.
const BATCH: usize = 256;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// FHIR JSON files (resources, Bundles), NDJSON files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only this model (may be repeated); default: all that are on.
    #[arg(long, value_name = "ID")]
    model: Vec<String>,
    /// The moment asked for: a date or dateTime, or `latest`, each patient's newest Observation. Default: now.
    #[arg(long, value_name = "DATE")]
    as_of: Option<String>,
    /// Where to write (default: standard output).
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

enum AsOf {
    Moment(DateTime<Utc>),
    Latest(DateTime<Utc>),
}

impl AsOf {
    fn of(&self, record: &PatientRecord) -> DateTime<Utc> {
        match self {
            Self::Moment(at) => *at,
            Self::Latest(otherwise) => record.latest_observation().unwrap_or(*otherwise),
        }
    }
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let catalogue = super::runtime()?.block_on(app::load_active_catalogue(config))?;
    let settings = app::settings(config);
    let models: Vec<&Model> = if arguments.model.is_empty() {
        catalogue.active().map(AsRef::as_ref).collect()
    } else {
        let find = |id: &String| {
            catalogue.get(id).map(AsRef::as_ref).ok_or_else(|| anyhow::anyhow!("no model {id}"))
        };
        arguments.model.iter().map(find).collect::<Result<_, _>>()?
    };
    let as_of = match arguments.as_of.as_deref() {
        None => AsOf::Moment(Utc::now()),
        Some("latest") => AsOf::Latest(Utc::now()),
        Some(text) => AsOf::Moment(
            crate::scoring::moment_asked(text)
                .ok_or_else(|| anyhow::anyhow!("--as-of: `{text}` is no date"))?,
        ),
    };
    let began = Instant::now();
    let mut collection = Collection::new(&catalogue);
    let failed = read(arguments, &mut collection)?;
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(std::fs::File::create(path)?),
        None => Box::new(std::io::stdout()),
    };
    let mut out = BufWriter::with_capacity(1 << 18, out);
    let records = collection.records();
    let parsed = began.elapsed();
    let began = Instant::now();
    let bar = input::progress(records.len());
    for chunk in records.chunks(BATCH) {
        let asked: Vec<_> = chunk.iter().map(|record| (record, as_of.of(record))).collect();
        for assessments in assess_batch(&catalogue, &asked, &models, &settings) {
            for (assessment, model) in assessments.iter().zip(&models) {
                let framing = Framing {
                    reference_patient: &model.manifest.reference.description,
                    ..Framing::default()
                };
                serde_json::to_writer(&mut out, &risk_assessment(assessment, framing))?;
                out.write_all(b"\n")?;
            }
        }
        bar.inc(chunk.len() as u64);
    }
    out.flush()?;
    bar.finish_and_clear();
    let scored = began.elapsed();
    writeln!(
        std::io::stderr(),
        "{} patients, {} models: read in {:.2} s, scored and written in {:.2} s",
        records.len(),
        models.len(),
        parsed.as_secs_f64(),
        scored.as_secs_f64()
    )?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads every file; one that fails is told on stderr, the rest goes on.
fn read(arguments: &Arguments, collection: &mut Collection) -> anyhow::Result<usize> {
    let files = input::files(&arguments.paths)?;
    let bar = input::progress(files.len());
    let mut failed = 0;
    for path in &files {
        let result = input::texts(path, |line, text| {
            let taken = fhir::json::parse(text, &LIMITS).and_then(|resource| {
                let issues = fhir::validate::validate(&resource);
                if issues.has_error() { Err(issues) } else { collection.add(&resource) }
            });
            if let Err(issues) = taken {
                let place = if line == 0 { String::new() } else { format!(" line {line}") };
                bar.suspend(|| writeln!(std::io::stderr(), "{}{place}: {issues}", path.display()))?;
                failed += 1;
            }
            Ok(())
        });
        if let Err(error) = result {
            bar.suspend(|| writeln!(std::io::stderr(), "{}: {error:#}", path.display()))?;
            failed += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(failed)
}
