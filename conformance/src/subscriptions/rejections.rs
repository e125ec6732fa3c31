//! What a server can't do is refused, or is not what is kept.

use serde_json::{Value, json};

use super::check;
use super::subscribed::{IG, Wish, filter};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, list};

const ACCEPTING: &str = "uv/subscriptions-backport/STU1.1/components.html#accepting-subscription-requests";
const FILTERS: &str = "uv/subscriptions-backport/STU1.1/conformance.html#backport-filter-criteria-1";
const CHANNEL: &str = "uv/subscriptions-backport/STU1.1/conformance.html#backport-channel-type-1";
const CONTENT: &str = "uv/subscriptions-backport/STU1.1/conformance.html#backport-payload-content-1";
const TOPIC: &str = "uv/subscriptions-backport/STU1.1/conformance.html#subscriptioncriteria-1";
const VERSIONS: &str = "uv/subscriptions-backport/STU1.1/components.html#subscriptions-and-fhir-versions";

const REFUSALS: [u16; 6] = [400, 403, 409, 412, 422, 501];

/// Refused, with an OperationOutcome.
pub(super) fn not_created(server: &Server, wish: &Wish<'_>) -> Outcome {
    let answer = wish.ask()?;
    if answer.status == 201 {
        server.delete(&answer.made()?.path())?;
        return Err(Stop::Fail("it was accepted".to_owned()));
    }
    answer.refused(&REFUSALS)
}

/// Refused, or kept with something else at that place.
fn not_kept(server: &Server, wish: &Wish<'_>, at: &str) -> Outcome {
    let answer = wish.ask()?;
    if answer.status != 201 {
        return answer.refused(&REFUSALS);
    }
    let kept = server.get(&answer.made()?.path())?;
    server.delete(&answer.made()?.path())?;
    let (sent, kept) = (wish.resource.pointer(at), kept.json.pointer(at));
    ensure(sent != kept, format!("it was accepted with {at} {}", sent.unwrap_or(&Value::Null)))
}

/// The filters and one more.
fn with_filter<'s>(wish: Wish<'s>, one: &Value) -> Wish<'s> {
    let mut all = list(&wish.resource, "/_criteria/extension").to_vec();
    all.push(one.clone());
    wish.with("/_criteria/extension", json!(all))
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("reject_subscription_topic", TOPIC, "a topic that is not known is refused", &[], |s| {
            let topic = json!("http://example.org/topics/unheard-of");
            not_kept(s, &Wish::new(s, "empty")?.with("/criteria", topic), "/criteria")
        }),
        check("reject_subscription_filter", FILTERS, "a filter that is not known is refused", &[], |s| {
            for text in ["Observation?no-such-parameter=1", "no-such-parameter=1", "Unheard?patient=1", "?"] {
                let wish = with_filter(Wish::new(s, "empty")?, &filter(text));
                not_kept(s, &wish, "/_criteria/extension")?;
            }
            Ok(())
        }),
        check(
            "reject_subscription_channel_type",
            CHANNEL,
            "a channel that is not known is refused, by its code and by the extension",
            &[],
            |s| {
                let wish = Wish::new(s, "empty")?.with("/channel/type", json!("carrier-pigeon"));
                not_kept(s, &wish, "/channel/type")?;
                let pigeon = json!({"system": "http://example.org/channels", "code": "carrier-pigeon"});
                let other = json!({"url": format!("{IG}channel-type"), "valueCoding": pigeon});
                let wish = Wish::new(s, "empty")?.with("/channel/_type", json!({"extension": [other]}));
                not_kept(s, &wish, "/channel/_type")
            },
        ),
        check(
            "reject_subscription_channel_endpoint",
            ACCEPTING,
            "an endpoint that is no address of the web, or none, is refused",
            &[],
            |s| {
                for endpoint in [json!("carrier://h.example/in"), json!("nowhere"), Value::Null] {
                    let wish = Wish::new(s, "empty")?.with("/channel/endpoint", endpoint);
                    not_kept(s, &wish, "/channel/endpoint")?;
                }
                Ok(())
            },
        ),
        check(
            "reject_subscription_payload_type",
            ACCEPTING,
            "a payload of a media type that is not known is refused",
            &[],
            |s| {
                let wish = Wish::new(s, "empty")?.with("/channel/payload", json!("application/x-pigeon"));
                not_kept(s, &wish, "/channel/payload")
            },
        ),
        check(
            "reject_subscription_channel_payload_combo",
            CONTENT,
            "a content that the payload can't carry is refused",
            &[],
            |s| {
                let wish = Wish::new(s, "full-resource")?.with("/channel/payload", json!("text/plain"));
                not_kept(s, &wish, "/channel/payload")?;
                let wish = Wish::new(s, "full-resource")?.with("/channel/payload", Value::Null);
                not_kept(s, &wish, "/channel/payload")
            },
        ),
        check(
            "reject_subscription_fhir_version",
            VERSIONS,
            "notifications of another version of FHIR are refused",
            &[],
            |s| {
                let payload = json!("application/fhir+json; fhirVersion=0.0");
                not_kept(s, &Wish::new(s, "empty")?.with("/channel/payload", payload), "/channel/payload")
            },
        ),
        check(
            "reject_subscription_cross_version_extension",
            FILTERS,
            "an extension of criteria that is not known is refused: it might narrow",
            &[],
            |s| {
                let url = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.filterBy";
                let part = json!({"url": "filterParameter", "valueString": "patient"});
                let other = json!({"url": url, "extension": [part]});
                not_created(s, &with_filter(Wish::new(s, "empty")?, &other))
            },
        ),
    ]
}
