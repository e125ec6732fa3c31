//! HL7's test suite of FHIRPath: `fhirpath_suite FOLDER`, where the folder has `tests-fhir-r4.xml`
//! and `input/`. Prints each case that goes another way, and how many don't.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use fhir::fhirpath::{Environment, Error, Expression, Item, Node};
use fhir::json::{Json, Limits, Object, parse};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

/// At least so many of a hundred must pass.
const WANTED: usize = 95;

fn main() -> ExitCode {
    let folder = std::env::args().nth(1).unwrap_or_default();
    match run(Path::new(&folder)) {
        Ok((report, passed, total)) => {
            let _ = writeln!(std::io::stdout(), "{report}{passed} of {total} cases pass");
            if total > 0 && passed * 100 >= total * WANTED { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> Result<(String, usize, usize), String> {
    let suite = xml(&read(&folder.join("tests-fhir-r4.xml"))?)?;
    let mut inputs: HashMap<String, Json<'static>> = HashMap::new();
    let (mut report, mut passed, mut total) = (String::new(), 0, 0);
    for test in suite.all("group").flat_map(|group| group.all("test")) {
        let file = test.attribute("inputfile");
        if !inputs.contains_key(file) {
            let resource =
                if file.is_empty() { Json::Object(Object::default()) } else { input(folder, file)? };
            inputs.insert(file.to_owned(), resource);
        }
        let Some(resource) = inputs.get(file) else { continue };
        total += 1;
        match case(test, resource) {
            Ok(()) => passed += 1,
            Err(why) => report.push_str(&format!("{}: {why}\n", test.attribute("name"))),
        }
    }
    Ok((report, passed, total))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn input(folder: &Path, file: &str) -> Result<Json<'static>, String> {
    let text = read(&folder.join("input").join(file))?;
    if Path::new(file).extension().is_some_and(|extension| extension == "json") {
        return parse(text.as_bytes(), &Limits::default()).map(Json::into_owned).map_err(|e| e.to_string());
    }
    Ok(xml(&text)?.json(true))
}

fn case(test: &Element, resource: &Json<'_>) -> Result<(), String> {
    let expression = test.all("expression").next().ok_or("no expression")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let now = i64::try_from(now.as_micros()).ok();
    let environment = Environment { now, strict: true, ..Environment::of(resource) };
    let parsed = Expression::parse(&expression.text);
    let focus = Item::Element(Node::resource(resource));
    let result = match &parsed {
        Ok(parsed) => parsed.evaluate(&focus, &environment),
        Err(error) => Err(error.clone()),
    };
    let wanted: Vec<&Element> = test.all("output").collect();
    let invalid = !expression.attribute("invalid").is_empty();
    match result {
        Err(Error::TooCostly) => Err("too costly".to_owned()),
        Err(_) if invalid => Ok(()),
        Err(error) => Err(format!("{} | {error}", expression.text.trim())),
        Ok(_) if invalid => Err(format!("{} | should be an error", expression.text.trim())),
        Ok(items) => {
            let items = if test.attribute("predicate") == "true" {
                vec![Item::Boolean(!items.is_empty())]
            } else {
                items
            };
            let found: Vec<String> = items.iter().map(shown).collect();
            let unordered = test.attribute("ordered") == "false";
            let mut left: Vec<(String, &Item<'_>)> = found.iter().cloned().zip(&items).collect();
            let same = wanted.len() == items.len()
                && wanted.iter().all(|wanted| {
                    let at = left.iter().position(|(text, item)| fits(wanted, text, item));
                    let at = at.filter(|at| unordered || *at == 0);
                    at.map(|at| left.remove(at)).is_some()
                });
            let texts: Vec<&str> = wanted.iter().map(|wanted| wanted.text.as_str()).collect();
            if same { Ok(()) } else { Err(format!("{} | {found:?}, not {texts:?}", expression.text.trim())) }
        }
    }
}

fn shown(item: &Item<'_>) -> String {
    let text = item.display().map_or_else(|| "an element".to_owned(), Cow::into_owned);
    if matches!(item, Item::Temporal(_)) { format!("@{text}") } else { text }
}

/// The type of a value is named as in FHIR, or as in the language.
fn fits(wanted: &Element, text: &str, item: &Item<'_>) -> bool {
    let (_, kind) = item.type_of();
    let of_kind = wanted.attribute("type");
    let plain = |text: &str| text.trim_start_matches('@').trim_start_matches('T').to_owned();
    (of_kind.is_empty() || of_kind.eq_ignore_ascii_case(&kind)) && plain(&wanted.text) == plain(text)
}

/// An XML element: name, attributes, text, elements within.
#[derive(Default)]
struct Element {
    name: String,
    attributes: HashMap<String, String>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn of(tag: &BytesStart<'_>) -> Self {
        let name: &str = tag.name().into_inner();
        let mut element = Self { name: name.to_owned(), ..Self::default() };
        for attribute in tag.attributes().flatten() {
            let (key, value): (&str, &str) = (attribute.key.as_ref(), attribute.value.as_ref());
            let value = unescape(value).unwrap_or_default().into_owned();
            element.attributes.insert(key.to_owned(), value);
        }
        element
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    fn all<'e>(&'e self, name: &'static str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// FHIR's JSON, as far as the suite's inputs need it: types are guessed.
    fn json(&self, resource: bool) -> Json<'static> {
        let mut object = Object::default();
        let set = |object: &mut Object<'static>, key: &str, value: Json<'static>| {
            object.set(usize::MAX, key.to_owned(), value);
        };
        if resource {
            set(&mut object, "resourceType", string(&self.name));
        }
        for key in ["id", "url"] {
            if let Some(text) = self.attributes.get(key) {
                set(&mut object, key, string(text));
            }
        }
        let mut names: Vec<&str> = self.children.iter().map(|child| child.name.as_str()).collect();
        names.dedup();
        for name in names {
            let same = || self.children.iter().filter(|child| child.name == name);
            let several = same().count() > 1;
            let wrap = |mut items: Vec<Json<'static>>| {
                if several { Json::Array(items) } else { items.pop().unwrap_or(Json::Null) }
            };
            if name == "div" || same().any(|child| child.attributes.contains_key("value")) {
                set(&mut object, name, wrap(same().map(Element::primitive).collect()));
                if same().any(|child| !child.children.is_empty() && name != "div") {
                    let beside = wrap(same().map(|child| child.json(false)).collect());
                    set(&mut object, &format!("_{name}"), beside);
                }
            } else {
                set(&mut object, name, wrap(same().map(|child| child.json(false)).collect()));
            }
        }
        Json::Object(object)
    }

    fn primitive(&self) -> Json<'static> {
        let text = self.attribute("value");
        let numeric =
            matches!(self.name.as_str(), "value" | "valueInteger" | "valueDecimal" | "total" | "rank");
        match text {
            "true" | "false" => Json::Bool(text == "true"),
            _ if numeric && text.parse::<f64>().is_ok() => Json::Number(Cow::Owned(text.to_owned())),
            _ => string(text),
        }
    }
}

fn string(text: &str) -> Json<'static> {
    Json::String(Cow::Owned(text.to_owned()))
}

fn xml(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(tag) => open.push(Element::of(&tag)),
            Event::Empty(tag) => {
                let element = Element::of(&tag);
                open.last_mut().ok_or("too many ends")?.children.push(element);
            }
            Event::End(_) => {
                let element = open.pop().ok_or("too many ends")?;
                open.last_mut().ok_or("too many ends")?.children.push(element);
            }
            Event::Text(words) => {
                let words: &str = &words;
                open.last_mut().ok_or("too many ends")?.text.push_str(words);
            }
            Event::GeneralRef(name) => {
                let name: &str = &name;
                let written = format!("&{name};");
                let text = unescape(&written).map_err(|e| e.to_string())?.into_owned();
                open.last_mut().ok_or("too many ends")?.text.push_str(&text);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    open.pop().and_then(|mut root| root.children.pop()).ok_or_else(|| "no XML".to_owned())
}
