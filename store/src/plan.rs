//! How a search is carried out: which index leads, what the others check, in which order.
//!
//! Within a chart the leading rows are one range of `index_exact`, newest last; over all charts
//! `index_chart` says which charts to look into. Every other condition is one seek per candidate:
//! all rows of a version share patient and date, so a seek can name its whole key.

use fhir::resource_type::ResourceType;
use fhir::search::{Clause, DateTest, ExactTest, Prefix, SearchQuery, Sort, Test, parameter};

use crate::error::Error;
use crate::sql::{Dialect, Sql};

/// The end of the last page: what orders it, then the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    Numbers([i64; 3]),
    Id(String),
}

impl Cursor {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(id) = text.strip_prefix("id.") {
            return Ok(Self::Id(id.to_owned()));
        }
        let mut parts = text.split('_').map(str::parse::<i64>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) => Ok(Self::Numbers([a, b, c])),
            _ => Err(fhir::outcome::Issue::error("value", "_page: not a page of this search").into()),
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbers([a, b, c]) => write!(f, "{a}_{b}_{c}"),
            Self::Id(id) => write!(f, "id.{id}"),
        }
    }
}

/// Where the leading rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// The clause at this place, one of `index_exact`.
    Exact(usize),
    /// The resources of the type.
    Resource,
}

/// A search ready to be written as SQL.
#[derive(Debug)]
pub(crate) struct Plan<'q> {
    query: &'q SearchQuery,
    lead: Lead,
    /// The chart all matches lie in, as index rows carry it.
    patient: Option<i64>,
    /// What orders the matches: columns or `0`; the key comes after them.
    order: [String; 3],
    descending: bool,
}

impl<'q> Plan<'q> {
    pub(crate) fn of(query: &'q SearchQuery) -> Self {
        let sort = query.sort.first().copied();
        let patient = patient(query);
        let lead = if matches!(sort, Some(Sort::Id { .. })) { Lead::Resource } else { lead(query, patient) };
        let key = if lead == Lead::Resource { "r.key" } else { "e.key" };
        let (a, b) = match (sort, lead) {
            (None, Lead::Exact(_)) if patient.is_none() => ("c.patient", "e.date".to_owned()),
            (None | Some(Sort::Date { .. }), Lead::Exact(_)) => ("0", "e.date".to_owned()),
            (Some(Sort::Date { .. }), Lead::Resource) => ("0", date_of_resource(query.kind)),
            (Some(Sort::Id { .. }), _) => ("r.id", "0".to_owned()),
            (None | Some(Sort::Updated { .. }), _) => ("0", "r.updated".to_owned()),
        };
        let descending = match sort {
            Some(Sort::Date { descending } | Sort::Updated { descending } | Sort::Id { descending }) => {
                descending
            }
            None => true,
        };
        Self { query, lead, patient, order: [a.to_owned(), b, key.to_owned()], descending }
    }

    /// Is it ordered by id, which is text?
    pub(crate) fn by_id(&self) -> bool {
        matches!(self.query.sort.first(), Some(Sort::Id { .. }))
    }

    /// Writes `SELECT a, b, key …` of the matches, each once.
    fn matches(&self, sql: &mut Sql<'q>, after: Option<&Cursor>) -> Result<(), Error> {
        let [a, b, key] = &self.order;
        // Several rows of one version may pass: two codings, two systems.
        let distinct = if self.lead == Lead::Resource { "SELECT " } else { "SELECT DISTINCT " };
        let number =
            |column: &'_ str| if column == "0" { "CAST(0 AS BIGINT)".to_owned() } else { column.to_owned() };
        let first = number(if self.by_id() { "0" } else { a });
        sql.push(distinct).push(&first).push(" AS a, ").push(&number(b)).push(" AS b, ");
        sql.push(key).push(" AS key FROM ");
        match self.lead {
            Lead::Exact(at) => {
                if self.patient.is_none() {
                    sql.push("index_chart c JOIN index_exact e ON e.patient = c.patient AND ");
                    sql.push("e.param = c.param AND e.value = c.value");
                } else {
                    sql.push("index_exact e");
                }
                if b == "r.updated" {
                    sql.push(" JOIN resource r ON r.key = e.key");
                }
                if let Some(Clause { param, test: Test::Exact(any) }) = self.query.clauses.get(at) {
                    if let Some(patient) = self.patient {
                        sql.push(" WHERE e.patient = ").int(patient);
                        sql.push(" AND e.param = ").int(i64::from(*param));
                        values(sql, "e", "e", any);
                    } else {
                        sql.push(" WHERE c.param = ").int(i64::from(*param));
                        values(sql, "c", "e", any);
                    }
                }
            }
            Lead::Resource => {
                sql.push("resource r WHERE r.kind = ").int(i64::from(self.query.kind.index()));
                sql.push(" AND r.deleted = ").bool(false);
            }
        }
        for (at, clause) in self.query.clauses.iter().enumerate() {
            if self.lead != Lead::Exact(at) {
                self.condition(sql, clause);
            }
        }
        match after {
            None => {}
            Some(Cursor::Id(id)) if self.by_id() => {
                sql.push(" AND r.id").push(self.past()).text(id.clone());
            }
            Some(Cursor::Numbers(end)) if !self.by_id() => {
                let (columns, end): (Vec<&str>, Vec<i64>) = self
                    .order
                    .iter()
                    .map(String::as_str)
                    .zip(end)
                    .filter(|(column, _)| *column != "0")
                    .unzip();
                sql.push(" AND (").push(&columns.join(", ")).push(")").push(self.past()).ints(end);
            }
            Some(_) => return Err(Cursor::parse("").err().unwrap_or(Error::NotFound)),
        }
        Ok(())
    }

    fn past(&self) -> &'static str {
        if self.descending { " < " } else { " > " }
    }

    /// Writes ` AND …` for one more condition.
    fn condition(&self, sql: &mut Sql<'q>, clause: &'q Clause) {
        let key = self.order.last().map_or("", String::as_str);
        let leads = self.lead != Lead::Resource;
        match &clause.test {
            Test::Exact(any) if leads => {
                sql.push(" AND EXISTS (SELECT 1 FROM index_exact x WHERE x.patient = e.patient");
                sql.push(" AND x.param = ").int(i64::from(clause.param));
                values(sql, "x", "x", any);
                sql.push(" AND x.date = e.date AND x.key = ").push(key).push(")");
            }
            Test::Exact(any) => {
                sql.push(" AND ").push(key).push(" IN (SELECT x.key FROM index_chart c JOIN index_exact x ");
                sql.push(
                    "ON x.patient = c.patient AND x.param = c.param AND x.value = c.value WHERE c.param = ",
                );
                sql.int(i64::from(clause.param));
                values(sql, "c", "x", any);
                sql.push(")");
            }
            Test::Range(any) => {
                sql.push(" AND EXISTS (SELECT 1 FROM index_range x WHERE x.key = ").push(key);
                sql.push(" AND x.param = ").int(i64::from(clause.param));
                spans(sql, "x.low", "x.high", any);
                sql.push(")");
            }
            Test::Text(any) => {
                sql.push(" AND ").push(key).push(" IN (SELECT x.key FROM index_text x WHERE x.param = ");
                sql.int(i64::from(clause.param)).push(" AND (");
                for (n, test) in any.iter().enumerate() {
                    sql.push(if n > 0 { " OR " } else { "" });
                    if test.exact {
                        sql.push("x.text = ").text(test.text.as_str());
                    } else {
                        sql.push("(x.text >= ").text(test.text.as_str());
                        sql.push(" AND x.text < ").text(format!("{}\u{10ffff}", test.text)).push(")");
                    }
                }
                sql.push("))");
            }
            Test::Id(ids) if leads => {
                sql.push(" AND ").push(key).push(" IN (SELECT x.key FROM resource x WHERE x.kind = ");
                sql.int(i64::from(self.query.kind.index())).push(" AND x.id IN ");
                sql.texts(ids.iter().map(String::as_str)).push(")");
            }
            Test::Id(ids) => {
                sql.push(" AND r.id IN ").texts(ids.iter().map(String::as_str));
            }
            Test::Updated(any) if leads => {
                sql.push(" AND EXISTS (SELECT 1 FROM resource x WHERE x.key = ").push(key);
                spans(sql, "x.updated", "x.updated", any);
                sql.push(")");
            }
            Test::Updated(any) => spans(sql, "r.updated", "r.updated", any),
        }
    }

    /// Sort values and versions of at most `most` matches after the cursor.
    pub(crate) fn page(
        &self,
        dialect: Dialect,
        after: Option<&Cursor>,
        most: usize,
    ) -> Result<Sql<'q>, Error> {
        let direction = if self.descending { " DESC" } else { "" };
        let mut sql = Sql::new(dialect, "SELECT h.a, h.b, ");
        sql.push(crate::row::COLUMNS).push(" FROM (");
        self.matches(&mut sql, after)?;
        let columns: Vec<&str> =
            self.order.iter().map(String::as_str).filter(|column| *column != "0").collect();
        sql.push(" ORDER BY ").push(&columns.join(&format!("{direction}, "))).push(direction);
        sql.limit(most).push(") h JOIN resource r ON r.key = h.key ORDER BY ");
        sql.push(if self.by_id() { "r.id" } else { "h.a" }).push(direction);
        sql.push(", h.b").push(direction).push(", h.key").push(direction);
        Ok(sql)
    }

    /// How many match.
    pub(crate) fn count(&self, dialect: Dialect) -> Result<Sql<'q>, Error> {
        let mut sql = Sql::new(dialect, "SELECT COUNT(*) FROM (");
        self.matches(&mut sql, None)?;
        sql.push(") m");
        Ok(sql)
    }
}

/// Its first date by an index seek; what has none comes with the oldest.
fn date_of_resource(kind: ResourceType) -> String {
    let number = parameter(kind, "date").map_or(0, |parameter| parameter.number);
    format!("COALESCE((SELECT MIN(d.low) FROM index_range d WHERE d.key = r.key AND d.param = {number}), 0)")
}

/// The chart that all matches lie in, if the query says so. Only for types whose `patient` is their
/// one subject; and not for a patient elsewhere, whose chart we do not keep.
fn patient(query: &SearchQuery) -> Option<i64> {
    let owned = matches!(
        query.kind,
        ResourceType::OBSERVATION
            | ResourceType::RISK_ASSESSMENT
            | ResourceType::CONDITION
            | ResourceType::MEDICATION_REQUEST
            | ResourceType::MEDICATION_STATEMENT
    );
    let elsewhere =
        query.used.iter().any(|(name, value)| name.starts_with("patient") && value.contains("://"));
    if !owned || elsewhere {
        return None;
    }
    let number = parameter(query.kind, "patient")?.number;
    query.clauses.iter().find_map(|clause| match &clause.test {
        Test::Exact(any) if clause.param == number => match any.as_slice() {
            [ExactTest { value: Some(value), .. }] => Some(*value),
            _ => None,
        },
        _ => None,
    })
}

/// The clause that leaves the fewest candidates, by what it is about.
fn lead(query: &SearchQuery, patient: Option<i64>) -> Lead {
    let rank = |clause: &Clause| -> Option<(u8, usize)> {
        let Test::Exact(any) = &clause.test else { return None };
        if any.iter().any(|test| test.value.is_none()) {
            return Some((9, any.len()));
        }
        let code = fhir::search::of_type(query.kind).iter().find(|one| one.number == clause.param)?.code;
        let rank = match code {
            "identifier" => 0,
            // Within a chart a code leads; over all charts the chart does.
            "code" | "combo-code" if patient.is_some() && any.len() == 1 => 1,
            "encounter" | "target" | "entity" => 2,
            "patient" | "subject" => 3,
            "category" | "status" | "gender" | "clinical-status" => 7,
            _ => 5,
        };
        Some((rank, any.len()))
    };
    let ranked = query.clauses.iter().enumerate().filter_map(|(at, clause)| Some((rank(clause)?, at)));
    ranked.min().map_or(Lead::Resource, |(_, at)| Lead::Exact(at))
}

/// ` AND …` for values and systems, each a column of its own table.
fn values(sql: &mut Sql<'_>, of_value: &str, of_system: &str, any: &[ExactTest]) {
    let plain: Option<Vec<i64>> =
        any.iter().map(|test| test.value.filter(|_| test.system.is_none())).collect();
    if let Some(plain) = plain {
        sql.push(" AND ").push(of_value).push(".value");
        match plain.as_slice() {
            [value] => sql.push(" = ").int(*value),
            _ => sql.push(" IN ").ints(padded(plain)),
        };
        return;
    }
    sql.push(" AND (");
    for (n, test) in any.iter().enumerate() {
        sql.push(if n > 0 { " OR (" } else { "(" });
        if let Some(value) = test.value {
            sql.push(of_value).push(".value = ").int(value);
        }
        if let Some(system) = test.system {
            sql.push(if test.value.is_some() { " AND " } else { "" });
            sql.push(of_system).push(".system = ").int(system);
        }
        sql.push(")");
    }
    sql.push(")");
}

/// Filled up with its last to a power of two, so that few different statements occur.
fn padded(mut values: Vec<i64>) -> Vec<i64> {
    if let Some(last) = values.last().copied() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// ` AND …` for a choice of dates, by the same rules as [`DateTest::matches`].
fn spans(sql: &mut Sql<'_>, low: &str, high: &str, any: &[DateTest]) {
    sql.push(" AND (");
    for (n, DateTest { prefix, span }) in any.iter().enumerate() {
        sql.push(if n > 0 { " OR (" } else { "(" });
        match prefix {
            Prefix::Eq => {
                sql.push(low).push(" >= ").int(span.low).push(" AND ").push(high).push(" <= ").int(span.high)
            }
            Prefix::Ne => {
                sql.push(low).push(" < ").int(span.low).push(" OR ").push(high).push(" > ").int(span.high)
            }
            Prefix::Gt => sql.push(high).push(" > ").int(span.high),
            Prefix::Ge => sql.push(high).push(" >= ").int(span.low),
            Prefix::Lt => sql.push(low).push(" < ").int(span.low),
            Prefix::Le => sql.push(low).push(" <= ").int(span.high),
            Prefix::Sa => sql.push(low).push(" > ").int(span.high),
            Prefix::Eb => sql.push(high).push(" < ").int(span.low),
        };
        sql.push(")");
    }
    sql.push(")");
}
