//! A unit of work: one [`Commit`] made ready outside the transaction, and run inside it. It can
//! be run again after a transaction failed.

mod settle;
mod trail;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::SearchQuery;
use uuid::Uuid;

use self::settle::{brought, settle};
use crate::access::{Access, Sight};
use crate::account::AccountChange;
use crate::audit::{self, Entry, Forwarding, Retiring, Sealing, Trail, Who};
use crate::authorization::AuthorizationChange;
use crate::commit::{
    Activate, ClientChange, Commit, Conditional, MustBe, NewAssessment, NewTask, OnlyIf, Patch, Target, Write,
};
use crate::connection::Link;
use crate::consent::Standing;
use crate::context::Context;
use crate::draft::{self, Draft};
use crate::error::{Error, Fault};
use crate::keys::Numbers;
use crate::prune::{self, Leaving};
use crate::reader::Reader;
use crate::record::{Stored, Written};
use crate::subscription::Progress;
use crate::subscription::dead_letter::{self, Again};
use crate::subscription::delivery::{self, Claim};
use crate::subscription::keep::{By, requested};
use crate::subscription::line::{self, Line};
use crate::subscription::numbering::{self, Numbering};
use crate::subscription::rotation::{self, Asked};
use crate::version::{Author, Step, apply, may_create, permitted};
use crate::{account, consent, desk, find, member, tokens};

/// A new logical id: unique, and growing with time, so that neighbours in time are neighbours on disk.
pub fn new_id() -> String {
    Uuid::now_v7().hyphenated().to_string()
}

enum Planned {
    Create {
        draft: Draft,
        if_none_exist: Option<SearchQuery>,
    },
    /// `named`: the content itself says which id it has.
    Update {
        draft: Draft,
        target: Target,
        only_if: OnlyIf,
        named: bool,
    },
    Patch {
        target: Target,
        only_if: OnlyIf,
        patch: Patch,
        at: i64,
        of_delivery: bool,
    },
    Delete {
        target: Target,
        only_if: OnlyIf,
        at: i64,
    },
}

fn must_be(link: &mut Link, sight: &Sight, read: &MustBe) -> Result<(), Fault> {
    let mut reader = Reader::new(link, sight);
    let found = match read.version {
        Some(version) => reader.vread(read.kind, &read.id, version),
        None => reader.read(read.kind, &read.id),
    };
    let issue = match found {
        Ok(_) => return Ok(()),
        Err(Error::Gone { .. }) if read.or_was => return Ok(()),
        Err(Error::NotFound) => Issue::error("not-found", "no such resource"),
        Err(Error::Gone { .. }) => Issue::error("deleted", "the resource was deleted"),
        Err(error) => return Err(error.into()),
    };
    Err(Error::from(issue.at(read.at.as_str())).into())
}

/// A commit made ready.
pub(crate) struct Unit {
    at: i64,
    request: Arc<str>,
    who: Arc<Who>,
    access: Access,
    notes: Vec<Entry>,
    /// What the request asks, if that is recorded.
    asked: String,
    /// Of others' requests, which were read.
    records: Option<Arc<audit::Records>>,
    writes: Vec<Planned>,
    reads: Vec<MustBe>,
    references: Vec<Conditional>,
    tasks: Vec<NewTask>,
    assessments: Vec<NewAssessment>,
    finish: Vec<i64>,
    activate: Vec<Activate>,
    clients: Vec<ClientChange>,
    authorization: Vec<AuthorizationChange>,
    accounts: Vec<AccountChange>,
    postpone: Vec<i64>,
    until: i64,
    sealing: Option<Sealing>,
    forwarding: Option<Forwarding>,
    retiring: Option<Retiring>,
    numbering: Option<Numbering>,
    claim: Option<Box<Claim>>,
    nudge: (Vec<i64>, Option<String>),
    leaving: Option<Box<Leaving>>,
    line: Option<Box<Line>>,
    again: Option<Box<Again>>,
    progress: Option<Progress>,
    secret: Option<Box<Asked>>,
    mandate: Arc<str>,
    of_model: bool,
    taken: Option<String>,
    /// What it creates may be created by who asks.
    allowed: bool,
}

impl Unit {
    pub(crate) fn new(context: &Context, commit: Commit<'_>) -> Result<Self, Error> {
        let at = context.at;
        let (of_model, of_delivery) = (commit.of_model, commit.progress.is_some());
        let writes = commit.writes.into_iter().map(|write| plan(at, write, of_model, of_delivery));
        let writes = writes.collect::<Result<Vec<_>, Error>>()?;
        let allowed = |planned: &Planned| match planned {
            Planned::Create { draft, .. } => may_create(&context.access, draft).is_ok(),
            _ => true,
        };
        Ok(Self {
            access: context.access.clone(),
            notes: commit.notes,
            asked: context.trail.as_ref().map(Trail::asked).unwrap_or_default(),
            of_model,
            progress: commit.progress,
            taken: commit.taken,
            allowed: writes.iter().all(allowed),
            writes,
            reads: commit.reads,
            references: commit.references,
            tasks: commit.tasks,
            assessments: commit.assessments,
            finish: commit.finish,
            activate: commit.activate,
            clients: commit.clients,
            authorization: commit.authorization,
            accounts: commit.accounts,
            ..Self::empty(context)
        })
    }

    /// Does nothing; what it is to do is put into it.
    pub(crate) fn empty(context: &Context) -> Self {
        Self {
            at: context.at,
            request: Arc::clone(&context.request),
            who: Arc::clone(&context.who),
            access: Access::Whole,
            notes: Vec::new(),
            asked: String::new(),
            records: None,
            writes: Vec::new(),
            reads: Vec::new(),
            references: Vec::new(),
            tasks: Vec::new(),
            assessments: Vec::new(),
            finish: Vec::new(),
            activate: Vec::new(),
            clients: Vec::new(),
            authorization: Vec::new(),
            accounts: Vec::new(),
            postpone: Vec::new(),
            until: 0,
            sealing: None,
            forwarding: None,
            retiring: None,
            numbering: None,
            claim: None,
            nudge: (Vec::new(), None),
            leaving: None,
            line: None,
            again: None,
            progress: None,
            secret: None,
            mandate: Arc::clone(&context.mandate),
            of_model: false,
            taken: None,
            allowed: true,
        }
    }

    /// Puts off tasks, and nothing else.
    pub(crate) fn postponing(context: &Context, tasks: Vec<i64>, until: i64) -> Self {
        Self { postpone: tasks, until, ..Self::empty(context) }
    }

    /// Records what was read, and nothing else.
    pub(crate) fn recording(records: Arc<audit::Records>) -> Self {
        Self { records: Some(records), ..Self::empty(&Context::system("audit", 0)) }
    }

    /// Adds to the log of the audit trail, and nothing else.
    pub(crate) fn sealing(context: &Context, sealing: Sealing) -> Self {
        Self { sealing: Some(sealing), ..Self::empty(context) }
    }

    /// Says how far a receiver of the audit trail is, besides what else it does.
    pub(crate) fn forwarding(self, forwarding: Forwarding) -> Self {
        Self { forwarding: Some(forwarding), ..self }
    }

    /// Takes events out of the audit trail, besides what else it does.
    pub(crate) fn retiring(self, retiring: Retiring) -> Self {
        Self { retiring: Some(retiring), ..self }
    }

    /// Says for whom changes are, and nothing else.
    pub(crate) fn numbering(context: &Context, numbering: Numbering) -> Self {
        Self { numbering: Some(numbering), ..Self::empty(context) }
    }

    /// Claims Subscriptions, and nothing else.
    pub(crate) fn claiming(context: &Context, claim: Claim) -> Self {
        Self { claim: Some(Box::new(claim)), ..Self::empty(context) }
    }

    /// Makes Subscriptions due, and nothing else.
    pub(crate) fn nudging(context: &Context, nudge: Vec<i64>) -> Self {
        Self { nudge: (nudge, None), ..Self::empty(context) }
    }

    /// The same, and takes them from those whose names begin so.
    pub(crate) fn releasing(context: &Context, held: Vec<i64>, holder: &str) -> Self {
        Self { nudge: (held, Some(holder.to_owned())), ..Self::empty(context) }
    }

    /// Drops what is old, and records what is to be recorded of it.
    pub(crate) fn dropping(context: &Context, leaving: Leaving, notes: Vec<Entry>) -> Self {
        Self { leaving: Some(Box::new(leaving)), notes, ..Self::empty(context) }
    }

    /// A subscriber comes or goes, which is recorded.
    pub(crate) fn connecting(context: &Context, line: Line, notes: Vec<Entry>) -> Self {
        Self { line: Some(Box::new(line)), notes, ..Self::empty(context) }
    }

    /// Says how far a Subscription is, and records it.
    pub(crate) fn proceeding(context: &Context, progress: Progress, notes: Vec<Entry>) -> Self {
        Self { progress: Some(progress), notes, ..Self::empty(context) }
    }

    /// Which Subscription is told; 0 for none.
    pub(crate) fn told(&self) -> i64 {
        self.progress.as_ref().map_or(0, |progress| progress.subscription)
    }

    /// Asks for the secret of a Subscription, and records it.
    pub(crate) fn asking(context: &Context, secret: Asked, notes: Vec<Entry>) -> Self {
        Self { secret: Some(Box::new(secret)), access: context.access.clone(), notes, ..Self::empty(context) }
    }

    /// Has dead letters sent again, and nothing else.
    pub(crate) fn redelivering(context: &Context, again: Again) -> Self {
        Self { again: Some(Box::new(again)), access: context.access.clone(), ..Self::empty(context) }
    }

    fn author(&self) -> Author<'_> {
        let by = if self.progress.is_some() { By::Delivery } else { By::Caller(&self.mandate) };
        Author { of_model: self.of_model, by }
    }

    /// Runs it inside the open transaction.
    pub(crate) fn run(&self, link: &mut Link, keys: &Numbers) -> Result<Vec<Written>, Fault> {
        // First, so that a claim that was lost costs nothing more.
        link.touched = !self.finish.is_empty();
        desk::finish(link, &self.finish)?;
        if let Some(progress) = &self.progress {
            delivery::proceed(link, progress, self.at)?;
            link.touched = true;
        }
        let sight = consent::under(link, &self.access, &self.who, self.at)?;
        let (mut steps, sought) = link.within(link.patience, |link| self.resolve(link, &sight))?;
        let places = steps.iter().any(|step| {
            step.kind == ResourceType::PATIENT || member::places(&self.who.agent, step.kind, &step.id)
        });
        let standing = if places { Standing::of(link, &self.access, &self.who, self.at)? } else { None };
        let (written, moves) =
            link.within(link.patience, |link| apply(link, keys, &mut steps, &sight, self.author()))?;
        if let Some(standing) = standing {
            let relinked = !sight.keeps_consents() && moves.iter().any(|one| one.relinked);
            standing.must_hold(link, &self.who, self.at, relinked)?;
        }
        link.touched |= !self.assessments.is_empty()
            || !self.clients.is_empty()
            || !self.authorization.is_empty()
            || !self.accounts.is_empty()
            || self.taken.is_some();
        desk::queue(link, &[(&self.tasks, &moves)], self.at)?;
        desk::assess(link, self.at, &self.assessments)?;
        desk::activate(link, self.at, &self.activate)?;
        desk::clients(link, self.at, &self.clients)?;
        tokens::apply(link, self.at, &self.authorization)?;
        account::apply(link, self.at, &self.accounts)?;
        desk::take(link, self.taken.as_deref())?;
        desk::postpone(link, &self.postpone, self.until)?;
        self.reads.iter().try_for_each(|read| must_be(link, &sight, read))?;
        if let Some(numbering) = &self.numbering {
            link.touched = true;
            numbering::write(link, numbering, self.at)?;
        }
        if let Some(claim) = &self.claim {
            delivery::claim(link, claim, self.at)?;
        }
        if let Some(secret) = &self.secret {
            rotation::ask(link, &sight, secret, self.at)?;
        }
        if let Some(again) = &self.again {
            dead_letter::again(link, &sight, again, self.at)?;
        }
        delivery::nudge(link, &self.nudge.0, self.nudge.1.as_deref(), self.at)?;
        if let Some(leaving) = &self.leaving {
            prune::write(link, leaving)?;
        }
        if let Some(line) = &self.line {
            line::write(link, line, self.at)?;
        }
        if let Some(sealing) = &self.sealing {
            audit::seal(link, sealing)?;
        }
        if let Some(forwarding) = &self.forwarding {
            audit::forward(link, forwarding, self.at)?;
        }
        if let Some(retiring) = &self.retiring {
            audit::retire(link, retiring)?;
        }
        self.audit(link, &written, &moves, &sought);
        Ok(written)
    }

    /// Does it only bring what is new, so that nothing it finds in the database could refuse it?
    pub(crate) fn only_creates(&self) -> bool {
        let bound = self.access != Access::Whole;
        let creates = |planned: &Planned| match planned {
            Planned::Create { draft, if_none_exist: None } => match draft.kind {
                ResourceType::SUBSCRIPTION | ResourceType::BASIC | ResourceType::CONSENT => false,
                kind => !(bound && member::places(&self.who.agent, kind, &draft.id)),
            },
            _ => false,
        };
        self.allowed
            && self.writes.iter().all(creates)
            && self.reads.is_empty()
            && self.references.is_empty()
            && self.assessments.is_empty()
            && self.finish.is_empty()
            && self.activate.is_empty()
            && self.clients.is_empty()
            && self.authorization.is_empty()
            && self.accounts.is_empty()
            && self.taken.is_none()
            && self.postpone.is_empty()
            && self.sealing.is_none()
            && self.forwarding.is_none()
            && self.retiring.is_none()
            && self.numbering.is_none()
            && self.claim.is_none()
            && self.nudge.0.is_empty()
            && self.leaving.is_none()
            && self.line.is_none()
            && self.again.is_none()
            && self.progress.is_none()
            && self.secret.is_none()
    }

    /// What it counts beside others: the resources that it may write.
    pub(crate) fn size(&self) -> usize {
        self.writes.len().max(1)
    }

    /// Runs several units that only create as if they were one: as many statements as for one.
    pub(crate) fn run_together(
        units: &[&Self],
        link: &mut Link,
        keys: &Numbers,
    ) -> Result<Vec<Vec<Written>>, Fault> {
        link.touched = false;
        let mut steps = Vec::with_capacity(units.len());
        for unit in units {
            // What is only brought is compared with nothing that somebody could withhold.
            let sight = Sight::of(&unit.access);
            for planned in &unit.writes {
                let step = settle(link, &sight, planned)?;
                permitted(&unit.access, &step)?;
                steps.push(step);
            }
        }
        let (written, moves) = apply(
            link,
            keys,
            &mut steps,
            &Sight::of(&Access::Whole),
            Author { of_model: true, by: By::Caller("") },
        )?;
        let mut left = moves.as_slice();
        let mut tasks = Vec::with_capacity(units.len());
        for unit in units {
            let (own, others) = left.split_at_checked(unit.writes.len()).unwrap_or((left, &[]));
            tasks.push((unit.tasks.as_slice(), own));
            left = others;
        }
        desk::queue(link, &tasks, units.first().map_or(0, |unit| unit.at))?;
        let mut written = written.into_iter();
        let mut answers: Vec<Vec<Written>> = Vec::with_capacity(units.len());
        left = moves.as_slice();
        for unit in units {
            answers.push(written.by_ref().take(unit.writes.len()).collect());
            let (own, others) = left.split_at_checked(unit.writes.len()).unwrap_or((left, &[]));
            unit.audit(link, answers.last().map_or(&[], Vec::as_slice), own, &[]);
            left = others;
        }
        Ok(answers)
    }

    /// Finds what criteria mean, and rewrites the references that change by it; says what references were looked
    /// for, and about whom is what they found.
    fn resolve(&self, link: &mut Link, sight: &Sight) -> Result<(Vec<Step<'_>>, Vec<Sought<'_>>), Fault> {
        find::lock(link, &self.criteria())?;
        let mut moved: HashMap<String, String> = HashMap::new();
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(self.writes.len());
        let mut first: HashMap<String, usize> = HashMap::new();
        for (at, planned) in self.writes.iter().enumerate() {
            let mut step = settle(link, sight, planned)?;
            // Deletes come first: what this unit deletes is no match.
            if let Planned::Create { draft, .. } = planned
                && step.settled.is_some()
                && steps.iter().any(|earlier| earlier.deletes(step.kind, &step.id))
            {
                step.id.clone_from(&draft.id);
                step.draft = Some(Cow::Borrowed(draft));
                step.settled = None;
            }
            if let Planned::Create { if_none_exist: Some(query), .. } = planned
                && step.settled.is_none()
            {
                let same = *first.entry(format!("{:?} {:?}", query.kinds, query.clauses)).or_insert(at);
                if let Some(earlier) = steps.get(same) {
                    step.id.clone_from(&earlier.id);
                    step.draft = None;
                    step.same_as = Some(same);
                }
            }
            if let Planned::Update { target: Target::Only(query), .. } = planned
                && let [earlier] = brought(&steps, query).as_slice()
                && *earlier != reference(step.kind, &step.id)
            {
                let details = format!("what is updated by criteria is written twice: {earlier}");
                return Err(Error::from(Issue::error("duplicate", details)).into());
            }
            if let (Planned::Create { draft, .. } | Planned::Update { draft, .. }, true) =
                (planned, step.id != planned.id())
            {
                moved.insert(reference(draft.kind, &draft.id), reference(step.kind, &step.id));
            }
            steps.push(step);
        }
        let mut sought = Vec::new();
        for Conditional { text, query, at } in &self.references {
            if moved.contains_key(text) {
                continue;
            }
            // What this unit deletes or replaces no longer is what the database says it is.
            let changed = |one: &Stored| {
                steps.iter().any(|step| {
                    (step.draft.is_some() || step.deletes(one.kind, &one.id))
                        && (step.kind, &step.id) == (one.kind, &one.id)
                })
            };
            let stored = find::few(link, sight, query)?.into_iter().filter(|one| !changed(one));
            let mut found: Vec<(String, String)> =
                stored.map(|one| (reference(one.kind, &one.id), one.patient)).collect();
            // What this unit brings has an event of its own.
            found.extend(brought(&steps, query).into_iter().map(|one| (one, String::new())));
            if found.len() > 1 {
                return Err(Error::Ambiguous.into());
            }
            let (found, patients) = found.pop().ok_or_else(|| {
                // The criteria may name a person: they stay with the caller.
                let kind = text.split('?').next().unwrap_or_default();
                let details = format!("no resource matches the criteria of a reference to {kind}");
                Error::from(Issue::error("not-found", details).at(at.clone()))
            })?;
            moved.insert(text.clone(), found);
            sought.push((text.as_str(), patients));
        }
        if !moved.is_empty() {
            for step in &mut steps {
                if let Some(draft) = &step.draft
                    && draft.refers(&moved)
                {
                    step.draft = Some(Cow::Owned(draft.referring(&|text| moved.get(text).cloned())?));
                }
            }
        }
        Ok((steps, sought))
    }

    /// Every criterion that decides whether something is written.
    fn criteria(&self) -> Vec<&SearchQuery> {
        self.writes.iter().filter_map(Planned::criteria).collect()
    }
}

impl Planned {
    fn id(&self) -> &str {
        match self {
            Self::Create { draft, .. } | Self::Update { draft, .. } => &draft.id,
            Self::Delete { target: Target::Id(_, id), .. }
            | Self::Patch { target: Target::Id(_, id), .. } => id,
            Self::Delete { .. } | Self::Patch { .. } => "",
        }
    }
}

fn plan(at: i64, mut write: Write<'_>, of_model: bool, of_delivery: bool) -> Result<Planned, Error> {
    let kind_of = match &write {
        Write::Create { resource, .. } => kind(resource)?,
        Write::Update { target, .. } | Write::Patch { target, .. } | Write::Delete { target, .. } => {
            match target {
                Target::Id(kind, _) => *kind,
                Target::Only(query) => one_kind(query)?,
            }
        }
    };
    if kind_of == ResourceType::AUDIT_EVENT {
        let details = "AuditEvents are written by this server alone, and never changed";
        return Err(Issue::error("forbidden", details).at("AuditEvent").into());
    }
    if let (Write::Create { resource, .. } | Write::Update { resource, .. }, false) = (&write, of_model) {
        draft::unclaimed(resource)?;
    }
    if let (
        Write::Create { resource, .. } | Write::Update { resource, .. },
        ResourceType::SUBSCRIPTION,
        false,
    ) = (&mut write, kind_of, of_delivery)
    {
        requested(resource);
    }
    Ok(match write {
        Write::Create { resource, id, if_none_exist } => {
            let draft = Draft::new(kind(&resource)?, id.unwrap_or_else(new_id), at, resource)?;
            Planned::Create { draft, if_none_exist }
        }
        Write::Update { resource, target, id: promised, only_if } => {
            let named = resource.text("id").map(str::to_owned);
            let (kind, id) = match &target {
                Target::Id(kind, id) => (*kind, id.clone()),
                Target::Only(query) => (one_kind(query)?, named.clone().or(promised).unwrap_or_else(new_id)),
            };
            let draft = Draft::new(kind, id, at, resource)?;
            Planned::Update { draft, target, only_if, named: named.is_some() }
        }
        Write::Patch { target, only_if, patch } => Planned::Patch { target, only_if, patch, at, of_delivery },
        Write::Delete { target, only_if } => Planned::Delete { target, only_if, at },
    })
}

/// A reference by criteria, and the patients whom what it found is about.
type Sought<'u> = (&'u str, String);

fn kind(resource: &Json<'_>) -> Result<ResourceType, Error> {
    let kind = resource.text("resourceType").and_then(ResourceType::parse);
    kind.ok_or_else(|| Issue::error("invalid", "not an R4 resource type").at("resourceType").into())
}

fn one_kind(query: &SearchQuery) -> Result<ResourceType, Error> {
    query.kind().ok_or_else(|| Error::Precondition("a condition is about resources of one type".into()))
}

fn reference(kind: ResourceType, id: &str) -> String {
    format!("{kind}/{id}")
}
