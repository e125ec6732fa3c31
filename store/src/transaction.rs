//! Several units of work in one transaction, each of which succeeds or fails by itself.

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::sql_types::BigInt;

use crate::audit;
use crate::connection::{Database, Link};
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::record::Written;
use crate::sql::{Dialect, Sql};
use crate::unit::Unit;

/// What one unit came to.
pub(crate) type Answer = Result<Vec<Written>, Error>;

/// Runs all units between one BEGIN and one COMMIT, neighbours that only create as one. The answers count only if the whole is `Ok`:
/// then they are durable. A fault means that nothing at all was written, unless it is
/// [`Fault::Lost`] with the outcome unknown.
///
/// A savepoint per unit copies every page that the unit touches, and hardly a unit ever fails
/// after it changed something. So the first try has none; if one fails midway, all is rolled back
/// and done once more with them.
pub(crate) fn run(link: &mut Link, keys: &Numbers, units: &[&Unit]) -> Result<Vec<Answer>, Fault> {
    let mut midway = false;
    let first = begun(link, Begin::Writing, |link| {
        follow(link, keys)?;
        let mut answers = Vec::with_capacity(units.len());
        for several in units.chunk_by(|one, next| one.only_creates() && next.only_creates()) {
            let done = match several {
                [unit] => unit.run(link, keys).map(|written| vec![written]),
                several => Unit::run_together(several, link, keys),
            };
            match done {
                Ok(written) => answers.extend(written.into_iter().map(Ok)),
                Err(fault) if units.len() == 1 => return Err(fault),
                Err(Fault::Refused(error)) if several.len() == 1 && !link.touched => answers.push(Err(error)),
                Err(fault) => {
                    midway = match (&fault, link.dialect) {
                        // Each would wait as long for what this one waited for.
                        (Fault::Refused(Error::Busy), Dialect::Postgres) => false,
                        (Fault::Refused(_), _) => true,
                        (fault, dialect) => dialect == Dialect::Sqlite && !matches!(fault, Fault::Disk(_)),
                    };
                    return Err(fault);
                }
            }
        }
        Ok(answers)
    });
    match first {
        Err(Fault::Refused(error)) if units.len() == 1 => Ok(vec![Err(error)]),
        Err(_) if midway => begun(link, Begin::Writing, |link| {
            follow(link, keys)?;
            units.iter().map(|unit| one(link, keys, unit)).collect()
        }),
        other => other,
    }
}

fn follow(link: &mut Link, keys: &Numbers) -> Result<(), Fault> {
    if link.dialect == Dialect::Postgres {
        return Ok(());
    }
    if let Some(authority) = link.authority.clone() {
        authority.follow(link)?;
    }
    keys.follow(link)
}

/// How a transaction begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// It may write nothing.
    Looking,
    /// On PostgreSQL it has a number before it looks at anything: who waits for all that did not know of a
    /// Subscription sees it.
    Writing,
}

/// Runs `work` in a transaction; COMMIT's own answer is part of the result.
pub(crate) fn within<T>(
    link: &mut Link,
    work: impl FnOnce(&mut Link) -> Result<T, Fault>,
) -> Result<T, Fault> {
    begun(link, Begin::Looking, work)
}

fn begun<T>(
    link: &mut Link,
    how: Begin,
    work: impl FnOnce(&mut Link) -> Result<T, Fault>,
) -> Result<T, Fault> {
    begin(link, how)?;
    let result = work(link).and_then(|value| {
        audit::flush(link)?;
        <Database as TransactionManager<Database>>::commit_transaction(&mut link.connection)
            .map(|()| {
                link.charts.learn(&mut link.brought);
                if let Some(authority) = &link.authority {
                    authority.wrote(&mut link.met, &mut link.leaves);
                }
                if let (true, Some(register)) = (std::mem::take(&mut link.queued), &link.register) {
                    register.queued.notify_one();
                }
                value
            })
            .map_err(|error| match Fault::from(error) {
                // Nobody knows whether it happened: it must not be tried again blindly.
                Fault::Lost(text) => Fault::Undecided(format!("lost during commit: {text}")),
                other => other,
            })
    });
    if result.is_err() {
        link.brought.clear();
        link.audited.clear();
        link.met.clear();
        link.leaves.clear();
        link.queued = false;
        roll_back(link);
    }
    result
}

/// SQLite takes the write lock at once: a transaction that begins by reading can't be upgraded
/// once another process has written.
fn begin(link: &mut Link, how: Begin) -> Result<(), Fault> {
    let text = match how {
        Begin::Looking => "BEGIN",
        Begin::Writing => "BEGIN; SELECT pg_current_xact_id()",
    };
    let begun = match &mut link.connection {
        Database::Sqlite(inner) => AnsiTransactionManager::begin_transaction_sql(inner, "BEGIN IMMEDIATE"),
        Database::Postgres(inner) => AnsiTransactionManager::begin_transaction_sql(inner, text),
    };
    begun.map_err(|error| {
        let fault = Fault::from(error);
        link.broken |= matches!(fault, Fault::Lost(_));
        fault
    })
}

/// All transactions with a lower number that wrote into this database have ended, and a snapshot taken after this
/// answer has what they did: not that of a transaction that has begun with one. PostgreSQL's own `xmin` waits for
/// those of other databases of the cluster too, which may be open for hours. On SQLite one writes at a time.
pub(crate) fn ended_before(link: &mut Link) -> Result<i64, Fault> {
    if link.dialect == Dialect::Sqlite {
        return Ok(i64::MAX);
    }
    // Sessions show the lower 32 bits of a number: it is less than 2^31 away from the next one.
    let sql = Sql::new(
        link.dialect,
        "SELECT LEAST(n.next, MIN(n.next + o.away - CASE WHEN o.away >= 2147483648 THEN 4294967296 ELSE 0 END)) \
         FROM (SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) AS low, \
         CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT) AS next) n \
         LEFT JOIN LATERAL (SELECT (CAST(CAST(t.number AS TEXT) AS BIGINT) - n.next) & 4294967295 AS away FROM \
         (SELECT backend_xid AS number FROM pg_stat_activity WHERE datname = current_database() \
         UNION ALL SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()) t \
         WHERE n.low < n.next AND t.number IS NOT NULL) o ON TRUE GROUP BY n.next",
    );
    let found = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    found.ok_or_else(|| Fault::Database("no snapshot".to_owned()))
}

fn roll_back(link: &mut Link) {
    let depth =
        <Database as TransactionManager<Database>>::transaction_manager_status_mut(&mut link.connection)
            .transaction_depth();
    // A failed COMMIT may have ended the transaction already.
    if matches!(depth, Ok(None)) {
        return;
    }
    if let Err(error) = <Database as TransactionManager<Database>>::rollback_transaction(&mut link.connection)
    {
        tracing::warn!(%error, "a transaction could not be rolled back; its connection is dropped");
        link.broken = true;
    }
}

/// One unit in its own savepoint. PostgreSQL's transient faults end the transaction for all.
fn one(link: &mut Link, keys: &Numbers, unit: &Unit) -> Result<Answer, Fault> {
    <Database as TransactionManager<Database>>::begin_transaction(&mut link.connection)?;
    let (brought, audited) = (link.brought.len(), link.audited.len());
    let result = unit.run(link, keys);
    match result {
        Ok(written) => {
            <Database as TransactionManager<Database>>::commit_transaction(&mut link.connection)?;
            Ok(Ok(written))
        }
        Err(fault) => {
            let ends = match &fault {
                Fault::Refused(_) => false,
                // SQLite has rolled back everything, then.
                Fault::Lost(_) | Fault::Disk(_) => true,
                Fault::Transient(_) | Fault::Database(_) | Fault::Undecided(_) => {
                    link.dialect == Dialect::Postgres
                }
            };
            if ends {
                return Err(fault);
            }
            <Database as TransactionManager<Database>>::rollback_transaction(&mut link.connection)?;
            link.brought.truncate(brought);
            link.audited.truncate(audited);
            Ok(Err(fault.into()))
        }
    }
}
