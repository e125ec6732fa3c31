//! FHIR's dates: text of any precision is a span of time (<https://hl7.org/fhir/R4/datatypes.html#dateTime>).

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta};

use crate::json::Json;

/// A span in microseconds since 1970 UTC, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First microsecond.
    pub low: i64,
    /// Last microsecond.
    pub high: i64,
}

impl Span {
    /// All time.
    pub const ALWAYS: Self = Self { low: i64::MIN, high: i64::MAX };

    /// Of a Period: an end that is open, or can't be read, is for ever.
    pub fn of_period(period: &Json) -> Self {
        let read = |end: &str| period.text(end).and_then(parse);
        Self {
            low: read("start").map_or(i64::MIN, |span| span.low),
            high: read("end").map_or(i64::MAX, |span| span.high),
        }
    }

    /// Does the moment lie in it?
    pub fn contains(self, at: i64) -> bool {
        self.low <= at && at <= self.high
    }
}

/// Reads a date, dateTime or instant. A date without a zone is UTC. `2024-02` is the whole month.
pub fn parse(text: &str) -> Option<Span> {
    match text.split_once('T') {
        Some((date, rest)) => date_time(date, rest),
        None => date(text),
    }
}

fn digits<T: std::str::FromStr>(text: &str, length: usize) -> Option<T> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn day(year: &str, month: &str, day: &str) -> Option<NaiveDate> {
    let year: i32 = digits(year, 4).filter(|year| *year > 0)?;
    NaiveDate::from_ymd_opt(year, digits(month, 2)?, digits(day, 2)?)
}

fn between(first: NaiveDate, after: NaiveDate) -> Span {
    let micros = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    Span { low: micros(first), high: micros(after) - 1 }
}

fn date(text: &str) -> Option<Span> {
    let mut parts = text.splitn(3, '-');
    let year = parts.next()?;
    let Some(month) = parts.next() else {
        let first = day(year, "01", "01")?;
        return Some(between(first, first.checked_add_months(Months::new(12))?));
    };
    let Some(of_month) = parts.next() else {
        let first = day(year, month, "01")?;
        return Some(between(first, first.checked_add_months(Months::new(1))?));
    };
    let first = day(year, month, of_month)?;
    Some(between(first, first.checked_add_days(Days::new(1))?))
}

fn date_time(date: &str, rest: &str) -> Option<Span> {
    let mut parts = date.splitn(3, '-');
    let date = day(parts.next()?, parts.next()?, parts.next()?)?;
    let at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at_checked(at)?;
    let offset = offset(zone)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (second, mut step) = match parts.next() {
        Some(second) => (digits::<u32>(second, 2)?, 1_000_000),
        None if fraction.is_some() => return None,
        None => (0, 60_000_000),
    };
    // A leap second is the last second of its minute to everybody who calculates.
    let time = NaiveTime::from_hms_opt(hour, minute, if second == 60 { 59 } else { second })?;
    let mut micros = 0;
    if let Some(fraction) = fraction {
        if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        for digit in fraction.bytes().take(6) {
            step /= 10;
            micros += i64::from(digit - b'0') * step;
        }
    }
    let local = NaiveDateTime::new(date, time).and_utc().timestamp_micros();
    let low = local - offset.num_microseconds()? + micros;
    Some(Span { low, high: low + step - 1 })
}

fn offset(zone: &str) -> Option<TimeDelta> {
    if zone.is_empty() || zone == "Z" {
        return Some(TimeDelta::zero());
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 14 && minutes < 60).then(|| TimeDelta::minutes(sign * (hours * 60 + minutes)))
}

/// An instant to the millisecond, in UTC.
pub fn format_instant(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_a_span() {
        let of = |text: &str| parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(of("2024-02").high + 1, of("2024-03").low);
        assert_eq!(of("2024").high + 1, of("2025").low);
        assert_eq!(of("2024-02-29").low, of("2024-02-29T00:00:00Z").low);
        assert_eq!(of("2024-02-29T10:00Z").high, of("2024-02-29T10:00:59Z").high);
        assert_eq!(of("2024-01-01T00:30:00+01:00").low, of("2023-12-31T23:30:00Z").low);
        assert_eq!(of("2024-01-01T00:00:00.5Z").low - of("2024-01-01T00:00:00Z").low, 500_000);
        assert_eq!(of("2024-01-01T00:00:00.123456789Z").high, of("2024-01-01T00:00:00.123456Z").high);
        assert_eq!(format_instant(of("2024-05-06T07:08:09.01Z").low), "2024-05-06T07:08:09.010Z");
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "24",
            "2024-13",
            "1973-02-30",
            "2024-1-1",
            "2024-01-01T",
            "2024-01-01T25:00:00Z",
            "2024-01-01T10:00:00+1",
            "2024-01-01T10:00:00.Z",
            "2024-01-01T10:00:00Zz",
            "0000-01-01",
            "tomorrow",
            "2024-01-01T10",
            "2024-01-01T10:00.00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
