//! What the authorization server remembers: apps, what they were allowed, and the codes, tokens and keys
//! that follow. Of whatever a client holds, only a hash is here.
//!
//! What may happen once (a code is redeemed, a refresh token replaced, an assertion used) is decided by
//! one guarded statement in the transaction of what follows from it: of two that come at once, on
//! whatever processes, one is refused with `Conflict`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a client proves who it is (RFC 7591 `token_endpoint_auth_method`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Not at all (`none`): an app on the user's device or in a browser.
    Public,
    /// With a secret of which this is the hash (`client_secret_basic`, `client_secret_post`).
    Secret(String),
    /// With a key of its own (`private_key_jwt`).
    Keys {
        /// Its public keys, as registered (RFC 7517).
        jwks: Option<Value>,
        /// Where its public keys are.
        jwks_uri: Option<String>,
    },
    /// With a certificate of an authority that is trusted (`tls_client_auth`, RFC 8705 section 2.1).
    Certificate {
        /// Which of its names counts: `tls_client_auth_subject_dn`, `tls_client_auth_san_dns`, ….
        name: String,
        /// That name.
        value: String,
    },
    /// With a certificate of its own (`self_signed_tls_client_auth`, RFC 8705 section 2.2).
    SelfSigned {
        /// Keys with their certificates (`x5c`), as registered.
        jwks: Option<Value>,
        /// Where they are.
        jwks_uri: Option<String>,
    },
}

impl Authentication {
    /// Does it prove that it has a private key, so that it may act for itself?
    pub fn is_by_key(&self) -> bool {
        matches!(self, Self::Keys { .. } | Self::Certificate { .. } | Self::SelfSigned { .. })
    }
}

/// Whether a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It registered itself; nobody has looked at it yet.
    Pending,
    /// It may.
    Approved,
    /// It may no longer; what it was given is worth nothing.
    Revoked,
}

impl Status {
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Approved => 1,
            Self::Revoked => 2,
        }
    }

    pub(crate) fn of(number: i64) -> Self {
        match number {
            0 => Self::Pending,
            1 => Self::Approved,
            _ => Self::Revoked,
        }
    }
}

/// What a client registered (RFC 7591 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// For people.
    pub name: String,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// Where it may be answered, each exactly.
    pub redirect_uris: Vec<String>,
    /// Where an EHR opens it.
    pub launch_url: Option<String>,
    /// All it may ever be granted.
    pub scope: String,
    /// Its tokens are good only with the certificate that they were got with
    /// (`tls_client_certificate_bound_access_tokens`, RFC 8705 section 3.4).
    #[serde(default)]
    pub bound: bool,
}

/// An app that asks for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartClient {
    /// `client_id`.
    pub id: String,
    /// May it ask?
    pub status: Status,
    /// When it was registered, microseconds since 1970 UTC.
    pub created: i64,
    /// What was registered.
    pub registration: Registration,
}

/// The context of a launch, as far as the client is told
/// (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchContext {
    /// Patient id.
    pub patient: Option<String>,
    /// Encounter id.
    pub encounter: Option<String>,
    /// What the user came for.
    pub intent: Option<String>,
    /// Further resources: an array of objects.
    pub fhir_context: Option<Value>,
    /// Login name or `fhirUser` of the one the launch is for.
    pub user: Option<String>,
    /// An EHR opened the app and shows the patient itself.
    pub by_ehr: bool,
}

/// What somebody allowed an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Scopes, separated by spaces.
    pub scope: String,
    /// The account's `fhirUser`, relative.
    pub fhir_user: Option<String>,
    /// The account's name, for the record.
    pub name: Option<String>,
    /// The account's or client's role.
    pub role: Option<String>,
    /// In which context.
    pub context: LaunchContext,
    /// Goes into the id_token unchanged (OpenID Connect Core 3.1.2.1).
    pub nonce: Option<String>,
    /// When the user signed in, microseconds since 1970 UTC.
    pub signed_in: Option<i64>,
    /// Hash of the browser session it was granted in.
    pub session: Option<String>,
}

/// A grant as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartGrant {
    /// Its number.
    pub id: String,
    /// To which client.
    pub client: String,
    /// By which account; none where a client acts for itself.
    pub account: Option<String>,
    /// When, microseconds since 1970 UTC.
    pub created: i64,
    /// When it ended, if it was ended.
    pub revoked: Option<i64>,
    /// When the last of what follows from it ends by itself.
    pub expires: i64,
    /// What was allowed.
    pub granted: Granted,
}

/// An authorization code as it is kept (RFC 6749 section 4.1.2, RFC 7636).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Of what was sent.
    pub hash: String,
    /// What it is a code for.
    pub grant: String,
    /// Good until, microseconds since 1970 UTC.
    pub expires: i64,
    /// When it was used.
    pub redeemed: Option<i64>,
    /// Where it was sent.
    pub redirect_uri: String,
    /// PKCE's S256 challenge.
    pub challenge: String,
}

/// An access token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Of the token.
    pub hash: String,
    /// What may be said of it in public (`jti`).
    pub id: String,
    /// What it follows from.
    pub grant: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// Since, microseconds since 1970 UTC.
    pub issued: i64,
    /// Good until.
    pub expires: i64,
    /// The certificate that it is good with alone (`x5t#S256`).
    pub certificate: Option<String>,
}

/// A refresh token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Of the token.
    pub hash: String,
    /// What it follows from.
    pub grant: String,
    /// Scopes, separated by spaces: never more than before.
    pub scope: String,
    /// It ends with this browser session (`online_access`).
    pub session: Option<String>,
    /// Since, microseconds since 1970 UTC.
    pub issued: i64,
    /// Good until.
    pub expires: i64,
    /// The certificate of a public client that it is good with alone (`x5t#S256`).
    pub certificate: Option<String>,
    /// When it was replaced.
    pub replaced: Option<i64>,
    /// Hash of what replaced it.
    pub successor: Option<String>,
}

/// A launch as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Of the `launch` parameter.
    pub hash: String,
    /// Which client is launched.
    pub client: String,
    /// Good until, microseconds since 1970 UTC.
    pub expires: i64,
    /// When it was used.
    pub used: Option<i64>,
    /// The context.
    pub context: LaunchContext,
}

/// A key that this server signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// `kid`.
    pub id: String,
    /// `alg`.
    pub algorithm: String,
    /// Since when it is there, microseconds since 1970 UTC.
    pub created: i64,
    /// The public part (RFC 7517), as JSON.
    pub jwk: String,
    /// The private part, sealed by whoever made it.
    pub sealed: String,
}

/// One thing that a step of a protocol changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationChange {
    /// A client that was not there.
    Register(SmartClient),
    /// A client is approved or revoked.
    Decide {
        /// Which.
        id: String,
        /// What it is now.
        status: Status,
    },
    /// An EHR is about to open an app.
    Launch(Launch),
    /// A launch is used, for the first time and in time.
    UseLaunch {
        /// Hash of the parameter.
        hash: String,
    },
    /// Something was allowed.
    Grant(SmartGrant),
    /// A code for it.
    Code(Code),
    /// A code is used, for the first time and in time.
    Redeem {
        /// Hash of the code.
        hash: String,
    },
    /// An access token.
    Access(AccessToken),
    /// A refresh token; the grant lasts as long.
    Refresh(RefreshToken),
    /// A refresh token is replaced, for the first time.
    Replace {
        /// Hash of the old one.
        hash: String,
        /// Hash of the new one.
        successor: String,
    },
    /// What was allowed is no longer.
    Revoke {
        /// The grant.
        grant: String,
    },
    /// What is good once is used, for the first time: an assertion, or a token that binds a websocket.
    UseOnce {
        /// Hash of issuer and `jti`, or of the token.
        hash: String,
        /// When it could not be used any more, anyway.
        expires: i64,
    },
    /// A key to sign with.
    Key(SigningKey),
    /// Removes what ended more than a day ago, and clients that waited a month in vain.
    Sweep,
}
