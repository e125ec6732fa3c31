//! Those who are shown the heads of the log, so that somebody knows it by what the database has no power
//! over: files, who is called by HTTP, and syslog servers. Each has its own pace; none stops another.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use reqwest::header::CONTENT_TYPE;
use store::Witnessed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::app::{self, App};
use crate::config::{Address, Trail};
use crate::forward::outbound::{Outbound, PATIENCE};
use crate::forward::syslog::{Message, Severity};

/// A head is shown so often at most; the last one always.
const SHOWN: Duration = Duration::from_mins(1);
/// After a failure it is tried again so soon, and each time later.
const AGAIN: Duration = Duration::from_secs(1);
/// At the end nobody waits longer for a witness, whatever it was busy with.
const LAST: Duration = Duration::from_secs(5);
/// A syslog server that refuses what it was sent says so within this time.
const HEARD: Duration = Duration::from_secs(2);
/// The last head in a file is within so many bytes of its end.
const TAIL: i64 = 8 << 10;

/// What there is to show.
#[derive(Debug, Clone, Default)]
struct News {
    head: Option<Arc<str>>,
    ends: bool,
}

/// All of them, at work.
pub(super) struct Witnesses {
    news: watch::Sender<News>,
    work: Vec<JoinHandle<()>>,
}

impl Witnesses {
    pub(super) fn start(app: &Arc<App>, outbound: Option<&Outbound>) -> Self {
        let (news, updates) = watch::channel(News::default());
        let one = |address: &Address| {
            let witness =
                Witness { app: Arc::clone(app), address: address.clone(), outbound: outbound.cloned() };
            tokio::spawn(witness.work(updates.clone()))
        };
        let work = app.config.trail.witnesses.iter().map(one).collect();
        Self { news, work }
    }

    /// There is a new head.
    pub(super) fn show(&self, head: String) {
        self.news.send_modify(|news| news.head = Some(head.into()));
    }

    /// Shows the last one.
    pub(super) async fn stop(self) {
        self.news.send_modify(|news| news.ends = true);
        for work in self.work {
            let _ = work.await;
        }
    }
}

struct Witness {
    app: Arc<App>,
    address: Address,
    outbound: Option<Outbound>,
}

impl Witness {
    async fn work(self, mut updates: watch::Receiver<News>) {
        let (name, mut due, mut pause) = (self.address.name(), Instant::now(), AGAIN);
        let mut shown: Option<Arc<str>> = None;
        let mut end: Option<Instant> = None;
        loop {
            let news = |news: &News| news.ends || news.head != shown;
            let Ok(news) = updates.wait_for(news).await.map(|news| news.clone()) else { return };
            if !news.ends {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = async { let _ = updates.wait_for(|news| news.ends).await; } => {}
                }
            }
            let News { head, ends } = updates.borrow().clone();
            let Some(head) = head.filter(|head| shown.as_ref() != Some(head)) else {
                if ends {
                    return;
                }
                continue;
            };
            let overdue = async {
                let patience = Instant::now() + PATIENCE;
                tokio::select! {
                    () = sleep_until(patience) => return,
                    // Fails only if nobody is left to say that it ends.
                    _ = updates.wait_for(|news| news.ends) => {}
                }
                sleep_until(*end.get_or_insert_with(|| Instant::now() + LAST)).await;
            };
            let done = tokio::select! {
                done = self.show(&head) => done,
                () = overdue => Err(anyhow!("no answer in time")),
            };
            match done {
                Ok(()) => {
                    self.app.standing.witness(&name, None);
                    (shown, due, pause) = (Some(head), Instant::now() + SHOWN, AGAIN);
                }
                Err(error) => {
                    metrics::counter!("augury_audit_witness_failures_total", "witness" => name.clone())
                        .increment(1);
                    tracing::error!(witness = name, error = %format_args!("{error:#}"), "the head of the audit log could not be shown");
                    self.app.standing.witness(&name, Some(app::now()));
                    due = Instant::now() + pause;
                    pause = (pause * 2).min(SHOWN);
                }
            }
            if ends {
                return;
            }
        }
    }

    async fn show(&self, head: &Arc<str>) -> anyhow::Result<()> {
        let outbound = || self.outbound.as_ref().context("there are no connections");
        match &self.address {
            Address::File(path) => {
                let (path, head) = (path.clone(), Arc::clone(head));
                tokio::task::spawn_blocking(move || add(&path, &head)).await??;
            }
            Address::Web(url) => {
                let mut request =
                    outbound()?.http.post(url.clone()).header(CONTENT_TYPE, "text/plain; charset=utf-8");
                for (name, value) in self.app.config.trail.headers(url) {
                    request = request.header(name, value);
                }
                // The address may hold a secret: it stays out of the log.
                let answer =
                    request.body(head.to_string()).send().await.map_err(reqwest::Error::without_url)?;
                ensure!(answer.status().is_success(), "it answered {}", answer.status());
            }
            Address::Syslog { host, port, tls } => {
                let mut stream = outbound()?.connect(host, *port, *tls).await?;
                let message = Message {
                    severity: Severity::Notice,
                    at: app::now(),
                    host: self.app.config.host(),
                    kind: "audit-head",
                    id: "",
                    text: head,
                };
                stream.write_all(&message.frame()).await?;
                stream.flush().await?;
                stream.shutdown().await?;
                // Who refuses our certificate says so only after it was sent.
                if let Ok(answer) = timeout(HEARD, stream.read(&mut [0; 64])).await {
                    answer?;
                }
            }
        }
        Ok(())
    }
}

/// For nobody else to read: when a log grew is not everybody's business.
fn add(path: &Path, head: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        app::make_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{head}\n").as_bytes())?;
    Ok(file.sync_data()?)
}

fn files(trail: &Trail) -> impl Iterator<Item = &PathBuf> {
    trail.witnesses.iter().filter_map(|one| match one {
        Address::File(path) => Some(path),
        _ => None,
    })
}

/// What the witnesses know that are files.
pub(crate) fn read(trail: &Trail) -> anyhow::Result<Witnessed> {
    let mut witnessed = Witnessed::default();
    for path in files(trail) {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => witnessed.heads.extend(heads(&text)),
            Ok(_) => witnessed.missing.push(path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                witnessed.missing.push(path.display().to_string());
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    Ok(witnessed)
}

/// The last head in each file.
pub(crate) fn newest(trail: &Trail) -> Vec<String> {
    let last = |path: &PathBuf| -> std::io::Result<Option<String>> {
        let mut file = std::fs::File::open(path)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-length.min(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(heads(&String::from_utf8_lossy(&bytes)).pop())
    };
    files(trail).filter_map(|path| last(path).ok().flatten()).collect()
}

/// The heads in a witness's file.
pub(crate) fn heads(text: &str) -> Vec<String> {
    // A signed note ends with its signatures; the next one begins after an empty line.
    let mut heads: Vec<String> = Vec::new();
    let mut signed = true;
    for line in text.split_inclusive('\n') {
        if signed && line.trim().is_empty() {
            continue;
        }
        let signature = line.starts_with('\u{2014}');
        match heads.last_mut() {
            Some(head) if !signed || signature => head.push_str(line),
            _ => heads.push(line.to_owned()),
        }
        signed = signature;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart() {
        let one = "log\n1\nroot\n\n\u{2014} log sig\n";
        let two = "log\n2\nroot\n\n\u{2014} log sig\n\u{2014} other sig\n";
        assert_eq!(heads(&format!("{one}\n{two}\n{one}\n")), [one, two, one]);
        assert!(heads("").is_empty());
    }
}
