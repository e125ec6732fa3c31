//! The schema, embedded for both databases, and its way up and down; and how programs of different schemas work
//! on one database. A step is first only an addition, which programs without it do not notice; what they need is
//! taken away by a later one, which says so in `schema_support`.

use std::thread;
use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::connection::{Database, Link};
use crate::error::{Error, Fault};
use crate::partition::TURN;
use crate::sql::{Dialect, Sql};
use crate::transaction;

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");
/// The number of the last of them: that of this program's schema.
const NUMBER: i64 = 6;
/// Nodes that start together migrate one after the other.
const LOCK: i64 = 0x6175_6775_7279;
/// How often it is tried, and the time between, in which they have their turn.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What this program and its database are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// The number of the program's schema.
    pub program: i64,
    /// That of the last step that was taken on the database, by this program or a newer one.
    pub database: i64,
    /// That of the oldest program that the database still serves.
    pub oldest: i64,
}

impl Schema {
    /// May this program work on the database?
    pub fn is_served(self) -> bool {
        self.oldest <= self.program
    }

    /// # Errors
    /// This program is older than any that the database serves.
    pub(crate) fn serves(self) -> Result<(), Error> {
        let Self { program, database, oldest } = self;
        if self.is_served() {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "this program is too old for the database: it is of schema {program}, the database has schema \
             {database} and serves programs of schema {oldest} and newer; replace the program by a newer version"
        )))
    }
}

/// What the database says now.
pub(crate) fn schema(link: &mut Link) -> Result<Schema, Fault> {
    let oldest = Sql::new(link.dialect, "SELECT COALESCE(MAX(oldest), 0) FROM schema_support");
    let oldest = oldest.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    let steps = Sql::new(link.dialect, "SELECT version FROM __diesel_schema_migrations");
    let steps = steps.rows::<Text, String>(&mut link.connection)?;
    let database = steps.iter().filter_map(|step| step.parse().ok()).max().unwrap_or_default();
    Ok(Schema { program: NUMBER, database, oldest })
}

/// Brings the database to this program's schema; how many steps that took. One that is newer stays as it is.
pub(crate) fn up(link: &mut Link) -> Result<usize, Error> {
    let mut tried = 1;
    loop {
        match transaction::within(link, steps) {
            Err(Fault::Transient(_) | Fault::Refused(Error::Busy))
                if link.dialect == Dialect::Postgres && tried < TRIES =>
            {
                tracing::info!(
                    tried,
                    "others use the database: the schema is brought up to date in a moment"
                );
                thread::sleep(PAUSE);
                tried += 1;
            }
            done => return Ok(done?),
        }
    }
}

fn steps(link: &mut Link) -> Result<usize, Fault> {
    if link.dialect == Dialect::Postgres {
        let mut sql = Sql::new(link.dialect, "SELECT pg_advisory_xact_lock(");
        sql.int(LOCK).push(")");
        sql.run(&mut link.connection)?;
        link.execute(TURN)?;
    }
    // Of a newer program's steps nothing is known here, and nothing has to be.
    let done = match &mut link.connection {
        Database::Sqlite(inner) => inner.run_pending_migrations(SQLITE).map(|done| done.len()),
        Database::Postgres(inner) => inner.run_pending_migrations(POSTGRES).map(|done| done.len()),
    };
    let done = done.map_err(|error| {
        let text = format!("migration: {error}");
        let in_the_way = ["lock timeout", "deadlock detected"].iter().any(|words| text.contains(words));
        if in_the_way { Fault::Transient(text) } else { Fault::Database(text) }
    })?;
    let schema = schema(link)?;
    schema.serves()?;
    if schema.database > schema.program {
        let (program, database) = (schema.program, schema.database);
        tracing::info!(program, database, "the schema is a newer version's, which serves this one too");
    }
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

/// Is the schema one that this program can work on as it is?
///
/// # Errors
/// It is older than the program, or serves newer ones alone.
pub(crate) fn is_fit(link: &mut Link) -> Result<(), Error> {
    let pending = match &mut link.connection {
        Database::Sqlite(inner) => inner.has_pending_migration(SQLITE),
        Database::Postgres(inner) => inner.has_pending_migration(POSTGRES),
    };
    if pending.map_err(Error::internal)? {
        return Err(Error::Internal("the schema is older than this program: run migrate".into()));
    }
    schema(link)?.serves()
}

#[cfg(test)]
mod tests {
    use diesel::migration::MigrationSource;
    use diesel::pg::Pg;
    use diesel::sqlite::Sqlite;

    use super::*;

    #[test]
    fn the_last_step_has_the_number_of_the_schema() {
        let sqlite = MigrationSource::<Sqlite>::migrations(&SQLITE).unwrap();
        let postgres = MigrationSource::<Pg>::migrations(&POSTGRES).unwrap();
        let numbers = [
            sqlite.iter().map(|one| one.name().version().to_string()).max(),
            postgres.iter().map(|one| one.name().version().to_string()).max(),
        ];
        assert_eq!(numbers, [(); 2].map(|()| Some(format!("{NUMBER:04}"))));
    }

    #[test]
    fn a_program_serves_until_the_database_says_that_it_is_too_old() {
        let at = |oldest| Schema { program: NUMBER, database: NUMBER + 1, oldest }.serves();
        assert!(at(0).is_ok() && at(NUMBER).is_ok());
        assert!(at(NUMBER + 1).unwrap_err().to_string().contains("too old"));
    }
}
