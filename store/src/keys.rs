//! The numbers that versions, and rows of the audit trail, get: unique for ever, growing.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use diesel::sql_types::BigInt;

use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};

/// `INCREMENT BY` of the PostgreSQL sequence: what one `nextval` buys.
const BLOCK: i64 = 64;
/// The greatest number of a version.
const LAST: &str = "SELECT MAX(COALESCE((SELECT MAX(key) FROM resource), 0), \
                    COALESCE((SELECT MAX(key) FROM history), 0))";

/// Where the numbers of one kind come from.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// PostgreSQL's.
    sequence: &'static str,
    left: Mutex<Range<i64>>,
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
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = next..i64::MAX;
    }

    /// Takes `count` numbers, in growing order.
    pub(crate) fn take(&self, link: &mut Link, count: usize) -> Result<Vec<i64>, Fault> {
        let mut taken = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.by_ref().take(count).collect::<Vec<i64>>()
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
                    *self.left.lock().unwrap_or_else(PoisonError::into_inner) = rest;
                }
            }
        }
        Ok(taken)
    }
}
