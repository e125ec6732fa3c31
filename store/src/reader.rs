//! Reading inside one connection, one snapshot: what a worker gathers a patient's data with.

use std::time::Duration;

use diesel::sql_types::BigInt;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{Handling, SearchQuery, Test};

use crate::access::Sight;
use crate::audit::find as events;
use crate::carried::{self, CARRIERS};
use crate::connection::Link;
use crate::consent::Decision;
use crate::context::Context;
use crate::error::{Error, Fault};
use crate::history::HistoryQuery;
use crate::record::{Activation, Assessment, Page, Stored};
use crate::sql::{Dialect, Sql, chunks};
use crate::{consent, desk, find, history, row};

/// Index ranges read by one statement.
const MOST_RANGES: usize = 32;
/// Patients that a search means who are told of where it finds nothing.
const MOST_MEANT: u32 = 20;
/// Index rows from which a chart is not read whole.
const THICK: usize = 1500;

/// What is looked for in a chart.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'v> {
    /// One of [`fhir::search::Parameter::params`] of a token or reference parameter.
    pub param: i64,
    /// Hashes as index extraction makes them.
    pub values: &'v [i64],
    /// Resources of each value at most.
    pub each: usize,
}

/// What was found, and what was left behind.
#[derive(Debug, Default)]
pub struct Latest {
    /// Newest first, each resource once.
    pub found: Vec<Stored>,
    /// The values of which there are more.
    pub cut: Vec<Cut>,
}

/// A value of which more resources may be there than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The parameter that was asked for.
    pub param: i64,
    /// The value.
    pub value: i64,
    /// Clinical date of the oldest that was found, microseconds since 1970 UTC: what is left behind
    /// is of the same moment or older.
    pub date: i64,
}

/// `(date, key)` of what is to be read, and what is left behind.
type Rows = (Vec<(i64, i64)>, Vec<Cut>);

/// A view of the data that does not change while it is used.
pub struct Reader<'c> {
    link: &'c mut Link,
    sight: &'c Sight,
}

impl<'c> Reader<'c> {
    pub(crate) fn new(link: &'c mut Link, sight: &'c Sight) -> Self {
        Self { link, sight }
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        self.link
    }

    /// The current version; `NotFound`, or `Gone` if that says it is deleted.
    pub fn read(&mut self, kind: ResourceType, id: &str) -> Result<Stored, Error> {
        self.link.in_time()?;
        self.sight.access().permits(Op::Read, kind)?;
        let stored = current(self.link, kind, id)?;
        self.alive(stored)
    }

    /// That version; `NotFound`, or `Gone` if it says the resource was deleted.
    pub fn vread(&mut self, kind: ResourceType, id: &str, version: i64) -> Result<Stored, Error> {
        self.sight.access().permits(Op::Read, kind)?;
        // The current one is asked first; while it moves to history it is in neither or both
        // places only for others.
        let stored = match current(self.link, kind, id)? {
            Some(stored) if stored.version == version => Some(stored),
            Some(_) => row::earlier(self.link, kind, id, version)?,
            None => None,
        };
        self.alive(stored)
    }

    /// What may not be seen is not there.
    pub(crate) fn alive(&mut self, stored: Option<Stored>) -> Result<Stored, Error> {
        match stored {
            Some(stored) if !is_shown(self.link, self.sight, Op::Read, &stored)? => Err(Error::NotFound),
            None => Err(Error::NotFound),
            Some(stored) if stored.deleted => Err(Error::Gone { version: stored.version }),
            Some(stored) => self.named(vec![stored])?.pop().ok_or(Error::NotFound),
        }
    }

    /// Each with all whom it is about; in an emergency without those of which that can't be told.
    fn named(&mut self, all: Vec<Stored>) -> Result<Vec<Stored>, Error> {
        let mut named = Vec::with_capacity(all.len());
        for mut stored in all {
            if !stored.deleted && CARRIERS.contains(&stored.kind) {
                match carried::patients(self.link, self.sight, &stored)? {
                    Some(patients) => stored.patient = Vec::from_iter(patients).join(" "),
                    None if self.sight.is_through_glass() => continue,
                    None => {}
                }
            }
            named.push(stored);
        }
        Ok(named)
    }

    /// [`Sight::permits_of`]
    pub(crate) fn permits_of(&mut self, op: Op, kind: ResourceType, patient: &str) -> Result<(), Error> {
        self.sight.permits_of(op, kind, patient)
    }

    /// What a patient decided about who asks, by each Consent in force; and the organisation that they work
    /// for, if one is known.
    pub fn decisions(
        &mut self,
        context: &Context,
        patient: &str,
    ) -> Result<(Vec<Decision>, Option<String>), Error> {
        consent::decisions(self.link, context, patient)
    }

    /// One page of versions; `query.after` is [`Page::next`] of the page before.
    pub fn history(&mut self, query: &HistoryQuery) -> Result<Page, Error> {
        let page = history::page(self.link, self.sight, query)?;
        Ok(Page { entries: self.named(page.entries)?, ..page })
    }

    /// One page of matches; `query.after` is [`Page::next`] of the page before.
    pub fn search(&mut self, query: &SearchQuery) -> Result<Page, Error> {
        let began = self.link.began.clone();
        let page = find::page_of(self.link, self.sight, query, began)?;
        let (entries, included) = (self.named(page.entries)?, self.named(page.included)?);
        Ok(Page { entries, included, ..page })
    }

    /// The patients whom a search means by what they are, as by an identifier (`patient.identifier=x`): of a few.
    pub(crate) fn meant(&mut self, query: &SearchQuery) -> Result<Vec<String>, Error> {
        let mut meant = Vec::new();
        if query.kind() == Some(ResourceType::AUDIT_EVENT) {
            return Ok(meant);
        }
        let chains = query.clauses.iter().filter_map(|clause| match &clause.test {
            Test::Chain(chain) => Some(chain),
            _ => None,
        });
        for (_, clauses) in chains.flatten().filter(|(kind, _)| *kind == ResourceType::PATIENT) {
            let kinds = [ResourceType::PATIENT];
            let (mut of, _) = SearchQuery::parse(&kinds, &[], "", 0, Handling::Strict)?;
            (of.clauses, of.count) = (clauses.clone(), MOST_MEANT);
            // Whom they may not see at all they learn nothing of; and of very many nobody is meant.
            match self.search(&of) {
                Ok(found) if found.next.is_none() => {
                    meant.extend(found.entries.into_iter().map(|stored| stored.id));
                }
                Ok(_) | Err(Error::Denied(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(meant)
    }

    /// The patients that all matches are about; none if they are in too many charts to name them.
    pub(crate) fn counted(&mut self, query: &SearchQuery) -> Result<Option<Vec<String>>, Error> {
        Ok(find::counted(self.link, self.sight, query)?)
    }

    /// Of each wanted value of token or reference parameters the patient's newest resources by
    /// clinical date. `patient` is the hash of the reference.
    pub fn latest(&mut self, patient: i64, wanted: &[Wanted<'_>]) -> Result<Latest, Error> {
        let (mut keys, cut) = match whole(self.link, patient, wanted)? {
            Some(rows) => rows,
            None => newest(self.link, patient, wanted)?,
        };
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        let mut found = Vec::with_capacity(keys.len());
        for part in chunks(&keys) {
            let mut sql = Sql::new(self.link.dialect, "SELECT ");
            sql.push(row::COLUMNS).push(" FROM resource r WHERE r.key IN ");
            sql.ints(part.iter().map(|(_, key)| *key));
            let mut part_found = row::load(self.link, &sql)?;
            if !self.sight.is_unbound() {
                let mut shown = Vec::with_capacity(part_found.len());
                for stored in part_found {
                    if shows(self.link, self.sight, Op::Search, &stored)? {
                        shown.push(stored);
                    }
                }
                part_found = shown;
            }
            part_found.sort_unstable_by_key(|stored| {
                part.iter().position(|(_, key)| *key == stored.key).unwrap_or(usize::MAX)
            });
            found.extend(part_found);
        }
        Ok(Latest { found, cut })
    }

    /// A patient's scorings that hold now: one of each model.
    pub fn current_assessments(&mut self, patient: &str) -> Result<Vec<Assessment>, Error> {
        Ok(desk::current(self.link, patient)?)
    }

    /// The scoring of a patient by a model version from these inputs, current or not.
    pub fn assessment(
        &mut self,
        patient: &str,
        model: &str,
        version: &str,
        inputs: &str,
    ) -> Result<Option<Assessment>, Error> {
        Ok(desk::assessment(self.link, patient, model, version, inputs)?)
    }

    /// A patient's scorings, or everybody's; newest first, at most so many.
    pub fn assessments(&mut self, patient: Option<&str>, most: usize) -> Result<Vec<Assessment>, Error> {
        Ok(desk::assessments(self.link, patient, most)?)
    }

    /// Was an item of this digest taken in by an import?
    pub fn is_taken(&mut self, digest: &str) -> Result<bool, Error> {
        Ok(desk::is_taken(self.link, digest)?)
    }

    /// Which versions of which models are in use.
    pub fn activations(&mut self) -> Result<Vec<Activation>, Error> {
        Ok(desk::activations(self.link)?)
    }
}

/// The current version, whoever asks.
pub(crate) fn current(link: &mut Link, kind: ResourceType, id: &str) -> Result<Option<Stored>, Fault> {
    if kind == ResourceType::AUDIT_EVENT {
        return events::one(link, id);
    }
    row::current(link, kind, id)
}

/// May the version be seen? That something was deleted may be known to whom it was shown before.
pub(crate) fn is_shown(link: &mut Link, sight: &Sight, op: Op, stored: &Stored) -> Result<bool, Error> {
    let shown = if !stored.deleted || sight.is_whole(op, stored.kind) {
        shows(link, sight, op, stored)?
    } else {
        match row::earlier(link, stored.kind, &stored.id, stored.version.saturating_sub(1))? {
            Some(before) if !before.deleted => shows(link, sight, op, &before)?,
            _ => false,
        }
    };
    if !shown || !sight.is_partial(stored.kind) {
        return Ok(shown);
    }
    // What is withheld now by what it says is not to be read off what it said before.
    match last(link, stored.kind, &stored.id)?.filter(|last| last.key != stored.key) {
        Some(last) => Ok(!sight.withholds(op, &last)? && !carried::withholds(link, sight, &last)?),
        None => Ok(true),
    }
}

/// May this be done with a version that is not deleted?
pub(crate) fn shows(link: &mut Link, sight: &Sight, op: Op, stored: &Stored) -> Result<bool, Error> {
    Ok(sight.shows(op, stored)? && !carried::withholds(link, sight, stored)?)
}

/// The last version with content: what a resource says, or said before it was deleted.
pub(crate) fn last(link: &mut Link, kind: ResourceType, id: &str) -> Result<Option<Stored>, Fault> {
    Ok(all_last(link, &[(kind, id)])?.pop())
}

/// The same of several, those that there are, in no order.
pub(crate) fn all_last(link: &mut Link, wanted: &[(ResourceType, &str)]) -> Result<Vec<Stored>, Fault> {
    let mut found = row::all_current(link, wanted)?;
    let before = |gone: &Stored| gone.version.saturating_sub(1);
    let gone: Vec<Stored> = found.extract_if(.., |one| one.deleted).collect();
    let earlier: Vec<_> = gone.iter().map(|gone| (gone.kind, gone.id.as_str(), before(gone))).collect();
    found.extend(row::all_earlier(link, &earlier)?.into_iter().filter(|one| !one.deleted));
    Ok(found)
}

/// The newest rows of each value out of all rows of the parameters, read in one stroke; none if the
/// chart is so thick that seeking each value is cheaper.
fn whole(link: &mut Link, patient: i64, wanted: &[Wanted<'_>]) -> Result<Option<Rows>, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT param, value, date, key FROM index_exact WHERE patient = ");
    sql.int(patient).push(" AND param IN ");
    sql.ints(wanted.iter().map(|wanted| wanted.param));
    sql.push(" ORDER BY param, value, date, key").limit(THICK);
    let rows = sql.rows::<(BigInt, BigInt, BigInt, BigInt), (i64, i64, i64, i64)>(&mut link.connection)?;
    if rows.len() >= THICK {
        return Ok(None);
    }
    let mut found = (Vec::new(), Vec::new());
    for same in rows.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
        let Some((param, value, ..)) = same.first() else { continue };
        let asked = |wanted: &&Wanted<'_>| wanted.param == *param && wanted.values.contains(value);
        let Some(wanted) = wanted.iter().find(asked) else { continue };
        let mut keys: Vec<(i64, i64)> = same.iter().map(|(_, _, date, key)| (*date, *key)).collect();
        keys.dedup(); // one version may have the code in several systems
        keys.reverse();
        add(&mut found, *param, *value, wanted.each, &keys);
    }
    Ok(Some(found))
}

/// The same by one index range a value.
fn newest(link: &mut Link, patient: i64, wanted: &[Wanted<'_>]) -> Result<Rows, Fault> {
    let mut found = (Vec::new(), Vec::new());
    let ranges: Vec<_> = wanted
        .iter()
        .flat_map(|wanted| wanted.values.iter().map(move |value| (wanted.param, *value, wanted.each)))
        .collect();
    for ranges in ranges.chunks(MOST_RANGES) {
        let mut sql = Sql::new(link.dialect, "");
        for (n, (param, value, each)) in ranges.iter().enumerate() {
            sql.push(if n > 0 { " UNION ALL " } else { "" });
            sql.push("SELECT CAST(").int(i64::try_from(n).unwrap_or_default());
            sql.push(" AS BIGINT), n.date, n.key FROM (SELECT date, key FROM index_exact WHERE patient = ");
            sql.int(patient).push(" AND param = ").int(*param).push(" AND value = ").int(*value);
            sql.push(" GROUP BY date, key ORDER BY date DESC, key DESC").limit(each.saturating_add(1));
            sql.push(") n");
        }
        let rows = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?;
        for (n, (param, value, each)) in (0..).zip(ranges) {
            let mut keys: Vec<(i64, i64)> =
                rows.iter().filter(|row| row.0 == n).map(|(_, date, key)| (*date, *key)).collect();
            keys.sort_unstable_by(|a, b| b.cmp(a));
            add(&mut found, *param, *value, *each, &keys);
        }
    }
    Ok(found)
}

/// The first `each` of the keys, which are newest first.
fn add((rows, cut): &mut Rows, param: i64, value: i64, each: usize, keys: &[(i64, i64)]) {
    let (taken, left) = keys.split_at_checked(each).unwrap_or((keys, &[]));
    rows.extend(taken);
    if let (Some((date, _)), false) = (taken.last(), left.is_empty()) {
        cut.push(Cut { param, value, date: *date });
    }
}

/// Runs `read` on one snapshot, for so long at most.
pub(crate) fn snapshot<T>(
    link: &mut Link,
    limit: Option<Duration>,
    read: impl FnOnce(&mut Link) -> Result<T, Error>,
) -> Result<T, Fault> {
    match link.dialect {
        Dialect::Sqlite => link.execute("BEGIN")?,
        Dialect::Postgres => {
            let limit = limit.map_or(0, |limit| limit.as_millis().max(1));
            link.execute(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {limit}"
            ))?;
        }
    }
    let result = match limit {
        Some(limit) => link.ask(limit, read),
        None => read(link),
    };
    let ended = link.execute("ROLLBACK");
    link.broken |= ended.is_err();
    Ok(result?)
}

/// What somebody asks, on one snapshot, for as long as the link has patience.
pub(crate) fn asked<T>(
    link: &mut Link,
    context: &Context,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<T, Fault> {
    snapshot(link, Some(link.patience), |link| {
        let sight = consent::sight(link, context)?;
        read(&mut Reader::new(link, &sight))
    })
}
