//! Processes whose clocks differ: one at the database's time, one beside it that is minutes off.

use std::path::PathBuf;
use std::time::Duration;

use harness::{Backend, Server};
use serde_json::Value;

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

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
pub(crate) fn beside(server: &Server, seconds: i64) -> Server {
    let (library, off) = (faketime().display().to_string(), format!("{seconds:+}"));
    let settings = [
        ("AUGURY_DATABASE_URL", server.database_url()),
        ("LD_PRELOAD", &library),
        ("FAKETIME", &off),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    Server::start_with(Backend::Postgres, &settings).unwrap()
}

fn clock(server: &Server) -> (Value, i64) {
    let health = server.get("/health").unwrap().expect(200).unwrap().json;
    assert_eq!(health["audit"]["astray"], Value::Null, "{health}");
    (health["clock"]["status"].clone(), health["clock"]["ahead_s"].as_i64().unwrap())
}

fn each_once_in_order(seconds: i64) {
    let right = Server::start(Backend::Postgres).unwrap();
    let wrong = beside(&right, seconds);
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
