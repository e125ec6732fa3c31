//! `GET` and `POST /oauth/authorize`: an app asks, through the user's browser
//! (<https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code>).

use actix_web::{HttpRequest, HttpResponse, web};
use store::Context;

use super::form::Form;
use super::pages::{answered, redirect, with_query};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use crate::app::App;

/// The question in an address.
pub(crate) async fn by_get(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    answered(begin(&app, &context, &Form::of_query(&request)).await)
}

/// The question in a form, or partly in its address.
pub(crate) async fn by_post(
    app: web::Data<App>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Refusal> {
    let context = super::context(&request);
    let form = Form::of_body(&request, &body)?.and(Form::of_query(&request));
    answered(begin(&app, &context, &form).await)
}

/// A browser brings its cookies along with a plain question of its own, not with a form of another site:
/// so both ways go on with the same address.
async fn begin(app: &App, context: &Context, form: &Form) -> Result<HttpResponse, Problem> {
    let request = Request::check(app, context, form).await?;
    let sealed = request.seal(app).map_err(Problem::Own)?;
    Ok(redirect(&with_query("/oauth/consent", &[("request", Some(&sealed))])))
}
