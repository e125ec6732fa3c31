//! Walking the tree (<http://hl7.org/fhirpath/N1/#path-selection>).

use std::borrow::Cow;
use std::rc::Rc;

use super::functions::{self, Group};
use super::operators;
use super::parser::{Call, Expr, Operand, Step};
use super::value::{Item, Items, Meter, Node, is_subtype};
use super::{Environment, Error, UCUM, numbers, texts};
use crate::json::Json;

/// What `$this`, `$index` and `$total` are.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame<'a> {
    pub(super) this: Option<Item<'a>>,
    pub(super) index: Option<i64>,
    pub(super) total: Option<Rc<Items<'a>>>,
}

impl<'a> Frame<'a> {
    pub(super) fn of(this: Option<Item<'a>>) -> Self {
        Self { this, ..Self::default() }
    }
}

/// Is it a variable that needs no environment to name it?
pub(super) fn is_of_the_language(name: &str) -> bool {
    ["context", "resource", "rootResource", "ucum", "sct", "loinc"].contains(&name)
        || name.starts_with("vs-")
        || name.starts_with("ext-")
}

pub(super) type Answer<'a> = Result<Items<'a>, Error>;

pub(super) struct Evaluator<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) meter: Meter,
    context: Item<'a>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(environment: &Environment<'a>, context: &Item<'a>) -> Self {
        let meter = Meter::new(environment.steps);
        Self { environment: *environment, meter, context: context.clone() }
    }

    pub(super) fn left(&self) -> u64 {
        self.meter.left()
    }

    pub(super) fn charge(&self, steps: usize) -> Result<(), Error> {
        self.meter.charge(steps)
    }

    /// The frame of an argument that is evaluated for each item.
    pub(super) fn each(&self, frame: &Frame<'a>, item: &Item<'a>, index: usize) -> Result<Frame<'a>, Error> {
        self.charge(1 + item.weight())?;
        let index = i64::try_from(index).ok();
        Ok(Frame { this: Some(item.clone()), index, total: frame.total.clone() })
    }

    pub(super) fn evaluate(&self, expr: &'a Expr, frame: &Frame<'a>) -> Answer<'a> {
        self.charge(1)?;
        match expr {
            Expr::Empty => Ok(Vec::new()),
            Expr::Literal(Item::String(text)) => Ok(vec![Item::String(Cow::Borrowed(text))]),
            Expr::Literal(item) => Ok(vec![item.clone()]),
            Expr::Variable(name) => self.variable(name),
            Expr::This => {
                self.charge(frame.this.as_ref().map_or(0, Item::weight))?;
                Ok(frame.this.iter().cloned().collect())
            }
            Expr::Index => Ok(frame.index.map(Item::Integer).into_iter().collect()),
            Expr::Total => {
                let total = frame.total.as_deref().map_or(&[][..], Vec::as_slice);
                self.charge(total.iter().map(|item| 1 + item.weight()).sum())?;
                Ok(total.to_vec())
            }
            Expr::Negative(inner) => numbers::negative(&self.evaluate(inner, frame)?),
            Expr::Positive(inner) => {
                let items = self.evaluate(inner, frame)?;
                numbers::negative(&items).map(|_| items)
            }
            Expr::Path { start, steps } => self.path(start.as_deref(), steps, frame),
            Expr::Chain { first, rest } => {
                let mut left = self.evaluate(first, frame)?;
                for (operator, operand) in rest {
                    self.charge(1)?;
                    left = match operand {
                        Operand::Type(name) => functions::of_type(*operator, left, name)?,
                        Operand::Expr(right) => operators::apply(self, *operator, left, right, frame)?,
                    };
                }
                Ok(left)
            }
        }
    }

    fn path(&self, start: Option<&'a Expr>, steps: &'a [Step], frame: &Frame<'a>) -> Answer<'a> {
        if start.is_none() {
            self.charge(frame.this.as_ref().map_or(0, Item::weight))?;
        }
        let mut steps = steps.iter();
        let mut items = match start {
            Some(start) => self.evaluate(start, frame)?,
            None => match (steps.next(), &frame.this) {
                // A type's name at the beginning is the focus itself, if it is of that type.
                (Some(Step::Member(name)), Some(Item::Element(node)))
                    if name.starts_with(|c: char| c.is_ascii_uppercase())
                        && is_subtype(node.type_name(), name) =>
                {
                    frame.this.iter().cloned().collect()
                }
                (Some(Step::Call(call)), this) => {
                    self.call(call, this.iter().cloned().collect(), frame, true)?
                }
                (Some(step), this) => self.step(step, this.iter().cloned().collect(), frame)?,
                (None, _) => Vec::new(),
            },
        };
        for step in steps {
            items = self.step(step, items, frame)?;
        }
        Ok(items)
    }

    fn step(&self, step: &'a Step, items: Items<'a>, frame: &Frame<'a>) -> Answer<'a> {
        match step {
            Step::Member(name) => self.member(name, &items),
            Step::Call(call) => self.call(call, items, frame, false),
            Step::Index(index) => {
                let index = self.integer(index, frame)?;
                let at = index.and_then(|index| usize::try_from(index).ok());
                Ok(at.and_then(|at| items.into_iter().nth(at)).into_iter().collect())
            }
        }
    }

    fn member(&self, name: &str, items: &[Item<'a>]) -> Answer<'a> {
        let mut found = Vec::new();
        let mut known = items.is_empty();
        for item in items {
            match item {
                Item::Element(node) => {
                    self.charge(1 + node.width() / 16)?;
                    known |= node.member(name, &mut |node| found.push(Item::Element(node)));
                }
                Item::Type(namespace, of) => match name {
                    "namespace" => found.push(Item::String(Cow::Borrowed(namespace))),
                    "name" => found.push(Item::String(of.clone())),
                    _ => {}
                },
                _ => {}
            }
            known |= matches!(item, Item::Type(..));
        }
        if !known && self.environment.strict {
            return Err(Error::NoElement(name.to_owned()));
        }
        self.charge(found.len())?;
        Ok(found)
    }

    /// `bare` is a call without anything before it.
    fn call(&self, call: &'a Call, items: Items<'a>, frame: &Frame<'a>, bare: bool) -> Answer<'a> {
        self.charge(1)?;
        match call.function.group {
            Group::Collection => functions::call(self, call, items, frame, bare),
            Group::Text => texts::call(self, call, &items, frame),
            Group::Number => numbers::call(self, call, &items, frame),
        }
    }

    fn variable(&self, name: &str) -> Answer<'a> {
        let text = |text: String| Ok(vec![Item::String(text.into())]);
        let node = |node: Option<Node<'a>>| Ok(node.map(Item::Element).into_iter().collect());
        match name {
            "context" => Ok(vec![self.context.clone()]),
            "resource" => node(self.environment.resource),
            "rootResource" => node(self.environment.root),
            "ucum" => text(UCUM.to_owned()),
            "sct" => text("http://snomed.info/sct".to_owned()),
            "loinc" => text("http://loinc.org".to_owned()),
            _ => {
                let known = self.environment.variables.iter().find(|(known, _)| *known == name);
                match (known, name.strip_prefix("vs-"), name.strip_prefix("ext-")) {
                    (Some((_, item)), ..) => Ok(item.iter().cloned().collect()),
                    (_, Some(id), _) => text(format!("http://hl7.org/fhir/ValueSet/{id}")),
                    (.., Some(id)) => text(format!("http://hl7.org/fhir/StructureDefinition/{id}")),
                    _ => Err(Error::Unsupported(format!("%{name}"))),
                }
            }
        }
    }

    /// The one item there is, or none.
    pub(super) fn single(items: &[Item<'a>]) -> Result<Option<Item<'a>>, Error> {
        match items {
            [] => Ok(None),
            [item] => Ok(Some(item.system())),
            _ => Err(Error::Many),
        }
    }

    /// Singleton evaluation: one item that is no Boolean counts as true.
    pub(super) fn truth(items: &[Item<'a>]) -> Result<Option<bool>, Error> {
        Ok(Self::single(items)?.map(|item| if let Item::Boolean(truth) = item { truth } else { true }))
    }

    pub(super) fn test(&self, expr: &'a Expr, frame: &Frame<'a>) -> Result<Option<bool>, Error> {
        Self::truth(&self.evaluate(expr, frame)?)
    }

    pub(super) fn integer(&self, expr: &'a Expr, frame: &Frame<'a>) -> Result<Option<i64>, Error> {
        match Self::single(&self.evaluate(expr, frame)?)? {
            None => Ok(None),
            Some(Item::Integer(number)) => Ok(Some(number)),
            Some(_) => Err(Error::Type("an Integer is needed")),
        }
    }

    pub(super) fn text(&self, expr: &'a Expr, frame: &Frame<'a>) -> Result<Option<Cow<'a, str>>, Error> {
        match Self::single(&self.evaluate(expr, frame)?)? {
            None => Ok(None),
            Some(Item::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::Type("a String is needed")),
        }
    }

    /// What a reference leads to: a contained resource, an entry of the Bundle, or what the
    /// resolver finds.
    pub(super) fn resolve(&self, reference: &str) -> Result<Option<Node<'a>>, Error> {
        let root = self.environment.root.or(self.environment.resource);
        if let Some(id) = reference.strip_prefix('#') {
            if id.is_empty() {
                return Ok(root);
            }
            for holder in [self.environment.resource, root].into_iter().flatten() {
                let contained = holder.value.map_or(&[][..], |holder| holder.list("contained"));
                self.charge(contained.len())?;
                if let Some(found) = contained.iter().find(|one| one.text("id") == Some(id)) {
                    return Ok(Some(Node::resource(found)));
                }
            }
            return Ok(None);
        }
        let entries = root.and_then(|root| root.value).map_or(&[][..], |root| root.list("entry"));
        self.charge(entries.len())?;
        let named = |entry: &&'a Json<'a>| entry.text("fullUrl") == Some(reference);
        let found = entries.iter().find(named).and_then(|entry| entry.get("resource"));
        let found = found.or_else(|| self.environment.resolver.and_then(|resolver| resolver(reference)));
        Ok(found.map(Node::resource))
    }
}
