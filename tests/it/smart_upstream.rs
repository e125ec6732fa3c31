//! People sign in with another provider's accounts: here a second server of the same kind.

use harness::browser::Browser;
use harness::{Answer, BOTH, Backend};
use serde_json::{Value, json};

use crate::smart::{CALLBACK, Place, VERIFIER, allow, ask, led, question, redeem, to_consent};
use crate::smart_trail::trail;

/// A provider, and a server whose people it knows.
fn two(backend: Backend, roles: &str) -> (Place, Place) {
    let provider = Place::new(Backend::Sqlite);
    let (client, secret) =
        provider.app(&["--secret", "--redirect", "http://127.0.0.1/oauth/upstream/callback"]);
    let issuer = provider.server.url("");
    let settings = [
        ("AUGURY_OIDC_ISSUER", issuer.as_str()),
        ("AUGURY_OIDC_CLIENT_ID", &client),
        ("AUGURY_OIDC_CLIENT_SECRET", &secret),
        ("AUGURY_OIDC_SCOPE", "openid fhirUser profile"),
        ("AUGURY_OIDC_ROLE_CLAIM", "name"),
        ("AUGURY_OIDC_ROLES", roles),
    ];
    let place = Place::with(backend, &settings);
    (provider, place)
}

/// The way to the provider and back, to where the browser is led next.
fn through(provider: &Place, browser: &mut Browser<'_>, page: &Answer) -> String {
    let link = page.text.split("href=\"/oauth/upstream?").nth(1).unwrap().split('"').next().unwrap();
    let left = browser.get(&format!("/oauth/upstream?{link}")).unwrap();
    let away = left.header("location").replace(&provider.server.url(""), "");
    assert!(away.starts_with("/oauth/authorize?") && !away.contains("aud="), "{away}");
    let mut there = Browser::new(&provider.server).unwrap();
    let began = there.get(&away).unwrap();
    let asked = to_consent(&mut there, &began, "-");
    let back = allow(&mut there, &asked, None);
    let back = reqwest::Url::parse(back.header("location")).unwrap();
    format!("{}?{}", back.path(), back.query().unwrap())
}

#[test]
fn another_provider_says_who_somebody_is() {
    for backend in BOTH {
        let (provider, place) = two(backend, "nobody=admin; carol=clinician");
        let client = place.app(&["--public", "--redirect", CALLBACK]).0;
        for _ in 0..2 {
            let mut browser = Browser::new(&place.server).unwrap();
            let began = ask(&mut browser, &question(&place, &client, &[]));
            let page = browser.follow(&began).unwrap();
            let back = through(&provider, &mut browser, &page);
            // In another browser it would sign in somebody else.
            let mut stranger = Browser::new(&place.server).unwrap();
            assert_eq!(stranger.get(&back).unwrap().status, 400);
            let entered = browser.get(&back).unwrap();
            let picked = browser.follow(&entered).unwrap();
            let chosen = browser.submit(&picked, "/oauth/patient", &[("patient", "p1")]).unwrap();
            let page = browser.follow(&chosen).unwrap();
            let done = allow(&mut browser, &page, None);
            let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap();
            let token = got.json["access_token"].as_str().unwrap();
            assert_eq!(place.read("/fhir/Practitioner/d1", token), 200);
            // The code there was good once.
            assert_eq!(browser.get(&back).unwrap().status, 400);
        }
        let entered = trail(&place, "subtype=110122&outcome=0");
        let of_app = |event: &Value| event["agent"][0]["who"]["identifier"]["value"] == json!(client);
        assert!(entered.len() == 2 && entered.iter().all(of_app), "{entered:?}");
        let accounts = place.user(&["list"]);
        let theirs: Vec<&str> = accounts.lines().filter(|line| line.contains('#')).collect();
        assert_eq!(theirs.len(), 1, "{accounts}");
        assert!(theirs[0].contains("clinician") && theirs[0].ends_with("Practitioner/d1"));
        let login = theirs[0].split(' ').next().unwrap();
        place.user(&["lock", login]);
        let mut browser = Browser::new(&place.server).unwrap();
        let page = browser.get("/oauth/manage").unwrap();
        let back = through(&provider, &mut browser, &page);
        assert!(browser.get(&back).unwrap().text.contains("locked"));
        let told = &trail(&place, "subtype=110122&outcome=4")[0];
        assert_eq!(told["outcomeDesc"], "Your account is locked.");
        assert!(told["agent"].as_array().unwrap().iter().any(|one| one["name"] == "carol"), "{told}");
    }
}

#[test]
fn who_comes_back_with_nothing_does_not_fill_the_trail() {
    let (_provider, place) = two(Backend::Sqlite, "carol=clinician");
    let mut browser = Browser::new(&place.server).unwrap();
    // For an app or not, they are nobody.
    let client = place.public();
    let began = ask(&mut browser, &question(&place, &client, &[]));
    let page = browser.follow(&began).unwrap();
    let link = page.text.split("href=\"/oauth/upstream?").nth(1).unwrap().split('"').next().unwrap();
    let left = browser.get(&format!("/oauth/upstream?{link}")).unwrap();
    let away = reqwest::Url::parse(left.header("location")).unwrap();
    let state = away.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    for _ in 0..30 {
        assert_eq!(browser.get(&format!("/oauth/upstream/callback?state={state}")).unwrap().status, 400);
    }
    let told = trail(&place, "subtype=110122&outcome=4");
    assert_eq!(told.len(), 10);
    assert_eq!(told[0]["agent"][0]["who"]["identifier"]["value"], json!(client));
    assert!(
        told[0]["outcomeDesc"].as_str().unwrap().ends_with("try again: the OpenID Connect provider refused")
    );
}

#[test]
fn who_has_no_role_there_does_not_come_in() {
    let (provider, place) = two(Backend::Sqlite, "somebody=clinician");
    let mut browser = Browser::new(&place.server).unwrap();
    let page = browser.get("/oauth/manage").unwrap();
    let back = through(&provider, &mut browser, &page);
    let told = browser.get(&back).unwrap();
    assert!(told.status == 400 && told.text.contains("no role here"), "{}", told.text);
    assert!(browser.get("/oauth/manage").unwrap().text.contains("/oauth/sign-in"));
    assert_eq!(browser.get("/oauth/upstream/callback?code=x&state=y").unwrap().status, 400);
}
