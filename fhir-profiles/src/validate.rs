//! The structural validator: one walk over raw JSON against the element table
//! (<https://hl7.org/fhir/R4/validation.html>: structure, cardinality, value domains, required
//! bindings, invariants). It runs before anything else sees a resource, and is bounded by its size.

use std::fmt::Write;

use crate::fhirpath::Node;
use crate::invariant::{Invariant, Verdict};
use crate::json::Json;
use crate::outcome::{Issue, Issues, Severity};
use crate::primitive::{self, Fault};
use crate::reference::{self, Reference};
use crate::resource_type::ResourceType;
use crate::schema::{Element, Schema, Type, TypeKind};
use crate::{contained, entries, narrative, questionnaire, rules};

/// Errors are cut off after so many, and warnings too: a hostile resource must not make a huge
/// answer. Each has its own measure, so that warnings can't hide an error.
const MOST: usize = 100;

/// What all invariants of a resource may cost in steps: so many, and so many more for each object.
/// Records take 5 for each, definitions 110.
const STEPS: u64 = 1_000_000;
const STEPS_EACH: u64 = 150;

/// Where the walk is; becomes a FHIRPath only when there is a finding.
#[derive(Clone, Copy)]
pub(crate) struct At<'p> {
    above: Option<&'p At<'p>>,
    name: &'p str,
    index: Option<usize>,
}

impl<'p> At<'p> {
    pub(crate) fn root(name: &'p str) -> Self {
        Self { above: None, name, index: None }
    }

    pub(crate) fn element(&'p self, name: &'p str) -> At<'p> {
        At { above: Some(self), name, index: None }
    }

    /// Name of the element above.
    pub(crate) fn parent(&self) -> &'p str {
        self.above.map_or("", |above| above.name)
    }

    /// Is this a place under `contained`?
    pub(crate) fn is_contained(&self) -> bool {
        self.name == "contained"
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        Self { index: Some(index), ..*self }
    }

    pub(crate) fn path(&self) -> String {
        let mut out = match self.above {
            Some(above) => above.path() + ".",
            None => String::new(),
        };
        out.extend(self.name.chars().take(64));
        if let Some(index) = self.index {
            let _ = write!(out, "[{index}]");
        }
        out
    }
}

/// The findings of one walk.
pub(crate) struct Walk<'w> {
    schema: &'static Schema,
    issues: Vec<Issue>,
    warnings: Vec<Issue>,
    /// The resource it is in, and what contains that.
    resource: Node<'w>,
    root: Node<'w>,
    /// Is all asked for, rather than what a write needs?
    fully: bool,
    /// What invariants may still cost; none when they cost too much.
    steps: Option<u64>,
}

impl Walk<'_> {
    pub(crate) fn error(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        details: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        if self.issues.len() < MOST {
            self.issues.push(Issue::error(code, details).at(at.path()));
        }
    }

    /// What FHIR rules out in words only, or its own examples break: an error where all is asked for.
    pub(crate) fn doubt(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        details: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        if self.fully { self.error(at, code, details) } else { self.warning(at, code, details) }
    }

    fn warning(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        details: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        if self.warnings.len() < MOST {
            self.warnings.push(Issue::warning(code, details).at(at.path()));
        }
    }
}

/// All findings about a resource, errors first: a list without an error means that it is accepted.
pub fn validate(resource: &Json) -> Issues {
    walk(resource, false)
}

/// The same, and an error for what [`validate`] only warns of because feeds and HL7's own examples
/// are full of it.
pub(crate) fn validate_fully(resource: &Json) -> Issues {
    walk(resource, true)
}

fn walk(resource: &Json, fully: bool) -> Issues {
    let mut walk = Walk {
        schema: Schema::r4(),
        issues: Vec::new(),
        warnings: Vec::new(),
        resource: Node::resource(resource),
        root: Node::resource(resource),
        fully,
        steps: Some(STEPS),
    };
    let name = resource.text("resourceType").unwrap_or("Resource");
    walk.resource(resource, &At::root(name), 0);
    walk.issues.append(&mut walk.warnings);
    Issues(walk.issues)
}

impl<'w> Walk<'w> {
    /// `depth` counts resources within resources.
    fn resource(&mut self, value: &'w Json<'w>, at: &At<'_>, depth: usize) {
        let Some(object) = value.as_object() else {
            return self.error(at, "structure", "a resource is a JSON object");
        };
        let kind = match object.get("resourceType") {
            Some(Json::String(name)) => self.schema.resource(name),
            Some(_) => {
                return self.error(&at.element("resourceType"), "structure", "resourceType is a string");
            }
            None => return self.error(&at.element("resourceType"), "required", "resourceType is missing"),
        };
        let Some(of) = kind else {
            return self.error(
                &at.element("resourceType"),
                "not-supported",
                "not a resource type of FHIR R4",
            );
        };
        let before = (self.resource, self.root);
        self.resource = Node { value: Some(value), sibling: None, of: Some(of) };
        if !at.is_contained() {
            self.root = self.resource;
        }
        self.object(value, of, at, depth);
        (self.resource, self.root) = before;
        contained::check(self, value, at, depth);
        if of.name == "Bundle" {
            entries::check(self, value, at);
        }
        if of.name == "Questionnaire" {
            questionnaire::check(self, value, at);
        }
        if of.element("url").is_some() && value.text("url").is_some_and(|url| !url.contains(':')) {
            self.error(&at.element("url"), "value", "the url of a definition is an absolute address");
        }
    }

    fn object(&mut self, json: &'w Json<'w>, of: &'static Type, at: &At<'_>, depth: usize) {
        let Some(object) = json.as_object() else { return };
        let mut seen = [false; 128];
        let mut keys: [Option<&str>; 128] = [None; 128];
        for (key, value) in object.iter() {
            if key == "resourceType" && of.kind == TypeKind::Resource {
                continue;
            }
            let sibling = key.strip_prefix('_');
            let Some(element) = of.element(sibling.unwrap_or(key)) else {
                self.error(&at.element(key), "structure", "unknown element");
                continue;
            };
            let of_element = self.schema.get(element.of);
            let place = usize::from(element.name);
            let name = of.names.get(place).copied().unwrap_or_default();
            let here = at.element(name);
            // Neither what is an attribute in XML nor narrative has a place for them.
            let is_bare = of_element.is_none_or(|of| of.kind != TypeKind::Primitive || of.name == "xhtml");
            if sibling.is_some() && (is_bare || of.is_attribute(&element.key)) {
                self.error(&at.element(key), "structure", "only a primitive element has a _ sibling");
                continue;
            }
            let bare = sibling.unwrap_or(key);
            if let (Some(seen), Some(before)) = (seen.get_mut(place), keys.get_mut(place)) {
                *seen = true;
                if before.is_some_and(|before| before != bare) {
                    self.error(&here, "structure", "only one type of a choice may be given");
                }
                *before = Some(bare);
            }
            if sibling.is_some() {
                self.without_value(value, object.get(bare), element.codes.is_some(), &here);
            }
            match (element.many, value) {
                (true, Json::Array(items)) => {
                    if items.is_empty() {
                        self.error(&here, "structure", "an array may not be empty");
                    }
                    let other = if sibling.is_some() { object.get(bare) } else { partner(object, key) };
                    self.aligned(items, other, &here);
                    for (n, item) in items.iter().enumerate() {
                        if !matches!(item, Json::Null) {
                            self.value(item, element, sibling.is_some(), &here.item(n), depth);
                        }
                    }
                }
                (true, _) => self.error(&here, "structure", "an array is needed"),
                (false, Json::Array(_)) => self.error(&here, "structure", "an array is not allowed here"),
                (false, Json::Null) => self.error(&here, "structure", "null is not allowed here"),
                (false, _) => self.value(value, element, sibling.is_some(), &here, depth),
            }
        }
        for place in &of.required {
            let place = usize::from(*place);
            if !seen.get(place).copied().unwrap_or(true) {
                let name = of.names.get(place).copied().unwrap_or_default();
                self.error(&at.element(name), "required", "the element is missing");
            }
        }
        if object.is_empty() {
            self.error(at, "structure", "an object may not be empty");
        }
        if object.len() == 1 && object.get("id").is_some() && of.kind != TypeKind::Resource {
            self.error(at, "invariant", "an element has more than an id (ele-1)");
        }
        rules::of_type(self, of.name, object, at);
        self.steps = self.steps.map(|steps| steps.saturating_add(STEPS_EACH));
        let node = Node { value: Some(json), sibling: None, of: Some(of) };
        for invariant in of.invariants {
            self.invariant(invariant, node, Some((of, &seen)), at);
        }
        for (place, invariants) in &of.of_elements {
            let Some(name) =
                of.names.get(usize::from(*place)).filter(|_| seen.get(usize::from(*place)) == Some(&true))
            else {
                continue;
            };
            let mut elements = Vec::new();
            node.member(name, &mut |element| elements.push(element));
            let many = elements.len() > 1;
            for (n, element) in elements.into_iter().enumerate() {
                let here = at.element(name);
                let here = if many { here.item(n) } else { here };
                for invariant in *invariants {
                    self.invariant(invariant, element, None, &here);
                }
            }
        }
    }

    /// `has`: the type of the focus, and which elements of it are there.
    fn invariant(
        &mut self,
        invariant: &Invariant,
        focus: Node<'w>,
        has: Option<(&Type, &[bool])>,
        at: &At<'_>,
    ) {
        let Some(steps) = &mut self.steps else { return };
        match invariant.check(focus, has, self.resource, self.root, steps) {
            Verdict::Kept => {}
            Verdict::Broken if invariant.severity == Severity::Error => {
                self.error(at, "invariant", invariant.details());
            }
            Verdict::Broken => self.warning(at, "invariant", invariant.details()),
            Verdict::TooCostly => {
                self.steps = None;
                self.warning(at, "too-costly", "not all invariants could be checked");
            }
        }
    }

    /// An id alone stands for nothing, and an extension for no code of a required binding.
    fn without_value(&mut self, siblings: &Json, values: Option<&Json>, is_coded: bool, at: &At<'_>) {
        let there = |value: Option<&Json>| value.is_some_and(|value| !matches!(value, Json::Null));
        let mut one = |sibling: &Json, value: Option<&Json>, at: &At<'_>| {
            if there(value) || !there(Some(sibling)) {
                return;
            }
            if is_coded {
                self.error(at, "code-invalid", "a code of the required value set is needed");
            } else if sibling.get("id").is_some() && sibling.get("extension").is_none() {
                self.error(at, "invariant", "an element has more than an id (ele-1)");
            }
        };
        let Json::Array(siblings) = siblings else { return one(siblings, values, at) };
        let values = values.map_or(&[][..], Json::items);
        for (n, sibling) in siblings.iter().enumerate() {
            one(sibling, values.get(n), &at.item(n));
        }
    }

    /// `null` stands only where the array beside it has something. Both should be equally long;
    /// a shorter one can be read in one way only, so it is accepted.
    fn aligned(&mut self, items: &[Json], other: Option<&Json>, at: &At<'_>) {
        let other = other.map(Json::items);
        if other.is_some_and(|other| other.len() > items.len()) {
            self.warning(at, "structure", "the array and its _ sibling differ in length");
        }
        for (n, item) in items.iter().enumerate() {
            let beside = other.and_then(|other| other.get(n));
            if matches!(item, Json::Null) && beside.is_none_or(|beside| matches!(beside, Json::Null)) {
                self.error(&at.item(n), "structure", "null is not allowed here");
            }
        }
    }

    fn value(
        &mut self,
        value: &'w Json<'w>,
        element: &'static Element,
        sibling: bool,
        at: &At<'_>,
        depth: usize,
    ) {
        let Some(of) = self.schema.get(element.of) else { return };
        if sibling {
            return self.primitive_extension(value, at, depth);
        }
        match of.kind {
            TypeKind::Any => self.resource(value, at, depth + 1),
            TypeKind::Primitive => self.primitive(value, of.name, element, at),
            _ => {
                if value.as_object().is_none() {
                    return self.error(at, "structure", format!("a {} is a JSON object", of.name));
                }
                self.object(value, of, at, depth);
                match of.name {
                    "Reference" => self.reference(value, element, at),
                    "Coding" | "CodeableConcept" | "Quantity" => self.bound(value, element, at),
                    _ => {}
                }
            }
        }
    }

    fn primitive(&mut self, value: &Json, kind: &'static str, element: &Element, at: &At<'_>) {
        if kind == "xhtml" {
            match value.as_str() {
                Some(text) => match narrative::check(text) {
                    Ok(true) => {}
                    Ok(false) => self.doubt(at, "invariant", "the narrative has no content (txt-2)"),
                    Err(why) => self.error(at, "invalid", why),
                },
                None => self.error(at, "structure", "a string is needed"),
            }
            return;
        }
        match primitive::check(kind, value) {
            Ok(()) => {}
            Err(Fault::Shape(wanted)) => return self.error(at, "structure", format!("{wanted} is needed")),
            Err(Fault::Content(wanted)) => return self.error(at, "value", format!("needed is {wanted}")),
        }
        if kind == "canonical"
            && let Some(kind) = value.as_str().and_then(defined)
            && !element.targets.is_empty()
            && !element.targets.contains(&kind)
        {
            self.error(at, "value", format!("a {} is not allowed here", kind.name()));
        }
        if let (Some(codes), Some(code)) = (element.codes, value.as_str())
            && codes.contains_code(code) == Some(false)
        {
            self.error(at, "code-invalid", "the code is not in the required value set");
        }
    }

    /// The object under `_name`: id and extensions only.
    fn primitive_extension(&mut self, value: &'w Json<'w>, at: &At<'_>, depth: usize) {
        let Some(object) = value.as_object() else {
            return self.error(at, "structure", "a _ sibling is a JSON object");
        };
        if object.is_empty() {
            self.error(at, "structure", "an object may not be empty");
        }
        let Some(extension) =
            self.schema.resource("Patient").and_then(|patient| patient.element("extension"))
        else {
            return;
        };
        for (key, value) in object.iter() {
            let here = at.element(key);
            match (key, value) {
                ("id", id) if primitive::check("string", id).is_ok() => {}
                ("extension", Json::Array(items)) if !items.is_empty() => {
                    for (n, item) in items.iter().enumerate() {
                        self.value(item, extension, false, &here.item(n), depth);
                    }
                }
                _ => self.error(&here, "structure", "only id and extension are allowed here"),
            }
        }
    }

    fn reference(&mut self, value: &Json, element: &Element, at: &At<'_>) {
        let Some(text) = value.text("reference") else { return };
        let here = at.element("reference");
        match reference::parse(text, "") {
            Reference::Local { kind, .. } => self.target(kind, element, &here),
            Reference::Conditional { kind, criteria } => {
                let named = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                if !criteria.split('&').all(|part| named(part) && part.contains('=')) {
                    self.error(&here, "value", "a conditional reference has criteria like name=value");
                }
                self.target(kind, element, &here);
            }
            Reference::Contained(_) => {}
            Reference::Other(text) => {
                let absolute = text.contains(':');
                let id = text.rsplit('/').next().unwrap_or_default();
                let kind = text.rsplit('/').nth(1).and_then(ResourceType::parse);
                if !absolute {
                    self.error(&here, "value", "neither Type/id nor an absolute address");
                } else if let Some(kind) = kind.filter(|_| reference::is_id(id)) {
                    self.target(kind, element, &here);
                }
            }
        }
    }

    fn target(&mut self, kind: ResourceType, element: &Element, at: &At<'_>) {
        if element.targets.is_empty() || element.targets.contains(&kind) {
            return;
        }
        // Whose record it is must be beyond doubt. Elsewhere HL7's own examples point to other types.
        let whose = at.above.is_some_and(|above| matches!(above.name, "subject" | "patient" | "beneficiary"));
        if whose {
            self.error(at, "value", format!("a reference to {} is not allowed here", kind.name()));
        } else {
            self.warning(at, "value", format!("a reference to {} is not expected here", kind.name()));
        }
    }

    /// A concept of a required binding has a code of it.
    fn bound(&mut self, value: &Json, element: &Element, at: &At<'_>) {
        let Some(codes) = element.codes else { return };
        if codes.holds(value) == Some(false) {
            self.error(at, "code-invalid", "no code of the required value set");
        }
    }
}

/// What kind of definition a canonical of the base specification names.
fn defined(canonical: &str) -> Option<ResourceType> {
    let (kind, id) = canonical.strip_prefix("http://hl7.org/fhir/")?.split_once('/')?;
    ResourceType::parse(kind).filter(|_| !id.contains('/'))
}

/// The `_key` beside `key`.
fn partner<'o, 'j>(object: &'o crate::json::Object<'j>, key: &str) -> Option<&'o Json<'j>> {
    object.iter().find(|(other, _)| other.strip_prefix('_') == Some(key)).map(|(_, value)| value)
}
