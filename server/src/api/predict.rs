//! `POST /predict`: named inputs, a Bundle, or a stored patient; one or many.

use actix_web::{HttpRequest, HttpResponse, web};
use fhir::json::Json;
use fhir::outcome::{Issue, Issues};
use fhir::reference::is_id;
use models::{NamedInputs, assess_named};
use serde_json::{Value, json};

use super::plain;
use super::refusal::Refusal;
use super::schema;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::request;
use crate::scoring::ask::{self, Question};
use crate::scoring::collect::Collection;
use crate::scoring::gather;

/// Predict.
#[utoipa::path(
    post, path = "/predict",
    summary = "Risk of one or many patients",
    description = "Give `inputs` (by name, quantities with their unit), `patients` (a list of `{id?, inputs}`), `bundle` (a FHIR Bundle), or `patient` (the id of a stored one). `model` is an id or a list of ids; without it every model in use is asked, with `inputs` only those that know all the names. A missing, stale or unclear input gives a refusal with its reason, never a guessed number.",
    request_body(content = schema::Question, description = "the question", content_type = "application/json",
        example = json!({"model": "fib-4", "inputs": {"age": {"value": 50, "unit": "a"}, "ast": {"value": 40, "unit": "U/L"}, "alt": {"value": 35, "unit": "U/L"}, "platelets": {"value": 200, "unit": "10*9/L"}}})),
    responses((status = 200, description = "one for each patient and model: scored or refused", body = schema::Predictions), schema::Refused, schema::RefusedBody)
)]
pub(crate) async fn predict(
    caller: Caller,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    request::require_json(&http)?;
    let predictions = Body::read(payload).await?.work(async move |body| answer(&caller, &body).await).await?;
    Ok(HttpResponse::Ok().json(json!({ "predictions": predictions })))
}

async fn answer(caller: &Caller, body: &[u8]) -> Result<Vec<Value>, Refusal> {
    let asked = request::parse(body)?;
    let texts = if asked.text("resourceType") == Some("Bundle") {
        of_bundle(caller, &asked, &Question::default())?
    } else {
        check_members(&asked)?;
        let question = question(&asked)?;
        if let Some(bundle) = asked.get("bundle") {
            of_bundle(caller, bundle, &question)?
        } else if let Some(patient) = asked.get("patient") {
            let patient = patient.as_str().filter(|id| is_id(id)).ok_or_else(|| {
                Issues::from(Issue::error("value", "the id of a stored patient, a string").at("patient"))
            })?;
            if let Some(trail) = &caller.context.trail {
                trail.is_about(patient);
            }
            gather::answer_stored(&caller.app, &caller.context, patient, &question).await?
        } else {
            of_named(caller, &asked, &question)?
        }
    };
    let mut predictions = Vec::with_capacity(texts.len());
    for text in &texts {
        predictions.push(plain::prediction(&request::parse(text.as_bytes())?));
    }
    let patients = asked.list("patients");
    if let Some(each) = predictions.len().checked_div(patients.len()).filter(|each| *each > 0) {
        for (answers, patient) in predictions.chunks_mut(each).zip(patients) {
            let Some(id) = patient.text("id") else { continue };
            for answer in answers.iter_mut().filter_map(Value::as_object_mut) {
                answer.insert("patient".into(), json!(id));
            }
        }
    }
    Ok(predictions)
}

const MEMBERS: [&str; 7] = ["model", "asOf", "persist", "inputs", "patients", "bundle", "patient"];

fn check_members(asked: &Json) -> Result<(), Issues> {
    let Some(object) = asked.as_object() else {
        return Err(Issue::error("structure", "the question is a JSON object").into());
    };
    for (name, _) in object.iter() {
        if !MEMBERS.contains(&name) {
            let details = format!("no such member; there are {}", MEMBERS.join(", "));
            return Err(Issue::error("structure", details)
                .at(name.chars().take(64).collect::<String>())
                .into());
        }
    }
    let given = ["inputs", "patients", "bundle", "patient"].iter().filter(|name| object.get(name).is_some());
    if given.count() != 1 {
        return Err(
            Issue::error("required", "exactly one of inputs, patients, bundle, patient is needed").into()
        );
    }
    Ok(())
}

fn question(asked: &Json) -> Result<Question, Refusal> {
    let mut question = Question::default();
    match asked.get("model") {
        None => {}
        Some(Json::String(id)) => question.models.push(id.to_string()),
        Some(Json::Array(ids)) if ids.iter().all(|id| id.as_str().is_some()) => {
            question.models.extend(ids.iter().filter_map(Json::as_str).map(str::to_owned));
        }
        Some(_) => {
            return Err(Issues::from(Issue::error("structure", "an id or a list of ids").at("model")).into());
        }
    }
    if let Some(value) = asked.get("asOf") {
        question.as_of = Some(ask::parse_moment(value.as_str().unwrap_or_default())?);
    }
    question.persist = match asked.get("persist") {
        None => false,
        Some(Json::Bool(flag)) => *flag,
        Some(_) => return Err(Issues::from(Issue::error("structure", "true or false").at("persist")).into()),
    };
    if question.persist && asked.get("patient").is_none() {
        let issue = Issue::error("not-supported", "only the answer about a stored `patient` can be kept");
        return Err(Issues::from(issue.at("persist")).into());
    }
    Ok(question)
}

fn of_bundle(caller: &Caller, bundle: &Json, question: &Question) -> Result<Vec<String>, Refusal> {
    if bundle.text("resourceType") != Some("Bundle") {
        return Err(Issues::from(Issue::error("invalid", "a Bundle is needed").at("bundle")).into());
    }
    let findings = fhir::validate::validate(bundle);
    if findings.has_error() {
        return Err(findings.into());
    }
    let active = caller.app.models();
    let models = question.models(&active)?;
    let mut collection = Collection::new(&active.catalogue);
    collection.add(bundle)?;
    let scored = ask::score(&caller.app, &active, &models, &collection.records(), question.moment());
    Ok(ask::texts(&models, &scored)?)
}

/// The inputs at that place of the question.
fn named(inputs: &Json, at: &str) -> Result<NamedInputs, Issues> {
    NamedInputs::from_json(inputs).map_err(|mut issues| {
        for issue in &mut issues.0 {
            let dot = if issue.expression.is_empty() { "" } else { "." };
            issue.expression = format!("{at}{dot}{}", issue.expression);
        }
        issues
    })
}

fn of_named(caller: &Caller, asked: &Json, question: &Question) -> Result<Vec<String>, Refusal> {
    let active = caller.app.models();
    let mut patients = Vec::new();
    if let Some(inputs) = asked.get("inputs") {
        patients.push(named(inputs, "inputs")?);
    }
    if asked.get("patients").is_some_and(|patients| !matches!(patients, Json::Array(_))) {
        return Err(Issues::from(Issue::error("structure", "a list of patients").at("patients")).into());
    }
    for (n, patient) in asked.list("patients").iter().enumerate() {
        let at = format!("patients[{n}]");
        let Some(object) = patient.as_object() else {
            return Err(Issues::from(Issue::error("structure", "a patient is a JSON object").at(at)).into());
        };
        if let Some((name, _)) = object.iter().find(|(name, _)| !matches!(*name, "id" | "inputs")) {
            let issue = Issue::error("structure", "no such member; there are id, inputs");
            let name: String = name.chars().take(64).collect();
            return Err(Issues::from(issue.at(format!("{at}.{name}"))).into());
        }
        if object.get("id").is_some_and(|id| id.as_str().is_none()) {
            return Err(Issues::from(Issue::error("structure", "a string").at(format!("{at}.id"))).into());
        }
        let at = format!("{at}.inputs");
        let inputs = object.get("inputs").ok_or_else(|| {
            Issues::from(Issue::error("required", "each patient has `inputs`").at(at.as_str()))
        })?;
        patients.push(named(inputs, &at)?);
    }
    let mut models = question.models(&active)?;
    if question.models.is_empty() {
        models.retain(|model| {
            let known = |name: &str| model.manifest.inputs.iter().any(|input| input.name.as_ref() == name);
            patients.iter().all(|inputs| inputs.names().all(known))
        });
    }
    let as_of = question.moment();
    // By patient, then by model, as everywhere.
    let mut by_patient = vec![Vec::with_capacity(models.len()); patients.len()];
    for model in &models {
        let scored = assess_named(&active.catalogue, &patients, model, as_of, &caller.app.settings);
        for (all, one) in by_patient.iter_mut().zip(scored) {
            ask::count(&one);
            all.push(one);
        }
    }
    Ok(ask::texts(&models, &by_patient)?)
}
