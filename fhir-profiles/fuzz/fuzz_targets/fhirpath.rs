//! An expression, a NUL, a resource: an answer in bounded time, and the same twice.
#![no_main]

use fhir::fhirpath::{Environment, Expression, Item, Node};
use fhir::json::{Json, Limits, Object, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let (text, rest) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => bytes.split_at(at),
        None => (bytes, &[][..]),
    };
    let Ok(expression) = std::str::from_utf8(text).map_err(drop).and_then(|t| Expression::parse(t).map_err(drop))
    else {
        return;
    };
    let resource = rest.get(1..).and_then(|rest| parse(rest, &Limits::default()).ok());
    let resource = resource.unwrap_or_else(|| Json::Object(Object::default()));
    let environment =
        Environment { now: Some(1_700_000_000_000_000), steps: 100_000, ..Environment::of(&resource) };
    let focus = Item::Element(Node::resource(&resource));
    let once = expression.evaluate(&focus, &environment);
    let again = expression.evaluate(&focus, &environment);
    match (once, again) {
        (Ok(once), Ok(again)) => {
            let shown = |items: &[Item<'_>]| items.iter().map(|item| item.display().map(|t| t.into_owned())).collect::<Vec<_>>();
            assert_eq!(shown(&once), shown(&again));
        }
        (Err(once), Err(again)) => assert_eq!(once, again),
        // A pattern is compiled once only, so that the second time may have the budget for more.
        (Err(_), Ok(_)) => {}
        (Ok(_), Err(error)) => panic!("only the second time: {error}"),
    }
});
