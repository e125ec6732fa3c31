//! Old versions go when an operator says so: on PostgreSQL those of whole parts of the table, on SQLite all that are
//! old. What somebody still goes by stays: versions that a RiskAssessment names, so that it can be made again, and the
//! last one with content of what is deleted, which says whose it was. A resource loses its first versions alone.
//!
//! They go row by row, some in each transaction, and what stays is not touched: searches that began before tell by who
//! wrote a row whether it was there. Nobody waits for it.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Text};
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use fhir::subscription::SubscriptionStatus;

use crate::audit::{Act, Entry};
use crate::clock;
use crate::connection::{Link, Use};
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::moment::UNDER_WAY;
use crate::partition;
use crate::reader;
use crate::sql::{Dialect, Sql, chunks};
use crate::store::Store;
use crate::subscription::sweep::{self, Sweep};
use crate::unit::Unit;

/// RiskAssessments read at a time.
const READ: usize = 1000;
/// Versions that leave in one transaction.
const TOGETHER: usize = 5000;
/// How often it is looked again for what may go, where somebody began to go by some of it.
const TRIES: u32 = 8;

/// Old versions that go, or went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Of each part of the table, or of the table where it has none: what it is called, and how many.
    pub gone: Vec<(String, u64)>,
    /// Versions that stay there, as somebody goes by them, or (where there are parts) as they were current until a
    /// moment ago.
    pub needed: u64,
    /// Parts that stay as they hold newer versions too, or come behind such a one; and how many old ones they hold.
    pub mixed: Vec<(String, u64)>,
    /// Events about these versions that Subscriptions are still to be told of: none goes before.
    pub awaited: u64,
}

/// What leaves the database in one transaction.
#[derive(Debug)]
pub(crate) enum Leaving {
    Events(Sweep),
    Versions(Pruning),
}

/// Versions that leave: some of what is to go.
#[derive(Debug)]
pub(crate) struct Pruning {
    keys: Vec<i64>,
    /// What was written since then was not looked at.
    since: i64,
}

/// What is to go: all old ones from one key to another but those that stay.
#[derive(Debug)]
struct Old {
    name: String,
    low: i64,
    high: i64,
    stay: HashSet<i64>,
    since: i64,
}

/// Does it, inside the open transaction.
pub(crate) fn write(link: &mut Link, leaving: &Leaving) -> Result<(), Fault> {
    link.touched = true;
    match leaving {
        Leaving::Events(sweep) => sweep::write(link, sweep),
        Leaving::Versions(pruning) => remove(link, pruning),
    }
}

/// All of it, or nothing: what is said to have gone has.
fn remove(link: &mut Link, Pruning { keys, since }: &Pruning) -> Result<(), Fault> {
    let changed = || Fault::from(Error::Conflict { current: 0 });
    let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else { return Ok(()) };
    if awaited(link, *first, *last, i64::MAX)? > 0 {
        let why = "Subscriptions are still to be told of some of it: what went before is gone";
        return Err(Error::Precondition(why.into()).into());
    }
    let going: HashSet<i64> = keys.iter().copied().collect();
    if named(link, Some(*since))?.iter().any(|key| going.contains(key)) {
        return Err(changed());
    }
    for keys in chunks(keys) {
        if !replaced(link, *since, Some(keys))?.is_empty() {
            return Err(changed());
        }
        let mut sql = Sql::new(link.dialect, "DELETE FROM history WHERE key IN ");
        sql.ints(keys.iter().copied());
        if sql.run(&mut link.connection)? != keys.len() {
            return Err(changed());
        }
    }
    Ok(())
}

/// The versions, all or of these, that were replaced since then: what took their place is as new.
fn replaced(link: &mut Link, since: i64, of: Option<&[i64]>) -> Result<Vec<i64>, Fault> {
    let kinds = || ResourceType::all().map(|kind| i64::from(kind.index()));
    let mut sql = Sql::new(link.dialect, "SELECT h.key FROM (");
    for (n, versions) in ["resource", "history"].into_iter().enumerate() {
        sql.push(if n > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT kind, id, version FROM ").push(versions).push(" WHERE updated >= ").int(since);
        sql.push(" AND kind IN ").ints(kinds());
    }
    sql.push(") n JOIN history h ON h.kind = n.kind AND h.id = n.id AND h.version = n.version - 1");
    if let Some(keys) = of {
        sql.push(" WHERE h.key IN ").ints(keys.iter().copied());
    }
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
}

/// The versions that RiskAssessments name: all of these, or those that were written since then.
fn named(link: &mut Link, since: Option<i64>) -> Result<Vec<i64>, Fault> {
    let (mut found, mut last) = (Vec::new(), String::new());
    loop {
        let mut sql = Sql::new(link.dialect, "SELECT r.id, r.body FROM resource r WHERE r.kind = ");
        sql.int(i64::from(ResourceType::RISK_ASSESSMENT.index())).push(" AND r.id > ").text(last.clone());
        if let Some(since) = since {
            sql.push(" AND r.updated >= ").int(since);
        }
        sql.push(" ORDER BY r.id").limit(READ);
        let rows = sql.rows::<(Text, Text), (String, String)>(&mut link.connection)?;
        let mut versions: Vec<(i64, &str, i64)> = rows.iter().flat_map(|(_, body)| versions(body)).collect();
        versions.sort_unstable();
        versions.dedup();
        for versions in chunks(&versions) {
            let mut sql = Sql::new(link.dialect, "SELECT h.key FROM history h");
            sql.push(" WHERE (h.kind, h.id, h.version) IN (VALUES ");
            for (n, (kind, id, version)) in versions.iter().enumerate() {
                sql.push(if n > 0 { ",(" } else { "(" }).int(*kind).push(",").text(*id);
                sql.push(",").int(*version).push(")");
            }
            sql.push(")");
            found.extend(sql.rows::<BigInt, i64>(&mut link.connection)?);
        }
        match rows.last() {
            Some((id, _)) if rows.len() == READ => last.clone_from(id),
            _ => return Ok(found),
        }
    }
}

/// The versions that a resource names.
fn versions(body: &str) -> impl Iterator<Item = (i64, &str, i64)> {
    body.split('"').filter(|text| text.contains("/_history/")).filter_map(|text| {
        match reference::parse(text, "") {
            Reference::Local { kind, id, version: Some(version) } => {
                Some((i64::from(kind.index()), id, version.parse().ok()?))
            }
            _ => None,
        }
    })
}

/// Events that are not delivered yet, or were put aside, and changes of which it is not decided for whom they are, that
/// need old versions with these keys. A deletion is shown by the version before.
fn awaited(link: &mut Link, first: i64, last: i64, before: i64) -> Result<u64, Fault> {
    let off = crate::subscription::number(SubscriptionStatus::Off);
    let events = [
        "subscription s JOIN event e ON e.subscription = s.number AND e.number > s.delivered \
         AND s.events > s.delivered",
        "dead_letter d JOIN event e ON e.subscription = d.subscription AND e.number = d.number \
         JOIN subscription s ON s.number = d.subscription",
    ];
    let deleted = |table: &str| {
        format!(
            " JOIN {table} v ON v.key = e.key AND e.effect = 2 \
             JOIN history h ON h.kind = v.kind AND h.id = v.id AND h.version = v.version - 1"
        )
    };
    let needed = [" JOIN history h ON h.key = e.key".to_owned(), deleted("resource"), deleted("history")];
    let mut all = 0;
    let mut count = |sql: &mut Sql<'_>| -> Result<(), Fault> {
        sql.push(" h.key >= ").int(first).push(" AND h.key <= ").int(last);
        sql.push(" AND h.updated < ").int(before);
        all += sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default().unsigned_abs();
        Ok(())
    };
    for (events, needed) in events.iter().flat_map(|events| needed.iter().map(move |needed| (events, needed)))
    {
        let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM ");
        sql.push(events).push(needed).push(" WHERE s.status <> ").int(off).push(" AND");
        count(&mut sql)?;
    }
    let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM change c JOIN (");
    for (n, versions) in ["resource", "history"].into_iter().enumerate() {
        sql.push(if n > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT v.key, v.kind, v.id, v.version FROM ").push(versions);
        sql.push(" v WHERE v.key IN (SELECT key FROM change)");
    }
    sql.push(") v ON v.key = c.key JOIN history");
    sql.push(" h ON h.kind = v.kind AND h.id = v.id AND h.version IN (v.version, v.version - 1) WHERE");
    count(&mut sql)?;
    Ok(all)
}

/// The time that versions are new by: on PostgreSQL not that of the machine where this was asked for.
fn now(link: &mut Link, at: i64) -> Result<i64, Fault> {
    if link.dialect == Dialect::Sqlite { Ok(at) } else { clock::told(link) }
}

/// Writes the condition of `history h`: it is old, and so are those before it. Of parts all are, or it was found that they
/// come behind newer ones.
fn is_old(sql: &mut Sql<'_>, before: i64) {
    sql.push(" h.updated < ").int(before);
    if sql.dialect() == Dialect::Postgres {
        return;
    }
    sql.push(" AND NOT EXISTS (SELECT 1 FROM history e WHERE e.kind = h.kind AND e.id = h.id");
    sql.push(" AND e.version < h.version AND e.updated >= ").int(before).push(")");
}

/// What goes, and what of it stays.
fn look(link: &mut Link, before: i64, at: i64) -> Result<(Pruned, Vec<Old>), Fault> {
    let since = now(link, at)?.saturating_sub(UNDER_WAY);
    let mut needed: HashSet<i64> = named(link, None)?.into_iter().collect();
    let mut sql = Sql::new(link.dialect, "SELECT h.key FROM resource r JOIN history h ON h.kind = r.kind");
    sql.push(" AND h.id = r.id AND h.version = r.version - 1 WHERE r.deleted = ").bool(true);
    sql.push(" AND h.updated < ").int(before);
    needed.extend(sql.rows::<BigInt, i64>(&mut link.connection)?);
    // Of what is being replaced it is not known yet whether it is needed.
    needed.extend(replaced(link, since, None)?);
    let (mut pruned, mut all) = (Pruned::default(), Vec::new());
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    if link.dialect == Dialect::Sqlite {
        let mut sql = Sql::new(link.dialect, "SELECT h.key FROM history h WHERE");
        is_old(&mut sql, before);
        let old = sql.rows::<BigInt, i64>(&mut link.connection)?;
        let stay: HashSet<i64> = old.iter().copied().filter(|key| needed.contains(key)).collect();
        pruned.needed = number(stay.len());
        if old.len() > stay.len() {
            let name = "history".to_owned();
            pruned.gone.push((name.clone(), number(old.len() - stay.len())));
            pruned.awaited = awaited(link, i64::MIN, i64::MAX, before)?;
            all.push(Old { name, low: i64::MIN, high: i64::MAX, stay, since });
        }
        return Ok((pruned, all));
    }
    for part in partition::parts(link, "history")? {
        let mut sql = Sql::new(link.dialect, "SELECT COUNT(CASE WHEN updated < ");
        sql.int(before).push(" THEN 1 END), COUNT(*) FROM ").push(&part.name);
        let found = sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?.pop();
        let (old, all_of_it) = found.unwrap_or_default();
        let (old, newer) = (old.unsigned_abs(), all_of_it > old);
        if old == 0 && !newer {
            continue;
        }
        if newer || !pruned.mixed.is_empty() {
            pruned.mixed.push((part.name, old));
            continue;
        }
        let (low, high) = (part.low, part.high);
        let stay: HashSet<i64> = needed.iter().copied().filter(|key| (low..high).contains(key)).collect();
        pruned.needed += number(stay.len());
        if old > number(stay.len()) {
            pruned.awaited += awaited(link, low, high.saturating_sub(1), i64::MAX)?;
            pruned.gone.push((part.name.clone(), old - number(stay.len())));
            all.push(Old { name: part.name, low, high, stay, since });
        }
    }
    pruned.mixed.retain(|(_, old)| *old > 0);
    Ok((pruned, all))
}

/// The next keys after `old.low` that may go, and how far was looked; none at the end.
fn next(link: &mut Link, old: &mut Old, before: i64, at: i64) -> Result<Option<(Vec<i64>, i64)>, Fault> {
    let now = now(link, at)?.saturating_sub(UNDER_WAY);
    old.stay.extend(named(link, Some(old.since))?);
    let mut sql = Sql::new(link.dialect, "SELECT h.key FROM history h WHERE h.key >= ");
    sql.int(old.low).push(" AND h.key < ").int(old.high).push(" AND");
    is_old(&mut sql, before);
    sql.push(" ORDER BY h.key").limit(TOGETHER);
    let mut keys = sql.rows::<BigInt, i64>(&mut link.connection)?;
    let Some(last) = keys.last().copied() else { return Ok(None) };
    for keys in chunks(&keys) {
        old.stay.extend(replaced(link, old.since.min(now), Some(keys))?);
    }
    keys.retain(|key| !old.stay.contains(key));
    old.since = now.max(old.since);
    Ok(Some((keys, last)))
}

impl Store {
    /// What would go of the versions that were written before that time and are current no more.
    pub async fn old_versions(&self, context: &Context, before: i64) -> Result<Pruned, Error> {
        self.look_at_versions(context, before).await.map(|(pruned, _)| pruned)
    }

    /// Has it go, and records it. What went before a failure is gone.
    ///
    /// # Errors
    /// `Precondition` while Subscriptions are still to be told of some of it. `Conflict` if somebody else does it too.
    pub async fn prune_versions(&self, context: &Context, before: i64) -> Result<Pruned, Error> {
        let (mut pruned, all) = self.look_at_versions(context, before).await?;
        if pruned.awaited > 0 {
            let events = pruned.awaited;
            let why =
                format!("Subscriptions are still to be told of some of it ({events} events): nothing went");
            return Err(Error::Precondition(why));
        }
        pruned.gone.clear();
        for old in all {
            let name = old.name.clone();
            let many = self.prune_part(context, before, old).await?;
            pruned.gone.extend((many > 0).then_some((name, many)));
        }
        // What was to go has gone; the next run tries it again.
        if let Err(error) = self.pool.run(partition::tidy_history).await {
            tracing::warn!(%error, "parts in which nothing is left stay for now");
        }
        Ok(pruned)
    }

    /// How many went.
    async fn prune_part(&self, context: &Context, before: i64, mut old: Old) -> Result<u64, Error> {
        let (at, mut gone, mut tried) = (context.at, 0, 0);
        loop {
            let looking = self.looking(move |link| {
                let found = next(link, &mut old, before, at)?;
                Ok((found, old))
            });
            let found;
            (found, old) = looking.await?;
            let Some((keys, last)) = found else { return Ok(gone) };
            let many = u64::try_from(keys.len()).unwrap_or(u64::MAX);
            if many > 0 {
                let until = fhir::time::format_instant(before);
                let note = format!("{many} old versions of before {until} dropped from {}", old.name);
                let notes = vec![Entry { note, ..Entry::of(Act::Configure) }];
                let pruning = Pruning { keys, since: old.since };
                match self.write(Unit::dropping(context, Leaving::Versions(pruning), notes)).await {
                    Err(Error::Conflict { .. }) if tried < TRIES => {
                        tried += 1;
                        continue;
                    }
                    done => done?,
                };
            }
            (gone, tried) = (gone + many, 0);
            old.low = last.saturating_add(1);
        }
    }

    async fn look_at_versions(&self, context: &Context, before: i64) -> Result<(Pruned, Vec<Old>), Error> {
        let at = context.at;
        self.looking(move |link| look(link, before, at)).await
    }

    /// On one snapshot, for as long as it takes.
    async fn looking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.place.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let mut link = Link::open(&place, Use::Read)?;
            Ok(reader::snapshot(&mut link, None, |link| Ok(look(link)?))?)
        });
        looking.await.map_err(Error::internal)?
    }
}
