//! What the target of a write is, looked for inside the transaction.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::SearchQuery;

use super::{Planned, one_kind, reference};
use crate::access::Sight;
use crate::commit::{OnlyIf, Target};
use crate::connection::Link;
use crate::draft::{self, Draft};
use crate::error::{Error, Fault};
use crate::reader::is_shown;
use crate::record::{Effect, Written};
use crate::subscription::keep::requested;
use crate::version::{Step, absent};
use crate::{find, row};

impl Planned {
    /// By what it finds what it is about, where no id says it.
    pub(super) fn criteria(&self) -> Option<&SearchQuery> {
        match self {
            Self::Create { if_none_exist, .. } => if_none_exist.as_ref(),
            Self::Update { target, .. } | Self::Patch { target, .. } | Self::Delete { target, .. } => {
                match target {
                    Target::Only(query) => Some(query),
                    Target::Id(..) => None,
                }
            }
        }
    }
}

/// Makes the target of one write known.
pub(super) fn settle<'u>(link: &mut Link, sight: &Sight, planned: &'u Planned) -> Result<Step<'u>, Fault> {
    Ok(match planned {
        Planned::Create { draft, if_none_exist } => {
            sight.access().permits(Op::Create, draft.kind)?;
            let found = match if_none_exist {
                Some(query) => find::only(link, sight, query)?,
                None => None,
            };
            let step = Step {
                kind: draft.kind,
                id: draft.id.clone(),
                at: draft.updated,
                draft: Some(Cow::Borrowed(draft)),
                only_if: OnlyIf::Always,
                settled: None,
                fresh: true,
                unused: false,
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
        Planned::Update { draft, target, only_if, named } => {
            let mut step = Step {
                kind: draft.kind,
                id: draft.id.clone(),
                at: draft.updated,
                draft: Some(Cow::Borrowed(draft)),
                only_if: *only_if,
                settled: None,
                fresh: false,
                unused: false,
                same_as: None,
            };
            if let Target::Only(query) = target {
                match find::only(link, sight, query)? {
                    None => step.unused = *named,
                    Some(found) if found.id == draft.id => {}
                    Some(_) if *named => {
                        let details = "the resource that matches has another id";
                        return Err(Error::from(Issue::error("invalid", details).at("id")).into());
                    }
                    Some(found) => {
                        step.draft = Some(Cow::Owned(draft.renamed(found.id.clone())?));
                        step.id = found.id;
                    }
                }
            }
            step
        }
        Planned::Patch { target, only_if, patch, at, of_delivery } => {
            let (kind, id) = match target {
                Target::Id(kind, id) => (*kind, id.clone()),
                Target::Only(query) => {
                    sight.access().permits(Op::Update, one_kind(query)?)?;
                    (one_kind(query)?, find::only(link, sight, query)?.ok_or(Error::NotFound)?.id)
                }
            };
            sight.access().permits(Op::Update, kind)?;
            let old = row::held(link, &[(kind, id.as_str())])?.pop().ok_or(Error::NotFound)?;
            if !is_shown(link, sight, Op::Update, &old)? {
                return Err(Error::NotFound.into());
            }
            if old.deleted {
                return Err(Error::Gone { version: old.version }.into());
            }
            // How a patch ends tells what is there.
            if !is_shown(link, sight, Op::Read, &old)? {
                return Err(Error::Denied(Op::Read, kind).into());
            }
            if let OnlyIf::Version(wanted) = only_if
                && *wanted != old.version
            {
                return Err(Error::Conflict { current: old.version }.into());
            }
            let before = draft::parse(&old.body)?;
            // A panic must not cost the others whose writes are in the same transaction.
            let mut resource = catch_unwind(AssertUnwindSafe(|| (patch.0)(&before)))
                .map_err(|_| Error::Internal("the patch panicked".into()))?
                .map_err(Error::from)?;
            draft::unclaimed(&resource)?;
            if kind == ResourceType::SUBSCRIPTION && !of_delivery {
                requested(&mut resource);
            }
            if resource.text("id") != Some(&id) {
                return Err(Error::from(
                    Issue::error("business-rule", "a patch can't change the id").at("id"),
                )
                .into());
            }
            Step {
                kind,
                draft: Some(Cow::Owned(Draft::new(kind, id.clone(), *at, resource)?)),
                id,
                at: *at,
                only_if: *only_if,
                settled: None,
                fresh: false,
                unused: false,
                same_as: None,
            }
        }
        Planned::Delete { target, only_if, at } => {
            let (kind, id) = match target {
                Target::Id(kind, id) => (*kind, Some(id.clone())),
                Target::Only(query) => {
                    sight.access().permits(Op::Delete, one_kind(query)?)?;
                    (one_kind(query)?, find::only(link, sight, query)?.map(|found| found.id))
                }
            };
            let settled = id.is_none().then(|| absent(kind, ""));
            let id = id.unwrap_or_default();
            Step {
                kind,
                id,
                at: *at,
                draft: None,
                only_if: *only_if,
                settled,
                fresh: false,
                unused: false,
                same_as: None,
            }
        }
    })
}

/// What a criterion means among the resources that this very commit writes.
pub(super) fn brought(steps: &[Step<'_>], query: &SearchQuery) -> Vec<String> {
    let matching = steps.iter().filter(|step| {
        step.draft.as_ref().is_some_and(|draft| {
            query.kind() == Some(draft.kind)
                && query
                    .clauses
                    .iter()
                    .all(|clause| clause.alone() && clause.matches(&draft.index, &draft.id, draft.updated))
        })
    });
    let mut found: Vec<String> = matching.map(|step| reference(step.kind, &step.id)).collect();
    found.sort_unstable();
    found.dedup();
    found
}
