//! Who the user is, signed: OpenID Connect's id_token with SMART's `fhirUser`
//! (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data>).

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};
use store::{Context, SmartGrant};

use super::refusal::Refusal;
use crate::app::App;

const SECOND: i64 = 1_000_000;
/// How long it is good.
const LASTS: i64 = 3600;

/// The token, if the scopes ask for it and there is a user. `nonce` only goes with the first.
pub(crate) async fn issue(
    app: &App,
    context: &Context,
    grant: &SmartGrant,
    scope: &str,
    first: bool,
) -> Result<Option<String>, Refusal> {
    let has = |name: &str| scope.split(' ').any(|one| one == name);
    let Some(subject) = grant.account.as_ref().filter(|_| has("openid")) else { return Ok(None) };
    let now = context.at / SECOND;
    let mut claims = Map::new();
    claims.insert("iss".into(), json!(app.config.public_url));
    claims.insert("sub".into(), json!(subject));
    claims.insert("aud".into(), json!(grant.client));
    claims.insert("iat".into(), json!(now));
    claims.insert("exp".into(), json!(now + LASTS));
    if let Some(time) = grant.granted.signed_in {
        claims.insert("auth_time".into(), json!(time / SECOND));
    }
    if let Some(nonce) = grant.granted.nonce.as_ref().filter(|_| first) {
        claims.insert("nonce".into(), json!(nonce));
    }
    if has("fhirUser") || has("profile") {
        if let Some(user) = &grant.granted.fhir_user {
            claims.insert("fhirUser".into(), json!(format!("{}/{user}", app.config.fhir_base())));
        }
        if let (Some(name), true) = (&grant.granted.name, has("profile")) {
            claims.insert("name".into(), json!(name));
        }
    }
    let (keys, secret) = (&app.smart.keys, &app.smart.secret);
    keys.sign(&app.store, secret, context, Algorithm::RS256, &Value::Object(claims)).await.map(Some)
}
