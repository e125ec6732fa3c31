//! FHIR packages on disk (<https://hl7.org/fhir/R4/packages.html>): a `.tgz` or the folder it unpacks to.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, bail, ensure};
use fhir::json::{Json, parse};
use fhir::outcome::Issues;
use fhir::profile::Profiles;
use fhir::subscription::Topics;
use flate2::read::GzDecoder;

use crate::config::Config;
use crate::http::request::LIMITS;
use crate::outside::Reach;
use crate::subscriptions;

/// What a package may measure unpacked.
const MOST_BYTES: u64 = 1 << 30;

/// What resources are checked against when they are written.
#[derive(Debug, Clone)]
pub struct Claims {
    /// All definitions there are.
    pub profiles: Arc<Profiles>,
    /// Every profile that `meta.profile` names counts, not only vital signs and our own.
    pub all: bool,
    /// This server's FHIR address.
    base: String,
    /// Where Subscriptions may have something sent to.
    reach: Reach,
    /// What Subscriptions may be about.
    topics: Arc<RwLock<Arc<Topics>>>,
}

impl Claims {
    /// The definitions of packages, besides the built-in ones.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let profiles = Arc::new(load(&config.packages)?);
        Ok(Self {
            profiles,
            all: config.validate_claims,
            base: config.fhir_base(),
            reach: config.reach(),
            topics: Arc::default(),
        })
    }

    /// Findings of a resource against the profiles it claims, and of what is kept to against how it can be.
    pub fn check(&self, resource: &Json) -> Issues {
        let mut issues = fhir::conformance::claimed(resource, &self.profiles, self.all);
        issues.0.extend(self.kept_to(resource).0);
        // What a transaction writes is to be kept to as what comes by itself.
        if let (Some("Bundle"), Some("transaction")) = (resource.text("resourceType"), resource.text("type"))
        {
            for (n, entry) in resource.list("entry").iter().enumerate() {
                let Some(inner) = entry.get("resource") else { continue };
                let kind = inner.text("resourceType").unwrap_or_default();
                issues.0.extend(self.kept_to(inner).0.into_iter().map(|issue| {
                    let below = issue.expression.strip_prefix(kind).unwrap_or_default();
                    let at = format!("Bundle.entry[{n}].resource{below}");
                    issue.at(at)
                }));
            }
        }
        issues
    }

    /// Findings of what this server does what it says, against what it can do.
    pub(crate) fn kept_to(&self, resource: &Json) -> Issues {
        match resource.text("resourceType") {
            Some("Subscription") => {
                let topics = Arc::clone(&self.topics.read().unwrap_or_else(PoisonError::into_inner));
                subscriptions::findings(resource, &topics, &self.base, &self.reach)
            }
            Some("Basic") => subscriptions::findings_of_topic(resource),
            _ => Issues::default(),
        }
    }

    /// These are the topics that there are now.
    pub(crate) fn know(&self, topics: &Arc<Topics>) {
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(topics);
    }
}

/// The definitions of the packages at those paths.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Profiles> {
    let mut profiles = Profiles::new();
    for path in paths {
        let added = add(&mut profiles, path).with_context(|| format!("package {}", path.display()))?;
        ensure!(added > 0, "package {}: there are no definitions in it", path.display());
    }
    Ok(profiles)
}

fn add(profiles: &mut Profiles, path: &Path) -> anyhow::Result<usize> {
    let mut added = 0;
    if path.is_dir() {
        let inner = path.join("package");
        let folder = if inner.is_dir() { inner } else { path.to_owned() };
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for file in files.iter().filter(|file| is_json(file)) {
            let text = std::fs::read(file)?;
            added += usize::from(take(profiles, file, &text)?);
        }
        return Ok(added);
    }
    let file = std::fs::File::open(path)?;
    let mut archive = tar::Archive::new(GzDecoder::new(file).take(MOST_BYTES));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let at_top = name.parent() == Some(Path::new("package"));
        if !at_top || !is_json(&name) || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut text = Vec::new();
        entry.by_ref().take(LIMITS.bytes as u64 + 1).read_to_end(&mut text)?;
        added += usize::from(take(profiles, &name, &text)?);
    }
    Ok(added)
}

fn is_json(path: &Path) -> bool {
    // `.index.json` is about the other files.
    path.extension().is_some_and(|end| end == "json")
        && path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
}

fn take(profiles: &mut Profiles, path: &Path, text: &[u8]) -> anyhow::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let content = parse(text, &LIMITS).map_err(|issues| anyhow::anyhow!("{name}: {issues}"))?;
    if name == "package.json" {
        let versions = content.list("fhirVersions").iter().chain(content.list("fhir-version-list"));
        let versions: Vec<&str> = versions.filter_map(Json::as_str).collect();
        if !versions.is_empty() && !versions.iter().any(|version| version.starts_with("4.0")) {
            bail!("it is for FHIR {}, not for R4", versions.join(", "));
        }
        return Ok(false);
    }
    Ok(profiles.add(&content))
}
