//! A search as SQL. One clause leads: the one that leaves the fewest candidates; the others are
//! looked up for each of these.

use std::cmp::Ordering;

use fhir::resource_type::ResourceType;
use fhir::search::{Clause, Index, Row, SearchQuery, Sort, SortKey, Table, Test, parameter};

use crate::access::Narrowed;
use crate::compare::{either, numbers, spans, texts, values};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::index::read;
use crate::moment::{Moment, Part};
use crate::record::Stored;
use crate::sql::{Dialect, Sql};

/// Parameters from here on are shared by all types.
const SHARED: i64 = 0xff00;

/// Parameters of a clause that are values of the statement; of more, they are its text.
const FEW: usize = 16;

/// Where the leading rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// The clause at this place, one of `index_exact`.
    Exact(usize),
    /// The resources of the types.
    Resource,
}

/// A whole number that matches are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// Whose chart.
    Chart,
    /// The clinical time of the index rows.
    Date,
    /// The last update.
    Updated,
    /// Its type: ids are unique within one alone.
    Kind,
    /// The first date of this parameter; of what has none, the last update, as in [`Index::date`].
    First(i64),
}

impl Column {
    fn sql(self) -> String {
        match self {
            Self::Chart => "c.patient".to_owned(),
            Self::Date => "e.date".to_owned(),
            Self::Updated => "r.updated".to_owned(),
            Self::Kind => "r.kind".to_owned(),
            // By an index seek.
            Self::First(number) => format!(
                "COALESCE((SELECT MIN(d.low) FROM index_range d WHERE d.key = r.key AND d.param = {number}), \
                 r.updated)"
            ),
        }
    }

    /// The same of a version that has no rows any more.
    fn of(self, stored: &Stored, index: &Index) -> i64 {
        match self {
            Self::Chart => index.patient,
            Self::Date => index.date,
            Self::Updated => stored.updated,
            Self::Kind => i64::from(stored.kind.index()),
            Self::First(number) => {
                let lows = index.rows.iter().filter_map(|row| match row {
                    Row::Range { param, low, .. } if *param == number => Some(*low),
                    _ => None,
                });
                lows.min().unwrap_or(stored.updated)
            }
        }
    }
}

/// A search ready to be written as SQL.
#[derive(Debug)]
pub(crate) struct Plan<'q> {
    query: &'q SearchQuery,
    lead: Lead,
    /// The chart all matches lie in, as index rows carry it.
    patient: Option<i64>,
    /// What orders the matches before their id does, three at most.
    order: Vec<Column>,
    descending: bool,
}

/// The row that a condition is about.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    /// Alias in `resource`.
    row: &'a str,
    /// Alias of one of its rows in `index_exact`, if there is one: others lie beside it.
    chart: Option<&'a str>,
    /// Its type, if it is one.
    kind: Option<ResourceType>,
}

impl<'q> Plan<'q> {
    pub(crate) fn of(narrowed: &'q Narrowed<'_>) -> Self {
        let query = narrowed.query();
        let sort = query.sort.first();
        let key = sort.map(|sort| &sort.key);
        let patient = narrowed.chart();
        let lead = if key == Some(&SortKey::Id) { Lead::Resource } else { lead(query, patient) };
        let mut order = match (key, lead) {
            (None, Lead::Exact(_)) if patient.is_none() => vec![Column::Chart, Column::Date],
            (None | Some(SortKey::Date), Lead::Exact(_)) => vec![Column::Date],
            (Some(SortKey::Updated), _) => vec![Column::Updated],
            (Some(SortKey::Date), Lead::Resource) => query.kind().map(first_date).into_iter().collect(),
            _ => Vec::new(),
        };
        if query.kind().is_none() {
            order.push(Column::Kind);
        }
        Self { query, lead, patient, order, descending: sort.is_none_or(|sort| sort.descending) }
    }

    /// The types of what matches.
    pub(crate) fn kinds(&self) -> &'q [ResourceType] {
        &self.query.kinds
    }

    /// Can the database order it? Other orders are made of the resources themselves.
    pub(crate) fn ordered(&self) -> bool {
        match self.query.sort.as_slice() {
            [Sort { key: SortKey::Of(_), .. }] => false,
            [Sort { key: SortKey::Id, .. }] => self.query.kind().is_some(),
            few => few.len() < 2,
        }
    }

    /// How many order values come before the id.
    pub(crate) fn depth(&self) -> usize {
        self.order.len()
    }

    /// Does it match by all that is asked about itself?
    pub(crate) fn matches_alone(&self, stored: &Stored, index: &Index) -> bool {
        let holds = |clause: &Clause| !clause.alone() || clause.matches(index, &stored.id, stored.updated);
        self.query.clauses.iter().all(holds)
    }

    /// Does it look into one chart alone?
    pub(crate) fn in_one_chart(&self) -> bool {
        self.patient.is_some() && self.lead != Lead::Resource
    }

    /// Where a version stands that is no longer the current one.
    pub(crate) fn place(&self, stored: &Stored, index: &Index) -> Vec<i64> {
        self.order.iter().map(|column| column.of(stored, index)).collect()
    }

    /// How two places follow each other.
    pub(crate) fn compare(&self, one: (&[i64], &str), other: (&[i64], &str)) -> Ordering {
        let order = one.cmp(&other);
        if self.descending { order.reverse() } else { order }
    }

    /// Writes ` FROM … WHERE …`.
    fn matches(&self, sql: &mut Sql<'q>, part: Option<(&Moment, Part)>) {
        let chart = match self.lead {
            Lead::Exact(at) => {
                if let Some(clause) = self.query.clauses.get(at) {
                    led(sql, clause, self.patient, "c", "e");
                }
                sql.push(" AND r.key = e.key");
                let shared = |clause: &Clause| clause.params.iter().any(|param| *param >= SHARED);
                if self.query.clauses.get(at).is_none_or(shared) {
                    self.of_kinds(sql);
                }
                Some("e")
            }
            Lead::Resource => {
                sql.push(" FROM resource r WHERE r.deleted = ").bool(false).in_time("r.key");
                self.of_kinds(sql);
                None
            }
        };
        let at = At { row: "r", chart, kind: self.query.kind() };
        for (place, clause) in self.query.clauses.iter().enumerate() {
            if self.lead != Lead::Exact(place) {
                condition(sql, clause, at, 1);
            }
        }
        if let Some((moment, part)) = part {
            moment.narrow(sql, part);
        }
    }

    fn of_kinds(&self, sql: &mut Sql<'q>) {
        match self.query.kinds.as_slice() {
            [kind] => {
                sql.push(" AND r.kind = ").int(i64::from(kind.index()));
            }
            all if all.len() == ResourceType::all().len() => {}
            some => {
                sql.push(" AND r.kind IN ").ints(some.iter().map(|kind| i64::from(kind.index())));
            }
        }
    }

    fn past(&self, sql: &mut Sql<'q>, after: &Cursor) -> Result<(), Error> {
        let Cursor::At { order, id } = after else { return Err(Cursor::wrong()) };
        if order.len() != self.order.len() {
            return Err(Cursor::wrong());
        }
        let sign = if self.descending { " < " } else { " > " };
        if let (Some(column), Some(value)) = (self.order.first(), order.first()) {
            // The database seeks by this; the rest it only compares.
            sql.push(" AND ").push(&column.sql()).push(sign.trim_end()).push("= ").int(*value);
        }
        let columns: Vec<String> =
            self.order.iter().map(|column| column.sql()).chain(["r.id".to_owned()]).collect();
        sql.push(" AND (").push(&columns.join(", ")).push(")").push(sign).push("(");
        for value in order {
            sql.int(*value).push(", ");
        }
        sql.text(id.clone()).push(")");
        Ok(())
    }

    /// Three order values and the versions of at most `most` matches after the cursor, without those
    /// that were changed since.
    pub(crate) fn page(
        &self,
        dialect: Dialect,
        after: Option<(&Moment, Option<&Cursor>)>,
        most: usize,
    ) -> Result<Sql<'q>, Error> {
        let way = if self.descending { " DESC" } else { "" };
        let mut sql = Sql::new(dialect, "SELECT h.a, h.b, h.c, ");
        sql.push(crate::row::COLUMNS).push(" FROM (SELECT ");
        // Several rows of one version may pass: two codings, two systems.
        sql.push(if self.lead == Lead::Resource { "" } else { "DISTINCT " });
        for (n, name) in ["a", "b", "c"].iter().enumerate() {
            sql.push(&self.order.get(n).map_or_else(|| "CAST(0 AS BIGINT)".to_owned(), |one| one.sql()));
            sql.push(" AS ").push(name).push(", ");
        }
        sql.push("r.id AS id, r.key AS key");
        self.matches(&mut sql, after.map(|(moment, _)| (moment, Part::Unchanged)));
        if let Some((_, Some(after))) = after {
            self.past(&mut sql, after)?;
        }
        sql.push(" ORDER BY ");
        let names: Vec<&str> = ["a", "b", "c"].into_iter().take(self.order.len()).chain(["id"]).collect();
        sql.push(&names.join(&format!("{way}, "))).push(way);
        sql.limit(most).push(") h JOIN resource r ON r.key = h.key ORDER BY h.a").push(way);
        sql.push(", h.b").push(way).push(", h.c").push(way).push(", h.id").push(way);
        Ok(sql)
    }

    /// The keys of at most `most` matches, in no order.
    pub(crate) fn keys(&self, dialect: Dialect, part: Option<(&Moment, Part)>, most: usize) -> Sql<'q> {
        let mut sql = Sql::new(dialect, "SELECT DISTINCT r.key");
        self.matches(&mut sql, part);
        sql.limit(most);
        sql
    }

    /// The keys of at most `most` matches of these types, in no order.
    pub(crate) fn among(&self, dialect: Dialect, kinds: &[ResourceType], most: usize) -> Sql<'q> {
        let mut sql = Sql::new(dialect, "SELECT DISTINCT r.key");
        self.matches(&mut sql, None);
        sql.push(" AND r.kind IN ").ints(kinds.iter().map(|kind| i64::from(kind.index())));
        sql.limit(most);
        sql
    }

    /// What at most `most` matches say of whom they are about, each once.
    pub(crate) fn patients(&self, dialect: Dialect, most: usize) -> Sql<'q> {
        let mut sql = Sql::new(dialect, "SELECT DISTINCT r.patient");
        self.matches(&mut sql, None);
        sql.limit(most);
        sql
    }

    /// The keys of at most `most` resources of these types that were changed since the moment,
    /// whether they match or not.
    pub(crate) fn changed(&self, dialect: Dialect, moment: &Moment, most: usize) -> Sql<'q> {
        let mut sql = Sql::new(dialect, "SELECT r.key FROM resource r WHERE r.deleted = ");
        sql.bool(false).in_time("r.key");
        let kinds = self.query.kinds.iter().map(|kind| i64::from(kind.index()));
        // The plus: changes are few, and the resources of a type many.
        sql.push(if dialect == Dialect::Sqlite { " AND +r.kind IN " } else { " AND r.kind IN " }).ints(kinds);
        moment.narrow(&mut sql, Part::Changed);
        sql.limit(most);
        sql
    }

    /// Those of the keys whose resources meet what is asked about others that they point to, or that
    /// point to them; none if nothing is asked of these.
    pub(crate) fn reaching(&self, dialect: Dialect, keys: &[i64]) -> Option<Sql<'q>> {
        let clauses: Vec<&Clause> = self.query.clauses.iter().filter(|clause| !clause.alone()).collect();
        if clauses.is_empty() {
            return None;
        }
        let mut sql = Sql::new(dialect, "SELECT r.key FROM resource r WHERE r.key IN ");
        sql.ints(keys.iter().copied());
        for clause in clauses {
            condition(&mut sql, clause, At { row: "r", chart: None, kind: self.query.kind() }, 1);
        }
        Some(sql)
    }

    /// How many match.
    pub(crate) fn count(&self, dialect: Dialect) -> Sql<'q> {
        let mut sql = Sql::new(dialect, "SELECT COUNT(*) FROM (SELECT DISTINCT r.key");
        self.matches(&mut sql, None);
        sql.push(") m");
        sql
    }
}

/// ` FROM … WHERE …` of the rows in `index_exact` that a clause asks for, beside their resources.
fn led<'q>(sql: &mut Sql<'q>, clause: &'q Clause, patient: Option<i64>, c: &str, e: &str) {
    let r = if e == "e" { "r".to_owned() } else { format!("r{e}") };
    if let Some(patient) = patient {
        sql.push(" FROM index_exact ").push(e).push(", resource ").push(&r);
        sql.push(" WHERE ").push(e).push(".patient = ").int(patient);
        params(sql, e, clause);
        wanted(sql, e, e, clause, 1);
        sql.in_time(&format!("{e}.key"));
    } else {
        sql.push(" FROM index_chart ").push(c).push(", index_exact ").push(e);
        sql.push(", resource ").push(&r).push(" WHERE ");
        beside(sql, c, e);
        params(sql, c, clause);
        wanted(sql, c, e, clause, 1);
        sql.in_time(&format!("{e}.key"));
    }
}

/// The same chart, parameter and value.
fn beside(sql: &mut Sql<'_>, c: &str, x: &str) {
    for (n, column) in ["patient", "param", "value"].iter().enumerate() {
        sql.push(if n > 0 { " AND " } else { "" });
        sql.push(x).push(".").push(column).push(" = ").push(c).push(".").push(column);
    }
}

/// ` AND x.param …`
fn params(sql: &mut Sql<'_>, x: &str, clause: &Clause) {
    sql.push(" AND ").push(x).push(".param");
    let texts = clause.params.iter().copied().map(read);
    match (&clause.test, clause.params.as_slice()) {
        (Test::Text(_), _) => sql.push(" IN ").ints(texts),
        (Test::Present(Table::Exact), all) => sql.push(" IN ").ints(all.iter().copied().chain(texts)),
        (_, [one]) => sql.push(" = ").int(*one),
        // Of all types there are many, always the same.
        (_, all) if all.len() > FEW => {
            let all: Vec<String> = all.iter().map(i64::to_string).collect();
            sql.push(" IN (").push(&all.join(",")).push(")")
        }
        (_, all) => sql.push(" IN ").ints(all.iter().copied()),
    };
}

/// ` AND …` for what a row of `index_exact` must have.
fn wanted<'q>(sql: &mut Sql<'q>, of_value: &str, of_system: &str, clause: &'q Clause, depth: usize) {
    match &clause.test {
        Test::Exact(any) => values(sql, of_value, of_system, any),
        Test::Text(any) => {
            sql.push(" AND ")
                .push(of_value)
                .push(".value IN (SELECT d.value FROM index_text d WHERE d.param");
            sql.push(" IN ").ints(clause.params.iter().copied()).in_time("d.value");
            texts(sql, "d", any);
            sql.push(")");
        }
        Test::Chain(targets) => {
            sql.push(" AND ").push(of_value).push(".value IN (");
            for (n, (kind, clauses)) in targets.iter().enumerate() {
                let t = format!("t{depth}_{n}");
                sql.push(if n > 0 { " UNION ALL " } else { "" });
                sql.push("SELECT ").push(&t).push(".hash FROM resource ").push(&t).push(" WHERE ");
                sql.push(&t).push(".kind = ").int(i64::from(kind.index()));
                sql.push(" AND ").push(&t).push(".deleted = ").bool(false).in_time(&format!("{t}.key"));
                for clause in clauses {
                    condition(sql, clause, At { row: &t, chart: None, kind: Some(*kind) }, depth + 1);
                }
            }
            sql.push(")");
        }
        _ => {}
    }
}

/// Writes ` AND …` for one more condition.
fn condition<'q>(sql: &mut Sql<'q>, clause: &'q Clause, at: At<'_>, depth: usize) {
    sql.push(if clause.negated { " AND NOT (" } else { " AND (" });
    holds(sql, clause, at, depth);
    sql.push(")");
}

fn holds<'q>(sql: &mut Sql<'q>, clause: &'q Clause, at: At<'_>, depth: usize) {
    let x = format!("x{depth}");
    let of_key = |sql: &mut Sql<'q>, table: &str| {
        sql.push("EXISTS (SELECT 1 FROM ").push(table).push(" ").push(&x).push(" WHERE ");
        sql.push(&x).push(".key = ").push(at.row).push(".key");
        params(sql, &x, clause);
    };
    match &clause.test {
        Test::Exact(_) | Test::Text(_) | Test::Chain(_) | Test::Present(Table::Exact) => {
            in_exact(sql, clause, at, depth);
        }
        Test::Present(table) => {
            // What has no number or date in it, but something else, has a row among the tokens.
            of_key(sql, if *table == Table::Range { "index_range" } else { "index_number" });
            sql.push(") OR ");
            in_exact(sql, clause, at, depth);
        }
        Test::Range(any) => {
            // One day is few rows, found by their dates; years are many, and met soon.
            let narrow = any.iter().all(|test| test.prefix == fhir::search::Prefix::Eq);
            if at.chart.is_none() && narrow && !clause.negated {
                sql.push(at.row).push(".key IN (SELECT ").push(&x).push(".key FROM index_range ");
                sql.push(&x).push(" WHERE 1 = 1").in_time(&format!("{x}.key"));
                params(sql, &x, clause);
            } else {
                of_key(sql, "index_range");
            }
            spans(sql, &format!("{x}.low"), &format!("{x}.high"), any);
            sql.push(")");
        }
        Test::Number(any) => {
            of_key(sql, "index_number");
            numbers(sql, &x, any);
            sql.push(")");
        }
        Test::Id(ids) => {
            sql.push(at.row).push(".id IN ").texts(ids.iter().map(String::as_str));
        }
        Test::Updated(any) => {
            let column = format!("{}.updated", at.row);
            sql.push("1 = 1");
            spans(sql, &column, &column, any);
        }
        Test::Has(kind, clauses) => has(sql, clause, *kind, clauses, at, depth),
        Test::Either(clauses) => {
            either(sql, clauses, &mut |sql, clause| {
                sql.push(if clause.negated { "NOT (" } else { "(" });
                holds(sql, clause, at, depth + 1);
                sql.push(")");
            });
        }
        Test::All(clauses) => {
            sql.push("1 = 1");
            for clause in clauses {
                condition(sql, clause, at, depth + 1);
            }
        }
        Test::Kind(kinds) => {
            sql.push(at.row).push(".kind IN ").ints(kinds.iter().map(|kind| i64::from(kind.index())));
        }
        Test::About(patients) => crate::compare::about(sql, &format!("{}.patient", at.row), patients),
    }
}

/// A row in `index_exact` of the version, beside the others of its chart or found by its value.
fn in_exact<'q>(sql: &mut Sql<'q>, clause: &'q Clause, at: At<'_>, depth: usize) {
    let (x, c) = (format!("x{depth}"), format!("c{depth}"));
    if let Some(e) = at.chart {
        sql.push("EXISTS (SELECT 1 FROM index_exact ").push(&x).push(" WHERE ");
        sql.push(&x).push(".patient = ").push(e).push(".patient");
        params(sql, &x, clause);
        wanted(sql, &x, &x, clause, depth + 1);
        sql.push(" AND ").push(&x).push(".date = ").push(e).push(".date");
        sql.push(" AND ").push(&x).push(".key = ").push(e).push(".key)");
    } else {
        sql.push(at.row).push(".key IN (SELECT ").push(&x).push(".key FROM index_chart ");
        sql.push(&c).push(", index_exact ").push(&x).push(" WHERE ");
        beside(sql, &c, &x);
        params(sql, &c, clause);
        wanted(sql, &c, &x, clause, depth + 1);
        sql.in_time(&format!("{x}.key")).push(")");
    }
}

/// Something of `kind` points to the row and meets the clauses.
fn has<'q>(
    sql: &mut Sql<'q>,
    link: &Clause,
    kind: ResourceType,
    clauses: &'q [Clause],
    at: At<'_>,
    depth: usize,
) {
    let (x, c) = (format!("x{depth}"), format!("c{depth}"));
    let leading = clauses.iter().position(|one| !one.negated && matches!(one.test, Test::Exact(_)));
    let own_chart = parameter(ResourceType::PATIENT, "deceased").and_then(|one| one.params.first().copied());
    if let (Some(leading), Some(of_patient)) = (leading, own_chart)
        && at.kind == Some(ResourceType::PATIENT)
        && names_chart(kind, link)
    {
        let lead = format!("e{depth}");
        let row = format!("r{lead}");
        if let (Some(of_match), Some(first)) = (at.chart, clauses.get(leading)) {
            // Another clause leaves few Patients: each one's own chart is looked into.
            sql.push("EXISTS (SELECT 1 FROM index_exact ").push(&lead).push(", resource ").push(&row);
            sql.push(" WHERE ").push(&lead).push(".patient = ").push(of_match).push(".patient");
            params(sql, &lead, first);
            wanted(sql, &lead, &lead, first, depth + 1);
            sql.in_time(&format!("{lead}.key"));
            in_chart(sql, clauses, leading, At { row: &row, chart: Some(&lead), kind: Some(kind) }, depth);
            sql.push(")");
            return;
        }
        // The rows say whose chart they lie in; every Patient says whether it is deceased.
        sql.push(at.row).push(".key IN (SELECT ").push(&x).push(".key FROM index_exact ").push(&x);
        sql.push(" WHERE ").push(&x).push(".param = ").int(of_patient);
        sql.push(" AND ").push(&x).push(".patient IN (SELECT ").push(&lead).push(".patient");
        if let Some(first) = clauses.get(leading) {
            led(sql, first, None, &c, &lead);
        }
        in_chart(sql, clauses, leading, At { row: &row, chart: Some(&lead), kind: Some(kind) }, depth);
        sql.push("))");
        return;
    }
    let t = format!("t{depth}");
    sql.push("EXISTS (SELECT 1 FROM index_chart ").push(&c).push(", index_exact ").push(&x);
    sql.push(", resource ").push(&t).push(" WHERE ");
    beside(sql, &c, &x);
    params(sql, &c, link);
    sql.push(" AND ").push(&c).push(".value = ").push(at.row).push(".hash AND ").push(&t);
    sql.push(".key = ").push(&x).push(".key").in_time(&format!("{x}.key"));
    let inner = At { row: &t, chart: Some(&x), kind: Some(kind) };
    for clause in clauses {
        condition(sql, clause, inner, depth + 1);
    }
    sql.push(")");
}

/// The resource of the leading clause's row, and what else it must have.
fn in_chart<'q>(sql: &mut Sql<'q>, clauses: &'q [Clause], leading: usize, at: At<'_>, depth: usize) {
    sql.push(" AND ").push(at.row).push(".key = ").push(at.chart.unwrap_or_default()).push(".key");
    for (_, clause) in clauses.iter().enumerate().filter(|(place, _)| *place != leading) {
        condition(sql, clause, at, depth + 1);
    }
}

/// Is the parameter the one by which resources of the type lie in a chart?
fn names_chart(kind: ResourceType, link: &Clause) -> bool {
    ["patient", "subject"]
        .iter()
        .filter_map(|code| parameter(kind, code))
        .filter(|one| link.params == one.params)
        .flat_map(|one| one.expression.split('|'))
        .any(|path| {
            let path = path.trim().strip_prefix(kind.name()).unwrap_or_default();
            let element = path.strip_suffix(".where(resolve() is Patient)").unwrap_or(path);
            matches!(element, ".subject" | ".patient")
        })
}

fn first_date(kind: ResourceType) -> Column {
    Column::First(parameter(kind, "date").and_then(|one| one.params.first().copied()).unwrap_or_default())
}

/// The clause that leaves the fewest candidates, by what it is about.
fn lead(query: &SearchQuery, patient: Option<i64>) -> Lead {
    let rank = |clause: &Clause| -> Option<(u8, usize)> {
        if clause.negated {
            return None;
        }
        let any = match &clause.test {
            Test::Exact(any) => any,
            Test::Text(any) => return Some((if patient.is_some() { 6 } else { 2 }, any.len())),
            Test::Chain(_) if patient.is_none() => return Some((4, 0)),
            _ => return None,
        };
        if any.iter().any(|test| test.value.is_none()) {
            return Some((9, any.len()));
        }
        let named = query
            .kind()
            .and_then(|kind| fhir::search::of_type(kind).iter().find(|one| clause.params == one.params));
        let rank = match named.map(|one| one.code) {
            Some("identifier") => 0,
            // Within a chart a code leads; over all charts the chart does.
            Some("code" | "combo-code") if patient.is_some() && any.len() == 1 => 1,
            Some("encounter" | "target" | "entity") => 2,
            Some("patient" | "subject") => 3,
            Some("category" | "status" | "gender" | "clinical-status" | "active" | "deceased") => 7,
            _ => 5,
        };
        Some((rank, any.len()))
    };
    let ranked = query.clauses.iter().enumerate().filter_map(|(at, clause)| Some((rank(clause)?, at)));
    ranked.min().map_or(Lead::Resource, |(_, at)| Lead::Exact(at))
}
