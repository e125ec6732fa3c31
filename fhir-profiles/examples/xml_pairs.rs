//! Holds XML against JSON with pairs of files that say the same.
//!
//! `xml_pairs pairs FOLDER`: each `json/X.json` becomes the XML of `xml/X.xml`, and the other way
//! round: names, order, attributes and text of the XML, and every member of the JSON, numbers digit
//! for digit. Narrative is compared as the XML it is. `xml_pairs read FOLDER…`: every XML file is
//! read, or refused, and what was read comes back the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fhir::json::{Json, Limits, parse};
use fhir::validate::validate;
use fhir::xml::{Layout, read, write};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};

/// Pairs whose two files do not say the same, and why.
const KNOWN: [(&str, &str); 2] = [
    ("observation-decimal", "four decimals are the same numbers in other digits, such as 1.0 and 1.0e0"),
    ("plandefinition-example-kdn5-simplified", "one white space in the narrative has two blanks more"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pairs", folder] => pairs(Path::new(folder)),
        ["read", folders @ ..] => read_all(folders),
        _ => Err("usage: xml_pairs pairs FOLDER | xml_pairs read FOLDER…".into()),
    };
    match result {
        Ok(lines) => {
            let _ = writeln!(std::io::stdout(), "{lines}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files(&path, extension, found)?;
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

fn pairs(folder: &Path) -> Result<String, String> {
    let mut all = Vec::new();
    files(&folder.join("json"), "json", &mut all)?;
    let (mut to_xml, mut to_json, mut valid) = (0, 0, 0);
    let (mut lines, mut wrong) = (Vec::new(), 0);
    for path in &all {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let beside = folder.join("xml").join(format!("{name}.xml"));
        let xml = std::fs::read_to_string(&beside).map_err(|e| format!("{}: {e}", beside.display()))?;
        let json = parse(&json, &Limits::default()).map_err(|e| format!("{name}: {e}"))?;
        let forth = forth(&json, &xml);
        let back = read(xml.as_bytes(), &Limits::default()).map_err(|e| e.to_string());
        valid += usize::from(back.as_ref().is_ok_and(|read| !validate(read).has_error()));
        let back = back.and_then(|read| {
            let mut found = Vec::new();
            differ(&json, &read, "", &mut found);
            if found.is_empty() { Ok(()) } else { Err(found.join("\n    ")) }
        });
        to_xml += usize::from(forth.is_ok());
        to_json += usize::from(back.is_ok());
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        let alike = forth.is_ok() && back.is_ok();
        for (way, result) in [("JSON to XML", forth), ("XML to JSON", back)] {
            if let Err(why) = result {
                wrong += usize::from(known.is_none());
                lines.push(format!("{name}, {way}:\n    {why}"));
            }
        }
        if let Some((_, why)) = known {
            lines.push(format!("{name} is known to differ: {why}"));
            wrong += usize::from(alike);
        }
    }
    lines.push(format!(
        "{} pairs: {to_xml} alike from JSON to XML, {to_json} from XML to JSON; {valid} of the XML files valid",
        all.len()
    ));
    let text = lines.join("\n");
    if wrong == 0 { Ok(text) } else { Err(format!("{text}\n{wrong} differences that are not known")) }
}

/// Both layouts must be the official XML.
fn forth(json: &Json<'_>, official: &str) -> Result<(), String> {
    let wanted = tree(official)?;
    for layout in [Layout::Compact, Layout::Pretty] {
        let written = write(json, layout).map_err(|e| e.to_string())?;
        wanted.differs(&tree(&written)?).map_or(Ok(()), Err)?;
        let again = read(written.as_bytes(), &Limits::default()).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        differ(json, &again, "", &mut found);
        if !found.is_empty() {
            return Err(format!("read again: {}", found.join("\n    ")));
        }
    }
    Ok(())
}

fn read_all(folders: &[&str]) -> Result<String, String> {
    let mut all = Vec::new();
    for folder in folders {
        files(Path::new(folder), "xml", &mut all)?;
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut lines, mut changed) = (Vec::new(), 0);
    for path in &all {
        let text = std::fs::read(path).map_err(|e| e.to_string())?;
        let outcome = match read(&text, &Limits::default()) {
            Err(issues) => {
                let first = issues.0.first().map(|i| format!("{} {} {}", i.code, i.expression, i.details));
                lines.push(format!("{}: {}", path.display(), first.unwrap_or_default()));
                "refused by the reader"
            }
            Ok(resource) => {
                let valid = !validate(&resource).has_error();
                match write(&resource, Layout::Pretty) {
                    Ok(written) => {
                        let again = read(written.as_bytes(), &Limits::default());
                        if again.as_ref() != Ok(&resource) {
                            changed += 1;
                            lines.push(format!("{}: comes back changed", path.display()));
                        }
                    }
                    Err(issues) => {
                        changed += 1;
                        lines.push(format!("{}: can't be written: {issues}", path.display()));
                    }
                }
                if valid { "valid" } else { "refused by the validator" }
            }
        };
        *counts.entry(outcome).or_default() += 1;
    }
    lines.push(format!("{} files: {counts:?}", all.len()));
    if changed == 0 { Ok(lines.join("\n")) } else { Err(lines.join("\n")) }
}

fn differ(wanted: &Json<'_>, found: &Json<'_>, at: &str, out: &mut Vec<String>) {
    match (wanted, found) {
        (Json::Object(a), Json::Object(b)) => {
            for (key, value) in a.iter() {
                match b.get(key) {
                    Some(other) => differ(value, other, &format!("{at}.{key}"), out),
                    None => out.push(format!("{at}.{key} is missing")),
                }
            }
            out.extend(
                b.iter().filter(|(key, _)| a.get(key).is_none()).map(|(key, _)| format!("{at}.{key} is new")),
            );
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(a, b, &format!("{at}[{n}]"), out);
            }
        }
        (Json::String(a), Json::String(b)) if at.rsplit('.').next() == Some("div") => {
            match (tree(a), tree(b)) {
                (Ok(a), Ok(b)) => out.extend(a.differs(&b).map(|why| format!("{at}: {why}"))),
                (Err(why), _) | (_, Err(why)) => out.push(format!("{at}: {why}")),
            }
        }
        _ if wanted == found => {}
        _ => out.push(format!("{at}: {} became {}", short(&wanted.to_text()), short(&found.to_text()))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// What XML says: no prefixes, no comments, no formatting outside of narrative.
#[derive(Debug, Default, PartialEq)]
struct Node {
    /// `{namespace}name`.
    name: String,
    attributes: BTreeMap<String, String>,
    content: Vec<Content>,
}

#[derive(Debug, PartialEq)]
enum Content {
    Text(String),
    Element(Node),
}

impl Node {
    fn differs(&self, other: &Self) -> Option<String> {
        if (&self.name, &self.attributes) != (&other.name, &other.attributes) {
            return Some(format!(
                "{} {:?} became {} {:?}",
                self.name, self.attributes, other.name, other.attributes
            ));
        }
        for (a, b) in self.content.iter().zip(&other.content) {
            let found = match (a, b) {
                (Content::Element(a), Content::Element(b)) => a.differs(b),
                (a, b) if a == b => None,
                (a, b) => Some(format!("{} became {}", short(&format!("{a:?}")), short(&format!("{b:?}")))),
            };
            if let Some(why) = found {
                return Some(format!("{} > {why}", self.name));
            }
        }
        (self.content.len() != other.content.len())
            .then(|| format!("{}: {} children became {}", self.name, self.content.len(), other.content.len()))
    }

    fn text(&mut self, more: &str) {
        match self.content.last_mut() {
            Some(Content::Text(text)) => text.push_str(more),
            _ => self.content.push(Content::Text(more.to_owned())),
        }
    }

    /// Formatting is what is blank and not narrative.
    fn tidy(&mut self) {
        if !self.name.starts_with("{http://www.w3.org/1999/xhtml}") {
            self.content.retain(|one| !matches!(one, Content::Text(text) if text.trim().is_empty()));
        }
    }
}

fn tree(text: &str) -> Result<Node, String> {
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut open = vec![Node::default()];
    let top = |open: &mut Vec<Node>, words: &str| {
        if let Some(node) = open.last_mut() {
            node.text(words);
        }
    };
    loop {
        let (space, event) = reader.read_resolved_event().map_err(|e| e.to_string())?;
        match event {
            Event::Start(tag) => {
                let space = if let ResolveResult::Bound(space) = &space { space.as_ref() } else { "" };
                let name = format!("{{{space}}}{}", tag.local_name().as_ref());
                open.push(Node { name, attributes: attributes(&tag)?, content: Vec::new() });
            }
            Event::End(_) => {
                if let (Some(mut node), Some(above)) = (open.pop(), open.last_mut()) {
                    node.tidy();
                    above.content.push(Content::Element(node));
                }
            }
            Event::Text(words) => top(&mut open, &words.xml10_content()),
            Event::CData(words) => top(&mut open, &words.xml10_content()),
            Event::GeneralRef(name) => {
                let written = format!("&{};", &*name);
                let meant = quick_xml::escape::unescape(&written).map_err(|e| e.to_string())?;
                top(&mut open, &meant);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let mut document = open.pop().filter(|_| open.is_empty()).ok_or("not closed")?;
    document.tidy();
    Ok(document)
}

fn attributes(tag: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let key: &str = attribute.key.as_ref();
        if key != "xmlns" && !key.starts_with("xmlns:") && !key.ends_with(":schemaLocation") {
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|e| e.to_string())?;
            out.insert(key.to_owned(), value.into_owned());
        }
    }
    Ok(out)
}
