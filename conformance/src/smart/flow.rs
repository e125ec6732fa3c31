//! An app that gets a token: through the pages of the server, as whoever `--smart-user` is.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::chart::{self, Patient};
use super::key::{JWT_BEARER, challenge, claims};
use super::page::{self, Form, Jar, Pairs, parameter, with_query};
use super::{Smart, endpoint};
use crate::check::{Stop, ensure};
use crate::server::{Answer, Ask, Server, unique};

/// How an app proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Public,
    Secret,
    /// With a key of this algorithm; of any if none is named.
    Keys(&'static str),
}

/// The three ways, by the names that ids have.
pub(crate) const KINDS: [(&str, Kind); 3] =
    [("public", Kind::Public), ("symmetric", Kind::Secret), ("asymmetric", Kind::Keys(""))];

/// What an app on its own usually asks for.
pub(crate) const STANDALONE: &str = "launch/patient openid fhirUser offline_access patient/*.rs";
/// What an app that was opened from a chart usually asks for.
pub(crate) const EHR: &str = "launch openid fhirUser offline_access patient/*.rs user/*.rs";

impl Kind {
    pub(crate) fn client(self, server: &Server) -> Result<&str, Stop> {
        let options = &server.smart.options;
        match self {
            Self::Public => Smart::told(options.public_client.as_ref(), "public-client"),
            Self::Secret => Smart::told(options.secret_client.as_ref(), "secret-client"),
            Self::Keys(_) => Smart::told(options.key_client.as_ref(), "key-client"),
        }
    }

    /// A request to an endpoint with who the client is.
    pub(crate) fn tell(self, server: &Server, to: &str, pairs: &[(&str, &str)]) -> Result<Ask, Stop> {
        let client = self.client(server)?;
        let address = endpoint(server, to)?;
        let ask = server.plain("POST", address).header("accept", "application/json");
        Ok(match self {
            Self::Public => ask.pairs(&[pairs, &[("client_id", client)]].concat()),
            Self::Secret => {
                let secret = Smart::told(server.smart.options.secret.as_ref(), "secret")?;
                ask.basic(client, secret).pairs(pairs)
            }
            Self::Keys(algorithm) => {
                let key = server.smart.key(algorithm)?;
                let said = claims(client, endpoint(server, "token_endpoint")?);
                let assertion = key.sign(&key.header(), &said)?;
                let more = [("client_assertion_type", JWT_BEARER), ("client_assertion", assertion.as_str())];
                ask.pairs(&[pairs, &more].concat())
            }
        })
    }
}

/// What an app asks at the authorization endpoint, and how somebody answers.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) pairs: Pairs,
    /// By a form instead of an address.
    pub(crate) post: bool,
    /// The patient to choose, if asked.
    pub(crate) patient: Option<Patient>,
    pub(crate) allow: bool,
    /// Ticks just these boxes, or leaves them as they are.
    pub(crate) tick: Option<Vec<String>>,
    pub(crate) verifier: String,
}

impl Question {
    pub(crate) fn new(server: &Server, kind: Kind, scope: &str) -> Result<Self, Stop> {
        let (client, redirect) = (kind.client(server)?, server.smart.redirect()?);
        server.smart.user()?;
        let verifier = format!("{}-verifier-as-long-as-one-has-to-be-0123456789", unique("v"));
        let pairs = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", redirect),
            ("scope", scope),
            ("state", &unique("s+t/a=t e&")),
            ("aud", &server.base),
            ("code_challenge", &challenge(&verifier)),
            ("code_challenge_method", "S256"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let patient = Some(chart::world(server)?.own.patient.clone());
        Ok(Self { pairs, post: false, patient, allow: true, tick: None, verifier })
    }

    /// With another value; without the parameter if there is none.
    pub(crate) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.pairs.retain(|(one, _)| one != name);
        self.pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(one, _)| one == name).map_or("", |(_, value)| value)
    }

    /// Opened from a chart: makes the launch and goes on with it.
    pub(crate) fn launched(self, server: &Server, kind: Kind, context: &Value) -> Result<Self, Stop> {
        let launch = launch(server, kind.client(server)?, context)?;
        launch.expect_one(&[200, 201])?;
        ensure(!launch.at("/launch").is_empty(), "no launch")?;
        Ok(self.with("launch", Some(launch.at("/launch"))))
    }

    /// Goes through the pages, to wherever that ends.
    pub(crate) fn ask(&self, server: &Server) -> Result<End, Stop> {
        let mut jar = server.smart.browser.lock().unwrap_or_else(PoisonError::into_inner);
        self.through(server, &mut jar)
    }

    /// The same in a browser that somebody holds.
    pub(crate) fn through(&self, server: &Server, jar: &mut Jar) -> Result<End, Stop> {
        let mut at = endpoint(server, "authorization_endpoint")?.to_owned();
        let mut answer = if self.post {
            jar.post(server, &at, &self.pairs)?
        } else {
            jar.get(server, &with_query(&at, &self.pairs))?
        };
        let mut end = End { back: None, last: None, decision: String::new(), signed_in: false };
        let mut sought = false;
        for _ in 0..16 {
            if (300..400).contains(&answer.status) {
                let to = reqwest::Url::parse(&at).and_then(|base| base.join(answer.header("location")));
                let to = to.map_err(|_| format!("leads to `{}`", answer.header("location")))?.to_string();
                if to.starts_with(self.get("redirect_uri")) {
                    end.back = Some(to);
                    return Ok(end);
                }
                answer = jar.get(server, &to)?;
                at = to;
                continue;
            }
            let forms = page::forms(&answer.text);
            let step = match entry(server, &forms, &mut end.signed_in)? {
                Some(step) => Some(step),
                None => self.choice(&forms, &mut sought),
            };
            let decision = || self.decision(&forms).inspect(|_| end.decision.clone_from(&answer.text));
            let Some((form, pairs)) = step.or_else(decision) else {
                end.last = Some(answer);
                return Ok(end);
            };
            (at, answer) = submit(server, jar, &at, form, &pairs)?;
        }
        Err("the pages go round in a circle".into())
    }

    /// Chooses the patient, or looks for them once.
    fn choice<'f>(&self, forms: &'f [Form], sought: &mut bool) -> Option<(&'f Form, Pairs)> {
        let patient = self.patient.as_ref()?;
        let is = |value: &str| value == patient.made.id || value == patient.made.reference();
        for form in forms {
            if let Some(field) = form.fields.iter().find(|field| field.kind != "hidden" && is(&field.value)) {
                let mut pairs = form.filled();
                pairs.retain(|(name, _)| *name != field.name);
                pairs.push((field.name.clone(), field.value.clone()));
                return Some((form, pairs));
            }
        }
        let search = |form: &&Form| form.typed().is_some() && !form.has("checkbox");
        let form = forms.iter().find(search).filter(|_| !*sought)?;
        *sought = true;
        let name = form.typed()?.name.clone();
        let mut pairs = form.filled();
        pairs.retain(|(one, _)| *one != name);
        pairs.push((name, patient.family.clone()));
        Some((form, pairs))
    }

    /// Allows or denies.
    fn decision<'f>(&self, forms: &'f [Form]) -> Option<(&'f Form, Pairs)> {
        let words: &[&str] = if self.allow {
            &["allow", "approve", "authorize", "authorise", "accept", "agree", "yes", "continue"]
        } else {
            &["deny", "decline", "reject", "cancel", "no"]
        };
        let (form, button) = forms.iter().find_map(|form| form.button(words).map(|button| (form, button)))?;
        let ticked = |field: &&&page::Field| match &self.tick {
            Some(values) => values.contains(&field.value),
            None => field.on,
        };
        let boxes: Vec<&page::Field> = form.fields.iter().filter(|field| field.kind == "checkbox").collect();
        let mut pairs = form.filled();
        pairs.retain(|(name, _)| !boxes.iter().any(|one| one.name == *name));
        pairs.extend(boxes.iter().filter(ticked).map(|one| (one.name.clone(), one.value.clone())));
        if !button.name.is_empty() {
            pairs.push((button.name.clone(), button.value.clone()));
        }
        Some((form, pairs))
    }

    /// The code that comes of it.
    pub(crate) fn code(&self, server: &Server) -> Result<String, Stop> {
        self.ask(server)?.code()
    }

    /// The token that comes of it.
    pub(crate) fn token(&self, server: &Server, kind: Kind) -> Result<Session, Stop> {
        self.redeemed(server, kind, &self.code(server)?)
    }

    /// The token that a code is worth.
    pub(crate) fn redeemed(&self, server: &Server, kind: Kind, code: &str) -> Result<Session, Stop> {
        let answer = self.redeem(server, kind, code)?.send()?;
        answer.expect(200)?;
        ensure(!answer.at("/access_token").is_empty(), "no access_token")?;
        Ok(Session { answer, kind })
    }

    /// The exchange of a code.
    pub(crate) fn redeem(&self, server: &Server, kind: Kind, code: &str) -> Result<Ask, Stop> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.get("redirect_uri")),
            ("code_verifier", &self.verifier),
        ];
        kind.tell(server, "token_endpoint", &pairs)
    }
}

/// Signs in, where a password is asked for.
fn entry<'f>(
    server: &Server,
    forms: &'f [Form],
    signed_in: &mut bool,
) -> Result<Option<(&'f Form, Pairs)>, Stop> {
    let Some(form) = forms.iter().find(|form| form.has("password")) else { return Ok(None) };
    ensure(!*signed_in, "--smart-user can't sign in")?;
    *signed_in = true;
    let (user, password) = server.smart.user()?;
    let login = form.typed().map(|field| field.name.clone()).unwrap_or_default();
    let mut pairs = form.filled();
    for (name, value) in &mut pairs {
        if *name == login {
            user.clone_into(value);
        }
        if form.fields.iter().any(|field| field.kind == "password" && field.name == *name) {
            password.clone_into(value);
        }
    }
    Ok(Some((form, pairs)))
}

fn submit(
    server: &Server,
    jar: &mut Jar,
    at: &str,
    form: &Form,
    pairs: &Pairs,
) -> Result<(String, Answer), Stop> {
    let to = reqwest::Url::parse(at).and_then(|base| base.join(&form.action));
    let to = to.map_err(|_| format!("a form goes to `{}`", form.action))?.to_string();
    let answer =
        if form.post { jar.post(server, &to, pairs)? } else { jar.get(server, &with_query(&to, pairs))? };
    Ok((to, answer))
}

/// Where a question ended.
pub(crate) struct End {
    /// The address at the app's.
    pub(crate) back: Option<String>,
    /// Or a page that leads nowhere.
    pub(crate) last: Option<Answer>,
    /// The page on which it was decided.
    pub(crate) decision: String,
    signed_in: bool,
}

impl End {
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.back.as_deref().and_then(|back| parameter(back, name)).filter(|value| !value.is_empty())
    }

    pub(crate) fn shown(&self) -> String {
        match (&self.back, &self.last) {
            (Some(back), _) => back.clone(),
            (None, Some(last)) => last.shown(),
            _ => "nothing".to_owned(),
        }
    }

    pub(crate) fn code(&self) -> Result<String, Stop> {
        self.parameter("code").ok_or_else(|| Stop::Fail(format!("no code: {}", self.shown())))
    }

    /// No code came of it.
    pub(crate) fn refused(&self) -> Result<(), Stop> {
        ensure(self.parameter("code").is_none(), format!("a code: {}", self.shown()))
    }
}

/// What an app got.
pub(crate) struct Session {
    pub(crate) answer: Answer,
    pub(crate) kind: Kind,
}

impl Session {
    pub(crate) fn token(&self) -> &str {
        self.answer.at("/access_token")
    }

    pub(crate) fn scopes(&self) -> Vec<&str> {
        self.answer.at("/scope").split_whitespace().collect()
    }

    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes().contains(&scope)
    }

    /// GET with its token.
    pub(crate) fn get(&self, server: &Server, target: &str) -> Result<Answer, Stop> {
        server.with(self.token(), "GET", target).send()
    }

    /// Comes back with its refresh token, or another.
    pub(crate) fn again(&self, server: &Server, token: &str, scope: Option<&str>) -> Result<Answer, Stop> {
        refresh(server, self.kind, token, scope)
    }

    pub(crate) fn refresh_token(&self) -> Result<&str, Stop> {
        let token = self.answer.at("/refresh_token");
        if token.is_empty() { Err("no refresh_token".into()) } else { Ok(token) }
    }
}

/// A refresh token turned in.
pub(crate) fn refresh(server: &Server, kind: Kind, token: &str, scope: Option<&str>) -> Result<Answer, Stop> {
    let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
    pairs.extend(scope.map(|scope| ("scope", scope)));
    kind.tell(server, "token_endpoint", &pairs)?.send()
}

/// A launch that the backend client makes.
pub(crate) fn launch(server: &Server, client: &str, context: &Value) -> Result<Answer, Stop> {
    let options = &server.smart.options;
    let address = Smart::told(options.launch.as_ref(), "launch")?;
    let token = super::backend::token(server, &options.launch_scope)?;
    let mut body = context.clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("client_id".to_owned(), json!(client));
    }
    server.with(&token, "POST", address).body("application/json", body.to_string()).send()
}

/// A new token of an app on its own.
pub(crate) fn standalone(server: &Server, kind: Kind, scope: &str) -> Result<Session, Stop> {
    super::capable(server, "launch-standalone")?;
    Question::new(server, kind, scope)?.token(server, kind)
}

/// A new token of an app opened from a chart.
pub(crate) fn from_chart(server: &Server, kind: Kind, scope: &str) -> Result<Session, Stop> {
    super::capable(server, "launch-ehr")?;
    let world = chart::world(server)?;
    let context = json!({"patient": world.own.patient.made.id, "encounter": world.own.encounter.id});
    Question::new(server, kind, scope)?.launched(server, kind, &context)?.token(server, kind)
}

/// The one that all checks share which change nothing about it.
pub(crate) fn shared(server: &Server, name: &str, scope: &str) -> Result<Arc<Session>, Stop> {
    let kind = Kind::Public;
    server.smart.session(&format!("{name} {scope}"), || match name {
        "ehr" => from_chart(server, kind, scope),
        _ => standalone(server, kind, scope),
    })
}
