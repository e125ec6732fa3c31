//! What endpoints and subscribers are, if they mean harm; and how an endpoint knows who sends.

use std::io::Write as _;
use std::process::{Command, Stdio};

use harness::{Answer, BOTH, Backend, Folder, Server};
use serde_json::{Value, json};

use crate::forward::intrude;
use crate::subscriptions::{CLOSED, CRITICAL, LONG, critical, observation, plain, subscribe, topical};
use crate::tls::certificates;
use crate::webhook::{Call, Mood, Webhook};

/// Is it signed with one of these, as docs/subscriptions.md tells to find out?
fn is_genuine(secrets: &[&str], call: &Call) -> bool {
    let docs = include_str!("../../docs/subscriptions.md");
    let told = docs.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let program = format!(
        "import json, sys\n{told}\nsecrets, headers, body = json.load(sys.stdin)\n\
         print(is_genuine(secrets, headers, body.encode()))\n"
    );
    let headers: serde_json::Map<String, Value> =
        call.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
    let mut python = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(json!([secrets, headers, call.body]).to_string().as_bytes())
        .unwrap();
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success());
    said.stdout == b"True\n"
}

fn secret(answer: &Answer) -> (String, Option<String>) {
    let all = answer.json["parameter"].as_array().unwrap();
    let named = |name: &str| all.iter().find(|one| one["name"] == name);
    let text = |one: &Value| one["valueString"].as_str().unwrap().to_owned();
    let previous = named("previous").map(|one| {
        assert_eq!(one["part"][1]["name"], "until");
        text(&one["part"][0])
    });
    (text(named("secret").unwrap()), previous)
}

#[test]
fn who_receives_knows_who_sent() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let (hook, bare) = (Webhook::start(), Webhook::start());
        let mut failures = 1;
        hook.answers(move |call| match call.numbers().as_slice() {
            [1] if failures > 0 => {
                failures -= 1;
                Mood::Answers(503)
            }
            _ => Mood::Answers(200),
        });
        let id = subscribe(&server, &topical(CRITICAL, &[], &hook.url("/"), "full-resource"));
        let empty = subscribe(&server, &plain("Observation?status=final", &bare.url("/"), None));
        let ask = |id: &str, how: &str| {
            let path = format!("/fhir/Subscription/{id}/$webhook-secret{how}");
            server.send("POST", &path, "").unwrap()
        };
        let answer = ask(&id, "").expect(200).unwrap();
        assert_eq!(answer.header("cache-control"), "no-store");
        let (first, none) = secret(&answer);
        assert!(first.starts_with("whsec_") && none.is_none(), "{}", answer.text);
        assert_eq!(secret(&ask(&id, "").expect(200).unwrap()).0, first);
        let (other, _) = secret(&ask(&empty, "").expect(200).unwrap());
        assert_ne!(first, other);

        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let said = bare.wait(LONG, |calls| !calls.is_empty());
        assert_eq!(said[0].header("content-length"), "0");
        let calls = hook.wait(LONG, |calls| calls.len() == 3);
        for call in &calls {
            assert!(is_genuine(&[&first], call), "{call:?}");
            assert!(!is_genuine(&[&other], call));
        }
        let names: Vec<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
        assert_eq!(names[1..], [format!("{id}_1"), format!("{id}_1")]);
        assert!(names[0].starts_with(&format!("{id}_handshake-")), "{names:?}");
        let forged = Call { body: calls[1].body.replace("Patient/p", "Patient/q"), ..calls[1].clone() };
        assert!(!is_genuine(&[&first], &forged));
        let without = &bare.wait(LONG, |calls| calls.len() == 1)[0];
        assert!(without.body.is_empty() && is_genuine(&[&other], without));

        // Another secret: for a while both are good.
        let (second, previous) = secret(&ask(&id, "?rotate=true").expect(200).unwrap());
        assert!(second != first && previous.as_deref() == Some(&first));
        server.post("/fhir/Observation", &critical("p")).unwrap().expect(201).unwrap();
        let call = &hook.wait(LONG, |calls| calls.len() == 4)[3];
        assert!(is_genuine(&[&first], call) && is_genuine(&[&second], call));
        assert_eq!(call.header("webhook-signature").split(' ').count(), 2);
        // No other for a while, or who checks with the first would refuse; but one that others know is replaced.
        let soon = ask(&id, "?rotate=true");
        assert_eq!((soon.status, soon.issue().0), (409, "conflict"), "{}", soon.text);
        let shown = ask(&id, "").expect(200).unwrap();
        let until = shown.json["parameter"][1]["part"][1]["valueInstant"].as_str().unwrap();
        assert!(soon.text.contains(until), "{until}: {}", soon.text);
        assert_eq!(secret(&shown), (second.clone(), Some(first.clone())));
        let (pressed, previous) = secret(&ask(&id, "?rotate=true&force=true").expect(200).unwrap());
        assert!(![&first, &second].contains(&&pressed) && previous.as_deref() == Some(&second));
        intrude(&server, "UPDATE subscription SET rotated = rotated - 86400000000 WHERE rotated > 0");
        let (later, previous) = secret(&ask(&id, "?rotate=true").expect(200).unwrap());
        assert!(![&first, &second].contains(&&later) && previous.as_deref() == Some(&pressed));
        for wrong in ["?rotate=maybe", "?force=true", "?rotate=false&force=true", "?other=true"] {
            assert_eq!(ask(&id, wrong).status, 400, "{wrong}");
        }
        assert_eq!(server.get(&format!("/fhir/Subscription/{id}/$webhook-secret")).unwrap().status, 405);
        assert_eq!(ask("nobody", "").status, 404);

        // Whoever has one of that id later has another secret.
        let path = format!("/fhir/Subscription/{id}");
        server.delete(&path).unwrap().expect(204).unwrap();
        assert_eq!(ask(&id, "").status, 410);
        let mut again = topical(CRITICAL, &[], &hook.url("/"), "empty");
        again["id"] = json!(id);
        server.put(&path, &again).unwrap().expect(201).unwrap();
        let (third, before) = secret(&ask(&id, "").expect(200).unwrap());
        assert!(![&first, &second, &pressed, &later].contains(&&third) && before.is_none());
        let trail = server.get("/fhir/AuditEvent?_count=200").unwrap().expect(200).unwrap();
        for said in ["was shown", "was replaced"] {
            assert!(trail.text.contains(&format!("the webhook secret of Subscription/{id} {said}")));
        }
        for secret in [first, second, third, pressed, later] {
            assert!(!trail.text.contains(&secret));
        }
    }
}

#[test]
fn a_secret_is_for_who_may_change_the_subscription() {
    for backend in BOTH {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let hook = Webhook::start();
        let key = |scope: &str| server.key(&["x", "--scope", scope]).unwrap();
        let ask = |key: &str, path: &str, body: &Value| {
            let request = server.http().post(server.url(path)).bearer_auth(key);
            let request = request.header("content-type", "application/fhir+json").body(body.to_string());
            Answer::of(request.send().unwrap()).unwrap()
        };
        let owner = key("system/Subscription.crus system/Observation.r");
        let asked = plain("Observation?status=final", &hook.url("/"), None);
        let made = ask(&owner, "/fhir/Subscription", &asked).expect(201).unwrap();
        let id = made.json["id"].as_str().unwrap();
        let path = format!("/fhir/Subscription/{id}/$webhook-secret");
        for (scope, expected) in [
            ("system/Subscription.rs", 403),
            ("system/Subscription.u", 403),
            ("system/Subscription.cd", 403),
            ("system/Subscription.ru?status=off", 404),
            ("system/Observation.cruds", 403),
            ("system/Subscription.ru", 200),
        ] {
            for path in [path.clone(), format!("{path}?rotate=true")] {
                let answer = ask(&key(scope), &path, &json!({"resourceType": "Parameters"}));
                assert_eq!(answer.status, expected, "{scope}: {}", answer.text);
                assert_eq!(answer.text.contains("whsec_"), expected == 200);
            }
        }
        // Nobody else's question has changed it but that of the last one.
        let (_, previous) =
            secret(&ask(&owner, &path, &json!({"resourceType": "Parameters"})).expect(200).unwrap());
        assert!(previous.is_some());
        let anybody = server.http().post(server.url(&path)).send().unwrap();
        assert_eq!(anybody.status(), 401);
    }
}

const ALL: &str = "Observation?status=final";
const JSON: &str = "application/fhir+json";

#[test]
fn an_endpoint_may_ask_for_a_certificate() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let hook = Webhook::encrypted(folder.path());
    let (ca, cert, key) = (path("ca.pem"), path("emr.pem"), path("emr.key"));
    let settings = [
        ("AUGURY_WEBHOOK_CA", ca.as_str()),
        ("AUGURY_WEBHOOK_TLS_CERT", &cert),
        ("AUGURY_WEBHOOK_TLS_KEY", &key),
    ];
    for (settings, arrives) in [(&settings[..], true), (&settings[..1], false), (&[], false)] {
        let server = Server::start_with(Backend::Sqlite, settings).unwrap();
        let before = hook.calls().len();
        let id = subscribe(&server, &plain(ALL, &hook.url("/x"), Some(JSON)));
        server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
        if arrives {
            hook.wait(LONG, |calls| calls.len() == before + 1);
        } else {
            let path = format!("/fhir/Subscription/{id}/$status");
            let said =
                if settings.is_empty() { "its certificate is not trusted" } else { "can't be reached" };
            server.wait_for(&path, |now| now.to_string().contains(said)).unwrap();
            assert_eq!(hook.calls().len(), before);
        }
    }
}

/// Waits until it failed, and says why.
fn why(server: &Server, id: &str) -> String {
    let failed = |now: &Value| now.to_string().contains("\"error\"") || now.to_string().contains("-response");
    let path = format!("/fhir/Subscription/{id}/$status");
    server.wait_for(&path, failed).unwrap().to_string()
}

#[test]
fn a_hostile_endpoint_gains_nothing() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let other = Webhook::start();
    let long = "x".repeat(4 << 20);
    let redirect = format!("HTTP/1.1 307 Gone\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.url("/"));
    let chatty = "HTTP/1.1 500 Patient-Smith\r\nX-Patient: Smith\r\nContent-Length: 13\r\n\r\nPatient Smith";
    let headers = format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    for (mood, expected) in [
        (Mood::Says(redirect.leak()), "307"),
        (Mood::Says(chatty), "500 Internal Server Error"),
        (Mood::Says(headers.leak()), "can't be reached"),
        (Mood::Says(many.leak()), "can't be reached"),
        (Mood::Says("HTTP/9.9 what\r\n\r\n"), "can't be reached"),
        (Mood::Says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), "101"),
        (Mood::Drips, "no answer in time"),
        (Mood::Hangs, "no answer in time"),
    ] {
        let hook = Webhook::start();
        hook.answers(move |_| mood);
        let mut asked = plain(ALL, &hook.url("/x"), Some(JSON));
        let timeout = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout";
        asked["channel"]["extension"] = json!([{"url": timeout, "valueUnsignedInt": 1}]);
        let id = subscribe(&server, &asked);
        server.post("/fhir/Observation", &observation("smith", "1-1")).unwrap().expect(201).unwrap();
        let why = why(&server, &id);
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!why.to_lowercase().contains("smith"), "{why}");
        server.delete(&format!("/fhir/Subscription/{id}")).unwrap().expect(204).unwrap();
    }
    assert!(other.calls().is_empty());
    // An answer that never ends is one: nothing of it is read.
    let hook = Webhook::start();
    hook.answers(|_| Mood::Says("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nx"));
    subscribe(&server, &plain(ALL, &hook.url("/x"), Some(JSON)));
    for _ in 0..3 {
        server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
    }
    hook.wait(LONG, |calls| calls.len() == 3);
}

#[test]
fn a_hostile_subscriber_leads_nowhere() {
    let server = Server::start(Backend::Sqlite).unwrap();
    for endpoint in [
        "http://hook.example/",
        "https://me:swordfish@hook.example/",
        "https://hook.example/\r\nX: y",
        "https://hook.example/#x",
        "https://[::ffff:10.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[::10.0.0.1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b:1::10.0.0.1]/",
        "https://[2002:a00:1::]/",
        "https://[2001:0:a00:1::]/",
        "https://[fec0::1]/",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[ff02::1]/",
        "https://100.100.100.200/",
        "https://192.0.0.192/",
        "https://198.18.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://0xa9fea9fe/",
        "https://2852039166/",
        "file:///etc/passwd",
        "ftp://hook.example/",
        "gopher://hook.example/",
        "unix:/run/x.sock",
    ] {
        let refused = server.post("/fhir/Subscription", &plain(ALL, endpoint, None)).unwrap();
        assert!(matches!(refused.status, 400 | 422), "{endpoint}: {} {}", refused.status, refused.text);
        assert!(refused.text.contains("Subscription.channel.endpoint"), "{endpoint}: {}", refused.text);
        assert!(!refused.text.contains("swordfish"), "{}", refused.text);
    }
    for header in [
        "X: swordfish\r\nY: z",
        "X: swordfish\u{0}",
        "Host: swordfish",
        "webhook-signature: swordfish",
        "swordfish",
    ] {
        let mut asked = plain(ALL, "https://hook.example/", None);
        asked["channel"]["header"] = json!([header]);
        let refused = server.post("/fhir/Subscription", &asked).unwrap();
        assert!(matches!(refused.status, 400 | 422), "{header:?}: {}", refused.text);
        assert!(!refused.text.contains("swordfish"), "{}", refused.text);
    }
}

#[test]
fn what_a_header_says_is_nowhere_to_be_read() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        hook.answers(|_| Mood::Answers(418));
        let asked = |secret: &str| {
            let mut one = plain(ALL, &hook.url("/x"), None);
            one["channel"]["header"] = json!([format!("Authorization: Bearer swordfish{secret}")]);
            one
        };
        let made = server.post("/fhir/Subscription", &asked("")).unwrap().expect(201).unwrap();
        let id = made.json["id"].as_str().unwrap().to_owned();
        let path = format!("/fhir/Subscription/{id}");
        let mut said = vec![made.text];
        let mut tell = |answer: anyhow::Result<Answer>, status: u16| {
            let answer = answer.unwrap().expect(status).unwrap();
            said.push(answer.text);
            answer.json
        };
        let mut changed = asked("2");
        changed["id"] = json!(id);
        tell(server.put(&path, &changed), 200);
        let replaced = json!([{"op": "replace", "path": "/channel/header/0", "value": "X: swordfish3"}]);
        let request =
            server.http().patch(server.url(&path)).header("content-type", "application/json-patch+json");
        tell(Answer::of(request.body(replaced.to_string()).send().unwrap()), 200);
        // What is tested by a patch is what is shown.
        let guess = json!([{"op": "test", "path": "/channel/header/0", "value": "X: swordfish3"}]);
        let request =
            server.http().patch(server.url(&path)).header("content-type", "application/json-patch+json");
        let guess = Answer::of(request.body(guess.to_string()).send().unwrap()).unwrap();
        assert!(guess.status >= 400, "{}", guess.text);
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": asked("4"), "request": {"method": "POST", "url": "Subscription"}},
            {"resource": {"resourceType": "Subscription", "id": id, "channel": changed["channel"], "status": "requested",
                "reason": "r", "criteria": ALL}, "request": {"method": "PUT", "url": format!("Subscription/{id}")}},
            {"request": {"method": "GET", "url": format!("Subscription/{id}")}},
        ]});
        let request = server.http().post(server.url("/fhir")).header("content-type", JSON);
        let request = request.header("prefer", "return=representation").body(bundle.to_string());
        tell(Answer::of(request.send().unwrap()), 200);
        server.wait_for(&path, |now| now["status"] == "active").unwrap();
        server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
        let of = |calls: &[Call], secret: &str| {
            calls.iter().any(|call| call.header("authorization").ends_with(secret))
        };
        hook.wait(LONG, |calls| of(calls, "swordfish2") && of(calls, "swordfish4"));
        for address in [
            path.clone(),
            format!("{path}?_format=xml"),
            format!("{path}/_history"),
            format!("{path}/_history/1"),
            format!("{path}/$status"),
            format!("{path}/$events"),
            format!("{path}/$meta"),
            format!("{path}/$validate"),
            "/fhir/Subscription?_summary=false".to_owned(),
            format!("/fhir/Subscription?url={}", hook.url("/x")),
            "/fhir/_history".to_owned(),
            "/fhir/Subscription/$status".to_owned(),
            "/fhir/AuditEvent?_count=500".to_owned(),
            "/metrics".to_owned(),
            "/health".to_owned(),
        ] {
            tell(server.get(&address), 200);
        }
        let mut validated = asked("5");
        validated["status"] = json!("nonsense");
        said.push(server.post("/fhir/Subscription/$validate", &validated).unwrap().text);
        for text in &said {
            assert!(!text.contains("swordfish"), "{text}");
        }
        assert_eq!(said.iter().filter(|text| text.contains("********")).count(), 11);
        let sent: Vec<String> =
            hook.calls().iter().map(|call| call.header("authorization").to_owned()).collect();
        assert!(
            sent.contains(&"Bearer swordfish2".to_owned()) && sent.contains(&"Bearer swordfish4".to_owned())
        );
    }
}

/// The codes of a list of Codings or CodeableConcepts.
fn codes(of: &Value) -> Vec<&str> {
    let all = of["coding"].as_array().or(of.as_array()).map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|one| one["code"].as_str()).collect()
}

#[test]
fn every_attempt_to_tell_is_recorded() {
    for backend in BOTH {
        let server = Server::start_with(backend, &CLOSED).unwrap();
        let hook = Webhook::start();
        let mut left = vec![Mood::Answers(500)];
        hook.answers(move |call| {
            if call.numbers() == [1] { left.pop().unwrap_or(Mood::Answers(200)) } else { Mood::Answers(200) }
        });
        let key = server.key(&["app", "--scope", "system/Subscription.cruds system/Observation.cr"]).unwrap();
        let reader =
            server.key(&["reader", "--scope", "system/AuditEvent.rs system/Subscription.rs"]).unwrap();
        let ask = |key: &str, method: &str, path: &str, body: &Value| {
            let request = server.http().request(method.parse().unwrap(), server.url(path)).bearer_auth(key);
            let request = request.header("content-type", JSON).body(body.to_string());
            Answer::of(request.send().unwrap()).unwrap()
        };
        let told = |hook: &Webhook, content: &str| {
            let asked = topical(CRITICAL, &[], &hook.url("/secret?key=swordfish"), content);
            ask(&key, "POST", "/fhir/Subscription", &asked).expect(201).unwrap().json["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let (quiet, gone) = (Webhook::start(), Webhook::start());
        let (id, quietly) = (told(&hook, "full-resource"), told(&quiet, "id-only"));
        gone.answers(|call| Mood::Answers(if call.numbers().is_empty() { 200 } else { 410 }));
        let last = told(&gone, "full-resource");
        for one in [&id, &quietly, &last] {
            let path = format!("/fhir/Subscription/{one}");
            let active = || ask(&key, "GET", &path, &Value::Null).json["status"] == "active";
            assert!((0..500).any(|_| active() || {
                std::thread::sleep(LONG / 500);
                false
            }));
        }
        let made = ask(&key, "POST", "/fhir/Observation", &critical("p")).expect(201).unwrap();
        let observed = format!("Observation/{}/_history/1", made.json["id"].as_str().unwrap());
        hook.wait(LONG, |calls| calls.len() == 3);
        quiet.wait(LONG, |calls| calls.len() == 2);
        gone.wait(LONG, |calls| calls.len() == 2);
        let events = || -> Vec<Value> {
            let trail = ask(&reader, "GET", "/fhir/AuditEvent?_count=500", &Value::Null).json;
            let all = trail["entry"].as_array().unwrap().iter().rev().map(|entry| entry["resource"].clone());
            all.filter(|event| event["type"]["code"] == "110106").collect()
        };
        assert!((0..500).any(|_| events().len() >= 4 || {
            std::thread::sleep(LONG / 500);
            false
        }));
        let events = events();
        let about = |id: &str| -> Vec<&Value> {
            events.iter().filter(|event| event.to_string().contains(&format!("Subscription/{id}"))).collect()
        };
        let disclosures = about(&id);
        let outcomes: Vec<&str> =
            disclosures.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["8", "0"]);
        let origin = hook.url("");
        for event in &disclosures {
            assert_eq!(codes(&event["subtype"]), ["disclose"]);
            let agents = event["agent"].as_array().unwrap();
            let kinds: Vec<Vec<&str>> = agents.iter().map(|agent| codes(&agent["type"])).collect();
            assert_eq!(kinds, [["110153"], ["110152"], ["110150"]]);
            assert_eq!(agents[0]["network"]["address"], server.url(""));
            assert_eq!(agents[1]["network"], json!({"address": origin, "type": "5"}));
            assert_eq!(agents[2]["who"]["display"], "app");
            assert_eq!(agents.iter().filter(|agent| agent["requestor"] == true).count(), 1);
            let what: Vec<&str> = event["entity"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|one| one["what"]["reference"].as_str())
                .collect();
            assert_eq!(what, ["Patient/p", &observed, &format!("Subscription/{id}")]);
            assert!(!event.to_string().contains("swordfish") && !event.to_string().contains("/secret"));
        }
        assert!(disclosures[0]["outcomeDesc"].as_str().unwrap().contains("500"));
        assert!(disclosures[0]["meta"].get("profile").is_none());
        let profile =
            "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source";
        assert_eq!(disclosures[1]["meta"]["profile"], json!([profile]));
        let [one] = about(&quietly)[..] else { panic!("{:?}", about(&quietly)) };
        assert_eq!((codes(&one["subtype"]), &one["outcome"]), (vec!["deliver"], &json!("0")));
        let [one] = about(&last)[..] else { panic!("{:?}", about(&last)) };
        assert_eq!((codes(&one["subtype"]), &one["outcome"]), (vec!["disclose"], &json!("8")));
    }
}

#[test]
fn a_transaction_takes_nothing_that_a_write_by_itself_refuses() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let hook = Webhook::start();
        let good = plain("Observation?status=final", &hook.url("/"), None);
        let with = |pointer: &str, value: Value| {
            let mut one = good.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            one.pointer_mut(parent).unwrap()[name] = value;
            one
        };
        let own = server.get("/fhir/Basic/observation-critical").unwrap().expect(200).unwrap().json;
        let mut other = own.clone();
        other["extension"].as_array_mut().unwrap().pop();
        let cases = [
            (with("/channel/endpoint", json!("http://169.254.169.254/latest")), ".channel.endpoint"),
            (with("/channel/header", json!(["X: a\r\nwebhook-id: evil"])), ".channel.header[0]"),
            (with("/channel/header", json!(["Host: evil.example"])), ".channel.header[0]"),
            (with("/channel/type", json!("email")), ".channel.type"),
            (with("/criteria", json!("Foo?x=1")), ".criteria"),
            (other, ""),
        ];
        for (resource, at) in cases {
            let kind = resource["resourceType"].as_str().unwrap();
            let (method, url) = match resource["id"].as_str() {
                Some(id) => ("PUT", format!("{kind}/{id}")),
                None => ("POST", kind.to_owned()),
            };
            let request = json!({"method": method, "url": url});
            let patient = json!({"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}});
            let entry = json!([patient, {"resource": resource, "request": request}]);
            let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entry});
            let answer = server.post("/fhir", &bundle).unwrap().expect(422).unwrap();
            let said = answer.json["issue"][0]["expression"][0].as_str().unwrap_or_default();
            assert!(said.starts_with(&format!("Bundle.entry[1].resource{at}")), "{}", answer.text);
        }
        let none = server.get("/fhir/Patient?_summary=count").unwrap().expect(200).unwrap();
        assert_eq!(none.json["total"], 0);
    }
}

#[test]
fn what_a_header_says_is_not_sent_to_another_endpoint() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        let (hook, other) = (Webhook::start(), Webhook::start());
        let mut asked = plain("Observation?status=final", &hook.url("/"), None);
        asked["channel"]["header"] = json!(["Authorization: Bearer of-the-emr"]);
        let id = subscribe(&server, &asked);
        let at = format!("/fhir/Subscription/{id}");
        let mut shown = server.get(&at).unwrap().expect(200).unwrap().json;
        shown["reason"] = json!("another");
        server.put(&at, &shown).unwrap().expect(200).unwrap();

        shown["channel"]["endpoint"] = json!(other.url("/"));
        let refused = server.put(&at, &shown).unwrap().expect(400).unwrap();
        assert_eq!(refused.json["issue"][0]["expression"][0], "Subscription.channel.header[0]");
        let change = json!([{"op": "replace", "path": "/channel/endpoint", "value": other.url("/")}]);
        let request = server
            .http()
            .patch(server.url(&at))
            .header("content-type", "application/json-patch+json")
            .body(change.to_string());
        assert_eq!(request.send().unwrap().status(), 400);

        shown["channel"]["header"] = json!(["Authorization: Bearer anew"]);
        server.put(&at, &shown).unwrap().expect(200).unwrap();
        server.wait_for(&at, |shown| shown["status"] == "active").unwrap();
        server.post("/fhir/Observation", &observation("p", "1-1")).unwrap().expect(201).unwrap();
        let calls = other.wait(LONG, |calls| !calls.is_empty());
        assert_eq!(calls[0].header("authorization"), "Bearer anew");
    }
}
