//! `:in` and `:not-in`: the codes of a ValueSet, in the place of its address
//! (<https://hl7.org/fhir/R4/search.html#modifiers>).

use std::collections::{BTreeSet, HashMap};

use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::reference::{self, Reference};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, Kind, SearchQuery, parameter};
use store::{Context, Error, Reader, Store};

use crate::http::failure::Failure;
use crate::http::request;

/// Codes of one set, at most: each is looked up.
const MOST: usize = 500;
/// Sets within sets.
const DEEPEST: u8 = 8;

type Pairs = Vec<(String, String)>;

/// The same pairs with each `code:in=ADDRESS` as the codes it means.
pub(super) async fn expanded(
    store: &Store,
    context: &Context,
    kinds: &[ResourceType],
    pairs: &Pairs,
) -> Result<Pairs, Failure> {
    let mut all = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (bare, modifier) = match name.rsplit_once(':') {
            Some((bare, "in")) if is_of_codes(kinds, bare) => (bare, ""),
            Some((bare, "not-in")) if is_of_codes(kinds, bare) => (bare, ":not"),
            _ => {
                all.push((name.clone(), value.clone()));
                continue;
            }
        };
        let address = value.clone();
        let codes =
            store.reading(context, move |reader| codes(reader, &address, 0, &mut Known::new())).await?;
        if codes.is_empty() {
            return Err(Failure::invalid(
                Issue::error("value", format!("{name}: the ValueSet is empty")).into(),
            ));
        }
        let codes: Vec<String> = codes.into_iter().collect();
        all.push((format!("{bare}{modifier}"), codes.join(",")));
    }
    Ok(all)
}

/// Is the parameter one of codes? Of a chain the last one counts, of whatever type it is.
fn is_of_codes(kinds: &[ResourceType], name: &str) -> bool {
    let token =
        |kind: ResourceType, code: &str| parameter(kind, code).is_some_and(|one| one.kind == Kind::Token);
    match name.rsplit_once(['.', ':']) {
        Some((_, code)) => ResourceType::all().any(|kind| token(kind, code)),
        None => kinds.iter().any(|kind| token(*kind, name)),
    }
}

/// What is known of sets that were read already: one may be in many others.
type Known = HashMap<String, BTreeSet<String>>;

/// `system|code` of each code of the set.
fn codes(
    reader: &mut Reader<'_>,
    address: &str,
    depth: u8,
    known: &mut Known,
) -> Result<BTreeSet<String>, Error> {
    if let Some(codes) = known.get(address) {
        return Ok(codes.clone());
    }
    let refuse = |code, details: String| Err(Error::from(Issue::error(code, details)));
    if depth > DEEPEST {
        return refuse("too-costly", "ValueSets within ValueSets too deeply".to_owned());
    }
    let Some(body) = found(reader, address)? else {
        // What a set names is no secret; what a query names could be anything.
        let which = if depth > 0 { address } else { "of that address" };
        return refuse("not-found", format!("there is no ValueSet {which} here"));
    };
    let set = request::parse(body.as_bytes()).map_err(|failure| Error::from(failure.issues))?;
    let mut all = BTreeSet::new();
    if set.get("expansion").is_some() {
        contained(set.at(&["expansion", "contains"]).map_or(&[][..], Json::items), &mut all);
    } else {
        let part = |name: &str| set.get("compose").map_or(&[][..], |compose| compose.list(name));
        for include in part("include") {
            all.extend(of_part(reader, include, depth, known)?);
        }
        for exclude in part("exclude") {
            for code in of_part(reader, exclude, depth, known)? {
                all.remove(&code);
            }
        }
    }
    if all.len() > MOST {
        return refuse("too-costly", format!("the ValueSet has more than {MOST} codes"));
    }
    known.insert(address.to_owned(), all.clone());
    Ok(all)
}

fn found(reader: &mut Reader<'_>, address: &str) -> Result<Option<String>, Error> {
    if let Reference::Local { kind, id, .. } = reference::parse(address, "") {
        return match reader.read(kind, id) {
            Ok(stored) if kind == ResourceType::VALUE_SET => Ok(Some(stored.body)),
            Ok(_) | Err(Error::NotFound | Error::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        };
    }
    let (url, version) =
        address.split_once('|').map_or((address, None), |(url, version)| (url, Some(version)));
    let mut pairs = vec![("url".to_owned(), url.replace(',', "\\,"))];
    pairs.extend(version.map(|version| ("version".to_owned(), version.to_owned())));
    pairs.push(("_sort".to_owned(), "-_lastUpdated".to_owned()));
    let (query, _) = SearchQuery::parse(&[ResourceType::VALUE_SET], &pairs, "", 0, Handling::Strict)?;
    Ok(reader.search(&query)?.entries.into_iter().next().map(|stored| stored.body))
}

/// Abstract entries group others; they are no codes themselves.
fn contained(items: &[Json], all: &mut BTreeSet<String>) {
    for one in items {
        let is_code = one.get("abstract").and_then(Json::as_bool) != Some(true);
        if let (true, Some(code)) = (is_code, one.text("code")) {
            all.insert(token(one.text("system"), code));
        }
        contained(one.list("contains"), all);
    }
}

fn of_part(
    reader: &mut Reader<'_>,
    part: &Json,
    depth: u8,
    known: &mut Known,
) -> Result<BTreeSet<String>, Error> {
    let concepts = part.list("concept");
    let sets = part.list("valueSet");
    if part.get("filter").is_some() || (concepts.is_empty() && sets.is_empty()) {
        let details =
            "the ValueSet says its codes by a rule: that needs its expansion, or a terminology server";
        return Err(Issue::error("not-supported", details).into());
    }
    let own: BTreeSet<String> =
        concepts.iter().filter_map(|one| Some(token(part.text("system"), one.text("code")?))).collect();
    let mut all = (!concepts.is_empty()).then_some(own);
    for address in sets.iter().filter_map(Json::as_str) {
        let others = codes(reader, address, depth + 1, known)?;
        all = Some(all.map_or_else(|| others.clone(), |known| &known & &others));
    }
    Ok(all.unwrap_or_default())
}

fn token(system: Option<&str>, code: &str) -> String {
    let escaped = |text: &str| {
        ['\\', ',', '|', '$'].iter().fold(text.to_owned(), |text, c| text.replace(*c, &format!("\\{c}")))
    };
    format!("{}|{}", escaped(system.unwrap_or_default()), escaped(code))
}
