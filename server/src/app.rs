//! The long-lived parts of the program.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use fhir::reference::hash_text;
use metrics_exporter_prometheus::PrometheusHandle;
use models::{Catalogue, Settings};
use store::{Activation, Context, Reader, Store};
use zeroize::Zeroizing;

use crate::audit::Standing;
use crate::config::Config;
use crate::health::Pulse;
use crate::http::limits::Limits;
use crate::http::redis::Redis;
use crate::http::refusals::Refusals;
use crate::packages::Claims;
use crate::parts::Parts;
use crate::smart::Smart;
use crate::smart::secret::Secret;
use crate::subscriptions::book::Shelf;
use crate::subscriptions::socket::Lines;

/// How often it is looked for models that others put in use.
const FOLLOW: Duration = Duration::from_secs(1);

/// Everything a request or a worker may need. One per process.
pub struct App {
    /// What the operator said.
    pub config: Config,
    /// Where resources are.
    pub store: Store,
    /// What the operator decided for the models.
    pub settings: Settings,
    /// What a write has to conform to.
    pub claims: Claims,
    /// Where processes count together.
    pub(crate) redis: Option<Arc<Redis>>,
    /// How often may be asked.
    pub(crate) limits: Limits,
    /// How often was refused.
    pub(crate) refusals: Refusals,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// When the process began to serve.
    pub started: DateTime<Utc>,
    /// The authorization server.
    pub(crate) smart: Smart,
    /// Who is told of changes.
    pub(crate) subscriptions: Shelf,
    /// Those who are connected to hear of them.
    pub(crate) lines: Lines,
    /// How it stands with the audit trail.
    pub(crate) standing: Standing,
    /// How it stands with the parts of the tables.
    pub(crate) parts: Parts,
    /// What the store said of itself last.
    pub(crate) pulse: tokio::sync::Mutex<Option<Arc<Pulse>>>,
    /// What this process is called beside others. Who begins anew at the same address is the same, and goes on at
    /// once: what was there before is dead.
    pub(crate) process: Arc<str>,
    active: RwLock<Arc<Active>>,
    /// Held while a model is put in use: what was read is what is replaced.
    pub activating: tokio::sync::Mutex<()>,
}

/// The models in use and what they read.
#[derive(Debug)]
pub struct Active {
    /// All bundles, and which of them are on.
    pub catalogue: Catalogue,
    /// Index values of the LOINC codes that some model in use reads, sorted.
    pub codes: Vec<i64>,
    /// The same with the codes they stand for.
    names: HashMap<i64, Arc<str>>,
}

impl Active {
    fn new(catalogue: Catalogue) -> Self {
        let names: HashMap<i64, Arc<str>> = catalogue
            .active()
            .flat_map(|model| model.manifest.inputs.iter())
            .filter_map(|input| input.observation.as_ref())
            .flat_map(|source| source.codes.iter().chain(source.remarked.keys()))
            .chain(
                catalogue.active().flat_map(|model| model.manifest.population.exclude.iter()).flat_map(
                    |exclusion| exclusion.observation.iter().flat_map(|source| source.codes.iter()),
                ),
            )
            .map(|code| (hash_text(code), Arc::clone(code)))
            .collect();
        let mut codes: Vec<i64> = names.keys().copied().collect();
        codes.sort_unstable();
        Self { catalogue, codes, names }
    }

    /// The LOINC code that an index value stands for, if a model in use reads it.
    pub fn code(&self, value: i64) -> Option<&str> {
        self.names.get(&value).map(AsRef::as_ref)
    }
}

impl App {
    /// Opens the store and loads the models, with the activations the store knows.
    pub async fn open(config: Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let store = open_store(&config).await?;
        let claims = Claims::load(&config)?;
        let mut catalogue = load_catalogue(&config)?;
        use_activated(&mut catalogue, &store).await?;
        let active = RwLock::new(Arc::new(Active::new(catalogue)));
        let settings = settings(&config);
        let redis = Redis::new(&config)?;
        let smart = Smart::open(&config, redis.as_ref())?;
        let activating = tokio::sync::Mutex::default();
        let limits = Limits::new(&config, redis.as_ref());
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let machine = machine.unwrap_or_else(|_| uuid::Uuid::new_v4().simple().to_string());
        let process = format!("{} {}", machine.trim(), config.bind).into();
        Ok(Self {
            process,
            claims,
            config,
            store,
            smart,
            settings,
            redis,
            limits,
            refusals: Refusals::default(),
            metrics,
            started: Utc::now(),
            subscriptions: Shelf::default(),
            lines: Lines::default(),
            standing: Standing::default(),
            parts: Parts::default(),
            pulse: tokio::sync::Mutex::default(),
            active,
            activating,
        })
    }

    /// The models in use, as of now.
    pub fn models(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// An endpoint of the authorization server.
    pub(crate) fn oauth(&self, endpoint: &str) -> String {
        format!("{}/oauth/{endpoint}", self.config.public_url)
    }

    /// Where tokens are got.
    pub(crate) fn token_endpoint(&self) -> String {
        self.oauth("token")
    }

    /// Replaces the models in use.
    pub fn use_models(&self, catalogue: Catalogue) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Active::new(catalogue));
    }
}

/// The store that the settings name, made if it is not there. What a command does is of the database's time too.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    make_data_dir(config)?;
    let options = store::Options {
        auditing: config.auditing,
        site: config.public_url.clone(),
        secret: Some(Secret::load(config)?.audit()),
        event_days: config.event_days,
        replica: config.database_read_url.as_ref().map(|url| Zeroizing::new(url.as_str().to_owned())),
        ..store::Options::default()
    };
    let store = Store::open(&config.database_url, &options).map_err(|error| no_database(config, error))?;
    store.ask_time().await?;
    Ok(store)
}

/// A database file lives in the data folder, if nothing else is said.
pub fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    if config.database_url.starts_with("sqlite:") {
        let wrong = || format!("AUGURY_DATA_DIR (data_dir) {}", config.data_dir.display());
        make_folder(&config.data_dir).with_context(wrong)?;
    }
    Ok(())
}

/// A folder and those above it, where they are missing: for nobody else to look into.
pub(crate) fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(path)
}

/// Names setting and place; a URL with a password in it stays unsaid.
pub fn no_database(config: &Config, error: store::Error) -> anyhow::Error {
    let place = config.database_url.strip_prefix("sqlite:").unwrap_or("of PostgreSQL");
    anyhow::Error::new(error).context(format!("AUGURY_DATABASE_URL (database_url) {place}"))
}

/// The built-in bundles and those under `DATA_DIR/models`.
pub fn load_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::built_in()?;
    let installed = config.data_dir.join("models");
    if installed.is_dir() {
        catalogue.add_tree(&installed).with_context(|| installed.display().to_string())?;
    }
    Ok(catalogue)
}

/// The catalogue as the server uses it: with the activations in the store, if there is a store.
pub async fn load_active_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let mut catalogue = load_catalogue(config)?;
    let file = config.database_url.strip_prefix("sqlite:");
    if file.is_none_or(|file| Path::new(file).exists()) {
        let store = open_store(config).await?;
        use_activated(&mut catalogue, &store).await?;
    }
    Ok(catalogue)
}

/// What others put in use, these use too.
pub(crate) async fn follow_activations(app: Arc<App>) {
    let mut known = Vec::new();
    loop {
        tokio::time::sleep(FOLLOW).await;
        let now = match activations(&app.store).await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "which models are in use can't be read");
                continue;
            }
        };
        if now == known {
            continue;
        }
        let _one_at_a_time = app.activating.lock().await;
        let mut catalogue = app.models().catalogue.clone();
        let other = |one: &Activation| {
            catalogue.get(&one.model).is_none_or(|model| model.identity.version != one.version)
        };
        if now.iter().any(other) {
            use_these(&mut catalogue, &now);
            app.use_models(catalogue);
        }
        known = now;
    }
}

async fn activations(store: &Store) -> Result<Vec<Activation>, store::Error> {
    let read = |reader: &mut Reader<'_>| {
        let known = reader.activations()?;
        Ok(known)
    };
    store.reading(&Context::system("models", now()), read).await
}

async fn use_activated(catalogue: &mut Catalogue, store: &Store) -> anyhow::Result<()> {
    use_these(catalogue, &activations(store).await?);
    Ok(())
}

fn use_these(catalogue: &mut Catalogue, known: &[Activation]) {
    for activation in known {
        if let Err(error) = catalogue.activate(&activation.model, &activation.version) {
            tracing::warn!(%error, "an activated model version is not installed; the built-in one is used");
        }
    }
}

/// Model settings from the operator's.
pub fn settings(config: &Config) -> Settings {
    let mut settings = BTreeMap::new();
    if let Some(region) = &config.region {
        let code = if region == "north-america" { "NA" } else { "nonNA" };
        settings.insert("kfre-region".to_owned(), code.to_owned());
    }
    Settings(settings)
}

/// Microseconds since 1970 UTC.
pub fn now() -> i64 {
    Utc::now().timestamp_micros()
}
