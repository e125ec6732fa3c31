//! `augury models …`: what is there, whether it reproduces its vectors, what is in use.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use models::{Catalogue, NamedInputs, compute_named, eval};
use serde_json::json;
use store::{Activate, Commit};

use crate::app;
use crate::config::Config;
use crate::http::request::LIMITS;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Every model and version; `*` marks the one in use.
    List,
    /// One model: its card and what it reads.
    Show {
        /// Model id.
        id: String,
    },
    /// Load a bundle from a folder; it must reproduce its own vectors.
    Check {
        /// The bundle's folder.
        path: PathBuf,
    },
    /// Check a bundle and copy it to the data folder.
    Install {
        /// The bundle's folder.
        path: PathBuf,
    },
    /// Put a version in use.
    Activate {
        /// ID@VERSION
        model: String,
    },
    /// Evaluate a model on vectors, or on named inputs.
    Eval {
        /// Model id.
        id: String,
        /// JSON file of inputs with expected outputs.
        #[arg(long, value_name = "FILE", required_unless_present = "inputs", conflicts_with = "inputs")]
        vectors: Option<PathBuf>,
        /// JSON lines of named inputs; prints one result a line.
        #[arg(long, value_name = "FILE")]
        inputs: Option<PathBuf>,
    },
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    let mut catalogue = super::runtime()?.block_on(app::load_active_catalogue(config))?;
    match action {
        Action::List => list(&catalogue),
        Action::Show { id } => show(&catalogue, &id),
        Action::Check { path } => {
            let model = catalogue.add_folder(&path)?;
            let identity = &model.identity;
            writeln!(
                std::io::stdout(),
                "{} {} sha256:{} ok",
                identity.id,
                identity.version,
                identity.sha256
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Install { path } => install(config, &mut catalogue, &path),
        Action::Activate { model } => activate(config, &mut catalogue, &model),
        Action::Eval { id, vectors: Some(path), .. } => evaluate(&catalogue, &id, &path),
        Action::Eval { id, inputs: Some(path), .. } => compute(&catalogue, &id, &path),
        Action::Eval { .. } => anyhow::bail!("--vectors or --inputs is needed"),
    }
}

fn list(catalogue: &Catalogue) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for model in catalogue.models() {
        let identity = &model.identity;
        let used = catalogue.active().any(|active| active.identity == *identity);
        let mark = if used { '*' } else { ' ' };
        writeln!(out, "{mark} {:14} {:8} {}", identity.id, identity.version, identity.title)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(catalogue: &Catalogue, id: &str) -> anyhow::Result<ExitCode> {
    let model = catalogue.get(id).with_context(|| format!("no model {id}"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {} sha256:{}\n", model.identity.id, model.identity.version, model.identity.sha256)?;
    for one in &model.manifest.inputs {
        let unit = one.unit.as_deref().unwrap_or("-");
        let codes = one.observation.as_ref().map_or_else(String::new, |source| source.codes.join(" "));
        writeln!(out, "  {:18} {:20} {codes}", one.name, unit)?;
    }
    writeln!(out, "\n{}", model.card)?;
    Ok(ExitCode::SUCCESS)
}

fn install(config: &Config, catalogue: &mut Catalogue, path: &Path) -> anyhow::Result<ExitCode> {
    let model = catalogue.add_folder(path)?;
    let target = config.data_dir.join("models").join(&model.identity.id).join(&model.identity.version);
    anyhow::ensure!(!target.exists(), "{} is there already; a version never changes", target.display());
    // Written beside and renamed, so that a half copied bundle never has the final name.
    let beside = config.data_dir.join("models").join(format!(".{}", std::process::id()));
    let unwritable = || format!("AUGURY_DATA_DIR (data_dir) {}", beside.display());
    app::make_folder(&config.data_dir)
        .and_then(|()| std::fs::create_dir_all(&beside))
        .with_context(unwritable)?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), beside.join(entry.file_name()))?;
        }
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::rename(&beside, &target)?;
    writeln!(std::io::stdout(), "{}", target.display())?;
    Ok(ExitCode::SUCCESS)
}

fn activate(config: &Config, catalogue: &mut Catalogue, name: &str) -> anyhow::Result<ExitCode> {
    let (model, version) = name.split_once('@').context("ID@VERSION is needed")?;
    catalogue.activate(model, version)?;
    let activate = Activate { model: model.to_owned(), version: version.to_owned() };
    super::runtime()?.block_on(async {
        let store = app::open_store(config).await?;
        let commit = Commit { activate: vec![activate], ..Commit::default() };
        store.commit(&super::context(), commit).await?;
        anyhow::Ok(())
    })?;
    writeln!(std::io::stdout(), "{name} is in use from the server's next start")?;
    Ok(ExitCode::SUCCESS)
}

fn evaluate(catalogue: &Catalogue, id: &str, path: &Path) -> anyhow::Result<ExitCode> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let report = eval(catalogue, id, &fhir::json::parse(&text, &LIMITS)?)?;
    writeln!(
        std::io::stdout(),
        "{id}: {} vectors, max abs difference {:e}",
        report.count,
        report.max_abs_difference
    )?;
    for failure in &report.failures {
        writeln!(std::io::stderr(), "{id}: {failure}")?;
    }
    Ok(if report.failures.is_empty() && report.count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compute(catalogue: &Catalogue, id: &str, path: &Path) -> anyhow::Result<ExitCode> {
    let model = catalogue.get(id).with_context(|| format!("no model {id}"))?;
    let mut out = std::io::stdout().lock();
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut failed = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let inputs = NamedInputs::from_json(&fhir::json::parse(line.as_bytes(), &LIMITS)?)?;
        let result = match compute_named(catalogue, std::slice::from_ref(&inputs), model).pop() {
            Some(Ok(outputs)) => json!(outputs),
            None => json!({}),
            Some(Err(issues)) => {
                failed = true;
                let issues: Vec<_> = issues.iter().map(|issue| json!({"input": issue.input.as_ref(), "kind": issue.kind.code(), "details": issue.details})).collect();
                json!({"issues": issues})
            }
        };
        writeln!(out, "{result}")?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
