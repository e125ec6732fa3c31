//! `POST /oauth/revoke`: a client gives back what it holds (RFC 7009).

use actix_web::{HttpRequest, HttpResponse, web};

use super::form::Form;
use super::refusal::Refusal;
use super::{authenticate, of_client, token};
use crate::app::App;
use crate::http::caller::key_hash;

/// `POST /oauth/revoke`. Whichever token it is, all that was granted with it ends; what is no token of
/// the client's is gone already, as far as it is concerned.
pub(crate) async fn revoke(
    app: web::Data<App>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    let form = Form::of_body(&request, &body)?;
    let client = authenticate::client(&app, &context, &request, &form).await?;
    let hash = key_hash(form.need("token")?);
    let grant = match app.store.access_token(&context, &hash).await {
        Ok((_, grant, _)) => Some(grant),
        Err(store::Error::NotFound) => match app.store.refresh_token(&context, &hash).await {
            Ok((_, grant)) => Some(grant),
            Err(store::Error::NotFound) => None,
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if let Some(grant) = grant.filter(|grant| grant.client == client.id) {
        token::revoke(&app, &of_client(&context, &client), &grant.id).await?;
    }
    Ok(HttpResponse::Ok().finish())
}
