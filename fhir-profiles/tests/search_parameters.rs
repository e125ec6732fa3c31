//! `docs/search-parameters.md` says what is kept of the official search parameters, and is true.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use fhir::resource_type::ResourceType;
use fhir::search::{Kind, Parameter, links, of_type};

const DEFINITIONS: &str = include_str!("../definitions/search-parameters.tsv");

/// Why a parameter has no index of its own.
fn reason(one: &Parameter) -> &'static str {
    match one.code {
        "_id" | "_lastUpdated" => "searched: a column of the resource itself",
        "_text" | "_content" => "refused: there is no search in full text",
        "_query" => "refused: there are no named queries",
        "near" => "refused: distances between places are not searched",
        _ => "NO REASON",
    }
}

fn shared(one: &Parameter) -> bool {
    one.code.starts_with('_')
}

fn table() -> String {
    let own = || ResourceType::all().flat_map(|kind| of_type(kind).iter().filter(|one| !shared(one)));
    let common: Vec<&Parameter> = of_type(ResourceType::PATIENT).iter().filter(|one| shared(one)).collect();
    let official = DEFINITIONS.lines().filter(|line| !line.starts_with('#')).count();
    let mut text = String::from(
        "# What of the official search parameters can be searched by\n\n\
         Made by `AUGURY_WRITE=1 cargo test -p fhir --test search_parameters`; without the variable the test compares.\n\
         The expressions are in `fhir-profiles/definitions/search-parameters.tsv`.\n\n",
    );
    let compiled = own().chain(common.iter().copied()).filter(|one| !one.partial).count();
    let all = own().count() + common.len();
    writeln!(
        text,
        "FHIR R4 defines {official} parameters; several of them belong to more than one type, so that there are \
         {all} of a type or of all types.\nThe expressions of {compiled} are understood; {} are indexed, the others \
         are these:\n",
        own().chain(common.iter().copied()).filter(|one| one.indexed).count()
    )
    .unwrap();
    text.push_str("| parameter | type | expression | |\n|---|---|---|---|\n");
    let mut line = |of: &str, one: &Parameter| {
        let (code, kind, why) = (one.code, format!("{:?}", one.kind).to_lowercase(), reason(one));
        writeln!(text, "| {of}{code} | {kind} | `{}` | {why} |", one.expression.replace('|', "\\|")).unwrap();
    };
    common.iter().filter(|one| !one.indexed).for_each(|one| line("", one));
    for kind in ResourceType::all() {
        of_type(kind)
            .iter()
            .filter(|one| !shared(one) && !one.indexed)
            .for_each(|one| line(&format!("{kind}."), one));
    }
    text.push_str("\nBy type of value:\n\n| type | parameters | understood | indexed |\n|---|---|---|---|\n");
    let mut kinds: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for one in own().chain(common.iter().copied()) {
        let counts = kinds.entry(format!("{:?}", one.kind).to_lowercase()).or_default();
        counts[0] += 1;
        counts[1] += usize::from(!one.partial);
        counts[2] += usize::from(one.indexed);
    }
    for (kind, [all, understood, indexed]) in kinds {
        writeln!(text, "| {kind} | {all} | {understood} | {indexed} |").unwrap();
    }
    let named: Vec<&str> = common.iter().filter(|one| one.indexed).map(|one| one.code).collect();
    writeln!(text, "\nOf all types: `_id`, `_lastUpdated`, `_list`, `{}`.", named.join("`, `")).unwrap();
    text.push_str(
        "\nBy resource type, those that are indexed:\n\n| resource | parameters | |\n|---|---|---|\n",
    );
    for kind in ResourceType::all() {
        let indexed: Vec<&str> =
            of_type(kind).iter().filter(|one| !shared(one) && one.indexed).map(|one| one.code).collect();
        writeln!(text, "| {kind} | {} | {} |", indexed.len(), indexed.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_table_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/search-parameters.md");
    let table = table();
    assert!(!table.contains("NO REASON"), "{table}");
    if std::env::var_os("AUGURY_WRITE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table);
}

#[test]
fn what_lies_inside_is_not_followed() {
    for kind in ResourceType::all() {
        assert!(links(kind).all(|one| !one.inline && one.kind == Kind::Reference));
    }
}
