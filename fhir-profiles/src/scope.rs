//! SMART scopes about resources: what a caller may do with which of them
//! (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html>).
//!
//! A granular scope is a search: `patient/Observation.rs?category=laboratory` means what the same
//! words mean in a query, by the same [`Clause`]s.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::resource_type::ResourceType;
use crate::search::{Clause, Handling, SearchQuery, parameter};

/// Conditions of one scope.
const MOST_CONDITIONS: usize = 8;
/// Bytes of one scope.
const LONGEST: usize = 1024;

/// Whose resources are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Those of one patient, which the launch names.
    Patient,
    /// Those the user may see.
    User,
    /// All; nobody is at the keyboard.
    System,
}

/// One thing done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A new resource.
    Create,
    /// One resource, a version of it, its history.
    Read,
    /// A new version, also of a resource that was not there.
    Update,
    /// Its end.
    Delete,
    /// Finding it: search, history of many, export.
    Search,
}

impl Op {
    /// As FHIR calls the interaction.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Search => "search",
        }
    }
}

const OPS: [(Op, char); 5] =
    [(Op::Create, 'c'), (Op::Read, 'r'), (Op::Update, 'u'), (Op::Delete, 'd'), (Op::Search, 's')];

/// What may be done, as `cruds` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct May(u8);

impl May {
    /// All five.
    pub const ALL: Self = Self(0b1_1111);

    /// Is this among it?
    pub fn allows(self, op: Op) -> bool {
        self.0 & (1 << op as u8) != 0
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Nothing at all.
    pub fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Letters in the order of `cruds`, each once; or the words of SMART 1.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => return Some(Self(0b1_0010)),
            "write" => return Some(Self(0b0_1101)),
            "*" => return Some(Self::ALL),
            _ => {}
        }
        let (mut may, mut letters) = (0, text.chars().peekable());
        for (op, letter) in OPS {
            if letters.next_if_eq(&letter).is_some() {
                may |= 1 << op as u8;
            }
        }
        (may != 0 && letters.next().is_none()).then_some(Self(may))
    }
}

impl fmt::Display for May {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OPS.iter().filter(|(op, _)| self.allows(*op)).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// A scope about resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clinical {
    /// Whose.
    pub level: Level,
    /// Of which type; none for all.
    pub kind: Option<ResourceType>,
    /// What may be done.
    pub may: May,
    /// What else must hold of the resource: all of these.
    pub only: Vec<Clause>,
    /// The conditions as they were written, without those of the same name and value.
    asked: Vec<String>,
    text: String,
}

impl Clinical {
    /// Reads one scope; none if it is not about resources, or not to be understood wholly. What a
    /// condition asks must be of the resource itself: no modifier, no chain, nothing about the form of
    /// the answer.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (level, rest) = text.split_once('/')?;
        let level = match level {
            "patient" => Level::Patient,
            "user" => Level::User,
            "system" => Level::System,
            _ => return None,
        };
        let (named, conditions) =
            rest.split_once('?').map_or((rest, None), |(named, conditions)| (named, Some(conditions)));
        let (kind, may) = named.split_once('.')?;
        let kind = if kind == "*" { None } else { Some(ResourceType::parse(kind)?) };
        let may = May::parse(may)?;
        let mut asked: Vec<String> =
            conditions.map(|text| text.split('&').map(str::to_owned).collect()).unwrap_or_default();
        asked.dedup();
        let only = clauses(kind, &asked)?;
        Some(Self { level, kind, may, only, asked, text: text.to_owned() })
    }

    /// Has it conditions?
    pub fn is_granular(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What both allow, at the level of `self`; none if that is nothing. Levels are not compared. What `*`
    /// allows has no AuditEvents in it: they have to be named, on either side.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let kind = match (self.kind, other.kind) {
            (None, Some(ResourceType::AUDIT_EVENT)) | (Some(ResourceType::AUDIT_EVENT), None) => return None,
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        let may = self.may.and(other.may);
        if may.is_nothing() {
            return None;
        }
        let mut asked = self.asked.clone();
        asked.extend(other.asked.iter().filter(|one| !self.asked.contains(one)).cloned());
        if kind == self.kind && may == self.may && asked == self.asked {
            return Some(self.clone());
        }
        let level = match self.level {
            Level::Patient => "patient",
            Level::User => "user",
            Level::System => "system",
        };
        let mut text = format!("{level}/{}.{may}", kind.map_or("*", ResourceType::name));
        if !asked.is_empty() {
            text.push('?');
            text.push_str(&asked.join("&"));
        }
        Self::parse(&text)
    }

    /// Does it allow all that `other` does, at whatever level?
    pub fn covers(&self, other: &Self) -> bool {
        let kind = match self.kind {
            Some(kind) => other.kind == Some(kind),
            None => other.kind != Some(ResourceType::AUDIT_EVENT),
        };
        kind && other.may.and(self.may) == other.may && self.asked.iter().all(|one| other.asked.contains(one))
    }
}

impl fmt::Display for Clinical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn clauses(kind: Option<ResourceType>, asked: &[String]) -> Option<Vec<Clause>> {
    if asked.is_empty() {
        return Some(Vec::new());
    }
    if asked.len() > MOST_CONDITIONS {
        return None;
    }
    let kinds: Vec<ResourceType> = kind.map_or_else(|| ResourceType::all().collect(), |kind| vec![kind]);
    let pair = |one: &String| {
        let (name, value) = one.split_once('=')?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
        let (name, value) = (decoded(name)?, decoded(value)?);
        let own = name == "_id" || parameter(*kinds.first()?, &name).is_some_and(|one| one.indexed);
        own.then_some((name, value))
    };
    let pairs = asked.iter().map(pair).collect::<Option<Vec<_>>>()?;
    let (query, _) = SearchQuery::parse(&kinds, &pairs, "", 0, Handling::Strict).ok()?;
    (query.clauses.len() == pairs.len() && query.clauses.iter().all(Clause::alone)).then_some(query.clauses)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Clinical {
        Clinical::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn both_versions_are_understood_and_echoed() {
        for (text, may) in [
            ("patient/Observation.rs", "rs"),
            ("patient/*.cruds", "cruds"),
            ("user/Patient.read", "rs"),
            ("user/Patient.write", "cud"),
            ("system/*.*", "cruds"),
            ("patient/Observation.rs?category=http://loinc.org|x&status=final", "rs"),
            ("patient/*.r?_tag=a", "r"),
        ] {
            let scope = parse(text);
            assert_eq!(scope.to_string(), text);
            assert_eq!(scope.may.to_string(), may);
        }
    }

    #[test]
    fn what_is_not_understood_is_no_scope() {
        for text in [
            "",
            "openid",
            "launch/patient",
            "patient/Observation",
            "patient/observation.rs",
            "patient/Observation.sr",
            "patient/Observation.rr",
            "patient/Observation.",
            "patient/Observation.rsx",
            "patient/Observation.Read",
            "patients/Observation.rs",
            "patient/Observation.rs?",
            "patient/Observation.rs?category",
            "patient/Observation.rs?category=",
            "patient/Observation.rs?category:not=a",
            "patient/Observation.rs?category:in=a",
            "patient/Observation.rs?subject.name=a",
            "patient/Observation.rs?_has:Provenance:target:agent=a",
            "patient/Observation.rs?_include=Observation:subject",
            "patient/Observation.rs?_sort=date",
            "patient/Observation.rs?_count=1",
            "patient/Observation.rs?_list=a",
            "patient/Observation.rs?nonsense=a",
            "patient/*.rs?category=a",
            "patient/Observation.rs?date=2020-13",
            "patient/Observation.rs?code=%ff",
        ] {
            assert_eq!(Clinical::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_both_allow() {
        let meet = |one: &str, other: &str| {
            parse(one).meet(&parse(other)).map(|both| both.to_string()).unwrap_or_default()
        };
        assert_eq!(meet("patient/Observation.read", "user/*.cruds"), "patient/Observation.read");
        assert_eq!(meet("patient/*.cruds", "user/Observation.rs"), "patient/Observation.rs");
        assert_eq!(meet("patient/Observation.rs", "patient/Condition.rs"), "");
        assert_eq!(meet("patient/Observation.rs", "patient/*.cud"), "");
        assert_eq!(
            meet("patient/Observation.rs?status=final", "user/Observation.r?category=a"),
            "patient/Observation.r?status=final&category=a"
        );
        assert!(parse("user/*.rs").covers(&parse("patient/Observation.rs?status=final")));
        assert!(!parse("user/Observation.rs?status=final").covers(&parse("user/Observation.rs")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(patient|user|system)?/?[A-Za-z*]{0,12}[.?/]?[a-z*]{0,6}([?&][a-z_:.=%|]{0,16}){0,4}") {
            if let Some(scope) = Clinical::parse(&text) {
                prop_assert_eq!(scope.to_string(), text);
                prop_assert_eq!(scope.meet(&scope), Some(scope.clone()));
                prop_assert!(scope.covers(&scope));
            }
        }
    }
}
