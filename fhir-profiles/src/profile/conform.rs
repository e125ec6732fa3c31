//! Whether a resource conforms to a profile: one walk over its tree beside the tree of rules.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::definition::{Constraint, Definition, Rules, TypeRule};
use super::{Found, Profiles, pattern};
use crate::fhirpath::{Environment, Error, Expression, Item, Node};
use crate::json::Json;
use crate::outcome::{Issue, Severity};
use crate::reference::{self, Reference};
use crate::schema::TypeKind;
use crate::validate::At;

/// What all profiles of a resource may cost in steps: so many, and so many more for each resource in
/// it. A vital sign takes 200.
const STEPS: u64 = 5_000_000;
const STEPS_EACH: u64 = 5_000;
/// How many profiles may lead to each other.
const HOPS: usize = 12;
/// How many errors are kept, and how many other findings.
const MOST: usize = 100;

/// The outermost resource of a check: what may still be spent on it, and where its entries are.
pub struct Scope<'a> {
    root: Node<'a>,
    steps: u64,
    /// The entries of a Bundle by fullUrl, and by `Type/id` where that is an address on a server.
    entries: OnceCell<HashMap<&'a str, &'a Json<'a>>>,
    /// What resources contain by id, for each by its place in memory.
    contained: HashMap<usize, HashMap<&'a str, &'a Json<'a>>>,
}

impl<'a> Scope<'a> {
    /// Of a resource that is in no other.
    pub fn new(resource: &'a Json<'a>) -> Self {
        let entries = resource.list("entry").len() as u64;
        let steps = STEPS.saturating_add(entries.saturating_mul(STEPS_EACH));
        Self { root: Node::resource(resource), steps, entries: OnceCell::new(), contained: HashMap::new() }
    }

    fn contained(&mut self, holder: &'a Json<'a>, id: &str) -> Option<&'a Json<'a>> {
        let by_id = || {
            // Of two of the same id the first counts.
            let all = holder.list("contained").iter().rev();
            all.filter_map(|one| Some((one.text("id")?, one))).collect()
        };
        let place = std::ptr::from_ref(holder) as usize;
        self.contained.entry(place).or_insert_with(by_id).get(id).copied()
    }

    fn entry(&self, url: &str) -> Option<&'a Json<'a>> {
        let entries = self.entries.get_or_init(|| {
            let mut all = HashMap::new();
            for entry in self.root.value.map_or(&[][..], |root| root.list("entry")) {
                let (Some(url), Some(resource)) = (entry.text("fullUrl"), entry.get("resource")) else {
                    continue;
                };
                all.entry(url).or_insert(resource);
                let id = url.rfind('/').unwrap_or_default();
                let kind = url.get(..id).and_then(|before| before.rfind('/'));
                if let Some(relative) =
                    kind.filter(|_| url.starts_with("http")).and_then(|at| url.get(at + 1..))
                {
                    all.entry(relative).or_insert(resource);
                }
            }
            all
        });
        entries.get(url).copied()
    }
}

/// The check of one resource.
pub(super) struct Check<'s, 'a> {
    pub(super) profiles: &'a Profiles,
    scope: &'s mut Scope<'a>,
    /// The resource the walk is in, and what contains that.
    resource: Node<'a>,
    root: Node<'a>,
    pub(super) issues: Vec<Issue>,
    /// The profile it is about at the moment, and how many lead to it.
    profile: &'a str,
    hops: usize,
    /// Whether an element conforms to a profile, by their places in memory.
    known: HashMap<(usize, usize), bool>,
    /// How often a profile that slices are told apart by was not known.
    pub(super) untold: usize,
    /// Are there things to tell that are no fault?
    tells: bool,
}

impl<'s, 'a> Check<'s, 'a> {
    pub(super) fn new(
        profiles: &'a Profiles,
        resource: Node<'a>,
        scope: &'s mut Scope<'a>,
        tells: bool,
    ) -> Self {
        let (root, issues, known) = (scope.root, Vec::new(), HashMap::new());
        Self { profiles, scope, resource, root, issues, profile: "", hops: 0, known, untold: 0, tells }
    }

    /// Pays for a step; false when the budget is spent, which is an error once.
    pub(super) fn pay(&mut self, steps: usize, at: &At<'_>) -> bool {
        if self.scope.steps == 0 {
            return false;
        }
        self.scope.steps = self.scope.steps.saturating_sub(steps as u64);
        if self.scope.steps == 0 {
            self.error(at, "too-costly", "not all of the profiles could be checked");
        }
        self.scope.steps > 0
    }

    pub(super) fn issue(&mut self, severity: Severity, at: &At<'_>, code: &'static str, details: String) {
        let error = severity >= Severity::Error;
        let alike = self.issues.iter().filter(|issue| (issue.severity >= Severity::Error) == error);
        if alike.count() < MOST {
            let details =
                if self.profile.is_empty() { details } else { format!("{details} ({})", self.profile) };
            self.issues.push(Issue { severity, ..Issue::error(code, details) }.at(at.path()));
        }
    }

    pub(super) fn error(&mut self, at: &At<'_>, code: &'static str, details: impl Into<String>) {
        self.issue(Severity::Error, at, code, details.into());
    }

    fn information(&mut self, at: &At<'_>, details: String) {
        if self.tells {
            self.issue(Severity::Information, at, "not-supported", details);
        }
    }

    /// Checks an element or resource against a profile.
    pub(super) fn profile(&mut self, definition: &'a Definition, node: Node<'a>, at: &At<'_>) {
        if self.hops >= HOPS {
            return;
        }
        let name = node.type_name();
        if !Found::Profile(definition).covers(name) {
            let details = format!("the profile {} is for {}, not for {name}", definition.name, definition.of);
            return self.error(at, "invalid", details);
        }
        self.hops += 1;
        let before = (self.resource, self.root, self.profile);
        self.profile = &definition.name;
        if node.of.is_some_and(|of| of.kind == TypeKind::Resource) {
            self.resource = node;
        }
        self.element(&definition.root, node, at);
        (self.resource, self.root, self.profile) = before;
        self.hops -= 1;
    }

    /// Does it conform? Findings are not kept.
    pub(super) fn conforms(&mut self, definition: &'a Definition, node: Node<'a>) -> bool {
        let place = node.value.map_or(0, |value| std::ptr::from_ref(value) as usize);
        let key = (place, std::ptr::from_ref(definition) as usize);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        // What leads back to itself is decided by the rest of it.
        self.known.insert(key, true);
        let kept = std::mem::take(&mut self.issues);
        self.profile(definition, node, &At::root(""));
        let fits = self.issues.iter().all(|issue| issue.severity < Severity::Error);
        let costly = self.issues.iter().any(|issue| issue.code == "too-costly");
        self.issues = kept;
        if costly {
            self.error(&At::root(""), "too-costly", "not all of the profiles could be checked");
        }
        self.known.insert(key, fits);
        fits
    }

    pub(super) fn element(&mut self, rules: &'a Rules, node: Node<'a>, at: &At<'_>) {
        if !self.pay(1 + rules.children.len(), at) {
            return;
        }
        self.kinds(rules, node, at);
        self.value(rules, node, at);
        for constraint in &rules.constraints {
            self.constraint(constraint, node, at);
        }
        for (name, child) in &rules.children {
            let found = members(node, name);
            if !self.pay(found.len(), at) {
                return;
            }
            let here = at.element(name);
            self.counted(child, found.len(), "", &here);
            if !child.slices.is_empty() || child.slicing.as_ref().is_some_and(|slicing| slicing.closed) {
                self.sliced(child, &found, &here);
            }
            for (one, index) in found {
                self.element(child, one, &index.map_or(here, |index| here.item(index)));
            }
        }
    }

    /// `what` names a slice, after a space.
    pub(super) fn counted(&mut self, rules: &Rules, count: usize, what: &str, at: &At<'_>) {
        if rules.min.is_some_and(|min| count < min) {
            let min = rules.min.unwrap_or_default();
            let details = if min == 1 {
                format!("the profile needs the element{what}")
            } else {
                format!("the profile needs the element{what} at least {min} times")
            };
            self.error(at, "required", details);
        }
        match rules.max.filter(|max| count > *max) {
            Some(0) => self.error(at, "structure", format!("the profile does not allow the element{what}")),
            Some(max) => {
                let details = format!("the profile allows the element{what} at most {max} times");
                self.error(at, "structure", details);
            }
            None => {}
        }
    }

    fn kinds(&mut self, rules: &'a Rules, node: Node<'a>, at: &At<'_>) {
        if rules.types.is_empty() {
            return;
        }
        let backbone = node.of.is_none_or(|of| of.kind == TypeKind::Backbone);
        let own = node.type_name();
        let fitting: Vec<&'a TypeRule> =
            rules.types.iter().filter(|rule| backbone || covers(&rule.code, own)).collect();
        if fitting.is_empty() {
            let allowed: Vec<&str> = rules.types.iter().map(|rule| rule.code.as_str()).collect();
            let details = format!("the profile allows {} here, not {own}", allowed.join(", "));
            return self.error(at, "structure", details);
        }
        self.of_profiles(&fitting, node, at);
        if own == "Reference" && fitting.iter().all(|rule| !rule.targets.is_empty()) {
            self.target(&fitting, node, at);
        }
    }

    /// It has to conform to one of the profiles of its type.
    fn of_profiles(&mut self, fitting: &[&'a TypeRule], node: Node<'a>, at: &At<'_>) {
        if fitting.iter().any(|rule| rule.profiles.is_empty()) {
            return;
        }
        let urls: Vec<&'a str> =
            fitting.iter().flat_map(|rule| rule.profiles.iter().map(String::as_str)).collect();
        let mut definitions = Vec::new();
        for url in &urls {
            match self.profiles.find(url) {
                Some(Found::Profile(definition)) => definitions.push(definition),
                Some(Found::Type(of)) if covers(of, node.type_name()) => return,
                Some(Found::Type(_)) => {}
                None => {
                    return self.information(at, format!("the profile {url} is not known here"));
                }
            }
        }
        match definitions.as_slice() {
            [] => self.error(at, "invalid", format!("it is none of {}", urls.join(", "))),
            [only] => self.profile(only, node, at),
            several => {
                if !several.iter().any(|one| self.conforms(one, node)) {
                    self.error(at, "invalid", format!("it conforms to none of {}", urls.join(", ")));
                }
            }
        }
    }

    /// What a reference leads to has to be of a type that the profile allows, and to conform to one
    /// of the profiles if it is at hand.
    fn target(&mut self, fitting: &[&'a TypeRule], node: Node<'a>, at: &At<'_>) {
        let Some(text) = node.value.and_then(|value| value.text("reference")) else { return };
        let targets: Vec<&'a str> =
            fitting.iter().flat_map(|rule| rule.targets.iter().map(String::as_str)).collect();
        let found = self.resolve(text);
        let kind = match (found, reference::parse(text, "")) {
            (Some(node), _) => node.type_name(),
            (None, Reference::Local { kind, .. } | Reference::Conditional { kind, .. }) => kind.name(),
            (None, Reference::Other(text)) => {
                let mut parts = text.rsplit('/');
                let id = parts.next().unwrap_or_default();
                let kind = parts.next().and_then(crate::resource_type::ResourceType::parse);
                match kind.filter(|_| reference::is_id(id)) {
                    Some(kind) => kind.name(),
                    None => return,
                }
            }
            (None, Reference::Contained(_)) => return,
        };
        let mut may_be = Vec::new();
        for url in &targets {
            match self.profiles.find(url) {
                Some(target) if target.covers(kind) => may_be.push(target),
                Some(_) => {}
                None => return self.information(at, format!("the profile {url} is not known here")),
            }
        }
        let here = at.element("reference");
        if may_be.is_empty() {
            return self.error(&here, "value", format!("the profile allows no reference to {kind} here"));
        }
        let Some(found) = found.filter(|_| self.hops < HOPS) else { return };
        let fits = may_be.into_iter().any(|target| match target {
            Found::Type(_) => true,
            Found::Profile(definition) => self.conforms(definition, found),
        });
        if !fits {
            let details = format!("what is referred to conforms to none of {}", targets.join(", "));
            self.error(&here, "invalid", details);
        }
    }

    /// What a reference names, if it is in the same resource or Bundle.
    pub(super) fn resolve(&mut self, text: &str) -> Option<Node<'a>> {
        let root = self.root.value?;
        if let Some(id) = text.strip_prefix('#') {
            let mut holders = [self.resource.value, Some(root)].into_iter().flatten();
            return holders.find_map(|holder| self.scope.contained(holder, id)).map(Node::resource);
        }
        let target = text.split("/_history/").next().unwrap_or(text);
        self.scope.entry(target).map(Node::resource)
    }

    fn value(&mut self, rules: &'a Rules, node: Node<'a>, at: &At<'_>) {
        let value = node.value.unwrap_or(&Json::Null);
        if let Some(fixed) = &rules.fixed
            && !pattern::is_fixed(value, fixed)
        {
            self.error(at, "value", format!("the profile fixes the value to {}", short(fixed)));
        }
        if let Some(wanted) = &rules.pattern
            && !pattern::fits(value, wanted)
        {
            self.error(at, "value", format!("the profile needs the value to have {}", short(wanted)));
        }
        if let Some(least) = &rules.least
            && pattern::order(value, least) == Some(Ordering::Less)
        {
            self.error(at, "value", format!("the profile needs at least {}", short(least)));
        }
        if let Some(most) = &rules.most
            && pattern::order(value, most) == Some(Ordering::Greater)
        {
            self.error(at, "value", format!("the profile allows at most {}", short(most)));
        }
        if let (Some(length), Some(text)) = (rules.length, value.as_str())
            && text.chars().count() > length
        {
            self.error(at, "value", format!("the profile allows at most {length} characters"));
        }
        if let Some(url) = &rules.value_set {
            self.bound(url, node, at);
        }
    }

    fn bound(&mut self, url: &str, node: Node<'a>, at: &At<'_>) {
        let codes = ["code", "Coding", "CodeableConcept", "Quantity", "string", "uri"];
        let Some(value) = node.value.filter(|_| codes.iter().any(|code| covers(code, node.type_name())))
        else {
            return;
        };
        match self.profiles.value_set(url).and_then(|set| set.holds(value)) {
            Some(true) => {}
            Some(false) => self.error(at, "code-invalid", format!("no code of the value set {url}")),
            None => self.information(at, format!("the value set {url} can't be checked here")),
        }
    }

    fn constraint(&mut self, constraint: &'a Arc<Constraint>, node: Node<'a>, at: &At<'_>) {
        let named = || {
            if constraint.text.is_empty() {
                format!("the invariant {} is broken", constraint.key)
            } else {
                format!("{} ({})", constraint.text, constraint.key)
            }
        };
        let Some(expression) = constraint.expression() else {
            return self.information(at, format!("the invariant {} can't be read here", constraint.key));
        };
        match self.evaluate(expression, node, at) {
            Ok(items) if matches!(items.as_slice(), [Item::Boolean(false)] | []) => {
                self.issue(constraint.severity, at, "invariant", named());
            }
            Ok(_) | Err(Error::TooCostly) => {}
            Err(_) => self.information(at, format!("the invariant {} can't be checked here", constraint.key)),
        }
    }

    pub(super) fn evaluate(
        &mut self,
        expression: &'a Expression,
        node: Node<'a>,
        at: &At<'_>,
    ) -> Result<Vec<Item<'a>>, Error> {
        let environment = Environment {
            resource: Some(self.resource),
            root: Some(self.root),
            steps: self.scope.steps,
            ..Environment::default()
        };
        let (result, left) = expression.metered(&Item::Element(node), &environment);
        let spent = self.scope.steps.saturating_sub(left);
        self.pay(usize::try_from(spent).unwrap_or(usize::MAX), at);
        result
    }
}

/// The elements of that name; each with its place where it is one of an array.
pub(super) fn members<'a>(node: Node<'a>, name: &str) -> Vec<(Node<'a>, Option<usize>)> {
    let many = match node.of.filter(|of| of.kind != TypeKind::Primitive) {
        Some(of) => of.named(name).next().is_some_and(|element| element.many),
        None => true,
    };
    let mut found = Vec::new();
    node.member(name, &mut |one| found.push((one, many.then_some(found.len()))));
    found
}

/// Is a type of an instance what a profile names?
pub(super) fn covers(code: &str, own: &str) -> bool {
    matches!(code, "Element" | "BackboneElement")
        || code.starts_with("http://hl7.org/fhirpath/")
        || crate::fhirpath::is_subtype(own, code)
}

fn short(value: &Json) -> String {
    value.to_text().chars().take(120).collect()
}
