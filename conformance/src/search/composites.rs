//! Composites: both parts must hold of the same element (search.html#composite).

use super::Table;
use crate::check::Check;

#[rustfmt::skip]
const OBSERVATIONS: Table = Table {
    id: "search/composite",
    section: "search.html#composite",
    kind: "Observation",
    common: r#"{"status": "final"}"#,
    data: &[
        ("pressure", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "bp"}]}, "component": [ {"code": {"coding": [{"system": "urn:conformance:o", "code": "sys"}]}, "valueQuantity": {"value": 140, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}, {"code": {"coding": [{"system": "urn:conformance:o", "code": "dia"}]}, "valueQuantity": {"value": 90, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}]}"#),
        ("swapped", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "bp"}]}, "component": [ {"code": {"coding": [{"system": "urn:conformance:o", "code": "sys"}]}, "valueQuantity": {"value": 90, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}, {"code": {"coding": [{"system": "urn:conformance:o", "code": "dia"}]}, "valueQuantity": {"value": 140, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}]}"#),
        ("weight", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "wt"}]}, "effectiveDateTime": "2020-03-04", "valueQuantity": {"value": 80.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}"#),
        ("heavy", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "wt"}]}, "effectiveDateTime": "2021-03-04", "valueQuantity": {"value": 120, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}"#),
        ("coded", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "bt"}]}, "valueCodeableConcept": {"coding": [{"system": "urn:conformance:g", "code": "A"}]}}"#),
        ("text", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "note"}]}, "valueString": "Fine, thanks"}"#),
        ("date", r#"{"code": {"coding": [{"system": "urn:conformance:o", "code": "lmp"}]}, "valueDateTime": "2020-05-06"}"#),
    ],
    queries: &[
        ("quantity", "code-value-quantity=urn:conformance:o|wt$80.5", "weight"),
        ("quantity-code-alone", "code-value-quantity=wt$80.5", "weight"),
        ("quantity-prefix", "code-value-quantity=urn:conformance:o|wt$gt100", "heavy"),
        ("quantity-unit", "code-value-quantity=urn:conformance:o|wt$lt100|http://unitsofmeasure.org|kg", "weight"),
        ("quantity-other-code", "code-value-quantity=urn:conformance:o|bp$gt1", ""),
        ("quantity-other-system", "code-value-quantity=urn:nobody|wt$80.5", ""),
        ("quantity-or", "code-value-quantity=urn:conformance:o|wt$80.5,urn:conformance:o|wt$120", "weight heavy"),
        ("same-component", "component-code-value-quantity=urn:conformance:o|sys$gt130", "pressure"),
        ("same-component-other", "component-code-value-quantity=urn:conformance:o|dia$gt130", "swapped"),
        ("same-component-unit", "component-code-value-quantity=urn:conformance:o|sys$140|http://unitsofmeasure.org|mm[Hg]", "pressure"),
        ("both-components", "component-code-value-quantity=urn:conformance:o|sys$gt130&component-code-value-quantity=urn:conformance:o|dia$lt100", "pressure"),
        ("both-components-nothing", "component-code-value-quantity=urn:conformance:o|sys$gt130&component-code-value-quantity=urn:conformance:o|dia$gt130", ""),
        ("apart-is-weaker", "component-code=urn:conformance:o|sys&component-value-quantity=gt130", "pressure swapped"),
        ("combo-component", "combo-code-value-quantity=urn:conformance:o|sys$gt130", "pressure"),
        ("combo-own", "combo-code-value-quantity=urn:conformance:o|wt$gt100", "heavy"),
        ("combo-code", "combo-code=urn:conformance:o|dia", "pressure swapped"),
        ("combo-value", "combo-value-quantity=gt130", "pressure swapped"),
        ("concept", "code-value-concept=urn:conformance:o|bt$urn:conformance:g|A", "coded"),
        ("concept-code-alone", "code-value-concept=bt$A", "coded"),
        ("concept-other", "code-value-concept=bt$B", ""),
        ("string", r"code-value-string=note$fine", "text"),
        ("string-escaped", r"code-value-string=note$Fine\, thanks", "text"),
        ("date", "code-value-date=urn:conformance:o|lmp$2020-05", "date"),
        ("date-prefix", "code-value-date=lmp$lt2020", ""),
        ("beside-plain", "code-value-quantity=wt$gt1&date=2020", "weight"),
        ("bad-one-part", "code-value-quantity=wt", "!"),
        ("bad-number", "code-value-quantity=wt$heavy", "!"),
        ("value-concept", "value-concept=urn:conformance:g|A", "coded"),
        ("value-string", "value-string=fine", "text"),
        ("value-date", "value-date=2020-05-06", "date"),
        ("component-code", "component-code=urn:conformance:o|sys", "pressure swapped"),
        ("component-value-quantity", "component-value-quantity=ge140", "pressure swapped"),
    ],
};

pub(crate) fn checks() -> Vec<Check> {
    OBSERVATIONS.checks()
}
