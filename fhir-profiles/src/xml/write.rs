//! The JSON tree to XML, by the element table.

use super::{FHIR, Shape, div, is_forbidden, is_number};
use crate::json::{Json, Object};
use crate::outcome::{Issue, Issues};
use crate::schema::{Element, Schema, Type, TypeKind};
use crate::validate::At;

/// How deep what is written may be nested. A resource that came through the door as deep as it lets
/// pass may stand in a Bundle, and that in another.
const DEEPEST: usize = 80;

/// How the text looks. Narrative is never laid out: its white space is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// One line.
    #[default]
    Compact,
    /// A line for each element, indented.
    Pretty,
}

/// Writes a resource as FHIR XML, its elements in the order of the definition. What the validator
/// accepts can be written, apart from what XML has no place for.
///
/// # Errors
/// One located issue, `structure` or `invalid`, if the tree is no resource of R4, has a character
/// that XML forbids, a narrative that is not well-formed, or an extension on an XML attribute.
pub fn write(resource: &Json<'_>, layout: Layout) -> Result<String, Issues> {
    let mut writer = Writer {
        schema: Schema::r4(),
        pretty: layout == Layout::Pretty,
        level: 0,
        out: String::with_capacity(4096),
    };
    writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    let name = resource.text("resourceType").unwrap_or("Resource");
    writer.resource(resource, &At::root(name), 1)?;
    if writer.pretty {
        writer.out.push('\n');
    }
    Ok(writer.out)
}

struct Writer {
    schema: &'static Schema,
    pretty: bool,
    level: usize,
    out: String,
}

/// A member of a JSON object: the element, whether it is its `_` sibling, and the value.
type Member<'j> = (&'static Element, bool, &'j Json<'j>);

fn wrong(at: &At<'_>, details: &'static str) -> Issues {
    Issue::error("structure", details).at(at.path()).into()
}

impl Writer {
    /// `depth` counts open arrays and objects, as the parser of JSON does.
    fn resource(&mut self, value: &Json<'_>, at: &At<'_>, depth: usize) -> Result<(), Issues> {
        let object = value.as_object().ok_or_else(|| wrong(at, "a resource is a JSON object"))?;
        let name = object.get("resourceType").and_then(Json::as_str);
        let of = name
            .and_then(|name| self.schema.resource(name))
            .ok_or_else(|| wrong(&at.element("resourceType"), "not a resource type of FHIR R4"))?;
        self.open(of.name);
        if depth == 1 {
            self.attribute("xmlns", FHIR, at)?;
        }
        self.object(of.name, object, of, at, depth)
    }

    /// The rest of an element whose tag was opened: attributes, children, end.
    fn object(
        &mut self,
        name: &str,
        object: &Object<'_>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(), Issues> {
        let members = self.attributes(object, of, at, depth)?;
        self.content(name, &members, of, at, depth)
    }

    /// Writes those members that are attributes, and gives back the others.
    fn attributes<'j>(
        &mut self,
        object: &'j Object<'j>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<Vec<Member<'j>>, Issues> {
        if depth > DEEPEST {
            return Err(Issue::error("too-costly", "nested too deep").at(at.path()).into());
        }
        if object.is_empty() {
            return Err(wrong(at, "an object may not be empty"));
        }
        let mut members = Vec::with_capacity(object.len());
        for (key, value) in object.iter() {
            if key == "resourceType" && of.kind == TypeKind::Resource {
                continue;
            }
            let sibling = key.strip_prefix('_');
            let here = at.element(key);
            let element =
                of.element(sibling.unwrap_or(key)).ok_or_else(|| wrong(&here, "unknown element"))?;
            if !of.is_attribute(&element.key) {
                members.push((element, sibling.is_some(), value));
            } else if sibling.is_some() {
                return Err(wrong(&here, "an XML attribute has no id and no extensions"));
            } else {
                let text = value.as_str().ok_or_else(|| wrong(&here, Shape::Text.wanted()))?;
                self.attribute(key, text, &here)?;
            }
        }
        members.sort_by_key(|(element, ..)| element.name);
        Ok(members)
    }

    fn content(
        &mut self,
        name: &str,
        members: &[Member<'_>],
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(), Issues> {
        if members.is_empty() {
            self.out.push_str("/>");
            return Ok(());
        }
        self.out.push('>');
        self.level += 1;
        for group in members.chunk_by(|(a, ..), (b, ..)| a.name == b.name) {
            let Some((element, ..)) = group.first() else { continue };
            let here = at.element(of.names.get(usize::from(element.name)).copied().unwrap_or_default());
            if group.iter().any(|(other, ..)| !std::ptr::eq(*other, *element)) {
                return Err(wrong(&here, "only one type of a choice may be given"));
            }
            let value = group.iter().find(|(_, sibling, _)| !sibling).map(|(.., value)| *value);
            let sibling = group.iter().find(|(_, sibling, _)| *sibling).map(|(.., value)| *value);
            self.element(element, value, sibling, &here, depth)?;
        }
        self.level -= 1;
        self.line();
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        Ok(())
    }

    fn element(
        &mut self,
        element: &'static Element,
        value: Option<&Json<'_>>,
        sibling: Option<&Json<'_>>,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(), Issues> {
        let given = [value, sibling].into_iter().flatten();
        if given.clone().any(|one| matches!(one, Json::Array(_)) != element.many) {
            return Err(wrong(at, if element.many { ARRAY } else { NO_ARRAY }));
        }
        if !element.many {
            return self.item(element, value, sibling, at, depth + 1);
        }
        let (values, siblings) = (value.map_or(&[][..], Json::items), sibling.map_or(&[][..], Json::items));
        if given.clone().any(|one| one.items().is_empty()) {
            return Err(wrong(at, "an array may not be empty"));
        }
        for n in 0..values.len().max(siblings.len()) {
            let value = values.get(n).filter(|one| **one != Json::Null);
            let sibling = siblings.get(n).filter(|one| **one != Json::Null);
            self.item(element, value, sibling, &at.item(n), depth + 2)?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        element: &'static Element,
        value: Option<&Json<'_>>,
        sibling: Option<&Json<'_>>,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(), Issues> {
        let Some(of) = self.schema.get(element.of) else { return Ok(()) };
        if of.name == "xhtml" {
            return self.narrative(value, sibling, at);
        }
        if of.kind == TypeKind::Primitive {
            self.open(&element.key);
            return self.primitive(&element.key, value, sibling, of, at, depth);
        }
        if sibling.is_some() {
            return Err(wrong(at, "only a primitive element has a _ sibling"));
        }
        let value = value.ok_or_else(|| wrong(at, "null is not allowed here"))?;
        self.open(&element.key);
        if of.kind == TypeKind::Any {
            self.out.push('>');
            self.level += 1;
            self.resource(value, at, depth)?;
            self.level -= 1;
            self.line();
            self.out.push_str(&format!("</{}>", element.key));
            return Ok(());
        }
        let object = value.as_object().ok_or_else(|| wrong(at, "a JSON object is needed"))?;
        self.object(&element.key, object, of, at, depth)
    }

    fn primitive(
        &mut self,
        name: &str,
        value: Option<&Json<'_>>,
        sibling: Option<&Json<'_>>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(), Issues> {
        let mut members = Vec::new();
        let around = self.schema.element();
        if let (Some(sibling), Some(around)) = (sibling, around) {
            let object = sibling.as_object().ok_or_else(|| wrong(at, "a _ sibling is a JSON object"))?;
            members = self.attributes(object, around, at, depth)?;
        }
        match (value, Shape::of(of)) {
            (Some(Json::Bool(true)), Shape::Boolean) => self.attribute("value", "true", at)?,
            (Some(Json::Bool(false)), Shape::Boolean) => self.attribute("value", "false", at)?,
            (Some(Json::Number(text)), Shape::Number) if is_number(text) => {
                self.attribute("value", text, at)?;
            }
            (Some(Json::String(text)), Shape::Text) => self.attribute("value", text, at)?,
            (None, _) if sibling.is_some() => {}
            (None, _) => return Err(wrong(at, "null is not allowed here")),
            (Some(_), shape) => return Err(wrong(at, shape.wanted())),
        }
        match around {
            Some(around) => self.content(name, &members, around, at, depth),
            None => Ok(()),
        }
    }

    fn narrative(
        &mut self,
        value: Option<&Json<'_>>,
        sibling: Option<&Json<'_>>,
        at: &At<'_>,
    ) -> Result<(), Issues> {
        if sibling.is_some() {
            return Err(wrong(at, "a narrative has its id in itself, and no extensions"));
        }
        let text = value.and_then(Json::as_str).ok_or_else(|| wrong(at, Shape::Text.wanted()))?;
        let div = div::embed(text).map_err(|why| Issue::error("invalid", why).at(at.path()))?;
        self.line();
        self.out.push_str(&div);
        Ok(())
    }

    fn open(&mut self, name: &str) {
        self.line();
        self.out.push('<');
        self.out.push_str(name);
    }

    fn line(&mut self) {
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", self.level));
        }
    }

    /// White space other than a blank would come back as one, so it goes by number.
    fn attribute(&mut self, name: &str, value: &str, at: &At<'_>) -> Result<(), Issues> {
        if value.contains(is_forbidden) {
            return Err(wrong(at, "a character that XML forbids"));
        }
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        let mut rest = value;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\t', '\n', '\r']) {
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.out.push_str(before);
            let mut letters = after.chars();
            self.out.push_str(match letters.next() {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('"') => "&quot;",
                Some('\t') => "&#9;",
                Some('\n') => "&#10;",
                Some('\r') => "&#13;",
                _ => "",
            });
            rest = letters.as_str();
        }
        self.out.push_str(rest);
        self.out.push('"');
        Ok(())
    }
}

const ARRAY: &str = "an array is needed";
const NO_ARRAY: &str = "an array is not allowed here";
