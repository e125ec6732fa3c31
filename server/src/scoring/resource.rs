//! The few FHIR shapes that scoring writes, typed so that what goes out is well formed by
//! construction and is written in one pass.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

type Text<'a> = Cow<'a, str>;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Coding<'a> {
    pub(crate) system: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<Text<'a>>,
    pub(crate) code: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<Text<'a>>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Concept<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) coding: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<Text<'a>>,
}

impl<'a> Reference<'a> {
    pub(crate) fn to(reference: impl Into<Text<'a>>) -> Self {
        Self { reference: Some(reference.into()), display: None }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Identifier<'a> {
    pub(crate) system: Text<'a>,
    pub(crate) value: Text<'a>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quantity<'a> {
    pub(crate) value: f64,
    pub(crate) unit: Text<'a>,
    pub(crate) system: &'static str,
    pub(crate) code: Text<'a>,
}

impl<'a> Quantity<'a> {
    /// A quantity in a UCUM unit.
    pub(crate) fn ucum(value: f64, code: impl Into<Text<'a>>) -> Self {
        let code = code.into();
        Self { value, unit: code.clone(), system: "http://unitsofmeasure.org", code }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Period {
    pub(crate) start: String,
    pub(crate) end: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Annotation<'a> {
    pub(crate) text: Text<'a>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Meta {
    pub(crate) profile: [&'static str; 1],
}

/// An extension with its value.
#[derive(Debug, Clone)]
pub(crate) struct Extension<'a> {
    pub(crate) url: &'static str,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    String(Text<'a>),
    Code(&'static str),
    DateTime(Text<'a>),
    Decimal(f64),
    Quantity(Quantity<'a>),
    Reference(Reference<'a>),
    Nested(Vec<Extension<'a>>),
}

impl Serialize for Extension<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("url", self.url)?;
        match &self.value {
            Value::String(text) => map.serialize_entry("valueString", text)?,
            Value::Code(code) => map.serialize_entry("valueCode", code)?,
            Value::DateTime(text) => map.serialize_entry("valueDateTime", text)?,
            Value::Decimal(number) => map.serialize_entry("valueDecimal", number)?,
            Value::Quantity(quantity) => map.serialize_entry("valueQuantity", quantity)?,
            Value::Reference(reference) => map.serialize_entry("valueReference", reference)?,
            Value::Nested(inner) => map.serialize_entry("extension", inner)?,
        }
        map.end()
    }
}

/// An extension of an element that has no JSON object of its own (`_probabilityDecimal`).
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Extended<'a> {
    pub(crate) extension: [Extension<'a>; 1],
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RiskAssessment<'a> {
    pub(crate) resource_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Text<'a>>,
    pub(crate) meta: Meta,
    pub(crate) extension: Vec<Extension<'a>>,
    pub(crate) identifier: [Identifier<'a>; 1],
    pub(crate) status: &'static str,
    pub(crate) method: Concept<'a>,
    pub(crate) subject: Reference<'a>,
    pub(crate) occurrence_date_time: String,
    pub(crate) performer: Reference<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) basis: Vec<Reference<'a>>,
    pub(crate) prediction: Vec<Prediction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) note: Vec<Annotation<'a>>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prediction<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extension: Vec<Extension<'a>>,
    pub(crate) outcome: Concept<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probability_decimal: Option<f64>,
    #[serde(rename = "_probabilityDecimal", skip_serializing_if = "Option::is_none")]
    pub(crate) probability_extended: Option<Extended<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) qualitative_risk: Option<Concept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) when_period: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rationale: Option<Text<'a>>,
}
