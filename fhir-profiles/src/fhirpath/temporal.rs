//! Date, DateTime and Time of any precision (<http://hl7.org/fhirpath/N1/#date-time-arithmetic>).

use std::cmp::Ordering;
use std::fmt::{self, Write};

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use rust_decimal::prelude::ToPrimitive;

use super::Error;
use super::quantity::{Calendar, Quantity, Unit};

/// Which of the three types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A day, month or year.
    Date,
    /// A moment, a day, month or year.
    DateTime,
    /// A time of day.
    Time,
}

/// The least part that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precision {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
}

/// A date, a date with a time, or a time of day. What is not given counts as the first there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temporal {
    kind: Kind,
    precision: Precision,
    local: NaiveDateTime,
    /// Digits of the fraction.
    digits: u8,
    /// Minutes east of UTC.
    zone: Option<i32>,
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn accept(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.text.get(self.at..self.at.checked_add(count)?)?;
        let number = digits
            .iter()
            .try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))?;
        self.at += count;
        Some(number)
    }

    /// A separator with two digits after it, or nothing at all.
    fn part(&mut self, separator: u8) -> Option<u32> {
        let before = self.at;
        if !self.accept(separator) {
            return None;
        }
        let number = self.digits(2);
        if number.is_none() {
            self.at = before;
        }
        number
    }

    fn fraction(&mut self) -> Option<(u32, u8)> {
        let before = self.at;
        if !self.accept(b'.') {
            return None;
        }
        let (mut nanos, mut count) = (0_u32, 0_u8);
        while let Some(byte) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            if count < 9 {
                nanos = nanos * 10 + u32::from(byte - b'0');
                count += 1;
            }
            self.at += 1;
        }
        if count == 0 {
            self.at = before;
            return None;
        }
        Some((nanos * 10_u32.pow(9 - u32::from(count)), count))
    }

    fn zone(&mut self) -> Option<i32> {
        if self.accept(b'Z') {
            return Some(0);
        }
        let before = self.at;
        let sign = if self.text.get(self.at) == Some(&b'-') { -1 } else { 1 };
        let hours = self.part(b'+').or_else(|| self.part(b'-'));
        if let (Some(hours), Some(minutes)) = (hours, hours.and_then(|_| self.part(b':')))
            && hours <= 14
            && minutes < 60
        {
            return Some(sign * i32::try_from(hours * 60 + minutes).unwrap_or(0));
        }
        self.at = before;
        None
    }
}

impl Temporal {
    /// Reads what follows the `@` of a literal: as much of the text as belongs to it, and how long that is.
    pub(super) fn scan(text: &str) -> Option<(Self, usize)> {
        let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
        let mut precision = Precision::Year;
        let time_only = scanner.accept(b'T');
        let mut date = NaiveDate::from_ymd_opt(1970, 1, 1)?;
        if !time_only {
            let year = i32::try_from(scanner.digits(4)?).ok()?;
            let month = scanner.part(b'-');
            let day = month.and_then(|_| scanner.part(b'-'));
            date = NaiveDate::from_ymd_opt(year, month.unwrap_or(1), day.unwrap_or(1))?;
            precision = match (month, day) {
                (_, Some(_)) => Precision::Day,
                (Some(_), None) => Precision::Month,
                _ => Precision::Year,
            };
        }
        let moment = !time_only && scanner.accept(b'T');
        let kind = match (time_only, moment) {
            (true, _) => Kind::Time,
            (_, true) => Kind::DateTime,
            _ => Kind::Date,
        };
        let (mut time, mut digits, mut zone) = (NaiveTime::MIN, 0, None);
        if time_only || (moment && precision == Precision::Day) {
            let hour = scanner.digits(2);
            if hour.is_none() && time_only {
                return None;
            }
            let minute = hour.and_then(|_| scanner.part(b':'));
            let second = minute.and_then(|_| scanner.part(b':'));
            let fraction = second.and_then(|_| scanner.fraction());
            if hour.is_some() {
                precision = match (minute, second, fraction) {
                    (_, _, Some(_)) => Precision::Fraction,
                    (_, Some(_), _) => Precision::Second,
                    (Some(_), ..) => Precision::Minute,
                    _ => Precision::Hour,
                };
                let (nanos, count) = fraction.unwrap_or_default();
                digits = count;
                // A leap second is the last second of its minute to everybody who calculates.
                let second = second.map_or(0, |second| if second == 60 { 59 } else { second });
                time = NaiveTime::from_hms_nano_opt(hour?, minute.unwrap_or(0), second, nanos)?;
                zone = if moment { scanner.zone() } else { None };
            }
        }
        let local = date.and_time(time);
        Some((Self { kind, precision, local, digits, zone }, scanner.at))
    }

    /// The text of a FHIR element, or of a string to convert.
    pub(super) fn read(kind: Kind, text: &str) -> Option<Self> {
        match kind {
            Kind::Date => Self::whole(text).filter(|found| found.kind == Kind::Date),
            Kind::DateTime => Self::whole(text)
                .filter(|found| found.kind != Kind::Time)
                .map(|found| Self { kind: Kind::DateTime, ..found }),
            Kind::Time if text.starts_with('T') => None,
            Kind::Time => Self::whole(&format!("T{text}")),
        }
    }

    /// A moment in UTC, to the millisecond.
    pub(super) fn moment(micros: i64) -> Option<Self> {
        let local = chrono::DateTime::from_timestamp_micros(micros)?.naive_utc();
        let local = local.with_nanosecond(local.nanosecond() / 1_000_000 * 1_000_000)?;
        Some(Self { kind: Kind::DateTime, precision: Precision::Fraction, local, digits: 3, zone: Some(0) })
    }

    /// Which of the types it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The day of a moment.
    pub(super) fn date(self) -> Self {
        let local = self.local.date().and_time(NaiveTime::MIN);
        let precision = self.precision.min(Precision::Day);
        Self { kind: Kind::Date, precision, local, digits: 0, zone: None }
    }

    /// The time of day of a moment.
    pub(super) fn time(self) -> Option<Self> {
        let local = NaiveDate::from_ymd_opt(1970, 1, 1)?.and_time(self.local.time());
        (self.precision >= Precision::Hour).then_some(Self { kind: Kind::Time, local, zone: None, ..self })
    }

    /// The same as a `DateTime`.
    pub(super) fn date_time(self) -> Self {
        Self { kind: Kind::DateTime, ..self }
    }

    fn utc(&self) -> NaiveDateTime {
        let zone = TimeDelta::minutes(self.zone.unwrap_or(0).into());
        self.local.checked_sub_signed(zone).unwrap_or(self.local)
    }

    /// Is one a time of day, the other not?
    pub(super) fn differs_in_kind(&self, other: &Self) -> bool {
        (self.kind == Kind::Time) != (other.kind == Kind::Time)
    }

    /// None where the precision of one does not tell, or only one has a zone.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        let clocks = self.precision >= Precision::Hour && other.precision >= Precision::Hour;
        let (one, two) = match (self.zone, other.zone) {
            (None, None) => (self.local, other.local),
            (Some(_), Some(_)) if clocks => (self.utc(), other.utc()),
            _ if clocks => return None,
            _ => (self.local, other.local),
        };
        let least = self.precision.min(other.precision);
        let ordered = truncated(one, least).cmp(&truncated(two, least));
        let same = |precision: Precision| precision.min(Precision::Second);
        if ordered == Ordering::Equal && same(self.precision) != same(other.precision) {
            return None;
        }
        if least == Precision::Second { Some(one.cmp(&two)) } else { Some(ordered) }
    }

    /// How many digits its text has.
    pub(super) fn digits(&self) -> i64 {
        let time = |digits: i64| if self.kind == Kind::Time { digits - 8 } else { digits };
        match self.precision {
            Precision::Year => 4,
            Precision::Month => 6,
            Precision::Day => 8,
            Precision::Hour => time(10),
            Precision::Minute => time(12),
            Precision::Second => time(14),
            Precision::Fraction => time(14 + i64::from(self.digits)),
        }
    }

    /// The first or last moment it may mean, in so many digits.
    pub(super) fn boundary(&self, digits: Option<i64>, high: bool) -> Option<Self> {
        let (most, clock) = match self.kind {
            Kind::Date => (8, 0),
            Kind::DateTime => (17, 0),
            Kind::Time => (9, 8),
        };
        let precision = match digits.unwrap_or(most).checked_add(clock)? {
            4 if clock == 0 => Precision::Year,
            6 if clock == 0 => Precision::Month,
            8 if clock == 0 => Precision::Day,
            10 => Precision::Hour,
            12 => Precision::Minute,
            14 => Precision::Second,
            17 => Precision::Fraction,
            _ => return None,
        };
        // FHIR has no time without minutes: an hour alone means its first minute.
        let given = if self.precision == Precision::Hour { Precision::Minute } else { self.precision };
        let mut local = self.local;
        if high {
            let (date, time) = (local.date(), local.time());
            let date = match given {
                Precision::Year => NaiveDate::from_ymd_opt(date.year(), 12, 31)?,
                Precision::Month => last_of_month(date)?,
                _ => date,
            };
            let second = if given < Precision::Second { 59 } else { time.second() };
            let (hour, minute) =
                if given < Precision::Hour { (23, 59) } else { (time.hour(), time.minute()) };
            let nanos = if given < Precision::Fraction { 999_000_000 } else { time.nanosecond() };
            local = date.and_time(NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?);
        }
        let moment = precision >= Precision::Hour && self.kind == Kind::DateTime;
        let zone = if moment { self.zone.or(Some(if high { -12 * 60 } else { 14 * 60 })) } else { None };
        let kind = match self.kind {
            Kind::DateTime if precision <= Precision::Day => Kind::Date,
            kind => kind,
        };
        Some(Self { kind, precision, local: truncated(local, precision), digits: 3, zone })
    }

    /// Adds a quantity of time, or takes it away. None where the result is outside of all dates.
    ///
    /// # Errors
    /// Where the unit is none of time, or not one of the calendar's.
    pub(super) fn add(&self, quantity: &Quantity<'_>, negative: bool) -> Result<Option<Self>, Error> {
        let wrong = || Error::Type("a unit of time is needed");
        let unit = match &quantity.unit {
            Unit::Calendar(unit) => *unit,
            Unit::Ucum(code) => match code.as_ref() {
                "wk" => Calendar::Week,
                "d" => Calendar::Day,
                "h" => Calendar::Hour,
                "min" => Calendar::Minute,
                "s" => Calendar::Second,
                "ms" => Calendar::Millisecond,
                // `a` and `mo` are definite durations, no years and months of a calendar.
                other => Calendar::read(other).ok_or_else(wrong)?,
            },
            Unit::Other(_) => return Err(wrong()),
        };
        let count = quantity.value.trunc().to_i64().filter(|count| count.unsigned_abs() < 1 << 40);
        Ok(count.and_then(|count| self.moved(if negative { -count } else { count }, unit)))
    }

    fn moved(&self, count: i64, unit: Calendar) -> Option<Self> {
        if self.kind == Kind::Time {
            let time = self.local.time().overflowing_add_signed(duration(count, unit)?).0;
            return Some(Self { local: self.local.date().and_time(time), ..*self });
        }
        let (count, unit) = match (self.precision, unit) {
            // What is finer than the date itself counts as far as it fills the date's own unit.
            (Precision::Year, Calendar::Month) => (count / 12, Calendar::Year),
            (Precision::Year | Precision::Month, unit) if unit < Calendar::Month => {
                let days = duration(count, unit)?.num_days();
                if self.precision == Precision::Year {
                    (days / 365, Calendar::Year)
                } else {
                    (days / 30, Calendar::Month)
                }
            }
            (Precision::Day, unit) if unit < Calendar::Day => {
                (duration(count, unit)?.num_days(), Calendar::Day)
            }
            (_, unit) => (count, unit),
        };
        let local = match unit {
            Calendar::Year | Calendar::Month => {
                let months = if unit == Calendar::Year { count.checked_mul(12)? } else { count };
                let size = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
                if months < 0 {
                    self.local.checked_sub_months(size)?
                } else {
                    self.local.checked_add_months(size)?
                }
            }
            Calendar::Week | Calendar::Day => {
                let days = if unit == Calendar::Week { count.checked_mul(7)? } else { count };
                let size = Days::new(days.unsigned_abs());
                if days < 0 {
                    self.local.checked_sub_days(size)?
                } else {
                    self.local.checked_add_days(size)?
                }
            }
            unit => self.local.checked_add_signed(duration(count, unit)?)?,
        };
        (1..=9999).contains(&local.year()).then_some(Self { local, ..*self })
    }
}

fn duration(count: i64, unit: Calendar) -> Option<TimeDelta> {
    match unit {
        Calendar::Millisecond => TimeDelta::try_milliseconds(count),
        Calendar::Second => TimeDelta::try_seconds(count),
        Calendar::Minute => TimeDelta::try_minutes(count),
        Calendar::Hour => TimeDelta::try_hours(count),
        Calendar::Day => TimeDelta::try_days(count),
        Calendar::Week => TimeDelta::try_weeks(count),
        Calendar::Month | Calendar::Year => None,
    }
}

fn last_of_month(date: NaiveDate) -> Option<NaiveDate> {
    let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
    first.checked_add_months(Months::new(1))?.pred_opt()
}

fn truncated(moment: NaiveDateTime, precision: Precision) -> NaiveDateTime {
    let (date, time) = (moment.date(), moment.time());
    let month = if precision < Precision::Month { 1 } else { date.month() };
    let day = if precision < Precision::Day { 1 } else { date.day() };
    let hour = if precision < Precision::Hour { 0 } else { time.hour() };
    let minute = if precision < Precision::Minute { 0 } else { time.minute() };
    let second = if precision < Precision::Second { 0 } else { time.second() };
    let nanos = if precision < Precision::Fraction { 0 } else { time.nanosecond() };
    let date = NaiveDate::from_ymd_opt(date.year(), month, day);
    let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanos);
    date.zip(time).map_or(moment, |(date, time)| date.and_time(time))
}

impl fmt::Display for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.local.date(), self.local.time());
        if self.kind != Kind::Time {
            write!(f, "{:04}", date.year())?;
            if self.precision >= Precision::Month {
                write!(f, "-{:02}", date.month())?;
            }
            if self.precision >= Precision::Day {
                write!(f, "-{:02}", date.day())?;
            }
        }
        if self.precision < Precision::Hour {
            return Ok(());
        }
        if self.kind != Kind::Time {
            f.write_char('T')?;
        }
        write!(f, "{:02}", time.hour())?;
        if self.precision >= Precision::Minute {
            write!(f, ":{:02}", time.minute())?;
        }
        if self.precision >= Precision::Second {
            write!(f, ":{:02}", time.second())?;
        }
        if self.precision >= Precision::Fraction {
            let fraction = time.nanosecond() / 10_u32.pow(9 - u32::from(self.digits.min(9)));
            write!(f, ".{fraction:0width$}", width = usize::from(self.digits))?;
        }
        match self.zone {
            None => Ok(()),
            Some(0) => f.write_char('Z'),
            Some(zone) => {
                let sign = if zone < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", zone.abs() / 60, zone.abs() % 60)
            }
        }
    }
}
