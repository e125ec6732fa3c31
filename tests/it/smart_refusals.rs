//! What the authorization server refuses is in the trail: by whom, for which app, about whose record, and why.

use std::time::{Duration, Instant};

use harness::browser::Browser;
use harness::{Answer, BOTH};
use serde_json::{Value, json};

use crate::smart::{
    CALLBACK, PASSWORD, Place, VERIFIER, allow, ask, code, led, question, redeem, to_consent, to_consent_as,
};
use crate::smart_clients::{claims, elliptic, one_time, register, tell};
use crate::smart_trail::{queries, trail};

/// Why, whose record, which user, which client, and what was asked, of the newest event of that kind that tells
/// of a refusal.
fn newest(place: &Place, subtype: &str) -> (String, String, String, String, String) {
    let event = trail(place, &format!("subtype={subtype}&outcome=4")).into_iter().next().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entities = event["entity"].as_array().cloned().unwrap_or_default();
    let person = entities.iter().find(|one| one["type"]["code"] == "1");
    let agents = event["agent"].as_array().cloned().unwrap_or_default();
    let user = agents.iter().find(|one| one["name"].is_string()).cloned().unwrap_or_default();
    (
        text(&event["outcomeDesc"]),
        person.map(|one| text(&one["what"]["reference"])).unwrap_or_default(),
        text(&user["name"]),
        text(&event["agent"][0]["who"]["identifier"]["value"]),
        queries(&event).join(" "),
    )
}

/// Opens an app for a patient, as an EHR does.
fn opened(place: &Place, app: &str, body: Value) -> String {
    let key = elliptic("e1");
    let ehr = register(place, &[&key], &["--scope", "augury/launch system/Patient.r"]);
    let got = tell(place, &key.sign(&key.header(), &claims(place, &ehr)), "augury/launch system/Patient.r");
    let token = got.expect(200).unwrap().json["access_token"].as_str().unwrap().to_owned();
    let mut body = body;
    body["client_id"] = json!(app);
    let request = place.server.http().post(place.server.url("/oauth/launch")).bearer_auth(token);
    let answer = Answer::of(request.json(&body).send().unwrap()).unwrap().expect(201).unwrap();
    answer.json["launch"].as_str().unwrap().to_owned()
}

#[test]
fn questions_of_apps_that_are_refused() {
    for backend in BOTH {
        let place = Place::new(backend);
        let (client, other) = (place.public(), place.public());
        let mut browser = Browser::new(&place.server).unwrap();
        for (asked, why) in [
            (("redirect_uri", "https://evil.example/cb"), "at an address that it did not register"),
            (("aud", "https://other.example/fhir"), "another server than this one"),
            (("code_challenge", ""), "invalid_request: code_challenge is missing"),
            (("scope", "nothing/*.rs"), "invalid_scope: "),
            (("launch", "a-handle-that-nobody-made"), "invalid_request: launch is not known"),
        ] {
            ask(&mut browser, &question(&place, &client, &[asked]));
            let (told, patient, user, agent, query) = newest(&place, "authorize");
            assert!(told.contains(why), "{backend:?} {told}");
            // What an app says of itself is told as what was asked: it is proved by nothing.
            assert_eq!((patient.as_str(), user.as_str(), agent.as_str()), ("", "", ""));
            assert!(query.starts_with("GET /oauth/authorize ") && query.contains(&client), "{query}");
            assert!(!query.contains("a-handle-that") && !query.contains("s+1"), "{query}");
        }

        // An app may be opened once, and is another than the one that was opened.
        let launch = opened(&place, &client, json!({"patient": "p2", "user": "carol", "intent": "see all"}));
        let told = trail(&place, "subtype=launch&patient=Patient/p2&outcome=0");
        let asked = format!("POST /oauth/launch client_id={client} user=carol intent=see%20all");
        assert_eq!(queries(&told[0]), [asked]);
        let with =
            |app| question(&place, app, &[("launch", &launch), ("scope", "launch openid patient/*.rs")]);
        ask(&mut browser, &with(&other));
        let (told, patient, user, _, query) = newest(&place, "authorize");
        assert!(told.starts_with("invalid_request: launch is not known") && query.contains(&other));
        assert_eq!((patient.as_str(), user.as_str()), ("Patient/p2", ""));
        let began = ask(&mut browser, &with(&client));
        let page = to_consent(&mut browser, &began, "-");
        led(&allow(&mut browser, &page, None), "code").unwrap();
        ask(&mut browser, &with(&client));
        let (told, patient, user, _, _) = newest(&place, "authorize");
        assert!(told.starts_with("invalid_request: launch is not known"));
        assert_eq!((patient.as_str(), user.as_str()), ("Patient/p2", "carol"));
        assert_eq!(trail(&place, "patient=Patient/p2&subtype=authorize&outcome=4").len(), 2);
    }
}

#[test]
fn what_who_is_signed_in_may_not_have() {
    for backend in BOTH {
        let place = Place::new(backend);
        place.user(&["add", "pat", "--role", "patient", "--fhir-user", "Patient/p1"]);
        let client = place.public();
        let scope = "launch openid patient/*.rs";
        let launched = |body: Value| {
            let launch = opened(&place, &client, body);
            question(&place, &client, &[("launch", &launch), ("scope", scope)])
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Vec<_>>()
        };
        let ask_owned = |browser: &mut Browser<'_>, asked: &[(String, String)]| {
            let asked: Vec<(&str, String)> =
                asked.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            ask(browser, &asked)
        };
        // Another patient's record.
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask_owned(&mut browser, &launched(json!({"patient": "p2"})));
        let done = to_consent_as("pat", &mut browser, &began, "-");
        assert_eq!(led(&done, "error").as_deref(), Some("access_denied"));
        let said = |why: &str, patient: &str, user: &str| {
            let told = newest(&place, "authorize");
            assert!(told.0.contains(why), "{backend:?} {told:?}");
            assert_eq!((told.1.as_str(), told.2.as_str(), told.3.as_str()), (patient, user, client.as_str()));
        };
        said("access_denied: this is another patient's record", "Patient/p2", "pat");
        assert_eq!(trail(&place, "patient=Patient/p2&subtype=authorize&outcome=4").len(), 1);

        // An app that was opened for somebody else.
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask_owned(&mut browser, &launched(json!({"patient": "p1", "user": "dave"})));
        to_consent(&mut browser, &began, "-");
        said("access_denied: the app was opened for somebody else", "Patient/p1", "carol");

        // No, nothing of it, and a form of somewhere else.
        for (pairs, why) in [
            (&[("decision", "deny")][..], "access_denied: the user did not agree"),
            (&[("decision", "allow")][..], "access_denied: the user did not agree to anything"),
            (&[("decision", "allow"), ("scope", "openid")][..], "was not made for your browser"),
        ] {
            let began = ask(&mut browser, &question(&place, &client, &[]));
            let mut page = to_consent(&mut browser, &began, "p2");
            if why.contains("browser") {
                page.text = page.text.replace("name=\"csrf\" value=\"", "name=\"csrf\" value=\"x");
            }
            browser.submit(&page, "/oauth/consent", pairs).unwrap();
            said(why, "Patient/p2", "carol");
        }
        assert_eq!(trail(&place, "subtype=authorize&outcome=4").len(), 5, "each is told once");
    }
}

#[test]
fn what_clients_are_refused_and_what_they_ask_about_tokens() {
    for backend in BOTH {
        let place = Place::new(backend);
        let (client, secret) = place.app(&["--secret", "--redirect", CALLBACK]);
        let key = elliptic("k1");
        let own = register(&place, &[&key], &["--scope", "system/Patient.rs augury/launch"]);
        let assertion = key.sign(&key.header(), &claims(&place, &own));
        let token = tell(&place, &assertion, "system/*.rs").expect(200).unwrap();
        let token = token.json["access_token"].as_str().unwrap().to_owned();
        let post = |path: &str, id: &str, secret: &str| {
            let request = place.server.http().post(place.server.url(path)).basic_auth(id, Some(secret));
            Answer::of(request.form(&[("token", &token)]).send().unwrap()).unwrap()
        };
        assert_eq!(post("/oauth/introspect", &client, &secret).expect(200).unwrap().json["active"], true);
        let asked = &trail(&place, "subtype=ITI-102&outcome=0")[0];
        assert_eq!(asked["agent"][0]["who"]["identifier"]["value"], client);
        let told = asked["outcomeDesc"].as_str().unwrap();
        assert!(told.starts_with("good: Bearer ") && told.ends_with(&format!(" of client {own}")), "{told}");
        for (path, subtype) in [("/oauth/introspect", "ITI-102"), ("/oauth/revoke", "revoke")] {
            assert_eq!(post(path, &client, "a-wrong-secret").status, 401);
            let (told, _, _, agent, query) = newest(&place, subtype);
            assert!(told.starts_with("invalid_client: ") && agent.is_empty(), "{told} {agent}");
            assert_eq!(query, format!("POST {path} token=… said to be of client {client}"));
        }
        // Another client's token is not given back.
        assert_eq!(post("/oauth/revoke", &client, &secret).status, 200);
        let (told, _, _, agent, _) = newest(&place, "revoke");
        assert_eq!((told.as_str(), agent.as_str()), ("it is no token of the client's", client.as_str()));

        // A key's word that is good once, and what is proved by it all the same.
        assert_eq!(tell(&place, &assertion, "system/*.rs").status, 401);
        let (told, _, _, agent, _) = newest(&place, "ITI-71");
        assert_eq!(
            (told.as_str(), agent.as_str()),
            ("invalid_client: the assertion was used before", own.as_str())
        );
        let mut late = claims(&place, &own);
        late["exp"] = json!(chrono::Utc::now().timestamp() + 4000);
        assert_eq!(tell(&place, &key.sign(&key.header(), &late), "system/*.rs").status, 401);
        let (told, _, _, agent, _) = newest(&place, "ITI-71");
        assert!(told.contains("lasts longer than five minutes") && agent == own, "{told}");
        let stranger = elliptic("k1");
        assert_eq!(
            tell(&place, &stranger.sign(&stranger.header(), &claims(&place, &own)), "system/*.rs").status,
            401
        );
        let (told, _, _, agent, query) = newest(&place, "ITI-71");
        assert!(told.ends_with(": it is signed with no key of the client's"), "{told}");
        assert!(agent.is_empty() && query.contains(&own), "{query}");
        // They are told no more than who names somebody that there is not.
        let unknown = |client: &str, why: &str| {
            let refused =
                tell(&place, &stranger.sign(&stranger.header(), &claims(&place, client)), "system/*.rs");
            assert!(newest(&place, "ITI-71").0.ends_with(why), "{why}");
            refused.expect(401).unwrap().json
        };
        let refused = unknown("nobody", ": the client is not known");
        assert_eq!(refused, unknown(&client, ": the client did not register keys"));
        assert_eq!(refused, unknown(&own, ": it is signed with no key of the client's"));

        // Who may not open apps is told of with whom they wanted to.
        let open = |token: &str| {
            let request = place.server.http().post(place.server.url("/oauth/launch")).bearer_auth(token);
            request.json(&json!({"client_id": client, "patient": "p2"})).send().unwrap().status().as_u16()
        };
        assert_eq!((open(&token), open("nonsense")), (403, 401));
        let events = trail(&place, "subtype=launch&outcome=4");
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["outcomeDesc"], "invalid_token: the token is not good");
        assert!(events[1]["outcomeDesc"].as_str().unwrap().starts_with("insufficient_scope: "));
        assert_eq!(events[1]["agent"][0]["who"]["identifier"]["value"], own);
        assert_eq!(trail(&place, "subtype=launch&patient=Patient/p2&outcome=4").len(), 1);
        assert!(queries(&events[1])[0].contains(&format!("client_id={client}")));

        let introduced = |body: Value| {
            let request = place.server.http().post(place.server.url("/oauth/register"));
            Answer::of(request.json(&body).send().unwrap()).unwrap()
        };
        assert_eq!(
            introduced(json!({"client_name": "x", "redirect_uris": ["http://a.example"]})).status,
            400
        );
        let (told, ..) = newest(&place, "110137");
        assert!(told.starts_with("invalid_redirect_uri: "), "{told}");
        let new =
            introduced(json!({"client_name": "Chart", "redirect_uris": [CALLBACK]})).expect(201).unwrap();
        let told = trail(&place, "subtype=110137&outcome=0")[0]["outcomeDesc"].clone();
        assert_eq!(
            told,
            format!("client {} registered itself, as \"Chart\"", new.json["client_id"].as_str().unwrap())
        );
        let all = serde_json::to_string(&trail(&place, "")).unwrap();
        let asked: String = trail(&place, "").iter().flat_map(queries).collect();
        for hidden in [&token, &secret, &assertion, "a-wrong-secret", PASSWORD] {
            assert!(!all.contains(hidden) && !asked.contains(hidden), "{hidden}");
        }
    }
}

#[test]
fn what_can_not_be_taken_is_told_of_too() {
    for backend in BOTH {
        let place = Place::new(backend);
        let long = format!("{{\"client_name\":\"{}\"}}", "x".repeat(300_000));
        let launch = place.server.key(&["ehr"]).unwrap();
        let key = elliptic("e1");
        let ehr = register(&place, &[&key], &["--scope", "augury/launch system/Patient.r"]);
        let got = tell(&place, &key.sign(&key.header(), &claims(&place, &ehr)), "augury/launch");
        let token = got.expect(200).unwrap().json["access_token"].as_str().unwrap().to_owned();
        let kind = "application/x-www-form-urlencoded";
        let too_long = "invalid_request: the body is too long, or could not be read whole";
        for (method, path, token, header, status, subtype, why) in [
            ("GET", "/oauth/token", "", ("content-type", kind), 405, "ITI-71", "405 Method Not Allowed"),
            ("POST", "/oauth/token", "", ("content-type", kind), 413, "ITI-71", too_long),
            ("POST", "/oauth/register", "", ("content-type", "application/json"), 413, "110137", too_long),
            ("POST", "/oauth/launch", &token, ("accept", "*/*"), 413, "launch", too_long),
            (
                "POST",
                "/oauth/launch",
                &launch,
                ("content-encoding", "x"),
                415,
                "launch",
                "415 Unsupported Media Type",
            ),
            ("PUT", "/oauth/launch", &token, ("accept", "*/*"), 405, "launch", "405 Method Not Allowed"),
        ] {
            let request = place.server.http().request(method.parse().unwrap(), place.server.url(path));
            let request = request.header(header.0, header.1).body(long.clone());
            let request = if token.is_empty() { request } else { request.bearer_auth(token) };
            assert_eq!(request.send().unwrap().status(), status, "{backend:?} {method} {path}");
            let (told, _, _, agent, query) = newest(&place, subtype);
            assert!(
                told.starts_with(why) && query.starts_with(&format!("{method} {path}")),
                "{told} {query}"
            );
            assert_eq!(agent.is_empty(), token.is_empty(), "{backend:?} {method} {path}");
        }
    }
}

#[test]
fn who_only_asks_wrongly_does_not_fill_the_trail() {
    let place = Place::new(harness::Backend::Sqlite);
    let client = place.public();
    for n in 0..30 {
        let path = ["/oauth/authorize?client_id=", "/oauth/authorize?client_id=nobody"][n % 2];
        place.server.http().get(place.server.url(&format!("{path}{client}"))).send().unwrap();
        place
            .form("/oauth/introspect", &[("token", "x"), ("client_id", &client), ("client_secret", "wrong")]);
    }
    assert_eq!(trail(&place, "outcome=4").len(), 10);
}

#[test]
fn logins_that_nobody_has_do_not_fill_the_trail() {
    for backend in BOTH {
        let mut place = Place::new(backend);
        let client = place.public();
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[]));
        let page = browser.follow(&began).unwrap();
        let mut enter = |login: &str| {
            let pairs = [("login", login), ("password", "wrong")];
            browser.submit(&page, "/oauth/sign-in", &pairs).unwrap().status
        };
        assert!((0..15).all(|n| enter(&format!("nobody-{n}")) == 200));
        let refused = trail(&place, "subtype=110122&outcome=4");
        assert_eq!(refused.len(), 10, "{backend:?}");
        assert!(refused.iter().all(|event| event["outcomeDesc"] == "no such account"));
        // Who tries one that there is, is told of all the same.
        assert_eq!([enter("carol"), enter("carol")], [200, 200]);
        let known: Vec<Value> = trail(&place, "subtype=110122&outcome=4&agent-name=carol");
        assert_eq!(known.len(), 2, "{backend:?}");
        let pid = place.server.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // It is this process's child, and stays there when it has ended.
        let ended = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
        let end = Instant::now() + Duration::from_secs(30);
        while !ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        place.server.kill_and_restart().unwrap();
        let summed = trail(&place, "subtype=refuse");
        assert_eq!(summed.len(), 1, "{backend:?}");
        let told = "5 more requests of callers that nobody knows were refused within a minute";
        assert_eq!(summed[0]["outcomeDesc"], told);
    }
}

#[test]
fn who_signs_in_is_told_with_the_app_that_asked() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let by = |query: &str| -> Vec<String> {
            let of =
                |event: &Value| event["agent"][0]["who"]["identifier"]["value"].as_str().map(str::to_owned);
            trail(&place, &format!("subtype=110122&{query}"))
                .iter()
                .map(|one| of(one).unwrap_or_default())
                .collect()
        };
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[]));
        let page = browser.follow(&began).unwrap();
        let mut enter = |page: &Answer, login: &str, password: &str| {
            let pairs = [("login", login), ("password", password)];
            browser.submit(page, "/oauth/sign-in", &pairs).unwrap().status
        };
        assert_eq!([enter(&page, "nobody", "x"), enter(&page, "carol", "x")], [200, 200]);
        assert_eq!(enter(&page, "carol", PASSWORD), 303);
        assert_eq!((by("outcome=4"), by("outcome=0")), (vec![client.clone(); 2], vec![client.clone()]));
        // Who was let in for too much is still nobody: they do not fill the trail.
        for _ in 0..12 {
            enter(&page, "nobody", "x");
        }
        assert_eq!(by("outcome=4").len(), 11, "{backend:?}");
        // Where no app asked, there is none.
        let mut browser = Browser::new(&place.server).unwrap();
        let page = browser.get("/oauth/manage").unwrap();
        let pairs = [("login", "carol"), ("password", PASSWORD)];
        assert_eq!(browser.submit(&page, "/oauth/sign-in", &pairs).unwrap().status, 303);
        assert_eq!(by("outcome=0"), [String::new(), client.clone()]);
    }
}

/// Anybody can say the name of a public client: it is the agent where a code or token of its own was good.
#[test]
fn a_public_client_is_named_by_what_it_holds() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let first = code(&place, &client, &[]);
        let got = redeem(&place, &client, &first, VERIFIER).expect(200).unwrap();
        let refresh = got.json["refresh_token"].as_str().unwrap();
        let wider = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("client_id", &client),
            ("scope", "patient/*.cruds"),
        ];
        assert_eq!(place.form("/oauth/token", &wider).status, 400);
        let (told, patient, _, agent, _) = newest(&place, "ITI-71");
        assert_eq!(told, "invalid_scope: more is asked for than was granted", "{backend:?}");
        assert_eq!((patient.is_empty(), &agent), (false, &client), "{backend:?}");

        let before = trail(&place, "outcome=4").len();
        for _ in 0..10 {
            assert_eq!(redeem(&place, &client, "nonsense", VERIFIER).status, 400);
            assert_eq!(place.form("/oauth/revoke", &[("client_id", &client), ("token", "x")]).status, 200);
            assert_eq!(
                place.form("/oauth/introspect", &[("client_id", &client), ("token", "x")]).status,
                401
            );
        }
        let refused = trail(&place, "outcome=4");
        assert_eq!(refused.len() - before, 10, "{backend:?}");
        for (subtype, why) in [
            ("ITI-71", "invalid_grant: the code is not good"),
            ("revoke", "it is no token of the client's"),
            ("ITI-102", "invalid_client: a client must prove who it is"),
        ] {
            let (told, _, _, agent, query) = newest(&place, subtype);
            assert!(told.starts_with(why) && agent.is_empty(), "{backend:?} {told} {agent}");
            assert!(query.contains(&format!("client_id={client}")), "{query}");
        }
    }
}

#[test]
fn a_second_factor_that_is_used_again_is_a_try_like_others() {
    for backend in BOTH {
        let place = Place::new(backend);
        let said = place.user(&["totp", "carol"]);
        let secret = said.split("secret=").nth(1).unwrap().split('&').next().unwrap();
        let once = one_time(secret);
        let mut browser = Browser::new(&place.server).unwrap();
        let page = browser.get("/oauth/manage").unwrap();
        let mut enter = |code: &str| {
            let pairs = [("login", "carol"), ("password", PASSWORD), ("code", code)];
            browser.submit(&page, "/oauth/sign-in", &pairs).unwrap().status
        };
        assert_eq!(enter(&once), 303);
        assert_eq!([(); 5].map(|()| enter(&once)), [200; 5], "{backend:?}");
        let told = trail(&place, "subtype=110122&outcome=4");
        assert_eq!(told.len(), 5, "{backend:?}");
        let (why, _, user, ..) = newest(&place, "110122");
        assert_eq!(user, "carol");
        assert_eq!(why, "the code was used, or the account was locked meanwhile");
        // They count like wrong passwords.
        assert_eq!(enter(&once), 200);
        assert_eq!(newest(&place, "110122").0, "it has to wait after wrong passwords", "{backend:?}");
    }
}

#[test]
fn who_comes_with_what_has_ended_is_named() {
    for backend in BOTH {
        let place = Place::new(backend);
        let added = place.server.command(&["client", "add", "caller"], "").unwrap();
        let line =
            |name: &str| added.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let (caller, key) = (line("id   "), line("key  "));
        assert_eq!(place.read("/fhir/Patient/p1", &key), 200);
        place.server.command(&["client", "revoke", &caller], "").unwrap();
        let brief = place.server.key(&["brief", "--expires", "1s"]).unwrap();
        let own = elliptic("k1");
        let client = register(&place, &[&own], &["--scope", "system/Patient.rs"]);
        let got = tell(&place, &own.sign(&own.header(), &claims(&place, &client)), "system/*.rs");
        let token = got.expect(200).unwrap().json["access_token"].as_str().unwrap().to_owned();
        place.server.command(&["client", "revoke", &client], "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        for (what, why) in [
            (&key, "401 Unauthorized: its key was revoked"),
            (&brief, "401 Unauthorized: its key has expired"),
            (&token, "401 Unauthorized: its client was revoked"),
        ] {
            assert_eq!(place.read("/fhir/Patient/p1", what), 401);
            let (told, patient, _, agent, _) = newest(&place, "read");
            assert_eq!((told.as_str(), patient.as_str()), (why, "Patient/p1"), "{backend:?}");
            assert!(!agent.is_empty());
        }
        let by = |id: &str| trail(&place, &format!("outcome=4&subtype=read&agent:identifier={id}")).len();
        assert_eq!((by(&caller), by(&client)), (1, 1));
        let opened = place.server.http().post(place.server.url("/oauth/launch")).bearer_auth(&token);
        assert_eq!(opened.json(&json!({"client_id": client})).send().unwrap().status(), 401);
        let (told, _, _, agent, _) = newest(&place, "launch");
        assert_eq!(agent, client);
        assert_eq!(told, "invalid_token: the token is not good: its client was revoked");
        // They are counted by themselves: whoever nobody knows is told of all the same.
        for _ in 0..30 {
            place.read("/fhir/Patient/p1", &token);
        }
        assert_eq!(by(&client), 9);
        assert_eq!(place.read("/fhir/Patient/p1", "augury_nobody"), 401);
        let (told, patient, _, agent, _) = newest(&place, "read");
        assert_eq!((told.as_str(), patient.as_str(), agent.as_str()), ("401 Unauthorized", "", ""));
    }
}
