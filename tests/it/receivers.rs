//! Those that the audit trail is sent to, as they are: they fail, hang, hang up and come back.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::webhook::asking;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// 500, and nothing is kept.
    Fails,
    /// Nothing is answered, and nothing is kept.
    Hangs,
    /// The connection is cut, and nothing is kept.
    Cuts,
    /// All is kept, and the connection is cut before the answer.
    Forgets,
    /// Half of a batch is kept, and the answer says so.
    Halves,
    /// 412, and nothing is kept.
    Denies,
    /// All is kept, and the answer is 412.
    Knows,
    /// 413 to more than a few events, and nothing is kept.
    Small,
    /// 200 with a page for people, and nothing is kept.
    Greets,
}

/// What a small receiver takes at once.
const FEW: usize = 10;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// A receiver at an address of its own.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) got: Arc<Mutex<Vec<Got>>>,
    pub(crate) moods: Arc<Mutex<VecDeque<Mood>>>,
    /// Raised to cut all connections and to listen no longer.
    round: Arc<AtomicU64>,
    listens: Arc<AtomicBool>,
}

type Serve = Arc<dyn Fn(TcpStream, &dyn Fn() -> bool) + Send + Sync>;

impl Receiver {
    fn start(make: impl FnOnce(Arc<Mutex<Vec<Got>>>, Arc<Mutex<VecDeque<Mood>>>) -> Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, moods) = (Arc::default(), Arc::default());
        let serve = make(Arc::clone(&got), Arc::clone(&moods));
        let (round, listens) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let (of, open) = (Arc::clone(&round), Arc::clone(&listens));
        std::thread::spawn(move || {
            let mut listener = Some(listener);
            loop {
                if !open.load(Ordering::Relaxed) {
                    listener = None;
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                let listening = listener.get_or_insert_with(|| {
                    loop {
                        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                            break listener;
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                listening.set_nonblocking(true).unwrap();
                let Ok((stream, _)) = listening.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let (serve, of, mine) = (Arc::clone(&serve), Arc::clone(&of), of.load(Ordering::Relaxed));
                std::thread::spawn(move || serve(stream, &|| of.load(Ordering::Relaxed) == mine));
            }
        });
        Self { port, got, moods, round, listens }
    }

    /// Is gone for a while, with all its connections.
    pub(crate) fn restart(&self, away: Duration) {
        self.listens.store(false, Ordering::Relaxed);
        self.round.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(away);
        self.listens.store(true, Ordering::Relaxed);
    }

    /// A FHIR server.
    pub(crate) fn feed() -> Self {
        Self::start(|got, moods| {
            Arc::new(move |stream, goes_on| {
                let _ = answer(&stream, goes_on, &got, &moods);
            })
        })
    }

    /// A syslog server that asks for a certificate of that folder's authority.
    pub(crate) fn syslog(folder: &Path) -> Self {
        let config = asking(folder);
        Self::start(|got, _| {
            Arc::new(move |stream, goes_on| {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                frames(&mut StreamOwned::new(session, stream), goes_on, &got);
            })
        })
    }

    /// A syslog server without encryption.
    pub(crate) fn plain() -> Self {
        Self::start(|got, _| Arc::new(move |mut stream, goes_on| frames(&mut stream, goes_on, &got)))
    }

    pub(crate) fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

/// Reads frames of RFC 5425 until the connection ends, or is to end.
fn frames(stream: &mut dyn Read, goes_on: &dyn Fn() -> bool, got: &Mutex<Vec<Got>>) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut part = [0; 4096];
    while goes_on() {
        match stream.read(&mut part) {
            Ok(0) => return,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(_) => return,
        }
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
            if bytes.len() < space + 1 + length {
                break;
            }
            let message = String::from_utf8(bytes[space + 1..=space + length].to_vec()).unwrap();
            bytes.drain(..=space + length);
            let id = message.split_once("id=\"").and_then(|(_, rest)| rest.split_once('"'));
            let id = id.map(|(id, _)| id.to_owned()).unwrap_or_default();
            got.lock().unwrap().push(Got { id, text: message });
        }
    }
}

/// Takes one request as a FHIR server, or a web hook, does.
fn answer(
    stream: &TcpStream,
    goes_on: &dyn Fn() -> bool,
    got: &Mutex<Vec<Got>>,
    moods: &Mutex<VecDeque<Mood>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut authorized) = (String::new(), 0, false);
    reader.read_line(&mut line)?;
    let searches = line.starts_with("GET ");
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        authorized |= line.trim() == "authorization: Bearer let-me-in";
        if line.trim().is_empty() {
            break;
        }
    }
    let mood = if searches { None } else { moods.lock().unwrap().pop_front() };
    if mood == Some(Mood::Cuts) {
        return Ok(()); // with the body unread
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let text = String::from_utf8(body).unwrap();
    let say = |status: &str, body: &str| {
        let head = "content-type: application/fhir+json\r\nconnection: close";
        write!(&*stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    match mood {
        Some(Mood::Fails) => return say("500 Internal Server Error", ""),
        Some(Mood::Hangs) => {
            while goes_on() {
                std::thread::sleep(Duration::from_millis(50));
            }
            return Ok(());
        }
        _ => {}
    }
    if !path.starts_with("/fhir") {
        got.lock().unwrap().push(Got { id: String::new(), text });
        return say("204 No Content", "");
    }
    if !authorized {
        return say("401 Unauthorized", "");
    }
    if searches {
        let url = reqwest::Url::parse(&format!("http://here{path}")).unwrap();
        let source = url.query_pairs().find(|(name, _)| name == "_source").unwrap().1.into_owned();
        let event = |got: &Got| serde_json::from_str::<Value>(&got.text).unwrap();
        let found = got.lock().unwrap().iter().map(event).find(|one| one["meta"]["source"] == source);
        let entries: Vec<Value> = found.iter().map(|one| json!({"resource": one})).collect();
        return say(
            "200 OK",
            &json!({"resourceType": "Bundle", "type": "searchset", "entry": entries}).to_string(),
        );
    }
    let sent: Value = serde_json::from_str(&text).unwrap();
    let entries = if sent["resourceType"] == "Bundle" {
        assert_eq!((path.as_str(), sent["type"].as_str()), ("/fhir", Some("batch")));
        sent["entry"].as_array().unwrap().clone()
    } else {
        assert_eq!(path, "/fhir/AuditEvent");
        vec![json!({"resource": sent, "request": {}})]
    };
    let kept = match mood {
        Some(Mood::Halves) => entries.len() / 2,
        Some(Mood::Denies) => 0,
        Some(Mood::Small) if entries.len() > FEW => return say("413 Content Too Large", ""),
        Some(Mood::Greets) => return say("200 OK", "<html>"),
        _ => entries.len(),
    };
    for entry in entries.iter().take(kept) {
        let event = &entry["resource"];
        assert!(event["meta"]["source"].as_str().unwrap().contains("/fhir/AuditEvent/"));
        let id = event["id"].as_str().unwrap().to_owned();
        got.lock().unwrap().push(Got { id, text: event.to_string() });
    }
    let status = |n: usize| match mood {
        Some(Mood::Denies | Mood::Knows) => "412 Precondition Failed",
        _ if n < kept => "201 Created",
        _ => "503 Service Unavailable",
    };
    let answers: Vec<Value> =
        (0..entries.len()).map(|n| json!({"response": {"status": status(n)}})).collect();
    match (mood, sent["resourceType"].as_str()) {
        (Some(Mood::Forgets), _) => Ok(()),
        (_, Some("Bundle")) => say(
            "200 OK",
            &json!({"resourceType": "Bundle", "type": "batch-response", "entry": answers}).to_string(),
        ),
        (Some(Mood::Denies | Mood::Knows), _) => say("412 Precondition Failed", ""),
        (Some(Mood::Halves), _) => say("503 Service Unavailable", ""),
        _ => say("201 Created\r\nlocation: http://127.0.0.1/fhir/AuditEvent/1", ""),
    }
}
