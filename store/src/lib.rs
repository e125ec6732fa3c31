//! All SQL of the program: one way in ([`Store::commit`]), one way out ([`Store::read`],
//! [`Store::search`], [`Store::reading`]), and the work that follows from a commit ([`Store::work`]).
//!
//! A commit is one thing: what changed, how it is found and who has to act on it are one
//! transaction. On SQLite one thread (`lane`) makes a durable transaction of all commits that wait;
//! on PostgreSQL each is its own (`pool`), tried again where others were in the way. Both run the
//! same `unit` with the same statements (`sql`). What is read there may be answered by a replica (`replica`).
//!
//! Tables are described in `migrations/`; times are microseconds since 1970 UTC everywhere.

mod access;
mod account;
mod audit;
mod authorization;
mod carried;
mod charts;
mod checkpoint;
mod clock;
mod commit;
mod compare;
mod connection;
mod consent;
mod context;
mod cursor;
mod deadline;
mod desk;
mod draft;
mod error;
mod find;
mod group;
mod history;
mod include;
mod index;
mod joined;
mod keys;
mod lane;
mod member;
mod migration;
mod moment;
mod partition;
mod plan;
mod pool;
mod prune;
mod queue;
mod reader;
mod record;
mod replica;
mod row;
mod seal;
mod sql;
mod store;
mod subscription;
mod tokens;
mod transaction;
mod unit;
mod version;
mod withheld;

pub use access::{Access, Grant};
pub use account::{Account, AccountChange, Source};
pub use audit::{
    Act, Agent, Astray, Auditing, Batch, Destination, Entry, Finding, Lag, Leaving, Outcome, Proof,
    Retirement, Sealed, Trail, Verified, Who, Witnessed, kept,
};
pub use authorization::{
    AccessToken, Authentication, AuthorizationChange, Code, Granted, Launch, LaunchContext, RefreshToken,
    Registration, SigningKey, SmartClient, SmartGrant, Status,
};
pub use commit::{
    About, Activate, ClientChange, Commit, Conditional, MustBe, NewAssessment, NewTask, OnlyIf, Patch,
    Target, Write,
};
pub use consent::Decision;
pub use context::Context;
pub use error::Error;
pub use history::HistoryQuery;
pub use migration::Schema;
pub use prune::Pruned;
pub use queue::Worked;
pub use reader::{Cut, Latest, Reader, Wanted};
pub use record::{Activation, Assessment, Backlog, Client, Effect, Page, Stored, Task, Written};
pub use replica::Following;
pub use store::{Options, Store};
pub use subscription::{
    Behind, Change, Changed, DeadLetter, Deliveries, Event, Interest, Match, Next, Progress, Rotate,
    Subscription, SubscriptionStatus, UNCONNECTED,
};
pub use unit::new_id;
