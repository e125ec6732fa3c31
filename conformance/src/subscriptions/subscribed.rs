//! A Subscription with an endpoint and a patient of its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hook::Call;
use super::notification::{numbers, occasion};
use super::world::{LOOK, World, world};
use crate::check::{Outcome, Stop, ensure};
use crate::http::patient;
use crate::server::{Answer, FHIR_JSON, Made, Server, list, text, unique};

/// What the guide's extensions begin with.
pub(super) const IG: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-";
/// After something that is told, what should not be told would have come.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// A Subscription that is asked for.
pub(super) struct Wish<'s> {
    server: &'s Server,
    pub(super) world: &'s World,
    /// It is narrowed to what is of this patient.
    pub(super) patient: Made,
    /// Of its endpoint.
    name: String,
    pub(super) resource: Value,
}

/// A filter as it is written beside the criteria.
pub(super) fn filter(text: &str) -> Value {
    json!({"url": format!("{IG}filter-criteria"), "valueString": text})
}

impl<'s> Wish<'s> {
    /// With that much of each event.
    pub(super) fn new(server: &'s Server, content: &str) -> Result<Self, Stop> {
        let world = world(server)?;
        let (patient, name) = (server.create(&patient("1970-01-02"))?, unique("hook"));
        let content = json!({"url": format!("{IG}payload-content"), "valueCode": content});
        let resource = json!({
            "resourceType": "Subscription",
            "meta": {"profile": [format!("{IG}subscription")]},
            "status": "requested", "reason": "conformance", "criteria": world.topic,
            "_criteria": {"extension": [filter(&world.filter(&patient))]},
            "channel": {
                "type": "rest-hook", "endpoint": world.hook.endpoint(&name), "payload": FHIR_JSON,
                "_payload": {"extension": [content]}, "header": ["X-Conformance: a: b"]
            }
        });
        Ok(Self { server, world, patient, name, resource })
    }

    /// The same with something else at a place (a JSON pointer); null takes it away.
    pub(super) fn with(mut self, at: &str, value: Value) -> Self {
        let (parent, key) = at.rsplit_once('/').unwrap_or(("", at));
        if let Some(object) = self.resource.pointer_mut(parent).and_then(Value::as_object_mut) {
            if value.is_null() {
                object.remove(key);
            } else {
                object.insert(key.to_owned(), value);
            }
        }
        self
    }

    /// The same with a number that the guide has as an extension of the channel.
    pub(super) fn number(self, name: &str, of: &str, number: u32) -> Self {
        let mut all = list(&self.resource, "/channel/extension").to_vec();
        all.push(json!({"url": format!("{IG}{name}"), of: number}));
        self.with("/channel/extension", json!(all))
    }

    /// The same with an endpoint that answers so.
    pub(super) fn answered(self, status: u16) -> Self {
        self.world.hook.answer(&self.name, status);
        self
    }

    /// Asks for it.
    pub(super) fn ask(&self) -> Result<Answer, Stop> {
        self.server.post("/Subscription", &self.resource)
    }

    /// Asks for it, and gets it.
    pub(super) fn subscribe(self) -> Result<Subscribed<'s>, Stop> {
        let answer = self.ask()?;
        self.given(answer)
    }

    /// It was asked for, and this is the answer.
    pub(super) fn given(self, answer: Answer) -> Result<Subscribed<'s>, Stop> {
        answer.expect(201)?;
        let made = answer.made()?;
        Ok(Subscribed { wish: self, answer, made })
    }

    /// The same, and waits until it is active.
    pub(super) fn active(self) -> Result<Subscribed<'s>, Stop> {
        let subscribed = self.subscribe()?;
        subscribed.until("active")?;
        Ok(subscribed)
    }
}

/// One that there is, until the check is over.
pub(super) struct Subscribed<'s> {
    pub(super) wish: Wish<'s>,
    /// What its creation was answered with.
    pub(super) answer: Answer,
    pub(super) made: Made,
}

impl Drop for Subscribed<'_> {
    fn drop(&mut self) {
        let _ = self.wish.server.delete(&self.made.path());
    }
}

impl Subscribed<'_> {
    /// What is stored now.
    pub(super) fn now(&self) -> Result<Value, Stop> {
        let answer = self.wish.server.get(&self.made.path())?;
        answer.expect(200)?;
        Ok(answer.json)
    }

    /// Waits until it has that status.
    pub(super) fn until(&self, status: &str) -> Result<Value, Stop> {
        let end = Instant::now() + self.wish.world.patience;
        loop {
            let now = self.now()?;
            if text(&now, "/status") == status {
                return Ok(now);
            }
            if Instant::now() > end {
                return Err(Stop::Fail(format!(
                    "the status is not {status} but `{}`",
                    text(&now, "/status")
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks for it anew, with that status.
    pub(super) fn put(&self, status: &str) -> Outcome {
        let mut resource = self.wish.resource.clone();
        if let Some(object) = resource.as_object_mut() {
            object.insert("id".to_owned(), json!(self.made.id));
            object.insert("status".to_owned(), json!(status));
        }
        self.wish.server.put(&self.made.path(), &resource)?.expect(200)
    }

    /// It has another endpoint when it is put the next time; the name of the one before.
    pub(super) fn elsewhere(&mut self) -> String {
        let name = unique("hook");
        let endpoint = json!(self.wish.world.hook.endpoint(&name));
        if let Some(channel) = self.wish.resource.pointer_mut("/channel").and_then(Value::as_object_mut) {
            channel.insert("endpoint".to_owned(), endpoint);
        }
        std::mem::replace(&mut self.wish.name, name)
    }

    /// From now on its endpoint answers so.
    pub(super) fn answer(&self, status: u16) {
        self.wish.world.hook.answer(&self.wish.name, status);
    }

    /// Something happens that it is to be told of.
    pub(super) fn happen(&self) -> Result<Made, Stop> {
        self.wish.server.create(&self.wish.world.trigger(&self.wish.patient)?)
    }

    /// What came.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.wish.world.hook.calls(&self.wish.name)
    }

    /// What came behind a redirect.
    pub(super) fn moved(&self) -> Vec<Call> {
        self.wish.world.hook.calls(&format!("{}-moved", self.wish.name))
    }

    /// Waits until enough came.
    pub(super) fn wait(&self, what: &str, enough: impl Fn(&[Call]) -> bool) -> Result<Vec<Call>, Stop> {
        self.wish.world.hook.wait(&self.wish.name, self.wish.world.patience, what, enough)
    }

    /// Waits for the first notification of that type.
    pub(super) fn first(&self, kind: &'static str) -> Result<Call, Stop> {
        let is = |call: &&Call| occasion(&call.json) == kind;
        let calls = self.wait(kind, |calls| calls.iter().any(|call| is(&call)))?;
        calls.iter().find(is).cloned().ok_or_else(|| Stop::Fail(format!("no {kind}")))
    }

    /// Waits until so many events were told and taken; all notifications of events.
    pub(super) fn told(&self, many: usize) -> Result<Vec<Value>, Stop> {
        let enough = |calls: &[Call]| taken(calls).len() >= many;
        Ok(told(&self.wait(&format!("{many} events"), enough)?))
    }

    /// What `$status` says of it: its Parameters.
    pub(super) fn status(&self) -> Result<Value, Stop> {
        let answer = self.wish.server.get(&format!("{}/$status", self.made.path()))?;
        answer.expect(200)?;
        let entries = answer.entries();
        ensure(entries.len() == 1, format!("$status of one has {} entries", entries.len()))?;
        Ok(answer.json.pointer("/entry/0/resource").cloned().unwrap_or_default())
    }
}

/// The notifications of events among calls that were taken.
pub(super) fn told(calls: &[Call]) -> Vec<Value> {
    let events = calls.iter().filter(|call| call.taken() && occasion(&call.json) == "event-notification");
    events.map(|call| call.json.clone()).collect()
}

/// The numbers of events that were told and taken, each once, as they came.
pub(super) fn taken(calls: &[Call]) -> Vec<u64> {
    let mut all = Vec::new();
    for number in told(calls).iter().flat_map(numbers) {
        if !all.contains(&number) {
            all.push(number);
        }
    }
    all
}
