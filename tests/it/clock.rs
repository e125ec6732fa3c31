//! Processes whose clocks differ: one at the database's time, one beside it that is minutes off.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::{Backend, Server};
use serde_json::Value;

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};
use crate::webhook_tokens::issuer;

const EVENTS: u64 = 12;

/// What has a program take the time for another one (Debian's `faketime`).
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| library.exists());
    assert!(found.is_some(), "libfaketime is not there; tests/run.sh installs it");
    found.unwrap()
}

/// Another process on the same database, whose time of day is off by so many seconds.
fn beside(server: &Server, seconds: i64, settings: &[(&str, &str)]) -> Server {
    let (library, off) = (faketime().display().to_string(), format!("{seconds:+}"));
    let clock = [
        ("AUGURY_DATABASE_URL", server.database_url()),
        ("LD_PRELOAD", &library),
        ("FAKETIME", &off),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    Server::start_with(Backend::Postgres, &[&clock, settings].concat()).unwrap()
}

fn clock(server: &Server) -> (Value, i64) {
    let health = server.get("/health").unwrap().expect(200).unwrap().json;
    assert_eq!(health["audit"]["astray"], Value::Null, "{health}");
    (health["clock"]["status"].clone(), health["clock"]["ahead_s"].as_i64().unwrap())
}

/// Seconds since 1970 that are about now.
fn is_now(seconds: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap().abs_diff(seconds) < 60
}

fn sent(call: &Call) -> i64 {
    call.header("webhook-timestamp").parse().unwrap()
}

fn each_once_in_order(seconds: i64) {
    let mut right = Server::start(Backend::Postgres).unwrap();
    let (issuer, hook) = (issuer(), Webhook::start());
    let from = format!("{} token={} client=us key", hook.url("/"), issuer.url("/token"));
    let wrong = beside(&right, seconds, &[("AUGURY_WEBHOOK_TOKENS", &from)]);
    let (quick, slow) = (Webhook::start(), Webhook::start());
    slow.answers(|_| {
        std::thread::sleep(Duration::from_millis(700));
        Mood::Answers(200)
    });
    // Asked for at either, and answered there.
    subscribe(&right, &topical(CRITICAL, &[], &quick.url("/"), "id-only"));
    subscribe(&wrong, &topical(CRITICAL, &[], &slow.url("/"), "id-only"));
    for n in 0..EVENTS {
        let server = if n % 2 == 0 { &right } else { &wrong };
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    for hook in [&quick, &slow] {
        hook.wait(LONG * 3, |calls| calls.iter().flat_map(Call::numbers).any(|number| number == EVENTS));
    }
    std::thread::sleep(Duration::from_secs(1));
    for hook in [&quick, &slow] {
        let calls = hook.calls();
        let numbers: Vec<u64> = calls.iter().flat_map(Call::numbers).collect();
        assert_eq!(numbers, (1..=EVENTS).collect::<Vec<_>>());
        assert_eq!(calls.len(), numbers.len() + 1, "a handshake, and each event");
        assert!(calls.iter().all(|call| is_now(sent(call))), "{calls:?}");
    }
    let (status, ahead) = clock(&right);
    assert!(status == "ok" && ahead.abs() <= 1, "{status} {ahead}");
    let (status, ahead) = clock(&wrong);
    assert!(status == "skewed" && (ahead - seconds).abs() <= 1, "{status} {ahead}");
    assert_eq!(wrong.get("/health").unwrap().json["status"], "degraded");
    let metrics = wrong.get("/metrics").unwrap().text;
    let said = metrics.lines().find_map(|line| line.strip_prefix("augury_clock_skew_seconds ")).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let difference = said.parse::<f64>().unwrap() - seconds as f64;
    assert!(difference.abs() < 1.0, "{said}");

    // Whoever checks what the other alone sends has the right time.
    right.end().unwrap();
    subscribe(&wrong, &topical(CRITICAL, &[], &hook.url("/"), "id-only"));
    wrong.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
    let calls = hook.wait(LONG * 2, |calls| calls.iter().any(|call| call.numbers() == [1]));
    assert!(calls.iter().all(|call| is_now(sent(call))), "{calls:?}");
    let asked = issuer.calls().remove(0).body;
    let assertion = asked.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let (since, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!(is_now(since) && (1..=300).contains(&(ends - since)), "{claims}");
}

#[test]
fn a_clock_that_is_ahead_takes_nothing_from_others() {
    each_once_in_order(600);
}

#[test]
fn a_clock_that_is_behind_keeps_nobody_waiting() {
    each_once_in_order(-600);
}

#[test]
fn a_file_has_the_clock_of_its_machine() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let health = server.get("/health").unwrap().expect(200).unwrap().json;
    assert_eq!((&health["status"], &health["clock"]), (&"ok".into(), &Value::Null));
}
