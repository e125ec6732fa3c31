//! The plain-JSON API, for callers that speak no FHIR: thin over the same core.

pub(crate) mod docs;
pub(crate) mod models;
pub(crate) mod plain;
pub(crate) mod predict;
pub(crate) mod predictions;
pub(crate) mod refusal;
pub(crate) mod schema;
