//! Who asks, when, and in which request: the first argument of every call.

use crate::access::Access;

/// The one asking. Access is decided from it, in this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Part of the program itself, named: a worker, an import.
    System(&'static str),
    /// A registered client, by its id.
    Client(String),
    /// Nobody in particular: a server that is open to its own machine.
    Anyone,
}

/// One request to the store.
#[derive(Debug, Clone)]
pub struct Context {
    /// The request's id, for the log.
    pub request: String,
    /// The time of the request in microseconds since 1970 UTC; what is written carries it.
    pub at: i64,
    /// Who asks.
    pub principal: Principal,
    /// What they may do.
    pub access: Access,
}

impl Context {
    /// A request by a part of the program.
    pub fn system(name: &'static str, at: i64) -> Self {
        Self { request: String::new(), at, principal: Principal::System(name), access: Access::Whole }
    }
}
