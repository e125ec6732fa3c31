//! A model bundle: read, checked, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use fhir::json::{Json, Limits, parse};
use sha2::{Digest, Sha256};

use crate::assess::Settings;
use crate::assessment::ModelIdentity;
use crate::formula::{Formula, Names};
use crate::graph::Graph;
use crate::inputs::{self, Columns, Excluded, Input};
use crate::manifest::{Link, Manifest, NetworkSpec, OutputKind, OutputSpec};
use crate::vectors;
use crate::vocabulary::Vocabulary;

/// Why a bundle can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file system.
    #[error("{path}: {reason}")]
    File {
        /// Which file or folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle contradicts itself.
    #[error("model {model}: {reason}")]
    Manifest {
        /// Which model.
        model: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle does not reproduce its own vectors.
    #[error("model {model} does not reproduce its own vectors: {reason}")]
    Vectors {
        /// Which model.
        model: String,
        /// Which vector, by how much.
        reason: String,
    },
    /// Nothing by that name and version.
    #[error("no model {0}")]
    Unknown(String),
}

/// The files of a bundle by name.
pub(crate) type Files<'f> = BTreeMap<&'f str, &'f [u8]>;

/// One version of one model, ready to score.
#[derive(Debug)]
pub struct Model {
    /// Id, version, digest.
    pub identity: Arc<ModelIdentity>,
    /// What `model.json` says.
    pub manifest: Manifest,
    /// The model card, Markdown.
    pub card: String,
    pub(crate) inputs: Vec<Input>,
    pub(crate) columns: Columns,
    pub(crate) variables: Vec<Formula>,
    pub(crate) features: Vec<Formula>,
    /// Contribution groups: label, and the group of each feature.
    pub(crate) groups: Vec<Arc<str>>,
    pub(crate) group_of: Vec<usize>,
    pub(crate) reference: Vec<f64>,
    /// Formula of each stratum; none holds for everybody.
    pub(crate) strata: Vec<Option<Formula>>,
    pub(crate) graph: Graph,
    /// Band formulas of each output, over `value` and output keys.
    pub(crate) bands: Vec<Vec<Formula>>,
    pub(crate) exclusions: Vec<Excluded>,
    /// Which inputs the features or the choice of weights rest on.
    feeds: Vec<bool>,
}

/// Names of band formulas: `value`, then the outputs by key.
struct OutputNames<'o>(&'o [Arc<OutputSpec>]);

impl Names for OutputNames<'_> {
    fn column(&self, name: &str) -> Option<usize> {
        if name == "value" {
            return Some(0);
        }
        self.0.iter().position(|o| o.key == name).map(|at| at + 1)
    }

    fn code(&self, _: usize, _: &str) -> Option<f64> {
        None
    }
}

impl Model {
    /// Reads, checks and compiles a bundle, and runs its vectors.
    pub(crate) fn load(files: &Files<'_>, vocabulary: &mut Vocabulary) -> Result<Self, LoadError> {
        let file = |name: &str| {
            files
                .get(name)
                .copied()
                .ok_or_else(|| LoadError::File { path: name.to_owned(), reason: "not in the bundle".into() })
        };
        let manifest: Manifest = read(file("model.json")?)
            .map_err(|reason| LoadError::File { path: "model.json".into(), reason })?;
        let name = format!("{}@{}", manifest.id, manifest.version);
        let wrong = |reason: String| LoadError::Manifest { model: name.clone(), reason };
        check(&manifest).map_err(wrong)?;
        let card = String::from_utf8(file("card.md")?.to_vec()).map_err(|e| wrong(e.to_string()))?;
        let weights = files.get("weights.safetensors").copied();
        let identity = ModelIdentity {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            sha256: digest(files),
            title: manifest.title.clone(),
        };
        let model = Self::compile(manifest, identity, card, weights, vocabulary).map_err(wrong)?;
        let own = parse(file("vectors.json")?, &Limits::default()).map_err(|e| wrong(e.to_string()))?;
        let report = vectors::run(&model, &own).map_err(|e| wrong(e.to_string()))?;
        match report.failures.first() {
            Some(reason) => Err(LoadError::Vectors { model: name, reason: reason.clone() }),
            None if report.count == 0 => {
                Err(LoadError::Vectors { model: name, reason: "there are none".into() })
            }
            None => Ok(model),
        }
    }

    fn compile(
        manifest: Manifest,
        identity: ModelIdentity,
        card: String,
        weights: Option<&[u8]>,
        vocabulary: &mut Vocabulary,
    ) -> Result<Self, String> {
        let (inputs, mut columns) = inputs::compile(&manifest, vocabulary)?;
        let mut variables: Vec<Formula> = Vec::with_capacity(manifest.variables.len());
        for variable in &manifest.variables {
            let formula = Formula::parse(&variable.formula, &columns);
            variables.push(formula.map_err(|e| format!("variable {}: {e}", variable.name))?);
            columns.push(&variable.name, &[])?;
        }
        let mut features = Vec::with_capacity(manifest.features.len());
        let (mut groups, mut group_of) = (Vec::new(), Vec::new());
        for feature in &manifest.features {
            let formula = Formula::parse(&feature.formula, &columns)
                .map_err(|e| format!("feature {}: {e}", feature.name))?;
            let label = if let Some(names) = &feature.of {
                label(names.iter())
            } else {
                let mut from = Vec::new();
                roots(&formula, inputs.len(), &variables, &mut from);
                from.sort_unstable();
                label(from.iter().filter_map(|at| columns.names.get(*at)))
            };
            let group = groups.iter().position(|g| *g == label).unwrap_or_else(|| {
                groups.push(label);
                groups.len() - 1
            });
            group_of.push(group);
            features.push(formula);
        }
        let names: Vec<Arc<str>> = manifest.features.iter().map(|f| Arc::clone(&f.name)).collect();
        if let Some(stray) = manifest.reference.features.keys().find(|k| !names.contains(k)) {
            return Err(format!("reference: no feature {stray}"));
        }
        let reference =
            names.iter().map(|n| manifest.reference.features.get(n).copied().unwrap_or(0.0)).collect();
        let strata = match &manifest.network {
            NetworkSpec::Linear(strata) => strata
                .iter()
                .map(|s| s.when.as_ref().map(|when| Formula::parse(when, &columns)).transpose())
                .collect::<Result<Vec<_>, _>>()?,
            NetworkSpec::Mlp(_) => vec![None],
        };
        let graph = Graph::new(&manifest.network, &names, &manifest.outputs, weights)?;
        let bands = manifest
            .outputs
            .iter()
            .map(|o| {
                o.bands.iter().map(|b| Formula::parse(&b.when, &OutputNames(&manifest.outputs))).collect()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut fed = Vec::new();
        for formula in features.iter().chain(strata.iter().flatten()) {
            roots(formula, inputs.len(), &variables, &mut fed);
        }
        let feeds: Vec<bool> = (0..inputs.len()).map(|at| fed.contains(&at)).collect();
        for (input, _) in inputs.iter().zip(&feeds).filter(|(_, feeds)| !**feeds) {
            let at = columns.column(&input.spec.name);
            if !inputs
                .iter()
                .filter_map(|i| i.otherwise.as_ref())
                .any(|f| f.columns().iter().any(|c| Some(*c) == at))
            {
                return Err(format!("input {} is not used", input.spec.name));
            }
        }
        let exclusions = manifest
            .population
            .exclude
            .iter()
            .map(|exclusion| inputs::excluded(exclusion, vocabulary))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            identity: Arc::new(identity),
            card,
            inputs,
            columns,
            variables,
            features,
            groups,
            group_of,
            reference,
            strata,
            graph,
            bands,
            exclusions,
            feeds,
            manifest,
        })
    }

    /// Does the result rest on this input, or does it only stand in for others?
    pub(crate) fn feeds(&self, input: usize) -> bool {
        self.feeds.get(input).copied().unwrap_or_default()
    }

    /// Ids of the models whose outputs this one reads.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.manifest.inputs.iter().filter_map(|i| i.model.as_ref()).map(|m| m.id.as_str())
    }

    /// The settings this model reads and the operator has not made.
    pub fn unset<'m>(&'m self, settings: &'m Settings) -> impl Iterator<Item = &'m str> {
        let named = self.manifest.inputs.iter().filter_map(|i| i.setting.as_deref());
        named.filter(|name| !settings.0.contains_key(*name))
    }
}

/// The inputs a formula rests on, through variables.
fn roots(formula: &Formula, inputs: usize, variables: &[Formula], found: &mut Vec<usize>) {
    for at in formula.columns() {
        match at.checked_sub(inputs).and_then(|v| variables.get(v)) {
            Some(variable) => roots(variable, inputs, variables, found),
            None if !found.contains(&at) => found.push(at),
            None => {}
        }
    }
}

fn label<'n>(names: impl Iterator<Item = &'n Arc<str>>) -> Arc<str> {
    Arc::from(names.map(AsRef::as_ref).collect::<Vec<&str>>().join(" × "))
}

/// JSON without duplicate keys, numbers parsed to the nearest f64.
pub(crate) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let _: Json = parse(bytes, &Limits::default()).map_err(|e| e.to_string())?;
    // By way of `Value`, which keeps a number's text: the direct way may miss the nearest by a bit.
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn digest(files: &Files<'_>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"))
}

/// What serde can't see.
fn check(manifest: &Manifest) -> Result<(), String> {
    let id = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !id(&manifest.id) {
        return Err("the id may hold a-z, 0-9 and hyphens".into());
    }
    if version(&manifest.version).is_none() {
        return Err("the version is MAJOR.MINOR.PATCH".into());
    }
    if manifest.outputs.is_empty() || manifest.features.is_empty() {
        return Err("no outputs or no features".into());
    }
    for (at, output) in manifest.outputs.iter().enumerate() {
        if manifest.outputs.iter().take(at).any(|o| o.key == output.key) {
            return Err(format!("output {} twice", output.key));
        }
        let fraction = matches!(output.link, Link::Logistic | Link::Cox);
        if (output.kind == OutputKind::Probability) != (fraction && output.horizon_years.is_some()) {
            return Err(format!("output {}: a probability has a horizon and a fitting link", output.key));
        }
        if output.kind == OutputKind::Probability && (output.round.is_some() || output.clamp.is_some()) {
            return Err(format!("output {}: a probability is neither rounded nor clamped", output.key));
        }
        if !output.bands.is_empty() && output.bands_source.is_none() {
            return Err(format!("output {}: bands without a source", output.key));
        }
        if output.clamp.is_some_and(|[low, high]| low > high) {
            return Err(format!("output {}: clamp the wrong way round", output.key));
        }
        let risks = ["negligible", "low", "moderate", "high", "certain"];
        if let Some(bad) = output.bands.iter().filter_map(|b| b.risk.as_deref()).find(|r| !risks.contains(r))
        {
            return Err(format!("output {}: {bad} is no code of risk-probability", output.key));
        }
    }
    Ok(())
}

/// Versions in order.
pub(crate) fn version(text: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    <[u32; 3]>::try_from(parts).ok()
}
