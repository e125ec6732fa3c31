//! Subscribers that connect.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{BOTH, Backend, Server};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::subscriptions::{CLOSED, CRITICAL, critical, plain, topical};

struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn open(server: &Server, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{}/websocket", server.bind()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(server.bind()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => {
                assert_eq!(error.to_string(), "", "it was neither opened nor refused");
                Err(0)
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next text.
    fn text(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => {
                    // The answer to the ping behind it leaves with the next that is read or written.
                    return text.to_string();
                }
                other => {
                    assert!(other.is_ping(), "{other}");
                    self.0.flush().unwrap();
                }
            }
        }
    }

    fn notification(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Answers what it is asked until it is closed, and with what.
    fn closed(mut self) -> u16 {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(Message::Close(None)) => return 0,
                Err(error) => {
                    let late = matches!(&error, tungstenite::Error::Io(io) if io.kind() == std::io::ErrorKind::WouldBlock);
                    assert!(!late, "it was not closed");
                    return 0;
                }
                Ok(message) => assert!(!message.is_text(), "{message}"),
            }
        }
    }

    fn closed_by_us(mut self) {
        self.0.close(None).unwrap();
        self.closed();
    }

    /// Answers pings for a while.
    fn linger(&mut self) {
        self.0.get_mut().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        while let Ok(message) = self.0.read() {
            assert!(!message.is_text(), "{message}");
        }
        self.0.get_mut().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
}

fn by_websocket(mut subscription: Value) -> Value {
    subscription["channel"]["type"] = json!("websocket");
    let channel = subscription["channel"].as_object_mut().unwrap();
    channel.remove("endpoint");
    channel.remove("header");
    subscription
}

fn subscribe(server: &Server, subscription: &Value) -> String {
    crate::subscriptions::subscribe(server, subscription)
}

fn token(server: &Server, id: &str) -> String {
    let answer = server.get(&format!("/fhir/Subscription/{id}/$get-ws-binding-token")).unwrap();
    let answer = answer.expect(200).unwrap();
    let all = answer.json["parameter"].as_array().unwrap();
    let named = |name: &str| all.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(named("subscription")["valueString"], id);
    assert_eq!(named("websocket-url")["valueUrl"], format!("ws://{}/websocket", server.bind()));
    assert!(named("expiration")["valueDateTime"].is_string());
    named("token")["valueString"].as_str().unwrap().to_owned()
}

fn kind(bundle: &Value) -> &str {
    let all = bundle["entry"][0]["resource"]["parameter"].as_array().unwrap();
    all.iter().find(|one| one["name"] == "type").unwrap()["valueCode"].as_str().unwrap()
}

fn number(bundle: &Value) -> u64 {
    let all = bundle["entry"][0]["resource"]["parameter"].as_array().unwrap();
    let event = all.iter().find(|one| one["name"] == "notification-event").unwrap();
    let part = event["part"].as_array().unwrap().iter().find(|one| one["name"] == "event-number").unwrap();
    part["valueString"].as_str().unwrap().parse().unwrap()
}

#[test]
fn who_connects_is_told_what_there_is_and_what_comes() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let id = subscribe(&server, &by_websocket(topical(CRITICAL, &[], "", "full-resource")));
        // Nobody is there yet.
        for _ in 0..3 {
            server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        }
        let mut socket = Socket::open(&server, &[]).unwrap();
        socket.say(&format!("bind-with-token {}", token(&server, &id)));
        assert_eq!(kind(&socket.notification()), "handshake");
        let told: Vec<u64> = (0..3).map(|_| number(&socket.notification())).collect();
        assert_eq!(told, [1, 2, 3]);
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let last = socket.notification();
        assert_eq!(number(&last), 4);
        assert_eq!(last["entry"][1]["resource"]["subject"]["reference"], "Patient/p");
        socket.linger();
        // What was answered is not told again; what came meanwhile is.
        drop(socket);
        for _ in 0..2 {
            server.post("/fhir/Observation", &critical("q")).unwrap().expect(201).unwrap();
        }
        let mut socket = Socket::open(&server, &[]).unwrap();
        socket.say(&format!("bind-with-token {}", token(&server, &id)));
        assert_eq!(kind(&socket.notification()), "handshake");
        assert_eq!((0..2).map(|_| number(&socket.notification())).collect::<Vec<_>>(), [5, 6]);
        let status = server.get(&format!("/fhir/Subscription/{id}")).unwrap();
        assert_eq!(status.json["status"], "active");
    }
}

#[test]
fn what_was_not_answered_is_told_again() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let id = subscribe(&server, &by_websocket(topical(CRITICAL, &[], "", "id-only")));
        let mut deaf = Socket::open(&server, &[]).unwrap();
        deaf.say(&format!("bind-with-token {}", token(&server, &id)));
        assert_eq!(kind(&deaf.notification()), "handshake");
        for _ in 0..3 {
            server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        }
        // It has read the first and answered no ping. Whoever comes next is connected instead.
        assert_eq!(number(&deaf.notification()), 1);
        let mut next = Socket::open(&server, &[]).unwrap();
        next.say(&format!("bind-with-token {}", token(&server, &id)));
        assert_eq!(kind(&next.notification()), "handshake");
        assert_eq!((0..3).map(|_| number(&next.notification())).collect::<Vec<_>>(), [1, 2, 3]);
        // With pings to answer it may find the connection gone before it reads why.
        assert!([0, 1013].contains(&deaf.closed()));
    }
}

#[test]
fn r4_s_own_is_a_ping() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let id = subscribe(&server, &by_websocket(plain("Observation?subject=Patient/p", "", None)));
        let mut socket = Socket::open(&server, &[]).unwrap();
        socket.say(&format!("bind {id}"));
        assert_eq!(socket.text(), format!("bound {id}"));
        for _ in 0..2 {
            server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
            assert_eq!(socket.text(), format!("ping {id}"));
        }
        // Written anew, it is bound anew.
        let mut changed = by_websocket(plain("Observation?subject=Patient/q", "", None));
        changed["id"] = json!(id);
        server.put(&format!("/fhir/Subscription/{id}"), &changed).unwrap().expect(200).unwrap();
        assert_eq!(socket.closed(), 1013);
    }
}

#[test]
fn nobody_else_may_be_connected() {
    let server = Server::start_with(Backend::Sqlite, &CLOSED).unwrap();
    let scope = "system/Subscription.crus system/Observation.cr";
    let (own, other) =
        (server.key(&["own", "--scope", scope]).unwrap(), server.key(&["other", "--scope", scope]).unwrap());
    let ask = |key: &str, method: &str, path: &str, body: &Value| {
        let method = method.parse().unwrap();
        let request = server.http().request(method, server.url(path)).bearer_auth(key);
        let request = request.header("content-type", "application/fhir+json").body(body.to_string());
        harness::Answer::of(request.send().unwrap()).unwrap()
    };
    let asked = by_websocket(topical(CRITICAL, &[], "", "id-only"));
    let made = ask(&own, "POST", "/fhir/Subscription", &asked).expect(201).unwrap();
    let id = made.json["id"].as_str().unwrap().to_owned();
    let path = format!("/fhir/Subscription/{id}/$get-ws-binding-token");
    let none = json!({"resourceType": "Parameters"});
    ask(&other, "POST", &path, &none).expect(403).unwrap();
    ask("nobody", "POST", &path, &none).expect(401).unwrap();
    let hooked =
        ask(&own, "POST", "/fhir/Subscription", &topical(CRITICAL, &[], "http://127.0.0.1:9/", "id-only"));
    let hook = hooked.json["id"].as_str().unwrap().to_owned();
    ask(&own, "POST", &format!("/fhir/Subscription/{hook}/$get-ws-binding-token"), &none)
        .expect(400)
        .unwrap();
    ask(&own, "POST", "/fhir/Subscription/$get-ws-binding-token", &none).expect(400).unwrap();
    ask(&own, "GET", &format!("/fhir/Subscription/$get-ws-binding-token?ids={id},no"), &none)
        .expect(404)
        .unwrap();

    // By name, who shows who they are.
    assert_eq!(Socket::open(&server, &[("authorization", "Bearer no")]).err(), Some(401));
    for (key, headers, text) in [
        (Some(&other), None, format!("bind {id}")),
        (None, None, format!("bind {id}")),
        (None, Some(("origin", "https://evil.example")), format!("bind {id}")),
        (Some(&own), None, format!("bind {hook}")),
        (Some(&own), None, "bind".to_owned()),
        (Some(&own), None, "bind no/such".to_owned()),
        (None, None, "bind-with-token abc.def".to_owned()),
        (None, None, "bind-with-token".to_owned()),
        (None, None, "hello".to_owned()),
        (None, None, String::new()),
    ] {
        let bearer = key.map(|key| format!("Bearer {key}")).unwrap_or_default();
        let mut all: Vec<(&'static str, &str)> = headers.into_iter().collect();
        if key.is_some() {
            all.push(("authorization", &bearer));
        }
        let mut socket = Socket::open(&server, &all).unwrap();
        socket.say(&text);
        assert_eq!(socket.closed(), 1008, "{text}");
    }
    let bearer = format!("Bearer {own}");
    let mut socket = Socket::open(&server, &[("authorization", &bearer)]).unwrap();
    socket.say(&format!("bind {id}"));
    assert_eq!(kind(&socket.notification()), "handshake");

    // A token that was changed is none; a good one is good for who holds it.
    let token = ask(&own, "POST", &path, &none).expect(200).unwrap();
    let token = token.json["parameter"][0]["valueString"].as_str().unwrap().to_owned();
    let mut worse = token.clone();
    worse.replace_range(4..5, if worse.get(4..5) == Some("A") { "B" } else { "A" });
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind-with-token {worse}"));
    assert_eq!(socket.closed(), 1008);
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind-with-token {token}"));
    assert_eq!(kind(&socket.notification()), "handshake");
    // Once the Subscription is another's, nobody is told by a token of before.
    let mut anew = asked.clone();
    (anew["id"], anew["reason"]) = (json!(id), json!("another's"));
    ask(&other, "PUT", &format!("/fhir/Subscription/{id}"), &anew).expect(200).unwrap();
    assert_eq!(socket.closed(), 1013);
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind-with-token {token}"));
    assert_eq!(socket.closed(), 1008);
    // What is no websocket is told so.
    let plain = server.get("/websocket").unwrap();
    assert_eq!((plain.status, plain.issue().0), (400, "invalid"));
}

#[test]
fn frames_that_nobody_should_send_end_the_connection() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let text = |bytes: Vec<u8>| Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true));
    for (message, code) in [
        (Message::binary(vec![0_u8; 8]), 1003),
        (Message::text("x".repeat(16_384)), 1008),
        (Message::text("x".repeat(16_385)), 1009),
        (Message::text("x".repeat(100_000)), 1009),
        (text(b"bind \xff".to_vec()), 1007),
    ] {
        let mut socket = Socket::open(&server, &[]).unwrap();
        socket.0.send(message).unwrap();
        assert_eq!(socket.closed(), code);
    }
    // What does not end is not read to its end.
    let mut endless = Socket::open(&server, &[]).unwrap();
    let stream = endless.0.get_mut();
    stream.write_all(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    // It may be closed before all of it is written.
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    assert_eq!(endless.closed(), 1009);
    let page = Socket::open(&server, &[("origin", "https://evil.example")]);
    assert_eq!(page.err(), Some(403));
    server.get("/health/live").unwrap().expect(200).unwrap();
}

#[test]
fn a_server_that_ends_tells_who_is_connected() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let id = subscribe(&server, &by_websocket(plain("Observation?subject=Patient/p", "", None)));
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind {id}"));
    assert_eq!(socket.text(), format!("bound {id}"));
    let pid = server.pid().to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
    let began = std::time::Instant::now();
    assert_eq!(socket.closed(), 1001);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn who_ends_is_told_no_more() {
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let scope = "system/Subscription.crus system/Observation.cr system/AuditEvent.rs";
    let (own, reader) =
        (server.key(&["own", "--scope", scope]).unwrap(), server.key(&["reader", "--scope", scope]).unwrap());
    let bearer = format!("Bearer {own}");
    let made = server.http().post(server.url("/fhir/Subscription")).bearer_auth(&own);
    let asked = by_websocket(topical(CRITICAL, &[], "", "id-only"));
    let made = made.header("content-type", "application/fhir+json").body(asked.to_string()).send().unwrap();
    let id = harness::Answer::of(made).unwrap().expect(201).unwrap().json["id"].as_str().unwrap().to_owned();
    let mut socket = Socket::open(&server, &[("authorization", &bearer)]).unwrap();
    socket.say(&format!("bind {id}"));
    assert_eq!(kind(&socket.notification()), "handshake");
    socket.0.get_mut().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let clients = server.command(&["client", "list"], "").unwrap();
    let client = clients.lines().find(|line| line.contains("own")).unwrap();
    let client = client.split_whitespace().next().unwrap();
    server.command(&["client", "revoke", client], "").unwrap();
    assert_eq!(socket.closed(), 1008);
    // Who was refused is in the trail.
    let mut socket = Socket::open(&server, &[("authorization", &format!("Bearer {reader}"))]).unwrap();
    socket.say(&format!("bind {id}"));
    assert_eq!(socket.closed(), 1008);
    let trail = server.http().get(server.url("/fhir/AuditEvent?outcome=4")).bearer_auth(&reader);
    let trail = trail.send().unwrap().text().unwrap();
    assert!(trail.contains("a websocket was refused"), "{trail}");
}

#[test]
fn a_token_binds_one_connection_whichever_process_it_is_to() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let beside = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let same = [("AUGURY_DATABASE_URL", server.database_url())];
                Some(Server::start_with(backend, &same).unwrap())
            }
        };
        let id = subscribe(&server, &by_websocket(topical(CRITICAL, &[], "", "id-only")));
        let token = token(&server, &id);
        let bind = |server: &Server| {
            let mut socket = Socket::open(server, &[]).unwrap();
            socket.say(&format!("bind-with-token {token}"));
            socket
        };
        let mut first = bind(&server);
        assert_eq!(kind(&first.notification()), "handshake");
        for again in [Some(&server), beside.as_ref()].into_iter().flatten() {
            assert_eq!(bind(again).closed(), 1008);
        }
        // Whoever was first is told.
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        assert_eq!(number(&first.notification()), 1);
    }
}

/// As [`by_websocket`], until so many seconds from now.
fn until(subscription: Value, seconds: u64) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut subscription = by_websocket(subscription);
    subscription["end"] = json!(harness::instant(now + seconds));
    subscription
}

#[test]
fn who_opens_one_takes_nothing_from_who_is_at_the_same_address() {
    let settings = [("AUGURY_AUTH", "required"), ("AUGURY_RATE_ANONYMOUS", "4/hour")];
    let server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    let open = || Socket::open(&server, &[]);
    let mut sockets: Vec<Socket> = (0..100).map(|_| open().unwrap()).collect();
    server.get("/fhir/Patient").unwrap().expect(401).unwrap();
    // There is an end to that too, until they are closed or bound.
    assert_eq!(open().err(), Some(429));
    sockets.pop().unwrap().closed_by_us();
    let mut again = open();
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        again = open();
    }
    again.unwrap();
    // Who guesses is counted.
    let guess = || Socket::open(&server, &[("authorization", "Bearer no")]).err();
    assert_eq!([guess(), guess(), guess(), guess()], [Some(401), Some(401), Some(401), Some(429)]);
    for path in ["/fhir/Patient", "/websocketanything", "/healthy"] {
        server.get(path).unwrap().expect(429).unwrap();
    }
    for path in ["/health", "/health/live", "/fhir/.well-known/smart-configuration"] {
        server.get(path).unwrap().expect(200).unwrap();
    }

    let reader = server.key(&["reader", "--scope", "system/AuditEvent.rs"]).unwrap();
    let trail = server.http().get(server.url("/fhir/AuditEvent?outcome=4&_count=100")).bearer_auth(&reader);
    let trail: Value = serde_json::from_str(&trail.send().unwrap().text().unwrap()).unwrap();
    let asked = STANDARD.encode("GET /websocket");
    let all = trail["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    let refused: Vec<&Value> = all.filter(|one| one.to_string().contains(&asked)).collect();
    let guesses: Vec<_> = refused.iter().filter(|one| one["outcomeDesc"] == "401 Unauthorized").collect();
    assert_eq!(guesses.len(), 3, "{trail}");
    assert_eq!(guesses[0]["agent"][0]["network"]["address"], "127.0.0.1");
}

#[test]
fn whoever_bound_by_a_token_is_no_stranger() {
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let scope = "system/Subscription.crus system/Observation.cr system/AuditEvent.rs";
    let own = server.key(&["own", "--scope", scope]).unwrap();
    let asked = by_websocket(topical(CRITICAL, &[], "", "id-only"));
    let made = server.http().post(server.url("/fhir/Subscription")).bearer_auth(&own);
    let made = made.header("content-type", "application/fhir+json").body(asked.to_string()).send().unwrap();
    let id = harness::Answer::of(made).unwrap().expect(201).unwrap().json["id"].as_str().unwrap().to_owned();
    let path = server.url(&format!("/fhir/Subscription/{id}/$get-ws-binding-token"));
    let token = harness::Answer::of(server.http().get(path).bearer_auth(&own).send().unwrap()).unwrap();
    let token = token.expect(200).unwrap().json["parameter"][0]["valueString"].as_str().unwrap().to_owned();
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind-with-token {token}"));
    assert_eq!(kind(&socket.notification()), "handshake");
    // More than are recorded one by one.
    for _ in 0..12 {
        let mut stranger = Socket::open(&server, &[]).unwrap();
        stranger.say("hello");
        assert_eq!(stranger.closed(), 1008);
    }
    socket.say("bind no");
    assert_eq!(socket.closed(), 1008);
    let trail = server.http().get(server.url("/fhir/AuditEvent?outcome=4&_count=100")).bearer_auth(&own);
    let trail = trail.send().unwrap().text().unwrap();
    let times = |why: &str| trail.matches(&format!("a websocket was refused: {why}")).count();
    assert_eq!((times("what is understood"), times("this may not be bound")), (10, 1), "{trail}");
}

#[test]
fn whose_end_comes_is_told_no_more_whether_connected_or_not() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let asked = || until(topical(CRITICAL, &[], "", "id-only"), 4);
        let (never, gone, here) =
            (subscribe(&server, &asked()), subscribe(&server, &asked()), subscribe(&server, &asked()));
        let lasting = subscribe(&server, &by_websocket(topical(CRITICAL, &[], "", "id-only")));
        let connect = |ids: &[&str]| {
            let mut socket = Socket::open(&server, &[]).unwrap();
            for id in ids {
                socket.say(&format!("bind {id}"));
                assert_eq!(kind(&socket.notification()), "handshake");
            }
            socket
        };
        connect(&[&gone, &lasting]).closed_by_us();
        let socket = connect(&[&here]);
        for id in [&never, &gone, &here] {
            let now = server.wait_for(&format!("/fhir/Subscription/{id}"), |now| now["status"] == "off");
            assert_eq!(now.unwrap()["error"], "its end has come");
        }
        assert_eq!(socket.closed(), 1013);
        let status = server.get(&format!("/fhir/Subscription/{lasting}")).unwrap();
        assert_eq!(status.json["status"], "active");
    }
}

#[test]
fn where_a_subscriber_is_that_was_told_is_in_the_trail() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let id = subscribe(&server, &by_websocket(topical(CRITICAL, &[], "", "full-resource")));
    let mut socket = Socket::open(&server, &[]).unwrap();
    socket.say(&format!("bind {id}"));
    assert_eq!(kind(&socket.notification()), "handshake");
    server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
    assert_eq!(number(&socket.notification()), 1);
    socket.linger();
    let found = server
        .wait_for("/fhir/AuditEvent?subtype=disclose", |found| found["entry"].as_array().is_some())
        .unwrap();
    let network = &found["entry"][0]["resource"]["agent"][1]["network"];
    assert_eq!(network, &json!({"address": "127.0.0.1", "type": "2"}));
}
