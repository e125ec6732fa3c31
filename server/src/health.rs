//! What the operator asks: is it alive, is it ready, how is it.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, Responder, web};
use serde_json::{Value, json};
use store::{Astray, Backlog, Context, Deliveries, Destination, Error, Following, Lag, Schema};

use crate::api::schema;
use crate::app::{self, App};
use crate::clock;
use crate::config::Address;

/// What was recorded should be in the signed log after so many seconds.
const LATE: i64 = 60;

/// And after so many everybody should have it whom events are sent to.
const BEHIND: i64 = 600;

/// And after so many every subscriber should have been told.
const UNTOLD: i64 = 300;

/// What is to be known where the last parts of tables go on.
const PARTS: &str = "those that are to come can't be made; the log says why";

/// What the store says of itself.
pub(crate) struct Pulse {
    /// When it was asked.
    asked: Instant,
    backlog: Result<Backlog, Error>,
    schema: Option<Schema>,
    lag: Option<Lag>,
    receivers: Vec<Destination>,
    deliveries: Option<Deliveries>,
}

/// What the store says now. Anybody may ask, and it counts: all who wait meanwhile share one answer.
async fn pulse(app: &App) -> Arc<Pulse> {
    let came = Instant::now();
    let mut last = app.pulse.lock().await;
    if let Some(pulse) = last.as_ref().filter(|pulse| pulse.asked >= came) {
        return Arc::clone(pulse);
    }
    let (asked, context) = (Instant::now(), Context::system("health", app::now()));
    let pulse = Arc::new(Pulse {
        asked,
        backlog: app.store.backlog(&context).await,
        schema: app.store.schema().await.ok(),
        lag: app.store.audit_lag(&context).await.ok(),
        receivers: receivers(app, &context).await,
        deliveries: app.store.deliveries().await.ok(),
    });
    *last = Some(Arc::clone(&pulse));
    pulse
}

/// Alive.
#[utoipa::path(get, path = "/health/live", summary = "Is the process alive?", responses((status = 200, description = "it is", body = schema::Status)))]
pub(crate) async fn live() -> impl Responder {
    web::Json(json!({"status": "ok"}))
}

/// Ready to answer.
#[utoipa::path(get, path = "/health/ready", summary = "Does the store answer, take writes, and serve this version?",
    responses((status = 200, description = "it does", body = schema::Status), (status = 503, description = "it does not; send nothing here", body = schema::Status)))]
pub(crate) async fn ready(app: web::Data<App>) -> HttpResponse {
    match app.store.ping(&Context::system("health", app::now())).await {
        Ok(()) => HttpResponse::Ok().json(json!({"status": "ok"})),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            HttpResponse::ServiceUnavailable().json(json!({"status": "unavailable"}))
        }
    }
}

/// All there is to know.
#[utoipa::path(get, path = "/health", summary = "Version, store, scoring queue, models in use",
    responses((status = 200, description = "well", body = schema::Health), (status = 503, description = "the store does not answer", body = schema::Health)))]
pub(crate) async fn report(app: web::Data<App>) -> HttpResponse {
    let now = app::now();
    let models: Vec<_> = app
        .models()
        .catalogue
        .active()
        .map(|model| json!({"id": model.identity.id, "version": model.identity.version}))
        .collect();
    let pulse = pulse(&app).await;
    let (code, status, store, queue) = match &pulse.backlog {
        Ok(Backlog { waiting, oldest, put_off }) => {
            let backend =
                if app.config.database_url.starts_with("sqlite:") { "sqlite" } else { "postgresql" };
            let lag = oldest.map_or(0, |oldest| app.store.time(now).saturating_sub(oldest).max(0) / 1000);
            let queue = json!({"waiting": waiting, "lag_ms": lag, "put_off": put_off});
            let status = if *put_off > 0 { "degraded" } else { "ok" };
            let (schema, parts) = (pulse.schema.as_ref().map(schema_of), app.parts.fail().then_some(PARTS));
            let store = json!({"backend": backend, "schema": schema, "parts": parts});
            // What the database serves no more may find anything there.
            let is_served = pulse.schema.is_none_or(Schema::is_served);
            let code = if is_served { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (code, if is_served { status } else { "unavailable" }, store, queue)
        }
        Err(error) => {
            tracing::warn!(%error, "the store does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", json!(null), json!(null))
        }
    };
    let (audit, worried) = trail(&app, &pulse, now);
    let (deliveries, untold) =
        pulse.deliveries.as_ref().map(|all| subscriptions(all, now)).unwrap_or_default();
    let worried = worried || untold || app.parts.fail();
    let status = if worried && status == "ok" { "degraded" } else { status };
    let is_here = app.redis.as_ref().map(|redis| redis.is_here());
    let status = if is_here == Some(false) && status == "ok" { "degraded" } else { status };
    let following = app.store.following();
    let aside = following.as_ref().is_some_and(|following| following.why.is_some());
    let status = if aside && status == "ok" { "degraded" } else { status };
    let (clock, is_off) = clock::health(&app);
    let status = if is_off && status == "ok" { "degraded" } else { status };
    HttpResponse::build(code).json(json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "started": app.started.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "store": store,
        "queue": queue,
        "audit": audit,
        "subscriptions": deliveries,
        "clock": clock,
        "replica": following.as_ref().map(replica),
        "redis": is_here.map(|here| json!({"status": if here { "ok" } else { "unavailable" }})),
        "models": models,
    }))
}

/// How the schemas of program and database stand to each other.
fn schema_of(Schema { program, database, oldest }: &Schema) -> Value {
    json!({"program": program, "database": database, "oldest": oldest})
}

/// How it stands with the replica.
fn replica(Following { why, lag, .. }: &Following) -> Value {
    let status = if why.is_none() { "ok" } else { "unavailable" };
    json!({"status": status, "why": why, "lag_bytes": lag})
}

/// How it stands with the audit trail; and is that worse than it should be?
fn trail(app: &App, pulse: &Pulse, now: i64) -> (Value, bool) {
    let known = pulse.lag.is_some();
    let Lag { oldest, held } = pulse.lag.unwrap_or_default();
    let since = |then: i64| now.saturating_sub(then).max(0) / 1_000_000;
    let unsealed = oldest.map_or(0, since);
    let (astray, tables, vanished) = (app.standing.astray(), app.standing.tables(), app.standing.vanished());
    let harmed = astray.is_some() || !tables.is_empty() || vanished > 0;
    let behind = pulse.receivers.iter().any(|one| one.oldest.is_some_and(|oldest| since(oldest) > BEHIND));
    let forward: Vec<Value> = pulse
        .receivers
        .iter()
        .map(|one| json!({"to": one.name, "waiting": one.waiting, "oldest_s": one.oldest.map(since)}))
        .collect();
    let audit = json!({
        "unsealed_s": unsealed,
        // On PostgreSQL any transaction that has written into this database holds sealing back while it is open.
        "open_transaction_s": held.map(since),
        "astray": astray.map(|Astray { known, found, why }| json!({"known": known, "found": found, "why": why})),
        "tables": tables,
        "vanished": vanished,
        "witnesses_failing": app.standing.failing(),
        "forward": forward,
    });
    (audit, !known || unsealed > LATE || harmed || behind)
}

/// How it stands with Subscriptions; and does somebody wait for too long?
fn subscriptions(all: &Deliveries, now: i64) -> (Value, bool) {
    let oldest = all.oldest.map(|oldest| now.saturating_sub(oldest).max(0) / 1_000_000);
    let told = json!({
        "requested": all.requested,
        "active": all.active,
        "failing": all.failing,
        "error": all.error,
        "undelivered": all.undelivered,
        "oldest_s": oldest,
        "dead": all.dead,
        "changes": all.changes,
    });
    (told, oldest.is_some_and(|oldest| oldest > UNTOLD))
}

/// Those that events are sent to, as far as the settings still say so.
async fn receivers(app: &App, context: &Context) -> Vec<Destination> {
    if app.config.trail.forward.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = app.config.trail.forward.iter().map(Address::name).collect();
    let all = app.store.destinations(context).await.unwrap_or_default();
    all.into_iter().filter(|one| names.contains(&one.name)).collect()
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", summary = "Metrics in Prometheus' text format", responses((status = 200, description = "the metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")))]
pub(crate) async fn metrics(app: web::Data<App>) -> HttpResponse {
    let pulse = pulse(&app).await;
    if let Ok(Backlog { waiting, oldest, put_off }) = pulse.backlog {
        #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
        {
            metrics::gauge!("augury_queue_waiting").set(waiting as f64);
            metrics::gauge!("augury_queue_put_off").set(put_off as f64);
            let now = app.store.time(app::now());
            let lag = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
            metrics::gauge!("augury_queue_lag_seconds").set(lag as f64 / 1e6);
        }
    }
    if let Some(Lag { oldest, held }) = pulse.lag {
        #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
        let since =
            |then: Option<i64>| then.map_or(0, |then| app::now().saturating_sub(then).max(0)) as f64 / 1e6;
        for one in &pulse.receivers {
            #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
            metrics::gauge!("augury_audit_forward_waiting", "receiver" => one.name.clone())
                .set(one.waiting as f64);
            metrics::gauge!("augury_audit_forward_oldest_seconds", "receiver" => one.name.clone())
                .set(since(one.oldest));
        }
        metrics::gauge!("augury_audit_unsealed_seconds").set(since(oldest));
        metrics::gauge!("augury_audit_open_transaction_seconds").set(since(held));
    }
    if let Some(all) = &pulse.deliveries {
        #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
        {
            let states = [("requested", all.requested), ("active", all.active), ("error", all.error)];
            for (status, count) in states {
                metrics::gauge!("augury_subscriptions", "status" => status).set(count as f64);
            }
            metrics::gauge!("augury_subscriptions_failing").set(all.failing as f64);
            metrics::gauge!("augury_subscription_dead_letters").set(all.dead as f64);
            metrics::gauge!("augury_subscription_events_undelivered").set(all.undelivered as f64);
            let oldest = all.oldest.map_or(0, |oldest| app::now().saturating_sub(oldest).max(0));
            metrics::gauge!("augury_subscription_oldest_seconds").set(oldest as f64 / 1e6);
            app.subscriptions.measure(&all.behind);
            metrics::gauge!("augury_subscription_changes_waiting").set(all.changes as f64);
        }
    }
    if let Some(Following { why, lag, by_replica, by_primary }) = app.store.following() {
        metrics::counter!("augury_reads_total", "by" => "replica").absolute(by_replica);
        metrics::counter!("augury_reads_total", "by" => "primary").absolute(by_primary);
        metrics::gauge!("augury_replica_up").set(f64::from(u8::from(why.is_none())));
        #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
        metrics::gauge!("augury_replica_lag_bytes").set(lag.unwrap_or_default() as f64);
    }
    clock::measure(&app);
    if let Some(redis) = &app.redis {
        metrics::gauge!("augury_redis_up").set(f64::from(u8::from(redis.is_here())));
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics.render())
}
