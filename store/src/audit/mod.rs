//! The audit trail: who did what, written in the transaction of what was done, and never changed.
//!
//! A row is what one transaction records (`row`), authenticated by itself ([`Authority`]); its events are leaves
//! of a signed Merkle tree (`log`). An event becomes a FHIR AuditEvent when somebody reads it (`event`).

mod act;
mod agent;
mod authority;
mod buffer;
pub(crate) mod epoch;
pub(crate) mod event;
pub(crate) mod find;
mod forward;
mod head;
mod index;
mod kept;
mod lag;
mod log;
mod memory;
mod merkle;
mod reading;
mod record;
mod retire;
mod row;
mod scheme;
mod sieve;
mod store;
mod verify;
mod walk;

use std::sync::{Arc, Mutex, PoisonError};

use fhir::resource_type::ResourceType;

pub use act::{Act, Outcome};
pub use agent::{Agent, Who};
pub(crate) use authority::{Authority, Leaves};
pub(crate) use buffer::Buffer;
pub use forward::{Batch, Destination, Leaving};
pub(crate) use forward::{Forwarding, write as forward};
pub use kept::kept;
pub use lag::Lag;
pub(crate) use log::{Sealing, write as seal};
pub use memory::Astray;
pub(crate) use record::Records;
pub(crate) use retire::{Pass, Retiring, write as retire};
pub(crate) use row::flush;
pub use store::{Retirement, Sealed};
pub use verify::{Finding, Proof, Verified, Witnessed};
pub(crate) use walk::Walk;

/// One thing that was done, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub act: Act,
    /// How it ended.
    pub outcome: Outcome,
    /// Type, id and version (0 for none in particular) of what it was done to.
    pub entity: Option<(ResourceType, String, i64)>,
    /// Id of the account or client it was done to, where that is no resource; empty for none.
    pub account: String,
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
        let (outcome, entity, nothing) = (Outcome::Success, None, String::new);
        Self {
            act,
            outcome,
            entity,
            account: nothing(),
            patient: nothing(),
            query: nothing(),
            note: nothing(),
        }
    }
}

/// Bytes of what was asked that each event has.
const BRIEF: usize = 9000;

/// The same where there may be very many events of one request.
pub(crate) const BRIEFER: usize = 1024;

/// What was asked, where there is no need for all of it.
pub(crate) fn briefly(asked: &str, most: usize) -> String {
    if asked.len() <= most {
        return asked.to_owned();
    }
    format!("{}… (cut)", asked.get(..asked.floor_char_boundary(most)).unwrap_or_default())
}

/// What a request asks, and what it has seen that is still to be recorded.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    asked: Arc<Mutex<String>>,
    act: Arc<Mutex<Option<Act>>>,
    patient: Arc<Mutex<String>>,
    why: Arc<Mutex<String>>,
    notes: Arc<Mutex<Vec<Entry>>>,
}

impl Trail {
    /// Of a request that asks this: never a secret.
    pub fn of(asked: String) -> Self {
        Self { asked: Arc::new(Mutex::new(asked)), ..Self::default() }
    }

    /// The same trail for a part of the request.
    #[must_use]
    pub fn part(&self, asked: String) -> Self {
        Self { asked: Arc::new(Mutex::new(asked)), ..self.clone() }
    }

    /// It asks this too.
    pub fn asks(&self, more: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push_str(more);
    }

    /// What it asks.
    pub fn asked(&self) -> String {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What one of several events of the request says of it: the first has it whole, however long it is.
    pub fn asked_in(&self, event: usize) -> String {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if event == 0 { asked.clone() } else { briefly(&asked, BRIEF) }
    }

    /// How much it has seen.
    pub(crate) fn len(&self) -> usize {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// It does this, which its address does not say.
    pub fn does(&self, act: Act) {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner) = Some(act);
    }

    /// What it does, where its address does not say it.
    pub fn act(&self) -> Option<Act> {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is about this patient, whom its address does not name.
    pub fn is_about(&self, patient: &str) {
        patient.clone_into(&mut self.patient.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whom it is about, where its address does not say it.
    pub fn patient(&self) -> String {
        self.patient.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is refused for this reason, which is not told to who asks.
    pub fn is_refused(&self, why: &str) {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// For what reason; empty where the answer says it.
    pub fn why_refused(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to what it has seen.
    pub fn note(&self, entry: Entry) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Has it seen that this was refused?
    pub fn tells_refusal(&self, act: Act) -> bool {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().any(|entry| entry.act == act && entry.outcome != Outcome::Success)
    }

    /// All that it has seen, which is then no longer there.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
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
