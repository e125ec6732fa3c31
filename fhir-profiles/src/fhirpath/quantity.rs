//! Numbers and quantities (<http://hl7.org/fhirpath/N1/#quantity>).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::search::number::{Canonical, canonical};

/// Units of the calendar, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calendar {
    /// 1/1000 of a second.
    Millisecond,
    /// The same as UCUM's `s`.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// Of 28 to 31 days.
    Month,
    /// Of 365 or 366 days.
    Year,
}

impl Calendar {
    pub(super) fn read(word: &str) -> Option<Self> {
        Some(match word.strip_suffix('s').unwrap_or(word) {
            "millisecond" => Self::Millisecond,
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Millisecond => "millisecond",
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    fn ucum(self) -> &'static str {
        match self {
            Self::Millisecond => "ms",
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "d",
            Self::Week => "wk",
            Self::Month => "mo",
            Self::Year => "a",
        }
    }
}

/// What a quantity is measured in.
#[derive(Debug, Clone, PartialEq)]
pub enum Unit<'a> {
    /// A unit of the calendar.
    Calendar(Calendar),
    /// A code of UCUM.
    Ucum(Cow<'a, str>),
    /// A code or word of any other system: only the same compares with it.
    Other(Cow<'a, str>),
}

/// A number with its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity<'a> {
    /// The number.
    pub value: Decimal,
    /// The unit; `1` for none.
    pub unit: Unit<'a>,
}

impl<'a> Unit<'a> {
    pub(super) fn calendar(word: &str) -> Option<Unit<'static>> {
        Calendar::read(word).map(Unit::Calendar)
    }

    /// A unit in quotes is of UCUM; the words of the calendar are let through.
    pub(super) fn named(text: Cow<'a, str>) -> Self {
        Calendar::read(&text).map_or(Self::Ucum(text), Self::Calendar)
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Calendar(unit) => Some(unit.ucum()),
            Self::Ucum(code) => Some(code),
            Self::Other(_) => None,
        }
    }
}

/// Longer numbers are not looked at, and none that is needed is.
const LONGEST: usize = 128;

/// A decimal as JSON or an expression has it, exactly; none if it has more than 28 digits.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    if text.len() > LONGEST {
        return None;
    }
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || (unsigned.contains('.') && !plain(fraction)) {
        return None;
    }
    let mut number: i128 = [whole, fraction].concat().parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if scale < 0 {
        number = number.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
    }
    let signed = if digits.starts_with('-') { -number } else { number };
    Decimal::try_from_i128_with_scale(signed, u32::try_from(scale.max(0)).ok()?).ok()
}

/// A quotient has no digits that say nothing.
pub(super) fn quotient(one: Decimal, two: Decimal) -> Option<Decimal> {
    one.checked_div(two).map(|number| number.normalize())
}

/// Rounds both to the digits of the less precise.
pub(super) fn equivalent(one: Decimal, two: Decimal) -> bool {
    let digits = one.normalize().scale().min(two.normalize().scale());
    let round =
        |number: Decimal| number.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
    round(one) == round(two)
}

/// The last bound a decimal of that precision may mean, in so many digits.
pub(super) fn boundary(number: Decimal, digits: i64, high: bool) -> Option<Decimal> {
    let digits = u32::try_from(digits).ok().filter(|digits| *digits <= 28)?;
    let half = Decimal::try_new(5, number.scale() + 1).ok()?;
    let (bound, rounding) = if high {
        (number.checked_add(half)?, RoundingStrategy::ToPositiveInfinity)
    } else {
        (number.checked_sub(half)?, RoundingStrategy::ToNegativeInfinity)
    };
    let mut bound = bound.round_dp_with_strategy(digits, rounding);
    bound.rescale(digits);
    Some(bound)
}

impl<'a> Quantity<'a> {
    /// Both in one unit: the numbers, and whether they are exact.
    fn aligned(&self, other: &Self) -> Option<(Decimal, Decimal, bool)> {
        if self.unit == other.unit {
            return Some((self.value, other.value, true));
        }
        match (&self.unit, &other.unit) {
            (Unit::Calendar(Calendar::Year), Unit::Calendar(Calendar::Month)) => {
                return Some((self.value.checked_mul(Decimal::from(12))?, other.value, true));
            }
            (Unit::Calendar(Calendar::Month), Unit::Calendar(Calendar::Year)) => {
                return Some((self.value, other.value.checked_mul(Decimal::from(12))?, true));
            }
            (Unit::Calendar(Calendar::Year | Calendar::Month), _)
            | (_, Unit::Calendar(Calendar::Year | Calendar::Month)) => return None,
            _ => {}
        }
        self.converted(other).map(|number| (self.value, number, false))
    }

    /// The number of the other in this one's unit.
    fn converted(&self, other: &Self) -> Option<Decimal> {
        let (from, to) = (other.base()?, self.base()?);
        if from.unit != to.unit {
            return None;
        }
        let number = (other.value.to_f64()? * from.factor + from.offset - to.offset) / to.factor;
        // What a conversion does to the last digits must not decide a comparison.
        Decimal::from_f64(format!("{number:.11e}").parse().ok()?)
    }

    /// The same quantity in another unit.
    pub(super) fn to_unit(&self, unit: Unit<'a>) -> Option<Self> {
        let wanted = Self { value: Decimal::ONE, unit };
        let value = if self.unit == wanted.unit { self.value } else { wanted.converted(self)? };
        Some(Self { value, unit: wanted.unit })
    }

    pub(super) fn into_owned<'o>(self) -> Quantity<'o> {
        let unit = match self.unit {
            Unit::Calendar(unit) => Unit::Calendar(unit),
            Unit::Ucum(code) => Unit::Ucum(Cow::Owned(code.into_owned())),
            Unit::Other(code) => Unit::Other(Cow::Owned(code.into_owned())),
        };
        Quantity { value: self.value, unit }
    }

    fn base(&self) -> Option<Canonical> {
        canonical(self.unit.code()?)
    }

    /// None where the units do not convert.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        let (one, two, exact) = self.aligned(other)?;
        if exact {
            return Some(one.cmp(&two));
        }
        let round = |number: Decimal| number.round_sf(11).unwrap_or(number);
        Some(round(one).cmp(&round(two)))
    }

    /// The same as far as their digits say.
    pub(super) fn equivalent(&self, other: &Self) -> bool {
        match self.aligned(other) {
            Some((one, two, _)) => equivalent(one, two),
            None => self.converted(other).is_some_and(|two| equivalent(self.value, two)),
        }
    }

    /// Do the units measure the same?
    pub(super) fn comparable(&self, other: &Self) -> bool {
        self.aligned(other).is_some()
    }

    /// Is the unit one of the calendar?
    pub(super) fn is_calendar(&self) -> bool {
        matches!(self.unit, Unit::Calendar(_))
    }

    pub(super) fn add(&self, other: &Self, negative: bool) -> Option<Self> {
        let (one, two, _) = self.aligned(other)?;
        let same_year = self.unit == other.unit || !matches!(self.unit, Unit::Calendar(Calendar::Year));
        let value = if negative { one.checked_sub(two)? } else { one.checked_add(two)? };
        same_year.then(|| Self { value, unit: self.unit.clone() })
    }

    pub(super) fn multiply(&self, other: &Self, divided: bool) -> Option<Self> {
        let (one, two) = (self.unit.code()?, other.unit.code()?);
        // Products of products would double the text each time.
        if one.len() + two.len() > 256 {
            return None;
        }
        let value =
            if divided { quotient(self.value, other.value)? } else { self.value.checked_mul(other.value)? };
        let unit = match (one, two) {
            (_, "1") => one.to_owned(),
            ("1", two) if !divided => two.to_owned(),
            _ if divided && one == two => "1".to_owned(),
            _ => format!("({one}){}({two})", if divided { '/' } else { '.' }),
        };
        Some(Self { value, unit: Unit::Ucum(unit.into()) })
    }

    /// Text like `4 days` or `1.5 'mg'`; a number alone has the unit `1`.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (number, rest) = text.split_at_checked(end)?;
        let value = decimal(number).filter(|_| !number.contains(['e', 'E']))?;
        let unit = match rest.trim() {
            "" => Unit::Ucum("1".into()),
            quoted if quoted.starts_with('\'') => {
                let code = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
                Unit::named(Some(code).filter(|code| !code.is_empty() && !code.contains('\''))?.into())
            }
            word => Unit::calendar(word)?,
        };
        Some(Self { value, unit })
    }
}

impl fmt::Display for Quantity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Unit::Calendar(unit) => {
                let plural = if self.value == Decimal::ONE { "" } else { "s" };
                write!(f, "{} {}{plural}", self.value, unit.word())
            }
            Unit::Ucum(code) | Unit::Other(code) => write!(f, "{} '{code}'", self.value),
        }
    }
}
