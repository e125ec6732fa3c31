//! The official search parameters, numbered.

use std::collections::HashSet;
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
    /// Stands for it in index rows: 256 × the type's number + its place among the type's codes.
    pub number: u16,
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
    /// Some part of the expression can't be evaluated.
    /// Some part of the expression is not understood.
    pub partial: bool,
}

static TABLE: LazyLock<Vec<Vec<Parameter>>> = LazyLock::new(build);

const DEFINITIONS: &str = include_str!("../../definitions/search-parameters.tsv");
const ENABLED: &str = include_str!("../../definitions/search-enabled.txt");

/// The parameters of a type, by code.
pub fn of_type(kind: ResourceType) -> &'static [Parameter] {
    TABLE.get(usize::from(kind.index())).map_or(&[], Vec::as_slice)
}

/// The parameter of that name.
pub fn parameter(kind: ResourceType, code: &str) -> Option<&'static Parameter> {
    let all = of_type(kind);
    all.get(all.binary_search_by(|one| one.code.cmp(code)).ok()?)
}

fn kind(text: &str) -> Kind {
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

/// `_id` and `_lastUpdated` are columns of the resource itself and have no rows.
fn build() -> Vec<Vec<Parameter>> {
    let enabled: HashSet<&str> = ENABLED.lines().filter(|line| !line.starts_with('#')).collect();
    let mut table: Vec<Vec<Parameter>> = ResourceType::all().map(|_| Vec::new()).collect();
    for line in DEFINITIONS.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t').skip(1);
        let mut next = || columns.next().unwrap_or_default();
        let (code, type_name, bases, targets, expression) = (next(), next(), next(), next(), next());
        for base in bases.split(' ') {
            let of: Vec<ResourceType> = match base {
                "Resource" | "DomainResource" => ResourceType::all().collect(),
                name => ResourceType::parse(name).into_iter().collect(),
            };
            for resource in of {
                let on = enabled.contains(format!("{}.{code}", resource.name()).as_str())
                    || enabled.contains(format!("*.{code}").as_str());
                let compiled = if on { path::compile(expression, resource.name()) } else { Vec::new() };
                let parameter = Parameter {
                    number: 0,
                    code,
                    kind: kind(type_name),
                    targets: targets.split(' ').filter_map(ResourceType::parse).collect(),
                    indexed: on,
                    expression,
                    partial: compiled.iter().any(Option::is_none),
                    paths: compiled.into_iter().flatten().collect(),
                };
                if let Some(list) = table.get_mut(usize::from(resource.index())) {
                    list.push(parameter);
                }
            }
        }
    }
    for (resource, list) in table.iter_mut().enumerate() {
        list.sort_by_key(|parameter| parameter.code);
        for (place, parameter) in list.iter_mut().enumerate() {
            parameter.number = u16::try_from(resource * 256 + place).unwrap_or(u16::MAX);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_official_parameter_is_known_and_numbered_once() {
        assert_eq!(DEFINITIONS.lines().filter(|line| !line.starts_with('#')).count(), 1375);
        let mut numbers = HashSet::new();
        for kind in ResourceType::all() {
            assert!(of_type(kind).len() < 256);
            for parameter in of_type(kind) {
                assert!(numbers.insert(parameter.number), "{kind} {}", parameter.code);
                assert!(!parameter.indexed || !parameter.partial, "{kind} {}", parameter.code);
                assert!(!parameter.indexed || !parameter.paths.is_empty(), "{kind} {}", parameter.code);
            }
        }
        assert!(parameter(ResourceType::OBSERVATION, "combo-code").is_some_and(|p| p.paths.len() == 2));
        assert!(parameter(ResourceType::RISK_ASSESSMENT, "patient").is_some_and(|p| p.indexed));
    }

    #[test]
    fn how_much_of_all_expressions_can_be_said() {
        let (mut whole, mut part) = (0, Vec::new());
        for line in DEFINITIONS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            for base in columns[3].split(' ') {
                let compiled = path::compile(columns[5], base);
                if compiled.iter().all(Option::is_some) && !compiled.is_empty() {
                    whole += 1;
                } else {
                    part.push(format!("{base}.{}: {}", columns[1], columns[5]));
                }
            }
        }
        println!("{whole} expressions compile; not: {part:#?}");
        assert!(whole > 1500, "{whole}");
    }
}
