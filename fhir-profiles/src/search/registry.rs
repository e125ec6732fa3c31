//! The official search parameters, numbered.

use std::sync::LazyLock;

use super::path::{self, Path};
use crate::resource_type::ResourceType;

/// What kind of value a parameter searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Codes and identifiers.
    Token,
    /// References.
    Reference,
    /// Dates and periods.
    Date,
    /// Text.
    String,
    /// Addresses.
    Uri,
    /// Plain numbers.
    Number,
    /// Numbers with a unit.
    Quantity,
    /// Several parameters of one element.
    Composite,
    /// By rules of its own.
    Special,
}

/// A search parameter of one resource type.
#[derive(Debug)]
pub struct Parameter {
    /// Stands for it in index rows: 256 × the type's number + its place among the type's codes; of
    /// what all types share, above all of these and the same for each.
    pub number: u16,
    /// Under which numbers its rows lie: its own; or those of the parameters that together say the
    /// same, as `code` and `component-code` say `combo-code`.
    pub params: Vec<i64>,
    /// The name in a query.
    pub code: &'static str,
    /// What kind of value.
    pub kind: Kind,
    /// For a reference: the types it may point to.
    pub targets: Vec<ResourceType>,
    /// Kept in the index; others can't be searched.
    pub indexed: bool,
    /// The FHIRPath expression it comes from.
    pub expression: &'static str,
    pub(crate) paths: Vec<Path>,
    /// Of a composite: what is looked for below each value, in order.
    pub(crate) components: Vec<Component>,
    /// Some part of the expression is not understood.
    pub partial: bool,
    /// Its values are resources inside of the one that is searched, which nothing can follow.
    pub inline: bool,
}

/// One part of a composite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Component {
    pub(crate) kind: Kind,
    pub(crate) paths: Vec<Path>,
}

impl Parameter {
    /// Is each of its values a code whose system only its binding says?
    pub(crate) fn is_of_plain_codes(&self, kind: ResourceType) -> bool {
        !self.paths.is_empty() && self.paths.iter().all(|path| path.bound(kind.name()).is_some())
    }

    /// Has it rows of its own?
    pub fn written(&self) -> bool {
        self.indexed && self.params == [i64::from(self.number)]
    }

    /// The parameters that find just the values of this one, each fewer or the same and before it.
    fn said_by(&self, all: &[Self]) -> Vec<i64> {
        let own = i64::from(self.number);
        let like = |other: &&Self| {
            let fewer = other.paths.len() < self.paths.len();
            other.indexed
                && !other.inline
                && other.kind == self.kind
                && other.components == self.components
                && (fewer || other.paths.len() == self.paths.len() && other.number < self.number)
                && other.paths.iter().all(|path| self.paths.contains(path))
                && other.said_by(all) == [i64::from(other.number)]
        };
        let mut parts = Vec::new();
        let mut left: Vec<&Path> = self.paths.iter().collect();
        for other in all.iter().filter(like) {
            // What others say already is not said by it.
            if other.paths.iter().all(|path| left.contains(&path)) {
                left.retain(|path| !other.paths.contains(path));
                parts.push(i64::from(other.number));
            }
        }
        let whole = self.indexed && !self.paths.is_empty() && left.is_empty();
        if whole && usize::from(self.number) < SHARED { parts } else { vec![own] }
    }
}

static TABLE: LazyLock<Vec<Vec<Parameter>>> = LazyLock::new(build);

const DEFINITIONS: &str = include_str!("../../definitions/search-parameters.tsv");
const COMPONENTS: &str = include_str!("../../definitions/search-components.tsv");
const COMPARTMENTS: &str = include_str!("../../definitions/compartments.tsv");
/// Numbers of what all types share.
const SHARED: usize = 0xff00;

/// The parameters of a type, by code.
pub fn of_type(kind: ResourceType) -> &'static [Parameter] {
    TABLE.get(usize::from(kind.index())).map_or(&[], Vec::as_slice)
}

/// The parameter of that name.
pub fn parameter(kind: ResourceType, code: &str) -> Option<&'static Parameter> {
    let all = of_type(kind);
    all.get(all.binary_search_by(|one| one.code.cmp(code)).ok()?)
}

/// The kind of that code.
pub(crate) fn kind(text: &str) -> Kind {
    match text {
        "token" => Kind::Token,
        "reference" => Kind::Reference,
        "date" => Kind::Date,
        "string" => Kind::String,
        "uri" => Kind::Uri,
        "number" => Kind::Number,
        "quantity" => Kind::Quantity,
        "composite" => Kind::Composite,
        _ => Kind::Special,
    }
}

/// The numbers of the parameters by which a resource of `kind` belongs to a compartment; empty if
/// it never does. A resource of the compartment's own type belongs to its own.
pub fn compartment(owner: ResourceType, kind: ResourceType) -> Vec<i64> {
    linking(owner, kind).flat_map(|parameter| parameter.params.iter().copied()).collect()
}

fn linking(owner: ResourceType, kind: ResourceType) -> impl Iterator<Item = &'static Parameter> {
    COMPARTMENTS
        .lines()
        .filter_map(move |line| {
            let mut columns = line.split('\t');
            let fits = columns.next() == Some(owner.name()) && columns.next() == Some(kind.name());
            columns.next().filter(|_| fits)
        })
        .flat_map(|codes| codes.split(' '))
        .filter_map(move |code| parameter(kind, code))
        .filter(|parameter| parameter.indexed)
}

/// The parameters by which a resource of the type is about patients: those of the compartment, or where the type is
/// in none all that refer to something.
pub fn participants(kind: ResourceType) -> &'static [&'static Parameter] {
    static OF: LazyLock<Vec<Vec<&'static Parameter>>> = LazyLock::new(|| {
        let of = |kind| {
            let linking: Vec<_> = linking(ResourceType::PATIENT, kind).collect();
            let refers = |one: &&'static Parameter| one.kind == Kind::Reference && one.indexed;
            if linking.is_empty() { of_type(kind).iter().filter(refers).collect() } else { linking }
        };
        ResourceType::all().map(of).collect()
    });
    OF.get(usize::from(kind.index())).map_or(&[], Vec::as_slice)
}

/// Do resources of the type have a compartment?
pub fn is_compartment(owner: ResourceType) -> bool {
    COMPARTMENTS.lines().any(|line| line.split('\t').next() == Some(owner.name()))
}

/// Two parts, or three whose last are numbers.
fn can_be_compared(components: &[Option<Component>]) -> bool {
    let is_number = |one: &Option<Component>| one.as_ref().is_some_and(|one| one.kind == Kind::Number);
    match components {
        [_, _] => true,
        [_, second, third] => is_number(second) && is_number(third),
        _ => false,
    }
}

fn components(id: &str) -> Vec<Option<Component>> {
    let Some(line) = COMPONENTS.lines().find(|line| line.split('\t').next() == Some(id)) else {
        return Vec::new();
    };
    let columns: Vec<&str> = line.split('\t').skip(1).collect();
    columns
        .chunks(2)
        .map(|pair| {
            let [kind_name, expression] = pair else { return None };
            let paths: Option<Vec<Path>> = path::compile_below(expression).into_iter().collect();
            Some(Component { kind: kind(kind_name), paths: paths? })
        })
        .collect()
}

/// `_id` and `_lastUpdated` are columns of the resource itself and have no rows.
fn build() -> Vec<Vec<Parameter>> {
    let mut table: Vec<Vec<Parameter>> = ResourceType::all().map(|_| Vec::new()).collect();
    let mut shared = 0;
    for line in DEFINITIONS.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (id, code, type_name, bases, targets, expression) =
            (next(), next(), next(), next(), next(), next());
        let column = matches!(code, "_id" | "_lastUpdated");
        let components = components(id);
        for base in bases.split(' ') {
            let everywhere = matches!(base, "Resource" | "DomainResource");
            let of: Vec<ResourceType> = match base {
                _ if everywhere => ResourceType::all().collect(),
                name => ResourceType::parse(name).into_iter().collect(),
            };
            shared += usize::from(everywhere);
            for resource in of {
                let compiled = path::compile(expression, resource.name());
                let partial = compiled.is_empty()
                    || compiled.iter().any(Option::is_none)
                    || components.iter().any(Option::is_none)
                    || (kind(type_name) == Kind::Composite) != can_be_compared(&components);
                let inline = expression.contains("[0].resource");
                let parameter = Parameter {
                    number: if everywhere { u16::try_from(SHARED + shared).unwrap_or(u16::MAX) } else { 0 },
                    params: Vec::new(),
                    code,
                    kind: kind(type_name),
                    targets: targets.split(' ').filter_map(ResourceType::parse).collect(),
                    indexed: !partial && !column && kind(type_name) != Kind::Special,
                    expression,
                    partial,
                    inline,
                    paths: compiled.into_iter().flatten().collect(),
                    components: components.iter().flatten().cloned().collect(),
                };
                if let Some(list) = table.get_mut(usize::from(resource.index())) {
                    list.push(parameter);
                }
            }
        }
    }
    for (resource, list) in table.iter_mut().enumerate() {
        list.sort_by_key(|parameter| parameter.code);
        for (place, parameter) in list.iter_mut().enumerate().filter(|(_, one)| one.number == 0) {
            parameter.number = u16::try_from(resource * 256 + place).unwrap_or(u16::MAX);
        }
        for place in 0..list.len() {
            let params = list.get(place).map(|one| one.said_by(list));
            if let (Some(parameter), Some(params)) = (list.get_mut(place), params) {
                parameter.params = params;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_official_parameter_is_known_and_numbered_once() {
        assert_eq!(DEFINITIONS.lines().filter(|line| !line.starts_with('#')).count(), 1375);
        let mut numbers = HashSet::new();
        for kind in ResourceType::all() {
            assert!(of_type(kind).len() < 256);
            for parameter in of_type(kind) {
                let shared = usize::from(parameter.number) > SHARED;
                assert!(shared || numbers.insert(parameter.number), "{kind} {}", parameter.code);
                assert!(!parameter.indexed || !parameter.paths.is_empty(), "{kind} {}", parameter.code);
            }
        }
        assert!(parameter(ResourceType::OBSERVATION, "combo-code").is_some_and(|p| p.paths.len() == 2));
        assert!(parameter(ResourceType::RISK_ASSESSMENT, "patient").is_some_and(|p| p.indexed));
    }

    #[test]
    fn what_others_say_has_no_rows_of_its_own() {
        let of = |code| parameter(ResourceType::OBSERVATION, code).unwrap();
        let own = |code| i64::from(of(code).number);
        assert_eq!(of("code").params, [own("code")]);
        assert_eq!(of("combo-code").params, [own("code"), own("component-code")]);
        assert_eq!(
            of("combo-code-value-quantity").params,
            [own("code-value-quantity"), own("component-code-value-quantity")]
        );
        assert!(of("patient").written() && of("subject").written());
        let of_bundle = |code| ResourceType::parse("Bundle").and_then(|kind| parameter(kind, code));
        assert!(of_bundle("composition").unwrap().written() && of_bundle("message").unwrap().written());
        let all = || ResourceType::all().flat_map(of_type).filter(|one| one.indexed);
        let numbered: HashSet<i64> =
            all().filter(|one| one.written()).map(|one| i64::from(one.number)).collect();
        assert!(all().all(|one| one.params.iter().all(|param| numbered.contains(param))));
    }

    /// What is not indexed, and nothing else.
    #[test]
    fn how_much_of_all_expressions_can_be_said() {
        let mut not: Vec<String> = ResourceType::all()
            .flat_map(|kind| of_type(kind).iter().map(move |parameter| (kind, parameter)))
            .filter(|(_, parameter)| !parameter.indexed && usize::from(parameter.number) < SHARED)
            .map(|(kind, parameter)| format!("{kind}.{}", parameter.code))
            .collect();
        not.sort();
        assert_eq!(not, ["Location.near"]);
        let shared = of_type(ResourceType::PATIENT).iter().filter(|one| usize::from(one.number) > SHARED);
        let shared: Vec<_> = shared.map(|one| (one.code, one.indexed)).collect();
        assert_eq!(
            shared,
            [
                ("_content", false),
                ("_id", false),
                ("_lastUpdated", false),
                ("_profile", true),
                ("_query", false),
                ("_security", true),
                ("_source", true),
                ("_tag", true),
                ("_text", false),
            ]
        );
    }

    #[test]
    fn compartments() {
        let codes = |kind| {
            let mut codes: Vec<_> = of_type(kind)
                .iter()
                .filter(|one| compartment(ResourceType::PATIENT, kind).contains(&i64::from(one.number)))
                .map(|one| one.code)
                .collect();
            codes.sort_unstable();
            codes
        };
        assert_eq!(codes(ResourceType::OBSERVATION), ["performer", "subject"]);
        assert_eq!(codes(ResourceType::RISK_ASSESSMENT), ["subject"]);
        assert!(codes(ResourceType::DEVICE).is_empty());
        assert!(is_compartment(ResourceType::PATIENT) && !is_compartment(ResourceType::OBSERVATION));
    }
}
