//! `augury history …`: versions that are current no more.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use store::Pruned;

use crate::app;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Drop old versions for good. On PostgreSQL a part of the table, of about a year, is dropped only as a whole:
    /// once all of its versions were written before that date. A part begins some minutes after its year does. What
    /// RiskAssessments name stays, and the last version with content of what is deleted; while Subscriptions are
    /// still to be told of some of it, nothing goes.
    Drop {
        /// Written before this date or time.
        #[arg(long, value_name = "DATE")]
        before: String,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    let Action::Drop { before, dry_run } = action;
    let time = fhir::time::parse(&before).with_context(|| format!("--before {before} is no date"))?.low;
    let context = super::context();
    anyhow::ensure!(time <= context.at, "--before {before} is yet to come");
    let Pruned { gone, needed, mixed, awaited } = super::runtime()?.block_on(async {
        let store = app::open_store(config).await?;
        let pruned = if dry_run {
            store.old_versions(&context, time).await?
        } else {
            store.prune_versions(&context, time).await?
        };
        anyhow::Ok(pruned)
    })?;
    let mut out = std::io::stdout().lock();
    let word = if dry_run { "would go" } else { "went" };
    for (part, versions) in &gone {
        writeln!(out, "{part}: {versions} versions {word}")?;
    }
    if gone.is_empty() {
        writeln!(out, "nothing {word}")?;
    }
    if needed > 0 {
        writeln!(
            out,
            "{needed} versions stay: RiskAssessments name them, what they say is deleted, or they were just replaced"
        )?;
    }
    for (part, versions) in &mixed {
        writeln!(out, "{part}: {versions} versions stay, as it is dropped only as a whole")?;
    }
    if awaited > 0 {
        writeln!(
            out,
            "nothing goes yet: Subscriptions are still to be told of some of it ({awaited} events)"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
