//! Searching, as tables: resources, and queries with the resources each must find.

mod composites;
mod dates;
mod handling;
mod includes;
mod numbers;
mod pages;
mod references;
mod shared;
mod sorting;
mod texts;
mod tokens;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Answer, Made, Server, encoded, unique};

/// Resources, and what is found of them.
///
/// In texts `<label>` stands for `Type/id` of a resource, `<label.id>` for its id, `<base>` for the
/// server's address, `<run>` for a text that only this run of this table has.
pub(crate) struct Table {
    /// The beginning of its checks' ids.
    pub(crate) id: &'static str,
    pub(crate) section: &'static str,
    /// The type of resources that name none, and that queries without a path search.
    pub(crate) kind: &'static str,
    /// What each of that type has that does not say otherwise.
    pub(crate) common: &'static str,
    /// Label and content. A label that begins with a dot is not searched for.
    pub(crate) data: &'static [(&'static str, &'static str)],
    pub(crate) queries: &'static [Expected],
}

/// A name, a query, what it finds.
///
/// The query is `name=value&…`, or `/path?name=value&…`. What it finds are labels in any order, or
/// after `>` in this order; with `+` those that are included; with `?` behind it what only an optional
/// feature finds, without which the check is skipped; `!` is a refusal.
pub(crate) type Expected = (&'static str, &'static str, &'static str);

/// What the resources of a table became.
pub(crate) struct Loaded {
    run: String,
    tag: String,
    made: HashMap<&'static str, Made>,
}

impl Loaded {
    fn new(server: &Server, table: &Table) -> Result<Self, Stop> {
        let mut loaded = Self { run: unique("run"), tag: unique("tag"), made: HashMap::new() };
        let read = |text: String| -> Result<Value, Stop> {
            serde_json::from_str(&text).map_err(|e| Stop::Fail(format!("{text}: {e}")))
        };
        for (label, content) in table.data {
            let mut resource = read(loaded.filled(server, content))?;
            if resource.get("resourceType").is_none() {
                let common = read(loaded.filled(server, table.common))?;
                let mut whole = json!({"resourceType": table.kind});
                for part in [common, resource] {
                    for (name, value) in part.as_object().into_iter().flatten() {
                        if let Some(object) = whole.as_object_mut() {
                            object.insert(name.clone(), value.clone());
                        }
                    }
                }
                resource = whole;
            }
            let tag = json!({"system": "urn:conformance", "code": loaded.tag});
            let tags = resource.pointer("/meta/tag").and_then(Value::as_array).cloned().unwrap_or_default();
            let tags: Vec<Value> = tags.into_iter().chain([tag]).collect();
            if let Some(object) = resource.as_object_mut() {
                let meta = object.entry("meta").or_insert_with(|| json!({}));
                if let Some(meta) = meta.as_object_mut() {
                    meta.insert("tag".to_owned(), Value::Array(tags));
                }
            }
            let made = server.create(&resource).map_err(|stop| match stop {
                Stop::Fail(why) => Stop::Fail(format!("the resource `{label}` is not taken: {why}")),
                skip @ Stop::Skip(_) => skip,
            })?;
            loaded.made.insert(label, made);
        }
        Ok(loaded)
    }

    /// The text with what its placeholders stand for.
    fn filled(&self, server: &Server, text: &str) -> String {
        let mut text = text.replace("<run>", &self.run).replace("<base>", &server.base);
        for (label, made) in &self.made {
            let label = label.trim_start_matches('.');
            text = text.replace(&format!("<{label}>"), &made.reference());
            text = text.replace(&format!("<{label}.id>"), &made.id);
        }
        text
    }

    /// The labels of `Type/id`s; what is not ours keeps its address.
    fn labels(&self, found: &[String]) -> Vec<String> {
        let label = |one: &String| {
            let own = self.made.iter().find(|(_, made)| made.reference() == *one);
            own.map_or_else(|| one.clone(), |(label, _)| label.trim_start_matches('.').to_owned())
        };
        found.iter().map(label).collect()
    }

    /// All pages of a query over this table's resources alone.
    fn ask(&self, server: &Server, table: &Table, query: &str) -> Result<Vec<Answer>, Stop> {
        let (path, query) = self.address(server, table, query);
        server.pages(&path, &query)
    }

    /// Path, and query narrowed to this table's resources.
    fn address(&self, server: &Server, table: &Table, query: &str) -> (String, String) {
        let query = self.filled(server, query);
        let (path, query) = match query.strip_prefix('/') {
            Some(rest) => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                let path = if path.is_empty() { String::new() } else { format!("/{path}") };
                (path, query.to_owned())
            }
            None => (format!("/{}", table.kind), query),
        };
        (path, format!("{query}&_tag=urn:conformance|{}", self.tag))
    }
}

impl Table {
    /// One check for each query.
    pub(crate) fn checks(&'static self) -> Vec<Check> {
        let loaded: Arc<OnceLock<Result<Loaded, Stop>>> = Arc::default();
        let one = |(name, query, found): &'static Expected| {
            let loaded = Arc::clone(&loaded);
            let mut needs = vec![format!("{}.create", self.kind), "?_tag".to_owned()];
            needs.extend(claims(self.kind, query, *found == "!"));
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            Check::new(
                format!("{}/{name}", self.id),
                self.section,
                self.title(query, found),
                &needs,
                move |server| {
                    let loaded = loaded.get_or_init(|| Loaded::new(server, self));
                    self.hold(server, loaded.as_ref().map_err(Clone::clone)?, query, found)
                },
            )
        };
        self.queries.iter().map(one).collect()
    }

    fn title(&self, query: &str, found: &str) -> String {
        let asked = if query.starts_with('/') { query.to_owned() } else { format!("{}?{query}", self.kind) };
        match found.trim() {
            "!" => format!("`{asked}` is refused"),
            "" => format!("`{asked}` finds nothing"),
            found => match found.strip_prefix('>') {
                Some(found) => format!("`{asked}` finds in this order: {}", found.trim()),
                None => format!("`{asked}` finds {found}"),
            },
        }
    }

    fn hold(&self, server: &Server, loaded: &Loaded, query: &str, wanted: &str) -> Outcome {
        let (path, narrowed) = loaded.address(server, self, query);
        let first = server.get(&format!("{path}?{}", encoded(&narrowed)))?;
        if wanted == "!" {
            return first.refused(&[400, 403, 404, 422, 501]);
        }
        let name = query.rsplit('?').next().unwrap_or_default().split('=').next().unwrap_or_default();
        if first.unsupported() && (name.contains([':', '.']) || name.starts_with('_')) {
            return Err(Stop::Skip(format!("`{name}` is refused as not supported")));
        }
        // What no compartment of the kind holds has no address there, or is an empty list.
        if wanted.is_empty() && query.starts_with('/') && first.status == 404 {
            return first.refused(&[404]);
        }
        first.expect(200)?;
        let pages = loaded.ask(server, self, query)?;
        let of = |mode: &str| {
            let all: Vec<String> = pages.iter().flat_map(|page| page.found(mode)).collect();
            loaded.labels(&all)
        };
        let (mut matched, mut included) = (of("match"), of("include"));
        let optional: Vec<&str> =
            wanted.split_whitespace().filter_map(|label| label.strip_suffix('?')).collect();
        if !optional.is_empty() && !matched.iter().any(|label| optional.contains(&label.as_str())) {
            return Err(Stop::Skip(format!("{} is not found, which it only may be", shown(&optional))));
        }
        let wanted = wanted.replace('?', "");
        let plain = wanted.strip_prefix('>').unwrap_or(&wanted);
        let (included_wanted, mut matched_wanted): (Vec<&str>, Vec<&str>) =
            plain.split_whitespace().partition(|label| label.starts_with('+'));
        if plain == wanted {
            matched.sort();
            matched_wanted.sort_unstable();
        }
        ensure(
            matched == matched_wanted,
            format!("found {}, not {}", shown(&matched), shown(&matched_wanted)),
        )?;
        let mut included_wanted: Vec<&str> =
            included_wanted.iter().map(|label| label.trim_start_matches('+')).collect();
        included.sort();
        included_wanted.sort_unstable();
        ensure(
            included == included_wanted,
            format!("included {}, not {}", shown(&included), shown(&included_wanted)),
        )
    }
}

fn shown<T: AsRef<str>>(labels: &[T]) -> String {
    if labels.is_empty() {
        return "nothing".to_owned();
    }
    labels.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

/// What a query needs the server to claim.
fn claims(kind: &str, query: &str, refused: bool) -> Vec<String> {
    let (kind, query) = match query.strip_prefix('/') {
        None => (kind, query),
        Some(rest) => {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            (path.rsplit('/').next().unwrap_or_default(), query)
        }
    };
    let mut claims: Vec<String> = match kind {
        "" => vec!["search-system".to_owned()],
        "*" => Vec::new(),
        kind => vec![format!("{kind}.search-type")],
    };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let code = name.split([':', '.']).next().unwrap_or_default();
        match code {
            "" | "*" | "_sort" | "_count" | "_total" | "_summary" | "_elements" | "_format" | "_type"
            | "_has" => {}
            // What is refused is refused by everybody; for all there is no claim.
            "_include" | "_revinclude" if refused || value.contains('*') => {}
            "_include" | "_revinclude" => {
                let link: Vec<&str> = value.split(':').take(2).collect();
                let of = if code == "_include" { link.first().copied().unwrap_or_default() } else { kind };
                // An iterated one may begin at what was included.
                if !(code == "_revinclude" && name.contains("iterate")) {
                    let sign = if code == "_include" { '+' } else { '-' };
                    claims.push(format!("{of}{sign}{}", link.join(":")));
                }
            }
            code if kind.is_empty() || kind == "*" => claims.push(format!("?{code}")),
            code => claims.push(format!("{kind}?{code}")),
        }
    }
    claims
}

/// The checks of all parts.
pub(crate) fn checks() -> Vec<Check> {
    let parts = [
        dates::checks(),
        numbers::checks(),
        tokens::checks(),
        texts::checks(),
        references::checks(),
        composites::checks(),
        shared::checks(),
        includes::checks(),
        sorting::checks(),
        pages::checks(),
        views::checks(),
        handling::checks(),
    ];
    parts.into_iter().flatten().collect()
}
