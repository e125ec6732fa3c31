//! Claims that somebody signed with a key of a set (RFC 7515, RFC 7517). What they say is for whoever asks
//! to check, with the clock of the request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
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
        let key = decoding_key(serde_json::from_value(key.clone()).ok()?)?;
        jsonwebtoken::decode::<C>(token, &key, &validation).ok().map(|data| data.claims)
    })
}

/// Coordinates must be as long as the field (RFC 7518 section 6.2.1.2), but widespread libraries drop what
/// leading zeros they have: one key of a hundred would never fit.
fn decoding_key(mut jwk: Jwk) -> Option<DecodingKey> {
    if let AlgorithmParameters::EllipticCurve(point) = &mut jwk.algorithm {
        let length = match point.curve {
            EllipticCurve::P256 => 32,
            EllipticCurve::P384 => 48,
            _ => 0,
        };
        for coordinate in [&mut point.x, &mut point.y] {
            let mut bytes = URL_SAFE_NO_PAD.decode(coordinate.as_str()).ok()?;
            let missing = usize::saturating_sub(length, bytes.len());
            bytes.splice(..0, std::iter::repeat_n(0, missing));
            *coordinate = URL_SAFE_NO_PAD.encode(bytes);
        }
    }
    DecodingKey::from_jwk(&jwk).ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use jsonwebtoken::EncodingKey;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_coordinate_without_its_leading_zeros_is_the_same() {
        let pair = loop {
            let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
            if pair.public_key().as_ref()[1] == 0 {
                break pair;
            }
        };
        let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
        let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES384), &json!({"a": 1}), &private).unwrap();
        let claims = |x: &[u8], y: &[u8]| {
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let key = json!({"kty": "EC", "crv": "P-384", "x": part(x), "y": part(y)});
            signed_claims::<Value>(&[key], "", Algorithm::ES384, &token)
        };
        assert_eq!(claims(x, y), Some(json!({"a": 1})));
        assert_eq!(claims(&x[1..], y), Some(json!({"a": 1})));
        assert_eq!(claims(&x[2..], y).is_some(), x[1] == 0);
        assert_eq!(claims(&[], y), None);
        assert_eq!(claims(&[&[0], x].concat(), y), None);
    }
}
