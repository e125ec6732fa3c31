//! From steps to versions: what is there is compared with what is wanted, and what differs is
//! written, with its index rows, in as few statements as there are tables.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::Index;
use fhir::subscription::Topics;

use crate::access::{Access, Sight};
use crate::commit::OnlyIf;
use crate::connection::Link;
use crate::draft::{self, Draft};
use crate::error::{Error, Fault};
use crate::index::Rows;
use crate::joined::links;
use crate::keys::Numbers;
use crate::reader::{is_shown, last};
use crate::record::{Effect, Stored, Written};
use crate::subscription::SubscriptionStatus;
use crate::subscription::change::{self, Watch};
use crate::subscription::keep::{By, Kept, is_topic, keep, renew, says_more, status};
use crate::{consent, row};

/// What instants are written to, in microseconds.
const TICK: i64 = 1_000;

/// A write whose target is known.
pub(crate) struct Step<'u> {
    pub(crate) kind: ResourceType,
    pub(crate) id: String,
    /// When it is written, microseconds since 1970 UTC.
    pub(crate) at: i64,
    /// None deletes.
    pub(crate) draft: Option<Cow<'u, Draft>>,
    pub(crate) only_if: OnlyIf,
    /// A conditional create that found this one, or a conditional delete that found none.
    pub(crate) settled: Option<Written>,
    /// The id is new: no version can be there.
    pub(crate) fresh: bool,
    /// The id must be new, or it is somebody else's.
    pub(crate) unused: bool,
    /// A conditional create that an earlier step of the same commit answers.
    pub(crate) same_as: Option<usize>,
}

impl Step<'_> {
    /// Versions follow each other in time too, whenever their requests came.
    fn follow(&mut self, updated: i64) -> Result<(), Error> {
        let after = updated.saturating_add(TICK);
        if self.at < after {
            self.at = after;
            if let Some(draft) = &self.draft {
                self.draft = Some(Cow::Owned(draft.dated(after)?));
            }
        }
        Ok(())
    }

    /// Will this resource be gone?
    pub(crate) fn deletes(&self, kind: ResourceType, id: &str) -> bool {
        let deletes = self.draft.is_none() && self.settled.is_none() && self.same_as.is_none();
        deletes && self.kind == kind && self.id == id
    }
}

/// Nothing there, and nothing done.
pub(crate) fn absent(kind: ResourceType, id: &str) -> Written {
    let stored = Stored {
        key: 0,
        kind,
        id: id.to_owned(),
        version: 0,
        updated: 0,
        deleted: true,
        patient: String::new(),
        body: String::new(),
    };
    Written { effect: Effect::Absent, stored }
}

/// Who writes, as far as it decides what may be written.
#[derive(Clone, Copy)]
pub(crate) struct Author<'a> {
    /// What a model made is changed by models only.
    pub(crate) of_model: bool,
    pub(crate) by: By<'a>,
}

/// What one write changed: the new key, and whose charts it touched before and after.
#[derive(Debug, Default)]
pub(crate) struct Move {
    pub(crate) key: i64,
    pub(crate) patients: Vec<String>,
    /// It is there, and who asked may not see it.
    pub(crate) hidden: bool,
    /// It joins a Patient with others than before.
    pub(crate) relinked: bool,
}

impl Move {
    /// It touched their charts too; ids with spaces between.
    fn touches(&mut self, patients: &str) {
        self.patients.extend(patients.split_ascii_whitespace().map(str::to_owned));
    }
}

/// The answers that are known, what is to be written, and what was there and is not to be seen.
type Decided = (Vec<Option<Written>>, Vec<Change>, Vec<(usize, Stored)>);

/// A version to be written and what it replaces.
struct Change {
    at: usize,
    old: Option<Stored>,
    effect: Effect,
}

/// Writes versions and index rows; answers in the order of the steps.
pub(crate) fn apply(
    link: &mut Link,
    keys: &Numbers,
    steps: &mut [Step<'_>],
    sight: &Sight,
    author: Author<'_>,
) -> Result<(Vec<Written>, Vec<Move>), Fault> {
    let (mut answers, changes, hidden) = decide(link, steps, sight, author.of_model)?;
    let watch = Watch::of(link)?;
    let mut queued = Vec::new();
    for change in &changes {
        if let (Some(old), Some(step)) = (&change.old, steps.get_mut(change.at)) {
            step.follow(old.updated)?;
        }
    }
    link.touched |= !changes.is_empty();
    let new_keys = keys.take(link, changes.len())?;
    let mut moves: Vec<Move> = Vec::new();
    moves.resize_with(steps.len(), Move::default);

    for (at, stored) in hidden {
        if let Some(trace) = moves.get_mut(at) {
            trace.touches(&stored.patient);
            trace.hidden = true;
        }
    }
    let mut fresh: Vec<Stored> = Vec::new();
    let mut next: Vec<(i64, Stored)> = Vec::new();
    let mut places: Vec<(usize, Effect, bool)> = Vec::with_capacity(changes.len());
    let mut gone: Vec<(i64, Index)> = Vec::new();
    let mut rows = Rows::default();
    for (change, key) in changes.into_iter().zip(new_keys) {
        let Some(step) = steps.get(change.at) else { continue };
        let Some(trace) = moves.get_mut(change.at) else { continue };
        trace.key = key;
        let version = change.old.as_ref().map_or(1, |old| old.version.saturating_add(1));
        let patient = match (&step.draft, &change.old) {
            (Some(draft), _) => draft.index.patients.as_str(),
            (None, Some(old)) => old.patient.as_str(),
            (None, None) => "",
        };
        let body = step.draft.as_ref().map(|draft| draft.body(version, step.at));
        let stored = Stored {
            key,
            kind: step.kind,
            id: step.id.clone(),
            version,
            updated: step.at,
            deleted: body.is_none(),
            patient: patient.to_owned(),
            body: body.unwrap_or_default(),
        };
        trace.touches(&stored.patient);
        if let Some(draft) = &step.draft {
            rows.add(key, &draft.index);
            trace.touches(&draft.index.held);
        }
        let mut before = BTreeSet::new();
        let replaced = change.old.as_ref().map(|old| old.key);
        if let Some(old) = change.old {
            if !old.deleted {
                let resource = draft::parse(&old.body)?;
                let index = fhir::search::index(old.kind, &resource);
                trace.touches(&old.patient);
                trace.touches(&index.held);
                before = links(&index);
                gone.push((old.key, index));
            }
            places.push((change.at, change.effect, true));
            next.push((old.key, stored));
        } else {
            places.push((change.at, change.effect, false));
            fresh.push(stored);
        }
        let was = gone.last().filter(|(gone, _)| Some(*gone) == replaced).map(|(_, index)| index);
        if watch.wants(step.kind, was, step.draft.as_ref().map(|draft| &draft.index)) {
            queued.push(key);
        }
        let now = step.draft.as_ref().map(|draft| links(&draft.index));
        trace.relinked = now.unwrap_or_default() != before;
        trace.patients.sort_unstable();
        trace.patients.dedup();
    }

    let mut stale = Rows::default();
    for (key, index) in &gone {
        stale.add(*key, index);
    }
    stale.delete(link)?;
    row::replace(link, &next.iter().map(|(old, stored)| (*old, stored)).collect::<Vec<_>>())?;
    row::insert(link, &fresh.iter().collect::<Vec<_>>())?;
    rows.insert(link)?;
    keep_consents(link, &next, &fresh)?;
    keep_subscriptions(link, steps, &next, &fresh, author.by)?;
    change::queue(link, &queued)?;
    if moves.iter().any(|one| one.relinked) {
        consent::renew(link)?;
    }

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

fn keep_consents(link: &mut Link, next: &[(i64, Stored)], fresh: &[Stored]) -> Result<(), Fault> {
    let replaced = next.iter().filter(|(_, stored)| stored.kind == ResourceType::CONSENT);
    let written = replaced.clone().map(|(_, stored)| stored).chain(fresh.iter());
    let written: Vec<&Stored> = written.filter(|stored| stored.kind == ResourceType::CONSENT).collect();
    if written.is_empty() {
        return Ok(());
    }
    consent::keep(link, &replaced.map(|(old, _)| *old).collect::<Vec<_>>(), &written)
}

fn keep_subscriptions(
    link: &mut Link,
    steps: &[Step<'_>],
    next: &[(i64, Stored)],
    fresh: &[Stored],
    by: By<'_>,
) -> Result<(), Fault> {
    let written = next.iter().map(|(_, stored)| stored).chain(fresh);
    let topics: Vec<&Stored> = written
        .clone()
        .filter(|stored| stored.kind == ResourceType::BASIC && (stored.version > 1 || is_topic(&stored.body)))
        .collect();
    if !topics.is_empty() {
        renew(link, &topics)?;
    }
    for stored in written.filter(|stored| stored.kind == ResourceType::SUBSCRIPTION) {
        let of = |step: &&Step<'_>| step.kind == stored.kind && step.id == stored.id;
        let draft = steps.iter().find(of).and_then(|step| step.draft.as_ref());
        let headers = draft.map_or(&[][..], |draft| draft.headers.as_slice());
        let resource = draft.map(|_| draft::parse(&stored.body)).transpose()?;
        let status = resource.as_ref().map(|resource| status(resource)).transpose()?;
        let channel = |name| resource.as_ref().and_then(|resource| resource.get("channel")?.text(name));
        let (connects, endpoint) = (channel("type") == Some("websocket"), channel("endpoint"));
        let (version, at) = (stored.version, stored.updated);
        let kept = Kept { id: &stored.id, version, at, status, headers, connects, endpoint };
        keep(link, &kept, by)?;
    }
    Ok(())
}

/// Compares with what is there: which steps are answered already, and which change something.
fn decide(link: &mut Link, steps: &[Step<'_>], sight: &Sight, of_model: bool) -> Result<Decided, Fault> {
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
    let mut hidden = Vec::new();
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
        if let (ResourceType::SUBSCRIPTION, Some(draft), false) = (step.kind, &step.draft, sight.is_unbound())
        {
            may_be_told(sight.access(), draft)?;
        }
        let seen = sight.is_unbound() || meant(link, sight, step, old.as_ref())?;
        let (old, unseen) = if seen { (old, None) } else { (None, old) };
        hidden.extend(unseen.map(|unseen| (at, unseen)));
        let alive = old.as_ref().filter(|old| !old.deleted);
        match (step.only_if, alive) {
            (OnlyIf::Version(wanted), Some(old)) if old.version != wanted => {
                return Err(Error::Conflict { current: old.version }.into());
            }
            (OnlyIf::Absent, Some(old)) => return Err(Error::Conflict { current: old.version }.into()),
            (OnlyIf::Version(_) | OnlyIf::Present, None) => {
                let text = format!("there is no {}/{} of which a version could match", step.kind, step.id);
                return Err(Error::Precondition(text).into());
            }
            _ => {}
        }
        if let (true, Some(old)) = (step.unused, alive) {
            return Err(Error::Conflict { current: old.version }.into());
        }
        let (answer, effect) = match (&step.draft, alive) {
            (Some(draft), Some(old))
                if !says_more(&draft.headers) && draft.body(old.version, old.updated) == old.body =>
            {
                (Some(Written { effect: Effect::Unchanged, stored: old.clone() }), None)
            }
            (Some(_), Some(old)) => {
                if !of_model && old.body.contains(fhir::profile::OWN) {
                    draft::unclaimed(&draft::parse(&old.body)?)?;
                }
                (None, Some(Effect::Updated))
            }
            (Some(_), None) => {
                if let (false, Some(gone)) = (of_model, &old) {
                    stays_ours(link, gone)?;
                }
                (None, Some(Effect::Created))
            }
            (None, Some(old)) => {
                // An assessment may be deleted; what others refer to as the model or its terms may not.
                let published = !matches!(
                    old.kind,
                    ResourceType::RISK_ASSESSMENT | ResourceType::OBSERVATION | ResourceType::PROVENANCE
                );
                if published && !of_model && old.body.contains(fhir::profile::OWN) {
                    draft::unclaimed(&draft::parse(&old.body)?)?;
                }
                (None, Some(Effect::Deleted))
            }
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
    Ok((answers, changes, hidden))
}

/// Is what is there what a caller with few rights means by a step? Of what may not be deleted nothing is
/// known, and what may not be changed can't be written over.
fn meant(link: &mut Link, sight: &Sight, step: &Step<'_>, old: Option<&Stored>) -> Result<bool, Fault> {
    let op = if step.draft.is_some() { Op::Update } else { Op::Delete };
    if step.kind == ResourceType::MEDICATION && sight.is_bound() && recodes(link, sight, step)? {
        return Err(Error::Denied(op, step.kind).into());
    }
    let shown = old.map(|old| is_shown(link, sight, op, old)).transpose()?;
    let denied = || Err(Error::Denied(op, step.kind).into());
    match (&step.draft, old, shown) {
        (None, Some(old), Some(false)) => {
            sight.access().permits(Op::Delete, step.kind)?;
            if is_shown(link, sight, Op::Read, old)? { denied() } else { Ok(false) }
        }
        (None, ..) => {
            sight.access().permits(Op::Delete, step.kind)?;
            Ok(true)
        }
        (Some(draft), _, Some(true)) if allows(sight.access(), op, draft, old)? => Ok(true),
        (Some(_), None, _) => permitted(sight.access(), step).map(|()| false),
        // A version that must match is none of what can't be seen, and of what is not there neither.
        (Some(_), Some(old), Some(false))
            if matches!(step.only_if, OnlyIf::Version(_) | OnlyIf::Present)
                && !is_shown(link, sight, Op::Read, old)? =>
        {
            permitted(sight.access(), step).map(|()| false)
        }
        (Some(_), ..) => denied(),
    }
}

/// Does it change by what codes of a Medication something is withheld from who writes it?
fn recodes(link: &mut Link, sight: &Sight, step: &Step<'_>) -> Result<bool, Fault> {
    let Some(before) = last(link, step.kind, &step.id)? else { return Ok(false) };
    let before = fhir::search::index(before.kind, &draft::parse(&before.body)?);
    let now = match &step.draft {
        Some(draft) => draft.index.clone(),
        None => Index { rows: Vec::new(), ..before.clone() },
    };
    Ok(sight.tells_apart(&before, &now))
}

/// May the new resource be there? Who may write a version may write the first one.
pub(crate) fn permitted(access: &Access, step: &Step<'_>) -> Result<(), Fault> {
    let Some(draft) = step.draft.as_ref().filter(|_| *access != Access::Whole) else { return Ok(()) };
    if step.fresh {
        return Ok(may_create(access, draft)?);
    }
    if allows(access, Op::Create, draft, None)? || allows(access, Op::Update, draft, None)? {
        return Ok(());
    }
    Err(Error::Denied(Op::Update, step.kind).into())
}

/// Whatever is in the database.
pub(crate) fn may_create(access: &Access, draft: &Draft) -> Result<(), Error> {
    if *access == Access::Whole || allows(access, Op::Create, draft, None)? {
        return Ok(());
    }
    Err(Error::Denied(Op::Create, draft.kind))
}

/// Who asks to be told of what they may not read would never be told, and not know why.
fn may_be_told(access: &Access, draft: &Draft) -> Result<(), Fault> {
    let body = draft.body(1, draft.updated);
    let asked = draft::parse(&body)?;
    let criteria = asked.text("criteria").unwrap_or_default();
    let kinds = match Topics::built_in().find(criteria) {
        Some(topic) => topic.kinds(),
        // Of other topics it is not known here what they are about.
        None => {
            ResourceType::parse(criteria.split(['?', '.']).next().unwrap_or_default()).into_iter().collect()
        }
    };
    match kinds.iter().find(|kind| access.permits(Op::Read, **kind).is_err()) {
        Some(kind) if asked.text("status") != Some(SubscriptionStatus::Off.code()) => {
            Err(Error::Denied(Op::Read, *kind).into())
        }
        _ => Ok(()),
    }
}

fn allows(access: &Access, op: Op, draft: &Draft, old: Option<&Stored>) -> Result<bool, Error> {
    let mut before = BTreeSet::new();
    if let Some(old) = old.filter(|old| old.kind == ResourceType::PATIENT && !old.deleted) {
        before = links(&fhir::search::index(old.kind, &draft::parse(&old.body)?));
    }
    let relinks = links(&draft.index) != before;
    Ok(access.allows(op, &draft.id, draft.updated, &draft.index, relinks))
}

/// What was deleted stays whose it was: its id must not come to say something else.
fn stays_ours(link: &mut Link, gone: &Stored) -> Result<(), Fault> {
    let before = row::earlier(link, gone.kind, &gone.id, gone.version.saturating_sub(1))?;
    if let Some(before) = before.filter(|before| !before.deleted) {
        draft::unclaimed(&draft::parse(&before.body)?)?;
    }
    Ok(())
}
