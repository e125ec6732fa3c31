//! Who asks to be told, and who writes, over whichever replica answers; both know what they were answered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use super::receiver::PATIENCE;
use super::{Dice, Plan};

const IG: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
const TOPIC: &str = "https://augury.dev/fhir/SubscriptionTopic/observation-critical";
const INTERPRETATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
const PATIENTS: u64 = 7;
/// Resources that all write, again and again.
const HOT: u64 = 24;
/// How long an answer is waited for, and who did not give one is left alone.
const ANSWER: Duration = Duration::from_secs(4);
const ALONE: Duration = Duration::from_secs(8);
/// The same of what may be much.
const LONG: Duration = Duration::from_secs(30);

/// One who wants to be told.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub(super) id: String,
    /// What its path begins with.
    pub(super) place: String,
    pub(super) patient: Option<u64>,
    /// Of events of a topic; else R4's own.
    pub(super) topical: bool,
    max_count: Option<u32>,
    content: &'static str,
}

/// A version as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) patient: u64,
    pub(super) critical: bool,
}

/// What is known of a resource by those who wrote it.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// Answered versions.
    pub(super) answered: BTreeMap<u64, Said>,
    /// When it was first tried.
    pub(super) began: Instant,
    /// When a version that was answered was tried.
    pub(super) tried: BTreeMap<u64, Instant>,
    /// Others wrote too, or an answer is missing.
    pub(super) doubtful: bool,
}

pub(super) struct Writers {
    urls: Vec<String>,
    /// Until when a replica is left alone.
    alone: Vec<Mutex<Instant>>,
    port: u16,
    events: u64,
    pub(super) subscribers: Vec<Subscriber>,
    /// Since when each is known to be active.
    active: Mutex<BTreeMap<usize, Instant>>,
    pub(super) written: Mutex<BTreeMap<String, Written>>,
    expected: AtomicU64,
    pub(super) retried: AtomicU64,
    serial: AtomicU64,
    stopped: AtomicBool,
}

impl Subscriber {
    fn new(n: usize) -> Self {
        let of = u64::try_from(n).unwrap_or_default();
        Self {
            id: format!("chaos-{n}"),
            place: format!("s{n}"),
            patient: (!n.is_multiple_of(5)).then_some(of % PATIENTS),
            topical: n % 5 != 4,
            max_count: (n % 3 == 1).then_some(10),
            content: ["id-only", "empty", "full-resource"].get(n % 3).copied().unwrap_or("empty"),
        }
    }

    /// Is a version for it, by what was before?
    pub(super) fn wants(&self, before: Option<Said>, now: Said) -> bool {
        let crossed = now.critical && !before.is_some_and(|before| before.critical);
        self.patient.is_none_or(|patient| patient == now.patient) && (crossed || !self.topical)
    }

    fn resource(&self, port: u16, reason: &str) -> Value {
        let endpoint = format!("http://127.0.0.1:{port}/{}", self.place);
        let mut channel = json!({
            "type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json", "header": ["X-Of: chaos"],
            "extension": [{"url": format!("{IG}backport-timeout"), "valueUnsignedInt": PATIENCE.as_secs()}]
        });
        let filter = match self.patient {
            Some(patient) => format!("Observation?patient=Patient/p{patient}"),
            None => "Observation?status=final".to_owned(),
        };
        let mut one = json!({
            "resourceType": "Subscription", "id": self.id, "status": "requested", "reason": reason, "criteria": filter
        });
        if self.topical {
            if let (Some(most), Some(extensions)) =
                (self.max_count, channel.get_mut("extension").and_then(Value::as_array_mut))
            {
                extensions.push(json!({"url": format!("{IG}backport-max-count"), "valuePositiveInt": most}));
            }
            let content = json!({"url": format!("{IG}backport-payload-content"), "valueCode": self.content});
            set(&mut channel, "_payload", json!({"extension": [content]}));
            set(&mut one, "meta", json!({"profile": [format!("{IG}backport-subscription")]}));
            let filter = json!({"url": format!("{IG}backport-filter-criteria"), "valueString": filter});
            set(&mut one, "_criteria", json!({"extension": [filter]}));
            set(&mut one, "criteria", json!(TOPIC));
        }
        set(&mut one, "channel", channel);
        one
    }
}

fn set(value: &mut Value, name: &str, to: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(name.to_owned(), to);
    }
}

pub(super) fn client() -> anyhow::Result<Client> {
    // A connection that is kept could lead to who is cut off.
    Ok(crate::builder().timeout(ANSWER).pool_idle_timeout(Duration::from_secs(1)).build()?)
}

/// Open access is for callers of its machine, whose name for it is this, also from without its network.
fn host(url: &str) -> String {
    format!("127.0.0.1:{}", url.rsplit(':').next().unwrap_or_default())
}

fn observation(id: &str, said: Said, serial: u64) -> Value {
    let mut one = json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8888-8"}]},
        "subject": {"reference": format!("Patient/p{}", said.patient)},
        "effectiveDateTime": "2024-05-06T07:08:09Z",
        "valueQuantity":
            {"value": serial, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    });
    if said.critical {
        set(&mut one, "interpretation", json!([{"coding": [{"system": INTERPRETATION, "code": "HH"}]}]));
    }
    one
}

/// What is said by a version that was read.
pub(super) fn said(resource: &Value) -> Option<Said> {
    let subject = resource.pointer("/subject/reference")?.as_str()?;
    let patient = subject.strip_prefix("Patient/p")?.parse().ok()?;
    Some(Said { patient, critical: resource.get("interpretation").is_some() })
}

impl Writers {
    pub(super) fn new(plan: &Plan, urls: Vec<String>, port: u16) -> Self {
        Self {
            alone: urls.iter().map(|_| Mutex::new(Instant::now())).collect(),
            urls,
            port,
            events: plan.events,
            subscribers: (0..plan.subscriptions).map(Subscriber::new).collect(),
            active: Mutex::default(),
            written: Mutex::default(),
            expected: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// So many events were answered, at least.
    pub(super) fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed)
    }

    pub(super) fn enough(&self) -> bool {
        self.expected() >= self.events
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn active_since(&self, n: usize) -> Option<Instant> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).get(&n).copied()
    }

    /// Asks one replica after the other until one answers; whether all before had done nothing is not known.
    fn ask(
        &self,
        http: &Client,
        turn: &mut usize,
        long: Duration,
        ask: impl Fn(&Client, &str) -> reqwest::Result<Response>,
    ) -> anyhow::Result<(Response, bool)> {
        let (began, mut doubtful, mut last) = (Instant::now(), false, String::new());
        while began.elapsed() < long {
            *turn = turn.wrapping_add(1);
            let n = *turn % self.urls.len().max(1);
            let (Some(url), Some(alone)) = (self.urls.get(n), self.alone.get(n)) else { continue };
            if *alone.lock().unwrap_or_else(PoisonError::into_inner) > Instant::now() {
                sleep(Duration::from_millis(2));
                continue;
            }
            match ask(http, url) {
                Ok(answer) if answer.status().as_u16() < 500 && answer.status().as_u16() != 409 => {
                    return Ok((answer, doubtful));
                }
                Ok(answer) => last = format!("{} {}", answer.status(), answer.text().unwrap_or_default()),
                Err(error) => {
                    let pause = if error.is_timeout() { ALONE } else { Duration::from_millis(50) };
                    *alone.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + pause;
                    last = error.to_string();
                }
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            doubtful = true;
        }
        anyhow::bail!("nobody answers: {last}")
    }

    /// GET of a path, of whoever answers.
    pub(super) fn get(&self, http: &Client, path: &str) -> anyhow::Result<Value> {
        let get = |http: &Client, url: &str| {
            http.get(format!("{url}/fhir/{path}")).header("host", host(url)).timeout(LONG).send()
        };
        let mut failure = None;
        for mut turn in 0..20 {
            let (answer, _) = self.ask(http, &mut turn, Duration::from_mins(1), get)?;
            let status = answer.status();
            match answer.text() {
                Ok(text) if status.is_success() => return Ok(serde_json::from_str(&text)?),
                Ok(text) if status == 404 => anyhow::bail!("{path}: {text}"),
                Ok(text) => failure = Some(format!("{status} {text}")),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        anyhow::bail!("{path}: {failure:?}")
    }

    fn put(&self, http: &Client, path: &str, body: &Value) -> anyhow::Result<(Response, bool)> {
        let (body, mut turn) = (body.to_string(), usize::try_from(self.serial.load(Ordering::Relaxed))?);
        self.ask(http, &mut turn, Duration::from_mins(2), |http, url| {
            let request = http.put(format!("{url}/fhir/{path}"));
            let request = request.header("host", host(url)).header("content-type", "application/fhir+json");
            request.body(body.clone()).send()
        })
    }

    /// Asks for these, and waits until they are active.
    pub(super) fn subscribe(&self, which: Range<usize>) -> anyhow::Result<()> {
        let http = client()?;
        for n in which.clone() {
            self.request(&http, n, "chaos")?;
        }
        for n in which {
            self.wait_active(&http, n, Duration::from_mins(2))?;
            self.active.lock().unwrap_or_else(PoisonError::into_inner).insert(n, Instant::now());
        }
        Ok(())
    }

    fn request(&self, http: &Client, n: usize, reason: &str) -> anyhow::Result<()> {
        let one = self.subscribers.get(n).context("no such Subscription")?;
        let body = one.resource(self.port, reason);
        let (answer, _) = self.put(http, &format!("Subscription/{}", one.id), &body)?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "{status}: {}", answer.text().unwrap_or_default());
        Ok(())
    }

    /// Waits until it is; asks again if its endpoint did not answer well.
    pub(super) fn wait_active(&self, http: &Client, n: usize, long: Duration) -> anyhow::Result<()> {
        let (began, mut again) = (Instant::now(), 0);
        let one = self.subscribers.get(n).context("no such Subscription")?;
        while began.elapsed() < long {
            let now = self.get(http, &format!("Subscription/{}", one.id))?;
            match now.get("status").and_then(Value::as_str) {
                Some("active") => return Ok(()),
                Some("error" | "off") => {
                    again += 1;
                    self.request(http, n, &format!("again {again}"))?;
                }
                _ => sleep(Duration::from_millis(20)),
            }
        }
        anyhow::bail!("{} is never active", one.id)
    }

    /// Writes a Subscription again while it is told; says whether it did.
    pub(super) fn rewrite(&self, n: usize) -> bool {
        let n = n % self.subscribers.len().max(1);
        // Before it was active once, what it is told begins anew.
        if self.active_since(n).is_none() {
            return false;
        }
        let reason = format!("written again {}", self.serial.fetch_add(1, Ordering::Relaxed));
        client().and_then(|http| self.request(&http, n, &reason)).is_ok()
    }

    /// Writes until there is enough.
    pub(super) fn write(&self, writer: u64, mut dice: Dice) {
        let Ok(http) = client() else { return };
        while !self.stopped.load(Ordering::Relaxed) && !self.enough() {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let hot = dice.below(10) < 3;
            let (id, patient) = if hot {
                let one = dice.below(HOT);
                (format!("hot-{one}"), one % PATIENTS)
            } else {
                (format!("w{writer}-{serial}"), dice.below(PATIENTS))
            };
            let said = Said { patient, critical: dice.below(10) < if hot { 5 } else { 9 } };
            let began = Instant::now();
            self.of(&id, began, |one| one.doubtful |= hot);
            let body = observation(&id, said, serial);
            let put = self.put(&http, &format!("Observation/{id}"), &body);
            let version = put.as_ref().ok().and_then(|(answer, _)| version(answer));
            let doubtful = !put.as_ref().is_ok_and(|(_, doubtful)| !doubtful);
            self.of(&id, began, |one| {
                one.doubtful |= doubtful || version.is_none_or(|version| version != 1);
                if let Some(version) = version {
                    one.answered.insert(version, said);
                    one.tried.insert(version, began);
                }
            });
            if version.is_some() && !hot {
                let wanting = self.subscribers.iter().filter(|one| one.wants(None, said));
                let active = wanting.filter(|one| {
                    one.place
                        .get(1..)
                        .and_then(|n| n.parse().ok())
                        .and_then(|n| self.active_since(n))
                        .is_some()
                });
                self.expected.fetch_add(active.count() as u64, Ordering::Relaxed);
            }
        }
    }

    fn of(&self, id: &str, began: Instant, change: impl FnOnce(&mut Written)) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        change(written.entry(id.to_owned()).or_insert_with(|| Written {
            answered: BTreeMap::new(),
            began,
            tried: BTreeMap::new(),
            doubtful: false,
        }));
    }
}

/// Of an answer that says it was written.
fn version(answer: &Response) -> Option<u64> {
    if !answer.status().is_success() {
        return None;
    }
    let tag = answer.headers().get("etag")?.to_str().ok()?;
    tag.trim_start_matches("W/").trim_matches('"').parse().ok()
}
