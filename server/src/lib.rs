//! Augury's server: HTTP at the edge, scoring of what was written, the command line.
//!
//! - [`cmd`]: the subcommands; [`config`]: what the operator says; [`app`]: the long-lived parts.
//! - `interaction`: what there is; [`router`]: who answers it; `http`: what all routes share.
//! - `rest`: FHIR's interactions, one a file; `api`: the plain-JSON API over the same core.
//! - `smart`: the authorization server. `audit` and `forward`: the trail is sealed, shown and sent.
//! - `scoring`: from what was written to RiskAssessments, and how these look.

mod api;
pub mod app;
mod audit;
mod clock;
pub mod cmd;
pub mod config;
mod encryption;
mod forward;
mod health;
mod http;
mod interaction;
mod outside;
pub mod packages;
mod parts;
mod rest;
pub mod router;
mod scoring;
mod smart;
mod subscriptions;
