//! Real servers for tests: the `augury` binary itself, on a port of its own, over a database
//! of its own, spoken to by HTTP alone.

pub mod browser;
pub mod chaos;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use reqwest::blocking::{Client, ClientBuilder, Response};
use serde_json::Value;

/// Which database a server stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file in a temporary folder.
    Sqlite,
    /// A fresh database in the cluster that `AUGURY_TEST_POSTGRES` names.
    Postgres,
}

/// Both of them.
pub const BOTH: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];

/// A folder that goes away with its owner.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder.
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("augury-test-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server and how to talk to it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    database_url: String,
    folder: Folder,
    bind: String,
    settings: Vec<(String, String)>,
    http: Client,
}

/// The `augury` binary: `AUGURY_BIN`, or the one built beside the test.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("AUGURY_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target folder")?;
    let path = folder.join("augury");
    anyhow::ensure!(path.exists(), "{} is not built: cargo build --bins", path.display());
    Ok(path)
}

/// `augury ARGUMENTS…` without any settings of the environment's.
pub fn command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = clean(binary()?);
    command.args(arguments).env("AUGURY_SECRET", SECRET);
    Ok(command)
}

fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUGURY_")) {
        command.env_remove(name);
    }
    command
}

/// What servers and the command line of one test share, whatever their folders, if nothing else is said.
pub const SECRET: &str = "all processes of one test share it";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Of HTTP clients; where TLS is there, somebody has to say whose.
pub fn builder() -> ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder()
}

/// The same that waits for nobody.
pub fn client() -> anyhow::Result<reqwest::Client> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(reqwest::Client::builder().build()?)
}

/// A port that nobody has, nor is given by the system for connecting: a server that was killed comes back to it.
pub fn free_port() -> anyhow::Result<u16> {
    const PORTS: std::ops::Range<u32> = 12_000..32_000;
    let first = std::process::id().wrapping_mul(499);
    let port = |_| {
        let number = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + number % (PORTS.end - PORTS.start)).ok()?;
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    };
    PORTS.into_iter().find_map(port).context("no port is free")
}

fn new_database(backend: Backend, folder: &Folder) -> anyhow::Result<String> {
    match backend {
        Backend::Sqlite => Ok(format!("sqlite:{}", folder.path().join("augury.db").display())),
        Backend::Postgres => {
            let cluster = std::env::var("AUGURY_TEST_POSTGRES")
                .context("AUGURY_TEST_POSTGRES names no PostgreSQL; tests/run.sh starts one")?;
            let name = format!("it_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            PgConnection::establish(&cluster)?.batch_execute(&format!("CREATE DATABASE {name}"))?;
            let (server, _) = cluster.rsplit_once('/').context("AUGURY_TEST_POSTGRES has no database")?;
            Ok(format!("{server}/{name}"))
        }
    }
}

impl Server {
    /// Starts a server on a new database and waits until it is ready.
    pub fn start(backend: Backend) -> anyhow::Result<Self> {
        Self::start_with(backend, &[])
    }

    /// The same with further settings.
    pub fn start_with(backend: Backend, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::launch("serve", backend, settings)
    }

    /// A server that loads the sample patients while it runs.
    pub fn start_demo(backend: Backend) -> anyhow::Result<Self> {
        Self::launch("demo", backend, &[])
    }

    fn launch(what: &str, backend: Backend, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let database_url = new_database(backend, &folder)?;
        let bind = format!("127.0.0.1:{}", free_port()?);
        let settings: Vec<_> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let child = spawn(what, &folder, &database_url, &bind, &settings)?;
        let http = builder().timeout(Duration::from_secs(30));
        // The certificates of tests are judged by tests alone.
        let http = http.tls_danger_accept_invalid_certs(true).build()?;
        let mut server = Self { child, database_url, folder, bind, settings, http };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            if let Ok(answer) = self.http.get(self.url("/health/ready")).send()
                && answer.status().is_success()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the server ended: {status}");
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "the server is not ready after 30 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGKILL and starts it again on the same database and port.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.restart()
    }

    /// SIGTERM: it answers what it was asked, and ends.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        anyhow::ensure!(
            Command::new("kill").args(["-s", "TERM", &pid]).status()?.success(),
            "no such process"
        );
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the server ended: {status}");
        Ok(())
    }

    /// Starts one that ended again, on the same database and port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn("serve", &self.folder, &self.database_url, &self.bind, &self.settings)?;
        self.wait_ready()
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address it listens on.
    pub fn bind(&self) -> &str {
        &self.bind
    }

    /// The database it stands on.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// `augury ARGUMENTS…` on the same database and data folder, with that on its standard input.
    pub fn command(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = command(arguments)?;
        command
            .env("AUGURY_DATABASE_URL", &self.database_url)
            .env("AUGURY_DATA_DIR", self.folder.path())
            .envs(self.settings.iter().filter(|(name, _)| name == "AUGURY_SECRET").map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, input.as_bytes())?;
        }
        let ended = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        anyhow::ensure!(ended.status.success(), "{arguments:?}: {said}");
        Ok(String::from_utf8(ended.stdout)?)
    }

    /// The key of a new client: `augury client add ARGUMENTS…`.
    pub fn key(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.command(&[&["client", "add"], arguments].concat(), "")?;
        let key = said.lines().find_map(|line| line.strip_prefix("key  "));
        Ok(key.context("there is no key")?.trim().to_owned())
    }

    /// An absolute address; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        let encrypted = self.settings.iter().any(|(name, _)| name == "AUGURY_TLS_CERT");
        let scheme = if encrypted { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.bind)
    }

    /// The HTTP client, for requests that need headers.
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// GET.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        Answer::of(self.http.get(self.url(path)).send()?)
    }

    /// POST of FHIR JSON.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, &body.to_string())
    }

    /// PUT of FHIR JSON.
    pub fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("PUT", path, &body.to_string())
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        Answer::of(self.http.delete(self.url(path)).send()?)
    }

    /// Any method with a text said to be FHIR JSON.
    pub fn send(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let request = self
            .http
            .request(method.parse()?, self.url(path))
            .header("content-type", "application/fhir+json")
            .body(body.to_owned());
        Answer::of(request.send()?)
    }

    /// Asks `path` again until `enough` of its answer, for at most ten seconds.
    pub fn wait_for(&self, path: &str, enough: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let answer = self.get(path)?;
            if answer.status == 200 && enough(&answer.json) {
                return Ok(answer.json);
            }
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(10),
                "waited in vain for {path}; last: {} {}",
                answer.status,
                answer.json
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All tests may be run with searches answered by a replica: the one of the cluster that `AUGURY_TEST_REPLICA`
/// names, if it does.
fn replica(database_url: &str) -> Option<String> {
    let cluster = std::env::var("AUGURY_TEST_REPLICA").ok()?;
    let (server, _) = cluster.rsplit_once('/')?;
    let (_, name) = database_url.strip_prefix("postgres://")?.rsplit_once('/')?;
    Some(format!("{server}/{name}"))
}

fn spawn(
    what: &str,
    folder: &Folder,
    database_url: &str,
    bind: &str,
    settings: &[(String, String)],
) -> anyhow::Result<Child> {
    // Beyond a limit to the size of files a write fails then, as on a full disk, and nobody dies.
    let mut command = clean("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$1\""])
        .arg(binary()?)
        .arg(what)
        .env("AUGURY_BIND", bind)
        .env("AUGURY_DATABASE_URL", database_url)
        .env("AUGURY_DATA_DIR", folder.path())
        .env("AUGURY_LOG", "warn")
        .env("AUGURY_SECRET", SECRET)
        .envs(replica(database_url).map(|url| ("AUGURY_DATABASE_READ_URL", url)))
        .envs(settings.iter().map(|(k, v)| (k, v)))
        .stdout(Stdio::null());
    Ok(command.spawn()?)
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body's text.
    pub text: String,
    /// The body as JSON, or null.
    pub json: Value,
}

impl Answer {
    /// Reads it whole.
    pub fn of(response: Response) -> anyhow::Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text()?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, text, json })
    }

    /// A header's text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer, if it has this status.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        anyhow::ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text);
        Ok(self)
    }

    /// The `OperationOutcome`'s first issue: its code and its expression.
    pub fn issue(&self) -> (&str, &str) {
        let text = |pointer: &str| self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (text("/issue/0/code"), text("/issue/0/expression/0"))
    }
}

/// Seconds since 1970 as a FHIR instant.
pub fn instant(seconds: u64) -> String {
    let moment = chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(0), 0).unwrap_or_default();
    moment.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
