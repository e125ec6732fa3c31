//! The only door for JSON from outside: a lossless tree that borrows from its text.
//!
//! `serde_json::Value` keeps the last of two equal keys and rounds or rewrites numbers;
//! a clinical record may do neither. Here numbers stay the text they were, duplicate keys,
//! NUL, a byte order mark, and too much depth or size are refused with a location.

use std::borrow::Cow;

use jiter::{Jiter, JiterError, Peek};

use crate::outcome::{Issue, Issues};

/// A JSON value; strings and numbers borrow from the parsed text where they can.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(Cow<'a, str>),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object, keys in the order they came.
    Object(Object<'a>),
}

/// A JSON object: keys are unique and keep their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// What a text may measure at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Nested arrays and objects.
    pub depth: usize,
    /// Values of any kind, those inside others too: what a tree costs goes by them, not by the bytes.
    pub values: usize,
}

impl Limits {
    /// What was accepted before, which may have grown a little since.
    pub const STORED: Self = Self { bytes: usize::MAX, depth: 512, values: usize::MAX };
}

/// Clinical records have a value every 24 bytes without white space.
impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, depth: 64, values: 2_000_000 }
    }
}

impl<'a> Object<'a> {
    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The value under `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json<'a>> {
        self.0.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Replaces the value under `key`, or puts the pair at `position` (at most the end).
    pub fn set(&mut self, position: usize, key: impl Into<Cow<'a, str>>, value: Json<'a>) {
        let key = key.into();
        if let Some(old) = self.get_mut(&key) {
            *old = value;
        } else {
            self.0.insert(position.min(self.0.len()), (key, value));
        }
    }

    /// Takes the value under `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Json<'a>> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the pairs that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str, &Json<'a>) -> bool) {
        self.0.retain(|(key, value)| wanted(key, value));
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v))
    }

    /// The pairs in order, values to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Json<'a>)> {
        self.0.iter_mut().map(|(k, v)| {
            let k: &Cow<'a, str> = k;
            (k.as_ref(), v)
        })
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No pairs at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Json<'a> {
    /// The member `key` of an object.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.as_object()?.get(key)
    }

    /// The value at the end of a path of member names; array steps take the first item.
    pub fn at(&self, path: &[&str]) -> Option<&Json<'a>> {
        path.iter().try_fold(self, |node, key| {
            let node = if let Json::Array(items) = node { items.first()? } else { node };
            node.get(key)
        })
    }

    /// A string's text.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::String(s) = self { Some(s) } else { None }
    }

    /// The text of the string member `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A number as written.
    pub fn as_number(&self) -> Option<&str> {
        if let Json::Number(n) = self { Some(n) } else { None }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(b) = self { Some(*b) } else { None }
    }

    /// The items of an array; of anything else, none.
    pub fn items(&self) -> &[Json<'a>] {
        if let Json::Array(items) = self { items } else { &[] }
    }

    /// The items of the array member `key`, or none.
    pub fn list(&self, key: &str) -> &[Json<'a>] {
        self.get(key).map_or(&[], Json::items)
    }

    /// An object.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        if let Json::Object(o) = self { Some(o) } else { None }
    }

    /// An object, to change.
    pub fn as_object_mut(&mut self) -> Option<&mut Object<'a>> {
        if let Json::Object(o) = self { Some(o) } else { None }
    }

    /// Appends the minified text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(true) => out.extend_from_slice(b"true"),
            Json::Bool(false) => out.extend_from_slice(b"false"),
            Json::Number(n) => out.extend_from_slice(n.as_bytes()),
            Json::String(s) => write_string(s, out),
            Json::Array(items) => {
                out.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Json::Object(object) => {
                out.push(b'{');
                for (n, (key, value)) in object.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The minified text.
    pub fn to_text(&self) -> String {
        let mut out = Vec::with_capacity(1024);
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The same tree owning all its text.
    pub fn into_owned(self) -> Json<'static> {
        match self {
            Json::Null => Json::Null,
            Json::Bool(b) => Json::Bool(b),
            Json::Number(n) => Json::Number(Cow::Owned(n.into_owned())),
            Json::String(s) => Json::String(Cow::Owned(s.into_owned())),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(Object(pairs)) => Json::Object(Object(
                pairs.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect(),
            )),
        }
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Json<'a>)> for Object<'a> {
    fn from_iter<T: IntoIterator<Item = (Cow<'a, str>, Json<'a>)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<&serde_json::Value> for Json<'static> {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => Json::Number(Cow::Owned(n.to_string())),
            Value::String(s) => Json::String(Cow::Owned(s.clone())),
            Value::Array(items) => Json::Array(items.iter().map(Json::from).collect()),
            Value::Object(map) => {
                Json::Object(map.iter().map(|(k, v)| (Cow::Owned(k.clone()), Json::from(v))).collect())
            }
        }
    }
}

/// Quotes must be escaped, control characters too; the rest stays as it is.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: Option<&[u8]> = match byte {
            b'"' => Some(b"\\\""),
            b'\\' => Some(b"\\\\"),
            b'\n' => Some(b"\\n"),
            b'\r' => Some(b"\\r"),
            b'\t' => Some(b"\\t"),
            0..=0x1f => None,
            _ => continue,
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        match escape {
            Some(short) => out.extend_from_slice(short),
            None => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        from = at + 1;
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.push(b'"');
}

/// Parses one JSON text.
///
/// # Errors
/// One issue: `too-long`, `too-costly` (depth, values), `structure` (syntax), or `duplicate` (key), located.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Json<'a>, Issues> {
    if bytes.len() > limits.bytes {
        return Err(Issue::error("too-long", format!("more than {} bytes", limits.bytes)).into());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Issue::error("structure", format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    let jiter = Jiter::new(bytes);
    let mut parser = Parser { text, jiter, limits: *limits, values: 0, path: Vec::new() };
    let peek = parser.jiter.peek().map_err(|e| parser.syntax(&e))?;
    let value = parser.value(peek)?;
    parser.jiter.finish().map_err(|e| parser.syntax(&e))?;
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    jiter: Jiter<'a>,
    limits: Limits,
    values: usize,
    path: Vec<Step<'a>>,
}

enum Step<'a> {
    Key(Cow<'a, str>),
    Item(usize),
}

impl<'a> Parser<'a> {
    fn value(&mut self, peek: Peek) -> Result<Json<'a>, Issues> {
        self.values += 1;
        if self.values > self.limits.values {
            let details = format!("more than {} values", self.limits.values);
            return Err(Issue::error("too-costly", details).at(self.location()).into());
        }
        match peek {
            Peek::Null => self.jiter.known_null().map(|()| Json::Null),
            Peek::True | Peek::False => self.jiter.known_bool(peek).map(Json::Bool),
            Peek::String => self.jiter.known_str().map(|s| Json::String(borrow(self.text, s))),
            Peek::Array => return self.array(),
            Peek::Object => return self.object(),
            _ if peek.is_num() => self.jiter.known_number_bytes(peek).map(|n| {
                let n = std::str::from_utf8(n).unwrap_or_default();
                Json::Number(borrow(self.text, n))
            }),
            _ => return Err(Issue::error("structure", "not a JSON value").at(self.location()).into()),
        }
        .map_err(|e| self.syntax(&e))
        .and_then(|value| match &value {
            Json::String(s) if s.contains('\0') => {
                Err(Issue::error("structure", "NUL in a string").at(self.location()).into())
            }
            _ => Ok(value),
        })
    }

    fn array(&mut self) -> Result<Json<'a>, Issues> {
        self.descend(Step::Item(0))?;
        let mut items = Vec::new();
        let mut next = self.jiter.known_array().map_err(|e| self.syntax(&e))?;
        while let Some(peek) = next {
            if let Some(Step::Item(n)) = self.path.last_mut() {
                *n = items.len();
            }
            items.push(self.value(peek)?);
            next = self.jiter.array_step().map_err(|e| self.syntax(&e))?;
        }
        self.path.pop();
        Ok(Json::Array(items))
    }

    fn object(&mut self) -> Result<Json<'a>, Issues> {
        self.descend(Step::Key(Cow::Borrowed("")))?;
        let mut pairs: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let text = self.text;
        let mut next = match self.jiter.known_object() {
            Ok(key) => key.map(|key| borrow(text, key)),
            Err(e) => return Err(self.syntax(&e)),
        };
        while let Some(key) = next {
            // Small objects are compared, large ones hashed: a hostile one must not cost a square.
            let duplicate = if pairs.len() < 16 {
                pairs.iter().any(|(k, _)| *k == key)
            } else {
                if seen.is_empty() {
                    seen.extend(pairs.iter().map(|(k, _)| k.clone()));
                }
                !seen.insert(key.clone())
            };
            if let Some(step) = self.path.last_mut() {
                *step = Step::Key(key.clone());
            }
            if duplicate {
                return Err(Issue::error("duplicate", "the same key twice in one object")
                    .at(self.location())
                    .into());
            }
            let peek = self.jiter.peek().map_err(|e| self.syntax(&e))?;
            let value = self.value(peek)?;
            pairs.push((key, value));
            next = match self.jiter.next_key() {
                Ok(key) => key.map(|key| borrow(text, key)),
                Err(e) => return Err(self.syntax(&e)),
            };
        }
        self.path.pop();
        Ok(Json::Object(Object(pairs)))
    }

    fn descend(&mut self, step: Step<'a>) -> Result<(), Issues> {
        if self.path.len() >= self.limits.depth {
            let details = format!("nested deeper than {}", self.limits.depth);
            return Err(Issue::error("too-costly", details).at(self.location()).into());
        }
        self.path.push(step);
        Ok(())
    }

    fn location(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.extend(key.chars().take(64));
                }
                Step::Item(n) => out.push_str(&format!("[{n}]")),
            }
        }
        out
    }

    fn syntax(&self, error: &JiterError) -> Issues {
        let position = self.jiter.error_position(error.index);
        let details = format!("{} at line {} column {}", error.error_type, position.line, position.column);
        Issue::error("structure", details).at(self.location()).into()
    }
}

/// jiter hands out text inside the input where there were no escapes, else text of its own.
fn borrow<'a>(text: &'a str, found: &str) -> Cow<'a, str> {
    let offset = (found.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    match offset.checked_add(found.len()).and_then(|end| text.get(offset..end)) {
        Some(inside) if !found.is_empty() => Cow::Borrowed(inside),
        _ => Cow::Owned(found.to_owned()),
    }
}
