//! How somebody is told (<https://hl7.org/fhir/R4/subscription.html#channels>).

use std::fmt;

use super::payload::extensions;
use crate::json::Json;
use crate::outcome::{Issue, Issues};

const AT: &str = "Subscription.channel";
const CHANNEL_TYPE: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-channel-type";
/// Bytes of an address, headers of one channel, bytes of one header.
const LONGEST_ENDPOINT: usize = 2048;
const MOST_HEADERS: usize = 32;
const LONGEST_HEADER: usize = 4096;
/// Headers that are the connection's, the body's or the signature's: who subscribes has no say in them.
const OURS: [&str; 11] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];
const OURS_BEGIN: [&str; 2] = ["content-", "proxy-"];

/// The wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// An HTTP request to an address.
    RestHook {
        /// An http or https URL without user information and fragment, in ASCII.
        endpoint: String,
        /// Sent with each request, in this order.
        headers: Vec<Header>,
    },
    /// A connection that the subscriber opens.
    Websocket,
}

/// One header of a request. Its value may be a secret: it is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// A token of RFC 9110.
    pub name: String,
    /// Visible ASCII and spaces.
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Channel {
    /// Reads `Subscription.channel`: its type, address and headers.
    pub(super) fn parse(channel: &Json) -> Result<Self, Issues> {
        let mut wrong = Vec::new();
        let kind = channel.text("type").unwrap_or_default();
        if extensions(channel, "type").any(|one| one.text("url") == Some(CHANNEL_TYPE)) {
            let why = "no other channels than rest-hook and websocket are supported";
            wrong.push(Issue::error("not-supported", why).at(format!("{AT}.type")));
        }
        let mut headers = Vec::new();
        let lines = channel.list("header");
        if lines.len() > MOST_HEADERS {
            let why = format!("more than {MOST_HEADERS} headers");
            wrong.push(Issue::error("too-costly", why).at(format!("{AT}.header")));
        }
        for (n, line) in lines.iter().enumerate().take(MOST_HEADERS) {
            match Header::parse(line.as_str().unwrap_or_default()) {
                Ok(header) => headers.push(header),
                Err(why) => wrong.push(Issue::error("value", why).at(format!("{AT}.header[{n}]"))),
            }
        }
        let read = match kind {
            "rest-hook" => match endpoint(channel.text("endpoint").unwrap_or_default()) {
                Ok(()) => {
                    let endpoint = channel.text("endpoint").unwrap_or_default().to_owned();
                    Some(Self::RestHook { endpoint, headers })
                }
                Err(why) => {
                    wrong.push(Issue::error("value", why).at(format!("{AT}.endpoint")));
                    None
                }
            },
            "websocket" => Some(Self::Websocket),
            _ => {
                let why = "the channel has to be rest-hook or websocket: email, sms, message and others are not supported";
                wrong.push(Issue::error("not-supported", why).at(format!("{AT}.type")));
                None
            }
        };
        match read {
            Some(channel) if wrong.is_empty() => Ok(channel),
            _ => Err(Issues(wrong)),
        }
    }
}

impl Header {
    /// Reads `Name: value`.
    fn parse(line: &str) -> Result<Self, &'static str> {
        if line.len() > LONGEST_HEADER {
            return Err("the header is too long");
        }
        let (name, value) = line.split_once(':').ok_or("`Name: value` is needed")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("the name of the header is no token");
        }
        let lower = name.to_ascii_lowercase();
        if OURS.contains(&lower.as_str()) || OURS_BEGIN.iter().any(|begin| lower.starts_with(begin)) {
            return Err("the header is not the subscriber's to set");
        }
        let value = value.trim_matches(' ');
        if !value.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err("the value of the header has other letters than visible ASCII");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Programs read an odd address differently: what is odd is none.
fn endpoint(text: &str) -> Result<(), &'static str> {
    const NEEDED: &str = "an absolute http or https URL is needed";
    if text.len() > LONGEST_ENDPOINT {
        return Err("the address is too long");
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(NEEDED)?;
    if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b)) {
        return Err("an address is visible ASCII, everything else percent-encoded");
    }
    if text.contains('#') {
        return Err("an address to send to has no fragment");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("the address holds a user or password: a header is the place for these");
    }
    let (host, port) = match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_port =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|n| n > 0);
    if is_host(host) && port.is_none_or(is_port) { Ok(()) } else { Err(NEEDED) }
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    // `2130706433` and `0x7f.1` are addresses to some programs: a number is four of them or no host.
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !last.is_empty() && text.bytes().all(is_letter) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in [
            "https://h.example",
            "http://h.example/a/b?c=d%20e&f",
            "https://10.0.0.1:8443/x",
            "https://[2001:db8::1]:8443/x",
            "https://[2001:db8::1]",
            "http://service_1.internal/x",
        ] {
            assert_eq!(endpoint(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "h.example",
            "ftp://h.example/",
            "https://",
            "https:///a",
            "https://?a",
            "https://u:p@h.example/",
            "https://u@h.example/",
            "https://h.example/#a",
            "https://h.example/a b",
            "https://h.example\\@evil.example/",
            "https://h.example/\r\nHost: x",
            "https://h.example:0/",
            "https://h.example:/",
            "https://h.example:99999/",
            "https://h.example:+1/",
            "https://[::1/",
            "https://[::1]x/",
            "https://[h]/",
            "https://h%2eexample/",
            "https://hé.example/",
            "https://.example/",
            "https://h.example./",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://127.0.0.01/",
            "https://1.2.3.4:80:90/",
            "javascript:alert(1)",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers() {
        let read = |line: &str| Header::parse(line).map(|header| (header.name, header.value));
        let of = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(read("Authorization: Bearer a:b"), of("Authorization", "Bearer a:b"));
        assert_eq!(read("X-A:b"), of("X-A", "b"));
        assert_eq!(read("X-A:"), of("X-A", ""));
        for line in [
            "",
            "X-A",
            ": a",
            "X A: b",
            "X-A : b",
            "X-A: b\r\nX-B: c",
            "X-A: b\nX-B: c",
            "X-A: b\0",
            "X-A: b\tc",
            "X-A: \u{7f}",
            "X-A: é",
            "X-é: a",
            "host: a",
            "Content-Length: 3",
            "Content-Type: a",
            "TRANSFER-ENCODING: chunked",
            "Connection: close",
            "Upgrade: h2c",
            "Te: trailers",
            "Trailer: a",
            "Keep-Alive: 1",
            "Proxy-Authorization: a",
            "Webhook-Id: a",
            "webhook-timestamp: a",
            "webhook-signature: a",
        ] {
            assert!(read(line).is_err(), "{line:?}");
        }
        let header = Header::parse("Authorization: Bearer secret").unwrap();
        assert!(!format!("{header:?}").contains("secret"));
    }
}
