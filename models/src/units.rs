//! From the unit something was recorded in to the unit the model wants.
//!
//! UCUM decides (<https://ucum.org/ucum>); what UCUM can't know, the analyte's mass per amount
//! and spellings seen in the wild, is data of the manifest. Nothing is guessed from the size
//! of a number.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::manifest::Conversion;

/// Units come from outside; no more of them are remembered than this.
const REMEMBERED: usize = 1024;
/// No real unit is longer.
const MAX_UNIT: usize = 64;

/// Converts into one canonical unit.
#[derive(Debug)]
pub(crate) struct Units {
    canonical: Arc<str>,
    aliases: BTreeMap<String, String>,
    analyte: Vec<Conversion>,
    known: RwLock<HashMap<String, Result<Map, Trouble>>>,
}

/// Why a unit can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) details: String,
    pub(crate) remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Map {
    Same,
    /// value × 0 ÷ 1 + 2
    Linear(f64, f64, f64),
}

impl Map {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Same => value,
            Self::Linear(multiply, divide, plus) => value * multiply / divide + plus,
        }
    }
}

impl Units {
    /// # Errors
    /// A unit in the manifest that UCUM does not know.
    pub(crate) fn new(
        canonical: &Arc<str>,
        aliases: &BTreeMap<String, String>,
        analyte: &[Conversion],
    ) -> Result<Self, String> {
        for unit in std::iter::once(canonical.as_ref())
            .chain(aliases.values().map(String::as_str))
            .chain(analyte.iter().map(|c| c.unit.as_ref()))
        {
            octofhir_ucum::validate(unit).map_err(|e| format!("unit {unit}: {}", e.message))?;
        }
        let units = Self {
            canonical: Arc::clone(canonical),
            aliases: aliases.clone(),
            analyte: analyte.to_vec(),
            known: RwLock::default(),
        };
        Ok(units)
    }

    /// # Errors
    /// An alias that is of no use for this unit.
    pub(crate) fn check_aliases(&self) -> Result<(), String> {
        self.aliases.values().try_for_each(|unit| self.work_out(unit).map(|_| ()).map_err(|t| t.details))
    }

    pub(crate) fn canonical(&self) -> &Arc<str> {
        &self.canonical
    }

    /// # Errors
    /// The unit is not UCUM, or of another dimension.
    pub(crate) fn convert(&self, value: f64, unit: &str) -> Result<f64, Trouble> {
        if unit == self.canonical.as_ref() {
            return Ok(value);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = known.get(unit) {
            return map.clone().map(|map| map.apply(value));
        }
        drop(known);
        let map = self.work_out(unit);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(unit.to_owned(), map.clone());
        }
        drop(known);
        map.map(|map| map.apply(value))
    }

    fn work_out(&self, recorded: &str) -> Result<Map, Trouble> {
        if recorded.len() > MAX_UNIT {
            return Err(self.trouble("the unit is too long to be one", recorded));
        }
        let unit = self.aliases.get(recorded).map_or(recorded, String::as_str);
        // To UCUM what stands in braces is no unit: {mg/g} is 1, and would pass for any ratio.
        if unit != self.canonical.as_ref() && only_number(unit) && unit.contains('{') {
            return Err(self.trouble(&format!("the unit `{recorded}` is only an annotation of 1"), recorded));
        }
        // A plain ratio: of grams to grams, of milligrams to millimoles? Nobody can tell.
        if only_number(unit) && !only_number(&self.canonical) && self.canonical.as_ref() != "%" {
            return Err(self.trouble(&format!("the unit `{recorded}` is a bare number"), recorded));
        }
        if let Err(error) = octofhir_ucum::validate(unit) {
            let mut trouble = self.trouble(&format!("the unit `{recorded}` is not a UCUM code"), recorded);
            if let Some(suggestion) = error.suggestions.first() {
                trouble.details = format!("{} ({suggestion})", trouble.details);
            }
            return Err(trouble);
        }
        if let Some(map) = linear(unit, &self.canonical) {
            // 100 % is UCUM's 1, but a prothrombin activity in % is no INR: a bare ratio or
            // score takes nothing that would need scaling.
            let bare = self.canonical.starts_with('{') || self.canonical.as_ref() == "1";
            if !bare || map == Map::Same || map == Map::Linear(1.0, 1.0, 0.0) {
                return Ok(map);
            }
        }
        for conversion in &self.analyte {
            if let Some(first) = linear(unit, &conversion.unit) {
                let (multiply, divide) =
                    (conversion.multiply.unwrap_or(1.0), conversion.divide.unwrap_or(1.0));
                return Ok(match first {
                    Map::Same => Map::Linear(multiply, divide, conversion.plus),
                    Map::Linear(m, d, p) => {
                        Map::Linear(m * multiply, d * divide, p * multiply / divide + conversion.plus)
                    }
                });
            }
        }
        Err(self
            .trouble(&format!("the unit `{recorded}` can't be converted to {}", self.canonical), recorded))
    }

    fn trouble(&self, details: &str, recorded: &str) -> Trouble {
        let shown: String = details.replace(recorded, &recorded.chars().take(MAX_UNIT).collect::<String>());
        Trouble { details: shown, remedy: format!("record it with a UCUM unit such as {}", self.accepted()) }
    }

    /// What is accepted, e.g. `mg/dL or umol/L`.
    pub(crate) fn accepted(&self) -> String {
        self.analyte.iter().fold(self.canonical.to_string(), |all, c| format!("{all} or {}", c.unit))
    }

    /// The accepted units in which `value` would fall where it does not in the canonical one.
    pub(crate) fn plausible(&self, value: f64, fits: impl Fn(f64) -> bool) -> Option<&str> {
        self.analyte.iter().map(|c| c.unit.as_ref()).find(|unit| self.convert(value, unit).is_ok_and(&fits))
    }
}

/// Proper units convert by a factor, temperatures by a factor and an offset; logarithmic
/// scales are no unit of any input.
fn linear(from: &str, to: &str) -> Option<Map> {
    if from == to {
        return Some(Map::Same);
    }
    // To UCUM a mole is a number, so mmol/mol would pass for a tenth of a percent and mmol/L for a
    // count of cells: amounts convert to amounts only.
    if amount(from) != amount(to) {
        return None;
    }
    let result = octofhir_ucum::convert_with_context(
        1.0,
        from,
        to,
        &octofhir_ucum::AdvancedConversionContext::default(),
    )
    .ok()?;
    let factor = result.factor?.to_f64();
    let offset = result.offset.map_or(0.0, octofhir_ucum::Number::to_f64);
    // A factor like 1/18 is nearer as a divisor.
    let inverse = (1.0 / factor).round();
    let (multiply, divide) =
        if factor < 1.0 && ((inverse * factor) - 1.0).abs() < 1e-15 { (1.0, inverse) } else { (factor, 1.0) };
    (factor.is_finite() && factor != 0.0).then_some(Map::Linear(multiply, divide, offset))
}

/// `1`, `{ratio}`, `1{mg/g}`, `10*3/{mL}`: outside of braces no unit.
fn only_number(unit: &str) -> bool {
    let mut depth = 0_u32;
    let mut bare = true;
    for c in unit.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && (c.is_alphabetic() || matches!(c, '%' | '[' | '\'' | '"')) => bare = false,
            _ => {}
        }
    }
    bare
}

fn amount(unit: &str) -> bool {
    unit.contains("mol") || unit.contains("eq")
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "conversions are exact where nothing else is said")]
mod tests {
    use super::*;

    fn units(
        canonical: &str,
        aliases: &[(&str, &str)],
        analyte: &[(&str, Option<f64>, Option<f64>, f64)],
    ) -> Units {
        let aliases = aliases.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let analyte: Vec<Conversion> = analyte
            .iter()
            .map(|(unit, multiply, divide, plus)| Conversion {
                unit: Arc::from(*unit),
                multiply: *multiply,
                divide: *divide,
                plus: *plus,
                source: String::new(),
            })
            .collect();
        Units::new(&Arc::from(canonical), &aliases, &analyte).unwrap()
    }

    #[test]
    fn ucum_and_analytes_convert() {
        let creatinine = units("mg/dL", &[("mg/dl", "mg/dL")], &[("umol/L", None, Some(88.4), 0.0)]);
        assert_eq!(creatinine.convert(1.2, "mg/dL").unwrap(), 1.2);
        assert_eq!(creatinine.convert(12.0, "mg/L").unwrap(), 1.2);
        assert_eq!(creatinine.convert(88.4, "umol/L").unwrap(), 1.0);
        assert!((creatinine.convert(0.0884, "mmol/L").unwrap() - 1.0).abs() < 1e-15);
        assert_eq!(creatinine.convert(1.2, "mg/dl").unwrap(), 1.2);
        let a1c = units("%", &[], &[("mmol/mol", Some(0.09148), None, 2.152)]);
        assert!((a1c.convert(53.0, "mmol/mol").unwrap() - 7.00044).abs() < 1e-12);
        assert_eq!(units("10*9/L", &[("K/uL", "10*3/uL")], &[]).convert(150.0, "K/uL").unwrap(), 150.0);
        assert!((units("Cel", &[], &[]).convert(98.6, "[degF]").unwrap() - 37.0).abs() < 1e-12);
        assert_eq!(units("mL/min/{1.73_m2}", &[], &[]).convert(60.0, "mL/min").unwrap(), 60.0);
        assert_eq!(units("%", &[], &[]).convert(0.97, "1").unwrap(), 97.0);
        assert_eq!(units("mm[Hg]", &[("mmHg", "mm[Hg]")], &[]).convert(120.0, "mmHg").unwrap(), 120.0);
        assert_eq!(units("kg/m2", &[], &[]).convert(25.0, "kg/m2").unwrap(), 25.0);
        assert!((units("cm", &[], &[]).convert(70.0, "[in_i]").unwrap() - 177.8).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_unit_or_another_dimension_is_refused_with_a_remedy() {
        let creatinine = units("mg/dL", &[], &[("umol/L", None, Some(88.4), 0.0)]);
        for unit in ["mmHg", "mg", "K/uL", "", "1", "%", "µmol/L", &"m".repeat(100)] {
            let trouble = creatinine.convert(1.0, unit).unwrap_err();
            assert!(trouble.remedy.contains("mg/dL or umol/L"), "{unit}");
        }
        assert!(units("{INR}", &[], &[]).convert(100.0, "%").is_err());
        assert!(units("%", &[], &[]).convert(53.0, "mmol/mol").is_err());
        assert!(units("10*9/L", &[], &[]).convert(53.0, "mmol/L").is_err());
        assert_eq!(units("{INR}", &[], &[]).convert(1.1, "1").unwrap(), 1.1);
        let inr = units("{INR}", &[("{ratio}", "{INR}")], &[]);
        assert_eq!(inr.convert(1.1, "{ratio}").unwrap(), 1.1);
        for unit in ["{sec}", "{mg/g}", "1{sec}"] {
            assert!(inr.convert(1.1, unit).is_err(), "{unit}");
            assert!(units("mg/g", &[], &[]).convert(30.0, unit).is_err(), "{unit}");
        }
        assert!(units("/min", &[], &[]).convert(30.0, "{breaths}/min").is_ok());
    }

    #[test]
    fn a_suspected_unit_is_named_but_not_used() {
        let creatinine = units("mg/dL", &[], &[("umol/L", None, Some(88.4), 0.0)]);
        assert_eq!(creatinine.plausible(88.0, |x| x < 20.0), Some("umol/L"));
        assert_eq!(creatinine.plausible(1e6, |x| x < 20.0), None);
    }
}
