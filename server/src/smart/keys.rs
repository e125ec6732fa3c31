//! The keys that this server signs with: RS256 for id_tokens, ES384 beside it (RFC 7517, OpenID Connect Core
//! 10.1.1), or RS384 with a key that the operator has, where it is a client itself.
//!
//! A key of this server's own is published before it is used and stays published until what it signed has ended, so that
//! who keeps our key set as long as we allow never meets a signature it can't verify. The operator's key is published
//! and used by the processes that were started with it: where these are replaced one by one, the others' sets do not
//! have it meanwhile.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::Context as _;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use store::{AuthorizationChange, Commit, Context, SigningKey, Store};
use zeroize::Zeroizing;

use super::refusal::Refusal;
use super::secret::Secret;
use crate::app::App;

const SECOND: i64 = 1_000_000;
/// How long others may keep our key set.
const KEPT: i64 = 3600;
/// How long a key is used to sign.
const USED: i64 = 90 * 86_400 * SECOND;
/// How long a key is published after that.
const OVERLAP: i64 = 2 * 86_400 * SECOND;
/// How often other processes' keys are looked for.
const LOOK: i64 = 60 * SECOND;

struct Known {
    looked: i64,
    jwks: Vec<Value>,
    signing: Vec<(Algorithm, String, EncodingKey)>,
}

/// The keys, as this process last saw them.
pub(crate) struct Keys {
    known: RwLock<Option<Arc<Known>>>,
    making: tokio::sync::Mutex<()>,
    given: Option<Given>,
}

/// A key of the operator's, and what all may see of it.
struct Given {
    id: String,
    key: EncodingKey,
    jwk: Value,
}

impl Given {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let key = EncodingKey::from_rsa_pem(&Zeroizing::new(std::fs::read(path)?))?;
        // One that is too short signs nothing.
        jsonwebtoken::encode(&Header::new(Algorithm::RS384), &json!({}), &key)?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS384)?;
        // The same in each process, and another for another key.
        let id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        (jwk.common.key_id, jwk.common.public_key_use) = (Some(id.clone()), Some(PublicKeyUse::Signature));
        Ok(Self { id, key, jwk: serde_json::to_value(jwk)? })
    }
}

impl Keys {
    /// With the operator's key, if there is one.
    pub(crate) fn open(given: Option<&Path>) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            let named =
                || format!("AUGURY_WEBHOOK_TOKENS_KEY (webhook_tokens_key) {}: no RSA key", path.display());
            Given::read(path).with_context(named)
        };
        Ok(Self {
            known: RwLock::default(),
            making: tokio::sync::Mutex::default(),
            given: given.map(read).transpose()?,
        })
    }

    /// The keys as of now; missing ones are made.
    async fn known(&self, store: &Store, secret: &Secret, context: &Context) -> Result<Arc<Known>, Refusal> {
        let fresh = || {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
            known.filter(|known| context.at - known.looked < LOOK)
        };
        if let Some(known) = fresh() {
            return Ok(known);
        }
        let _one = self.making.lock().await;
        if let Some(known) = fresh() {
            return Ok(known);
        }
        let mut keys = store.signing_keys(context).await?;
        let mut made = Vec::new();
        for algorithm in [Algorithm::RS256, Algorithm::ES384] {
            let name = name(algorithm);
            // The next one comes as long before the last one ends as others may keep the set.
            let young = |key: &SigningKey| {
                key.algorithm == name && context.at - key.created < USED - 2 * KEPT * SECOND
            };
            if !keys.iter().any(|key| young(key) && secret.open("signing key", &key.sealed).is_some()) {
                let key = web::block(move || make(algorithm)).await.map_err(Refusal::internal)?;
                made.push(sealed(key.map_err(Refusal::internal)?, algorithm, secret, context.at)?);
            }
        }
        if !made.is_empty() {
            let authorization = made.iter().cloned().map(AuthorizationChange::Key).collect();
            store.commit(context, Commit { authorization, ..Commit::default() }).await?;
            keys.extend(made);
        }
        keys.retain(|key| context.at - key.created < USED + OVERLAP);
        let known = Arc::new(Known::of(&keys, secret, context.at));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        Ok(known)
    }

    /// Signs as a client of another server, by one of the algorithms that SMART wants of it.
    pub(crate) async fn assert(
        &self,
        store: &Store,
        secret: &Secret,
        context: &Context,
        claims: &impl Serialize,
    ) -> Result<String, Refusal> {
        let Some(Given { id, key, .. }) = &self.given else {
            return self.sign(store, secret, context, Algorithm::ES384, claims).await;
        };
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::RS384) };
        jsonwebtoken::encode(&header, claims, key).map_err(Refusal::internal)
    }

    /// Signs with the key of that algorithm that is in use: RS256 is what OpenID Connect wants.
    pub(crate) async fn sign(
        &self,
        store: &Store,
        secret: &Secret,
        context: &Context,
        by: Algorithm,
        claims: &impl Serialize,
    ) -> Result<String, Refusal> {
        let known = self.known(store, secret, context).await?;
        let wanted = known.signing.iter().find(|(algorithm, ..)| *algorithm == by);
        let (algorithm, id, key) = wanted.ok_or_else(|| Refusal::internal("there is no key to sign with"))?;
        let header = Header { kid: Some(id.clone()), ..Header::new(*algorithm) };
        jsonwebtoken::encode(&header, claims, key).map_err(Refusal::internal)
    }
}

impl Known {
    fn of(keys: &[SigningKey], secret: &Secret, at: i64) -> Self {
        let jwks = keys.iter().filter_map(|key| serde_json::from_str(&key.jwk).ok()).collect();
        let mut signing = Vec::new();
        for algorithm in [Algorithm::RS256, Algorithm::ES384] {
            let own = keys.iter().filter(|key| key.algorithm == name(algorithm));
            // A key sealed with another secret is another process's: published, but not ours to use.
            let mut own: Vec<(i64, &str, EncodingKey)> = own
                .filter_map(|key| {
                    let pem = secret.open("signing key", &key.sealed)?;
                    let opened = match algorithm {
                        Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem),
                        _ => EncodingKey::from_ec_pem(&pem),
                    };
                    Some((key.created, key.id.as_str(), opened.ok()?))
                })
                .collect();
            // The newest that others have had time to see; at the very beginning, the only one.
            let seen = own.iter().rposition(|(created, ..)| at - created > (KEPT + 60) * SECOND);
            let in_use = seen.unwrap_or(0);
            if in_use < own.len() {
                let (_, id, key) = own.swap_remove(in_use);
                signing.push((algorithm, id.to_owned(), key));
            }
        }
        Self { looked: at, jwks, signing }
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::RS256 { "RS256" } else { "ES384" }
}

/// A new pair: what all may see, and the private part (PKCS #8).
fn make(algorithm: Algorithm) -> anyhow::Result<(Value, Vec<u8>)> {
    let failed = |_| anyhow::anyhow!("no key can be made");
    if algorithm == Algorithm::RS256 {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let public = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (public.modulus(), public.exponent());
        let jwk = json!({
            "kty": "RSA",
            "n": number(n.big_endian_without_leading_zero()),
            "e": number(e.big_endian_without_leading_zero()),
        });
        return Ok((jwk, der.as_ref().to_vec()));
    }
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(failed)?;
    let der = pair.to_pkcs8v1().map_err(failed)?;
    // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
    let point = pair.public_key().as_ref();
    let (x, y) = point.get(1..).and_then(|xy| xy.split_at_checked(48)).unwrap_or_default();
    let jwk =
        json!({"kty": "EC", "crv": "P-384", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
    Ok((jwk, der.as_ref().to_vec()))
}

fn sealed(
    (mut jwk, der): (Value, Vec<u8>),
    algorithm: Algorithm,
    secret: &Secret,
    at: i64,
) -> Result<SigningKey, Refusal> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    if let Value::Object(members) = &mut jwk {
        members.insert("kid".into(), json!(id));
        members.insert("use".into(), json!("sig"));
        members.insert("alg".into(), json!(name(algorithm)));
    }
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in STANDARD.encode(&der).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    let sealed = secret.seal("signing key", pem.as_bytes());
    let sealed = sealed.ok_or_else(|| Refusal::internal("a key can't be sealed"))?;
    Ok(SigningKey { id, algorithm: name(algorithm).to_owned(), created: at, jwk: jwk.to_string(), sealed })
}

/// `GET /.well-known/jwks.json`.
pub(crate) async fn jwks(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    let known = app.smart.keys.known(&app.store, &app.smart.secret, &context).await?;
    let given = app.smart.keys.given.as_ref().map(|given| &given.jwk);
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, format!("public, max-age={KEPT}")))
        .json(json!({"keys": known.jwks.iter().chain(given).collect::<Vec<_>>()})))
}
