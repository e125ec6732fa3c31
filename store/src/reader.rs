//! Reading inside one connection, one snapshot: what a worker gathers a patient's data with.

use diesel::sql_types::BigInt;
use fhir::resource_type::ResourceType;
use fhir::search::SearchQuery;

use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::record::{Activation, Assessment, Page, Stored};
use crate::sql::{Dialect, Sql, chunks};

/// Index ranges read by one statement.
const MOST_RANGES: usize = 32;
use crate::{desk, find, row};

/// A view of the data that does not change while it is used.
pub struct Reader<'c> {
    link: &'c mut Link,
}

impl<'c> Reader<'c> {
    pub(crate) fn new(link: &'c mut Link) -> Self {
        Self { link }
    }

    /// The current version; `NotFound`, or `Gone` if that says it is deleted.
    pub fn read(&mut self, kind: ResourceType, id: &str) -> Result<Stored, Error> {
        alive(row::current(self.link, kind, id)?)
    }

    /// That version; `NotFound`, or `Gone` if it says the resource was deleted.
    pub fn vread(&mut self, kind: ResourceType, id: &str, version: i64) -> Result<Stored, Error> {
        // The current one is asked first; while it moves to history it is in neither or both
        // places only for others.
        match row::current(self.link, kind, id)? {
            Some(stored) if stored.version == version => alive(Some(stored)),
            Some(_) => alive(row::earlier(self.link, kind, id, version)?),
            None => Err(Error::NotFound),
        }
    }

    /// Versions below `before` (`i64::MAX` for all), newest first, at most so many, tombstones included.
    pub fn history(
        &mut self,
        kind: ResourceType,
        id: &str,
        before: i64,
        most: usize,
    ) -> Result<Vec<Stored>, Error> {
        let current = row::current(self.link, kind, id)?.ok_or(Error::NotFound)?;
        let mut versions = row::past(self.link, kind, id, before, most)?;
        if current.version < before {
            versions.insert(0, current);
            versions.truncate(most);
        }
        Ok(versions)
    }

    /// One page of matches; `query.after` is [`Page::next`] of the page before.
    pub fn search(&mut self, query: &SearchQuery) -> Result<Page, Error> {
        Ok(find::page(self.link, query)?)
    }

    /// Of each value of one token or reference parameter the patient's newest resources by clinical
    /// date, at most `each`; newest first, each resource once.
    ///
    /// `parameter` is [`fhir::search::Parameter::number`]; `patient` and `values` are hashes as index extraction makes them.
    pub fn latest(
        &mut self,
        parameter: u16,
        patient: i64,
        values: &[i64],
        each: usize,
    ) -> Result<Vec<Stored>, Error> {
        let mut keys = newest(self.link, i64::from(parameter), patient, values, each)?;
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        let mut found = Vec::with_capacity(keys.len());
        for part in chunks(&keys) {
            let mut sql = Sql::new(self.link.dialect, "SELECT ");
            sql.push(row::COLUMNS).push(" FROM resource r WHERE r.key IN ");
            sql.ints(part.iter().map(|(_, key)| *key));
            let mut part_found = row::load(self.link, &sql)?;
            part_found.sort_unstable_by_key(|stored| {
                part.iter().position(|(_, key)| *key == stored.key).unwrap_or(usize::MAX)
            });
            found.extend(part_found);
        }
        Ok(found)
    }

    /// Current resources of a kind in a patient's chart, newest first by clinical date.
    ///
    /// `parameter` is the one of that kind that names the patient, `patient` the hash of the reference.
    pub fn resources(&mut self, parameter: u16, patient: i64, most: usize) -> Result<Vec<Stored>, Error> {
        self.latest(parameter, patient, &[patient], most)
    }

    /// A patient's scorings, or everybody's; newest first, at most so many.
    pub fn assessments(&mut self, patient: Option<&str>, most: usize) -> Result<Vec<Assessment>, Error> {
        Ok(desk::assessments(self.link, patient, most)?)
    }

    /// Which versions of which models are in use.
    pub fn activations(&mut self) -> Result<Vec<Activation>, Error> {
        Ok(desk::activations(self.link)?)
    }
}

fn alive(stored: Option<Stored>) -> Result<Stored, Error> {
    match stored {
        None => Err(Error::NotFound),
        Some(stored) if stored.deleted => Err(Error::Gone { version: stored.version }),
        Some(stored) => Ok(stored),
    }
}

/// `(date, key)` of the newest rows of each value; each value is one index range.
fn newest(
    link: &mut Link,
    parameter: i64,
    patient: i64,
    values: &[i64],
    each: usize,
) -> Result<Vec<(i64, i64)>, Fault> {
    let mut found = Vec::new();
    for values in values.chunks(MOST_RANGES) {
        let mut sql = Sql::new(link.dialect, "");
        for (n, value) in values.iter().enumerate() {
            sql.push(if n > 0 { " UNION ALL " } else { "" });
            sql.push("SELECT * FROM (SELECT date, key FROM index_exact WHERE patient = ").int(patient);
            sql.push(" AND param = ").int(parameter).push(" AND value = ").int(*value);
            sql.push(" GROUP BY date, key ORDER BY date DESC, key DESC").limit(each).push(") n");
        }
        found.extend(sql.rows::<(BigInt, BigInt), (i64, i64)>(&mut link.connection)?);
    }
    Ok(found)
}

/// Runs `read` on one snapshot.
pub(crate) fn snapshot<T>(
    link: &mut Link,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<T, Fault> {
    link.execute(match link.dialect {
        Dialect::Sqlite => "BEGIN",
        Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    })?;
    let result = read(&mut Reader::new(link));
    let ended = link.execute("ROLLBACK");
    link.broken |= ended.is_err();
    Ok(result?)
}
