//! `GET` and `POST /oauth/authorize`: an app asks, through the user's browser
//! (<https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code>).

use actix_web::HttpResponse;

use super::call::{Call, to_consent};
use super::form::Form;
use super::pages::answered;
use super::refusal::Refusal;
use super::request::{Problem, Request};

/// The question in an address.
pub(crate) async fn by_get(call: Call) -> Result<HttpResponse, Refusal> {
    answered(&call, begin(&call, &call.form).await).await
}

/// The question in a form, or partly in its address.
pub(crate) async fn by_post(call: Call) -> Result<HttpResponse, Refusal> {
    let of_address = Form::of_query(&call.http);
    call.context.asks(&of_address.asked(""));
    let form = call.form.clone().and(of_address);
    answered(&call, begin(&call, &form).await).await
}

/// A browser brings its cookies along with a plain question of its own, not with a form of another site:
/// so both ways go on with the same address.
async fn begin(call: &Call, form: &Form) -> Result<HttpResponse, Problem> {
    let request = Request::check(&call.app, &call.context, form).await?;
    Ok(to_consent(&request.seal(&call.app)?))
}
