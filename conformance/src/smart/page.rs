//! Pages of a server as a browser without scripts has them: cookies, forms, and which button to press.
//! Nothing of a particular server's markup is known: a password field is where one signs in, a button or
//! box with a patient's id is that patient, and a button that says allow or deny is the decision.

use crate::check::Stop;
use crate::server::{Answer, Server};

/// A field or button of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Field {
    /// `type` of an input; `submit` of a button; `option` of a select.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) value: String,
    /// Ticked or chosen already.
    pub(crate) on: bool,
    /// What is written on a button.
    pub(crate) label: String,
}

/// A form of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) action: String,
    pub(crate) post: bool,
    pub(crate) fields: Vec<Field>,
}

/// Pairs of a form or a query.
pub(crate) type Pairs = Vec<(String, String)>;

impl Form {
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.fields.iter().any(|field| field.kind == kind)
    }

    /// What a browser sends when the form is submitted as it is, but for buttons.
    pub(crate) fn filled(&self) -> Pairs {
        let sent = |field: &&Field| match field.kind.as_str() {
            "submit" | "button" | "image" | "reset" | "file" => false,
            "checkbox" | "radio" | "option" => field.on,
            _ => true,
        };
        let named = self.fields.iter().filter(|field| !field.name.is_empty()).filter(sent);
        named.map(|field| (field.name.clone(), field.value.clone())).collect()
    }

    /// The first field that somebody types in, other than a password.
    pub(crate) fn typed(&self) -> Option<&Field> {
        self.fields.iter().find(|field| matches!(field.kind.as_str(), "text" | "email" | "search"))
    }

    /// A button on which one of these words is, in its value or its label.
    pub(crate) fn button(&self, words: &[&str]) -> Option<&Field> {
        let says = |field: &&Field| {
            let said = format!("{} {}", field.value, field.label).to_lowercase();
            field.kind == "submit" && words.iter().any(|word| said.contains(word))
        };
        self.fields.iter().find(says)
    }
}

/// All forms of a page, in order.
pub(crate) fn forms(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let (mut rest, mut select, mut open) = (html, String::new(), false);
    while let Some((_, behind)) = rest.split_once('<') {
        let (inside, after) = tag(behind);
        rest = after;
        let name: String = inside.chars().take_while(|c| !c.is_whitespace() && *c != '>').collect();
        let name = name.trim_end_matches('/').to_lowercase();
        let given = attributes(inside);
        let get = |key: &str| given.iter().find(|(one, _)| one == key).map(|(_, value)| value.clone());
        let text = |key: &str| get(key).unwrap_or_default();
        let label = || plain(after.split_once('<').map_or(after, |(label, _)| label)).trim().to_owned();
        let field = match name.as_str() {
            "form" => {
                open = true;
                forms.push(Form {
                    action: text("action"),
                    post: text("method").eq_ignore_ascii_case("post"),
                    fields: Vec::new(),
                });
                continue;
            }
            "/form" => {
                open = false;
                continue;
            }
            "select" => {
                select = text("name");
                continue;
            }
            "input" => {
                let kind = get("type").unwrap_or_else(|| "text".to_owned()).to_lowercase();
                let ticks = matches!(kind.as_str(), "checkbox" | "radio");
                let value =
                    get("value").unwrap_or_else(|| if ticks { "on".to_owned() } else { String::new() });
                Field { kind, name: text("name"), value, on: get("checked").is_some(), label: String::new() }
            }
            "button" => {
                let kind = get("type").unwrap_or_else(|| "submit".to_owned()).to_lowercase();
                Field { kind, name: text("name"), value: text("value"), on: false, label: label() }
            }
            "option" => {
                let value = get("value").unwrap_or_else(label);
                Field {
                    kind: "option".to_owned(),
                    name: select.clone(),
                    value,
                    on: get("selected").is_some(),
                    label: label(),
                }
            }
            _ => continue,
        };
        if let (true, Some(form)) = (open, forms.last_mut()) {
            form.fields.push(field);
        }
    }
    forms
}

/// A tag behind its `<`, and what is behind it; a `>` in quotes does not end it.
fn tag(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(mark) if mark == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '>' => {
                let (inside, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                return (inside, rest.strip_prefix('>').unwrap_or(rest));
            }
            _ => {}
        }
    }
    (text, "")
}

fn attributes(tag: &str) -> Pairs {
    let mut found = Vec::new();
    let mut rest = tag.trim_start_matches(|c: char| !c.is_whitespace());
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '/')).unwrap_or(rest.len());
        let Some((name, behind)) = rest.split_at_checked(end).filter(|(name, _)| !name.is_empty()) else {
            return found;
        };
        let trimmed = behind.trim_start();
        let Some(value) = trimmed.strip_prefix('=').map(str::trim_start) else {
            found.push((name.to_lowercase(), String::new()));
            rest = behind;
            continue;
        };
        let quoted = |mark: char| value.strip_prefix(mark).and_then(|rest| rest.split_once(mark));
        let (value, behind) = quoted('"').or_else(|| quoted('\'')).unwrap_or_else(|| {
            let end = value.find(char::is_whitespace).unwrap_or(value.len());
            value.split_at_checked(end).unwrap_or((value, ""))
        });
        found.push((name.to_lowercase(), plain(value)));
        rest = behind;
    }
}

/// A text without its character references.
fn plain(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let decoded = part.split_once(';').and_then(|(name, rest)| {
            let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            });
            let known = match name {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => number.and_then(char::from_u32),
            };
            known.map(|c| (c, rest))
        });
        if let Some((c, rest)) = decoded {
            out.push(c);
            out.push_str(rest);
        } else {
            out.push('&');
            out.push_str(part);
        }
    }
    out
}

/// `name=value&…`, each percent-encoded.
pub(crate) fn encoded<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> String {
    let part = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    };
    let all = pairs.iter().map(|(name, value)| format!("{}={}", part(name.as_ref()), part(value.as_ref())));
    all.collect::<Vec<_>>().join("&")
}

/// An address with further pairs in its query; what it had stays.
pub(crate) fn with_query<N: AsRef<str>, V: AsRef<str>>(address: &str, pairs: &[(N, V)]) -> String {
    let join = if address.contains('?') { '&' } else { '?' };
    format!("{address}{join}{}", encoded(pairs))
}

/// A parameter of an address's query.
pub(crate) fn parameter(address: &str, name: &str) -> Option<String> {
    let url = reqwest::Url::parse(address).ok()?;
    url.query_pairs().find(|(one, _)| one == name).map(|(_, value)| value.into_owned())
}

/// A browser's cookies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jar(Pairs);

impl Jar {
    pub(crate) fn get(&mut self, server: &Server, address: &str) -> Result<Answer, Stop> {
        let ask = server.plain("GET", address).header("accept", "text/html");
        let answer = if self.0.is_empty() { ask } else { ask.header("cookie", &self.text()) }.send()?;
        Ok(self.kept(answer))
    }

    pub(crate) fn post(&mut self, server: &Server, address: &str, pairs: &Pairs) -> Result<Answer, Stop> {
        let ask = server.plain("POST", address).header("accept", "text/html").pairs(pairs);
        let answer = if self.0.is_empty() { ask } else { ask.header("cookie", &self.text()) }.send()?;
        Ok(self.kept(answer))
    }

    fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn kept(&mut self, answer: Answer) -> Answer {
        for set in answer.headers_of("set-cookie") {
            let Some((name, rest)) = set.split_once('=') else { continue };
            let value = rest.split(';').next().unwrap_or_default();
            self.0.retain(|(one, _)| one != name);
            if !value.is_empty() {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read() {
        let page = "<p a='>'><FORM method=POST action=\"/go?a=1&amp;b=2\"><input name=login><input type=hidden name='t' value='&#60;x&#x3e;'>
            <input type=checkbox name=s value=\"a&b\" checked/><input type=checkbox name=s value=c>
            <select name=p><option value=1>One<option value=2 selected>Two</select>
            <button name=d value=yes>Allow it</button></form><input name=outside>";
        let [form] = forms(page).try_into().unwrap();
        assert_eq!((form.action.as_str(), form.post), ("/go?a=1&b=2", true));
        let sent: Vec<String> = form.filled().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(sent, ["login=", "t=<x>", "s=a&b", "p=2"]);
        assert_eq!(form.button(&["allow"]).map(|button| button.value.as_str()), Some("yes"));
        assert_eq!(form.button(&["deny"]), None);
        assert_eq!(form.typed().map(|field| field.name.as_str()), Some("login"));
    }

    #[test]
    fn a_query_is_written() {
        assert_eq!(with_query("http://a/b?c=1", &[("d", "a+b/c= &")]), "http://a/b?c=1&d=a%2Bb%2Fc%3D%20%26");
        assert_eq!(parameter("x.y:/cb?code=a%20b", "code").as_deref(), Some("a b"));
    }
}
