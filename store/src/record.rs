//! What comes out of the store.

use fhir::resource_type::ResourceType;

/// One version of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// A number no other version of any resource has; it grows.
    pub key: i64,
    /// Resource type.
    pub kind: ResourceType,
    /// Logical id.
    pub id: String,
    /// `meta.versionId`, counted from 1.
    pub version: i64,
    /// `meta.lastUpdated` in microseconds since 1970 UTC.
    pub updated: i64,
    /// This version says that the resource was deleted; the body is empty.
    pub deleted: bool,
    /// The ids of the patients it is about, with spaces between; of what is deleted, those of the
    /// version before.
    pub patient: String,
    /// Minified JSON, `meta` included.
    pub body: String,
}

/// What became of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// There was none; now there is.
    Created,
    /// A new version.
    Updated,
    /// The content was the same already, or a conditional create found it: nothing was written.
    Unchanged,
    /// Now deleted.
    Deleted,
    /// Was deleted before, or never there.
    Absent,
}

/// The answer to one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What happened.
    pub effect: Effect,
    /// The version that is now current; of an absent resource the key and version are 0.
    pub stored: Stored,
}

/// One page of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The matches in order.
    pub entries: Vec<Stored>,
    /// What comes along with them, each once.
    pub included: Vec<Stored>,
    /// How many match in all, where it was asked for or is known without asking.
    pub total: Option<u64>,
    /// Hand this in to get the next page; none at the end.
    pub next: Option<String>,
}

/// What is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Tasks.
    pub waiting: i64,
    /// When the first of them is due, microseconds since 1970 UTC.
    pub oldest: Option<i64>,
    /// Those of them that failed and will be tried again.
    pub put_off: i64,
}

/// Something to be done about a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number; grows.
    pub key: i64,
    /// What is to be done; the caller's numbering.
    pub topic: i64,
    /// Patient id.
    pub patient: String,
    /// Not before this time, microseconds since 1970 UTC.
    pub due: i64,
    /// [`Stored::key`] of the version that caused it, or 0.
    pub cause: i64,
    /// How often it failed.
    pub tries: i64,
}

/// A scoring that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Its number; grows.
    pub key: i64,
    /// Patient id.
    pub patient: String,
    /// Model id.
    pub model: String,
    /// Model version.
    pub version: String,
    /// Digest of the set of input versions.
    pub inputs: String,
    /// Id of the resource that holds the result.
    pub resource_id: String,
    /// When, microseconds since 1970 UTC.
    pub at: i64,
    /// Not superseded.
    pub current: bool,
}

/// Which version of a model is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Model id.
    pub model: String,
    /// Model version.
    pub version: String,
    /// Since when, microseconds since 1970 UTC.
    pub since: i64,
}

/// A caller with an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Digest of the key; the key itself is nowhere.
    pub key_hash: String,
    /// What it may do: scopes, separated by spaces.
    pub scope: String,
    /// When the key ends by itself, microseconds since 1970 UTC.
    pub expires: Option<i64>,
    /// When it was added, microseconds since 1970 UTC.
    pub created: i64,
    /// When it was revoked.
    pub revoked: Option<i64>,
}
