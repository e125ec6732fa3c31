//! Records of one person that `Patient.link` joins: what is withheld of one is withheld of all.

use std::collections::{BTreeSet, HashMap, HashSet};

use fhir::reference::hash;
use fhir::resource_type::ResourceType;
use fhir::search::{
    Clause, ExactTest, Handling, Index, Parameter, Row, SearchQuery, Table, Test, parameter, references,
};

use crate::access::{Access, Sight};
use crate::connection::Link;
use crate::draft;
use crate::error::{Error, Fault};
use crate::find;

/// Patients whose links are looked for by one statement.
const TOGETHER: usize = 500;
/// Patients that are joined with so many, at most.
const MOST: u32 = 10_000;

fn by() -> Option<&'static Parameter> {
    parameter(ResourceType::PATIENT, "link")
}

/// Whom the Patient names.
pub(crate) fn links(of: &Index) -> BTreeSet<i64> {
    let Some(by) = by().filter(|_| of.kind == ResourceType::PATIENT) else { return BTreeSet::new() };
    let other = |row: &Row| match row {
        Row::Exact { param, value, .. } if by.params.contains(param) => Some(*value),
        _ => None,
    };
    of.rows.iter().filter_map(other).collect()
}

/// Whom records are joined with, whichever of two names the other.
#[derive(Debug, Default)]
pub(crate) struct Joined(HashMap<String, HashSet<String>>);

impl Joined {
    /// Of these patients, and of those whom they are joined with.
    pub(crate) fn of(link: &mut Link, mut patients: Vec<String>) -> Result<Self, Fault> {
        let mut joined = Self::default();
        let mut known: HashSet<String> = patients.iter().cloned().collect();
        while !patients.is_empty() {
            let mut pairs = Vec::new();
            for some in patients.chunks(TOGETHER) {
                pairs.extend(named(link, some)?);
            }
            patients.clear();
            for (one, other) in pairs {
                for (one, other) in [(&one, &other), (&other, &one)] {
                    joined.0.entry(one.clone()).or_default().insert(other.clone());
                    if known.insert(other.clone()) {
                        patients.push(other.clone());
                    }
                }
            }
        }
        Ok(joined)
    }

    /// These patients, with all whom they are joined with.
    pub(crate) fn all(&self, mut patients: Vec<String>) -> HashSet<String> {
        let mut all = HashSet::new();
        while let Some(one) = patients.pop() {
            let others = self.0.get(&one);
            if all.insert(one) {
                patients.extend(others.into_iter().flatten().cloned());
            }
        }
        all
    }
}

/// Who names whom, where one of them is one of these.
fn named(link: &mut Link, patients: &[String]) -> Result<Vec<(String, String)>, Fault> {
    let Some(by) = by() else { return Ok(Vec::new()) };
    let exact = |id: &String| ExactTest { value: Some(hash(ResourceType::PATIENT, id)), system: None };
    let named = vec![Clause::new(by.params.clone(), Test::Exact(patients.iter().map(exact).collect()))];
    let naming = vec![
        Clause::new(Vec::new(), Test::Id(patients.to_vec())),
        Clause::new(by.params.clone(), Test::Present(Table::Exact)),
    ];
    let mut pairs = Vec::new();
    for clauses in [named, naming] {
        let kinds = [ResourceType::PATIENT];
        let (mut query, _) = SearchQuery::parse(&kinds, &[], "", 0, Handling::Strict).map_err(Error::from)?;
        query.clauses.extend(clauses);
        query.count = MOST;
        for stored in find::page(link, &Sight::of(&Access::Whole), &query)?.entries {
            references(by, &draft::parse(&stored.body)?, &mut |kind, id| {
                if kind == ResourceType::PATIENT {
                    pairs.push((stored.id.clone(), id.to_owned()));
                }
            });
        }
    }
    Ok(pairs)
}
