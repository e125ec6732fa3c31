//! Any resource that the element table allows comes back from XML as it was; any text is read or
//! refused.

use std::borrow::Cow;

use proptest::prelude::*;

use super::{Layout, Shape, is_number, read, write};
use crate::json::{Json, Limits, Object, parse};
use crate::resource_type::ResourceType;
use crate::schema::{Element, Schema, Type, TypeKind};

const TEXTS: [&str; 10] = [
    "x",
    "",
    " a  b ",
    "<&>\"'",
    "one\ntwo\r\nthree\tfour\r",
    "]]> &amp; &#10; <!-- -->",
    "\u{e9}\u{1f600}\u{fffd}",
    "\u{7f}\u{85}\u{2028}\u{feff}",
    "http://example.org/a?b=c&d=e",
    "2024-02-29",
];

const NUMBERS: [&str; 7] =
    ["0", "-0", "1.10", "1e5", "1E-22", "-1.000000000000000000E+245", "123456789012345678901234567890.00"];

const DIVS: [&str; 4] = [
    "<div xmlns=\"http://www.w3.org/1999/xhtml\"/>",
    "<div xmlns=\"http://www.w3.org/1999/xhtml\">hi <b>x</b> &amp; &#160;y\n<!-- z --><br/> </div>",
    "<div id=\"a\" xmlns='http://www.w3.org/1999/xhtml' xml:lang=\"en\"><p title='\"'> a </p>\n</div>",
    "<div xmlns=\"http://www.w3.org/1999/xhtml\"><![CDATA[<]]><p xmlns=\"http://www.w3.org/1999/xhtml\"/></div>",
];

/// Bytes decide; when there are no more, the least is made.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte) % end)
    }

    fn some(&mut self) -> bool {
        self.below(4) == 1
    }

    fn text(&mut self) -> Json<'static> {
        string(TEXTS[self.below(TEXTS.len())])
    }

    fn resource(&mut self, depth: usize) -> Json<'static> {
        let all: Vec<ResourceType> = ResourceType::all().collect();
        let name = all[self.below(256) * all.len() / 256].name();
        let of = Schema::r4().resource(name).unwrap();
        let mut members = vec![(Cow::Borrowed("resourceType"), string(name))];
        self.members(of, depth, &mut members);
        object(members)
    }

    fn complex(&mut self, of: &'static Type, depth: usize) -> Json<'static> {
        let mut members = Vec::new();
        for key in ["id", "url"] {
            if of.element(key).is_some() && of.is_attribute(key) && self.some() {
                members.push((Cow::Borrowed(key), self.text()));
            }
        }
        self.members(of, depth, &mut members);
        if members.is_empty() {
            members.push((Cow::Borrowed("id"), self.text()));
        }
        object(members)
    }

    fn members(
        &mut self,
        of: &'static Type,
        depth: usize,
        out: &mut Vec<(Cow<'static, str>, Json<'static>)>,
    ) {
        // An array in an object takes two; room is left for what a primitive may have beside it.
        if depth > 56 {
            return;
        }
        for place in 0..of.names.len() {
            let of_place: Vec<&'static Element> = of
                .elements()
                .iter()
                .filter(|e| usize::from(e.name) == place && !of.is_attribute(&e.key))
                .collect();
            if of_place.is_empty() || !self.some() {
                continue;
            }
            let element = of_place[self.below(of_place.len())];
            let count = if element.many { 1 + self.below(3) } else { 1 };
            let (mut values, mut siblings) = (Vec::new(), Vec::new());
            for _ in 0..count {
                let (value, sibling) = self.value(element, depth + 2);
                values.push(value);
                siblings.push(sibling);
            }
            for (prefix, mut items) in [("", values), ("_", siblings)] {
                if items.iter().any(|item| *item != Json::Null) {
                    let value = if element.many { Json::Array(items) } else { items.remove(0) };
                    out.push((Cow::Owned(format!("{prefix}{}", element.key)), value));
                }
            }
        }
    }

    fn value(&mut self, element: &Element, depth: usize) -> (Json<'static>, Json<'static>) {
        let of = Schema::r4().get(element.of).unwrap();
        match of.kind {
            _ if of.name == "xhtml" => (string(DIVS[self.below(DIVS.len())]), Json::Null),
            TypeKind::Any => (self.resource(depth), Json::Null),
            TypeKind::Primitive => {
                let value = match Shape::of(of) {
                    Shape::Boolean => Json::Bool(self.below(2) == 1),
                    Shape::Number => Json::Number(Cow::Borrowed(NUMBERS[self.below(NUMBERS.len())])),
                    Shape::Text => self.text(),
                };
                let around = Schema::r4().element().unwrap();
                match self.below(4) {
                    1 => (value, self.complex(around, depth)),
                    2 => (Json::Null, self.complex(around, depth)),
                    _ => (value, Json::Null),
                }
            }
            _ => (self.complex(of, depth), Json::Null),
        }
    }
}

fn string(text: &'static str) -> Json<'static> {
    Json::String(Cow::Borrowed(text))
}

fn object(members: Vec<(Cow<'static, str>, Json<'static>)>) -> Json<'static> {
    Json::Object(members.into_iter().collect::<Object>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let resource = Choices(bytes.iter()).resource(1);
        for layout in [Layout::Compact, Layout::Pretty] {
            let text = write(&resource, layout).map_err(|e| TestCaseError::fail(format!("{e}: {}", resource.to_text())))?;
            let again = read(text.as_bytes(), &Limits::default())
                .map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
            prop_assert_eq!(&again, &resource, "{}", text);
            let json = again.to_text();
            prop_assert_eq!(parse(json.as_bytes(), &Limits::default()), Ok(resource.clone()));
        }
    }

    #[test]
    fn damaged_texts_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
        cut in 0..9_usize,
        paste in "[<>&;:/=!?\"' a-z\\[\\]-]{0,6}",
    ) {
        let text = write(&Choices(bytes.iter()).resource(1), Layout::Compact).unwrap();
        let mut letters: Vec<char> = text.chars().collect();
        let from = at.index(letters.len());
        let to = (from + cut).min(letters.len());
        letters.splice(from..to, paste.chars());
        let text: String = letters.into_iter().collect();
        if let Ok(resource) = read(text.as_bytes(), &Limits::default()) {
            let written = write(&resource, Layout::Compact).unwrap();
            prop_assert_eq!(read(written.as_bytes(), &Limits::default()), Ok(resource));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = read(text.as_bytes(), &Limits::default());
    }
}

#[test]
fn numbers_are_those_of_json() {
    for good in ["0", "-0", "1", "1.10", "-1.0e0", "1E-22", "1.5e+3", "100"] {
        assert!(is_number(good), "{good}");
    }
    for bad in
        ["", "-", "+1", "01", ".5", "5.", "1e", "1e+", "0x1", "NaN", "1 ", "--1", "1.2.3", "1e5e5", "1_0"]
    {
        assert!(!is_number(bad), "{bad}");
    }
}
