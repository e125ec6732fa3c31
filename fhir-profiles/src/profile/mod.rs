//! Profiles and extensions: HL7's of the base specification, our own, and those of packages.

mod conform;
mod definition;
mod extension;
mod ours;
mod pattern;
mod slicing;

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

pub use conform::Scope;
pub use extension::Extensions;
pub(crate) use ours::of_a_model;
pub use ours::{MODEL_SYSTEM, OWN, definitions, is_of_a_model};

use crate::fhirpath::{Node, is_subtype};
use crate::json::{Json, Limits, Object, parse};
use crate::outcome::Issues;
use crate::schema::Schema;
use crate::terminology::{self, Terminology, ValueSet};
use crate::validate::At;
use conform::{Check, covers};
use definition::Definition;

/// HL7's profiles and extension definitions, one a line, each beginning with its address and version.
const OFFICIAL: &str = include_str!("../../definitions/profiles.ndjson");

const TYPES: &str = "http://hl7.org/fhir/StructureDefinition/";

/// The definitions resources are checked against.
#[derive(Debug, Default)]
pub struct Profiles {
    /// What is known besides; the built-in ones have none.
    base: Option<&'static Profiles>,
    definitions: HashMap<String, Vec<Entry>>,
    value_sets: HashMap<String, Vec<Set>>,
    code_systems: HashMap<String, Json<'static>>,
}

#[derive(Debug)]
struct Entry {
    version: String,
    source: Source,
    read: OnceLock<Option<Definition>>,
}

#[derive(Debug)]
enum Source {
    Text(&'static str),
    Tree(Json<'static>),
}

#[derive(Debug)]
struct Set {
    version: String,
    source: Json<'static>,
    read: OnceLock<ValueSet>,
}

/// What a canonical of a StructureDefinition names.
#[derive(Debug, Clone, Copy)]
enum Found<'p> {
    /// A type of the base specification.
    Type(&'p str),
    Profile(&'p Definition),
}

impl Found<'_> {
    fn covers(self, own: &str) -> bool {
        match self {
            Self::Type(of) => covers(of, own),
            Self::Profile(definition) => covers(&definition.of, own),
        }
    }
}

static BUILT_IN: LazyLock<Profiles> = LazyLock::new(|| {
    let mut profiles = Profiles::default();
    let field = |line: &'static str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    };
    for line in OFFICIAL.lines() {
        let (Some(url), Some(version)) = (field(line, "url"), field(line, "version")) else { continue };
        profiles.put(url.to_owned(), version.to_owned(), Source::Text(line));
    }
    for text in ours::profiles() {
        let url =
            parse(text.as_bytes(), &Limits::default()).ok().and_then(|one| Some(one.text("url")?.to_owned()));
        if let Some(url) = url {
            profiles.put(url, String::new(), Source::Text(text));
        }
    }
    profiles
});

impl Profiles {
    /// HL7's of the base specification, and our own.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// The built-in ones, to add others to.
    pub fn new() -> Self {
        Self { base: Some(Self::built_in()), ..Self::default() }
    }

    /// Adds a StructureDefinition, ValueSet or CodeSystem; anything else is passed over. Says
    /// whether it was added. Of two of the same address and version the first stays.
    pub fn add(&mut self, resource: &Json) -> bool {
        let Some(url) = resource.text("url").map(str::to_owned) else { return false };
        let version = resource.text("version").unwrap_or_default().to_owned();
        let kept = kept(resource);
        match resource.text("resourceType") {
            Some("StructureDefinition") => {
                let profile = resource.text("derivation") == Some("constraint");
                if profile {
                    self.put(url, version, Source::Tree(kept));
                }
                profile
            }
            Some("ValueSet") => {
                let set = Set { version, source: kept, read: OnceLock::new() };
                self.value_sets.entry(url).or_default().push(set);
                true
            }
            Some("CodeSystem") => {
                self.code_systems.entry(url).or_insert(kept);
                true
            }
            _ => false,
        }
    }

    fn put(&mut self, url: String, version: String, source: Source) {
        let all = self.definitions.entry(url).or_default();
        if all.iter().all(|known| known.version != version) {
            all.push(Entry { version, source, read: OnceLock::new() });
        }
    }

    /// How many profiles and extensions there are besides the built-in ones.
    pub fn len(&self) -> usize {
        self.definitions.values().map(Vec::len).sum()
    }

    /// Are there only the built-in ones?
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }

    /// Is a profile of that canonical known?
    pub fn knows(&self, canonical: &str) -> bool {
        self.find(canonical).is_some()
    }

    fn find(&self, canonical: &str) -> Option<Found<'_>> {
        self.found(canonical, 0)
    }

    fn found(&self, canonical: &str, depth: usize) -> Option<Found<'_>> {
        let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
        // An element of a profile is no profile.
        if url.contains('#') {
            return None;
        }
        // The profiles of a definition that are one another's base.
        if depth > 16 {
            return None;
        }
        let entry = self.definitions.get(url).and_then(|all| {
            all.iter().find(|one| version.is_empty() || one.version.is_empty() || one.version == version)
        });
        match entry {
            Some(entry) => self.definition(entry, depth).map(Found::Profile),
            None => match self.base {
                Some(base) => base.found(canonical, depth),
                None => type_named(url).map(Found::Type),
            },
        }
    }

    fn definition<'p>(&'p self, entry: &'p Entry, depth: usize) -> Option<&'p Definition> {
        if let Some(read) = entry.read.get() {
            return read.as_ref();
        }
        let read = |json: &Json| {
            let base = json.text("baseDefinition").and_then(|url| self.found(url, depth + 1));
            let base = base.and_then(|base| if let Found::Profile(base) = base { Some(base) } else { None });
            definition::read(json, base)
        };
        let definition = match &entry.source {
            Source::Text(text) => {
                parse(text.as_bytes(), &Limits::default()).ok().and_then(|json| read(&json))
            }
            Source::Tree(json) => read(json),
        };
        entry.read.get_or_init(|| definition).as_ref()
    }

    fn value_set(&self, canonical: &str) -> Option<&ValueSet> {
        let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
        if let Some(set) = self.set(url, version) {
            return Some(set.read.get_or_init(|| terminology::read(&set.source, self)));
        }
        terminology::official(url)
    }

    fn set(&self, url: &str, version: &str) -> Option<&Set> {
        let all = self.value_sets.get(url)?;
        all.iter().find(|one| version.is_empty() || one.version == version)
    }

    /// Findings of a resource against one profile; none if it is not known.
    ///
    /// `tells`: also what could not be checked is told, as information.
    pub fn check<'a>(
        &'a self,
        resource: &'a Json<'a>,
        scope: &mut Scope<'a>,
        canonical: &str,
        tells: bool,
    ) -> Option<Issues> {
        let found = self.find(canonical)?;
        let node = Node::resource(resource);
        let mut check = Check::new(self, node, scope, tells);
        let name = resource.text("resourceType").unwrap_or("Resource").to_owned();
        let at = At::root(&name);
        match found {
            Found::Profile(definition) => {
                check.profile(definition, node, &at);
                if is_ours(&definition.url) {
                    check.issues.extend(ours::further(resource).0);
                }
            }
            Found::Type(of) if covers(of, node.type_name()) => {}
            Found::Type(of) => {
                check.error(&at, "invalid", format!("the profile is for {of}, not for {name}"));
            }
        }
        Some(Issues(check.issues))
    }
}

impl Terminology for Profiles {
    fn value_set(&self, canonical: &str) -> Option<&Json<'static>> {
        let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
        self.set(url, version).map(|set| &set.source)
    }

    fn code_system(&self, url: &str) -> Option<&Json<'static>> {
        self.code_systems.get(url)
    }
}

fn type_named(url: &str) -> Option<&'static str> {
    let name = url.strip_prefix(TYPES)?;
    match name {
        "Resource" => Some("Resource"),
        "DomainResource" => Some("DomainResource"),
        "Element" | "BackboneElement" => Some("Element"),
        name => Schema::r4().named(name).map(|of| of.name),
    }
}

/// Of a definition only what is read here; its prose is most of it.
fn kept(definition: &Json) -> Json<'static> {
    const PROSE: [&str; 18] = [
        "text",
        "description",
        "definition",
        "comment",
        "short",
        "requirements",
        "alias",
        "mapping",
        "example",
        "isSummary",
        "isModifier",
        "isModifierReason",
        "mustSupport",
        "contact",
        "copyright",
        "display",
        "designation",
        "purpose",
    ];
    match definition {
        Json::Object(object) => {
            let pairs = object.iter().filter(|(key, _)| !PROSE.contains(key));
            let snapshot = object.get("snapshot").is_some();
            let pairs = pairs.filter(|(key, _)| !(snapshot && *key == "differential"));
            Json::Object(
                pairs.map(|(key, value)| (key.to_owned().into(), of_key(key, value))).collect::<Object>(),
            )
        }
        Json::Array(items) => Json::Array(items.iter().map(kept).collect()),
        other => other.clone().into_owned(),
    }
}

/// Values are kept whole.
fn of_key(key: &str, value: &Json) -> Json<'static> {
    let whole = ["fixed", "pattern", "minValue", "maxValue"].iter().any(|stem| key.starts_with(stem));
    if whole { value.clone().into_owned() } else { kept(value) }
}

/// Is it the address of one of our own definitions?
pub(crate) fn is_ours(url: &str) -> bool {
    url.starts_with(ours::BASE)
}

/// Is a type what a context of an extension names?
fn is_type(own: &str, name: &str) -> bool {
    is_subtype(own, name)
}
