//! `_include` and `_revinclude`: what comes along with the matches of a page
//! (<https://hl7.org/fhir/R4/search.html#include>).

use std::collections::{BTreeSet, HashSet};

use fhir::resource_type::ResourceType;
use fhir::scope::Op;
use fhir::search::{Clause, ExactTest, Handling, Include, SearchQuery, Test, links, parameter, references};

use crate::access::Sight;
use crate::connection::Link;
use crate::draft;
use crate::error::{Error, Fault};
use crate::find;
use crate::reader::shows;
use crate::record::Stored;
use crate::row;

/// So many at most come along with a page; so often what came along brings more.
const MOST: usize = 1000;
const ROUNDS: usize = 8;
/// Matches whose referrers are looked for by one statement.
const TOGETHER: usize = 64;

/// What is included with `matches`, each once and none of them a match.
pub(crate) fn along(
    link: &mut Link,
    sight: &Sight,
    includes: &[Include],
    matches: &[Stored],
) -> Result<Vec<Stored>, Fault> {
    let mut known: HashSet<i64> = matches.iter().map(|stored| stored.key).collect();
    let mut all: Vec<Stored> = Vec::new();
    let mut from: Vec<Stored> = if includes.is_empty() { Vec::new() } else { matches.to_vec() };
    for round in 0..ROUNDS {
        let mut brought = Vec::new();
        for include in includes.iter().filter(|include| round == 0 || include.iterate) {
            link.in_time()?;
            let found = if include.reverse {
                referrers(link, sight, include, &from)?
            } else {
                targets(link, sight, include, &from)?
            };
            brought.extend(found.into_iter().filter(|stored| known.insert(stored.key)));
            if all.len() + brought.len() > MOST {
                let details = format!("more than {MOST} resources would be included; ask for fewer a page");
                return Err(Error::from(fhir::outcome::Issue::error("too-costly", details)).into());
            }
        }
        if brought.is_empty() {
            break;
        }
        all.extend(brought.iter().cloned());
        from = brought;
    }
    Ok(all)
}

/// What the resources point to.
fn targets(link: &mut Link, sight: &Sight, include: &Include, from: &[Stored]) -> Result<Vec<Stored>, Fault> {
    let mut wanted: BTreeSet<(ResourceType, String)> = BTreeSet::new();
    for stored in from.iter().filter(|stored| include.source.is_none_or(|source| source == stored.kind)) {
        let json = draft::parse(&stored.body)?;
        for of in links(stored.kind).filter(|one| include.code.as_ref().is_none_or(|code| code == one.code)) {
            references(of, &json, &mut |kind, id| {
                if include.target.is_none_or(|target| target == kind) {
                    wanted.insert((kind, id.to_owned()));
                }
            });
        }
    }
    let mut found = Vec::with_capacity(wanted.len());
    for (kind, id) in wanted {
        link.in_time()?;
        if let Some(stored) = row::current(link, kind, &id)?.filter(|stored| !stored.deleted)
            && shows(link, sight, Op::Search, &stored)?
        {
            found.push(stored);
        }
    }
    Ok(found)
}

/// What points to the resources.
fn referrers(
    link: &mut Link,
    sight: &Sight,
    include: &Include,
    from: &[Stored],
) -> Result<Vec<Stored>, Fault> {
    let from: Vec<&Stored> =
        from.iter().filter(|stored| include.target.is_none_or(|target| target == stored.kind)).collect();
    let kinds: Vec<ResourceType> =
        include.source.map_or_else(|| ResourceType::all().collect(), |kind| vec![kind]);
    let params: Vec<i64> = match (&include.code, include.source) {
        (Some(code), Some(source)) => {
            parameter(source, code).map(|one| one.params.clone()).unwrap_or_default()
        }
        _ => kinds.iter().flat_map(|kind| links(*kind)).flat_map(|one| one.params.iter().copied()).collect(),
    };
    let mut found = Vec::new();
    for from in from.chunks(TOGETHER) {
        let hash = |stored: &&Stored| fhir::reference::hash(stored.kind, &stored.id);
        let exact = |value: i64| ExactTest { value: Some(value), system: None };
        let test = Test::Exact(from.iter().map(hash).map(exact).collect());
        for params in params.chunks(256) {
            link.in_time()?;
            let (mut query, _) =
                SearchQuery::parse(&kinds, &[], "", 0, Handling::Strict).map_err(Error::from)?;
            query.clauses.push(Clause::new(params.to_vec(), test.clone()));
            query.count = u32::try_from(MOST + 1).unwrap_or(u32::MAX);
            match find::page(link, sight, &query) {
                Ok(page) => found.extend(page.entries),
                Err(Fault::Refused(Error::Denied(..))) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(found)
}
