//! Functions of collections and types (<http://hl7.org/fhirpath/N1/#functions>,
//! <https://hl7.org/fhir/R4/fhirpath.html#functions>).

use std::rc::Rc;

use super::evaluate::{Answer, Evaluator, Frame};
use super::parser::{Call, Expr, Operator, TypeName};
use super::temporal::Temporal;
use super::value::{Item, Items, Node, Seen, is_subtype, is_type};
use super::{Error, operators, sort};
use crate::narrative;
use crate::schema::TypeKind;

/// Which file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Collection,
    Text,
    Number,
}

/// A function: how many arguments it takes, and whose it is.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) group: Group,
}

const fn function(group: Group, name: &'static str, least: usize, most: usize) -> Function {
    Function { name, least, most, group }
}

const fn of(name: &'static str, least: usize, most: usize) -> Function {
    function(Group::Collection, name, least, most)
}

const fn text(name: &'static str, least: usize, most: usize) -> Function {
    function(Group::Text, name, least, most)
}

const fn number(name: &'static str, least: usize, most: usize) -> Function {
    function(Group::Number, name, least, most)
}

static FUNCTIONS: [Function; 105] = [
    of("aggregate", 1, 2),
    of("all", 1, 1),
    of("allFalse", 0, 0),
    of("allTrue", 0, 0),
    of("anyFalse", 0, 0),
    of("anyTrue", 0, 0),
    of("as", 1, 1),
    of("children", 0, 0),
    of("combine", 1, 1),
    of("conformsTo", 1, 1),
    of("count", 0, 0),
    of("descendants", 0, 0),
    of("distinct", 0, 0),
    of("empty", 0, 0),
    of("exclude", 1, 1),
    of("exists", 0, 1),
    of("extension", 1, 1),
    of("first", 0, 0),
    of("getValue", 0, 0),
    of("hasValue", 0, 0),
    of("htmlChecks", 0, 0),
    of("iif", 2, 3),
    of("intersect", 1, 1),
    of("is", 1, 1),
    of("isDistinct", 0, 0),
    of("last", 0, 0),
    of("memberOf", 1, 1),
    of("not", 0, 0),
    of("now", 0, 0),
    of("ofType", 1, 1),
    of("repeat", 1, 1),
    of("resolve", 0, 0),
    of("select", 1, 1),
    of("single", 0, 0),
    of("skip", 1, 1),
    of("sort", 0, 8),
    of("subsetOf", 1, 1),
    of("supersetOf", 1, 1),
    of("tail", 0, 0),
    of("take", 1, 1),
    of("timeOfDay", 0, 0),
    of("today", 0, 0),
    of("trace", 1, 2),
    of("type", 0, 0),
    of("union", 1, 1),
    of("where", 1, 1),
    text("contains", 1, 1),
    text("convertsToBoolean", 0, 0),
    text("convertsToDate", 0, 0),
    text("convertsToDateTime", 0, 0),
    text("convertsToDecimal", 0, 0),
    text("convertsToInteger", 0, 0),
    text("convertsToQuantity", 0, 1),
    text("convertsToString", 0, 0),
    text("convertsToTime", 0, 0),
    text("decode", 1, 1),
    text("encode", 1, 1),
    text("endsWith", 1, 1),
    text("escape", 1, 1),
    text("indexOf", 1, 1),
    text("join", 0, 1),
    text("lastIndexOf", 1, 1),
    text("length", 0, 0),
    text("lower", 0, 0),
    text("matches", 1, 1),
    text("matchesFull", 1, 1),
    text("replace", 2, 2),
    text("replaceMatches", 2, 2),
    text("split", 1, 1),
    text("startsWith", 1, 1),
    text("substring", 1, 2),
    text("toBoolean", 0, 0),
    text("toChars", 0, 0),
    text("toDate", 0, 0),
    text("toDateTime", 0, 0),
    text("toDecimal", 0, 0),
    text("toInteger", 0, 0),
    text("toQuantity", 0, 1),
    text("toString", 0, 0),
    text("toTime", 0, 0),
    text("trim", 0, 0),
    text("unescape", 1, 1),
    text("upper", 0, 0),
    number("abs", 0, 0),
    number("avg", 0, 0),
    number("ceiling", 0, 0),
    number("comparable", 1, 1),
    number("exp", 0, 0),
    number("floor", 0, 0),
    number("highBoundary", 0, 1),
    number("ln", 0, 0),
    number("log", 1, 1),
    number("lowBoundary", 0, 1),
    number("max", 0, 0),
    number("min", 0, 0),
    number("power", 1, 1),
    number("precision", 0, 0),
    number("round", 0, 1),
    number("sqrt", 0, 0),
    number("sum", 0, 0),
    number("truncate", 0, 0),
    of("checkModifiers", 1, 99),
    of("slice", 2, 2),
    of("subsumes", 1, 1),
    of("subsumedBy", 1, 1),
];

pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

#[expect(clippy::unnecessary_wraps, reason = "all arms of the calls read alike")]
fn boolean<'a>(truth: bool) -> Answer<'a> {
    Ok(vec![Item::Boolean(truth)])
}

/// Calls a function of this file. `bare`: it stands without anything before it.
pub(super) fn call<'a>(
    evaluator: &Evaluator<'a>,
    call: &'a Call,
    items: Items<'a>,
    frame: &Frame<'a>,
    bare: bool,
) -> Answer<'a> {
    let arguments = call.arguments.as_slice();
    match (call.function.name, arguments) {
        ("empty", []) => boolean(items.is_empty()),
        ("exists", []) => boolean(!items.is_empty()),
        ("exists", [test]) => boolean(matching(evaluator, &items, test, frame)?.is_some()),
        ("all", [test]) => {
            for (n, item) in items.iter().enumerate() {
                if evaluator.test(test, &evaluator.each(frame, item, n)?)? != Some(true) {
                    return boolean(false);
                }
            }
            boolean(true)
        }
        ("not", []) => Ok(Evaluator::truth(&items)?.map(|truth| Item::Boolean(!truth)).into_iter().collect()),
        ("allTrue", []) => quantified(&items, true, true),
        ("allFalse", []) => quantified(&items, false, true),
        ("anyTrue", []) => quantified(&items, true, false),
        ("anyFalse", []) => quantified(&items, false, false),
        ("count", []) => Ok(i64::try_from(items.len()).ok().map(Item::Integer).into_iter().collect()),
        ("where", [test]) => {
            let mut found = Vec::new();
            for (n, item) in items.into_iter().enumerate() {
                if evaluator.test(test, &evaluator.each(frame, &item, n)?)? == Some(true) {
                    found.push(item);
                }
            }
            Ok(found)
        }
        ("select", [projection]) => {
            let mut found = Vec::new();
            for (n, item) in items.iter().enumerate() {
                found.append(&mut evaluator.evaluate(projection, &evaluator.each(frame, item, n)?)?);
                evaluator.charge(found.len() / 64)?;
            }
            Ok(found)
        }
        ("repeat", [projection]) => repeat(evaluator, items, projection, frame),
        ("aggregate", [each, rest @ ..]) => {
            let mut total = match rest {
                [start] => evaluator.evaluate(start, frame)?,
                _ => Vec::new(),
            };
            for (n, item) in items.iter().enumerate() {
                evaluator.charge(total.len())?;
                let frame = Frame { total: Some(Rc::new(total)), ..evaluator.each(frame, item, n)? };
                total = evaluator.evaluate(each, &frame)?;
            }
            Ok(total)
        }
        ("iif", [test, rest @ ..]) => choice(evaluator, &items, test, rest, frame, bare),
        ("first", []) => Ok(items.into_iter().take(1).collect()),
        ("last", []) => Ok(items.into_iter().next_back().into_iter().collect()),
        ("tail", []) => Ok(items.into_iter().skip(1).collect()),
        ("single", []) => {
            if items.len() > 1 {
                Err(Error::Many)
            } else {
                Ok(items)
            }
        }
        ("skip", [count]) => match evaluator.integer(count, frame)? {
            Some(count) => Ok(items.into_iter().skip(usize::try_from(count).unwrap_or(0)).collect()),
            None => Ok(Vec::new()),
        },
        ("take", [count]) => match evaluator.integer(count, frame)? {
            Some(count) => Ok(items.into_iter().take(usize::try_from(count).unwrap_or(0)).collect()),
            None => Ok(Vec::new()),
        },
        ("sort", keys) => sort::sorted(evaluator, items, keys, frame),
        ("distinct", []) => operators::union(evaluator, items, Vec::new()),
        ("isDistinct", []) => {
            let mut seen = Seen::default();
            for item in &items {
                if !seen.insert(item, &evaluator.meter)? {
                    return boolean(false);
                }
            }
            boolean(true)
        }
        ("union" | "combine" | "intersect" | "exclude" | "subsetOf" | "supersetOf", [other]) => {
            let other = evaluator.evaluate(other, frame)?;
            sets(evaluator, call.function.name, items, other)
        }
        ("children", []) => children(evaluator, &items),
        ("descendants", []) => descendants(evaluator, &items),
        ("trace", [_, rest @ ..]) => {
            if let [projection] = rest {
                for (n, item) in items.iter().enumerate() {
                    evaluator.evaluate(projection, &evaluator.each(frame, item, n)?)?;
                }
            }
            Ok(items)
        }
        ("now" | "today" | "timeOfDay", []) => clock(evaluator, call.function.name),
        ("type", []) => {
            Ok(items.iter().map(Item::type_of).map(|(space, name)| Item::Type(space, name)).collect())
        }
        ("is", [name]) => of_type(Operator::Is, items, &named(name)?),
        ("as", [name]) => of_type(Operator::As, items, &named(name)?),
        ("ofType", [name]) => {
            let name = named(name)?;
            known(&name)?;
            Ok(items.into_iter().filter(|item| narrows(item, &name)).collect())
        }
        _ => fhir(evaluator, call, &items, frame),
    }
}

/// The functions FHIR adds.
fn fhir<'a>(evaluator: &Evaluator<'a>, call: &'a Call, items: &[Item<'a>], frame: &Frame<'a>) -> Answer<'a> {
    match (call.function.name, call.arguments.as_slice()) {
        ("extension", [url]) => {
            let url = evaluator.text(url, frame)?;
            let (mut found, mut seen) = (Vec::new(), 0);
            for item in items {
                let Item::Element(node) = item else { continue };
                seen += node.width() / 16;
                node.member("extension", &mut |extension| {
                    seen += 1;
                    let own = extension.value.and_then(|value| value.text("url"));
                    if own.is_some() && own == url.as_deref() {
                        found.push(Item::Element(extension));
                    }
                });
            }
            evaluator.charge(items.len() + seen)?;
            Ok(found)
        }
        ("hasValue", []) => boolean(match items {
            [Item::Element(node)] => node.has_value(),
            [_] => true,
            _ => false,
        }),
        ("getValue", []) => match items {
            [item] => {
                Ok(Some(item.system()).filter(|item| !matches!(item, Item::Element(_))).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        },
        ("resolve", []) => {
            let mut found = Vec::new();
            for item in items {
                let reference = match (item, item.text()) {
                    (_, Some(text)) => Some(text),
                    (Item::Element(node), _) => {
                        node.value.and_then(|value| value.text("reference")).map(Into::into)
                    }
                    _ => None,
                };
                if let Some(reference) = reference {
                    found.extend(evaluator.resolve(&reference)?.map(Item::Element));
                }
            }
            Ok(found)
        }
        ("htmlChecks", []) => {
            let text = Evaluator::single(items)?;
            let Some(Item::String(text)) = text else { return Ok(Vec::new()) };
            evaluator.charge(text.len() / 16)?;
            boolean(narrative::check(&text).is_ok())
        }
        ("conformsTo", [url]) => {
            let (Some(url), [Item::Element(node)]) = (evaluator.text(url, frame)?, items) else {
                return Ok(Vec::new());
            };
            // Only what needs no profile: the base definition of a type.
            match url.strip_prefix("http://hl7.org/fhir/StructureDefinition/") {
                Some(name) if is_type(Some("FHIR"), name) => boolean(is_subtype(node.type_name(), name)),
                _ => Err(Error::Unsupported("conformsTo a profile".to_owned())),
            }
        }
        (name, _) => Err(Error::Unsupported(name.to_owned())),
    }
}

/// The first item that passes.
fn matching<'a>(
    evaluator: &Evaluator<'a>,
    items: &[Item<'a>],
    test: &'a Expr,
    frame: &Frame<'a>,
) -> Result<Option<usize>, Error> {
    for (n, item) in items.iter().enumerate() {
        if evaluator.test(test, &evaluator.each(frame, item, n)?)? == Some(true) {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

fn quantified<'a>(items: &[Item<'a>], wanted: bool, all: bool) -> Answer<'a> {
    let mut result = all;
    for item in items {
        let Item::Boolean(truth) = item.system() else { return Err(Error::Type("Booleans are needed")) };
        if all {
            result &= truth == wanted;
        } else {
            result |= truth == wanted;
        }
    }
    boolean(result)
}

/// Only what is new goes round again, so that a circle ends.
fn repeat<'a>(
    evaluator: &Evaluator<'a>,
    items: Items<'a>,
    projection: &'a Expr,
    frame: &Frame<'a>,
) -> Answer<'a> {
    let (mut seen, mut found) = (Seen::default(), Vec::new());
    let mut next = items;
    while !next.is_empty() {
        let mut new = Vec::new();
        for (n, item) in next.iter().enumerate() {
            for item in evaluator.evaluate(projection, &evaluator.each(frame, item, n)?)? {
                if seen.insert(&item, &evaluator.meter)? {
                    new.push(item);
                }
            }
        }
        found.extend(new.iter().cloned());
        next = new;
    }
    Ok(found)
}

fn choice<'a>(
    evaluator: &Evaluator<'a>,
    items: &[Item<'a>],
    test: &'a Expr,
    results: &'a [Expr],
    frame: &Frame<'a>,
    bare: bool,
) -> Answer<'a> {
    let own;
    let frame = if bare {
        frame
    } else {
        if items.len() > 1 {
            return Err(Error::Many);
        }
        own = Frame { this: items.first().cloned(), ..frame.clone() };
        &own
    };
    let truth = match Evaluator::single(&evaluator.evaluate(test, frame)?)? {
        None => false,
        Some(Item::Boolean(truth)) => truth,
        Some(_) => return Err(Error::Type("a Boolean is needed")),
    };
    match (truth, results) {
        (true, [then, ..]) | (false, [_, then]) => evaluator.evaluate(then, frame),
        _ => Ok(Vec::new()),
    }
}

fn sets<'a>(evaluator: &Evaluator<'a>, name: &str, items: Items<'a>, other: Items<'a>) -> Answer<'a> {
    let meter = &evaluator.meter;
    match name {
        "union" => operators::union(evaluator, items, other),
        "combine" => {
            evaluator.charge(items.len() + other.len())?;
            Ok(items.into_iter().chain(other).collect())
        }
        "intersect" | "exclude" => {
            let others = Seen::of(&other, meter)?;
            let mut found = Vec::new();
            for item in items {
                if others.has(&item, meter)? == (name == "intersect") {
                    found.push(item);
                }
            }
            if name == "intersect" { operators::union(evaluator, found, Vec::new()) } else { Ok(found) }
        }
        _ => {
            let (part, whole) = if name == "subsetOf" { (items, other) } else { (other, items) };
            let whole = Seen::of(&whole, meter)?;
            for item in &part {
                if !whole.has(item, meter)? {
                    return boolean(false);
                }
            }
            boolean(true)
        }
    }
}

fn children<'a>(evaluator: &Evaluator<'a>, items: &[Item<'a>]) -> Answer<'a> {
    let mut found = Vec::new();
    for item in items {
        if let Item::Element(node) = item {
            node.children(&mut |child| found.push(Item::Element(child)));
        }
    }
    evaluator.charge(found.len())?;
    Ok(found)
}

fn descendants<'a>(evaluator: &Evaluator<'a>, items: &[Item<'a>]) -> Answer<'a> {
    let mut found: Items<'a> = Vec::new();
    let mut next = items.to_vec();
    while !next.is_empty() {
        next = children(evaluator, &next)?;
        found.extend(next.iter().cloned());
    }
    Ok(found)
}

fn clock<'a>(evaluator: &Evaluator<'a>, name: &str) -> Answer<'a> {
    let moment = evaluator.environment.now.and_then(Temporal::moment);
    let Some(moment) = moment else { return Err(Error::Unsupported(format!("{name}() without a clock"))) };
    let part = match name {
        "today" => Some(moment.date()),
        "timeOfDay" => moment.time(),
        _ => Some(moment),
    };
    Ok(part.map(Item::Temporal).into_iter().collect())
}

fn named(argument: &Expr) -> Result<TypeName, Error> {
    TypeName::of(argument).ok_or(Error::Type("a type is needed"))
}

fn known(name: &TypeName) -> Result<(), Error> {
    if is_type(name.namespace.as_deref(), &name.name) {
        Ok(())
    } else {
        Err(Error::Type("there is no such type"))
    }
}

/// `is` and `as`, of one item.
pub(super) fn of_type<'a>(operator: Operator, items: Items<'a>, name: &TypeName) -> Answer<'a> {
    if items.len() > 1 {
        return Err(Error::Many);
    }
    if operator == Operator::Is {
        return Ok(items.iter().map(|item| Item::Boolean(is(item, name))).collect());
    }
    known(name)?;
    Ok(items.into_iter().filter(|item| narrows(item, name)).collect())
}

fn is(item: &Item<'_>, name: &TypeName) -> bool {
    let (namespace, own) = item.type_of();
    if name.namespace.as_deref().is_some_and(|wanted| wanted != namespace) {
        return false;
    }
    if namespace == "System" { name.name == own || name.name == "Any" } else { is_subtype(&own, &name.name) }
}

/// `as` and `ofType` keep what is of the type; a primitive has to be of that very one, so that a
/// code is not taken for a string.
fn narrows(item: &Item<'_>, name: &TypeName) -> bool {
    let primitive = |node: &Node<'_>| node.of.is_some_and(|of| of.kind == TypeKind::Primitive);
    match item {
        Item::Element(node) if primitive(node) => is(item, name) && node.type_name() == name.name,
        _ => is(item, name),
    }
}
