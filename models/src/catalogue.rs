//! Every bundle there is.

use std::path::Path;
use std::sync::Arc;

use fhir::json::Json;

use crate::bundle::{LoadError, Model};

/// Every bundle there is, and which version of each is active. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    models: Vec<Arc<Model>>,
}

impl Catalogue {
    /// The bundles inside the program.
    pub fn built_in() -> Result<Self, LoadError> {
        Ok(Self::default())
    }

    /// Adds the bundle in one folder (`model.json`, `card.md`, `vectors.json`, weights).
    pub fn add_folder(&mut self, folder: &Path) -> Result<Arc<Model>, LoadError> {
        Err(LoadError::Unknown(folder.display().to_string()))
    }

    /// Adds every bundle under `root/ID/VERSION/`; says how many.
    pub fn add_tree(&mut self, root: &Path) -> Result<usize, LoadError> {
        Err(LoadError::Unknown(root.display().to_string()))
    }

    /// Every version of every model, by id and version.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    /// The active version of each model that is on, by id.
    pub fn active(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    /// The active version of a model.
    pub fn get(&self, id: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| m.identity.id == id)
    }

    /// A certain version of a model.
    pub fn version(&self, id: &str, version: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|m| m.identity.id == id && m.identity.version == version)
    }

    /// Makes a version the active one and switches the model on.
    pub fn activate(&mut self, id: &str, version: &str) -> Result<(), LoadError> {
        Err(LoadError::Unknown(format!("{id}@{version}")))
    }

    /// Switches a model off.
    pub fn deactivate(&mut self, id: &str) -> Result<(), LoadError> {
        Err(LoadError::Unknown(id.to_owned()))
    }

    /// Could this resource change any assessment? (A write of it is worth scoring.)
    pub fn reads(&self, resource: &Json) -> bool {
        let _ = resource;
        false
    }
}
