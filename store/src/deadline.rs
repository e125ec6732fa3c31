//! How long a question may take. PostgreSQL ends a statement by itself; SQLite is asked to call
//! [`in_time`] for each row of a search, which fails when the time is over. It gets a column of the
//! table whose rows these are: without one SQLite calls it for the rows of the outermost loop alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::serialize::{IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Bool};
use diesel::sqlite::{Sqlite, SqliteConnection};

/// What a question that took too long fails with.
pub(crate) const OVER: &str = "the time for a question is over";

#[diesel::declare_sql_function]
extern "SQL" {
    /// True until the deadline of the connection, then an error.
    fn in_time(key: BigInt) -> Bool;
}

/// The moment at which a connection's question ends; none while it has none.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    began: Instant,
    /// Milliseconds after `began`.
    end: Arc<AtomicU64>,
}

impl Deadline {
    /// Teaches a connection `in_time()`.
    pub(crate) fn of(connection: &mut SqliteConnection) -> QueryResult<Self> {
        let deadline = Self { began: Instant::now(), end: Arc::new(AtomicU64::new(u64::MAX)) };
        let held = deadline.clone();
        in_time_utils::register_nondeterministic_impl(connection, move |_: i64| InTime(!held.is_over()))?;
        Ok(deadline)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        // While there is none, the clock is not asked.
        let end = self.end.load(Ordering::Relaxed);
        end != u64::MAX && self.now() >= end
    }

    /// Begins a question.
    pub(crate) fn start(&self, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.end.store(self.now().saturating_add(patience), Ordering::Relaxed);
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        self.end.store(u64::MAX, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct InTime(bool);

impl ToSql<Bool, Sqlite> for InTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> diesel::serialize::Result {
        if !self.0 {
            return Err(OVER.into());
        }
        out.set_value(1_i32);
        Ok(IsNull::No)
    }
}
