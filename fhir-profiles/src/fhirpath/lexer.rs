//! Tokens of FHIRPath (<http://hl7.org/fhirpath/N1/#lexical-elements>).

use super::Error;
use super::temporal::Temporal;

/// Longer texts are no expression anybody wrote.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name; one in backticks is never a keyword.
    Name {
        text: String,
        delimited: bool,
    },
    Text(String),
    /// Digits, with a fraction or without.
    Number(String),
    Temporal(Temporal),
    /// `%name`
    Variable(String),
    /// Operators, punctuation, `$this` and its like.
    Symbol(&'static str),
}

/// Longer ones before their own beginnings.
const SYMBOLS: [&str; 27] = [
    "$this", "$index", "$total", "!=", "!~", "<=", ">=", ".", ",", "(", ")", "[", "]", "{", "}", "+", "-",
    "*", "/", "|", "&", "=", "~", "<", ">", ":", "@",
];

/// A token and where it begins.
pub(super) type Placed = (Token, usize);

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Error> {
    if text.len() > LONGEST {
        return Err(Error::Syntax { at: LONGEST, what: "the expression is too long" });
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    while lexer.skip()? {
        let at = lexer.at;
        found.push((lexer.token()?, at));
    }
    Ok(found)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &'static str) -> Error {
        Error::Syntax { at: self.at, what }
    }

    /// Passes white space and comments; is there more?
    fn skip(&mut self) -> Result<bool, Error> {
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start().len();
            if spaces > 0 {
                self.at += spaces;
            } else if rest.starts_with("//") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return Err(self.error("the comment has no end")),
                }
            } else {
                return Ok(!rest.is_empty());
            }
        }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn token(&mut self) -> Result<Token, Error> {
        let rest = self.rest();
        match rest.chars().next() {
            Some('0'..='9') => Ok(self.number()),
            Some('A'..='Z' | 'a'..='z' | '_') => {
                let text = self.take(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
                Ok(Token::Name { text, delimited: false })
            }
            Some('`') => Ok(Token::Name { text: self.quoted('`')?, delimited: true }),
            Some('\'') => Ok(Token::Text(self.quoted('\'')?)),
            Some('%') => {
                self.at += 1;
                match self.rest().chars().next() {
                    Some(quote @ ('`' | '\'')) => Ok(Token::Variable(self.quoted(quote)?)),
                    _ => match self.take(|c| c.is_ascii_alphanumeric() || c == '_') {
                        "" => Err(self.error("a variable has a name")),
                        name => Ok(Token::Variable(name.to_owned())),
                    },
                }
            }
            Some('@') => {
                let (literal, length) = Temporal::scan(rest.get(1..).unwrap_or_default())
                    .ok_or_else(|| self.error("not a date or time"))?;
                self.at += length + 1;
                Ok(Token::Temporal(literal))
            }
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Ok(Token::Symbol(symbol))
                }
                None => Err(self.error("not a character of the language")),
            },
        }
    }

    /// A point begins a fraction only where a digit follows: `1.abs()` calls a function.
    fn number(&mut self) -> Token {
        let mut text = self.take(|c| c.is_ascii_digit()).to_owned();
        let mut ahead = self.rest().chars();
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            text.push('.');
            text.push_str(self.take(|c| c.is_ascii_digit()));
        }
        Token::Number(text)
    }

    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let mut out = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == quote {
                self.at += at + 1;
                return Ok(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'f')) => out.push('\u{c}'),
                Some((_, 'u')) => {
                    let digits: String = characters.by_ref().take(4).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                    match code.and_then(char::from_u32) {
                        Some(c) => out.push(c),
                        None => return Err(self.error("\\u needs four hexadecimal digits")),
                    }
                }
                Some((_, c)) if c.is_ascii_punctuation() => out.push(c),
                _ => return Err(self.error("an escape that does not exist")),
            }
        }
        Err(self.error("the quotation has no end"))
    }
}
