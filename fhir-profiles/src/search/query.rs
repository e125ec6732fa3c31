//! What a query asks: comparable in memory and in SQL alike. [`super::parse`] reads it.

use std::sync::Arc;

use super::index::{Index, Row};
use super::number::{Extent, Quantity, Unit};
use crate::resource_type::ResourceType;
use crate::time::Span;

/// What to do about a parameter that is not known (`Prefer: handling=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Leave it out and say so.
    Lenient,
    /// Refuse the query.
    Strict,
}

/// A whole query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// Of which types; at least one.
    pub kinds: Vec<ResourceType>,
    /// All must hold.
    pub clauses: Vec<Clause>,
    /// In what order; where nothing is said, newest first by clinical date within charts, else by id.
    pub sort: Vec<Sort>,
    /// Matches a page, at most.
    pub count: u32,
    /// Only the number of matches is asked for.
    pub count_only: bool,
    /// Also the number of all matches.
    pub total: bool,
    /// Where the page begins: what the page before gave.
    pub after: Option<String>,
    /// What comes along with the matches.
    pub includes: Vec<Include>,
    /// What is shown of each.
    pub view: View,
    /// The path it was asked at, which a page's end holds for alone.
    pub scope: String,
    /// The parameters that were understood, as they came: for the `self` link.
    pub used: Vec<(String, String)>,
}

/// How much of each resource is shown (<https://hl7.org/fhir/R4/search.html#summary>).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum View {
    /// All of it.
    #[default]
    Whole,
    /// The elements marked as summary.
    Summary,
    /// Text, id, meta and what is mandatory.
    Text,
    /// Everything but the text.
    Data,
    /// These elements and what is mandatory.
    Elements(Vec<String>),
}

/// An `_include` or `_revinclude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// From the resources that point to the matches, not from those that the matches point to.
    pub reverse: bool,
    /// Also of what was included.
    pub iterate: bool,
    /// The type the reference is in; none for all.
    pub source: Option<ResourceType>,
    /// The reference parameter's code; none for all.
    pub code: Option<String>,
    /// The type that is pointed to; none for all.
    pub target: Option<ResourceType>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Rows of any of these count; empty where the test names a column of its own.
    pub params: Vec<i64>,
    /// It must not hold.
    pub negated: bool,
    /// The condition.
    pub test: Test,
}

/// Which table of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// [`Row::Exact`], and [`Row::Text`] beside it
    Exact,
    /// [`Row::Range`]
    Range,
    /// [`Row::Number`]
    Number,
}

/// One of several possibilities must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Some [`Row::Exact`].
    Exact(Vec<ExactTest>),
    /// Some [`Row::Range`].
    Range(Vec<DateTest>),
    /// Some [`Row::Text`].
    Text(Vec<TextTest>),
    /// Some [`Row::Number`].
    Number(Vec<NumberTest>),
    /// Any row at all.
    Present(Table),
    /// The logical id.
    Id(Vec<String>),
    /// When it was last updated.
    Updated(Vec<DateTest>),
    /// A reference to a resource of one of these types that meets the conditions.
    Chain(Vec<(ResourceType, Vec<Clause>)>),
    /// A resource of the type points here by one of `params` and meets the conditions.
    Has(ResourceType, Vec<Clause>),
    /// One of these conditions.
    Either(Vec<Clause>),
    /// All of these conditions.
    All(Vec<Clause>),
    /// One of these types.
    Kind(Vec<ResourceType>),
    /// It is about one of the patients with these ids, which are in order.
    About(Arc<[String]>),
}

/// A token, reference or address. `None` stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactTest {
    /// Hash of the code, of `Type/id`, or of the text.
    pub value: Option<i64>,
    /// Hash of the system; 0 for none.
    pub system: Option<i64>,
}

/// A date with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTest {
    /// How they compare.
    pub prefix: Prefix,
    /// The span of the date that was asked for.
    pub span: Span,
}

/// A number with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberTest {
    /// How they compare.
    pub prefix: Prefix,
    /// Its unit.
    pub unit: Unit,
    /// Of a composite: hash of the system that its first part must have; none for any.
    pub of: Option<i64>,
    /// The number itself, as an ordered whole number.
    pub value: i64,
    /// The span its digits imply: the first inside.
    pub low: i64,
    /// The first beyond.
    pub high: i64,
    /// Of a composite of three: what its last part must be, which lies where other quantities have
    /// their canonical extent.
    pub last: Option<Bound>,
}

/// A number without a unit, as [`NumberTest`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// How they compare.
    pub prefix: Prefix,
    /// The number itself.
    pub value: i64,
    /// The first inside.
    pub low: i64,
    /// The first beyond.
    pub high: i64,
}

/// How a stored span and an asked one compare (<https://hl7.org/fhir/R4/search.html#prefix>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Stored within asked.
    Eq,
    /// Not [`Prefix::Eq`].
    Ne,
    /// Stored reaches past the end of asked.
    Gt,
    /// Stored reaches asked or past it.
    Ge,
    /// Stored begins before asked.
    Lt,
    /// Stored begins before the end of asked.
    Le,
    /// Stored begins after the end of asked.
    Sa,
    /// Stored ends before asked.
    Eb,
    /// They meet; the asked one was widened.
    Ap,
}

/// Text, folded as [`Row::Text`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTest {
    /// What to look for.
    pub text: String,
    /// Where.
    pub place: Place,
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At its beginning.
    Start,
    /// Anywhere.
    Anywhere,
}

/// One sort key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// From the end.
    pub descending: bool,
}

/// What a search is ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortKey {
    /// The clinical time: the parameter `date`.
    Date,
    /// The last update.
    Updated,
    /// The logical id.
    Id,
    /// Another parameter, by its code.
    Of(String),
}

impl SearchQuery {
    /// The type, if it is one.
    pub fn kind(&self) -> Option<ResourceType> {
        match self.kinds.as_slice() {
            [kind] => Some(*kind),
            _ => None,
        }
    }
}

impl ExactTest {
    fn matches(&self, found: i64, of: i64) -> bool {
        self.value.is_none_or(|value| value == found) && self.system.is_none_or(|system| system == of)
    }
}

impl DateTest {
    /// Does a stored span pass?
    pub fn matches(&self, low: i64, high: i64) -> bool {
        let asked = self.span;
        match self.prefix {
            Prefix::Eq => low >= asked.low && high <= asked.high,
            Prefix::Ne => low < asked.low || high > asked.high,
            Prefix::Gt => high > asked.high,
            Prefix::Ge => high >= asked.low,
            Prefix::Lt => low < asked.low,
            Prefix::Le => low <= asked.high,
            Prefix::Sa => low > asked.high,
            Prefix::Eb => high < asked.low,
            Prefix::Ap => low <= asked.high && high >= asked.low,
        }
    }
}

impl Bound {
    fn matches(self, Extent { low, high }: Extent) -> bool {
        match self.prefix {
            Prefix::Eq => low >= self.low && high < self.high,
            Prefix::Ne => low < self.low || high >= self.high,
            Prefix::Gt => high > self.value,
            Prefix::Ge => high >= self.value,
            Prefix::Lt => low < self.value,
            Prefix::Le => low <= self.value,
            Prefix::Sa => low > self.value,
            Prefix::Eb => high < self.value,
            Prefix::Ap => low <= self.high && high >= self.low,
        }
    }
}

impl NumberTest {
    /// The number alone.
    pub fn bound(&self) -> Bound {
        let Self { prefix, value, low, high, .. } = *self;
        Bound { prefix, value, low, high }
    }

    /// Does a stored quantity pass?
    pub fn matches(&self, quantity: &Quantity) -> bool {
        let fits = match self.unit {
            Unit::Any => true,
            Unit::Named(code) => quantity.code == code || quantity.label == code,
            Unit::Coded { system, code } => quantity.code == code && quantity.system == system,
            Unit::Canonical(unit) => quantity.unit == unit,
        };
        let extent =
            if matches!(self.unit, Unit::Canonical(_)) { quantity.canonical } else { quantity.extent };
        fits && self.of.is_none_or(|of| of == quantity.label)
            && self.bound().matches(extent)
            && self.last.is_none_or(|last| last.matches(quantity.canonical))
    }
}

impl TextTest {
    fn matches(&self, text: &str) -> bool {
        match self.place {
            Place::Start => text.starts_with(&self.text),
            Place::Anywhere => text.contains(&self.text),
        }
    }
}

impl std::ops::Not for Clause {
    type Output = Self;

    fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

impl Clause {
    /// That this holds of some of these parameters' rows, or of the resource itself where there are none.
    pub fn new(params: Vec<i64>, test: Test) -> Self {
        Self { params, negated: false, test }
    }

    /// That all of these hold.
    pub fn all(mut all: Vec<Self>) -> Self {
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => one,
            (last, _) => {
                all.extend(last);
                Self::new(Vec::new(), Test::All(all))
            }
        }
    }

    /// Is it about the resource alone, and not about others too?
    pub fn alone(&self) -> bool {
        match &self.test {
            Test::Chain(_) | Test::Has(..) => false,
            Test::Either(clauses) | Test::All(clauses) => clauses.iter().all(Self::alone),
            _ => true,
        }
    }

    /// The same condition in memory: of a resource's index entries, id and last update. What is
    /// about other resources is not known here and passes.
    pub fn matches(&self, index: &Index, id: &str, updated: i64) -> bool {
        let mut rows = index.rows.iter().filter(|row| self.params.contains(&row.param()));
        let holds = match &self.test {
            Test::Exact(tests) => rows.any(|row| {
                matches!(row, Row::Exact { value, system, .. } if tests.iter().any(|t| t.matches(*value, *system)))
            }),
            Test::Range(tests) => rows.any(|row| {
                matches!(row, Row::Range { low, high, .. } if tests.iter().any(|t| t.matches(*low, *high)))
            }),
            Test::Text(tests) => {
                rows.any(|row| matches!(row, Row::Text { text, .. } if tests.iter().any(|t| t.matches(text))))
            }
            Test::Number(tests) => rows.any(|row| {
                matches!(row, Row::Number { quantity, .. } if tests.iter().any(|t| t.matches(quantity)))
            }),
            Test::Present(_) => rows.next().is_some(),
            Test::Id(ids) => ids.iter().any(|wanted| wanted == id),
            Test::Updated(tests) => tests.iter().any(|t| t.matches(updated, updated)),
            Test::Either(clauses) => clauses.iter().any(|clause| clause.matches(index, id, updated)),
            Test::All(clauses) => clauses.iter().all(|clause| clause.matches(index, id, updated)),
            Test::Kind(kinds) => kinds.contains(&index.kind),
            Test::About(patients) => {
                let is_among = |id: &str| patients.binary_search_by(|one| one.as_str().cmp(id)).is_ok();
                index.patients.split_ascii_whitespace().any(is_among)
            }
            Test::Chain(_) | Test::Has(..) => return true,
        };
        holds != self.negated
    }
}
