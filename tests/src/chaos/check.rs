//! Whether what was promised was kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::blocking::Client;
use serde_json::Value;

use super::Tally;
use super::receiver::Receiver;
use super::writers::{Said, Subscriber, Writers, client, said};

/// An event as `$events` tells of it.
struct Event {
    number: u64,
    id: String,
    version: u64,
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn parts<'v>(parameters: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    let all = parameters.get("parameter").or_else(|| parameters.get("part"));
    let all = all.and_then(Value::as_array).into_iter().flatten();
    all.filter(move |one| text(one, "/name") == name)
}

/// So many events it has, and how it stands with it.
fn standing(writers: &Writers, http: &Client, one: &Subscriber) -> anyhow::Result<(u64, String)> {
    let answer = writers.get(http, &format!("Subscription/{}/$status", one.id))?;
    let status = answer.pointer("/entry/0/resource").context("no status")?;
    let count = parts(status, "events-since-subscription-start").next().context("no count")?;
    let code = parts(status, "status").next().context("no status")?;
    Ok((text(count, "/valueString").parse()?, text(code, "/valueCode").to_owned()))
}

/// Waits until everybody was told all, and that stays so; says whether it came to that.
pub(super) fn drain(writers: &Writers, receiver: &Receiver, long: Duration) -> anyhow::Result<bool> {
    let (http, began) = (client()?, Instant::now());
    let mut quiet = 0;
    while began.elapsed() < long {
        let mut told = true;
        for (n, one) in writers.subscribers.iter().enumerate() {
            let (events, status) = standing(writers, &http, one)?;
            let taken = receiver.taken(&one.place).accepted;
            told &= taken.iter().collect::<BTreeSet<_>>().len() as u64 >= events && status == "active";
            if matches!(&*status, "error" | "off") {
                writers.wait_active(&http, n, long)?;
            }
        }
        quiet = if told { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(true);
        }
        sleep(Duration::from_millis(500));
    }
    Ok(false)
}

fn events(writers: &Writers, http: &Client, one: &Subscriber) -> anyhow::Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let next = events.last().map_or(1, |event| event.number + 1);
        let path = format!(
            "Subscription/{}/$events?eventsSinceNumber={next}&eventsUntilNumber={}&content=full-resource",
            one.id,
            next + 999
        );
        let answer = writers.get(http, &path)?;
        let mut versions: HashMap<String, Vec<u64>> = HashMap::new();
        let entries = answer.get("entry").and_then(Value::as_array).into_iter().flatten();
        for resource in entries.filter_map(|entry| entry.get("resource")) {
            if text(resource, "/resourceType") == "Observation" {
                let version = text(resource, "/meta/versionId").parse()?;
                versions.entry(text(resource, "/id").to_owned()).or_default().push(version);
            }
        }
        for of in versions.values_mut() {
            of.reverse();
        }
        let status = answer.pointer("/entry/0/resource").context("no status")?;
        let before = events.len();
        for event in parts(status, "notification-event") {
            let number = parts(event, "event-number").next().context("no number")?;
            let focus = parts(event, "focus").next().context("an event without its focus")?;
            let id = text(focus, "/valueReference/reference").rsplit('/').next().unwrap_or_default();
            let version = versions.get_mut(id).and_then(Vec::pop).context("an event without its resource")?;
            events.push(Event { number: text(number, "/valueString").parse()?, id: id.to_owned(), version });
        }
        if events.len() == before {
            return Ok(events);
        }
    }
}

/// All versions that there are, of which somebody has to be told or may be.
struct Truth {
    versions: BTreeMap<String, BTreeMap<u64, Said>>,
    /// Before a version was there it was tried then, at the earliest.
    began: BTreeMap<String, BTreeMap<u64, Instant>>,
}

fn truth(writers: &Writers, http: &Client, tally: &mut Tally) -> anyhow::Result<Truth> {
    let written = writers.written.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut versions, mut began) = (BTreeMap::new(), BTreeMap::new());
    for (id, one) in written.iter() {
        let mut found: BTreeMap<u64, Said> = BTreeMap::new();
        if one.doubtful {
            let mut page = Some(format!("Observation/{id}/_history?_count=200"));
            while let Some(path) = page.take() {
                let answer = match writers.get(http, &path) {
                    Ok(answer) => answer,
                    Err(error) if error.to_string().contains("not-found") => break,
                    Err(error) => return Err(error),
                };
                let entries = answer.get("entry").and_then(Value::as_array).into_iter().flatten();
                for resource in entries.filter_map(|entry| entry.get("resource")) {
                    let version = text(resource, "/meta/versionId").parse()?;
                    found.insert(version, said(resource).context("an Observation of somebody else")?);
                }
                let links = answer.get("link").and_then(Value::as_array).into_iter().flatten();
                let next =
                    links.filter(|link| text(link, "/relation") == "next").map(|link| text(link, "/url"));
                page =
                    next.filter_map(|url| url.split_once("/fhir/")).map(|(_, path)| path.to_owned()).next();
            }
        } else {
            found.clone_from(&one.answered);
        }
        tally.count("writes answered", one.answered.len() as u64);
        tally.count("writes done and not answered", found.len().saturating_sub(one.answered.len()) as u64);
        for (version, said) in &one.answered {
            if found.get(version) != Some(said) {
                tally.breach("writes lost", &format!("{id}/{version} was answered"));
            }
        }
        let since = |version: &u64| (*version, one.tried.get(version).copied().unwrap_or(one.began));
        began.insert(id.clone(), found.keys().map(since).collect());
        versions.insert(id.clone(), found);
    }
    Ok(Truth { versions, began })
}

impl Truth {
    fn wants(&self, one: &Subscriber, id: &str, version: u64) -> bool {
        let Some(versions) = self.versions.get(id) else { return false };
        let before = versions.get(&(version - 1)).copied();
        versions.get(&version).is_some_and(|now| one.wants(before, *now))
    }
}

/// Holds it all against each other.
pub(super) fn check(writers: &Writers, receiver: &Receiver, tally: &mut Tally) -> anyhow::Result<()> {
    let http = client()?;
    let truth = truth(writers, &http, tally)?;
    tally.count("tries without an answer", writers.retried.load(std::sync::atomic::Ordering::Relaxed));
    for what in ["lost", "out of order", "numbered wrongly", "not numbered"] {
        tally.count(what, 0);
    }
    for (n, one) in writers.subscribers.iter().enumerate() {
        let (count, _) = standing(writers, &http, one)?;
        let events = events(writers, &http, one)?;
        tally.count("events", events.len() as u64);
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (event, expected) in events.iter().zip(1..) {
            if event.number != expected {
                tally.breach("numbered wrongly", &format!("{}: {} for {expected}", one.id, event.number));
            }
            let (id, version) = (event.id.as_str(), event.version);
            if let Some(before) = last.insert(id, version).filter(|before| *before >= version) {
                tally.breach("numbered wrongly", &format!("{}: {id}/{version} after {before}", one.id));
            }
            if !truth.wants(one, id, version) {
                tally.breach("numbered wrongly", &format!("{}: {id}/{version} is not for it", one.id));
            }
        }
        if events.len() as u64 != count {
            tally.breach("numbered wrongly", &format!("{}: {} of {count}", one.id, events.len()));
        }
        let numbered: HashMap<String, u64> =
            events.iter().map(|event| (format!("{}/{}", event.id, event.version), event.number)).collect();
        let since = writers.active_since(n).context("it was never active")?;
        for (id, versions) in &truth.versions {
            for version in versions.keys() {
                let tried = truth.began.get(id).and_then(|of| of.get(version));
                let due = tried.is_some_and(|tried| *tried >= since) && truth.wants(one, id, *version);
                if due && !numbered.contains_key(&format!("{id}/{version}")) {
                    tally.breach("not numbered", &format!("{}: {id}/{version}", one.id));
                }
            }
        }
        received(one, receiver, &numbered, count, tally);
    }
    Ok(())
}

/// What came, against what was numbered.
fn received(
    one: &Subscriber,
    receiver: &Receiver,
    numbered: &HashMap<String, u64>,
    count: u64,
    tally: &mut Tally,
) {
    let taken = receiver.taken(&one.place);
    tally.count("requests to the receiver", taken.requests);
    tally.count("requests it refused", taken.refused);
    tally.count("notifications taken", taken.accepted.len() as u64);
    let mut greatest = 0;
    for item in &taken.accepted {
        let number = if one.topical { item.parse().ok() } else { numbered.get(item).copied() };
        match number {
            None => tally.breach("numbered wrongly", &format!("{}: {item} came and is no event", one.id)),
            Some(number) if number <= greatest => tally.count("duplicates", 1),
            Some(number) => {
                // Whatever is between was not seen, or will be too late.
                if number != greatest + 1 {
                    tally.breach("out of order", &format!("{}: {number} after {greatest}", one.id));
                }
                greatest = number;
            }
        }
    }
    let seen: BTreeSet<&String> = taken.accepted.iter().collect();
    let mut lost: Vec<u64> = if one.topical {
        (1..=count).filter(|number| !seen.contains(&number.to_string())).collect()
    } else {
        let unseen = numbered.iter().filter(|(item, _)| !seen.contains(item));
        unseen.map(|(_, number)| *number).collect()
    };
    lost.sort_unstable();
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        tally.count("lost", lost.len() as u64 - 1);
        tally.breach("lost", &format!("{}: {} from {first} to {last}", one.id, lost.len()));
    }
}
