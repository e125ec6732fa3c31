//! `augury serve`: the server, until it is told to end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::http::header;
use actix_web::middleware::{Compress, Condition, DefaultHeaders, from_fn};
use actix_web::{App as Actix, HttpServer, web};
use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use store::{Act, Commit, Context, Entry};

use crate::app::{self, App};
use crate::audit::Keeper;
use crate::clock;
use crate::config::{Auth, Config};
use crate::forward::Forwarder;
use crate::forward::outbound::Outbound;
use crate::http::audited::audited;
use crate::http::caller::is_here;
use crate::http::format::negotiate;
use crate::http::limits::{self, limited};
use crate::http::refusals::sum_up;
use crate::http::request::unpack;
use crate::http::telemetry::measure;
use crate::http::tls;
use crate::subscriptions::{GRACE, Teller};
use crate::{parts, router, scoring};

/// How often is looked for refusals that were not recorded one by one.
const SUM_UP: Duration = Duration::from_secs(10);

pub(super) fn run(config: Config) -> anyhow::Result<ExitCode> {
    actix_web::rt::System::new().block_on(async {
        let running = start(config).await?;
        tracing::info!(address = %running.app.config.bind, "serving");
        running.until_end().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A server that runs, and the worker beside it.
pub(super) struct Running {
    pub(super) app: Arc<App>,
    server: actix_web::dev::Server,
    worker: scoring::worker::Worker,
    teller: Teller,
    keeper: Keeper,
    forwarder: Forwarder,
}

impl Running {
    /// Serves until SIGTERM or Ctrl-C; then requests under way are answered first.
    pub(super) async fn until_end(self) -> anyhow::Result<()> {
        let result = self.server.await;
        sum_up(&self.app, true).await;
        self.worker.stop().await;
        self.teller.stop().await;
        self.keeper.stop().await;
        self.forwarder.stop().await;
        Ok(result?)
    }
}

/// Pages of any origin may ask where every request needs a key, which a browser never adds by itself;
/// where none is needed, only pages of this machine. What an app in a browser needs to get a token asks
/// for no cookie, and is for any origin.
fn cors(config: &Config) -> Cors {
    let (open, public_url) = (config.auth == Auth::Open, config.public_url.clone());
    Cors::default()
        .allowed_origin_fn(move |origin, request| {
            let path = request.uri.path();
            let any = ["/.well-known/", "/fhir/.well-known/", "/fhir/metadata"];
            let tokens = ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/smart-style.json"];
            !open
                || any.iter().any(|one| path.starts_with(one))
                || tokens.contains(&path)
                || origin.to_str().is_ok_and(|origin| is_here(origin, &public_url))
        })
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allow_any_header()
        .expose_headers([header::ETAG, header::LOCATION, header::LAST_MODIFIED])
        .expose_headers([header::RETRY_AFTER, limits::POLICY, limits::STATE])
        .expose_headers(["x-request-id"])
        .max_age(3600)
}

/// With which settings the server began, by their names alone: values may be secrets.
async fn configured(app: &App) -> Result<(), store::Error> {
    let note = format!("settings that are not as by default: {}", app.config.said.join(", "));
    let notes = vec![Entry { note, ..Entry::of(Act::Configure) }];
    let context = Context::system("server", app::now());
    app.store.commit(&context, Commit { notes, ..Commit::default() }).await.map(drop)
}

/// A rate of nobody is a mistake, but none that keeps others waiting. Whom another issuer calls a client is
/// not known here.
async fn warn_of_rates(app: &App) -> Result<(), store::Error> {
    if app.config.client_rates.is_empty() || app.config.foreign.is_some() {
        return Ok(());
    }
    let context = Context::system("start", app::now());
    let (callers, apps) = (app.store.clients(&context).await?, app.store.smart_clients(&context).await?);
    let known: Vec<&str> =
        callers.iter().map(|one| &*one.id).chain(apps.iter().map(|one| &*one.id)).collect();
    for (id, _) in app.config.client_rates.iter().filter(|(id, _)| !known.contains(&&**id)) {
        tracing::warn!(id, "AUGURY_CLIENT_RATES (client_rates) names a client that is not there");
    }
    Ok(())
}

/// Connections that stay open keep the server from ending, and what is told goes on elsewhere while requests are
/// answered here: both have to know of it.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            let interrupted = tokio::signal::ctrl_c();
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Opens the store, loads the models, binds the address.
pub(super) async fn start(config: Config) -> anyhow::Result<Running> {
    if config.auth == Auth::Open {
        tracing::warn!(address = %config.bind, "open access: anybody on this machine may read and write");
    }
    let buckets = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &buckets)?
        .install_recorder()?;
    let (bind, encrypted) = (config.bind, config.tls.clone());
    let app = Arc::new(App::open(config, metrics).await?);
    scoring::device::publish(&app).await?;
    let worker = scoring::worker::Worker::start(&app);
    let outbound = Outbound::new(&app.config.trail)?;
    let keeper = Keeper::start(&app, outbound.as_ref()).await?;
    configured(&app).await?;
    warn_of_rates(&app).await?;
    if let Some(redis) = &app.redis {
        Arc::clone(redis).start().await?;
    }
    app.store.follow()?;
    let summed = Arc::clone(&app);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SUM_UP).await;
            sum_up(&summed, false).await;
        }
    });
    let (tls, judge) = encrypted
        .as_ref()
        .map(tls::accept)
        .transpose()?
        .map_or((None, None), |(tls, judge)| (Some(tls), judge));
    let shared = Arc::clone(&app);
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(web::Data::from(Arc::clone(&shared)))
            .configure(router::configure)
            .wrap(from_fn(unpack))
            .wrap(from_fn(negotiate))
            .wrap(Condition::new(true, Compress::default()))
            .wrap(from_fn(limited))
            .wrap(from_fn(audited))
            .wrap(cors(&shared.config))
            // Around whatever answers by itself.
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Cache-Control", "no-store"))
                    .add(("Referrer-Policy", "no-referrer"))
                    .add(("X-Frame-Options", "DENY")),
            )
            .wrap(Condition::new(
                shared.config.public_url.starts_with("https:"),
                DefaultHeaders::new().add(("Strict-Transport-Security", "max-age=63072000")),
            ))
            .wrap(from_fn(measure))
    })
    .workers(std::thread::available_parallelism().map_or(2, usize::from))
    .keep_alive(Duration::from_secs(75))
    .shutdown_timeout(GRACE.as_secs())
    .on_connect(move |connection, data| tls::remember(&judge, connection, data));
    let server = match tls {
        Some(tls) => server.bind_rustls_0_23(bind, tls),
        None => server.bind(bind),
    };
    let server = server.with_context(|| format!("AUGURY_BIND (bind) {bind}"))?.run();
    let forwarder = Forwarder::start(&app, outbound.as_ref());
    let teller = Teller::start(&app).await?;
    tokio::spawn(app::follow_activations(Arc::clone(&app)));
    tokio::spawn(parts::keep(Arc::clone(&app)));
    tokio::spawn(clock::watch(Arc::clone(&app)));
    let ending = Arc::clone(&app);
    tokio::spawn(async move {
        told_to_end().await;
        ending.lines.end();
    });
    Ok(Running { app, server, worker, teller, keeper, forwarder })
}
