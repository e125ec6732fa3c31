//! The structural validator: one walk over raw JSON against the element table
//! (<https://hl7.org/fhir/R4/validation.html>: structure, cardinality, value domains, required
//! bindings). It runs before anything else sees a resource, and is bounded by its size.

use std::fmt::Write;

use crate::json::{Json, Object};
use crate::outcome::{Issue, Issues};
use crate::primitive::{self, Fault};
use crate::reference::{self, Reference};
use crate::resource_type::ResourceType;
use crate::schema::{Element, Schema, Type, TypeKind};
use crate::{contained, narrative, rules};

/// Errors are cut off after so many, and warnings too: a hostile resource must not make a huge
/// answer. Each has its own measure, so that warnings can't hide an error.
const MOST: usize = 100;

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
pub(crate) struct Walk {
    schema: &'static Schema,
    issues: Vec<Issue>,
    warnings: Vec<Issue>,
}

impl Walk {
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
    let mut walk = Walk { schema: Schema::r4(), issues: Vec::new(), warnings: Vec::new() };
    let name = resource.text("resourceType").unwrap_or("Resource");
    walk.resource(resource, &At::root(name), 0);
    walk.issues.append(&mut walk.warnings);
    Issues(walk.issues)
}

impl Walk {
    /// `depth` counts resources within resources.
    fn resource(&mut self, value: &Json, at: &At<'_>, depth: usize) {
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
        self.object(object, of, at, depth);
        contained::check(self, value, at, depth);
        rules::of_resource(self, of.name, value, at);
    }

    fn object(&mut self, object: &Object<'_>, of: &'static Type, at: &At<'_>, depth: usize) {
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
        rules::of_type(self, of.name, object, at);
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

    fn value(&mut self, value: &Json, element: &'static Element, sibling: bool, at: &At<'_>, depth: usize) {
        let Some(of) = self.schema.get(element.of) else { return };
        if sibling {
            return self.primitive_extension(value, at, depth);
        }
        match of.kind {
            TypeKind::Any => self.resource(value, at, depth + 1),
            TypeKind::Primitive => self.primitive(value, of.name, element, at),
            _ => {
                let Some(object) = value.as_object() else {
                    return self.error(at, "structure", format!("a {} is a JSON object", of.name));
                };
                self.object(object, of, at, depth);
                match of.name {
                    "Reference" => self.reference(value, element, at),
                    "Coding" | "CodeableConcept" => self.bound(value, element, at),
                    _ => {}
                }
            }
        }
    }

    fn primitive(&mut self, value: &Json, kind: &'static str, element: &Element, at: &At<'_>) {
        if kind == "xhtml" {
            match value.as_str() {
                Some(text) => {
                    if let Err(why) = narrative::check(text) {
                        self.error(at, "invalid", why);
                    }
                }
                None => self.error(at, "structure", "a string is needed"),
            }
            return;
        }
        match primitive::check(kind, value) {
            Ok(()) => {}
            Err(Fault::Shape(wanted)) => return self.error(at, "structure", format!("{wanted} is needed")),
            Err(Fault::Content(wanted)) => return self.error(at, "value", format!("needed is {wanted}")),
        }
        if let (Some(codes), Some(code)) = (element.codes, value.as_str())
            && !self.schema.allows(codes, code)
        {
            self.error(at, "code-invalid", "the code is not in the required value set");
        }
    }

    /// The object under `_name`: id and extensions only.
    fn primitive_extension(&mut self, value: &Json, at: &At<'_>, depth: usize) {
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
            Reference::Local { kind, .. } | Reference::Conditional { kind, .. } => {
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
        let codings = value.list("coding");
        let one = std::slice::from_ref(value);
        let candidates = if value.get("coding").is_some() { codings } else { one };
        let fits = candidates
            .iter()
            .filter_map(|coding| coding.text("code"))
            .any(|code| self.schema.allows(codes, code));
        if !fits {
            self.error(at, "code-invalid", "no code of the required value set");
        }
    }
}

/// The `_key` beside `key`.
fn partner<'o, 'j>(object: &'o Object<'j>, key: &str) -> Option<&'o Json<'j>> {
    object.iter().find(|(other, _)| other.strip_prefix('_') == Some(key)).map(|(_, value)| value)
}
