//! What goes in and comes out of the plain-JSON API, for `/openapi.json`. The answers themselves are
//! made from stored resources (`plain`); `tests/it/openapi.rs` holds them against these.
#![expect(dead_code, reason = "described, never made")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoResponses, ToSchema};

/// One of `inputs`, `patients`, `bundle`, `patient`; or a FHIR Bundle itself in place of all this.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// One model or several; without it every model in use.
    #[schema(nullable = false)]
    model: Option<OneOrMany>,
    /// A FHIR date or dateTime: the moment asked for; without it now.
    #[serde(rename = "asOf")]
    #[schema(nullable = false)]
    as_of: Option<String>,
    /// Store the answer about a stored patient.
    #[schema(nullable = false)]
    persist: Option<bool>,
    /// By name, as `/models` lists them.
    #[schema(nullable = false)]
    inputs: Option<BTreeMap<String, Input>>,
    /// Several patients at once.
    #[schema(nullable = false)]
    patients: Option<Vec<Patient>>,
    /// A FHIR R4 Bundle.
    #[schema(value_type = Option<Object>, nullable = false)]
    bundle: Option<Value>,
    /// The id of a stored patient.
    #[schema(nullable = false)]
    patient: Option<String>,
}

/// An id, or several.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The value of an input.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Input {
    Quantity(Quantity),
    Flag(bool),
    Code(String),
    Number(f64),
}

/// A number with its unit.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Quantity {
    /// Without one the input is absent.
    value: Option<f64>,
    /// UCUM.
    unit: Option<String>,
}

/// One of several.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patient {
    /// Comes back as `patient`.
    #[schema(nullable = false)]
    id: Option<String>,
    inputs: BTreeMap<String, Input>,
}

/// Predictions, by patient, then by model.
#[derive(ToSchema)]
pub(crate) struct Predictions {
    predictions: Vec<Prediction>,
}

/// What a model says of a patient.
#[derive(ToSchema)]
pub(crate) struct Prediction {
    /// Of the stored RiskAssessment.
    id: Option<String>,
    patient: Option<String>,
    model: String,
    version: String,
    result: Outcome,
    /// FHIR's ObservationStatus.
    status: String,
    /// The moment asked for.
    #[schema(rename = "asOf")]
    as_of: String,
    /// Of a refusal: what was not computed.
    outputs: Vec<Output>,
    /// What it stands on.
    basis: Vec<Basis>,
    /// What was taken for granted.
    assumptions: Vec<Assumption>,
    /// What stood in the way, and what else there is to know.
    issues: Vec<Issue>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Scored,
    Refused,
}

/// One number of a model, or why there is none.
#[derive(ToSchema)]
pub(crate) struct Output {
    name: Option<String>,
    outcome: Option<String>,
    /// A probability, 0 to 1.
    fraction: Option<f64>,
    /// The same in percent, rounded.
    percent: Option<f64>,
    /// What is no probability.
    score: Option<f64>,
    /// Of the score, UCUM.
    unit: Option<String>,
    /// The band, as a code and in words.
    risk: Option<String>,
    band: Option<String>,
    /// The time it is about.
    from: Option<String>,
    until: Option<String>,
    /// `baseline` and all contributions together.
    #[schema(rename = "linearPredictor")]
    linear_predictor: Option<f64>,
    baseline: Option<f64>,
    contributions: Option<Vec<Contribution>>,
    rationale: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Contribution {
    inputs: String,
    value: f64,
}

#[derive(ToSchema)]
pub(crate) struct Basis {
    reference: Option<String>,
    input: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Assumption {
    input: String,
    value: String,
    reason: String,
}

#[derive(ToSchema)]
pub(crate) struct Issue {
    input: String,
    /// `missing`, `stale`, `out-of-range`, `unit` and the like.
    kind: String,
    effect: Effect,
    details: String,
    remedy: Option<String>,
    reference: Option<String>,
    /// A code that would supply the input.
    loinc: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Effect {
    Refuses,
    Remark,
}

#[derive(ToSchema)]
pub(crate) struct Models {
    models: Vec<Model>,
}

#[derive(ToSchema)]
pub(crate) struct Model {
    id: String,
    version: String,
    sha256: String,
    title: String,
    /// Is this the version in use?
    active: bool,
    doi: Option<String>,
    purpose: Option<String>,
    inputs: Vec<ModelInput>,
    outputs: Vec<ModelOutput>,
}

#[derive(ToSchema)]
pub(crate) struct ModelInput {
    name: String,
    title: String,
    /// UCUM; none of flags and codes.
    unit: Option<String>,
    loinc: Vec<String>,
}

#[derive(ToSchema)]
pub(crate) struct ModelOutput {
    name: String,
    title: String,
    unit: Option<String>,
    #[schema(rename = "horizonYears")]
    horizon_years: Option<f64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    version: String,
}

#[derive(ToSchema)]
pub(crate) struct Activated {
    id: String,
    version: String,
    active: bool,
}

#[derive(ToSchema)]
pub(crate) struct Status {
    /// `ok`, or `unavailable`.
    status: String,
}

#[derive(ToSchema)]
pub(crate) struct Health {
    /// `ok`, `degraded` (scoring was put off, the audit log is behind or not what it was, an event was not delivered for
    /// five minutes, Redis or the replica is away, parts of tables that are to come can't be made, or this machine's clock is not the database's), or
    /// `unavailable` (the store does not answer, or does not serve this version any more).
    status: String,
    version: String,
    started: String,
    store: Option<Database>,
    queue: Option<Queue>,
    audit: Option<Trail>,
    subscriptions: Option<Deliveries>,
    /// This machine's clock beside PostgreSQL's.
    clock: Option<Clock>,
    /// The replica that answers searches, if there is one.
    replica: Option<Replica>,
    /// Where processes count requests together, if they do: `ok`, or `unavailable` (each counts by itself).
    redis: Option<Status>,
    models: Vec<InUse>,
}

#[derive(ToSchema)]
pub(crate) struct Clock {
    /// `ok`, or `skewed`: they differ by more than two seconds.
    status: String,
    /// By so many seconds it is ahead; behind, if negative.
    ahead_s: i64,
}

#[derive(ToSchema)]
pub(crate) struct Deliveries {
    /// Subscriptions whose endpoints have not answered yet.
    requested: i64,
    /// Those that are told.
    active: i64,
    /// Of these, those that could not be told the last time.
    failing: i64,
    /// Those that are told no more because they could not be.
    error: i64,
    /// Events that were not delivered yet.
    undelivered: i64,
    /// How long the oldest of them waits, in seconds.
    oldest_s: Option<i64>,
    /// Events that their endpoints would not take, and that were put aside.
    dead: i64,
    /// Changes of which it is not decided for whom they are.
    changes: i64,
}

#[derive(ToSchema)]
pub(crate) struct Trail {
    /// How long the oldest event waits that is not in the signed log, in seconds.
    unsealed_s: i64,
    /// How long a transaction of the database is open that it may wait for.
    open_transaction_s: Option<i64>,
    /// The log is not the one that was sealed last, and is not sealed; or what was sealed long ago is harmed.
    astray: Option<Astray>,
    /// What is wrong with the tables of the trail: one is gone, something stands in for it, or acts when it is written.
    tables: Vec<String>,
    /// Events that were removed before they were in the log, since this process began.
    vanished: u64,
    /// Witnesses that could not be shown the newest head.
    witnesses_failing: Vec<String>,
    /// Those that events are sent to.
    forward: Vec<Receiver>,
}

#[derive(ToSchema)]
pub(crate) struct Receiver {
    to: String,
    /// Events that it does not have yet.
    waiting: u64,
    /// How old the oldest of these is, in seconds.
    oldest_s: Option<i64>,
}

#[derive(ToSchema)]
pub(crate) struct Astray {
    known: u64,
    found: u64,
    /// What is wrong with the log.
    why: String,
}

#[derive(ToSchema)]
pub(crate) struct Database {
    backend: String,
    schema: Option<Schema>,
    /// Why PostgreSQL's tables get no new parts, if they do not.
    parts: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Schema {
    /// The number of this version's schema.
    program: i64,
    /// That of the database, which a newer version may have changed.
    database: i64,
    /// That of the oldest version that the database still serves.
    oldest: i64,
}

#[derive(ToSchema)]
pub(crate) struct Replica {
    /// `ok`, or `unavailable` (the primary answers).
    status: String,
    /// Why it is not asked.
    why: Option<String>,
    /// What it did not have of the primary's log when it was looked at last, in bytes.
    lag_bytes: Option<i64>,
}

#[derive(ToSchema)]
pub(crate) struct Queue {
    waiting: u64,
    lag_ms: i64,
    put_off: u64,
}

#[derive(ToSchema)]
pub(crate) struct InUse {
    id: String,
    version: String,
}

/// Why a call failed.
#[derive(ToSchema)]
pub(crate) struct Error {
    error: String,
    issues: Vec<Finding>,
}

#[derive(ToSchema)]
pub(crate) struct Finding {
    severity: String,
    /// FHIR's issue type.
    code: String,
    details: String,
    /// The place in the question; may be empty.
    at: String,
}

/// What any call with a caller may come to.
#[derive(IntoResponses)]
pub(crate) enum Refused {
    /// What was sent can't be understood
    #[response(status = 400)]
    Invalid(#[to_schema] Error),
    /// A key is needed
    #[response(status = 401)]
    Unknown(#[to_schema] Error),
    /// Open access is for this machine
    #[response(status = 403)]
    Forbidden(#[to_schema] Error),
    /// It is not there
    #[response(status = 404)]
    NotFound(#[to_schema] Error),
    /// An error of the server's; its log tells more
    #[response(status = 500)]
    Internal(#[to_schema] Error),
    /// Too much to do; try again
    #[response(status = 503)]
    Busy(#[to_schema] Error),
}

/// The same, where there is a body.
#[derive(IntoResponses)]
pub(crate) enum RefusedBody {
    /// The body took too long
    #[response(status = 408)]
    Slow(#[to_schema] Error),
    /// The body is too long
    #[response(status = 413)]
    TooLong(#[to_schema] Error),
    /// The body is not said to be JSON
    #[response(status = 415)]
    Media(#[to_schema] Error),
    /// The disk of the store is full, or takes no writes
    #[response(status = 507)]
    NoStore(#[to_schema] Error),
}
