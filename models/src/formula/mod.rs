//! The small expression language of manifests.
//!
//! Numbers, names, `+ - * / ^`, comparisons, `and or not`, `if(c,a,b)`, `missing(x)`,
//! `ln exp sqrt abs floor round`, `min max clamp`, `step(x, v0, t1, v1, t2, v2 …)` (v0 below t1,
//! v1 from t1 on, …) and `name == "code"`. True is 1, false is 0.
//!
//! A value that is not there is NaN and stays NaN through everything but `missing` and a
//! connective that does not need it: an absent laboratory value must never turn into a number.

mod parse;

use crate::formula::parse::Parser;

/// Formulas longer than this are refused.
const MAX_LENGTH: usize = 4096;

/// Where names in a formula come from.
pub trait Names {
    /// The column of a name.
    fn column(&self, name: &str) -> Option<usize>;
    /// The number that stands for a code of the input in this column.
    fn code(&self, column: usize, code: &str) -> Option<f64>;
}

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula(Expr);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Number(f64),
    Column(usize),
    Missing(usize),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Round(Box<Expr>, u8),
    Step(Box<Expr>, f64, Vec<(f64, f64)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Negate,
    Not,
    Ln,
    Exp,
    Sqrt,
    Abs,
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Min,
    Max,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

/// Columns of equal length, one value a row.
pub trait Table {
    /// How many rows.
    fn rows(&self) -> usize;
    /// A column; absent columns read as not there.
    fn column(&self, at: usize) -> Option<&[f64]>;
}

/// One row.
impl Table for &[f64] {
    fn rows(&self) -> usize {
        1
    }

    fn column(&self, at: usize) -> Option<&[f64]> {
        self.get(at).map(std::slice::from_ref)
    }
}

/// A value for every row, or the same one for all.
enum Column<'t> {
    Same(f64),
    Borrowed(&'t [f64]),
    Owned(Vec<f64>),
}

impl Column<'_> {
    fn as_slice(&self) -> Option<&[f64]> {
        match self {
            Self::Same(_) => None,
            Self::Borrowed(values) => Some(values),
            Self::Owned(values) => Some(values),
        }
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Same(x) => Self::Same(f(x)),
            Self::Borrowed(values) => Self::Owned(values.iter().map(|&x| f(x)).collect()),
            Self::Owned(mut values) => {
                for x in &mut values {
                    *x = f(*x);
                }
                Self::Owned(values)
            }
        }
    }

    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::Same(a), b) => b.map(|b| f(a, b)),
            (a, Self::Same(b)) => a.map(|a| f(a, b)),
            (Self::Owned(mut a), b) => {
                for (x, &y) in a.iter_mut().zip(b.as_slice().unwrap_or_default()) {
                    *x = f(*x, y);
                }
                Self::Owned(a)
            }
            (a, Self::Owned(mut b)) => {
                for (&x, y) in a.as_slice().unwrap_or_default().iter().zip(b.iter_mut()) {
                    *y = f(x, *y);
                }
                Self::Owned(b)
            }
            (Self::Borrowed(a), Self::Borrowed(b)) => {
                Self::Owned(a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect())
            }
        }
    }
}

impl Formula {
    /// Parses a formula; names are looked up at once, so that a typing error is found at loading.
    ///
    /// # Errors
    /// In words, with the character it is about.
    pub fn parse(text: &str, names: &dyn Names) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("a formula of more than {MAX_LENGTH} bytes"));
        }
        Parser::new(text, names).whole().map(Self)
    }

    /// The value of every row.
    pub fn values(&self, table: &impl Table) -> Vec<f64> {
        match eval(&self.0, table) {
            Column::Same(x) => vec![x; table.rows()],
            Column::Borrowed(values) => values.to_vec(),
            Column::Owned(values) => values,
        }
    }

    /// The value of one row.
    pub fn value(&self, row: &[f64]) -> f64 {
        self.values(&row).first().copied().unwrap_or(f64::NAN)
    }

    /// Does it hold for this row? Not, when it can't be told.
    pub fn holds(&self, row: &[f64]) -> bool {
        let value = self.value(row);
        value.is_finite() && value != 0.0
    }

    /// The columns it reads, in order of first use, each once.
    pub fn columns(&self) -> Vec<usize> {
        let mut found = Vec::new();
        collect(&self.0, &mut found);
        found
    }
}

fn collect(expr: &Expr, found: &mut Vec<usize>) {
    match expr {
        Expr::Number(_) => {}
        Expr::Column(at) | Expr::Missing(at) => {
            if !found.contains(at) {
                found.push(*at);
            }
        }
        Expr::Unary(_, a) | Expr::Round(a, _) | Expr::Step(a, _, _) => collect(a, found),
        Expr::Binary(_, a, b) => {
            collect(a, found);
            collect(b, found);
        }
        Expr::If(c, a, b) => {
            collect(c, found);
            collect(a, found);
            collect(b, found);
        }
    }
}

fn eval<'t>(expr: &Expr, table: &'t impl Table) -> Column<'t> {
    match expr {
        Expr::Number(x) => Column::Same(*x),
        Expr::Column(at) => table.column(*at).map_or(Column::Same(f64::NAN), Column::Borrowed),
        Expr::Missing(at) => table
            .column(*at)
            .map_or(Column::Same(1.0), |values| Column::Borrowed(values).map(|x| truth(x.is_nan()))),
        Expr::Unary(op, a) => eval(a, table).map(|a| unary(*op, a)),
        Expr::Binary(op, a, b) => {
            let op = *op;
            eval(a, table).zip(eval(b, table), move |a, b| binary(op, a, b))
        }
        Expr::If(c, a, b) => choose(eval(c, table), eval(a, table), eval(b, table), table.rows()),
        Expr::Round(a, decimals) => eval(a, table).map(|a| round(a, *decimals)),
        Expr::Step(a, first, steps) => eval(a, table).map(|a| step(a, *first, steps)),
    }
}

fn choose<'t>(condition: Column<'t>, yes: Column<'t>, no: Column<'t>, rows: usize) -> Column<'t> {
    match condition {
        Column::Same(c) if c.is_nan() => Column::Same(f64::NAN),
        Column::Same(0.0) => no,
        Column::Same(_) => yes,
        condition => {
            let at = |column: &Column, n: usize| match column {
                Column::Same(x) => *x,
                other => other.as_slice().and_then(|v| v.get(n)).copied().unwrap_or(f64::NAN),
            };
            Column::Owned(
                (0..rows)
                    .map(|n| match at(&condition, n) {
                        c if c.is_nan() => f64::NAN,
                        0.0 => at(&no, n),
                        _ => at(&yes, n),
                    })
                    .collect(),
            )
        }
    }
}

fn truth(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

fn unary(op: Unary, a: f64) -> f64 {
    match op {
        Unary::Negate => -a,
        Unary::Not if a.is_nan() => f64::NAN,
        Unary::Not => truth(a == 0.0),
        Unary::Ln => a.ln(),
        Unary::Exp => a.exp(),
        Unary::Sqrt => a.sqrt(),
        Unary::Abs => a.abs(),
        Unary::Floor => a.floor(),
    }
}

fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::And if a == 0.0 || b == 0.0 => return 0.0,
        Binary::Or if (a != 0.0 && !a.is_nan()) || (b != 0.0 && !b.is_nan()) => return 1.0,
        _ if a.is_nan() || b.is_nan() => return f64::NAN,
        _ => {}
    }
    match op {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::Power => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Less => truth(a < b),
        Binary::LessOrEqual => truth(a <= b),
        #[expect(clippy::float_cmp, reason = "codes, flags and points are small whole numbers")]
        Binary::Equal => truth(a == b),
        #[expect(clippy::float_cmp, reason = "codes, flags and points are small whole numbers")]
        Binary::NotEqual => truth(a != b),
        Binary::And => 1.0,
        Binary::Or => 0.0,
    }
}

fn step(x: f64, first: f64, steps: &[(f64, f64)]) -> f64 {
    if x.is_nan() {
        return x;
    }
    steps.iter().take_while(|(from, _)| x >= *from).last().map_or(first, |(_, value)| *value)
}

/// Rounds to `decimals`, halves away from zero.
///
/// What was written as 38.05 is a little less in binary; a half within a few units in the
/// last place counts as the half that was written.
pub fn round(x: f64, decimals: u8) -> f64 {
    let scale = 10f64.powi(i32::from(decimals));
    let scaled = x * scale;
    if !scaled.is_finite() {
        return x;
    }
    let slack = scaled.abs() * 4.0 * f64::EPSILON;
    ((scaled.abs() + slack + 0.5).floor() / scale).copysign(x)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Two;

    impl Names for Two {
        fn column(&self, name: &str) -> Option<usize> {
            match name {
                "x" => Some(0),
                "sex" => Some(1),
                "a.b" => Some(2),
                _ => None,
            }
        }

        fn code(&self, column: usize, code: &str) -> Option<f64> {
            match (column, code) {
                (1, "male") => Some(0.0),
                (1, "female") => Some(1.0),
                _ => None,
            }
        }
    }

    fn value(text: &str, row: &[f64]) -> f64 {
        Formula::parse(text, &Two).unwrap().value(row)
    }

    #[test]
    fn arithmetic_follows_the_usual_precedence() {
        let cases = [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("-2 ^ 2", -4.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("2 ^ -1", 0.5),
            ("10 - 3 - 2", 5.0),
            ("8 / 4 / 2", 1.0),
            ("1.5e2", 150.0),
            ("min(3, 1, 2)", 1.0),
            ("max(3, 1, 2)", 3.0),
            ("clamp(7, 1, 5)", 5.0),
            ("round(2.5)", 3.0),
            ("round(-2.5)", -3.0),
            ("round(38.05, 1)", 38.1),
            ("ln(exp(2))", 2.0),
            ("sqrt(9) + abs(-1) + floor(1.9)", 5.0),
            ("not 0 and 1", 1.0),
            ("1 < 2 and 2 <= 2 and 3 > 2 and 3 >= 3", 1.0),
            ("0 or 0", 0.0),
            ("if(1, 2, 3)", 2.0),
            ("step(8, 3, 9, 1, 12, 0)", 3.0),
            ("step(9, 3, 9, 1, 12, 0)", 1.0),
            ("step(12, 3, 9, 1, 12, 0)", 0.0),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn names_and_codes_are_found() {
        assert_eq!(value("x * 2 + a.b", &[4.0, 0.0, 1.0]), 9.0);
        assert_eq!(value("sex == \"female\"", &[0.0, 1.0]), 1.0);
        assert_eq!(value("sex != \"female\"", &[0.0, 1.0]), 0.0);
        assert_eq!(Formula::parse("x + sex * x", &Two).unwrap().columns(), vec![0, 1]);
    }

    #[test]
    fn what_is_not_there_never_becomes_a_number() {
        let row = [f64::NAN, 0.0, 1.0];
        for text in ["x + 1", "max(x, 1)", "min(1, x)", "x > 3", "if(x, 1, 2)", "step(x, 1, 2, 3)", "not x"] {
            assert!(value(text, &row).is_nan(), "{text}");
        }
        assert_eq!(value("missing(x)", &row), 1.0);
        assert_eq!(value("if(missing(x), 5, x)", &row), 5.0);
        assert_eq!(value("x > 3 and 0", &row), 0.0);
        assert_eq!(value("x > 3 or 1", &row), 1.0);
        assert!(value("x > 3 or 0", &row).is_nan());
    }

    #[test]
    fn wrong_formulas_are_refused_in_words() {
        for text in [
            "",
            "1 +",
            "y",
            "sex == \"other\"",
            "x == \"male\"",
            "f(1)",
            "min(1)",
            "round(1, x)",
            "1 2",
            "(1",
            "\"a\"",
            "step(1, 2, 3)",
            "1 $ 2",
            "missing(1)",
            "step(x, 1, 3, 1, 2, 1)",
        ] {
            assert!(Formula::parse(text, &Two).is_err(), "{text}");
        }
        assert!(Formula::parse(&"(".repeat(4000), &Two).is_err());
        assert!(Formula::parse(&"-".repeat(4000), &Two).is_err());
        assert!(Formula::parse(&format!("1{}", "^1".repeat(2000)), &Two).is_err());
        assert!(Formula::parse(&"1+".repeat(4000), &Two).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[-x0-9a-z.+*/^(),<>=\"! ]{0,60}") {
            if let Ok(formula) = Formula::parse(&text, &Two) {
                formula.value(&[1.0, 0.0, 2.0]);
            }
        }

        #[test]
        fn rows_together_equal_rows_alone(xs in proptest::collection::vec(-1e3f64..1e3, 1..40)) {
            struct Xs(Vec<f64>);
            impl Table for Xs {
                fn rows(&self) -> usize { self.0.len() }
                fn column(&self, at: usize) -> Option<&[f64]> { (at == 0).then_some(self.0.as_slice()) }
            }
            let formula =
                Formula::parse("if(x > 1, ln(x) * 2 + x / 3, min(x, 0) ^ 2) + step(x, 1, 10, 2)", &Two).unwrap();
            let together = formula.values(&Xs(xs.clone()));
            for (x, y) in xs.iter().zip(&together) {
                prop_assert_eq!(formula.value(&[*x]).to_bits(), y.to_bits());
            }
        }

        #[test]
        fn rounding_is_idempotent_and_near(x in -1e6f64..1e6, decimals in 0u8..4) {
            let once = round(x, decimals);
            prop_assert_eq!(round(once, decimals), once);
            prop_assert!((once - x).abs() <= 0.5 / 10f64.powi(i32::from(decimals)) + 1e-9);
        }
    }
}
