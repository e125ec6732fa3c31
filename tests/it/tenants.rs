//! A tenant is a deployment: what one server issued and whom it knows is nothing to another.

use harness::{BOTH, Backend};
use serde_json::{Value, json};

use crate::smart::{CALLBACK, Place, VERIFIER, code, redeem};
use crate::smart_clients::{claims, register, rsa, tell};

const SCOPE: &str = "launch/patient openid fhirUser offline_access patient/*.rs";
const ITSELF: &str = "system/Patient.rs system/Observation.rs";

/// A server with another database and another secret.
pub(crate) fn other(backend: Backend) -> Place {
    Place::with(backend, &[("AUGURY_SECRET", "a secret that no other tenant of this test has")])
}

/// What callers have that this server knows, by what it is.
pub(crate) fn bearers(place: &Place) -> Value {
    let app = place.public();
    let got =
        redeem(place, &app, &code(place, &app, &[("scope", SCOPE)]), VERIFIER).expect(200).unwrap().json;
    let key = rsa("r1");
    let client = register(place, &[&key], &["--scope", ITSELF]);
    let itself =
        tell(place, &key.sign(&key.header(), &claims(place, &client)), ITSELF).expect(200).unwrap().json;
    for bearer in [json!(place.key), got["access_token"].clone(), itself["access_token"].clone()] {
        assert_eq!(place.read("/fhir/Patient/p1", bearer.as_str().unwrap()), 200);
    }
    json!({
        "key of everything": place.key,
        "token of a patient": got["access_token"],
        "token of a client for itself": itself["access_token"],
        "id_token": got["id_token"],
        "refresh token": got["refresh_token"],
        "code": code(place, &app, &[]),
    })
}

#[test]
fn a_client_of_another_tenant_is_nobody_here() {
    for backend in BOTH {
        let (here, other) = (Place::new(backend), other(backend));
        for (name, bearer) in bearers(&other).as_object().unwrap() {
            assert_eq!(here.read("/fhir/Patient/p1", bearer.as_str().unwrap()), 401, "{backend:?} {name}");
        }
        let key = rsa("r1");
        let client = register(&other, &[&key], &["--scope", ITSELF]);
        let (with_secret, secret) = other.app(&["--secret", "--redirect", CALLBACK, "--scope", SCOPE]);
        let refused = |answer: harness::Answer, error: &str| {
            assert!(matches!(answer.status, 400 | 401), "{backend:?} {}", answer.text);
            assert_eq!(answer.json["error"], error, "{backend:?} {}", answer.text);
        };
        // Whom the assertion is for makes no difference.
        for audience in [&here, &other] {
            refused(
                tell(&here, &key.sign(&key.header(), &claims(audience, &client)), ITSELF),
                "invalid_client",
            );
        }
        // Nor is one that was made for the other good here where the same client is known to both.
        let known = register(&here, &[&key], &["--scope", ITSELF]);
        refused(tell(&here, &key.sign(&key.header(), &claims(&other, &known)), ITSELF), "invalid_client");
        tell(&here, &key.sign(&key.header(), &claims(&here, &known)), ITSELF).expect(200).unwrap();

        let app = here.public();
        let public = other.public();
        let got = redeem(&other, &public, &code(&other, &public, &[]), VERIFIER).expect(200).unwrap().json;
        let of = |name: &str| got[name].as_str().unwrap().to_owned();
        let by_secret = |pairs: &[(&str, &str)]| {
            let proof = [("client_id", with_secret.as_str()), ("client_secret", secret.as_str())];
            here.form("/oauth/token", &[pairs, proof.as_slice()].concat())
        };
        refused(by_secret(&[("grant_type", "client_credentials"), ("scope", ITSELF)]), "invalid_client");
        let refresh = of("refresh_token");
        let again = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        refused(by_secret(&again), "invalid_client");
        let by_ours = [again.as_slice(), &[("client_id", app.as_str())]].concat();
        refused(here.form("/oauth/token", &by_ours), "invalid_grant");
        refused(redeem(&here, &app, &code(&other, &public, &[]), VERIFIER), "invalid_grant");

        // Asking about it tells nothing, and ending it here does not end it there.
        let token = of("access_token");
        let pairs = [("token", token.as_str()), ("client_id", app.as_str())];
        here.form("/oauth/revoke", &pairs);
        let asked = here.server.http().post(here.server.url("/oauth/introspect")).bearer_auth(&here.key);
        let told: Value = asked.form(&[("token", token.as_str())]).send().unwrap().json().unwrap();
        assert_eq!(told, json!({"active": false}), "{backend:?}");
        assert_eq!(other.read("/fhir/Patient/p1", &token), 200);
    }
}
