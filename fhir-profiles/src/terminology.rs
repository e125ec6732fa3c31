//! What is in a value set, as far as it can be told without a terminology server
//! (<https://hl7.org/fhir/R4/terminology-module.html>).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, OnceLock};

use crate::json::Json;

/// The value sets of the base specification that can be told, from HL7's expansions and compositions.
const OFFICIAL: &str = include_str!("../definitions/valuesets.tsv");

/// A value set: by system, what is in it.
#[derive(Debug, Default)]
pub(crate) struct ValueSet {
    parts: Vec<(Cow<'static, str>, Content)>,
    /// Something of any system may be in it.
    pub(crate) open: bool,
}

#[derive(Debug)]
enum Content {
    Codes(HashSet<Cow<'static, str>>),
    /// All codes of the system; which these are is not known here.
    All,
    /// Some codes that are not known here.
    Some,
}

/// One that is read when it is first asked for.
#[derive(Default)]
struct Lines {
    lines: Vec<&'static str>,
    read: OnceLock<ValueSet>,
}

static ALL: LazyLock<HashMap<&'static str, Lines>> = LazyLock::new(|| {
    let mut all: HashMap<&'static str, Lines> = HashMap::new();
    let lines = OFFICIAL.lines().filter(|line| !line.starts_with('#'));
    for (url, rest) in lines.filter_map(|line| line.split_once('\t')) {
        all.entry(url).or_default().lines.push(rest);
    }
    all
});

/// A value set of the base specification, by its address without a version.
pub(crate) fn official(url: &str) -> Option<&'static ValueSet> {
    let found = ALL.get(url)?;
    Some(found.read.get_or_init(|| {
        let mut set = ValueSet::default();
        for line in &found.lines {
            let mut fields = line.split('\t');
            match fields.next() {
                Some("*") | None => set.open = true,
                Some(system) => {
                    set.parts.push((system.into(), Content::Codes(fields.map(Cow::Borrowed).collect())));
                }
            }
        }
        set
    }))
}

impl ValueSet {
    /// Is a code of a system in it? None where that can't be told.
    pub(crate) fn contains(&self, system: &str, code: &str) -> Option<bool> {
        let mut told = Some(false);
        for (own, content) in &self.parts {
            if own != system {
                continue;
            }
            match content {
                Content::Codes(codes) if !codes.contains(code) => {}
                Content::Codes(_) | Content::All => return Some(true),
                Content::Some => told = None,
            }
        }
        if self.open { None } else { told }
    }

    /// Is a code without a system in it, of whichever system?
    pub(crate) fn contains_code(&self, code: &str) -> Option<bool> {
        let mut told = if self.open { None } else { Some(false) };
        for (_, content) in &self.parts {
            match content {
                Content::Codes(codes) if codes.contains(code) => return Some(true),
                Content::Codes(_) => {}
                Content::All | Content::Some => told = None,
            }
        }
        told
    }

    /// A `code`, `Coding`, `CodeableConcept`, `Quantity` or text: is it of the value set?
    pub(crate) fn holds(&self, value: &Json) -> Option<bool> {
        match value {
            Json::String(code) => self.contains_code(code),
            Json::Object(object) => match object.get("coding") {
                Some(codings) => {
                    let mut told = Some(false);
                    for coding in codings.items() {
                        match self.holds_coding(coding) {
                            Some(true) => return Some(true),
                            Some(false) => {}
                            None => told = None,
                        }
                    }
                    told
                }
                None => self.holds_coding(value),
            },
            _ => None,
        }
    }

    fn holds_coding(&self, coding: &Json) -> Option<bool> {
        let Some(code) = coding.text("code") else { return Some(false) };
        self.contains(coding.text("system").unwrap_or_default(), code)
    }
}

/// What value sets refer to.
pub(crate) trait Terminology {
    /// A ValueSet by its canonical.
    fn value_set(&self, url: &str) -> Option<&Json<'static>>;
    /// A CodeSystem by its canonical.
    fn code_system(&self, url: &str) -> Option<&Json<'static>>;
}

/// How deep value sets may include each other.
const DEPTH: usize = 8;

/// Reads a ValueSet: its composition where there is one, else its expansion.
pub(crate) fn read(value_set: &Json<'static>, known: &dyn Terminology) -> ValueSet {
    composed(value_set, known, 0)
}

fn composed(value_set: &Json<'static>, known: &dyn Terminology, depth: usize) -> ValueSet {
    let Some(compose) = value_set.get("compose") else {
        let mut set = ValueSet { open: value_set.get("expansion").is_none(), ..ValueSet::default() };
        let mut found: HashMap<&str, HashSet<Cow<'static, str>>> = HashMap::new();
        let expansion = value_set.get("expansion").map_or(&[][..], |expansion| expansion.list("contains"));
        expanded(expansion, &mut found, 0);
        let parts = found.into_iter();
        set.parts.extend(parts.map(|(system, codes)| (owned(system), Content::Codes(codes))));
        return set;
    };
    let mut set = ValueSet::default();
    for include in compose.list("include") {
        self::include(&mut set, include, known, depth);
    }
    for exclude in compose.list("exclude") {
        self::exclude(&mut set, exclude);
    }
    set
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

fn expanded<'a>(
    contains: &'a [Json<'static>],
    found: &mut HashMap<&'a str, HashSet<Cow<'static, str>>>,
    depth: usize,
) {
    for one in contains {
        if let (Some(code), false) =
            (one.text("code"), one.get("abstract").and_then(Json::as_bool) == Some(true))
        {
            found.entry(one.text("system").unwrap_or_default()).or_default().insert(owned(code));
        }
        if depth < 64 {
            expanded(one.list("contains"), found, depth + 1);
        }
    }
}

/// One part of a composition: of a system its concepts or all of them, of other value sets what is in
/// all of these.
fn include(set: &mut ValueSet, include: &Json<'static>, known: &dyn Terminology, depth: usize) {
    let others: Vec<&str> = include.list("valueSet").iter().filter_map(Json::as_str).collect();
    let system = include.text("system");
    match (system, others.as_slice()) {
        (None, []) => {}
        (None, [one]) => match other(one, known, depth) {
            Some(found) => {
                set.parts.extend(found.parts);
                set.open |= found.open;
            }
            None => set.open = true,
        },
        (None, _) => set.open = true,
        (Some(system), []) => set.parts.push((owned(system), content(include, system, known))),
        (Some(system), several) => {
            let mut codes = content(include, system, known);
            for one in several {
                codes = match (codes, other(one, known, depth)) {
                    (Content::Codes(mut codes), Some(found)) => {
                        codes.retain(|code| found.contains(system, code) != Some(false));
                        Content::Codes(codes)
                    }
                    (codes @ Content::Codes(_), None) => codes,
                    _ => Content::Some,
                };
            }
            set.parts.push((owned(system), codes));
        }
    }
}

fn other(canonical: &str, known: &dyn Terminology, depth: usize) -> Option<ValueSet> {
    let found = known.value_set(canonical).filter(|_| depth < DEPTH);
    if let Some(found) = found {
        return Some(composed(found, known, depth + 1));
    }
    let official = official(canonical.split('|').next().unwrap_or_default())?;
    let copy = |content: &Content| match content {
        Content::Codes(codes) => Content::Codes(codes.clone()),
        Content::All => Content::All,
        Content::Some => Content::Some,
    };
    let parts = official.parts.iter().map(|(system, content)| (system.clone(), copy(content)));
    Some(ValueSet { parts: parts.collect(), open: official.open })
}

fn content(include: &Json<'static>, system: &str, known: &dyn Terminology) -> Content {
    if !include.list("filter").is_empty() {
        return Content::Some;
    }
    if include.get("concept").is_some() {
        let concepts = include.list("concept").iter().filter_map(|one| one.text("code"));
        return Content::Codes(concepts.map(owned).collect());
    }
    match known.code_system(system).filter(|found| found.text("content") == Some("complete")) {
        Some(found) => {
            let mut codes = HashSet::new();
            concepts(found.list("concept"), &mut codes, 0);
            Content::Codes(codes)
        }
        None => Content::All,
    }
}

fn concepts(list: &[Json<'static>], codes: &mut HashSet<Cow<'static, str>>, depth: usize) {
    for one in list {
        codes.extend(one.text("code").map(owned));
        if depth < 64 {
            concepts(one.list("concept"), codes, depth + 1);
        }
    }
}

fn exclude(set: &mut ValueSet, exclude: &Json<'static>) {
    let listed: HashSet<&str> = exclude.list("concept").iter().filter_map(|one| one.text("code")).collect();
    let plain = exclude.list("filter").is_empty() && exclude.list("valueSet").is_empty();
    let Some(system) = exclude.text("system").filter(|_| plain) else {
        // What stays can't be told.
        for (_, content) in &mut set.parts {
            *content = Content::Some;
        }
        return;
    };
    for (_, content) in set.parts.iter_mut().filter(|(own, _)| own == system) {
        match content {
            Content::Codes(codes) if listed.is_empty() => codes.clear(),
            Content::Codes(codes) => codes.retain(|code| !listed.contains(code.as_ref())),
            _ => *content = Content::Some,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, parse};

    struct Known(Vec<Json<'static>>);

    impl Terminology for Known {
        fn value_set(&self, url: &str) -> Option<&Json<'static>> {
            self.0
                .iter()
                .find(|one| one.text("resourceType") == Some("ValueSet") && one.text("url") == Some(url))
        }
        fn code_system(&self, url: &str) -> Option<&Json<'static>> {
            self.0
                .iter()
                .find(|one| one.text("resourceType") == Some("CodeSystem") && one.text("url") == Some(url))
        }
    }

    fn json(text: &str) -> Json<'static> {
        parse(text.as_bytes(), &Limits::default()).unwrap().into_owned()
    }

    #[test]
    fn all_official_value_sets_but_few_are_told() {
        let open: Vec<_> = ALL.keys().filter(|url| official(url).unwrap().open).collect();
        assert!(ALL.len() > 1000 && open.len() <= 6, "{open:?}");
        let status = official("http://hl7.org/fhir/ValueSet/observation-status").unwrap();
        assert_eq!(status.contains("http://hl7.org/fhir/observation-status", "final"), Some(true));
        assert_eq!(status.contains("http://other", "final"), Some(false));
        assert_eq!(status.contains_code("banana"), Some(false));
    }

    #[test]
    fn compositions_are_told_as_far_as_they_can_be() {
        let known = Known(vec![
            json(
                r#"{"resourceType":"CodeSystem","url":"http://s","content":"complete","concept":[{"code":"a","concept":[{"code":"b"}]}]}"#,
            ),
            json(
                r#"{"resourceType":"ValueSet","url":"http://v","compose":{"include":[{"system":"http://t","concept":[{"code":"t"}]}]}}"#,
            ),
            json(
                r#"{"resourceType":"ValueSet","url":"http://loop","compose":{"include":[{"valueSet":["http://loop"]}]}}"#,
            ),
        ]);
        let read = |compose: &str| {
            read(&json(&format!(r#"{{"resourceType":"ValueSet","compose":{compose}}}"#)), &known)
        };
        let set = read(
            r#"{"include":[{"system":"http://s"},{"valueSet":["http://v"]},{"system":"http://f","filter":[{}]},{"system":"http://w"}],"exclude":[{"system":"http://s","concept":[{"code":"a"}]}]}"#,
        );
        for (system, code, told) in [
            ("http://s", "b", Some(true)),
            ("http://s", "a", Some(false)),
            ("http://t", "t", Some(true)),
            ("http://t", "u", Some(false)),
            ("http://f", "x", None),
            ("http://w", "x", Some(true)),
            ("http://else", "x", Some(false)),
        ] {
            assert_eq!(set.contains(system, code), told, "{system} {code}");
        }
        assert_eq!(read(r#"{"include":[{"valueSet":["http://unknown"]}]}"#).contains("s", "c"), None);
        assert_eq!(read(r#"{"include":[{"valueSet":["http://loop"]}]}"#).contains("s", "c"), None);
    }
}
