//! Conditions of a search, as what a row says of its events and as what an event says plainly: little is left
//! of which all that it says has to be looked at.

use std::collections::HashMap;
use std::sync::LazyLock;

use diesel::sql_types::{BigInt, Binary};
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, DateTest, Index, Prefix, Test, index, parameter};

use super::act::{Act, Outcome};
use super::agent::Agent;
use super::event::render;
use super::record::Event;
use super::row::{acts, holding, outcomes};
use crate::connection::Link;
use crate::draft;
use crate::error::Fault;
use crate::sql::Sql;

/// Agents that are looked through for a search, and named in one.
const MOST_AGENTS: usize = 20_000;
const FEW_AGENTS: usize = 500;

/// What has to be so of an event that fits a condition; more may have to be.
pub(super) enum Sieve<'q> {
    Keys(Vec<i64>),
    Chart(Vec<i64>),
    Entity(Vec<i64>),
    Agent(Vec<i64>),
    Time(&'q [DateTest]),
    Acts(Vec<(Act, Outcome)>),
    Nothing,
}

/// What an event says of itself by what was done and how it ended alone.
static TEMPLATES: LazyLock<HashMap<(Act, Outcome), Index>> = LazyLock::new(|| {
    let template = |(act, outcome): (Act, Outcome)| {
        let text = render(&nothing(act, outcome), &Agent::default(), "").to_string();
        let index = draft::parse(&text).map(|json| index(ResourceType::AUDIT_EVENT, &json));
        index.ok().map(|index| ((act, outcome), index))
    };
    let all = Act::all().flat_map(|act| Outcome::ALL.into_iter().map(move |outcome| (act, outcome)));
    all.filter_map(template).collect()
});

/// Something that was done to nothing.
fn nothing(act: Act, outcome: Outcome) -> Event<'static> {
    Event {
        key: 0,
        at: 0,
        act: act.number(),
        outcome: outcome.number(),
        agent: 0,
        request: "".into(),
        kind: -1,
        id: "".into(),
        version: 0,
        entity: 0,
        patient: "".into(),
        chart: 0,
        query: "".into(),
        note: "".into(),
        token: "".into(),
        opaque: "".into(),
    }
}

/// Is it a condition of one of these search parameters?
fn is_of(clause: &Clause, codes: &[&str]) -> bool {
    let mut known = codes.iter().filter_map(|code| parameter(ResourceType::AUDIT_EVENT, code));
    known.any(|one| one.params == clause.params)
}

/// Those who fit a condition about who did it; none if the condition is about something else, or there are
/// too many to tell.
fn agents(link: &mut Link, clause: &Clause) -> Result<Option<Vec<i64>>, Fault> {
    if !is_of(clause, &["agent", "agent-name", "agent-role", "altid", "address"]) {
        return Ok(None);
    }
    let mut sql = Sql::new(link.dialect, "SELECT key, text FROM audit_agent");
    sql.limit(MOST_AGENTS + 1);
    let all = sql.rows::<(BigInt, Binary), (i64, Vec<u8>)>(&mut link.connection)?;
    if all.len() > MOST_AGENTS {
        return Ok(None);
    }
    let site = link.authority.as_ref().map_or("", |authority| authority.site.as_str());
    let mut fitting = Vec::new();
    for (key, text) in all {
        link.in_time()?;
        let agent: Agent = serde_json::from_slice(&text).unwrap_or_default();
        let event = render(&nothing(Act::Read, Outcome::Success), &agent, site).to_string();
        if clause.matches(&index(ResourceType::AUDIT_EVENT, &draft::parse(&event)?), "", 0) {
            fitting.push(key);
        }
    }
    Ok((fitting.len() <= FEW_AGENTS).then_some(fitting))
}

impl<'q> Sieve<'q> {
    pub(super) fn of(link: &mut Link, clause: &'q Clause) -> Result<Self, Fault> {
        if clause.negated {
            return Ok(Self::Nothing);
        }
        let hashes: Option<Vec<i64>> = match &clause.test {
            Test::Exact(any) => any.iter().map(|one| one.value).collect(),
            _ => None,
        };
        if let Some(agents) = agents(link, clause)? {
            return Ok(Self::Agent(agents));
        }
        Ok(match (&clause.test, hashes) {
            (Test::Id(ids), _) => Self::Keys(ids.iter().filter_map(|id| id.parse().ok()).collect()),
            (_, Some(values)) if is_of(clause, &["patient"]) => Self::Chart(values),
            (_, Some(values)) if is_of(clause, &["entity"]) => Self::Entity(values),
            (Test::Updated(spans), _) => Self::Time(spans),
            (Test::Range(spans), _) if is_of(clause, &["date"]) => Self::Time(spans),
            _ if is_of(clause, &["type", "subtype", "action", "outcome"]) => {
                let fits = |(_, index): &(&(Act, Outcome), &Index)| clause.matches(index, "", 0);
                Self::Acts(TEMPLATES.iter().filter(fits).map(|(both, _)| *both).collect())
            }
            _ => Self::Nothing,
        })
    }

    /// What the index is entered by; that of agents last, who did much.
    pub(super) fn lead(all: &[Self]) -> Option<&[i64]> {
        let narrow = all.iter().find_map(|one| match one {
            Self::Chart(hashes) | Self::Entity(hashes) => Some(hashes),
            _ => None,
        });
        let agents = || {
            all.iter().find_map(|one| match one {
                Self::Agent(agents) => Some(agents),
                _ => None,
            })
        };
        narrow.or_else(agents).map(Vec::as_slice)
    }

    /// Writes ` AND …` for rows that may hold such an event.
    pub(super) fn rows<'s>(&'s self, sql: &mut Sql<'s>) {
        match self {
            Self::Keys(keys) => holding(sql.push(" AND "), keys),
            Self::Time(any) => {
                sql.push(" AND ");
                crate::compare::either(sql, any, &mut |sql, test| time(sql, test));
            }
            Self::Acts(both) => {
                sql.push(" AND (a.acts & ").int(acts(both.iter().map(|(act, _)| *act)));
                sql.push(") <> 0 AND (a.outcomes & ").int(outcomes(both.iter().map(|(_, outcome)| *outcome)));
                sql.push(") <> 0");
            }
            Self::Chart(_) | Self::Entity(_) | Self::Agent(_) | Self::Nothing => {}
        }
    }

    /// May this event fit?
    pub(super) fn lets(&self, event: &Event<'_>) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(&event.key),
            Self::Chart(hashes) => hashes.contains(&event.chart),
            Self::Entity(hashes) => {
                [event.entity, event.chart, event.subscriber()].iter().any(|hash| hashes.contains(hash))
            }
            Self::Agent(agents) => agents.contains(&event.agent),
            Self::Time(any) => any.iter().any(|test| test.matches(event.at, event.at)),
            Self::Acts(both) => {
                let is = |(act, outcome): &(Act, Outcome)| {
                    (act.number(), outcome.number()) == (event.act, event.outcome)
                };
                both.iter().any(is)
            }
            Self::Nothing => true,
        }
    }
}

/// What these search parameters find depends on nothing but the shape of an event.
const OF_SHAPE: [&str; 8] =
    ["type", "subtype", "action", "outcome", "entity-role", "entity-type", "source", "site"];

/// Of these it does whether there is anything to be found.
const PRESENT: [&str; 3] = ["date", "entity", "entity-name"];

/// What was done, how it ended, and what is said of it at all.
type Shape = (i64, i64, i64, [bool; 4]);

pub(super) fn shape(event: &Event<'_>) -> Shape {
    let told = [&event.patient, &event.id, &event.query, &event.request].map(|text| text.is_empty());
    (event.act, event.outcome, event.kind, told)
}

/// Shapes that fit or don't. Most events are of few: of one that can't match no resource is made.
pub(super) struct Shapes<'q> {
    clauses: Vec<&'q Clause>,
    fits: HashMap<Shape, bool>,
}

impl<'q> Shapes<'q> {
    pub(super) fn of(clauses: &'q [Clause]) -> Self {
        let of_shape = |clause: &&Clause| {
            is_of(clause, &OF_SHAPE) || matches!(clause.test, Test::Present(_)) && is_of(clause, &PRESENT)
        };
        Self { clauses: clauses.iter().filter(of_shape).collect(), fits: HashMap::new() }
    }

    /// May an event of this shape fit?
    pub(super) fn lets(&self, shape: &Shape) -> bool {
        self.fits.get(shape) != Some(&false)
    }

    /// What an event of this shape turned out to match is true of all.
    pub(super) fn learn(&mut self, shape: Shape, matches: impl Fn(&Clause) -> bool) {
        if !self.clauses.is_empty() {
            self.fits.entry(shape).or_insert_with(|| self.clauses.iter().all(|clause| matches(clause)));
        }
    }
}

/// Is there a moment from the row's first to its last that may fit? That of an event has no length.
fn time(sql: &mut Sql<'_>, DateTest { prefix, span }: &DateTest) {
    match prefix {
        Prefix::Eq | Prefix::Ap => {
            sql.push("a.low <= ").int(span.high).push(" AND a.high >= ").int(span.low);
        }
        Prefix::Ne => {
            sql.push("(a.low < ").int(span.low).push(" OR a.high > ").int(span.high).push(")");
        }
        Prefix::Gt | Prefix::Sa => {
            sql.push("a.high > ").int(span.high);
        }
        Prefix::Ge => {
            sql.push("a.high >= ").int(span.low);
        }
        Prefix::Lt | Prefix::Eb => {
            sql.push("a.low < ").int(span.low);
        }
        Prefix::Le => {
            sql.push("a.low <= ").int(span.high);
        }
    }
}
