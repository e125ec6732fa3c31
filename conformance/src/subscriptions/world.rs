//! What there is to be told of: a topic, how it is narrowed to one patient, and what lets it speak.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hook::Hook;
use crate::check::Stop;
use crate::server::{Made, Server, list, text, unique};

const TOPIC: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.";
/// The extension by which a CapabilityStatement names topics.
pub(super) const DISCOVERY: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical";
/// A server that keeps a topic of somebody's knows it so soon.
const KNOWN: Duration = Duration::from_secs(10);
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// All of it, once for a run.
pub(crate) struct World {
    pub(super) hook: Hook,
    pub(super) topic: String,
    /// The topic is the runner's: it speaks of Observations that are created, updated or deleted, is narrowed
    /// by patient, code and status, and brings along the subject.
    pub(super) own: bool,
    filter: String,
    trigger: String,
    pub(super) patience: Duration,
}

impl World {
    /// The filter for what is of a patient.
    pub(super) fn filter(&self, patient: &Made) -> String {
        self.filter.replace("<patient>", &patient.reference())
    }

    /// What lets the topic speak of a patient.
    pub(super) fn trigger(&self, patient: &Made) -> Result<Value, Stop> {
        let text = self.trigger.replace("<patient>", &patient.reference());
        serde_json::from_str(&text).map_err(|error| Stop::Fail(format!("what is to be told of: {error}")))
    }

    /// Skips where the topic is not the runner's.
    pub(super) fn is_own(&self) -> Result<(), Stop> {
        if self.own { Ok(()) } else { Err(Stop::Skip("it takes a topic of the runner's own".to_owned())) }
    }
}

/// The world of this run, made by whoever comes first.
pub(super) fn world(server: &Server) -> Result<&World, Stop> {
    server.subscriptions.world.get_or_init(|| made(server)).as_ref().map_err(Clone::clone)
}

fn made(server: &Server) -> Result<World, Stop> {
    let options = &server.subscriptions.options;
    let bind = match &options.hook {
        Some(bind) => bind.as_str(),
        None if is_here(&server.base) => "127.0.0.1:0",
        None => return Err(Stop::Skip("--subscriptions-hook is not given".to_owned())),
    };
    let hook = Hook::begin(bind, options.endpoint.as_deref())?;
    let patience = Duration::from_secs(options.longest);
    if let (Some(topic), Some(filter), Some(file)) = (&options.topic, &options.filter, &options.trigger) {
        let trigger =
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok(World {
            hook,
            topic: topic.clone(),
            own: false,
            filter: filter.clone(),
            trigger,
            patience,
        });
    }
    let query = json!(null);
    let topic = define(server, "any", &query)?;
    let filter = "Observation?patient=<patient>".to_owned();
    Ok(World {
        hook,
        topic,
        own: true,
        filter,
        trigger: observation("<patient>", "final").to_string(),
        patience,
    })
}

fn is_here(base: &str) -> bool {
    let url = reqwest::Url::parse(base).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// An Observation of a patient.
pub(super) fn observation(patient: &str, status: &str) -> Value {
    let code = json!({"coding": [{"system": "http://example.org/codes", "code": "conformance"}]});
    let mut observation = json!({
        "resourceType": "Observation", "status": status, "code": code,
        "effectiveDateTime": "2024-05-06T07:08:09Z", "valueString": "something"
    });
    if let Some(object) = observation.as_object_mut() {
        object.insert("subject".to_owned(), json!({"reference": patient}));
    }
    observation
}

/// A topic about Observations, with `queryCriteria` if there is one; its canonical, once the server knows it.
pub(super) fn define(server: &Server, name: &str, query: &Value) -> Result<String, Stop> {
    let lacking =
        || Stop::Skip("topics can't be defined here: --subscriptions-topic is not given".to_owned());
    if !server.claims().has("Basic.create") {
        return Err(lacking());
    }
    let url = format!("http://example.org/topics/{}", unique(name));
    let basic = basic(&url, query);
    let answer = server.post("/Basic", &basic)?;
    if answer.status != 201 {
        return Err(lacking());
    }
    let end = Instant::now() + KNOWN;
    while Instant::now() < end {
        if topics(&server.get("/metadata")?.json).contains(&url.as_str()) {
            return Ok(url);
        }
        std::thread::sleep(LOOK);
    }
    Err(lacking())
}

fn basic(url: &str, query: &Value) -> Value {
    let of = |name: &str| format!("{TOPIC}{name}");
    let part = |name: &str, of: &str, value: &str| json!({"url": name, of: value});
    let mut trigger =
        vec![part("resource", "valueUri", "http://hl7.org/fhir/StructureDefinition/Observation")];
    let interactions =
        ["create", "update", "delete"].map(|one| part("supportedInteraction", "valueCode", one));
    trigger.extend(interactions);
    if !query.is_null() {
        trigger.push(json!({"url": "queryCriteria", "extension": query}));
    }
    let filter = |parameter: &str| {
        let parts = [
            part("resource", "valueUri", "http://hl7.org/fhir/StructureDefinition/Observation"),
            part("filterParameter", "valueString", parameter),
        ];
        json!({"url": of("canFilterBy"), "extension": parts})
    };
    let shape = [
        part("resource", "valueUri", "http://hl7.org/fhir/StructureDefinition/Observation"),
        part("include", "valueString", "Observation:subject"),
    ];
    let code = json!({"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]});
    json!({
        "resourceType": "Basic", "code": code,
        "modifierExtension": [{"url": of("status"), "valueCode": "active"}],
        "extension": [
            {"url": of("url"), "valueUri": url}, {"url": of("version"), "valueString": "1"},
            {"url": of("title"), "valueString": "What happens to Observations"},
            {"url": of("resourceTrigger"), "extension": trigger},
            filter("patient"), filter("code"), filter("status"),
            {"url": of("notificationShape"), "extension": shape}
        ]
    })
}

/// The topics that a CapabilityStatement names, without their versions.
pub(super) fn topics(statement: &Value) -> Vec<&str> {
    let resources = list(statement, "/rest/0/resource").iter();
    let of_type = resources.filter(|one| text(one, "/type") == "Subscription");
    let extensions =
        of_type.flat_map(|one| list(one, "/extension")).filter(|one| text(one, "/url") == DISCOVERY);
    extensions.map(|one| text(one, "/valueCanonical").split('|').next().unwrap_or_default()).collect()
}
