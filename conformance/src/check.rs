//! What a check is, and how all of them are run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::server::Server;

/// Why a check ended before its end.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// The server does not do what the section asks.
    Fail(String),
    /// The server says that it has no such thing.
    Skip(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Fail(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::Fail(why.to_owned())
    }
}

/// What came of a check.
pub(crate) type Outcome = Result<(), Stop>;

/// Where SMART App Launch and Subscriptions Backport are, below <https://hl7.org/fhir/>.
const GUIDES: [&str; 2] = ["smart-app-launch/STU2.2/", "uv/subscriptions-backport/STU1.1/"];

type Run = Box<dyn Fn(&Server) -> Outcome + Send + Sync>;

/// One thing a server must do.
pub(crate) struct Check {
    /// Stays the same for as long as the check means the same: `chapter/name`.
    pub(crate) id: String,
    /// Page and anchor of <https://hl7.org/fhir/R4/>, or of one of [`GUIDES`] if it begins so.
    pub(crate) section: &'static str,
    /// What must hold.
    pub(crate) title: String,
    /// Claims of the CapabilityStatement without which it is skipped; see [`crate::server::Claims`].
    needs: Vec<String>,
    run: Run,
}

impl Check {
    pub(crate) fn new(
        id: impl Into<String>,
        section: &'static str,
        title: impl Into<String>,
        needs: &[&str],
        run: impl Fn(&Server) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        Self { id: id.into(), section, title: title.into(), needs, run: Box::new(run) }
    }

    /// The address of the section.
    pub(crate) fn address(&self) -> String {
        let guide = GUIDES.iter().any(|guide| self.section.starts_with(guide));
        let version = if guide { "" } else { "R4/" };
        format!("https://hl7.org/fhir/{version}{}", self.section)
    }

    /// The part of the id before the last name.
    pub(crate) fn chapter(&self) -> &str {
        self.id.rsplit_once('/').map_or(self.id.as_str(), |(chapter, _)| chapter)
    }
}

/// A check and what came of it.
pub(crate) struct Done {
    pub(crate) check: Check,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl Done {
    pub(crate) fn failed(&self) -> bool {
        matches!(self.outcome, Err(Stop::Fail(_)))
    }
}

/// Holds unless `why`.
pub(crate) fn ensure(holds: bool, why: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Fail(why.into())) }
}

/// Runs all of them, some at a time; the results are in the order of the checks.
pub(crate) fn run(server: &Server, checks: Vec<Check>, threads: usize) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(checks.len()));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(check) = checks.get(place) else { return };
            let began = Instant::now();
            let outcome = match server.claims().lacks(&check.needs) {
                Some(need) => Err(Stop::Skip(format!("not claimed: {need}"))),
                None => (check.run)(server),
            };
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((place, outcome, began.elapsed()));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(place, ..)| *place);
    let together = checks.into_iter().zip(outcomes);
    together.map(|(check, (_, outcome, took))| Done { check, outcome, took }).collect()
}
