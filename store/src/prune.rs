//! Old versions go when an operator says so: on PostgreSQL those of whole parts of the table, on SQLite all that are
//! old. What somebody still goes by stays: versions that a RiskAssessment names, so that it can be made again, and the
//! last one with content of what is deleted, which says whose it was. A resource loses its first versions alone.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Text};
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use fhir::subscription::SubscriptionStatus;

use crate::audit::{Act, Entry};
use crate::connection::{Link, Use};
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::partition::{self, Part};
use crate::reader;
use crate::sql::{Dialect, Sql, chunks};
use crate::store::Store;
use crate::subscription::sweep::{self, Sweep};
use crate::unit::Unit;

/// RiskAssessments read at a time.
const READ: usize = 1000;
/// Versions that leave in one transaction on SQLite.
const TOGETHER: usize = 5000;
/// Microseconds from the time that something is stamped with to its commit, at most.
const UNDER_WAY: i64 = 180_000_000;

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

/// Versions that leave.
#[derive(Debug)]
pub(crate) struct Pruning {
    /// All in it go but these; where there are no parts these go.
    part: Option<Part>,
    keys: Vec<i64>,
    /// What was written since then was not looked at.
    since: i64,
}

/// Does it, inside the open transaction.
pub(crate) fn write(link: &mut Link, leaving: &Leaving) -> Result<(), Fault> {
    link.touched = true;
    match leaving {
        Leaving::Events(sweep) => sweep::write(link, sweep),
        Leaving::Versions(Pruning { part: Some(part), keys, since }) => empty(link, part, keys, *since),
        Leaving::Versions(Pruning { part: None, keys, since }) => {
            let named: HashSet<i64> = named(link, "history", Some(*since))?.into_iter().collect();
            let keys: Vec<i64> = keys.iter().copied().filter(|key| !named.contains(key)).collect();
            for keys in chunks(&keys) {
                let mut sql = Sql::new(link.dialect, "DELETE FROM history WHERE key IN ");
                sql.ints(keys.iter().copied());
                sql.run(&mut link.connection)?;
            }
            Ok(())
        }
    }
}

/// What stays is put aside first: nobody waits for that. A part is not dropped, as versions of its time that are
/// current still come into it when they are replaced.
fn empty(link: &mut Link, part: &Part, keys: &[i64], since: i64) -> Result<(), Fault> {
    let name = &part.name;
    link.execute(partition::TURN)?;
    link.execute("CREATE TEMPORARY TABLE stays (LIKE history) ON COMMIT DROP")?;
    let keep = |link: &mut Link, keys: &[i64]| -> Result<(), Fault> {
        for keys in chunks(keys) {
            let mut sql = Sql::new(link.dialect, "INSERT INTO stays SELECT * FROM ");
            sql.push(name)
                .push(" h WHERE NOT EXISTS (SELECT 1 FROM stays s WHERE s.key = h.key) AND h.key IN ");
            sql.ints(keys.iter().copied());
            sql.run(&mut link.connection)?;
        }
        Ok(())
    };
    keep(link, keys)?;
    link.execute(&format!("LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE"))?;
    if !partition::parts(link, "history")?.contains(part) {
        return Err(Error::Conflict { current: 0 }.into());
    }
    if awaited(link, name, i64::MAX)? > 0 {
        return Err(Error::Precondition("Subscriptions are still to be told of these versions".into()).into());
    }
    let mut late = replaced(link, name, since)?;
    late.extend(named(link, name, Some(since))?);
    keep(link, &late)?;
    link.execute(&format!("TRUNCATE TABLE ONLY {name}; INSERT INTO {name} SELECT * FROM stays"))
}

/// The versions in the table that were replaced since then: what took their place is as new.
fn replaced(link: &mut Link, table: &str, since: i64) -> Result<Vec<i64>, Fault> {
    let kinds = || ResourceType::all().map(|kind| i64::from(kind.index()));
    let mut sql = Sql::new(link.dialect, "SELECT h.key FROM (");
    for (n, versions) in ["resource", "history"].into_iter().enumerate() {
        sql.push(if n > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT kind, id, version FROM ").push(versions).push(" WHERE updated >= ").int(since);
        sql.push(" AND kind IN ").ints(kinds());
    }
    sql.push(") n JOIN ").push(table);
    sql.push(" h ON h.kind = n.kind AND h.id = n.id AND h.version = n.version - 1");
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?)
}

/// The versions in the table that RiskAssessments name: all of these, or those that were written since then.
fn named(link: &mut Link, table: &str, since: Option<i64>) -> Result<Vec<i64>, Fault> {
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
            let mut sql = Sql::new(link.dialect, "SELECT h.key FROM ");
            sql.push(table).push(" h WHERE (h.kind, h.id, h.version) IN (VALUES ");
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
/// need old versions of the table.
fn awaited(link: &mut Link, table: &str, before: i64) -> Result<u64, Fault> {
    let off = crate::subscription::number(SubscriptionStatus::Off);
    let events = [
        "subscription s JOIN event e ON e.subscription = s.number AND e.number > s.delivered \
         AND s.events > s.delivered",
        "dead_letter d JOIN event e ON e.subscription = d.subscription AND e.number = d.number \
         JOIN subscription s ON s.number = d.subscription",
    ];
    let mut all = 0;
    for events in events {
        let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM ");
        sql.push(events).push(" JOIN ").push(table).push(" h ON h.key = e.key WHERE s.status <> ").int(off);
        sql.push(" AND h.updated < ").int(before);
        all += sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default().unsigned_abs();
    }
    let mut sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM change c JOIN (");
    for (n, versions) in ["resource", "history"].into_iter().enumerate() {
        sql.push(if n > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT v.key, v.kind, v.id, v.version FROM ").push(versions);
        sql.push(" v WHERE v.key IN (SELECT key FROM change)");
    }
    sql.push(") v ON v.key = c.key JOIN ").push(table);
    sql.push(" h ON h.kind = v.kind AND h.id = v.id AND h.version IN (v.version, v.version - 1)");
    sql.push(" WHERE h.updated < ").int(before);
    all += sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default().unsigned_abs();
    Ok(all)
}

/// What goes, and what of it stays.
fn look(link: &mut Link, before: i64, at: i64) -> Result<(Pruned, Vec<Pruning>), Fault> {
    let mut needed: HashSet<i64> = named(link, "history", None)?.into_iter().collect();
    let mut sql = Sql::new(link.dialect, "SELECT h.key FROM resource r JOIN history h ON h.kind = r.kind");
    sql.push(" AND h.id = r.id AND h.version = r.version - 1 WHERE r.deleted = ").bool(true);
    sql.push(" AND h.updated < ").int(before);
    needed.extend(sql.rows::<BigInt, i64>(&mut link.connection)?);
    let (mut pruned, mut all, since) = (Pruned::default(), Vec::new(), at.saturating_sub(UNDER_WAY));
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    if link.dialect == Dialect::Sqlite {
        let mut sql = Sql::new(link.dialect, "SELECT h.key FROM history h WHERE h.updated < ");
        sql.int(before)
            .push(" AND NOT EXISTS (SELECT 1 FROM history e WHERE e.kind = h.kind AND e.id = h.id");
        sql.push(" AND e.version < h.version AND e.updated >= ").int(before).push(") ORDER BY h.key");
        let old = sql.rows::<BigInt, i64>(&mut link.connection)?;
        let keys: Vec<i64> = old.iter().copied().filter(|key| !needed.contains(key)).collect();
        pruned.needed = number(old.len() - keys.len());
        if !keys.is_empty() {
            pruned.gone.push(("history".to_owned(), number(keys.len())));
            pruned.awaited = awaited(link, "history", before)?;
        }
        let some = |keys: &[i64]| Pruning { part: None, keys: keys.to_vec(), since };
        return Ok((pruned, keys.chunks(TOGETHER).map(some).collect()));
    }
    // Of what is being replaced it is not known yet whether it is needed.
    needed.extend(replaced(link, "history", since)?);
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
        let keys: Vec<i64> =
            needed.iter().copied().filter(|key| (part.low..part.high).contains(key)).collect();
        pruned.needed += number(keys.len());
        if old > number(keys.len()) {
            pruned.awaited += awaited(link, &part.name, i64::MAX)?;
            pruned.gone.push((part.name.clone(), old - number(keys.len())));
            all.push(Pruning { part: Some(part), keys, since });
        }
    }
    pruned.mixed.retain(|(_, old)| *old > 0);
    Ok((pruned, all))
}

impl Store {
    /// What would go of the versions that were written before that time and are current no more.
    pub async fn old_versions(&self, context: &Context, before: i64) -> Result<Pruned, Error> {
        self.look_at_versions(context, before).await.map(|(pruned, _)| pruned)
    }

    /// Has it go, and records it. What went before a failure is gone.
    ///
    /// # Errors
    /// `Precondition` while Subscriptions are still to be told of some of it. `Busy` while somebody reads a part for long.
    pub async fn prune_versions(&self, context: &Context, before: i64) -> Result<Pruned, Error> {
        let (pruned, all) = self.look_at_versions(context, before).await?;
        if pruned.awaited > 0 {
            let events = pruned.awaited;
            let why =
                format!("Subscriptions are still to be told of some of it ({events} events): nothing went");
            return Err(Error::Precondition(why));
        }
        let until = fhir::time::format_instant(before);
        for pruning in all {
            let versions = match &pruning.part {
                None => u64::try_from(pruning.keys.len()).ok(),
                Some(part) => pruned.gone.iter().find(|(name, _)| *name == part.name).map(|(_, many)| *many),
            };
            let of = pruning.part.as_ref().map_or("history", |part| &part.name);
            let note =
                format!("{} old versions of before {until} dropped from {of}", versions.unwrap_or_default());
            let notes = vec![Entry { note, ..Entry::of(Act::Configure) }];
            self.write(Unit::dropping(context, Leaving::Versions(pruning), notes)).await?;
        }
        Ok(pruned)
    }

    async fn look_at_versions(
        &self,
        context: &Context,
        before: i64,
    ) -> Result<(Pruned, Vec<Pruning>), Error> {
        let (place, at) = (self.place.clone(), context.at);
        let looking = tokio::task::spawn_blocking(move || {
            let mut link = Link::open(&place, Use::Read)?;
            Ok(reader::snapshot(&mut link, None, |link| Ok(look(link, before, at)?))?)
        });
        looking.await.map_err(Error::internal)?
    }
}
