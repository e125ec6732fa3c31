//! An app gets a token and uses it, and what must not happen on the way
//! (<https://hl7.org/fhir/smart-app-launch/app-launch.html>).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::browser::{Browser, boxes};
use harness::{Answer, BOTH, Backend, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const CALLBACK: &str = "https://app.example/callback?tenant=7";
pub(crate) const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";
pub(crate) const PASSWORD: &str = "correct horse battery";
const USUAL: &str = "launch/patient openid fhirUser offline_access patient/*.rs";

/// A server with two patients, a clinician, and a key for what the tests have to lay out.
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) key: String,
}

impl Place {
    pub(crate) fn new(backend: Backend) -> Self {
        Self::with(backend, &[])
    }

    pub(crate) fn with(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let server =
            Server::start_with(backend, &[&[("AUGURY_AUTH", "required")], settings].concat()).unwrap();
        let key = server.key(&["tests"]).unwrap();
        let place = Self { server, key };
        for (id, family) in [("p1", "Abel"), ("p2", "Baker")] {
            place.put(
                &json!({"resourceType": "Patient", "id": id, "name": [{"family": family, "given": ["Ada"]}]}),
            );
        }
        place.put(&json!({"resourceType": "Practitioner", "id": "d1"}));
        place.user(&["add", "carol", "--role", "clinician", "--fhir-user", "Practitioner/d1"]);
        place
    }

    pub(crate) fn put(&self, resource: &Value) {
        let path = format!(
            "/fhir/{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        );
        let request = self.server.http().put(self.server.url(&path)).bearer_auth(&self.key);
        let request = request.header("content-type", "application/fhir+json").body(resource.to_string());
        Answer::of(request.send().unwrap()).unwrap().expect(201).unwrap();
    }

    pub(crate) fn user(&self, arguments: &[&str]) -> String {
        self.server.command(&[&["user"], arguments].concat(), PASSWORD).unwrap()
    }

    /// Registers an app; its id, and its secret if it has one.
    pub(crate) fn app(&self, arguments: &[&str]) -> (String, String) {
        let said = self.server.command(&[&["client", "add", "App"], arguments].concat(), "").unwrap();
        let line = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        (line("id      ").to_owned(), line("secret  ").to_owned())
    }

    pub(crate) fn public(&self) -> String {
        self.app(&["--public", "--redirect", CALLBACK]).0
    }

    pub(crate) fn read(&self, path: &str, token: &str) -> u16 {
        self.server.http().get(self.server.url(path)).bearer_auth(token).send().unwrap().status().as_u16()
    }

    pub(crate) fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        Answer::of(self.server.http().post(self.server.url(path)).form(pairs).send().unwrap()).unwrap()
    }
}

pub(crate) fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()))
}

/// What an app asks, with some of it otherwise; an empty value is left out.
pub(crate) fn question<'q>(
    place: &Place,
    client: &'q str,
    other: &[(&'q str, &'q str)],
) -> Vec<(&'q str, String)> {
    let mut asked = vec![
        ("response_type", "code".to_owned()),
        ("client_id", client.to_owned()),
        ("redirect_uri", CALLBACK.to_owned()),
        ("scope", USUAL.to_owned()),
        ("state", "s+1/2=".to_owned()),
        ("aud", place.server.url("/fhir")),
        ("code_challenge", challenge()),
        ("code_challenge_method", "S256".to_owned()),
    ];
    for (name, value) in other {
        asked.retain(|(one, _)| one != name);
        asked.push((name, (*value).to_owned()));
    }
    asked.retain(|(_, value)| !value.is_empty());
    asked
}

pub(crate) fn ask(browser: &mut Browser<'_>, asked: &[(&str, String)]) -> Answer {
    let pairs: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let url = reqwest::Url::parse_with_params("http://x/oauth/authorize", &pairs).unwrap();
    browser.get(&format!("/oauth/authorize?{}", url.query().unwrap())).unwrap()
}

/// Signs in, chooses the patient if asked, and stops where consent is asked for.
pub(crate) fn to_consent(browser: &mut Browser<'_>, began: &Answer, patient: &str) -> Answer {
    to_consent_as("carol", browser, began, patient)
}

pub(crate) fn to_consent_as(login: &str, browser: &mut Browser<'_>, began: &Answer, patient: &str) -> Answer {
    let mut page = browser.follow(began).unwrap().expect(200).unwrap();
    if page.text.contains("/oauth/sign-in") {
        let pairs = [("login", login), ("password", PASSWORD)];
        let entered = browser.submit(&page, "/oauth/sign-in", &pairs).unwrap();
        page = browser.follow(&entered).unwrap();
    }
    if page.text.contains("/oauth/patient") {
        let chosen = browser.submit(&page, "/oauth/patient", &[("patient", patient)]).unwrap();
        page = browser.follow(&chosen).unwrap();
    }
    page
}

/// Ticks these scopes, or what is ticked already.
pub(crate) fn allow(browser: &mut Browser<'_>, page: &Answer, scopes: Option<&[&str]>) -> Answer {
    let shown = boxes(&page.text);
    let ticked = shown.iter().filter(|(_, ticked)| *ticked).map(|(scope, _)| scope.as_str());
    let scopes: Vec<&str> = scopes.map_or_else(|| ticked.collect(), <[_]>::to_vec);
    let mut pairs: Vec<(&str, &str)> = scopes.into_iter().map(|scope| ("scope", scope)).collect();
    pairs.push(("decision", "allow"));
    browser.submit(page, "/oauth/consent", &pairs).unwrap()
}

/// A parameter of the address that an answer leads to.
pub(crate) fn led(answer: &Answer, name: &str) -> Option<String> {
    let url = reqwest::Url::parse(answer.header("location")).unwrap();
    url.query_pairs().find(|(one, _)| one == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn code(place: &Place, client: &str, other: &[(&str, &str)]) -> String {
    let mut browser = Browser::new(&place.server).unwrap();
    let began = ask(&mut browser, &question(place, client, other));
    let page = to_consent(&mut browser, &began, "p1");
    let done = allow(&mut browser, &page, None);
    let code = led(&done, "code");
    assert!(code.is_some(), "{} {}", done.header("location"), done.text);
    code.unwrap()
}

pub(crate) fn redeem(place: &Place, client: &str, code: &str, verifier: &str) -> Answer {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("client_id", client),
    ];
    if verifier != "-" {
        pairs.push(("code_verifier", verifier));
    }
    place.form("/oauth/token", &pairs)
}

fn refresh(place: &Place, client: &str, token: &str, scope: Option<&str>) -> Answer {
    let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)];
    pairs.extend(scope.map(|scope| ("scope", scope)));
    place.form("/oauth/token", &pairs)
}

fn text<'v>(answer: &'v Answer, name: &str) -> &'v str {
    assert!(answer.json[name].is_string(), "no {name}: {}", answer.text);
    answer.json[name].as_str().unwrap()
}

#[test]
fn what_a_client_must_know() {
    let server = Server::start(Backend::Sqlite).unwrap();
    let ask = |path: &str| {
        let request = server.http().get(server.url(path)).header("accept", "text/html");
        Answer::of(request.header("origin", "https://app.example").send().unwrap()).unwrap()
    };
    let known = ask("/fhir/.well-known/smart-configuration").expect(200).unwrap();
    assert!(known.header("content-type").starts_with("application/json"));
    assert_eq!(known.header("access-control-allow-origin"), "https://app.example");
    let holds = |list: &str, value: &str| known.json[list].as_array().unwrap().contains(&json!(value));
    assert!(
        holds("code_challenge_methods_supported", "S256")
            && !holds("code_challenge_methods_supported", "plain")
    );
    for kind in ["authorization_code", "client_credentials"] {
        assert!(holds("grant_types_supported", kind));
    }
    for capability in [
        "launch-standalone",
        "launch-ehr",
        "client-public",
        "client-confidential-symmetric",
        "client-confidential-asymmetric",
        "sso-openid-connect",
        "context-banner",
        "context-style",
        "context-ehr-patient",
        "context-ehr-encounter",
        "context-standalone-patient",
        "permission-offline",
        "permission-patient",
        "permission-user",
        "permission-v1",
        "permission-v2",
        "authorize-post",
    ] {
        assert!(holds("capabilities", capability), "{capability}");
    }
    assert!(holds("token_endpoint_auth_methods_supported", "private_key_jwt"));
    assert!(holds("token_endpoint_auth_signing_alg_values_supported", "ES384"));
    let statement = server.get("/fhir/metadata").unwrap();
    let security = &statement.json["rest"][0]["security"];
    assert_eq!(security["service"][0]["coding"][0]["code"], "SMART-on-FHIR");
    let uris = security["extension"][0]["extension"].as_array().unwrap();
    for (name, member) in [
        ("authorize", "authorization_endpoint"),
        ("token", "token_endpoint"),
        ("introspect", "introspection_endpoint"),
        ("manage", "management_endpoint"),
        ("register", "registration_endpoint"),
        ("revoke", "revocation_endpoint"),
    ] {
        let uri = uris.iter().find(|one| one["url"] == name).unwrap();
        assert_eq!(uri["valueUri"], known.json[member], "{name}");
    }
    let openid = ask("/.well-known/openid-configuration").expect(200).unwrap();
    assert_eq!(openid.json["issuer"], known.json["issuer"]);
    assert_eq!(openid.json["issuer"], server.url(""));
    assert!(
        openid.json["id_token_signing_alg_values_supported"].as_array().unwrap().contains(&json!("RS256"))
    );
    assert_eq!(openid.json["subject_types_supported"], json!(["public"]));
    let keys = ask("/.well-known/jwks.json").expect(200).unwrap();
    let kinds: Vec<&Value> = keys.json["keys"].as_array().unwrap().iter().map(|key| &key["kty"]).collect();
    assert_eq!(kinds, [&json!("RSA"), &json!("EC")]);
    assert!(keys.json["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
    assert_eq!(ask("/oauth/smart-style.json").status, 200);
}

#[test]
fn an_app_gets_a_token_and_uses_it() {
    for backend in BOTH {
        let mut place = Place::new(backend);
        let client = place.public();
        let code = code(&place, &client, &[("nonce", "n-0S6")]);
        let request = place.server.http().post(place.server.url("/oauth/token"));
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("client_id", client.as_str()),
            ("code_verifier", VERIFIER),
        ];
        let request = request.header("origin", "https://app.example").form(&pairs);
        let got = Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap();
        assert_eq!(got.header("access-control-allow-origin"), "https://app.example");
        assert!(
            got.header("cache-control").contains("no-store") && got.header("pragma").contains("no-cache")
        );
        assert_eq!((text(&got, "token_type"), text(&got, "patient")), ("Bearer", "p1"));
        assert_eq!((text(&got, "scope"), &got.json["expires_in"]), (USUAL, &json!(3600)));
        assert_eq!(got.json["need_patient_banner"], true);
        let style = text(&got, "smart_style_url").replace(&place.server.url(""), "");
        assert_eq!(place.server.get(&style).unwrap().status, 200);

        let keys = place.server.get("/.well-known/jwks.json").unwrap().json;
        let claims = claims(&place, text(&got, "id_token"), &keys, &client);
        assert_eq!(claims["nonce"], "n-0S6");
        assert_eq!(claims["fhirUser"], place.server.url("/fhir/Practitioner/d1"));

        let token = text(&got, "access_token");
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        assert_eq!(place.server.get("/fhir/Patient/p1").unwrap().status, 401);
        assert_eq!(place.read("/fhir/Practitioner/d1", token), 200);
        // Another patient's record is not there for it, and nothing can be written.
        assert!(matches!(place.read("/fhir/Patient/p2", token), 403 | 404));
        let write = place.server.http().put(place.server.url("/fhir/Patient/p1")).bearer_auth(token);
        let body = json!({"resourceType": "Patient", "id": "p1"}).to_string();
        let write = write.header("content-type", "application/fhir+json").body(body).send().unwrap();
        assert_eq!(write.status(), 403);
        assert_eq!(place.read("/fhir/Patient/p1", "nonsense"), 401);
        // Keys and tokens outlive the process.
        place.server.kill_and_restart().unwrap();
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        assert_eq!(place.server.get("/.well-known/jwks.json").unwrap().json, keys);

        let (other, secret) = place.app(&["--secret", "--redirect", CALLBACK]);
        let worth = |token: &str| {
            let request = place.server.http().post(place.server.url("/oauth/introspect"));
            let request = request.basic_auth(&other, Some(&secret)).form(&[("token", token)]);
            Answer::of(request.send().unwrap()).unwrap().expect(200).unwrap().json
        };
        let said = worth(token);
        assert_eq!(said["active"], true);
        assert_eq!((&said["client_id"], &said["scope"]), (&json!(client), &json!(USUAL)));
        assert_eq!((&said["patient"], &said["sub"]), (&json!("p1"), &claims["sub"]));
        assert_eq!((&said["iss"], &said["fhirUser"]), (&claims["iss"], &claims["fhirUser"]));
        assert!(said["exp"].is_i64() && said["jti"].is_string());
        assert_eq!(worth("nonsense"), json!({"active": false}));
        let asked = place.server.http().post(place.server.url("/oauth/introspect")).bearer_auth(token);
        assert_eq!(asked.form(&[("token", token)]).send().unwrap().status(), 200);
        assert_eq!(place.form("/oauth/introspect", &[("token", token), ("client_id", &client)]).status, 401);

        // Another client can't end it, its own can.
        let request = place.server.http().post(place.server.url("/oauth/revoke"));
        let request = request.basic_auth(&other, Some(&secret)).form(&[("token", token)]);
        assert_eq!(request.send().unwrap().status(), 200);
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        assert_eq!(place.form("/oauth/revoke", &[("token", token), ("client_id", &client)]).status, 200);
        assert_eq!(place.read("/fhir/Patient/p1", token), 401);
        assert_eq!(worth(token), json!({"active": false}));
        assert_eq!(refresh(&place, &client, text(&got, "refresh_token"), None).status, 400);
    }
}

fn claims(place: &Place, token: &str, keys: &Value, client: &str) -> Value {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys.clone()).unwrap();
    let key = keys.find(&header.kid.unwrap()).unwrap();
    assert_eq!(header.alg, jsonwebtoken::Algorithm::RS256);
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims;
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(place.server.url("")), &json!(client)));
    assert!(claims["exp"].as_i64().unwrap() > chrono::Utc::now().timestamp());
    assert!(claims["iat"].is_i64());
    claims
}

#[test]
fn a_code_is_good_once_for_its_client_with_its_verifier() {
    for backend in BOTH {
        let place = Place::new(backend);
        let (client, other) = (place.public(), place.public());
        let first = code(&place, &client, &[]);
        for verifier in ["-", "", "another-verifier-that-is-long-enough-to-be-one-012", &challenge()] {
            let refused = redeem(&place, &client, &first, verifier);
            assert_eq!(
                (refused.status, &refused.json["error"]),
                (400, &json!("invalid_grant")),
                "{verifier}"
            );
        }
        assert_eq!(redeem(&place, &other, &first, VERIFIER).status, 400);
        assert_eq!(redeem(&place, "nobody", &first, VERIFIER).status, 401);
        assert_eq!(redeem(&place, &client, "nonsense", VERIFIER).status, 400);
        let elsewhere = [
            ("grant_type", "authorization_code"),
            ("code", &first),
            ("redirect_uri", "https://app.example/other"),
            ("client_id", &client),
            ("code_verifier", VERIFIER),
        ];
        assert_eq!(place.form("/oauth/token", &elsewhere).status, 400);
        let got = redeem(&place, &client, &first, VERIFIER).expect(200).unwrap();
        let token = text(&got, "access_token");
        assert_eq!(place.read("/fhir/Patient/p1", token), 200);
        // Who brings it again makes all of it worthless.
        assert_eq!(redeem(&place, &client, &first, VERIFIER).json["error"], "invalid_grant");
        assert_eq!(place.read("/fhir/Patient/p1", token), 401);
        assert_eq!(refresh(&place, &client, text(&got, "refresh_token"), None).status, 400);

        // Of many at once one is first, at most.
        let code = code(&place, &client, &[]);
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| redeem(&place, &client, &code, VERIFIER).status)).collect();
            tries.into_iter().map(|one| one.join().unwrap()).filter(|status| *status == 200).count()
        });
        assert!(won <= 1, "{won}");
    }
}

#[test]
fn a_refresh_token_is_replaced_and_never_widens() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let got = redeem(&place, &client, &code(&place, &client, &[]), VERIFIER).expect(200).unwrap();
        let first = text(&got, "refresh_token").to_owned();
        assert_eq!(refresh(&place, &place.public(), &first, None).status, 400);
        let unnamed = [("grant_type", "refresh_token"), ("refresh_token", first.as_str())];
        assert_eq!(place.form("/oauth/token", &unnamed).status, 200);
        assert_eq!(refresh(&place, &client, "nonsense", None).json["error"], "invalid_grant");
        assert_eq!(refresh(&place, &client, &first, Some("patient/*.cruds")).json["error"], "invalid_scope");

        // An answer that was lost is asked for again, by several at once.
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..4).map(|_| scope.spawn(|| refresh(&place, &client, &first, None))).collect();
            tries.into_iter().map(|one| one.join().unwrap().expect(200).unwrap()).collect()
        });
        let second = text(&answers[0], "refresh_token").to_owned();
        assert!(
            answers.iter().all(|one| text(one, "refresh_token") == second && text(one, "scope") == USUAL)
        );
        assert!(answers[0].json["expires_in"].is_i64() && answers[0].header("pragma").contains("no-cache"));
        assert_eq!(place.read("/fhir/Patient/p1", text(&answers[0], "access_token")), 200);

        let less = "openid patient/Observation.rs";
        let third = refresh(&place, &client, &second, Some(less)).expect(200).unwrap();
        assert_eq!(text(&third, "scope"), less);
        let token = text(&third, "refresh_token");
        assert_eq!(refresh(&place, &client, token, Some("patient/*.cruds")).json["error"], "invalid_scope");
        let fourth = refresh(&place, &client, token, None).expect(200).unwrap();
        assert_eq!(text(&fourth, "scope"), USUAL, "less was asked for once");

        // What replaced it was used: who still has the first has stolen it.
        assert_eq!(refresh(&place, &client, &first, None).status, 400);
        assert_eq!(refresh(&place, &client, text(&fourth, "refresh_token"), None).status, 400);
        assert_eq!(place.read("/fhir/Patient/p1", text(&fourth, "access_token")), 401);
    }
}

#[test]
fn who_asks_wrongly_gets_no_code() {
    let place = Place::new(Backend::Sqlite);
    let client = place.public();
    let mut browser = Browser::new(&place.server).unwrap();
    let elsewhere = place.server.url("/other");
    for wrong in [
        ("client_id", ""),
        ("client_id", "nobody"),
        ("redirect_uri", ""),
        ("redirect_uri", "https://app.example/callback"),
        ("redirect_uri", "https://evil.example/"),
        ("aud", ""),
        ("aud", elsewhere.as_str()),
    ] {
        let told = ask(&mut browser, &question(&place, &client, &[wrong]));
        assert_eq!((told.status, told.header("location")), (400, ""), "{wrong:?}");
        assert!(told.header("content-type").starts_with("text/html"));
        assert!(told.header("content-security-policy").contains("default-src 'none'"));
    }
    for (wrong, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("scope", ""), "invalid_scope"),
        (("scope", "nonsense system/*.rs"), "invalid_scope"),
        (("launch", "nonsense"), "invalid_request"),
        (("request", "x"), "request_not_supported"),
    ] {
        let told = ask(&mut browser, &question(&place, &client, &[wrong]));
        assert_eq!(led(&told, "error").as_deref(), Some(error), "{wrong:?}");
        assert_eq!(led(&told, "state").as_deref(), Some("s+1/2="));
        assert!(told.header("location").starts_with("https://app.example/callback?tenant=7&error="));
    }
    let silent = ask(&mut browser, &question(&place, &client, &[("prompt", "none")]));
    assert_eq!(led(&browser.follow(&silent).unwrap(), "error").as_deref(), Some("login_required"));
    // The base may be written with a slash at its end.
    let slash = place.server.url("/fhir/");
    let began = ask(&mut browser, &question(&place, &client, &[("aud", &slash)]));
    let page = to_consent(&mut browser, &began, "p1");
    let denied = browser.submit(&page, "/oauth/consent", &[("decision", "deny")]).unwrap();
    assert_eq!(led(&denied, "error").as_deref(), Some("access_denied"));
    assert_eq!(led(&denied, "state").as_deref(), Some("s+1/2="));
    // A form of somebody else's, or of another browser, is no decision.
    let mut stranger = Browser::new(&place.server).unwrap();
    stranger.get("/oauth/manage").unwrap();
    assert_eq!(stranger.submit(&page, "/oauth/consent", &[("decision", "allow")]).unwrap().status, 400);
}

#[test]
fn a_question_in_a_form_is_the_same_question() {
    let place = Place::new(Backend::Sqlite);
    let client = place.public();
    let mut browser = Browser::new(&place.server).unwrap();
    let asked = question(&place, &client, &[]);
    let pairs: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let began = browser.post("/oauth/authorize", &pairs).unwrap();
    let page = to_consent(&mut browser, &began, "p2");
    let done = allow(&mut browser, &page, None);
    assert!(done.header("location").starts_with("https://app.example/callback?tenant=7&code="));
    assert_eq!(led(&done, "state").as_deref(), Some("s+1/2="));
    let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap();
    assert_eq!(text(&got, "patient"), "p2");
}

#[test]
fn what_is_unticked_is_not_granted() {
    for backend in BOTH {
        let place = Place::new(backend);
        let client = place.public();
        let asked = "launch/patient openid patient/Patient.rs patient/Observation.rs patient/Condition.read user/*.rs";
        let mut browser = Browser::new(&place.server).unwrap();
        let began = ask(&mut browser, &question(&place, &client, &[("scope", asked)]));
        let page = to_consent(&mut browser, &began, "p1");
        assert!(
            page.text.contains("Ada Abel") && page.text.contains("See and search patient of this patient")
        );
        let part = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs";
        assert!(boxes(&page.text).contains(&(part.to_owned(), false)));
        let ticked = ["openid", "patient/Patient.rs", part, "patient/Condition.read", "patient/Device.rs"];
        let done = allow(&mut browser, &page, Some(&ticked));
        let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap();
        let granted = format!("launch/patient openid patient/Patient.rs {part} patient/Condition.read");
        assert_eq!(text(&got, "scope"), granted);
        assert!(got.json.get("refresh_token").is_none());
        let began = ask(&mut browser, &question(&place, &client, &[("scope", asked)]));
        let page = to_consent(&mut browser, &began, "p1");
        let nothing = allow(&mut browser, &page, Some(&[]));
        assert_eq!(led(&nothing, "error").as_deref(), Some("access_denied"));
    }
}
