//! Search (<https://hl7.org/fhir/R4/search.html>): which parameters there are, what of a resource
//! they index, and what a query asks. Pure: the store only keeps and compares the rows.

mod index;
mod path;
mod query;
mod registry;

pub use index::{Index, Row, index};
pub use query::{Clause, DateTest, ExactTest, Handling, Prefix, SearchQuery, Sort, Test, TextTest};
pub use registry::{Kind, Parameter, of_type, parameter};
