//! What stands and is knocked over: replicas, their database, Redis, and the network of one replica.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{Backend, Folder, SECRET, binary, clean, free_port, new_database};

/// How long something may take to come up.
const PATIENCE: Duration = Duration::from_mins(1);

fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    anyhow::ensure!(done.status.success(), "{command:?}: {said}");
    Ok(())
}

/// `words` with spaces between.
fn words(text: &str) -> Command {
    let mut words = text.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// A PostgreSQL cluster of its own, which writes to disk what it says it has written.
pub(super) struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    hosts: Vec<String>,
    /// Held while it is down.
    down: Mutex<()>,
}

impl Postgres {
    fn start(folder: &Path, hosts: &[String]) -> anyhow::Result<Self> {
        let mut versions: Vec<PathBuf> =
            std::fs::read_dir("/usr/lib/postgresql")?.flatten().map(|found| found.path()).collect();
        versions.sort();
        let bin = versions.pop().context("PostgreSQL is not installed")?.join("bin");
        let data = folder.join("postgres");
        std::fs::create_dir(&data)?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&data))?;
        }
        let one = Self { bin, data, port: free_port()?, hosts: hosts.to_vec(), down: Mutex::default() };
        let rest = ["-U", "augury", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"];
        run(one.tool("initdb").args(rest))?;
        let mut rules = "local all all trust\n".to_owned();
        rules.extend(hosts.iter().map(|host| {
            let network = host.rsplit_once('.').map_or(host.as_str(), |(network, _)| network);
            format!("host all all {network}.0/24 trust\n")
        }));
        std::fs::write(one.data.join("pg_hba.conf"), rules)?;
        one.control("start")?;
        Ok(one)
    }

    /// PostgreSQL refuses to run as root.
    fn tool(&self, name: &str) -> Command {
        let tool = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = words("runuser -u postgres --");
            command.arg(tool);
            command
        } else {
            Command::new(tool)
        };
        command.arg("-D").arg(&self.data).current_dir("/");
        command
    }

    fn control(&self, what: &str) -> anyhow::Result<()> {
        let options = format!(
            "-p {} -c listen_addresses={} -c unix_socket_directories={} -c max_connections=300",
            self.port,
            self.hosts.join(","),
            self.data.display()
        );
        let log = self.data.join("log");
        run(self.tool("pg_ctl").args(["-w", "-m", "immediate", "-o", &options, "-l"]).arg(log).arg(what))
    }

    /// As if its machine had lost power, and came back.
    pub(super) fn crash(&self) -> anyhow::Result<()> {
        let _one = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        // What held on to its files or its port may need a moment to be gone.
        for _ in 0..20 {
            if self.control("restart").is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(500));
        }
        self.control("restart")
    }

    fn url(&self, host: &str) -> String {
        format!("postgres://augury@{host}:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.control("stop");
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout.starts_with(b"0"))
}

/// A Redis of its own.
pub(super) struct Redis {
    arguments: Vec<String>,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Redis {
    fn start(folder: &Path, hosts: &[String]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut arguments: Vec<String> =
            vec!["--port".into(), port.to_string(), "--save".into(), String::new()];
        arguments.extend(["--appendonly", "no", "--protected-mode", "no", "--dir"].map(str::to_owned));
        arguments.extend([folder.display().to_string(), "--bind".into()]);
        arguments.extend(hosts.iter().cloned());
        let one = Self { arguments, port, child: Mutex::default() };
        one.up()?;
        Ok(one)
    }

    pub(super) fn up(&self) -> anyhow::Result<()> {
        self.down();
        let child = Command::new("redis-server")
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    pub(super) fn down(&self) {
        end(&self.child);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.down();
    }
}

fn end(child: &Mutex<Option<Child>>) {
    if let Some(mut child) = child.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A network namespace for one replica, joined to this one by a pair of devices, one of which is taken down.
pub(super) struct Network {
    name: String,
    here: String,
    there: String,
    relay: Mutex<Option<Child>>,
}

impl Network {
    /// None where that may not be made.
    fn new() -> Option<Self> {
        let name = format!("aug{}", std::process::id() % 100_000);
        let third = std::process::id() % 250;
        let (here, there) = (format!("10.213.{third}.1"), format!("10.213.{third}.2"));
        let one = Self { name, here, there, relay: Mutex::default() };
        let name = &one.name;
        let made = [
            format!("ip netns add {name}"),
            format!("ip link add {name}h type veth peer name {name}n"),
            format!("ip link set {name}n netns {name}"),
            format!("ip addr add {}/30 dev {name}h", one.here),
            format!("ip link set {name}h up"),
            format!("ip netns exec {name} ip addr add {}/30 dev {name}n", one.there),
            format!("ip netns exec {name} ip link set {name}n up"),
            format!("ip netns exec {name} ip link set lo up"),
        ];
        made.iter().all(|step| run(&mut words(step)).is_ok()).then_some(one)
    }

    /// Nothing passes, and nobody is told; or again.
    pub(super) fn cut(&self, cut: bool) -> anyhow::Result<()> {
        run(&mut words(&format!("ip link set {}h {}", self.name, if cut { "down" } else { "up" })))
    }

    /// Inside, the replica and the receiver are where they would be on one machine.
    fn relay(&self, replica: u16, receiver: u16) -> anyhow::Result<()> {
        let mut command = words(&format!("ip netns exec {}", self.name));
        command.arg(std::env::current_exe()?).arg("relay");
        command.arg(format!("{}:{replica}=127.0.0.1:{replica}", self.there));
        command.arg(format!("127.0.0.1:{receiver}={}:{receiver}", self.here));
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(command.spawn()?);
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        end(&self.relay);
        let _ = run(&mut words(&format!("ip link del {}h", self.name)));
        let _ = run(&mut words(&format!("ip netns del {}", self.name)));
    }
}

/// One `augury serve`.
pub(super) struct Replica {
    bind: String,
    /// Where it is asked.
    pub(super) url: String,
    /// Within which namespace.
    namespace: Option<String>,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    /// Held while something is done to it.
    pub(super) busy: Mutex<()>,
}

impl Replica {
    fn spawn(&self) -> anyhow::Result<Child> {
        let program = binary()?;
        let mut command = match &self.namespace {
            Some(name) => {
                let mut command = clean("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
            None => clean(program),
        };
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.arg("serve").env("AUGURY_BIND", &self.bind).env("AUGURY_SECRET", SECRET);
        command.env("AUGURY_LOG", "warn").envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).spawn()?)
    }

    /// Starts it, as often as it takes, and waits until it is ready.
    pub(super) fn up(&self) -> anyhow::Result<()> {
        let (began, http) = (Instant::now(), crate::builder().timeout(Duration::from_secs(2)).build()?);
        while began.elapsed() < PATIENCE {
            {
                let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
                if ended {
                    *child = Some(self.spawn()?);
                }
            }
            let answer = http.get(format!("{}/health/ready", self.url)).send();
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        anyhow::bail!("{} is not ready after {PATIENCE:?}", self.url)
    }

    pub(super) fn kill(&self) {
        end(&self.child);
    }

    /// STOP or CONT.
    pub(super) fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id);
        let Some(pid) = pid else { return Ok(()) };
        run(Command::new("kill").args(["-s", name, &pid.to_string()]))
    }

    /// What it logged of failures of its own.
    pub(super) fn errors(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All of it; what needs something else is dropped before it.
pub(super) struct Ground {
    pub(super) replicas: Vec<Replica>,
    pub(super) network: Option<Network>,
    pub(super) redis: Option<Redis>,
    pub(super) postgres: Option<Postgres>,
    /// Where somebody who is asked from a replica may listen.
    pub(super) hosts: Vec<String>,
    folder: Folder,
}

impl Ground {
    /// A cluster, Redis and network of its own.
    pub(super) fn own() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let network = Network::new();
        let mut hosts = vec!["127.0.0.1".to_owned()];
        hosts.extend(network.as_ref().map(|network| network.here.clone()));
        let postgres = Some(Postgres::start(folder.path(), &hosts)?);
        let redis = Some(Redis::start(folder.path(), &hosts)?);
        Ok(Self { replicas: Vec::new(), network, redis, postgres, hosts, folder })
    }

    /// Nothing but replicas.
    pub(super) fn bare() -> anyhow::Result<Self> {
        let hosts = vec!["127.0.0.1".to_owned()];
        let folder = Folder::new()?;
        Ok(Self { replicas: Vec::new(), network: None, redis: None, postgres: None, hosts, folder })
    }

    /// Replicas on one database; the last one is in the network that can be cut.
    pub(super) fn replicate(&mut self, backend: Backend, count: usize, receiver: u16) -> anyhow::Result<()> {
        let given = match &self.postgres {
            Some(_) => String::new(),
            None => new_database(backend, &self.folder)?,
        };
        for n in 0..count {
            let apart = self.network.as_ref().filter(|_| n + 1 == count);
            let port = free_port()?;
            let (host, near) = match apart {
                Some(network) => (network.there.as_str(), network.here.as_str()),
                None => ("127.0.0.1", "127.0.0.1"),
            };
            if let Some(network) = apart {
                network.relay(port, receiver)?;
            }
            let url = self.postgres.as_ref().map_or(given.clone(), |postgres| postgres.url(near));
            let place = self.folder.path().join(format!("data{n}"));
            std::fs::create_dir_all(&place)?;
            let mut settings =
                vec![("AUGURY_DATABASE_URL", url), ("AUGURY_DATA_DIR", place.display().to_string())];
            settings.extend(
                self.redis
                    .as_ref()
                    .map(|redis| ("AUGURY_REDIS_URL", format!("redis://{near}:{}", redis.port))),
            );
            let replica = Replica {
                bind: format!("127.0.0.1:{port}"),
                url: format!("http://{host}:{port}"),
                namespace: apart.map(|network| network.name.clone()),
                settings,
                log: std::env::var_os("CHAOS_LOGS")
                    .map_or_else(|| self.folder.path().to_owned(), PathBuf::from)
                    .join(format!("replica{n}.log")),
                child: Mutex::default(),
                busy: Mutex::default(),
            };
            // One brings the schema.
            replica.up()?;
            self.replicas.push(replica);
        }
        Ok(())
    }
}
