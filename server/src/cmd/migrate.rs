//! `augury migrate`: brings the database to the current schema.

use std::process::ExitCode;

use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    app::make_data_dir(config)?;
    store::Store::migrate(&config.database_url).map_err(|error| app::no_database(config, error))?;
    Ok(ExitCode::SUCCESS)
}
