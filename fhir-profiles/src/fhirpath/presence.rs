//! What an expression says by presence alone: `a.exists() or b.exists()` needs no evaluation, only
//! to know which elements are there. Most invariants are of that kind for most resources.

use super::parser::{Expr, Operand, Operator, Step};
use crate::schema::Type;

/// What is known of an expression's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    True,
    False,
    /// An empty collection.
    Empty,
    /// It has to be evaluated.
    Open,
}

/// An expression as far as presence matters.
#[derive(Debug)]
pub(crate) enum Presence {
    Always(Told),
    /// What it tells if the element at that place of [`Type::names`] is absent, or present.
    Element {
        place: usize,
        absent: Told,
        present: Told,
    },
    Not(Box<Presence>),
    /// An operator of logic or equality; any other is empty if one side is.
    Pair(Operator, Box<Presence>, Box<Presence>),
}

const OPEN: Presence = Presence::Always(Told::Open);

impl Told {
    fn of(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            other => other,
        }
    }
}

impl Presence {
    /// Reads an expression whose focus is of that type.
    pub(super) fn of(expr: &Expr, focus: &Type) -> Self {
        match expr {
            Expr::Path { start: None, steps } => path(steps, focus),
            Expr::Path { start: Some(start), steps } => match steps.as_slice() {
                [Step::Call(call)] if call.function.name == "not" => {
                    Self::Not(Box::new(Self::of(start, focus)))
                }
                _ => OPEN,
            },
            Expr::Chain { first, rest } => {
                rest.iter().fold(Self::of(first, focus), |left, (operator, operand)| {
                    let right = match operand {
                        Operand::Expr(right) => Self::of(right, focus),
                        Operand::Type(_) => OPEN,
                    };
                    match operator {
                        // These are not empty because one side is.
                        Operator::Union
                        | Operator::Concatenate
                        | Operator::Equivalent
                        | Operator::NotEquivalent => OPEN,
                        _ => Self::Pair(*operator, Box::new(left), Box::new(right)),
                    }
                })
            }
            _ => OPEN,
        }
    }

    /// What it tells of an object that has elements at those places.
    pub(crate) fn tell(&self, has: &[bool]) -> Told {
        match self {
            Self::Always(told) => *told,
            Self::Element { place, absent, present } => {
                if has.get(*place).copied().unwrap_or(false) {
                    *present
                } else {
                    *absent
                }
            }
            Self::Not(inner) => inner.tell(has).not(),
            Self::Pair(operator, left, right) => pair(*operator, left.tell(has), right, has),
        }
    }
}

fn pair(operator: Operator, left: Told, right: &Presence, has: &[bool]) -> Told {
    use Told::{Empty, False, Open, True};
    match operator {
        Operator::And | Operator::Or | Operator::Implies => {
            let left = if operator == Operator::Implies { left.not() } else { left };
            let decides = Told::of(operator != Operator::And);
            if left == decides {
                return decides;
            }
            match (left, right.tell(has)) {
                (_, right) if right == decides => decides,
                (Open, _) | (_, Open) => Open,
                (Empty, _) | (_, Empty) => Empty,
                _ => decides.not(),
            }
        }
        Operator::Xor | Operator::Equal | Operator::NotEqual => match (left, right.tell(has)) {
            (Empty, _) | (_, Empty) => Empty,
            (True | False, right @ (True | False)) => {
                Told::of((left == right) == (operator == Operator::Equal))
            }
            _ => Open,
        },
        // The right side of `in` and its like may be empty with another result.
        _ if left == Empty => Empty,
        _ => Open,
    }
}

/// Steps that lead from nothing to nothing.
const KEEP: [&str; 13] = [
    "where",
    "select",
    "first",
    "last",
    "tail",
    "ofType",
    "as",
    "trace",
    "resolve",
    "repeat",
    "children",
    "descendants",
    "distinct",
];

fn path(steps: &[Step], focus: &Type) -> Presence {
    let steps = match steps {
        [Step::Member(name), rest @ ..] if name == focus.name && !rest.is_empty() => rest,
        steps => steps,
    };
    let [Step::Member(first), rest @ ..] = steps else { return OPEN };
    let Some(place) = focus.names.iter().position(|name| name == first) else { return OPEN };
    let element = |absent: Told, present: Told| Presence::Element { place, absent, present };
    let mut found = element(Told::Empty, Told::Open);
    let mut direct = true;
    for (n, step) in rest.iter().enumerate() {
        let Step::Call(call) = step else {
            direct = false;
            continue;
        };
        let name = call.function.name;
        if KEEP.contains(&name) {
            direct = false;
            continue;
        }
        let plain = direct && call.arguments.is_empty();
        let sure = |told: Told| if plain { told } else { Told::Open };
        found = match name {
            "exists" => element(Told::False, sure(Told::True)),
            "empty" => element(Told::True, sure(Told::False)),
            "hasValue" => element(Told::False, Told::Open),
            "all" | "isDistinct" => element(Told::True, Told::Open),
            "not" => Presence::Not(Box::new(found)),
            "startsWith" | "endsWith" | "contains" | "matches" | "substring" | "toInteger" | "toString" => {
                element(Told::Empty, Told::Open)
            }
            _ => return OPEN,
        };
        // After a result only `not()` is understood.
        let decided = !matches!(name, "substring" | "toInteger" | "toString");
        let next = rest.get(n + 1..).unwrap_or_default();
        if decided && !matches!(next, []) {
            let negated =
                next.iter().all(|step| matches!(step, Step::Call(call) if call.function.name == "not"));
            if !negated {
                return OPEN;
            }
        }
        direct = false;
    }
    found
}
