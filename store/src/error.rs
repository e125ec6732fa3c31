//! What can go wrong, without a word of HTTP.

use diesel::result::{DatabaseErrorKind, Error as Diesel};
use fhir::outcome::{Issue, Issues};
use fhir::resource_type::ResourceType;
use fhir::scope::Op;

use crate::deadline::OVER;

/// What SQLite, and PostgreSQL by its system's words, say of a disk that takes no more.
const DISK: [&str; 4] = ["disk is full", "disk I/O error", "No space left on device", "Disk quota exceeded"];

/// Why a call failed. `Internal` is for the log; it is not to be shown to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There never was such a resource or version.
    #[error("not found")]
    NotFound,
    /// There was, and it is deleted.
    #[error("deleted")]
    Gone {
        /// The version that says so.
        version: i64,
    },
    /// Another version is current than the one asked for, or somebody else was quicker.
    #[error("the current version is {current}")]
    Conflict {
        /// The current version; 0 where there is none to name.
        current: i64,
    },
    /// Who asks may not do this with any resource of the type, or not with what was sent.
    #[error("{0:?} of {1} is not allowed")]
    Denied(Op, ResourceType),
    /// A condition of the request does not hold.
    #[error("{0}")]
    Precondition(String),
    /// A criterion that must find one resource finds several.
    #[error("several resources match")]
    Ambiguous,
    /// The content can't be stored.
    #[error("{0}")]
    Invalid(Issues),
    /// The content is right, and more than is kept to.
    #[error("{0}")]
    Unkept(Issues),
    /// Too much to do, or the database is held by somebody else: to be tried again.
    #[error("busy")]
    Busy,
    /// The disk under the database is full, or takes no writes.
    #[error("the disk of the database: {0}")]
    NoStore(String),
    /// The database failed.
    #[error("database: {0}")]
    Internal(String),
}

impl Error {
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}

impl From<Issue> for Error {
    fn from(issue: Issue) -> Self {
        Self::Invalid(issue.into())
    }
}

impl From<Issues> for Error {
    fn from(issues: Issues) -> Self {
        Self::Invalid(issues)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Transient(_) => Self::Busy,
            Fault::Disk(text) => Self::NoStore(text),
            Fault::Lost(text) | Fault::Undecided(text) | Fault::Database(text) => Self::Internal(text),
        }
    }
}

/// Why a transaction did not come to its end; tells what may be tried again.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The caller's doing; trying again changes nothing.
    Refused(Error),
    /// Others were in the way: a deadlock, a serialization failure, a lock, a lost race.
    Transient(String),
    /// The connection is gone.
    Lost(String),
    /// The disk is full, or takes no writes.
    Disk(String),
    /// Nobody knows whether it was committed.
    Undecided(String),
    /// Anything else the database says.
    Database(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Diesel> for Fault {
    fn from(error: Diesel) -> Self {
        let text = error.to_string();
        match &error {
            // Unique: two wrote the same new row; the second, tried again, finds the first's.
            Diesel::DatabaseError(
                DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::UniqueViolation,
                _,
            ) => Self::Transient(text),
            Diesel::DatabaseError(DatabaseErrorKind::ClosedConnection, _)
            | Diesel::BrokenTransactionManager => Self::Lost(text),
            // SQLite names a lock, and PostgreSQL a deadlock, and a number of a part that is gone, in words alone.
            Diesel::DatabaseError(_, information) => {
                let message = information.message();
                if message.contains("lock timeout")
                    || message.contains("statement timeout")
                    || message.contains(OVER)
                {
                    Self::Refused(Error::Busy)
                } else if ["deadlock detected", "database is locked", "no partition of relation"]
                    .iter()
                    .any(|words| message.contains(words))
                {
                    Self::Transient(text)
                } else if message.contains("server closed the connection")
                    || message.contains("terminating connection")
                    || message.contains("no connection to the server")
                {
                    Self::Lost(text)
                } else if DISK.iter().any(|words| message.contains(words)) {
                    Self::Disk(text)
                } else {
                    Self::Database(text)
                }
            }
            _ => Self::Database(text),
        }
    }
}
