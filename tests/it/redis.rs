//! Processes that count requests together in Redis, and what they do while it is away.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{Answer, BOTH, Backend, Folder, Server, free_port};
use serde_json::json;

use crate::smart::Place;
use crate::tls::certificates;

/// A Redis of the test's own, with a password.
struct Redis {
    arguments: Vec<String>,
    port: u16,
    process: Child,
}

impl Redis {
    fn start(folder: &Path, encrypted: bool) -> Self {
        let port = free_port().unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        let ports = if encrypted {
            format!(
                "--port 0 --tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {} --tls-ca-cert-file {}",
                at("server.pem"),
                at("server.key"),
                at("ca.pem")
            )
        } else {
            format!("--port {port}")
        };
        let rest =
            format!("--bind 127.0.0.1 --requirepass secret --appendonly no --dir {}", folder.display());
        let mut arguments: Vec<String> = [ports, rest].join(" ").split(' ').map(str::to_owned).collect();
        arguments.extend(["--save".to_owned(), String::new()]);
        let process = run(&arguments);
        Self { arguments, port, process }
    }

    fn restart(&mut self) {
        self.process = run(&self.arguments);
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn url(&self) -> String {
        format!("redis://:secret@127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[String]) -> Child {
    let mut server = Command::new("redis-server");
    server.args(arguments).stdout(Stdio::null()).spawn().unwrap()
}

/// How Redis is, by what a server says of itself.
fn wait_for(server: &Server, redis: &str) {
    let status = if redis == "ok" { "ok" } else { "degraded" };
    let (status, redis) = (json!(status), json!({"status": redis}));
    server.wait_for("/health", |health| (&health["status"], &health["redis"]) == (&status, &redis)).unwrap();
}

fn all_wait_for(servers: [&Server; 2], redis: &str) {
    for server in servers {
        wait_for(server, redis);
    }
}

/// Asks both by turns; a busy machine may be slower than Redis is waited for, so whoever is not counted
/// as expected is asked for again as somebody else.
fn by_turns(servers: [&Server; 2], count: usize, ask: impl Fn(&Server, usize) -> Answer) -> Vec<Answer> {
    let began = Instant::now();
    for somebody in 0.. {
        let answers: Vec<Answer> = (0..count).map(|turn| ask(servers[turn % 2], somebody)).collect();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        if refused == 2 {
            return answers;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{refused} of {count} were refused");
        sleep(Duration::from_millis(100));
    }
    Vec::new()
}

/// As somebody behind a proxy whom nobody knows.
fn knock(server: &Server, somebody: usize) -> Answer {
    let request = server.http().get(server.url("/fhir/Patient/p1"));
    let request = request.header("x-forwarded-for", format!("192.0.2.{somebody}"));
    Answer::of(request.send().unwrap()).unwrap()
}

/// The same at a door of its own, which lets 20 in at once.
fn register(server: &Server, somebody: usize) -> Answer {
    let request = server.http().post(server.url("/oauth/register")).body("{}");
    let request = request.header("x-forwarded-for", format!("192.0.2.{somebody}"));
    Answer::of(request.send().unwrap()).unwrap()
}

fn settings(redis: &str) -> [(&str, &str); 4] {
    [
        ("AUGURY_REDIS_URL", redis),
        ("AUGURY_AUTH", "required"),
        ("AUGURY_RATE_ANONYMOUS", "6/hour"),
        ("AUGURY_TRUSTED_PROXIES", "127.0.0.1"),
    ]
}

#[test]
fn processes_count_together_while_redis_is_here() {
    for backend in BOTH {
        let folder = Folder::new().unwrap();
        let mut redis = Redis::start(folder.path(), false);
        let url = redis.url();
        let start = || Server::start_with(backend, &settings(&url)).unwrap();
        let (one, other) = (start(), start());
        let servers = [&one, &other];
        all_wait_for(servers, "ok");
        let answers = by_turns(servers, 8, knock);
        let told: Vec<_> = answers.iter().map(|answer| answer.header("ratelimit").to_owned()).collect();
        let left = |left: usize| format!("limit=6, remaining={left}, reset=0");
        assert_eq!(told[..6], [5, 4, 3, 2, 1, 0].map(left));
        let refused = &answers[7];
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((590..=600).contains(&wait), "{wait}");
        assert_eq!(refused.header("ratelimit"), format!("limit=6, remaining=0, reset={wait}"));
        assert_eq!((refused.issue().0, refused.header("ratelimit-policy")), ("throttled", "6;w=3600"));
        by_turns(servers, 22, register);

        redis.kill();
        all_wait_for(servers, "unavailable");
        assert!(one.get("/metrics").unwrap().text.contains("augury_redis_up 0"));
        // Each counts by itself.
        for server in servers {
            let statuses: Vec<u16> = (0..7).map(|_| knock(server, 250).status).collect();
            assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429]);
        }

        redis.restart();
        all_wait_for(servers, "ok");
        by_turns(servers, 8, |server, somebody| knock(server, 100 + somebody));
        assert!(one.get("/metrics").unwrap().text.contains("augury_redis_up 1"));
    }
}

#[test]
fn a_slow_redis_keeps_nobody_waiting() {
    let folder = Folder::new().unwrap();
    let redis = Redis::start(folder.path(), false);
    let server = Server::start_with(Backend::Sqlite, &settings(&redis.url())).unwrap();
    wait_for(&server, "ok");
    redis.signal("STOP");
    let began = Instant::now();
    let statuses: Vec<u16> = (0..50).map(|somebody| knock(&server, somebody).status).collect();
    assert_eq!(statuses, [401; 50]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    wait_for(&server, "unavailable");
    sleep(Duration::from_secs(2));
    redis.signal("CONT");
    wait_for(&server, "ok");
}

#[test]
fn a_client_has_one_rate_on_all_processes_of_a_database() {
    let folder = Folder::new().unwrap();
    let redis = Redis::start(folder.path(), false);
    let url = redis.url();
    let place =
        Place::with(Backend::Postgres, &[("AUGURY_REDIS_URL", &url), ("AUGURY_RATE_CLIENT", "100/hour")]);
    let keys: Vec<_> = (0..5).map(|n| place.server.key(&[&format!("client {n}")]).unwrap()).collect();
    let database = place.server.database_url().to_owned();
    let more = [("AUGURY_DATABASE_URL", database.as_str()), ("AUGURY_RATE_CLIENT", "100/hour")];
    let other = Server::start_with(Backend::Sqlite, &[&settings(&url), &more[..]].concat()).unwrap();
    let servers = [&place.server, &other];
    all_wait_for(servers, "ok");
    let ask = |server: &Server, somebody: usize| {
        let request = server.http().get(server.url("/fhir/Patient/p1")).bearer_auth(&keys[somebody]);
        Answer::of(request.send().unwrap()).unwrap()
    };
    let answers = by_turns(servers, 102, ask);
    assert!(answers[..100].iter().all(|answer| answer.status == 200));
}

#[test]
fn the_way_to_redis_is_encrypted_where_it_is_said() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let redis = Redis::start(folder.path(), true);
    let url = redis.url().replace("redis:", "rediss:");
    let ca = folder.path().join("ca.pem").display().to_string();
    let trusting =
        Server::start_with(Backend::Sqlite, &[&settings(&url)[..], &[("SSL_CERT_FILE", &ca)]].concat());
    wait_for(&trusting.unwrap(), "ok");
    let other = Server::start_with(Backend::Sqlite, &settings(&url)).unwrap();
    wait_for(&other, "unavailable");
}
