//! Narrative: well-formed XHTML of the few elements FHIR allows, and nothing that acts
//! (<https://hl7.org/fhir/R4/narrative.html>).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

const ELEMENTS: [&str; 56] = [
    "a",
    "abbr",
    "acronym",
    "b",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "map",
    "area",
    "ol",
    "p",
    "pre",
    "q",
    "samp",
    "small",
    "span",
    "strong",
    "style",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "ul",
    "var",
    "del",
    "bdo",
    "font",
];

/// Checks the text of `Narrative.div`.
pub(crate) fn check(text: &str) -> Result<(), &'static str> {
    if !text.trim_start().starts_with("<div") {
        return Err("the narrative is not one <div>");
    }
    let mut reader = Reader::from_str(text.trim());
    let (mut depth, mut ended) = (0_usize, false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) => {
                if ended {
                    return Err("the narrative is not one <div>");
                }
                element(&tag, depth == 0)?;
                depth += 1;
                if depth > 200 {
                    return Err("the narrative is nested too deep");
                }
            }
            Ok(Event::Empty(tag)) => {
                element(&tag, depth == 0)?;
                ended |= depth == 0;
            }
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                ended |= depth == 0;
            }
            Ok(Event::Text(_)) if ended => return Err("the narrative is not one <div>"),
            Ok(Event::Text(_) | Event::GeneralRef(_) | Event::CData(_) | Event::Comment(_)) => {}
            Ok(Event::Eof) => break,
            Ok(_) => return Err("the narrative has a declaration or an instruction"),
            Err(_) => return Err("the narrative is not well-formed XHTML"),
        }
    }
    if depth != 0 {
        return Err("the narrative is not well-formed XHTML");
    }
    Ok(())
}

fn element(tag: &BytesStart<'_>, first: bool) -> Result<(), &'static str> {
    let name = tag.local_name();
    let name: &str = name.as_ref();
    if !ELEMENTS.contains(&name) || (first && name != "div") {
        return Err("the narrative has an element that FHIR does not allow (txt-1)");
    }
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| "the narrative is not well-formed XHTML")?;
        let key = attribute.key.as_ref();
        let value = attribute.value.to_ascii_lowercase();
        let value: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        if key.starts_with("on") || value.starts_with("javascript:") || value.starts_with("vbscript:") {
            return Err("the narrative has active content (txt-1)");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn active_content_is_refused() {
        let div = |inner: &str| check(&format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>"));
        assert_eq!(div("<p>hi <b>x</b> &amp; y</p>"), Ok(()));
        assert_eq!(div("<img src=\"a.png\" alt=\"x\"/>"), Ok(()));
        for inner in [
            "<script>x</script>",
            "<p onclick=\"x\">y</p>",
            "<a href=\" javascript:x\">y</a>",
            "<p>",
            "<iframe src=\"x\"/>a",
            "<form>a</form>",
            "<!DOCTYPE x>a",
        ] {
            assert!(div(inner).is_err(), "{inner}");
        }
        assert!(check("hello").is_err());
        assert!(check("<div>a</div><div>b</div>").is_err());
    }
}
