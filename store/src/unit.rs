//! A unit of work: one [`Commit`] made ready outside the transaction, and run inside it. It can
//! be run again after a transaction failed.

use std::borrow::Cow;
use std::collections::HashMap;

use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Index, SearchQuery};
use uuid::Uuid;

use crate::commit::{Activate, ClientChange, Commit, Conditional, NewAssessment, NewTask, Target, Write};
use crate::connection::Link;
use crate::draft::{self, Draft};
use crate::error::{Error, Fault};
use crate::index::Rows;
use crate::keys::Keys;
use crate::record::{Effect, Stored, Written};
use crate::{desk, find, row};

/// A new logical id: unique, and growing with time, so that neighbours in time are neighbours on disk.
pub fn new_id() -> String {
    Uuid::now_v7().hyphenated().to_string()
}

enum Planned {
    Create { draft: Draft, if_none_exist: Option<SearchQuery> },
    Update { draft: Draft, target: Target, if_match: Option<i64> },
    Delete { target: Target, if_match: Option<i64> },
}

/// A commit made ready.
pub(crate) struct Unit {
    at: i64,
    writes: Vec<Planned>,
    references: Vec<Conditional>,
    tasks: Vec<NewTask>,
    assessments: Vec<NewAssessment>,
    finish: Vec<i64>,
    activate: Vec<Activate>,
    clients: Vec<ClientChange>,
    postpone: Vec<i64>,
    until: i64,
}

/// A write whose target is known.
struct Step<'u> {
    kind: ResourceType,
    id: String,
    /// None deletes.
    draft: Option<Cow<'u, Draft>>,
    if_match: Option<i64>,
    /// A conditional create that found this one, or a conditional delete that found none.
    settled: Option<Written>,
    /// The id is new: no version can be there.
    fresh: bool,
    /// A conditional create that an earlier step of the same commit answers.
    same_as: Option<usize>,
}

impl Unit {
    pub(crate) fn new(at: i64, commit: Commit<'_>) -> Result<Self, Error> {
        let writes =
            commit.writes.into_iter().map(|write| plan(at, write)).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            at,
            writes,
            references: commit.references,
            tasks: commit.tasks,
            assessments: commit.assessments,
            finish: commit.finish,
            activate: commit.activate,
            clients: commit.clients,
            postpone: Vec::new(),
            until: 0,
        })
    }

    /// Puts off tasks, and nothing else.
    pub(crate) fn postponing(at: i64, tasks: Vec<i64>, until: i64) -> Self {
        Self {
            at,
            writes: Vec::new(),
            references: Vec::new(),
            tasks: Vec::new(),
            assessments: Vec::new(),
            finish: Vec::new(),
            activate: Vec::new(),
            clients: Vec::new(),
            postpone: tasks,
            until,
        }
    }

    /// Runs it inside the open transaction.
    pub(crate) fn run(&self, link: &mut Link, keys: &Keys) -> Result<Vec<Written>, Fault> {
        // First, so that a claim that was lost costs nothing more.
        link.touched = !self.finish.is_empty();
        desk::finish(link, &self.finish)?;
        let steps = self.resolve(link)?;
        let (written, moves) = apply(link, keys, self.at, &steps)?;
        link.touched |= !self.assessments.is_empty() || !self.clients.is_empty();
        desk::queue(link, &self.tasks, &moves)?;
        desk::assess(link, self.at, &self.assessments)?;
        desk::activate(link, self.at, &self.activate)?;
        desk::clients(link, self.at, &self.clients)?;
        desk::postpone(link, &self.postpone, self.until)?;
        Ok(written)
    }

    /// Finds what criteria mean, and rewrites the references that change by it.
    fn resolve(&self, link: &mut Link) -> Result<Vec<Step<'_>>, Fault> {
        find::lock(link, &self.criteria())?;
        let mut moved: HashMap<String, String> = HashMap::new();
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(self.writes.len());
        let mut first: HashMap<String, usize> = HashMap::new();
        for (at, planned) in self.writes.iter().enumerate() {
            let mut step = settle(link, planned)?;
            if let Planned::Create { if_none_exist: Some(query), .. } = planned
                && step.settled.is_none()
            {
                let same = *first.entry(format!("{} {:?}", query.kind, query.clauses)).or_insert(at);
                if let Some(earlier) = steps.get(same) {
                    step.id.clone_from(&earlier.id);
                    step.draft = None;
                    step.same_as = Some(same);
                }
            }
            if let (Planned::Create { draft, .. } | Planned::Update { draft, .. }, true) =
                (planned, step.id != planned.id())
            {
                moved.insert(reference(draft.kind, &draft.id), reference(step.kind, &step.id));
            }
            steps.push(step);
        }
        for Conditional { text, query } in &self.references {
            let found = match find::only(link, query)? {
                Some(found) => reference(found.kind, &found.id),
                None => brought(&steps, query).ok_or_else(|| {
                    let details = format!("no resource matches the reference {text}");
                    Error::from(Issue::error("not-found", details))
                })?,
            };
            moved.insert(text.clone(), found);
        }
        if !moved.is_empty() {
            for step in &mut steps {
                if let Some(draft) = &step.draft
                    && moved.keys().any(|text| draft.mentions(text))
                {
                    step.draft = Some(Cow::Owned(draft.referring(&|text| moved.get(text).cloned())?));
                }
            }
        }
        Ok(steps)
    }

    /// Every criterion that decides whether something is written.
    fn criteria(&self) -> Vec<&SearchQuery> {
        self.writes
            .iter()
            .filter_map(|planned| match planned {
                Planned::Create { if_none_exist, .. } => if_none_exist.as_ref(),
                Planned::Update { target, .. } | Planned::Delete { target, .. } => match target {
                    Target::Only(query) => Some(query),
                    Target::Id(..) => None,
                },
            })
            .collect()
    }
}

impl Planned {
    fn id(&self) -> &str {
        match self {
            Self::Create { draft, .. } | Self::Update { draft, .. } => &draft.id,
            Self::Delete { target: Target::Id(_, id), .. } => id,
            Self::Delete { target: Target::Only(_), .. } => "",
        }
    }
}

fn plan(at: i64, write: Write<'_>) -> Result<Planned, Error> {
    Ok(match write {
        Write::Create { resource, id, if_none_exist } => {
            let draft = Draft::new(kind(&resource)?, id.unwrap_or_else(new_id), at, resource)?;
            Planned::Create { draft, if_none_exist }
        }
        Write::Update { resource, target, if_match } => {
            let (kind, id) = match &target {
                Target::Id(kind, id) => (*kind, id.clone()),
                Target::Only(query) => (query.kind, resource.text("id").map_or_else(new_id, str::to_owned)),
            };
            Planned::Update { draft: Draft::new(kind, id, at, resource)?, target, if_match }
        }
        Write::Delete { target, if_match } => Planned::Delete { target, if_match },
    })
}

fn kind(resource: &Json<'_>) -> Result<ResourceType, Error> {
    let kind = resource.text("resourceType").and_then(ResourceType::parse);
    kind.ok_or_else(|| Issue::error("invalid", "not an R4 resource type").at("resourceType").into())
}

/// What a criterion means among the resources that this very commit writes.
fn brought(steps: &[Step<'_>], query: &SearchQuery) -> Option<String> {
    let mut matching = steps.iter().filter(|step| {
        step.draft.as_ref().is_some_and(|draft| {
            draft.kind == query.kind
                && query.clauses.iter().all(|clause| clause.matches(&draft.index, &draft.id, draft.updated))
        })
    });
    let found = matching.next()?;
    matching.next().is_none().then(|| reference(found.kind, &found.id))
}

fn reference(kind: ResourceType, id: &str) -> String {
    format!("{kind}/{id}")
}

/// Makes the target of one write known.
fn settle<'u>(link: &mut Link, planned: &'u Planned) -> Result<Step<'u>, Fault> {
    Ok(match planned {
        Planned::Create { draft, if_none_exist } => {
            let found = match if_none_exist {
                Some(query) => find::only(link, query)?,
                None => None,
            };
            let step = Step {
                kind: draft.kind,
                id: draft.id.clone(),
                draft: Some(Cow::Borrowed(draft)),
                if_match: None,
                settled: None,
                fresh: true,
                same_as: None,
            };
            match found {
                Some(stored) => Step {
                    id: stored.id.clone(),
                    draft: None,
                    settled: Some(Written { effect: Effect::Unchanged, stored }),
                    ..step
                },
                None => step,
            }
        }
        Planned::Update { draft, target, if_match } => {
            let mut step = Step {
                kind: draft.kind,
                id: draft.id.clone(),
                draft: Some(Cow::Borrowed(draft)),
                if_match: *if_match,
                settled: None,
                fresh: false,
                same_as: None,
            };
            if let Target::Only(query) = target
                && let Some(found) = find::only(link, query)?
                && found.id != draft.id
            {
                step.draft = Some(Cow::Owned(draft.renamed(found.id.clone())?));
                step.id = found.id;
            }
            step
        }
        Planned::Delete { target, if_match } => {
            let (kind, id) = match target {
                Target::Id(kind, id) => (*kind, Some(id.clone())),
                Target::Only(query) => (query.kind, find::only(link, query)?.map(|found| found.id)),
            };
            let settled = id.is_none().then(|| absent(kind, ""));
            let id = id.unwrap_or_default();
            Step { kind, id, draft: None, if_match: *if_match, settled, fresh: false, same_as: None }
        }
    })
}

fn absent(kind: ResourceType, id: &str) -> Written {
    let stored = Stored {
        key: 0,
        kind,
        id: id.to_owned(),
        version: 0,
        updated: 0,
        deleted: true,
        body: String::new(),
    };
    Written { effect: Effect::Absent, stored }
}

/// What one write changed: the new key, and whose charts it touched before and after.
#[derive(Debug, Default)]
pub(crate) struct Move {
    pub(crate) key: i64,
    pub(crate) patients: Vec<String>,
}

/// A version to be written and what it replaces.
struct Change {
    at: usize,
    old: Option<Stored>,
    effect: Effect,
}

/// Writes versions and index rows; answers in the order of the steps.
fn apply(
    link: &mut Link,
    keys: &Keys,
    at: i64,
    steps: &[Step<'_>],
) -> Result<(Vec<Written>, Vec<Move>), Fault> {
    let (mut answers, changes) = decide(link, steps)?;
    link.touched |= !changes.is_empty();
    let new_keys = keys.take(link, changes.len())?;
    let mut moves: Vec<Move> = Vec::new();
    moves.resize_with(steps.len(), Move::default);

    let mut fresh: Vec<Stored> = Vec::new();
    let mut next: Vec<(i64, Stored)> = Vec::new();
    let mut places: Vec<(usize, Effect, bool)> = Vec::with_capacity(changes.len());
    let mut gone: Vec<(i64, Index)> = Vec::new();
    let mut rows = Rows::default();
    for (change, key) in changes.into_iter().zip(new_keys) {
        let Some(step) = steps.get(change.at) else { continue };
        let Some(moved) = moves.get_mut(change.at) else { continue };
        moved.key = key;
        let version = change.old.as_ref().map_or(1, |old| old.version.saturating_add(1));
        let body = step.draft.as_ref().map(|draft| draft.body(version, at));
        let stored = Stored {
            key,
            kind: step.kind,
            id: step.id.clone(),
            version,
            updated: at,
            deleted: body.is_none(),
            body: body.unwrap_or_default(),
        };
        if let Some(draft) = &step.draft {
            rows.add(key, &draft.index);
            moved.patients.extend(draft.patient.clone());
        }
        if let Some(old) = change.old {
            if !old.deleted {
                let resource = draft::parse(&old.body)?;
                moved.patients.extend(draft::patient(old.kind, &old.id, &resource));
                gone.push((old.key, fhir::search::index(old.kind, &resource)));
            }
            places.push((change.at, change.effect, true));
            next.push((old.key, stored));
        } else {
            places.push((change.at, change.effect, false));
            fresh.push(stored);
        }
        moved.patients.dedup();
    }

    let mut stale = Rows::default();
    for (key, index) in &gone {
        stale.add(*key, index);
    }
    stale.delete(link)?;
    row::replace(link, &next.iter().map(|(old, stored)| (*old, stored)).collect::<Vec<_>>())?;
    row::insert(link, &fresh.iter().collect::<Vec<_>>())?;
    rows.insert(link)?;

    // Taken from the end, so that places stay true.
    for (step, effect, replaced) in places.into_iter().rev() {
        let stored = if replaced { next.pop().map(|(_, stored)| stored) } else { fresh.pop() };
        if let (Some(answer), Some(stored)) = (answers.get_mut(step), stored) {
            *answer = Some(Written { effect, stored });
        }
    }
    for (at, step) in steps.iter().enumerate() {
        let same = step.same_as.and_then(|same| answers.get(same)).cloned().flatten();
        if let (Some(answer), Some(same)) = (answers.get_mut(at), same) {
            *answer = Some(Written { effect: Effect::Unchanged, ..same });
        }
    }
    let written: Option<Vec<Written>> = answers.into_iter().collect();
    let written = written.ok_or_else(|| Fault::Database("a write was left without an answer".into()))?;
    Ok((written, moves))
}

/// Compares with what is there: which steps are answered already, and which change something.
fn decide(link: &mut Link, steps: &[Step<'_>]) -> Result<(Vec<Option<Written>>, Vec<Change>), Fault> {
    let targets: Vec<(ResourceType, &str)> = steps
        .iter()
        .filter(|step| step.settled.is_none() && step.same_as.is_none() && !step.fresh)
        .map(|step| (step.kind, step.id.as_str()))
        .collect();
    let held = row::held(link, &targets)?;
    let mut current: HashMap<(ResourceType, String), Option<Stored>> =
        held.into_iter().map(|stored| ((stored.kind, stored.id.clone()), Some(stored))).collect();
    let mut answers = Vec::with_capacity(steps.len());
    let mut changes = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        if let Some(settled) = &step.settled {
            answers.push(Some(settled.clone()));
            continue;
        }
        if step.same_as.is_some() {
            answers.push(None);
            continue;
        }
        let old = match current.insert((step.kind, step.id.clone()), None) {
            Some(Some(stored)) => Some(stored),
            None => None,
            Some(None) => {
                let details = format!("{}/{} is written twice in one transaction", step.kind, step.id);
                return Err(Error::from(Issue::error("invalid", details)).into());
            }
        };
        if let Some(wanted) = step.if_match {
            match old.as_ref().filter(|old| !old.deleted) {
                Some(old) if old.version == wanted => {}
                Some(old) => return Err(Error::Conflict { current: old.version }.into()),
                None => {
                    let text =
                        format!("there is no {}/{} of which a version could match", step.kind, step.id);
                    return Err(Error::Precondition(text).into());
                }
            }
        }
        let alive = old.as_ref().filter(|old| !old.deleted);
        let (answer, effect) = match (&step.draft, alive) {
            (Some(draft), Some(old)) if draft.body(old.version, old.updated) == old.body => {
                (Some(Written { effect: Effect::Unchanged, stored: old.clone() }), None)
            }
            (Some(_), Some(_)) => (None, Some(Effect::Updated)),
            (Some(_), None) => (None, Some(Effect::Created)),
            (None, Some(_)) => (None, Some(Effect::Deleted)),
            (None, None) => {
                let stored = old.clone().unwrap_or_else(|| absent(step.kind, &step.id).stored);
                (Some(Written { effect: Effect::Absent, stored }), None)
            }
        };
        answers.push(answer);
        if let Some(effect) = effect {
            changes.push(Change { at, old, effect });
        }
    }
    Ok((answers, changes))
}
