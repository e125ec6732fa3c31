//! Every event of the trail reaches all who are to have it, in its order, whatever happens on the way; and
//! the heads of the log their witnesses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::{BOTH, Backend, Folder, Server};
use serde_json::{Value, json};

use crate::receivers::{Got, Mood, Receiver};
use crate::tls::certificates;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn load(server: &Server, many: usize) {
    for n in 0..many {
        let body = json!({"resourceType": "Patient", "id": format!("p{n}")});
        let _ = server.put(&format!("/fhir/Patient/p{n}"), &body);
        let _ = server.get(&format!("/fhir/Patient/p{n}"));
        let _ = server.get("/fhir/Patient?name=x");
    }
}

fn nothing_waits(server: &Server) -> bool {
    let health = server.get("/health").unwrap().json;
    let receivers = health["audit"]["forward"].as_array().unwrap();
    receivers.len() == 2
        && receivers.iter().all(|one| one["waiting"] == 0)
        && health["audit"]["unsealed_s"] == 0
}

/// The first time that each event came, in that order; the same id never comes as another event.
fn once(all: &[Got]) -> Vec<String> {
    let mut known: BTreeMap<&str, &Got> = BTreeMap::new();
    let mut ids = Vec::new();
    for got in all {
        let text = |got: &Got| {
            got.text.split_once("[auditEvent").map_or_else(|| got.text.clone(), |(_, rest)| rest.to_owned())
        };
        match known.insert(&got.id, got) {
            Some(before) => assert_eq!(text(before), text(got)),
            None => ids.push(got.id.clone()),
        }
    }
    ids
}

fn place(server: &Server, id: &str) -> u64 {
    let proof = server.get(&format!("/fhir/AuditEvent/{id}/$proof")).unwrap().expect(200).unwrap().json;
    let all = proof["parameter"].as_array().unwrap().iter();
    all.clone().find(|one| one["name"] == "index").unwrap()["valueDecimal"].as_u64().unwrap()
}

fn is_a_message(got: &Got) {
    let (head, xml) = got.text.split_once('\u{feff}').unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    assert!(matches!(words[0], "<85>1" | "<84>1"), "{head}");
    assert!(matches!(words[5], "IHE+RFC-3881" | "DICOM+RFC3881"), "{head}");
    assert_eq!((words[3], words[2]), ("augury", "127.0.0.1"));
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(start) => names.push(start.name().as_ref().to_owned()),
            _ => {}
        }
    }
    assert_eq!(names[0], "AuditMessage");
    assert!(names.iter().any(|name| name == "ActiveParticipant"), "{xml}");
}

#[test]
fn every_event_arrives_in_order_through_failures_and_kills() {
    for backend in BOTH {
        let folder = Folder::new().unwrap();
        certificates(folder.path());
        let (feed, syslog) = (Receiver::feed(), Receiver::syslog(folder.path()));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let to = format!("http://127.0.0.1:{}/fhir,syslog+tls://127.0.0.1:{}", feed.port, syslog.port);
        let header = format!("http://127.0.0.1:{} Authorization: Bearer let-me-in", feed.port);
        let settings = [
            ("AUGURY_AUDIT_FORWARD", to.as_str()),
            ("AUGURY_AUDIT_HEADERS", header.as_str()),
            ("AUGURY_AUDIT_CA", &path("ca.pem")),
            ("AUGURY_AUDIT_TLS_CERT", &path("emr.pem")),
            ("AUGURY_AUDIT_TLS_KEY", &path("emr.key")),
        ];
        let mut server = Server::start_with(backend, &settings).unwrap();
        load(&server, 20);
        until("a first event", || !feed.all().is_empty() && !syslog.all().is_empty());
        for (round, moods) in [
            vec![Mood::Fails, Mood::Cuts, Mood::Fails],
            vec![Mood::Forgets, Mood::Halves],
            vec![Mood::Halves, Mood::Forgets, Mood::Cuts],
        ]
        .into_iter()
        .enumerate()
        {
            feed.moods.lock().unwrap().extend(moods);
            load(&server, 40);
            if round == 1 {
                feed.restart(Duration::from_millis(300));
            }
            syslog.restart(Duration::from_millis(200));
            load(&server, 10);
            std::thread::sleep(Duration::from_millis(700));
            server.kill_and_restart().unwrap();
        }
        // While one hangs, the other gets what there is.
        feed.moods.lock().unwrap().push_back(Mood::Hangs);
        load(&server, 10);
        let (before, held) = (once(&syslog.all()).len(), once(&feed.all()).len());
        load(&server, 10);
        until("the other", || once(&syslog.all()).len() >= before + 30);
        assert!(once(&feed.all()).len() <= held + 130, "it hangs");
        let wanted = {
            until("all that there is", || nothing_waits(&server));
            server.get("/fhir/AuditEvent?_summary=count").unwrap().json["total"].as_u64().unwrap()
        };
        until("all that there is", || nothing_waits(&server));
        let (by_feed, by_syslog) = (once(&feed.all()), once(&syslog.all()));
        syslog.all().iter().for_each(is_a_message);
        for (name, ids) in [("feed", &by_feed), ("syslog", &by_syslog)] {
            assert!(ids.len() as u64 >= wanted, "{backend:?} {name}: {} of {wanted}", ids.len());
            for (expected, id) in (0..).zip(ids) {
                assert_eq!(place(&server, id), expected, "{backend:?} {name}: AuditEvent/{id}");
            }
        }
        let verified = server.get("/fhir/AuditEvent/$verify").unwrap().expect(200).unwrap();
        assert_eq!(verified.json["parameter"][0]["valueBoolean"], true, "{}", verified.text);
        println!(
            "{backend:?}: {wanted} events, {} posted and {} written for it, 3 kills",
            feed.all().len(),
            syslog.all().len()
        );
    }
}

#[test]
fn only_what_a_receiver_has_counts_as_arrived() {
    let feed = Receiver::feed();
    let to = format!("http://127.0.0.1:{}/fhir", feed.port);
    let settings =
        [("AUGURY_AUDIT_FORWARD", to.as_str()), ("AUGURY_AUDIT_HEADERS", "Authorization: Bearer let-me-in")];
    // Small ones at first, one by one perhaps, and then a load.
    feed.moods.lock().unwrap().extend([Mood::Denies, Mood::Greets, Mood::Knows]);
    let server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    server.get("/fhir/Patient?name=x").unwrap();
    until("a first event", || !feed.all().is_empty() && feed.moods.lock().unwrap().is_empty());
    feed.moods.lock().unwrap().extend([Mood::Denies]);
    feed.moods.lock().unwrap().extend([Mood::Small; 8]);
    load(&server, 60);
    let wanted = server.get("/fhir/AuditEvent?_summary=count").unwrap().json["total"].as_u64().unwrap();
    until("all of them", || once(&feed.all()).len() as u64 >= wanted);
    for (expected, id) in (0..).zip(once(&feed.all())) {
        assert_eq!(place(&server, &id), expected);
    }
}

#[test]
fn of_two_processes_one_sends() {
    for backend in BOTH {
        let feed = Receiver::feed();
        let to = format!("http://127.0.0.1:{}/fhir", feed.port);
        let settings = [
            ("AUGURY_AUDIT_FORWARD", to.as_str()),
            ("AUGURY_AUDIT_HEADERS", "Authorization: Bearer let-me-in"),
        ];
        let one = Server::start_with(backend, &settings).unwrap();
        let url = one.database_url().to_owned();
        let with = [settings[0], settings[1], ("AUGURY_DATABASE_URL", url.as_str())];
        let other = Server::start_with(backend, &with).unwrap();
        load(&one, 20);
        load(&other, 20);
        let count = || one.get("/fhir/AuditEvent?_summary=count").unwrap().json["total"].as_u64().unwrap();
        let wanted = count();
        until("all of them", || once(&feed.all()).len() as u64 >= wanted);
        assert_eq!(feed.all().len(), once(&feed.all()).len(), "{backend:?}: each once");
    }
}

pub(crate) fn intrude(server: &Server, sql: &str) {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;
    let url = server.database_url();
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut connection = diesel::SqliteConnection::establish(path).unwrap();
            connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
            connection.batch_execute(sql).unwrap();
        }
        None => diesel::PgConnection::establish(url).unwrap().batch_execute(sql).unwrap(),
    }
}

/// What the command says, and with which code it ends.
fn verified(server: &Server) -> (Option<i32>, String) {
    let folder = Folder::new().unwrap();
    let mut command = harness::command(&["audit", "verify"]).unwrap();
    command.env("AUGURY_DATABASE_URL", server.database_url()).env("AUGURY_DATA_DIR", folder.path());
    let ended = command.output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_part_of_the_trail_that_is_gone_is_named() {
    for backend in BOTH {
        let mut server = Server::start(backend).unwrap();
        load(&server, 1);
        server.kill().unwrap();
        for (table, what) in [
            ("audit", "the events of"),
            ("audit_agent", "the ones who did it"),
            ("audit_run", "the parts of the index"),
            ("audit_index", "the pages of the index"),
            ("audit_block", "the leaves of the log"),
            ("audit_head", "the signed heads"),
            ("audit_retired", "what left by policy"),
            ("audit_destination", "the receivers"),
        ] {
            intrude(&server, &format!("ALTER TABLE {table} RENAME TO lost"));
            let (code, said) = verified(&server);
            let gone = format!("are gone: there is no table {table}\n");
            assert!(code == Some(1) && said.contains(what) && said.contains(&gone), "{backend:?} {said}");
            intrude(&server, &format!("ALTER TABLE lost RENAME TO {table}"));
        }
        assert_eq!(verified(&server).0, Some(0), "{backend:?}");
    }
}

#[test]
fn harm_to_what_was_sealed_long_ago_is_told_too() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let health = || server.get("/health").unwrap().json;
        load(&server, 200);
        until("the log", || health()["audit"]["unsealed_s"] == 0);
        std::thread::sleep(Duration::from_millis(1500));
        intrude(&server, "UPDATE audit_block SET leaves = 'nonsense' WHERE first = 256");
        until("the alarm", || health()["status"] == "degraded");
        assert_eq!(health()["audit"]["astray"]["found"], 256);
        let (code, verified) = verified(&server);
        assert!(
            code == Some(1) && verified.contains("of which the first 256 could be compared"),
            "{verified}"
        );
        let alarms = server.get("/fhir/AuditEvent?subtype=alarm&_total=accurate").unwrap();
        assert_eq!(alarms.json["total"], 1, "{}", alarms.json);
        server.command(&["audit", "accept", "--reason", "a test"], "").unwrap();
        until("the end of it", || health()["status"] == "ok");
        assert_eq!(
            server.get("/fhir/AuditEvent/$verify").unwrap().json["parameter"][0]["valueBoolean"],
            true
        );
    }
}

#[test]
fn what_can_keep_events_out_of_the_trail_is_told() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let health = || server.get("/health").unwrap().json;
        load(&server, 1);
        until("the log", || health()["audit"]["unsealed_s"] == 0);
        for table in ["audit_agent", "audit_head", "audit_index", "audit"] {
            for stands_in in [false, true] {
                intrude(&server, &format!("ALTER TABLE {table} RENAME TO lost"));
                if stands_in {
                    intrude(&server, &format!("CREATE VIEW {table} AS SELECT * FROM lost"));
                }
                until(table, || {
                    let health = health();
                    health["status"] == "degraded" && health["audit"]["tables"].to_string().contains(table)
                });
                if stands_in {
                    intrude(&server, &format!("DROP VIEW {table}"));
                }
                intrude(&server, &format!("ALTER TABLE lost RENAME TO {table}"));
                until("the end of it", || health()["status"] == "ok");
            }
        }
        let (made, dropped) = match backend {
            Backend::Sqlite => (
                "CREATE TRIGGER t1 AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE key = new.key; END",
                "DROP TRIGGER t1",
            ),
            Backend::Postgres => (
                "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                 CREATE TRIGGER t1 BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION swallow()",
                "DROP TRIGGER t1 ON audit",
            ),
        };
        intrude(&server, made);
        assert_eq!(server.delete("/fhir/Patient/p0").unwrap().status, 500);
        until("the alarm", || health()["status"] == "degraded");
        let (code, said) = verified(&server);
        assert!(code == Some(1) && said.contains("the trigger t1 at the table audit"), "{said}");
        intrude(&server, dropped);
        until("the end of it", || health()["status"] == "ok");
        assert_eq!(server.get("/fhir/Patient/p0").unwrap().status, 200);
        // What could not be recorded then is now, and once.
        let told = |what: &str| {
            let found = server.get("/fhir/AuditEvent?subtype=alarm&_count=100").unwrap().json;
            found["entry"].as_array().unwrap().iter().filter(|one| one.to_string().contains(what)).count()
        };
        until("the alarm is recorded", || told("the trigger t1") == 1);

        // What vanishes before it is sealed is an alarm too, and is told as long as this process lives.
        let gone = if matches!(backend, Backend::Sqlite) {
            "DELETE FROM audit WHERE key = (SELECT MAX(key) FROM audit)"
        } else {
            "DELETE FROM audit WHERE key = (SELECT MAX(key) FROM audit) AND epoch > \
             (SELECT MAX(epoch) FROM audit_block)"
        };
        until("an event that is not sealed yet", || {
            load(&server, 1);
            intrude(&server, gone);
            health()["audit"]["vanished"] != 0 || health()["audit"]["astray"].is_object()
        });
        until("the alarm", || told("before they were in the log") > 0);
        assert_eq!(health()["status"], "degraded");
    }
}

#[test]
fn a_log_that_was_put_back_is_told_and_accepted() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let audit = || server.get("/health").unwrap().json;
        load(&server, 5);
        until("the log", || audit()["audit"]["unsealed_s"] == 0);
        std::thread::sleep(Duration::from_millis(1500));
        // On PostgreSQL sealing may hold the same rows.
        intrude(
            &server,
            "DELETE FROM audit_head; DELETE FROM audit_block; DELETE FROM audit_run; DELETE FROM audit_index",
        );
        until("the alarm", || audit()["audit"]["astray"].is_object());
        let health = audit();
        assert_eq!((&health["status"], &health["audit"]["astray"]["found"]), (&json!("degraded"), &json!(0)));
        assert!(server.get("/metrics").unwrap().text.contains("augury_audit_astray 1"));
        let verified = |server: &Server| -> Value { server.get("/fhir/AuditEvent/$verify").unwrap().json };
        assert_eq!(verified(&server)["parameter"][0]["valueBoolean"], false);
        let said = server.command(&["audit", "accept", "--reason", "a test"], "").unwrap();
        assert!(said.contains("0 events"), "{said}");
        until("the end of it", || audit()["status"] == "ok" && audit()["audit"]["astray"].is_null());
        until("nothing wrong", || verified(&server)["parameter"][0]["valueBoolean"] == true);
        let found = server.get("/fhir/AuditEvent?subtype=accept,alarm&_sort=_id").unwrap().json;
        let codes: Vec<&Value> = found["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["resource"]["subtype"][0]["code"])
            .collect();
        assert_eq!(codes, ["alarm", "accept"]);
    }
}

#[test]
fn a_witness_that_hangs_keeps_no_end_waiting() {
    let hook = Receiver::feed();
    hook.moods.lock().unwrap().extend([Mood::Hangs; 3]);
    let to = format!("http://127.0.0.1:{}/hook", hook.port);
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUDIT_WITNESS", &to)]).unwrap();
    load(&server, 2);
    until("a first head", || hook.moods.lock().unwrap().len() < 3);
    let pid = server.pid().to_string();
    let began = Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // Whoever has ended is a zombie until the test waits for it.
    until("the end", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn each_witness_is_shown_the_heads() {
    let (hook, syslog) = (Receiver::feed(), Receiver::plain());
    hook.moods.lock().unwrap().extend([Mood::Fails, Mood::Cuts]);
    let folder = Folder::new().unwrap();
    let file = folder.path().join("deep/heads");
    let to = format!(
        "{},http://127.0.0.1:{}/hook?secret=1,syslog+tcp://127.0.0.1:{},http://127.0.0.1:9/",
        file.display(),
        hook.port,
        syslog.port
    );
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUDIT_WITNESS", &to)]).unwrap();
    until("each of them", || file.exists() && !hook.all().is_empty() && !syslog.all().is_empty());
    let is_a_head =
        |text: &str| text.starts_with("augury.dev/audit\n") && text.contains("\u{2014} augury.dev/audit ");
    assert!(is_a_head(&hook.all()[0].text));
    let message = &syslog.all()[0].text;
    assert!(is_a_head(message.split_once('\u{feff}').unwrap().1), "{message}");
    assert!(is_a_head(&std::fs::read_to_string(&file).unwrap()));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let health = server.get("/health").unwrap().json;
    let failing = health["audit"]["witnesses_failing"].as_array().unwrap();
    assert_eq!(failing.len(), 1);
    assert!(failing[0].as_str().unwrap().starts_with("http://127.0.0.1:9 "), "{failing:?}");
    assert_eq!(health["status"], "ok");
}
