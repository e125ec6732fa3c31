//! Numbers and quantities: the precision that digits imply, prefixes, exponents, units
//! (search.html#number, search.html#quantity).

use super::Table;
use crate::check::Check;

#[rustfmt::skip]
const NUMBERS: Table = Table {
    id: "search/number",
    section: "search.html#number",
    kind: "ChargeItem",
    common: r#"{"status": "billable", "code": {"text": "number"}, "subject": {"display": "number"}}"#,
    data: &[
        ("hundred", r#"{"factorOverride": 100}"#),
        ("hundred-cents", r#"{"factorOverride": 100.00}"#),
        ("above", r#"{"factorOverride": 100.4}"#),
        ("below", r#"{"factorOverride": 99.6}"#),
        ("hundred-one", r#"{"factorOverride": 101}"#),
        ("hundred-four", r#"{"factorOverride": 104}"#),
        ("hundred-eight", r#"{"factorOverride": 108}"#),
        ("minus", r#"{"factorOverride": -2.5}"#),
        ("small", r#"{"factorOverride": 0.002}"#),
        ("zero", r#"{"factorOverride": 0}"#),
        ("none", "{}"),
    ],
    queries: &[
        ("eq-whole", "factor-override=100", "hundred hundred-cents above below"),
        ("eq-prefix", "factor-override=eq100", "hundred hundred-cents above below"),
        ("eq-one-digit", "factor-override=100.0", "hundred hundred-cents"),
        ("eq-two-digits", "factor-override=100.00", "hundred hundred-cents"),
        ("eq-digit-beside", "factor-override=100.4", "above"),
        ("eq-half-up-is-out", "factor-override=101", "hundred-one"),
        ("eq-exponent", "factor-override=1e2", "hundred hundred-cents above below hundred-one hundred-four"),
        ("eq-exponent-of-small", "factor-override=2e-3", "small"),
        ("eq-small", "factor-override=0.002", "small"),
        ("eq-minus", "factor-override=-2.5", "minus"),
        ("eq-zero", "factor-override=0", "zero small"),
        ("eq-zero-precise", "factor-override=0.0000", "zero"),
        ("ne", "factor-override=ne100", "hundred-one hundred-four hundred-eight minus small zero"),
        ("ne-precise", "factor-override=ne100.0", "above below hundred-one hundred-four hundred-eight minus small zero"),
        ("gt-is-exact", "factor-override=gt100", "above hundred-one hundred-four hundred-eight"),
        ("ge-is-exact", "factor-override=ge100", "hundred hundred-cents above hundred-one hundred-four hundred-eight"),
        ("lt-is-exact", "factor-override=lt100", "below minus small zero"),
        ("le-is-exact", "factor-override=le100", "hundred hundred-cents below minus small zero"),
        ("lt-zero", "factor-override=lt0", "minus"),
        ("gt-minus", "factor-override=gt-2.5&factor-override=lt1", "small zero"),
        ("sa", "factor-override=sa100", "above hundred-one hundred-four hundred-eight"),
        ("eb", "factor-override=eb0", "minus"),
        ("ap", "factor-override=ap100", "hundred hundred-cents above below hundred-one hundred-four hundred-eight"),
        ("ap-small", "factor-override=ap0.0021", "small"),
        ("or", "factor-override=101,104", "hundred-one hundred-four"),
        ("and", "factor-override=gt100&factor-override=lt104", "above hundred-one"),
        ("missing", "factor-override:missing=true", "none"),
        ("not-missing", "factor-override:missing=false&factor-override=lt1", "minus small zero"),
        ("bad-text", "factor-override=many", "!"),
        ("bad-two-points", "factor-override=1.2.3", "!"),
        ("bad-empty-after-prefix", "factor-override=gt", "!"),
        ("bad-alternative", "factor-override=1,x", "!"),
    ],
};

#[rustfmt::skip]
const PROBABILITIES: Table = Table {
    id: "search/probability",
    section: "search.html#number",
    kind: "RiskAssessment",
    common: r#"{"status": "final", "subject": {"display": "probability"}}"#,
    data: &[
        ("low", r#"{"prediction": [{"outcome": {"coding": [{"system": "urn:conformance:risk", "code": "a"}]}, "probabilityDecimal": 0.5}]}"#),
        ("high", r#"{"prediction": [{"probabilityDecimal": 80.25}], "method": {"coding": [{"system": "urn:conformance:method", "code": "m"}]}}"#),
        ("two", r#"{"prediction": [{"probabilityDecimal": 1}, {"probabilityDecimal": 60}], "occurrenceDateTime": "2020-05-06"}"#),
        ("words", r#"{"prediction": [{"qualitativeRisk": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/risk-probability", "code": "high"}]}}]}"#),
    ],
    queries: &[
        ("eq", "probability=0.5", "low"),
        ("eq-precise", "probability=80.25", "high"),
        ("gt", "probability=gt50", "high two"),
        ("lt", "probability=lt2", "low two"),
        ("either-of-two", "probability=60", "two"),
        ("risk", "risk=high", "words"),
        ("method", "method=urn:conformance:method|m", "high"),
        ("date", "date=2020-05", "two"),
    ],
};

#[rustfmt::skip]
const QUANTITIES: Table = Table {
    id: "search/quantity",
    section: "search.html#quantity",
    kind: "Observation",
    common: r#"{"status": "final", "code": {"text": "quantity"}}"#,
    data: &[
        ("five", r#"{"valueQuantity": {"value": 5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
        ("five-precise", r#"{"valueQuantity": {"value": 5.000, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
        ("five-four", r#"{"valueQuantity": {"value": 5.4, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}"#),
        ("gram", r#"{"valueQuantity": {"value": 0.005, "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"}}"#),
        ("other-system", r#"{"valueQuantity": {"value": 5, "unit": "mg", "system": "urn:conformance:units", "code": "mg"}}"#),
        ("unit-only", r#"{"valueQuantity": {"value": 5, "unit": "mg"}}"#),
        ("bare", r#"{"valueQuantity": {"value": 5}}"#),
        ("minus", r#"{"valueQuantity": {"value": -12.5, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}}"#),
        ("tiny", r#"{"valueQuantity": {"value": 0.002, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}}"#),
        ("words", r#"{"valueString": "5"}"#),
    ],
    queries: &[
        ("bare-number", "value-quantity=5", "five five-precise five-four other-system unit-only bare"),
        ("bare-number-precise", "value-quantity=5.0", "five five-precise other-system unit-only bare"),
        ("three-digits", "value-quantity=5.000", "five five-precise other-system unit-only bare"),
        ("system-and-code", "value-quantity=5.000|http://unitsofmeasure.org|mg", "five five-precise gram?"),
        ("system-and-code-implied", "value-quantity=5|http://unitsofmeasure.org|mg", "five five-precise five-four gram?"),
        ("converted", "value-quantity=5000|http://unitsofmeasure.org|ug", "five? five-precise? gram?"),
        ("other-system", "value-quantity=5|urn:conformance:units|mg", "other-system"),
        ("code-or-unit", "value-quantity=5.0||mg", "five five-precise other-system unit-only"),
        ("wrong-code", "value-quantity=5|http://unitsofmeasure.org|kg", ""),
        ("wrong-system", "value-quantity=5|urn:nobody|mg", ""),
        ("minus", "value-quantity=-12.5|http://unitsofmeasure.org|mmol/L", "minus"),
        ("exponent", "value-quantity=2e-3|http://unitsofmeasure.org|mmol/L", "tiny"),
        ("exponent-negative", "value-quantity=-1.25e1|http://unitsofmeasure.org|mmol/L", "minus"),
        ("gt", "value-quantity=gt5|http://unitsofmeasure.org|mg", "five-four"),
        ("ge", "value-quantity=ge5.4|http://unitsofmeasure.org|mg", "five-four"),
        ("ge-converted", "value-quantity=ge5|http://unitsofmeasure.org|mg", "five five-precise five-four gram?"),
        ("lt", "value-quantity=lt5.4||mg", "five five-precise other-system unit-only"),
        ("le", "value-quantity=le0.002|http://unitsofmeasure.org|mmol/L", "minus tiny"),
        ("ne", "value-quantity=ne5|http://unitsofmeasure.org|mmol/L", "minus tiny"),
        ("sa", "value-quantity=sa5|http://unitsofmeasure.org|mg", "five-four"),
        ("eb", "value-quantity=eb0|http://unitsofmeasure.org|mmol/L", "minus"),
        ("ap", "value-quantity=ap5.4||mg", "five five-precise five-four other-system unit-only"),
        ("lt-zero", "value-quantity=lt0", "minus"),
        ("or", "value-quantity=-12.5,0.002", "minus tiny"),
        ("and", "value-quantity=gt-13&value-quantity=lt1|http://unitsofmeasure.org|mmol/L", "minus tiny"),
        ("missing", "value-quantity:missing=true", "words"),
        ("a-string-is-none", "value-quantity=5|http://unitsofmeasure.org|{score}", ""),
        ("bad-text", "value-quantity=five", "!"),
        ("bad-text-with-unit", "value-quantity=five|http://unitsofmeasure.org|mg", "!"),
        ("bad-too-many-parts", "value-quantity=5|a|b|c", "!"),
    ],
};

#[rustfmt::skip]
const OTHERS: Table = Table {
    id: "search/quantity-of-others",
    section: "search.html#quantity",
    kind: "Encounter",
    common: r#"{"status": "finished", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}"#,
    data: &[
        ("hour", r#"{"length": {"value": 60, "unit": "min", "system": "http://unitsofmeasure.org", "code": "min"}}"#),
        ("day", r#"{"length": {"value": 1, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"}}"#),
        ("none", "{}"),
    ],
    queries: &[
        ("duration", "length=60|http://unitsofmeasure.org|min", "hour"),
        ("duration-gt", "length=gt59|http://unitsofmeasure.org|min", "hour day?"),
        ("duration-converted", "length=24|http://unitsofmeasure.org|h", "day?"),
        ("missing", "length:missing=true", "none"),
    ],
};

pub(crate) fn checks() -> Vec<Check> {
    [&NUMBERS, &PROBABILITIES, &QUANTITIES, &OTHERS].into_iter().flat_map(Table::checks).collect()
}
