//! The command line: one subcommand, one file.

mod audit;
mod client;
mod demo;
mod generate;
mod history;
mod import;
mod input;
mod migrate;
mod models;
mod score;
mod serve;
mod user;
mod validate;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, LogFormat};

/// Clinical Observations in, RiskAssessments out: a FHIR R4 server that scores.
#[derive(Debug, Parser)]
#[command(name = "augury", version)]
struct Cli {
    /// Settings file (TOML); the environment (AUGURY_…) overrides it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what no command at all does).
    Serve,
    /// Run the server with the sample patients loaded, and show what came of them.
    Demo,
    /// Score FHIR files offline: one RiskAssessment a line.
    Score(score::Arguments),
    /// Load FHIR files into the store; a second run goes on where the first ended.
    Import(import::Arguments),
    /// Check FHIR files: one OperationOutcome a file.
    Validate(validate::Arguments),
    /// Look at, check and activate risk models.
    #[command(subcommand)]
    Models(models::Action),
    /// Bring the database to the current schema.
    Migrate,
    /// The trail of who did what.
    #[command(subcommand)]
    Audit(audit::Action),
    /// Versions that are current no more.
    #[command(subcommand)]
    History(history::Action),
    /// API keys of callers, and apps that ask for tokens.
    #[command(subcommand)]
    Client(client::Action),
    /// People who sign in.
    #[command(subcommand)]
    User(user::Action),
    /// Make any number of plausible patients, as transaction Bundles, one a line.
    Generate(generate::Arguments),
}

/// Runs the command line; the exit code says how it went.
pub fn run() -> ExitCode {
    // TLS of what is fetched; a second call would change nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Candle's matrix code would otherwise hand each small batch to a thread pool.
    let cli = Cli::parse();
    let result = Config::load(cli.config.as_deref(), std::env::vars())
        .map_err(anyhow::Error::from)
        .and_then(|config| dispatch(cli.command.unwrap_or(Command::Serve), &config));
    match result {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "augury: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve => {
            start_log(config, &config.log);
            serve::run(config.clone())
        }
        Command::Demo => {
            start_log(config, "warn");
            demo::run(config.clone())
        }
        Command::Score(arguments) => score::run(config, &arguments),
        Command::Import(arguments) => import::run(config, &arguments),
        Command::Validate(arguments) => validate::run(config, &arguments),
        Command::Models(action) => models::run(config, action),
        Command::Migrate => migrate::run(config),
        Command::Audit(action) => audit::run(config, action),
        Command::History(action) => history::run(config, action),
        Command::Client(action) => client::run(config, action),
        Command::User(action) => user::run(config, action),
        Command::Generate(arguments) => generate::run(&arguments),
    }
}

fn start_log(config: &Config, filter: &str) {
    // At `debug` the HTTP library writes headers of requests as they came.
    let filter = tracing_subscriber::EnvFilter::new(format!("{filter},actix_http=info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where a line can't be written, neither can one that says so: to try would end the thread.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// What is meant, or that it is not there, in words that say what.
fn there<T>(found: Result<T, store::Error>, not_there: impl FnOnce() -> String) -> anyhow::Result<T> {
    found.map_err(|error| match error {
        store::Error::NotFound => anyhow::Error::msg(not_there()),
        error => error.into(),
    })
}

/// Who gives a command: the user of the operating system, with the login that the environment says, which `sudo` says
/// apart from that of whom it made them.
fn context() -> store::Context {
    let uid = std::fs::metadata("/proc/self").map(|own| own.uid().to_string());
    let uid = uid.unwrap_or_else(|_| "not known".to_owned());
    let said = |name: &&str| std::env::var(name).ok().filter(|login| !login.is_empty());
    let login = ["SUDO_USER", "LOGNAME", "USER"].iter().find_map(said);
    let login = login.map(|login| format!(", {}", store::kept(&login))).unwrap_or_default();
    let agent = store::Agent {
        system: Some("command line".to_owned()),
        client_name: Some(format!("command line (uid {uid}{login})")),
        ..store::Agent::default()
    };
    store::Context { who: store::Who::new(agent), ..store::Context::system("", crate::app::now()) }
}

/// A runtime for commands that talk to the store.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
