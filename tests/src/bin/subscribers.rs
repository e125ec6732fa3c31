//! What Subscriptions cost and how quick they are, against a running server on this machine:
//! `subscribers --to 127.0.0.1:8080 --pid PID PHASE`. It is the subscribers' endpoint itself.

#![expect(clippy::print_stdout, reason = "it answers on its standard output")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

/// Allocations cost as much here as in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Writes as fast as they go, with so many Subscriptions that none of them is for.
    Matching,
    /// From a write to its notification, at so many writes a second.
    Latency,
    /// The same beside Subscriptions whose endpoints never answer.
    Dead,
    /// Notifications a second: each write is for all Subscriptions.
    Rate,
    /// Memory of the server while what each write is for all Subscriptions waits.
    Undelivered,
}

#[derive(Debug, Parser)]
struct Options {
    /// Host and port of the server.
    #[arg(long)]
    to: String,
    /// Its process, whose processor time is counted.
    #[arg(long)]
    pid: u32,
    /// How many Subscriptions.
    #[arg(long, default_value_t = 0)]
    subscriptions: u64,
    /// How long, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Writes a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Writes at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    phase: Phase,
}

#[derive(Default)]
struct Seen {
    count: AtomicU64,
    /// Microseconds from write to arrival.
    waits: Mutex<Vec<u64>>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// When it says that it was sent.
fn sent(body: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"sent at ";
    let at = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = body.get(at..at + 16)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn take(seen: web::Data<Seen>, body: web::Bytes) -> HttpResponse {
    let arrived = now();
    if let (Some(sent), Ok(mut waits)) = (sent(&body), seen.waits.lock()) {
        waits.push(arrived.saturating_sub(sent));
    }
    seen.count.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Ok().finish()
}

async fn hang() -> HttpResponse {
    tokio::time::sleep(Duration::from_mins(10)).await;
    HttpResponse::Ok().finish()
}

/// Processor time of a process, in seconds.
fn processor(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no stat")?;
    let parts: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |n: usize| parts.get(n).and_then(|part| part.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// Memory of a process, in MB.
fn memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024)
}

fn observation(patient: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": "2024-05-06T07:08:09Z",
        "valueQuantity": {"value": 7, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "note": [{"text": format!("sent at {:016}", now())}]
    })
}

struct Bench {
    options: Options,
    http: reqwest::Client,
    seen: web::Data<Seen>,
    port: u16,
    /// Of another server, which takes what it is sent and never answers.
    silent: u16,
}

impl Bench {
    async fn post(&self, kind: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.http.post(format!("http://{}/fhir/{kind}", self.options.to));
        let request =
            request.header("content-type", "application/fhir+json").header("prefer", "return=minimal");
        let answer = request.body(body.to_string()).send().await?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// Makes Subscriptions, `many` at once, and waits until all are active.
    async fn subscribe(&self, all: Vec<(String, &str)>) -> anyhow::Result<()> {
        let wanted = all.len();
        let mut left = all.into_iter();
        loop {
            let some: Vec<_> = left.by_ref().take(64).collect();
            if some.is_empty() {
                break;
            }
            let made = some.into_iter().map(|(criteria, path)| {
                let port = if path == "/hangs" { self.silent } else { self.port };
                let endpoint = format!("http://127.0.0.1:{port}{path}");
                let channel = json!({"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json"});
                let body = json!({"resourceType": "Subscription", "status": "requested", "reason": "bench", "criteria": criteria, "channel": channel});
                async move { self.post("Subscription", &body).await }
            });
            for done in futures_util::future::join_all(made).await {
                done?;
            }
        }
        let began = Instant::now();
        loop {
            let path = format!("http://{}/fhir/Subscription?status=active&_summary=count", self.options.to);
            let count: Value = serde_json::from_str(&self.http.get(path).send().await?.text().await?)?;
            let total = count.get("total").and_then(Value::as_u64).unwrap_or_default();
            if total >= wanted as u64 {
                return self.settle().await;
            }
            ensure!(began.elapsed() < Duration::from_mins(5), "only {total} are active");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the server has done what follows from its Subscriptions' beginning, such as sealing the trail of it.
    async fn settle(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let before = processor(self.options.pid)?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if processor(self.options.pid)? - before < 0.06 || began.elapsed() > Duration::from_secs(30) {
                return Ok(());
            }
        }
    }

    /// Writes at a steady pace, whatever the answers take.
    async fn paced(self: &Arc<Self>) -> anyhow::Result<()> {
        let gap = Duration::from_micros(1_000_000 / self.options.rate.max(1));
        let mut tick = tokio::time::interval(gap);
        let mut under_way = Vec::new();
        for n in 0..self.options.rate * self.options.seconds {
            tick.tick().await;
            let of = Arc::clone(self);
            let patient = format!("p{}", n % self.options.subscriptions.clamp(1, 900));
            under_way.push(tokio::spawn(async move { of.post("Observation", &observation(&patient)).await }));
        }
        for one in under_way {
            one.await??;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    fn waits(&self) -> (usize, f64, f64) {
        let mut waits = self.seen.waits.lock().map(|waits| waits.clone()).unwrap_or_default();
        waits.sort_unstable();
        let at =
            |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default() as f64 / 1000.0;
        (waits.len(), at(50), at(99))
    }

    async fn matching(self: &Arc<Self>) -> anyhow::Result<Value> {
        let of =
            |n| (format!("Observation?patient=Patient/nobody-{n}&code=http://loinc.org|1234-5"), "/taken");
        self.subscribe((0..self.options.subscriptions).map(of).collect()).await?;
        let end = Instant::now() + Duration::from_secs(self.options.seconds);
        let (before, began) = (processor(self.options.pid)?, Instant::now());
        let writers = (0..self.options.connections).map(|n| {
            let of = Arc::clone(self);
            tokio::spawn(async move {
                let mut count = 0_u64;
                while Instant::now() < end {
                    of.post("Observation", &observation(&format!("p{n}"))).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        });
        let mut count = 0;
        for writer in writers.collect::<Vec<_>>() {
            count += writer.await??;
        }
        let (seconds, used) = (began.elapsed().as_secs_f64(), processor(self.options.pid)? - before);
        Ok(
            json!({"writes": count, "rate": count as f64 / seconds, "processor_us": 1e6 * used / count as f64}),
        )
    }

    async fn latency(self: &Arc<Self>, dead: u64) -> anyhow::Result<Value> {
        let live = self.options.subscriptions.saturating_sub(dead).max(1);
        let mut all: Vec<(String, &str)> =
            (0..live).map(|n| (format!("Observation?patient=Patient/p{n}"), "/taken")).collect();
        all.extend((0..dead).map(|n| (format!("Observation?patient=Patient/p{n}"), "/hangs")));
        self.subscribe(all).await?;
        self.paced().await?;
        let (count, middle, late) = self.waits();
        Ok(json!({"arrived": count, "p50_ms": middle, "p99_ms": late}))
    }

    async fn undelivered(self: &Arc<Self>) -> anyhow::Result<Value> {
        let of = |_| ("Observation?code=http://loinc.org|1234-5".to_owned(), "/hangs");
        self.subscribe((0..self.options.subscriptions).map(of).collect()).await?;
        let before = memory(self.options.pid)?;
        let writes = self.options.rate;
        for n in 0..writes {
            self.post("Observation", &observation(&format!("p{n}"))).await?;
        }
        let (wanted, began) = (writes * self.options.subscriptions, Instant::now());
        let mut most = 0;
        loop {
            let path = format!("http://{}/health", self.options.to);
            let health: Value = serde_json::from_str(&self.http.get(path).send().await?.text().await?)?;
            let waiting = health.pointer("/subscriptions/undelivered").and_then(Value::as_u64);
            most = most.max(memory(self.options.pid)?);
            if waiting.unwrap_or_default() >= wanted {
                break;
            }
            ensure!(began.elapsed() < Duration::from_mins(10), "only {waiting:?} events: {health}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Those that are tried again, and again in vain, meanwhile.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            most = most.max(memory(self.options.pid)?);
        }
        Ok(json!({"events": wanted, "before_mb": before, "with_mb": most}))
    }

    async fn delivery(self: &Arc<Self>) -> anyhow::Result<Value> {
        let of = |_| ("Observation?code=http://loinc.org|1234-5".to_owned(), "/taken");
        self.subscribe((0..self.options.subscriptions).map(of).collect()).await?;
        let (before, began) = (processor(self.options.pid)?, Instant::now());
        let writes = self.options.rate;
        for n in 0..writes {
            self.post("Observation", &observation(&format!("p{n}"))).await?;
        }
        let wanted = writes * self.options.subscriptions;
        while self.seen.count.load(Ordering::Relaxed) < wanted {
            ensure!(began.elapsed() < Duration::from_mins(10), "not all arrived");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (seconds, used) = (began.elapsed().as_secs_f64(), processor(self.options.pid)? - before);
        Ok(
            json!({"notifications": wanted, "rate": wanted as f64 / seconds, "per_core_second": wanted as f64 / used}),
        )
    }
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.to.starts_with("127.0.0.1:"), "load is for this machine alone");
    let seen = web::Data::new(Seen::default());
    let shared = seen.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .app_data(web::PayloadConfig::new(1 << 20))
            .route("/taken/{rest:.*}", web::to(take))
    });
    let server = server.workers(1).bind(("127.0.0.1", 0))?;
    let dead = HttpServer::new(|| App::new().route("/hangs/{rest:.*}", web::to(hang)));
    let dead = dead.workers(1).bind(("127.0.0.1", 0))?;
    let port = server.addrs().first().context("no address")?.port();
    let silent = dead.addrs().first().context("no address")?.port();
    actix_web::rt::spawn(server.run());
    actix_web::rt::spawn(dead.run());
    let http = harness::client()?;
    let phase = options.phase;
    let bench = Arc::new(Bench { options, http, seen, port, silent });
    let result = match phase {
        Phase::Matching => bench.matching().await?,
        Phase::Latency => bench.latency(0).await?,
        Phase::Dead => bench.latency(bench.options.subscriptions / 10).await?,
        Phase::Rate => bench.delivery().await?,
        Phase::Undelivered => bench.undelivered().await?,
    };
    println!("{result}");
    Ok(())
}
