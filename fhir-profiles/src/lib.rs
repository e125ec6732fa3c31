//! Everything true of FHIR R4 (4.0.1) without a network, a clock or a disk.

pub mod bundle;
pub mod json;
pub mod outcome;
pub mod profile;
pub mod reference;
pub mod resource_type;
pub mod search;
pub mod time;
pub mod validate;
