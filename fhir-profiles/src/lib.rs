//! Everything true of FHIR R4 (4.0.1) without a network, a clock or a disk.

pub mod bundle;
pub mod conformance;
pub mod consent;
mod contained;
mod doubts;
mod entries;
pub mod fhirpath;
mod invariant;
pub mod json;
mod narrative;
pub mod outcome;
pub mod patch;
mod primitive;
pub mod profile;
mod questionnaire;
pub mod reference;
pub mod resource_type;
mod rules;
mod schema;
pub mod scope;
pub mod search;
mod terminology;
pub mod time;
pub mod validate;
pub mod view;
mod vital_signs;
pub mod xml;
