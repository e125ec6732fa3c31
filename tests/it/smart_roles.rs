//! What somebody may be granted is bounded by their role.

use harness::BOTH;
use harness::browser::{Browser, boxes};

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
