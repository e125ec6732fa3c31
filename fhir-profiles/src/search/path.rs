//! The part of FHIRPath that search parameters are written in, compiled once.

use crate::json::Json;
use crate::schema::{Schema, Type};
use crate::terminology::ValueSet;

/// A compiled path below a resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Path {
    steps: Vec<Step>,
    /// `where(resolve() is T)`: only references to this type.
    pub(crate) target: Option<String>,
    /// `%resource`: it begins at the resource, wherever it is asked.
    pub(crate) of_resource: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A member; of a choice (`value[x]`) every type.
    Member(String),
    /// `[0]`: the first item of a member.
    First(String),
    /// A member of a choice, of one type: the whole key, e.g. `valueQuantity`.
    Typed(String),
    /// Keeps items whose member has this text.
    Where(String, String),
    /// `x.exists() and x != false`: a truth value, always there.
    Held(String),
}

/// A value a path leads to, with the type its key tells of a choice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a, 'j> {
    pub(crate) value: &'a Json<'j>,
}

/// The paths of an expression that begin at `kind`; an alternative that this part of FHIRPath
/// can't say is `None`.
pub(crate) fn compile(expression: &str, kind: &str) -> Vec<Option<Path>> {
    let alternatives = split(expression, '|').into_iter().map(str::trim);
    alternatives.filter(|one| begins_at(one, kind)).map(steps).collect()
}

/// The paths of an expression that begins below some element; what can't be said is `None`.
pub(crate) fn compile_below(expression: &str) -> Vec<Option<Path>> {
    split(expression, '|').into_iter().map(|one| below(one.trim())).collect()
}

fn below(text: &str) -> Option<Path> {
    let rest = text.strip_prefix("%resource.");
    Path { of_resource: rest.is_some(), ..Path::default() }.extend(rest.unwrap_or(text))
}

/// Splits at a character outside parentheses.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0_i32, 0, Vec::new());
    for (n, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if c == at && depth == 0 => {
                parts.extend(text.get(from..n));
                from = n + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    parts
}

/// Is it a path of this type, or of all types?
fn begins_at(text: &str, kind: &str) -> bool {
    let root = text.trim_start_matches('(').trim().split(['.', ' ', ')']).next().unwrap_or_default();
    root == kind || root == "Resource" || root == "DomainResource" || starts_below(root)
}

/// InsurancePlan.name is published without its type in front.
fn starts_below(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn steps(text: &str) -> Option<Path> {
    let mut path = Path::default();
    let text = text.trim();
    if starts_below(text) {
        return below(text);
    }
    if let Some((held, test)) = text.split_once(".exists() and ") {
        if test.strip_prefix(held) != Some(" != false") {
            return None;
        }
        let (_, member) = held.split_once('.')?;
        path.steps.push(Step::Held(member.to_owned()));
        return Some(path);
    }
    // `(A.b as T).c` and `(A.b as T)`
    if let Some(rest) = text.strip_prefix('(') {
        let (inside, after) = rest.split_once(')')?;
        let (inner, kind) = inside.split_once(" as ")?;
        path = steps(inner)?;
        path.narrow(kind.trim())?;
        return if after.is_empty() { Some(path) } else { path.extend(after.strip_prefix('.')?) };
    }
    if let Some((inner, kind)) = text.split_once(" as ") {
        path = steps(inner)?;
        path.narrow(kind.trim())?;
        return Some(path);
    }
    let (_, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.is_empty() { Some(path) } else { path.extend(rest) }
}

impl Path {
    fn extend(mut self, text: &str) -> Option<Self> {
        for part in split(text, '.') {
            let part = part.trim();
            if let Some(kind) = part.strip_prefix("as(").or_else(|| part.strip_prefix("ofType(")) {
                self.narrow(kind.strip_suffix(')')?)?;
            } else if let Some(test) = part.strip_prefix("where(").and_then(|rest| rest.strip_suffix(')')) {
                self.filter(test)?;
            } else if let Some(member) = part.strip_suffix("[0]") {
                self.steps.push(Step::First(member.to_owned()));
            } else if !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()) {
                self.steps.push(Step::Member(part.to_owned()));
            } else {
                return None;
            }
        }
        Some(self)
    }

    fn narrow(&mut self, kind: &str) -> Option<()> {
        let Some(Step::Member(name)) = self.steps.pop() else { return None };
        let mut key = name;
        let mut letters = kind.chars();
        key.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        key.push_str(letters.as_str());
        self.steps.push(Step::Typed(key));
        Some(())
    }

    fn filter(&mut self, test: &str) -> Option<()> {
        if let Some(kind) = test.strip_prefix("resolve() is ") {
            self.target = Some(kind.trim().to_owned());
            return Some(());
        }
        let (member, value) = test.split_once('=')?;
        let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        self.steps.push(Step::Where(member.trim().to_owned(), value.to_owned()));
        Some(())
    }

    /// The codes that its element is bound to, if that is a plain `code` of a resource type.
    pub(crate) fn bound(&self, kind: &str) -> Option<&'static ValueSet> {
        let schema = Schema::r4();
        let mut of = schema.resource(kind)?;
        let (last, before) = self.steps.split_last()?;
        let element = |of: &'static Type, step: &Step| match step {
            Step::Member(name) => of.element(name),
            _ => None,
        };
        for step in before {
            of = schema.get(element(of, step)?.of)?;
        }
        let last = element(of, last)?;
        if schema.get(last.of)?.name == "code" { last.codes } else { None }
    }

    /// Calls `each` with every value the path leads to.
    pub(crate) fn visit<'a, 'j>(&self, resource: &'a Json<'j>, each: &mut dyn FnMut(Found<'a, 'j>)) {
        walk(&self.steps, resource, each);
    }
}

fn walk<'a, 'j>(steps: &[Step], node: &'a Json<'j>, each: &mut dyn FnMut(Found<'a, 'j>)) {
    if let Json::Array(items) = node {
        for item in items {
            walk(steps, item, each);
        }
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        each(Found { value: node });
        return;
    };
    let Some(object) = node.as_object() else { return };
    match step {
        Step::Member(name) => {
            if let Some(value) = object.get(name) {
                walk(rest, value, each);
                return;
            }
            for (key, value) in object.iter() {
                if key.strip_prefix(name.as_str()).is_some_and(is_type) {
                    walk(rest, value, each);
                }
            }
        }
        Step::First(name) => {
            if let Some(first) = object.get(name).and_then(|list| list.items().first()) {
                walk(rest, first, each);
            }
        }
        Step::Typed(key) => {
            // `Claim.detail as CodeableConcept` narrows a member that is no choice in JSON.
            if let Some(value) = object.get(key) {
                walk(rest, value, each);
            }
        }
        Step::Held(member) => {
            let named = |key: &str| key == member || key.strip_prefix(member.as_str()).is_some_and(is_type);
            let held = object.iter().any(|(key, value)| named(key) && value.as_bool() != Some(false));
            let value: &Json<'static> = if held { &Json::Bool(true) } else { &Json::Bool(false) };
            each(Found { value });
        }
        Step::Where(member, wanted) => {
            if object.get(member).and_then(Json::as_str) == Some(wanted) {
                walk(rest, node, each);
            }
        }
    }
}

/// The types a choice can have that a search parameter may index.
const TYPES: [&str; 24] = [
    "Address",
    "Age",
    "Boolean",
    "Canonical",
    "Code",
    "CodeableConcept",
    "Coding",
    "ContactPoint",
    "Date",
    "DateTime",
    "Decimal",
    "HumanName",
    "Id",
    "Identifier",
    "Instant",
    "Integer",
    "Period",
    "Quantity",
    "Range",
    "Reference",
    "SampledData",
    "String",
    "Timing",
    "Uri",
];

fn is_type(suffix: &str) -> bool {
    TYPES.binary_search(&suffix).is_ok()
}
