//! The end of a page: what the next one begins after.

use fhir::search::Order;
use serde_json::Value;

use crate::error::Error;

/// What orders the last match of a page, and its id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cursor {
    /// As the database orders.
    At { order: Vec<i64>, id: String },
    /// As the resources themselves are ordered, one value for each key.
    Of { order: Vec<Option<Order>>, id: String },
}

impl Cursor {
    /// The text is from outside: what can't be read is refused.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.starts_with('[') {
            let Ok(Value::Array(mut parts)) = serde_json::from_str(text) else { return Err(Self::wrong()) };
            let Some(Value::String(id)) = parts.pop() else { return Err(Self::wrong()) };
            let order = parts.into_iter().map(|part| match part {
                Value::Null => Ok(None),
                Value::String(text) => Ok(Some(Order::Text(text))),
                Value::Number(number) => {
                    number.as_i64().map(|n| Some(Order::Number(n))).ok_or_else(Self::wrong)
                }
                _ => Err(Self::wrong()),
            });
            return Ok(Self::Of { order: order.collect::<Result<_, _>>()?, id });
        }
        let mut parts: Vec<&str> = text.split('_').collect();
        let Some(id) = parts.pop().filter(|id| fhir::reference::is_id(id)) else { return Err(Self::wrong()) };
        let order: Result<Vec<i64>, _> = parts.into_iter().map(str::parse).collect();
        Ok(Self::At { order: order.map_err(|_| Self::wrong())?, id: id.to_owned() })
    }

    pub(crate) fn wrong() -> Error {
        fhir::outcome::Issue::error("value", "_page: not a page of this search").into()
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At { order, id } => {
                order.iter().try_for_each(|value| write!(f, "{value}_"))?;
                f.write_str(id)
            }
            Self::Of { order, id } => {
                let values = order.iter().map(|value| match value {
                    None => Value::Null,
                    Some(Order::Number(number)) => Value::from(*number),
                    Some(Order::Text(text)) => Value::from(text.as_str()),
                });
                let parts: Vec<Value> = values.chain([Value::from(id.as_str())]).collect();
                write!(f, "{}", Value::Array(parts))
            }
        }
    }
}
