//! From what an app asks for to what it is granted: asked ∩ registered ∩ the user's role ∩ ticked
//! (<https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html>).

use std::fmt;

use fhir::scope::{Clinical, Level};
use store::Registration;

use super::role::{Role, common};
use crate::http::rights::{BREAK_GLASS, MODELS};

/// A scope that this server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// About resources.
    Clinical(Box<Clinical>),
    /// Anything else, by its place in [`PLAIN`].
    Plain(&'static str),
}

/// Scopes that are not about resources, and what they mean to the person who is asked; without words
/// where there is nothing to decide.
const PLAIN: [(&str, &str); 11] = [
    ("openid", "Know that it is you"),
    ("fhirUser", "Know who you are: your name and record as a user"),
    ("profile", "Know who you are: your name and record as a user"),
    ("launch", ""),
    ("launch/patient", ""),
    ("launch/encounter", ""),
    ("offline_access", "Keep this access when you have left, until you end it"),
    ("online_access", "Keep this access as long as you are signed in"),
    (LAUNCH_APPS, "Open other apps with a patient in context"),
    (MODELS, "Put versions of risk models in use"),
    (BREAK_GLASS, "See in an emergency what a patient withholds, with a reason that is recorded"),
];

/// Lets an EHR's client open apps.
pub(crate) const LAUNCH_APPS: &str = "augury/launch";

/// What discovery says is supported, beside that.
pub(crate) const SUPPORTED: [&str; 8] = [
    "patient/*.cruds",
    "user/*.cruds",
    "system/*.cruds",
    "patient/*.*",
    "user/*.*",
    "system/*.*",
    "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs",
    "patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item",
];

/// The scopes that are not about resources.
pub(crate) fn plain() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|(name, _)| *name)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clinical(scope) => scope.fmt(f),
            Self::Plain(name) => f.write_str(name),
        }
    }
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let plain = PLAIN.iter().find(|(name, _)| *name == text).map(|(name, _)| Self::Plain(name));
        plain.or_else(|| Clinical::parse(text).map(|scope| Self::Clinical(Box::new(scope))))
    }

    /// Is it about the resources of one patient?
    pub(crate) fn is_of_patient(&self) -> bool {
        matches!(self, Self::Clinical(scope) if scope.level == Level::Patient)
    }

    /// Can nobody but a client by itself have it?
    fn is_of_system(&self) -> bool {
        matches!(self, Self::Clinical(scope) if scope.level == Level::System)
    }

    /// In plain words; none where there is nothing to decide.
    pub(crate) fn words(&self) -> Option<String> {
        let scope = match self {
            Self::Plain(text) => {
                let words = PLAIN.iter().find(|(name, _)| name == text).map(|(_, words)| *words);
                return words.filter(|words| !words.is_empty()).map(str::to_owned);
            }
            Self::Clinical(scope) => scope,
        };
        let letters = scope.may.to_string();
        let verbs: Vec<&str> =
            [('r', "see"), ('s', "search"), ('c', "add"), ('u', "change"), ('d', "delete")]
                .into_iter()
                .filter(|(letter, _)| letters.contains(*letter))
                .map(|(_, verb)| verb)
                .collect();
        let mut verbs = match verbs.as_slice() {
            [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
            verbs => verbs.join(""),
        };
        if let Some(first) = verbs.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let what = scope.kind.map_or_else(|| "all kinds of records".to_owned(), |kind| spaced(kind.name()));
        let whose = match scope.level {
            Level::Patient => "of this patient",
            Level::User => "that you may see",
            Level::System => "of everybody",
        };
        let text = scope.to_string();
        let only = text.split_once('?').map(|(_, condition)| format!(", only where {}", plainly(condition)));
        Some(format!("{verbs} {what} {whose}{}", only.unwrap_or_default()))
    }

    /// What could be granted of it instead: its parts by category, with words
    /// (US Core: granular scopes of Condition and Observation).
    pub(crate) fn parts(&self) -> Vec<(Scope, &'static str)> {
        let Self::Clinical(scope) = self else { return Vec::new() };
        let Some(kind) = scope.kind.filter(|_| !scope.is_granular()) else { return Vec::new() };
        let whole = scope.to_string();
        let level = whole.split('/').next().unwrap_or_default();
        let part = |(of, category, words): &(&str, &str, &'static str)| {
            let text = format!("{level}/{}.{}?category={category}", kind.name(), scope.may);
            (*of == kind.name()).then(|| Self::parse(&text).map(|part| (part, *words))).flatten()
        };
        CATEGORIES.iter().filter_map(part).collect()
    }
}

const CATEGORIES: [(&str, &str, &str); 8] = [
    (
        "Condition",
        "http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis",
        "Diagnoses of encounters",
    ),
    (
        "Condition",
        "http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item",
        "The problem list",
    ),
    (
        "Condition",
        "http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern",
        "Health concerns",
    ),
    (
        "Observation",
        "http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        "Laboratory results",
    ),
    ("Observation", "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs", "Vital signs"),
    (
        "Observation",
        "http://terminology.hl7.org/CodeSystem/observation-category|social-history",
        "Social history",
    ),
    (
        "Observation",
        "http://terminology.hl7.org/CodeSystem/observation-category|survey",
        "Answers to surveys",
    ),
    (
        "Observation",
        "http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh",
        "Social determinants of health",
    ),
];

/// `AllergyIntolerance` as people write it.
fn spaced(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// A condition without the systems of its codes, but where the system is all that is said.
fn plainly(condition: &str) -> String {
    let code = |value: &str| match value.rsplit_once('|') {
        Some((system, "")) => format!("any of {system}"),
        Some((_, code)) => code.to_owned(),
        None => value.to_owned(),
    };
    let one = |pair: &str| {
        let (name, values) = pair.split_once('=').unwrap_or((pair, ""));
        format!("{name} is {}", values.split(',').map(code).collect::<Vec<_>>().join(" or "))
    };
    condition.split('&').map(one).collect::<Vec<_>>().join(" and ")
}

/// The scopes in a text; those that this server doesn't know are left out, and each comes once.
pub(crate) fn parse(text: &str) -> Vec<Scope> {
    let mut found = Vec::new();
    for scope in text.split_ascii_whitespace().filter_map(Scope::parse) {
        if !found.contains(&scope) {
            found.push(scope);
        }
    }
    found
}

/// The first that this server doesn't know.
pub(crate) fn unknown(text: &str) -> Option<&str> {
    let known = parse(text);
    text.split_ascii_whitespace().find(|one| !known.iter().any(|scope| scope.to_string() == *one))
}

/// What of the scopes is within others, those of each level within those of the same.
pub(crate) fn within(scopes: &str, most: &str) -> String {
    let mut found: Vec<Scope> = Vec::new();
    for scope in parse(scopes) {
        let parts = match &scope {
            Scope::Plain(name) if most.split_ascii_whitespace().any(|one| one == *name) => vec![scope],
            Scope::Plain(_) => Vec::new(),
            Scope::Clinical(clinical) => {
                common(clinical, most).into_iter().map(|part| Scope::Clinical(Box::new(part))).collect()
            }
        };
        for part in parts {
            if !found.contains(&part) {
                found.push(part);
            }
        }
    }
    text(&found)
}

/// Is there more in it than who the user is?
pub(crate) fn is_about_resources(text: &str) -> bool {
    text.split_ascii_whitespace().any(|one| !matches!(one, "openid" | "profile" | "fhirUser"))
}

/// As one text.
pub(crate) fn text(scopes: &[Scope]) -> String {
    scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Who is to be granted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// An app, before it is known who uses it.
    Anyone,
    /// An app that somebody of this role uses.
    User(Role),
    /// The client itself.
    Client,
}

/// What of `asked` a client may have at most.
pub(crate) fn allowed(asked: &str, registration: &Registration, by: For) -> Vec<Scope> {
    let mut found: Vec<Scope> = Vec::new();
    for scope in parse(asked) {
        match &scope {
            Scope::Plain(name) => {
                let registered = registration.scope.split_ascii_whitespace().any(|one| one == *name);
                let own = name.starts_with("augury/");
                let may = match by {
                    For::Anyone => true,
                    For::User(role) => !own || role.has(name),
                    For::Client => own,
                };
                if registered && may && !found.contains(&scope) {
                    found.push(scope);
                }
            }
            Scope::Clinical(clinical) => {
                if scope.is_of_system() != (by == For::Client) {
                    continue;
                }
                for part in common(clinical, &registration.scope) {
                    let parts = if let For::User(role) = by { role.allowed(&part) } else { vec![part] };
                    let parts = parts.into_iter().map(|part| Scope::Clinical(Box::new(part)));
                    for part in parts {
                        if !found.contains(&part) {
                            found.push(part);
                        }
                    }
                }
            }
        }
    }
    found
}

/// What of `offered` was ticked: scopes, or parts of those that were not.
pub(crate) fn ticked(offered: &[Scope], ticked: &[&str]) -> Vec<Scope> {
    let is = |scope: &Scope| ticked.contains(&scope.to_string().as_str());
    let mut granted = Vec::new();
    for scope in offered {
        if scope.words().is_none() || is(scope) {
            granted.push(scope.clone());
        } else {
            granted.extend(scope.parts().into_iter().map(|(part, _)| part).filter(is));
        }
    }
    granted
}

/// What of the scopes held is asked for; none if more is asked for (RFC 6749 section 6).
pub(crate) fn narrowed(held: &str, asked: &str) -> Option<String> {
    let held = parse(held);
    let mut kept = Vec::new();
    for one in asked.split_ascii_whitespace() {
        let scope = Scope::parse(one)?;
        let within = match &scope {
            Scope::Clinical(scope) => held.iter().any(
                |one| matches!(one, Scope::Clinical(one) if one.level == scope.level && one.covers(scope)),
            ),
            Scope::Plain(_) => held.contains(&scope),
        };
        if !within {
            return None;
        }
        if !kept.contains(&scope) {
            kept.push(scope);
        }
    }
    (!kept.is_empty()).then(|| text(&kept))
}

#[cfg(test)]
mod tests {
    use store::Authentication;

    use super::*;

    fn client(scope: &str) -> Registration {
        Registration {
            name: "x".into(),
            authentication: Authentication::Public,
            redirect_uris: Vec::new(),
            launch_url: None,
            scope: scope.into(),
            bound: false,
        }
    }

    #[test]
    fn granted_is_what_all_allow() {
        let all = client("openid launch/patient patient/*.cruds user/Patient.rs system/*.rs");
        let granted = |asked: &str, by| text(&allowed(asked, &all, by));
        let clinician = For::User(Role::Clinician);
        assert_eq!(
            granted("openid fhirUser patient/Observation.read patient/*.rs nonsense system/*.rs", clinician),
            "openid patient/Observation.read patient/*.rs"
        );
        let own = client("augury/launch augury/models openid");
        assert_eq!(text(&allowed("augury/launch augury/models", &own, clinician)), "augury/launch");
        assert_eq!(text(&allowed("augury/models openid", &own, For::Client)), "augury/models");
        assert_eq!(granted("user/Patient.cruds user/Observation.rs", clinician), "user/Patient.rs");
        assert_eq!(granted("patient/*.cruds", For::User(Role::Patient)), "patient/*.rs");
        assert_eq!(
            granted("openid system/Observation.rs patient/*.rs", For::Client),
            "system/Observation.rs"
        );
    }

    #[test]
    fn a_part_may_be_granted_instead_of_the_whole() {
        let offered = parse("launch/patient openid patient/Condition.rs patient/Observation.read");
        let part = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory";
        let granted = text(&ticked(&offered, &["openid", part, "patient/Patient.rs"]));
        assert_eq!(granted, format!("launch/patient openid {part}"));
    }

    #[test]
    fn refreshing_never_widens() {
        let held = "openid patient/Observation.rs";
        assert_eq!(narrowed(held, "patient/Observation.r").as_deref(), Some("patient/Observation.r"));
        assert_eq!(narrowed(held, held).as_deref(), Some(held));
        assert_eq!(narrowed(held, "patient/*.rs"), None);
        assert_eq!(narrowed(held, "user/Observation.rs"), None);
        assert_eq!(narrowed(held, "offline_access"), None);
        assert_eq!(narrowed("user/*.rs", "user/AuditEvent.rs"), None);
    }

    #[test]
    fn a_ceiling_bounds_all() {
        let most = "openid patient/*.rs user/Patient.r system/Observation.rs";
        assert_eq!(
            within("openid fhirUser patient/*.cruds user/*.rs nonsense", most),
            "openid patient/*.rs user/Patient.r"
        );
        assert_eq!(within("system/*.cruds", most), "system/Observation.rs");
        assert_eq!(within("system/AuditEvent.rs", "system/*.rs"), "");
        assert_eq!((unknown(most), unknown("openid patient/x")), (None, Some("patient/x")));
    }

    #[test]
    fn words() {
        let words = |scope: &str| Scope::parse(scope).unwrap().words().unwrap_or_default();
        assert_eq!(
            words("patient/AllergyIntolerance.rs"),
            "See and search allergy intolerance of this patient"
        );
        assert_eq!(
            words("user/*.cruds"),
            "See, search, add, change and delete all kinds of records that you may see"
        );
        assert!(words("patient/Observation.r?category=a|b").ends_with("only where category is b"));
        assert!(words("patient/Observation.r?code=a|").ends_with("only where code is any of a"));
        assert!(words("patient/Observation.r?code=a|b,c|d,e").ends_with("only where code is b or d or e"));
        assert_eq!(words("launch"), "");
    }
}
