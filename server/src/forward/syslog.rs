//! Messages of syslog (RFC 5424), one after the other on a connection, each with its length before it
//! (RFC 5425, section 4.3).

use fhir::time::format_instant;

/// Security and authorization.
const FACILITY: u8 = 10;
/// RFC 5612 keeps this number for examples; there is none of our own yet.
const ENTERPRISE: &str = "32473";

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Warning = 4,
    Notice = 5,
}

/// A message, and what is said of it.
pub(crate) struct Message<'m> {
    pub(crate) severity: Severity,
    /// When, microseconds since 1970 UTC.
    pub(crate) at: i64,
    /// Who sends it.
    pub(crate) host: &'m str,
    /// Of what kind it is.
    pub(crate) kind: &'m str,
    /// The AuditEvent's id, by which a receiver knows what it has already; may be empty.
    pub(crate) id: &'m str,
    pub(crate) text: &'m str,
}

impl Message<'_> {
    /// As it goes over the wire.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let Self { severity, at, host, kind, id, text } = self;
        let priority = FACILITY * 8 + *severity as u8;
        let (at, process) = (format_instant(*at), std::process::id());
        let data = match *id {
            "" => "-".to_owned(),
            id => format!("[auditEvent@{ENTERPRISE} id=\"{id}\"]"),
        };
        // A text in UTF-8 begins with its mark (RFC 5424, section 6.4).
        let message =
            format!("<{priority}>1 {at} {} augury {process} {kind} {data} \u{feff}{text}", named(host));
        let mut frame = format!("{} ", message.len()).into_bytes();
        frame.extend_from_slice(message.as_bytes());
        frame
    }
}

/// What may stand for a host: printable ASCII, not too much of it.
fn named(host: &str) -> String {
    let name: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_before_it() {
        let message = Message {
            severity: Severity::Notice,
            at: 1_714_979_289_000_000,
            host: "augury.example",
            kind: "IHE+RFC-3881",
            id: "7",
            text: "<é/>",
        };
        let frame = String::from_utf8(message.frame()).unwrap();
        let (length, rest) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), rest.len());
        let process = std::process::id();
        assert_eq!(
            rest,
            format!(
                "<85>1 2024-05-06T07:08:09.000Z augury.example augury {process} IHE+RFC-3881 \
                 [auditEvent@32473 id=\"7\"] \u{feff}<é/>"
            )
        );
    }
}
