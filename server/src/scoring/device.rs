//! A model's version as a Device, so that an assessment can say what made it.

use fhir::json::Json;
use fhir::resource_type::ResourceType;
use models::Model;
use serde_json::{Value, json};
use store::{Commit, Context, Error};

use super::assessment::device_id;
use super::settle::put;
use super::terms;
use crate::app::{self, App};
use crate::http::request::LIMITS;

/// The Device: active while that version is in use.
pub(crate) fn device(model: &Model, in_use: bool) -> Value {
    let identity = &model.identity;
    json!({
        "resourceType": "Device",
        "id": device_id(identity),
        "meta": {"profile": [terms::DEVICE_PROFILE]},
        "identifier": [
            {"system": terms::MODEL_SYSTEM, "value": format!("{}|{}", identity.id, identity.version)},
            {"system": "urn:ietf:rfc:3986", "value": format!("urn:sha256:{}", identity.sha256)}
        ],
        "status": if in_use { "active" } else { "inactive" },
        "manufacturer": "Augury",
        "modelNumber": identity.id,
        "deviceName": [{"name": identity.title, "type": "model-name"}],
        "type": {"text": if model.manifest.learned { "Machine learning model" } else { "Published equation" }},
        "version": [{"value": identity.version}],
        "note": [{"text": format!("{} doi:{}", model.manifest.citation, model.manifest.doi)}]
    })
}

/// Stores the Device of every model in use, and the definitions of what is used and understood here;
/// one that is there already stays as it is.
pub(crate) async fn publish(app: &App) -> anyhow::Result<()> {
    let active = app.models();
    let mut commit = Commit { of_model: true, ..Commit::default() };
    for model in active.catalogue.active() {
        put(
            &mut commit,
            ResourceType::DEVICE,
            &device_id(&model.identity),
            Json::from(&device(model, true)),
        )?;
    }
    let context = Context::system("models", app::now());
    let in_use = |model: &Model| {
        let active = active.catalogue.get(&model.identity.id);
        active.is_none_or(|active| active.identity.version == model.identity.version)
    };
    for model in active.catalogue.models().filter(|model| !in_use(model)) {
        let id = device_id(&model.identity);
        match app.store.read(&context, ResourceType::DEVICE, &id).await {
            Ok(_) => put(&mut commit, ResourceType::DEVICE, &id, Json::from(&device(model, false)))?,
            // It was never used here.
            Err(Error::NotFound | Error::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for text in fhir::profile::definitions() {
        let definition =
            fhir::json::parse(text.as_bytes(), &LIMITS).map_err(|issues| anyhow::anyhow!("{issues}"))?;
        let (kind, id) =
            (definition.text("resourceType").and_then(ResourceType::parse), definition.text("id"));
        let (Some(kind), Some(id)) = (kind, id.map(str::to_owned)) else { continue };
        put(&mut commit, kind, &id, definition)?;
    }
    app.store.commit(&context, commit).await?;
    Ok(())
}
