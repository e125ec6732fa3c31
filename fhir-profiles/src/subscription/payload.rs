//! What somebody is told (<https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.channel.payload>,
//! <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/payloads.html>).

use crate::json::Json;
use crate::outcome::Issue;

const AT: &str = "Subscription.channel.payload";
const CONTENT: &str =
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content";

/// How a resource is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/fhir+json`
    Json,
    /// `application/fhir+xml`
    Xml,
}

/// How much of a resource a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// That something happened.
    Empty,
    /// Also to which resource.
    IdOnly,
    /// Also the resource itself.
    FullResource,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing but the call itself.
    Nothing,
    /// The resource.
    Resource(Media),
    /// A Bundle of a topic.
    Notification(Media, Content),
}

/// A media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// What is written.
    pub format: Format,
    /// As it was asked for, visible ASCII and spaces: what is sent begins its `Content-Type` with it.
    pub text: String,
}

impl Media {
    /// Reads FHIR's own media types and the plain ones of JSON and XML, in UTF-8.
    fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return None;
        }
        let mut parts = text.split(';').map(|part| part.trim_matches(' '));
        let format = match parts.next()?.to_ascii_lowercase().as_str() {
            "application/fhir+json" | "application/json" => Format::Json,
            "application/fhir+xml" | "application/xml" => Format::Xml,
            _ => return None,
        };
        let fits = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "charset" => value.eq_ignore_ascii_case("utf-8"),
                "fhirversion" => value == "4.0",
                _ => false,
            }
        };
        parts.all(fits).then(|| Self { format, text: text.to_owned() })
    }
}

impl Content {
    /// The code of backport-content-code-system.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::IdOnly => "id-only",
            Self::FullResource => "full-resource",
        }
    }

    /// The one of that code.
    pub fn parse(code: &str) -> Option<Self> {
        [Self::Empty, Self::IdOnly, Self::FullResource].into_iter().find(|one| one.code() == code)
    }
}

/// The extensions beside a primitive element.
pub(super) fn extensions<'j>(of: &'j Json<'_>, element: &str) -> std::slice::Iter<'j, Json<'j>> {
    of.get(&format!("_{element}")).map_or(&[][..], |beside| beside.list("extension")).iter()
}

impl Payload {
    /// Reads `Subscription.channel.payload` of a Subscription with a topic, or of R4's own.
    pub(super) fn parse(channel: &Json, with_topic: bool) -> Result<Self, Issue> {
        let refused = |code: &'static str, why: &'static str| Err(Issue::error(code, why).at(AT));
        let media = channel.text("payload").map(|text| {
            let why = "the payload has to be application/fhir+json or application/fhir+xml";
            Media::parse(text).ok_or_else(|| Issue::error("not-supported", why).at(AT))
        });
        let media = media.transpose()?;
        let mut levels = extensions(channel, "payload").filter(|one| one.text("url") == Some(CONTENT));
        match (with_topic, media, levels.next(), levels.next()) {
            (.., Some(_)) => refused("duplicate", "how much is told is said twice"),
            (false, _, Some(_), _) => {
                refused("not-supported", "backport-payload-content is for a Subscription with a topic")
            }
            (false, None, ..) => Ok(Self::Nothing),
            (false, Some(media), ..) => Ok(Self::Resource(media)),
            (true, None, ..) => {
                refused("required", "a Subscription with a topic needs the payload's media type")
            }
            (true, _, None, _) => refused(
                "required",
                "a Subscription with a topic needs the extension backport-payload-content",
            ),
            (true, Some(media), Some(level), _) => match level.text("valueCode").and_then(Content::parse) {
                Some(content) => Ok(Self::Notification(media, content)),
                None => refused("value", "the content is empty, id-only or full-resource"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format::{Json, Xml};
    use super::Media;

    #[test]
    fn media_types() {
        for (text, format) in [
            ("application/fhir+json", Some(Json)),
            ("application/json", Some(Json)),
            ("application/fhir+json; charset=utf-8", Some(Json)),
            ("application/fhir+json;charset=\"UTF-8\"; fhirVersion=4.0", Some(Json)),
            ("application/fhir+xml", Some(Xml)),
            ("application/xml", Some(Xml)),
            ("application/fhir+json; charset=latin-1", None),
            ("application/fhir+json; fhirVersion=5.0", None),
            ("text/plain", None),
            ("application/fhir+turtle", None),
            ("application/fhir+json;\r\nX-A: b", None),
            ("application/fhir+json\n", None),
            ("", None),
        ] {
            assert_eq!(Media::parse(text).map(|media| media.format), format, "{text}");
        }
    }
}
