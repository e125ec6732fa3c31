//! FHIR's partial dates as moments.

use chrono::{DateTime, Days, Months, NaiveDate, TimeDelta, Utc};

/// The first moment of a `date`, `dateTime` or `instant`; what has no zone is taken as UTC.
pub(crate) fn start(text: &str) -> Option<DateTime<Utc>> {
    let date = first_day(text)?;
    let Some(time) = text.get(10..).filter(|t| !t.is_empty()) else {
        return date.and_hms_opt(0, 0, 0).map(|t| t.and_utc());
    };
    let time = time.strip_prefix('T')?;
    let (hour, minute) = (number(time.get(0..2)?)?, number(time.get(3..5)?)?);
    if time.as_bytes().get(2) != Some(&b':') {
        return None;
    }
    let mut rest = time.get(5..)?;
    let (mut second, mut nanos) = (0, 0u32);
    if let Some(seconds) = rest.strip_prefix(':') {
        second = number(seconds.get(0..2)?)?;
        rest = seconds.get(2..)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            for (n, digit) in fraction.bytes().take(digits).take(9).enumerate() {
                let place = 10u32.pow(8 - u32::try_from(n).ok()?);
                nanos += u32::from(digit - b'0') * place;
            }
            rest = fraction.get(digits..)?;
        }
    }
    // Leap seconds are legal in FHIR; chrono counts them as the last nanosecond's overflow.
    let (second, nanos) = if second == 60 { (59, 999_999_999) } else { (second, nanos) };
    let local = date.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc();
    let offset = match rest {
        "" | "Z" | "z" => 0,
        zone => {
            let sign = match zone.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            sign * i64::from(number(zone.get(1..3)?)? * 60 + number(zone.get(4..6)?)?)
        }
    };
    local.checked_sub_signed(TimeDelta::try_minutes(offset)?)
}

fn first_day(text: &str) -> Option<NaiveDate> {
    let year = i32::try_from(number(text.get(0..4)?)?).ok()?;
    let part = |from: usize| -> Option<u32> {
        match text.as_bytes().get(from) {
            None => Some(1),
            Some(b'-') => number(text.get(from + 1..from + 3)?),
            Some(_) => None,
        }
    };
    NaiveDate::from_ymd_opt(year, part(4)?, if text.len() > 4 { part(7)? } else { 1 })
}

fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Days of birth that a possibly partial birth date allows: the earliest and the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) earliest: NaiveDate,
    pub(crate) latest: NaiveDate,
}

impl Birth {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let earliest = first_day(text)?;
        let span = match text.len() {
            4 => Months::new(12),
            7 => Months::new(1),
            10 => return Some(Self { earliest, latest: earliest }),
            _ => return None,
        };
        let latest = earliest.checked_add_months(span)?.checked_sub_days(Days::new(1))?;
        Some(Self { earliest, latest })
    }

    /// Completed years on a day, from the latest to the earliest possible day of birth; none before birth.
    pub(crate) fn age(self, on: NaiveDate) -> Option<(u32, u32)> {
        Some((on.years_since(self.latest)?, on.years_since(self.earliest)?))
    }
}

/// How far back a record may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookback {
    months: u32,
    days: u64,
    time: TimeDelta,
    /// In words.
    pub(crate) words: String,
}

impl Lookback {
    /// One number of years, months, days, hours or minutes, e.g. `P1Y`, `P180D`, `PT1H`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (amount, unit) = match text.strip_prefix("PT") {
            Some(time) => (time, time.chars().last().map(|c| c.to_ascii_lowercase())),
            None => (text.strip_prefix('P')?, text.chars().last()),
        };
        let amount = amount.get(..amount.len().checked_sub(1)?)?;
        let count = number(amount).filter(|n| (1..=9999).contains(n))?;
        let mut it = Self { months: 0, days: 0, time: TimeDelta::zero(), words: String::new() };
        let noun = match unit? {
            'Y' => {
                it.months = count * 12;
                "year"
            }
            'M' => {
                it.months = count;
                "month"
            }
            'D' => {
                it.days = u64::from(count);
                "day"
            }
            'h' => {
                it.time = TimeDelta::try_hours(i64::from(count))?;
                "hour"
            }
            'm' => {
                it.time = TimeDelta::try_minutes(i64::from(count))?;
                "minute"
            }
            _ => return None,
        };
        it.words = if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
        Some(it)
    }

    /// The oldest moment that is fresh enough at `as_of`.
    pub(crate) fn oldest(&self, as_of: DateTime<Utc>) -> DateTime<Utc> {
        as_of
            .checked_sub_months(Months::new(self.months))
            .and_then(|t| t.checked_sub_days(Days::new(self.days)))
            .and_then(|t| t.checked_sub_signed(self.time))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(text: &str) -> String {
        start(text).map(|t| t.to_rfc3339()).unwrap_or_default()
    }

    #[test]
    fn partial_and_zoned_moments() {
        assert_eq!(iso("2024"), "2024-01-01T00:00:00+00:00");
        assert_eq!(iso("2024-05"), "2024-05-01T00:00:00+00:00");
        assert_eq!(iso("2024-05-06"), "2024-05-06T00:00:00+00:00");
        assert_eq!(iso("2024-05-06T07:08:09Z"), "2024-05-06T07:08:09+00:00");
        assert_eq!(iso("2024-05-06T07:08:09.123+02:00"), "2024-05-06T05:08:09.123+00:00");
        assert_eq!(iso("2024-05-06T07:08:09-05:30"), "2024-05-06T12:38:09+00:00");
        assert_eq!(iso("2024-05-06T07:08:09.123456789123Z"), "2024-05-06T07:08:09.123456789+00:00");
        for bad in [
            "",
            "20",
            "2024-13",
            "2024-02-30",
            "2024-05-06 07:08",
            "2024-05-06T25:00:00Z",
            "x",
            "2024-05-06T07:08:09?",
            "２０２４",
            "2024/05",
        ] {
            assert_eq!(start(bad), None, "{bad}");
        }
    }

    #[test]
    fn completed_years() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        assert_eq!(Birth::parse("1960-06-15").unwrap().age(day(2020, 6, 14)), Some((59, 59)));
        assert_eq!(Birth::parse("1960-06-15").unwrap().age(day(2020, 6, 15)), Some((60, 60)));
        assert_eq!(Birth::parse("1960-02-29").unwrap().age(day(2021, 2, 28)), Some((60, 60)));
        assert_eq!(Birth::parse("1960").unwrap().age(day(2020, 6, 15)), Some((59, 60)));
        assert_eq!(Birth::parse("1960-06").unwrap().age(day(2020, 7, 1)), Some((60, 60)));
        assert_eq!(Birth::parse("2030-01-01").unwrap().age(day(2020, 6, 15)), None);
    }

    #[test]
    fn lookbacks() {
        let now = start("2024-02-29T12:00:00Z").unwrap();
        assert_eq!(Lookback::parse("P1Y").unwrap().oldest(now), start("2023-02-28T12:00:00Z").unwrap());
        assert_eq!(Lookback::parse("P30D").unwrap().oldest(now), start("2024-01-30T12:00:00Z").unwrap());
        assert_eq!(Lookback::parse("PT1H").unwrap().oldest(now), start("2024-02-29T11:00:00Z").unwrap());
        assert_eq!(Lookback::parse("PT24H").unwrap().words, "24 hours");
        for bad in ["", "P", "1Y", "P0D", "P1W", "PT1D", "P-1Y", "P1Y1D"] {
            assert_eq!(Lookback::parse(bad), None, "{bad}");
        }
    }
}
