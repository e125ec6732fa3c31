//! The moment a search began at. Its later pages show what is there when they are asked for, each
//! resource in the place it had at that moment: what was updated meanwhile does not come twice and
//! is not left out, what was created meanwhile is for the next search.
//!
//! On SQLite versions are numbered as they are committed, so the greatest number is the moment. On
//! PostgreSQL transactions overtake each other: there it is the database's own snapshot
//! (`pg_current_snapshot`), compared with who wrote a row (`xmin`).
//!
//! A replica does not say which transactions were open in its snapshot. A search that is begun there is of a
//! moment of the primary's, shortly before, which its first page keeps to as later ones do.

use diesel::sql_types::{BigInt, Text};

use crate::connection::Link;
use crate::cursor::Cursor;
use crate::error::Fault;
use crate::record::Stored;
use crate::row;
use crate::sql::{Dialect, Sql, chunks};

/// Microseconds from the time a version is stamped with to its commit, at most: what was stamped
/// earlier than this before the moment is not compared.
pub(crate) const UNDER_WAY: i64 = 180_000_000;
/// Numbers of transactions in a row's `xmin` count round after these.
const ROUND: i64 = 0xffff_ffff;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The greatest key there was.
    Key(i64),
    Snapshot(Snapshot),
}

/// Transactions: all below `low` had ended, none from `high` on, and of those between not these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By the database's clock, microseconds since 1970 UTC.
    at: i64,
    low: i64,
    high: i64,
    open: Vec<i64>,
    /// A transaction that none is above yet, when it is compared.
    next: i64,
}

/// Which versions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those that were current at the moment and are.
    Unchanged,
    /// Those that took another's place since.
    Changed,
}

/// What PostgreSQL says of the moment of a statement, for [`Moment::of`].
pub(crate) const NOW: &str =
    "CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT), CAST(pg_current_snapshot() AS TEXT)";

impl Moment {
    pub(crate) fn now(link: &mut Link) -> Result<Self, Fault> {
        if link.dialect == Dialect::Sqlite {
            let sql = Sql::new(link.dialect, "SELECT COALESCE(MAX(key), 0) FROM resource");
            let key = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
            return Ok(Self::Key(key.unwrap_or_default()));
        }
        let mut sql = Sql::new(link.dialect, "SELECT ");
        sql.push(NOW);
        let found = sql.rows::<(BigInt, Text), (i64, String)>(&mut link.connection)?.pop();
        let (at, snapshot) = found.unwrap_or_default();
        Self::of(at, &snapshot)
    }

    /// That of a snapshot of PostgreSQL's.
    pub(crate) fn of(at: i64, snapshot: &str) -> Result<Self, Fault> {
        let snapshot = Snapshot::parse(&format!("{at}:{snapshot}"));
        snapshot.map(Self::Snapshot).ok_or_else(|| Fault::Database("a snapshot can't be read".into()))
    }

    /// The moment that a page's end names.
    pub(crate) fn parse(link: &mut Link, text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::from(Cursor::wrong());
        if link.dialect == Dialect::Sqlite {
            return text.parse().map(Self::Key).map_err(|_| wrong());
        }
        Self::Snapshot(Snapshot::parse(text).ok_or_else(wrong)?).here(link)
    }

    /// The same, to be compared with what this snapshot holds.
    pub(crate) fn here(self, link: &mut Link) -> Result<Self, Fault> {
        let Self::Snapshot(snapshot) = self else { return Ok(self) };
        let sql = Sql::new(
            link.dialect,
            "SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT)",
        );
        let next = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
        Ok(Self::Snapshot(Snapshot { next, ..snapshot }))
    }

    /// Is it plain that nothing was written between it and the snapshot it is compared with?
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Key(_) => false,
            Self::Snapshot(Snapshot { low, high, open, next, .. }) => {
                open.is_empty() && low == high && next <= high
            }
        }
    }

    /// Writes ` AND …` for rows `r` of `resource`.
    pub(crate) fn narrow(&self, sql: &mut Sql<'_>, part: Part) {
        match (self, part) {
            // The plus keeps the database from choosing its way by this.
            (Self::Key(key), Part::Unchanged) => {
                sql.push(" AND +r.key <= ").int(*key);
            }
            (Self::Key(key), Part::Changed) => {
                sql.push(" AND r.version > 1 AND r.key > ").int(*key);
            }
            (Self::Snapshot(snapshot), Part::Unchanged) => {
                sql.push(" AND (r.updated < ").int(snapshot.at.saturating_sub(UNDER_WAY)).push(" OR ");
                snapshot.seen(sql, "r");
                sql.push(")");
            }
            (Self::Snapshot(snapshot), Part::Changed) => {
                sql.push(" AND r.version > 1 AND r.updated >= ");
                sql.int(snapshot.at.saturating_sub(UNDER_WAY)).push(" AND NOT ");
                snapshot.seen(sql, "r");
            }
        }
    }

    /// The versions that were current at the moment, of resources that were changed since; none of
    /// those that were not there.
    pub(crate) fn former(&self, link: &mut Link, changed: &[Stored]) -> Result<Vec<Stored>, Fault> {
        let mut found = Vec::with_capacity(changed.len());
        for changed in chunks(changed) {
            let mut sql = Sql::new(link.dialect, "WITH w AS MATERIALIZED (SELECT v.column1 AS kind, ");
            sql.push("v.column2 AS id, (SELECT ");
            let of_it = " FROM history h WHERE h.kind = v.column1 AND h.id = v.column2 AND ";
            match self {
                Self::Key(key) => {
                    sql.push("MAX(h.version)").push(of_it).push("h.key <= ").int(*key);
                }
                // Who wrote a row of history took that version out of its place: it is the first that was
                // taken since. Those before may have been dropped.
                Self::Snapshot(snapshot) => {
                    sql.push("MIN(h.version)").push(of_it).push("NOT ");
                    snapshot.seen(&mut sql, "h");
                }
            }
            sql.push(") AS version FROM (VALUES ");
            for (n, stored) in changed.iter().enumerate() {
                sql.push(if n > 0 { ",(" } else { "(" }).int(i64::from(stored.kind.index()));
                sql.push(",").text(stored.id.as_str()).push(")");
            }
            sql.push(") AS v) SELECT ").push(row::COLUMNS).push(" FROM w, history r WHERE r.kind = w.kind");
            sql.push(" AND r.id = w.id AND r.version = w.version");
            found.extend(row::load(link, &sql)?.into_iter().filter(|stored| !stored.deleted));
        }
        Ok(found)
    }
}

impl Snapshot {
    /// `at:low:high:open,open`
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (at, low, high) = (number()?, number()?, number()?);
        let open = parts.next()?.split(',').filter(|one| !one.is_empty());
        let open: Vec<i64> = open.map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.next().is_none().then_some(Self { at, low, high, open, next: high })
    }

    /// Had the transaction that wrote the row ended?
    fn seen(&self, sql: &mut Sql<'_>, row: &str) {
        let writer = |sql: &mut Sql<'_>| {
            sql.push("(").int(self.next).push(" - ((").int(self.next).push(" - CAST(CAST(");
            sql.push(row).push(".xmin AS TEXT) AS BIGINT)) & ").int(ROUND).push("))");
        };
        sql.push("(");
        writer(sql);
        sql.push(" < ").int(self.low).push(" OR ");
        writer(sql);
        sql.push(" < ").int(self.high);
        if !self.open.is_empty() {
            sql.push(" AND ");
            writer(sql);
            sql.push(" NOT IN ").ints(self.open.iter().copied());
        }
        sql.push(")");
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Snapshot(Snapshot { at, low, high, open, .. }) => {
                write!(f, "{at}:{low}:{high}:")?;
                open.iter()
                    .enumerate()
                    .try_for_each(|(n, open)| write!(f, "{}{open}", if n > 0 { "," } else { "" }))
            }
        }
    }
}
