//! Subscriptions with topics: what the Subscriptions R5 Backport kit asks on R4, and what the guide says
//! beyond it (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/>). The ids are those of the requirements.
//!
//! - `hook`, `world`, `subscribed`: the endpoint that the runner is, what there is to be told of, and a
//!   Subscription to that with such an endpoint.
//! - `notification`: what is told, against the profiles.
//! - The others are checks.

mod delivery;
mod discovery;
mod edge;
mod hook;
mod notification;
mod operations;
mod rejections;
pub(crate) mod requirements;
mod specification;
mod subscribed;
mod world;

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;

use crate::check::{Check, Outcome, Stop};
use crate::server::Server;
use world::World;

/// Where the runner is told of changes, and of which. What is not said is found out, or skipped.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Subscriptions")]
#[group(skip)]
pub(crate) struct Options {
    /// Where the runner waits for notifications; without it only a server on this machine is asked for them.
    #[arg(long = "subscriptions-hook", value_name = "ADDRESS:PORT")]
    hook: Option<String>,
    /// The address of that for the server, if it is another: of a proxy, perhaps with TLS.
    #[arg(long = "subscriptions-endpoint", value_name = "URL")]
    endpoint: Option<String>,
    /// A topic; without it the runner defines one as a Basic.
    #[arg(long = "subscriptions-topic", value_name = "CANONICAL", requires_all = ["filter", "trigger"])]
    topic: Option<String>,
    /// How it is narrowed to a patient: `Encounter?patient=<patient>`.
    #[arg(long = "subscriptions-filter", value_name = "FILTER", requires = "topic")]
    filter: Option<String>,
    /// A resource (JSON, with `<patient>` for the reference) that lets it speak when it is created.
    #[arg(long = "subscriptions-trigger", value_name = "FILE", requires = "topic")]
    trigger: Option<PathBuf>,
    /// Seconds that a notification may take.
    #[arg(long = "subscriptions-patience", value_name = "SECONDS", default_value_t = 20)]
    longest: u64,
}

/// What the checks were told, and what they share.
#[derive(Default)]
pub(crate) struct Subscriptions {
    options: Options,
    world: OnceLock<Result<World, Stop>>,
}

impl Subscriptions {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, world: OnceLock::new() }
    }
}

/// Who has no `$status` has no topics.
const NEEDS: [&str; 3] = ["Subscription.create", "Subscription.read", "Subscription$status"];

/// A check of this chapter: an id, a section of the guide, a title, and what is needed beside.
fn check(
    id: &str,
    section: &'static str,
    title: &str,
    needs: &[&str],
    run: impl Fn(&Server) -> Outcome + Send + Sync + 'static,
) -> Check {
    Check::new(format!("subscriptions/{id}"), section, title, &[&NEEDS, needs].concat(), run)
}

/// What the guide recommends and does not demand.
fn should(holds: bool, why: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Skip(format!("only recommended: {why}"))) }
}

pub(crate) fn checks() -> Vec<Check> {
    let parts = [
        discovery::checks(),
        delivery::checks(),
        rejections::checks(),
        operations::checks(),
        specification::checks(),
        edge::checks(),
    ];
    let mut all: Vec<Check> = parts.into_iter().flatten().collect();
    // What is of one source stands together, whichever file it is in.
    all.sort_by_key(|check| check.chapter().to_owned());
    all
}
