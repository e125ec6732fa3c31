//! Search (<https://hl7.org/fhir/R4/search.html>): which parameters there are, what of a resource
//! they index, and what a query asks. Pure: the store only keeps and compares the rows.

mod about;
mod index;
pub(crate) mod number;
mod parse;
mod path;
mod query;
mod registry;
mod value;

pub use about::named;
pub use index::{
    Index, MOST_HELD, MOST_ROWS, Order, Row, fold, identified, index, order, patients, references, textual,
};
pub use number::{Extent, Quantity, Unit};
pub use parse::links;
pub use query::{
    Bound, Clause, DateTest, ExactTest, Handling, Include, NumberTest, Place, Prefix, SearchQuery, Sort,
    SortKey, Table, Test, TextTest, View,
};
pub(crate) use registry::kind;
pub use registry::{Kind, Parameter, compartment, is_compartment, of_type, parameter, participants};
