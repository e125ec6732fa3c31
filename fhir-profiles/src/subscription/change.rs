//! What happened to one resource.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::fhirpath::Error;
use crate::json::Json;
use crate::resource_type::ResourceType;
use crate::search::Index;

/// What was done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interaction {
    /// It was not there before, or was deleted.
    Create,
    /// A version of it was there.
    Update,
    /// It is there no longer.
    Delete,
}

impl Interaction {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// As FHIR calls it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The one of that code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    fn of(before: bool, after: bool) -> Option<Self> {
        match (before, after) {
            (false, true) => Some(Self::Create),
            (true, true) => Some(Self::Update),
            (true, false) => Some(Self::Delete),
            (false, false) => None,
        }
    }
}

/// One version of a resource.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// All of it.
    pub resource: &'a Json<'a>,
    /// Its entries ([`crate::search::index`]).
    pub index: &'a Index,
    /// When it was written, microseconds since 1970 UTC.
    pub updated: i64,
}

/// Expressions that had no result, each with why the first time and how often.
#[derive(Debug, Default)]
pub struct Unclear(RefCell<BTreeMap<String, (Error, u64)>>);

impl Unclear {
    /// One more time.
    pub(crate) fn note(&self, expression: &str, error: Error) {
        self.0.borrow_mut().entry(expression.to_owned()).or_insert((error, 0)).1 += 1;
    }

    /// All of them.
    pub fn into_inner(self) -> BTreeMap<String, (Error, u64)> {
        self.0.into_inner()
    }
}

/// What a commit did to one resource.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Its type.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: &'a str,
    /// The version before; none if it was not there, or was deleted.
    pub before: Option<State<'a>>,
    /// The version after; none if it was deleted.
    pub after: Option<State<'a>>,
    /// Hears of what could not be evaluated of it.
    pub unclear: &'a Unclear,
}

impl<'a> Change<'a> {
    /// What was done; none if there is neither version.
    pub fn interaction(&self) -> Option<Interaction> {
        Interaction::of(self.before.is_some(), self.after.is_some())
    }

    /// The version that filters look at: the one after, of a delete the one before.
    pub fn subject(&self) -> Option<State<'a>> {
        self.after.or(self.before)
    }
}
