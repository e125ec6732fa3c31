//! Clients that prove who they are, apps that introduce themselves or are opened by an EHR, and people
//! who mistype their password.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::browser::Browser;
use harness::{Answer, BOTH, Backend, Folder};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::smart::{
    CALLBACK, PASSWORD, Place, VERIFIER, allow, ask, code, led, question, redeem, to_consent,
};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key of a client's.
pub(crate) struct Key {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The private half, for others.
    pub(crate) pem: String,
    pub(crate) public: Value,
    /// What only its owner knows (RFC 7518 section 6.2.2.1), of an elliptic one.
    scalar: String,
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

pub(crate) fn elliptic(kid: &str) -> Key {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = json!({"kty": "EC", "crv": "P-384", "kid": kid, "alg": "ES384", "key_ops": ["verify"], "x": encoded(x), "y": encoded(y)});
    let der = pair.to_pkcs8v1().unwrap();
    let private = EncodingKey::from_ec_der(der.as_ref());
    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    let scalar = encoded(scalar.as_ref());
    Key { algorithm: Algorithm::ES384, private, pem: pem(der.as_ref()), public, scalar }
}

pub(crate) fn rsa(kid: &str) -> Key {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let pem = pem(der.as_ref());
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let n = part(pair.public_key().modulus().big_endian_without_leading_zero());
    let e = part(pair.public_key().exponent().big_endian_without_leading_zero());
    let public = json!({"kty": "RSA", "kid": kid, "alg": "RS384", "use": "sig", "n": n, "e": e});
    let private = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    Key { algorithm: Algorithm::RS384, private, pem, public, scalar: String::new() }
}

impl Key {
    fn kid(&self) -> String {
        self.public["kid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self) -> Header {
        Header { kid: Some(self.kid()), ..Header::new(self.algorithm) }
    }

    pub(crate) fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.private).unwrap()
    }
}

pub(crate) fn claims(place: &Place, client: &str) -> Value {
    json!({
        "iss": client,
        "sub": client,
        "aud": place.server.url("/oauth/token"),
        "exp": chrono::Utc::now().timestamp() + 290,
        "jti": uuid::Uuid::new_v4().to_string(),
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

pub(crate) fn tell(place: &Place, assertion: &str, scope: &str) -> Answer {
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion),
        ("scope", scope),
    ];
    place.form("/oauth/token", &pairs)
}

pub(crate) fn register(place: &Place, keys: &[&Key], arguments: &[&str]) -> String {
    let folder = Folder::new().unwrap();
    let file = folder.path().join("jwks.json");
    let set = json!({"keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>()});
    std::fs::write(&file, set.to_string()).unwrap();
    place.app(&[&["--jwks", file.to_str().unwrap()], arguments].concat()).0
}

#[test]
fn a_client_acts_for_itself_with_a_key() {
    for backend in BOTH {
        let place = Place::new(backend);
        for key in [rsa("r1"), elliptic("e1")] {
            let client = register(&place, &[&key], &["--scope", "system/Patient.rs system/Observation.rs"]);
            let assertion = key.sign(&key.header(), &claims(&place, &client));
            let got = tell(&place, &assertion, "system/*.cruds").expect(200).unwrap();
            assert_eq!(got.json["scope"], "system/Patient.rs system/Observation.rs");
            assert_eq!((&got.json["token_type"], &got.json["expires_in"]), (&json!("Bearer"), &json!(300)));
            assert!(got.json.get("refresh_token").is_none() && got.json.get("patient").is_none());
            let token = got.json["access_token"].as_str().unwrap();
            assert_eq!(place.read("/fhir/Patient/p1", token), 200);
            let again = tell(&place, &assertion, "system/*.rs");
            assert_eq!((again.status, &again.json["error"]), (401, &json!("invalid_client")));
            assert_eq!(
                tell(&place, &key.sign(&key.header(), &claims(&place, &client)), "patient/*.rs").status,
                400
            );

            let one = key.sign(&key.header(), &claims(&place, &client));
            let won: usize = std::thread::scope(|scope| {
                let tries: Vec<_> =
                    (0..6).map(|_| scope.spawn(|| tell(&place, &one, "system/*.rs").status)).collect();
                tries.into_iter().map(|tried| usize::from(tried.join().unwrap() == 200)).sum()
            });
            assert_eq!(won, 1);

            place.server.command(&["client", "revoke", &client], "").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1100));
            assert_eq!(place.read("/fhir/Patient/p1", token), 401);
            let late = key.sign(&key.header(), &claims(&place, &client));
            assert_eq!(tell(&place, &late, "system/*.rs").json["error"], "invalid_client");
        }
    }
}

#[test]
fn every_fault_of_an_assertion_is_seen() {
    let place = Place::new(Backend::Sqlite);
    let (key, stranger) = (rsa("r1"), rsa("r1"));
    let client = register(&place, &[&key], &[]);
    let other = register(&place, &[&elliptic("e1")], &[]);
    let now = chrono::Utc::now().timestamp();
    let good = || claims(&place, &client);
    let signed = |claims: Value| key.sign(&key.header(), &claims);
    let mut faults = vec![
        ("aud", signed(with(good(), "aud", json!(place.server.url("/fhir"))))),
        ("no aud", signed(with(good(), "aud", Value::Null))),
        ("iss", signed(with(good(), "iss", json!("nobody")))),
        ("other iss", signed(with(good(), "iss", json!(other)))),
        ("sub", signed(with(good(), "sub", json!(other)))),
        ("no sub", signed(with(good(), "sub", Value::Null))),
        ("expired", signed(with(good(), "exp", json!(now - 60)))),
        ("too long", signed(with(good(), "exp", json!(now + 3600)))),
        ("no exp", signed(with(good(), "exp", Value::Null))),
        ("not yet", signed(with(good(), "nbf", json!(now + 200)))),
        ("no jti", signed(with(good(), "jti", Value::Null))),
        ("empty jti", signed(with(good(), "jti", json!("")))),
        ("signature", stranger.sign(&key.header(), &good())),
        ("no kid", key.sign(&Header::new(key.algorithm), &good())),
        ("kid", key.sign(&Header { kid: Some("r2".into()), ..key.header() }, &good())),
        ("alg", key.sign(&Header { alg: Algorithm::RS256, ..key.header() }, &good())),
        ("jku", key.sign(&Header { jku: Some("https://evil.example/jwks".into()), ..key.header() }, &good())),
        ("no JWT", "nonsense".to_owned()),
    ];
    let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    faults.push(("none", format!("{}.{}.", encoded(json!({"alg": "none", "kid": "r1"})), encoded(good()))));
    let symmetric = EncodingKey::from_secret(key.public["n"].as_str().unwrap().as_bytes());
    let header = Header { kid: Some("r1".into()), ..Header::new(Algorithm::HS384) };
    faults.push(("symmetric", jsonwebtoken::encode(&header, &good(), &symmetric).unwrap()));
    for (fault, assertion) in faults {
        let told = tell(&place, &assertion, "system/*.rs");
        assert_eq!(
            (told.status, &told.json["error"]),
            (401, &json!("invalid_client")),
            "{fault}: {}",
            told.text
        );
    }
    let assertion = signed(good());
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:example:wrong"),
        ("client_assertion", assertion.as_str()),
        ("scope", "system/*.rs"),
    ];
    assert_eq!(place.form("/oauth/token", &pairs).json["error"], "invalid_client");
    let unknown = place.form("/oauth/token", &[&[("grant_type", "password")], &pairs[1..]].concat());
    assert_eq!((unknown.status, &unknown.json["error"]), (400, &json!("unsupported_grant_type")));
    assert_eq!(
        tell(
            &place,
            &signed(with(good(), "aud", json!(["x", place.server.url("/oauth/token")]))),
            "system/*.rs"
        )
        .status,
        200
    );
    assert_eq!(tell(&place, &assertion, "system/*.rs").status, 200);
}

/// Serves a key set that may change, and counts how often it is asked for.
pub(crate) fn key_server(control: &'static str) -> (String, Arc<Mutex<(Value, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let shared = Arc::new(Mutex::new((json!({"keys": []}), 0)));
    let served = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let body = {
                let mut served = served.lock().unwrap();
                served.1 += 1;
                served.0.to_string()
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncache-control: {control}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (address, shared)
}

#[test]
fn keys_may_be_at_an_address() {
    let place = Place::new(Backend::Sqlite);
    let told = |client: &str, key: &Key, jku: Option<&str>| {
        let header = Header { jku: jku.map(str::to_owned), ..key.header() };
        tell(&place, &key.sign(&header, &claims(&place, client)), "system/*.rs").status
    };
    let (first, second) = (elliptic("e1"), rsa("r1"));
    let (address, set) = key_server("max-age=600");
    set.lock().unwrap().0 = json!({"keys": [first.public]});
    let client = place.app(&["--jwks-url", &address]).0;
    assert_eq!(told(&client, &first, None), 200);
    assert_eq!(told(&client, &first, Some(&address)), 200);
    assert_eq!(set.lock().unwrap().1, 1);
    assert_eq!(told(&client, &first, Some("https://evil.example/jwks")), 401);
    // A key that is not there is not looked for at once again.
    assert_eq!(told(&client, &second, None), 401);
    assert_eq!(set.lock().unwrap().1, 1);

    let (address, set) = key_server("no-store");
    set.lock().unwrap().0 = json!({"keys": [first.public]});
    let client = place.app(&["--jwks-url", &address]).0;
    assert_eq!(told(&client, &first, None), 200);
    set.lock().unwrap().0 = json!({"keys": [second.public]});
    assert_eq!(told(&client, &first, None), 401);
    assert_eq!(told(&client, &second, None), 200);
    assert!(
        place.server.command(&["client", "add", "x", "--jwks-url", "http://app.example/jwks"], "").is_err()
    );
    assert!(
        place.server.command(&["client", "add", "x", "--jwks-url", "https://169.254.169.254/"], "").is_err()
    );
}

#[test]
fn a_client_proves_who_it_is_at_the_code_too() {
    for backend in BOTH {
        let place = Place::new(backend);
        let (client, secret) = place.app(&["--secret", "--redirect", CALLBACK]);
        let pairs = |code: &str| {
            vec![
                ("grant_type", "authorization_code".to_owned()),
                ("code", code.to_owned()),
                ("redirect_uri", CALLBACK.to_owned()),
                ("code_verifier", VERIFIER.to_owned()),
            ]
        };
        let send = |pairs: &[(&str, String)], basic: Option<&str>| {
            let request = place.server.http().post(place.server.url("/oauth/token")).form(pairs);
            let request = match basic {
                Some(secret) => request.basic_auth(&client, Some(secret)),
                None => request,
            };
            Answer::of(request.send().unwrap()).unwrap()
        };
        let first = code(&place, &client, &[]);
        let wrong = send(&pairs(&first), Some("wrong"));
        assert_eq!((wrong.status, &wrong.json["error"]), (401, &json!("invalid_client")));
        assert!(wrong.header("www-authenticate").starts_with("Basic"));
        assert_eq!(redeem(&place, &client, &first, VERIFIER).status, 401);
        let got = send(&pairs(&first), Some(&secret)).expect(200).unwrap();
        let refresh = got.json["refresh_token"].as_str().unwrap();
        let mut posted =
            vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh.to_owned())];
        // It proves nothing to hold the token of a client that has a secret.
        assert_eq!(send(&posted, None).status, 401);
        posted.extend([("client_id", client.clone()), ("client_secret", secret.clone())]);
        assert_eq!(send(&posted, None).status, 200);
        assert_eq!(send(&posted, Some(&secret)).json["error"], "invalid_request");

        let key = elliptic("e1");
        let client = register(&place, &[&key], &["--redirect", CALLBACK]);
        let mut pairs = pairs(&code(&place, &client, &[]));
        pairs.push(("client_assertion_type", TYPE.to_owned()));
        pairs.push(("client_assertion", key.sign(&key.header(), &claims(&place, &client))));
        assert_eq!(send(&pairs, None).status, 200);
    }
}

#[test]
fn an_app_that_introduced_itself_waits() {
    for backend in BOTH {
        let place = Place::new(backend);
        let send = |body: &Value| {
            let request = place.server.http().post(place.server.url("/oauth/register")).json(body);
            Answer::of(request.send().unwrap()).unwrap()
        };
        let told = send(&json!({
            "client_name": "Growth <b>charts</b>",
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "scope": "launch/patient openid patient/*.rs nonsense",
        }));
        let told = told.expect(201).unwrap();
        assert_eq!(told.json["scope"], "launch/patient openid patient/*.rs");
        assert!(told.json["client_id_issued_at"].is_i64() && told.json.get("client_secret").is_none());
        let client = told.json["client_id"].as_str().unwrap();
        let mut browser = Browser::new(&place.server).unwrap();
        assert_eq!(ask(&mut browser, &question(&place, client, &[])).status, 400);
        assert!(place.server.command(&["client", "list"], "").unwrap().contains("pending"));
        place.server.command(&["client", "approve", client], "").unwrap();
        let began = ask(&mut browser, &question(&place, client, &[]));
        let page = to_consent(&mut browser, &began, "p1");
        assert!(page.text.contains("Growth &#60;b&#62;"), "{}", page.text);
        assert_eq!(
            redeem(&place, client, &led(&allow(&mut browser, &page, None), "code").unwrap(), VERIFIER).status,
            200
        );

        let symmetric = send(&json!({"client_name": "x", "redirect_uris": [CALLBACK]})).expect(201).unwrap();
        assert_eq!(symmetric.json["token_endpoint_auth_method"], "client_secret_basic");
        assert!(symmetric.json["client_secret"].as_str().unwrap().len() == 43);
        for (body, error) in [
            (json!({"redirect_uris": ["http://app.example/"]}), "invalid_redirect_uri"),
            (json!({"redirect_uris": ["javascript:alert(1)"]}), "invalid_redirect_uri"),
            (json!({}), "invalid_redirect_uri"),
            (
                json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt"}),
                "invalid_client_metadata",
            ),
            (
                json!({
                    "redirect_uris": [CALLBACK],
                    "token_endpoint_auth_method": "private_key_jwt",
                    "jwks_uri": "https://169.254.169.254/x",
                }),
                "invalid_client_metadata",
            ),
            (
                json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"}),
                "invalid_client_metadata",
            ),
        ] {
            assert_eq!(send(&body).json["error"], error, "{body}");
        }
        let last = (0..40).map(|_| send(&json!({}))).find(|answer| answer.status == 429).unwrap();
        assert!(last.header("retry-after").parse::<u64>().unwrap() > 0);
    }
}

#[test]
fn an_ehr_opens_an_app() {
    for backend in BOTH {
        let place = Place::new(backend);
        place.put(&json!({
            "resourceType": "Encounter",
            "id": "e1",
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": "Patient/p2"},
        }));
        let key = elliptic("e1");
        let ehr =
            register(&place, &[&key], &["--scope", "augury/launch system/Patient.r system/Encounter.r"]);
        let token_for = |scope: &str| {
            let got = tell(&place, &key.sign(&key.header(), &claims(&place, &ehr)), scope);
            got.expect(200).unwrap().json["access_token"].as_str().unwrap().to_owned()
        };
        let token = token_for("augury/launch system/Patient.r system/Encounter.r");
        let app =
            place.app(&["--public", "--redirect", CALLBACK, "--launch-url", "https://app.example/launch"]).0;
        let open = |token: &str, body: &Value| {
            let request = place.server.http().post(place.server.url("/oauth/launch")).bearer_auth(token);
            Answer::of(request.json(body).send().unwrap()).unwrap()
        };
        let further = json!([{"reference": "Observation/o1"}]);
        let asked = json!({"client_id": app, "patient": "p2", "encounter": "e1", "intent": "reconcile", "user": "carol", "fhirContext": further});
        let opened = open(&token, &asked).expect(201).unwrap();
        let url = reqwest::Url::parse(opened.json["url"].as_str().unwrap()).unwrap();
        let sent: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        assert_eq!(sent[0], ("iss".to_owned(), place.server.url("/fhir")));
        assert_eq!(
            (sent[1].0.as_str(), sent[1].1.as_str()),
            ("launch", opened.json["launch"].as_str().unwrap())
        );

        let other = place.public();
        let mut browser = Browser::new(&place.server).unwrap();
        let scope = "launch launch/encounter openid fhirUser user/*.rs patient/*.read online_access";
        let question = |client| question(&place, client, &[("launch", &sent[1].1), ("scope", scope)]);
        assert_eq!(led(&ask(&mut browser, &question(&other)), "error").as_deref(), Some("invalid_request"));
        let asked_app = question(&app);
        let began = ask(&mut browser, &asked_app);
        let page = to_consent(&mut browser, &began, "-");
        assert!(page.text.contains("Ada Baker"));
        let done = allow(&mut browser, &page, None);
        let got = redeem(&place, &app, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
        assert_eq!((&got["patient"], &got["encounter"]), (&json!("p2"), &json!("e1")));
        assert_eq!((&got["intent"], &got["fhirContext"]), (&json!("reconcile"), &further));
        assert_eq!((&got["scope"], &got["need_patient_banner"]), (&json!(scope), &json!(false)));
        // Each launch is good once.
        assert_eq!(led(&ask(&mut browser, &asked_app), "error").as_deref(), Some("invalid_request"));

        // Who signs out ends what was to last as long as they are signed in.
        let refresh = |token: &Value| {
            let token = token.as_str().unwrap();
            place.form(
                "/oauth/token",
                &[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", &app)],
            )
        };
        let next = refresh(&got["refresh_token"]).expect(200).unwrap().json;
        let manage = browser.get("/oauth/manage").unwrap();
        assert!(manage.text.contains("<h2>App</h2>"));
        assert_eq!(browser.submit(&manage, "/oauth/sign-out", &[]).unwrap().status, 303);
        assert_eq!(refresh(&next["refresh_token"]).json["error"], "invalid_grant");

        place.user(&["add", "dave", "--role", "clinician"]);
        let launch =
            open(&token, &json!({"client_id": app, "patient": "p2", "user": "dave"})).expect(201).unwrap();
        let launch = launch.json["launch"].as_str().unwrap();
        let began = ask(&mut browser, &crate::smart::question(&place, &app, &[("launch", launch)]));
        assert_eq!(led(&to_consent(&mut browser, &began, "-"), "error").as_deref(), Some("access_denied"));

        for body in [
            json!({"client_id": "nobody", "patient": "p2"}),
            json!({"client_id": app, "patient": "nobody"}),
            json!({"client_id": app, "patient": "p1", "encounter": "e1"}),
            json!({"client_id": app, "encounter": "e1"}),
            json!({"client_id": app, "fhirContext": [{"nothing": 1}]}),
            json!({"patient": "p2"}),
        ] {
            assert_eq!(open(&token, &body).status, 400, "{body}");
        }
        // Who may not read a patient can't open an app with them.
        assert_eq!(open(&token_for("augury/launch"), &asked).status, 403);
        assert_eq!(open("nonsense", &asked).status, 401);
        assert_eq!(open(next["access_token"].as_str().unwrap(), &asked).status, 403);
    }
}

/// Authlib, from PyPI.
fn authlib(backend: Backend) {
    let place = Place::new(backend);
    let callback = ["--redirect", "https://app.example/callback"];
    let (id, secret) = place.app(&[&["--secret"], callback.as_slice()].concat());
    let key = elliptic("e1");
    let itself = register(&place, &[&key], &["--scope", "system/Patient.rs"]);
    let folder = Folder::new().unwrap();
    let file = folder.path().join("key.json");
    let mut own = key.public.clone();
    own["d"] = json!(key.scalar);
    own["key_ops"] = json!(["sign"]);
    std::fs::write(&file, own.to_string()).unwrap();
    let environment = [
        ("AUGURY_BASE", place.server.url("/fhir")),
        ("AUGURY_SECRET_APP", format!("{id} {secret}")),
        ("AUGURY_KEYS_APP", format!("{itself} {}", file.display())),
    ];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    crate::clients::run("test_authlib.py", &environment);
}

#[test]
fn authlib_on_sqlite() {
    authlib(Backend::Sqlite);
}

#[test]
fn authlib_on_postgres() {
    authlib(Backend::Postgres);
}

#[test]
fn what_was_allowed_can_be_ended() {
    let place = Place::new(Backend::Sqlite);
    let client = place.public();
    let mut browser = Browser::new(&place.server).unwrap();
    let began = ask(&mut browser, &question(&place, &client, &[]));
    let page = to_consent(&mut browser, &began, "p1");
    assert!(page.text.contains("until you end it"));
    let done = allow(&mut browser, &page, None);
    let got = redeem(&place, &client, &led(&done, "code").unwrap(), VERIFIER).expect(200).unwrap().json;
    let token = got["access_token"].as_str().unwrap();
    assert_eq!(place.read("/fhir/Patient/p1", token), 200);
    let manage = browser.get("/oauth/manage").unwrap();
    let grant =
        manage.text.split("name=\"grant\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(browser.submit(&manage, "/oauth/manage", &[("grant", &grant)]).unwrap().status, 303);
    assert_eq!(place.read("/fhir/Patient/p1", token), 401);
}

#[test]
fn wrong_passwords_cost_time() {
    for backend in BOTH {
        let place = Place::new(backend);
        let mut browser = Browser::new(&place.server).unwrap();
        let page = browser.get("/oauth/manage").unwrap();
        let mut enter = |login: &str, password: &str, code: &str| {
            browser.forget();
            let page = browser.get("/oauth/manage").unwrap();
            let pairs = [("login", login), ("password", password), ("code", code)];
            let answer = browser.submit(&page, "/oauth/sign-in", &pairs).unwrap();
            (answer.status, answer.text)
        };
        assert!(page.text.contains("Sign in"));
        assert_eq!(enter("carol", PASSWORD, "").0, 303);
        let (status, unknown) = enter("nobody", "wrong", "");
        let (_, mut known) = enter("carol", "wrong", "");
        let plain = |text: &str| {
            let cut = text.split("name=\"csrf\"").next().unwrap().to_owned();
            cut.replace("carol", "nobody")
        };
        assert_eq!((status, plain(&unknown)), (200, plain(&known)));
        for _ in 0..4 {
            (_, known) = enter("carol", "wrong", "");
        }
        assert!(known.contains("too many attempts"));
        assert_eq!(enter("carol", PASSWORD, "").0, 200);
        place.user(&["unlock", "carol"]);
        assert_eq!(enter("carol", PASSWORD, "").0, 303);

        let said = place.user(&["totp", "carol"]);
        let secret = said.split("secret=").nth(1).unwrap().split('&').next().unwrap();
        assert_eq!(enter("carol", PASSWORD, "").0, 200);
        let code = one_time(secret);
        assert_eq!(enter("carol", PASSWORD, &code).0, 303);
        assert_eq!(enter("carol", PASSWORD, &code).0, 200);
        place.user(&["lock", "carol"]);
        place.user(&["totp", "carol", "--off"]);
        assert_eq!(enter("carol", PASSWORD, "").0, 200);
        assert!(place.server.command(&["user", "add", "carol", "--role", "admin"], PASSWORD).is_err());
        assert!(place.server.command(&["user", "add", "erin", "--role", "nobody"], PASSWORD).is_err());
        assert!(place.server.command(&["user", "add", "erin", "--role", "admin"], "short").is_err());
        assert!(
            place
                .server
                .command(&["user", "add", "erin", "--role", "admin"], "")
                .unwrap()
                .contains("password  ")
        );
        let many = (0..40).map(|_| enter("nobody", "wrong", "").0).find(|status| *status == 429);
        assert_eq!(many, Some(429));
    }
}

/// What an authenticator app shows now (RFC 6238).
pub(crate) fn one_time(secret: &str) -> String {
    let bits = secret.bytes().flat_map(|letter| {
        let value = if letter.is_ascii_digit() { letter - b'2' + 26 } else { letter - b'A' };
        (0..5).rev().map(move |bit| value >> bit & 1)
    });
    let bits: Vec<u8> = bits.collect();
    let bytes: Vec<u8> =
        bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect();
    let step = chrono::Utc::now().timestamp() / 30;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes), &step.to_be_bytes());
    let mac = mac.as_ref();
    let offset = usize::from(mac[19] & 15);
    let number = u32::from_be_bytes(mac[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
