//! `augury migrate`: brings the database to the current schema.

use std::process::ExitCode;

use crate::config::Config;

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    if config.database_url.starts_with("sqlite:") {
        std::fs::create_dir_all(&config.data_dir)?;
    }
    store::Store::migrate(&config.database_url)?;
    Ok(ExitCode::SUCCESS)
}
