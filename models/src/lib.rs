//! Published risk equations and networks as data: a bundle in, a number with its reasons out.
//!
//! - [`manifest`]: what `model.json` says; [`bundle`]: a bundle read, checked and compiled
//!   (its own vectors must reproduce, or it does not exist).
//! - [`catalogue`]: every bundle there is, and which version of each is active.
//! - [`record`]: what the models can read of one patient, built from FHIR resources.
//! - [`assess`]: record → [`assessment::Assessment`], one patient or many in one tensor pass.
//! - [`named`]: the same from plain named inputs; [`vectors`]: named inputs with expected outputs.
//!
//! Nothing here knows a database, a network or a clock: the moment asked for comes in.

pub mod assess;
pub mod assessment;
pub mod bundle;
pub mod catalogue;
mod country;
pub mod formula;
mod gather;
mod graph;
mod inputs;
pub mod manifest;
mod moment;
pub mod named;
pub mod record;
mod score;
mod select;
mod units;
pub mod valueset;
pub mod vectors;
mod vocabulary;

pub use assess::{Settings, assess, assess_batch};
pub use assessment::Assessment;
pub use bundle::{LoadError, Model};
pub use catalogue::Catalogue;
pub use named::{NamedInputs, assess_named, compute_named};
pub use record::{PatientRecord, RecordBuilder};
pub use vectors::{EvalReport, eval};
