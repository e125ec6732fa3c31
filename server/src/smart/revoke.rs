//! `POST /oauth/revoke`: a client gives back what it holds (RFC 7009).

use actix_web::HttpResponse;

use super::call::Call;
use super::refusal::{Denied, Refusal};
use super::token::{self, Ended};
use super::{authenticate, of_client};
use crate::http::caller::key_hash;

/// `POST /oauth/revoke`. Whichever token it is, all that was granted with it ends; what is no token of
/// the client's is gone already, as far as it is concerned.
pub(crate) async fn revoke(call: Call) -> Result<HttpResponse, Refusal> {
    let (app, context) = (&call.app, &call.context);
    let client = authenticate::client(&call).await?;
    let hash = key_hash(call.form.need("token")?);
    let (grant, jti) = match app.store.access_token(context, &hash).await {
        Ok((token, grant, _)) => (Some(grant), Some(token.id)),
        Err(store::Error::NotFound) => match app.store.refresh_token(context, &hash).await {
            Ok((_, grant)) => (Some(grant), None),
            Err(store::Error::NotFound) => (None, None),
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let mut response = HttpResponse::Ok().finish();
    if let Some(grant) = grant.filter(|grant| grant.client == client.id) {
        let context = of_client(context, &client);
        token::revoke(&call, &context, &grant, Ended::App(jti.as_deref())).await?;
    } else {
        response.extensions_mut().insert(Denied::of("", &"it is no token of the client's".into()));
    }
    Ok(response)
}
