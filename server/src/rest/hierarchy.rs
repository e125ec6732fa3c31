//! `:above` and `:below` of a reference: what lies above or below a resource in the hierarchy of its
//! type, in the place of its address (<https://hl7.org/fhir/R4/search.html#recursive>).

use fhir::outcome::Issue;
use fhir::reference::{self, Reference, is_id};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, Kind, Parameter, SearchQuery, of_type, parameter, references};
use store::{Context, Error, Reader, Store};

use crate::http::failure::Failure;
use crate::http::request;

/// Resources of one hierarchy, at most: each is looked up.
const MOST: usize = 500;

type Pairs = Vec<(String, String)>;
type Place = (ResourceType, String);

/// The same pairs with each `location:below=PLACE` as the places it means. Other parameters have these
/// modifiers too, and keep them.
pub(super) async fn expanded(
    store: &Store,
    context: &Context,
    kinds: &[ResourceType],
    base: &str,
    pairs: Pairs,
) -> Result<Pairs, Failure> {
    let mut all = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let asked = match name.rsplit_once(':') {
            Some((plain, direction @ ("above" | "below"))) => {
                named(kinds, plain, &value, base).map(|places| (plain, direction == "below", places))
            }
            _ => None,
        };
        let Some((plain, down, places)) = asked else {
            all.push((name, value));
            continue;
        };
        let found = store.reading(context, move |reader| reached(reader, places.clone(), down)).await?;
        let found: Vec<String> = found.into_iter().map(|(kind, id)| format!("{kind}/{id}")).collect();
        all.push((plain.to_owned(), found.join(",")));
    }
    Ok(all)
}

/// The resources that the value names, if the parameter points to types that have a hierarchy.
fn named(kinds: &[ResourceType], name: &str, value: &str, base: &str) -> Option<Vec<Place>> {
    // Of a chain the last parameter counts, of whatever type it is.
    let chained = name.rsplit_once(['.', ':']).map(|(_, code)| code);
    let everywhere: Vec<ResourceType> = ResourceType::all().collect();
    let of: Vec<&Parameter> = match chained {
        Some(code) => everywhere.iter().filter_map(|kind| parameter(*kind, code)).collect(),
        None => kinds.iter().filter_map(|kind| parameter(*kind, name)).collect(),
    };
    if of.iter().any(|one| one.kind != Kind::Reference) {
        return None;
    }
    let mut targets: Vec<ResourceType> = of.iter().flat_map(|one| one.targets.iter().copied()).collect();
    targets.retain(|kind| upwards(*kind).is_some());
    targets.sort_unstable();
    targets.dedup();
    let mut places = Vec::new();
    for one in value.split(',') {
        match reference::parse(one, base) {
            Reference::Local { kind, id, .. } if targets.contains(&kind) => {
                places.push((kind, id.to_owned()));
            }
            Reference::Other(id) if is_id(id) && !targets.is_empty() => {
                places.extend(targets.iter().map(|kind| (*kind, id.to_owned())));
            }
            _ => return None,
        }
    }
    Some(places)
}

/// The parameter by which resources of a type point to the one above: to their own type, and no other.
fn upwards(kind: ResourceType) -> Option<&'static Parameter> {
    of_type(kind).iter().find(|one| {
        one.indexed
            && one.kind == Kind::Reference
            && matches!(one.code, "partof" | "part-of")
            && one.targets == [kind]
    })
}

/// The places and all that can be reached from them.
fn reached(reader: &mut Reader<'_>, mut places: Vec<Place>, down: bool) -> Result<Vec<Place>, Error> {
    let mut next = 0;
    while let Some((kind, id)) = places.get(next).cloned() {
        next += 1;
        let Some(up) = upwards(kind) else { continue };
        let found = if down { below(reader, up, kind, &id)? } else { above(reader, up, kind, &id)? };
        for one in found {
            if !places.contains(&one) {
                places.push(one);
            }
        }
        if places.len() > MOST {
            let details = format!("more than {MOST} resources above or below one");
            return Err(Issue::error("too-costly", details).into());
        }
    }
    Ok(places)
}

fn below(reader: &mut Reader<'_>, up: &Parameter, kind: ResourceType, id: &str) -> Result<Vec<Place>, Error> {
    let pairs = [(up.code.to_owned(), format!("{kind}/{id}")), ("_count".to_owned(), (MOST + 1).to_string())];
    let (query, _) = SearchQuery::parse(&[kind], &pairs, "", 0, Handling::Strict)?;
    let found = reader.search(&query)?.entries;
    Ok(found.into_iter().map(|stored| (stored.kind, stored.id)).collect())
}

fn above(reader: &mut Reader<'_>, up: &Parameter, kind: ResourceType, id: &str) -> Result<Vec<Place>, Error> {
    let stored = match reader.read(kind, id) {
        Ok(stored) => stored,
        Err(Error::NotFound | Error::Gone { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let resource = request::parse(stored.body.as_bytes()).map_err(|failure| Error::from(failure.issues))?;
    let mut found = Vec::new();
    references(up, &resource, &mut |kind, id| found.push((kind, id.to_owned())));
    Ok(found)
}
