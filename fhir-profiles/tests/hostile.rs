//! What is made to cost: answers come in bounded time and on a small stack.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use fhir::conformance::{Strict, claimed, findings};
use fhir::fhirpath::{Environment, Error, Expression, Item, Node};
use fhir::json::{Json, Limits, parse};
use fhir::profile::Profiles;
use fhir::validate::validate;
use fhir::xml;

/// Half of what a thread of the server has.
const STACK: usize = 1 << 20;
/// The longest expression that is read.
const LONGEST: usize = 16 << 10;

const OPERATORS: [&str; 24] = [
    "*1",
    "/1",
    " div 1",
    " mod 1",
    "+1",
    "-1",
    "&1",
    " is A",
    " as A",
    "|1",
    "<1",
    "<=1",
    ">1",
    ">=1",
    "=1",
    "!=1",
    "~1",
    "!~1",
    " in 1",
    " contains 1",
    " and 1",
    " or 1",
    " xor 1",
    " implies 1",
];

#[expect(clippy::unwrap_used, reason = "a test that cannot begin says so")]
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

/// Reads, evaluates and drops it; says whether it was too deep.
fn is_too_deep(text: &str) -> bool {
    let resource = Json::Object(fhir::json::Object::default());
    match Expression::parse(text) {
        Ok(expression) => {
            let _ =
                expression.evaluate(&Item::Element(Node::resource(&resource)), &Environment::of(&resource));
            false
        }
        Err(error) => error == Error::TooCostly,
    }
}

fn repeated(part: &str, length: usize) -> String {
    part.repeat(length / part.len())
}

#[test]
fn an_expression_never_takes_the_whole_stack() {
    on_a_small_stack(|| {
        for before in &OPERATORS {
            for after in &OPERATORS {
                for part in [format!("{before}{after}"), format!("{before}{after}{before} is A")] {
                    let _ = is_too_deep(&format!("1{}", repeated(&part, LONGEST / 4)));
                }
            }
        }
        for part in [" is A*1+1", " as A*1"] {
            assert!(is_too_deep(&format!("1{}", repeated(part, LONGEST - 8))), "{part}");
        }
        for (open, leaf, close) in [
            ("(", "1", ")"),
            ("(-", "1", ")"),
            ("a[", "1", "]"),
            ("(1)[", "1", "]"),
            ("iif(true,", "1", ")"),
            ("select(", "1", ")"),
            ("1.select(1).where(", "1", ")"),
            ("1.aggregate(", "1", ")"),
            ("1.combine(1|", "1", ")"),
            ("'a'.replace('a',", "'b'", ")"),
            ("1.power(", "1", ")"),
            ("1.sort(", "1", ")"),
            ("(1 is A*1+", "1", ")"),
            ("1=1+1*(", "1", ")"),
        ] {
            for count in [8, 12, 16, 24, 40, 44, 46, 47, 48, 600] {
                let text = format!("{}{leaf}{}", open.repeat(count), close.repeat(count));
                assert!(is_too_deep(&text) || count < 48, "{open} {count}");
                let text =
                    format!("{}{leaf}{}{}", open.repeat(count), " is A*1+1".repeat(9), close.repeat(count));
                let _ = is_too_deep(&text);
            }
        }
        for text in ["-", "+-", "(1).", "1[0]", ".a", "a.b[0]", "is A.", "first().", "1.abs()."] {
            let _ = is_too_deep(&format!("a{}", repeated(text, LONGEST - 8)));
            let _ = is_too_deep(&format!("{}1", repeated(text, LONGEST - 8)));
        }
    });
}

#[test]
fn left_sides_of_many_precedences_are_read() {
    let text = "1 * 1 + 1 is Integer = true in true and true or false implies true";
    assert!(Expression::parse(text).is_ok());
    let groups = vec!["(a = 1 and b = 2 or c.exists(d + 1 > 2 and e is Quantity))"; 200].join(" or ");
    assert!(Expression::parse(&groups).is_ok());
}

#[test]
fn what_has_no_order_is_not_sorted() {
    let sorted = |dates: &[String]| {
        let resource = Json::Object(fhir::json::Object::default());
        let expression = Expression::parse(&format!("({}).sort()", dates.join(" | ")))?;
        let items =
            expression.evaluate(&Item::Element(Node::resource(&resource)), &Environment::of(&resource));
        items.map(|items| {
            items.iter().filter_map(|item| item.display().map(Cow::into_owned)).collect::<Vec<_>>()
        })
    };
    let days: Vec<String> = (1..29).rev().map(|day| format!("@2024-02-{day:02}")).collect();
    let first = sorted(&days).unwrap_or_default();
    assert_eq!((first.len(), first.first().map(String::as_str)), (28, Some("2024-02-01")));
    // Years, months and days in many orders: whether one is before the other can't always be told.
    for seed in 0..50_u64 {
        let mut random = seed;
        let dates: Vec<String> = (0..64)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (year, month, day) =
                    (2020 + (random >> 60) % 2, 1 + (random >> 40) % 12, 1 + (random >> 20) % 28);
                match (random >> 50) % 3 {
                    0 => format!("@{year}"),
                    1 => format!("@{year}-{month:02}"),
                    _ => format!("@{year}-{month:02}-{day:02}"),
                }
            })
            .collect();
        assert!(matches!(sorted(&dates), Err(Error::Type(_))), "{dates:?}");
    }
    assert!(matches!(sorted(&["1".to_owned(), "'a'".to_owned()]), Err(Error::Type(_))));
}

#[expect(clippy::expect_used, reason = "a test that cannot read its own input says which")]
fn json(text: &str) -> Json<'_> {
    parse(text.as_bytes(), &Limits::default()).expect(text)
}

/// Far more than it takes, far less than a square would.
fn soon(what: impl FnOnce()) {
    let begun = Instant::now();
    what();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn an_evaluation_pays_for_all_it_looks_at() {
    let items = "{},".repeat(20_000);
    let extensions = r#"{"url":"http://y"},"#.repeat(20_000);
    let (items, extensions) = (items.trim_end_matches(','), extensions.trim_end_matches(','));
    let title = "a".repeat(4 << 20);
    let text = format!(
        r#"{{"resourceType":"Questionnaire","title":"{title}","extension":[{extensions}],"item":[{items}]}}"#
    );
    let resource = json(&text);
    for text in [
        "item.select('a'.indexOf(%resource.title))",
        "item.select('a'.split(%resource.title))",
        "item.select('b'.replace(%resource.title, 'c'))",
        "item.select(%resource.title.convertsToQuantity())",
        "item.select(%resource.extension('http://x'))",
    ] {
        soon(|| {
            let expression = Expression::parse(text);
            let items = expression.and_then(|expression| {
                let focus = Item::Element(Node::resource(&resource));
                expression.evaluate(&focus, &Environment::of(&resource)).map(|items| items.len())
            });
            assert_eq!(items, Err(Error::TooCostly), "{text}");
        });
    }
}

#[test]
fn many_references_to_many_contained_resources_are_followed() {
    let contained: Vec<_> =
        (0..50_000).map(|n| format!(r#"{{"resourceType":"Practitioner","id":"{n}"}}"#)).collect();
    let references = vec![r##"{"reference":"#49999"}"##; 100_000];
    let text = format!(
        r#"{{"resourceType":"Observation","meta":{{"profile":["http://hl7.org/fhir/StructureDefinition/vitalsigns"]}},
        "contained":[{}],"hasMember":[{}]}}"#,
        contained.join(","),
        references.join(",")
    );
    let resource = json(&text);
    soon(|| assert!(claimed(&resource, Profiles::built_in(), false).has_error()));
}

#[test]
fn many_faults_of_a_long_document_have_their_places() {
    let comment = format!("<!--{}-->", "x".repeat(8 << 20));
    let faults = "<nothing/>".repeat(100);
    let text = format!("<Patient xmlns=\"http://hl7.org/fhir\">{comment}{faults}</Patient>");
    soon(|| {
        let issues = xml::read(text.as_bytes(), &Limits::default()).map(drop).unwrap_err();
        assert_eq!(issues.0.len(), 100);
        let last = issues.0.last().map(|issue| issue.details.as_ref());
        let column = text.len() - "<nothing/></Patient>".len() + 1;
        assert_eq!(last, Some(format!("unknown element at line 1 column {column}").as_str()));
    });
}

#[test]
fn many_keys_of_extensions_alone_are_passed_once() {
    let keys: Vec<_> = (0..200_000).map(|n| format!(r#""_k{n}":{{"id":"x"}}"#)).collect();
    let text = format!(r#"{{"resourceType":"Observation","status":"final",{}}}"#, keys.join(","));
    let resource = json(&text);
    soon(|| assert!(findings(&resource, Profiles::built_in(), &[], Strict::ALL).has_error()));
    soon(|| assert!(validate(&resource).has_error()));
    soon(|| {
        let expression = Expression::parse("children().count()");
        let focus = Item::Element(Node::resource(&resource));
        let items = expression.and_then(|expression| {
            let items = expression.evaluate(&focus, &Environment::of(&resource));
            items.map(|items| items.first().and_then(Item::display).map(Cow::into_owned))
        });
        assert_eq!(items, Ok(Some("200001".to_owned())));
    });
}

#[test]
fn many_bases_of_a_search_parameter_are_passed_once() {
    let bases = vec![r#""Account""#; 1_500_000].join(",");
    let expression = vec!["Patient.a"; 1600].join("|");
    let text = format!(
        r#"{{"resourceType":"SearchParameter","url":"http://x","name":"x","status":"draft","description":"x","code":"x","type":"token",
        "base":[{bases},"Patient"],"expression":"{expression}"}}"#
    );
    let resource = json(&text);
    soon(|| assert!(!validate(&resource).0.is_empty()));
}

/// Arithmetic is checked, in the program that is shipped too: it would panic.
#[test]
fn numbers_at_their_ends_are_no_panic() {
    let resource = Json::Object(fhir::json::Object::default());
    let numbers: Vec<_> = (1..=32).map(|n| n.to_string()).collect();
    let least = format!("({}).aggregate($total.combine($total).sum(), -2147483647 - 1)", numbers.join(" | "));
    for text in [
        format!("({least}).abs()"),
        format!("-({least})"),
        "@2024-01-01 + (-9223372036854775808 'd')".to_owned(),
        "@T10:00 - (-9223372036854775808 's')".to_owned(),
        "(2147483647).combine(1).sum()".to_owned(),
    ] {
        let expression = Expression::parse(&text);
        let items = expression.and_then(|expression| {
            let focus = Item::Element(Node::resource(&resource));
            expression.evaluate(&focus, &Environment::of(&resource)).map(|items| items.len())
        });
        assert_eq!(items, Ok(0), "{text}");
    }
}
