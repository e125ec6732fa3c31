//! A call of the authorization server, as every handler gets it: who calls from where, what they say, and
//! on a page, whose form it is and what an app asked before.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, web};
use store::{Access, Context, SmartClient};

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
            let context = super::context(&http);
            let form = match *http.method() {
                Method::GET => Form::of_query(&http),
                _ => Form::of_body(&http, &body.await.map_err(|error| Refusal::unread(&error))?)?,
            };
            context.asks(&form.asked(""));
            Ok(Self { app, http, context, form })
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
        self.context.is_about(request.as_ref().and_then(|request| request.context.patient.as_deref()));
        request.ok_or_else(|| Problem::Here("This took too long. Start again in the app.".into()))
    }

    /// Who is signed in at the browser.
    pub(crate) async fn session(&self) -> Result<Option<Session>, Refusal> {
        let session = sign_in::session(&self.app, &self.context, &self.http).await?;
        if let Some(session) = &session {
            self.is_by(|context| of_account(&self.app, context, &session.account));
        }
        Ok(session)
    }

    /// The app that asked, if it still may.
    pub(crate) async fn client(&self, request: &Request) -> Result<SmartClient, Problem> {
        let client = request.client(&self.app, &self.context).await?;
        self.is_by(|context| of_client(context, &client));
        Ok(client)
    }

    /// Somebody says that they are this client: the trail tells it as what was said, until it is proved.
    pub(crate) fn claims(&self, client: &SmartClient) {
        if self.form.get("client_id") != Some(client.id.as_str()) {
            self.context.asks(&format!(" said to be of client {}", client.id));
        }
    }

    /// It is refused for this reason, which is not told to who asks.
    pub(crate) fn is_refused(&self, why: &str) {
        if let Some(trail) = &self.context.trail {
            trail.is_refused(why);
        }
    }

    /// The trail is to say more of who calls.
    pub(crate) fn is_by(&self, more: impl FnOnce(&Context) -> Context) {
        let known = self.http.extensions().get::<Context>().cloned();
        super::is_by(&self.http, more(known.as_ref().unwrap_or(&self.context)));
    }

    /// Finds out for the trail who was refused something, for which app, and whose record it is about: what was
    /// wrong may have come before that was asked.
    pub(crate) async fn recall(&self) -> Result<(), Refusal> {
        let signed_in = self.session().await?.is_some();
        if let Ok(request) = self.opened()
            && signed_in
            && let Err(Problem::Own(refusal)) = self.client(&request).await
        {
            return Err(refusal);
        }
        Ok(())
    }

    /// The same call as the one of whoever is signed in, for an app: on our pages they see what they may see
    /// elsewhere, and all of it is recorded with the answer. Made once for each call.
    pub(crate) fn reader(&self, client: &SmartClient, session: &Session) -> Context {
        let of = of_account(&self.app, &of_client(&self.context, client), &session.account);
        let role = Role::parse(&session.account.role);
        let access = role.map_or_else(|| Access::Granted([].into()), |role| role.access(session.own()));
        let reader = Context { access, ..of };
        super::is_by(&self.http, reader.clone());
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
