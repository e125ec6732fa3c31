//! Extensions against their definitions: what they may hold, and where they may stand
//! (<https://hl7.org/fhir/R4/defining-extensions.html>).

use super::conform::{Check, Scope, members};
use super::definition::Definition;
use super::{Found, Profiles, is_type};
use crate::doubts;
use crate::fhirpath::Node;
use crate::json::Json;
use crate::outcome::{Issues, Severity};
use crate::schema::TypeKind;
use crate::validate::At;

/// How an extension counts that no known definition explains: anybody may define one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// It is told.
    Told,
    /// It is an error.
    Known,
}

/// What is above an extension: the type of the element, and its path from its resource.
struct Place<'p> {
    of: &'p str,
    path: Path<'p>,
    /// Address of the extension it is in.
    within: Option<&'p str>,
}

/// `Patient.contact.name`, as the base specification writes paths; written out where it is asked for.
#[derive(Clone, Copy)]
enum Path<'p> {
    Of(&'p str),
    Below(&'p Path<'p>, &'p str),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(name) => f.write_str(name),
            Self::Below(above, name) => write!(f, "{above}.{name}"),
        }
    }
}

impl Profiles {
    /// Findings about all extensions of a resource, those of the resources in it included.
    pub fn extensions<'a>(
        &'a self,
        resource: &'a Json<'a>,
        scope: &mut Scope<'a>,
        mode: Extensions,
        tells: bool,
    ) -> Issues {
        let node = Node::resource(resource);
        let mut check = Check::new(self, node, scope, tells);
        let name = resource.text("resourceType").unwrap_or("Resource").to_owned();
        walk(
            &mut check,
            node,
            &At::root(&name),
            &Place { of: &name, path: Path::Of(&name), within: None },
            mode,
            0,
        );
        Issues(check.issues)
    }
}

/// Deeper than JSON may be nested it can't go.
const DEPTH: usize = 200;

fn walk<'a>(
    check: &mut Check<'_, 'a>,
    node: Node<'a>,
    at: &At<'_>,
    place: &Place<'_>,
    mode: Extensions,
    depth: usize,
) {
    if depth > DEPTH || !check.pay(1, at) {
        return;
    }
    for name in ["extension", "modifierExtension"] {
        // Most elements have none, and this costs a look at their keys; members() asks the schema too.
        let holds = |one: Option<&Json>| one.is_some_and(|one| one.get(name).is_some());
        if !holds(node.value) && !holds(node.sibling) {
            continue;
        }
        for (extension, index) in members(node, name) {
            let here = at.element(name);
            let here = index.map_or(here, |index| here.item(index));
            one(check, extension, &here, place, mode, name == "modifierExtension");
            let url = extension.value.and_then(|value| value.text("url")).unwrap_or_default();
            let below = Place { of: "Extension", path: Path::Of("Extension"), within: Some(url) };
            walk(check, extension, &here, &below, mode, depth + 1);
        }
    }
    node.elements(&mut |name, child, index| {
        if matches!(name, "extension" | "modifierExtension" | "contained" | "resource") {
            return;
        }
        // Nothing below a primitive without a sibling.
        if child.sibling.is_none() && child.value.and_then(Json::as_object).is_none() {
            return;
        }
        let here = at.element(name);
        let here = index.map_or(here, |index| here.item(index));
        let path = match child.of {
            Some(of) if of.kind == TypeKind::Backbone => Path::Of(of.name),
            _ => Path::Below(&place.path, name),
        };
        let below = Place { of: child.type_name(), path, within: None };
        walk(check, child, &here, &below, mode, depth + 1);
    });
}

fn one<'a>(
    check: &mut Check<'_, 'a>,
    extension: Node<'a>,
    at: &At<'_>,
    place: &Place<'_>,
    mode: Extensions,
    modifier: bool,
) {
    let Some(url) = extension.value.and_then(|value| value.text("url")) else { return };
    if place.within.is_some() && !url.contains(':') {
        // A part of another one, which that one's definition knows.
        return;
    }
    match check.profiles.find(url) {
        Some(Found::Profile(definition)) if definition.of == "Extension" => {
            check.profile(definition, extension, at);
            parts(check, definition, extension, at);
            if !definition.contexts.is_empty() && !allowed(definition, place) {
                let details = format!("the extension {} may not stand here", definition.name);
                check.error(at, "structure", details);
            }
        }
        Some(_) => check.error(at, "structure", format!("{url} is no extension")),
        None => {
            let details = format!("the extension {url} is not known here");
            match mode {
                // Whoever allows examples allows theirs.
                Extensions::Known if !doubts::is_example(url) => check.error(at, "structure", details),
                Extensions::Told if modifier => check.issue(Severity::Warning, at, "not-found", details),
                Extensions::Told => check.issue(Severity::Information, at, "not-found", details),
                Extensions::Known => {}
            }
        }
    }
}

/// What SMART App Launch 2 added to its extension, after R4 took a copy of it.
const OAUTH_URIS: &str = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris";
const ADDED: [&str; 2] = ["introspect", "revoke"];

/// A part without an address of its own is one that the definition names.
fn parts<'a>(check: &mut Check<'_, 'a>, definition: &'a Definition, extension: Node<'a>, at: &At<'_>) {
    let slices = definition.root.child("extension").map_or(&[][..], |child| child.slices.as_slice());
    let named = slices.iter().filter_map(|(_, slice)| slice.child("url")?.fixed.as_deref()?.as_str());
    let named: Vec<&str> = named.collect();
    for (part, index) in members(extension, "extension") {
        let url = part.value.and_then(|value| value.text("url")).unwrap_or_default();
        let later = definition.url == OAUTH_URIS && ADDED.contains(&url);
        if !url.contains(':') && !named.contains(&url) && !later {
            let here = at.element("extension");
            let here = index.map_or(here, |index| here.item(index));
            check.error(&here, "structure", format!("{} has no part {url}", definition.name));
        }
    }
}

fn allowed(definition: &Definition, place: &Place<'_>) -> bool {
    definition.contexts.iter().any(|(kind, expression)| match kind.as_str() {
        "element" => element(expression, place),
        "extension" => {
            let url = expression.split('#').next().unwrap_or_default();
            place.within == Some(url)
        }
        // An expression over the whole resource can't be decided from the place alone.
        _ => true,
    })
}

fn element(expression: &str, place: &Place<'_>) -> bool {
    let expression =
        expression.strip_prefix("http://hl7.org/fhir/StructureDefinition/").unwrap_or(expression);
    // Of another resource, a profile's or a slice's element: left to whoever knows it.
    if expression.contains(['#', ':', '/']) {
        return true;
    }
    let bare = |path: &str| path.replace("[x]", "");
    // `Element` is meant as anything, resources too.
    if expression == "Element" {
        return true;
    }
    if !expression.contains('.') {
        return is_type(place.of, expression) || (place.within.is_some() && expression == "Extension");
    }
    let wanted = bare(expression);
    let path = place.path.to_string();
    bare(&path) == wanted
        || path.split_once('.').is_some_and(|(_, rest)| {
            // An element of a data type: `HumanName.family`, `Dosage.asNeeded`.
            let last = rest.rsplit('.').next().unwrap_or_default();
            wanted.rsplit_once('.').is_some_and(|(of, name)| {
                name == last
                    && crate::resource_type::ResourceType::parse(of.split('.').next().unwrap_or_default())
                        .is_none()
            })
        })
}
