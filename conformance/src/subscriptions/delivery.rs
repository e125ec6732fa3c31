//! What arrives at an endpoint, and in which words.

use std::time::Duration;

use serde_json::{Value, json};

use super::hook::Call;
use super::notification::{
    count, events, is_notification, is_of, is_status, numbers, occasion, references, said, status,
};
use super::rejections::not_created;
use super::subscribed::{IG, SILENCE, Subscribed, Wish};
use super::{check, should};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{FHIR_JSON, FHIR_XML, Server, list, text};

const HOOK: &str = "uv/subscriptions-backport/STU1.1/channels.html#rest-hook-1";
const STATUS: &str =
    "uv/subscriptions-backport/STU1.1/conformance.html#notification-entry-subscriptionstatus-1";
const BUNDLE: &str = "uv/subscriptions-backport/STU1.1/notifications.html#the-history-bundle-type";
const ACCEPTING: &str = "uv/subscriptions-backport/STU1.1/components.html#accepting-subscription-requests";
const NOTIFICATIONS: &str = "uv/subscriptions-backport/STU1.1/notifications.html#notifications";
const EMPTY: &str = "uv/subscriptions-backport/STU1.1/payloads.html#empty";
const ID_ONLY: &str = "uv/subscriptions-backport/STU1.1/payloads.html#id-only";
const FULL: &str = "uv/subscriptions-backport/STU1.1/payloads.html#full-resource";
const HEARTBEAT: &str =
    "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-heartbeat-period.html#root";
const PARAMETERS: &str =
    "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription-status-r4.html#root";

/// A Subscription with that content, and the notification of its first event, whose resource has this id.
fn told<'s>(server: &'s Server, content: &str) -> Result<(Subscribed<'s>, Value, String), Stop> {
    let subscribed = Wish::new(server, content)?.active()?;
    let focus = subscribed.happen()?.reference();
    let mut told = subscribed.told(1)?;
    Ok((subscribed, told.swap_remove(0), focus))
}

/// All that is referred to by parts of that name, and how many.
fn refers(bundle: &Value, name: &'static str) -> usize {
    references(bundle, name).len()
}

/// Each header of the channel came as it was said.
fn came(subscribed: &Subscribed<'_>, lines: &[&str]) -> Outcome {
    for call in subscribed.calls() {
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let found = call.header(name);
            ensure(found == [value], format!("{name} of a {} is {found:?}", occasion(&call.json)))?;
        }
    }
    Ok(())
}

/// What both R5's numbers and its names are in R4.
fn traps(parameters: &Value) -> Outcome {
    let shown = parameters.to_string();
    for wrong in ["integer64", "valueInteger", "valueDecimal"] {
        ensure(!shown.contains(wrong), format!("there is {wrong}: {shown}"))?;
    }
    ensure(count(parameters).is_some(), "there is no events-since-subscription-start as a valueString")
}

pub(super) fn checks() -> Vec<Check> {
    let mut all = vec![
        check(
            "notification_delivery",
            HOOK,
            "create answers 201 with the resource; handshake and event come to the endpoint, with the headers",
            &[],
            |s| {
                let subscribed = Wish::new(s, "id-only")?.subscribe()?;
                ensure(subscribed.answer.is("Subscription"), "the answer is no Subscription")?;
                ensure(subscribed.answer.at("/id") == subscribed.made.id, "Location is of another id")?;
                subscribed.first("handshake")?;
                subscribed.until("active")?;
                subscribed.happen()?;
                let event = subscribed.first("event-notification")?;
                ensure(event.method == "POST", format!("the event came by {}", event.method))?;
                came(&subscribed, &["X-Conformance: a: b"])
            },
        ),
        check(
            "creation_response_conformance",
            HOOK,
            "what is created is answered as requested, whether requested or active was asked for",
            &[],
            |s| {
                for asked in ["requested", "active"] {
                    let answer = Wish::new(s, "empty")?.with("/status", json!(asked)).ask()?;
                    // A server may refuse what only itself may say.
                    if asked == "active" && (400..500).contains(&answer.status) {
                        continue;
                    }
                    answer.expect(201)?;
                    s.delete(&answer.made()?.path())?;
                    ensure(answer.is("Subscription"), "the answer is no Subscription")?;
                    let (channel, status) = (answer.at("/channel/type"), answer.at("/status"));
                    ensure(channel == "rest-hook", format!("channel.type is `{channel}`"))?;
                    ensure(status == "requested", format!("the status is `{status}`"))?;
                }
                Ok(())
            },
        ),
        check(
            "notification_presence",
            NOTIFICATIONS,
            "a notification refers to the Subscription",
            &[],
            |s| {
                let (subscribed, ..) = told(s, "empty")?;
                let own = format!("/{}", subscribed.made.reference());
                for call in subscribed.calls() {
                    let of = said(status(&call.json), "subscription", "/valueReference/reference");
                    ensure(of.ends_with(&own), format!("a notification refers to `{of}`"))?;
                }
                Ok(())
            },
        ),
        check(
            "notification_conformance",
            STATUS,
            "an event comes in a history Bundle that begins with the status; each entry has request and response",
            &[],
            |s| {
                for content in ["empty", "id-only", "full-resource"] {
                    let (subscribed, bundle, _) = told(s, content)?;
                    is_notification(&bundle, &subscribed.made.reference())
                        .and_then(|()| {
                            let (kind, stands) =
                                (occasion(&bundle), said(status(&bundle), "status", "/valueCode"));
                            ensure(kind == "event-notification", format!("the type is `{kind}`"))?;
                            ensure(stands == "active", format!("the status is `{stands}`"))
                        })
                        .map_err(|stop| of(content, stop))?;
                }
                Ok(())
            },
        ),
        check(
            "notification_conformance-headers",
            HOOK,
            "Content-Type begins with the payload's, and each header of the channel is sent as it is",
            &[],
            |s| {
                let lines = [
                    "Authorization: Bearer abc.def==",
                    "X-Colon: a: b, c;d=\"e\"",
                    "x-Case: Aa",
                    "X-Long: 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz",
                ];
                let subscribed = Wish::new(s, "id-only")?.with("/channel/header", json!(lines)).active()?;
                subscribed.happen()?;
                subscribed.told(1)?;
                for call in subscribed.calls() {
                    let media = call.header("content-type");
                    ensure(
                        media.len() == 1 && media.iter().all(|one| one.starts_with(FHIR_JSON)),
                        format!("Content-Type is {media:?}"),
                    )?;
                }
                came(&subscribed, &lines)
            },
        ),
        check(
            "notification_conformance-xml",
            HOOK,
            "who asks for XML gets it, or is refused",
            &["xml"],
            |s| {
                let wish = Wish::new(s, "full-resource")?.with("/channel/payload", json!(FHIR_XML));
                let answer = wish.ask()?;
                if (400..500).contains(&answer.status) {
                    return Err(Stop::Skip("XML is refused as a payload".to_owned()));
                }
                let subscribed = wish.given(answer)?;
                subscribed.until("active")?;
                subscribed.happen()?;
                let is_event = |call: &Call| call.text.contains("\"event-notification\"");
                let calls = subscribed.wait("event", |calls| calls.iter().any(is_event))?;
                for call in calls {
                    let media = call.header("content-type");
                    ensure(
                        media.iter().all(|one| one.starts_with(FHIR_XML)) && call.text.contains("<Bundle"),
                        format!("it came as {media:?}"),
                    )?;
                }
                Ok(())
            },
        ),
        check(
            "handshake_conformance",
            HOOK,
            "there is one handshake, of status requested, and it tells of no event",
            &[],
            |s| {
                let (subscribed, ..) = told(s, "full-resource")?;
                let calls = subscribed.calls();
                let mut hands = calls.iter().filter(|call| occasion(&call.json) == "handshake");
                let first = hands.next().ok_or("there is no handshake")?;
                ensure(hands.next().is_none(), "there is more than one handshake")?;
                is_notification(&first.json, &subscribed.made.reference())?;
                let stands = said(status(&first.json), "status", "/valueCode");
                ensure(stands == "requested", format!("the status is `{stands}`"))?;
                ensure(numbers(&first.json).is_empty(), "it tells of events")?;
                ensure(count(status(&first.json)).is_none_or(|many| many == 0), "it counts events")?;
                ensure(calls.first().is_some_and(|call| call.json == first.json), "something came before it")
            },
        ),
        check(
            "heartbeat_conformance",
            HEARTBEAT,
            "heartbeats come where a period is asked for, and nowhere else; they count no event",
            &[],
            |s| {
                let silent = Wish::new(s, "empty")?.active()?;
                let wish = Wish::new(s, "empty")?.number("heartbeat-period", "valueUnsignedInt", 1);
                let beating = wish.active()?;
                let beats =
                    |calls: &[Call]| calls.iter().filter(|call| occasion(&call.json) == "heartbeat").count();
                let calls = beating.wait("two heartbeats", |calls| beats(calls) >= 2)?;
                for call in calls.iter().filter(|call| occasion(&call.json) == "heartbeat") {
                    is_notification(&call.json, &beating.made.reference())?;
                    let parameters = status(&call.json);
                    ensure(said(parameters, "status", "/valueCode") == "active", "it is not active")?;
                    ensure(numbers(&call.json).is_empty(), "a heartbeat tells of events")?;
                    ensure(count(parameters).is_none_or(|many| many == 0), "a heartbeat was counted")?;
                }
                std::thread::sleep(SILENCE);
                ensure(beats(&silent.calls()) == 0, "a heartbeat came that nobody asked for")
            },
        ),
    ];
    all.extend(contents());
    all.extend(profile());
    all
}

fn of(content: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Fail(why) => Stop::Fail(format!("{content}: {why}")),
        skip @ Stop::Skip(_) => skip,
    }
}

fn contents() -> Vec<Check> {
    vec![
        check(
            "empty_conformance",
            EMPTY,
            "empty: the status alone, with an event that refers to nothing",
            &[],
            |s| {
                let (_subscribed, bundle, _) = told(s, "empty")?;
                let entries = list(&bundle, "/entry").len();
                ensure(entries == 1, format!("there are {entries} entries"))?;
                ensure(numbers(&bundle) == [1], format!("it tells of {:?}", numbers(&bundle)))?;
                for name in ["focus", "additional-context"] {
                    ensure(refers(&bundle, name) == 0, format!("there is {name}"))?;
                }
                Ok(())
            },
        ),
        check("empty_conformance-topic", EMPTY, "empty: the topic is not said", &[], |s| {
            let (_subscribed, bundle, _) = told(s, "empty")?;
            should(said(status(&bundle), "topic", "/valueCanonical").is_empty(), "the topic is said")
        }),
        check(
            "id_only_conformance",
            ID_ONLY,
            "id-only: the event has a focus; the other entries have an address and no resource",
            &[],
            |s| {
                let (_subscribed, bundle, focus) = told(s, "id-only")?;
                let foci = references(&bundle, "focus");
                let is = foci.len() == 1 && foci.iter().all(|one| one.ends_with(&focus));
                ensure(is, format!("the focus is {foci:?}, not {focus}"))?;
                for entry in list(&bundle, "/entry").iter().skip(1) {
                    ensure(!text(entry, "/fullUrl").is_empty(), "an entry has no fullUrl")?;
                    ensure(entry.get("resource").is_none(), "an entry has a resource")?;
                }
                Ok(())
            },
        ),
        check(
            "full_resource_conformance",
            FULL,
            "full-resource: what an event refers to is in the Bundle, as it is stored",
            &[],
            |s| {
                let (subscribed, bundle, focus) = told(s, "full-resource")?;
                let foci = references(&bundle, "focus");
                let is = foci.len() == 1 && foci.iter().all(|one| one.ends_with(&focus));
                ensure(is, format!("the focus is {foci:?}, not {focus}"))?;
                let along = references(&bundle, "additional-context");
                let entries = list(&bundle, "/entry");
                for reference in foci.iter().chain(&along) {
                    let mut resources = entries.iter().filter(|entry| entry.get("resource").is_some());
                    let found = resources.any(|entry| is_of(entry, reference));
                    ensure(found, format!("{reference} is not in the Bundle"))?;
                }
                let read = s.get(&format!("/{focus}"))?.json;
                let mut own = entries.iter().filter(|entry| is_of(entry, &focus));
                let sent = own.next().and_then(|entry| entry.get("resource")).ok_or("it has no resource")?;
                for (name, value) in
                    read.as_object().into_iter().flatten().filter(|(name, _)| *name != "meta")
                {
                    ensure(sent.get(name) == Some(value), format!("{name} is not what is stored"))?;
                }
                // The topic is the runner's: it brings along the subject.
                let patient = subscribed.wish.patient.reference();
                let brought = along.iter().any(|one| one.ends_with(&patient));
                ensure(brought || !subscribed.wish.world.own, "the subject does not come along")
            },
        ),
        check("full_resource_conformance-topic", FULL, "full-resource: the topic is said", &[], |s| {
            let (subscribed, bundle, _) = told(s, "full-resource")?;
            let topic = said(status(&bundle), "topic", "/valueCanonical");
            should(topic == subscribed.wish.world.topic, &format!("the topic is `{topic}`"))
        }),
        check(
            "full_resource_conformance-valid",
            FULL,
            "full-resource: what comes is valid",
            &["Observation$validate"],
            |s| {
                let (_subscribed, bundle, _) = told(s, "full-resource")?;
                for entry in list(&bundle, "/entry") {
                    let Some(resource) = entry.get("resource") else { continue };
                    let kind = text(resource, "/resourceType");
                    let answer = s.post(&format!("/{kind}/$validate"), resource)?;
                    let mut issues = list(&answer.json, "/issue").iter();
                    let wrong = issues.find(|one| matches!(text(one, "/severity"), "error" | "fatal"));
                    ensure(wrong.is_none(), format!("{kind}: {wrong:?}"))?;
                }
                Ok(())
            },
        ),
    ]
}

fn profile() -> Vec<Check> {
    vec![
        check(
            "profile/numbers-are-strings",
            PARAMETERS,
            "event-number and events-since-subscription-start are strings, in notifications and in $status",
            &[],
            |s| {
                let (subscribed, bundle, _) = told(s, "full-resource")?;
                traps(status(&bundle))?;
                traps(&subscribed.status()?)
            },
        ),
        check(
            "profile/parameter-names",
            PARAMETERS,
            "the parameters have the names of R4's profile, not those of R5",
            &[],
            |s| {
                let (subscribed, bundle, _) = told(s, "full-resource")?;
                for parameters in [status(&bundle), &subscribed.status()?] {
                    is_status(parameters, &subscribed.made.reference())?;
                }
                let event = events(&bundle).next().ok_or("there is no event")?;
                for needed in ["event-number", "focus"] {
                    let there = event.iter().any(|part| text(part, "/name") == needed);
                    ensure(there, format!("the event has no {needed}"))?;
                }
                Ok(())
            },
        ),
        check(
            "profile/payload-content",
            ACCEPTING,
            "how much is told is the extension of payload alone: without it, or elsewhere, it is refused",
            &[],
            |s| {
                let wish = Wish::new(s, "full-resource")?;
                let content = wish.resource.pointer("/channel/_payload/extension").cloned();
                let without = wish.with("/channel/_payload", Value::Null);
                not_created(s, &without)?;
                not_created(s, &without.with("/channel/extension", content.unwrap_or_default()))?;
                let other = json!({"extension": [{"url": format!("{IG}payload-content"), "valueCode": "everything"}]});
                not_created(s, &Wish::new(s, "empty")?.with("/channel/_payload", other))
            },
        ),
        check(
            "profile/channel-numbers",
            "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-timeout.html#root",
            "timeout and heartbeat are unsignedInt, maxCount is positiveInt: other values are refused",
            &[],
            |s| {
                for (name, value) in [
                    ("timeout", json!({"valueString": "20"})),
                    ("heartbeat-period", json!({"valueUnsignedInt": -1})),
                    ("max-count", json!({"valuePositiveInt": 0})),
                ] {
                    let mut extension = value;
                    if let Some(object) = extension.as_object_mut() {
                        object.insert("url".to_owned(), json!(format!("{IG}{name}")));
                    }
                    let wish = Wish::new(s, "empty")?.with("/channel/extension", json!([extension]));
                    not_created(s, &wish).map_err(|stop| of(name, stop))?;
                }
                Ok(())
            },
        ),
        check(
            "profile/entry-addresses",
            BUNDLE,
            "the status has an address of its own, urn:uuid; what events are about has its absolute one",
            &[],
            |s| {
                let (_subscribed, bundle, focus) = told(s, "full-resource")?;
                let own = text(&bundle, "/entry/0/fullUrl");
                should(own.starts_with("urn:uuid:"), &format!("fullUrl of the status is `{own}`"))?;
                let mut others = list(&bundle, "/entry").iter().skip(1);
                let entry = others.find(|entry| is_of(entry, &focus)).ok_or("there is no entry of it")?;
                let address = text(entry, "/fullUrl");
                let is = address.starts_with("http") && address.ends_with(&focus);
                ensure(is, format!("fullUrl is `{address}`"))
            },
        ),
        check("profile/timestamp", PARAMETERS, "the timestamp of an event is an instant of now", &[], |s| {
            let (_subscribed, bundle, _) = told(s, "empty")?;
            let event = events(&bundle).next().ok_or("there is no event")?;
            let mut parts = event.iter().filter(|part| text(part, "/name") == "timestamp");
            let Some(part) = parts.next() else { return should(false, "there is no timestamp") };
            let said = text(part, "/valueInstant");
            let at = chrono::DateTime::parse_from_rfc3339(said).map_err(|e| format!("`{said}`: {e}"))?;
            let away = (chrono::Utc::now() - at.to_utc()).abs().to_std().unwrap_or(Duration::MAX);
            ensure(away < Duration::from_mins(10), format!("it is {said}"))
        }),
    ]
}
