//! XML as a tree, to compare two texts of it element for element.

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;

/// The namespace of FHIR's XML.
pub(crate) const FHIR: &str = "http://hl7.org/fhir";

/// An element: its namespace, name, attributes in the order of their names, text, and children.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The root of a document.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = NsReader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            let (namespace, event) = reader.read_resolved_event().map_err(|e| format!("bad XML: {e}"))?;
            let namespace = match namespace {
                ResolveResult::Bound(found) => found.as_ref().to_owned(),
                _ => String::new(),
            };
            match event {
                Event::Start(start) => open.push(Self::of(namespace, &start)?),
                Event::Empty(start) => {
                    let element = Self::of(namespace, &start)?;
                    open.last_mut().ok_or("no parent")?.children.push(element);
                }
                Event::End(_) => {
                    let done = open.pop().ok_or("an end too many")?;
                    open.last_mut().ok_or("an end too many")?.children.push(done);
                }
                Event::Text(text) => {
                    open.last_mut().ok_or("no parent")?.text.push_str(&text);
                }
                Event::GeneralRef(name) => {
                    let name: &str = &name;
                    open.last_mut().ok_or("no parent")?.text.push_str(&format!("&{name};"));
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let [document] = open.as_slice() else { return Err("an element does not end".to_owned()) };
        document.children.first().cloned().ok_or_else(|| "no element".to_owned())
    }

    fn of(namespace: String, start: &BytesStart<'_>) -> Result<Self, String> {
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| e.to_string())?;
            let name = attribute.key.as_ref().to_owned();
            if !name.starts_with("xmlns") {
                attributes.push((name, attribute.value.into_owned()));
            }
        }
        attributes.sort();
        let name = start.local_name().as_ref().to_owned();
        Ok(Self { namespace, name, attributes, ..Self::default() })
    }

    /// The `value` attributes along a path of names.
    pub(crate) fn values(&self, path: &[&str]) -> Vec<&str> {
        let Some((first, rest)) = path.split_first() else {
            let own = self.attributes.iter().find(|(name, _)| name == "value");
            return own.map(|(_, value)| value.as_str()).into_iter().collect();
        };
        self.children
            .iter()
            .filter(|child| child.name == *first)
            .flat_map(|child| child.values(rest))
            .collect()
    }
}
