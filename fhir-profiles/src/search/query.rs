//! What a query asks: parsed against the registry, comparable in memory and in SQL alike.

use super::index::{Index, Row, fold};
use super::registry::{Kind, Parameter, parameter};
use crate::outcome::{Issue, Issues};
use crate::reference::{self, Reference, hash, hash_text};
use crate::resource_type::ResourceType;
use crate::time::{self, Span};

/// What to do about a parameter that is not known (`Prefer: handling=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Leave it out and say so.
    Lenient,
    /// Refuse the query.
    Strict,
}

/// A whole query on one resource type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// Which type.
    pub kind: ResourceType,
    /// All must hold.
    pub clauses: Vec<Clause>,
    /// In what order; newest update first where nothing is said.
    pub sort: Vec<Sort>,
    /// Matches a page, at most.
    pub count: u32,
    /// Only the number of matches is asked for.
    pub count_only: bool,
    /// Also the number of all matches.
    pub total: bool,
    /// Where the page begins: what the page before gave.
    pub after: Option<String>,
    /// The parameters that were understood, as they came: for the `self` link.
    pub used: Vec<(String, String)>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// [`Parameter::number`]; 0 where the test names a column of its own.
    pub param: u16,
    /// The condition.
    pub test: Test,
}

/// One of several possibilities must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Some [`Row::Exact`].
    Exact(Vec<ExactTest>),
    /// Some [`Row::Range`].
    Range(Vec<DateTest>),
    /// Some [`Row::Text`].
    Text(Vec<TextTest>),
    /// The logical id.
    Id(Vec<String>),
    /// When it was last updated.
    Updated(Vec<DateTest>),
}

/// A token, reference or address. `None` stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactTest {
    /// Hash of the code, of `Type/id`, or of the text.
    pub value: Option<i64>,
    /// Hash of the system; 0 for none.
    pub system: Option<i64>,
}

/// A date with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTest {
    /// How they compare.
    pub prefix: Prefix,
    /// The span of the date that was asked for.
    pub span: Span,
}

/// How a stored span and an asked one compare (<https://hl7.org/fhir/R4/search.html#prefix>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Stored within asked.
    Eq,
    /// Not [`Prefix::Eq`].
    Ne,
    /// Stored reaches past the end of asked.
    Gt,
    /// Stored reaches asked or past it.
    Ge,
    /// Stored begins before asked.
    Lt,
    /// Stored begins before the end of asked.
    Le,
    /// Stored begins after the end of asked.
    Sa,
    /// Stored ends before asked.
    Eb,
}

/// Text, folded as [`Row::Text`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTest {
    /// What to look for.
    pub text: String,
    /// The whole text, not only its beginning.
    pub exact: bool,
}

/// One sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By the clinical time.
    Date {
        /// Newest first.
        descending: bool,
    },
    /// By the last update.
    Updated {
        /// Newest first.
        descending: bool,
    },
    /// By the logical id.
    Id {
        /// From the end.
        descending: bool,
    },
}

/// Matches a page if nothing is said, and at most.
const DEFAULT_COUNT: u32 = 20;
const MOST: u32 = 1000;
/// Alternatives of one parameter, and parameters of one query.
const MOST_PARTS: usize = 500;

impl SearchQuery {
    /// Reads decoded query pairs; `base` is this server's address. Gives the query and what was
    /// left out.
    ///
    /// # Errors
    /// A value that can't be read, or with [`Handling::Strict`] a name that is not known.
    pub fn parse(
        kind: ResourceType,
        pairs: &[(String, String)],
        base: &str,
        handling: Handling,
    ) -> Result<(Self, Issues), Issues> {
        let mut query = Self {
            kind,
            clauses: Vec::new(),
            sort: Vec::new(),
            count: DEFAULT_COUNT,
            count_only: false,
            total: false,
            after: None,
            used: Vec::new(),
        };
        let (mut wrong, mut ignored) = (Vec::new(), Vec::new());
        if pairs.len() > MOST_PARTS {
            return Err(Issue::error("too-costly", format!("more than {MOST_PARTS} parameters")).into());
        }
        for (name, value) in pairs {
            match query.take(name, value, base) {
                Ok(true) => query.used.push((name.clone(), value.clone())),
                Ok(false) => {
                    let shown: String = name.chars().take(64).collect();
                    let details =
                        format!("the search parameter {shown} is not supported for {}", kind.name());
                    match handling {
                        Handling::Strict => wrong.push(Issue::error("not-supported", details)),
                        Handling::Lenient => ignored.push(Issue::warning("not-supported", details)),
                    }
                }
                Err(issue) => wrong.push(issue),
            }
        }
        if wrong.is_empty() { Ok((query, Issues(ignored))) } else { Err(Issues(wrong)) }
    }

    /// `Ok(false)`: not known.
    fn take(&mut self, name: &str, value: &str, base: &str) -> Result<bool, Issue> {
        let (code, modifier) = name.split_once(':').map_or((name, None), |(code, m)| (code, Some(m)));
        match code {
            "_format" | "_pretty" => return Ok(true),
            "_count" => {
                let count: u32 = value.parse().map_err(|_| bad(name, "a number is needed"))?;
                self.count_only = count == 0;
                self.count = count.clamp(1, MOST);
                return Ok(true);
            }
            "_summary" if value == "count" => {
                self.count_only = true;
                return Ok(true);
            }
            "_total" => {
                self.total = value == "accurate";
                return Ok(matches!(value, "none" | "estimate" | "accurate"));
            }
            "_sort" => {
                for one in value.split(',') {
                    let (key, descending) = one.strip_prefix('-').map_or((one, false), |key| (key, true));
                    self.sort.push(match key {
                        "date" if parameter(self.kind, "date").is_some_and(|p| p.indexed) => {
                            Sort::Date { descending }
                        }
                        "_lastUpdated" => Sort::Updated { descending },
                        "_id" => Sort::Id { descending },
                        _ => return Ok(false),
                    });
                }
                return Ok(true);
            }
            "_page" => {
                self.after = Some(value.to_owned());
                return Ok(true);
            }
            _ => {}
        }
        if value.is_empty() {
            return Err(bad(name, "the value is empty"));
        }
        let values = split(value, ',');
        if values.len() > MOST_PARTS {
            return Err(bad(name, "too many alternatives"));
        }
        let (param, test) = match code {
            "_id" if modifier.is_none() => (0, Test::Id(values)),
            "_lastUpdated" if modifier.is_none() => (0, Test::Updated(dates(name, &values)?)),
            _ => {
                let Some(parameter) = parameter(self.kind, code).filter(|parameter| parameter.indexed) else {
                    return Ok(false);
                };
                let Some(test) = test(parameter, modifier, name, &values, base)? else { return Ok(false) };
                (parameter.number, test)
            }
        };
        self.clauses.push(Clause { param, test });
        Ok(true)
    }
}

fn test(
    parameter: &Parameter,
    modifier: Option<&str>,
    name: &str,
    values: &[String],
    base: &str,
) -> Result<Option<Test>, Issue> {
    Ok(match (parameter.kind, modifier) {
        (Kind::Token, None) => Some(Test::Exact(values.iter().map(|value| token(value)).collect())),
        (Kind::Reference, modifier) => {
            let only = match modifier {
                None => None,
                Some(kind) => match ResourceType::parse(kind) {
                    Some(kind) => Some(kind),
                    None => return Ok(None),
                },
            };
            let tests = values.iter().flat_map(|value| references(parameter, only, value, base));
            Some(Test::Exact(tests.collect()))
        }
        (Kind::Uri, None) => {
            let exact = |value: &String| ExactTest { value: Some(hash_text(&unescape(value))), system: None };
            Some(Test::Exact(values.iter().map(exact).collect()))
        }
        (Kind::Date, None) => Some(Test::Range(dates(name, values)?)),
        (Kind::String, None | Some("exact")) => {
            let exact = modifier.is_some();
            let text = |value: &String| TextTest { text: fold(&unescape(value)), exact };
            Some(Test::Text(values.iter().map(text).collect()))
        }
        _ => None,
    })
}

fn bad(name: &str, why: &str) -> Issue {
    let shown: String = name.chars().take(64).collect();
    Issue::error("value", format!("search parameter {shown}: {why}"))
}

/// Splits at a separator that is not escaped; the parts keep their escapes.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == at && !escaped {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        escaped = c == '\\' && !escaped;
        part.push(c);
    }
    parts.push(part);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => out.extend(letters.next()),
            c => out.push(c),
        }
    }
    out
}

fn token(text: &str) -> ExactTest {
    let parts = split(text, '|');
    let hashed = |part: &String| hash_text(&unescape(part));
    match parts.as_slice() {
        [system, code] => ExactTest {
            value: (!code.is_empty()).then(|| hashed(code)),
            system: Some(if system.is_empty() { 0 } else { hashed(system) }),
        },
        [code] => ExactTest { value: Some(hashed(code)), system: None },
        _ => ExactTest { value: Some(hash_text(text)), system: None },
    }
}

fn references(parameter: &Parameter, only: Option<ResourceType>, value: &str, base: &str) -> Vec<ExactTest> {
    let text = unescape(value);
    let exact = |value: i64| ExactTest { value: Some(value), system: None };
    match reference::parse(&text, base) {
        Reference::Local { kind, id, .. } => vec![exact(hash(kind, id))],
        Reference::Other(id) if reference::is_id(id) => match only {
            Some(kind) => vec![exact(hash(kind, id))],
            // `patient` has one type; `subject` several: each of them may be meant.
            None if parameter.code == "patient" => vec![exact(hash(ResourceType::PATIENT, id))],
            None => parameter.targets.iter().map(|kind| exact(hash(*kind, id))).collect(),
        },
        _ => vec![exact(hash_text(&text))],
    }
}

fn dates(name: &str, values: &[String]) -> Result<Vec<DateTest>, Issue> {
    values.iter().map(|value| date(value).ok_or_else(|| bad(name, "not a FHIR date"))).collect()
}

fn date(text: &str) -> Option<DateTest> {
    let prefix = match text.get(..2)? {
        "eq" => Some(Prefix::Eq),
        "ne" => Some(Prefix::Ne),
        "gt" => Some(Prefix::Gt),
        "ge" => Some(Prefix::Ge),
        "lt" => Some(Prefix::Lt),
        "le" => Some(Prefix::Le),
        "sa" => Some(Prefix::Sa),
        "eb" => Some(Prefix::Eb),
        _ => None,
    };
    let rest = if prefix.is_some() { text.get(2..)? } else { text };
    // In a query `+` of an offset often arrives as a space.
    let span = time::parse(&rest.replace(' ', "+"))?;
    Some(DateTest { prefix: prefix.unwrap_or(Prefix::Eq), span })
}

impl ExactTest {
    fn matches(&self, found: i64, of: i64) -> bool {
        self.value.is_none_or(|value| value == found) && self.system.is_none_or(|system| system == of)
    }
}

impl DateTest {
    /// Does a stored span pass?
    pub fn matches(&self, low: i64, high: i64) -> bool {
        let asked = self.span;
        match self.prefix {
            Prefix::Eq => low >= asked.low && high <= asked.high,
            Prefix::Ne => low < asked.low || high > asked.high,
            Prefix::Gt => high > asked.high,
            Prefix::Ge => high >= asked.low,
            Prefix::Lt => low < asked.low,
            Prefix::Le => low <= asked.high,
            Prefix::Sa => low > asked.high,
            Prefix::Eb => high < asked.low,
        }
    }
}

impl TextTest {
    fn matches(&self, text: &str) -> bool {
        if self.exact { text == self.text } else { text.starts_with(&self.text) }
    }
}

impl Clause {
    /// The same condition in memory: of a resource's index entries, id and last update.
    pub fn matches(&self, index: &Index, id: &str, updated: i64) -> bool {
        let of_param = |row: &&Row| match row {
            Row::Exact { param, .. } | Row::Range { param, .. } | Row::Text { param, .. } => {
                *param == self.param
            }
        };
        let mut rows = index.rows.iter().filter(of_param);
        match &self.test {
            Test::Exact(tests) => rows.any(|row| {
                matches!(row, Row::Exact { value, system, .. } if tests.iter().any(|t| t.matches(*value, *system)))
            }),
            Test::Range(tests) => rows.any(|row| {
                matches!(row, Row::Range { low, high, .. } if tests.iter().any(|t| t.matches(*low, *high)))
            }),
            Test::Text(tests) => {
                rows.any(|row| matches!(row, Row::Text { text, .. } if tests.iter().any(|t| t.matches(text))))
            }
            Test::Id(ids) => ids.iter().any(|wanted| wanted == id),
            Test::Updated(tests) => tests.iter().any(|t| t.matches(updated, updated)),
        }
    }
}
