//! The time that processes go by where one compares what another wrote, as of who holds what until when: the
//! database's. It is asked now and then, and counted on by a clock that nobody sets, so it does not matter what a
//! process takes the time of day to be.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use diesel::sql_types::BigInt;

use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::sql::{Dialect, Sql};
use crate::store::Store;

/// Of so many answers the one that was soonest here counts: a statement's first is late.
const ASKED: usize = 3;
/// An answer that took longer tells less than what is known already.
const SLOW: Duration = Duration::from_secs(1);

/// What the database said last, in microseconds since 1970 UTC, and when that was.
#[derive(Debug, Default)]
pub(crate) struct Clock(RwLock<Option<(Instant, i64)>>);

impl Clock {
    /// The database's time; `at` where it was not asked, or is a file of this machine.
    pub(crate) fn time(&self, at: i64) -> i64 {
        match *self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some((told, time)) => time.saturating_add(micros(told.elapsed())),
            None => at,
        }
    }

    fn set(&self, (told, time, took): (Instant, i64, Duration)) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() || took <= SLOW {
            *known = Some((told, time));
        }
    }
}

impl Link {
    /// [`Store::time`]
    pub(crate) fn time(&self, at: i64) -> i64 {
        self.clock.time(at)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// What time PostgreSQL says that it is, microseconds since 1970 UTC.
pub(crate) fn told(link: &mut Link) -> Result<i64, Fault> {
    let sql =
        Sql::new(link.dialect, "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)");
    let time = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    time.ok_or_else(|| Fault::Database("the database says no time".into()))
}

/// When it was told, what, and how long that took: it was told in the middle of that.
fn ask(link: &mut Link) -> Result<Option<(Instant, i64, Duration)>, Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(None);
    }
    let mut best: Option<(Instant, i64, Duration)> = None;
    for _ in 0..ASKED {
        let began = Instant::now();
        let time = told(link)?;
        let took = began.elapsed();
        if best.is_none_or(|(.., least)| took < least) {
            best = Some((began + took / 2, time, took));
        }
    }
    Ok(best)
}

impl Store {
    /// Asks the database for its time, which [`Self::time`] goes by from then on.
    pub async fn ask_time(&self) -> Result<(), Error> {
        if let Some(told) = self.pool.run(ask).await? {
            self.clock.set(told);
        }
        Ok(())
    }

    /// What time it is for all processes on this database, when it is `at` for this one; microseconds since 1970 UTC.
    pub fn time(&self, at: i64) -> i64 {
        self.clock.time(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_counts_whatever_a_machine_takes_the_time_to_be() {
        let clock = Clock::default();
        assert_eq!(clock.time(5), 5);
        let told = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        clock.set((told, 7_000_000, Duration::ZERO));
        assert!((8_000_000..9_000_000).contains(&clock.time(5)));
        clock.set((Instant::now(), 70_000_000, SLOW * 2));
        assert!((8_000_000..9_000_000).contains(&clock.time(5)));
    }
}
