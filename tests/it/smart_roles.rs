//! What somebody may be granted is bounded by their role.

use harness::browser::{Browser, boxes};
use harness::{Answer, BOTH};
use serde_json::{Value, json};

use crate::smart::{Place, VERIFIER, allow, ask, led, question, redeem, to_consent_as};

const ALL: &str = "openid fhirUser patient/*.cruds user/*.cruds user/AuditEvent.rs";

/// What of that somebody is offered.
fn offered(place: &Place, client: &str, login: &str) -> Vec<String> {
    let mut browser = Browser::new(&place.server).unwrap();
    let began = ask(&mut browser, &question(place, client, &[("scope", ALL)]));
    let page = to_consent_as(login, &mut browser, &began, "p1");
    boxes(&page.text).into_iter().filter(|(_, ticked)| *ticked).map(|(scope, _)| scope).collect()
}

#[test]
fn a_role_bounds_what_is_offered() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.app(&["--public", "--redirect", crate::smart::CALLBACK, "--scope", ALL]).0;
        for (login, role) in
            [("ada", "admin"), ("dan", "data-scientist"), ("connie", "compliance"), ("otto", "operator")]
        {
            place.user(&["add", login, "--role", role]);
        }
        place.user(&["add", "pat", "--role", "patient", "--fhir-user", "Patient/p1"]);
        assert_eq!(offered(&place, &client, "ada"), ALL.split(' ').collect::<Vec<_>>());
        assert_eq!(
            offered(&place, &client, "carol"),
            ["openid", "fhirUser", "patient/*.cruds", "user/*.cruds"]
        );
        assert_eq!(offered(&place, &client, "dan"), ["openid", "fhirUser", "patient/*.rs", "user/*.rs"]);
        assert_eq!(offered(&place, &client, "pat"), ["openid", "fhirUser", "patient/*.rs"]);
        assert_eq!(offered(&place, &client, "otto"), ["openid", "fhirUser"]);
        assert!(offered(&place, &client, "connie").contains(&"user/AuditEvent.rs".to_owned()));
        assert!(
            place
                .server
                .command(&["user", "add", "x", "--role", "patient"], "correct horse battery")
                .is_err()
        );

        // A patient is not asked whose record it is, and has no other.
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[("scope", ALL)]));
        let page = to_consent_as("pat", &mut browser, &began, "nobody's");
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
        assert_eq!(got["patient"], "p1");
        let token = got["access_token"].as_str().unwrap();
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        assert!(matches!(place.read("/fhir/Patient/p2", token), 403 | 404));
    }
}

/// `system|` in a scope is what it is in a search: any code of that system, and one without a code.
#[test]
fn what_a_lock_ended_does_not_come_back() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let mut browser = Browser::new(&place.server).unwrap();
        let allowed = |browser: &mut Browser<'_>| {
            let began = ask(browser, &question(&place, &client, &[]));
            let page = to_consent_as("carol", browser, &began, "p1");
            let code = led(&allow(browser, &page, None), "code").unwrap();
            let got = redeem(&place, &client, &code, VERIFIER).expect(200).unwrap().json;
            let token = |name: &str| got[name].as_str().unwrap().to_owned();
            (token("access_token"), token("refresh_token"))
        };
        let (token, refresh) = allowed(&mut browser);
        assert_eq!(place.read("/fhir/Patient/p1", &token), 200);
        let is_over = |(token, refresh): &(String, String)| {
            std::thread::sleep(std::time::Duration::from_millis(1100));
            assert_eq!(place.read("/fhir/Patient/p1", token), 401, "{backend:?}");
            let pairs =
                [("grant_type", "refresh_token"), ("refresh_token", &**refresh), ("client_id", &*client)];
            assert_eq!(place.form("/oauth/token", &pairs).json["error"], "invalid_grant");
        };
        place.user(&["lock", "carol"]);
        place.user(&["unlock", "carol"]);
        is_over(&(token, refresh));
        assert!(browser.get("/oauth/manage").unwrap().text.contains("/oauth/sign-in"));
        // Nor what was allowed with another role, or under another password.
        for change in [["role", "carol", "operator"].as_slice(), &["password", "carol"]] {
            let before = allowed(&mut browser);
            assert_eq!(place.read("/fhir/Patient/p1", &before.0), 200);
            place.user(change);
            place.user(&["role", "carol", "clinician"]);
            is_over(&before);
        }
        // But what is allowed anew is good.
        let (token, _) = allowed(&mut browser);
        assert_eq!(place.read("/fhir/Patient/p1", &token), 200);
    }
}

#[test]
fn a_scope_may_name_a_system_alone() {
    for backend in BOTH {
        let place = Place::new(backend);
        let observation = |id: &str, coding: Value| {
            json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
                "subject": {"reference": "Patient/p1"}, "category": [{"coding": [coding]}]})
        };
        place.put(&observation("one", json!({"system": "http://a.example", "code": "1"})));
        place.put(&observation("none", json!({"system": "http://a.example"})));
        place.put(&observation("other", json!({"system": "http://b.example", "code": "1"})));
        place.put(&observation("bare", json!({"code": "1"})));

        let scope = "patient/Observation.rs?category=http://a.example|";
        let client = place.app(&["--public", "--redirect", crate::smart::CALLBACK, "--scope", scope]).0;
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[("scope", scope)]));
        let page = to_consent_as("carol", &mut browser, &began, "p1");
        assert!(page.text.contains("only where category is any of http://a.example"), "{}", page.text);
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
        assert_eq!(got["scope"], scope);
        let system = scope.replace("patient/", "system/").replace(".rs", ".rus");
        let key = place.server.key(&["key", "--scope", &system]).unwrap();
        for bearer in [got["access_token"].as_str().unwrap(), key.as_str()] {
            let asked = place.server.http().get(place.server.url("/fhir/Observation")).bearer_auth(bearer);
            let found = Answer::of(asked.send().unwrap()).unwrap().expect(200).unwrap().json;
            let mut ids: Vec<&str> = found["entry"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["resource"]["id"].as_str().unwrap())
                .collect();
            ids.sort_unstable();
            assert_eq!(ids, ["none", "one"], "{backend:?}");
            for (id, status) in [("one", 200), ("none", 200), ("other", 404), ("bare", 404)] {
                assert_eq!(
                    place.read(&format!("/fhir/Observation/{id}"), bearer),
                    status,
                    "{backend:?} {id}"
                );
            }
        }
        let into = |coding: Value| {
            let put = place.server.http().put(place.server.url("/fhir/Observation/one")).bearer_auth(&key);
            put.json(&observation("one", coding)).send().unwrap().status()
        };
        assert_eq!(into(json!({"system": "http://a.example", "code": "2"})), 200);
        assert_eq!(into(json!({"system": "http://b.example", "code": "2"})), 403);
        // Neither system nor code, and the system of what is written without one, are refused.
        for scope in [
            "system/Observation.rs?category=|",
            "system/Observation.rs?status=http://hl7.org/fhir/observation-status|",
        ] {
            assert!(place.server.key(&["key", "--scope", scope]).is_err(), "{scope}");
        }
    }
}
