//! `POST /oauth/revoke`: a client gives back what it holds (RFC 7009).

use actix_web::HttpResponse;

use super::call::Call;
use super::refusal::{Denied, Refusal};
use super::{authenticate, of_client, token};
use crate::http::caller::key_hash;

/// `POST /oauth/revoke`. Whichever token it is, all that was granted with it ends; what is no token of
/// the client's is gone already, as far as it is concerned.
pub(crate) async fn revoke(call: Call) -> Result<HttpResponse, Refusal> {
    let (app, context) = (&call.app, &call.context);
    let client = authenticate::client(&call).await?;
    let hash = key_hash(call.form.need("token")?);
    let grant = match app.store.access_token(context, &hash).await {
        Ok((_, grant, _)) => Some(grant),
        Err(store::Error::NotFound) => match app.store.refresh_token(context, &hash).await {
            Ok((_, grant)) => Some(grant),
            Err(store::Error::NotFound) => None,
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let mut response = HttpResponse::Ok().finish();
    if let Some(grant) = grant.filter(|grant| grant.client == client.id) {
        token::revoke(app, &of_client(context, &client), &grant.id).await?;
    } else {
        response.extensions_mut().insert(Denied::of("", &"it is no token of the client's".into()));
    }
    Ok(response)
}
