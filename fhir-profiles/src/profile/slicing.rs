//! Slicing: which element is of which slice
//! (<https://hl7.org/fhir/R4/profiling.html#slicing>).

use super::Found;
use super::conform::{Check, covers, members};
use super::definition::{Discriminator, Kind, Rules, Slicing};
use super::pattern;
use crate::fhirpath::{Item, Node};
use crate::json::Json;
use crate::validate::At;

/// What a slice says of the place that tells slices apart.
#[derive(Clone, Copy)]
enum Said<'a> {
    Rules(&'a Rules),
    /// A part of a pattern or fixed value.
    Part(&'a Json<'static>),
}

impl<'a> Check<'_, 'a> {
    /// Assigns each element to a slice; checks each against it, and how many there are of each.
    pub(super) fn sliced(&mut self, rules: &'a Rules, found: &[(Node<'a>, Option<usize>)], at: &At<'_>) {
        let slicing = rules.slicing.as_deref();
        let mut counts = vec![0_usize; rules.slices.len()];
        let (mut last, mut outside) = (0, false);
        let untold_before = self.untold;
        for (node, index) in found {
            let here = index.map_or(*at, |index| at.item(index));
            let of = rules.slices.iter().position(|(_, slice)| self.is_of(slicing, slice, *node, &here));
            let Some(place) = of else {
                outside = true;
                if slicing.is_some_and(|slicing| slicing.closed) && self.untold == untold_before {
                    self.error(&here, "structure", "the profile allows nothing here but its slices");
                }
                continue;
            };
            if let Some(count) = counts.get_mut(place) {
                *count += 1;
            }
            if outside && slicing.is_some_and(|slicing| slicing.at_end) {
                self.error(&here, "structure", "what is in no slice comes last");
            }
            if place < last && slicing.is_some_and(|slicing| slicing.ordered) {
                self.error(&here, "structure", "the slices stand in another order");
            }
            last = last.max(place);
            if let Some((_, slice)) = rules.slices.get(place) {
                self.element(slice, *node, &here);
                if !slice.slices.is_empty() {
                    self.sliced(slice, &[(*node, *index)], at);
                }
            }
        }
        let all_told = std::mem::replace(&mut self.untold, untold_before) == untold_before;
        for ((name, slice), count) in rules.slices.iter().zip(counts).filter(|_| all_told) {
            self.counted(slice, count, &format!(" (slice {name})"), at);
        }
    }

    /// Is an element of the slice?
    fn is_of(&mut self, slicing: Option<&'a Slicing>, slice: &'a Rules, node: Node<'a>, at: &At<'_>) -> bool {
        if !self.pay(1, at) {
            return false;
        }
        match slicing.map(|slicing| slicing.discriminators.as_slice()) {
            None | Some([]) => self.agrees(slice, node, 0),
            Some(all) => all.iter().all(|one| self.tells_apart(one, slice, node, at)),
        }
    }

    fn tells_apart(&mut self, by: &'a Discriminator, slice: &'a Rules, node: Node<'a>, at: &At<'_>) -> bool {
        if by.path == "url" && node.type_name() == "Extension" {
            let own = node.value.and_then(|value| value.text("url")).unwrap_or_default();
            let fixed = slice.child("url").and_then(|url| url.fixed.as_deref()).and_then(Json::as_str);
            let mut profiles = slice.types.iter().flat_map(|rule| rule.profiles.iter());
            return match fixed {
                Some(fixed) => fixed == own,
                None => profiles.any(|profile| profile.split('|').next() == Some(own)),
            };
        }
        let said = self.said(slice, &by.path);
        let Some(expression) = &by.expression else { return false };
        let Ok(items) = self.evaluate(expression, node, at) else { return false };
        let nodes: Vec<Node<'a>> = items
            .into_iter()
            .filter_map(|item| if let Item::Element(node) = item { Some(node) } else { None })
            .collect();
        let rules =
            said.iter().filter_map(|said| if let Said::Rules(rules) = said { Some(*rules) } else { None });
        let rules: Vec<&'a Rules> = rules.collect();
        let through = by.path.ends_with("resolve()");
        match by.kind {
            Kind::Exists => rules.iter().all(|rules| match (rules.min, rules.max) {
                (_, Some(0)) => nodes.is_empty(),
                (Some(min), _) if min > 0 => !nodes.is_empty(),
                _ => true,
            }),
            Kind::Type => rules.first().is_none_or(|rules| {
                let own = std::iter::once(*rules).filter(|rules| !rules.types.is_empty());
                let inner = rules.slices.iter().map(|(_, slice)| slice);
                let kinds = own.chain(inner).flat_map(|rules| rules.types.iter());
                kinds.clone().next().is_none()
                    || nodes.iter().any(|node| {
                        let own = node.type_name();
                        if through {
                            let mut targets = kinds.clone().flat_map(|rule| rule.targets.iter());
                            targets.any(|url| self.profiles.find(url).is_some_and(|found| found.covers(own)))
                        } else {
                            kinds.clone().any(|rule| covers(&rule.code, own))
                        }
                    })
            }),
            Kind::Profile => rules.iter().all(|rules| {
                let all = rules.types.iter();
                let urls: Vec<&'a str> = if through {
                    all.flat_map(|rule| rule.targets.iter().map(String::as_str)).collect()
                } else {
                    all.flat_map(|rule| rule.profiles.iter().map(String::as_str)).collect()
                };
                urls.is_empty()
                    || nodes.iter().any(|node| {
                        urls.iter().any(|url| match self.found(url) {
                            Some(Found::Profile(definition)) => self.conforms(definition, *node),
                            Some(found @ Found::Type(_)) => found.covers(node.type_name()),
                            None => false,
                        })
                    })
            }),
            Kind::Value => {
                let telling: Vec<&Said<'a>> = said
                    .iter()
                    .filter(|said| match said {
                        Said::Rules(rules) => rules.decides(),
                        Said::Part(_) => true,
                    })
                    .collect();
                if telling.is_empty() {
                    let urls: Vec<&'a String> =
                        slice.types.iter().flat_map(|rule| rule.profiles.iter()).collect();
                    for url in urls {
                        self.found(url);
                    }
                }
                telling.is_empty()
                    || nodes.iter().any(|node| {
                        telling.iter().any(|said| match said {
                            Said::Rules(rules) => self.agrees(rules, *node, 0),
                            Said::Part(part) => node.value.is_some_and(|value| pattern::fits(value, part)),
                        })
                    })
            }
        }
    }

    /// Slices that a profile tells apart which is not known here can't be counted.
    fn found(&mut self, url: &str) -> Option<Found<'a>> {
        let found = self.profiles.find(url);
        self.untold += usize::from(found.is_none());
        found
    }

    /// What the slice says at the end of a discriminator's path.
    fn said(&self, slice: &'a Rules, path: &str) -> Vec<Said<'a>> {
        let mut all = vec![Said::Rules(slice)];
        for step in steps(path).filter(|step| *step != "$this") {
            let function = step.split_once('(').map(|(name, rest)| (name, rest.trim_end_matches(')')));
            let mut next = Vec::new();
            for one in all {
                match (one, function) {
                    (Said::Rules(rules), None) => self.below(rules, step, &mut next),
                    (Said::Part(part), None) => parts(part, step, &mut next),
                    (Said::Rules(rules), Some(("ofType", name))) => {
                        let of = rules
                            .slices
                            .iter()
                            .filter(|(_, slice)| slice.types.iter().any(|rule| rule.code == name));
                        let before = next.len();
                        next.extend(of.map(|(_, slice)| Said::Rules(slice)));
                        if next.len() == before {
                            next.push(one);
                        }
                    }
                    (Said::Rules(rules), Some(("extension", _))) => {
                        let slices =
                            rules.child("extension").into_iter().flat_map(|child| child.slices.iter());
                        let both = slices.flat_map(|(_, slice)| {
                            std::iter::once(slice).chain(slice.slices.iter().map(|(_, inner)| inner))
                        });
                        next.extend(both.map(Said::Rules));
                    }
                    // `resolve()`: the rules of the reference say what it may lead to.
                    (one, Some(_)) => next.push(one),
                }
            }
            all = next;
        }
        all
    }

    fn below(&self, rules: &'a Rules, step: &str, next: &mut Vec<Said<'a>>) {
        let before = next.len();
        if let Some(child) = rules.child(step) {
            next.push(Said::Rules(child));
            next.extend(child.slices.iter().map(|(_, slice)| Said::Rules(slice)));
        }
        for known in [&rules.fixed, &rules.pattern].into_iter().flatten() {
            parts(known, step, next);
        }
        if next.len() > before {
            return;
        }
        for url in rules.types.iter().flat_map(|rule| rule.profiles.iter()) {
            if let Some(Found::Profile(definition)) = self.profiles.find(url) {
                next.extend(definition.root.child(step).map(Said::Rules));
            }
        }
    }

    /// Has it the values that are asked for? All else is left to the check of the slice.
    fn agrees(&self, rules: &Rules, node: Node<'a>, depth: usize) -> bool {
        let value = node.value.unwrap_or(&Json::Null);
        if rules.fixed.as_ref().is_some_and(|fixed| !pattern::is_fixed(value, fixed))
            || rules.pattern.as_ref().is_some_and(|wanted| !pattern::fits(value, wanted))
        {
            return false;
        }
        let outside =
            |url: &String| self.profiles.value_set(url).and_then(|set| set.holds(value)) == Some(false);
        if depth > 16 || rules.value_set.as_ref().is_some_and(outside) {
            return false;
        }
        rules.children.iter().all(|(name, child)| {
            let slices = || {
                child
                    .slices
                    .iter()
                    .map(|(_, slice)| slice)
                    .filter(|slice| slice.is_asked() && slice.decides())
            };
            if !child.decides() && slices().next().is_none() {
                return true;
            }
            let found = members(node, name);
            let some = |rules: &Rules| found.iter().any(|(one, _)| self.agrees(rules, *one, depth + 1));
            let is_there = |slice: &Rules| {
                found
                    .iter()
                    .any(|(one, _)| slice.types.iter().any(|rule| covers(&rule.code, one.type_name())))
            };
            let asked = child.min > Some(0) || !found.is_empty();
            (!asked || !child.decides() || some(child))
                && slices().all(|slice| {
                    (slice.min == Some(0) || slice.min.is_none()) && !is_there(slice) || some(slice)
                })
        })
    }
}

/// The steps of a path; an address in parentheses has dots of its own.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    path.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '.' && depth == 0
    })
}

/// The members of that name in a part of a pattern.
fn parts<'a>(part: &'a Json<'static>, step: &str, next: &mut Vec<Said<'a>>) {
    match part {
        Json::Array(items) => items.iter().for_each(|item| parts(item, step, next)),
        _ => match part.get(step) {
            Some(Json::Array(items)) => next.extend(items.iter().map(Said::Part)),
            Some(one) => next.push(Said::Part(one)),
            None => {}
        },
    }
}
