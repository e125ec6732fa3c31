//! What the pages of the authorization server show of patients, and what is done with tokens: narrowed like
//! everything else, and in the trail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::browser::Browser;
use harness::{Answer, BOTH};
use serde_json::{Value, json};

use crate::smart::{CALLBACK, PASSWORD, Place, VERIFIER, allow, ask, led, question, redeem, to_consent};

/// The AuditEvents that a search finds, the newest first.
pub(crate) fn trail(place: &Place, query: &str) -> Vec<Value> {
    let path = place.server.url(&format!("/fhir/AuditEvent?_count=200&_sort=-_id&{query}"));
    let request = place.server.http().get(path).bearer_auth(&place.key);
    let found = Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap();
    let entries = found.json["entry"].as_array().cloned().unwrap_or_default();
    entries.into_iter().map(|entry| entry["resource"].clone()).collect()
}

/// Pattern or subtype, patient, and outcome of events.
fn brief(event: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let profile = text(&event["meta"]["profile"][0]);
    let name = profile.rsplit('.').next().filter(|name| !name.is_empty());
    let entities = event["entity"].as_array().cloned().unwrap_or_default();
    let person = entities.iter().find(|one| one["type"]["code"] == "1");
    (
        name.map_or_else(|| text(&event["subtype"][0]["code"]), str::to_owned),
        person.map(|one| text(&one["what"]["reference"])).unwrap_or_default(),
        text(&event["outcome"]),
    )
}

/// The queries in an event, as they were asked.
pub(crate) fn queries(event: &Value) -> Vec<String> {
    let entities = event["entity"].as_array().cloned().unwrap_or_default();
    let decoded = |one: &Value| String::from_utf8(STANDARD.decode(one["query"].as_str()?).unwrap()).ok();
    entities.iter().filter_map(decoded).collect()
}

/// What somebody did with an app, of those that say something of patients.
fn seen_by(place: &Place, user: &str, client: &str) -> Vec<(String, String, String)> {
    let by = |event: &Value| {
        let agents = event["agent"].as_array().unwrap();
        let named = |name: &str| agents.iter().any(|one| one["name"] == name);
        named(user) && agents[0]["who"]["identifier"]["value"] == client
    };
    let mut events = trail(place, "type=rest");
    events.retain(by);
    events.iter().rev().map(brief).collect()
}

fn said(name: &str, patient: &str, outcome: &str) -> (String, String, String) {
    (name.to_owned(), patient.to_owned(), outcome.to_owned())
}

#[test]
fn what_the_pages_show_is_in_the_trail() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[]));
        to_consent(&mut browser, &began, "p2");
        let both = [said("PatientQuery", "Patient/p1", "0"), said("PatientQuery", "Patient/p2", "0")];
        // Chosen, and named where consent is asked for.
        let read = said("PatientRead", "Patient/p2", "0");
        assert_eq!(seen_by(&place, "carol", &client), [&both[..], &[read.clone(), read]].concat());
        // And by what the list of accounts calls who did it: names may be shared.
        let listed = place.user(&["list"]);
        let id = |login: &str| {
            let line = listed.lines().find(|line| line.starts_with(&format!("{login}  "))).unwrap();
            line.split("  ").nth(1).unwrap().to_owned()
        };
        let by = |id: &str| trail(&place, &format!("type=rest&agent:identifier={id}")).len();
        assert_eq!((by(&id("carol")), by("nobody")), (4, 0), "{listed}");
        assert_eq!(by(&format!("{}%7C{}", place.server.url(""), id("carol"))), 4);
        for role in ["clinician", "https://augury.dev/fhir/CodeSystem/role%7Cclinician"] {
            assert_eq!(trail(&place, &format!("type=rest&agent-role={role}")).len(), 4, "{role}");
        }
        assert_eq!(trail(&place, "type=rest&agent-role=patient").len(), 0);

        let began = ask(&mut browser, &question(&place, &client, &[]));
        let picker = browser.follow(&began).unwrap();
        let found = browser.submit(&picker, "/oauth/patient", &[("q", "baker")]).unwrap();
        assert!(found.text.contains("Ada Baker") && !found.text.contains("Ada Abel"));
        let nobody = browser.submit(&picker, "/oauth/patient", &[("patient", "p9")]).unwrap();
        assert_eq!(nobody.status, 400);
        let last = &seen_by(&place, "carol", &client)[4..];
        assert_eq!(last[2..], [said("PatientQuery", "Patient/p2", "0"), said("read", "", "4")]);
        let asked: Vec<String> =
            trail(&place, "subtype=search-type&patient=Patient/p2").iter().flat_map(queries).collect();
        assert!(
            asked.contains(&"GET /fhir/Patient?_count=20&_sort=family&name=baker".to_owned()),
            "{asked:?}"
        );
    }
}

#[test]
fn the_pages_show_nobody_whom_the_user_may_not_see() {
    for backend in BOTH {
        let place = Place::new(backend);
        // Somebody of the staff who is a patient here sees one chart, as with any token.
        place.user(&["add", "pat", "--role", "clinician", "--fhir-user", "Patient/p1"]);
        place.user(&["add", "otto", "--role", "operator"]);
        let client = place.app(&["--public", "--redirect", CALLBACK]).0;
        let picker = |login: &str, browser: &mut Browser<'_>| {
            let began = ask(browser, &question(&place, &client, &[]));
            let page = browser.follow(&began).unwrap();
            let pairs = [("login", login), ("password", crate::smart::PASSWORD)];
            let entered = browser.submit(&page, "/oauth/sign-in", &pairs).unwrap();
            browser.follow(&entered).unwrap()
        };
        let mut browser = Browser::new(&place.server).unwrap();
        let page = picker("pat", &mut browser);
        assert!(page.text.contains("Ada Abel") && !page.text.contains("Ada Baker"), "{}", page.text);
        assert_eq!(browser.submit(&page, "/oauth/patient", &[("patient", "p2")]).unwrap().status, 400);
        let chosen = browser.submit(&page, "/oauth/patient", &[("patient", "p1")]).unwrap();
        let page = browser.follow(&chosen).unwrap();
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap();
        assert_eq!(got.json["patient"], "p1");
        let mut browser = Browser::new(&place.server).unwrap();
        let page = picker("otto", &mut browser);
        assert!(page.text.contains("None was found"), "{}", page.text);
        assert_eq!(browser.submit(&page, "/oauth/patient", &[("patient", "p1")]).unwrap().status, 400);
        let refused = seen_by(&place, "otto", &client);
        assert_eq!(refused, [said("search-type", "", "4"), said("read", "Patient/p1", "4")]);
    }
}

#[test]
fn an_encounter_is_chosen_too() {
    for backend in BOTH {
        let place = Place::new(backend);
        for (id, patient, day) in
            [("e1", "p1", "2024-01-01"), ("e2", "p1", "2024-02-02"), ("e3", "p2", "2024-03-03")]
        {
            place.put(&json!({"resourceType": "Encounter", "id": id, "status": "finished",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                "type": [{"text": format!("Visit {id}")}],
                "period": {"start": day}, "subject": {"reference": format!("Patient/{patient}")}}));
        }
        let client = place.public();
        let scope = "launch/patient launch/encounter openid patient/*.rs";
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[("scope", scope)]));
        let page = to_consent(&mut browser, &began, "p1");
        assert!(
            page.text.contains("Visit e2")
                && page.text.contains("Visit e1")
                && !page.text.contains("Visit e3")
        );
        assert!(page.text.find("Visit e2") < page.text.find("Visit e1"));
        // Neither is another patient's taken, nor does consent come first.
        let others = browser.submit(&page, "/oauth/encounter", &[("encounter", "e3")]).unwrap();
        assert_eq!(others.status, 400);
        let early =
            browser.submit(&page, "/oauth/consent", &[("decision", "allow"), ("scope", "openid")]).unwrap();
        assert!(early.header("location").starts_with("/oauth/consent?"), "{}", early.header("location"));
        let chosen = browser.submit(&page, "/oauth/encounter", &[("encounter", "e1")]).unwrap();
        let page = browser.follow(&chosen).unwrap();
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
        assert_eq!((&got["patient"], &got["encounter"]), (&json!("p1"), &json!("e1")));
        assert_eq!(got["scope"], scope);
        assert_eq!(place.read("/fhir/Encounter/e1", got["access_token"].as_str().unwrap()), 200);
        let seen = seen_by(&place, "carol", &client);
        let read: Vec<_> = seen
            .iter()
            .filter(|(name, patient, _)| name == "PatientRead" && patient == "Patient/p1")
            .collect();
        assert!(read.len() >= 3, "{seen:?}");
        let asked: Vec<String> = trail(&place, "subtype=search-type").iter().flat_map(queries).collect();
        assert!(
            asked.contains(&"GET /fhir/Encounter?patient=p1&_count=20&_sort=-date".to_owned()),
            "{asked:?}"
        );

        // None of them, or none at all: then it is not granted.
        for none in ["p1", "p9"] {
            if none == "p9" {
                place.put(&json!({"resourceType": "Patient", "id": "p9"}));
            }
            let began = ask(&mut browser, &question(&place, &client, &[("scope", scope)]));
            let mut page = to_consent(&mut browser, &began, none);
            if none == "p1" {
                let chosen = browser.submit(&page, "/oauth/encounter", &[]).unwrap();
                page = browser.follow(&chosen).unwrap();
            }
            let done = allow(&mut browser, &page, None);
            let got =
                redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
            assert_eq!((got.get("encounter"), &got["patient"]), (None, &json!(none)));
            assert_eq!(got["scope"], "launch/patient openid patient/*.rs");
        }
    }
}

#[test]
fn what_the_operator_changes_is_told() {
    for backend in BOTH {
        let place = Place::with(
            backend,
            &[
                ("AUGURY_OIDC_ISSUER", "http://127.0.0.1:1"),
                ("AUGURY_OIDC_CLIENT_ID", "us"),
                ("AUGURY_OIDC_CLIENT_SECRET", "a secret of the operator"),
            ],
        );
        let app = place.public();
        place.server.command(&["client", "revoke", &app], "").unwrap();
        let approved = place.server.command(&["client", "approve", &app], "").unwrap();
        assert!(approved.starts_with(&format!("approved {app}  App  [app, public]  ")), "{approved}");
        assert!(approved.contains("patient/"), "{approved}");
        let added = place.server.command(&["client", "add", "caller"], "").unwrap();
        let caller = added.lines().find_map(|line| line.strip_prefix("id   ")).unwrap().to_owned();
        place.server.command(&["client", "revoke", &caller], "").unwrap();
        place.user(&["role", "carol", "admin"]);
        place.user(&["lock", "carol"]);
        assert!(place.server.command(&["user", "role", "carol", "nobody"], "").is_err());
        let accounts = place.server.command(&["user", "list"], "").unwrap();
        let line = accounts.lines().find(|line| line.starts_with("carol ")).unwrap();
        let carol = line.split_whitespace().nth(1).unwrap();
        let told = |event: &Value| event["outcomeDesc"].as_str().unwrap().to_owned();
        let changes: Vec<String> = trail(&place, "subtype=110137").iter().rev().map(told).collect();
        let last = changes.len() - 7;
        let wanted = [
            format!("app {app} revoked"),
            format!("app {app} approved"),
            format!("client {caller} added"),
            format!("client {caller} revoked"),
            format!("the role of account {carol} was clinician, is admin"),
            format!("account {carol} locked"),
        ];
        assert_eq!(changes[last + 1..], wanted);
        assert!(changes[last].starts_with(&format!("app, public {app} added, for ")), "{changes:?}");
        // Each is found by what it was done to, and says who gave the command.
        for (id, many) in [(app.as_str(), 3), (&caller, 2), (carol, 3)] {
            let found = trail(&place, &format!("entity:identifier={id}&subtype=110137"));
            assert_eq!(found.len(), many, "{id}: {found:?}");
            for event in found {
                let who = &event["agent"][0]["who"];
                assert_eq!(who["identifier"]["value"], "command line");
                assert!(who["display"].as_str().unwrap().starts_with("command line (uid "), "{who}");
            }
        }
        let table = place.server.command(&["audit", "export", "--format", "csv"], "").unwrap();
        let line = table.lines().find(|line| line.contains(&format!("app {app} revoked"))).unwrap();
        assert!(line.ends_with(&format!(",{app},")), "{line}");
        let begun = &trail(&place, "subtype=110131")[0];
        assert!(told(begun).contains("oidc_client_secret, oidc_issuer, secret"), "{begun}");
        assert!(!begun.to_string().contains("a secret of the operator"));
        assert_eq!(begun["agent"][0]["who"]["display"], "server");
    }
}

/// What ended, whose it was, for which app, and why: a theft is told from an app that signs out.
#[test]
fn what_ended_access_is_told() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let mut browser = Browser::new(&place.server).unwrap();
        let mut granted = || {
            let began = ask(&mut browser, &question(&place, &client, &[]));
            let page = to_consent(&mut browser, &began, "p1");
            let first = led(&allow(&mut browser, &page, None), "code").unwrap();
            let got = redeem(&place, &client, &first, VERIFIER).expect(200).unwrap().json;
            let text = |name: &str| got[name].as_str().unwrap().to_owned();
            (first, text("access_token"), text("refresh_token"))
        };
        let newest = |search: &str| trail(&place, search).into_iter().next().unwrap();
        let note = |event: &Value| event["outcomeDesc"].as_str().unwrap_or_default().to_owned();
        let grant = || {
            let told = [newest("subtype=ITI-71&outcome=0"), newest("subtype=authorize&patient=p1")];
            let told = told.map(|event| note(&event).rsplit_once(" (grant ").unwrap().1.to_owned());
            assert_eq!(told[0], told[1]);
            told[0].trim_end_matches(')').to_owned()
        };
        let ended = |outcome: &str, why: &str| {
            let event = newest("subtype=revoke&patient=p1");
            assert_eq!(
                (event["outcome"].as_str(), note(&event).as_str()),
                (Some(outcome), why),
                "{backend:?}"
            );
            let agents = event["agent"].as_array().unwrap();
            assert_eq!(agents[0]["who"]["identifier"]["value"], client, "{event}");
            assert!(agents.iter().any(|one| one["who"]["reference"] == "Practitioner/d1"), "{event}");
            assert!(!queries(&event)[0].contains("refresh_token=augury"), "{event}");
            event
        };
        let refresh = |token: &str| {
            let pairs = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &client)];
            place.form("/oauth/token", &pairs)
        };
        let give_back = |token: &str| {
            assert_eq!(place.form("/oauth/revoke", &[("token", token), ("client_id", &client)]).status, 200);
        };

        let (_, access, _) = granted();
        let shown = |event: &Value| event["agent"].to_string();
        let jti = shown(&newest("subtype=ITI-71&outcome=0"));
        let jti = jti.split("urn:ietf:params:oauth:jti:").nth(1).unwrap().split('"').next().unwrap();
        give_back(&access);
        ended("0", &format!("the app asked, with token {jti}: grant {}", grant()));
        let (_, _, token) = granted();
        give_back(&token);
        ended("0", &format!("the app asked: grant {}", grant()));

        let (first, _, _) = granted();
        let id = grant();
        assert_eq!(redeem(&place, &client, &first, VERIFIER).status, 400);
        ended("4", &format!("a code was used twice: grant {id}"));

        let (_, _, first) = granted();
        let id = grant();
        let second = refresh(&first).expect(200).unwrap().json["refresh_token"].as_str().unwrap().to_owned();
        assert_eq!((refresh(&second).status, refresh(&first).status), (200, 400));
        ended("4", &format!("an old refresh token was used again: grant {id}"));

        let (_, _, token) = granted();
        let id = grant();
        // Introspection of a refresh token is about whom it is about.
        let (other, secret) = place.app(&["--secret", "--redirect", CALLBACK]);
        let asked = [("token", token.as_str()), ("client_id", &other), ("client_secret", &secret)];
        let worth = place.form("/oauth/introspect", &asked).expect(200).unwrap().json;
        assert_eq!((&worth["active"], worth.get("patient")), (&json!(true), None));
        assert_eq!(trail(&place, "subtype=ITI-102&patient=p1&outcome=0").len(), 1);

        let page = browser.get("/oauth/manage").unwrap();
        assert!(page.text.contains(&id));
        assert_eq!(browser.submit(&page, "/oauth/manage", &[("grant", &id)]).unwrap().status, 303);
        let event = ended("0", &format!("the user ended it: grant {id}"));
        assert_eq!(event["agent"][0]["who"]["display"], "App");
        assert_eq!(trail(&place, "subtype=revoke&patient=p1").len(), 5);
    }
}

/// IHE BALP's pattern of an authorization that a patient's Consent decided, by its elements.
#[test]
fn what_a_patient_decided_is_in_the_trail() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let consent = |id: &str, provision: Value| {
            place.put(&json!({"resourceType": "Consent", "id": id, "status": "active", "patient": {"reference": "Patient/p2"},
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
                "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
                "provision": provision}));
        };
        consent("yes", json!({"type": "permit"}));
        let class = json!([{"system": "http://hl7.org/fhir/resource-types", "code": "DocumentReference"}]);
        consent("no", json!({"type": "deny", "class": class}));
        place.put(&json!({"resourceType": "Organization", "id": "house", "name": "House"}));
        place.put(&json!({"resourceType": "PractitionerRole", "id": "r", "active": true,
            "practitioner": {"reference": "Practitioner/d1"}, "organization": {"reference": "Organization/house"}}));
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[]));
        let page = to_consent(&mut browser, &began, "p2");
        led(&allow(&mut browser, &page, None), "code").unwrap();

        let events = trail(&place, "subtype=AuthZ-Consent&patient=Patient/p2");
        assert_eq!(events.len(), 2, "{events:?}");
        for event in &events {
            let profile = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.AuthZconsent";
            assert_eq!(event["meta"]["profile"], json!([profile]));
            assert_eq!((&event["type"]["code"], &event["action"]), (&json!("110113"), &json!("E")));
            let one = |code: &str| -> Value {
                let is = |agent: &&Value| agent["type"]["coding"][0]["code"] == code;
                let found: Vec<&Value> = event["agent"].as_array().unwrap().iter().filter(is).collect();
                assert_eq!(found.len(), 1, "{code} {event}");
                found[0].clone()
            };
            let (app, user) = (one("110150"), one("IRCP"));
            let (house, server) = (one("PROV"), one("authserver"));
            assert!(app["network"].is_object() && app["who"].is_object());
            assert!(user["requestor"] == true && user["network"].is_null());
            assert_eq!(
                (&house["who"]["reference"], &house["requestor"]),
                (&json!("Organization/house"), &json!(false))
            );
            assert!(server["who"].is_object() && server["network"].is_null() && server["requestor"] == false);
            let entities = event["entity"].as_array().unwrap();
            assert!(entities.iter().any(|one| one["type"]["code"] == "1" && one["role"]["code"] == "1"));
            let decided = entities.iter().find(|one| one["type"]["code"] == "Consent").unwrap();
            let denied = decided["what"]["reference"] == "Consent/no/_history/1";
            assert_eq!(event["outcome"], if denied { "4" } else { "0" });
            assert_eq!(event["outcomeDesc"].is_string(), denied);
        }
        assert!(events.iter().any(|event| event["outcome"] == "4"));
    }
}

#[test]
fn many_passwords_at_once_are_judged_one_by_one() {
    for backend in BOTH {
        let place = Place::new(backend);
        let enter = |password: &str| {
            let mut browser = Browser::new(&place.server).unwrap();
            let page = browser.get("/oauth/manage").unwrap();
            let pairs = [("login", "carol"), ("password", password)];
            browser.submit(&page, "/oauth/sign-in", &pairs).unwrap().status
        };
        std::thread::scope(|scope| {
            (0..12).for_each(|_| drop(scope.spawn(|| enter("wrong"))));
        });
        let why = |event: &Value| event["outcomeDesc"].as_str().unwrap_or_default().to_owned();
        let told: Vec<String> = trail(&place, "subtype=110122").iter().map(why).collect();
        let judged = told.iter().filter(|why| why.contains("password or code")).count();
        assert_eq!((judged, told.len()), (5, 12), "{backend:?} {told:?}");
        let waited = told.iter().filter(|why| why.contains("it has to wait after wrong passwords")).count();
        assert_eq!(waited, 7, "{backend:?} {told:?}");
        assert_eq!(enter(PASSWORD), 200);
    }
}
