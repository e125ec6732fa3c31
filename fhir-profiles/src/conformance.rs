//! What a resource has to keep beyond its structure: the profiles it claims, those it is asked about,
//! its extensions. A write asks for little of it, `$validate` for all.

use std::collections::HashSet;

use crate::json::Json;
use crate::outcome::{Issue, Issues, Severity};
use crate::profile::{self, Extensions, Profiles, Scope};
use crate::validate::{At, validate, validate_fully};
use crate::{doubts, vital_signs};

/// Which findings beyond FHIR's own rules are errors.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Strict {
    /// An extension that no known definition explains.
    pub extensions: bool,
    /// Text or markdown with what looks like HTML tags.
    pub html: bool,
    /// Addresses of `example.org` and its like.
    pub examples: bool,
    /// A hyperlink of a narrative that leads nowhere.
    pub links: bool,
}

impl Strict {
    /// All of them.
    pub const ALL: Self = Self { extensions: true, html: true, examples: true, links: true };
}

/// Findings of a resource that is to be stored, beyond [`validate`]: the profiles it claims, if these
/// are HL7's vital signs or our own; with `all`, every profile that is known, and a warning about each
/// that is not. Resources in it count too.
pub fn claimed<'a>(resource: &'a Json<'a>, profiles: &'a Profiles, all: bool) -> Issues {
    let mut issues = Issues::default();
    let mut scope = Scope::new(resource);
    each(resource, &mut |one, at| {
        let mut checked = HashSet::new();
        for url in claims(one).filter(|url| all || is_always(url)) {
            if checked.insert(url) {
                match profiles.check(one, &mut scope, url, false) {
                    Some(found) => issues.0.extend(found.0.into_iter().map(|issue| below(issue, at))),
                    // Another version of what counts always would be a way around it.
                    None if is_always(url) => issues.0.push(unknown(Severity::Error, url, &at.path())),
                    None if all => issues.0.push(unknown(Severity::Warning, url, &at.path())),
                    None => {}
                }
            }
        }
    });
    issues
}

/// Findings of what a model made: it has to keep all rules, and the profile of its type.
pub fn of_a_model(resource: &Json) -> Issues {
    let mut issues = validate(resource);
    let profiles = Profiles::built_in();
    let mut scope = Scope::new(resource);
    if let Some(found) =
        profile::of_a_model(resource).and_then(|url| profiles.check(resource, &mut scope, url, false))
    {
        issues.0.extend(found.0);
    }
    issues.0.extend(profiles.extensions(resource, &mut scope, Extensions::Known, false).0);
    single(issues)
}

/// All there is to say about a resource: structure and what a write only warns of, the profiles it
/// claims, those `asked` about, vital signs by their code, extensions, and what may be a mistake.
/// A profile that is asked about and not known is an error.
pub fn findings<'a>(
    resource: &'a Json<'a>,
    profiles: &'a Profiles,
    asked: &[String],
    strict: Strict,
) -> Issues {
    let mut issues = validate_fully(resource);
    let mut scope = Scope::new(resource);
    let extensions = if strict.extensions { Extensions::Known } else { Extensions::Told };
    each(resource, &mut |one, at| {
        let mut add = |found: Issues| issues.0.extend(found.0.into_iter().map(|issue| below(issue, at)));
        let mut checked = HashSet::new();
        for url in claims(one) {
            if !checked.insert(url) {
                continue;
            }
            match profiles.check(one, &mut scope, url, true) {
                Some(found) => add(found),
                None => add(unknown(Severity::Warning, url, "Resource.meta.profile").into()),
            }
        }
        let vital = vital_signs::profile(one).filter(|url| !checked.contains(url));
        if let Some(found) = vital.and_then(|url| profiles.check(one, &mut scope, url, true)) {
            add(found);
        }
        add(profiles.extensions(one, &mut scope, extensions, true));
    });
    for url in asked {
        match profiles.check(resource, &mut scope, url, true) {
            Some(found) => issues.0.extend(found.0),
            None => issues.0.push(unknown(Severity::Error, url, "")),
        }
    }
    issues.0.extend(doubts::find(resource, strict).0);
    single(issues)
}

/// Of equal findings at one place the gravest stays; errors come first.
fn single(mut issues: Issues) -> Issues {
    issues.0.sort_by_key(|issue| std::cmp::Reverse(issue.severity));
    let mut seen = HashSet::new();
    issues.0.retain(|issue| seen.insert((issue.expression.clone(), issue.details.clone())));
    issues
}

/// HL7's vital signs and our own profiles count always.
fn is_always(canonical: &str) -> bool {
    let url = canonical.split(['|', '#']).next().unwrap_or_default();
    profile::is_ours(url) || vital_signs::is_one(url)
}

fn claims<'a>(resource: &'a Json) -> impl Iterator<Item = &'a str> + use<'a> {
    let meta = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
    meta.iter().filter_map(Json::as_str)
}

fn unknown(severity: Severity, canonical: &str, at: &str) -> Issue {
    let details = format!("the profile {canonical} is not known here");
    Issue { severity, ..Issue::error("not-found", details) }.at(at)
}

/// A finding of a resource, as one of what it is in.
fn below(mut issue: Issue, at: &At<'_>) -> Issue {
    let rest = issue.expression.find(['.', '[']).and_then(|from| issue.expression.get(from..));
    issue.expression = at.path() + rest.unwrap_or_default();
    issue
}

/// Calls with the resource and every one in it, and where that is.
fn each<'a>(resource: &'a Json<'a>, call: &mut dyn FnMut(&'a Json<'a>, &At<'_>)) {
    let name = resource.text("resourceType").unwrap_or("Resource");
    with(resource, &At::root(name), call, 0);
}

fn with<'a>(one: &'a Json<'a>, at: &At<'_>, call: &mut dyn FnMut(&'a Json<'a>, &At<'_>), depth: usize) {
    if one.as_object().is_none() || depth > 16 {
        return;
    }
    call(one, at);
    let here = at.element("contained");
    for (n, one) in one.list("contained").iter().enumerate() {
        with(one, &here.item(n), call, depth + 1);
    }
    match one.text("resourceType") {
        Some("Bundle") => {
            let here = at.element("entry");
            for (n, entry) in one.list("entry").iter().enumerate() {
                if let Some(one) = entry.get("resource") {
                    with(one, &here.item(n).element("resource"), call, depth + 1);
                }
            }
        }
        Some("Parameters") => parameters(one, "parameter", at, call, depth),
        _ => {}
    }
}

fn parameters<'a>(
    node: &'a Json<'a>,
    name: &'static str,
    at: &At<'_>,
    call: &mut dyn FnMut(&'a Json<'a>, &At<'_>),
    depth: usize,
) {
    let here = at.element(name);
    for (n, one) in node.list(name).iter().enumerate() {
        let here = here.item(n);
        if let Some(resource) = one.get("resource") {
            with(resource, &here.element("resource"), call, depth + 1);
        }
        if depth < 64 {
            parameters(one, "part", &here, call, depth + 1);
        }
    }
}
