//! A StructureDefinition as a tree of rules
//! (<https://hl7.org/fhir/R4/profiling.html>, <https://hl7.org/fhir/R4/elementdefinition.html>).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::fhirpath::Expression;
use crate::invariant;
use crate::json::Json;
use crate::outcome::Severity;
use crate::schema::{Schema, Type, TypeKind};

/// What a profile or extension says beyond its type.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) url: String,
    /// The last part of the address, for people.
    pub(super) name: String,
    /// The type it is about.
    pub(super) of: String,
    /// Where an extension may stand: kind and expression.
    pub(super) contexts: Vec<(String, String)>,
    pub(super) root: Rules,
}

/// What an element has to be. Nothing said is nothing asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) min: Option<usize>,
    pub(super) max: Option<usize>,
    pub(super) types: Vec<TypeRule>,
    pub(super) fixed: Option<Arc<Json<'static>>>,
    pub(super) pattern: Option<Arc<Json<'static>>>,
    pub(super) least: Option<Arc<Json<'static>>>,
    pub(super) most: Option<Arc<Json<'static>>>,
    pub(super) length: Option<usize>,
    /// Of a required binding.
    pub(super) value_set: Option<String>,
    pub(super) constraints: Vec<Arc<Constraint>>,
    /// By FHIRPath name.
    pub(super) children: Vec<(String, Rules)>,
    pub(super) slicing: Option<Arc<Slicing>>,
    pub(super) slices: Vec<(String, Rules)>,
}

/// One type an element may have.
#[derive(Debug, Clone)]
pub(super) struct TypeRule {
    pub(super) code: String,
    /// It has to conform to one of these.
    pub(super) profiles: Vec<String>,
    /// What a reference may lead to.
    pub(super) targets: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Slicing {
    pub(super) discriminators: Vec<Discriminator>,
    pub(super) closed: bool,
    /// What is in no slice comes last.
    pub(super) at_end: bool,
    pub(super) ordered: bool,
}

#[derive(Debug)]
pub(super) struct Discriminator {
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) expression: Option<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Exists,
    Type,
    Profile,
}

/// An invariant of a profile.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) key: String,
    pub(super) severity: Severity,
    pub(super) text: String,
    source: String,
    compiled: OnceLock<Option<Expression>>,
}

impl Constraint {
    pub(super) fn expression(&self) -> Option<&Expression> {
        self.compiled.get_or_init(|| Expression::parse(&self.source).ok()).as_ref()
    }
}

impl Slicing {
    fn by(kind: Kind, path: &str) -> Self {
        let expression = Expression::parse(path).ok();
        let discriminators = vec![Discriminator { kind, path: path.to_owned(), expression }];
        Self { discriminators, closed: false, at_end: false, ordered: false }
    }
}

impl Rules {
    pub(super) fn child(&self, name: &str) -> Option<&Rules> {
        self.children.iter().find(|(own, _)| own == name).map(|(_, rules)| rules)
    }

    /// Does it say what a value is, so that slices can be told apart by it?
    pub(super) fn decides(&self) -> bool {
        self.fixed.is_some()
            || self.pattern.is_some()
            || self.value_set.is_some()
            || self.children.iter().any(|(_, rules)| {
                rules.decides() || rules.slices.iter().any(|(_, slice)| slice.is_asked() && slice.decides())
            })
    }

    /// Has what is of this slice to be there, or does its type alone make it one of the slice?
    pub(super) fn is_asked(&self) -> bool {
        self.min > Some(0) || !self.types.is_empty()
    }
}

/// Reads a definition on top of the rules of its base.
pub(super) fn read(definition: &Json, base: Option<&Definition>) -> Option<Definition> {
    let (url, of) = (definition.text("url")?.to_owned(), definition.text("type")?.to_owned());
    let snapshot = definition.get("snapshot").map_or(&[][..], |part| part.list("element"));
    let mut root = match base {
        Some(base) if snapshot.is_empty() => base.root.clone(),
        _ => Rules::default(),
    };
    let elements = match snapshot {
        [] => definition.get("differential").map_or(&[][..], |part| part.list("element")),
        snapshot => snapshot,
    };
    let kind = Schema::r4().named(&of);
    let mut names = Names::default();
    for element in elements {
        let Some(id) = names.of(element) else { continue };
        let at_root = !id.contains('.');
        let rules = place(&mut root, &id, kind);
        say(rules, element, at_root);
    }
    let contexts = definition
        .list("context")
        .iter()
        .filter_map(|one| Some((one.text("type")?.to_owned(), one.text("expression")?.to_owned())));
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    Some(Definition { contexts: contexts.collect(), url, name, of, root })
}

/// The ids of elements; where one has none, or one of another place than its path, it is made of its path and the slices before it.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn of<'a>(&mut self, element: &'a Json) -> Option<Cow<'a, str>> {
        let path = element.text("path")?;
        let steps = |text: &str| text.split('.').count();
        if let Some(id) = element.text("id").filter(|id| steps(id) == steps(path)) {
            return Some(Cow::Borrowed(id));
        }
        self.0.retain(|known, _| known != path && !known.starts_with(&format!("{path}.")));
        if let Some(slice) = element.text("sliceName") {
            self.0.insert(path.to_owned(), slice.to_owned());
        }
        let mut id = String::new();
        let mut walked = String::new();
        for step in path.split('.') {
            for text in [&mut id, &mut walked] {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(step);
            }
            if let Some(slice) = self.0.get(&walked) {
                id.push(':');
                id.push_str(slice);
            }
        }
        Some(Cow::Owned(id))
    }
}

/// The place of an element id, made where it is missing.
fn place<'r>(root: &'r mut Rules, id: &str, of: Option<&'static Type>) -> &'r mut Rules {
    let mut rules = root;
    let mut of = of;
    for segment in id.split('.').skip(1).take(32) {
        let (name, slice) =
            segment.split_once(':').map_or((segment, None), |(name, slice)| (name, Some(slice)));
        let stem = name.strip_suffix("[x]");
        let mut name = stem.unwrap_or(name);
        let mut slice = slice;
        // `valueQuantity` is `value[x]` as far as it is a Quantity.
        let by_key = of.and_then(|of| of.element(name).map(|element| (of, element)));
        if let (Some((of, element)), None) = (by_key, stem)
            && let Some(own) = of.names.get(usize::from(element.name))
            && *own != name
        {
            (name, slice) = (own, Some(name));
        }
        let kind = of.and_then(|of| kind_of(of, name, slice));
        rules = own(&mut rules.children, name);
        for slice in slice.into_iter().flat_map(|slice| slice.split('/')) {
            let chosen = of.and_then(|of| of.element(slice)).and(kind);
            if rules.slicing.is_none() {
                rules.slicing = match name {
                    "extension" | "modifierExtension" => Some(Arc::new(Slicing::by(Kind::Value, "url"))),
                    _ if chosen.is_some() => Some(Arc::new(Slicing::by(Kind::Type, "$this"))),
                    _ => None,
                };
            }
            rules = own(&mut rules.slices, slice);
            if let (Some(kind), true) = (chosen, rules.types.is_empty()) {
                let code = kind.name.to_owned();
                rules.types.push(TypeRule { code, profiles: Vec::new(), targets: Vec::new() });
            }
        }
        of = kind;
    }
    rules
}

#[expect(clippy::indexing_slicing, reason = "it was found or made just before")]
fn own<'r>(list: &'r mut Vec<(String, Rules)>, name: &str) -> &'r mut Rules {
    let at = list.iter().position(|(own, _)| own == name).unwrap_or_else(|| {
        list.push((name.to_owned(), Rules::default()));
        list.len() - 1
    });
    &mut list[at].1
}

/// The type of an element, where there is one only.
fn kind_of(of: &'static Type, name: &str, slice: Option<&str>) -> Option<&'static Type> {
    let schema = Schema::r4();
    if let Some(chosen) = slice.and_then(|slice| of.element(slice)) {
        return schema.get(chosen.of);
    }
    let mut all = of.named(name);
    match (all.next(), all.next()) {
        (Some(only), None) => schema.get(only.of).filter(|of| of.kind != TypeKind::Any),
        _ => None,
    }
}

fn say(rules: &mut Rules, element: &Json, at_root: bool) {
    let number =
        |key: &str| element.get(key).and_then(Json::as_number).and_then(|number| number.parse().ok());
    if !at_root {
        rules.min = number("min").or(rules.min);
        rules.max = match element.text("max") {
            Some("*") | None => rules.max,
            Some(most) => most.parse().ok().or(rules.max),
        };
        let types: Vec<TypeRule> = element.list("type").iter().filter_map(type_rule).collect();
        if !types.is_empty() {
            rules.types = types;
        }
    }
    rules.length = number("maxLength").or(rules.length);
    for (key, value) in element.as_object().into_iter().flat_map(crate::json::Object::iter) {
        let place = match key {
            _ if key.starts_with("fixed") => &mut rules.fixed,
            _ if key.starts_with("pattern") => &mut rules.pattern,
            _ if key.starts_with("minValue") => &mut rules.least,
            _ if key.starts_with("maxValue") => &mut rules.most,
            _ => continue,
        };
        *place = Some(Arc::new(value.clone().into_owned()));
    }
    if let Some(binding) = element.get("binding")
        && binding.text("strength") == Some("required")
    {
        rules.value_set = binding.text("valueSet").map(str::to_owned).or(rules.value_set.take());
    }
    for one in element.list("constraint") {
        let Some(constraint) = constraint(one) else { continue };
        if rules.constraints.iter().all(|known| known.key != constraint.key) {
            rules.constraints.push(Arc::new(constraint));
        }
    }
    if let Some(slicing) = element.get("slicing") {
        rules.slicing = Some(Arc::new(read_slicing(slicing)));
    }
}

fn type_rule(one: &Json) -> Option<TypeRule> {
    let texts = |key: &str| one.list(key).iter().filter_map(Json::as_str).map(str::to_owned).collect();
    let code = one.text("code")?.to_owned();
    let mut profiles: Vec<String> = texts("profile");
    // What follows an element of a profile rather than the whole can't be checked here.
    if one.get("_profile").is_some() {
        for url in &mut profiles {
            url.push('#');
        }
    }
    Some(TypeRule { code, profiles, targets: texts("targetProfile") })
}

fn constraint(one: &Json) -> Option<Constraint> {
    let (key, source) = (one.text("key")?, one.text("expression")?);
    if invariant::is_official(key, source) {
        return None;
    }
    // Of a Period the published expression is empty, which would break it.
    let source = match (key, source) {
        ("vs-1", "($this as dateTime).toString().length() >= 8") => {
            "$this is dateTime implies $this.toString().length() >= 8"
        }
        (_, source) => source,
    };
    let severity = if one.text("severity") == Some("error") { Severity::Error } else { Severity::Warning };
    let text: String = one.text("human").unwrap_or_default().chars().take(200).collect();
    Some(Constraint {
        key: key.to_owned(),
        severity,
        text,
        source: source.to_owned(),
        compiled: OnceLock::new(),
    })
}

fn read_slicing(slicing: &Json) -> Slicing {
    let one = |one: &Json| {
        let kind = match one.text("type")? {
            "exists" => Kind::Exists,
            "type" => Kind::Type,
            "profile" => Kind::Profile,
            _ => Kind::Value,
        };
        let path = one.text("path")?.to_owned();
        let expression = Expression::parse(&path).ok();
        Some(Discriminator { kind, path, expression })
    };
    let rules = slicing.text("rules");
    Slicing {
        discriminators: slicing.list("discriminator").iter().filter_map(one).collect(),
        closed: rules == Some("closed"),
        at_end: rules == Some("openAtEnd"),
        ordered: slicing.get("ordered").and_then(Json::as_bool) == Some(true),
    }
}
