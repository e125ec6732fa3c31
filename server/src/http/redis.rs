//! Buckets that all processes take from, in Redis. While Redis is away or slow, each has its own.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{Client, Script};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::smart::secret::Secret;

/// What has not answered in this time is away.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often is looked whether Redis is here; what was lost is not asked before.
const LOOK: Duration = Duration::from_secs(1);

/// GCRA: all that is kept of a bucket is when it will be full again, by the clock of Redis, until then.
const TAKE: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + each
local over = full - now - each * burst
if over > 0 then return {0, over} end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {math.floor(-over / each), 0}
";

/// The way to it.
pub(crate) struct Redis {
    client: Client,
    script: Script,
    secret: Secret,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    /// That there is none was said in the log.
    is_told: bool,
}

impl Redis {
    /// As the settings say; nobody is connected to yet.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(url) = &config.redis_url else { return Ok(None) };
        let client = Client::open(url.as_str()).context("AUGURY_REDIS_URL (redis_url)")?;
        let (script, secret) = (Script::new(TAKE), Secret::load(config)?);
        Ok(Some(Arc::new(Self { client, script, secret, line: Mutex::default() })))
    }

    /// Connects, again whenever it has to, on a thread of its own: an answer of Redis must not wait for
    /// what a request or a model computes.
    pub(crate) async fn start(self: Arc<Self>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (looked, first) = oneshot::channel();
        let keep = async move {
            let mut looked = Some(looked);
            loop {
                if let Err(error) = self.look().await {
                    self.lose(&error);
                }
                let _ = looked.take().map(|looked| looked.send(()));
                sleep(LOOK).await;
            }
        };
        std::thread::Builder::new().name("redis".to_owned()).spawn(move || runtime.block_on(keep))?;
        Ok(first.await?)
    }

    /// Does it answer?
    pub(crate) fn is_here(&self) -> bool {
        self.line().connection.is_some()
    }

    /// Takes a token out of a bucket that gets one `each` so often: how many are left, or how long to wait.
    /// Nothing is said while Redis is away.
    pub(crate) async fn take(
        &self,
        (kind, key): (&str, &str),
        each: Duration,
        burst: NonZeroU32,
    ) -> Option<Result<u32, Duration>> {
        let connection = self.line().connection.clone()?;
        // Addresses are few enough to be guessed from a plain hash.
        let bucket = self.secret.code("bucket", &[kind, key]);
        let taken = self.ask(connection, &bucket, each, burst).await;
        taken.inspect_err(|error| self.lose(error)).ok()
    }

    async fn ask(
        &self,
        mut connection: MultiplexedConnection,
        bucket: &str,
        each: Duration,
        burst: NonZeroU32,
    ) -> anyhow::Result<Result<u32, Duration>> {
        let mut call = self.script.key(format!("augury:{bucket}"));
        let each = u64::try_from(each.as_micros())?.max(1);
        let asked = call.arg(each).arg(burst.get()).invoke_async(&mut connection);
        let (left, wait): (u32, u64) =
            timeout(PATIENCE, asked).await.map_err(|_| anyhow::anyhow!("no answer in time"))??;
        Ok(if wait == 0 { Ok(left) } else { Err(Duration::from_micros(wait)) })
    }

    /// Redis is here if it does what requests ask of it.
    async fn look(&self) -> anyhow::Result<()> {
        let known = self.line().connection.clone();
        let connection = match known {
            Some(connection) => connection,
            None => self.client.get_multiplexed_async_connection().await?,
        };
        let _ = self.ask(connection.clone(), "look", LOOK, NonZeroU32::MIN).await?;
        let mut line = self.line();
        line.is_told = false;
        if line.connection.replace(connection).is_none() {
            tracing::info!("Redis is here: all processes count requests together");
        }
        Ok(())
    }

    fn lose(&self, error: &anyhow::Error) {
        let mut line = self.line();
        line.connection = None;
        if !std::mem::replace(&mut line.is_told, true) {
            metrics::counter!("augury_redis_lost_total").increment(1);
            tracing::warn!(%error, "Redis is away: each process counts requests by itself");
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
