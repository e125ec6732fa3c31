//! Claims that somebody signed with a key of a set (RFC 7515, RFC 7517). What they say is for whoever asks
//! to check, with the clock of the request.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Signatures that are believed of other servers: none that whoever has a public key, or a secret of ours,
/// could make.
pub(crate) const BELIEVED: [Algorithm; 7] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// The header, if the signature is one of these and nothing in it must be understood that is not.
pub(crate) fn header(token: &str, algorithms: &[Algorithm]) -> Option<Header> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    (algorithms.contains(&header.alg) && header.crit.is_none()).then_some(header)
}

/// Is that the key that is named? Where none is, each may be it.
pub(crate) fn is(key: &Value, kid: &str) -> bool {
    kid.is_empty() || key.get("kid").and_then(Value::as_str) == Some(kid)
}

/// The claims, if the key of that id among these signed them so.
pub(crate) fn signed_claims<C: DeserializeOwned>(
    keys: &[Value],
    kid: &str,
    algorithm: Algorithm,
    token: &str,
) -> Option<C> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    keys.iter().filter(|key| is(key, kid)).find_map(|key| {
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        jsonwebtoken::decode::<C>(token, &key, &validation).ok().map(|data| data.claims)
    })
}
