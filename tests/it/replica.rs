//! Searches that a replica of PostgreSQL answers: nobody finds less there than was answered before, whatever
//! becomes of the replica.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use harness::{Backend, Folder, Server, command, free_port};
use serde_json::{Value, json};

/// Clients at once, and how often each writes and searches.
const CLIENTS: usize = 8;
const ROUNDS: usize = 150;

/// A PostgreSQL of the test's own.
struct Cluster {
    data: PathBuf,
    port: u16,
}

/// PostgreSQL refuses to run as root.
fn postgres(program: &str) -> Command {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = newest.map(|one| one.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    let path = newest.map_or_else(|| PathBuf::from(program), |bin| bin.join(program));
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut command = if id.stdout == b"0\n" {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    // What it starts in the background would hold the pipes of the test.
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A folder that PostgreSQL may write to.
fn folder() -> Folder {
    let folder = Folder::new().unwrap();
    let _ = Command::new("chown").arg("postgres").arg(folder.path()).status();
    folder
}

fn ran(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}

impl Cluster {
    fn primary(folder: &Folder) -> Self {
        let cluster = Self { data: folder.path().join("primary"), port: free_port().unwrap() };
        let made = ["-U", "augury", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        ran(postgres("initdb").arg("-D").arg(&cluster.data).args(made));
        cluster.start();
        cluster
    }

    /// One that follows it.
    fn replica(&self, folder: &Folder, name: &str, port: u16) -> Self {
        let cluster = Self { data: folder.path().join(name), port };
        let from = format!("postgres://augury@127.0.0.1:{}/postgres", self.port);
        let made = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &from];
        ran(postgres("pg_basebackup").arg("-D").arg(&cluster.data).args(made));
        cluster.start();
        cluster
    }

    fn start(&self) {
        let sockets = self.data.parent().unwrap().display();
        let said = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={sockets} -c fsync=off",
            self.port
        );
        let log = self.data.join("log");
        ran(postgres("pg_ctl")
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(log)
            .args(["-w", "-o", &said, "start"]));
    }

    fn end(&self, how: &str) -> Command {
        let mut stop = postgres("pg_ctl");
        stop.arg("-D").arg(&self.data).args(["-w", "-m", how, "stop"]);
        stop
    }

    /// To all of its processes: `STOP` makes one that is there and says nothing.
    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let all = std::iter::once(pid.as_str()).chain(children.lines());
        ran(Command::new("kill").args(["-s", name]).args(all));
    }

    fn url(&self) -> String {
        format!("postgres://augury@127.0.0.1:{}/postgres", self.port)
    }

    fn run(&self, sql: &str) {
        PgConnection::establish(&self.url()).unwrap().batch_execute(sql).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.end("immediate").status();
    }
}

/// A primary with a replica; a server that writes, and one whose searches go to the replica.
struct Ground {
    // In the order in which they end.
    writing: Server,
    searching: Server,
    replica: Cluster,
    primary: Cluster,
    folder: Folder,
}

impl Ground {
    fn new() -> Self {
        let folder = folder();
        let primary = Cluster::primary(&folder);
        let replica = primary.replica(&folder, "replica", free_port().unwrap());
        let (url, read) = (primary.url(), replica.url());
        // Several hosts are one address: who is not there is passed over.
        let read = read.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:");
        let start = |settings: &[(&str, &str)]| Server::start_with(Backend::Sqlite, settings).unwrap();
        let writing = start(&[("AUGURY_DATABASE_URL", &url)]);
        let searching = start(&[("AUGURY_DATABASE_URL", &url), ("AUGURY_DATABASE_READ_URL", &read)]);
        let ground = Self { writing, searching, replica, primary, folder };
        ground.wait_for(None);
        ground
    }

    /// Until the server says that of its replica.
    fn wait_for(&self, why: Option<&str>) {
        let status = if why.is_none() { "ok" } else { "degraded" };
        let said = |health: &Value| health["status"] == status && health["replica"]["why"].as_str() == why;
        self.searching.wait_for("/health", said).unwrap();
    }

    /// Reads answered by the replica, and by the primary in its place.
    fn reads(&self) -> [u64; 2] {
        let metrics = self.searching.get("/metrics").unwrap().text;
        ["replica", "primary"].map(|by| {
            let name = format!("augury_reads_total{{by=\"{by}\"}} ");
            let number = metrics.lines().find_map(|line| line.strip_prefix(&name));
            number.map_or(0, |number| number.parse().unwrap())
        })
    }

    /// Written here, and at once looked for there.
    fn is_found(&self, code: &str) {
        let observation = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        });
        let made = self.writing.post("/fhir/Observation", &observation).unwrap().expect(201).unwrap().json;
        let id = made["id"].as_str().unwrap();
        for path in [format!("/fhir/Observation?code={code}"), format!("/fhir/Observation/{id}/_history")] {
            let found = self.searching.get(&path).unwrap().expect(200).unwrap().json;
            assert_eq!(found["entry"][0]["resource"]["id"], id, "{path}: {found}");
        }
    }

    fn rounds(&self, name: &str) {
        (0..20).for_each(|round| self.is_found(&format!("{name}-{round}")));
    }

    /// It comes back by itself, and is asked: one that follows a primary that began anew takes some seconds.
    fn is_back(&self, name: &str) {
        let began = Instant::now();
        for turn in 0.. {
            self.wait_for(None);
            let [before, _] = self.reads();
            self.rounds(&format!("{name}-{turn}"));
            if self.reads()[0] > before {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the replica is not asked");
        }
    }
}

#[test]
fn what_was_answered_is_found_at_the_replica() {
    let ground = Ground::new();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let ground = &ground;
            scope.spawn(move || (0..ROUNDS).for_each(|round| ground.is_found(&format!("{client}-{round}"))));
        }
    });
    let [by_replica, by_primary] = ground.reads();
    println!("{by_replica} reads by the replica, {by_primary} by the primary");
    let all = u64::try_from(2 * CLIENTS * ROUNDS).unwrap();
    assert!(by_replica + by_primary >= all && by_replica > all * 3 / 4, "{by_replica} {by_primary}");

    // Accesses are recorded as ever, where all look.
    let recorded =
        || ground.writing.get("/fhir/AuditEvent?_summary=count").unwrap().json["total"].as_u64().unwrap();
    let before = recorded();
    for _ in 0..5 {
        ground.searching.get("/fhir/Observation?code=nothing").unwrap().expect(200).unwrap();
    }
    assert!(recorded() >= before + 5);

    // A transaction that goes on leaves a log that ends within a record, on disk and at the replica.
    let mut open = PgConnection::establish(&ground.primary.url()).unwrap();
    open.batch_execute("CREATE TABLE long (n INT); BEGIN; INSERT INTO long SELECT generate_series(1, 10000)")
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    for path in ["/fhir/Observation?code=nothing", "/fhir/Observation?code=more"] {
        ground.searching.get(path).unwrap().expect(200).unwrap();
    }
    ground.is_back("beside an open transaction");
    drop(open);

    // What a replica does not answer in its time is nobody's loss.
    ground.replica.run("SELECT pg_wal_replay_pause()");
    ground.rounds("paused");
    ground.wait_for(Some("it is behind the primary"));
    assert!(ground.searching.get("/metrics").unwrap().text.contains("augury_replica_up 0"));
    let [paused, _] = ground.reads();
    // Who looks finds the same.
    thread::sleep(Duration::from_secs(2));
    ground.wait_for(Some("it is behind the primary"));
    ground.rounds("behind");
    assert_eq!(ground.reads()[0], paused);
    ground.replica.run("SELECT pg_wal_replay_resume()");
    ground.is_back("resumed");

    ground.replica.signal("STOP");
    let began = Instant::now();
    ground.rounds("frozen");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    ground.wait_for(Some("it does not answer"));
    ground.replica.signal("CONT");
    ground.is_back("thawed");

    ran(&mut ground.replica.end("fast"));
    ground.rounds("stopped");
    ground.wait_for(Some("it does not answer"));
    ground.rounds("still stopped");
    ground.replica.start();
    ground.is_back("started");

    // The primary begins anew.
    ran(&mut ground.primary.end("fast"));
    ground.primary.start();
    ground.is_back("restarted");

    ground.replica.run("SELECT pg_promote(true, 30)");
    ground.rounds("promoted");
    ground.wait_for(Some("it is no replica: it takes writes"));
    // A replica of a copy that went its own way, whose log is ahead.
    ground.replica.run("CREATE TABLE other (n INT); INSERT INTO other VALUES (1)");
    (0..3).for_each(|_| ground.replica.run("INSERT INTO other VALUES (1); SELECT pg_switch_wal()"));
    let spare = ground.replica.replica(&ground.folder, "foreign", free_port().unwrap());
    ran(&mut ground.replica.end("fast"));
    ran(&mut spare.end("fast"));
    let foreign = Cluster { data: spare.data.clone(), port: ground.replica.port };
    foreign.start();
    ground.wait_for(Some("it is no replica of this database"));
    ground.rounds("foreign");
}

/// Others go on until this is dropped, also by a test that fails.
pub(crate) struct Ends<'s>(pub(crate) &'s AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn pages_of_a_replica_skip_and_repeat_nothing() {
    const KEPT: usize = 40;
    let ground = Ground::new();
    let write = |id: usize, turn: usize| {
        let observation = json!({
            "resourceType": "Observation", "id": format!("kept{id}"), "status": "final",
            "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}]},
            "effectiveDateTime": format!("2024-01-{:02}T{:02}:00:00Z", turn % 28 + 1, (turn * 7 + id) % 24),
        });
        let written = ground.writing.put(&format!("/fhir/Observation/kept{id}"), &observation).unwrap();
        assert!(matches!(written.status, 200 | 201), "{}", written.text);
    };
    (0..KEPT).for_each(|id| write(id, id));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Ends(&stop);
        for writer in 0..3 {
            let (write, stop) = (&write, &stop);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    write((turn * 13 + writer * 7) % KEPT, turn);
                }
            });
        }
        let began = Instant::now();
        let mut searches = 0;
        while began.elapsed() < Duration::from_secs(15) {
            for sort in ["-_lastUpdated", "_lastUpdated", "-date", "date", "-_id", "status,-date"] {
                for about in ["code=1234-5", "patient=p", "status=final"] {
                    let mut next = format!("/fhir/Observation?{about}&_sort={sort}&_count=7");
                    let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
                    loop {
                        let page = ground.searching.get(&next).unwrap().expect(200).unwrap().json;
                        for entry in page["entry"].as_array().into_iter().flatten() {
                            let id = entry["resource"]["id"].as_str().unwrap().to_owned();
                            if !seen.insert(id.clone()) {
                                twice.push(id);
                            }
                        }
                        let links = page["link"].as_array().unwrap();
                        let link = links.iter().find(|link| link["relation"] == "next");
                        let Some(link) = link.and_then(|link| link["url"].as_str()) else { break };
                        next = link.split_once("/fhir").map(|(_, rest)| format!("/fhir{rest}")).unwrap();
                    }
                    assert_eq!((seen.len(), twice), (KEPT, Vec::new()), "{about} {sort}: {seen:?}");
                    searches += 1;
                }
            }
        }
        println!("{searches} searches through all their pages");
    });
    let [by_replica, by_primary] = ground.reads();
    println!("{by_replica} pages by the replica, {by_primary} by the primary");
    assert!(by_replica > by_primary, "{by_replica} {by_primary}");
}

#[test]
fn an_sqlite_file_has_no_replica() {
    let folder = Folder::new().unwrap();
    let mut serve = command(&["serve"]).unwrap();
    serve
        .env("AUGURY_DATA_DIR", folder.path())
        .env("AUGURY_DATABASE_READ_URL", "postgres://me:hidden@127.0.0.1/x");
    let ended = serve.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("database_read_url: is for a replica of PostgreSQL"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
}
