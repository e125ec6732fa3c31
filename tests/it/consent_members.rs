//! Whom a Consent means: people by what they belong to, which they can't change to their own good.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::browser::Browser;
use harness::{Answer, BOTH, Server, instant};
use serde_json::{Value, json};

use crate::consent::{ask as get, consent, observation, patient, send};
use crate::smart::{CALLBACK, Place, VERIFIER, allow, ask, led, question, redeem, to_consent_as};

const SCOPE: &str = "openid fhirUser user/*.cruds";

/// A token of somebody who signs in.
fn token(place: &Place, client: &str, login: &str) -> String {
    let mut browser = Browser::new(&place.server).unwrap();
    let began = ask(&mut browser, &question(place, client, &[("scope", SCOPE)]));
    let page = to_consent_as(login, &mut browser, &began, "");
    let done = allow(&mut browser, &page, None);
    let got = redeem(place, client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
    got["access_token"].as_str().unwrap().to_owned()
}

/// A place with an app in it, an Observation, and who works where.
fn hospital(backend: harness::Backend) -> (Place, String) {
    let place = Place::new(backend);
    place.put(&observation("o", "p1"));
    for (id, above) in [
        ("house", None),
        ("clinic", Some("Organization/house/_history/1")),
        ("ward", Some("Organization/clinic")),
    ] {
        let mut organization = json!({"resourceType": "Organization", "id": id, "name": id});
        if let Some(above) = above {
            organization["partOf"] = json!({"reference": above});
        }
        place.put(&organization);
    }
    place.put(&json!({"resourceType": "Practitioner", "id": "d2"}));
    let client = place.app(&["--public", "--redirect", CALLBACK, "--scope", SCOPE]).0;
    (place, client)
}

fn role(id: &str, who: &str, organization: &str) -> Value {
    json!({"resourceType": "PractitionerRole", "id": id, "practitioner": {"reference": who}, "organization": {"reference": organization}})
}

fn team(members: &[&str]) -> Value {
    let members = members.iter().map(|member| json!({"member": {"reference": member}}));
    json!({"resourceType": "CareTeam", "id": "t", "status": "active", "participant": members.collect::<Vec<_>>()})
}

fn deny(actor: &str) -> Value {
    consent(
        "c",
        "p1",
        json!({"type": "deny", "actor": [{"role": {"text": "any"}, "reference": {"reference": actor}}]}),
    )
}

/// Writes with the rights of whoever laid all this out.
fn write(place: &Place, resource: &Value) {
    let written = by(&place.server, &place.key, resource);
    assert!(matches!(written.status, 200 | 201), "{}", written.json);
}

fn by(server: &Server, key: &str, resource: &Value) -> Answer {
    let text = |name: &str| resource[name].as_str().unwrap();
    let path = format!("/fhir/{}/{}", text("resourceType"), text("id"));
    send(server, key, ("PUT", &path), &[], resource)
}

#[test]
fn who_signs_in_by_a_role_is_who_has_it() {
    for backend in BOTH {
        let (place, client) = hospital(backend);
        write(&place, &role("r", "Practitioner/d2/_history/1", "Organization/ward"));
        write(&place, &role("other", "Practitioner/d2", "Organization/house"));
        write(&place, &team(&["Practitioner/d2/_history/1"]));
        place.user(&["add", "roland", "--role", "clinician", "--fhir-user", "PractitionerRole/r"]);
        let [roland, carol] = ["roland", "carol"].map(|login| token(&place, &client, login));
        for (actor, seen) in [
            ("PractitionerRole/r", 404),
            ("Practitioner/d2", 404),
            ("PractitionerRole/other", 404),
            ("Organization/ward", 404),
            ("Organization/clinic", 404),
            ("Organization/house/_history/1", 404),
            ("CareTeam/t/_history/1", 404),
            ("Practitioner/d1", 200),
            ("Organization/elsewhere", 200),
        ] {
            write(&place, &deny(actor));
            assert_eq!(get(&place.server, &roland, "/fhir/Observation/o", None).status, seen, "{actor}");
            let other = if actor == "Practitioner/d1" { 404 } else { 200 };
            assert_eq!(get(&place.server, &carol, "/fhir/Observation/o", None).status, other, "{actor}");
        }
        // However many teams somebody is in.
        let entry = |n: u32| {
            let mut team = team(&["Practitioner/d2"]);
            team["id"] = json!(format!("t{n}"));
            json!({"resource": team, "request": {"method": "PUT", "url": format!("CareTeam/t{n}")}})
        };
        let many: Vec<Value> = (0..220).map(entry).collect();
        let many = json!({"resourceType": "Bundle", "type": "transaction", "entry": many});
        send(&place.server, &place.key, ("POST", "/fhir"), &[], &many).expect(200).unwrap();
        for actor in ["CareTeam/t0", "CareTeam/t219"] {
            write(&place, &deny(actor));
            assert_eq!(get(&place.server, &roland, "/fhir/Observation/o", None).status, 404, "{actor}");
        }
    }
}

#[test]
fn nobody_takes_themselves_out_of_what_is_denied() {
    for backend in BOTH {
        let (place, client) = hospital(backend);
        write(&place, &role("r", "Practitioner/d1", "Organization/ward"));
        write(&place, &team(&["Practitioner/d1", "Practitioner/d2"]));
        let carol = token(&place, &client, "carol");
        let seen = || get(&place.server, &carol, "/fhir/Observation/o", None).status;
        let refused = |resource: &Value| {
            let done = by(&place.server, &carol, resource);
            assert_eq!(done.status, 403, "{backend:?} {resource} {}", done.json);
            assert_eq!(seen(), 404);
        };
        let taken = |resource: &Value| {
            let done = by(&place.server, &carol, resource);
            assert!(matches!(done.status, 200 | 201), "{backend:?} {resource} {}", done.json);
        };
        // By an organisation above: no link of the chain.
        write(&place, &deny("Organization/house"));
        refused(&role("r", "Practitioner/d1", "Organization/elsewhere"));
        refused(&role("r", "Practitioner/d2", "Organization/ward"));
        let mut ended = role("r", "Practitioner/d1", "Organization/ward");
        ended["active"] = json!(false);
        refused(&ended);
        // Nor from tomorrow on.
        let mut ends = role("r", "Practitioner/d1", "Organization/ward");
        ends["period"] = json!({"end": "2099-01-01"});
        refused(&ends);
        refused(&json!({"resourceType": "Organization", "id": "clinic", "name": "clinic"}));
        let patch = json!([{"op": "remove", "path": "/organization"}]);
        let patched = send(&place.server, &carol, ("PATCH", "/fhir/PractitionerRole/r"), &[], &patch);
        assert_eq!(patched.status, 403, "{}", patched.json);
        let deleted = send(&place.server, &carol, ("DELETE", "/fhir/PractitionerRole/r"), &[], &json!({}));
        assert_eq!(deleted.status, 403, "{}", deleted.json);
        // What changes nothing of it may be written, and what is of others.
        let mut named = role("r", "Practitioner/d1", "Organization/ward");
        named["code"] = json!([{"text": "surgeon"}]);
        taken(&named);
        taken(&role("new", "Practitioner/d2", "Organization/house"));
        // Nor earlier than it would have ended, nor with a gap before that.
        let until = |id: &str, start: &str, end: &str| {
            let mut until = role(id, "Practitioner/d1", "Organization/ward");
            until["period"] = json!({"start": start, "end": end});
            until
        };
        write(&place, &until("r", "2020-01-01", "2099-01-01"));
        assert_eq!(seen(), 404);
        let soon = instant(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2);
        refused(&until("r", "2020-01-01", &soon));
        taken(&until("later", "2098-01-01", "2099-01-01"));
        refused(&until("r", "2020-01-01", &soon));
        taken(&until("meanwhile", "2020-01-01", "2098-06-01"));
        taken(&until("r", "2020-01-01", "2021-01-01"));
        assert_eq!(seen(), 404);
        // Nor before it is denied: that begins, and ends, by itself.
        let from_now =
            |seconds: u64| instant(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds);
        let mut later = deny("Organization/house");
        later["provision"]["period"] = json!({"start": from_now(3), "end": from_now(7)});
        write(&place, &later);
        assert_eq!(seen(), 200, "{backend:?}");
        let role = ("DELETE", "/fhir/PractitionerRole/meanwhile");
        let deleted = send(&place.server, &carol, role, &[], &json!({}));
        assert_eq!(deleted.status, 403, "{backend:?} {}", deleted.json);
        for status in [404, 200] {
            let began = Instant::now();
            while seen() != status {
                assert!(began.elapsed() < Duration::from_secs(20), "{backend:?} {status}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        // By a team.
        write(&place, &deny("CareTeam/t"));
        assert_eq!(seen(), 404);
        refused(&team(&["Practitioner/d2"]));
        taken(&team(&["Practitioner/d1"]));
        // By a number.
        write(&place, &json!({"resourceType": "Practitioner", "id": "d1", "identifier": [{"value": "n1"}]}));
        let number = json!([{"role": {"text": "any"}, "reference": {"identifier": {"value": "n1"}}}]);
        write(&place, &consent("c", "p1", json!({"type": "deny", "actor": number})));
        assert_eq!(seen(), 404);
        refused(&json!({"resourceType": "Practitioner", "id": "d1"}));
        // Nobody joins those who are let in.
        let but = json!([{"type": "permit", "actor": [{"role": {"text": "any"}, "reference": {"reference": "CareTeam/in"}}]}]);
        write(&place, &consent("c", "p1", json!({"type": "deny", "provision": but})));
        let mut joined = team(&["Practitioner/d1"]);
        joined["id"] = json!("in");
        refused(&joined);
        let among = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": joined, "request": {"method": "PUT", "url": "CareTeam/in"}}]});
        let sent = send(&place.server, &carol, ("POST", "/fhir"), &[], &among);
        assert_eq!(sent.status, 403, "{}", sent.json);
        // Who keeps the staff's records does it.
        write(&place, &joined);
        assert_eq!(seen(), 200);
    }
}

#[test]
fn records_of_one_person_are_withheld_together() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds"]).unwrap();
        let keeper = server.key(&["keeper", "--scope", "system/*.cruds system/Consent.cruds"]).unwrap();
        let put_by = |key: &str, resource: &Value| {
            let written = by(&server, key, resource);
            assert!(matches!(written.status, 200 | 201), "{}", written.json);
        };
        let (put, write) =
            (|resource: &Value| put_by(&key, resource), |resource: &Value| put_by(&keeper, resource));
        let linked = |id: &str, to: Option<&str>, kind: &str| {
            let mut linked = patient(id);
            if let Some(to) = to {
                linked["link"] = json!([{"other": {"reference": to}, "type": kind}]);
            }
            linked
        };
        for id in ["a", "b", "c", "d"] {
            put(&patient(id));
            put(&observation(&format!("{id}o"), id));
        }
        let seen = || {
            let found = get(&server, &key, "/fhir/Observation?_sort=_id", None).expect(200).unwrap().json;
            let entries = found["entry"].as_array().cloned().unwrap_or_default();
            let id = |entry: &Value| entry["resource"]["id"].as_str().unwrap().to_owned();
            let found: Vec<String> = entries.iter().map(id).collect();
            for id in ["ao", "bo", "co", "do"] {
                let read = get(&server, &key, &format!("/fhir/Observation/{id}"), None).status;
                assert_eq!(read == 200, found.iter().any(|one| one == id), "{id}");
            }
            found.join(" ")
        };
        put(&consent("c", "b", json!({"type": "deny", "code": [{"coding": [{"code": "x"}]}]})));
        assert_eq!(seen(), "ao co do");
        put(&linked("a", Some("Patient/b"), "replaced-by"));
        assert_eq!(seen(), "co do");
        put(&linked("b", Some("Patient/c/_history/1"), "seealso"));
        assert_eq!(seen(), "do");
        write(&linked("b", None, ""));
        assert_eq!(seen(), "co do");
        put(&linked("d", Some("Patient/a"), "replaces"));
        assert_eq!(seen(), "co");
        // Nobody parts what is withheld from them.
        let patch = json!([{"op": "remove", "path": "/link"}]);
        let gone = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "DELETE", "url": "Patient/a"}}]});
        for (method, path, body) in [
            ("PUT", "/fhir/Patient/a", &linked("a", None, "")),
            ("PUT", "/fhir/Patient/a", &linked("a", Some("Patient/c"), "seealso")),
            ("PATCH", "/fhir/Patient/a", &patch),
            ("DELETE", "/fhir/Patient/a", &json!({})),
            ("POST", "/fhir", &gone),
        ] {
            let done = send(&server, &key, (method, path), &[], body);
            assert_eq!(done.status, 403, "{backend:?} {method} {path} {}", done.json);
            assert_eq!(seen(), "co");
        }
        // Who may change what is decided may part them.
        write(&linked("a", None, ""));
        assert_eq!(seen(), "ao co do");
    }
}

#[test]
fn what_was_somebody_elses_is_withheld_with_what_it_is() {
    for backend in BOTH {
        let server = Server::start_with(backend, &[("AUGURY_AUTH", "required")]).unwrap();
        let key = server.key(&["plain", "--scope", "system/*.cruds"]).unwrap();
        for resource in
            [patient("p"), patient("q"), observation("o", "q"), observation("o", "p"), observation("qo", "q")]
        {
            let written = by(&server, &key, &resource);
            assert!(matches!(written.status, 200 | 201), "{}", written.json);
        }
        assert_eq!(get(&server, &key, "/fhir/Observation/o/_history/1", None).status, 200);
        by(&server, &key, &consent("c", "p", json!({"type": "deny"}))).expect(201).unwrap();
        for (path, seen) in [
            ("o", 404),
            ("o/_history/1", 404),
            ("o/_history/2", 404),
            ("o/_history", 404),
            ("qo/_history/1", 200),
        ] {
            let found = get(&server, &key, &format!("/fhir/Observation/{path}"), None);
            assert_eq!(found.status, seen, "{backend:?} {path}");
        }
        let all = get(&server, &key, "/fhir/Observation/_history", None).expect(200).unwrap().json;
        assert_eq!(all["entry"].as_array().unwrap().len(), 1, "{all}");
    }
}

#[test]
fn an_app_of_one_patient_joins_no_records() {
    for backend in BOTH {
        let (place, _) = hospital(backend);
        let scope = "launch/patient patient/*.cruds";
        let client = place.app(&["--public", "--redirect", CALLBACK, "--scope", scope]).0;
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[("scope", scope)]));
        let page = to_consent_as("carol", &mut browser, &began, "p1");
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
        let app = got["access_token"].as_str().unwrap();
        let linked = |to: &str| {
            let mut linked = patient("p1");
            linked["link"] = json!([{"other": {"reference": to}, "type": "seealso"}]);
            linked
        };
        let path = "/fhir/Patient/p1";
        let status = |method: &str, body: &Value| send(&place.server, app, (method, path), &[], body).status;
        assert_eq!(status("PUT", &patient("p1")), 200);
        assert_eq!(status("PUT", &linked("Patient/p2")), 403, "{backend:?}");
        let link = json!([{"op": "add", "path": "/link", "value": linked("Patient/p2")["link"]}]);
        assert_eq!(status("PATCH", &link), 403);
        // What is joined already stays so.
        write(&place, &linked("Patient/p2"));
        let mut changed = linked("Patient/p2");
        changed["gender"] = json!("female");
        assert_eq!(status("PUT", &changed), 200);
        assert_eq!(status("PUT", &patient("p1")), 403);
        assert_eq!(status("DELETE", &json!({})), 403);
    }
}
