//! The numbers that versions, and rows of the audit trail, get: unique for ever, growing.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::sql_types::BigInt;

use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};

/// `INCREMENT BY` of the PostgreSQL sequence: what one `nextval` buys.
const BLOCK: i64 = 64;
/// A block is used within that time or not at all: once the sequence was moved on, nobody writes before it for long.
const FRESH: Duration = Duration::from_secs(5);
/// The greatest number of a version.
const LAST: &str = "SELECT MAX(COALESCE((SELECT MAX(key) FROM resource), 0), \
                    COALESCE((SELECT MAX(key) FROM history), 0))";

/// Where the numbers of one kind come from.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// PostgreSQL's.
    sequence: &'static str,
    left: Mutex<Left>,
}

/// Numbers that are not used yet, and since when.
#[derive(Debug, Default)]
struct Left {
    numbers: Range<i64>,
    since: Option<Instant>,
}

impl Numbers {
    pub(crate) fn new(sequence: &'static str) -> Self {
        Self { sequence, left: Mutex::default() }
    }

    /// Those of versions.
    pub(crate) fn of_versions() -> Self {
        Self::new("resource_key")
    }

    /// SQLite: all writers hold the one write lock, so the greatest number of a version so far is known.
    pub(crate) fn follow(&self, link: &mut Link) -> Result<(), Fault> {
        let sql = Sql::new(Dialect::Sqlite, LAST);
        let last: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
        self.go_on(last.first().copied().unwrap_or_default());
        Ok(())
    }

    /// The next number is the one after that.
    pub(crate) fn go_on(&self, last: i64) {
        let next = last.saturating_add(1);
        *self.left() = Left { numbers: next..i64::MAX, since: None };
    }

    /// PostgreSQL: those that are left are not used any more.
    pub(crate) fn forget(&self) {
        *self.left() = Left::default();
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `count` numbers, in growing order.
    pub(crate) fn take(&self, link: &mut Link, count: usize) -> Result<Vec<i64>, Fault> {
        let mut taken = {
            let mut left = self.left();
            if left.since.is_some_and(|since| since.elapsed() > FRESH) {
                *left = Left::default();
            }
            left.numbers.by_ref().take(count).collect::<Vec<i64>>()
        };
        let missing = count.saturating_sub(taken.len());
        if missing > 0 {
            let blocks = i64::try_from(missing).unwrap_or(i64::MAX).saturating_add(BLOCK - 1) / BLOCK;
            let mut sql = Sql::new(link.dialect, "SELECT nextval('");
            sql.push(self.sequence).push("') FROM generate_series(1, ");
            sql.int(blocks).push(")");
            let mut starts: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
            starts.sort_unstable();
            let last = starts.last().copied();
            for start in starts {
                let block = start..start.saturating_add(BLOCK);
                let used = count.saturating_sub(taken.len());
                taken.extend(block.clone().take(used));
                if Some(start) == last {
                    let rest = start.saturating_add(i64::try_from(used).unwrap_or(BLOCK))..block.end;
                    *self.left() = Left { numbers: rest, since: Some(Instant::now()) };
                }
            }
        }
        Ok(taken)
    }
}
