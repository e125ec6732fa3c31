//! Addresses in answers.

use serde_json::Value;

/// `base/path?name=value&…`
pub(crate) fn address<'p>(base: &str, path: &str, pairs: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let mut address = base.to_owned();
    if !path.is_empty() {
        address.push('/');
        address.push_str(path);
    }
    for (n, (name, value)) in pairs.enumerate() {
        address.push(if n > 0 { '&' } else { '?' });
        address.push_str(&encoded(name));
        address.push('=');
        address.push_str(&encoded(value));
    }
    address
}

/// As a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Percent-encoding of a query part; what FHIR values often have stays readable.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/|,@$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
