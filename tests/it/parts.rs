//! PostgreSQL's tables are in parts: nobody who asks notices where one ends.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use harness::{Answer, BOTH, Backend, Server, instant};
use serde_json::{Value, json};

use crate::subscriptions::{CRITICAL, LONG, critical, subscribe, topical};
use crate::webhook::{Call, Mood, Webhook};

fn run(server: &Server, sql: &str) {
    PgConnection::establish(server.database_url()).unwrap().batch_execute(sql).unwrap();
}

/// The time of the last parts is over, and somebody looks.
fn cut(server: &Server) {
    run(
        server,
        "DO $$ DECLARE part text; BEGIN FOR part IN SELECT c.relname FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid \
         WHERE inhparent IN ('audit'::regclass, 'history'::regclass) AND c.relname NOT LIKE '%1990' LOOP \
         EXECUTE format('ALTER TABLE %I RENAME TO %I', part, regexp_replace(part, '[0-9]+$', '1990')); \
         END LOOP; END $$",
    );
    server.command(&["client", "list"], "").unwrap();
}

/// Id and version of each, over all pages.
fn versions(server: &Server, path: &str) -> Vec<(String, String)> {
    let (mut next, mut found) = (Some(server.url(path)), Vec::new());
    while let Some(url) = next {
        let page = Answer::of(server.http().get(url).send().unwrap()).unwrap().expect(200).unwrap().json;
        for entry in page["entry"].as_array().into_iter().flatten() {
            let text = |at: &str| entry.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            found.push((text("/resource/id"), text("/resource/meta/versionId")));
        }
        let links = page["link"].as_array().unwrap();
        let link = links.iter().find(|link| link["relation"] == "next");
        next = link.map(|link| link["url"].as_str().unwrap().to_owned());
    }
    found
}

#[test]
fn versions_of_many_parts_are_one_history() {
    let server = Server::start(Backend::Postgres).unwrap();
    let put = |id: &str, version: u32| {
        let patient = json!({"resourceType": "Patient", "id": id, "multipleBirthInteger": version});
        let put = server.put(&format!("/fhir/Patient/{id}"), &patient).unwrap();
        assert!(matches!(put.status, 200 | 201), "{}", put.text);
        put.json["meta"]["lastUpdated"].as_str().unwrap().to_owned()
    };
    put("q", 1);
    let times: Vec<String> = (1..=7)
        .map(|version| {
            if version % 3 == 0 {
                cut(&server);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            put("p", version)
        })
        .collect();
    put("q", 2);
    let of = |id: &str, versions: std::ops::RangeInclusive<u32>| -> Vec<(String, String)> {
        versions.rev().map(|version| (id.to_owned(), version.to_string())).collect()
    };
    for version in 1..=7 {
        let read = server.get(&format!("/fhir/Patient/p/_history/{version}")).unwrap().expect(200).unwrap();
        assert_eq!(read.json["multipleBirthInteger"], version);
    }
    server.get("/fhir/Patient/p/_history/8").unwrap().expect(404).unwrap();
    for count in [1, 2, 50] {
        assert_eq!(versions(&server, &format!("/fhir/Patient/p/_history?_count={count}")), of("p", 1..=7));
        let since = format!("/fhir/Patient/_history?_count={count}&_since={}", times[2]);
        assert_eq!(versions(&server, &since), [of("q", 2..=2), of("p", 3..=7)].concat());
    }
    let at = format!("/fhir/Patient/_history?_at={}", times[4]);
    assert_eq!(versions(&server, &at), [of("p", 4..=5), of("q", 1..=1)].concat(), "it is of a millisecond");
    let health = server.wait_for("/health", |health| health["status"] == "ok").unwrap();
    assert_eq!((&health["store"]["parts"], &health["audit"]["tables"]), (&Value::Null, &json!([])));
    let verified = server.get("/fhir/AuditEvent/$verify").unwrap().expect(200).unwrap();
    assert_eq!(
        verified.json["parameter"][0],
        json!({"name": "result", "valueBoolean": true}),
        "{}",
        verified.text
    );
}

/// Events that happened on other days are told in their order, whichever part they are in.
#[test]
fn what_happened_over_days_is_told_in_order() {
    const DAY: i64 = 86_400_000_000;
    let server = Server::start(Backend::Postgres).unwrap();
    let hook = Webhook::start();
    let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/hook"), "id-only"));
    hook.answers(|_| Mood::Answers(503));
    for _ in 0..6 {
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
    }
    server.wait_for("/health", |health| health["subscriptions"]["undelivered"] == 6).unwrap();
    // Two of a day that has no part, two of one that is made for them, and one of tomorrow, by a clock that is ahead.
    run(
        &server,
        &format!(
            "DO $$ DECLARE low bigint := (SELECT MIN(at) FROM event) / {DAY} * {DAY} - 2 * {DAY}; BEGIN \
             EXECUTE format('CREATE TABLE event_before PARTITION OF event FOR VALUES FROM (%s) TO (%s)', low, low + {DAY}); \
             END $$; UPDATE event SET at = at - 5 * {DAY} WHERE number IN (1, 2); \
             UPDATE event SET at = at - 2 * {DAY} WHERE number IN (3, 4); \
             UPDATE event SET at = at + {DAY} WHERE number = 5"
        ),
    );
    hook.answers(|_| Mood::Answers(200));
    let taken = |calls: &[Call]| -> Vec<u64> {
        calls.iter().filter(|call| call.status == 200).flat_map(Call::numbers).collect()
    };
    let calls = hook.wait(LONG * 3, |calls| taken(calls).len() >= 6);
    assert_eq!(taken(&calls), [1, 2, 3, 4, 5, 6]);
    let events = server.get(&format!("/fhir/Subscription/{id}/$events?eventsSinceNumber=2")).unwrap();
    assert_eq!(numbers(&events.expect(200).unwrap().json), ["2", "3", "4", "5", "6"]);
}

/// Of events, wherever they are said.
fn numbers(of: &Value) -> Vec<String> {
    match of {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        Value::Object(one) if one.get("name") == Some(&json!("event-number")) => {
            vec![one["valueString"].as_str().unwrap().to_owned()]
        }
        Value::Object(one) => one.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn parts_that_can_not_be_made_are_told_and_hold_nothing_up() {
    let mut server = Server::start(Backend::Postgres).unwrap();
    run(
        &server,
        "DO $$ BEGIN EXECUTE format('ALTER TABLE %s RENAME TO audit_0_1990', (SELECT inhrelid::regclass FROM pg_inherits \
         WHERE inhparent = 'audit'::regclass)); \
         EXECUTE format('CREATE TABLE audit_1_%s (key bigint)', to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')); END $$",
    );
    server.kill_and_restart().unwrap();
    let health = server.wait_for("/health", |health| health["status"] == "degraded").unwrap();
    assert!(health["store"]["parts"].is_string(), "{health}");
    let patient = json!({"resourceType": "Patient", "id": "p"});
    server.put("/fhir/Patient/p", &patient).unwrap().expect(201).unwrap();
    server.get("/fhir/Patient/p").unwrap().expect(200).unwrap();
    run(
        &server,
        "DO $$ BEGIN EXECUTE format('DROP TABLE audit_1_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')); END $$",
    );
    server.kill_and_restart().unwrap();
    let health = server.wait_for("/health", |health| health["status"] == "ok").unwrap();
    assert_eq!(health["store"]["parts"], Value::Null);
}

#[test]
fn old_versions_are_dropped_when_an_operator_says_so() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        for version in 1..=3 {
            // No model reads it.
            let one = json!({"resourceType": "Organization", "id": "o", "name": format!("v{version}")});
            server.put("/fhir/Organization/o", &one).unwrap();
        }
        let assessment = json!({"resourceType": "RiskAssessment", "id": "r", "status": "final",
            "subject": {"reference": "Patient/p"}, "basis": [{"reference": "Organization/o/_history/2"}]});
        server.put("/fhir/RiskAssessment/r", &assessment).unwrap().expect(201).unwrap();
        // It was an hour ago.
        let sql =
            ["resource", "history"].map(|table| format!("UPDATE {table} SET updated = updated - 3600000000"));
        match server.database_url().strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = diesel::SqliteConnection::establish(file).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                connection.batch_execute(&sql.join(";")).unwrap();
            }
            None => run(&server, &sql.join(";")),
        }
        let seconds = |ahead: u64| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + ahead - 1800;
        let drop = |more: &[&str], before: &str| {
            server.command(&[&["history", "drop", "--before", before], more].concat(), "")
        };
        let now = instant(seconds(0));
        assert!(drop(&[], &instant(seconds(3600))).unwrap_err().to_string().contains("yet to come"));
        assert!(drop(&[], "yesterday").unwrap_err().to_string().contains("is no date"));
        assert!(drop(&[], "2020-01-01").unwrap().contains("nothing went"));
        let said = drop(&["--dry-run"], &now).unwrap();
        assert!(said.contains("versions would go") && said.contains("1 versions stay"), "{backend:?} {said}");
        server.get("/fhir/Organization/o/_history/1").unwrap().expect(200).unwrap();
        let said = drop(&[], &now).unwrap();
        assert!(said.contains("versions went"), "{backend:?} {said}");
        server.get("/fhir/Organization/o/_history/1").unwrap().expect(404).unwrap();
        server.get("/fhir/Organization/o/_history/2").unwrap().expect(200).unwrap();
        server.get("/fhir/Organization/o").unwrap().expect(200).unwrap();
        assert_eq!(versions(&server, "/fhir/Organization/o/_history").len(), 2);
        let trail = server.get("/fhir/AuditEvent?_count=100").unwrap().expect(200).unwrap().text;
        assert!(trail.contains("old versions of before"), "{backend:?}");
    }
}
