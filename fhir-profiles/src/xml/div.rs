//! The narrative's `div`: XML in XML, and a string in JSON (<https://hl7.org/fhir/R4/narrative.html>).
//! It is taken over as written. Only if it leans on namespaces declared around it, or on prefixes,
//! is it written anew in the default namespace.

use std::borrow::Cow;

use super::XHTML;
use super::source::{Fault, Source, Space, Tag, Token, lines, value};

const NOT_ONE_DIV: &str = "the narrative is not one <div>";

/// The `div` whose opening tag was read last, to its end.
pub(super) fn take<'a>(source: &mut Source<'a>, root: &Tag<'a>) -> Result<Cow<'a, str>, Fault> {
    let outside = source.depth().saturating_sub(1);
    let mut plain = root.attributes.iter().any(|(key, _)| *key == "xmlns");
    check(source, root)?;
    plain &= root.name == root.local;
    while source.depth() > outside {
        match source.next()? {
            Token::Open(tag) => {
                check(source, &tag)?;
                plain &= tag.name == tag.local;
            }
            Token::Instruction => return Err(source.fault("the narrative has a processing instruction")),
            _ => {}
        }
    }
    let written = source.since(root.from);
    if plain { Ok(lines(written)) } else { anew(written).map(Cow::Owned) }
}

/// The narrative of a JSON document as the XML that it is, without what stands around the `div`.
pub(super) fn embed(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let mut source = Source::new(text).map_err(|fault| fault.details)?;
    let mut div = None;
    loop {
        match source.next().map_err(|fault| fault.details)? {
            Token::Open(root) if div.is_none() && root.local == "div" => {
                div = Some(take(&mut source, &root).map_err(|fault| fault.details)?);
            }
            Token::Comment | Token::Text { blank: true } => {}
            Token::End => return div.ok_or(NOT_ONE_DIV),
            _ => return Err(NOT_ONE_DIV),
        }
    }
}

fn check(source: &Source<'_>, tag: &Tag<'_>) -> Result<(), Fault> {
    if tag.space != Space::Xhtml {
        return Err(source.fault("the narrative has an element outside the namespace of XHTML"));
    }
    for (key, written) in &tag.attributes {
        value(written).map_err(|details| source.fault(details))?;
        match key.split_once(':') {
            None | Some(("xml" | "xmlns", _)) => {}
            Some(_) => return Err(source.fault("the narrative has an attribute that XHTML does not know")),
        }
    }
    Ok(())
}

/// The same without prefixes: every element is known to be XHTML.
fn anew(written: &str) -> Result<String, Fault> {
    let mut source = Source::new(written)?;
    let mut out = String::with_capacity(written.len() + 64);
    let mut open: Vec<&str> = Vec::new();
    loop {
        match source.next()? {
            Token::Open(tag) => {
                out.push('<');
                out.push_str(tag.local);
                if open.is_empty() {
                    out.push_str(&format!(" xmlns=\"{XHTML}\""));
                }
                for (key, value) in &tag.attributes {
                    if *key != "xmlns" && !key.starts_with("xmlns:") {
                        let quote = if value.contains('"') { '\'' } else { '"' };
                        out.push_str(&format!(" {key}={quote}{}{quote}", lines(value)));
                    }
                }
                out.push('>');
                open.push(tag.local);
            }
            Token::Close => {
                if let Some(name) = open.pop() {
                    let empty = out.ends_with('>') && source.since(source.from()).is_empty();
                    if empty {
                        out.pop();
                        out.push_str("/>");
                    } else {
                        out.push_str(&format!("</{name}>"));
                    }
                }
            }
            Token::End => return Ok(out),
            Token::Text { .. } | Token::Comment | Token::Instruction => {
                out.push_str(&lines(source.since(source.from())));
            }
        }
    }
}
