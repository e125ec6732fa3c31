//! The number every written version gets: unique for ever, growing.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use diesel::sql_types::BigInt;

use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Dialect, Sql};

/// `INCREMENT BY` of the PostgreSQL sequence: what one `nextval` buys.
const BLOCK: i64 = 64;

/// Where numbers come from.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Range<i64>>);

impl Keys {
    /// SQLite: all writers hold the one write lock, so the greatest number so far is known.
    pub(crate) fn follow(&self, link: &mut Link) -> Result<(), Fault> {
        let sql = Sql::new(
            Dialect::Sqlite,
            "SELECT MAX(COALESCE((SELECT MAX(key) FROM resource), 0), \
             COALESCE((SELECT MAX(key) FROM history), 0))",
        );
        let last: Vec<i64> = sql.rows::<BigInt, i64>(&mut link.connection)?;
        let next = last.first().copied().unwrap_or_default().saturating_add(1);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next..i64::MAX;
        Ok(())
    }

    /// Takes `count` numbers, in growing order.
    pub(crate) fn take(&self, link: &mut Link, count: usize) -> Result<Vec<i64>, Fault> {
        let mut taken = {
            let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            left.by_ref().take(count).collect::<Vec<i64>>()
        };
        let missing = count.saturating_sub(taken.len());
        if missing > 0 {
            let blocks = i64::try_from(missing).unwrap_or(i64::MAX).saturating_add(BLOCK - 1) / BLOCK;
            let mut sql = Sql::new(link.dialect, "SELECT nextval('resource_key') FROM generate_series(1, ");
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
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rest;
                }
            }
        }
        Ok(taken)
    }
}
