//! Text → expression, by precedence; depth-limited, so that no text exhausts the stack.

use crate::formula::{Binary, Expr, Names, Unary};

const MAX_DEPTH: u16 = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token<'t> {
    Number(f64),
    Name(&'t str),
    Text(&'t str),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 15] = ["==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "^", "(", ")", ",", "="];

pub(super) struct Parser<'t> {
    rest: &'t str,
    whole: &'t str,
    token: Token<'t>,
    names: &'t dyn Names,
    depth: u16,
}

type Parsed = Result<Expr, String>;

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, names: &'t dyn Names) -> Self {
        Self { rest: text, whole: text, token: Token::End, names, depth: 0 }
    }

    pub(super) fn whole(mut self) -> Parsed {
        self.advance()?;
        let expr = self.either()?;
        if self.token == Token::End { Ok(expr) } else { Err(self.wrong("an operator or the end")) }
    }

    fn wrong(&self, wanted: &str) -> String {
        let at = self.whole.len().saturating_sub(self.rest.len());
        format!("expected {wanted} near byte {at} of `{}`", self.whole.chars().take(200).collect::<String>())
    }

    fn advance(&mut self) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        if first.is_ascii_digit() || first == '.' {
            let length = number_length(self.rest);
            let (digits, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
            let number: f64 = digits.parse().map_err(|_| self.wrong("a number"))?;
            if !number.is_finite() {
                return Err(self.wrong("a finite number"));
            }
            self.rest = rest;
            self.token = Token::Number(number);
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = self
                .rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
            self.rest = rest;
            self.token = Token::Name(name);
        } else if let Some(inside) = self.rest.strip_prefix('"') {
            let (text, rest) = inside.split_once('"').ok_or_else(|| self.wrong("a closing quote"))?;
            self.rest = rest;
            self.token = Token::Text(text);
        } else {
            let sign = SIGNS.iter().find(|s| self.rest.starts_with(**s)).filter(|s| **s != "=");
            let sign = sign.ok_or_else(|| self.wrong("an operator"))?;
            self.rest = self.rest.strip_prefix(sign).unwrap_or_default();
            self.token = Token::Sign(sign);
        }
        Ok(())
    }

    fn take(&mut self, sign: &str) -> Result<bool, String> {
        let here = matches!(&self.token, Token::Sign(s) if *s == sign);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    fn take_word(&mut self, word: &str) -> Result<bool, String> {
        let here = matches!(&self.token, Token::Name(s) if *s == word);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign)? { Ok(()) } else { Err(self.wrong(&format!("`{sign}`"))) }
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn either(&mut self) -> Parsed {
        self.deeper(|p| {
            let mut left = p.both()?;
            let mut terms = 0u16;
            while p.take_word("or")? {
                p.count(&mut terms)?;
                left = pair(Binary::Or, left, p.both()?);
            }
            Ok(left)
        })
    }

    fn both(&mut self) -> Parsed {
        let mut left = self.negation()?;
        let mut terms = 0u16;
        while self.take_word("and")? {
            self.count(&mut terms)?;
            left = pair(Binary::And, left, self.negation()?);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed {
        if self.take_word("not")? {
            return self.deeper(|p| Ok(Expr::Unary(Unary::Not, Box::new(p.negation()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        for (sign, op, swapped) in [
            ("<=", Binary::LessOrEqual, false),
            (">=", Binary::LessOrEqual, true),
            ("<", Binary::Less, false),
            (">", Binary::Less, true),
            ("==", Binary::Equal, false),
            ("!=", Binary::NotEqual, false),
        ] {
            if self.take(sign)? {
                let right = match (&self.token, &left, op) {
                    (Token::Text(code), Expr::Column(at), Binary::Equal | Binary::NotEqual) => {
                        let number = self.names.code(*at, code);
                        let number = number.ok_or_else(|| format!("no code \"{code}\" of that input"))?;
                        self.advance()?;
                        Expr::Number(number)
                    }
                    _ => self.sum()?,
                };
                return Ok(if swapped { pair(op, right, left) } else { pair(op, left, right) });
            }
        }
        Ok(left)
    }

    /// Long sums nest to the left; the tree's depth is what evaluation recurses on.
    fn count(&self, terms: &mut u16) -> Result<(), String> {
        *terms += 1;
        if *terms > 4 * MAX_DEPTH { Err(self.wrong("fewer terms")) } else { Ok(()) }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        let mut terms = 0u16;
        loop {
            let op = if self.take("+")? {
                Binary::Add
            } else if self.take("-")? {
                Binary::Subtract
            } else {
                return Ok(left);
            };
            self.count(&mut terms)?;
            left = pair(op, left, self.product()?);
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.signed()?;
        let mut terms = 0u16;
        loop {
            let op = if self.take("*")? {
                Binary::Multiply
            } else if self.take("/")? {
                Binary::Divide
            } else {
                return Ok(left);
            };
            self.count(&mut terms)?;
            left = pair(op, left, self.signed()?);
        }
    }

    fn signed(&mut self) -> Parsed {
        if self.take("-")? {
            return self.deeper(|p| Ok(Expr::Unary(Unary::Negate, Box::new(p.signed()?))));
        }
        let base = self.atom()?;
        if self.take("^")? {
            return self.deeper(|p| Ok(pair(Binary::Power, base, p.signed()?)));
        }
        Ok(base)
    }

    fn atom(&mut self) -> Parsed {
        match self.token.clone() {
            Token::Number(x) => {
                self.advance()?;
                Ok(Expr::Number(x))
            }
            Token::Name(name) => {
                self.advance()?;
                if self.take("(")? { self.call(name) } else { self.column(name).map(Expr::Column) }
            }
            Token::Sign("(") => {
                self.advance()?;
                let inner = self.either()?;
                self.need(")")?;
                Ok(inner)
            }
            _ => Err(self.wrong("a number, a name or `(`")),
        }
    }

    fn column(&self, name: &str) -> Result<usize, String> {
        self.names.column(name).ok_or_else(|| format!("unknown name `{name}`"))
    }

    fn call(&mut self, function: &str) -> Parsed {
        if function == "missing" {
            let Token::Name(name) = self.token else { return Err(self.wrong("the name of an input")) };
            let at = self.column(name)?;
            self.advance()?;
            self.need(")")?;
            return Ok(Expr::Missing(at));
        }
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.either()?);
            if self.take(")")? {
                break;
            }
            self.need(",")?;
        }
        let unary = |op, mut arguments: Vec<Expr>| match (arguments.pop(), arguments.is_empty()) {
            (Some(a), true) => Ok(Expr::Unary(op, Box::new(a))),
            _ => Err(format!("{function} takes one argument")),
        };
        match function {
            "ln" => unary(Unary::Ln, arguments),
            "exp" => unary(Unary::Exp, arguments),
            "sqrt" => unary(Unary::Sqrt, arguments),
            "abs" => unary(Unary::Abs, arguments),
            "floor" => unary(Unary::Floor, arguments),
            "min" => fold(Binary::Min, arguments),
            "max" => fold(Binary::Max, arguments),
            "round" => match <[Expr; 2]>::try_from(arguments) {
                Ok([a, Expr::Number(d)]) => Ok(Expr::Round(Box::new(a), decimals(d)?)),
                Ok(_) => Err("round takes its decimals as a number".into()),
                Err(arguments) => match <[Expr; 1]>::try_from(arguments) {
                    Ok([a]) => Ok(Expr::Round(Box::new(a), 0)),
                    Err(_) => Err("round takes one or two arguments".into()),
                },
            },
            "clamp" => match <[Expr; 3]>::try_from(arguments) {
                Ok([x, low, high]) => Ok(pair(Binary::Min, pair(Binary::Max, x, low), high)),
                Err(_) => Err("clamp takes a value and two bounds".into()),
            },
            "if" => match <[Expr; 3]>::try_from(arguments) {
                Ok([c, a, b]) => Ok(Expr::If(Box::new(c), Box::new(a), Box::new(b))),
                Err(_) => Err("if takes a condition and two values".into()),
            },
            "step" => steps(arguments),
            _ => Err(format!("unknown function `{function}`")),
        }
    }
}

fn pair(op: Binary, a: Expr, b: Expr) -> Expr {
    Expr::Binary(op, Box::new(a), Box::new(b))
}

fn fold(op: Binary, arguments: Vec<Expr>) -> Parsed {
    if arguments.len() < 2 {
        return Err("min and max take two arguments or more".into());
    }
    if arguments.len() > usize::from(MAX_DEPTH) {
        return Err("min and max take 64 arguments at most".into());
    }
    arguments.into_iter().reduce(|a, b| pair(op, a, b)).ok_or_else(String::new)
}

fn decimals(d: f64) -> Result<u8, String> {
    (0..=15u8).find(|n| f64::from(*n).total_cmp(&d).is_eq()).ok_or("decimals are 0 to 15".into())
}

fn constant(expr: &Expr) -> Result<f64, String> {
    match expr {
        Expr::Number(x) => Ok(*x),
        Expr::Unary(Unary::Negate, inner) => constant(inner).map(|x| -x),
        _ => Err("step takes plain numbers after its value".into()),
    }
}

fn steps(arguments: Vec<Expr>) -> Parsed {
    let mut arguments = arguments.into_iter();
    let (Some(x), Some(first)) = (arguments.next(), arguments.next()) else {
        return Err("step takes a value, a first result and steps".into());
    };
    let first = constant(&first)?;
    let rest = arguments.map(|a| constant(&a)).collect::<Result<Vec<f64>, String>>()?;
    let mut steps = Vec::with_capacity(rest.len() / 2);
    for step in rest.chunks(2) {
        let [from, value] = step else { return Err("step takes its thresholds and results in pairs".into()) };
        if steps.last().is_some_and(|(last, _)| last >= from) {
            return Err("step takes its thresholds in rising order".into());
        }
        steps.push((*from, *value));
    }
    if steps.is_empty() {
        Err("step takes one step at least".into())
    } else {
        Ok(Expr::Step(Box::new(x), first, steps))
    }
}

/// Digits, a point, an exponent.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        at += digits(at);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    at
}
