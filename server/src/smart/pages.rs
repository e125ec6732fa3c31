//! What people see: plain pages that need no script, each bound to the browser it was made for.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::call::Call;
use super::form::Form;
use super::refusal::{Denied, Refusal};
use super::request::Problem;
use super::secret::{random, same};
use crate::app::App;

/// The cookie that binds forms to a browser.
const BROWSER: &str = "augury_browser";
/// The cookie of who is signed in.
pub(crate) const SESSION: &str = "augury_session";

/// Why somebody is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// They are not.
    Nothing,
    /// Something of it was wrong.
    Wrong,
    /// It was tried too often; so many seconds are to pass.
    Later(u64),
}

/// Somebody is to say who they are.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignIn<'a> {
    pub(crate) app: Option<&'a str>,
    pub(crate) request: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) login: &'a str,
    pub(crate) notice: Notice,
    /// Another provider's accounts may be used.
    pub(crate) elsewhere: bool,
}

/// A patient or encounter to choose from.
pub(crate) struct Choice {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) about: String,
}

/// Somebody is to say which patient it is about.
#[derive(Template)]
#[template(path = "patient.html")]
pub(crate) struct Patients<'a> {
    pub(crate) app: &'a str,
    pub(crate) request: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) sought: &'a str,
    pub(crate) found: &'a [Choice],
}

/// Somebody is to say which encounter it is about.
#[derive(Template)]
#[template(path = "encounter.html")]
pub(crate) struct Encounters<'a> {
    pub(crate) app: &'a str,
    pub(crate) request: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) found: &'a [Choice],
}

/// One thing that an app asks for.
pub(crate) struct Offer {
    pub(crate) scope: String,
    pub(crate) words: String,
    pub(crate) parts: Vec<(String, &'static str)>,
}

/// Somebody is to say what the app may.
#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct Consent<'a> {
    pub(crate) app: &'a str,
    pub(crate) user: &'a str,
    pub(crate) patient: Option<&'a str>,
    pub(crate) answer_to: &'a str,
    pub(crate) lasting: bool,
    pub(crate) request: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) offers: &'a [Offer],
}

/// An app that somebody allowed something.
pub(crate) struct Allowed {
    pub(crate) grant: String,
    pub(crate) app: String,
    pub(crate) since: String,
    pub(crate) words: Vec<String>,
}

/// What somebody allowed, and how to end it.
#[derive(Template)]
#[template(path = "manage.html")]
pub(crate) struct Manage<'a> {
    pub(crate) user: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) allowed: &'a [Allowed],
}

/// Something went wrong.
#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct Wrong<'a> {
    pub(crate) why: &'a str,
}

/// The browser at the other end.
pub(crate) struct Browser {
    id: String,
    known: bool,
}

impl Browser {
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Refusal> {
        match request.cookie(BROWSER).map(|cookie| cookie.value().to_owned()).filter(|id| id.len() == 43) {
            Some(id) => Ok(Self { id, known: true }),
            None => Ok(Self { id: random().map_err(Refusal::internal)?, known: false }),
        }
    }

    /// What a form must bring back from this browser.
    pub(crate) fn csrf(&self, app: &App, about: &str) -> String {
        app.smart.secret.code("form", &[&self.id, about])
    }

    /// What wrong passwords from it are counted by.
    pub(crate) fn source(&self, app: &App) -> String {
        app.smart.secret.code("browser", &[&self.id])
    }

    /// Did the form come from a page that this browser got from us?
    pub(crate) fn check(&self, app: &App, form: &Form, about: &str) -> Result<(), Problem> {
        let brought = form.get("csrf").unwrap_or_default();
        if self.known && same(brought, &self.csrf(app, about)) {
            return Ok(());
        }
        let why =
            "This form was not made for your browser, or cookies are switched off. Start again in the app.";
        Err(Problem::Here(why.into()))
    }

    /// A page for it. `answer_to` is where a form of the page may lead in the end.
    pub(crate) fn page(
        &self,
        app: &App,
        page: &impl Template,
        answer_to: &str,
    ) -> Result<HttpResponse, Problem> {
        let mut response = html(StatusCode::OK, page, answer_to)?;
        if !self.known {
            let mut cookie = cookie(app, BROWSER, self.id.clone());
            // So that it is known when somebody signs in with it again.
            cookie.set_max_age(Duration::days(400));
            response.add_cookie(&cookie).map_err(Refusal::internal)?;
        }
        Ok(response)
    }
}

/// A cookie of ours: gone with the browser if nothing else is said, for our pages alone.
pub(crate) fn cookie(app: &App, name: &'static str, value: String) -> Cookie<'static> {
    Cookie::build(name, value)
        .path("/oauth")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.config.public_url.starts_with("https://"))
        .finish()
}

fn html(status: StatusCode, page: &impl Template, answer_to: &str) -> Result<HttpResponse, Problem> {
    let text = page.render().map_err(Refusal::internal)?;
    // A browser looks at where a form's answer leads on, too.
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{}{}; frame-ancestors 'none'; base-uri 'none'",
        if answer_to.is_empty() { "" } else { " " },
        source(answer_to)
    );
    Ok(HttpResponse::build(status)
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .content_type("text/html; charset=utf-8")
        .body(text))
}

/// An address as a policy names it: its origin, or its scheme.
fn source(uri: &str) -> String {
    let Ok(url) = reqwest::Url::parse(uri) else { return String::new() };
    let origin = url.origin();
    if origin.is_tuple() { origin.ascii_serialization() } else { format!("{}:", url.scheme()) }
}

/// Tells what went wrong, to whom it concerns, and the trail.
pub(crate) async fn answered(
    call: &Call,
    result: Result<HttpResponse, Problem>,
) -> Result<HttpResponse, Refusal> {
    if result.is_err() {
        call.recall().await?;
    }
    match result {
        Ok(response) => Ok(response),
        Err(Problem::Own(refusal)) => Err(refusal),
        Err(Problem::There { redirect_uri, state, error, description }) => {
            let pairs = [
                ("error", Some(error)),
                ("error_description", Some(&description)),
                ("state", state.as_deref()),
            ];
            let mut response = redirect(&with_query(&redirect_uri, &pairs));
            response.extensions_mut().insert(Denied::of(error, &description));
            Ok(response)
        }
        Err(Problem::Here(why)) => match html(StatusCode::BAD_REQUEST, &Wrong { why: &why }, "") {
            Err(Problem::Own(refusal)) => Err(refusal),
            Ok(mut page) => {
                page.extensions_mut().insert(Denied::of("", &why));
                Ok(page)
            }
            Err(_) => Err(Refusal::internal("a page can't be shown")),
        },
    }
}

/// Leads the browser on; what was a form becomes a plain question.
pub(crate) fn redirect(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish()
}

/// An address with further pairs in its query; what it had stays.
pub(crate) fn with_query(uri: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let mut to = uri.to_owned();
    let mut join = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    for (name, value) in pairs {
        if let Some(value) = value {
            to.push_str(join);
            to.push_str(name);
            to.push('=');
            let encoded = percent_encoding::utf8_percent_encode(value, UNRESERVED);
            to.extend(encoded);
            join = "&";
        }
    }
    to
}

/// All but what never has to be encoded (RFC 3986 section 2.3).
pub(crate) const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `GET /oauth/style.css`.
pub(crate) async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .content_type("text/css; charset=utf-8")
        .body(include_str!("../../ui/style.css"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was() {
        let to =
            with_query("https://a.example/cb?x=1", &[("code", Some("c")), ("state", Some("a+b/c= &\u{e9}"))]);
        assert_eq!(to, "https://a.example/cb?x=1&code=c&state=a%2Bb%2Fc%3D%20%26%C3%A9");
        assert_eq!(with_query("app.x:/cb", &[("state", None), ("code", Some("c"))]), "app.x:/cb?code=c");
    }

    #[test]
    fn a_policy_names_origins() {
        assert_eq!(source("https://a.example:8443/cb?x=1"), "https://a.example:8443");
        assert_eq!(source("com.example.app:/cb"), "com.example.app:");
    }
}
