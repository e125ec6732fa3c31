//! What the guide says and the kit does not ask.

use std::time::{Duration, Instant};

use serde_json::json;

use super::check;
use super::notification::{count, is_status, numbers, occasion, references, said, status};
use super::subscribed::{SILENCE, Subscribed, Wish, filter, taken};
use super::world::LOOK;
use crate::check::{Check, Outcome, Stop, ensure};
use crate::http::patient;
use crate::server::Server;

const HOOK: &str = "uv/subscriptions-backport/STU1.1/channels.html#rest-hook-1";
const ERRORS: &str = "uv/subscriptions-backport/STU1.1/errors.html#handling-errors-as-a-server";
const BROKEN: &str = "uv/subscriptions-backport/STU1.1/errors.html#broken-communication";
const RECOVERING: &str = "uv/subscriptions-backport/STU1.1/errors.html#recovering-from-errors";
const FILTERS: &str = "uv/subscriptions-backport/STU1.1/components.html#subscription-filters";
const COUNTER: &str =
    "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription-status-r4.html#root";
const MOST: &str = "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-max-count.html#root";

/// One whose endpoint took no handshake, and answered so.
fn failed(server: &Server, status: u16) -> Result<Subscribed<'_>, Stop> {
    let subscribed = Wish::new(server, "id-only")?.answered(status).subscribe()?;
    subscribed.first("handshake")?;
    subscribed.until("error")?;
    Ok(subscribed)
}

/// Waits until `$status` counts so many events.
pub(super) fn counted(subscribed: &Subscribed<'_>, many: u64) -> Outcome {
    let end = Instant::now() + subscribed.wish.world.patience;
    loop {
        let found = count(&subscribed.status()?);
        if found == Some(many) {
            return Ok(());
        }
        ensure(Instant::now() < end, format!("$status counts {found:?} events, not {many}"))?;
        std::thread::sleep(LOOK);
    }
}

/// It can be told again, once it is asked for.
fn goes_on(server: &Server, wanted: &str) -> Outcome {
    let subscribed = failed(server, 404)?;
    subscribed.answer(200);
    let before = subscribed.calls().len();
    subscribed.put(wanted)?;
    subscribed.until("active")?;
    let calls = subscribed.calls();
    let again = calls.iter().skip(before).any(|call| occasion(&call.json) == "handshake");
    ensure(again, "there was no other handshake")?;
    subscribed.happen()?;
    subscribed.told(1).map(drop)
}

/// Only what is of the Subscription's patient is told.
fn narrows(server: &Server, text: impl Fn(&str) -> String) -> Outcome {
    let wish = Wish::new(server, "id-only")?;
    let (patient, other) = (wish.patient.clone(), server.create(&patient("1970-01-02"))?);
    let criteria = text(&wish.world.filter(&patient));
    let subscribed = wish.with("/_criteria/extension", json!([filter(&criteria)])).active()?;
    server.create(&subscribed.wish.world.trigger(&other)?)?;
    let focus = subscribed.happen()?.reference();
    let bundles = subscribed.told(1)?;
    let first = bundles.first().ok_or("nothing was told")?;
    let foci = references(first, "focus");
    ensure(numbers(first) == [1], format!("the first is {:?}", numbers(first)))?;
    let is = foci.iter().all(|one| one.ends_with(&focus));
    ensure(is, format!("{foci:?} was told, not {focus}"))
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "spec/21-31",
            HOOK,
            "without an answer to its handshake a Subscription is in error, and is told nothing",
            &[],
            |s| {
                let subscribed = failed(s, 500)?;
                subscribed.happen()?;
                std::thread::sleep(SILENCE);
                let calls = subscribed.calls();
                let only = calls.iter().all(|call| occasion(&call.json) == "handshake");
                ensure(only, "something else than a handshake was sent")
            },
        ),
        check("spec/21-31-active", HOOK, "with an answer to its handshake it is active", &[], |s| {
            let subscribed = Wish::new(s, "empty")?.answered(204).active()?;
            ensure(subscribed.first("handshake")?.taken(), "it is active before")
        }),
        check(
            "spec/77-102",
            COUNTER,
            "events are counted though they do not arrive; handshakes and heartbeats are not",
            &[],
            |s| {
                let wish = Wish::new(s, "id-only")?.number("heartbeat-period", "valueUnsignedInt", 1);
                let subscribed = wish.active()?;
                subscribed.first("heartbeat")?;
                counted(&subscribed, 0)?;
                subscribed.answer(500);
                for _ in 0..3 {
                    subscribed.happen()?;
                }
                counted(&subscribed, 3)?;
                subscribed.answer(200);
                let bundles = subscribed.told(3)?;
                let told: Vec<u64> = bundles.iter().flat_map(numbers).collect();
                ensure(told == [1, 2, 3], format!("{told:?} were told"))?;
                let since = bundles.last().and_then(|last| count(status(last)));
                ensure(since == Some(3), format!("the last counts {since:?}"))
            },
        ),
        check("spec/79", ERRORS, "$status goes on answering in error, and says that it is", &[], |s| {
            let subscribed = failed(s, 404)?;
            let parameters = subscribed.status()?;
            is_status(&parameters, &subscribed.made.reference())?;
            let stands = said(&parameters, "status", "/valueCode");
            ensure(stands == "error", format!("the status is `{stands}`"))
        }),
        check(
            "spec/81-82",
            RECOVERING,
            "a Subscription in error stays so, though its endpoint would answer, until a client asks for it",
            &[],
            |s| {
                let subscribed = failed(s, 404)?;
                subscribed.answer(200);
                let before = subscribed.calls().len();
                std::thread::sleep(Duration::from_secs(3));
                ensure(subscribed.calls().len() == before, "something was sent")?;
                subscribed.until("error").map(drop)
            },
        ),
        check(
            "spec/81-82-requested",
            RECOVERING,
            "asked for as requested, it has another handshake and goes on",
            &[],
            |s| goes_on(s, "requested"),
        ),
        check(
            "spec/81-82-active",
            RECOVERING,
            "asked for as active, it has another handshake and goes on",
            &[],
            |s| goes_on(s, "active"),
        ),
        check(
            "spec/81-82-off",
            BROKEN,
            "one that is off is told nothing, and goes on with what comes after it is asked for again",
            &[],
            |s| {
                let subscribed = Wish::new(s, "id-only")?.active()?;
                subscribed.put("off")?;
                subscribed.until("off")?;
                subscribed.happen()?;
                std::thread::sleep(SILENCE);
                ensure(taken(&subscribed.calls()).is_empty(), "it was told while it was off")?;
                subscribed.put("requested")?;
                subscribed.until("active")?;
                let focus = subscribed.happen()?.reference();
                let bundles = subscribed.told(1)?;
                let foci: Vec<&str> = bundles.iter().flat_map(|one| references(one, "focus")).collect();
                ensure(foci.len() == 1 && foci.iter().all(|one| one.ends_with(&focus)), format!("{foci:?}"))
            },
        ),
        check("spec/95", FILTERS, "of several filters all must hold", &[], |s| {
            let wish = Wish::new(s, "id-only")?;
            let other = s.create(&patient("1970-01-02"))?;
            let (own, foreign) = (wish.world.filter(&wish.patient), wish.world.filter(&other));
            let both = json!([filter(&own), filter(&foreign)]);
            let none = wish.with("/_criteria/extension", both).active()?;
            let twice = json!([filter(&own), filter(&own)]);
            let all = Wish::new(s, "id-only")?.with("/_criteria/extension", twice).active()?;
            // It is told of the patient of the first.
            none.happen()?;
            s.create(&none.wish.world.trigger(&other)?)?;
            none.happen()?;
            all.told(2)?;
            std::thread::sleep(SILENCE);
            ensure(taken(&none.calls()).is_empty(), "it was told though one filter did not hold")?;
            ensure(taken(&all.calls()) == [1, 2], format!("{:?} were told", taken(&all.calls())))
        }),
        check(
            "spec/98",
            MOST,
            "no more events come together than maxCount, whatever comes along; all come, in order",
            &[],
            |s| {
                let wish = Wish::new(s, "full-resource")?.number("max-count", "valuePositiveInt", 2);
                let subscribed = wish.active()?;
                subscribed.answer(503);
                for _ in 0..5 {
                    subscribed.happen()?;
                }
                counted(&subscribed, 5)?;
                subscribed.answer(200);
                let bundles = subscribed.told(5)?;
                let together: Vec<Vec<u64>> = bundles.iter().map(numbers).collect();
                ensure(together.iter().all(|some| some.len() <= 2), format!("together: {together:?}"))?;
                ensure(together.concat() == [1, 2, 3, 4, 5], format!("in order: {together:?}"))
            },
        ),
        check(
            "filter/of-the-guide",
            FILTERS,
            "a filter may be written as the guide does: Encounter?patient=Patient/123",
            &[],
            |s| narrows(s, str::to_owned),
        ),
        check(
            "filter/of-the-kit",
            FILTERS,
            "a filter may be written as the kit does: Encounter.patient=Patient/123",
            &[],
            |s| narrows(s, |text| text.replacen('?', ".", 1)),
        ),
    ]
}
