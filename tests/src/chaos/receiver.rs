//! A subscriber's endpoint with moods: it takes what it is sent, fails, hangs, cuts the connection, is late,
//! or is away altogether; and remembers what it took, in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Dice;

/// How long a Subscription of these tests lets its endpoint think.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What came to one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// Numbers of events, or `id/version` where there are none, in the order in which they were taken.
    pub(super) accepted: Vec<String>,
    /// Requests that were answered with a failure, or not at all.
    pub(super) refused: u64,
    /// Requests.
    pub(super) requests: u64,
}

/// What is done with a request.
#[derive(Clone, Copy)]
enum Mood {
    Takes,
    Fails,
    Hangs,
    CutsBefore,
    /// It has it, and nobody is told.
    CutsAfter,
    Late(Duration),
}

struct Kept {
    taken: Mutex<BTreeMap<String, Taken>>,
    dice: Mutex<Dice>,
    /// One of so many requests meets a mood; 0 for none.
    moody: AtomicU64,
    away: watch::Sender<bool>,
}

/// The endpoint, on one port of several addresses.
pub(super) struct Receiver {
    port: u16,
    kept: Arc<Kept>,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    /// Listens, on the first of these addresses and the others.
    pub(super) fn start(hosts: &[String], dice: Dice) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let kept = Arc::new(Kept {
            taken: Mutex::default(),
            dice: Mutex::new(dice),
            moody: AtomicU64::new(0),
            away: watch::channel(false).0,
        });
        let port = crate::free_port()?;
        for host in hosts {
            let address: SocketAddr = format!("{host}:{port}").parse()?;
            let listener = runtime.block_on(TcpListener::bind(address)).context("no place to listen")?;
            runtime.spawn(listen(address, listener, Arc::clone(&kept)));
        }
        Ok(Self { port, kept, _runtime: runtime })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From now on one of so many requests meets a mood; 0 for none.
    pub(super) fn moody(&self, one_of: u64) {
        self.kept.moody.store(one_of, Ordering::Relaxed);
    }

    /// Nobody listens, and who is connected is cut off; or again.
    pub(super) fn away(&self, away: bool) {
        self.kept.away.send_replace(away);
    }

    pub(super) fn taken(&self, path: &str) -> Taken {
        let taken = self.kept.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(path).cloned().unwrap_or_default()
    }

    /// How many it has taken, with those that came twice.
    pub(super) fn count(&self) -> usize {
        let taken = self.kept.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.values().map(|one| one.accepted.len()).sum()
    }
}

async fn listen(address: SocketAddr, first: TcpListener, kept: Arc<Kept>) {
    let mut away = kept.away.subscribe();
    let mut listener = Some(first);
    loop {
        if *away.borrow_and_update() {
            listener = None;
            if away.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            match TcpListener::bind(address).await {
                Ok(fresh) => listener = Some(fresh),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        tokio::select! {
            _ = away.changed() => {}
            Ok((stream, _)) = open.accept() => {
                let (kept, mut cut) = (Arc::clone(&kept), kept.away.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cut.wait_for(|away| *away) => {}
                        _ = serve(stream, &kept) => {}
                    }
                });
            }
        }
    }
}

/// Answers one request after the other; none at the end of the connection.
async fn serve(stream: TcpStream, kept: &Kept) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    loop {
        let (method, path, length) = head(&mut stream).await?;
        let (place, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.get(1..)?, ""));
        let mood = kept.mood();
        kept.at(place, |taken| taken.requests += 1);
        if matches!(mood, Mood::CutsBefore) {
            kept.at(place, |taken| taken.refused += 1);
            return None;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let told = told(&method, rest, &body);
        match mood {
            Mood::Takes | Mood::CutsBefore => {}
            Mood::Late(long) => sleep(long).await,
            Mood::Fails => {
                kept.at(place, |taken| taken.refused += 1);
                say(&mut stream, "500 No").await?;
                continue;
            }
            Mood::Hangs => {
                kept.at(place, |taken| taken.refused += 1);
                sleep(PATIENCE * 5).await;
                return None;
            }
            Mood::CutsAfter => {
                kept.at(place, |taken| taken.accepted.extend(told));
                return None;
            }
        }
        kept.at(place, |taken| taken.accepted.extend(told));
        say(&mut stream, "200 OK").await?;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, status: &str) -> Option<()> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()
}

async fn head(stream: &mut BufReader<TcpStream>) -> Option<(String, String, usize)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    Some((method, path, length))
}

/// What a request tells of.
fn told(method: &str, rest: &str, body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if method == "PUT" {
        let id = rest.rsplit('/').next().unwrap_or_default();
        let version = body.pointer("/meta/versionId").and_then(Value::as_str).unwrap_or_default();
        return vec![format!("{id}/{version}")];
    }
    let all = body.pointer("/entry/0/resource/parameter").and_then(Value::as_array);
    let events = all.into_iter().flatten().filter(|one| text(one, "/name") == "notification-event");
    let parts = events.flat_map(|event| event.get("part").and_then(Value::as_array).into_iter().flatten());
    let numbers = parts.filter(|part| text(part, "/name") == "event-number");
    numbers.map(|part| text(part, "/valueString").to_owned()).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Kept {
    fn at(&self, place: &str, change: impl FnOnce(&mut Taken)) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        change(taken.entry(place.to_owned()).or_default());
    }

    fn mood(&self) -> Mood {
        let one_of = self.moody.load(Ordering::Relaxed);
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        if one_of == 0 || dice.below(one_of) > 0 {
            return Mood::Takes;
        }
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or_default();
        match dice.below(12) {
            0..=3 => Mood::Fails,
            4 => Mood::Hangs,
            5 | 6 => Mood::CutsBefore,
            7 | 8 => Mood::CutsAfter,
            9 | 10 => Mood::Late(Duration::from_millis(dice.below(patience / 2))),
            _ => Mood::Late(Duration::from_millis(patience + dice.below(patience))),
        }
    }
}
