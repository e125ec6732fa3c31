//! What goes in: everything a request changes, as one unit that happens or does not.

use std::sync::Arc;

use fhir::json::Json;
use fhir::outcome::Issues;
use fhir::resource_type::ResourceType;
use fhir::search::SearchQuery;

use crate::account::AccountChange;
use crate::audit::Entry;
use crate::authorization::AuthorizationChange;
use crate::subscription::Progress;

/// Which resource is meant.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one of this type and id.
    Id(ResourceType, String),
    /// The only one that matches (conditional update and delete).
    Only(SearchQuery),
}

/// Makes the next version's content of the current one. It runs inside the transaction, and again
/// if that is repeated; what it refuses is refused to the caller.
#[derive(Clone)]
pub struct Patch(pub(crate) Arc<Changing>);

type Changing = dyn Fn(&Json<'_>) -> Result<Json<'static>, Issues> + Send + Sync;

impl Patch {
    /// `change` gets the current version and gives the next one's content.
    pub fn new(change: impl Fn(&Json<'_>) -> Result<Json<'static>, Issues> + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }
}

impl std::fmt::Debug for Patch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patch")
    }
}

/// What must be so for a write to be done (`If-Match`, `If-None-Match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnlyIf {
    /// Whatever is there.
    #[default]
    Always,
    /// This version is current.
    Version(i64),
    /// Something is there, in whatever version.
    Present,
    /// Nothing is there.
    Absent,
}

/// One change of one resource. `id`, `meta.versionId` and `meta.lastUpdated` are the store's:
/// what the resource says there is replaced.
#[derive(Debug, Clone)]
pub enum Write<'a> {
    /// A new resource.
    Create {
        /// The content.
        resource: Json<'a>,
        /// The id to give it, if it was already promised to others; else a new one.
        id: Option<String>,
        /// Do nothing if one matches.
        if_none_exist: Option<SearchQuery>,
    },
    /// A new version; of a resource that is not there, the first one.
    Update {
        /// The content.
        resource: Json<'a>,
        /// Of which resource.
        target: Target,
        /// The id of a new one, if neither `target` nor the content says it and it was already
        /// promised to others.
        id: Option<String>,
        /// On what condition.
        only_if: OnlyIf,
    },
    /// A new version made of the current one.
    Patch {
        /// Which resource.
        target: Target,
        /// On what condition.
        only_if: OnlyIf,
        /// How the new one is made.
        patch: Patch,
    },
    /// A version that says it is deleted.
    Delete {
        /// Which resource.
        target: Target,
        /// On what condition.
        only_if: OnlyIf,
    },
}

/// A resource that must be there once all writes are done, or none of them is.
#[derive(Debug, Clone)]
pub struct MustBe {
    /// Its type.
    pub kind: ResourceType,
    /// Its id.
    pub id: String,
    /// The version; without one, the current one.
    pub version: Option<i64>,
    /// That it was deleted is no matter.
    pub or_was: bool,
    /// FHIRPath of what asks for it.
    pub at: String,
}

/// A reference by criteria (`Practitioner?identifier=…`), to be replaced by the one it finds.
#[derive(Debug, Clone)]
pub struct Conditional {
    /// As it stands in the resources.
    pub text: String,
    /// What it means.
    pub query: SearchQuery,
    /// FHIRPath of where it stands.
    pub at: String,
}

/// Queues work in the transaction of its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// What is to be done.
    pub topic: i64,
    /// Not before this time, microseconds since 1970 UTC.
    pub due: i64,
    /// For whom and because of what.
    pub about: About,
}

/// The patient a task is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The patient of the write at this place in [`Commit::writes`], before and after it, as far as
    /// the write changes anything.
    Write(usize),
    /// This patient.
    Patient(String),
}

/// Records that a scoring was done. The same one again is a conflict; the same as one that was
/// superseded makes that one current again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAssessment {
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
}

/// Puts a version of a model in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activate {
    /// Model id.
    pub model: String,
    /// Model version.
    pub version: String,
}

/// A change to the registered clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientChange {
    /// A new client.
    Add {
        /// Id, not used before.
        id: String,
        /// For people.
        name: String,
        /// Digest of its key.
        key_hash: String,
        /// What it may do: scopes, separated by spaces.
        scope: String,
        /// When the key ends by itself, microseconds since 1970 UTC.
        expires: Option<i64>,
    },
    /// Its key is no longer good.
    Revoke {
        /// Id.
        id: String,
    },
}

/// Everything a request changes. All of it happens, durably, or nothing does.
#[derive(Debug, Clone, Default)]
pub struct Commit<'a> {
    /// Changes of resources, each resource at most once.
    pub writes: Vec<Write<'a>>,
    /// What must be there afterwards.
    pub reads: Vec<MustBe>,
    /// References by criteria that occur in them.
    pub references: Vec<Conditional>,
    /// Work to queue.
    pub tasks: Vec<NewTask>,
    /// Scorings to record.
    pub assessments: Vec<NewAssessment>,
    /// Keys of tasks that are done by this; if one is gone already, nothing happens.
    pub finish: Vec<i64>,
    /// Models to put in use.
    pub activate: Vec<Activate>,
    /// Clients to add or revoke.
    pub clients: Vec<ClientChange>,
    /// What the authorization server remembers or forgets.
    pub authorization: Vec<AuthorizationChange>,
    /// Changes to the accounts of people.
    pub accounts: Vec<AccountChange>,
    /// Digest of a file's item that is taken in by this; one that was is refused.
    pub taken: Option<String>,
    /// What else is recorded as done by this.
    pub notes: Vec<Entry>,
    /// How far a Subscription is. Only such a commit may say whether one is active.
    pub progress: Option<Progress>,
    /// A model's own work: only such a commit may write what says that a model made it.
    pub of_model: bool,
}
