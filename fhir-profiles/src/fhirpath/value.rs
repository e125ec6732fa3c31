//! What an expression calculates with: values of the language, and elements of a resource
//! (<https://hl7.org/fhir/R4/fhirpath.html>).

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::HashSet;

use rust_decimal::Decimal;

use super::quantity::{Quantity, Unit, decimal};
use super::temporal::{Kind, Temporal};
use super::{Error, equality};
use crate::json::{Json, Object};
use crate::schema::{Element, Schema, Type, TypeKind};

/// One item of a collection.
#[derive(Debug, Clone)]
pub enum Item<'a> {
    /// `true` or `false`
    Boolean(bool),
    /// A whole number of 32 bits.
    Integer(i64),
    /// A number, exactly.
    Decimal(Decimal),
    /// Text.
    String(Cow<'a, str>),
    /// A date, a date with a time, or a time.
    Temporal(Temporal),
    /// A number with its unit.
    Quantity(Quantity<'a>),
    /// An element of a resource.
    Element(Node<'a>),
    /// What `type()` tells: namespace and name.
    Type(&'static str, Cow<'a, str>),
}

/// An element of a resource: its JSON value, what stands beside it under `_name`, and its type.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub(crate) value: Option<&'a Json<'a>>,
    pub(crate) sibling: Option<&'a Json<'a>>,
    /// None where the schema does not know.
    pub(crate) of: Option<&'static Type>,
}

/// An ordered collection.
pub(super) type Items<'a> = Vec<Item<'a>>;

impl<'a> Node<'a> {
    /// A resource.
    pub fn resource(value: &'a Json<'a>) -> Self {
        let of = value.text("resourceType").and_then(|name| Schema::r4().resource(name));
        Self { value: Some(value), sibling: None, of }
    }

    /// Calls `each` with the elements of that FHIRPath name; does the type have it?
    pub(crate) fn member(&self, name: &str, each: &mut dyn FnMut(Node<'a>)) -> bool {
        let Some(of) = self.of.filter(|of| of.kind != TypeKind::Primitive) else {
            if let Some(object) = self.sibling.or(self.value).and_then(Json::as_object) {
                let extension = self.of.is_some() && matches!(name, "id" | "extension");
                if let Some(value) = object.get(name) {
                    spread(Some(value), None, self.beside(name), each);
                }
                return extension || self.of.is_none();
            }
            return self.of.is_none() || matches!(name, "id" | "extension");
        };
        let Some(object) = self.value.and_then(Json::as_object) else { return true };
        let named = |element: &Element| of.names.get(usize::from(element.name)) == Some(&name);
        if let Some(element) = of.element(name).filter(|element| named(element)) {
            spread_element(object, object.get(&element.key), element, each);
            return true;
        }
        // A choice has more alternatives than the object has keys.
        let wanted = |key: &str| key.starts_with(name) && of.element(key).is_some_and(named);
        for (key, value, _) in members(object, wanted) {
            if let Some(element) = of.element(key) {
                spread_element(object, value, element, each);
            }
        }
        of.named(name).next().is_some()
    }

    /// Calls `each` with the FHIRPath name of each element that the type knows, the element itself, and
    /// its place where it is one of an array.
    pub(crate) fn elements(&self, each: &mut dyn FnMut(&'static str, Node<'a>, Option<usize>)) {
        let Some(of) = self.of.filter(|of| of.kind != TypeKind::Primitive) else { return };
        let Some(object) = self.value.and_then(Json::as_object) else { return };
        for (key, value, _) in members(object, |key| of.element(key).is_some()) {
            let Some(element) = of.element(key) else { continue };
            let Some(name) = of.names.get(usize::from(element.name)) else { continue };
            let mut n = 0;
            spread_element(object, value, element, &mut |node| {
                each(name, node, element.many.then_some(n));
                n += 1;
            });
        }
    }

    /// The type of `id` and `extension` where they stand beside a primitive.
    fn beside(&self, name: &str) -> Option<&'static Type> {
        self.of?;
        let patient = Schema::r4().resource("Patient")?;
        let element = patient.element(if name == "extension" { name } else { "language" })?;
        Schema::r4().get(element.of)
    }

    /// Calls `each` with all elements, in the order they came.
    pub(super) fn children(&self, each: &mut dyn FnMut(Node<'a>)) {
        let Some(of) = self.of.filter(|of| of.kind != TypeKind::Primitive) else {
            let object = if self.of.is_some() { self.sibling } else { self.value };
            for (name, value) in object.and_then(Json::as_object).into_iter().flat_map(Object::iter) {
                spread(Some(value), None, self.beside(name), each);
            }
            return;
        };
        let Some(object) = self.value.and_then(Json::as_object) else { return };
        for (key, value, alone) in members(object, |_| true) {
            if key == "resourceType" && of.kind == TypeKind::Resource {
                continue;
            }
            let of = of.element(key).and_then(|element| Schema::r4().get(element.of));
            let primitive = of.is_some_and(|of| of.kind == TypeKind::Primitive);
            let sibling = alone.or_else(|| if primitive { beside(object, key) } else { None });
            spread(value, sibling, of, each);
        }
    }

    /// A primitive with a value, not only extensions.
    pub(super) fn has_value(&self) -> bool {
        let primitive = self.of.is_some_and(|of| of.kind == TypeKind::Primitive);
        primitive && self.value.is_some_and(|value| !matches!(value, Json::Null))
    }

    /// How many keys it has.
    pub(super) fn width(&self) -> usize {
        self.value.and_then(Json::as_object).map_or(0, Object::len)
    }

    /// Name of the type.
    pub(crate) fn type_name(&self) -> &'a str {
        match self.of {
            Some(of) if of.kind == TypeKind::Backbone => "BackboneElement",
            Some(of) => of.name,
            None => self.value.and_then(|value| value.text("resourceType")).unwrap_or("Element"),
        }
    }
}

/// A key without `_`, its value, and what is under its `_key` where it has no value.
type Member<'a> = (&'a str, Option<&'a Json<'a>>, Option<&'a Json<'a>>);

/// Objects of more keys are hashed: a hostile one must not cost a square.
const COMPARED: usize = 64;

/// The elements that are there, of those that are wanted.
fn members<'a>(object: &'a Object<'a>, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Member<'a>> {
    let keys = OnceCell::<HashSet<&str>>::new();
    let has = move |key: &str| {
        if object.len() <= COMPARED {
            object.get(key).is_some()
        } else {
            keys.get_or_init(|| object.iter().map(|(key, _)| key).collect()).contains(key)
        }
    };
    object.iter().filter_map(move |(key, value)| {
        let beside = key.strip_prefix('_');
        if !wanted(beside.unwrap_or(key)) {
            return None;
        }
        match beside {
            // Where both are there, the value stands for both.
            Some(bare) if has(bare) => None,
            Some(bare) => Some((bare, None, Some(value))),
            None => Some((key, Some(value), None)),
        }
    })
}

fn spread_element<'a>(
    object: &'a Object<'a>,
    value: Option<&'a Json<'a>>,
    element: &'static Element,
    each: &mut dyn FnMut(Node<'a>),
) {
    let of = Schema::r4().get(element.of);
    let primitive = of.is_some_and(|of| of.kind == TypeKind::Primitive);
    let sibling = if primitive { beside(object, &element.key) } else { None };
    spread(value, sibling, of, each);
}

/// The `_key` beside `key`.
fn beside<'a>(object: &'a Object<'a>, key: &str) -> Option<&'a Json<'a>> {
    object.iter().find(|(other, _)| other.strip_prefix('_') == Some(key)).map(|(_, value)| value)
}

/// An array is as many elements, each with its own sibling.
fn spread<'a>(
    value: Option<&'a Json<'a>>,
    sibling: Option<&'a Json<'a>>,
    of: Option<&'static Type>,
    each: &mut dyn FnMut(Node<'a>),
) {
    let some = |json: Option<&'a Json<'a>>| json.filter(|json| !matches!(json, Json::Null));
    let mut one = |value: Option<&'a Json<'a>>, sibling: Option<&'a Json<'a>>| {
        let (value, sibling) = (some(value), some(sibling));
        if value.is_none() && sibling.is_none() {
            return;
        }
        match value {
            Some(resource) if of.is_some_and(|of| of.kind == TypeKind::Any) => each(Node::resource(resource)),
            _ => each(Node { value, sibling, of }),
        }
    };
    match (value, sibling) {
        (Some(Json::Array(_)), _) | (None, Some(Json::Array(_))) => {
            let (values, siblings) =
                (value.map_or(&[][..], Json::items), sibling.map_or(&[][..], Json::items));
            for n in 0..values.len().max(siblings.len()) {
                one(values.get(n), siblings.get(n));
            }
        }
        _ => one(value, sibling),
    }
}

impl<'a> Item<'a> {
    /// A primitive element as a value of the language; anything else as it is.
    pub(super) fn system(&self) -> Item<'a> {
        let Item::Element(node) = self else { return self.clone() };
        let (Some(of), Some(value)) = (node.of, node.value) else { return self.clone() };
        if of.kind != TypeKind::Primitive {
            return self.clone();
        }
        match value {
            Json::Bool(truth) => Item::Boolean(*truth),
            Json::Number(text) => match (of.name, text.parse::<i32>()) {
                ("integer" | "unsignedInt" | "positiveInt", Ok(number)) => Item::Integer(number.into()),
                _ => decimal(text).map_or_else(|| self.clone(), Item::Decimal),
            },
            Json::String(text) => {
                let kind = match of.name {
                    "date" => Some(Kind::Date),
                    "dateTime" | "instant" => Some(Kind::DateTime),
                    "time" => Some(Kind::Time),
                    _ => None,
                };
                kind.and_then(|kind| Temporal::read(kind, text))
                    .map_or_else(|| Item::String(Cow::Borrowed(text.as_ref())), Item::Temporal)
            }
            _ => self.clone(),
        }
    }

    /// A Quantity element, a number or a quantity, as a quantity.
    pub(super) fn quantity(&self) -> Option<Quantity<'a>> {
        match self.system() {
            Item::Quantity(quantity) => Some(quantity),
            Item::Integer(number) => Some(Quantity { value: number.into(), unit: Unit::Ucum("1".into()) }),
            Item::Decimal(value) => Some(Quantity { value, unit: Unit::Ucum("1".into()) }),
            Item::Element(node) if is_subtype(node.type_name(), "Quantity") => {
                let json = node.value?;
                // `<5` is no number to calculate with.
                if json.get("comparator").is_some() {
                    return None;
                }
                let value = decimal(json.get("value")?.as_number()?)?;
                let code = json.text("code").filter(|_| json.text("system") == Some(super::UCUM));
                let unit = match code {
                    Some(code) => Unit::Ucum(code.into()),
                    None => match json.text("code").or(json.text("unit")) {
                        Some(other) => Unit::Other(other.into()),
                        None => Unit::Ucum("1".into()),
                    },
                };
                Some(Quantity { value, unit })
            }
            _ => None,
        }
    }

    /// What a copy of it costs beyond a step.
    pub(super) fn weight(&self) -> usize {
        if let Item::String(Cow::Owned(text)) = self { text.len() / 64 } else { 0 }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        if let Item::String(text) = self.system() { Some(text) } else { None }
    }

    /// As `toString()` writes it; none for what has no text.
    pub fn display(&self) -> Option<Cow<'a, str>> {
        match self.system() {
            Item::Boolean(truth) => Some(if truth { "true" } else { "false" }.into()),
            Item::Integer(number) => Some(number.to_string().into()),
            Item::Decimal(number) => Some(number.to_string().into()),
            Item::String(text) => Some(text),
            Item::Temporal(temporal) => Some(temporal.to_string().into()),
            Item::Quantity(quantity) => Some(quantity.to_string().into()),
            Item::Element(_) => self.quantity().map(|quantity| quantity.to_string().into()),
            Item::Type(..) => None,
        }
    }

    /// Namespace and name of the type.
    pub fn type_of(&self) -> (&'static str, Cow<'a, str>) {
        let name = match self {
            Item::Element(node) => return ("FHIR", node.type_name().into()),
            Item::Boolean(_) => "Boolean",
            Item::Integer(_) => "Integer",
            Item::Decimal(_) => "Decimal",
            Item::String(_) => "String",
            Item::Quantity(_) => "Quantity",
            Item::Type(..) => "TypeInfo",
            Item::Temporal(temporal) => match temporal.kind() {
                Kind::Date => "Date",
                Kind::DateTime => "DateTime",
                Kind::Time => "Time",
            },
        };
        ("System", name.into())
    }
}

const SYSTEM: [&str; 9] =
    ["Any", "Boolean", "Date", "DateTime", "Decimal", "Integer", "Quantity", "String", "Time"];

/// The types that are none in the element table, being abstract.
const ABSTRACT: [&str; 4] = ["Element", "BackboneElement", "Resource", "DomainResource"];

/// Is there such a type?
pub(super) fn is_type(namespace: Option<&str>, name: &str) -> bool {
    let fhir = || ABSTRACT.contains(&name) || Schema::r4().named(name).is_some();
    match namespace {
        None => SYSTEM.contains(&name) || fhir(),
        Some("System") => SYSTEM.contains(&name),
        Some("FHIR") => fhir(),
        Some(_) => false,
    }
}

/// Is a FHIR type another, or derived from it?
pub(crate) fn is_subtype(name: &str, wanted: &str) -> bool {
    let mut current = name;
    loop {
        if current == wanted {
            return true;
        }
        current = match current {
            "code" | "id" | "markdown" => "string",
            "url" | "canonical" | "oid" | "uuid" => "uri",
            "unsignedInt" | "positiveInt" => "integer",
            "Age" | "Count" | "Distance" | "Duration" => "Quantity",
            "Timing" | "Dosage" | "ElementDefinition" => "BackboneElement",
            "Bundle" | "Binary" | "Parameters" | "DomainResource" => "Resource",
            "Element" | "Resource" => return false,
            other => match Schema::r4().named(other).map(|of| of.kind) {
                Some(TypeKind::Resource) => "DomainResource",
                _ => "Element",
            },
        }
    }
}

/// A set as the language has it: what equals is the same. Texts are hashed, so that the usual
/// case does not cost a square.
#[derive(Default)]
pub(super) struct Seen<'a> {
    texts: HashSet<Cow<'a, str>>,
    others: Items<'a>,
}

impl<'a> Seen<'a> {
    pub(super) fn has(&self, item: &Item<'a>, meter: &Meter) -> Result<bool, Error> {
        if let Some(text) = item.text() {
            meter.charge(1 + text.len() / 64)?;
            return Ok(self.texts.contains(&text));
        }
        for other in &self.others {
            if equality::equal(other, item, meter)? == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is it new?
    pub(super) fn insert(&mut self, item: &Item<'a>, meter: &Meter) -> Result<bool, Error> {
        let new = !self.has(item, meter)?;
        if new {
            match item.text() {
                Some(text) => drop(self.texts.insert(text)),
                None => self.others.push(item.clone()),
            }
        }
        Ok(new)
    }

    /// All of them.
    pub(super) fn of(items: &[Item<'a>], meter: &Meter) -> Result<Self, Error> {
        let mut seen = Self::default();
        for item in items {
            seen.insert(item, meter)?;
        }
        Ok(seen)
    }
}

/// What an evaluation may still cost.
#[derive(Debug)]
pub(super) struct Meter(Cell<u64>);

impl Meter {
    pub(super) fn new(steps: u64) -> Self {
        Self(Cell::new(steps))
    }

    pub(super) fn left(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn charge(&self, steps: usize) -> Result<(), Error> {
        let left = self.0.get().checked_sub(steps as u64);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Error::TooCostly)
    }
}
