//! Versions beside each other on one database, as while they are replaced one by one: what a newer one adds to
//! the schema disturbs no older one, and an older one ends where the newer needs it to.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread::{scope, sleep};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use harness::{Answer, BOTH, Backend, Server, builder};
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::replica::Ends;
use crate::subscriptions::{LONG, observation, plain, subscribe};
use crate::webhook::Webhook;

/// What a later version does first: it adds.
const EXPAND: &str = "SET lock_timeout = '1s'; BEGIN; ALTER TABLE resource ADD COLUMN later TEXT; \
                      ALTER TABLE task ADD COLUMN later BIGINT; ALTER TABLE subscription ADD COLUMN later BIGINT; \
                      CREATE TABLE later (key BIGINT PRIMARY KEY, text TEXT NOT NULL, of BIGINT REFERENCES resource); \
                      CREATE VIEW latest AS SELECT * FROM later; \
                      INSERT INTO __diesel_schema_migrations (version) VALUES ('0007'); COMMIT";
/// And last: it takes away, and says so.
const CONTRACT: &str = "UPDATE schema_support SET oldest = 7";

/// Who ask the servers that a load balancer knows, one after the other. None of them asks twice.
struct Clients {
    urls: RwLock<Vec<String>>,
    http: Client,
    turn: AtomicU64,
}

impl Clients {
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        // Who is taken out is asked nothing more once this is let go.
        let urls = self.urls.read().unwrap();
        let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap();
        let request =
            self.http.request(method.parse().unwrap(), format!("{}{path}", urls[turn % urls.len()]));
        let request = request.header("content-type", "application/fhir+json");
        let answer = match body {
            Some(body) => request.body(body.to_string()).send(),
            None => request.send(),
        };
        Answer::of(answer.unwrap()).unwrap()
    }
}

fn run(url: &str, sql: &str) {
    // Others use the tables: whoever changes them waits for a turn, and not for long at once.
    for tried in 0.. {
        match PgConnection::establish(url).unwrap().batch_execute(sql) {
            Ok(()) => return,
            Err(error) => assert!(tried < 30 && error.to_string().contains("lock timeout"), "{error}"),
        }
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn versions_are_replaced_one_by_one() {
    let mut old = Server::start(Backend::Postgres).unwrap();
    let database = old.database_url().to_owned();
    let hook = Webhook::start();
    let criteria = "Observation?code=http://loinc.org|1234-5";
    subscribe(&old, &plain(criteria, &hook.url("/hook"), Some("application/fhir+json")));

    let (stop, made, searches) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    let http = builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(30)).build().unwrap();
    let clients = Clients { urls: RwLock::new(vec![old.url("")]), http, turn: AtomicU64::new(0) };
    let new = scope(|scope| {
        let _end = Ends(&stop);
        for client in 0..4 {
            let (stop, made, clients, searches) = (&stop, &made, &clients, &searches);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let of = observation(&format!("p{client}"), "1234-5");
                    let answer = clients.send("POST", "/fhir/Observation", Some(&of)).expect(201).unwrap();
                    let id = answer.json["id"].as_str().unwrap().to_owned();
                    let path = format!("/fhir/Observation?patient=p{client}&code=1234-5&_id={id}");
                    let found = clients.send("GET", &path, None).expect(200).unwrap();
                    assert_eq!(found.json["total"], 1, "{}", found.text);
                    made.lock().unwrap().insert(id);
                    let patient = json!({"resourceType": "Patient", "id": format!("q{client}"), "active": turn % 2 == 0});
                    let path = format!("/fhir/Patient/q{client}");
                    let put = clients.send("PUT", &path, Some(&patient));
                    assert!(matches!(put.status, 200 | 201), "{}", put.text);
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let goes_on = || {
            let before = searches.load(Ordering::Relaxed);
            let some = (0..3000).any(|_| {
                sleep(Duration::from_millis(20));
                searches.load(Ordering::Relaxed) >= before + 40
            });
            assert!(some, "clients wait for each other, or have ended");
        };
        goes_on();
        run(&database, EXPAND);
        goes_on();
        let health = old.get("/health").unwrap().expect(200).unwrap().json;
        assert_eq!(health["store"]["schema"], json!({"program": 6, "database": 7, "oldest": 0}));
        let new = Server::start_with(Backend::Sqlite, &[("AUGURY_DATABASE_URL", &database)]).unwrap();
        clients.urls.write().unwrap().push(new.url(""));
        goes_on();
        clients.urls.write().unwrap().retain(|url| *url != old.url(""));
        old.end().unwrap();
        goes_on();
        // Something went wrong with the newer one, say: the older one starts again.
        old.restart().unwrap();
        clients.urls.write().unwrap().push(old.url(""));
        goes_on();
        new
    });
    let made = made.into_inner().unwrap();
    println!("{} Observations while versions changed", made.len());
    let total =
        old.get("/fhir/Observation?code=1234-5&_summary=count").unwrap().json["total"].as_u64().unwrap();
    assert_eq!(total, u64::try_from(made.len()).unwrap());
    let told = |calls: &[crate::webhook::Call]| -> BTreeSet<String> {
        calls.iter().filter_map(|call| call.json()["id"].as_str().map(str::to_owned)).collect()
    };
    let calls = hook.wait(LONG * 3, |calls| told(calls).len() >= made.len());
    assert_eq!(told(&calls), made);
    for server in [&old, &new] {
        let health = server.wait_for("/health", |health| health["status"] == "ok").unwrap();
        assert_eq!(health["audit"]["tables"], json!([]));
        server.get("/health/ready").unwrap().expect(200).unwrap();
    }
    let verified = new.get("/fhir/AuditEvent/$verify").unwrap().expect(200).unwrap();
    assert!(!verified.text.contains("error"), "{}", verified.text);

    run(&database, CONTRACT);
    for server in [&old, &new] {
        server.get("/health/ready").unwrap().expect(503).unwrap();
        let health = server.get("/health").unwrap().expect(503).unwrap().json;
        assert_eq!(
            (&health["status"], &health["store"]["schema"]["oldest"]),
            (&json!("unavailable"), &json!(7))
        );
    }
    old.end().unwrap();
    let refused = old.restart().unwrap_err().to_string();
    assert!(refused.contains("the server ended"), "{refused}");
    let refused = old.command(&["migrate"], "").unwrap_err().to_string();
    assert!(
        refused.contains("too old for the database") && refused.contains("schema 7 and newer"),
        "{refused}"
    );
}

#[test]
fn what_a_newer_version_added_is_left_alone() {
    for backend in BOTH {
        let mut server = Server::start(backend).unwrap();
        let sql = "INSERT INTO __diesel_schema_migrations (version) VALUES ('0007'); CREATE TABLE later (key BIGINT)";
        let url = server.database_url().to_owned();
        let run = |sql: &str| match url.strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = diesel::SqliteConnection::establish(file).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                connection.batch_execute(sql).unwrap();
            }
            None => PgConnection::establish(&url).unwrap().batch_execute(sql).unwrap(),
        };
        run(sql);
        server.command(&["migrate"], "").unwrap();
        server.kill_and_restart().unwrap();
        let health = server.wait_for("/health", |health| health["status"] == "ok").unwrap();
        assert_eq!(health["store"]["schema"]["database"], 7);
        run(CONTRACT);
        server.get("/health/ready").unwrap().expect(503).unwrap();
        server.kill().unwrap();
        assert!(server.restart().is_err());
        // A step back says so too.
        run("UPDATE schema_support SET oldest = 0");
        server.restart().unwrap();
    }
}
