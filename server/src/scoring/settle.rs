//! From assessments to what is written: each set of input versions once, refusals only where a
//! number would otherwise go on being read, what no longer holds marked so.

use std::collections::BTreeSet;
use std::sync::Arc;

use fhir::json::Json;
use fhir::outcome::Issues;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use models::Assessment;
use serde_json::Value;
use store::{Commit, Context, Error, NewAssessment, OnlyIf, Reader, Target, Write, new_id};

use super::assessment::{Framing, inputs_digest, risk_assessment};
use super::gather::parse;
use super::{derived, provenance, supersede, terms};
use crate::app::{Active, App};
use crate::http::failure::Failure;
use crate::http::request::LIMITS;

/// Marks a refusal among the recorded digests.
const REFUSED: &str = "refused:";

/// Who wants it written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A resource was written: refusals are kept only after a number.
    Write,
    /// The same, and an earlier version was changed: older assessments are looked at too.
    Change,
    /// Somebody asked for it to be kept.
    Asked,
    /// The same, of a moment in the past: what holds now goes on holding.
    AskedOfPast,
}

/// Adds to `commit` what follows from one patient's assessments; gives the ids of the
/// RiskAssessments that hold them, in order, where there is one.
pub(crate) fn settle(
    reader: &mut Reader<'_>,
    active: &Active,
    patient: &str,
    assessments: &[Assessment],
    cause: Cause,
    commit: &mut Commit<'static>,
) -> Result<Vec<Option<String>>, Error> {
    commit.of_model = true;
    let current = reader.current_assessments(patient)?;
    let mut replaced = BTreeSet::new();
    let mut ids = Vec::with_capacity(assessments.len());
    for assessment in assessments {
        let model = &assessment.model;
        let earlier =
            current.iter().filter(|_| cause != Cause::AskedOfPast).find(|one| one.model == model.id);
        let of_past = cause == Cause::AskedOfPast;
        let digest = inputs_digest(assessment, of_past.then_some(assessment.as_of));
        let (inputs, same) = if assessment.scored().is_some() {
            let same = reader.assessment(patient, &model.id, &model.version, &digest)?;
            (digest, same)
        } else {
            let wanted = match (earlier, cause) {
                (_, Cause::Asked | Cause::AskedOfPast) => true,
                (Some(earlier), _) if !earlier.inputs.starts_with(REFUSED) => true,
                // What stood in the way was changed, and something still does.
                (Some(earlier), Cause::Change) => !supersede::stands(reader, &earlier.resource_id)?,
                _ => false,
            };
            if !wanted {
                ids.push(earlier.map(|one| one.resource_id.clone()));
                continue;
            }
            // Chained to what it follows, so that a later refusal of the same kind is another one.
            let after = earlier.map_or("", |one| one.resource_id.as_str());
            (format!("{REFUSED}{after}:{digest}"), None)
        };
        let record = |resource_id: String| NewAssessment {
            patient: patient.to_owned(),
            model: model.id.clone(),
            version: model.version.clone(),
            inputs,
            resource_id,
        };
        if let Some(same) = same {
            let id = &same.resource_id;
            ids.push(Some(id.clone()));
            // Somebody deleted it, and somebody asks for it again; or a correction was taken back. What
            // holds now goes on holding where nothing but new data came.
            let asked = of_past || cause == Cause::Asked;
            let gone =
                asked && matches!(reader.read(ResourceType::RISK_ASSESSMENT, id), Err(Error::Gone { .. }));
            let doubted = cause != Cause::Write || !same.current;
            if gone || (doubted && !supersede::stands(reader, id)?) {
                let framing = framing_of(active, assessment, id, of_past);
                write(assessment, framing, id, commit)?;
                replaced.insert(id.clone());
            }
            if !same.current && cause != Cause::AskedOfPast {
                commit.assessments.push(record(id.clone()));
            }
            continue;
        }
        let id = new_id();
        let mut framing = framing_of(active, assessment, &id, of_past);
        let old = earlier.map(|one| format!("RiskAssessment/{}", one.resource_id));
        if let Some(earlier) = earlier {
            replaced.insert(earlier.resource_id.clone());
            if supersede::mark(reader, &earlier.resource_id, Some(&id), commit)? {
                framing.supersedes = old.as_deref();
            }
        }
        let before = match earlier {
            Some(earlier) => bands(reader, &earlier.resource_id)?,
            None => Vec::new(),
        };
        framing.before = &before;
        write(assessment, framing, &id, commit)?;
        if cause != Cause::AskedOfPast {
            commit.assessments.push(record(id.clone()));
        }
        ids.push(Some(id));
    }
    if cause == Cause::Change {
        // However many there are: each that cites what was withdrawn must say so.
        let all = reader.assessments(Some(patient), usize::MAX)?;
        for one in all.iter().filter(|one| !replaced.contains(&one.resource_id)) {
            supersede::mark(reader, &one.resource_id, None, commit)?;
        }
    }
    Ok(ids)
}

/// The outputs of an earlier assessment by their keys, with the bands they were in.
fn bands(reader: &mut Reader<'_>, id: &str) -> Result<Vec<(String, String)>, Error> {
    let stored = match reader.read(ResourceType::RISK_ASSESSMENT, id) {
        Ok(stored) => stored,
        Err(Error::NotFound | Error::Gone { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let resource = parse(&stored.body)?;
    let band = |prediction: &Json<'_>| {
        let codings = prediction.get("outcome")?.list("coding");
        let key =
            codings.iter().find(|one| one.text("system") == Some(terms::OUTPUT_SYSTEM))?.text("code")?;
        Some((key.to_owned(), prediction.get("qualitativeRisk")?.text("text")?.to_owned()))
    };
    Ok(resource.list("prediction").iter().filter_map(band).collect())
}

fn framing_of<'a>(active: &'a Active, assessment: &Assessment, id: &'a str, of_past: bool) -> Framing<'a> {
    let model = active.catalogue.version(&assessment.model.id, &assessment.model.version);
    let reference_patient = model.map_or("", |model| model.manifest.reference.description.as_str());
    Framing { id: Some(id), reference_patient, of_past, ..Framing::default() }
}

/// RiskAssessment, the Observation of a score, and their Provenance.
fn write(
    assessment: &Assessment,
    framing: Framing<'_>,
    id: &str,
    commit: &mut Commit<'static>,
) -> Result<(), Error> {
    let text = serde_json::to_vec(&risk_assessment(assessment, framing)).map_err(internal)?;
    let resource = fhir::json::parse(&text, &LIMITS).map_err(internal)?.into_owned();
    put(commit, ResourceType::RISK_ASSESSMENT, id, resource)?;
    let mut targets = vec![format!("RiskAssessment/{id}")];
    if let Some(observation) = derived::observation(assessment) {
        let resource = with_id(observation, id);
        put(commit, ResourceType::OBSERVATION, id, resource)?;
        targets.push(format!("Observation/{id}"));
    }
    let provenance = with_id(provenance::provenance(assessment, &targets), id);
    put(commit, ResourceType::PROVENANCE, id, provenance)
}

/// What we write keeps FHIR's rules and those of the profiles it claims, or is not written.
pub(super) fn put(
    commit: &mut Commit<'static>,
    kind: ResourceType,
    id: &str,
    resource: Json<'static>,
) -> Result<(), Error> {
    let issues = fhir::conformance::of_a_model(&resource);
    if issues.has_error() {
        let wrong: Vec<_> =
            issues.0.into_iter().filter(|i| i.severity >= fhir::outcome::Severity::Error).collect();
        return Err(Error::Internal(format!("a {kind} of ours is invalid: {}", Issues(wrong))));
    }
    let target = Target::Id(kind, id.to_owned());
    commit.writes.push(Write::Update { resource, target, id: None, only_if: OnlyIf::Always });
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

fn with_id(mut resource: Value, id: &str) -> Json<'static> {
    if let Some(object) = resource.as_object_mut() {
        object.shift_insert(1, "id".into(), Value::String(id.to_owned()));
    }
    Json::from(&resource)
}

/// Keeps an answer that was asked for; gives the RiskAssessments as stored.
pub(crate) async fn keep(
    app: &Arc<App>,
    context: &Context,
    patient: &str,
    assessments: Vec<Assessment>,
    cause: Cause,
) -> Result<Vec<String>, Failure> {
    app.store.permits_of(context, Op::Create, ResourceType::RISK_ASSESSMENT, patient).await?;
    let own = context.on_behalf();
    let assessments = Arc::new(assessments);
    // A worker may settle the same patient meanwhile; then look again.
    for _ in 0..5 {
        let (active, id, asked) = (app.models(), patient.to_owned(), Arc::clone(&assessments));
        let (commit, ids) = app
            .store
            .reading(&own, move |reader| {
                let mut commit = Commit::default();
                let ids = settle(reader, &active, &id, &asked, cause, &mut commit)?;
                Ok((commit, ids))
            })
            .await?;
        match app.store.commit(&own, commit).await {
            Ok(_) => {}
            Err(Error::Conflict { .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut texts = Vec::with_capacity(ids.len());
        for id in ids.iter().flatten() {
            texts.push(app.store.read(context, ResourceType::RISK_ASSESSMENT, id).await?.body);
        }
        return Ok(texts);
    }
    Err(Error::Busy.into())
}
