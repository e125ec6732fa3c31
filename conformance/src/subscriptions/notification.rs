//! What a notification says, and whether it is what the profiles want: a Bundle of
//! backport-subscription-notification-r4, whose first entry is a Parameters of backport-subscription-status-r4.

use serde_json::Value;

use crate::check::{Outcome, ensure};
use crate::server::{list, text};

/// A slice of the status: its name, how often it is there, and what it holds.
struct Slice {
    name: &'static str,
    least: usize,
    most: usize,
    value: &'static str,
}

const MANY: usize = usize::MAX;

const fn slice(name: &'static str, least: usize, most: usize, value: &'static str) -> Slice {
    Slice { name, least, most, value }
}

const STATUS: [Slice; 7] = [
    slice("subscription", 1, 1, "valueReference"),
    slice("topic", 0, 1, "valueCanonical"),
    slice("status", 1, 1, "valueCode"),
    slice("type", 1, 1, "valueCode"),
    slice("events-since-subscription-start", 0, 1, "valueString"),
    slice("notification-event", 0, MANY, "part"),
    slice("error", 0, MANY, "valueCodeableConcept"),
];

const EVENT: [Slice; 7] = [
    slice("event-number", 1, 1, "valueString"),
    slice("timestamp", 0, 1, "valueInstant"),
    slice("focus", 0, 1, "valueReference"),
    slice("additional-context", 0, MANY, "valueReference"),
    slice("related-query", 0, MANY, "part"),
    slice("authorization-type", 0, 1, "valueCoding"),
    slice("authorization-value", 0, 1, "valueString"),
];

/// What R5 calls them: here these are other names.
const OF_R5: [&str; 9] = [
    "eventsSinceSubscriptionStart",
    "events-in-notification",
    "eventsInNotification",
    "notificationEvent",
    "eventNumber",
    "additionalContext",
    "relatedQuery",
    "eventTimestamp",
    "eventFocus",
];

const STATUSES: [&str; 5] = ["requested", "active", "error", "off", "entered-in-error"];
const TYPES: [&str; 5] = ["handshake", "heartbeat", "event-notification", "query-status", "query-event"];

/// The parameters, or parts, of that name.
pub(super) fn named<'v>(all: &'v [Value], name: &'static str) -> impl Iterator<Item = &'v Value> {
    all.iter().filter(move |one| text(one, "/name") == name)
}

/// The status that a notification begins with.
pub(super) fn status(bundle: &Value) -> &Value {
    bundle.pointer("/entry/0/resource").unwrap_or(&Value::Null)
}

/// What the parameters of a status say at that place of the named one.
pub(super) fn said<'v>(parameters: &'v Value, name: &'static str, at: &str) -> &'v str {
    named(list(parameters, "/parameter"), name).next().map_or("", |one| text(one, at))
}

/// Why something is said.
pub(super) fn occasion(bundle: &Value) -> &str {
    said(status(bundle), "type", "/valueCode")
}

/// The events since the Subscription began, as it says.
pub(super) fn count(parameters: &Value) -> Option<u64> {
    said(parameters, "events-since-subscription-start", "/valueString").parse().ok()
}

/// The events that it tells of.
pub(super) fn events(bundle: &Value) -> impl Iterator<Item = &[Value]> {
    named(list(status(bundle), "/parameter"), "notification-event").map(|event| list(event, "/part"))
}

/// Their numbers.
pub(super) fn numbers(bundle: &Value) -> Vec<u64> {
    let number = |event| named(event, "event-number").next().map_or("", |part| text(part, "/valueString"));
    events(bundle).filter_map(|event| number(event).parse().ok()).collect()
}

/// What the events of a notification refer to by parts of that name.
pub(super) fn references<'v>(bundle: &'v Value, name: &'static str) -> Vec<&'v str> {
    let parts = events(bundle).flat_map(|event| named(event, name));
    parts.map(|part| text(part, "/valueReference/reference")).collect()
}

fn sliced(all: &[Value], slices: &[Slice], of: &str) -> Outcome {
    for one in all {
        let name = text(one, "/name");
        ensure(!name.is_empty(), format!("a parameter of {of} has no name"))?;
        ensure(!OF_R5.contains(&name), format!("{of} has {name}, which is R5's name"))?;
        let values = one.as_object().into_iter().flatten();
        let values = values.filter(|(key, _)| key.starts_with("value") || *key == "resource").count();
        let parts = list(one, "/part").len();
        // inv-1 of Parameters.
        ensure(
            values == usize::from(parts == 0),
            format!("{name} of {of} has {values} values and {parts} parts"),
        )?;
    }
    for slice in slices {
        let found: Vec<&Value> = named(all, slice.name).collect();
        let (many, Slice { name, least, most, value }) = (found.len(), slice);
        ensure((*least..=*most).contains(&many), format!("{of} has {many} of {name}"))?;
        for one in found {
            ensure(one.get(value).is_some(), format!("{name} of {of} has no {value}: {one}"))?;
        }
    }
    Ok(())
}

fn is_counted(number: &str) -> bool {
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<i64>().is_ok()
}

/// Is it backport-subscription-status-r4, of that Subscription (`Subscription/id`)?
pub(super) fn is_status(parameters: &Value, subscription: &str) -> Outcome {
    let kind = text(parameters, "/resourceType");
    ensure(kind == "Parameters", format!("the status is no Parameters but `{kind}`"))?;
    let all = list(parameters, "/parameter");
    sliced(all, &STATUS, "the status")?;
    let reference = said(parameters, "subscription", "/valueReference/reference");
    ensure(reference.ends_with(subscription), format!("it is of `{reference}`, not {subscription}"))?;
    for (name, codes) in [("status", STATUSES), ("type", TYPES)] {
        let code = said(parameters, name, "/valueCode");
        ensure(codes.contains(&code), format!("{name} is `{code}`"))?;
    }
    if let Some(since) = named(all, "events-since-subscription-start").next() {
        let since = text(since, "/valueString");
        ensure(is_counted(since), format!("events-since-subscription-start is `{since}`"))?;
    }
    for event in named(all, "notification-event") {
        let parts = list(event, "/part");
        sliced(parts, &EVENT, "notification-event")?;
        let number = named(parts, "event-number").next().map_or("", |one| text(one, "/valueString"));
        ensure(is_counted(number), format!("event-number is `{number}`"))?;
        if let Some(timestamp) = named(parts, "timestamp").next() {
            let timestamp = text(timestamp, "/valueInstant");
            let read = chrono::DateTime::parse_from_rfc3339(timestamp);
            ensure(read.is_ok(), format!("timestamp is `{timestamp}`, no instant"))?;
        }
        for name in ["focus", "additional-context"] {
            let empty = named(parts, name).any(|one| text(one, "/valueReference/reference").is_empty());
            ensure(!empty, format!("a {name} refers to nothing"))?;
        }
    }
    Ok(())
}

/// Is it backport-subscription-notification-r4, of that Subscription?
pub(super) fn is_notification(bundle: &Value, subscription: &str) -> Outcome {
    ensure(text(bundle, "/resourceType") == "Bundle", "a notification is no Bundle")?;
    let kind = text(bundle, "/type");
    ensure(kind == "history", format!("the Bundle is a {kind}, no history"))?;
    let read = bundle.get("timestamp").and_then(Value::as_str).map(chrono::DateTime::parse_from_rfc3339);
    ensure(read.is_none_or(|read| read.is_ok()), "the Bundle's timestamp is no instant")?;
    is_status(status(bundle), subscription)?;
    let entries = list(bundle, "/entry");
    for (place, entry) in entries.iter().enumerate() {
        let (method, url) = (text(entry, "/request/method"), text(entry, "/request/url"));
        let known = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE");
        ensure(known && !url.is_empty(), format!("entry {place} has no request: {method} {url}"))?;
        let answered = text(entry, "/response/status");
        ensure(!answered.is_empty(), format!("entry {place} has no response"))?;
        let full_url = text(entry, "/fullUrl");
        let absolute = full_url.is_empty() || full_url.starts_with("http") || full_url.starts_with("urn:");
        ensure(absolute, format!("fullUrl of entry {place} is `{full_url}`"))?;
    }
    let (method, url) = (text(bundle, "/entry/0/request/method"), text(bundle, "/entry/0/request/url"));
    let asked = method == "GET" && url.ends_with(&format!("{subscription}/$status"));
    ensure(asked, format!("the first entry is not of $status but of {method} {url}"))
}

/// Does an entry hold, or stand for, what is referred to? By its address, or by type and id.
pub(super) fn is_of(entry: &Value, reference: &str) -> bool {
    let resource = format!("{}/{}", text(entry, "/resource/resourceType"), text(entry, "/resource/id"));
    let full_url = text(entry, "/fullUrl");
    full_url == reference
        || (!full_url.is_empty() && full_url.ends_with(&format!("/{reference}")))
        || reference == resource
        || reference.ends_with(&format!("/{resource}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"resourceType": "Bundle", "type": "history", "timestamp": "2020-05-29T11:44:13.188-05:00", "entry": [
            {"fullUrl": "urn:uuid:a", "request": {"method": "GET", "url": "https://h.example/Subscription/s/$status"},
             "response": {"status": "200"}, "resource": {"resourceType": "Parameters", "parameter": [
                {"name": "subscription", "valueReference": {"reference": "https://h.example/Subscription/s"}},
                {"name": "topic", "valueCanonical": "https://h.example/t"},
                {"name": "status", "valueCode": "active"}, {"name": "type", "valueCode": "event-notification"},
                {"name": "events-since-subscription-start", "valueString": "2"},
                {"name": "notification-event", "part": [
                    {"name": "event-number", "valueString": "2"},
                    {"name": "timestamp", "valueInstant": "2020-05-29T11:44:13.188-05:00"},
                    {"name": "focus", "valueReference": {"reference": "https://h.example/Encounter/e"}}]}]}},
            {"fullUrl": "https://h.example/Encounter/e", "request": {"method": "POST", "url": "Encounter"},
             "response": {"status": "201"}}]})
    }

    #[test]
    fn what_is_said_is_read() {
        let bundle = good();
        assert!(is_notification(&bundle, "Subscription/s").is_ok());
        assert_eq!((occasion(&bundle), numbers(&bundle)), ("event-notification", vec![2]));
        assert_eq!(count(status(&bundle)), Some(2));
        assert_eq!(references(&bundle, "focus"), ["https://h.example/Encounter/e"]);
        assert!(is_of(&bundle["entry"][1], "Encounter/e") && !is_of(&bundle["entry"][1], "Encounter/f"));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let all = "/entry/0/resource/parameter";
        for (at, wrong) in [
            ("/type".to_owned(), json!("collection")),
            ("/timestamp".to_owned(), json!("2020-05-29")),
            ("/entry/1/request/method".to_owned(), json!("")),
            ("/entry/1/response/status".to_owned(), json!("")),
            ("/entry/1/fullUrl".to_owned(), json!("Encounter/e")),
            ("/entry/0/request/url".to_owned(), json!("Subscription/s")),
            ("/entry/0/request/method".to_owned(), json!("POST")),
            ("/entry/0/resource/resourceType".to_owned(), json!("SubscriptionStatus")),
            (format!("{all}/0"), json!({"name": "subscription", "valueString": "Subscription/s"})),
            (format!("{all}/0/valueReference/reference"), json!("Subscription/t")),
            (format!("{all}/1"), json!({"name": "topic", "valueUri": "https://h.example/t"})),
            (format!("{all}/1"), json!({"name": "status", "valueCode": "active"})),
            (format!("{all}/2/valueCode"), json!("sleeping")),
            (format!("{all}/3/valueCode"), json!("event")),
            (format!("{all}/4"), json!({"name": "events-since-subscription-start", "valueInteger": 2})),
            (format!("{all}/4/name"), json!("eventsSinceSubscriptionStart")),
            (format!("{all}/4/valueString"), json!("-2")),
            (format!("{all}/5/part/0"), json!({"name": "event-number", "valueUnsignedInt": 2})),
            (format!("{all}/5/part/0/name"), json!("eventNumber")),
            (format!("{all}/5/part/1"), json!({"name": "timestamp", "valueDateTime": "2020"})),
            (format!("{all}/5/part/1/valueInstant"), json!("2020-05-29")),
            (format!("{all}/5/part/2/valueReference/reference"), json!("")),
            (format!("{all}/5/part/2"), json!({"name": "event-number", "valueString": "3"})),
            (format!("{all}/5/part"), json!([])),
        ] {
            let mut bundle = good();
            *bundle.pointer_mut(&at).unwrap() = wrong.clone();
            assert!(is_notification(&bundle, "Subscription/s").is_err(), "{at}: {wrong}");
        }
    }
}
