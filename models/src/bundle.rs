//! A model bundle: read, checked, compiled.

use std::sync::Arc;

use crate::assessment::ModelIdentity;
use crate::manifest::Manifest;

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

/// One version of one model, ready to score.
#[derive(Debug)]
pub struct Model {
    /// Id, version, digest.
    pub identity: Arc<ModelIdentity>,
    /// What `model.json` says.
    pub manifest: Manifest,
    /// The model card, Markdown.
    pub card: String,
}
