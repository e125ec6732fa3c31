//! FHIRPath by hand-made cases: what an expression leads to, written as the language writes it.

use fhir::fhirpath::{Environment, Error, Expression, Item, Node};
use fhir::json::{Json, Limits, parse};

const PATIENT: &str = r##"{"resourceType":"Patient","id":"p","active":true,
"contained":[{"resourceType":"Organization","id":"o","name":"Ward"},{"resourceType":"Practitioner","id":"d"}],
"name":[{"use":"official","family":"Ng","given":["Ada","Bea"]},{"given":[null,"Cy"],
"_given":[{"extension":[{"url":"http://x/short","valueString":"D"}]}]}],
"gender":"female","birthDate":"1974-12-25","_birthDate":{"extension":[{"url":"http://x/time","valueDateTime":"1974-12-25T14:35:45-05:00"}]},
"multipleBirthInteger":2,"managingOrganization":{"reference":"#o"},
"generalPractitioner":[{"reference":"#d"},{"reference":"Practitioner/else"}],
"contact":[{"period":{"start":"2020","end":"2021-05"}}]}"##;

const OBSERVATION: &str = r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1-8"}]},
"valueQuantity":{"value":1.50,"unit":"gram","system":"http://unitsofmeasure.org","code":"g"},
"component":[{"code":{"text":"a"},"valueInteger":1},{"code":{"text":"b"},"valueString":"two"}],
"referenceRange":[{"low":{"value":1000,"system":"http://unitsofmeasure.org","code":"mg"}}]}"#;

fn shown(items: &[Item<'_>]) -> String {
    let texts: Vec<String> = items
        .iter()
        .map(|item| {
            item.display().map_or_else(|| item.type_of().1.into_owned(), std::borrow::Cow::into_owned)
        })
        .collect();
    texts.join(", ")
}

#[expect(clippy::expect_used, reason = "a test that cannot read its own input says which")]
fn json(text: &str) -> Json<'_> {
    parse(text.as_bytes(), &Limits::default()).expect(text)
}

fn evaluated(text: &str, resource: &str, strict: bool) -> Result<String, Error> {
    let resource = json(resource);
    let elsewhere = json(r#"{"resourceType":"Practitioner","id":"else","active":false}"#);
    let resolver = |reference: &str| (reference == "Practitioner/else").then_some(&elsewhere);
    let threshold = [("limit", Some(Item::Integer(3))), ("nothing", None)];
    let expression = Expression::parse(text)?;
    let environment = Environment {
        resolver: Some(&resolver),
        variables: &threshold,
        now: Some(1_700_000_000_123_456),
        strict,
        ..Environment::of(&resource)
    };
    let items = expression.evaluate(&Item::Element(Node::resource(&resource)), &environment)?;
    Ok(shown(&items))
}

fn check(resource: &str, cases: &[(&str, &str)]) {
    for (text, wanted) in cases {
        assert_eq!(evaluated(text, resource, false).as_deref(), Ok(*wanted), "{text}");
    }
}

#[test]
fn paths_lead_through_resources() {
    check(
        PATIENT,
        &[
            ("Patient.name.given", "Ada, Bea, string, Cy"),
            ("name[0].given[1]", "Bea"),
            ("Resource.id | DomainResource.id", "p"),
            ("Encounter.status", ""),
            ("name.given.extension('http://x/short').value", "D"),
            ("name.given.where(hasValue()).count()", "3"),
            ("birthDate.extension('http://x/time').value.toString()", "1974-12-25T14:35:45-05:00"),
            ("birthDate.getValue() is System.Date", "true"),
            ("multipleBirth", "2"),
            ("multipleBirth is integer", "true"),
            ("multipleBirthInteger", ""),
            ("managingOrganization.resolve().name", "Ward"),
            ("generalPractitioner.resolve().active", "false"),
            ("generalPractitioner.resolve().id", "d, else"),
            ("contained.ofType(Organization).name", "Ward"),
            ("contained.where($this is DomainResource).count()", "2"),
            ("descendants().ofType(HumanName).count()", "2"),
            ("children().count()", "13"),
            ("Patient.type().namespace & '.' & Patient.type().name", "FHIR.Patient"),
            ("gender is string", "true"),
            ("gender.ofType(string)", ""),
            ("gender as code", "female"),
            ("%resource.id & %context.id & %rootResource.id", "ppp"),
            ("%limit + 1", "4"),
            ("%`vs-x`", "http://hl7.org/fhir/ValueSet/x"),
            ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", "true"),
        ],
    );
    check(
        OBSERVATION,
        &[
            ("value.unit", "gram"),
            ("valueQuantity", ""),
            ("value is Quantity", "true"),
            ("component.value.ofType(string)", "two"),
            ("value > referenceRange.low", "true"),
            ("value = 1500 'mg'", "true"),
            ("value.toString()", "1.50 'g'"),
            ("code.coding.exists(system = %loinc and code = '1-8')", "true"),
        ],
    );
}

#[test]
fn collections_are_worked_on() {
    check(
        "{}",
        &[
            ("(1 | 2 | 2 | 3)", "1, 2, 3"),
            ("(1 | 2).combine(2)", "1, 2, 2"),
            ("(1 | 2 | 3).where($this > 1).select($this * 10)", "20, 30"),
            ("(5 | 6 | 7).select($index)", "0, 1, 2"),
            ("(1 | 2 | 3).aggregate($this + $total, 0)", "6"),
            ("(1 | 2 | 3).all($this > 0) and (1 | 2).exists($this = 2)", "true"),
            ("(3 | 1 | 2).sort()", "1, 2, 3"),
            ("('a' | 'c' | 'b').sort(-$this)", "c, b, a"),
            ("(1 | 2 | 3).skip(1).take(1).single()", "2"),
            ("(1 | 2 | 3).tail().last()", "3"),
            ("(1 | 2 | 3).intersect(2 | 4) | (1 | 2).exclude(2)", "2, 1"),
            ("(1 | 2).subsetOf(1 | 2 | 3) and (1 | 2 | 3).supersetOf(2)", "true"),
            ("1.repeat(iif($this < 5, $this + 1, {}))", "2, 3, 4, 5"),
            ("iif({}, 1, 2)", "2"),
            ("{}.not().empty() and {}.empty()", "true"),
            ("(true | false).anyTrue() and (true | false).allTrue().not()", "true"),
            ("1 in (1 | 2) and (1 | 2) contains 2", "true"),
            ("(1 | 2).isDistinct()", "true"),
            ("(1 | 2 | 3).sum() + (4 | 2).min() + (4 | 2).max()", "12"),
            ("(1 | 2).avg()", "1.5"),
        ],
    );
}

#[test]
fn logic_has_three_values() {
    for (one, two, and, or, xor, implies) in [
        ("true", "true", "true", "true", "false", "true"),
        ("true", "false", "false", "true", "true", "false"),
        ("true", "{}", "", "true", "", ""),
        ("false", "true", "false", "true", "true", "true"),
        ("false", "{}", "false", "", "", "true"),
        ("{}", "true", "", "true", "", "true"),
        ("{}", "false", "false", "", "", ""),
        ("{}", "{}", "", "", "", ""),
    ] {
        for (operator, wanted) in [("and", and), ("or", or), ("xor", xor), ("implies", implies)] {
            let text = format!("{one} {operator} {two}");
            assert_eq!(evaluated(&text, "{}", false).as_deref(), Ok(wanted), "{text}");
        }
    }
    // What does not matter is not evaluated.
    check("{}", &[("true or (1 | 2).single()", "true"), ("false implies 'a'.toInteger().single()", "true")]);
}

#[test]
fn numbers_are_exact() {
    check(
        "{}",
        &[
            ("0.1 + 0.2 = 0.3", "true"),
            ("1.10 = 1.1 and 1.10.toString() = '1.10'", "true"),
            ("1.2 / 1.8 ~ 0.67", "true"),
            ("7 div 2 + 7 mod 2", "4"),
            ("1 / 0", ""),
            ("2147483647 + 1", ""),
            ("1 + 2 * 3 - 4 / 2", "5"),
            ("-(3).abs() = -3", "true"),
            ("2.power(10)", "1024"),
            ("81.sqrt() = 9", "true"),
            ("(-1).sqrt()", ""),
            ("3.14159.round(2)", "3.14"),
            ("(-1.5).ceiling() + (-1.5).floor() + (-1.5).truncate()", "-4"),
            ("1.587.lowBoundary(2) | 1.587.highBoundary(2)", "1.58, 1.59"),
            ("'12'.toInteger() + '1.5'.toDecimal()", "13.5"),
            ("'x'.convertsToInteger()", "false"),
        ],
    );
}

#[test]
fn quantities_are_converted() {
    check(
        "{}",
        &[
            ("4 'g' = 4000 'mg'", "true"),
            ("1 'g' > 1 'mL'", ""),
            ("1 'kg' + 500 'g' = 1.5 'kg'", "true"),
            ("2.0 'cm' * 2.0 'm' = 0.040 'm2'", "true"),
            ("7 days = 1 week and 12 months = 1 year", "true"),
            ("1 year = 1 'a'", ""),
            ("1 year ~ 1 'a'", "true"),
            ("'4 days'.toQuantity()", "4 days"),
            ("'1 \\'mg\\''.toQuantity('g')", "0.001 'g'"),
            ("1 'cm'.comparable(1 'm') and 1 'cm'.comparable(1 's').not()", "true"),
        ],
    );
}

#[test]
fn dates_have_their_precision() {
    check(
        "{}",
        &[
            ("@2018-03 = @2018-03-01", ""),
            ("@2018-03 < @2018-04-01", "true"),
            ("@2012-04-15T15:00:00+02:00 = @2012-04-15T16:00:00+03:00", "true"),
            ("@2012-04-15T15:00:00Z = @2012-04-15T10:00:00", ""),
            ("@2024-01-31 + 1 month", "2024-02-29"),
            ("@2024-02-29 - 1 year", "2023-02-28"),
            ("@2024 + 18 months", "2025"),
            ("@T23:30 + 1 hour", "00:30"),
            ("@2024-01-01T00:00:00.000Z + 10 milliseconds", "2024-01-01T00:00:00.010Z"),
            ("@2014.highBoundary(8)", "2014-12-31"),
            ("@2014-02.highBoundary()", "2014-02-28"),
            ("@2014-01-01T08:05Z.lowBoundary(17)", "2014-01-01T08:05:00.000Z"),
            ("now().toString()", "2023-11-14T22:13:20.123Z"),
            ("today() = @2023-11-14 and timeOfDay() = @T22:13:20.123", "true"),
            ("'2024-02-30'.convertsToDate()", "false"),
            ("'2024-02-29T10:00:00Z'.toDate()", "2024-02-29"),
            ("@2024-05.precision()", "6"),
        ],
    );
}

#[test]
fn texts_are_worked_on() {
    check(
        "{}",
        &[
            ("'abc'.substring(1, 1) & 'abc'.indexOf('c').toString() & {}", "b2"),
            ("'Füße'.length()", "4"),
            ("'a,b'.split(',').join(';')", "a;b"),
            ("'line\\nline'.matches('e.l')", "true"),
            ("'abc'.matchesFull('b')", "false"),
            ("'a1b2'.replaceMatches('[0-9]', '-')", "a-b-"),
            ("'2024-05'.replaceMatches('([0-9]+)-([0-9]+)', '$2_$1x$')", "05_2024x$"),
            ("'aXb'.replace('X', '\\'')", "a'b"),
            ("'\\u00e4' = 'ä'", "true"),
            ("'Hi  THERE' ~ 'hi there'", "true"),
            ("'test'.encode('base64').decode('base64')", "test"),
            ("'<a>'.escape('html').unescape('html')", "<a>"),
            ("'ab'.toChars().count()", "2"),
            ("' a '.trim().upper()", "A"),
        ],
    );
}

#[test]
fn variables_may_be_empty_and_are_known_beforehand() {
    check(
        PATIENT,
        &[
            ("%limit", "3"),
            ("%nothing", ""),
            ("%nothing.id.empty() or %nothing.status != 'x'", "true"),
            ("%nothing.status != 'x'", ""),
        ],
    );
    for (text, unknown) in [
        ("%a = 1", Some("a")),
        ("name.where(use = %limit)[%b].given", Some("b")),
        ("(1 + -%c) is Integer", Some("c")),
        ("%limit.x | %ucum | %`vs-a` | %resource.id | %context", None),
    ] {
        let expression = Expression::parse(text);
        let found = expression.as_ref().map(|one| one.unknown_variable(&["limit"]));
        assert_eq!(found, Ok(unknown), "{text}");
    }
    let patient = json(PATIENT);
    for (text, holds) in [("name", None), ("id", Some(true)), ("active", Some(true)), ("x", Some(false))] {
        let expression = Expression::parse(text)
            .map(|one| one.holds(&Item::Element(Node::resource(&patient)), &Environment::of(&patient)).ok());
        assert_eq!(expression, Ok(holds), "{text}");
    }
}

#[test]
fn what_is_wrong_is_an_error() {
    for text in [
        "",
        "1 +",
        "(1",
        "a..b",
        "'open",
        "/* open",
        "1.nothing()",
        "@2015-13",
        "@T10:00Z",
        "\u{0}",
        "%",
        "{1}",
        "99999999999",
        "1.take()",
        "a b",
    ] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
    for text in
        ["(1 | 2).single()", "1 + 'a'", "'a' < 1", "@2024-01-01 + 1 'cm'", "%unknown", "gender as nothing"]
    {
        assert!(evaluated(text, PATIENT, false).is_err(), "{text}");
    }
    assert_eq!(evaluated("name.nothing", PATIENT, false).as_deref(), Ok(""));
    assert_eq!(evaluated("name.nothing", PATIENT, true), Err(Error::NoElement("nothing".to_owned())));
}

#[test]
fn nothing_is_endless() {
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(matches!(Expression::parse(&deep), Err(Error::TooCostly | Error::Syntax { .. })));
    let signs = format!("{}1", "-".repeat(10_000));
    assert_eq!(evaluated(&signs, "{}", false).as_deref(), Ok("1"));
    let long = format!("1{}", " + 1".repeat(3000));
    assert_eq!(evaluated(&long, "{}", false).as_deref(), Ok("3001"));
    let path = format!("name{}", ".given".repeat(2000));
    assert_eq!(evaluated(&path, PATIENT, false).as_deref(), Ok(""));
    for text in [
        "1.repeat($this + 1)",
        "(1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10).aggregate(($total | $this).combine($total).combine($total), 1)
            .repeat($this + 1)",
        "(1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15 | 16 | 17 | 18 | 19 | 20 | 21 | 22 | 23)
            .aggregate(($total & $total & $total), 'abc')",
        "('a' | 'b' | 'c' | 'd' | 'e' | 'f' | 'g').aggregate($total.replace('', $total), 'aaaa')",
        "descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants())))",
    ] {
        assert_eq!(evaluated(text, PATIENT, false), Err(Error::TooCostly), "{text}");
    }
}
