//! Operations of Subscriptions: `$status`, `$events` and `$get-ws-binding-token`
//! (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/>), and `$webhook-secret`.

use std::collections::BTreeSet;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use fhir::subscription::{Content, Occasion, statuses};
use fhir::time::format_instant;
use serde_json::json;
use store::{Act, DeadLetter, Entry as Note, Rotate, SubscriptionStatus};
use uuid::Uuid;

use super::{id, parameters};
use crate::app;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::subscriptions::binding::Binding;
use crate::subscriptions::book::Entry;
use crate::subscriptions::signature::{Key, OVERLAP};
use crate::subscriptions::socket::MOST_BOUND;
use crate::subscriptions::{notification, socket};

/// Subscriptions that `$status` without a name tells of.
const MOST: u32 = 1000;
/// Events that `$events` tells of at once; who wants more goes on behind the last.
const MOST_EVENTS: usize = 1000;

/// The id in the address of an operation that is asked with nothing else.
async fn alone(
    request: &HttpRequest,
    path: &web::Path<String>,
    payload: web::Payload,
) -> Result<String, Failure> {
    let id = id(path)?.to_owned();
    match parameters(request, payload).await?.first() {
        Some((name, _)) => Err(Failure::bad_request(format!("no such parameter: {name}"))),
        None => Ok(id),
    }
}

/// How it stands with a Subscription, for who may read it.
async fn shown(caller: &Caller, id: String) -> Result<store::Subscription, Failure> {
    let store = &caller.app.store;
    store.read(&caller.context, ResourceType::SUBSCRIPTION, &id).await?;
    let found = store.subscriptions(vec![id]).await?.pop();
    found.ok_or_else(|| Failure::not_found("nothing is kept of this Subscription"))
}

/// `Subscription/[id]/$status`
pub(crate) async fn status(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = alone(&request, &path, payload).await?;
    caller.app.store.read(&caller.context, ResourceType::SUBSCRIPTION, &id).await?;
    tell(&caller, &request, vec![id], &[]).await
}

/// `Subscription/$status?id=…&status=…`: of those named, or all that the caller may see.
pub(crate) async fn status_of_many(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (mut ids, mut wanted) = (Vec::new(), Vec::new());
    for (name, value) in parameters(&request, payload).await? {
        for value in value.split(',').filter(|one| !one.is_empty()) {
            match name.as_str() {
                "id" => ids.push(value.strip_prefix("Subscription/").unwrap_or(value).to_owned()),
                "status" => wanted.push(
                    SubscriptionStatus::parse(value)
                        .ok_or_else(|| Failure::bad_request("status is requested, active, error or off"))?,
                ),
                _ => return Err(Failure::bad_request("no such parameter; there are id and status")),
            }
        }
    }
    let pairs = if ids.is_empty() { Vec::new() } else { vec![("_id".to_owned(), ids.join(","))] };
    let (app, context) = (&caller.app, &caller.context);
    let kinds = [ResourceType::SUBSCRIPTION];
    let (mut query, _) =
        SearchQuery::parse(&kinds, &pairs, &app.config.fhir_base(), context.at, Handling::Strict)
            .map_err(Failure::invalid)?;
    query.count = MOST;
    let found = app.store.search(context, &query).await?;
    if found.next.is_some() {
        let details = format!("more than {MOST} Subscriptions; name some with id");
        return Err(Failure::invalid(Issue::error("too-costly", details).into()));
    }
    tell(&caller, &request, found.entries.into_iter().map(|stored| stored.id).collect(), &wanted).await
}

async fn tell(
    caller: &Caller,
    request: &HttpRequest,
    ids: Vec<String>,
    wanted: &[SubscriptionStatus],
) -> Result<HttpResponse, Failure> {
    let (app, base) = (&caller.app, caller.app.config.fhir_base());
    let all = app.store.subscriptions(ids).await?;
    let shown: Vec<_> = all
        .iter()
        .filter(|one| wanted.is_empty() || wanted.contains(&one.status))
        .map(|one| (one, Uuid::new_v4().hyphenated().to_string()))
        .collect();
    let topics: Vec<_> = shown.iter().map(|(one, _)| notification::topic(one)).collect();
    let told = shown.iter().zip(&topics).map(|((one, uuid), topic)| {
        (notification::standing(one, topic.as_deref(), &base, Content::IdOnly), uuid.as_str())
    });
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let text = statuses(told, &format!("{}{path}", app.config.public_url), app::now());
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// `Subscription/[id]/$events?eventsSinceNumber=…&eventsUntilNumber=…&content=…`: what it was told, or will be,
/// both bounds within.
pub(crate) async fn events(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = id(&path)?.to_owned();
    let (mut since, mut until, mut content) = (1, i64::MAX, None);
    for (name, value) in parameters(&request, payload).await? {
        let number = || {
            let read = value.parse::<i64>().ok().filter(|number| *number >= 0);
            read.ok_or_else(|| Failure::bad_request(format!("{name} is the number of an event")))
        };
        match name.as_str() {
            "eventsSinceNumber" => since = number()?,
            "eventsUntilNumber" => until = number()?,
            "content" => {
                let read = Content::parse(&value);
                let why = || Failure::bad_request("content is empty, id-only or full-resource");
                content = Some(read.ok_or_else(why)?);
            }
            _ => {
                let known = "there are eventsSinceNumber, eventsUntilNumber and content";
                return Err(Failure::bad_request(format!("no such parameter; {known}")));
            }
        }
    }
    let (app, base) = (&caller.app, caller.app.config.fhir_base());
    let found = shown(&caller, id).await?;
    let mut told = app.store.events(&caller.context, found.number, since.max(1) - 1, MOST_EVENTS).await?;
    told.retain(|event| event.number <= until);
    let content = content.unwrap_or_else(|| notification::content(&found));
    let topic = notification::topic(&found);
    let status = notification::standing(&found, topic.as_deref(), &base, content);
    let uuid = Uuid::new_v4().hyphenated().to_string();
    // Without a topic that is there nothing comes along.
    let along = match Entry::of(app, &app.subscriptions.book().topics, found.clone()) {
        Ok(entry) if content != Content::Empty => {
            notification::along(app, &caller.context, &entry, &told).await?
        }
        _ => Vec::new(),
    };
    let events = notification::events(&told, &along);
    let text = status.notification(Occasion::QueryEvent, &uuid, app::now(), &events);
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(text))
}

/// `Subscription/[id]/$dead-letters`: what its endpoint would not take, in order.
pub(crate) async fn dead_letters(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = alone(&request, &path, payload).await?;
    let (app, context) = (&caller.app, &caller.context);
    let found = shown(&caller, id).await?;
    let letters = app.store.dead_letters(context, found.number, false, MOST_EVENTS).await?;
    let letter = |letter: &DeadLetter| {
        let mut part = vec![
            json!({"name": "event-number", "valueString": letter.event.number.to_string()}),
            json!({"name": "timestamp", "valueInstant": format_instant(letter.event.at)}),
            json!({"name": "since", "valueInstant": format_instant(letter.since)}),
            json!({"name": "error", "valueString": letter.error}),
            json!({"name": "redelivery", "valueBoolean": letter.again}),
        ];
        part.extend(letter.event.stored.as_ref().map(|stored| {
            let to = format!("{}/{}/_history/{}", stored.kind.name(), stored.id, stored.version);
            json!({"name": "focus", "valueReference": {"reference": to}})
        }));
        json!({"name": "dead-letter", "part": part})
    };
    let body = match letters.as_slice() {
        // FHIR has no empty lists.
        [] => json!({"resourceType": "Parameters"}),
        some => {
            json!({"resourceType": "Parameters", "parameter": some.iter().map(letter).collect::<Vec<_>>()})
        }
    };
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(body.to_string()))
}

/// `Subscription/[id]/$redeliver`: they are sent again, those that `eventNumber` names, or all.
pub(crate) async fn redeliver(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = id(&path)?.to_owned();
    let mut numbers = BTreeSet::new();
    for (name, value) in parameters(&request, payload).await? {
        let number = value.parse::<i64>().ok().filter(|number| *number > 0 && name == "eventNumber");
        let why = "there is one parameter, eventNumber: the number of an event; it may repeat";
        numbers.insert(number.ok_or_else(|| Failure::bad_request(why))?);
    }
    let (app, caller) = (caller.app.clone(), caller.now());
    let text = match app.store.redeliver(&caller.context, &id, numbers).await {
        Ok(0) => "there are no dead letters: 0 are sent again".to_owned(),
        Ok(count) => format!("dead letters that are sent again, before what comes next: {count}"),
        Err(store::Error::Invalid(issues)) => return Err(Failure { status: StatusCode::NOT_FOUND, issues }),
        Err(store::Error::Conflict { .. }) => {
            let why = "it is told nothing at present: put its status to requested first";
            return Err(Failure::new(StatusCode::CONFLICT, "conflict", why));
        }
        Err(error) => return Err(error.into()),
    };
    let body = json!({"resourceType": "OperationOutcome", "issue": [{
        "severity": "information", "code": "informational", "details": {"text": text}
    }]});
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(body.to_string()))
}

/// `Subscription/[id]/$get-ws-binding-token`
pub(crate) async fn binding_token(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = alone(&request, &path, payload).await?;
    bound(&caller, vec![id]).await
}

/// `Subscription/$get-ws-binding-token?ids=…`
pub(crate) async fn binding_tokens(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let mut ids = Vec::new();
    for (name, value) in parameters(&request, payload).await? {
        if name != "ids" {
            return Err(Failure::bad_request(format!("no such parameter: {name}; there is ids")));
        }
        let all = value.split(',').filter(|one| !one.is_empty());
        ids.extend(all.map(|one| one.strip_prefix("Subscription/").unwrap_or(one).to_owned()));
    }
    if ids.is_empty() || ids.len() > MOST_BOUND {
        let why = format!("ids names between one and {MOST_BOUND} Subscriptions");
        return Err(Failure::bad_request(why));
    }
    bound(&caller, ids).await
}

async fn bound(caller: &Caller, mut ids: Vec<String>) -> Result<HttpResponse, Failure> {
    let (app, context) = (&caller.app, &caller.context);
    ids.sort_unstable();
    ids.dedup();
    for id in &ids {
        app.store.read(context, ResourceType::SUBSCRIPTION, id).await?;
    }
    let found = app.store.subscriptions(ids).await?;
    if let Some(other) = found.iter().find(|one| one.line.is_empty()) {
        let why = format!("Subscription/{} is not for a websocket", other.id);
        let issue = Issue::error("not-supported", why).at("Subscription.channel.type");
        return Err(Failure::invalid(issue.into()));
    }
    let at = app.store.time(app::now());
    let binding = Binding::new(&found, &context.mandate, at).map_err(|id| {
        let why = format!("Subscription/{id} is told in another's name, who alone may be connected");
        Failure::new(StatusCode::FORBIDDEN, "forbidden", why)
    })?;
    let token = binding.token(&app.smart.secret);
    let token = token.ok_or_else(|| Failure::internal("a token could not be sealed"))?;
    let mut all = vec![
        json!({"name": "token", "valueString": token}),
        json!({"name": "expiration", "valueDateTime": format_instant(binding.expires)}),
    ];
    all.extend(found.iter().map(|one| json!({"name": "subscription", "valueString": one.id})));
    all.push(json!({"name": "websocket-url", "valueUrl": socket::address(&app.config.public_url)}));
    let body = json!({"resourceType": "Parameters", "parameter": all}).to_string();
    let no_store = (header::CACHE_CONTROL, "no-store");
    Ok(HttpResponse::Ok().insert_header(no_store).content_type(FHIR_JSON).body(body))
}

/// `Subscription/[id]/$webhook-secret`: what its endpoint is to check signatures with.
pub(crate) async fn webhook_secret(
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let id = id(&path)?;
    let (mut rotate, mut force) = (false, false);
    for (name, value) in parameters(&request, payload).await? {
        let said = match name.as_str() {
            "rotate" => &mut rotate,
            "force" => &mut force,
            _ => return Err(Failure::bad_request("no such parameter; there are rotate and force")),
        };
        let read = value.parse();
        *said = read.map_err(|_| Failure::bad_request(format!("{name} is true or false")))?;
    }
    let rotate = match (rotate, force) {
        (true, true) => Rotate::AtOnce,
        (true, false) => Rotate::After(OVERLAP),
        (false, false) => Rotate::No,
        (false, true) => return Err(Failure::bad_request("force comes with rotate: true")),
    };
    let (app, caller) = (caller.app.clone(), caller.now());
    let done = if rotate == Rotate::No { "was shown" } else { "was replaced" };
    let note = Note {
        entity: Some((ResourceType::SUBSCRIPTION, id.to_owned(), 0)),
        note: format!("the webhook secret of Subscription/{id} {done}"),
        ..Note::of(Act::Security)
    };
    let found = match app.store.subscription_secret(&caller.context, id, rotate, note).await {
        Err(store::Error::Conflict { .. }) => {
            let rotated = shown(&caller, id.to_owned()).await?.rotated.unwrap_or_default();
            let until = format_instant(rotated + OVERLAP);
            let why = format!(
                "the secret before is used too until {until}, and would not be any more; force=true replaces a \
                 secret at once that others know"
            );
            return Err(Failure::new(StatusCode::CONFLICT, "conflict", why));
        }
        found => found?,
    };
    let (newest, before) = Key::of(&app.smart.secret, &found, app.store.time(caller.context.at));
    let mut all = vec![json!({"name": "secret", "valueString": *newest.text()})];
    all.extend(before.map(|(key, until)| {
        let secret = json!({"name": "secret", "valueString": *key.text()});
        let until = json!({"name": "until", "valueInstant": format_instant(until)});
        json!({"name": "previous", "part": [secret, until]})
    }));
    let body = json!({"resourceType": "Parameters", "parameter": all}).to_string();
    let no_store = (header::CACHE_CONTROL, "no-store");
    Ok(HttpResponse::Ok().insert_header(no_store).content_type(FHIR_JSON).body(body))
}
