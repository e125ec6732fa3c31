//! `$status` and `$events`.

use serde_json::{Value, json};

use super::check;
use super::notification::{is_notification, is_status, numbers, occasion, references, said};
use super::specification::counted;
use super::subscribed::{Subscribed, Wish};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, encoded, list, text, unique};

const STATUS: &str =
    "uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html#root";
const EVENTS: &str =
    "uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html#root";
const ERRORS: &str = "uv/subscriptions-backport/STU1.1/errors.html#using-the-events-operation";

/// The references of the Subscriptions that an answer of `$status` tells of.
fn told_of(answer: &Answer) -> Result<Vec<String>, Stop> {
    answer.expect(200)?;
    ensure(answer.is("Bundle") && answer.at("/type") == "searchset", "the answer is no searchset")?;
    let mut all = Vec::new();
    for entry in answer.entries() {
        let parameters = entry.get("resource").unwrap_or(&Value::Null);
        is_status(parameters, "")?;
        let kind = said(parameters, "type", "/valueCode");
        ensure(kind == "query-status", format!("the type is `{kind}`"))?;
        all.push(said(parameters, "subscription", "/valueReference/reference").to_owned());
    }
    Ok(all)
}

/// Does it tell of these, and not of the others?
fn tells(answer: &Answer, these: &[&Subscribed<'_>], others: &[&Subscribed<'_>]) -> Outcome {
    let all = told_of(answer)?;
    let among = |one: &Subscribed<'_>| {
        let own = format!("/{}", one.made.reference());
        all.iter().any(|reference| reference.ends_with(&own))
    };
    ensure(these.iter().all(|one| among(one)), format!("one is missing among {all:?}"))?;
    ensure(!others.iter().any(|one| among(one)), format!("one is too many among {all:?}"))
}

/// The notification that `$events` gives.
fn events(server: &Server, of: &Subscribed<'_>, query: &str) -> Result<Value, Stop> {
    let answer = server.get(&format!("{}/$events?{query}", of.made.path()))?;
    answer.expect(200)?;
    is_notification(&answer.json, &of.made.reference())?;
    let kind = occasion(&answer.json);
    ensure(kind == "query-event", format!("the type is `{kind}`"))?;
    Ok(answer.json)
}

/// One with four events that were told.
fn with_four(server: &Server) -> Result<Subscribed<'_>, Stop> {
    let subscribed = Wish::new(server, "id-only")?.active()?;
    for _ in 0..4 {
        subscribed.happen()?;
    }
    subscribed.told(4)?;
    Ok(subscribed)
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("status_invocation", STATUS, "$status of one answers a searchset of its status", &[], |s| {
            let subscribed = Wish::new(s, "id-only")?.active()?;
            let answer = s.get(&format!("{}/$status", subscribed.made.path()))?;
            tells(&answer, &[&subscribed], &[])?;
            ensure(answer.entries().len() == 1, "there is more than one")?;
            let parameters = subscribed.status()?;
            is_status(&parameters, &subscribed.made.reference())?;
            let (stands, topic) =
                (said(&parameters, "status", "/valueCode"), said(&parameters, "topic", "/valueCanonical"));
            ensure(stands == "active", format!("the status is `{stands}`"))?;
            ensure(
                topic.is_empty() || topic == subscribed.wish.world.topic,
                format!("the topic is `{topic}`"),
            )
        }),
        check("status_invocation-unknown", STATUS, "$status of what never was is 404", &[], |s| {
            s.get(&format!("/Subscription/{}/$status", unique("never")))?.refused(&[404])
        }),
        check(
            "spec/106-112",
            STATUS,
            "$status of the type: several id are any of them, several status too, none is all",
            &[],
            |s| {
                let (one, two) = (Wish::new(s, "empty")?.active()?, Wish::new(s, "empty")?.active()?);
                two.put("off")?;
                two.until("off")?;
                let (first, second) = (&one.made.id, &two.made.id);
                let ask = |query: &str| s.get(&format!("/Subscription/$status?{}", encoded(query)));
                tells(&ask(&format!("id={first}"))?, &[&one], &[&two])?;
                tells(&ask(&format!("id={first}&id={second}"))?, &[&one, &two], &[])?;
                ensure(ask(&format!("id={first}&id={second}"))?.entries().len() == 2, "there are others")?;
                tells(&ask("status=active")?, &[&one], &[&two])?;
                tells(&ask("status=off")?, &[&two], &[&one])?;
                tells(&ask("status=active&status=off")?, &[&one, &two], &[])?;
                tells(&ask(&format!("id={first}&id={second}&status=off"))?, &[&two], &[&one])?;
                tells(&ask("")?, &[&one, &two], &[])
            },
        ),
        check("spec/106-112-by-post", STATUS, "$status of the type takes Parameters too", &[], |s| {
            let (one, two) = (Wish::new(s, "empty")?.active()?, Wish::new(s, "empty")?.active()?);
            let parameter = json!([{"name": "id", "valueId": one.made.id}]);
            let body = json!({"resourceType": "Parameters", "parameter": parameter});
            tells(&s.post("/Subscription/$status", &body)?, &[&one], &[&two])
        }),
        check(
            "spec/115-119",
            EVENTS,
            "$events is a notification of the events from one number to another, both among them",
            &["Subscription$events"],
            |s| {
                let subscribed = with_four(s)?;
                for (query, expected) in [
                    ("eventsSinceNumber=2&eventsUntilNumber=3", &[2, 3][..]),
                    ("eventsSinceNumber=3", &[3, 4]),
                    ("eventsUntilNumber=2", &[1, 2]),
                    ("eventsSinceNumber=4&eventsUntilNumber=4", &[4]),
                    ("eventsSinceNumber=5", &[]),
                    ("", &[1, 2, 3, 4]),
                ] {
                    let found = numbers(&events(s, &subscribed, query)?);
                    ensure(found == expected, format!("{query}: {found:?}"))?;
                }
                Ok(())
            },
        ),
        check(
            "spec/115-119-content",
            EVENTS,
            "$events tells as much as is asked for, or as the Subscription does",
            &["Subscription$events"],
            |s| {
                let subscribed = with_four(s)?;
                let shapes = [("", 5, false), ("content=empty", 1, false), ("content=id-only", 5, false)];
                for (query, entries, whole) in shapes.into_iter().chain([("content=full-resource", 5, true)])
                {
                    let bundle = events(s, &subscribed, query)?;
                    let all = list(&bundle, "/entry");
                    ensure(all.len() >= entries, format!("{query}: {} entries", all.len()))?;
                    ensure(entries > 1 || all.len() == 1, format!("{query}: {} entries", all.len()))?;
                    let resources = all.iter().skip(1).filter(|one| one.get("resource").is_some()).count();
                    let is = if whole { resources + 1 == all.len() } else { resources == 0 };
                    ensure(is, format!("{query}: {resources} resources"))?;
                }
                Ok(())
            },
        ),
        check(
            "spec/115-119-gap",
            ERRORS,
            "what did not arrive is told by $events",
            &["Subscription$events"],
            |s| {
                let subscribed = Wish::new(s, "id-only")?.active()?;
                subscribed.answer(503);
                let happened = [subscribed.happen()?, subscribed.happen()?];
                subscribed.wait("event", |calls| calls.iter().any(|call| !numbers(&call.json).is_empty()))?;
                counted(&subscribed, 2)?;
                let bundle = events(s, &subscribed, "eventsSinceNumber=1")?;
                ensure(numbers(&bundle) == [1, 2], format!("it tells of {:?}", numbers(&bundle)))?;
                let foci = references(&bundle, "focus");
                for (focus, made) in foci.iter().zip(&happened) {
                    ensure(focus.ends_with(&made.reference()), format!("the focus is {focus}"))?;
                }
                ensure(foci.len() == 2, format!("there are {} foci", foci.len()))
            },
        ),
        check(
            "spec/115-119-refused",
            EVENTS,
            "$events of what never was is 404, and what is no number is refused",
            &["Subscription$events"],
            |s| {
                s.get(&format!("/Subscription/{}/$events", unique("never")))?.refused(&[404])?;
                let subscribed = Wish::new(s, "id-only")?.subscribe()?;
                let path = format!("{}/$events", subscribed.made.path());
                s.get(&format!("{path}?eventsSinceNumber=many"))?.refused(&[400, 422])?;
                s.get(&format!("{path}?content=everything"))?.refused(&[400, 422])?;
                ensure(text(&subscribed.now()?, "/id") == subscribed.made.id, "it is gone")
            },
        ),
    ]
}
