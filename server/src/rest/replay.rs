//! `POST /fhir/RiskAssessment/{id}/$replay`: the same question again, of the versions it cites.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use fhir::json::Json;
use fhir::reference::{self, Reference};
use models::{RecordBuilder, Settings, assess};
use serde_json::{Value, json};

use super::id;
use crate::api::plain;
use crate::http::caller::Caller;
use crate::http::failure::{FHIR_JSON, Failure};
use crate::http::request;
use crate::scoring::ask::parse_moment;
use crate::scoring::assessment::{Framing, risk_assessment};
use crate::scoring::terms;
use fhir::resource_type::ResourceType;

pub(crate) async fn replay(caller: Caller, path: web::Path<String>) -> Result<HttpResponse, Failure> {
    let stored = caller.app.store.read(&caller.context, ResourceType::RISK_ASSESSMENT, id(&path)?).await?;
    let original = request::parse(stored.body.as_bytes())?;
    let unfit = |why: &'static str| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "business-rule", why);
    let method = original.at(&["method", "coding"]).and_then(|list| list.items().first());
    let (model, version) = method
        .filter(|_| fhir::profile::is_of_a_model(&original))
        .and_then(|coding| Some((coding.text("code")?, coding.text("version")?)))
        .ok_or_else(|| unfit("no model of ours made this assessment"))?;
    if plain::prediction(&original).get("result").and_then(Value::as_str) != Some("scored") {
        return Err(unfit("a refusal cites only what it could use, so it can't be made again from that"));
    }
    let active = caller.app.models();
    let model = active
        .catalogue
        .version(model, version)
        .ok_or_else(|| unfit("the model's version is not installed"))?;
    let as_of = parse_moment(original.text("occurrenceDateTime").unwrap_or_default())?;
    let mut builder = RecordBuilder::new(&active.catalogue);
    if let Some(patient) = original.at(&["subject", "reference"]).and_then(Json::as_str) {
        builder.patient(patient);
    }
    for cited in original.list("basis") {
        let text = cited.text("reference").unwrap_or_default();
        let Reference::Local { kind, id, version: Some(version) } = reference::parse(text, "") else {
            return Err(unfit("an input is not cited by version"));
        };
        let version = version.parse().map_err(|_| unfit("an input's version is no number"))?;
        let input = caller.app.store.vread(&caller.context, kind, id, version).await?;
        builder.add(&request::parse(input.body.as_bytes())?, text);
    }
    let record = builder.build();
    let settings = settings(&original);
    let assessments = assess(&active.catalogue, &record, &[model.as_ref()], as_of, &settings);
    let assessment = assessments.first().ok_or_else(|| Failure::internal("no assessment"))?;
    let framing = Framing { reference_patient: &model.manifest.reference.description, ..Framing::default() };
    let text = serde_json::to_string(&risk_assessment(assessment, framing)).map_err(Failure::internal)?;
    let repeated = request::parse(text.as_bytes())?;
    let identical = numbers(&original) == numbers(&repeated);
    let answer = json!({"resourceType": "Parameters", "parameter": [
        {"name": "identical", "valueBoolean": identical},
        {"name": "assessment", "resource": serde_json::from_str::<Value>(&text).map_err(Failure::internal)?},
    ]});
    Ok(HttpResponse::Ok().content_type(FHIR_JSON).body(answer.to_string()))
}

/// The operator's settings as they were then.
fn settings(original: &Json) -> Settings {
    let assumed =
        original.list("extension").iter().filter(|one| one.text("url") == Some(terms::ASSUMED_INPUT));
    let part = |one: &Json, name: &str| {
        let part = one.list("extension").iter().find(|part| part.text("url") == Some(name))?;
        part.text("valueString").map(str::to_owned)
    };
    Settings(assumed.filter_map(|one| Some((part(one, "setting")?, part(one, "value")?))).collect())
}

/// All that was computed: the outputs with their contributions.
fn numbers(resource: &Json) -> Value {
    plain::prediction(resource).get("outputs").cloned().unwrap_or_default()
}
