//! XML to the JSON tree, by the element table.

use std::borrow::Cow;

use super::source::{Fault, Source, Space, Tag, Token, places, value};
use super::{Shape, div, is_number};
use crate::json::{Json, Limits};
use crate::outcome::{Issue, Issues};
use crate::schema::{Element, Schema, Type, TypeKind};
use crate::validate::At;

/// What is wrong with the elements is collected up to so much; a fault of the XML itself ends it.
const MOST: usize = 100;

/// Reads one resource from FHIR XML. The tree is what the resource is in JSON, and borrows from the
/// text; it is to be validated like any JSON from outside. Comments, processing instructions,
/// formatting and `xsi:schemaLocation` are no content and let pass.
///
/// # Errors
/// Issues with FHIRPath, line and column: `too-long`, `too-costly` (depth, elements, attributes), `structure`
/// (not well-formed, a DTD, an unknown or misplaced element or attribute, text), `duplicate`
/// (attribute), `value` (no boolean or number), `not-supported` (another encoding, no resource of R4).
pub fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Json<'a>, Issues> {
    if bytes.len() > limits.bytes {
        return Err(Issue::error("too-long", format!("more than {} bytes", limits.bytes)).into());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Issue::error("structure", format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(text).map_err(|fault| located(text, &[(fault, String::new())]))?;
    let mut reader = Reader {
        text,
        source,
        schema: Schema::r4(),
        depth: limits.depth,
        left: limits.values,
        issues: Vec::new(),
    };
    let resource = reader.document()?;
    if reader.issues.is_empty() { Ok(resource) } else { Err(located(text, &reader.issues)) }
}

struct Reader<'a> {
    text: &'a str,
    source: Source<'a>,
    schema: &'static Schema,
    depth: usize,
    /// Elements that may still come.
    left: usize,
    /// What was found, each with its FHIRPath.
    issues: Vec<(Fault, String)>,
}

/// Members of a JSON object to be.
type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Elements of one name, one after the other.
struct Run<'a> {
    element: &'static Element,
    values: Vec<Json<'a>>,
    siblings: Vec<Json<'a>>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Json<'a>, Issues> {
        let nowhere = At::root("Resource");
        let mut resource = None;
        loop {
            match self.next(&nowhere)? {
                Token::Open(tag) if resource.is_none() => {
                    resource = Some(self.resource(&tag, None, 1)?);
                }
                Token::Comment | Token::Instruction | Token::Text { blank: true } => {}
                Token::End => break,
                Token::Open(_) => {
                    return Err(self.fatal(&self.source.fault("there is more than one element"), &nowhere));
                }
                Token::Text { .. } | Token::Close => {
                    return Err(self.fatal(&self.source.fault(TEXT), &nowhere));
                }
            }
        }
        resource.ok_or_else(|| self.fatal(&self.source.fault("there is no element"), &nowhere))
    }

    /// `depth` counts the arrays and objects of the JSON that are open, this one included.
    fn resource(&mut self, tag: &Tag<'a>, at: Option<&At<'_>>, depth: usize) -> Result<Json<'a>, Issues> {
        let root = At::root(tag.local);
        let at = at.unwrap_or(&root);
        if tag.space != Space::Fhir {
            self.report(tag.from, at, "structure", NOT_FHIR);
        } else if let Some(of) = self.schema.resource(tag.local) {
            return self.object(tag, of, at, depth);
        } else {
            self.report(tag.from, at, "not-supported", "not a resource type of FHIR R4");
        }
        self.skip(at)?;
        Ok(Json::Null)
    }

    fn object(
        &mut self,
        tag: &Tag<'a>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<Json<'a>, Issues> {
        let found = self.issues.len();
        let mut members = Vec::with_capacity(4);
        if of.kind == TypeKind::Resource {
            members.push((Cow::Borrowed("resourceType"), Json::String(Cow::Borrowed(of.name))));
        }
        self.attributes(
            tag,
            at,
            |key| of.is_attribute(key).then(|| of.element(key)).flatten().map(|element| element.key.as_str()),
            &mut members,
        )?;
        self.children(of, at, depth, &mut members)?;
        if members.is_empty() && self.issues.len() == found {
            self.report(tag.from, at, "structure", EMPTY);
        }
        Ok(Json::Object(members.into_iter().collect()))
    }

    /// Puts the attributes that `known` has a name for among the members.
    fn attributes(
        &mut self,
        tag: &Tag<'a>,
        at: &At<'_>,
        known: impl Fn(&str) -> Option<&'static str>,
        members: &mut Members<'a>,
    ) -> Result<(), Issues> {
        for (key, written) in &tag.attributes {
            let value = match value(written) {
                Ok(value) => value,
                Err(details) => {
                    let fault = Fault { code: "structure", details, at: tag.from };
                    return Err(self.fatal(&fault, &at.element(key)));
                }
            };
            if let Some(key) = known(key) {
                members.push((Cow::Borrowed(key), Json::String(value)));
            } else if *key != "xmlns" && !key.starts_with("xmlns:") && !self.source.is_schema_hint(key) {
                self.report(tag.from, &at.element(key), "structure", "unknown attribute");
            }
        }
        Ok(())
    }

    fn children(
        &mut self,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
        members: &mut Members<'a>,
    ) -> Result<(), Issues> {
        if depth > self.depth {
            let fault = Fault { code: "too-costly", ..self.source.fault("nested too deep") };
            return Err(self.fatal(&fault, at));
        }
        let mut before: Option<&'static Element> = None;
        let mut run: Option<Run<'a>> = None;
        let mut has_text = false;
        loop {
            let tag = match self.next(at)? {
                Token::Open(tag) => tag,
                Token::Text { blank: false } if !has_text => {
                    has_text = true;
                    self.report(self.source.from(), at, "structure", TEXT);
                    continue;
                }
                Token::Text { .. } | Token::Comment | Token::Instruction => continue,
                Token::Close | Token::End => break,
            };
            let Some((element, kind)) = self.element(&tag, of, at) else {
                self.skip(at)?;
                continue;
            };
            let here = at.element(of.names.get(usize::from(element.name)).copied().unwrap_or_default());
            self.order(&tag, element, before, &here);
            before = Some(before.map_or(element, |b| if b.name > element.name { b } else { element }));
            if !element.many {
                finish(run.take(), members);
                let (value, sibling) = self.value(&tag, kind, &here, depth + 1)?;
                push(members, element, value, sibling);
                continue;
            }
            if run.as_ref().is_none_or(|run| !std::ptr::eq(run.element, element)) {
                finish(run.take(), members);
            }
            let run = run.get_or_insert_with(|| Run { element, values: Vec::new(), siblings: Vec::new() });
            let (value, sibling) = self.value(&tag, kind, &here.item(run.values.len()), depth + 2)?;
            run.values.push(value);
            run.siblings.push(sibling);
        }
        finish(run, members);
        Ok(())
    }

    /// The element of that name; what is none is reported.
    fn element(
        &mut self,
        tag: &Tag<'a>,
        of: &'static Type,
        at: &At<'_>,
    ) -> Option<(&'static Element, &'static Type)> {
        let element = of.element(tag.local).filter(|_| !of.is_attribute(tag.local));
        let kind = element.and_then(|element| self.schema.get(element.of));
        let space = if kind.is_some_and(is_xhtml) { Space::Xhtml } else { Space::Fhir };
        if tag.space == space {
            if let (Some(element), Some(kind)) = (element, kind) {
                return Some((element, kind));
            }
            self.report(tag.from, &at.element(tag.local), "structure", "unknown element");
        } else {
            let details = if space == Space::Xhtml { NOT_XHTML } else { NOT_FHIR };
            self.report(tag.from, &at.element(tag.local), "structure", details);
        }
        None
    }

    fn order(
        &mut self,
        tag: &Tag<'a>,
        element: &'static Element,
        before: Option<&'static Element>,
        at: &At<'_>,
    ) {
        let Some(before) = before else { return };
        let details = if element.name < before.name {
            "the element stands too late: XML keeps the order of the definition"
        } else if element.name > before.name || element.many {
            return;
        } else if std::ptr::eq(element, before) {
            "the element may stand only once"
        } else {
            "only one type of a choice may be given"
        };
        self.report(tag.from, at, "structure", details);
    }

    /// The value, and what JSON puts beside it under `_name`; null where there is none.
    fn value(
        &mut self,
        tag: &Tag<'a>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(Json<'a>, Json<'a>), Issues> {
        match of.kind {
            _ if is_xhtml(of) => match div::take(&mut self.source, tag) {
                Ok(div) => Ok((Json::String(div), Json::Null)),
                Err(fault) => Err(self.fatal(&fault, at)),
            },
            TypeKind::Primitive => self.primitive(tag, of, at, depth),
            TypeKind::Any => Ok((self.inner(tag, at, depth)?, Json::Null)),
            _ => Ok((self.object(tag, of, at, depth)?, Json::Null)),
        }
    }

    fn primitive(
        &mut self,
        tag: &Tag<'a>,
        of: &'static Type,
        at: &At<'_>,
        depth: usize,
    ) -> Result<(Json<'a>, Json<'a>), Issues> {
        let found = self.issues.len();
        let mut members = Vec::new();
        let known = |key: &str| match key {
            "id" => Some("id"),
            "value" => Some("value"),
            _ => None,
        };
        self.attributes(tag, at, known, &mut members)?;
        let given = members.iter().position(|(key, _)| key == "value").map(|at| members.remove(at).1);
        let shape = Shape::of(of);
        let value = match given {
            None => Json::Null,
            Some(Json::String(text)) => match shape {
                Shape::Boolean if matches!(text.as_ref(), "true" | "false") => Json::Bool(text == "true"),
                Shape::Number if is_number(&text) => Json::Number(text),
                Shape::Text => Json::String(text),
                Shape::Boolean | Shape::Number => {
                    self.report(tag.from, at, "value", shape.wanted());
                    Json::Null
                }
            },
            Some(other) => other,
        };
        if let Some(element) = self.schema.element() {
            self.children(element, at, depth, &mut members)?;
        }
        if members.is_empty() {
            if matches!(value, Json::Null) && self.issues.len() == found {
                self.report(tag.from, at, "structure", EMPTY);
            }
            return Ok((value, Json::Null));
        }
        Ok((value, Json::Object(members.into_iter().collect())))
    }

    /// An element that holds a resource: exactly one.
    fn inner(&mut self, tag: &Tag<'a>, at: &At<'_>, depth: usize) -> Result<Json<'a>, Issues> {
        self.attributes(tag, at, |_| None, &mut Vec::new())?;
        let mut resource = None;
        loop {
            match self.next(at)? {
                Token::Open(inner) if resource.is_none() => {
                    resource = Some(self.resource(&inner, Some(at), depth)?);
                }
                Token::Open(inner) => {
                    self.report(inner.from, at, "structure", "only one resource is allowed here");
                    self.skip(at)?;
                }
                Token::Text { blank: false } => {
                    self.report(self.source.from(), at, "structure", TEXT);
                }
                Token::Text { .. } | Token::Comment | Token::Instruction => {}
                Token::Close | Token::End => break,
            }
        }
        if resource.is_none() {
            self.report(tag.from, at, "structure", "a resource is needed");
        }
        Ok(resource.unwrap_or(Json::Null))
    }

    fn next(&mut self, at: &At<'_>) -> Result<Token<'a>, Issues> {
        let token = self.source.next().map_err(|fault| self.fatal(&fault, at))?;
        if matches!(token, Token::Open(_)) {
            let few = self.left.checked_sub(1);
            let fault = || Fault { code: "too-costly", ..self.source.fault("too many elements") };
            self.left = few.ok_or_else(|| self.fatal(&fault(), at))?;
        }
        Ok(token)
    }

    fn skip(&mut self, at: &At<'_>) -> Result<(), Issues> {
        self.source.skip().map_err(|fault| self.fatal(&fault, at))
    }

    fn report(&mut self, from: usize, at: &At<'_>, code: &'static str, details: &'static str) {
        if self.issues.len() < MOST {
            self.issues.push((Fault { code, details, at: from }, at.path()));
        }
    }

    /// What was found until here, and last what ends the reading.
    fn fatal(&self, fault: &Fault, at: &At<'_>) -> Issues {
        let mut issues = self.issues.clone();
        issues.push((*fault, at.path()));
        located(self.text, &issues)
    }
}

fn located(text: &str, found: &[(Fault, String)]) -> Issues {
    let places = places(text, found.iter().map(|(fault, _)| fault.at));
    let issue = |((fault, at), (line, column)): (&(Fault, String), (usize, usize))| {
        let details = format!("{} at line {line} column {column}", fault.details);
        Issue::error(fault.code, details).at(at.clone())
    };
    Issues(found.iter().zip(places).map(issue).collect())
}

const TEXT: &str = "text is not allowed here";
const EMPTY: &str = "an element has a value, or children";
const NOT_FHIR: &str = "the element is not in the namespace http://hl7.org/fhir";
const NOT_XHTML: &str = "the element is not in the namespace http://www.w3.org/1999/xhtml";

fn is_xhtml(of: &Type) -> bool {
    of.name == "xhtml"
}

fn push<'a>(members: &mut Members<'a>, element: &'static Element, value: Json<'a>, sibling: Json<'a>) {
    if value != Json::Null {
        members.push((Cow::Borrowed(element.key.as_str()), value));
    }
    if sibling != Json::Null {
        members.push((Cow::Owned(format!("_{}", element.key)), sibling));
    }
}

/// An array that would hold nothing but null is left out, as JSON has it.
fn finish<'a>(run: Option<Run<'a>>, members: &mut Members<'a>) {
    let Some(Run { element, values, siblings }) = run else { return };
    let array = |items: Vec<Json<'a>>| {
        if items.iter().all(|item| *item == Json::Null) { Json::Null } else { Json::Array(items) }
    };
    push(members, element, array(values), array(siblings));
}
