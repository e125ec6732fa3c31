//! The schema, embedded for both databases, and its way up and down.

use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::connection::{Database, Link};
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql};
use crate::transaction;

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");
/// Nodes that start together migrate one after the other.
const LOCK: i64 = 0x6175_6775_7279;

/// Brings the database to this program's schema; how many steps that took.
pub(crate) fn up(link: &mut Link) -> Result<usize, Error> {
    let done = transaction::within(link, |link| {
        if link.dialect == Dialect::Postgres {
            let mut sql = Sql::new(link.dialect, "SELECT pg_advisory_xact_lock(");
            sql.int(LOCK).push(")");
            sql.run(&mut link.connection)?;
        }
        let done = match &mut link.connection {
            Database::Sqlite(inner) => inner.run_pending_migrations(SQLITE).map(|done| done.len()),
            Database::Postgres(inner) => inner.run_pending_migrations(POSTGRES).map(|done| done.len()),
        };
        done.map_err(|error| Fault::Database(format!("migration: {error}")))
    })?;
    Ok(done)
}

/// Takes everything down again.
pub(crate) fn down(link: &mut Link) -> Result<usize, Error> {
    let done = match &mut link.connection {
        Database::Sqlite(inner) => inner.revert_all_migrations(SQLITE).map(|done| done.len()),
        Database::Postgres(inner) => inner.revert_all_migrations(POSTGRES).map(|done| done.len()),
    };
    done.map_err(Error::internal)
}

/// Is the schema older than the program?
pub(crate) fn pending(link: &mut Link) -> Result<bool, Error> {
    match &mut link.connection {
        Database::Sqlite(inner) => inner.has_pending_migration(SQLITE),
        Database::Postgres(inner) => inner.has_pending_migration(POSTGRES),
    }
    .map_err(Error::internal)
}
