//! The endpoint that notifications are sent to: it keeps what comes, and answers what it is told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::Stop;

/// Bytes of one body, and of one line before it.
const MOST: u64 = 16_000_000;
const LONGEST: u64 = 64_000;
/// Who says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Whose it is: the first part of the path.
    name: String,
    pub(super) method: String,
    headers: Vec<(String, String)>,
    /// What it says, if that is JSON.
    pub(super) json: Value,
    pub(super) text: String,
    /// What it was answered with.
    pub(super) status: u16,
}

impl Call {
    /// The values of a header, as they came.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// Was it taken?
    pub(super) fn taken(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// What is answered where it is not 200.
    answers: HashMap<String, u16>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One endpoint for each name.
pub(super) struct Hook {
    /// What the server is told of it, without a slash at the end.
    address: String,
    shared: Arc<Shared>,
}

impl Hook {
    /// Listens at `ADDRESS:PORT`; `told` is its address for the server, if that is another.
    pub(super) fn begin(bind: &str, told: Option<&str>) -> Result<Self, Stop> {
        let failed = |error: std::io::Error| format!("{bind}: {error}");
        let listener = TcpListener::bind(bind).map_err(failed)?;
        let own = format!("http://{}", listener.local_addr().map_err(failed)?);
        let address = told.map_or(own, |told| told.trim_end_matches('/').to_owned());
        let shared = Arc::<Shared>::default();
        let kept = Arc::clone(&shared);
        // It ends with the runner.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever says nothing, or gives up in the middle, is no concern of the next.
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Ok(Self { address, shared })
    }

    /// The address of the endpoint of that name.
    pub(super) fn endpoint(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// From now on it answers so. Who is redirected is sent to the name with `-moved` behind it.
    pub(super) fn answer(&self, name: &str, status: u16) {
        self.shared.lock().answers.insert(name.to_owned(), status);
    }

    /// What came for a name.
    pub(super) fn calls(&self, name: &str) -> Vec<Call> {
        of(&self.shared.lock(), name)
    }

    /// Waits until enough came for a name.
    pub(super) fn wait(
        &self,
        name: &str,
        patience: Duration,
        what: &str,
        enough: impl Fn(&[Call]) -> bool,
    ) -> Result<Vec<Call>, Stop> {
        let end = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            let calls = of(&state, name);
            if enough(&calls) {
                return Ok(calls);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (came, seconds) = (calls.len(), patience.as_secs());
                return Err(Stop::Fail(format!("no {what} after {seconds} s; {came} requests came")));
            }
            let waited = self.shared.came.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn of(state: &State, name: &str) -> Vec<Call> {
    state.calls.iter().filter(|call| call.name == name).cloned().collect()
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    let Some(mut call) = read(&mut reader)? else { return Ok(()) };
    let mut state = shared.lock();
    call.status = state.answers.get(&call.name).copied().unwrap_or(200);
    let (name, status) = (call.name.clone(), call.status);
    let moved =
        if (300..400).contains(&status) { format!("location: /{name}-moved\r\n") } else { String::new() };
    state.calls.push(call);
    drop(state);
    shared.came.notify_all();
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status} Said\r\n{moved}content-length: 0\r\nconnection: close\r\n\r\n"
    )
}

/// A request; none if there is nothing, or nothing that can be read.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Call>> {
    let first = line(reader)?;
    let mut words = first.split_ascii_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let header = |name: &str| {
        let found = headers.iter().find(|(one, _): &&(String, String)| one.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    };
    let mut body = Vec::new();
    if header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        loop {
            let size = line(reader)?;
            let size =
                u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
            if size == 0 || size > MOST {
                break;
            }
            reader.by_ref().take(size).read_to_end(&mut body)?;
            line(reader)?;
        }
    } else {
        let length = header("content-length").parse::<u64>().unwrap_or(0).min(MOST);
        reader.by_ref().take(length).read_to_end(&mut body)?;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let name = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default().to_owned();
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Some(Call { name, method: method.to_owned(), headers, json, text, status: 0 }))
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &str) -> Option<Call> {
        read(&mut bytes.as_bytes()).unwrap()
    }

    #[test]
    fn requests_are_read_as_they_come() {
        let call = said("POST /a/b?c HTTP/1.1\r\nX-A: b: c \r\nx-a:d\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
            .unwrap();
        assert_eq!((call.name.as_str(), call.method.as_str()), ("a", "POST"));
        assert_eq!(call.header("X-A"), ["b: c", "d"]);
        assert_eq!(call.json["a"], 1);
        let pieces =
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x\r\n\":1}\r\n0\r\n\r\n";
        assert_eq!(said(pieces).unwrap().json["a"], 1);
        assert!(said("").is_none() && said("x\r\n").is_none());
    }
}
