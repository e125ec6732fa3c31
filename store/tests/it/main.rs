//! The store's own suite: every test on a new SQLite file and on a new PostgreSQL schema
//! (`AUGURY_TEST_POSTGRES`, a URL of a database in which schemas may be made).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail")]

/// Runs a test on both databases.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { $crate::place::Place::sqlite().run(super::$name); })+
        }
        mod postgres {
            $(#[test] fn $name() { $crate::place::Place::postgres().run(super::$name); })+
        }
    };
}

mod access;
mod audit;
mod audit_guarded;
mod audit_kept;
mod audit_moved;
mod audit_retired;
mod audit_tampering;
mod audit_unreadable;
mod authorization;
mod claims;
mod consent;
mod kill;
mod paging;
mod parts;
mod parts_of_events;
mod place;
mod prune;
mod queue;
mod race;
mod random_search;
mod registry;
mod schema;
mod search;
mod write;
