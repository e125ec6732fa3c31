//! A call of the authorization server, as every handler gets it: who calls from where, what they say, and
//! on a page, whose form it is and what an app asked before.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, web};
use store::{Access, Context, SmartClient, Trail};

use super::form::Form;
use super::pages::{Browser, redirect, with_query};
use super::refusal::Refusal;
use super::request::{Problem, Request};
use super::role::Role;
use super::sign_in::{self, Session};
use super::{of_account, of_client};
use crate::app::App;

/// One call.
pub(crate) struct Call {
    pub(crate) app: web::Data<App>,
    pub(crate) http: HttpRequest,
    pub(crate) context: Context,
    /// What is in the body; of a GET, in the address.
    pub(crate) form: Form,
}

impl FromRequest for Call {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let http = request.clone();
        let body = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let app = http.app_data::<web::Data<App>>().cloned();
            let app = app.ok_or_else(|| Refusal::internal("no application state"))?;
            let form = match *http.method() {
                Method::GET => Form::of_query(&http),
                _ => Form::of_body(&http, &body.await?)?,
            };
            Ok(Self { app, context: super::context(&http), http, form })
        })
    }
}

impl Call {
    /// The browser that brings back a form about this, if it got the form from us.
    pub(crate) fn browser(&self, about: &str) -> Result<Browser, Problem> {
        let browser = Browser::of(&self.http)?;
        browser.check(&self.app, &self.form, about)?;
        Ok(browser)
    }

    /// What an app asked, sealed; empty where nobody did.
    pub(crate) fn sealed(&self) -> &str {
        self.form.get("request").unwrap_or_default()
    }

    /// What an app asked, if that is not too long ago.
    pub(crate) fn opened(&self) -> Result<Request, Problem> {
        let request = Request::open(&self.app, self.sealed(), self.context.at);
        request.ok_or_else(|| Problem::Here("This took too long. Start again in the app.".into()))
    }

    /// Who is signed in at the browser.
    pub(crate) async fn session(&self) -> Result<Option<Session>, Refusal> {
        sign_in::session(&self.app, &self.context, &self.http).await
    }

    /// The same call as the one of whoever is signed in, for an app: on our pages they see what they may see
    /// elsewhere, and all of it is recorded with the answer. Made once for each call.
    pub(crate) fn reader(&self, client: &SmartClient, session: &Session) -> Context {
        let of = of_account(&self.app, &of_client(&self.context, client), &session.account);
        let role = Role::parse(&session.account.role);
        let access = role.map_or_else(|| Access::Granted([].into()), |role| role.access(session.own()));
        let reader = Context { access, trail: Some(Trail::default()), ..of };
        self.http.extensions_mut().insert(reader.clone());
        reader
    }

    /// On to whatever is to be asked next.
    pub(crate) fn go_on(&self) -> HttpResponse {
        to_consent(self.sealed())
    }
}

/// The way to whatever is to be asked next.
pub(crate) fn to_consent(sealed: &str) -> HttpResponse {
    redirect(&with_query("/oauth/consent", &[("request", Some(sealed))]))
}
