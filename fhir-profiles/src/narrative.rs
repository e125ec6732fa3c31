//! Narrative: well-formed XHTML of the few elements and attributes FHIR allows, and nothing that
//! acts (<https://hl7.org/fhir/R4/narrative.html>, txt-1).

use crate::xml::source::{self, Source, Space, Tag, Token};

const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// HTML 4.0, chapters 7 to 11 and 15, links and images; without `style`, which can load and hide.
const ELEMENTS: &str = " a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd del \
    dfn div dl dt em font h1 h2 h3 h4 h5 h6 hr i img ins kbd li map ol p pre q s samp small span strike strong sub \
    sup table tbody td tfoot th thead tr tt u ul var ";

/// What such elements may say of themselves.
const ATTRIBUTES: &str = " abbr accesskey align alt axis bgcolor border cellpadding cellspacing char charoff cite \
    class clear color colspan compact coords datetime dir face frame headers height href hreflang hspace id lang \
    longdesc name noshade nowrap rel rev rowspan rules scope shape size span src start style summary tabindex target \
    title type usemap valign value vspace width xml:lang xml:space ";

/// How deep elements may lie in each other.
const DEPTH: usize = 200;

/// What XML reads over and HTML ends at the first `>`, so that what follows would act.
const HIDDEN: [&str; 3] = ["<![CDATA[", "<!-->", "<!--->"];

const NOT_ONE_DIV: &str = "the narrative is not one <div>";
const ACTIVE: &str = "the narrative has active content (txt-1)";

/// Checks the text of `Narrative.div`. What passes can stand in XML as it is. Says whether there is
/// anything to see, as txt-2 asks for and not all of HL7's own examples have.
pub(crate) fn check(text: &str) -> Result<bool, &'static str> {
    if HIDDEN.iter().any(|start| text.contains(start)) {
        return Err("the narrative has CDATA or a comment that browsers take for markup");
    }
    let mut source = Source::new(text).map_err(|fault| fault.details)?;
    let (mut ended, mut content) = (false, false);
    loop {
        match source.next().map_err(|fault| fault.details)? {
            Token::Open(tag) if ended || (source.depth() == 1 && tag.local != "div") => {
                return Err(NOT_ONE_DIV);
            }
            Token::Open(_) if source.depth() > DEPTH => return Err("the narrative is nested too deep"),
            Token::Open(tag) => {
                content |= tag.local == "img";
                element(&tag)?;
            }
            Token::Close => ended = source.depth() == 0,
            Token::Text { blank: false } if source.depth() == 0 => return Err(NOT_ONE_DIV),
            Token::Text { blank } => content |= !blank,
            Token::Comment => {}
            Token::Instruction => return Err("the narrative has a declaration or an instruction"),
            Token::End if !ended => return Err(NOT_ONE_DIV),
            Token::End => return Ok(content),
        }
    }
}

fn element(tag: &Tag<'_>) -> Result<(), &'static str> {
    if tag.space != Space::Xhtml {
        return Err("the narrative has an element outside the namespace of XHTML");
    }
    if !is_in(ELEMENTS, tag.local) {
        return Err("the narrative has an element that FHIR does not allow (txt-1)");
    }
    for (key, written) in &tag.attributes {
        let value = source::value(written)?;
        if *key == "xmlns" || key.starts_with("xmlns:") {
            if value != XHTML {
                return Err("the narrative has another namespace than XHTML");
            }
        } else if !is_in(ATTRIBUTES, key) {
            return Err("the narrative has an attribute that FHIR does not allow (txt-1)");
        } else if is_active(key, &value) {
            return Err(ACTIVE);
        }
    }
    Ok(())
}

/// Browsers skip white space and control characters where they look for a scheme.
fn is_active(key: &str, value: &str) -> bool {
    let value: String = value
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match key {
        "style" => ["expression(", "javascript:", "vbscript:", "behavior:", "-moz-binding", "@import"]
            .iter()
            .any(|act| value.contains(act)),
        _ => {
            value.starts_with("javascript:")
                || value.starts_with("vbscript:")
                || (value.starts_with("data:") && !value.starts_with("data:image/"))
        }
    }
}

/// Is the word one of a list between spaces?
fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|one| one == word && !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::check;

    fn div(inner: &str) -> Result<bool, &'static str> {
        check(&format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>"))
    }

    #[test]
    fn plain_words_are_accepted() {
        for inner in [
            "<p>hi <b>x</b> &amp; y</p>",
            "<img src=\"a.png\" alt=\"x\"/>",
            "<img src=\"data:image/png;base64,QUJD\"/>",
            "<a name=\"x\" href=\"http://x/y\">&#169; &#xA0;</a>",
            "<!-- c --><p style=\"color: red\">x</p>",
        ] {
            assert_eq!(div(inner), Ok(true), "{inner}");
        }
        let prefixed = "<n:div xmlns:n=\"http://www.w3.org/1999/xhtml\"><n:p>a</n:p></n:div>";
        assert_eq!(check(prefixed), Ok(true));
    }

    #[test]
    fn active_content_is_refused() {
        for inner in [
            "<script>x</script>",
            "<style>p{}</style>",
            "<p onclick=\"x\">y</p>",
            "<p ONCLICK=\"x\">y</p>",
            "<a href=\" javascript:x\">y</a>",
            "<a href=\"java&#115;cript:x\">y</a>",
            "<a href=\"java&#10;script:x\">y</a>",
            "<a href=\"data:text/html,x\">y</a>",
            "<p style=\"width: expression(x)\">y</p>",
            "<iframe src=\"x\"/>a",
            "<form>a</form>",
            "<object>a</object>",
            "<p xmlns=\"http://www.w3.org/2000/svg\">y</p>",
            "a<!--><img src=\"x\" onerror=\"y\"/>-->",
            "a<!---><img src=\"x\" onerror=\"y\"/>-->",
            "<![CDATA[><img src=x onerror=y>]]>",
        ] {
            assert!(div(inner).is_err(), "{inner}");
        }
    }

    #[test]
    fn broken_markup_is_refused() {
        for inner in [
            "<p>",
            "</p>",
            "<p>a</b>",
            "<p a>b</p>",
            "<x:p/>",
            "<p id='a'title='b'/>",
            "]]>",
            "<!-- -- -->",
            "\u{1}",
            "<!DOCTYPE x>a",
            "<?x y?>",
            "a &nbsp; b",
            "&x;",
            "&",
        ] {
            assert!(div(inner).is_err(), "{inner}");
        }
        for text in [
            "",
            "hello",
            "<div>a</div>",
            "<div xmlns=\"http://www.w3.org/1999/xhtmlx\">a</div>",
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div><div>b</div>",
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>b",
            "a<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>",
            "<p xmlns=\"http://www.w3.org/1999/xhtml\">a</p>",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(div(&"<p>".repeat(1000)).is_err());
    }
}
