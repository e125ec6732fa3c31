//! The interactions and operations there are: the router mounts this table, and the CapabilityStatement
//! lists it. What is not here can be neither reached nor promised.

use actix_web::http::Method;
use fhir::resource_type::ResourceType;
use store::Act;

use crate::subscriptions::socket;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Metadata,
    Bundle,
    SearchSystem,
    SearchSystemByPost,
    SearchType,
    SearchTypeByPost,
    SearchCompartment,
    SearchCompartmentByPost,
    Create,
    Read,
    Vread,
    Update,
    Patch,
    Delete,
    HistorySystem,
    HistoryType,
    HistoryInstance,
    AssessRisk,
    AssessRiskOfPatient,
    Replay,
    Everything,
    ValidateType,
    ValidateInstance,
    Meta,
    MetaAdd,
    MetaDelete,
    VerifyAudit,
    ProveAudit,
    Accounting,
    SubscriptionStatus,
    SubscriptionsStatus,
    SubscriptionEvents,
    BindingToken,
    BindingTokens,
    DeadLetters,
    Redeliver,
    WebhookSecret,
}

/// What a CapabilityStatement says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer {
    /// `rest.interaction.code`
    System(&'static str),
    /// `rest.resource.interaction.code`
    Type(&'static str),
    /// An element of `rest.resource` that is true.
    Flag(&'static str),
    /// An element of `rest.resource` with its code.
    Code(&'static str, &'static str),
    /// An operation by its name and what its definition's address is before that, where it is listed.
    Operation(Listed, &'static str, &'static str),
}

impl Offer {
    /// Is it of resources that change?
    pub(crate) fn presumes_change(self) -> bool {
        match self {
            Self::Type(code) => {
                matches!(code, "create" | "update" | "patch" | "delete" | "history-type" | "history-instance")
            }
            Self::Flag(element) | Self::Code(element, _) => {
                matches!(
                    element,
                    "readHistory"
                        | "updateCreate"
                        | "conditionalCreate"
                        | "conditionalUpdate"
                        | "conditionalDelete"
                )
            }
            Self::System(_) | Self::Operation(..) => false,
        }
    }
}

/// Where a CapabilityStatement lists an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    AtSystem,
    AtEveryType,
    At(ResourceType),
}

/// An address, what may be done there, and what that is called.
#[derive(Debug)]
pub(crate) struct Interaction {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) offers: &'static [Offer],
}

const HL7: &str = "http://hl7.org/fhir/OperationDefinition/Resource-";
const OWN: &str = "https://augury.dev/fhir/OperationDefinition/";
/// HL7's operations where there is only that on one resource.
const OWN_META: &str = "https://augury.dev/fhir/OperationDefinition/Resource-";
const OWN_PATIENT: &str = "https://augury.dev/fhir/OperationDefinition/Patient-";

/// Those of the Subscriptions R5 Backport.
const BACKPORT: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-";

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
const ASK: &[Method] = &[Method::GET, Method::POST];
const PUT: &[Method] = &[Method::PUT];
const PATCH: &[Method] = &[Method::PATCH];
const DELETE: &[Method] = &[Method::DELETE];

/// All of them, those of one address together. Of addresses that could be meant by one URL the first
/// counts.
pub(crate) const ALL: &[Interaction] = &[
    on("/fhir/metadata", READ, Endpoint::Metadata, &[]),
    on("/fhir", READ, Endpoint::SearchSystem, &[Offer::System("search-system")]),
    on("/fhir", POST, Endpoint::Bundle, &[Offer::System("transaction"), Offer::System("batch")]),
    on("/fhir/", READ, Endpoint::SearchSystem, &[]),
    on("/fhir/", POST, Endpoint::Bundle, &[]),
    on("/fhir/_search", POST, Endpoint::SearchSystemByPost, &[]),
    on("/fhir/_history", READ, Endpoint::HistorySystem, &[Offer::System("history-system")]),
    on(
        "/fhir/$assess-risk",
        POST,
        Endpoint::AssessRisk,
        &[Offer::Operation(Listed::AtSystem, OWN, "assess-risk")],
    ),
    on(
        "/fhir/Patient/{id}/$assess-risk",
        ASK,
        Endpoint::AssessRiskOfPatient,
        &[Offer::Operation(Listed::At(ResourceType::PATIENT), OWN, "assess-risk")],
    ),
    on(
        "/fhir/RiskAssessment/{id}/$replay",
        POST,
        Endpoint::Replay,
        &[Offer::Operation(Listed::At(ResourceType::RISK_ASSESSMENT), OWN, "replay")],
    ),
    on(
        "/fhir/Patient/{id}/$everything",
        ASK,
        Endpoint::Everything,
        &[Offer::Operation(Listed::At(ResourceType::PATIENT), OWN_PATIENT, "everything")],
    ),
    on(
        "/fhir/AuditEvent/$verify",
        READ,
        Endpoint::VerifyAudit,
        &[Offer::Operation(Listed::At(ResourceType::AUDIT_EVENT), OWN, "verify")],
    ),
    on(
        "/fhir/AuditEvent/{id}/$proof",
        READ,
        Endpoint::ProveAudit,
        &[Offer::Operation(Listed::At(ResourceType::AUDIT_EVENT), OWN, "proof")],
    ),
    on(
        "/fhir/Patient/{id}/$accounting-of-disclosures",
        READ,
        Endpoint::Accounting,
        &[Offer::Operation(Listed::At(ResourceType::PATIENT), OWN, "accounting-of-disclosures")],
    ),
    on("/fhir/Subscription/$status", ASK, Endpoint::SubscriptionsStatus, &[]),
    on(
        "/fhir/Subscription/{id}/$status",
        ASK,
        Endpoint::SubscriptionStatus,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), BACKPORT, "status")],
    ),
    on(
        "/fhir/Subscription/{id}/$events",
        ASK,
        Endpoint::SubscriptionEvents,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), BACKPORT, "events")],
    ),
    on(
        "/fhir/Subscription/{id}/$get-ws-binding-token",
        ASK,
        Endpoint::BindingToken,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), BACKPORT, "get-ws-binding-token")],
    ),
    on(
        "/fhir/Subscription/{id}/$dead-letters",
        ASK,
        Endpoint::DeadLetters,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), OWN, "dead-letters")],
    ),
    on(
        "/fhir/Subscription/{id}/$redeliver",
        POST,
        Endpoint::Redeliver,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), OWN, "redeliver")],
    ),
    on("/fhir/Subscription/$get-ws-binding-token", ASK, Endpoint::BindingTokens, &[]),
    on(
        "/fhir/Subscription/{id}/$webhook-secret",
        POST,
        Endpoint::WebhookSecret,
        &[Offer::Operation(Listed::At(ResourceType::SUBSCRIPTION), OWN, "webhook-secret")],
    ),
    on(
        "/fhir/{type}/$validate",
        POST,
        Endpoint::ValidateType,
        &[Offer::Operation(Listed::AtEveryType, HL7, "validate")],
    ),
    on("/fhir/{type}/{id}/$validate", ASK, Endpoint::ValidateInstance, &[]),
    on(
        "/fhir/{type}/{id}/$meta",
        ASK,
        Endpoint::Meta,
        &[Offer::Operation(Listed::AtEveryType, OWN_META, "meta")],
    ),
    on(
        "/fhir/{type}/{id}/$meta-add",
        POST,
        Endpoint::MetaAdd,
        &[Offer::Operation(Listed::AtEveryType, HL7, "meta-add")],
    ),
    on(
        "/fhir/{type}/{id}/$meta-delete",
        POST,
        Endpoint::MetaDelete,
        &[Offer::Operation(Listed::AtEveryType, HL7, "meta-delete")],
    ),
    on("/fhir/{type}/_search", POST, Endpoint::SearchTypeByPost, &[]),
    on("/fhir/{type}/{id}/{of}/_search", POST, Endpoint::SearchCompartmentByPost, &[]),
    on(
        "/fhir/{type}/{id}/_history/{version}",
        READ,
        Endpoint::Vread,
        &[Offer::Type("vread"), Offer::Flag("readHistory")],
    ),
    on("/fhir/{type}/_history", READ, Endpoint::HistoryType, &[Offer::Type("history-type")]),
    on("/fhir/{type}/{id}/_history", READ, Endpoint::HistoryInstance, &[Offer::Type("history-instance")]),
    on("/fhir/{type}/{id}/{of}", READ, Endpoint::SearchCompartment, &[]),
    on(
        "/fhir/{type}/{id}",
        READ,
        Endpoint::Read,
        &[Offer::Type("read"), Offer::Code("conditionalRead", "full-support")],
    ),
    on(
        "/fhir/{type}/{id}",
        PUT,
        Endpoint::Update,
        &[Offer::Type("update"), Offer::Flag("updateCreate"), Offer::Code("versioning", "versioned-update")],
    ),
    on("/fhir/{type}/{id}", PATCH, Endpoint::Patch, &[Offer::Type("patch")]),
    on("/fhir/{type}/{id}", DELETE, Endpoint::Delete, &[Offer::Type("delete")]),
    on("/fhir/{type}", READ, Endpoint::SearchType, &[Offer::Type("search-type")]),
    on("/fhir/{type}", POST, Endpoint::Create, &[Offer::Type("create"), Offer::Flag("conditionalCreate")]),
    on("/fhir/{type}", PUT, Endpoint::Update, &[Offer::Flag("conditionalUpdate")]),
    on("/fhir/{type}", PATCH, Endpoint::Patch, &[]),
    on("/fhir/{type}", DELETE, Endpoint::Delete, &[Offer::Code("conditionalDelete", "single")]),
];

const fn on(
    address: &'static str,
    methods: &'static [Method],
    endpoint: Endpoint,
    offers: &'static [Offer],
) -> Interaction {
    Interaction { endpoint, address, methods, offers }
}

/// What is offered.
pub(crate) fn offers() -> impl Iterator<Item = Offer> {
    ALL.iter().flat_map(|interaction| interaction.offers.iter().copied())
}

/// The methods of an address, as `Allow` tells them.
pub(crate) fn methods(address: &str) -> String {
    let here = ALL.iter().filter(|one| one.address == address);
    let methods: Vec<&str> = here.flat_map(|one| one.methods.iter().map(Method::as_str)).collect();
    methods.join(", ")
}

/// What a request at an address is in the audit trail, and whether it is an operation, of which the store
/// does not know; none for what shows nothing of anybody.
pub(crate) fn act(address: &str, method: &Method) -> Option<(Act, bool)> {
    let is = |one: &&Interaction| one.address == address && one.methods.contains(method);
    let act = match ALL.iter().find(is).map(|one| one.endpoint) {
        Some(Endpoint::Metadata) => return None,
        Some(Endpoint::Bundle) => Act::Batch,
        Some(Endpoint::SearchSystem | Endpoint::SearchSystemByPost) => Act::SearchSystem,
        Some(
            Endpoint::SearchType
            | Endpoint::SearchTypeByPost
            | Endpoint::SearchCompartment
            | Endpoint::SearchCompartmentByPost,
        ) => Act::SearchType,
        Some(Endpoint::Create) => Act::Create,
        Some(Endpoint::Read) => Act::Read,
        Some(Endpoint::Vread) => Act::Vread,
        Some(Endpoint::Update) => Act::Update,
        Some(Endpoint::Patch) => Act::Patch,
        Some(Endpoint::Delete) => Act::Delete,
        Some(Endpoint::HistorySystem) => Act::HistorySystem,
        Some(Endpoint::HistoryType) => Act::HistoryType,
        Some(Endpoint::HistoryInstance) => Act::HistoryInstance,
        Some(_) => return Some((Act::Operation, true)),
        None if PLAIN.iter().any(|plain| address.starts_with(plain)) => return Some((Act::Operation, true)),
        // Who was bound is told of by what is told.
        None if address == socket::PATH => Act::Operation,
        // A method or address that there is not.
        None if address.starts_with("/fhir") || address.is_empty() => Act::Operation,
        None => return None,
    };
    Some((act, false))
}

/// Addresses of the plain API that show or change something.
const PLAIN: [&str; 2] = ["/predict", "/models"];

/// What is done at an address (<https://hl7.org/fhir/R4/valueset-type-restful-interaction.html>), for
/// metrics.
pub(crate) fn name(address: &str, method: &Method) -> &'static str {
    let is = |one: &&Interaction| one.address == address && one.methods.contains(method);
    match ALL.iter().find(is).map(|one| one.endpoint) {
        Some(Endpoint::Metadata) => "capabilities",
        Some(Endpoint::Bundle) => "transaction-or-batch",
        Some(Endpoint::SearchSystem | Endpoint::SearchSystemByPost) => "search-system",
        Some(Endpoint::SearchType | Endpoint::SearchTypeByPost) => "search-type",
        Some(Endpoint::SearchCompartment | Endpoint::SearchCompartmentByPost) => "search-compartment",
        Some(Endpoint::Create) => "create",
        Some(Endpoint::Read) => "read",
        Some(Endpoint::Vread) => "vread",
        Some(Endpoint::Update) => "update",
        Some(Endpoint::Patch) => "patch",
        Some(Endpoint::Delete) => "delete",
        Some(Endpoint::HistorySystem) => "history-system",
        Some(Endpoint::HistoryType) => "history-type",
        Some(Endpoint::HistoryInstance) => "history-instance",
        Some(
            Endpoint::AssessRisk
            | Endpoint::AssessRiskOfPatient
            | Endpoint::Replay
            | Endpoint::Everything
            | Endpoint::ValidateType
            | Endpoint::ValidateInstance
            | Endpoint::Meta
            | Endpoint::MetaAdd
            | Endpoint::MetaDelete
            | Endpoint::VerifyAudit
            | Endpoint::ProveAudit
            | Endpoint::Accounting
            | Endpoint::SubscriptionStatus
            | Endpoint::SubscriptionsStatus
            | Endpoint::SubscriptionEvents
            | Endpoint::BindingToken
            | Endpoint::DeadLetters
            | Endpoint::Redeliver
            | Endpoint::BindingTokens
            | Endpoint::WebhookSecret,
        ) => "operation",
        None => "other",
    }
}
