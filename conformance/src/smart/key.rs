//! Keys of clients, and signatures of the server's: JWTs by hand, so that they can be wrong in any way.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::check::{Outcome, Stop};
use crate::server::{list, text, unique};

/// `client_assertion_type` of a JWT.
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

enum Pair {
    Rsa(RsaKeyPair),
    Elliptic(EcdsaKeyPair),
}

/// A private key of a client's.
pub(crate) struct Key {
    pub(crate) kid: String,
    pair: Pair,
}

impl Key {
    /// From `KID=FILE`: a PEM file with a PKCS #8 key, RSA or of the curve P-384.
    pub(crate) fn read(named: &str) -> Result<Self, String> {
        let (kid, file) = named.split_once('=').ok_or_else(|| format!("`{named}` is not KID=FILE"))?;
        let pem = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        let inside = pem
            .split_once("-----BEGIN PRIVATE KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PRIVATE KEY-----"))
            .map(|(inside, _)| inside.split_whitespace().collect::<String>());
        let der = inside.and_then(|inside| STANDARD.decode(inside).ok());
        let der = der.ok_or_else(|| format!("{file} has no PRIVATE KEY (PEM, PKCS #8)"))?;
        let rsa = || RsaKeyPair::from_pkcs8(&der).map(Pair::Rsa);
        let elliptic = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der);
        let pair = elliptic.map(Pair::Elliptic).or_else(|_| rsa());
        Ok(Self { kid: kid.to_owned(), pair: pair.map_err(|_| format!("{file} is neither RSA nor P-384"))? })
    }

    /// A key that nobody knows, under that id.
    pub(crate) fn stranger(kid: &str) -> Result<Self, Stop> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING);
        let pair = pair.map_err(|_| "no key can be made")?;
        Ok(Self { kid: kid.to_owned(), pair: Pair::Elliptic(pair) })
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS384",
            Pair::Elliptic(_) => "ES384",
        }
    }

    /// The public half of a key that was made here, as a JWK.
    pub(crate) fn public(&self) -> Value {
        let Pair::Elliptic(pair) = &self.pair else { return Value::Null };
        // Both halves of the point, behind a byte that says so.
        let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-384", "alg": "ES384", "kid": self.kid, "key_ops": ["verify"], "x": part(x), "y": part(y)})
    }

    /// The header that is right.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.kid, "typ": "JWT"})
    }

    /// A JWT with these parts, whatever they say; RSA signs as `alg` of the header wants.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<String, Stop> {
        let signed = unsigned(header, claims);
        let random = SystemRandom::new();
        let failed = |_| Stop::from("the key can't sign");
        let bytes = match &self.pair {
            Pair::Elliptic(pair) => pair.sign(&random, signed.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                let padding = match text(header, "/alg") {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    _ => &signature::RSA_PKCS1_SHA384,
                };
                pair.sign(padding, &random, signed.as_bytes(), &mut bytes).map_err(failed)?;
                bytes
            }
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A JWT whose "secret" is the public key: who takes it mixes up the algorithms.
    pub(crate) fn confused(&self, claims: &Value) -> String {
        let signed = unsigned(&json!({"alg": "HS384", "kid": self.kid, "typ": "JWT"}), claims);
        let public = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Elliptic(pair) => pair.public_key().as_ref().to_vec(),
        };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, &public), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

/// Header and claims of a JWT without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// What an assertion of a client's must say.
pub(crate) fn claims(client: &str, audience: &str) -> Value {
    json!({"iss": client, "sub": client, "aud": audience, "exp": now() + 240, "jti": unique("jti")})
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The S256 challenge of a verifier (RFC 7636).
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// Header and claims of a JWT, not verified.
pub(crate) fn decoded(token: &str) -> Option<(Value, Value)> {
    let mut parts = token.split('.');
    let mut next = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let both = (next()?, next()?);
    (token.split('.').count() == 3).then_some(both)
}

/// Is it signed by one of these keys, RS256?
pub(crate) fn verified(token: &str, keys: &Value) -> Outcome {
    let (signed, signature) = token.rsplit_once('.').ok_or("no JWT")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature is no base64url")?;
    let kid = decoded(token).map(|(header, _)| text(&header, "/kid").to_owned()).unwrap_or_default();
    let fits = |key: &&Value| text(key, "/kty") == "RSA" && (kid.is_empty() || text(key, "/kid") == kid);
    for key in list(keys, "/keys").iter().filter(fits) {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(text(key, name)).unwrap_or_default();
        let (n, e) = (part("/n"), part("/e"));
        let public = RsaPublicKeyComponents { n: &n, e: &e };
        let how = &signature::RSA_PKCS1_2048_8192_SHA256;
        if public.verify(how, signed.as_bytes(), &signature).is_ok() {
            return Ok(());
        }
    }
    Err("no RSA key of the set verifies the signature".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn a_jwt_is_written_and_read() {
        let key = Key::stranger("k").unwrap();
        let token = key.sign(&key.header(), &claims("c", "a")).unwrap();
        let (header, said) = decoded(&token).unwrap();
        assert_eq!((text(&header, "/alg"), text(&said, "/sub")), ("ES384", "c"));
        assert!(decoded("a.b").is_none() && verified(&token, &json!({"keys": []})).is_err());
    }
}
