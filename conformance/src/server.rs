//! The server under test, as HTTP shows it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::check::{Outcome, Stop, ensure};
use crate::smart::{Smart, page};
use crate::subscriptions::Subscriptions;

/// FHIR's JSON media type.
pub(crate) const FHIR_JSON: &str = "application/fhir+json";
/// FHIR's XML media type.
pub(crate) const FHIR_XML: &str = "application/fhir+xml";

/// A server that is busy is asked again so often, after so long.
const BUSY: usize = 2;
const AGAIN: Duration = Duration::from_secs(2);

/// A server under test.
pub(crate) struct Server {
    pub(crate) base: String,
    token: Option<String>,
    http: Client,
    /// What it says it can do.
    pub(crate) statement: Value,
    claims: Claims,
    /// What the SMART checks were told, and what they found out.
    pub(crate) smart: Smart,
    /// The same for Subscriptions.
    pub(crate) subscriptions: Subscriptions,
}

impl Server {
    /// Reads its CapabilityStatement; without one nothing can be checked.
    pub(crate) fn new(
        base: &str,
        token: Option<String>,
        smart: Smart,
        subscriptions: Subscriptions,
    ) -> Result<Self, String> {
        let http = Client::builder().timeout(Duration::from_mins(1)).redirect(Policy::none());
        let http = http.build().map_err(|e| e.to_string())?;
        let base = base.trim_end_matches('/').to_owned();
        let empty = Claims(HashSet::new());
        let statement = Value::Null;
        let mut server = Self { base, token, http, statement, claims: empty, smart, subscriptions };
        match server.ask("GET", "/metadata").header("accept", FHIR_JSON).send() {
            Ok(answer) if answer.status == 200 && answer.is("CapabilityStatement") => {
                server.claims = Claims::of(&answer.json);
                server.statement = answer.json;
                Ok(server)
            }
            Ok(answer) => Err(format!("{}/metadata: {}", server.base, answer.shown())),
            Err(Stop::Fail(why) | Stop::Skip(why)) => Err(format!("{}: {why}", server.base)),
        }
    }

    pub(crate) fn software(&self) -> &str {
        text(&self.statement, "/software/name")
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A request to a path below the base, or to an address that the server gave.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask {
        let ask = self.plain(method, target);
        if let Some(token) = &self.token { ask.bearer(token) } else { ask }
    }

    /// The same without the token that the runner was given.
    pub(crate) fn plain(&self, method: &str, target: &str) -> Ask {
        let address =
            if target.starts_with("http") { target.to_owned() } else { format!("{}{target}", self.base) };
        Ask(self.http.request(method.parse().unwrap_or(reqwest::Method::GET), address))
    }

    /// The same with another token.
    pub(crate) fn with(&self, token: &str, method: &str, target: &str) -> Ask {
        self.plain(method, target).bearer(token)
    }

    pub(crate) fn get(&self, target: &str) -> Result<Answer, Stop> {
        self.ask("GET", target).send()
    }

    pub(crate) fn post(&self, target: &str, resource: &Value) -> Result<Answer, Stop> {
        self.ask("POST", target).json(resource).send()
    }

    pub(crate) fn put(&self, target: &str, resource: &Value) -> Result<Answer, Stop> {
        self.ask("PUT", target).json(resource).send()
    }

    pub(crate) fn delete(&self, target: &str) -> Result<Answer, Stop> {
        self.ask("DELETE", target).send()
    }

    /// Creates a resource and says where it is.
    pub(crate) fn create(&self, resource: &Value) -> Result<Made, Stop> {
        let answer = self.post(&format!("/{}", text(resource, "/resourceType")), resource)?;
        answer.expect(201)?;
        answer.made()
    }

    /// A search that must succeed; `query` is `name=value&…`, not yet encoded.
    pub(crate) fn search(&self, path: &str, query: &str) -> Result<Answer, Stop> {
        let answer = self.get(&format!("{path}?{}", encoded(query)))?;
        answer.expect(200)?;
        ensure(answer.at("/type") == "searchset", "the answer is no searchset")?;
        Ok(answer)
    }

    /// All pages of a search, at most twenty, by the `next` links.
    pub(crate) fn pages(&self, path: &str, query: &str) -> Result<Vec<Answer>, Stop> {
        let mut pages = vec![self.search(path, query)?];
        while let Some(next) = pages.last().and_then(|page| page.link("next")).map(str::to_owned) {
            if pages.len() >= 20 {
                return Err("more than twenty pages".into());
            }
            let answer = self.get(&next)?;
            answer.expect(200)?;
            pages.push(answer);
        }
        Ok(pages)
    }
}

/// Where a created resource is.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) version: String,
}

impl Made {
    /// `/Type/id`
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.kind, self.id)
    }

    /// `Type/id`
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }

    /// From an address `…/Type/id/_history/version` or `…/Type/id`.
    pub(crate) fn at(location: &str) -> Result<Self, Stop> {
        let (whole, version) = location.rsplit_once("/_history/").unwrap_or((location, ""));
        let mut parts = whole.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some(id), Some(kind)) if !id.is_empty() => {
                Ok(Self { kind: kind.to_owned(), id: id.to_owned(), version: version.to_owned() })
            }
            _ => Err(Stop::Fail(format!("`{location}` is no location of a resource"))),
        }
    }
}

/// A request on its way.
pub(crate) struct Ask(RequestBuilder);

impl Ask {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        Self(self.0.basic_auth(user, Some(password)))
    }

    /// A form with these pairs.
    pub(crate) fn pairs<N: AsRef<str>, V: AsRef<str>>(self, pairs: &[(N, V)]) -> Self {
        self.body("application/x-www-form-urlencoded", page::encoded(pairs))
    }

    pub(crate) fn json(self, resource: &Value) -> Self {
        self.body(FHIR_JSON, resource.to_string())
    }

    pub(crate) fn body(self, media: &str, body: impl Into<Vec<u8>>) -> Self {
        Self(self.0.header("content-type", media).body(body.into()))
    }

    /// A body without a Content-Type.
    pub(crate) fn bare(self, body: impl Into<Vec<u8>>) -> Self {
        Self(self.0.body(body.into()))
    }

    /// The pairs of a query as a form.
    pub(crate) fn form(self, query: &str) -> Self {
        self.body("application/x-www-form-urlencoded", encoded(query))
    }

    pub(crate) fn send(self) -> Result<Answer, Stop> {
        // Who is busy is asked again.
        for _ in 0..BUSY {
            let Some(request) = self.0.try_clone() else { break };
            let answer = Answer::of(request)?;
            if answer.status != 503 {
                return Ok(answer);
            }
            std::thread::sleep(AGAIN);
        }
        Answer::of(self.0)
    }
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    fn of(request: RequestBuilder) -> Result<Self, Stop> {
        let response = request.send().map_err(|e| format!("no answer: {e}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().map_err(|e| format!("no whole answer: {e}"))?.to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, bytes, text, json })
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// All values of a header.
    pub(crate) fn headers_of(&self, name: &str) -> Vec<String> {
        let all = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        all.map(str::to_owned).collect()
    }

    /// The media type without its parameters.
    pub(crate) fn media(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }

    /// The text at a JSON pointer, or nothing.
    pub(crate) fn at(&self, pointer: &str) -> &str {
        text(&self.json, pointer)
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.at("/resourceType") == kind
    }

    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.status, self.text.chars().take(300).collect::<String>())
    }

    pub(crate) fn expect(&self, status: u16) -> Outcome {
        ensure(self.status == status, format!("not {status} but {}", self.shown()))
    }

    pub(crate) fn expect_one(&self, statuses: &[u16]) -> Outcome {
        ensure(statuses.contains(&self.status), format!("none of {statuses:?} but {}", self.shown()))
    }

    /// The status, and an OperationOutcome with an error.
    pub(crate) fn refused(&self, statuses: &[u16]) -> Outcome {
        self.expect_one(statuses)?;
        ensure(self.is("OperationOutcome"), format!("no OperationOutcome: {}", self.shown()))?;
        let severity = list(&self.json, "/issue").iter().map(|issue| text(issue, "/severity"));
        let mut severe = severity.filter(|one| matches!(*one, "error" | "fatal"));
        ensure(severe.next().is_some(), "the OperationOutcome has no error")?;
        let codes = list(&self.json, "/issue").iter().all(|issue| !text(issue, "/code").is_empty());
        ensure(codes, "an issue has no code")
    }

    /// An OperationOutcome that names this element.
    pub(crate) fn names(&self, expression: &str) -> Outcome {
        let issues = list(&self.json, "/issue").iter();
        let mut places = issues.flat_map(|issue| list(issue, "/expression")).filter_map(Value::as_str);
        ensure(
            places.any(|place| place == expression),
            format!("no issue has the expression {expression}: {}", self.shown()),
        )
    }

    /// Refused because there is no such feature.
    pub(crate) fn unsupported(&self) -> bool {
        let mut codes = list(&self.json, "/issue").iter().map(|issue| text(issue, "/code"));
        matches!(self.status, 400 | 403 | 404 | 405 | 422 | 501) && codes.any(|code| code == "not-supported")
    }

    /// Where what was written is, by `Location`.
    pub(crate) fn made(&self) -> Result<Made, Stop> {
        Made::at(self.header("location"))
    }

    pub(crate) fn entries(&self) -> &[Value] {
        list(&self.json, "/entry")
    }

    /// `Type/id` of the entries with this search mode, in order.
    pub(crate) fn found(&self, mode: &str) -> Vec<String> {
        let of_mode = self.entries().iter().filter(|entry| {
            let own = text(entry, "/search/mode");
            own == mode || (own.is_empty() && mode == "match")
        });
        of_mode
            .map(|entry| format!("{}/{}", text(entry, "/resource/resourceType"), text(entry, "/resource/id")))
            .collect()
    }

    pub(crate) fn link(&self, relation: &str) -> Option<&str> {
        let mut links = list(&self.json, "/link").iter();
        links.find(|link| text(link, "/relation") == relation).map(|link| text(link, "/url"))
    }

    pub(crate) fn total(&self) -> Option<u64> {
        self.json.get("total").and_then(Value::as_u64)
    }

    /// The first number of an entry's response status.
    pub(crate) fn entry_status(&self, place: usize) -> u16 {
        let status = text(&self.json, &format!("/entry/{place}/response/status"));
        status.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

/// What a CapabilityStatement claims, as words: `Patient.create`, `Patient?birthdate`, `?_id` (of all
/// types), `Patient$everything`, `$convert`, `Patient.conditionalCreate`, `Patient+Patient:organization`
/// (include), `Patient-Observation:subject` (reverse include), `transaction`, `xml`, `patch:MEDIA`.
pub(crate) struct Claims(HashSet<String>);

impl Claims {
    fn of(statement: &Value) -> Self {
        let mut all = HashSet::new();
        let names = |of: &Value, at: &str, key: &str| -> Vec<String> {
            list(of, at).iter().map(|one| text(one, key).to_owned()).collect()
        };
        for format in list(statement, "/format").iter().filter_map(Value::as_str) {
            for word in ["json", "xml"] {
                if format.contains(word) {
                    all.insert(word.to_owned());
                }
            }
        }
        let patches = list(statement, "/patchFormat");
        all.extend(patches.iter().filter_map(Value::as_str).map(|media| format!("patch:{media}")));
        if patches.is_empty() {
            all.insert("patch:application/json-patch+json".to_owned());
        }
        let rest = statement.pointer("/rest/0").unwrap_or(&Value::Null);
        all.extend(names(rest, "/interaction", "/code"));
        all.extend(names(rest, "/searchParam", "/name").iter().map(|name| format!("?{name}")));
        all.extend(names(rest, "/operation", "/name").iter().map(|name| format!("${name}")));
        for resource in list(rest, "/resource") {
            let kind = text(resource, "/type");
            all.insert(kind.to_owned());
            all.extend(names(resource, "/interaction", "/code").iter().map(|code| format!("{kind}.{code}")));
            all.extend(names(resource, "/searchParam", "/name").iter().map(|name| format!("{kind}?{name}")));
            all.extend(names(resource, "/operation", "/name").iter().map(|name| format!("{kind}${name}")));
            for (sign, at) in [('+', "/searchInclude"), ('-', "/searchRevInclude")] {
                let links = list(resource, at).iter().filter_map(Value::as_str);
                all.extend(links.map(|link| format!("{kind}{sign}{link}")));
            }
            for flag in [
                "conditionalCreate",
                "conditionalUpdate",
                "updateCreate",
                "conditionalRead",
                "conditionalDelete",
            ] {
                let claimed = match resource.get(flag) {
                    Some(Value::Bool(claimed)) => *claimed,
                    Some(Value::String(code)) => code != "not-supported",
                    _ => false,
                };
                if claimed {
                    all.insert(format!("{kind}.{flag}"));
                }
            }
        }
        Self(all)
    }

    pub(crate) fn has(&self, claim: &str) -> bool {
        let general = || {
            let at = claim.find(['?', '$', '+', '-']).filter(|_| !claim.starts_with("patch:"))?;
            let (kind, rest) = claim.split_at_checked(at)?;
            let wildcard = rest.starts_with(['+', '-']);
            // A parameter or operation of all types; an include of anything.
            Some(if wildcard { format!("{kind}{}*", rest.get(..1)?) } else { rest.to_owned() })
        };
        self.0.contains(claim) || general().is_some_and(|claim| self.0.contains(&claim))
    }

    /// The first that is not claimed.
    pub(crate) fn lacks<'n>(&self, needs: &'n [String]) -> Option<&'n str> {
        needs.iter().map(String::as_str).find(|need| !self.has(need))
    }
}

/// The text at a JSON pointer, or nothing.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, or none.
pub(crate) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text that no other check and no other run has; fit for an id.
pub(crate) fn unique(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{stem}-{:x}-{}", now.as_micros(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// `name=value&…` as it goes into an address or a form.
pub(crate) fn encoded(query: &str) -> String {
    let part = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b':'
                | b'/'
                | b','
                | b'*' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", part(name), part(value)),
        None => part(pair),
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Vec<_>>().join("&")
}
