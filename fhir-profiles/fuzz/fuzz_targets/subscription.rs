//! A Subscription, topics and a resource, one a line: each is read or refused with elements that are named, what is
//! read says the same when it is written and read again, and is asked about changes of the resource in bounded time.
#![no_main]

use fhir::json::{Json, Limits, parse};
use fhir::outcome::Issues;
use fhir::resource_type::ResourceType;
use fhir::search::index;
use fhir::subscription::{Change, State, Subscription, Topic, Topics, Unclear};
use libfuzzer_sys::fuzz_target;

const BASE: &str = "http://localhost/fhir";

fn named(issues: &Issues) {
    assert!(!issues.0.is_empty());
    assert!(issues.0.iter().all(|issue| !issue.expression.is_empty()), "{issues}");
    let _ = issues.outcome();
}

fuzz_target!(init: fhir_fuzz::stack_of_a_server(), |bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n');
    let trees: Vec<Json<'_>> = lines.filter_map(|line| parse(line, &Limits::default()).ok()).collect();
    let Some((first, rest)) = trees.split_first() else { return };
    let mut topics = Topics::default();
    for tree in rest {
        match Topic::parse(tree) {
            Ok(Some(topic)) => {
                assert!(topic.doubts.0.iter().all(|issue| !issue.expression.is_empty()), "{}", topic.doubts);
                let written = topic.to_basic();
                let again = Topic::parse(&written).ok().flatten().map(|topic| topic.to_basic());
                assert_eq!(again.as_ref(), Some(&written));
                let _ = topics.add(topic);
            }
            Ok(None) => {}
            Err(issues) => named(&issues),
        }
    }
    let asked = match Subscription::parse(first, &topics, BASE) {
        Ok(asked) => asked,
        Err(issues) => return named(&issues),
    };
    assert!(!asked.interest.kinds().is_empty());
    let Some(resource) = rest.last() else { return };
    let Some(kind) = resource.text("resourceType").and_then(ResourceType::parse) else { return };
    let index = index(kind, resource);
    let state = || Some(State { resource, index: &index, updated: 1_700_000_000_000_000 });
    for (before, after) in [(None, state()), (state(), state()), (state(), None)] {
        let change = Change { kind, id: "a", before, after, unclear: &Unclear::default() };
        assert_eq!(asked.is_about(&change), asked.is_about(&change));
    }
});
