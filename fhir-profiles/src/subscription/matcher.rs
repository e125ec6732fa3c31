//! Which of many Subscriptions a change is about, without asking each.
//!
//! Most name one patient, one code, one identifier: an equality that a resource must have a row for. Each
//! lies under the most selective one it has, so that a change asks only those that its own rows lead to,
//! and those that have none.

use std::collections::HashMap;

use super::change::{Change, Interaction};
use super::interest::{Cause, Interest};
use crate::reference::hash_text;
use crate::resource_type::ResourceType;
use crate::search::{Clause, Index, Kind, Row, Test, of_type};

/// How many a cheap look asks before it says that there may be one.
const GLANCES: usize = 32;
/// Stands for the logical id where others are parameters, which are never negative.
const ID: i64 = -1;

/// The interests of one generation.
#[derive(Debug, Default)]
pub struct Matcher {
    of: HashMap<ResourceType, OfKind>,
}

/// Those that may be about one type.
#[derive(Debug, Default)]
struct OfKind {
    entries: Vec<Entry>,
    /// Each once: what has the same cause is fired by the same changes.
    causes: Vec<Cause>,
    /// By parameter and value of an equality.
    places: HashMap<(i64, i64), Vec<usize>>,
    /// The parameters there are places for, in order.
    params: Vec<i64>,
    /// Those without any equality.
    others: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    number: i64,
    /// Place among the causes.
    cause: usize,
    conditions: Vec<Clause>,
}

impl Matcher {
    /// Takes interests with the caller's numbers.
    pub fn new(interests: impl IntoIterator<Item = (i64, Interest)>) -> Self {
        let mut of: HashMap<ResourceType, OfKind> = HashMap::new();
        for (number, interest) in interests {
            for kind in interest.kinds() {
                of.entry(kind).or_default().add(kind, number, &interest);
            }
        }
        for kind in of.values_mut() {
            kind.params = kind.places.keys().map(|(param, _)| *param).collect();
            kind.params.sort_unstable();
            kind.params.dedup();
        }
        Self { of }
    }

    /// Is there nothing to ask?
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// May a change be about any of them? A cheap look before it is known how it ends: true more often than
    /// [`Matcher::matches`] finds something, and never false where it does. The version before may be left
    /// out where it isn't known; of a delete, where neither is known, all of the type may be concerned.
    pub fn may_concern(&self, kind: ResourceType, before: Option<&Index>, after: Option<&Index>) -> bool {
        let Some(of) = self.of.get(&kind) else { return false };
        let whats = match (before, after) {
            (None, Some(_)) => &[Interaction::Create, Interaction::Update][..],
            (Some(_), Some(_)) => &[Interaction::Update],
            (_, None) => &[Interaction::Delete],
        };
        match after.or(before) {
            Some(index) => of.may_concern(index, whats),
            None => of.causes.iter().any(|cause| whats.iter().any(|what| cause.allows(kind, *what))),
        }
    }

    /// The numbers of those that a change is about, ascending, each once.
    pub fn matches(&self, change: &Change<'_>) -> Vec<i64> {
        let mut found = Vec::new();
        let (Some(of), Some(subject)) = (self.of.get(&change.kind), change.subject()) else { return found };
        let mut candidates = Vec::new();
        of.each_place(subject.index, &mut |place| {
            candidates.extend_from_slice(place);
            false
        });
        if of.params.first() == Some(&ID) {
            candidates.extend_from_slice(of.at(ID, hash_text(change.id)));
        }
        candidates.sort_unstable();
        candidates.dedup();
        // What lies under a place is not among the others.
        candidates.extend_from_slice(&of.others);
        let mut fires: Vec<Option<bool>> = vec![None; of.causes.len()];
        for entry in candidates.iter().filter_map(|at| of.entries.get(*at)) {
            let (Some(cause), Some(known)) = (of.causes.get(entry.cause), fires.get_mut(entry.cause)) else {
                continue;
            };
            if *known == Some(false) {
                continue;
            }
            let mut conditions = entry.conditions.iter();
            if conditions.all(|clause| clause.matches(subject.index, change.id, subject.updated))
                && *known.get_or_insert_with(|| cause.fires(change))
            {
                found.push(entry.number);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl OfKind {
    fn add(&mut self, kind: ResourceType, number: i64, interest: &Interest) {
        let same = self.causes.iter().position(|known| known.is(&interest.cause));
        let cause = same.unwrap_or_else(|| {
            self.causes.push(interest.cause.clone());
            self.causes.len() - 1
        });
        let conditions: Vec<Clause> = interest.conditions(kind).cloned().collect();
        let at = self.entries.len();
        let best = conditions.iter().filter_map(|clause| Some((rank(kind, clause)?, places(clause)?)));
        match best.min_by_key(|(rank, places)| (*rank, places.len())) {
            Some((_, places)) => {
                for place in places {
                    self.places.entry(place).or_default().push(at);
                }
            }
            None => self.others.push(at),
        }
        self.entries.push(Entry { number, cause, conditions });
    }

    fn at(&self, param: i64, value: i64) -> &[usize] {
        self.places.get(&(param, value)).map_or(&[], Vec::as_slice)
    }

    /// Calls `enough` with the entries of each place that a row leads to, until it says so.
    fn each_place(&self, index: &Index, enough: &mut dyn FnMut(&[usize]) -> bool) -> bool {
        if self.places.is_empty() {
            return false;
        }
        index.rows.iter().any(|row| match row {
            Row::Exact { param, value, .. } if self.params.binary_search(param).is_ok() => {
                let place = self.at(*param, *value);
                !place.is_empty() && enough(place)
            }
            _ => false,
        })
    }

    fn may_concern(&self, index: &Index, whats: &[Interaction]) -> bool {
        let mut left = GLANCES;
        let mut may = |entries: &[usize]| {
            entries.iter().filter_map(|at| self.entries.get(*at)).any(|entry| {
                if left == 0 {
                    return true;
                }
                left -= 1;
                let cause = self.causes.get(entry.cause);
                cause.is_some_and(|cause| whats.iter().any(|what| cause.allows(index.kind, *what)))
                    && entry.conditions.iter().all(|clause| may_hold(clause, index))
            })
        };
        // Which id it has is not known here.
        self.params.first() == Some(&ID) || may(&self.others) || self.each_place(index, &mut may)
    }
}

/// As far as rows say.
fn may_hold(clause: &Clause, index: &Index) -> bool {
    !is_of_rows(clause) || clause.matches(index, "", 0)
}

fn is_of_rows(clause: &Clause) -> bool {
    match &clause.test {
        Test::Id(_) | Test::Updated(_) => false,
        Test::Either(all) | Test::All(all) => all.iter().all(is_of_rows),
        _ => true,
    }
}

/// Where a resource that meets the condition must have a row; none where it needs no certain one.
fn places(clause: &Clause) -> Option<Vec<(i64, i64)>> {
    if clause.negated {
        return None;
    }
    match &clause.test {
        Test::Id(ids) => Some(ids.iter().map(|id| (ID, hash_text(id))).collect()),
        Test::Exact(tests) => {
            let values = tests.iter().map(|test| test.value).collect::<Option<Vec<i64>>>()?;
            let of = |param: &i64| values.iter().map(move |value| (*param, *value)).collect::<Vec<_>>();
            Some(clause.params.iter().flat_map(of).collect())
        }
        _ => None,
    }
}

/// The lower, the fewer resources meet an equality of that parameter.
fn rank(kind: ResourceType, clause: &Clause) -> Option<u8> {
    if matches!(clause.test, Test::Id(_)) {
        return Some(0);
    }
    let of = |param: &i64| of_type(kind).iter().find(|one| i64::from(one.number) == *param);
    let rank = |param: &i64| match of(param).map(|one| (one.code, one.kind)) {
        Some(("identifier" | "url" | "version", _)) => 0,
        Some(("patient" | "subject" | "encounter", _)) => 1,
        Some((_, Kind::Reference | Kind::Uri)) => 2,
        Some(("status" | "category" | "intent" | "class" | "gender" | "active" | "priority", _)) => 5,
        Some((code, _)) if code.starts_with('_') => 4,
        _ => 3,
    };
    clause.params.iter().map(rank).max()
}
