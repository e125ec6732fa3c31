//! From tokens to a tree (<http://hl7.org/fhirpath/N1/grammar.html>).
//!
//! Chains of steps (`a.b.c`) and of operators of one precedence (`a or b or c`) are lists, and signs
//! come to one. What nests is counted: parentheses, arguments and indexes, right sides of operators,
//! and left sides of operators of another precedence. So the tree may be walked and dropped by recursion.

use std::sync::OnceLock;

use regex::Regex;

use super::Error;
use super::functions::{self, Function};
use super::lexer::{self, Placed, Token};
use super::quantity::{self, Quantity, Unit};
use super::temporal::Temporal;
use super::value::Item;

/// Expressions within expressions, on any way from the root of the tree to a leaf.
const DEEPEST: usize = 48;

#[derive(Debug)]
pub(super) enum Expr {
    Empty,
    Literal(Item<'static>),
    Variable(String),
    This,
    Index,
    Total,
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// Steps from an expression, or from the focus.
    Path {
        start: Option<Box<Expr>>,
        steps: Vec<Step>,
    },
    /// Operators of one precedence, from left to right.
    Chain {
        first: Box<Expr>,
        rest: Vec<(Operator, Operand)>,
    },
}

impl Expr {
    /// The first variable in it that is wanted.
    pub(super) fn variable(&self, wanted: &dyn Fn(&str) -> bool) -> Option<&str> {
        match self {
            Self::Empty | Self::Literal(_) | Self::This | Self::Index | Self::Total => None,
            Self::Variable(name) => wanted(name).then_some(name),
            Self::Negative(inner) | Self::Positive(inner) => inner.variable(wanted),
            Self::Path { start, steps } => {
                let start = start.as_ref().and_then(|start| start.variable(wanted));
                start.or_else(|| {
                    steps.iter().find_map(|step| match step {
                        Step::Member(_) => None,
                        Step::Index(index) => index.variable(wanted),
                        Step::Call(call) => call.arguments.iter().find_map(|one| one.variable(wanted)),
                    })
                })
            }
            Self::Chain { first, rest } => first.variable(wanted).or_else(|| {
                rest.iter().find_map(|(_, operand)| match operand {
                    Operand::Expr(right) => right.variable(wanted),
                    Operand::Type(_) => None,
                })
            }),
        }
    }
}

#[derive(Debug)]
pub(super) enum Step {
    Member(String),
    Index(Expr),
    Call(Call),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) arguments: Vec<Expr>,
    /// The pattern of `matches` and its like where it is a literal, compiled when first asked for.
    pub(super) pattern: OnceLock<Option<Regex>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Expr(Expr),
    Type(TypeName),
}

/// `Quantity`, `FHIR.Quantity`, `System.Quantity`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TypeName {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Multiply,
    Divide,
    Div,
    Mod,
    Plus,
    Minus,
    Concatenate,
    Is,
    As,
    Union,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    In,
    Contains,
    And,
    Or,
    Xor,
    Implies,
}

impl Operator {
    fn read(token: &Token) -> Option<Self> {
        Some(match token {
            Token::Symbol(symbol) => match *symbol {
                "*" => Self::Multiply,
                "/" => Self::Divide,
                "+" => Self::Plus,
                "-" => Self::Minus,
                "&" => Self::Concatenate,
                "|" => Self::Union,
                "<" => Self::Less,
                "<=" => Self::LessOrEqual,
                ">" => Self::Greater,
                ">=" => Self::GreaterOrEqual,
                "=" => Self::Equal,
                "!=" => Self::NotEqual,
                "~" => Self::Equivalent,
                "!~" => Self::NotEquivalent,
                _ => return None,
            },
            Token::Name { text, delimited: false } => match text.as_str() {
                "div" => Self::Div,
                "mod" => Self::Mod,
                "is" => Self::Is,
                "as" => Self::As,
                "in" => Self::In,
                "contains" => Self::Contains,
                "and" => Self::And,
                "or" => Self::Or,
                "xor" => Self::Xor,
                "implies" => Self::Implies,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The larger binds the more tightly.
    fn precedence(self) -> u8 {
        match self {
            Self::Multiply | Self::Divide | Self::Div | Self::Mod => 10,
            Self::Plus | Self::Minus | Self::Concatenate => 9,
            Self::Is | Self::As => 8,
            Self::Union => 7,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => 6,
            Self::Equal | Self::NotEqual | Self::Equivalent | Self::NotEquivalent => 5,
            Self::In | Self::Contains => 4,
            Self::And => 3,
            Self::Or | Self::Xor => 2,
            Self::Implies => 1,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Expr, Error> {
    let mut parser = Parser { tokens: lexer::tokens(text)?, next: 0, end: text.len(), depth: 0, deepest: 0 };
    let expr = parser.expression(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.error("nothing more is expected here")),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    end: usize,
    /// How many expressions are open.
    depth: usize,
    /// How deep what was last read reaches, from the root.
    deepest: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn advance(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn error(&self, what: &'static str) -> Error {
        Error::Syntax { at: self.tokens.get(self.next).map_or(self.end, |(_, at)| *at), what }
    }

    fn accept(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str, what: &'static str) -> Result<(), Error> {
        if self.accept(symbol) { Ok(()) } else { Err(self.error(what)) }
    }

    fn expression(&mut self, least: u8) -> Result<Expr, Error> {
        let beside = std::mem::take(&mut self.deepest);
        self.depth += 1;
        self.reach(self.depth)?;
        let mut left = self.polarity()?;
        let mut level = None;
        while let Some(operator) = self.peek().and_then(Operator::read) {
            let precedence = operator.precedence();
            if precedence < least {
                break;
            }
            self.next += 1;
            // `1 is A * 1 + 1`: no type takes the operators after it, so precedences may rise again and
            // again, and each time all that was read moves down by one.
            if level != Some(precedence) {
                self.reach(self.deepest + 1)?;
                left = Expr::Chain { first: Box::new(left), rest: Vec::new() };
                level = Some(precedence);
            }
            let operand = match operator {
                Operator::Is | Operator::As => Operand::Type(self.type_name()?),
                _ => Operand::Expr(self.expression(precedence + 1)?),
            };
            if let Expr::Chain { rest, .. } = &mut left {
                rest.push((operator, operand));
            }
        }
        self.depth -= 1;
        self.deepest = self.deepest.max(beside);
        Ok(left)
    }

    fn reach(&mut self, depth: usize) -> Result<(), Error> {
        self.deepest = self.deepest.max(depth);
        if self.deepest > DEEPEST { Err(Error::TooCostly) } else { Ok(()) }
    }

    fn polarity(&mut self) -> Result<Expr, Error> {
        let (mut negative, mut signed) = (false, false);
        loop {
            if self.accept("-") {
                negative = !negative;
            } else if !self.accept("+") {
                break;
            }
            signed = true;
        }
        let path = self.path()?;
        Ok(match (signed, negative) {
            (_, true) => Expr::Negative(Box::new(path)),
            (true, false) => Expr::Positive(Box::new(path)),
            _ => path,
        })
    }

    fn path(&mut self) -> Result<Expr, Error> {
        let (start, mut steps) = match self.peek() {
            Some(Token::Name { text, delimited })
                if *delimited || !matches!(text.as_str(), "true" | "false") =>
            {
                (None, vec![self.invocation()?])
            }
            _ => (Some(Box::new(self.term()?)), Vec::new()),
        };
        loop {
            if self.accept(".") {
                match self.peek() {
                    Some(Token::Name { .. }) => steps.push(self.invocation()?),
                    _ => return Err(self.error("a name is needed after the point")),
                }
            } else if self.accept("[") {
                steps.push(Step::Index(self.expression(0)?));
                self.expect("]", "a ] is needed")?;
            } else {
                break;
            }
        }
        Ok(match start {
            Some(start) if steps.is_empty() => *start,
            start => Expr::Path { start, steps },
        })
    }

    /// A member or a function call; a name is next.
    fn invocation(&mut self) -> Result<Step, Error> {
        let Some(Token::Name { text, .. }) = self.advance() else {
            return Err(self.error("a name is needed"));
        };
        if !self.accept("(") {
            return Ok(Step::Member(text));
        }
        let Some(function) = functions::find(&text) else {
            return Err(Error::Unsupported(text));
        };
        let mut arguments = Vec::new();
        if !self.accept(")") {
            loop {
                arguments.push(self.expression(0)?);
                if self.accept(")") {
                    break;
                }
                self.expect(",", "a , or ) is needed")?;
            }
        }
        if arguments.len() < function.least || arguments.len() > function.most {
            return Err(self.error("the function takes another number of arguments"));
        }
        Ok(Step::Call(Call { function, arguments, pattern: OnceLock::new() }))
    }

    fn term(&mut self) -> Result<Expr, Error> {
        let Some(token) = self.advance() else { return Err(self.error("the expression is not complete")) };
        Ok(match token {
            Token::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")", "a ) is needed")?;
                inner
            }
            Token::Symbol("{") => {
                self.expect("}", "a } is needed")?;
                Expr::Empty
            }
            Token::Symbol("$this") => Expr::This,
            Token::Symbol("$index") => Expr::Index,
            Token::Symbol("$total") => Expr::Total,
            Token::Variable(name) => Expr::Variable(name),
            Token::Text(text) => Expr::Literal(Item::String(text.into())),
            Token::Temporal(temporal) => Expr::Literal(Item::Temporal(temporal)),
            Token::Number(digits) => self.number(&digits)?,
            Token::Name { text, .. } => Expr::Literal(Item::Boolean(text == "true")),
            Token::Symbol(_) => {
                self.next -= 1;
                return Err(self.error("an operand is needed"));
            }
        })
    }

    /// A number, or with a unit a quantity.
    fn number(&mut self, digits: &str) -> Result<Expr, Error> {
        let value = quantity::decimal(digits).ok_or_else(|| self.error("the number is too long"))?;
        let unit = match self.peek() {
            Some(Token::Text(unit)) => Some(Unit::named(unit.clone().into())),
            Some(Token::Name { text, delimited: false }) => Unit::calendar(text),
            _ => None,
        };
        if let Some(unit) = unit {
            self.next += 1;
            return Ok(Expr::Literal(Item::Quantity(Quantity { value, unit })));
        }
        if digits.contains('.') {
            return Ok(Expr::Literal(Item::Decimal(value)));
        }
        match digits.parse::<i32>() {
            Ok(number) => Ok(Expr::Literal(Item::Integer(number.into()))),
            Err(_) => Err(self.error("an Integer has 32 bits")),
        }
    }

    fn type_name(&mut self) -> Result<TypeName, Error> {
        let Some(Token::Name { text, .. }) = self.advance() else {
            return Err(self.error("a type is needed"));
        };
        if !self.accept(".") {
            return Ok(TypeName { namespace: None, name: text });
        }
        match self.advance() {
            Some(Token::Name { text: name, .. }) => Ok(TypeName { namespace: Some(text), name }),
            _ => Err(self.error("a type is needed")),
        }
    }
}

impl TypeName {
    /// The argument of `is()`, `as()` and `ofType()` reads like a path.
    pub(super) fn of(argument: &Expr) -> Option<Self> {
        let Expr::Path { start: None, steps } = argument else { return None };
        match steps.as_slice() {
            [Step::Member(name)] => Some(Self { namespace: None, name: name.clone() }),
            [Step::Member(namespace), Step::Member(name)] => {
                Some(Self { namespace: Some(namespace.clone()), name: name.clone() })
            }
            _ => None,
        }
    }
}

impl Temporal {
    /// Does a whole text read as one?
    pub(super) fn whole(text: &str) -> Option<Self> {
        Self::scan(text).filter(|(_, length)| *length == text.len()).map(|(temporal, _)| temporal)
    }
}
