//! `GET [base]/[type]?…` and `POST [base]/[type]/_search` (<https://hl7.org/fhir/R4/http.html#search>).

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::resource_type::ResourceType;
use fhir::search::{Clause, ExactTest, Handling, Include, SearchQuery, Test};
use store::{Context, Stored};

use super::address::{address, quoted};
use super::{hierarchy, kind, value_set};
use crate::app::App;
use crate::http::audited::{self, MOST_ASKED};
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::format;
use crate::http::request::{self, Prefer};

/// What is searched.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The path below the base: `Observation`, `Patient/1/Condition`, or nothing for all types.
    path: String,
    kinds: Vec<ResourceType>,
    /// `_type` says where to look.
    narrowed: bool,
    compartment: Option<Clause>,
}

impl Scope {
    /// One type.
    pub(crate) fn of_type(kind: ResourceType) -> Self {
        Self { path: kind.name().to_owned(), kinds: vec![kind], narrowed: false, compartment: None }
    }

    /// All types, or those that `_type` names.
    pub(crate) fn system(pairs: &[(String, String)]) -> Result<Self, Failure> {
        let mut kinds = Vec::new();
        for name in pairs.iter().filter(|(name, _)| name == "_type").flat_map(|(_, value)| value.split(',')) {
            kinds.push(
                ResourceType::parse(name).ok_or_else(|| {
                    Failure::bad_request("_type: there is no such resource type in FHIR R4")
                })?,
            );
        }
        if kinds.is_empty() {
            kinds = ResourceType::all().collect();
        }
        kinds.sort_unstable();
        kinds.dedup();
        Ok(Self { path: String::new(), kinds, narrowed: true, compartment: None })
    }

    /// A compartment's resources of one type, or with `*` of all
    /// (<https://hl7.org/fhir/R4/compartmentdefinition.html>).
    pub(crate) fn compartment(
        owner: &str,
        id: &str,
        of: &str,
        pairs: &[(String, String)],
    ) -> Result<Self, Failure> {
        let owner = kind(owner)?;
        if !fhir::search::is_compartment(owner) {
            return Err(Failure::not_found(format!("{} has no compartment", owner.name())));
        }
        let asked = if of == "*" { Self::system(pairs)?.kinds } else { vec![kind(of)?] };
        let id = super::id(id)?;
        let by = |kind: &ResourceType| fhir::search::compartment(owner, *kind);
        let kinds: Vec<ResourceType> =
            asked.into_iter().filter(|kind| *kind == owner || !by(kind).is_empty()).collect();
        if kinds.is_empty() {
            let details = format!("no resource of this type is in the compartment of {}", owner.name());
            return Err(Failure::not_found(details));
        }
        let value = Some(fhir::reference::hash(owner, id));
        let linked = Clause {
            params: kinds.iter().flat_map(by).collect(),
            negated: false,
            test: Test::Exact(vec![ExactTest { value, system: None }]),
        };
        let itself = Clause { params: Vec::new(), negated: false, test: Test::Id(vec![id.to_owned()]) };
        let compartment = Some(match (kinds.as_slice(), linked.params.is_empty()) {
            (_, true) => itself,
            ([_], false) if kinds.contains(&owner) => {
                let test = Test::Either(vec![linked, itself]);
                Clause { params: Vec::new(), negated: false, test }
            }
            _ => linked,
        });
        Ok(Self { path: format!("{}/{id}/{of}", owner.name()), kinds, narrowed: of == "*", compartment })
    }
}

pub(crate) async fn by_get(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    answer(&caller, &request, &Scope::of_type(kind(&path)?), request::pairs(request.query_string())).await
}

pub(crate) async fn by_post(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let scope = Scope::of_type(kind(&path)?);
    answer(&caller, &request, &scope, form(&request, payload).await?).await
}

pub(crate) async fn system_by_get(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let pairs = request::pairs(request.query_string());
    answer(&caller, &request, &Scope::system(&pairs)?, pairs).await
}

pub(crate) async fn system_by_post(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let pairs = form(&request, payload).await?;
    answer(&caller, &request, &Scope::system(&pairs)?, pairs).await
}

pub(crate) async fn compartment_by_get(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Failure> {
    let (owner, id, of) = path.into_inner();
    let pairs = request::pairs(request.query_string());
    answer(&caller, &request, &Scope::compartment(&owner, &id, &of, &pairs)?, pairs).await
}

pub(crate) async fn compartment_by_post(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (owner, id, of) = path.into_inner();
    let pairs = form(&request, payload).await?;
    answer(&caller, &request, &Scope::compartment(&owner, &id, &of, &pairs)?, pairs).await
}

/// The pairs of the address and of the form.
async fn form(request: &HttpRequest, payload: web::Payload) -> Result<Vec<(String, String)>, Failure> {
    let form = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !form.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
        let details = "send the parameters as application/x-www-form-urlencoded";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", details));
    }
    let charset = form.and_then(|value| {
        value.to_ascii_lowercase().split_once("charset=").map(|(_, name)| name.trim_matches('"').to_owned())
    });
    if charset.is_some_and(|charset| charset != "utf-8") {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            "send the parameters in UTF-8",
        ));
    }
    let body = Body::read_short(payload).await?;
    let text = std::str::from_utf8(&body).ok().filter(|text| request::is_utf8(text));
    let text = text.ok_or_else(|| Failure::bad_request("the form is not UTF-8"))?;
    audited::asked_too(request, text);
    let sent = request::pairs(text);
    format::by_form(request, &sent)?;
    let mut pairs = request::pairs(request.query_string());
    pairs.extend(sent);
    Ok(pairs)
}

async fn answer(
    caller: &Caller,
    request: &HttpRequest,
    scope: &Scope,
    pairs: Vec<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let Prefer { strict, .. } = request::prefer(request);
    let handling = if strict { Handling::Strict } else { Handling::Lenient };
    let text = find(&caller.app, &caller.context, scope, &pairs, handling).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

impl Scope {
    /// What is in a patient's compartment, of all types or of some, under an address of its own.
    pub(super) fn everything(id: &str, pairs: &[(String, String)]) -> Result<Self, Failure> {
        let scope = Self::compartment("Patient", id, "*", pairs)?;
        Ok(Self { path: format!("Patient/{id}/$everything"), ..scope })
    }

    /// The events about a patient, under an address of their own.
    pub(super) fn accounting(id: &str) -> Self {
        let path = format!("Patient/{id}/$accounting-of-disclosures");
        Self { path, ..Self::of_type(ResourceType::AUDIT_EVENT) }
    }

    pub(super) fn kinds(&self) -> &[ResourceType] {
        &self.kinds
    }
}

/// A search with what it adds to what the address says.
pub(super) struct Wider<'p> {
    /// Parameters that are not of a search; the links carry them on.
    pub(super) own: Vec<(String, String)>,
    pub(super) clauses: Vec<Clause>,
    pub(super) includes: Vec<Include>,
    /// What comes before the first page's matches.
    pub(super) first: Option<&'p Stored>,
}

/// The searchset Bundle.
pub(crate) async fn find(
    app: &Arc<App>,
    context: &Context,
    scope: &Scope,
    pairs: &[(String, String)],
    handling: Handling,
) -> Result<String, Failure> {
    let plain = Wider { own: Vec::new(), clauses: Vec::new(), includes: Vec::new(), first: None };
    find_wider(app, context, scope, pairs, handling, plain).await
}

/// The same of a wider search.
pub(super) async fn find_wider(
    app: &Arc<App>,
    context: &Context,
    scope: &Scope,
    pairs: &[(String, String)],
    handling: Handling,
    wider: Wider<'_>,
) -> Result<String, Failure> {
    let base = app.config.fhir_base();
    let (typed, others): (Vec<_>, Vec<_>) =
        pairs.iter().cloned().partition(|(name, _)| name == "_type" && scope.narrowed);
    let meant = value_set::expanded(&app.store, context, &scope.kinds, &others).await?;
    let meant = hierarchy::expanded(&app.store, context, &scope.kinds, &base, meant).await?;
    let (mut query, ignored) =
        SearchQuery::parse(&scope.kinds, &meant, &base, context.at, handling).map_err(Failure::invalid)?;
    // The trail has all that was asked.
    if pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > MOST_ASKED {
        let details = format!("criteria are {MOST_ASKED} letters at most");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", details));
    }
    // The links say what was asked, not what it meant.
    for (meant, asked) in meant.iter().zip(&others).filter(|(meant, asked)| meant != asked) {
        if let Some(used) = query.used.iter_mut().find(|used| *used == meant) {
            used.clone_from(asked);
        }
    }
    query.used.splice(0..0, typed.into_iter().chain(wider.own));
    query.includes.extend(wider.includes);
    query.clauses.extend(wider.clauses);
    query.scope.clone_from(&scope.path);
    query.clauses.extend(scope.compartment.clone());
    let page = app.store.search(context, &query).await?;
    let mut text = String::from(r#"{"resourceType":"Bundle","type":"searchset""#);
    if let Some(total) = page.total {
        let total = total + u64::from(wider.first.is_some());
        text.push_str(&format!(r#","total":{total}"#));
    }
    let used = query.used.iter().filter(|(name, _)| name != "_page");
    let pairs: Vec<(&str, &str)> = used.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let address = |page: Option<&str>| {
        let page = page.map(|page| ("_page", page));
        quoted(&address(&base, &scope.path, pairs.iter().copied().chain(page)))
    };
    let current = query.after.as_deref();
    text.push_str(&format!(r#","link":[{{"relation":"self","url":{}}}"#, address(current)));
    if let Some(next) = &page.next {
        text.push_str(&format!(r#",{{"relation":"next","url":{}}}"#, address(Some(next))));
    }
    text.push(']');
    let mut entries = 0_usize;
    let mut entry = |text: &mut String, entry: std::fmt::Arguments<'_>| {
        text.push_str(if entries == 0 { r#","entry":[{"# } else { ",{" });
        entries += 1;
        text.push_str(&entry.to_string());
        text.push('}');
    };
    let first = wider.first.filter(|_| current.is_none());
    let matches = first.into_iter().chain(&page.entries).map(|stored| (stored, "match"));
    // The first page has it; what refers to it brings it along again.
    let known =
        |one: &&Stored| wider.first.is_some_and(|first| (first.kind, &first.id) == (one.kind, &one.id));
    let included = page.included.iter().filter(|one| !known(one)).map(|stored| (stored, "include"));
    for (stored, mode) in matches.chain(included) {
        let (kind, id) = (stored.kind, &stored.id);
        let body = fhir::view::subset(&query.view, kind, &stored.body);
        entry(
            &mut text,
            format_args!(r#""fullUrl":"{base}/{kind}/{id}","resource":{body},"search":{{"mode":"{mode}"}}"#),
        );
    }
    if !ignored.0.is_empty() {
        entry(&mut text, format_args!(r#""resource":{},"search":{{"mode":"outcome"}}"#, ignored.outcome()));
    }
    text.push_str(if entries > 0 { "]}" } else { "}" });
    Ok(text)
}
