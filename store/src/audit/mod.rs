//! The audit trail: who did what, written in the transaction of what was done, and never changed.
//!
//! A row is a few columns, authenticated one by one ([`Authority`]) and together in a signed Merkle
//! tree (`log`). It becomes a FHIR AuditEvent when somebody reads it (`event`).

mod act;
mod agent;
pub(crate) mod event;
pub(crate) mod find;
mod head;
mod log;
mod merkle;
mod row;
mod store;
mod verify;

use std::sync::{Arc, Mutex, PoisonError};

use fhir::resource_type::ResourceType;

pub use act::{Act, Outcome};
pub use agent::{Agent, Who};
pub(crate) use log::{Sealing, write as seal};
pub(crate) use row::{Authority, Row, flush};
pub use verify::{Finding, Proof, Verified};

/// One thing that was done, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub act: Act,
    /// How it ended.
    pub outcome: Outcome,
    /// Type, id and version (0 for none in particular) of what it was done to.
    pub entity: Option<(ResourceType, String, i64)>,
    /// Id of the patient it is about; empty for none.
    pub patient: String,
    /// What was asked, as it was asked; never a secret.
    pub query: String,
    /// Why it ended so, or what else there is to say; never a patient's data.
    pub note: String,
}

impl Entry {
    /// Something that went well and was done to nothing in particular.
    pub fn of(act: Act) -> Self {
        let (outcome, entity) = (Outcome::Success, None);
        Self { act, outcome, entity, patient: String::new(), query: String::new(), note: String::new() }
    }
}

/// What a request has seen and is still to be recorded.
#[derive(Debug, Clone, Default)]
pub struct Trail(Arc<Mutex<Vec<Entry>>>);

impl Trail {
    /// Adds to it.
    pub fn note(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All of it, which is then no longer there.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Is there anything?
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// How the trail is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auditing {
    /// What was read is recorded durably before the answer leaves.
    #[default]
    Durable,
    /// What was read is recorded soon after.
    Buffered,
    /// Nothing is recorded.
    Off,
}
