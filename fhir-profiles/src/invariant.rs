//! The invariants of the base specification (<https://hl7.org/fhir/R4/conformance-rules.html#constraints>,
//! `definitions/constraints.tsv`): read once, compiled when first needed, evaluated only where the
//! presence of elements does not decide already.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, OnceLock};

use crate::fhirpath::{Environment, Error, Expression, Item, Node, Presence, Told};
use crate::outcome::Severity;
use crate::schema::Type;

const OFFICIAL: &str = include_str!("../definitions/constraints.tsv");
/// Where the official expression is wrong: path, key, the expression instead (`-` for none), why.
const CORRECTED: &str = include_str!("../definitions/constraints-corrected.tsv");

/// Checked on the walk itself, at less cost or with a better place: `rules`, `contained`, `narrative`.
const ELSEWHERE: [&str; 15] = [
    "ele-1", "ext-1", "ref-1", "txt-1", "txt-2", "per-1", "dom-2", "dom-3", "dom-4", "dom-5", "bdl-2",
    "bdl-3", "bdl-4", "bdl-7", "bdl-8",
];

/// One invariant of a type or element.
#[derive(Debug)]
pub(crate) struct Invariant {
    pub(crate) key: &'static str,
    pub(crate) severity: Severity,
    text: &'static str,
    expression: &'static str,
    compiled: OnceLock<Option<(Expression, Presence)>>,
}

/// Whether a resource keeps an invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Kept,
    Broken,
    /// The budget did not suffice.
    TooCostly,
}

static ALL: LazyLock<HashMap<&'static str, Vec<Invariant>>> = LazyLock::new(load);

fn load() -> HashMap<&'static str, Vec<Invariant>> {
    let rows = |text: &'static str| text.lines().filter(|line| !line.starts_with('#'));
    let corrected: HashMap<(&str, &str), &str> = rows(CORRECTED)
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some(((fields.next()?, fields.next()?), fields.next()?))
        })
        .collect();
    let mut found: HashMap<&str, Vec<Invariant>> = HashMap::new();
    for line in rows(OFFICIAL) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (path, key, severity, official, text) = (next(), next(), next(), next(), next());
        let expression = corrected.get(&(path, key)).copied().unwrap_or(official);
        if ELSEWHERE.contains(&key) || expression == "-" {
            continue;
        }
        let severity = if severity == "error" { Severity::Error } else { Severity::Warning };
        let compiled = OnceLock::new();
        found.entry(path).or_default().push(Invariant { key, severity, text, expression, compiled });
    }
    found
}

/// The invariants of a type, or of an element (`Organization.telecom`). Abstract types are none here:
/// what `DomainResource` asks for is in `contained`, but for dom-6, which only recommends a narrative.
pub(crate) fn of(path: &str) -> &'static [Invariant] {
    ALL.get(path).map_or(&[], Vec::as_slice)
}

/// Is it an invariant of the base specification, repeated in the snapshot of a profile? Later
/// publications repeat those of the abstract types in other words.
pub(crate) fn is_official(key: &str, expression: &str) -> bool {
    static OFFICIALS: LazyLock<HashSet<(&str, &str)>> = LazyLock::new(|| {
        let rows = OFFICIAL.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &'static str| Some((line.split('\t').nth(1)?, line.split('\t').nth(3)?));
        rows.filter_map(pair).collect()
    });
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let family = matches!(key.split_once('-'), Some(("ele" | "ext" | "dom", number)) if number.len() == 1);
    family || OFFICIALS.contains(&(key, expression.as_str()))
}

impl Invariant {
    /// Which it is, and what it wants.
    pub(crate) fn details(&self) -> String {
        if self.text.is_empty() {
            format!("the invariant {} is broken", self.key)
        } else {
            format!("{} ({})", self.text, self.key)
        }
    }

    fn compiled(&self, focus: Option<&Type>) -> Option<&(Expression, Presence)> {
        let compile = || {
            let expression = Expression::parse(self.expression).ok()?;
            let presence = focus.map_or(Presence::Always(Told::Open), |focus| expression.presence(focus));
            Some((expression, presence))
        };
        self.compiled.get_or_init(compile).as_ref()
    }

    /// Checks one element; `has`: its type, and which elements of it are there, where that is known.
    pub(crate) fn check(
        &self,
        focus: Node<'_>,
        has: Option<(&Type, &[bool])>,
        resource: Node<'_>,
        root: Node<'_>,
        steps: &mut u64,
    ) -> Verdict {
        let compiled = self.compiled(has.map(|(of, _)| of));
        let Some((expression, presence)) = compiled else { return Verdict::Kept };
        match presence.tell(has.map_or(&[], |(_, has)| has)) {
            Told::True => return Verdict::Kept,
            Told::False => return Verdict::Broken,
            Told::Empty => return self.empty(),
            Told::Open => {}
        }
        let environment = Environment {
            resource: Some(resource),
            root: Some(root),
            steps: *steps,
            ..Environment::default()
        };
        let (result, left) = expression.metered(&Item::Element(focus), &environment);
        *steps = left;
        match result {
            Ok(items) if matches!(items.as_slice(), [Item::Boolean(false)]) => Verdict::Broken,
            Ok(items) if items.is_empty() => self.empty(),
            Err(Error::TooCostly) => Verdict::TooCostly,
            // What cannot be evaluated says nothing.
            Ok(_) | Err(_) => Verdict::Kept,
        }
    }

    /// An invariant has to be true; a mere recommendation about what is absent is passed over.
    fn empty(&self) -> Verdict {
        if self.severity == Severity::Error { Verdict::Broken } else { Verdict::Kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Json, Limits, Object, parse};
    use crate::schema::{Element, Schema, TypeKind};

    fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
    }

    #[test]
    fn all_are_read_and_placed() {
        let official: Vec<_> = rows(OFFICIAL).collect();
        for row in rows(CORRECTED) {
            assert_eq!(row.len(), 4, "{row:?}");
            assert!(official.iter().any(|other| other[..2] == row[..2]), "{row:?}");
        }
        for key in ELSEWHERE {
            assert!(official.iter().any(|row| row[1] == key), "{key}");
        }
        for (path, invariants) in ALL.iter() {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let placed = Schema::r4().named(path).or(Schema::r4().named(parent)).is_some();
            assert!(placed || ["Element", "Resource", "DomainResource"].contains(path), "{path}");
            for one in invariants {
                Expression::parse(one.expression).unwrap_or_else(|e| panic!("{} {e}", one.key));
            }
        }
    }

    fn dummy(element: &Element) -> Json<'static> {
        let of = Schema::r4().get(element.of).unwrap();
        let one = match (of.kind, of.name) {
            (TypeKind::Primitive, "boolean") => Json::Bool(true),
            (TypeKind::Primitive, "decimal" | "integer" | "positiveInt" | "unsignedInt") => {
                Json::Number("1".into())
            }
            (TypeKind::Primitive, "date" | "dateTime" | "instant") => Json::String("2024-01-01".into()),
            (TypeKind::Primitive, _) => Json::String("x".into()),
            _ => Json::Object(std::iter::once(("id".into(), Json::String("x".into()))).collect()),
        };
        if element.many { Json::Array(vec![one]) } else { one }
    }

    /// Where presence decides, an evaluation has to come to the same.
    #[test]
    fn presence_and_evaluation_agree() {
        let mut random = 1_u32;
        let mut decided = 0;
        for invariants in ALL.iter() {
            let (path, invariants) = invariants;
            let Some(of) = Schema::r4().named(path) else { continue };
            for _ in 0..40 {
                let mut has = vec![false; of.names.len()];
                let mut object = Object::default();
                for (place, name) in of.names.iter().enumerate() {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    has[place] = random & 0x4000_0000 != 0;
                    if let Some(element) = of.named(name).next().filter(|_| has[place]) {
                        object.set(usize::MAX, element.key.clone(), dummy(element));
                    }
                }
                let json = Json::Object(object);
                let node = Node { value: Some(&json), sibling: None, of: Some(of) };
                for one in invariants {
                    let (expression, presence) = one.compiled(Some(of)).unwrap();
                    let environment =
                        Environment { resource: Some(node), root: Some(node), ..Environment::default() };
                    let items = expression.evaluate(&Item::Element(node), &environment);
                    let told = presence.tell(&has);
                    decided += u32::from(told != Told::Open);
                    let agrees = match told {
                        Told::Open => true,
                        Told::True => matches!(items.as_deref(), Ok([Item::Boolean(true)])),
                        Told::False => matches!(items.as_deref(), Ok([Item::Boolean(false)])),
                        Told::Empty => matches!(items.as_deref(), Ok([])),
                    };
                    assert!(agrees, "{path} {}: {told:?}, {items:?}, {}", one.key, json.to_text());
                }
            }
        }
        assert!(decided > 1000, "{decided}");
    }

    #[test]
    fn an_empty_result_breaks_what_has_to_be_true() {
        let json = parse(br#"{"system":"http://x"}"#, &Limits::default()).unwrap();
        let of = Schema::r4().named("ValueSet.expansion.contains").unwrap();
        let node = Node { value: Some(&json), sibling: None, of: Some(of) };
        let has: Vec<bool> = of.names.iter().map(|name| *name == "system").collect();
        let vsd9 = super::of(of.name).iter().find(|one| one.key == "vsd-9").unwrap();
        let mut steps = 1000;
        assert_eq!(vsd9.check(node, Some((of, &has)), node, node, &mut steps), Verdict::Broken);
    }
}
