//! What FHIR allows and is hardly meant: tags in plain text, addresses of examples, hyperlinks that
//! lead nowhere.

use std::collections::{HashMap, HashSet};

use crate::conformance::Strict;
use crate::json::Json;
use crate::outcome::{Issue, Issues, Severity};
use crate::validate::At;
use crate::xml::source::{self, Source, Token};

const MOST: usize = 100;

/// Schemes a hyperlink may have; without one it is relative.
const SCHEMES: [&str; 6] = ["http", "https", "tel", "mailto", "data", "ftp"];

struct Search<'s> {
    strict: Strict,
    issues: Vec<Issue>,
    /// Ids that a `#` may lead to.
    ids: HashSet<&'s str>,
    /// The entries of the Bundle by their UUIDs: their types.
    entries: HashMap<&'s str, &'s str>,
}

/// What is doubtful in a resource; an error where it is asked to be strict.
pub(crate) fn find(resource: &Json, strict: Strict) -> Issues {
    let mut search = Search { strict, issues: Vec::new(), ids: HashSet::new(), entries: HashMap::new() };
    search.resource(resource, &At::root(resource.text("resourceType").unwrap_or("Resource")));
    Issues(search.issues)
}

impl<'s> Search<'s> {
    fn tell(&mut self, strict: bool, at: &At<'_>, code: &'static str, details: String) {
        if self.issues.len() < MOST {
            let severity = if strict { Severity::Error } else { Severity::Warning };
            self.issues.push(Issue { severity, ..Issue::error(code, details) }.at(at.path()));
        }
    }

    fn resource(&mut self, resource: &'s Json<'s>, at: &At<'_>) {
        let before = std::mem::take(&mut self.ids);
        ids(resource, &mut self.ids, true);
        for entry in resource.list("entry") {
            let uuid = entry.text("fullUrl").and_then(|url| url.strip_prefix("urn:uuid:"));
            let kind = entry.get("resource").and_then(|one| one.text("resourceType"));
            self.entries.extend(uuid.zip(kind));
        }
        self.node(resource, at, 0);
        self.ids = before;
    }

    fn node(&mut self, node: &'s Json<'s>, at: &At<'_>, depth: usize) {
        let Some(object) = node.as_object() else { return };
        for (key, value) in object.iter() {
            let here = at.element(key);
            match value {
                Json::Array(items) => {
                    for (n, item) in items.iter().enumerate() {
                        self.value(key, item, &here.item(n), depth);
                    }
                }
                value => self.value(key, value, &here, depth),
            }
        }
    }

    fn value(&mut self, key: &str, value: &'s Json<'s>, at: &At<'_>, depth: usize) {
        match value {
            Json::String(text) if key == "div" => self.narrative(text, at),
            Json::String(text) => {
                if is_tagged(text) {
                    let details = "the text has what looks like an HTML tag".to_owned();
                    self.tell(self.strict.html, at, "invalid", details);
                }
                let named = text.split_once('/').filter(|_| key == "reference");
                if let Some((kind, id)) = named
                    && self.entries.get(id).is_some_and(|own| *own != kind)
                {
                    self.tell(true, at, "invalid", "the entry of that id is of another type".to_owned());
                }
                let address = matches!(key, "url" | "valueUrl" | "valueUri" | "reference" | "system");
                if address && is_example(text) {
                    let details = "an address that stands for an example".to_owned();
                    self.tell(self.strict.examples, at, "invalid", details);
                }
            }
            Json::Object(object) if object.get("resourceType").is_some() && matches!(key, "resource") => {
                self.resource(value, at);
            }
            Json::Object(_) if depth < 128 => self.node(value, at, depth + 1),
            _ => {}
        }
    }

    fn narrative(&mut self, text: &str, at: &At<'_>) {
        let Ok(mut source) = Source::new(text) else { return };
        let (mut links, mut names) = (Vec::new(), HashSet::new());
        loop {
            match source.next() {
                Ok(Token::Open(tag)) => {
                    for (key, written) in &tag.attributes {
                        let Ok(value) = source::value(written) else { continue };
                        match *key {
                            "id" | "name" => drop(names.insert(value.into_owned())),
                            "href" if tag.local == "a" => links.push(value.into_owned()),
                            _ => {}
                        }
                    }
                }
                Ok(Token::End) | Err(_) => break,
                Ok(_) => {}
            }
        }
        for link in links {
            let dead = match (link.strip_prefix('#'), link.split_once(':')) {
                (Some(id), _) => !id.is_empty() && !names.contains(id) && !self.ids.contains(id),
                (None, Some((scheme, _))) => {
                    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
                    is_scheme && !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
                }
                (None, None) => false,
            };
            if dead {
                let link: String = link.chars().take(80).collect();
                let details = format!("the hyperlink {link} leads nowhere");
                self.tell(self.strict.links, at, "not-found", details);
            }
        }
    }
}

/// The ids of elements and contained resources; entries of a Bundle have their own.
fn ids<'s>(node: &'s Json<'s>, found: &mut HashSet<&'s str>, top: bool) {
    match node {
        Json::Array(items) => items.iter().for_each(|item| ids(item, found, false)),
        Json::Object(object) => {
            for (key, value) in object.iter() {
                match (key, value) {
                    ("id", Json::String(id)) => drop(found.insert(id)),
                    ("resource", Json::Object(inner)) if !top && inner.get("resourceType").is_some() => {}
                    ("resource", _) if top => {}
                    (_, value) => ids(value, found, false),
                }
            }
        }
        _ => {}
    }
}

/// `<b`, `</b`, `<!--`: a letter, a slash or an exclamation mark directly after `<`, and a `>` later.
fn is_tagged(text: &str) -> bool {
    // A tag has no other `<` in it, so each is looked at no further than to the next.
    text.split('<').skip(1).any(|after| {
        let begins = after.trim_start_matches('/').starts_with(|c: char| c.is_ascii_alphabetic())
            || after.starts_with("!--");
        let inside = after.split_once('>').map(|(inside, _)| inside);
        begins && inside.is_some_and(|inside| !inside.contains(['@', ':', '|']))
    })
}

/// Is it an address of HL7's or anybody's examples and tests?
pub(crate) fn is_example(address: &str) -> bool {
    let host = address
        .split_once("://")
        .map(|(_, rest)| rest.split(['/', ':', '?', '#']).next().unwrap_or_default());
    address.starts_with("http://hl7.org/fhir/test/")
        || host.is_some_and(|host| {
            ["example.org", "example.com", "example.net", "acme.com"]
                .iter()
                .any(|name| host == *name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        })
}

#[cfg(test)]
mod tests {
    use super::is_tagged;

    #[test]
    fn tags_are_told_from_comparisons() {
        for text in ["a <b>c", "</b>", "<!-- c -->", "1 < 2 <br/>", "<<p>", "<//a>"] {
            assert!(is_tagged(text), "{text}");
        }
        for text in
            ["a < b > c", "<5>", "<b", "<a<", "<a@b.c>", "<http://x>", "<a|b>", "<a <5>", ">b<", "<//<a"]
        {
            assert!(!is_tagged(text), "{text}");
        }
        // A square of this would take minutes.
        assert!(!is_tagged(&"<".repeat(4 << 20)) && !is_tagged(&"<a".repeat(2 << 20)));
    }
}
