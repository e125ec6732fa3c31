//! The text as a row of tokens. quick-xml cuts it, matches the tags and keeps the namespaces; what
//! it lets pass though XML forbids it, or though it is no business of ours, is refused here.

use std::borrow::Cow;

use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesDecl, Event};
use quick_xml::name::{QName, ResolveResult};
use quick_xml::{Error, NsReader, XmlVersion};

use super::{FHIR, XHTML, XSI, is_forbidden, is_space};

/// Elements within elements: as deep as JSON may be, and a narrative within.
const DEPTH: usize = 256;

/// Attributes of one element. FHIR has at most two.
const ATTRIBUTES: usize = 64;

/// Namespace declarations in force at one place.
const BINDINGS: usize = 64;

/// Why the text is no FHIR XML, and at which byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) details: &'static str,
    pub(crate) at: usize,
}

/// The namespaces that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Fhir,
    Xhtml,
    Other,
}

#[derive(Debug)]
pub(crate) struct Tag<'a> {
    /// With its prefix.
    pub(crate) name: &'a str,
    /// Without.
    pub(crate) local: &'a str,
    pub(crate) space: Space,
    /// As written, in order.
    pub(crate) attributes: Vec<(&'a str, &'a str)>,
    /// The byte of its `<`.
    pub(crate) from: usize,
}

#[derive(Debug)]
pub(crate) enum Token<'a> {
    Open(Tag<'a>),
    Close,
    /// Characters, references, CDATA.
    Text {
        blank: bool,
    },
    Comment,
    /// The XML declaration too.
    Instruction,
    /// The text is over, and every element closed.
    End,
}

pub(crate) struct Source<'a> {
    text: &'a str,
    reader: NsReader<&'a [u8]>,
    depth: usize,
    from: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, Fault> {
        if let Some(at) = text.find(is_forbidden) {
            return Err(Fault { code: "structure", details: "a character that XML forbids", at });
        }
        // quick-xml would leave it out, and count from behind it.
        if text.starts_with('\u{feff}') {
            return Err(Fault { code: "structure", details: "a byte order mark within the text", at: 0 });
        }
        let mut reader = NsReader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        reader.resolver_mut().set_max_namespace_bindings(BINDINGS);
        Ok(Self { text, reader, depth: 0, from: 0 })
    }

    /// Where the last token began.
    pub(crate) fn from(&self) -> usize {
        self.from
    }

    /// How many elements are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// What was read since `from`, as written.
    pub(crate) fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.position()).unwrap_or_default()
    }

    pub(crate) fn fault(&self, details: &'static str) -> Fault {
        Fault { code: "structure", details, at: self.from }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, Fault> {
        self.from = self.position();
        let event = match self.reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(self.ill_formed(&error)),
        };
        Ok(match event {
            Event::Decl(declaration) => {
                self.declaration(&declaration)?;
                Token::Instruction
            }
            Event::Start(tag) => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(Fault { code: "too-costly", ..self.fault("nested too deep") });
                }
                let space = match self.reader.resolver().resolve_element(tag.name()).0 {
                    ResolveResult::Bound(space) if space.as_ref() == FHIR => Space::Fhir,
                    ResolveResult::Bound(space) if space.as_ref() == XHTML => Space::Xhtml,
                    _ => Space::Other,
                };
                Token::Open(self.tag(space)?)
            }
            Event::End(_) | Event::Empty(_) => {
                self.depth = self.depth.saturating_sub(1);
                Token::Close
            }
            Event::Text(words) => {
                if words.contains("]]>") || words.contains('<') {
                    return Err(self.fault("]]> or < in a text"));
                }
                Token::Text { blank: words.chars().all(is_space) }
            }
            Event::GeneralRef(_) => {
                value(self.since(self.from)).map_err(|details| self.fault(details))?;
                Token::Text { blank: false }
            }
            Event::CData(_) => Token::Text { blank: false },
            Event::Comment(words) => {
                if words.ends_with('-') {
                    return Err(self.fault("-- in a comment"));
                }
                Token::Comment
            }
            Event::PI(_) => Token::Instruction,
            Event::DocType(_) => return Err(self.fault("a document type declaration is not allowed")),
            Event::Eof if self.depth > 0 => return Err(self.fault("the text ends within an element")),
            Event::Eof => Token::End,
        })
    }

    /// Reads to the end of the element whose opening tag was read last.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            self.next()?;
        }
        Ok(())
    }

    /// Do its prefix and name say that XML Schema put the attribute there? Such hints are let pass.
    pub(crate) fn is_schema_hint(&self, key: &str) -> bool {
        matches!(key.split_once(':'), Some((_, "schemaLocation" | "noNamespaceSchemaLocation")))
            && matches!(
                self.reader.resolver().resolve_attribute(QName(key)).0,
                ResolveResult::Bound(space) if space.as_ref() == XSI
            )
    }

    fn declaration(&self, declaration: &BytesDecl<'_>) -> Result<(), Fault> {
        if self.from > 0 {
            return Err(self.fault("an XML declaration stands at the very beginning"));
        }
        if !matches!(declaration.version(), Ok(version) if version == "1.0") {
            return Err(self.fault("XML of another version than 1.0"));
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("utf-8") => Ok(()),
            Some(_) => Err(Fault {
                code: "not-supported",
                ..self.fault("FHIR is exchanged in UTF-8, and another encoding is declared")
            }),
        }
    }

    /// The tag read last, by the letter.
    fn tag(&self, space: Space) -> Result<Tag<'a>, Fault> {
        let raw = self.since(self.from);
        let inner = raw.strip_prefix('<').and_then(|raw| raw.strip_suffix('>')).unwrap_or(raw);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let name_end = inner.find(is_space).unwrap_or(inner.len());
        let (name, mut rest) = inner.split_at_checked(name_end).unwrap_or((inner, ""));
        let local = local(name).ok_or_else(|| self.fault("this is no name of an element"))?;
        let mut attributes: Vec<(&str, &str)> = Vec::new();
        loop {
            let next = rest.trim_start_matches(is_space);
            if next.is_empty() {
                break;
            }
            let (key, value, after) = (rest.len() > next.len())
                .then(|| attribute(next))
                .flatten()
                .ok_or_else(|| self.fault("the attributes are not well-formed"))?;
            if attributes.iter().any(|(other, _)| *other == key) {
                return Err(Fault { code: "duplicate", ..self.fault("the same attribute twice") });
            }
            if attributes.len() >= ATTRIBUTES {
                return Err(Fault { code: "too-costly", ..self.fault("too many attributes") });
            }
            attributes.push((key, value));
            rest = after;
        }
        Ok(Tag { name, local, space, attributes, from: self.from })
    }

    fn ill_formed(&self, error: &Error) -> Fault {
        use quick_xml::errors::IllFormedError;
        let details = match error {
            Error::Syntax(_) => "a tag, comment or the like has no end",
            Error::IllFormed(
                IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_),
            ) => "the end tag matches no start tag",
            Error::IllFormed(IllFormedError::DoubleHyphenInComment) => "-- in a comment",
            Error::IllFormed(IllFormedError::UnclosedReference) => "an & that begins no reference",
            Error::IllFormed(IllFormedError::MissingDoctypeName) => {
                "a document type declaration is not allowed"
            }
            Error::Namespace(_) => "a namespace is declared wrongly, or there are too many",
            _ => "not well-formed XML",
        };
        self.fault(details)
    }
}

/// Lines and columns of bytes, both from 1, the columns in characters; the text is passed once.
pub(crate) fn places(text: &str, bytes: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize)> = bytes.enumerate().map(|(n, at)| (at, n)).collect();
    order.sort_unstable();
    let mut found = vec![(1, 1); order.len()];
    let (mut from, mut line, mut column) = (0, 1, 1);
    for (at, n) in order {
        let between = text.get(from..at).unwrap_or_default();
        from += between.len();
        line += between.bytes().filter(|b| *b == b'\n').count();
        column = match between.rsplit_once('\n') {
            Some((_, last)) => last.chars().count() + 1,
            None => column + between.chars().count(),
        };
        if let Some(place) = found.get_mut(n) {
            *place = (line, column);
        }
    }
    found
}

/// `key = "value"` at the beginning, and what comes after.
fn attribute(text: &str) -> Option<(&str, &str, &str)> {
    let (key, after) = text.split_once('=')?;
    let key = key.trim_end_matches(is_space);
    local(key)?;
    let after = after.trim_start_matches(is_space);
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, after) = after.strip_prefix(quote)?.split_once(quote)?;
    (!value.contains('<')).then_some((key, value, after))
}

/// The local part of a name. FHIR and XHTML have no names beyond ASCII.
fn local(name: &str) -> Option<&str> {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match name.split_once(':') {
        Some((prefix, local)) => (is_name(prefix) && is_name(local)).then_some(local),
        None => is_name(name).then_some(name),
    }
}

/// What the written value of an attribute means: references resolved, white space as XML normalises
/// it (<https://www.w3.org/TR/xml/#AVNormalize>).
pub(crate) fn value(written: &str) -> Result<Cow<'_, str>, &'static str> {
    if !written.contains(['&', '\t', '\n', '\r']) {
        return Ok(Cow::Borrowed(written));
    }
    let attribute = Attribute { key: QName(""), value: Cow::Borrowed(written) };
    let value = attribute
        .normalized_value(XmlVersion::Explicit1_0)
        .map_err(|_| "an entity that XML does not know, or an & that begins no reference")?;
    if value.contains(is_forbidden) {
        return Err("a character that XML forbids");
    }
    Ok(value)
}

/// Line ends as XML reads them (<https://www.w3.org/TR/xml/#sec-line-ends>).
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}
