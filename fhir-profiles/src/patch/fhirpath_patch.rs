//! FHIRPath Patch (<https://hl7.org/fhir/R4/fhirpatch.html>): Parameters that say what is to be
//! done to the elements which a path finds.

use std::collections::HashMap;

use super::places::{Place, Step, TooDeep, Walk};
use super::{STEPS, prune};
use crate::fhirpath::{Environment, Error, Expression, Item, Node};
use crate::json::{Json, Object};
use crate::outcome::{Issue, Issues};
use crate::schema::{Element, Schema, Type, TypeKind};

/// Operations in one patch, at most.
const MOST: usize = 1000;

/// A FHIRPath Patch that was understood.
#[derive(Debug)]
pub struct FhirPathPatch(Vec<Operation>);

#[derive(Debug)]
struct Operation {
    /// FHIRPath of the parameter, for what is wrong with it.
    at: String,
    expression: Expression,
    what: What,
}

#[derive(Debug)]
enum What {
    Add { name: String, value: Given },
    Insert { index: usize, value: Given },
    Delete,
    Replace(Given),
    Move { from: usize, to: usize },
}

/// A value of a Parameters part.
#[derive(Debug)]
enum Given {
    /// `value[x]` with what stands beside it, and the type's name as the key has it (`HumanName`).
    Typed {
        kind: String,
        value: Option<Json<'static>>,
        sibling: Option<Json<'static>>,
    },
    /// A type without a name of its own: its elements as parts.
    Parts(Vec<(String, Given)>),
    Resource(Json<'static>),
}

impl FhirPathPatch {
    /// Reads Parameters that have passed validation.
    ///
    /// # Errors
    /// They are no patch; each finding with its place.
    pub fn parse(parameters: &Json) -> Result<Self, Issues> {
        if parameters.text("resourceType") != Some("Parameters") {
            return Err(Issue::error("invalid", "a FHIRPath Patch is Parameters").at("resourceType").into());
        }
        let all = parameters.list("parameter");
        if all.len() > MOST {
            return Err(Issue::error("too-costly", format!("more than {MOST} operations")).into());
        }
        let mut operations = Vec::with_capacity(all.len());
        let mut issues = Issues::default();
        for (n, parameter) in all.iter().enumerate() {
            match operation(parameter, format!("Parameters.parameter[{n}]")) {
                Ok(operation) => operations.push(operation),
                Err(issue) => issues.0.push(issue),
            }
        }
        if issues.has_error() { Err(issues) } else { Ok(Self(operations)) }
    }

    /// The resource after all operations, in order; what they leave empty is taken out.
    ///
    /// # Errors
    /// A path finds nothing, or more than the operation can be done to: `processing`. The operations
    /// cost more than a patch may, or nest too deep: `too-costly`.
    pub fn apply(&self, resource: &Json<'_>) -> Result<Json<'static>, Issues> {
        let mut patched = resource.clone().into_owned();
        let mut steps = STEPS;
        for operation in &self.0 {
            operation
                .apply(&mut patched, &mut steps)
                .map_err(|(code, why)| Issues::from(Issue::error(code, why).at(operation.at.clone())))?;
        }
        Walk::over(&patched, &[]).map_err(|TooDeep| Issue::error("too-costly", DEEP))?;
        prune::all(&mut patched);
        Ok(patched)
    }
}

fn operation(parameter: &Json, at: String) -> Result<Operation, Issue> {
    let wrong = |details: String| Issue::error("invalid", details).at(at.clone());
    if parameter.text("name") != Some("operation") {
        return Err(wrong("each parameter is named operation".to_owned()));
    }
    let parts = parameter.list("part");
    let known = ["type", "path", "name", "value", "index", "source", "destination"];
    let mut found: HashMap<&str, &Json> = HashMap::new();
    for part in parts {
        let name = part.text("name").unwrap_or_default();
        if !known.contains(&name) {
            return Err(wrong(format!("there are the parts {}", known.join(", "))));
        }
        if found.insert(name, part).is_some() {
            return Err(wrong(format!("the part {name} is there twice")));
        }
    }
    let text = |name: &str| {
        let part = found.get(name).ok_or_else(|| wrong(format!("the part {name} is missing")))?;
        ["valueString", "valueCode"]
            .iter()
            .find_map(|key| part.text(key))
            .ok_or_else(|| wrong(format!("the part {name} is a string")))
    };
    let number = |name: &str| {
        let part = found.get(name).ok_or_else(|| wrong(format!("the part {name} is missing")))?;
        ["valueInteger", "valuePositiveInt", "valueUnsignedInt"]
            .iter()
            .find_map(|key| part.get(key)?.as_number()?.parse::<usize>().ok())
            .ok_or_else(|| wrong(format!("the part {name} is a whole number from 0")))
    };
    let value = || {
        let part = found.get("value").ok_or_else(|| wrong("the part value is missing".to_owned()))?;
        given(part).ok_or_else(|| wrong("the part value has no value".to_owned()))
    };
    let what = match text("type")? {
        "add" => What::Add { name: text("name")?.to_owned(), value: value()? },
        "insert" => What::Insert { index: number("index")?, value: value()? },
        "delete" => What::Delete,
        "replace" => What::Replace(value()?),
        "move" => What::Move { from: number("source")?, to: number("destination")? },
        _ => return Err(wrong("the type is add, insert, delete, replace or move".to_owned())),
    };
    let expression = Expression::parse(text("path")?)
        .map_err(|error| wrong(format!("the path is no FHIRPath: {error}")))?;
    Ok(Operation { at, expression, what })
}

fn given(part: &Json) -> Option<Given> {
    if let Some(resource) = part.get("resource") {
        return Some(Given::Resource(resource.clone().into_owned()));
    }
    let object = part.as_object()?;
    let typed = object.iter().find_map(|(key, _)| key.trim_start_matches('_').strip_prefix("value"));
    if let Some(kind) = typed {
        let owned = |key: String| object.get(&key).map(|value| value.clone().into_owned());
        return Some(Given::Typed {
            kind: kind.to_owned(),
            value: owned(format!("value{kind}")),
            sibling: owned(format!("_value{kind}")),
        });
    }
    let parts = part.list("part");
    let inner = |part: &Json| Some((part.text("name")?.to_owned(), given(part)?));
    (!parts.is_empty()).then(|| parts.iter().map(inner).collect::<Option<_>>().map(Given::Parts))?
}

/// Why an operation can't be done: issue code and words.
type Refused = (&'static str, String);

fn undone(why: impl Into<String>) -> Refused {
    ("processing", why.into())
}

const DEEP: &str = "the patch nests too deep";

fn costly() -> Refused {
    ("too-costly", "the operations cost more than a patch may".to_owned())
}

/// Passing a value is so much less than a step of an evaluation.
const PASSED: usize = 8;

impl Operation {
    /// `steps`: what the patch may still cost.
    fn apply(&self, resource: &mut Json<'static>, steps: &mut u64) -> Result<(), Refused> {
        let found = self.found(resource, steps)?;
        match &self.what {
            What::Add { name, value } => {
                let [holder] = found.as_slice() else { return Err(one(found.len())) };
                let (place, of) = (holder.steps(), holder.of);
                let of = of.ok_or_else(|| undone("nothing can be added to this"))?;
                let (element, put) = placed(of, name, value)?;
                let object = at_mut(resource, &place).and_then(Json::as_object_mut);
                add(object.ok_or_else(|| undone("it has no elements"))?, &element, put)
            }
            What::Insert { index, value } => {
                let (list, element) = Self::list(resource, &found)?;
                let (_, put) = filled(&element, value)?;
                put_in(resource, &list, &element, *index, put)
            }
            What::Delete => {
                if found.len() > 1 {
                    return Err(one(found.len()));
                }
                for one in &found {
                    let place = one.place.as_ref().ok_or_else(|| undone("a patch deletes no resource"))?;
                    take_out(resource, place);
                    // What that leaves empty is gone for the operations that follow.
                    prune::on_the_way(resource, &place.holder);
                }
                Ok(())
            }
            What::Replace(value) => {
                let [target] = found.as_slice() else { return Err(one(found.len())) };
                let place =
                    target.place.as_ref().ok_or_else(|| undone("a patch replaces no whole resource"))?;
                let of = type_at(resource, &place.holder).ok_or_else(|| undone("its type is not known"))?;
                let old = of.element(&place.key).ok_or_else(|| undone("its element is not known"))?;
                let name = of.names.get(usize::from(old.name)).copied().unwrap_or_default();
                let (element, put) = placed(of, name, value)?;
                replace(resource, place, &element, put)
            }
            What::Move { from, to } => {
                let (list, element) = Self::list(resource, &found)?;
                let most = found.len();
                if *from >= most || *to >= most {
                    return Err(undone(format!("there are {most} of them")));
                }
                let (value, sibling) = lists_mut(resource, &list, &element, most)?;
                for items in [value, sibling].into_iter().flatten() {
                    let moved = items.remove(*from);
                    items.insert(*to, moved);
                }
                Ok(())
            }
        }
    }

    /// The elements that the path finds, with their places.
    fn found(&self, resource: &Json<'static>, steps: &mut u64) -> Result<Vec<Target>, Refused> {
        let focus = Item::Element(Node::resource(resource));
        let environment = Environment { steps: *steps, ..Environment::of(resource) };
        let (items, left) = self.expression.metered(&focus, &environment);
        let items = items.map_err(|error| match error {
            Error::TooCostly => costly(),
            error => undone(error.to_string()),
        })?;
        if items.is_empty() && !matches!(self.what, What::Delete) {
            return Err(undone("the path finds nothing"));
        }
        let nowhere = || undone("the path leads to a value that stands nowhere in the resource");
        let elements = items.into_iter().map(|item| match item {
            Item::Element(node) => node.value.or(node.sibling).map(|value| (value, node.of)),
            _ => None,
        });
        let found: Vec<_> = elements.collect::<Option<_>>().ok_or_else(nowhere)?;
        let wanted: Vec<&Json> = found.iter().map(|(value, _)| *value).collect();
        let walk = Walk::over(resource, &wanted).map_err(|TooDeep| ("too-costly", DEEP.to_owned()))?;
        let passed = walk.passed / PASSED + found.len();
        *steps = left.checked_sub(passed as u64).ok_or_else(costly)?;
        let place = |(value, of): (&Json<'_>, _)| match walk.place(value) {
            None if std::ptr::eq(value, resource) => Some(Target { place: None, of }),
            place => Some(Target { place: Some(place?.clone()), of }),
        };
        found.into_iter().map(place).collect::<Option<_>>().ok_or_else(nowhere)
    }

    /// Of an operation on a list: what holds it, and its element. The path names the whole list.
    fn list(resource: &Json<'static>, found: &[Target]) -> Result<(Place, Slot), Refused> {
        let place = found.first().and_then(|one| one.place.clone()).ok_or_else(|| undone("no list"))?;
        let same =
            |one: &Target| one.place.as_ref().is_some_and(|p| p.holder == place.holder && p.key == place.key);
        let of = type_at(resource, &place.holder).ok_or_else(|| undone("its type is not known"))?;
        let element = of.element(&place.key).filter(|element| element.many);
        match element {
            Some(element) if found.iter().all(same) => Ok((place, Slot::of(element))),
            _ => Err(undone("the path does not lead to one list")),
        }
    }
}

fn one(found: usize) -> Refused {
    undone(format!("the path finds {found} elements where one is needed"))
}

/// What a path found; without a place it is the resource.
struct Target {
    place: Option<Place>,
    of: Option<&'static Type>,
}

impl Target {
    fn steps(&self) -> Vec<Step> {
        let Some(place) = &self.place else { return Vec::new() };
        let mut steps = place.holder.clone();
        steps.push(Step::Key(place.key.clone()));
        steps.extend(place.index.map(Step::Index));
        steps
    }
}

fn at_mut<'j>(resource: &'j mut Json<'static>, steps: &[Step]) -> Option<&'j mut Json<'static>> {
    let mut node = resource;
    for step in steps {
        node = match (step, node) {
            (Step::Key(key), Json::Object(object)) => object.get_mut(key)?,
            (Step::Index(n), Json::Array(items)) => items.get_mut(*n)?,
            _ => return None,
        };
    }
    Some(node)
}

/// The type of what stands there, by the definitions.
fn type_at(resource: &Json<'static>, steps: &[Step]) -> Option<&'static Type> {
    let (mut node, mut of) = (resource, Node::resource(resource).of?);
    for step in steps {
        match step {
            Step::Key(key) => {
                node = node.get(key)?;
                of = Schema::r4().get(of.element(key.strip_prefix('_').unwrap_or(key))?.of)?;
            }
            Step::Index(n) => node = node.items().get(*n)?,
        }
        if of.kind == TypeKind::Any {
            of = Node::resource(node).of?;
        }
    }
    Some(of)
}

/// An element as a patch writes it.
#[derive(Debug, Clone)]
struct Slot {
    key: String,
    many: bool,
    of: usize,
}

impl Slot {
    fn of(element: &Element) -> Self {
        Self { key: element.key.clone(), many: element.many, of: element.of }
    }
}

/// A value and what stands beside it.
type Put = (Option<Json<'static>>, Option<Json<'static>>);

/// Which element of the type a value goes to by that name, and as what.
fn placed(of: &'static Type, name: &str, value: &Given) -> Result<(Slot, Put), Refused> {
    let mut named: Vec<&Element> = of.named(name).collect();
    if named.is_empty() {
        named.extend(of.element(name));
    }
    if let (Given::Typed { kind, .. }, 2..) = (value, named.len()) {
        named.retain(|element| element.key.strip_prefix(name) == Some(kind.as_str()));
    }
    match named.as_slice() {
        [element] => filled(&Slot::of(element), value),
        [] => Err(undone(format!("there is no element {name} of this type"))),
        _ => Err(undone(format!("of what type {name} is to be is not clear"))),
    }
}

fn filled(slot: &Slot, value: &Given) -> Result<(Slot, Put), Refused> {
    let of = Schema::r4().get(slot.of).ok_or_else(|| undone("its type is not known"))?;
    let put = match value {
        Given::Typed { value, sibling, .. } => (value.clone(), sibling.clone()),
        Given::Resource(resource) => (Some(resource.clone()), None),
        Given::Parts(parts) => {
            let mut object = Object::default();
            for (name, value) in parts {
                let (slot, put) = placed(of, name, value)?;
                add(&mut object, &slot, put)?;
            }
            (Some(Json::Object(object)), None)
        }
    };
    Ok((slot.clone(), put))
}

fn add(object: &mut Object<'static>, slot: &Slot, (value, sibling): Put) -> Result<(), Refused> {
    let beside = format!("_{}", slot.key);
    if !slot.many {
        if object.get(&slot.key).is_some() || object.get(&beside).is_some() {
            return Err(undone(format!("{} is there already", slot.key)));
        }
        for (key, value) in [(slot.key.clone(), value), (beside, sibling)] {
            if let Some(value) = value {
                object.set(usize::MAX, key, value);
            }
        }
        return Ok(());
    }
    let length = |key: &str| object.get(key).map_or(0, |list| list.items().len());
    let count = length(&slot.key).max(length(&beside));
    insert(object, slot, count, count, (value, sibling))
}

/// Puts one more into a list and what stands beside it; both keep their length alike.
fn insert(
    object: &mut Object<'static>,
    slot: &Slot,
    count: usize,
    at: usize,
    (value, sibling): Put,
) -> Result<(), Refused> {
    if at > count {
        return Err(undone(format!("there are {count} of them")));
    }
    for (key, value) in [(slot.key.clone(), value), (format!("_{}", slot.key), sibling)] {
        if object.get(&key).is_none() {
            if value.is_none() {
                continue;
            }
            object.set(usize::MAX, key.clone(), Json::Array(Vec::new()));
        }
        let Some(Json::Array(items)) = object.get_mut(&key) else { return Err(undone("no list")) };
        items.resize(count, Json::Null);
        items.insert(at, value.unwrap_or(Json::Null));
    }
    Ok(())
}

fn put_in(
    resource: &mut Json<'static>,
    list: &Place,
    slot: &Slot,
    at: usize,
    put: Put,
) -> Result<(), Refused> {
    let object = at_mut(resource, &list.holder).and_then(Json::as_object_mut);
    let object = object.ok_or_else(|| undone("no list"))?;
    let length = |key: &str| object.get(key).map_or(0, |list| list.items().len());
    let count = length(&slot.key).max(length(&format!("_{}", slot.key)));
    insert(object, slot, count, at, put)
}

type Items<'j> = &'j mut Vec<Json<'static>>;

/// A list and the one beside it, both of that length.
fn lists_mut<'j>(
    resource: &'j mut Json<'static>,
    list: &Place,
    slot: &Slot,
    count: usize,
) -> Result<(Option<Items<'j>>, Option<Items<'j>>), Refused> {
    let object = at_mut(resource, &list.holder).and_then(Json::as_object_mut);
    let object = object.ok_or_else(|| undone("no list"))?;
    let beside = format!("_{}", slot.key);
    let (mut value, mut sibling) = (None, None);
    for (key, member) in object.iter_mut() {
        let Json::Array(items) = member else { continue };
        if key == slot.key {
            items.resize(count, Json::Null);
            value = Some(items);
        } else if key == beside {
            items.resize(count, Json::Null);
            sibling = Some(items);
        }
    }
    Ok((value, sibling))
}

fn take_out(resource: &mut Json<'static>, place: &Place) {
    let Some(object) = at_mut(resource, &place.holder).and_then(Json::as_object_mut) else { return };
    for key in [place.key.clone(), format!("_{}", place.key)] {
        match (place.index, object.get_mut(&key)) {
            (Some(n), Some(Json::Array(items))) if n < items.len() => {
                items.remove(n);
            }
            (None, Some(_)) => {
                object.remove(&key);
            }
            _ => {}
        }
    }
}

fn replace(
    resource: &mut Json<'static>,
    place: &Place,
    slot: &Slot,
    (value, sibling): Put,
) -> Result<(), Refused> {
    if let Some(index) = place.index {
        take_out(resource, place);
        return put_in(resource, place, slot, index, (value, sibling));
    }
    let object = at_mut(resource, &place.holder).and_then(Json::as_object_mut);
    let object = object.ok_or_else(|| undone("it stands nowhere"))?;
    let order =
        object.iter().position(|(key, _)| key == place.key || key.strip_prefix('_') == Some(&place.key));
    let order = order.unwrap_or(usize::MAX);
    for key in [place.key.clone(), format!("_{}", place.key)] {
        object.remove(&key);
    }
    for (key, value) in [(format!("_{}", slot.key), sibling), (slot.key.clone(), value)] {
        if let Some(value) = value {
            object.set(order, key, value);
        }
    }
    Ok(())
}
