//! Tokens of another server, and tokens that are good no more: what they cost, and whom.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use harness::{Answer, BOTH, Backend};
use serde_json::{Value, json};

use crate::smart::Place;
use crate::smart_clients::{Key, claims, elliptic, key_server, register, tell};
use crate::smart_trail::trail;

#[test]
fn what_is_not_good_costs_the_other_server_little() {
    // Whatever is asked, the answer is the same: configuration, keys, and what a token is worth.
    let (address, served) = key_server("max-age=600");
    let issuer = address.trim_end_matches("/jwks.json").to_owned();
    let settings = [
        ("AUGURY_TOKEN_ISSUER", issuer.as_str()),
        ("AUGURY_TOKEN_AUDIENCE", "us"),
        ("AUGURY_TOKEN_INTROSPECTION", &format!("{issuer}/introspect")),
        ("AUGURY_RATE_ANONYMOUS", "20/hour"),
    ];
    let place = Place::with(Backend::Sqlite, &settings);
    let (known, other) = (elliptic("e1"), elliptic("e1"));
    let document = |active: bool| {
        json!({"issuer": issuer, "jwks_uri": address, "keys": [known.public], "active": active, "aud": "us",
            "client_id": "app", "scope": "system/*.rs", "exp": chrono::Utc::now().timestamp() + 300})
    };
    let asked = || served.lock().unwrap().1;
    served.lock().unwrap().0 = document(false);
    let token = |key: &Key, n: usize| {
        let claims = json!({"iss": issuer, "aud": "us", "sub": "app", "client_id": "app", "jti": n.to_string(),
            "scope": "system/*.rs", "exp": chrono::Utc::now().timestamp() + 300});
        key.sign(&key.header(), &claims)
    };
    let read = |token: &str| place.read("/fhir/Patient/p1", token);
    for n in 0..5 {
        assert_eq!(read(&token(&other, n)), 401);
    }
    assert_eq!(asked(), 2, "where the keys are, and the keys");
    assert_eq!(read(&token(&known, 5)), 200);
    assert_eq!(asked(), 2);

    for _ in 0..5 {
        assert_eq!(read("nobodys"), 401);
    }
    assert_eq!(asked(), 3, "once about the same token");
    served.lock().unwrap().0 = document(true);
    assert_eq!(read("somebodys"), 200);
    let mut without = document(true);
    without.as_object_mut().unwrap().remove("aud");
    served.lock().unwrap().0 = without;
    assert_eq!(read("for-whom"), 401);
    served.lock().unwrap().0 = document(false);
    let statuses: Vec<u16> = (0..20).map(|n| read(&format!("guess-{n}"))).collect();
    assert_eq!((statuses[8], statuses[9], statuses[19]), (401, 429, 429));
    assert_eq!(asked(), 5 + 10, "nothing is asked for whoever asked too much");
    // Who was known before goes on, behind the same address.
    served.lock().unwrap().0 = document(true);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!((read("somebodys"), read("guess-20")), (200, 429));
}

/// Answers whatever is asked at that port in the same way.
fn answer_at(port: u16, body: Value) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let (body, head) = (body.to_string(), "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:");
            let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
}

#[test]
fn what_can_not_be_asked_is_asked_again() {
    let port = harness::free_port().unwrap();
    let issuer = format!("http://127.0.0.1:{port}");
    let settings = [
        ("AUGURY_TOKEN_ISSUER", issuer.as_str()),
        ("AUGURY_TOKEN_AUDIENCE", "us"),
        ("AUGURY_TOKEN_JWKS_URI", &format!("{issuer}/jwks")),
        ("AUGURY_TOKEN_INTROSPECTION", &format!("{issuer}/introspect")),
    ];
    let place = Place::with(Backend::Sqlite, &settings);
    let key = elliptic("e1");
    let expires = chrono::Utc::now().timestamp() + 300;
    let signed = |issuer: &str| {
        let claims = json!({"iss": issuer, "aud": "us", "sub": "app", "client_id": "app", "jti": "1",
            "scope": "system/*.rs", "exp": expires});
        key.sign(&key.header(), &claims)
    };
    let read = |token: &str| {
        let asked = place.server.http().get(place.server.url("/fhir/Patient/p1")).bearer_auth(token);
        Answer::of(asked.send().unwrap()).unwrap()
    };
    for token in ["opaque", &signed(&issuer)] {
        for _ in 0..2 {
            let answer = read(token).expect(503).unwrap();
            assert_eq!((answer.issue().0, answer.header("retry-after")), ("transient", "1"));
        }
    }
    // Nobody else has to be asked about these.
    assert_eq!(read(&signed("https://elsewhere.example")).status, 401);
    assert_eq!(place.read("/fhir/Patient/p1", &place.key), 200);
    answer_at(
        port,
        json!({"keys": [key.public], "active": true, "aud": "us", "client_id": "app", "scope": "system/*.rs",
            "exp": expires}),
    );
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!((read("opaque").status, read(&signed(&issuer)).status), (200, 200));
}

#[test]
fn a_token_that_ended_is_no_guess() {
    for backend in BOTH {
        let place = Place::with(backend, &[("AUGURY_RATE_ANONYMOUS", "2/hour")]);
        let key = elliptic("e1");
        let client = register(&place, &[&key], &["--scope", "system/Patient.rs"]);
        let assertion = key.sign(&key.header(), &claims(&place, &client));
        let got = tell(&place, &assertion, "system/*.rs").expect(200).unwrap().json;
        let token = got["access_token"].as_str().unwrap();
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        place.server.command(&["client", "revoke", &client], "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        for _ in 0..5 {
            assert_eq!(place.read("/fhir/Patient/p1", token), 401);
        }
        let guess = |n: usize| place.read("/fhir/Patient/p1", &format!("{n:043}"));
        assert_eq!((guess(1), guess(2), guess(3)), (401, 401, 429));
        assert_eq!(place.read("/fhir/Patient/p1", token), 401);
    }
}

#[test]
fn who_tries_to_break_the_glass_is_named_and_counted() {
    let place = Place::with(Backend::Sqlite, &[("AUGURY_RATE_CLIENT", "6/hour")]);
    let statuses: Vec<u16> = (0..6)
        .map(|_| {
            let request = place.server.http().get(place.server.url("/fhir/Patient/p1"));
            let request = request.bearer_auth(&place.key).header("X-Break-Glass", " ");
            Answer::of(request.send().unwrap()).unwrap().status
        })
        .collect();
    // Three of them were for what the test laid out.
    assert_eq!(statuses, [400, 400, 400, 429, 429, 429]);
    let reader = place.server.command(&["client", "add", "reader"], "").unwrap();
    let key = reader.lines().find_map(|line| line.strip_prefix("key  ")).unwrap().to_owned();
    let place = Place { key, ..place };
    let refused = trail(&place, "outcome=4&subtype=read");
    assert_eq!(refused.len(), 6);
    let named = |event: &Value| {
        event["agent"][0]["who"]["display"] == "tests" || event.to_string().contains("\"tests\"")
    };
    assert!(refused.iter().all(named), "{refused:?}");
}
