//! FHIRPath (<http://hl7.org/fhirpath/N1/>) over resources of FHIR R4, with the additions of
//! <https://hl7.org/fhir/R4/fhirpath.html>.
//!
//! Neither an expression nor a resource can make an evaluation endless or take more than a thread's
//! stack: the depth of an expression is counted when it is read, and every step of an evaluation is
//! paid from a budget.

mod equality;
mod evaluate;
mod functions;
mod lexer;
mod numbers;
mod operators;
mod parser;
mod presence;
mod quantity;
mod sort;
mod temporal;
mod texts;
mod value;

pub use quantity::{Calendar, Quantity, Unit};
pub use temporal::{Kind, Temporal};
pub use value::{Item, Node};

pub(crate) use presence::{Presence, Told};
pub(crate) use value::is_subtype;

use crate::json::Json;
use crate::schema::Type;
use evaluate::{Evaluator, Frame};
use parser::Expr;

/// The system of UCUM codes, `%ucum`.
const UCUM: &str = "http://unitsofmeasure.org";

/// Why an expression has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no expression.
    #[error("{what} (at {at})")]
    Syntax {
        /// Byte of the text.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A function or variable that is not known here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A value of another type than is needed.
    #[error("{0}")]
    Type(&'static str),
    /// More than one item where one is needed.
    #[error("more than one item where one is needed")]
    Many,
    /// No type of the focus has that element.
    #[error("no element {0} here")]
    NoElement(String),
    /// The budget is spent, or the expression nested too deeply.
    #[error("the expression is too costly")]
    TooCostly,
}

/// Finds what a reference names.
pub type Resolver<'a> = dyn Fn(&str) -> Option<&'a Json<'a>> + 'a;

/// What surrounds an evaluation.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// `%resource`: what the focus is in.
    pub resource: Option<Node<'a>>,
    /// `%rootResource`: what `%resource` is contained in, or the same.
    pub root: Option<Node<'a>>,
    /// Further variables by name; none is an empty collection.
    pub variables: &'a [(&'a str, Option<Item<'a>>)],
    /// For `resolve()`, after contained resources and entries of the root.
    pub resolver: Option<&'a Resolver<'a>>,
    /// `now()` in microseconds since 1970 UTC; nothing here has a clock.
    pub now: Option<i64>,
    /// An element that no type of the focus has is an error, not empty.
    pub strict: bool,
    /// Steps the evaluation may take.
    pub steps: u64,
}

impl Default for Environment<'_> {
    fn default() -> Self {
        Self {
            resource: None,
            root: None,
            variables: &[],
            resolver: None,
            now: None,
            strict: false,
            steps: 1_000_000,
        }
    }
}

impl<'a> Environment<'a> {
    /// Of a resource that is in no other.
    pub fn of(resource: &'a Json<'a>) -> Self {
        let node = Node::resource(resource);
        Self { resource: Some(node), root: Some(node), ..Self::default() }
    }
}

/// An expression, ready to be evaluated any number of times.
#[derive(Debug)]
pub struct Expression {
    tree: Expr,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::Unsupported`] for an unknown function, [`Error::TooCostly`] for
    /// one that is nested too deep.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parser::parse(text).map(|tree| Self { tree })
    }

    /// The collection it leads to from the focus, which is `%context` too.
    ///
    /// # Errors
    /// Where the language defines none for what the resource has, or the budget is spent.
    pub fn evaluate<'a>(
        &'a self,
        focus: &Item<'a>,
        environment: &Environment<'a>,
    ) -> Result<Vec<Item<'a>>, Error> {
        self.metered(focus, environment).0
    }

    /// The same, and the steps that are left.
    pub(crate) fn metered<'a>(
        &'a self,
        focus: &Item<'a>,
        environment: &Environment<'a>,
    ) -> (Result<Vec<Item<'a>>, Error>, u64) {
        let evaluator = Evaluator::new(environment, focus);
        let result = evaluator.evaluate(&self.tree, &Frame::of(Some(focus.clone())));
        (result, evaluator.left())
    }

    /// Is it true of the focus? As where a criterion is asked for: one item that is no Boolean is true,
    /// nothing is not.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and of more than one item.
    pub fn holds<'a>(&'a self, focus: &Item<'a>, environment: &Environment<'a>) -> Result<bool, Error> {
        Ok(Evaluator::truth(&self.evaluate(focus, environment)?)?.unwrap_or_default())
    }

    /// The first variable that is neither the language's nor among these: an evaluation that comes to
    /// it has no result.
    pub fn unknown_variable(&self, known: &[&str]) -> Option<&str> {
        let is_known = |name: &str| known.contains(&name) || evaluate::is_of_the_language(name);
        self.tree.variable(&|name| !is_known(name))
    }

    /// What presence alone says of it, for a focus of that type.
    pub(crate) fn presence(&self, focus: &Type) -> Presence {
        Presence::of(&self.tree, focus)
    }
}
