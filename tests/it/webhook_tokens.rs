//! Access tokens that endpoints want, and how this server asks for them.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::{BOTH, Backend, Folder, Server};
use serde_json::{Value, json};

use crate::subscriptions::{LONG, observation, plain, subscribe};
use crate::webhook::{Call, Mood, Webhook};

const ALL: &str = "Observation?status=final";
const JSON: &str = "application/fhir+json";

/// A token endpoint that gives `t1`, `t2` and so on.
pub(crate) fn issuer() -> Webhook {
    let issuer = Webhook::start();
    let mut given = 0;
    issuer.answers(move |_| {
        given += 1;
        let body = format!(r#"{{"access_token":"t{given}","token_type":"Bearer","expires_in":3600}}"#);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Mood::Says(answer.leak())
    });
    issuer
}

#[test]
fn an_endpoint_gets_the_token_that_it_wants() {
    for backend in BOTH {
        let (issuer, hook) = (issuer(), Webhook::start());
        let lines = format!(
            "{} token={} client=us secret=\"sword fish\" scope=\"a b\"\n",
            hook.url("/in"),
            issuer.url("/token"),
        );
        let server = Server::start_with(backend, &[("AUGURY_WEBHOOK_TOKENS", &lines)]).unwrap();
        let mut inside = plain(ALL, &hook.url("/in/a"), Some(JSON));
        inside["channel"]["header"] = json!(["Authorization: Bearer own"]);
        for endpoint in ["/in/b", "/in/c", "/in/d"] {
            subscribe(&server, &plain(ALL, &hook.url(endpoint), Some(JSON)));
        }
        let id = subscribe(&server, &inside);
        let mut outside = inside.clone();
        outside["channel"]["endpoint"] = json!(hook.url("/inside"));
        subscribe(&server, &outside);
        let write = || {
            let made = server.post("/fhir/Observation", &observation("p", "1-1")).unwrap();
            made.expect(201).unwrap().json["id"].as_str().unwrap().to_owned()
        };
        write();
        write();
        let calls = hook.wait(LONG, |calls| calls.len() == 10);
        for call in &calls {
            let expected = if call.path.starts_with("/in/") { "Bearer t1" } else { "Bearer own" };
            assert_eq!(call.header("authorization"), expected, "{}", call.path);
        }
        let asked = issuer.calls();
        assert_eq!(asked.len(), 1, "one fetch for all");
        assert_eq!(asked[0].body, "grant_type=client_credentials&scope=a+b");
        let basic = format!("Basic {}", STANDARD.encode("us:sword+fish"));
        assert_eq!(asked[0].header("authorization"), basic);

        // A token that is not good any more is replaced once, and the event arrives.
        hook.answers(|call| {
            let refused = call.path.starts_with("/in/") && call.header("authorization") != "Bearer t2";
            Mood::Answers(if refused { 401 } else { 200 })
        });
        let third = write();
        let arrived = |calls: &[Call], id: &str| {
            calls.iter().filter(|call| call.status == 200 && call.path.ends_with(id)).count()
        };
        hook.wait(LONG, |calls| arrived(calls, &third) == 5);
        assert_eq!(issuer.calls().len(), 2);

        // Without a token nothing is sent, and nothing is lost.
        hook.answers(|call| {
            let refused = call.path.starts_with("/in/") && call.header("authorization") != "Bearer u";
            Mood::Answers(if refused { 401 } else { 200 })
        });
        issuer.answers(|_| Mood::Answers(500));
        let fourth = write();
        let path = format!("/fhir/Subscription/{id}/$status");
        let failed = server.wait_for(&path, |now| now.to_string().contains("no access token")).unwrap();
        assert!(failed.to_string().contains("the token endpoint"), "{failed}");
        issuer.answers(|_| {
            let body = r#"{"access_token":"u","token_type":"Bearer"}"#;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
            Mood::Says(format!("{head}: {}\r\n\r\n{body}", body.len()).leak())
        });
        hook.wait(LONG * 2, |calls| arrived(calls, &fourth) == 5);
    }
}

#[test]
fn a_token_is_got_with_a_signature_of_our_own() {
    let folder = Folder::new().unwrap();
    let (rsa, short) = (folder.path().join("rsa.pem"), folder.path().join("short.pem"));
    for (file, bits) in [(&rsa, "2048"), (&short, "1024")] {
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(file).arg(bits).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    got_with_a_signature("ES384", None);
    got_with_a_signature("RS384", Some(&rsa.display().to_string()));
    for wrong in [short, folder.path().join("none.pem")] {
        let mut command = harness::command(&["serve"]).unwrap();
        command.env("AUGURY_WEBHOOK_TOKENS_KEY", &wrong).env("AUGURY_DATA_DIR", folder.path());
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains("AUGURY_WEBHOOK_TOKENS_KEY"), "{said}");
    }
}

/// By the issuer that it is checked by, and by one that shows it.
fn got_with_a_signature(by: &str, key: Option<&str>) {
    let emr = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    let (hook, issuer, folder) = (Webhook::start(), issuer(), Folder::new().unwrap());
    let file = folder.path().join("tokens");
    let say = |client: &str| {
        let line = |at: &str, token: String| {
            format!("{} token={token} client={client} key scope=\"system/Patient.rs\"\n", hook.url(at))
        };
        let lines = line("/", emr.url("/oauth/token")) + &line("/shown", issuer.url("/token"));
        std::fs::write(&file, lines).unwrap();
    };
    say("nobody-yet");
    let file = file.display().to_string();
    let mut settings = vec![("AUGURY_WEBHOOK_TOKENS_FILE", file.as_str())];
    settings.extend(key.map(|key| ("AUGURY_WEBHOOK_TOKENS_KEY", key)));
    let mut server = Server::start_with(Backend::Sqlite, &settings).unwrap();
    subscribe(&server, &plain(ALL, &hook.url("/x"), Some(JSON)));
    subscribe(&server, &plain(ALL, &hook.url("/shown"), Some(JSON)));
    server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
    let keys = server.url("/.well-known/jwks.json");
    let said = emr.command(&["client", "add", "Augury", "--jwks-url", &keys, "--scope", "system/*.rs"], "");
    let said = said.unwrap();
    say(said.lines().find_map(|line| line.strip_prefix("id")).unwrap().trim());
    server.kill_and_restart().unwrap();
    let calls = hook.wait(LONG * 2, |calls| calls.iter().any(|call| call.path.starts_with("/x/")));
    let call = calls.iter().find(|call| call.path.starts_with("/x/")).unwrap();
    let token = call.header("authorization").strip_prefix("Bearer ").unwrap();
    let read = |kind: &str| {
        let request = emr.http().get(emr.url(&format!("/fhir/{kind}"))).bearer_auth(token);
        request.send().unwrap().status().as_u16()
    };
    assert_eq!((read("Patient"), read("Observation")), (200, 403));

    let asked = issuer.wait(LONG, |calls| !calls.is_empty()).remove(0).body;
    let assertion = asked.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap();
    let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], by);
    let published = server.get("/.well-known/jwks.json").unwrap().json["keys"].clone();
    let named = published.as_array().unwrap().iter().find(|one| one["kid"] == header["kid"]).unwrap().clone();
    assert_eq!((&named["alg"], &named["use"], &named["d"]), (&json!(by), &json!("sig"), &Value::Null));
}
