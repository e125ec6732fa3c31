//! Conditions as a search writes them, of one resource alone: `Encounter?patient=Patient/1`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::outcome::{Issue, Issues};
use crate::resource_type::ResourceType;
use crate::search::{Clause, Handling, Prefix, SearchQuery, Test};

/// Bytes of one text.
const LONGEST: usize = 4096;

/// A text before it is known of which types it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// The type it names.
    pub(super) kind: Option<ResourceType>,
    /// Names and values, decoded.
    pub(super) pairs: Vec<(String, String)>,
}

impl Text {
    /// Reads `Type?a=b&c=d`, `Type.a=b&Type.c=d` or `a=b`: the guide writes the first, its test kit the
    /// second.
    pub(super) fn parse(text: &str) -> Result<Self, Issue> {
        if text.len() > LONGEST {
            return Err(Issue::error("too-long", format!("more than {LONGEST} bytes")));
        }
        let equals = text.find('=').unwrap_or(text.len());
        let (kind, query) = match text.split_once('?').filter(|(head, _)| head.len() < equals) {
            Some(("", query)) => (None, query),
            Some((name, query)) => (Some(named(name)?), query),
            None => {
                let (name, _) = text.split_once('=').unwrap_or((text, ""));
                (name.split_once('.').and_then(|(head, _)| ResourceType::parse(head)), text)
            }
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| read(pair, kind)).collect::<Result<_, _>>()?;
        Ok(Self { kind, pairs })
    }

    /// The conditions for a resource of that type; `base` is this server's address.
    pub(super) fn conditions(&self, kind: ResourceType, base: &str) -> Result<Vec<Clause>, Issues> {
        let refused = |why: &'static str| Err(Issue::error("not-supported", why).into());
        let (query, _) = SearchQuery::parse(&[kind], &self.pairs, base, 0, Handling::Strict)?;
        if query.clauses.len() != self.pairs.len() {
            return refused(
                "_include, _sort, _count and their like say what a search gives: nothing of a change",
            );
        }
        if !query.clauses.iter().all(Clause::alone) {
            return refused(
                "chains, _has and _list ask for other resources: a change is judged by the resource alone",
            );
        }
        if query.clauses.iter().any(is_of_the_moment) {
            return refused("`ap` of a date looks at it from the present moment, which goes on");
        }
        Ok(query.clauses)
    }
}

fn named(name: &str) -> Result<ResourceType, Issue> {
    let shown: String = name.chars().take(64).collect();
    ResourceType::parse(name).ok_or_else(|| Issue::error("value", format!("{shown} is no resource type")))
}

fn read(pair: &str, kind: Option<ResourceType>) -> Result<(String, String), Issue> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().ok().filter(|text| !text.contains('\0'));
        decoded.map(Cow::into_owned).ok_or_else(|| Issue::error("value", "not UTF-8 when decoded"))
    };
    let needed = || Issue::error("value", "parameter=value is needed");
    let (name, value) = pair.split_once('=').ok_or_else(needed)?;
    let below = kind.and_then(|kind| name.strip_prefix(kind.name())?.strip_prefix('.'));
    Ok((decoded(below.unwrap_or(name))?, decoded(value)?))
}

fn is_of_the_moment(clause: &Clause) -> bool {
    match &clause.test {
        Test::Range(dates) | Test::Updated(dates) => dates.iter().any(|date| date.prefix == Prefix::Ap),
        Test::Either(all) | Test::All(all) => all.iter().any(is_of_the_moment),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_write_it() {
        let patient = |name: Option<&str>| {
            let kind = name.and_then(ResourceType::parse);
            Ok(Text { kind, pairs: vec![("patient".to_owned(), "Patient/123".to_owned())] })
        };
        assert_eq!(Text::parse("Encounter?patient=Patient/123"), patient(Some("Encounter")));
        assert_eq!(Text::parse("Encounter?patient=Patient%2F123"), patient(Some("Encounter")));
        assert_eq!(Text::parse("Encounter.patient=Patient/123"), patient(Some("Encounter")));
        assert_eq!(Text::parse("patient=Patient/123"), patient(None));
        assert_eq!(Text::parse("?patient=Patient/123"), patient(None));
        let several = Text::parse("Encounter.status=a&Encounter.class:not=b?c=d.e").unwrap();
        assert_eq!(several.pairs[0], ("status".to_owned(), "a".to_owned()));
        assert_eq!(several.pairs[1], ("class:not".to_owned(), "b?c=d.e".to_owned()));
        assert!(Text::parse("Unheard?a=b").is_err());
        assert!(Text::parse("Encounter?status").is_err());
        assert!(Text::parse("Encounter?status=%ff").is_err());
        assert!(Text::parse(&"a".repeat(5000)).is_err());
    }

    #[test]
    fn what_one_resource_does_not_decide_is_refused() {
        let conditions = |text: &str| {
            let text = Text::parse(text)?;
            text.conditions(ResourceType::OBSERVATION, "https://h.example/fhir")
        };
        for text in [
            "subject.name=a",
            "subject:Patient.name=a",
            "_has:Provenance:target:agent=a",
            "_list=a",
            "_include=Observation:subject",
            "_sort=date",
            "_count=3",
            "_format=json",
            "_filter=a",
            "_text=a",
            "date=ap2024-01-01",
            "_lastUpdated=ap2024-01-01",
            "nonsense=a",
            "code:in=http://x",
            "code=",
            "date=yesterday",
        ] {
            assert!(conditions(text).is_err(), "{text}");
        }
        for (text, many) in [
            ("", 0),
            ("code=http://loinc.org|1-8,2-7&status:not=final", 2),
            ("patient=https://h.example/fhir/Patient/1&date=ge2024&_lastUpdated=gt2024&_id=a", 4),
            ("code-value-quantity=1-8$gt5", 1),
        ] {
            assert_eq!(conditions(text).map(|all| all.len()), Ok(many), "{text}");
        }
        assert_eq!(conditions("patient=https://h.example/fhir/Patient/1"), conditions("patient=Patient/1"));
    }
}
