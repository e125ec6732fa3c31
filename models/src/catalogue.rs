//! Every bundle there is, and which version of each is active.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use fhir::json::Json;

use crate::bundle::{self, Files, LoadError, Model};
use crate::valueset::ValueSet;
use crate::vocabulary::Vocabulary;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/bundles.rs"));
}

/// Every bundle there is, and which version of each is active. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// By id, then version.
    models: Vec<Arc<Model>>,
    active: BTreeMap<String, Arc<Model>>,
    vocabulary: Arc<Vocabulary>,
}

impl Catalogue {
    /// The bundles inside the program; the newest version of each is active.
    pub fn built_in() -> Result<Self, LoadError> {
        let mut it = Self::default();
        for bytes in embedded::VALUE_SETS {
            it.add_value_set("built-in value set", bytes)?;
        }
        let mut loaded = Vec::new();
        for files in embedded::BUNDLES {
            let files: Files = files.iter().copied().collect();
            loaded.push(it.load(&files)?);
        }
        it.settle(&loaded)?;
        Ok(it)
    }

    /// Adds the bundle in one folder (`model.json`, `card.md`, `vectors.json`, weights).
    /// It becomes active only if no other version of its model is there. The same bundle twice
    /// is the same bundle; other content under a known version is refused.
    pub fn add_folder(&mut self, folder: &Path) -> Result<Arc<Model>, LoadError> {
        let mut next = self.clone();
        let model = next.load_folder(folder)?;
        next.settle(std::slice::from_ref(&model))?;
        *self = next;
        Ok(model)
    }

    /// Adds every value set under `root/valuesets/` and every bundle under `root/ID/VERSION/`;
    /// says how many bundles. All or none.
    pub fn add_tree(&mut self, root: &Path) -> Result<usize, LoadError> {
        let mut next = self.clone();
        let sets = root.join("valuesets");
        if sets.is_dir() {
            for file in listed(&sets)? {
                let bytes = fs::read(&file).map_err(|e| at(&file, &e))?;
                next.add_value_set(&file.display().to_string(), &bytes)?;
            }
        }
        let mut loaded = Vec::new();
        for model in listed(root)?.into_iter().filter(|p| p.is_dir() && *p != sets) {
            for version in listed(&model)?.into_iter().filter(|p| p.is_dir()) {
                loaded.push(next.load_folder(&version)?);
            }
        }
        let count = loaded.len();
        next.settle(&loaded)?;
        *self = next;
        Ok(count)
    }

    /// Every version of every model, by id and version.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    /// The active version of each model that is on, by id.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &Arc<Model>> {
        self.active.values()
    }

    /// The active version of a model that is on.
    pub fn get(&self, id: &str) -> Option<&Arc<Model>> {
        self.active.get(id)
    }

    /// A certain version of a model, on or off.
    pub fn version(&self, id: &str, version: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| m.identity.id == id && m.identity.version == version)
    }

    /// The newest version of a model, on or off.
    pub fn newest(&self, id: &str) -> Option<&Arc<Model>> {
        self.models.iter().rfind(|m| m.identity.id == id)
    }

    /// Makes a version the active one and switches the model on.
    pub fn activate(&mut self, id: &str, version: &str) -> Result<(), LoadError> {
        let model = self.version(id, version).ok_or_else(|| LoadError::Unknown(format!("{id}@{version}")))?;
        self.active.insert(id.to_owned(), Arc::clone(model));
        Ok(())
    }

    /// Switches a model off. Models that read its output go on without it.
    pub fn deactivate(&mut self, id: &str) -> Result<(), LoadError> {
        self.active.remove(id).map(|_| ()).ok_or_else(|| LoadError::Unknown(id.to_owned()))
    }

    /// Could this resource change any assessment? (A write of it is worth scoring.)
    pub fn reads(&self, resource: &Json) -> bool {
        self.vocabulary.reads(resource)
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn add_value_set(&mut self, path: &str, bytes: &[u8]) -> Result<(), LoadError> {
        let wrong = |reason| LoadError::File { path: path.to_owned(), reason };
        let set: ValueSet = bundle::read(bytes).map_err(wrong)?;
        Arc::make_mut(&mut self.vocabulary).sets.add(set).map_err(wrong)
    }

    fn load_folder(&mut self, folder: &Path) -> Result<Arc<Model>, LoadError> {
        let mut owned = Vec::new();
        for file in listed(folder)?.into_iter().filter(|p| p.is_file()) {
            let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            owned.push((name, fs::read(&file).map_err(|e| at(&file, &e))?));
        }
        let files: Files = owned.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.load(&files).map_err(|error| match error {
            LoadError::File { path, reason } => {
                LoadError::File { path: folder.join(path).display().to_string(), reason }
            }
            other => other,
        })
    }

    fn load(&mut self, files: &Files<'_>) -> Result<Arc<Model>, LoadError> {
        let model = Arc::new(Model::load(files, Arc::make_mut(&mut self.vocabulary))?);
        let (id, version) = (&model.identity.id, &model.identity.version);
        match self.version(id, version) {
            Some(known) if known.identity == model.identity => return Ok(Arc::clone(known)),
            Some(_) => {
                return Err(LoadError::Manifest {
                    model: format!("{id}@{version}"),
                    reason: "this version exists already with other content; a version never changes".into(),
                });
            }
            None => {}
        }
        self.models.push(Arc::clone(&model));
        self.models.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(model)
    }

    /// Activates what is new, and checks that what models read of each other is there.
    fn settle(&mut self, loaded: &[Arc<Model>]) -> Result<(), LoadError> {
        let known: Vec<String> = self
            .models
            .iter()
            .filter(|m| !loaded.iter().any(|l| Arc::ptr_eq(l, m)))
            .map(|m| m.identity.id.clone())
            .collect();
        for model in loaded {
            let id = &model.identity.id;
            let newest = self.newest(id).is_some_and(|m| Arc::ptr_eq(m, model));
            if newest && !known.contains(id) && !model.manifest.off_by_default {
                self.active.insert(id.clone(), Arc::clone(model));
            }
        }
        for model in loaded {
            self.check_sources(model, 0)
                .map_err(|reason| LoadError::Manifest { model: model.identity.id.clone(), reason })?;
        }
        Ok(())
    }

    fn check_sources(&self, model: &Model, depth: u8) -> Result<(), String> {
        if depth > 4 {
            return Err("models that read each other in a circle".into());
        }
        for source in model.manifest.inputs.iter().filter_map(|i| i.model.as_ref()) {
            let other = self.newest(&source.id).ok_or_else(|| format!("no model {} to read", source.id))?;
            if !other.manifest.outputs.iter().any(|o| o.key == source.output && o.reported) {
                return Err(format!("model {} reports no output {}", source.id, source.output));
            }
            self.check_sources(other, depth + 1)?;
        }
        Ok(())
    }
}

fn order(model: &Model) -> (&str, Option<[u32; 3]>) {
    (&model.identity.id, bundle::version(&model.identity.version))
}

fn listed(folder: &Path) -> Result<Vec<std::path::PathBuf>, LoadError> {
    let entries = fs::read_dir(folder).map_err(|e| at(folder, &e))?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(|e| at(folder, &e))?.path());
    }
    found.retain(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
    found.sort();
    Ok(found)
}

fn at(path: &Path, error: &std::io::Error) -> LoadError {
    LoadError::File { path: path.display().to_string(), reason: error.to_string() }
}
