//! `POST [base]`: transaction and batch (<https://hl7.org/fhir/R4/http.html#transaction>).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::bundle::{Entry, Plan, Target, plan};
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use fhir::search::Handling;
use store::{
    About, Act, Commit, Conditional, Context, Effect, Entry as Note, MustBe, NewTask, OnlyIf, Outcome, Trail,
    Write, Written, new_id,
};

use super::{criteria, etag, everything, history, location, patch, search, tried};
use crate::app::App;
use crate::http::audited;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::format;
use crate::http::request::{self, LIMITS};
use crate::scoring;
use crate::subscriptions::know_topics;

/// How long all reads of a Bundle may take together.
const READING: Duration = Duration::from_secs(30);

/// What the reads of a Bundle cost so far.
#[derive(Default)]
struct Reads {
    took: Duration,
    bytes: usize,
}

impl Reads {
    /// One more, if it is not too much.
    async fn add<T>(
        &mut self,
        read: impl Future<Output = Result<T, Failure>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T, Failure> {
        if self.bytes > LIMITS.bytes || self.took > READING {
            let details = "the Bundle's reads are too much for one answer; ask in several";
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too-costly", details));
        }
        let began = Instant::now();
        let answer = read.await;
        self.took += began.elapsed();
        self.bytes += answer.as_ref().map_or(0, bytes);
        answer
    }
}

pub(crate) async fn bundle(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let sent = format::sent(&request)?;
    let whole = request
        .headers()
        .get_all("prefer")
        .any(|value| value.as_bytes().windows(21).any(|w| w == b"return=representation"));
    let work = async move |body: Body| {
        let Caller { app, context, .. } = caller.now();
        let done = done(&app, &context, format::read(&body, sent)?).await;
        if done.is_err() {
            tried::bundle(&app, &context, &body, sent).await;
        }
        let (atomic, answers) = done?;
        Ok::<_, Failure>(response(&app, &context, atomic, &answers, whole))
    };
    let text = Body::read(payload).await?.work(work).await?;
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// What becomes of each entry of a Bundle that somebody posts.
async fn done(app: &Arc<App>, context: &Context, bundle: Json<'_>) -> Result<(bool, Vec<Answer>), Failure> {
    if let (Some("transaction"), Some(trail)) = (bundle.text("type"), &context.trail) {
        trail.does(Act::Transaction);
    }
    know_topics(app, &bundle).await?;
    if bundle.text("type") == Some("batch") {
        super::validate(&app.claims, &without_content(&bundle), ResourceType::BUNDLE)?;
    } else {
        super::validate(&app.claims, &bundle, ResourceType::BUNDLE)?;
    }
    run(app, context, bundle, None).await
}

/// A batch with its entries' resources left out: what is wrong in one concerns only that one.
fn without_content<'a>(bundle: &Json<'a>) -> Json<'a> {
    let mut bundle = bundle.clone();
    if let Some(Json::Array(entries)) = bundle.as_object_mut().and_then(|object| object.get_mut("entry")) {
        for entry in entries.iter_mut().filter_map(Json::as_object_mut) {
            let kind = entry.get("resource").and_then(|one| one.text("resourceType")).is_some();
            if kind {
                entry.remove("resource");
            }
            // Planning answers for an entry that says nothing of what to do.
            if entry.get("request").is_none() {
                let get = [("method", "GET"), ("url", "metadata")];
                let mut request = fhir::json::Object::default();
                for (name, value) in get {
                    request.set(usize::MAX, name, Json::String(value.into()));
                }
                entry.set(usize::MAX, "request", Json::Object(request));
            }
        }
    }
    bundle
}

/// What became of an entry.
enum Answer {
    Written(Written),
    Read(StatusCode, String),
    Failed(Failure),
}

/// Does what a Bundle says; a transaction wholly or not at all.
///
/// `taken` is recorded as taken in, in the same transaction.
async fn run(
    app: &Arc<App>,
    context: &Context,
    bundle: Json<'_>,
    taken: Option<String>,
) -> Result<(bool, Vec<Answer>), Failure> {
    let base = app.config.fhir_base();
    let requests = tried::requests(&bundle, &base);
    let plan = plan(bundle, &base, &mut new_id).map_err(Failure::invalid)?;
    let atomic = plan.atomic;
    let mut references = conditional(&plan, &base, context.at);
    let mut answers: Vec<Option<Answer>> = plan.entries.iter().map(|_| None).collect();
    let mut gets = Vec::new();
    let mut places = Vec::new();
    let mut commits: Vec<Commit> = Vec::new();
    let mut entries: Vec<Option<Result<Entry, Issue>>> = plan.entries.into_iter().map(Some).collect();
    for place in plan.order {
        let Some(entry) = entries.get_mut(place).and_then(Option::take) else { continue };
        let commit = match entry {
            Ok(Entry::Get { url, if_none_match, if_modified_since }) => {
                gets.push((place, Asked { url, if_none_match, if_modified_since }));
                continue;
            }
            // What a transaction claims was checked with the whole.
            Ok(entry) if atomic => commit_of(app, context, entry, &base),
            Ok(entry) => claimed(app, &entry).and_then(|()| commit_of(app, context, entry, &base)),
            Err(issue) => Err(Failure::invalid(issue.into())),
        };
        let cited = references.remove(&place).unwrap_or(Ok(Vec::new()));
        match commit.and_then(|commit| Ok(Commit { references: cited?, ..commit })) {
            Ok(commit) => {
                places.push(place);
                commits.push(commit);
            }
            Err(failure) if atomic => return Err(failure),
            Err(failure) => set(&mut answers, place, Answer::Failed(failure)),
        }
    }
    let mut reads = Reads::default();
    if atomic {
        let mut whole = Commit { taken, ..Commit::default() };
        // What is only tried is not shown.
        let trying = Context { trail: None, ..context.clone() };
        for (place, asked) in &gets {
            let tried = must_be(app, &trying, *place, &asked.url);
            whole.reads.extend(reads.add(tried, |_| 0).await?);
        }
        for (n, commit) in commits.into_iter().enumerate() {
            whole.references.extend(commit.references);
            whole.writes.extend(commit.writes);
            whole.tasks.extend(commit.tasks.into_iter().map(|task| match task.about {
                About::Write(_) => NewTask { about: About::Write(n), ..task },
                About::Patient(_) => task,
            }));
        }
        let written = app.store.commit(context, whole).await.map_err(failed)?;
        for (place, written) in places.into_iter().zip(written) {
            set(&mut answers, place, Answer::Written(written));
        }
    } else {
        let all = app.store.commit_each(context, commits).await;
        for (place, written) in places.into_iter().zip(all) {
            let answer = match written.map(|written| written.into_iter().next()) {
                Ok(Some(written)) => Answer::Written(written),
                Ok(None) => Answer::Failed(Failure::internal("a write without an answer")),
                Err(error) => Answer::Failed(patch::refused(error)),
            };
            set(&mut answers, place, answer);
        }
        let failed = answers.iter().any(|answer| matches!(answer, Some(Answer::Failed(_))));
        if let Some(taken) = taken.filter(|_| !failed) {
            app.store.commit(context, Commit { taken: Some(taken), ..Commit::default() }).await?;
        }
    }
    for (place, asked) in gets {
        let part = |trail: &Trail| trail.part(audited::asked_within("GET", &asked.url));
        let context = Context { trail: context.trail.as_ref().map(part), ..context.clone() };
        let bytes = |answer: &Answer| match answer {
            Answer::Read(_, text) => text.len(),
            _ => 0,
        };
        let answer = reads.add(read(app, &context, &asked), bytes).await;
        set(&mut answers, place, answer.unwrap_or_else(Answer::Failed));
    }
    let missing = || Answer::Failed(Failure::internal("an entry without an answer"));
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect();
    for (request, answer) in requests.into_iter().zip(&answers) {
        if let Answer::Failed(failure) = answer {
            let known = match &request.entity {
                Some((kind, id, _)) => app.store.patients(*kind, id).await.unwrap_or_default(),
                None => String::new(),
            };
            let outcome = if failure.status.is_server_error() { Outcome::Serious } else { Outcome::Minor };
            for patient in audited::each_patient(&known, &request.patient) {
                let (note, patient) = (failure.status.to_string(), patient.to_owned());
                context.note(Note { outcome, patient, note, ..request.clone() });
            }
        }
    }
    Ok((atomic, answers))
}

fn set(answers: &mut [Option<Answer>], place: usize, answer: Answer) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

/// The references by criteria of each entry, or what is wrong with one.
fn conditional(plan: &Plan<'_>, base: &str, at: i64) -> HashMap<usize, Result<Vec<Conditional>, Failure>> {
    let one = |cited: &fhir::bundle::Conditional| {
        let Reference::Conditional { kind, criteria: asked } = reference::parse(&cited.text, base) else {
            return Err(Failure::bad_request("not a conditional reference"));
        };
        let query = criteria(kind, asked, base, at).map_err(|mut failure| {
            for issue in &mut failure.issues.0 {
                issue.expression.clone_from(&cited.at);
            }
            failure
        })?;
        Ok(Conditional { text: cited.text.clone(), query, at: cited.at.clone() })
    };
    let mut all = HashMap::new();
    for cited in &plan.conditional {
        let known = all.entry(cited.entry).or_insert_with(|| Ok(Vec::new()));
        match (known.as_mut(), one(cited)) {
            (Ok(known), Ok(found)) => known.push(found),
            (Ok(_), Err(failure)) => *known = Err(failure),
            (Err(_), _) => {}
        }
    }
    all
}

/// Refuses an entry that does not conform to what it claims.
fn claimed(app: &App, entry: &Entry<'_>) -> Result<(), Failure> {
    let (Entry::Create { resource, .. } | Entry::Update { resource, .. }) = entry else { return Ok(()) };
    let findings = app.claims.check(resource);
    if findings.has_error() { Err(Failure::nonconforming(findings)) } else { Ok(()) }
}

fn commit_of<'a>(app: &App, context: &Context, entry: Entry<'a>, base: &str) -> Result<Commit<'a>, Failure> {
    let only_if = |text: Option<String>| text.map_or(Ok(OnlyIf::Always), |text| request::if_match(&text));
    let meant = |target: Target| {
        Ok::<_, Failure>(match target {
            Target::Id(kind, id) => store::Target::Id(kind, id),
            Target::Criteria(kind, text) => store::Target::Only(criteria(kind, &text, base, context.at)?),
        })
    };
    let (write, topic) = match entry {
        Entry::Create { kind, id, resource, if_none_exist } => {
            let if_none_exist = match if_none_exist {
                Some(text) => Some(criteria(kind, &text, base, context.at)?),
                None => None,
            };
            let topic = scoring::concerns(app, &resource).then_some(scoring::WRITE);
            (Write::Create { resource, id: Some(id), if_none_exist }, topic)
        }
        Entry::Update { target, id, resource, if_match, if_none_match } => {
            let topic = scoring::is_read(target.kind()).then_some(scoring::CHANGE);
            let only_if = match (if_match, if_none_match.as_deref()) {
                (if_match, None) => only_if(if_match)?,
                (None, Some("*")) => OnlyIf::Absent,
                _ => {
                    let details = "of ifNoneMatch a PUT understands * alone, and without ifMatch";
                    return Err(Failure::bad_request(details));
                }
            };
            let target = meant(target)?;
            (Write::Update { resource, target, id: Some(id), only_if }, topic)
        }
        Entry::Patch { target, patch, if_match } => {
            let kind = target.kind();
            let topic = scoring::is_read(kind).then_some(scoring::CHANGE);
            let (target, only_if) = (meant(target)?, only_if(if_match)?);
            (Write::Patch { target, only_if, patch: patch::of_resource(app, kind, &patch)? }, topic)
        }
        Entry::Delete { target, if_match } => {
            let topic = scoring::is_read(target.kind()).then_some(scoring::CHANGE);
            (Write::Delete { target: meant(target)?, only_if: only_if(if_match)? }, topic)
        }
        Entry::Get { .. } => return Err(Failure::internal("a read is no write")),
    };
    Ok(super::commit_of(write, topic, context.at))
}

/// What a transaction's GET needs to succeed, for if it does not, nothing is done
/// (<https://hl7.org/fhir/R4/http.html#transaction>). A read is tried with the writes; anything else
/// can fail only by how it asks, which is found out before them.
async fn must_be(
    app: &Arc<App>,
    context: &Context,
    place: usize,
    url: &str,
) -> Result<Option<MustBe>, Failure> {
    let at = format!("Bundle.entry[{place}].request.url");
    let parts: Vec<&str> = url.split(['?', '#']).next().unwrap_or_default().split('/').collect();
    let asked = || match parts.as_slice() {
        [kind, id] if *id != "_history" => Ok(Some((*kind, *id, None, false))),
        [kind, id, "_history"] => Ok(Some((*kind, *id, None, true))),
        [kind, id, "_history", version] => match version.parse() {
            Ok(version) => Ok(Some((*kind, *id, Some(version), false))),
            Err(_) => Err(Failure::not_found("there is no such version")),
        },
        _ => Ok(None),
    };
    let tried = async {
        let Some((kind, id, version, or_was)) = asked()? else {
            return get(app, context, url).await.map(|_| None);
        };
        let (kind, id) = (super::kind(kind)?, super::id(id)?.to_owned());
        Ok(Some(MustBe { kind, id, version, or_was, at: at.clone() }))
    };
    tried.await.map_err(|mut failure: Failure| {
        for issue in failure.issues.0.iter_mut().filter(|issue| issue.expression.is_empty()) {
            issue.expression.clone_from(&at);
        }
        failure
    })
}

/// Why a transaction failed: a GET of it fails it with the status it would have alone.
fn failed(error: store::Error) -> Failure {
    let failure = patch::refused(error);
    let first = failure.issues.0.first().filter(|issue| issue.expression.ends_with(".request.url"));
    let status = match first.map(|issue| issue.code) {
        Some("not-found") => StatusCode::NOT_FOUND,
        Some("deleted") => StatusCode::GONE,
        _ => failure.status,
    };
    Failure { status, ..failure }
}

/// What an entry asks for.
struct Asked {
    url: String,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
}

/// The answer to a GET inside a Bundle.
async fn read(app: &Arc<App>, context: &Context, asked: &Asked) -> Result<Answer, Failure> {
    let since = asked.if_modified_since.as_deref().and_then(fhir::time::parse);
    let tags = asked.if_none_match.as_deref();
    let parts: Vec<&str> = asked.url.split('/').collect();
    if let (true, [kind, id]) = (tags.is_some() || since.is_some(), parts.as_slice())
        && !id.starts_with(['_', '$'])
        && !id.contains('?')
    {
        let stored = app.store.read(context, super::kind(kind)?, super::id(id)?).await?;
        if super::is_unchanged(&stored, tags, since.map(|since| since.low.div_euclid(1_000_000))) {
            return Ok(Answer::Read(StatusCode::NOT_MODIFIED, String::new()));
        }
        return Ok(Answer::Read(StatusCode::OK, stored.body));
    }
    Ok(Answer::Read(StatusCode::OK, get(app, context, &asked.url).await?))
}

/// A read or search inside a Bundle.
async fn get(app: &Arc<App>, context: &Context, url: &str) -> Result<String, Failure> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| part.starts_with('$'))
        && !matches!(parts.as_slice(), ["Patient", _, "$everything"])
    {
        return Err(Failure::not_found("of operations only Patient/[id]/$everything is done in a Bundle"));
    }
    match parts.as_slice() {
        ["_history"] => {
            let kinds = ResourceType::all().collect();
            history::find(app, context, kinds, None, &request::pairs(query)).await
        }
        [kind, "_history"] => {
            history::find(app, context, vec![super::kind(kind)?], None, &request::pairs(query)).await
        }
        [kind, id, "_history"] => {
            let (kind, id) = (super::kind(kind)?, super::id(id)?);
            history::find(app, context, vec![kind], Some(id), &request::pairs(query)).await
        }
        [""] | [] => {
            let pairs = request::pairs(query);
            search::find(app, context, &search::Scope::system(&pairs)?, &pairs, Handling::Lenient).await
        }
        ["metadata"] => Ok(super::metadata::statement(app).to_string()),
        [kind] => {
            let kind = super::kind(kind)?;
            let scope = search::Scope::of_type(kind);
            search::find(app, context, &scope, &request::pairs(query), Handling::Lenient).await
        }
        [kind, id] => Ok(app.store.read(context, super::kind(kind)?, super::id(id)?).await?.body),
        [kind, id, "_history", version] => {
            let version = version.parse().map_err(|_| Failure::not_found("there is no such version"))?;
            Ok(app.store.vread(context, super::kind(kind)?, super::id(id)?, version).await?.body)
        }
        ["Patient", id, "$everything"] => {
            everything::find(app, context, super::id(id)?, request::pairs(query)).await
        }
        [owner, id, of] => {
            let pairs = request::pairs(query);
            let scope = search::Scope::compartment(owner, id, of, &pairs)?;
            search::find(app, context, &scope, &pairs, Handling::Lenient).await
        }
        _ => Err(Failure::not_found("this server has no such interaction")),
    }
}

/// The response Bundle, put together as text: stored bodies go in as they are.
fn response(app: &App, context: &Context, atomic: bool, answers: &[Answer], whole: bool) -> String {
    let base = app.config.fhir_base();
    let kind = if atomic { "transaction-response" } else { "batch-response" };
    let mut text = format!(r#"{{"resourceType":"Bundle","type":"{kind}""#);
    for (n, answer) in answers.iter().enumerate() {
        text.push_str(if n == 0 { r#","entry":[{"# } else { ",{" });
        match answer {
            Answer::Written(written) => {
                let stored = &written.stored;
                let status = match written.effect {
                    Effect::Created => "201 Created",
                    Effect::Updated | Effect::Unchanged => "200 OK",
                    Effect::Deleted | Effect::Absent => "204 No Content",
                };
                if whole && !stored.body.is_empty() && context.access.reveals(stored) {
                    text.push_str(r#""resource":"#);
                    text.push_str(&stored.body);
                    text.push(',');
                }
                text.push_str(&format!(r#""response":{{"status":"{status}""#));
                if stored.version > 0 {
                    let tag = etag(stored.version).replace('"', "\\\"");
                    let updated = fhir::time::format_instant(stored.updated);
                    if !stored.deleted {
                        text.push_str(&format!(r#","location":"{}""#, location(&base, stored)));
                    }
                    text.push_str(&format!(r#","etag":"{tag}","lastModified":"{updated}""#));
                }
                text.push('}');
            }
            Answer::Read(status, body) => {
                if !body.is_empty() {
                    text.push_str(&format!(r#""resource":{body},"#));
                }
                text.push_str(&format!(r#""response":{{"status":"{status}"}}"#));
            }
            Answer::Failed(failure) => {
                let outcome = failure.issues.outcome();
                text.push_str(&format!(
                    r#""response":{{"status":"{}","outcome":{outcome}}}"#,
                    failure.status
                ));
            }
        }
        text.push('}');
    }
    if !answers.is_empty() {
        text.push(']');
    }
    text.push('}');
    text
}

/// Takes in a resource or any Bundle; one that is no transaction or batch as if it were the
/// transaction that writes its resources. Gives what was written.
pub(crate) async fn import(
    app: &Arc<App>,
    context: &Context,
    resource: Json<'_>,
    taken: Option<String>,
) -> Result<Vec<(ResourceType, String)>, Failure> {
    let kind = resource.text("resourceType").and_then(ResourceType::parse);
    if kind.is_none() {
        return Err(Failure::bad_request("not a FHIR R4 resource"));
    }
    let said =
        kind == Some(ResourceType::BUNDLE) && matches!(resource.text("type"), Some("transaction" | "batch"));
    let bundle = if said { resource } else { as_transaction(resource) };
    let (_, answers) = run(app, context, bundle, taken).await?;
    let mut written = Vec::with_capacity(answers.len());
    let mut failed = Vec::new();
    for answer in answers {
        match answer {
            Answer::Written(one) => written.push((one.stored.kind, one.stored.id)),
            Answer::Failed(failure) => failed.extend(failure.issues.0),
            Answer::Read(..) => {}
        }
    }
    if failed.is_empty() { Ok(written) } else { Err(Failure::invalid(Issues(failed))) }
}

/// Each resource under its own id if it has one; what a Bundle holds twice, in its last version.
fn as_transaction(resource: Json<'_>) -> Json<'_> {
    let text = |text: String| Json::String(text.into());
    let object = |pairs: Vec<(&'static str, Json<'static>)>| {
        let mut object = fhir::json::Object::default();
        for (name, value) in pairs {
            object.set(usize::MAX, name, value);
        }
        object
    };
    let given = if resource.text("resourceType") == Some("Bundle") {
        resource.list("entry").to_vec()
    } else {
        let mut entry = fhir::json::Object::default();
        entry.set(0, "resource", resource);
        vec![Json::Object(entry)]
    };
    let mut entries: Vec<Json<'_>> = Vec::with_capacity(given.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for mut entry in given {
        let Some(inner) = entry.get("resource") else { continue };
        let kind = inner.text("resourceType").unwrap_or_default();
        let target = inner.text("id").map(|id| format!("{kind}/{id}"));
        let (method, url) = match &target {
            Some(target) => ("PUT", target.clone()),
            None => ("POST", kind.to_owned()),
        };
        let request = object(vec![("method", text(method.to_owned())), ("url", text(url))]);
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("search");
            entry.remove("response");
            entry.set(usize::MAX, "request", Json::Object(request));
        }
        let earlier = target.and_then(|target| places.insert(target, entries.len()));
        if let Some(earlier) = earlier.and_then(|place| entries.get_mut(place)) {
            *earlier = Json::Null;
        }
        entries.push(entry);
    }
    let mut bundle =
        object(vec![("resourceType", text("Bundle".to_owned())), ("type", text("transaction".to_owned()))]);
    bundle.set(
        usize::MAX,
        "entry",
        Json::Array(entries.into_iter().filter(|entry| *entry != Json::Null).collect()),
    );
    Json::Object(bundle)
}
