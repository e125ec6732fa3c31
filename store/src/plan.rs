//! How a search is carried out: which index leads, what the others check, in which order.
//!
//! The leading rows are read in index order where the order asked for allows it; every other
//! criterion is one seek per candidate. Within one version all rows share patient and date, so a
//! seek in `index_exact` can name its whole key.

use fhir::resource_type::ResourceType;

use crate::error::Error;
use crate::index::param;
use crate::sql::{Dialect, Sql};

/// A comparison with one end of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) end: End,
    /// `<`, `<=`, `>` or `>=`.
    pub(crate) is: &'static str,
    pub(crate) value: i64,
}

/// Which end of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Low,
    High,
}

/// One criterion; a list inside is a choice, a list of lists a choice of things that hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// Value and, where it matters, system.
    Exact { param: u16, any: Vec<(i64, Option<i64>)> },
    /// Comparisons of both ends.
    Span { param: u16, any: Vec<Vec<Bound>> },
    /// Text, and whether it is the whole or the beginning.
    Text { param: u16, any: Vec<(String, bool)> },
    /// Logical ids.
    Id(Vec<String>),
    /// Comparisons of the time of the version.
    Updated(Vec<Vec<Bound>>),
}

/// By what the matches are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// However it is cheapest.
    Cheapest,
    /// The clinical date.
    Date,
    /// The time of the version.
    Updated,
}

/// A search in the store's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kind: ResourceType,
    pub(crate) tests: Vec<Test>,
    pub(crate) by: By,
    pub(crate) descending: bool,
    /// The patient all matches belong to, by the hash that index rows carry.
    pub(crate) patient: Option<i64>,
    /// The parameter whose rows hold the clinical date.
    pub(crate) date: Option<u16>,
}

/// The end of the last page: two sort values and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) [i64; 3]);

impl Cursor {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.').map(str::parse::<i64>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) => Ok(Self([a, b, c])),
            _ => Err(fhir::outcome::Issue::error("value", "not a page of this search").into()),
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([a, b, c]) = self;
        write!(f, "{a}.{b}.{c}")
    }
}

/// Where the leading rows come from.
enum Lead<'p> {
    Exact { at: usize, param: u16, any: &'p [(i64, Option<i64>)] },
    Resource,
}

impl Plan {
    fn lead(&self) -> Lead<'_> {
        let exact = self.tests.iter().enumerate().filter_map(|(at, test)| match test {
            Test::Exact { param, any } => Some((at, *param, any.as_slice())),
            _ => None,
        });
        // Tests come sorted by how few resources they leave; one value keeps index order.
        match exact.min_by_key(|(at, _, any)| (any.len() > 1, *at)) {
            Some((at, param, any)) => Lead::Exact { at, param, any },
            None => Lead::Resource,
        }
    }

    /// Writes `SELECT a, b, key …` of the matches, each once, and returns what orders them.
    fn matches<'a>(&'a self, sql: &mut Sql<'a>, after: Option<Cursor>) -> Vec<&'static str> {
        let lead = self.lead();
        let (a, b, key) = match (&lead, self.by) {
            (Lead::Exact { .. }, By::Cheapest) if self.patient.is_none() => ("e.patient", "e.date", "e.key"),
            (Lead::Exact { .. }, By::Cheapest | By::Date) => ("0", "e.date", "e.key"),
            (Lead::Exact { .. }, By::Updated) => ("0", "r.updated", "e.key"),
            (Lead::Resource, By::Date) if self.date.is_some() => ("0", "COALESCE(d.low, 0)", "r.key"),
            (Lead::Resource, By::Updated | By::Date) => ("0", "r.updated", "r.key"),
            (Lead::Resource, By::Cheapest) => ("0", "0", "r.key"),
        };
        sql.push("SELECT DISTINCT ").push(a).push(" AS a, ").push(b).push(" AS b, ").push(key);
        match lead {
            Lead::Exact { at, param: p, any } => {
                sql.push(" AS key FROM index_exact e");
                if self.by == By::Updated {
                    sql.push(" JOIN resource r ON r.key = e.key");
                }
                sql.push(" WHERE e.param = ").int(param(self.kind, p));
                values(sql, "e", any);
                if let Some(patient) = self.patient {
                    sql.push(" AND e.patient = ").int(patient);
                }
                for (n, test) in self.tests.iter().enumerate() {
                    if n != at {
                        self.filter(sql, test, key, true);
                    }
                }
            }
            Lead::Resource => {
                sql.push(" AS key FROM resource r");
                if let (By::Date, Some(date)) = (self.by, self.date) {
                    sql.push(" LEFT JOIN index_range d ON d.key = r.key AND d.param = ");
                    sql.int(param(self.kind, date));
                }
                sql.push(" WHERE r.kind = ").int(i64::from(self.kind.index()));
                sql.push(" AND r.deleted = ").bool(false);
                for test in &self.tests {
                    self.filter(sql, test, key, false);
                }
            }
        }
        let order: Vec<&'static str> = [a, b, key].into_iter().filter(|column| *column != "0").collect();
        if let Some(Cursor([x, y, z])) = after {
            let end = [(a, x), (b, y), (key, z)].into_iter().filter(|(column, _)| *column != "0");
            sql.push(" AND (").push(&order.join(", ")).push(if self.descending { ") < " } else { ") > " });
            sql.ints(end.map(|(_, value)| value));
        }
        order
    }

    /// Writes ` AND …` for one more criterion.
    fn filter<'a>(&'a self, sql: &mut Sql<'a>, test: &'a Test, key: &str, exact_leads: bool) {
        match test {
            Test::Exact { param: p, any } => {
                sql.push(" AND EXISTS (SELECT 1 FROM index_exact x WHERE x.param = ").int(param(self.kind, *p));
                values(sql, "x", any);
                if exact_leads {
                    sql.push(" AND x.patient = e.patient AND x.date = e.date");
                }
                sql.push(" AND x.key = ").push(key).push(")");
            }
            Test::Span { param: p, any } => {
                sql.push(" AND EXISTS (SELECT 1 FROM index_range x WHERE x.key = ").push(key);
                sql.push(" AND x.param = ").int(param(self.kind, *p));
                bounds(sql, "x.low", "x.high", any);
                sql.push(")");
            }
            Test::Text { param: p, any } => {
                sql.push(" AND ").push(key).push(" IN (SELECT x.key FROM index_text x WHERE x.param = ");
                sql.int(param(self.kind, *p)).push(" AND (");
                for (n, (text, whole)) in any.iter().enumerate() {
                    sql.push(if n > 0 { " OR " } else { "" });
                    if *whole {
                        sql.push("x.text = ").text(text.as_str());
                    } else {
                        sql.push("(x.text >= ").text(text.as_str());
                        sql.push(" AND x.text < ").text(format!("{text}\u{10ffff}")).push(")");
                    }
                }
                sql.push("))");
            }
            Test::Id(ids) if exact_leads => {
                sql.push(" AND ").push(key).push(" IN (SELECT x.key FROM resource x WHERE x.kind = ");
                sql.int(i64::from(self.kind.index())).push(" AND x.id IN ");
                sql.texts(ids.iter().map(String::as_str)).push(")");
            }
            Test::Id(ids) => {
                sql.push(" AND r.id IN ").texts(ids.iter().map(String::as_str));
            }
            Test::Updated(any) if exact_leads => {
                sql.push(" AND EXISTS (SELECT 1 FROM resource x WHERE x.key = ").push(key);
                bounds(sql, "x.updated", "x.updated", any);
                sql.push(")");
            }
            Test::Updated(any) => bounds(sql, "r.updated", "r.updated", any),
        }
    }

    /// Sort values and versions of at most `most` matches after the cursor.
    pub(crate) fn page(&self, dialect: Dialect, after: Option<Cursor>, most: usize) -> Sql<'_> {
        let direction = if self.descending { " DESC" } else { "" };
        let mut sql = Sql::new(dialect, "SELECT h.a, h.b, ");
        sql.push(crate::row::COLUMNS).push(" FROM (");
        let order = self.matches(&mut sql, after);
        sql.push(" ORDER BY ").push(&order.join(&format!("{direction}, "))).push(direction);
        sql.push(" LIMIT ").int(i64::try_from(most).unwrap_or(i64::MAX));
        sql.push(") h JOIN resource r ON r.key = h.key ORDER BY h.a").push(direction);
        sql.push(", h.b").push(direction).push(", h.key").push(direction);
        sql
    }

    /// How many match.
    pub(crate) fn count(&self, dialect: Dialect) -> Sql<'_> {
        let mut sql = Sql::new(dialect, "SELECT COUNT(*) FROM (");
        self.matches(&mut sql, None);
        sql.push(") m");
        sql
    }
}

/// ` AND …` for values of `index_exact`.
fn values(sql: &mut Sql<'_>, table: &str, any: &[(i64, Option<i64>)]) {
    if any.iter().all(|(_, system)| system.is_none()) {
        sql.push(" AND ").push(table).push(".value");
        match any {
            [(value, _)] => sql.push(" = ").int(*value),
            _ => sql.push(" IN ").ints(any.iter().map(|(value, _)| *value)),
        };
        return;
    }
    sql.push(" AND (");
    for (n, (value, system)) in any.iter().enumerate() {
        sql.push(if n > 0 { " OR " } else { "" }).push("(").push(table).push(".value = ").int(*value);
        if let Some(system) = system {
            sql.push(" AND ").push(table).push(".system = ").int(*system);
        }
        sql.push(")");
    }
    sql.push(")");
}

/// ` AND …` for a choice of comparisons.
fn bounds(sql: &mut Sql<'_>, low: &str, high: &str, any: &[Vec<Bound>]) {
    sql.push(" AND (");
    for (n, all) in any.iter().enumerate() {
        sql.push(if n > 0 { " OR (" } else { "(" });
        for (n, bound) in all.iter().enumerate() {
            let column = if bound.end == End::Low { low } else { high };
            sql.push(if n > 0 { " AND " } else { "" }).push(column).push(" ").push(bound.is).push(" ");
            sql.int(bound.value);
        }
        sql.push(")");
    }
    sql.push(")");
}
