//! What is sent, word for word.

use super::super::{
    Content, Event, Failure, Interaction, Occasion, Status, SubscriptionStatus, Told, statuses,
};
use super::{BASE, json};
use crate::json::Json;
use crate::outcome::Severity;
use crate::resource_type::ResourceType;
use crate::time;
use crate::validate::validate;

const UUID: &str = "63c28e8a-f402-43e4-beb2-75b1c0f6833f";
const TOPIC: &str = "http://example.org/topic";
const ENCOUNTER: &str = r#"{"resourceType":"Encounter","id":"e","status":"in-progress","class":{"code":"VR"},"length":{"value":1.50}}"#;
const PATIENT: &str = r#"{"resourceType":"Patient","id":"p"}"#;

fn at() -> i64 {
    time::parse("2026-01-02T03:04:05.678Z").unwrap().low
}

fn status(content: Content) -> Status<'static> {
    Status {
        base: BASE,
        id: "s",
        topic: Some(TOPIC),
        standing: SubscriptionStatus::Active,
        content,
        events: 2,
        failure: None,
    }
}

fn told(kind: ResourceType, id: &'static str, body: Option<&'static str>) -> Told<'static> {
    Told { kind, id, body }
}

fn event(number: u64, what: Interaction, body: Option<&'static str>) -> Event<'static> {
    let focus = Some(told(ResourceType::ENCOUNTER, "e", body));
    Event { number, at: at(), focus, what, context: vec![told(ResourceType::PATIENT, "p", Some(PATIENT))] }
}

/// It is valid FHIR, and every entry has a request and a response.
fn sound(text: &str) -> Json<'_> {
    let read = json(text);
    let issues = validate(&read);
    assert!(issues.0.iter().all(|issue| issue.severity < Severity::Error), "{issues} {text}");
    if read.text("type") == Some("history") {
        let entries = read.list("entry");
        assert_eq!(entries[0].at(&["resource", "resourceType"]).and_then(Json::as_str), Some("Parameters"));
        let asked = entries[0].at(&["request", "url"]).and_then(Json::as_str).unwrap();
        assert!(asked.ends_with("/Subscription/s/$status"));
        for entry in entries {
            assert!(entry.get("request").is_some() && entry.get("response").is_some(), "{text}");
        }
    }
    read
}

/// Method, address, status and whether the resource is there, of each entry.
fn entries(bundle: &Json) -> Vec<String> {
    let of = |entry: &Json| {
        let text = |path: &[&str]| entry.at(path).and_then(Json::as_str).unwrap_or_default().to_owned();
        let resource = if entry.get("resource").is_some() { "+" } else { "-" };
        let url = text(&["fullUrl"]);
        format!(
            "{} {} {} {resource} {url}",
            text(&["request", "method"]),
            text(&["request", "url"]),
            text(&["response", "status"])
        )
    };
    bundle.list("entry").iter().map(of).collect()
}

fn names(bundle: &Json) -> Vec<String> {
    let parameters = bundle.list("entry")[0].get("resource").unwrap();
    let name = |one: &Json| {
        let parts: Vec<&str> = one.list("part").iter().filter_map(|part| part.text("name")).collect();
        format!("{} {}", one.text("name").unwrap(), parts.join(" ")).trim().to_owned()
    };
    parameters.list("parameter").iter().map(name).collect()
}

#[test]
fn a_handshake_to_the_letter() {
    let status = Status { standing: SubscriptionStatus::Requested, events: 0, ..status(Content::IdOnly) };
    let event = event(1, Interaction::Create, None);
    let text = status.notification(Occasion::Handshake, UUID, at(), &[event]);
    let wanted = r#"{"resourceType":"Bundle","meta":{"profile":["http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-notification-r4"]},"type":"history","timestamp":"2026-01-02T03:04:05.678Z","entry":[{"fullUrl":"urn:uuid:63c28e8a-f402-43e4-beb2-75b1c0f6833f","resource":{"resourceType":"Parameters","id":"63c28e8a-f402-43e4-beb2-75b1c0f6833f","meta":{"profile":["http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4"]},"parameter":[{"name":"subscription","valueReference":{"reference":"https://h.example/fhir/Subscription/s"}},{"name":"topic","valueCanonical":"http://example.org/topic"},{"name":"status","valueCode":"requested"},{"name":"type","valueCode":"handshake"},{"name":"events-since-subscription-start","valueString":"0"}]},"request":{"method":"GET","url":"https://h.example/fhir/Subscription/s/$status"},"response":{"status":"200"}}]}"#;
    assert_eq!(text, wanted);
    sound(&text);
}

#[test]
fn three_levels_of_content() {
    let all = ["subscription", "topic", "status", "type", "events-since-subscription-start"];
    let first = format!("GET {BASE}/Subscription/s/$status 200 + urn:uuid:{UUID}");
    let events = [event(2, Interaction::Create, Some(ENCOUNTER))];
    let send = |content| status(content).notification(Occasion::EventNotification, UUID, at(), &events);

    let text = send(Content::Empty);
    let bundle = sound(&text);
    assert_eq!(entries(&bundle), [first.as_str()]);
    let wanted: Vec<&str> = all.into_iter().filter(|name| *name != "topic").collect();
    assert_eq!(names(&bundle), [wanted, vec!["notification-event event-number timestamp"]].concat());
    assert!(!text.contains("Encounter") && !text.contains(TOPIC));

    let told = vec!["notification-event event-number timestamp focus additional-context"];
    let text = send(Content::IdOnly);
    let bundle = sound(&text);
    let encounter = format!("POST Encounter 201 - {BASE}/Encounter/e");
    let patient = format!("GET Patient/p 200 - {BASE}/Patient/p");
    assert_eq!(entries(&bundle), [&first, &encounter, &patient].map(String::as_str));
    assert_eq!(names(&bundle), [all.to_vec(), told.clone()].concat());
    assert!(!text.contains("in-progress"));

    let text = send(Content::FullResource);
    let bundle = sound(&text);
    assert_eq!(entries(&bundle), [first, encounter.replace(" - ", " + "), patient.replace(" - ", " + ")]);
    assert_eq!(names(&bundle), [all.to_vec(), told].concat());
    assert!(text.contains(ENCOUNTER) && text.contains(PATIENT), "as they are stored");
    assert!(
        text.contains(
            r#"{"name":"focus","valueReference":{"reference":"https://h.example/fhir/Encounter/e"}}"#
        )
    );
    assert!(text.contains(r#"{"name":"event-number","valueString":"2"},{"name":"timestamp","valueInstant":"2026-01-02T03:04:05.678Z"}"#));
}

#[test]
fn what_was_done_and_each_version() {
    let send = |events: &[Event<'_>]| {
        let text = status(Content::FullResource).notification(Occasion::QueryEvent, UUID, at(), events);
        entries(&sound(&text)).split_off(1)
    };
    let patient = format!("GET Patient/p 200 + {BASE}/Patient/p");
    let encounter = |line: &str| format!("{line} {BASE}/Encounter/e");
    let created = event(2, Interaction::Create, None);
    let updated = event(3, Interaction::Update, Some(ENCOUNTER));
    let deleted = event(4, Interaction::Delete, Some(ENCOUNTER));
    let of_patient = Event {
        focus: Some(told(ResourceType::PATIENT, "p", Some(PATIENT))),
        what: Interaction::Update,
        context: Vec::new(),
        ..created.clone()
    };
    // Each version that there was, and what comes along once.
    assert_eq!(
        send(&[created.clone(), updated.clone(), deleted]),
        [
            encounter("POST Encounter 201 -"),
            patient,
            encounter("PUT Encounter/e 200 +"),
            encounter("DELETE Encounter/e 204 -")
        ]
    );
    // What an event is about does not come along too.
    let wanted = [encounter("POST Encounter 201 -"), format!("PUT Patient/p 200 + {BASE}/Patient/p")];
    assert_eq!(send(&[created, of_patient]), wanted);
    // What may not be told any more has its number, and nothing else.
    let unseen = Event { focus: None, context: Vec::new(), ..updated };
    let text = status(Content::FullResource).notification(Occasion::EventNotification, UUID, at(), &[unseen]);
    let bundle = sound(&text);
    assert_eq!(bundle.list("entry").len(), 1);
    assert_eq!(names(&bundle).last().map(String::as_str), Some("notification-event event-number"));
}

#[test]
fn heartbeats_tell_of_no_event_and_failures_are_coded() {
    let events = [event(2, Interaction::Create, Some(ENCOUNTER))];
    let text = status(Content::FullResource).notification(Occasion::Heartbeat, UUID, at(), &events);
    let bundle = sound(&text);
    assert_eq!(bundle.list("entry").len(), 1);
    assert!(text.contains(r#""heartbeat""#) && !text.contains("notification-event"));
    let failed = Status {
        standing: SubscriptionStatus::Error,
        failure: Some((Failure::NoResponse, "three attempts: \"timeout\"")),
        ..status(Content::Empty)
    };
    let text = failed.parameters(Occasion::QueryStatus, UUID, &[]);
    let read = sound(&text);
    let error = read.list("parameter").last().unwrap();
    let wanted = r#"{"name":"error","valueCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/subscription-error","code":"no-response"}],"text":"three attempts: \"timeout\""}}"#;
    assert_eq!(error.to_text(), wanted);
}

#[test]
fn how_several_stand() {
    let off = Status { id: "t", topic: None, standing: SubscriptionStatus::Off, ..status(Content::Empty) };
    let other = "385b23bd-6d03-462e-894d-a0694045d65c";
    let url = format!("{BASE}/Subscription/$status?id=s&id=t");
    let text = statuses([(status(Content::IdOnly), UUID), (off, other)], &url, at());
    let read = sound(&text);
    assert_eq!(
        (read.text("type"), read.get("total").and_then(Json::as_number)),
        (Some("searchset"), Some("2"))
    );
    let ids = read.list("entry").iter().map(|one| one.text("fullUrl").unwrap().to_owned());
    assert_eq!(ids.collect::<Vec<_>>(), [format!("urn:uuid:{UUID}"), format!("urn:uuid:{other}")]);
    let reference = |n: usize| {
        let first = &read.list("entry")[n].get("resource").unwrap().list("parameter")[0];
        first.at(&["valueReference", "reference"]).and_then(Json::as_str).unwrap().to_owned()
    };
    assert!(reference(0).ends_with("Subscription/s") && reference(1).ends_with("Subscription/t"));
    assert!(text.contains(r#""query-status""#) && text.contains(r#""off""#));
    sound(&statuses([], &url, at()));
}

#[test]
fn codes_come_back() {
    for code in ["requested", "active", "error", "off"] {
        assert_eq!(SubscriptionStatus::parse(code).map(SubscriptionStatus::code), Some(code));
    }
    for code in ["dns-resolution-error", "no-response", "error-response"] {
        assert_eq!(Failure::parse(code).map(Failure::code), Some(code));
    }
    assert_eq!((SubscriptionStatus::parse("on"), Failure::parse("")), (None, None));
}
