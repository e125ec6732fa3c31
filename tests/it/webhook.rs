//! An endpoint of a subscriber, as it is: it answers what it is told to, late, or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// Of a notification of a topic, a parameter of its status.
    pub(crate) fn said(&self, name: &str) -> Value {
        let bundle = self.json();
        let all = bundle["entry"][0]["resource"]["parameter"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == name).unwrap_or(Value::Null)
    }

    /// The numbers of the events that it tells of.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let bundle = self.json();
        let all = bundle["entry"][0]["resource"]["parameter"].as_array().cloned().unwrap_or_default();
        let events = all.iter().filter(|one| one["name"] == "notification-event");
        let parts = events.flat_map(|event| event["part"].as_array().cloned().unwrap_or_default());
        let numbers = parts.filter(|part| part["name"] == "event-number");
        numbers.filter_map(|part| part["valueString"].as_str()?.parse().ok()).collect()
    }
}

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers(u16),
    /// Answers nothing.
    Hangs,
    /// Cuts the connection.
    Cuts,
    /// Answers these very bytes, with a status of its own.
    Says(&'static str),
    /// Answers a byte a moment, for ever.
    Drips,
}

type Calls = Arc<(Mutex<Vec<Call>>, Condvar)>;
type Decide = Arc<Mutex<Box<dyn FnMut(&Call) -> Mood + Send>>>;

/// An endpoint on a port of its own.
pub(crate) struct Webhook {
    scheme: &'static str,
    port: u16,
    calls: Calls,
    decide: Decide,
}

impl Webhook {
    pub(crate) fn start() -> Self {
        Self::listen(serve)
    }

    /// One that asks for a certificate of that folder's authority.
    pub(crate) fn encrypted(folder: &Path) -> Self {
        let config = asking(folder);
        let hook = Self::listen(move |stream, calls, decide| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(session, stream), calls, decide);
        });
        Self { scheme: "https", ..hook }
    }

    fn listen(serve: impl Fn(TcpStream, &Calls, &Decide) + Send + Sync + 'static) -> Self {
        let serve = Arc::new(serve);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, decide): (Calls, Decide) =
            (Arc::default(), Arc::new(Mutex::new(Box::new(|_: &Call| Mood::Answers(200)))));
        let (kept, asked) = (Arc::clone(&calls), Arc::clone(&decide));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, asked) = (Arc::clone(&kept), Arc::clone(&asked));
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream, &kept, &asked));
            }
        });
        Self { scheme: "http", port, calls, decide }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub(crate) fn answers(&self, decide: impl FnMut(&Call) -> Mood + Send + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.0.lock().unwrap().clone()
    }

    /// Waits until enough calls came, for at most that long.
    pub(crate) fn wait(&self, long: Duration, enough: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let end = Instant::now() + long;
        let mut calls = self.calls.0.lock().unwrap();
        while !enough(&calls) {
            let left = end.saturating_duration_since(Instant::now());
            let seen = || calls.iter().map(|call| (call.status, call.numbers())).collect::<Vec<_>>();
            assert!(!left.is_zero(), "waited in vain; these calls came: {:?}", seen());
            calls = self.calls.1.wait_timeout(calls, left).unwrap().0;
        }
        calls.clone()
    }
}

fn serve<S: Read + Write>(stream: S, calls: &Calls, decide: &Decide) {
    let mut reader = BufReader::new(stream);
    while let Some(mut call) = read(&mut reader) {
        let mood = decide.lock().unwrap()(&call);
        let answer = match mood {
            Mood::Answers(status) => {
                call.status = status;
                format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n")
            }
            Mood::Says(answer) => answer.to_owned(),
            Mood::Drips => "HTTP/1.1 200 OK\r\nX: ".to_owned(),
            Mood::Hangs | Mood::Cuts => String::new(),
        };
        keep(calls, call);
        let to = reader.get_mut();
        if to.write_all(answer.as_bytes()).is_err() || to.flush().is_err() {
            return;
        }
        match mood {
            Mood::Answers(_) => {}
            Mood::Hangs => return std::thread::sleep(Duration::from_mins(1)),
            Mood::Cuts | Mood::Says(_) => return,
            Mood::Drips => {
                while to.write_all(b"x").is_ok() && to.flush().is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                return;
            }
        }
    }
}

/// A TLS server with that folder's certificate, which asks for one of its authority.
pub(crate) fn asking(folder: &Path) -> Arc<ServerConfig> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let all = |name: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(folder.join(name)).unwrap().map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add(all("ca.pem").remove(0)).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(clients);
    Arc::new(config.with_single_cert(all("server.pem"), key).unwrap())
}

fn keep(calls: &Calls, call: Call) {
    calls.0.lock().unwrap().push(call);
    calls.1.notify_all();
}

fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_ascii_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap_or(0))];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Call { method, path, headers, body, status: 0 })
}
