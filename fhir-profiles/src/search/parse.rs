//! Reading a query against the registry (<https://hl7.org/fhir/R4/search.html>).

use std::cell::Cell;

use super::index::{address, coded, fold, identified, narrowed, of_a_type, reads};
use super::query::{
    Clause, DateTest, ExactTest, Handling, Include, Place, SearchQuery, Sort, SortKey, Table, Test, TextTest,
    View,
};
use super::registry::{Component, Kind, Parameter, of_type, parameter};
use super::value::{bad, date, modifier_unknown, quantity, references, split, token, unescape};
use crate::outcome::{Issue, Issues};
use crate::reference::{self, Reference, hash, hash_text};
use crate::resource_type::ResourceType;

/// Matches a page if nothing is said, and at most.
const DEFAULT_COUNT: u32 = 20;
const MOST: u32 = 1000;
/// Alternatives of one parameter, and parameters of one query.
const MOST_PARTS: usize = 500;
/// Conditions of one query: each is looked up for each candidate.
const MOST_CLAUSES: usize = 24;
/// References followed by one parameter, one after the other.
const DEEPEST: usize = 6;
/// Conditions and values of a whole query, those that a chain needs for each type it may lead to
/// counted too: a database takes only so many in one statement.
const MOST_ASKED: usize = 4000;
/// Bytes of one value: a chain reads it again for each type.
const LONGEST: usize = 1 << 16;
/// Parts of an address whose ancestors are looked for.
const MOST_SEGMENTS: usize = 64;
/// Keys to sort by, and elements to show.
const MOST_KEYS: usize = 16;
const MOST_ELEMENTS: usize = 200;

/// Why a parameter is not part of the query.
enum Trouble {
    /// Nobody knows it.
    Unknown,
    Wrong(Issue),
}

impl From<Issue> for Trouble {
    fn from(issue: Issue) -> Self {
        Self::Wrong(issue)
    }
}

type Taken<T> = Result<T, Trouble>;

/// What conditions are read for.
#[derive(Clone, Copy)]
struct Reader<'q> {
    kinds: &'q [ResourceType],
    base: &'q str,
    /// Microseconds since 1970 UTC.
    now: i64,
    depth: usize,
    /// What the whole query may still ask.
    left: &'q Cell<usize>,
}

impl SearchQuery {
    /// Reads decoded query pairs for one type, or for several; `base` is this server's address,
    /// `now` the moment in microseconds that `ap` looks at dates from. Gives the query and what was
    /// left out.
    ///
    /// # Errors
    /// A value or modifier that can't be read, or with [`Handling::Strict`] a name that is not known.
    pub fn parse(
        kinds: &[ResourceType],
        pairs: &[(String, String)],
        base: &str,
        now: i64,
        handling: Handling,
    ) -> Result<(Self, Issues), Issues> {
        let mut query = Self {
            kinds: kinds.to_vec(),
            clauses: Vec::new(),
            sort: Vec::new(),
            count: DEFAULT_COUNT,
            count_only: false,
            total: false,
            after: None,
            includes: Vec::new(),
            view: View::Whole,
            scope: String::new(),
            used: Vec::new(),
        };
        let (mut wrong, mut ignored) = (Vec::new(), Vec::new());
        if pairs.len() > MOST_PARTS {
            return Err(Issue::error("too-costly", format!("more than {MOST_PARTS} parameters")).into());
        }
        let left = Cell::new(MOST_ASKED);
        let reader = Reader { kinds, base, now, depth: 0, left: &left };
        for (name, value) in pairs {
            let taken =
                if value.is_empty() { Err(Trouble::Unknown) } else { query.take(reader, name, value) };
            match taken {
                Ok(()) => query.used.push((name.clone(), value.clone())),
                Err(Trouble::Unknown) => {
                    let shown: String = name.chars().take(64).collect();
                    let of = kinds.first().map_or("Resource", |kind| kind.name());
                    let details = if value.is_empty() {
                        format!("the search parameter {shown} has no value")
                    } else {
                        format!("the search parameter {shown} is not supported for {of}")
                    };
                    match handling {
                        Handling::Strict => wrong.push(Issue::error("not-supported", details)),
                        Handling::Lenient => ignored.push(Issue::warning("not-supported", details)),
                    }
                }
                Err(Trouble::Wrong(issue)) => wrong.push(issue),
            }
        }
        if query.clauses.len() > MOST_CLAUSES {
            let details = format!("more than {MOST_CLAUSES} conditions that must all hold");
            wrong.push(Issue::error("too-costly", details));
        }
        if wrong.is_empty() { Ok((query, Issues(ignored))) } else { Err(Issues(wrong)) }
    }

    fn take(&mut self, reader: Reader<'_>, name: &str, value: &str) -> Taken<()> {
        if value.len() > LONGEST {
            return Err(bad(name, &format!("more than {LONGEST} bytes")).into());
        }
        match name {
            "_format" | "_pretty" => {}
            "_count" => {
                let count: u32 = value.parse().map_err(|_| bad(name, "a number is needed"))?;
                self.count_only = count == 0;
                self.count = count.clamp(1, MOST);
            }
            "_summary" => match value {
                "count" => self.count_only = true,
                "true" => self.view = View::Summary,
                "text" => self.view = View::Text,
                "data" => self.view = View::Data,
                "false" => self.view = View::Whole,
                _ => return Err(bad(name, "true, text, data, count or false is needed").into()),
            },
            "_elements" => {
                let names: Vec<String> = value.split(',').map(|one| one.trim().to_owned()).collect();
                if !names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())) {
                    return Err(bad(name, "names of elements are needed").into());
                }
                if names.len() > MOST_ELEMENTS {
                    return Err(bad(name, &format!("more than {MOST_ELEMENTS} elements")).into());
                }
                self.view = View::Elements(names);
            }
            "_total" => match value {
                "none" | "estimate" | "accurate" => self.total = value != "none",
                _ => return Err(bad(name, "none, estimate or accurate is needed").into()),
            },
            "_text" | "_content" | "_filter" | "_query" => {
                return Err(Issue::error(
                    "not-supported",
                    format!("search parameter {name}: there is no search in full text or by expression"),
                )
                .into());
            }
            "near" if reader.one().is_some_and(|kind| kind.name() == "Location") => {
                let details = "search parameter near: distances between places are not searched";
                return Err(Issue::error("not-supported", details).into());
            }
            "_contained" if value == "false" => {}
            "_contained" | "_containedType" => {
                return Err(Issue::error(
                    "not-supported",
                    format!("search parameter {name}: contained resources are not searched"),
                )
                .into());
            }
            "_sort" => {
                for one in value.split(',') {
                    let (key, descending) = one.strip_prefix('-').map_or((one, false), |key| (key, true));
                    if self.sort.len() >= MOST_KEYS {
                        return Err(bad(name, &format!("more than {MOST_KEYS} parameters to sort by")).into());
                    }
                    let key = reader.sort(key).ok_or_else(|| bad(name, "not a parameter to sort by"))?;
                    self.sort.push(Sort { key, descending });
                }
            }
            "_page" => self.after = Some(value.to_owned()),
            _ => match name.split(':').next() {
                Some(code @ ("_include" | "_revinclude")) => {
                    self.includes.push(include(code == "_revinclude", name, value)?);
                }
                _ => self.clauses.push(reader.clause(name, value)?),
            },
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn one(&self) -> Option<ResourceType> {
        match self.kinds {
            [kind] => Some(*kind),
            _ => None,
        }
    }

    /// Takes conditions or values out of what the query may still ask.
    fn ask(&self, more: usize) -> Result<(), Issue> {
        let left = self.left.get().checked_sub(more);
        self.left.set(left.unwrap_or_default());
        let details = || format!("more than {MOST_ASKED} conditions and values in one search");
        left.map(|_| ()).ok_or_else(|| Issue::error("too-costly", details()))
    }

    /// A parameter that each of the types has, with one number.
    fn parameter(&self, code: &str) -> Option<&'static Parameter> {
        let first = parameter(*self.kinds.first()?, code).filter(|parameter| parameter.indexed)?;
        let shared =
            |kind: &ResourceType| parameter(*kind, code).is_some_and(|one| one.params == first.params);
        self.kinds.iter().all(shared).then_some(first)
    }

    fn sort(&self, key: &str) -> Option<SortKey> {
        match key {
            "_lastUpdated" => Some(SortKey::Updated),
            "_id" => Some(SortKey::Id),
            "date" if self.one().is_some() && self.parameter(key).is_some() => Some(SortKey::Date),
            _ => {
                let found = self.parameter(key)?;
                (found.kind != Kind::Composite).then(|| SortKey::Of(key.to_owned()))
            }
        }
    }

    fn clause(self, name: &str, value: &str) -> Taken<Clause> {
        if self.depth > DEEPEST {
            return Err(Issue::error("too-costly", "more references in a row than are followed").into());
        }
        self.ask(1)?;
        let plain = Clause::new;
        if let Some(rest) = name.strip_prefix("_has:") {
            return self.has(name, rest, value);
        }
        // `code:Type.rest` or `code.rest`
        if let Some((link, rest)) = name.split_once('.') {
            return self.chain(link, rest, value);
        }
        let (code, modifier) = name.split_once(':').map_or((name, None), |(code, m)| (code, Some(m)));
        let values = split(value, ',');
        if values.len() > MOST_PARTS {
            return Err(bad(name, "too many alternatives").into());
        }
        self.ask(values.len())?;
        // Of a text it would be the beginning of every one.
        if values.iter().any(|value| unescape(value).trim().is_empty()) {
            return Err(bad(name, "an alternative is empty").into());
        }
        let negated = modifier == Some("not");
        match (code, modifier) {
            ("_id", None | Some("not")) => {
                return Ok(Clause { params: Vec::new(), negated, test: Test::Id(values) });
            }
            ("_lastUpdated", None) => {
                return Ok(plain(Vec::new(), Test::Updated(self.dates(name, &values)?)));
            }
            ("_id" | "_lastUpdated", Some(_)) => return Err(modifier_unknown(name).into()),
            ("_list", None) if values.iter().any(|value| value.starts_with('$')) => {
                return Err(bad(name, "only Lists that are stored here can be named").into());
            }
            ("_list", None) => {
                let plain_id =
                    |value: String| value.strip_prefix("List/").map_or(value.clone(), str::to_owned);
                let values = values.into_iter().map(plain_id).collect();
                let item =
                    parameter(ResourceType::LIST, "item").map_or_else(Vec::new, |item| item.params.clone());
                let of_list = plain(Vec::new(), Test::Id(values));
                return Ok(plain(item, Test::Has(ResourceType::LIST, vec![of_list])));
            }
            _ => {}
        }
        let parameter = self.parameter(code).ok_or(Trouble::Unknown)?;
        let params = parameter.params.clone();
        if modifier == Some("missing") {
            let missing = match value {
                "true" => true,
                "false" => false,
                _ => return Err(bad(name, "true or false is needed").into()),
            };
            let table = match parameter.kind {
                Kind::Token | Kind::Reference | Kind::Uri | Kind::String => Table::Exact,
                Kind::Date => Table::Range,
                Kind::Number | Kind::Quantity => Table::Number,
                Kind::Composite | Kind::Special => return Err(modifier_unknown(name).into()),
            };
            return Ok(Clause { params, negated: missing, test: Test::Present(table) });
        }
        if parameter.kind == Kind::Composite {
            return self.composite(parameter, modifier, name, &values);
        }
        let test = self.test(parameter, modifier, name, &values)?;
        Ok(Clause { params, negated, test })
    }

    /// `_has:Type:reference:rest`
    fn has(self, name: &str, rest: &str, value: &str) -> Taken<Clause> {
        let mut parts = rest.splitn(3, ':');
        let (Some(kind), Some(code), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad(name, "_has:Type:reference:parameter is needed").into());
        };
        let kind = ResourceType::parse(kind).ok_or_else(|| bad(name, "no such resource type"))?;
        let link = parameter(kind, code)
            .filter(|one| one.indexed && one.kind == Kind::Reference && !one.inline)
            .ok_or_else(|| bad(name, "not a reference parameter of that type"))?;
        let of = Reader { kinds: &[kind], depth: self.depth + 1, ..self };
        let inner = of.clause(rest, value)?;
        Ok(Clause::new(link.params.clone(), Test::Has(kind, vec![inner])))
    }

    /// `link.rest`, where link is `code` or `code:Type`.
    fn chain(self, link: &str, rest: &str, value: &str) -> Taken<Clause> {
        let (code, only) = link.split_once(':').map_or((link, None), |(code, kind)| (code, Some(kind)));
        let parameter = self.parameter(code).ok_or(Trouble::Unknown)?;
        if parameter.kind != Kind::Reference || parameter.inline {
            return Err(bad(link, "only a reference can be followed").into());
        }
        let targets = match only {
            None => parameter.targets.clone(),
            Some(kind) => vec![ResourceType::parse(kind).ok_or_else(|| bad(link, "no such resource type"))?],
        };
        let (mut found, mut trouble) = (Vec::new(), None);
        for kind in targets {
            let of = Reader { kinds: &[kind], depth: self.depth + 1, ..self };
            match of.clause(rest, value) {
                Ok(clause) => found.push((kind, vec![clause])),
                Err(Trouble::Wrong(issue)) if issue.code == "too-costly" => return Err(issue.into()),
                Err(wrong @ Trouble::Wrong(_)) => trouble = Some(wrong),
                Err(unknown @ Trouble::Unknown) => trouble = trouble.or(Some(unknown)),
            }
        }
        if found.is_empty() {
            return Err(trouble.unwrap_or(Trouble::Unknown));
        }
        Ok(Clause::new(parameter.params.clone(), Test::Chain(found)))
    }

    fn composite(
        self,
        parameter: &Parameter,
        modifier: Option<&str>,
        name: &str,
        values: &[String],
    ) -> Taken<Clause> {
        if modifier.is_some() {
            return Err(modifier_unknown(name).into());
        }
        let [first, second, more @ ..] = parameter.components.as_slice() else {
            return Err(Trouble::Unknown);
        };
        let mut either = Vec::with_capacity(values.len());
        for value in values {
            let parts = split(value, '$');
            let (one, two, three) = match parts.as_slice() {
                [one, two] if more.is_empty() => (one, two, None),
                [one, two, three] if !more.is_empty() => (one, two, Some(three)),
                _ => {
                    let wanted = if more.is_empty() { "two" } else { "three" };
                    return Err(bad(name, &format!("{wanted} values with $ between them are needed")).into());
                }
            };
            let token = |of: &Component, part: &str| of.kind == Kind::Token && part.ends_with('|');
            if token(first, one) || token(second, two) {
                return Err(bad(name, "a part of a composite needs its code").into());
            }
            let last = three.map(|three| quantity(name, three, false)).transpose()?;
            let number = matches!(second.kind, Kind::Number | Kind::Quantity);
            let mut of = None;
            let narrow = match first.kind {
                Kind::Token => match split(one, '|').as_slice() {
                    [code] => coded(None, &unescape(code)),
                    [system, code] if number => {
                        of = Some(if system.is_empty() { 0 } else { hash_text(&unescape(system)) });
                        coded(None, &unescape(code))
                    }
                    [system, code] => coded(Some(&unescape(system)), &unescape(code)),
                    _ => return Err(bad(name, "not a token").into()),
                },
                _ => match reference::parse(&unescape(one), self.base) {
                    Reference::Local { kind, id, .. } => hash(kind, id),
                    _ => return Err(bad(name, "Type/id is needed").into()),
                },
            };
            let mut test =
                self.kind_test(second.kind, &[], parameter, None, name, std::slice::from_ref(two))?;
            if let Test::Number(tests) = &mut test {
                for test in tests {
                    test.of = of;
                    test.last = last.map(|last| last.bound());
                }
            }
            let params = parameter.params.iter().map(|param| narrowed(*param, narrow)).collect();
            either.push(Clause::new(params, test));
        }
        Ok(Clause::new(Vec::new(), Test::Either(either)))
    }

    fn test(self, of: &Parameter, modifier: Option<&str>, name: &str, values: &[String]) -> Taken<Test> {
        self.kind_test(of.kind, &of.targets, of, modifier, name, values)
    }

    /// A token; of a plain `code` the system is the one that its binding says, and is written nowhere.
    fn implied(self, parameter: &Parameter, value: &str) -> ExactTest {
        let test = token(value);
        let parts: Vec<String> = split(value, '|').iter().map(|part| unescape(part)).collect();
        let [system, code] = parts.as_slice() else { return test };
        let bound = |kind: &ResourceType| {
            let mut paths = parameter.paths.iter();
            !parameter.paths.is_empty()
                && paths.all(|path| {
                    path.bound(kind.name()).is_some_and(|codes| codes.contains(system, code) == Some(true))
                })
        };
        if self.kinds.iter().all(bound) { ExactTest { system: None, ..test } } else { test }
    }

    fn kind_test(
        self,
        kind: Kind,
        targets: &[ResourceType],
        parameter: &Parameter,
        modifier: Option<&str>,
        name: &str,
        values: &[String],
    ) -> Taken<Test> {
        let exact = |value: i64| ExactTest { value: Some(value), system: None };
        let text = |place: Place| -> Taken<Test> {
            let text = |value: &String| match fold(&unescape(value)) {
                text if text.trim().is_empty() => Err(bad(name, "there is no letter to look for")),
                text => Ok(TextTest { text, place }),
            };
            Ok(Test::Text(values.iter().map(text).collect::<Result<_, _>>()?))
        };
        let asked = match (kind, modifier) {
            (Kind::Token, None | Some("not")) => {
                // The system of a plain code is written nowhere, so there is nothing to compare with.
                let of_system = |value: &String| value.ends_with('|') && !value.ends_with("\\|");
                if self.kinds.iter().all(|kind| parameter.is_of_plain_codes(*kind))
                    && values.iter().any(of_system)
                {
                    return Err(bad(name, "a code is needed, alone or behind its system").into());
                }
                Test::Exact(values.iter().map(|value| self.implied(parameter, value)).collect())
            }
            (Kind::Token, Some("of-type")) => {
                let typed = |value: &String| match split(value, '|').as_slice() {
                    [system, code, value] => {
                        Ok(exact(of_a_type(&unescape(system), &unescape(code), &unescape(value))))
                    }
                    _ => Err(bad(name, "system|code|value is needed")),
                };
                Test::Exact(values.iter().map(typed).collect::<Result<_, _>>()?)
            }
            (Kind::Reference, Some("identifier")) => {
                let identifier = |value: &String| {
                    let found = token(value);
                    let code = split(value, '|').last().map_or_else(String::new, |code| unescape(code));
                    ExactTest { value: (!code.is_empty()).then(|| identified(&code)), ..found }
                };
                Test::Exact(values.iter().map(identifier).collect())
            }
            (Kind::Reference, modifier) => {
                let only = match modifier {
                    None => None,
                    Some(kind) => Some(ResourceType::parse(kind).ok_or_else(|| modifier_unknown(name))?),
                };
                let tests = values
                    .iter()
                    .flat_map(|value| references(targets, parameter.code, only, value, self.base));
                let tests: Vec<ExactTest> = tests.collect();
                self.ask(tests.len())?;
                Test::Exact(tests)
            }
            (Kind::Uri, None) => {
                Test::Exact(values.iter().map(|value| exact(hash_text(&unescape(value)))).collect())
            }
            (Kind::Token, Some("text")) if reads(parameter) => text(Place::Start)?,
            (Kind::Uri, Some("below")) if reads(parameter) => {
                let below =
                    |value: &String| TextTest { text: address(&unescape(value)), place: Place::Start };
                Test::Text(values.iter().map(below).collect())
            }
            (Kind::Uri, Some("above")) => {
                let mut tests = Vec::new();
                for value in values {
                    let value = unescape(value);
                    let ends: Vec<usize> = value.match_indices('/').map(|(at, _)| at).collect();
                    if ends.len() > MOST_SEGMENTS {
                        return Err(
                            bad(name, &format!("more than {MOST_SEGMENTS} parts of an address")).into()
                        );
                    }
                    self.ask(ends.len())?;
                    let parts = ends.into_iter().filter_map(|end| value.get(..end)).chain([value.as_str()]);
                    tests.extend(parts.map(hash_text).map(exact));
                }
                Test::Exact(tests)
            }
            (Kind::Date, None) => Test::Range(self.dates(name, values)?),
            (Kind::String, None) => text(Place::Start)?,
            (Kind::String, Some("contains")) => text(Place::Anywhere)?,
            (Kind::String, Some("exact")) => {
                Test::Exact(values.iter().map(|value| exact(hash_text(&unescape(value)))).collect())
            }
            (Kind::Number | Kind::Quantity, None) => {
                let tests = values.iter().map(|value| quantity(name, value, kind == Kind::Quantity));
                Test::Number(tests.collect::<Result<_, _>>()?)
            }
            _ => return Err(modifier_unknown(name).into()),
        };
        let nothing = |test: &ExactTest| test.value.is_none() && test.system.is_none_or(|system| system == 0);
        match &asked {
            Test::Exact(tests) if tests.iter().any(nothing) => {
                Err(bad(name, "a code, a system or both are needed").into())
            }
            _ => Ok(asked),
        }
    }

    fn dates(&self, name: &str, values: &[String]) -> Result<Vec<DateTest>, Issue> {
        values.iter().map(|value| date(value, self.now).ok_or_else(|| bad(name, "not a FHIR date"))).collect()
    }
}

fn include(reverse: bool, name: &str, value: &str) -> Taken<Include> {
    let modifier = name.split_once(':').map(|(_, modifier)| modifier);
    let iterate = match modifier {
        None => false,
        Some("iterate" | "recurse") => true,
        Some(_) => return Err(modifier_unknown(name).into()),
    };
    let wrong = |why: &str| Trouble::from(bad(name, why));
    let mut parts = value.split(':');
    let kind = |text: &str| ResourceType::parse(text).ok_or_else(|| wrong("no such resource type"));
    let source = match parts.next() {
        Some("*") if value == "*" => None,
        text => Some(kind(text.unwrap_or_default())?),
    };
    let code = parts.next().filter(|code| *code != "*");
    let target = parts.next().map(kind).transpose()?;
    if parts.next().is_some() || (value != "*" && !value.contains(':')) {
        return Err(wrong("Type:parameter or Type:parameter:Target is needed"));
    }
    if let (Some(source), Some(code)) = (source, code)
        && links(source).all(|one| one.code != code)
    {
        return Err(wrong("not a reference parameter of that type"));
    }
    Ok(Include { reverse, iterate, source, code: code.map(str::to_owned), target })
}

/// The reference parameters of a type that an include can follow.
pub fn links(kind: ResourceType) -> impl Iterator<Item = &'static Parameter> {
    let followed = |one: &&Parameter| one.indexed && one.kind == Kind::Reference && !one.inline;
    of_type(kind).iter().filter(followed)
}
