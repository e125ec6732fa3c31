//! A client whose keys are fetched by their address: the runner serves them, and sees what is asked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::backend::tell;
use super::key::{Key, claims};
use super::{Smart, check, endpoint};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Server, unique};

const KEYS: &str = "smart-app-launch/STU2.2/client-confidential-asymmetric.html#registering-a-client-communicating-public-keys";
const VERIFY: &str = "smart-app-launch/STU2.2/client-confidential-asymmetric.html#signature-verification";

/// What is served: the keys, and for how long they may be kept.
#[derive(Default)]
struct Set {
    keys: Value,
    cache: String,
    asked: usize,
    /// Until then somebody may have it in mind.
    kept: Option<Instant>,
}

type Shared = Arc<Mutex<Set>>;

/// The set that is served, begun by whoever comes first.
#[derive(Default)]
pub(super) struct Served {
    set: OnceLock<Result<Shared, Stop>>,
    /// One check at a time has it.
    turn: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(address: &str) -> Result<Shared, Stop> {
    let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
    let set = Shared::default();
    let shown = Arc::clone(&set);
    // It ends with the runner.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever says nothing, or gives up in the middle, is no concern of the next.
            let shown = Arc::clone(&shown);
            std::thread::spawn(move || answer(stream, &shown));
        }
    });
    Ok(set)
}

fn answer(mut stream: TcpStream, set: &Mutex<Set>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    if lines.next().transpose()?.is_none() {
        return Ok(());
    }
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut set = locked(set);
    set.asked += 1;
    let seconds = set.cache.strip_prefix("max-age=").and_then(|age| age.parse().ok()).unwrap_or_default();
    set.kept = Some(Instant::now() + Duration::from_secs(seconds));
    let body = set.keys.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        set.cache,
        body.len()
    )
}

/// Who asks, and with what.
struct Turn<'s> {
    server: &'s Server,
    client: &'s str,
    address: String,
    set: Shared,
    _alone: MutexGuard<'s, ()>,
}

impl<'s> Turn<'s> {
    fn take(server: &'s Server) -> Result<Self, Stop> {
        let (smart, options) = (&server.smart, &server.smart.options);
        let client = Smart::told(options.jwks_client.as_ref(), "jwks-client")?;
        let bind = Smart::told(options.jwks.as_ref(), "jwks")?;
        let set = smart.served.set.get_or_init(|| begin(bind)).as_ref().map_err(Clone::clone)?;
        let alone = locked(&smart.served.turn);
        // What the turn before allowed to be kept is none of this one's keys.
        let kept = locked(set).kept;
        std::thread::sleep(
            kept.map_or(Duration::ZERO, |kept| kept.saturating_duration_since(Instant::now())),
        );
        Ok(Self {
            server,
            client,
            address: format!("http://{bind}/jwks.json"),
            set: Arc::clone(set),
            _alone: alone,
        })
    }

    fn serve(&self, key: &Key, cache: &str) {
        let mut set = locked(&self.set);
        set.keys = json!({"keys": [key.public()]});
        cache.clone_into(&mut set.cache);
        set.asked = 0;
    }

    fn asked(&self) -> usize {
        locked(&self.set).asked
    }

    /// An assertion with that key, and a `jku` if there is one.
    fn tell(&self, key: &Key, jku: Option<&str>) -> Result<Answer, Stop> {
        let mut header = key.header();
        if let (Some(header), Some(jku)) = (header.as_object_mut(), jku) {
            header.insert("jku".to_owned(), json!(jku));
        }
        let said = claims(self.client, endpoint(self.server, "token_endpoint")?);
        tell(self.server, &key.sign(&header, &said)?, "system/Patient.rs")
    }
}

fn new() -> Result<Key, Stop> {
    Key::stranger(&unique("kid"))
}

/// What was taken away is no longer good, what came is, as soon as the set may no longer be kept.
fn changed(server: &Server, cache: &str, wait: u64) -> Outcome {
    let turn = Turn::take(server)?;
    let (first, second) = (new()?, new()?);
    turn.serve(&first, cache);
    turn.tell(&first, None)?.expect(200)?;
    turn.serve(&second, cache);
    std::thread::sleep(Duration::from_secs(wait));
    turn.tell(&first, None)?.expect_one(&[400, 401])?;
    turn.tell(&second, None)?.expect(200)
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "spec/326-338",
            VERIFY,
            "keys are fetched at the registered address, with a jku that is the same or none",
            |s| {
                let (turn, key) = (Turn::take(s)?, new()?);
                turn.serve(&key, "no-store");
                turn.tell(&key, None)?.expect(200)?;
                turn.tell(&key, Some(&turn.address))?.expect(200)?;
                ensure(turn.asked() >= 1, "nobody asked for the keys")
            },
        ),
        check(
            "spec/326-338-other",
            VERIFY,
            "a jku that is not registered is not followed, even to good keys",
            |s| {
                let (turn, key) = (Turn::take(s)?, new()?);
                turn.serve(&key, "no-store");
                for jku in
                    [format!("{}?x=1", turn.address), turn.address.replace("/jwks.json", "/other.json")]
                {
                    turn.tell(&key, Some(&jku))?.expect_one(&[400, 401])?;
                }
                ensure(turn.asked() == 0, "the address was asked")
            },
        ),
        check("spec/341", VERIFY, "a key set that must not be kept is fetched each time", |s| {
            changed(s, "no-store", 0)
        }),
        check("g10/attest-jwks-cache", KEYS, "a key set is kept no longer than its max-age", |s| {
            changed(s, "max-age=1", 2)
        }),
        check(
            "jwks-broken",
            VERIFY,
            "a key set that can't be read is no proof, and no error of the server's",
            |s| {
                let (turn, key) = (Turn::take(s)?, new()?);
                for keys in [
                    json!([]),
                    json!({"keys": []}),
                    json!({"keys": [{"kid": key.kid}]}),
                    json!("x".repeat(2_000_000)),
                ] {
                    turn.serve(&key, "no-store");
                    locked(&turn.set).keys = keys;
                    turn.tell(&key, None)?.expect_one(&[400, 401])?;
                }
                Ok(())
            },
        ),
    ]
}
