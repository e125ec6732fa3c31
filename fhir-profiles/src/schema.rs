//! The element table of FHIR R4: every type with its elements, from HL7's definitions
//! (`definitions/elements.txt`, made by `definitions/compact.py`).

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::invariant::{self, Invariant};
use crate::resource_type::ResourceType;
use crate::terminology::{self, ValueSet};

/// What a type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeKind {
    Primitive,
    Complex,
    Backbone,
    Resource,
    /// `Resource` as the type of an element: any resource.
    Any,
}

/// A type and its elements, by JSON key.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) kind: TypeKind,
    /// Sorted by key.
    elements: Vec<Element>,
    /// Elements that must be there: place in `names`.
    pub(crate) required: Vec<u16>,
    /// FHIRPath names of the elements; the alternatives of a choice share one.
    pub(crate) names: Vec<&'static str>,
    /// What the elements of the type have to keep.
    pub(crate) invariants: &'static [Invariant],
    /// What an element of it has to keep beyond its own type: place in `names`.
    pub(crate) of_elements: Vec<(u16, &'static [Invariant])>,
}

/// An element as it stands in JSON.
#[derive(Debug)]
pub(crate) struct Element {
    /// JSON key, e.g. `valueQuantity`.
    pub(crate) key: String,
    /// Place in [`Type::names`].
    pub(crate) name: u16,
    /// An array in JSON.
    pub(crate) many: bool,
    /// Place in the table.
    pub(crate) of: usize,
    /// What a required binding allows.
    pub(crate) codes: Option<&'static ValueSet>,
    /// Types a Reference may point to; empty for all.
    pub(crate) targets: Vec<ResourceType>,
}

#[derive(Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    by_name: HashMap<&'static str, usize>,
}

impl Type {
    pub(crate) fn element(&self, key: &str) -> Option<&Element> {
        let at = self.elements.binary_search_by(|element| element.key.as_str().cmp(key)).ok()?;
        self.elements.get(at)
    }

    /// Is it an attribute in XML, and so without id and extensions of its own? The definitions mark
    /// the id of whatever is not a resource, and `Extension.url`.
    pub(crate) fn is_attribute(&self, key: &str) -> bool {
        match key {
            "id" => self.kind != TypeKind::Resource,
            "url" => self.name == "Extension",
            _ => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// The elements of that FHIRPath name: of a choice, one for each type.
    pub(crate) fn named<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'t Element> {
        let from = self.elements.partition_point(|element| element.key.as_str() < name);
        let near = self.elements.iter().skip(from).take_while(move |element| element.key.starts_with(name));
        near.filter(move |element| self.names.get(usize::from(element.name)) == Some(&name))
    }
}

impl Schema {
    pub(crate) fn r4() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| load(include_str!("../definitions/elements.txt")));
        &SCHEMA
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Type> {
        self.types.get(at)
    }

    pub(crate) fn resource(&self, name: &str) -> Option<&Type> {
        self.types.get(*self.by_name.get(name)?).filter(|of| of.kind == TypeKind::Resource)
    }

    /// `Element`: the id and extensions that a primitive can have.
    pub(crate) fn element(&self) -> Option<&Type> {
        self.types.get(*self.by_name.get("Element")?)
    }

    /// The type of that name, also a primitive or backbone.
    pub(crate) fn named(&self, name: &str) -> Option<&Type> {
        self.types.get(*self.by_name.get(name)?)
    }
}

fn load(text: &'static str) -> Schema {
    let empty = |name: &'static str, kind: TypeKind| Type {
        name,
        kind,
        elements: Vec::new(),
        required: Vec::new(),
        names: Vec::new(),
        invariants: invariant::of(name),
        of_elements: Vec::new(),
    };
    let mut types = vec![empty("Resource", TypeKind::Any)];
    let mut by_name = HashMap::from([("Resource", 0)]);
    // Types are named before they are defined, so names come first.
    for line in text.lines().filter_map(|line| line.strip_prefix("T ")) {
        let (name, kind) = line.split_once(' ').unwrap_or((line, ""));
        let kind = match kind {
            "primitive" => TypeKind::Primitive,
            "complex" => TypeKind::Complex,
            "resource" => TypeKind::Resource,
            _ => TypeKind::Backbone,
        };
        by_name.insert(name, types.len());
        types.push(empty(name, kind));
    }
    let mut current = 0;
    for line in text.lines() {
        let mut fields = line.split(' ');
        match fields.next() {
            Some("T") => current = fields.next().and_then(|name| by_name.get(name)).copied().unwrap_or(0),
            Some("E") => {
                if let Some(of) = types.get_mut(current) {
                    add(of, fields, &by_name);
                }
            }
            _ => {}
        }
    }
    for of in &mut types {
        of.elements.sort_by(|a, b| a.key.cmp(&b.key));
        for (place, name) in (0_u16..).zip(&of.names) {
            let path = format!("{}.{name}", of.name);
            // A backbone element is a type of its own.
            let own = if by_name.contains_key(path.as_str()) { &[] } else { invariant::of(&path) };
            let choice = invariant::of(&format!("{path}[x]"));
            for found in [own, choice].into_iter().filter(|found| !found.is_empty()) {
                of.of_elements.push((place, found));
            }
        }
    }
    Schema { types, by_name }
}

fn add<'f>(
    of: &mut Type,
    mut fields: impl Iterator<Item = &'static str> + 'f,
    by_name: &HashMap<&'static str, usize>,
) {
    let mut next = || fields.next().unwrap_or_default();
    let (key, min, max, kinds, codes, targets) = (next(), next(), next(), next(), next(), next());
    let choice = key.strip_suffix("[x]");
    let name = u16::try_from(of.names.len()).unwrap_or(u16::MAX);
    of.names.push(choice.unwrap_or(key));
    if min != "0" {
        of.required.push(name);
    }
    let allowed = match codes {
        "-" => None,
        url if url.contains(':') => terminology::official(url),
        id => terminology::official(&format!("http://hl7.org/fhir/ValueSet/{id}")),
    }
    .filter(|set| !set.open);
    for kind in kinds.split('|') {
        let key = match choice {
            None => key.to_owned(),
            Some(stem) => {
                let mut letters = kind.chars();
                let first = letters.next().map(|c| c.to_ascii_uppercase());
                stem.chars().chain(first).chain(letters).collect()
            }
        };
        of.elements.push(Element {
            key,
            name,
            many: max != "1",
            of: by_name.get(kind).copied().unwrap_or(0),
            codes: allowed,
            targets: targets.split(',').filter_map(ResourceType::parse).collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_type_is_there() {
        let schema = Schema::r4();
        for kind in ResourceType::all() {
            let of = schema.resource(kind.name()).unwrap_or_else(|| panic!("{kind}"));
            assert!(of.element("id").is_some());
        }
        let observation = schema.resource("Observation").unwrap();
        let value = observation.element("valueQuantity").unwrap();
        assert_eq!(observation.names[usize::from(value.name)], "value");
        assert!(observation.element("value").is_none());
        assert!(observation.element("component").unwrap().many);
        let codes = observation.element("status").unwrap().codes.unwrap();
        assert_eq!(codes.contains_code("final"), Some(true));
        assert_eq!(codes.contains_code("banana"), Some(false));
    }
}
