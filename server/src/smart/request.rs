//! What an app asks for at the authorization endpoint, checked; it travels with the browser from page to
//! page, sealed, and only the end of it is kept here.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use store::{Context, LaunchContext, Registration, SmartClient, Status};

use super::form::Form;
use super::refusal::Refusal;
use super::scope::{self, For};
use crate::app::App;
use crate::http::caller::key_hash;

const SECOND: i64 = 1_000_000;
/// How long somebody may take to decide.
const PATIENCE: i64 = 1800 * SECOND;

/// A question of an app that may be answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) client: String,
    pub(crate) redirect_uri: String,
    /// As asked.
    pub(crate) scope: String,
    pub(crate) state: Option<String>,
    pub(crate) challenge: String,
    pub(crate) nonce: Option<String>,
    /// Hash of the `launch` parameter.
    pub(crate) launch: Option<String>,
    pub(crate) context: LaunchContext,
    /// The patient was chosen, and need not be again.
    pub(crate) settled: bool,
    /// So was the encounter, or there is none.
    pub(crate) visit_settled: bool,
    /// Who signed in before this time must do so again (`prompt=login`, `max_age`).
    pub(crate) signed_in_after: Option<i64>,
    /// Nobody is to be asked anything (`prompt=none`).
    pub(crate) silent: bool,
    pub(crate) at: i64,
}

/// Why an app is not answered with a code.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Told to the person at the browser alone: where to send them is not certain.
    Here(Cow<'static, str>),
    /// Told to the app (RFC 6749 section 4.1.2.1).
    There { redirect_uri: String, state: Option<String>, error: &'static str, description: Cow<'static, str> },
    /// Our own.
    Own(Refusal),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Own(refusal)
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::Own(error.into())
    }
}

impl Request {
    /// Checks a question in the order that says where an error may be told.
    pub(crate) async fn check(app: &App, context: &Context, form: &Form) -> Result<Self, Problem> {
        let here = |why: &'static str| Problem::Here(why.into());
        let id = form.get("client_id").ok_or_else(|| here("The app did not say which app it is."))?;
        let client = match app.store.smart_client(context, id).await {
            Ok(client) => client,
            Err(store::Error::NotFound) => return Err(here("The app is not registered here.")),
            Err(error) => return Err(error.into()),
        };
        match client.status {
            Status::Approved => {}
            Status::Pending => return Err(here("The app waits for an administrator's approval.")),
            Status::Revoked => return Err(here("The app may no longer be used here.")),
        }
        let redirect_uri = form.get("redirect_uri").filter(|uri| is_registered(&client.registration, uri));
        let redirect_uri = redirect_uri
            .ok_or_else(|| here("The app asks to be answered at an address that it did not register."))?;
        let base = app.config.fhir_base();
        // Who only wants to know who somebody is asks for no server's resources.
        let about_resources = form.get("scope").is_none_or(scope::is_about_resources);
        if form.get("aud").map_or(about_resources, |aud| aud.trim_end_matches('/') != base) {
            return Err(here("The app asks for access to another server than this one (parameter aud)."));
        }
        let told = |error, description| Problem::There {
            redirect_uri: redirect_uri.to_owned(),
            state: form.get("state").map(str::to_owned),
            error,
            description,
        };
        if let Some(name) = form.repeated() {
            return Err(told("invalid_request", format!("{name} is there more than once").into()));
        }
        let there = |error, description: &'static str| told(error, description.into());
        if form.get("request").is_some() {
            return Err(there("request_not_supported", "request objects are not understood"));
        }
        if form.get("request_uri").is_some() {
            return Err(there("request_uri_not_supported", "request objects are not understood"));
        }
        match form.get("response_type") {
            Some("code") => {}
            None => return Err(there("invalid_request", "response_type is missing")),
            Some(_) => return Err(there("unsupported_response_type", "response_type must be code")),
        }
        if form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(there("invalid_request", "response_mode must be query"));
        }
        let challenge = form.get("code_challenge").filter(|text| is_challenge(text));
        let challenge = challenge
            .ok_or_else(|| there("invalid_request", "code_challenge is missing, or no S256 challenge"))?;
        if form.get("code_challenge_method") != Some("S256") {
            return Err(there("invalid_request", "code_challenge_method must be S256"));
        }
        let asked = form.get("scope").ok_or_else(|| there("invalid_scope", "scope is missing"))?;
        if scope::allowed(asked, &client.registration, For::Anyone).is_empty() {
            return Err(there("invalid_scope", "the client may have none of these scopes"));
        }
        let (launch, launched) = match form.get("launch") {
            None => (None, LaunchContext::default()),
            Some(launch) => {
                let hash = key_hash(launch);
                let known = app.store.launch(context, &hash).await;
                // Whoever comes with it, it is about that patient.
                context.is_about(known.as_ref().ok().and_then(|known| known.context.patient.as_deref()));
                match known {
                    Ok(known)
                        if known.client == client.id
                            && known.used.is_none()
                            && known.expires > context.at =>
                    {
                        (Some(hash), known.context)
                    }
                    Ok(_) | Err(store::Error::NotFound) => {
                        return Err(there(
                            "invalid_request",
                            "launch is not known, was used, or has expired",
                        ));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let prompt: Vec<&str> = form.get("prompt").unwrap_or_default().split(' ').collect();
        let max_age = form.get("max_age").and_then(|age| age.parse::<i64>().ok());
        let signed_in_after = if prompt.contains(&"login") {
            Some(context.at)
        } else {
            max_age.map(|age| context.at.saturating_sub(age.saturating_mul(SECOND)))
        };
        Ok(Self {
            client: client.id,
            redirect_uri: redirect_uri.to_owned(),
            scope: asked.to_owned(),
            state: form.get("state").map(str::to_owned),
            challenge: challenge.to_owned(),
            nonce: form.get("nonce").map(str::to_owned),
            settled: launched.patient.is_some(),
            // An EHR says itself which one it is.
            visit_settled: launch.is_some(),
            launch,
            context: launched,
            signed_in_after,
            silent: prompt.contains(&"none"),
            at: context.at,
        })
    }

    /// As a text that nobody else can read or change.
    pub(crate) fn seal(&self, app: &App) -> Result<String, Refusal> {
        let plain = serde_json::to_vec(self).map_err(Refusal::internal)?;
        app.smart.secret.seal("request", &plain).ok_or_else(|| Refusal::internal("nothing can be sealed"))
    }

    /// What was sealed, if it is not too long ago.
    pub(crate) fn open(app: &App, sealed: &str, at: i64) -> Option<Self> {
        let plain = app.smart.secret.open("request", sealed)?;
        let request: Self = serde_json::from_slice(&plain).ok()?;
        (at - request.at < PATIENCE).then_some(request)
    }

    /// The client, if it still may ask.
    pub(crate) async fn client(&self, app: &App, context: &Context) -> Result<SmartClient, Problem> {
        match app.store.smart_client(context, &self.client).await {
            Ok(client) if client.status == Status::Approved => Ok(client),
            Ok(_) | Err(store::Error::NotFound) => {
                Err(Problem::Here("The app may no longer be used here.".into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An answer that tells the app of an error.
    pub(crate) fn problem(&self, error: &'static str, description: &'static str) -> Problem {
        Problem::There {
            redirect_uri: self.redirect_uri.clone(),
            state: self.state.clone(),
            error,
            description: description.into(),
        }
    }
}

/// 43 characters are 256 bits (RFC 7636 section 4.2).
fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Is it one of the addresses, to the letter? On the user's own machine the port may be any
/// (RFC 8252 section 7.3).
fn is_registered(registration: &Registration, uri: &str) -> bool {
    let without_port = |uri: &str| {
        let (host, rest) = ["http://127.0.0.1", "http://[::1]"]
            .iter()
            .find_map(|host| uri.strip_prefix(host).map(|rest| (*host, rest)))?;
        let rest = match rest.strip_prefix(':') {
            Some(port) => port.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{host}{rest}"))
    };
    registration.redirect_uris.iter().any(|known| {
        known == uri || without_port(known).is_some_and(|known| without_port(uri) == Some(known))
    })
}

/// May a client be answered there? Absolute, without a fragment; in clear only on the user's machine; a
/// scheme of its own needs a dot (RFC 8252 section 7.1).
pub(crate) fn is_redirect_uri(uri: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(uri) else { return false };
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => here,
        own => own.contains('.'),
    };
    let plain = uri
        .bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\' | b';' | b','));
    scheme && plain && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use store::Authentication;

    use super::*;

    #[test]
    fn an_address_is_registered_to_the_letter() {
        let registration = Registration {
            name: "x".into(),
            authentication: Authentication::Public,
            redirect_uris: vec!["https://app.example/cb".into(), "http://127.0.0.1:1/cb".into()],
            launch_url: None,
            scope: String::new(),
            bound: false,
        };
        for (uri, good) in [
            ("https://app.example/cb", true),
            ("https://app.example/cb/", false),
            ("https://app.example/cb?x=1", false),
            ("https://app.example.evil/cb", false),
            ("http://127.0.0.1:54321/cb", true),
            ("http://127.0.0.1/cb", true),
            ("http://127.0.0.1:54321/other", false),
            ("http://127.0.0.1:1@evil.example/cb", false),
            ("http://127.0.0.1.evil.example/cb", false),
        ] {
            assert_eq!(is_registered(&registration, uri), good, "{uri}");
        }
    }

    #[test]
    fn where_a_client_may_be_answered() {
        for (uri, good) in [
            ("https://app.example/cb?tenant=1", true),
            ("http://localhost:9/cb", true),
            ("com.example.app:/cb", true),
            ("http://app.example/cb", false),
            ("https://app.example/cb#x", false),
            ("https://me:secret@app.example/", false),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("/cb", false),
        ] {
            assert_eq!(is_redirect_uri(uri), good, "{uri}");
        }
    }
}
