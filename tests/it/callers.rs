//! Where callers come from, behind a proxy too, and what is recorded of those whom nobody knows.

use std::process::Command;

use harness::browser::Browser;
use harness::{Answer, BOTH, Backend, Server};
use serde_json::Value;

use crate::smart::{PASSWORD, Place};
use crate::smart_trail::{queries, trail};

fn ask(place: &Place, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = place.server.http().get(place.server.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().unwrap()).unwrap()
}

/// The addresses that refused reads came from, the first first.
fn addresses(place: &Place) -> Vec<String> {
    let address = |event: &Value| event["agent"][0]["network"]["address"].as_str().unwrap().to_owned();
    trail(place, "outcome=4&subtype=read").iter().rev().map(address).collect()
}

#[test]
fn a_proxy_says_where_callers_are() {
    for (settings, header) in [
        (vec![("AUGURY_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")], "x-forwarded-for"),
        (vec![("AUGURY_TRUSTED_PROXIES", "127.0.0.0/8"), ("AUGURY_PROXY_HEADER", "forwarded")], "forwarded"),
        (vec![], "x-forwarded-for"),
    ] {
        let settings = [settings.as_slice(), &[("AUGURY_RATE_ANONYMOUS", "2/hour")]].concat();
        let place = Place::with(Backend::Sqlite, &settings);
        let element = |ip: &str| if header == "forwarded" { format!("for={ip}") } else { ip.to_owned() };
        let statuses: Vec<u16> = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]
            .iter()
            .map(|ip| {
                let said = format!("{}, {}", element("203.0.113.9"), element(ip));
                ask(&place, "/fhir/Patient/p1", &[(header, &said)]).status
            })
            .collect();
        if settings.len() == 1 {
            // Nobody is trusted: all of them are one.
            assert_eq!(statuses, [401, 401, 429, 429]);
            assert_eq!(addresses(&place), ["127.0.0.1"; 4]);
            continue;
        }
        assert_eq!(statuses, [401, 401, 429, 401], "{header}");
        assert_eq!(addresses(&place), ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]);
        let other = if header == "forwarded" { "x-forwarded-for" } else { "forwarded" };
        let spoofed = [(other, "192.0.2.7"), (header, &element("192.0.2.8"))].map(|(n, v)| (n, v.to_owned()));
        let spoofed = spoofed.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(ask(&place, "/fhir/Patient/p1", &spoofed).status, 401);
        assert_eq!(addresses(&place)[4], "192.0.2.8");
    }
}

#[test]
fn who_only_knocks_does_not_fill_the_trail() {
    for backend in BOTH {
        let mut place = Place::with(backend, &[("AUGURY_RATE_ANONYMOUS", "30/hour")]);
        for _ in 0..50 {
            assert!(matches!(ask(&place, "/fhir/Patient/p1", &[]).status, 401 | 429));
        }
        let refused = trail(&place, "outcome=4");
        assert_eq!(refused.len(), 10);
        // Nothing is looked up for them.
        let persons = |event: &Value| {
            event["entity"].as_array().unwrap().iter().filter(|one| one["type"]["code"] == "1").count()
        };
        assert!(refused.iter().all(|event| persons(event) == 0));
        let pid = place.server.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        std::thread::sleep(std::time::Duration::from_secs(1));
        place.server.kill_and_restart().unwrap();
        let summed = trail(&place, "subtype=refuse");
        assert_eq!(summed.len(), 1);
        assert_eq!(
            summed[0]["outcomeDesc"],
            "40 more requests of callers that nobody knows were refused within a minute"
        );
        assert_eq!(summed[0]["agent"][0]["network"]["address"], "127.0.0.1");
    }
}

/// Asks without being let in, and the status.
fn knock(place: &Place, method: &str, path: &str, token: &str) -> u16 {
    let request = place.server.http().request(method.parse().unwrap(), place.server.url(path));
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    request.header("accept", "text/plain").send().unwrap().status().as_u16()
}

/// Patients that events name.
fn persons(events: &[Value]) -> usize {
    let entities = events.iter().flat_map(|event| event["entity"].as_array().cloned().unwrap_or_default());
    entities.filter(|one| one["type"]["code"] == "1").count()
}

#[test]
fn whatever_nobody_may_ask_does_not_fill_the_trail() {
    for backend in BOTH {
        let place = Place::new(backend);
        for (method, path, token, status) in [
            ("GET", "/oauth/upstream/callback/?code=secret-of-somebody&launch=secret-of-somebody", "", 404),
            ("GET", "/.well-known/x?state=secret-of-somebody", "", 404),
            ("POST", "/fhir/metadata", "", 406),
            ("POST", "/websocket", "", 405),
            ("PROPFIND", "/predictions/r1", "x", 405),
            ("GET", "/x", "x", 404),
            ("PROPFIND", "/fhir/Patient/p1?_format=json", "x", 405),
            ("GET", "/fhir/Patient/p1", "x", 406),
        ] {
            for _ in 0..4 {
                assert_eq!(knock(&place, method, path, token), status, "{backend:?} {method} {path}");
            }
        }
        let refused = trail(&place, "outcome=4");
        assert_eq!((refused.len(), persons(&refused)), (10, 0), "{backend:?}");
        let asked: Vec<String> = refused.iter().flat_map(queries).collect();
        assert!(asked.contains(&"GET /oauth/upstream/callback/".to_owned()), "{asked:?}");
        assert!(!asked.iter().any(|query| query.contains("secret-of-somebody")), "{asked:?}");

        // Of whom we know, each is told, and whom it was about.
        for (method, path, status) in [
            ("PROPFIND", "/fhir/Patient/p1?_format=json", 405),
            ("GET", "/fhir/Patient/p1", 406),
            ("GET", "/x", 404),
        ] {
            assert_eq!(knock(&place, method, path, &place.key), status);
            let refused = trail(&place, "outcome=4");
            let told = &refused[0]["agent"][0]["who"]["display"];
            assert_eq!((told, persons(&refused[..1])), (&Value::from("tests"), usize::from(path != "/x")));
        }
    }
}

#[test]
fn a_prediction_that_is_refused_is_told_with_its_patient() {
    for backend in BOTH {
        let place = Place::new(backend);
        place.put(&serde_json::json!({"resourceType": "RiskAssessment", "id": "r1", "status": "final",
            "subject": {"reference": "Patient/p2"}}));
        let narrow = place.server.key(&["narrow", "--scope", "system/Observation.rs"]).unwrap();
        assert_eq!(place.read("/predictions/r1", &narrow), 403);
        let told = trail(&place, "outcome=4&patient=Patient/p2&entity=RiskAssessment/r1");
        assert_eq!(told.len(), 1, "{backend:?}");
        assert_eq!(told[0]["agent"][0]["who"]["display"], "narrow");
    }
}

#[test]
fn who_guesses_where_nothing_is_asked_is_counted() {
    let place = Place::with(Backend::Sqlite, &[("AUGURY_RATE_ANONYMOUS", "3/hour")]);
    let tried: Vec<u16> = (0..5).map(|_| knock(&place, "PROPFIND", "/predictions", "x")).collect();
    assert_eq!(tried, [405, 405, 405, 429, 429]);
    assert_eq!(knock(&place, "GET", "/oauth/x", "x"), 429);
    // Behind the same address others go on.
    assert_eq!(knock(&place, "PROPFIND", "/predictions", &place.key), 405);
    assert_eq!(place.read("/fhir/Patient/p1", &place.key), 200);
}

#[test]
fn who_tries_too_often_is_told_on_the_page() {
    let place = Place::with(Backend::Sqlite, &[("AUGURY_RATE_SIGN_IN", "2/hour")]);
    let mut browser = Browser::new(&place.server).unwrap();
    let page = browser.get("/oauth/manage").unwrap();
    let mut enter = |login: &str, password: &str| {
        browser.submit(&page, "/oauth/sign-in", &[("login", login), ("password", password)]).unwrap()
    };
    assert_eq!([enter("carol", "wrong").status, enter("carol", "wrong").status], [200, 200]);
    let refused = enter("carol", PASSWORD);
    assert_eq!((refused.status, refused.header("content-type")), (429, "text/html; charset=utf-8"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    let said = format!("too many attempts from here. Wait {wait} seconds");
    assert!(refused.text.contains(&said) && refused.text.contains("name=\"csrf\""), "{}", refused.text);
    // Others are asked as before.
    assert_eq!(enter("dave", "wrong").status, 200);
}

#[test]
fn a_token_in_an_address_is_nowhere_kept() {
    let place = Place::new(Backend::Sqlite);
    for name in ["access_token", "access%5Ftoken", "%61ccess_token", "access_token+", "Access%5fToken"] {
        let path = format!("/fhir/Patient?_id=p1&{name}=secret-of-somebody");
        let asked = place.server.http().get(place.server.url(&path)).bearer_auth(&place.key).send().unwrap();
        assert!(asked.status().is_success() || asked.status() == 400);
    }
    let all: Vec<String> = trail(&place, "").iter().flat_map(queries).collect();
    assert!(all.iter().filter(|query| query.contains("=…")).count() >= 5, "{all:?}");
    assert!(!all.iter().any(|query| query.contains("secret-of-somebody")), "{all:?}");
}

#[test]
fn callers_are_listed_with_what_they_may_do() {
    for backend in BOTH {
        let server = Server::start(backend).unwrap();
        server.key(&["all"]).unwrap();
        server.key(&["few", "--scope", "system/Observation.rs system/AuditEvent.rs"]).unwrap();
        let app = ["--public", "--redirect", "https://app.example/", "--scope", "launch patient/*.rs"];
        server.command(&[&["client", "add", "app"], app.as_slice()].concat(), "").unwrap();
        server.key(&["week", "--scope", "system/Patient.r", "--expires", "7d"]).unwrap();
        server.key(&["brief", "--scope", "system/Patient.r", "--expires", "1s"]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let listed = server.command(&["client", "list"], "").unwrap();
        let line = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("  week  ").contains("  active    week  system/Patient.r  until 20"), "{listed}");
        assert!(line("  brief  ").contains("  expired   brief  system/Patient.r  until 20"), "{listed}");
        for end in [
            "active    all  system/*.cruds system/Consent.cruds system/AuditEvent.rs augury/models",
            "active    few  system/Observation.rs system/AuditEvent.rs",
            "approved  app  [app, public]  launch patient/*.rs",
        ] {
            assert!(listed.lines().any(|line| line.ends_with(end)), "{listed}");
        }
    }
}

#[test]
fn what_can_not_be_meant_is_refused_in_words() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let folder = harness::Folder::new().unwrap();
    let file = folder.path().join("keys.json");
    let file = file.to_str().unwrap();
    let refused = |arguments: &[&str], said: &str| {
        let error = server.command(arguments, PASSWORD).unwrap_err().to_string();
        assert!(error.contains(said), "{arguments:?} {error}");
    };
    for name in ["", "two\nlines", "esc\u{1b}[2J", "ppa\u{202e}ksir", "a\u{2028}b"] {
        refused(&["client", "add", name], "the name has");
        refused(&["client", "add", name, "--public", "--redirect", "https://app.example/"], "the name has");
        refused(&["user", "add", name, "--role", "admin"], "the login has");
        refused(&["user", "add", "erin", "--role", "admin", "--name", name], "--name has");
        let mut asked = serde_json::json!({"redirect_uris": ["https://app.example/"], "client_name": name});
        let status = server.post("/oauth/register", &asked).unwrap().status;
        // No name at all is one that says so.
        assert_eq!(status, if name.is_empty() { 201 } else { 400 }, "{name:?}");
        asked["client_name"] = Value::from("App");
        server.post("/oauth/register", &asked).unwrap().expect(201).unwrap();
    }
    refused(&["client", "revoke", "x-1"], "no client with the id x-1");
    refused(&["client", "approve", "x-1"], "no app with the id x-1");
    for what in [&["user", "lock", "x-1"][..], &["user", "unlock", "x-1"], &["user", "role", "x-1", "admin"]]
    {
        refused(what, "no account with the login x-1");
    }
    refused(&["audit", "prove", "x-1"], "there is no AuditEvent/x-1");
    for text in ["{", "[]", "{\"keys\": 1}", "-----BEGIN PUBLIC KEY-----"] {
        std::fs::write(file, text).unwrap();
        refused(&["client", "add", "app", "--jwks", file], "keys.json is no public key set");
    }
    for proof in ["--public", "--secret"] {
        let scope = "openid system/Patient.rs";
        let app = ["client", "add", "app", proof, "--redirect", "https://app.example/", "--scope", scope];
        refused(&app, "system/… scopes are for apps that act for themselves");
    }
}

/// Of a key without scopes all is allowed; of one with scopes what they name, and the trail only by its name.
#[test]
fn a_star_does_not_hold_the_trail() {
    let server = Server::start_with(Backend::Sqlite, &[("AUGURY_AUTH", "required")]).unwrap();
    for (scope, status) in
        [(None, 200), (Some("system/*.cruds"), 403), (Some("system/*.cruds system/AuditEvent.rs"), 200)]
    {
        let scope: Vec<&str> = scope.into_iter().flat_map(|scope| ["--scope", scope]).collect();
        let key = server.key(&[&["one"], scope.as_slice()].concat()).unwrap();
        let asked = server.http().get(server.url("/fhir/AuditEvent")).bearer_auth(&key).send().unwrap();
        assert_eq!(asked.status(), status, "{scope:?}");
    }
}

/// Is somebody signed in with that password?
fn enters(browser: &mut Browser<'_>, password: &str) -> bool {
    let page = browser.get("/oauth/manage").unwrap();
    let pairs = [("login", "carol"), ("password", password), ("code", "")];
    browser.submit(&page, "/oauth/sign-in", &pairs).unwrap().status == 303
}

/// Whoever knows a login can't keep its owner out with wrong passwords, nor guess without end.
#[test]
fn strangers_lock_out_themselves() {
    for backend in BOTH {
        let place = Place::with(backend, &[("AUGURY_TRUSTED_PROXIES", "127.0.0.1")]);
        let at = |address: &str| Browser::at(&place.server, address).unwrap();
        let signed_out = |browser: &mut Browser<'_>| {
            let page = browser.get("/oauth/manage").unwrap();
            browser.submit(&page, "/oauth/sign-out", &[]).unwrap();
        };
        let mut own = at("192.0.2.1");
        assert!(enters(&mut own, PASSWORD));
        signed_out(&mut own);

        let mut stranger = at("198.51.100.1");
        for _ in 0..5 {
            assert!(!enters(&mut stranger, "wrong password"));
        }
        assert!(!enters(&mut stranger, PASSWORD), "{backend:?}: five were wrong");
        assert!(!enters(&mut at("198.51.100.1"), PASSWORD), "{backend:?}: another browser there");
        let mut second = at("203.0.113.1");
        assert!(enters(&mut second, PASSWORD), "{backend:?}: elsewhere");
        assert!(enters(&mut own, PASSWORD));
        signed_out(&mut own);

        // From many networks a hundred are tried, and then only who was here before may try.
        for n in 0..100 {
            assert!(!enters(&mut at(&format!("198.51.100.{}", 10 + n / 4)), "wrong password"));
        }
        assert!(!enters(&mut at("203.0.113.9"), PASSWORD), "{backend:?}: a hundred were wrong");
        let mut moved = at("203.0.113.1");
        assert!(enters(&mut moved, PASSWORD), "{backend:?}: a network that is known");

        // In a network that is known a stranger locks out new browsers, and not those that are known.
        for _ in 0..5 {
            assert!(!enters(&mut at("192.0.2.1"), "wrong password"));
        }
        assert!(!enters(&mut at("192.0.2.1"), PASSWORD));
        assert!(enters(&mut own, PASSWORD), "{backend:?}: a browser that is known");
        signed_out(&mut own);
        // Even a browser that is known has few tries.
        for _ in 0..5 {
            assert!(!enters(&mut own, "wrong password"));
        }
        assert!(!enters(&mut own, PASSWORD));
        place.user(&["unlock", "carol"]);
        assert!(enters(&mut own, PASSWORD));
    }
}
