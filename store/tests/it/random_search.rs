//! Random queries on random resources: what SQL finds is what a walk over all resources finds,
//! page by page, nothing twice.

use std::collections::BTreeSet;

use fhir::json::Json;
use fhir::resource_type::ResourceType;
use fhir::search::{
    Clause, Handling, Index, Order, SearchQuery, SortKey, Test, index, links, order, parameter, references,
};
use store::Store;

use crate::place::*;

both!(queries_agree_with_a_walk_over_everything);

const QUERIES: usize = 10_000;
const SEED: u64 = 20_240_506;

/// A small generator of its own: the same resources and queries on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()]
    }
}

const FAMILIES: [&str; 7] =
    ["Müller", "Muster", "Mustermann", "O\u{2019}Brien", "Mu%", "de la Cruz", "Doe, Jr|x"];
const TAGS: [&str; 3] = ["red", "green", "blue"];
const ADDRESSES: [&str; 5] = [
    "http://example.org/vs/a",
    "http://example.org/vs/a/b",
    "http://example.org/vs/ab",
    "http://example.org/vs",
    "urn:oid:1.2.3",
];
const NAMES: [&str; 7] =
    ["Patient", "Encounter", "MolecularSequence", "ValueSet", "Observation", "Observation", "Observation"];
const CODES: [&str; 5] = ["8480-6", "8462-4", "2160-0", "29463-7", "8867-4"];
const SYSTEMS: [&str; 3] = ["http://loinc.org", "http://local", ""];
const DATES: [&str; 8] = [
    "2024",
    "2024-02",
    "2024-02-29",
    "2024-02-29T10:00:00Z",
    "2024-03-01T00:30:00+02:00",
    "2023-12-31",
    "2025-01",
    "2022",
];
const UNITS: [(&str, &str); 4] = [("mg", "mg"), ("g", "g"), ("kg", "kg"), ("mm[Hg]", "mmHg")];
const NUMBERS: [&str; 8] = ["1", "5.4", "5.40", "5400", "0.0054", "120", "119.6", "-3"];

fn coding(dice: &mut Dice) -> String {
    let (system, code) = (dice.of(&SYSTEMS), dice.of(&CODES));
    let system = if system.is_empty() { String::new() } else { format!(r#""system":"{system}","#) };
    format!(r#"{{"coding":[{{{system}"code":"{code}","display":"Display {code}"}}]}}"#)
}

fn quantity(dice: &mut Dice) -> String {
    let (code, label) = UNITS[usize::try_from(dice.roll(4)).unwrap()];
    let number = dice.of(&NUMBERS);
    match dice.roll(4) {
        0 => format!(r#"{{"value":{number}}}"#),
        _ => format!(
            r#"{{"value":{number},"unit":"{label}","code":"{code}","system":"http://unitsofmeasure.org"}}"#
        ),
    }
}

fn meta(dice: &mut Dice) -> String {
    let (tag, label) = (dice.of(&TAGS), dice.of(&TAGS));
    let profile = dice.of(&ADDRESSES);
    match dice.roll(3) {
        0 => String::new(),
        1 => format!(
            r#""meta":{{"tag":[{{"system":"http://tags","code":"{tag}"}}],"profile":["{profile}"]}},"#
        ),
        _ => format!(r#""meta":{{"source":"{profile}","security":[{{"code":"{label}"}}]}},"#),
    }
}

fn resource(dice: &mut Dice, kind: &str) -> String {
    let meta = meta(dice);
    content(dice, kind).replacen('{', &format!("{{{meta}"), 1)
}

fn content(dice: &mut Dice, kind: &str) -> String {
    let patient = dice.roll(30);
    let date = dice.of(&DATES);
    match kind {
        "Patient" => {
            let family = dice.of(&FAMILIES);
            let birth =
                ["1950-01-01", "1961-04-05", "1961-04", "1990"][usize::try_from(dice.roll(4)).unwrap()];
            let deceased = ["", r#","deceasedBoolean":false"#, r#","deceasedDateTime":"2024-02-29""#]
                [usize::try_from(dice.roll(3)).unwrap()];
            let doctor = match dice.roll(2) {
                0 => String::new(),
                _ => format!(r#","generalPractitioner":[{{"reference":"Practitioner/{}"}}]"#, dice.roll(4)),
            };
            let identifier = match dice.roll(2) {
                0 => String::new(),
                _ => format!(
                    r#","identifier":[{{"system":"urn:mrn","value":"{}","type":{}}}]"#,
                    dice.roll(9),
                    coding(dice)
                ),
            };
            format!(
                r#"{{"resourceType":"Patient"{identifier},"name":[{{"family":"{family}","given":["Ann","Bo"]}}],"birthDate":"{birth}"{deceased}{doctor}}}"#
            )
        }
        "Practitioner" => {
            format!(r#"{{"resourceType":"Practitioner","name":[{{"family":"{}"}}]}}"#, dice.of(&FAMILIES))
        }
        "MolecularSequence" => {
            let (one, two) = (coding(dice), coding(dice));
            let [a, b, c, d] = [0; 4].map(|_| dice.roll(20));
            format!(
                r#"{{"resourceType":"MolecularSequence","coordinateSystem":0,"referenceSeq":{{"chromosome":{one},"referenceSeqId":{two},"windowStart":{a},"windowEnd":{b}}},"variant":[{{"start":{c},"end":{d}}},{{"start":{b},"end":{a}}}]}}"#
            )
        }
        "ValueSet" => {
            let (url, name) = (dice.of(&ADDRESSES), dice.of(&FAMILIES));
            let version = dice.roll(3);
            format!(
                r#"{{"resourceType":"ValueSet","status":"active","url":"{url}","version":"{version}","title":"{name}","date":"{date}"}}"#
            )
        }
        "List" => {
            let item = |n: u64| format!(r#"{{"item":{{"reference":"Observation/{n}"}}}}"#);
            let items: Vec<String> = (0..9).map(|_| item(dice.roll(300))).collect();
            format!(
                r#"{{"resourceType":"List","status":"current","mode":"working","entry":[{}]}}"#,
                items.join(",")
            )
        }
        "Encounter" => {
            let end = if dice.roll(2) == 0 { "" } else { r#","end":"2025-12-01""# };
            let status = dice.of(&["finished", "planned"]);
            format!(
                r#"{{"resourceType":"Encounter","status":"{status}","class":{{"code":"AMB"}},"subject":{{"reference":"Patient/{patient}"}},"period":{{"start":"{date}"{end}}}}}"#
            )
        }
        _ => {
            let encounter = match dice.roll(3) {
                0 => format!(r#","encounter":{{"reference":"Encounter/{}"}}"#, dice.roll(20)),
                _ => String::new(),
            };
            let value = match dice.roll(3) {
                0 => String::new(),
                1 => format!(r#","valueCodeableConcept":{}"#, coding(dice)),
                _ => format!(r#","valueQuantity":{}"#, quantity(dice)),
            };
            let (one, two) = (coding(dice), quantity(dice));
            let component = match dice.roll(3) {
                0 => format!(r#","component":[{{"code":{one},"valueQuantity":{two}}}]"#),
                _ => String::new(),
            };
            let status = dice.of(&["final", "amended", "preliminary"]);
            let code = coding(dice);
            let subject = match dice.roll(12) {
                0 => r#"{"identifier":{"system":"urn:mrn","value":"7"}}"#.to_owned(),
                1 => r#"{"reference":"Group/1"}"#.to_owned(),
                _ => format!(r#"{{"reference":"Patient/{patient}"}}"#),
            };
            format!(
                r#"{{"resourceType":"Observation","status":"{status}","code":{code},"subject":{subject},"effectiveDateTime":"{date}"{encounter}{value}{component}}}"#
            )
        }
    }
}

fn prefixed(dice: &mut Dice, value: &str) -> String {
    format!("{}{value}", dice.of(&["", "", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap"]))
}

fn token(dice: &mut Dice) -> String {
    let (system, code) = (dice.of(&SYSTEMS), dice.of(&CODES));
    match dice.roll(5) {
        0 => format!("{system}|{code}"),
        1 => format!("|{code}"),
        2 if !system.is_empty() => format!("{system}|"),
        3 => format!("{code},{}", dice.of(&CODES)),
        _ => code.to_owned(),
    }
}

fn amount(dice: &mut Dice) -> String {
    let (code, label) = UNITS[usize::try_from(dice.roll(4)).unwrap()];
    let number = dice.of(&NUMBERS).to_owned();
    let number = prefixed(dice, &number);
    match dice.roll(3) {
        0 => number,
        1 => format!("{number}||{label}"),
        _ => format!("{number}|http://unitsofmeasure.org|{code}"),
    }
}

/// A condition on any type.
fn common(dice: &mut Dice) -> String {
    let missing = dice.of(&["true", "false"]);
    match dice.roll(9) {
        0 => format!("_tag={}{}", dice.of(&["", "http://tags|", "|"]), dice.of(&TAGS)),
        1 => format!("_tag:not={}", dice.of(&TAGS)),
        2 => format!("_profile={}", dice.of(&ADDRESSES)),
        3 => format!("_security={}", dice.of(&TAGS)),
        4 => format!("_source={}", dice.of(&ADDRESSES)),
        5 => format!("_profile:missing={missing}"),
        6 => format!("_id:not={},{}", dice.roll(30), dice.roll(30)),
        7 => format!("_list={}", dice.roll(4)),
        _ => format!("_lastUpdated={}", prefixed(dice, "2024-05-06T07:09")),
    }
}

/// A condition on a type, as `name=value`.
fn condition(dice: &mut Dice, kind: &str) -> String {
    if dice.roll(8) == 0 {
        return common(dice);
    }
    let date = dice.of(&DATES).to_owned();
    let dated = prefixed(dice, &date);
    let missing = dice.of(&["true", "false"]);
    let patient = dice.roll(32);
    match kind {
        "Patient" => match dice.roll(15) {
            0 => format!("family={}", dice.of(&["mu", "müller", "o", "xx", "MUSTER,de", "doe\\, j"])),
            1 => format!("name:contains={}", dice.of(&["st", "%", "ann", "brien", "e\\, jr\\|"])),
            2 => format!("family:exact={}", dice.of(&["Müller", "müller", "Mu%", "Doe\\, Jr|x"])),
            3 => format!("birthdate={}", prefixed(dice, "1961-04-05")),
            4 => format!("deceased={missing}"),
            5 => format!("general-practitioner.name={}", dice.of(&["mu", "de"])),
            6 => format!("_has:Observation:patient:code={}", token(dice)),
            7 => format!("_has:Encounter:subject:date={dated}"),
            8 => format!("general-practitioner:missing={missing}"),
            9 => format!("_has:Encounter:patient:_has:Observation:encounter:code={}", token(dice)),
            10 => format!("identifier:of-type={}|{}|{}", dice.of(&SYSTEMS), dice.of(&CODES), dice.roll(9)),
            11 => format!("identifier=urn:mrn|{},{}", dice.roll(9), dice.roll(9)),
            12 => format!("name:missing={missing}"),
            13 => format!("_has:Observation:subject:encounter.status={}", dice.of(&["finished", "planned"])),
            _ => format!("_id={patient},{}", dice.roll(30)),
        },
        "MolecularSequence" => {
            let [from, to] = [0; 2].map(|_| {
                let number = dice.roll(20).to_string();
                prefixed(dice, &number)
            });
            match dice.roll(7) {
                0 => format!("window-start={from}"),
                1 => format!("variant-end={from},{to}"),
                2 => format!("chromosome-window-coordinate={}${from}${to}", dice.of(&CODES)),
                3 => {
                    format!("chromosome-variant-coordinate=http://loinc.org|{}${from}${to}", dice.of(&CODES))
                }
                4 => format!("referenceseqid-window-coordinate=|{}${from}${to}", dice.of(&CODES)),
                5 => format!("referenceseqid-variant-coordinate={}${from}${to}", dice.of(&CODES)),
                _ => format!("window-end:missing={missing}"),
            }
        }
        "ValueSet" => match dice.roll(7) {
            0 => format!("url={},{}", dice.of(&ADDRESSES), dice.of(&ADDRESSES)),
            1 => format!("url:below={}", dice.of(&ADDRESSES)),
            2 => format!("url:above={}", dice.of(&ADDRESSES)),
            3 => format!("version={},{}", dice.roll(3), dice.roll(4)),
            4 => format!("title:contains={}", dice.of(&["st", "%", "e\\, j"])),
            5 => format!("url:missing={missing}"),
            _ => format!("date={dated}"),
        },
        "Encounter" => match dice.roll(5) {
            0 => format!("date={dated}"),
            1 => format!("patient={patient}"),
            2 => format!("status:not={}", dice.of(&["finished", "planned"])),
            3 => format!("subject:Patient.family={}", dice.of(&["mu", "de"])),
            _ => format!("_has:Observation:encounter:status={}", dice.of(&["final", "amended"])),
        },
        _ => match dice.roll(23) {
            0 => format!("patient={patient}"),
            1 => format!("subject=Patient/{patient}"),
            2 => format!("code={}", token(dice)),
            3 => format!("code:not={}", token(dice)),
            4 => format!("date={dated}"),
            5 => format!("value-quantity={}", amount(dice)),
            6 => format!("combo-value-quantity={}", amount(dice)),
            7 => format!("component-code-value-quantity={}${}", dice.of(&CODES), amount(dice)),
            8 => format!("combo-code-value-quantity=http://loinc.org|{}${}", dice.of(&CODES), amount(dice)),
            9 => format!("code-value-concept={}${}", dice.of(&CODES), dice.of(&CODES)),
            10 => format!("patient.family={}", dice.of(&["mu", "de", "xx"])),
            11 => format!("encounter.status={}", dice.of(&["finished", "planned"])),
            12 => format!("encounter.patient.birthdate={}", prefixed(dice, "1961")),
            13 => format!("encounter:missing={missing}"),
            14 => format!("value-quantity:missing={missing}"),
            15 => "subject:identifier=urn:mrn|7".to_owned(),
            16 => format!("code:text=display {}", dice.of(&["8", "2160", "x"])),
            17 => format!("subject:Patient={patient}"),
            18 => format!("subject:Group={}", dice.roll(3)),
            19 => format!("subject:Patient.identifier=urn:mrn|{}", dice.roll(9)),
            20 => format!("component-code-value-concept={}${}", dice.of(&CODES), dice.of(&CODES)),
            21 => format!("patient._has:Encounter:patient:status={}", dice.of(&["finished", "planned"])),
            _ => format!("status={}", dice.of(&["final", "amended,preliminary"])),
        },
    }
}

struct Known {
    kind: ResourceType,
    id: String,
    updated: i64,
    body: Json<'static>,
    index: Index,
    points: Vec<(i64, ResourceType, String)>,
}

fn holds(all: &[Known], clause: &Clause, of: &Known) -> bool {
    let meets = |clauses: &[Clause], of: &Known| clauses.iter().all(|clause| holds(all, clause, of));
    let holds = match &clause.test {
        Test::Chain(targets) => {
            of.points.iter().filter(|point| clause.params.contains(&point.0)).any(|point| {
                targets.iter().any(|(kind, clauses)| {
                    all.iter().any(|to| {
                        to.kind == *kind && (to.kind, &to.id) == (point.1, &point.2) && meets(clauses, to)
                    })
                })
            })
        }
        Test::Has(kind, clauses) => all.iter().filter(|from| from.kind == *kind).any(|from| {
            let here = |point: &(i64, ResourceType, String)| {
                clause.params.contains(&point.0) && (point.1, &point.2) == (of.kind, &of.id)
            };
            from.points.iter().any(here) && meets(clauses, from)
        }),
        _ => return clause.matches(&of.index, &of.id, of.updated),
    };
    holds != clause.negated
}

/// Are the two in the order that the query asks for? What has no value comes last, or where the
/// index orders, wherever it is put.
fn follow(asked: &SearchQuery, one: &Known, next: &Known) -> bool {
    for sort in &asked.sort {
        let of = |known: &Known| match &sort.key {
            SortKey::Date => {
                order(parameter(known.kind, "date").unwrap(), &known.body, false).or(Some(Order::Number(0)))
            }
            SortKey::Updated => Some(Order::Number(known.updated)),
            SortKey::Id => Some(Order::Text(known.id.clone())),
            SortKey::Of(code) => order(parameter(known.kind, code).unwrap(), &known.body, sort.descending),
        };
        match (of(one), of(next)) {
            (None, None) => {}
            (one, None) => return one.is_some(),
            (None, Some(_)) => return false,
            (Some(one), Some(next)) if one == next => {}
            (Some(one), Some(next)) => return (one < next) != sort.descending,
        }
    }
    true
}

async fn known(store: &Store, dice: &mut Dice) -> Vec<Known> {
    let mut brought = Vec::new();
    for (name, count) in [
        ("Practitioner", 4),
        ("Patient", 30),
        ("Encounter", 40),
        ("MolecularSequence", 40),
        ("ValueSet", 20),
        ("List", 4),
        ("Observation", 300),
    ] {
        let kind = ResourceType::parse(name).unwrap();
        for id in 0..count {
            let text = resource(dice, name);
            brought.push(update(kind, &id.to_string(), json(&text), None));
        }
    }
    let mut all = Vec::new();
    for (n, writes_of) in brought.chunks(50).enumerate() {
        let when = at(20 * i64::try_from(n).unwrap());
        for written in store.commit(&when, writes(writes_of.to_vec())).await.unwrap() {
            let stored = written.stored;
            let body = json(&stored.body);
            let mut points = Vec::new();
            for link in links(stored.kind) {
                references(link, &body, &mut |kind, id| {
                    points.extend(link.params.iter().map(|param| (*param, kind, id.to_owned())));
                });
            }
            let (kind, updated) = (stored.kind, stored.updated);
            all.push(Known { kind, updated, index: index(kind, &body), id: stored.id, body, points });
        }
    }
    all
}

/// A query of one type, or of several.
fn random(dice: &mut Dice) -> (String, SearchQuery) {
    if dice.roll(20) == 0 {
        let kinds = ["Patient", "Encounter", "Observation"].map(|name| ResourceType::parse(name).unwrap());
        let sort = dice.of(&["", "_sort=_id&", "_sort=-_lastUpdated&"]);
        let text = format!("{sort}_count={}&{}&{}", 1 + dice.roll(60), common(dice), common(dice));
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (query, _) = SearchQuery::parse(&kinds, &pairs, "", 0, Handling::Strict).unwrap();
        return (text, query);
    }
    let name = dice.of(&NAMES);
    let mut text = format!("{name}?_count={}", 1 + dice.roll(60));
    for _ in 0..=dice.roll(3) {
        text.push('&');
        text.push_str(&condition(dice, name));
    }
    text.push_str(match (dice.roll(6), name) {
        (0, _) => "&_sort=_id",
        (1, _) => "&_sort=-_lastUpdated",
        (2, "Observation" | "ValueSet") => "&_sort=-date",
        (3, "Observation") => "&_sort=status,-value-quantity",
        (3, "ValueSet") => "&_sort=-url,title",
        (3, "MolecularSequence") => "&_sort=window-start,-chromosome",
        (4, "Observation") => "&_sort=-subject,date",
        (4, "Patient") => "&_sort=family,-birthdate",
        (4, "Encounter") => "&_sort=date",
        _ => "",
    });
    let asked = query(&text);
    (text, asked)
}

async fn queries_agree_with_a_walk_over_everything(store: Store, _: String) {
    let mut dice = Dice(SEED);
    let all = known(&store, &mut dice).await;
    let mut found_some = 0;
    for _ in 0..QUERIES {
        let (text, mut asked) = random(&mut dice);
        let expected: BTreeSet<(ResourceType, &str)> = all
            .iter()
            .filter(|one| asked.kinds.contains(&one.kind))
            .filter(|one| asked.clauses.iter().all(|clause| holds(&all, clause, one)))
            .map(|one| (one.kind, one.id.as_str()))
            .collect();
        let mut found: Vec<&Known> = Vec::new();
        loop {
            let page =
                store.search(&now(), &asked).await.map_err(|error| format!("{text}: {error}")).unwrap();
            for stored in page.entries {
                found.extend(all.iter().find(|one| (one.kind, &one.id) == (stored.kind, &stored.id)));
            }
            match page.next {
                Some(next) => asked.after = Some(next),
                None => break,
            }
        }
        let seen: BTreeSet<(ResourceType, &str)> =
            found.iter().map(|one| (one.kind, one.id.as_str())).collect();
        assert_eq!(seen.len(), found.len(), "{text}: some twice");
        assert_eq!(seen, expected, "{text}");
        for pair in found.windows(2) {
            assert!(follow(&asked, pair[0], pair[1]), "{text}: {} before {}", pair[0].id, pair[1].id);
        }
        found_some += usize::from(!expected.is_empty());
    }
    assert!(found_some > QUERIES / 4, "{found_some} of {QUERIES} queries found something");
}
