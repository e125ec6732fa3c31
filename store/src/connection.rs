//! A connection to either database, and the settings each is opened with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::r2d2::ManageConnection;
use diesel::{Connection as _, PgConnection, SqliteConnection};

use crate::audit::{Authority, Leaves, Records};
use crate::charts::{ChartRow, Charts};
use crate::clock::Clock;
use crate::consent::Known;
use crate::deadline::Deadline;
use crate::error::{Error, Fault};
use crate::moment::Moment;
use crate::sql::Dialect;
use crate::store::Shared;
use crate::subscription::Register;

/// How long a question may take, where nothing else is said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One connection, whichever database the URL named.
#[derive(diesel::MultiConnection)]
pub(crate) enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// A setting of the server may be weaker; an acknowledged write must survive. And a process that is cut off or
/// frozen in the middle of a transaction has others wait for less than they have patience. What is long is packed the quick
/// way, where there is one: with rows of many events that is a tenth of what a read costs.
const SETTINGS: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; SET TIME ZONE 'UTC'; \
                        SET idle_in_transaction_session_timeout = '5s'; SET tcp_user_timeout = '10s'; \
                        SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; \
                        SET tcp_keepalives_count = 3; \
                        SELECT set_config(name, 'lz4', false) FROM pg_settings \
                        WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)";
/// Nothing is written there, whatever becomes of the replica.
const READING: &str = "SET default_transaction_read_only = on";
/// The same at this end, where the address says nothing else.
const AWAY: [(&str, &str); 5] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "10000"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
];

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file.
    Sqlite(String),
    /// A `postgres://` URL.
    Postgres(String),
}

/// What a connection is for; SQLite's are opened differently, and those to a replica of PostgreSQL's, which
/// alone are for reading there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Write,
    Read,
    Checkpoint,
}

impl Place {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() && !path.contains(":memory:") => {
                Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).to_owned()))
            }
            _ => Err(Error::Internal("the database URL is neither sqlite:PATH nor postgres://…".into())),
        }
    }

    pub(crate) fn open(&self, purpose: Use) -> Result<(Database, Option<Deadline>), Error> {
        match self {
            Self::Sqlite(path) => {
                if purpose == Use::Write {
                    private(path);
                }
                let mut connection = SqliteConnection::establish(path).map_err(Error::internal)?;
                connection.batch_execute(pragmas(purpose)).map_err(Error::internal)?;
                let deadline = Deadline::of(&mut connection).map_err(Error::internal)?;
                Ok((Database::Sqlite(connection), Some(deadline)))
            }
            Self::Postgres(url) => {
                let mut connection =
                    PgConnection::establish(&impatient(url)).map_err(|error| unreachable_at(&error))?;
                connection.batch_execute(SETTINGS).map_err(Error::internal)?;
                if purpose == Use::Read {
                    connection.batch_execute(READING).map_err(Error::internal)?;
                }
                Ok((Database::Postgres(connection), None))
            }
        }
    }
}

/// Nobody else on the machine reads the file; SQLite gives those beside it the same mode.
#[cfg(unix)]
fn private(path: &str) {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    // Only a new file is opened: closing one takes from it the locks that SQLite holds in this process.
    let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    if created.is_ok() {
        return;
    }
    for beside in ["", "-wal", "-shm"] {
        let file = format!("{path}{beside}");
        let Ok(found) = std::fs::metadata(&file) else { continue };
        let mut mode = found.permissions();
        if mode.mode() & 0o077 != 0 {
            mode.set_mode(mode.mode() & 0o700);
            if let Err(error) = std::fs::set_permissions(&file, mode) {
                tracing::warn!(file, %error, "others on this machine may read the database");
            }
        }
    }
}

#[cfg(not(unix))]
fn private(_: &str) {}

/// An address that gives up a server from which nothing comes.
fn impatient(url: &str) -> String {
    let mut full = url.to_owned();
    for (name, value) in AWAY {
        let (_, said) = full.split_once('?').unwrap_or_default();
        if !said.split('&').any(|one| one.split('=').next() == Some(name)) {
            full.push(if full.contains('?') { '&' } else { '?' });
            full.push_str(&format!("{name}={value}"));
        }
    }
    full
}

/// Why there is no connection. What libpq says of an address that it can't read holds the address, and so
/// the password in it.
fn unreachable_at(error: &diesel::ConnectionError) -> Error {
    let text = error.to_string();
    if text.contains("URI") || text.contains("connection string") || text.contains("://") {
        return Error::Internal("the database URL can't be read".into());
    }
    Error::Internal(text)
}

/// The writer never waits for fsync of the main file: a thread of its own checkpoints, and only
/// when that falls behind by 50,000 pages does a commit do it.
fn pragmas(purpose: Use) -> &'static str {
    match purpose {
        Use::Write => {
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA wal_autocheckpoint = 50000; PRAGMA journal_size_limit = 268435456; \
             PRAGMA cache_size = -8192; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; \
             PRAGMA foreign_keys = ON"
        }
        Use::Read => {
            "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON; PRAGMA cache_size = -4096; \
             PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY"
        }
        Use::Checkpoint => "PRAGMA busy_timeout = 0; PRAGMA synchronous = FULL; PRAGMA cache_size = -512",
    }
}

/// A pooled connection and whether it is still to be trusted.
pub(crate) struct Link {
    pub(crate) connection: Database,
    pub(crate) dialect: Dialect,
    pub(crate) broken: bool,
    /// How long a question may take.
    pub(crate) patience: Duration,
    deadline: Option<Deadline>,
    /// When the question that is asked ends.
    end: Option<Instant>,
    /// The unit that runs has changed something.
    pub(crate) touched: bool,
    /// Charts whose rows need no writing.
    pub(crate) charts: Arc<Charts>,
    /// Consents that deny, as far as they are known.
    pub(crate) denials: Arc<Known>,
    /// What the open transaction adds to these.
    pub(crate) brought: Vec<ChartRow>,
    /// Who signs the rows of the audit trail, where any are written.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Who is to be told of changes.
    pub(crate) register: Option<Arc<Register>>,
    /// What time it is for all processes.
    pub(crate) clock: Arc<Clock>,
    /// What the open transaction adds to the trail, and the agents it adds.
    pub(crate) audited: Records,
    pub(crate) met: Vec<i64>,
    pub(crate) leaves: Vec<(i64, Leaves)>,
    /// It queues changes.
    pub(crate) queued: bool,
    /// At a replica: the moment of the primary's that searches begin at.
    pub(crate) began: Option<Moment>,
}

impl Link {
    pub(crate) fn open(place: &Place, purpose: Use) -> Result<Self, Error> {
        let dialect = match place {
            Place::Sqlite(_) => Dialect::Sqlite,
            Place::Postgres(_) => Dialect::Postgres,
        };
        let (connection, deadline) = place.open(purpose)?;
        Ok(Self {
            connection,
            patience: PATIENCE,
            deadline,
            end: None,
            dialect,
            broken: false,
            touched: false,
            charts: Arc::default(),
            denials: Arc::default(),
            brought: Vec::new(),
            authority: None,
            register: None,
            clock: Arc::default(),
            audited: Records::default(),
            met: Vec::new(),
            leaves: Vec::new(),
            queued: false,
            began: None,
        })
    }

    /// Asks what may take long, for no longer than that. On PostgreSQL the transaction has the limit.
    pub(crate) fn ask<T>(&mut self, limit: Duration, question: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(deadline) = &self.deadline {
            deadline.start(limit);
        }
        let answer = self.within(limit, question);
        if let Some(deadline) = &self.deadline {
            deadline.stop();
        }
        answer
    }

    /// The same of what is looked at by many statements, each of which is quick.
    pub(crate) fn within<T>(&mut self, limit: Duration, question: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.end, Instant::now().checked_add(limit));
        let answer = question(self);
        self.end = outer;
        answer
    }

    /// Ends a question of many statements, none of which takes too long.
    pub(crate) fn in_time(&self) -> Result<(), Fault> {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        if over { Err(Error::Busy.into()) } else { Ok(()) }
    }

    /// Statements without values.
    pub(crate) fn execute(&mut self, sql: &str) -> Result<(), Fault> {
        Ok(self.connection.batch_execute(sql)?)
    }
}

/// Opens connections for the pool.
#[derive(Clone)]
pub(crate) struct Manager {
    pub(crate) place: Place,
    pub(crate) purpose: Use,
    pub(crate) charts: Arc<Charts>,
    pub(crate) denials: Arc<Known>,
    pub(crate) patience: Duration,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) register: Option<Arc<Register>>,
    pub(crate) clock: Arc<Clock>,
}

impl Manager {
    pub(crate) fn new(place: &Place, purpose: Use, patience: Duration, shared: &Shared) -> Self {
        Self {
            place: place.clone(),
            purpose,
            charts: Arc::default(),
            denials: Arc::default(),
            patience,
            authority: Some(Arc::clone(&shared.authority)),
            register: Some(Arc::clone(&shared.register)),
            clock: Arc::clone(&shared.clock),
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = Error;

    fn connect(&self) -> Result<Link, Error> {
        let mut link = Link::open(&self.place, self.purpose)?;
        if link.dialect == Dialect::Postgres {
            // Of a write too: its criteria are searches.
            let patience = PATIENCE.as_millis();
            link.execute(&format!("SET statement_timeout = {patience}"))?;
        }
        Ok(Link {
            charts: Arc::clone(&self.charts),
            denials: Arc::clone(&self.denials),
            patience: self.patience,
            authority: self.authority.clone(),
            register: self.register.clone(),
            clock: Arc::clone(&self.clock),
            ..link
        })
    }

    fn is_valid(&self, link: &mut Link) -> Result<(), Error> {
        link.execute("SELECT 1").map_err(Error::from)
    }

    /// Unwinding means a transaction was left in the middle.
    fn has_broken(&self, link: &mut Link) -> bool {
        link.broken || std::thread::panicking()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_says_of_patience_stands() {
        let full = impatient("postgres://a:b@h/d?connect_timeout=60&sslmode=require");
        assert!(
            full.starts_with("postgres://a:b@h/d?connect_timeout=60&sslmode=require&tcp_user_timeout=10000")
        );
        assert_eq!(full.matches("connect_timeout").count(), 1);
        assert!(impatient("postgres://h/d").starts_with("postgres://h/d?connect_timeout=5&"));
    }
}
