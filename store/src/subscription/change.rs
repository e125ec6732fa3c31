//! Versions that somebody may be to be told of.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::sql_types::BigInt;
use fhir::resource_type::ResourceType;
use fhir::search::Index;

use super::{Interest, SubscriptionStatus, stamp};
use crate::connection::Link;
use crate::error::Fault;
use crate::record::{Effect, Stored};
use crate::row;
use crate::sql::{Dialect, Sql, chunks};

/// A version, and the one that it replaced.
#[derive(Debug, Clone)]
pub struct Change {
    /// Grows; of what follows from each other what follows has the greater one.
    pub place: i64,
    /// The version; it may say that the resource was deleted.
    pub now: Stored,
    /// The version before; it may say that the resource was deleted.
    pub before: Option<Stored>,
}

impl Change {
    /// What was done.
    pub fn effect(&self) -> Effect {
        match &self.before {
            _ if self.now.deleted => Effect::Deleted,
            Some(before) if !before.deleted => Effect::Updated,
            _ => Effect::Created,
        }
    }
}

/// Whether versions are for somebody, as far as that is known in the open transaction.
pub(crate) enum Watch {
    /// There is no Subscription.
    Nobody,
    /// This decides.
    Known(Arc<Interest>),
    /// There are some that this process does not know yet: what is for none of them is sorted out later.
    Unknown,
}

impl Watch {
    pub(crate) fn of(link: &mut Link) -> Result<Self, Fault> {
        let stamp = stamp(link)?;
        let known = link.register.as_ref().map(|register| register.interest(stamp));
        Ok(match known {
            _ if stamp == 0 => Self::Nobody,
            Some((true, Some(interest))) => Self::Known(interest),
            _ => {
                let mut sql = Sql::new(link.dialect, "SELECT number FROM subscription WHERE status <> ");
                sql.int(super::number(SubscriptionStatus::Off)).limit(1);
                let any = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
                if any.is_some() { Self::Unknown } else { Self::Nobody }
            }
        })
    }

    pub(crate) fn wants(&self, kind: ResourceType, before: Option<&Index>, after: Option<&Index>) -> bool {
        match self {
            Self::Nobody => false,
            Self::Known(interest) => interest(kind, before, after),
            Self::Unknown => true,
        }
    }
}

/// Queues versions by their keys.
pub(crate) fn queue(link: &mut Link, keys: &[i64]) -> Result<(), Fault> {
    link.queued |= !keys.is_empty();
    for keys in chunks(keys) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO change (key) VALUES ");
        for (n, key) in keys.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*key).push(")");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// The last place that was given.
pub(super) fn last(link: &mut Link) -> Result<i64, Fault> {
    let text = match link.dialect {
        Dialect::Sqlite => "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'change'), 0)",
        Dialect::Postgres => "SELECT nextval(pg_get_serial_sequence('change', 'place'))",
    };
    let sql = Sql::new(link.dialect, text);
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default())
}

/// Queued changes, oldest first.
pub(super) fn waiting(link: &mut Link, most: usize) -> Result<Vec<Change>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT place, key FROM change ORDER BY place");
    sql.limit(most);
    let queued: Vec<(i64, i64)> = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?;
    let keys: Vec<i64> = queued.iter().map(|(_, key)| *key).collect();
    let mut versions = versions(link, &keys)?;
    let follow = versions.values().filter(|one| one.version > 1);
    let replaced: Vec<(ResourceType, &str, i64)> =
        follow.map(|one| (one.kind, one.id.as_str(), one.version - 1)).collect();
    let mut replaced: HashMap<(ResourceType, String, i64), Stored> = row::all_earlier(link, &replaced)?
        .into_iter()
        .map(|one| ((one.kind, one.id.clone(), one.version), one))
        .collect();
    let mut changes = Vec::with_capacity(queued.len());
    for (place, key) in queued {
        let Some(now) = versions.remove(&key) else {
            return Err(Fault::Database(format!("there is no version with the key {key}")));
        };
        let before = replaced.remove(&(now.kind, now.id.clone(), now.version - 1));
        changes.push(Change { place, now, before });
    }
    Ok(changes)
}

/// Versions by their keys, current or not.
pub(super) fn versions(link: &mut Link, keys: &[i64]) -> Result<HashMap<i64, Stored>, Fault> {
    let mut found = HashMap::with_capacity(keys.len());
    // A version that moves into history meanwhile is found in one of them, or in both.
    for table in ["resource", "history"] {
        let missing: Vec<i64> = keys.iter().copied().filter(|key| !found.contains_key(key)).collect();
        for keys in chunks(&missing) {
            let mut sql = Sql::new(link.dialect, "SELECT ");
            sql.push(row::COLUMNS).push(" FROM ").push(table).push(" r WHERE r.key IN ");
            sql.ints(keys.iter().copied());
            found.extend(row::load(link, &sql)?.into_iter().map(|stored| (stored.key, stored)));
        }
    }
    Ok(found)
}
