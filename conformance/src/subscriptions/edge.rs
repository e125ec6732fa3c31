//! Where others went wrong: what is told that should not be, what is lost, and what an endpoint can do.

use std::time::Duration;

use serde_json::{Value, json};

use super::check;
use super::notification::{is_notification, is_of, numbers, occasion, references};
use super::rejections::not_created;
use super::subscribed::{SILENCE, Subscribed, Wish, filter, taken};
use super::world::{define, observation};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Made, Server, list, text, unique};

const HOOK: &str = "uv/subscriptions-backport/STU1.1/channels.html#rest-hook-1";
const SECURITY: &str = "uv/subscriptions-backport/STU1.1/channels.html#security-notes";
const ERRORS: &str = "uv/subscriptions-backport/STU1.1/errors.html#handling-errors-as-a-server";
const BUNDLE: &str = "uv/subscriptions-backport/STU1.1/notifications.html#the-history-bundle-type";
const TOPIC: &str = "uv/subscriptions-backport/STU1.1/components.html#subscription-topics";
const ACCEPTING: &str = "uv/subscriptions-backport/STU1.1/components.html#accepting-subscription-requests";
const STATUS: &str =
    "uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html#root";

/// So many things happen to it at once; an entry that can't be done is one of them, if it is to fail.
fn together(server: &Server, of: &Subscribed<'_>, many: usize, fails: bool) -> Outcome {
    let wish = &of.wish;
    let trigger = wish.world.trigger(&wish.patient)?;
    let kind = text(&trigger, "/resourceType").to_owned();
    let entry = json!({"request": {"method": "POST", "url": kind}, "resource": trigger});
    let mut entries = vec![entry; many];
    if fails {
        let url = format!("{kind}/{}", unique("never"));
        let request = json!({"method": "PUT", "url": url, "ifMatch": "W/\"7\""});
        let mut resource = wish.world.trigger(&wish.patient)?;
        if let Some(object) = resource.as_object_mut() {
            object.insert("id".to_owned(), json!(url.split('/').nth(1)));
        }
        entries.push(json!({"request": request, "resource": resource}));
    }
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    let answer = server.post("", &bundle)?;
    let done = answer.status == 200;
    ensure(done != fails, format!("the transaction was answered {}", answer.shown()))
}

/// The first notification of events, whose number is 1.
fn first_event(of: &Subscribed<'_>) -> Result<Value, Stop> {
    let bundle = of.told(1)?.swap_remove(0);
    ensure(numbers(&bundle) == [1], format!("the first is {:?}", numbers(&bundle)))?;
    Ok(bundle)
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "edge/rolled-back",
            HOOK,
            "what was rolled back is neither told nor counted",
            &["transaction"],
            |s| {
                let subscribed = Wish::new(s, "id-only")?.active()?;
                together(s, &subscribed, 2, true)?;
                let focus = subscribed.happen()?.reference();
                let bundle = first_event(&subscribed)?;
                let foci = references(&bundle, "focus");
                ensure(foci.iter().all(|one| one.ends_with(&focus)), format!("{foci:?}, not {focus}"))
            },
        ),
        check(
            "edge/numbered-once",
            HOOK,
            "events of a transaction and of many writes are numbered without a gap, and told in order",
            &["transaction"],
            |s| {
                let subscribed = Wish::new(s, "id-only")?.active()?;
                together(s, &subscribed, 6, false)?;
                for _ in 0..6 {
                    subscribed.happen()?;
                }
                let bundles = subscribed.told(12)?;
                let all: Vec<u64> = bundles.iter().flat_map(numbers).collect();
                ensure(all == (1..=12).collect::<Vec<u64>>(), format!("they came as {all:?}"))
            },
        ),
        check(
            "edge/dead-endpoint",
            ERRORS,
            "an endpoint that fails keeps no other waiting, and is told later what it missed",
            &[],
            |s| {
                let (dead, good) = (Wish::new(s, "id-only")?.active()?, Wish::new(s, "id-only")?.active()?);
                dead.answer(503);
                dead.happen()?;
                dead.wait("event", |calls| {
                    calls.iter().any(|call| occasion(&call.json) == "event-notification")
                })?;
                good.happen()?;
                good.told(1)?;
                ensure(taken(&dead.calls()).is_empty(), "it was taken")?;
                dead.happen()?;
                dead.answer(200);
                let all: Vec<u64> = dead.told(2)?.iter().flat_map(numbers).collect();
                ensure(all == [1, 2], format!("then came {all:?}"))
            },
        ),
        check(
            "edge/redirect",
            SECURITY,
            "a redirect is not followed, least of all with the headers",
            &[],
            |s| {
                let wish = Wish::new(s, "empty")?.with("/channel/header", json!(["Authorization: Bearer a"]));
                let subscribed = wish.answered(307).subscribe()?;
                subscribed.wait("handshake", |calls| !calls.is_empty())?;
                std::thread::sleep(Duration::from_secs(1));
                let followed = subscribed.moved();
                let told = followed.iter().any(|call| !call.header("authorization").is_empty());
                ensure(!told, "the token went to where it was sent on")?;
                ensure(followed.is_empty(), "it was followed")
            },
        ),
        check(
            "edge/inside",
            SECURITY,
            "an endpoint in the machine's or the network's own services is refused",
            &[],
            |s| {
                for endpoint in [
                    "http://169.254.169.254/latest/",
                    "https://169.254.169.254/",
                    "https://0.0.0.0/",
                    "file:///etc/passwd",
                ] {
                    let wish = Wish::new(s, "empty")?.with("/channel/endpoint", json!(endpoint));
                    not_created(s, &wish)?;
                }
                Ok(())
            },
        ),
        check(
            "edge/header-injection",
            SECURITY,
            "a header with a line of its own in it, or of the connection, is refused",
            &[],
            |s| {
                for line in [
                    "X-A: b\r\nX-B: c",
                    "X-A: b\nX-B: c",
                    "Content-Length: 1",
                    "Transfer-Encoding: chunked",
                    "no header",
                ] {
                    not_created(s, &Wish::new(s, "empty")?.with("/channel/header", json!([line])))?;
                }
                Ok(())
            },
        ),
        check("edge/end", ACCEPTING, "when its end has come it is off, and told nothing", &[], |s| {
            let end = chrono::Utc::now() + chrono::TimeDelta::seconds(5);
            let end = end.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            let subscribed = Wish::new(s, "id-only")?.with("/end", json!(end)).active()?;
            subscribed.until("off")?;
            subscribed.happen()?;
            std::thread::sleep(SILENCE);
            ensure(taken(&subscribed.calls()).is_empty(), "it was told")
        }),
        check(
            "edge/another-endpoint",
            HOOK,
            "another endpoint has a handshake before it is told of events",
            &["Subscription.update"],
            |s| {
                let mut subscribed = Wish::new(s, "id-only")?.active()?;
                let former = subscribed.elsewhere();
                let told = || subscribed.wish.world.hook.calls(&former).len();
                let before = told();
                subscribed.put("active")?;
                subscribed.first("handshake")?;
                subscribed.until("active")?;
                subscribed.happen()?;
                first_event(&subscribed)?;
                let kinds: Vec<Value> =
                    subscribed.calls().iter().map(|call| json!(occasion(&call.json))).collect();
                ensure(kinds.first() == Some(&json!("handshake")), format!("there came {kinds:?}"))?;
                ensure(told() == before, "the endpoint before was told")
            },
        ),
        check(
            "edge/status-of-deleted",
            STATUS,
            "$status of what was deleted is 410 or 404",
            &["Subscription.delete"],
            |s| {
                let subscribed = Wish::new(s, "empty")?.active()?;
                s.delete(&subscribed.made.path())?.expect_one(&[200, 202, 204])?;
                s.get(&format!("{}/$status", subscribed.made.path()))?.refused(&[404, 410])?;
                subscribed.happen()?;
                std::thread::sleep(SILENCE);
                ensure(taken(&subscribed.calls()).is_empty(), "it was told")
            },
        ),
        check(
            "edge/delete",
            BUNDLE,
            "a delete is told with its focus, as DELETE, without the resource",
            &["Observation.delete"],
            |s| {
                let subscribed = Wish::new(s, "full-resource")?.active()?;
                subscribed.wish.world.is_own()?;
                let made = subscribed.happen()?;
                s.delete(&made.path())?.expect_one(&[200, 204])?;
                let bundles = subscribed.told(2)?;
                let last = bundles.last().ok_or("nothing was told")?;
                is_notification(last, &subscribed.made.reference())?;
                let foci = references(last, "focus");
                let is = foci.iter().all(|one| one.ends_with(&made.reference())) && !foci.is_empty();
                ensure(is, format!("the focus is {foci:?}"))?;
                let mut entries = list(last, "/entry").iter().skip(1);
                let entry = entries.find(|entry| is_of(entry, &made.reference()));
                let entry = entry.ok_or("there is no entry of it")?;
                let method = text(entry, "/request/method");
                ensure(method == "DELETE", format!("it came as {method}"))?;
                ensure(entry.get("resource").is_none(), "there is a resource in it")
            },
        ),
        check(
            "edge/query-criteria",
            TOPIC,
            "a topic speaks when a resource comes to meet its query, and not while it does",
            &["Basic.create", "Observation.update"],
            |s| {
                let part = |name: &str, of: &str, value: &str| json!({"url": name, of: value});
                let query = json!([
                    part("previous", "valueString", "status:not=final"),
                    part("resultForCreate", "valueCode", "test-passes"),
                    part("current", "valueString", "status=final"),
                    part("resultForDelete", "valueCode", "test-fails"),
                    {"url": "requireBoth", "valueBoolean": true}
                ]);
                let topic = define(s, "final", &query)?;
                let wish = Wish::new(s, "id-only")?;
                let narrowed = filter(&format!("Observation?patient={}", wish.patient.reference()));
                let wish =
                    wish.with("/criteria", json!(topic)).with("/_criteria/extension", json!([narrowed]));
                let subscribed = wish.active()?;
                let patient = subscribed.wish.patient.reference();
                let made = s.create(&observation(&patient, "preliminary"))?;
                for status in ["preliminary", "final", "final", "amended", "final"] {
                    let mut resource = observation(&patient, status);
                    if let Some(object) = resource.as_object_mut() {
                        object.insert("id".to_owned(), json!(made.id));
                        object.insert("valueString".to_owned(), json!(unique("value")));
                    }
                    s.put(&made.path(), &resource)?.expect(200)?;
                }
                let born = s.create(&observation(&patient, "final"))?;
                let bundles = subscribed.told(3)?;
                s.delete(&born.path())?.expect_one(&[200, 204])?;
                std::thread::sleep(SILENCE);
                let foci: Vec<&str> = bundles.iter().flat_map(|one| references(one, "focus")).collect();
                let expected = [&made, &made, &born].map(Made::reference);
                let is = foci.len() == 3 && foci.iter().zip(&expected).all(|(one, of)| one.ends_with(of));
                ensure(is, format!("{foci:?} were told, not {expected:?}"))?;
                ensure(taken(&subscribed.calls()) == [1, 2, 3], "the delete was told")
            },
        ),
    ]
}
