//! Who the client is (RFC 6749 section 2.3): by its secret, by a key or certificate of its own, or by its
//! name alone where it is public.

use actix_web::HttpRequest;
use actix_web::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use store::{Authentication, Context, SmartClient, Status};

use super::call::Call;
use super::form::Form;
use super::refusal::Refusal;
use super::secret::same;
use super::{assertion, of_client, throttle};
use crate::app::App;
use crate::http::caller::key_hash;
use crate::http::tls::Shown;

/// The client that asks, as far as it can prove that.
pub(crate) async fn client(call: &Call) -> Result<SmartClient, Refusal> {
    let Call { app, http: request, context, form } = call;
    if let Some(name) = form.repeated() {
        return Err(Refusal::invalid_request(format!("{name} is there more than once")));
    }
    let basic = basic(request)?;
    let assertion = form.get("client_assertion");
    let post = form.get("client_secret");
    if usize::from(basic.is_some()) + usize::from(assertion.is_some()) + usize::from(post.is_some()) > 1 {
        return Err(Refusal::invalid_request("the client authenticates in more than one way"));
    }
    app.smart.throttle.check(throttle::Door::Token, &throttle::key(request, "")).await?;
    if form.get("client_assertion_type").is_some_and(|kind| kind != assertion::TYPE) {
        return Err(Refusal::invalid_client(format!("client_assertion_type must be {}", assertion::TYPE)));
    }
    if let Some(assertion) = assertion {
        form.need("client_assertion_type")?;
        let client = assertion::client(call, assertion).await?;
        return agreed(client, form);
    }
    let (id, secret) = match basic {
        Some((id, secret)) => (id, Some(secret)),
        None => (named(app, context, form).await?, post.map(str::to_owned)),
    };
    let refused =
        || Refusal::invalid_client("the client is not known, or did not prove that it is who it says");
    let client = match app.store.smart_client(context, &id).await {
        Ok(client) if client.status == Status::Approved => client,
        Ok(_) | Err(store::Error::NotFound) => return Err(refused()),
        Err(error) => return Err(error.into()),
    };
    call.claims(&client);
    let proved = match (&client.registration.authentication, secret.filter(|secret| !secret.is_empty())) {
        (Authentication::Public, None) => true,
        (Authentication::Secret(hash), Some(secret)) => same(hash, &key_hash(&secret)),
        (by, None) => certified(call, by).await,
        _ => false,
    };
    if !proved {
        return Err(refused());
    }
    // What a public client says of itself anybody may say: a code or token that it got proves it.
    if client.registration.authentication != Authentication::Public {
        call.is_by(|context| of_client(context, &client));
    }
    agreed(client, form)
}

/// Does the certificate of the connection prove it (RFC 8705 section 2)?
async fn certified(call: &Call, by: &Authentication) -> bool {
    let Some(shown) = Shown::by(&call.http) else { return false };
    match by {
        Authentication::Certificate { name, value } => shown.is_trusted && shown.says(name, value),
        Authentication::SelfSigned { jwks, jwks_uri } => {
            let inline = jwks.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
            let fetched = match jwks_uri {
                Some(address) => call.app.smart.remote.keys(address, "", call.context.at).await,
                None => None,
            };
            let mut keys = inline.into_iter().flatten().chain(fetched.iter().flat_map(|keys| keys.iter()));
            keys.any(|key| key.pointer("/x5c/0").and_then(Value::as_str).is_some_and(|one| shown.is(one)))
        }
        _ => false,
    }
}

/// Which client the form says it is from. A public client need not say it with a refresh token, which is
/// its alone (RFC 6749 section 6).
async fn named(app: &App, context: &Context, form: &Form) -> Result<String, Refusal> {
    if let Some(id) = form.get("client_id") {
        return Ok(id.to_owned());
    }
    let unsaid = || Refusal::invalid_client("the request does not say which client it is from");
    let token = form.get("refresh_token").filter(|_| form.get("grant_type") == Some("refresh_token"));
    match app.store.refresh_token(context, &key_hash(token.ok_or_else(unsaid)?)).await {
        Ok((_, grant)) => Ok(grant.client),
        Err(store::Error::NotFound) => Err(unsaid()),
        Err(error) => Err(error.into()),
    }
}

/// What the form says of the client must be the same.
fn agreed(client: SmartClient, form: &Form) -> Result<SmartClient, Refusal> {
    if form.get("client_id").is_some_and(|id| id != client.id) {
        return Err(Refusal::invalid_client("client_id is another client's"));
    }
    Ok(client)
}

/// Id and secret of `Authorization: Basic`, each percent-encoded within (RFC 6749 section 2.3.1).
fn basic(request: &HttpRequest) -> Result<Option<(String, String)>, Refusal> {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, encoded)) = value.and_then(|value| value.split_once(' ')) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let wrong = || Refusal::invalid_client("Authorization: Basic can't be read");
    let bytes = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (id, secret) = text.split_once(':').ok_or_else(wrong)?;
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| wrong())
    };
    Ok(Some((decoded(id)?, decoded(secret)?)))
}
