//! What of a change lets a topic speak (<https://hl7.org/fhir/R5/subscriptiontopic.html>).

use super::change::{Change, Interaction, State};
use super::filter::Text;
use crate::fhirpath::{Environment, Error, Expression, Item, Node};
use crate::json::Json;
use crate::outcome::{Issue, Issues};
use crate::resource_type::ResourceType;
use crate::search::Clause;

/// Steps one expression may take for one change: so many, more for each value of the two versions, and so many
/// at most. What is wide is no less critical, and what goes over all pairs of it is not paid for.
const STEPS: u64 = 100_000;
const STEPS_PER_VALUE: u64 = 32;
const MOST_STEPS: u64 = 5_000_000;
const PREVIOUS: &str = "previous";
const CURRENT: &str = "current";

/// One `resourceTrigger` of a topic. Of query and expression, where there are both, both must hold.
#[derive(Debug)]
pub struct Trigger {
    /// In words.
    pub description: Option<String>,
    /// Of which type.
    pub kind: ResourceType,
    /// By which interactions; at least one.
    pub interactions: Vec<Interaction>,
    /// What the versions before and after must meet.
    pub query: Option<QueryCriteria>,
    /// What must be true of `%previous` and `%current`.
    pub expression: Option<Criterion>,
}

/// `queryCriteria`: searches that the versions before and after are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryCriteria {
    /// Which of the two versions are asked, and what.
    pub of: Versions,
    /// `resultForCreate`: what the version before passes for where there is none.
    pub for_create: bool,
    /// `resultForDelete`: what the version after passes for where there is none.
    pub for_delete: bool,
}

/// Which versions a query is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// The one before.
    Previous(Query),
    /// The one after.
    Current(Query),
    /// Either must pass.
    Either(Query, Query),
    /// Both must pass, the one before and the one after.
    Both(Query, Query),
}

/// A search as it was written, and what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// As it was written.
    pub text: String,
    clauses: Vec<Clause>,
}

/// A FHIRPath expression as it was written, and what it is.
#[derive(Debug)]
pub struct Criterion {
    /// As it was written.
    pub text: String,
    expression: Expression,
}

impl Query {
    /// Reads a search of resources of that type; the type may stand before it.
    ///
    /// # Errors
    /// It is of another type, has a parameter that is not known, or asks for what one resource does not say.
    pub fn parse(kind: ResourceType, text: &str) -> Result<Self, Issues> {
        let read = Text::parse(text)?;
        if read.kind.is_some_and(|named| named != kind) {
            return Err(Issue::error("value", format!("a search of {kind} is needed")).into());
        }
        if read.pairs.is_empty() {
            return Err(Issue::error("value", "a search without a parameter").into());
        }
        Ok(Self { text: text.to_owned(), clauses: read.conditions(kind, "")? })
    }

    fn is_met(&self, id: &str, state: &State<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(state.index, id, state.updated))
    }
}

impl Criterion {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none, or names a variable that has no value here.
    pub fn parse(text: &str) -> Result<Self, Issue> {
        let expression =
            Expression::parse(text).map_err(|error| Issue::error("invalid", format!("FHIRPath: {error}")))?;
        if let Some(name) = expression.unknown_variable(&[PREVIOUS, CURRENT]) {
            let shown: String = name.chars().take(64).collect();
            return Err(Issue::error("not-supported", format!("FHIRPath: there is no variable %{shown}")));
        }
        Ok(Self { text: text.to_owned(), expression })
    }

    /// The focus is the version after, of a delete the one before. What has no result is not true; but what costs too
    /// much may be, and nobody is to miss it.
    fn is_true(&self, change: &Change<'_>) -> bool {
        let Some(subject) = change.subject() else { return false };
        let variables = [(PREVIOUS, change.before.map(item)), (CURRENT, change.after.map(item))];
        let environment = Environment {
            variables: &variables,
            now: Some(subject.updated),
            steps: steps(change),
            ..Environment::of(subject.resource)
        };
        self.expression.holds(&item(subject), &environment).unwrap_or_else(|error| {
            let is_costly = error == Error::TooCostly;
            change.unclear.note(&self.text, error);
            is_costly
        })
    }
}

fn steps(change: &Change<'_>) -> u64 {
    let values = [change.before, change.after].into_iter().flatten().map(|state| values(state.resource));
    STEPS.saturating_add(values.sum::<u64>().saturating_mul(STEPS_PER_VALUE)).min(MOST_STEPS)
}

/// How many values a tree has.
fn values(json: &Json) -> u64 {
    let below: u64 = match json {
        Json::Array(items) => items.iter().map(values).sum(),
        Json::Object(object) => object.iter().map(|(_, value)| values(value)).sum(),
        _ => 0,
    };
    1 + below
}

fn item(state: State<'_>) -> Item<'_> {
    Item::Element(Node::resource(state.resource))
}

impl QueryCriteria {
    fn is_met(&self, change: &Change<'_>) -> bool {
        let met = |query: &Query, state: Option<&State<'_>>, absent: bool| {
            state.map_or(absent, |state| query.is_met(change.id, state))
        };
        let before = |query| met(query, change.before.as_ref(), self.for_create);
        let after = |query| met(query, change.after.as_ref(), self.for_delete);
        match &self.of {
            Versions::Previous(previous) => before(previous),
            Versions::Current(current) => after(current),
            Versions::Either(previous, current) => before(previous) || after(current),
            Versions::Both(previous, current) => before(previous) && after(current),
        }
    }
}

impl Trigger {
    /// Does the change let it speak?
    pub fn fires(&self, change: &Change<'_>) -> bool {
        self.kind == change.kind
            && change.interaction().is_some_and(|what| self.interactions.contains(&what))
            && self.query.as_ref().is_none_or(|query| query.is_met(change))
            && self.expression.as_ref().is_none_or(|expression| expression.is_true(change))
    }
}
