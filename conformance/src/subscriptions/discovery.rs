//! What a server says that it can do, and how a Subscription is kept and found.

use serde_json::{Value, json};

use super::subscribed::{IG, Wish};
use super::world::{DISCOVERY, topics, world};
use super::{check, should};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::{Server, list, text};

const SUPPORT: &str = "uv/subscriptions-backport/STU1.1/conformance.html#profile-support-1";
const TOPICS: &str = "uv/subscriptions-backport/STU1.1/components.html#subscription-topics-in-r4";
const PROFILE: &str = "uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription.html#root";
const CAPABILITIES: &str =
    "uv/subscriptions-backport/STU1.1/CapabilityStatement-backport-subscription-server-r4.html#root";

/// What the statement says of Subscriptions.
fn subscriptions(server: &Server) -> Result<Value, Stop> {
    let answer = server.get("/metadata")?;
    answer.expect(200)?;
    ensure(answer.is("CapabilityStatement"), "no CapabilityStatement")?;
    let mut rests = list(&answer.json, "/rest").iter();
    let rest = rests.find(|rest| text(rest, "/mode") == "server").ok_or("rest.mode is nowhere server")?;
    let mut resources = list(rest, "/resource").iter();
    let found = resources.find(|one| text(one, "/type") == "Subscription");
    Ok(found.cloned().ok_or("there is no Subscription in it")?)
}

/// Is it what backport-subscription demands?
fn is_profiled(subscription: &Value) -> Outcome {
    let criteria = text(subscription, "/criteria");
    ensure(criteria.starts_with("http"), format!("criteria is `{criteria}`, no address of a topic"))?;
    let channel = text(subscription, "/channel/type");
    ensure(channel == "rest-hook", format!("channel.type is `{channel}`"))?;
    ensure(!text(subscription, "/reason").is_empty(), "there is no reason")?;
    ensure(!text(subscription, "/channel/payload").is_empty(), "there is no channel.payload")?;
    let contents: Vec<&Value> = list(subscription, "/channel/_payload/extension")
        .iter()
        .filter(|one| text(one, "/url") == format!("{IG}payload-content"))
        .collect();
    ensure(contents.len() == 1, format!("backport-payload-content is there {} times", contents.len()))?;
    let content = contents.first().map_or("", |one| text(one, "/valueCode"));
    ensure(matches!(content, "empty" | "id-only" | "full-resource"), format!("the content is `{content}`"))?;
    for one in list(subscription, "/_criteria/extension") {
        let of = text(one, "/url");
        let known = of == format!("{IG}filter-criteria") && !text(one, "/valueString").is_empty();
        ensure(known, format!("an extension of criteria is {one}"))?;
    }
    for (name, of) in [
        ("heartbeat-period", "valueUnsignedInt"),
        ("timeout", "valueUnsignedInt"),
        ("max-count", "valuePositiveInt"),
    ] {
        let mut all = list(subscription, "/channel/extension").iter();
        if let Some(one) = all.find(|one| text(one, "/url") == format!("{IG}{name}")) {
            ensure(one.get(of).is_some_and(Value::is_u64), format!("{name} has no {of}: {one}"))?;
        }
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("cs_conformance", SUPPORT, "a server's CapabilityStatement has Subscription", &[], |s| {
            subscriptions(s).map(drop)
        }),
        check(
            "cs_conformance-profile",
            SUPPORT,
            "supportedProfile of Subscription has backport-subscription",
            &[],
            |s| {
                let all = subscriptions(s)?;
                let mut profiles = list(&all, "/supportedProfile").iter().filter_map(Value::as_str);
                let of = |one: &str| one.split('|').next() == Some(format!("{IG}subscription").as_str());
                should(profiles.any(of), "backport-subscription is not among supportedProfile")
            },
        ),
        check(
            "topic_discovery",
            TOPICS,
            "the CapabilityStatement names the topic that is subscribed to",
            &[],
            |s| {
                let topic = &world(s)?.topic;
                let subscriptions = json!({"rest": [{"resource": [subscriptions(s)?]}]});
                let named = topics(&subscriptions);
                should(!named.is_empty(), &format!("there is no extension {DISCOVERY}"))?;
                let url = topic.split('|').next().unwrap_or_default();
                ensure(named.contains(&url), format!("{topic} is none of {named:?}"))
            },
        ),
        check(
            "subscription_conformance",
            PROFILE,
            "what is kept of a Subscription is backport-subscription, and what was sent",
            &[],
            |s| {
                let wish = Wish::new(s, "id-only")?.number("timeout", "valueUnsignedInt", 20).number(
                    "max-count",
                    "valuePositiveInt",
                    20,
                );
                let subscribed = wish.subscribe()?;
                let now = subscribed.now()?;
                is_profiled(&now)?;
                for at in [
                    "/criteria",
                    "/_criteria",
                    "/reason",
                    "/channel/endpoint",
                    "/channel/payload",
                    "/channel/_payload",
                    "/channel/extension",
                ] {
                    let (sent, kept) = (subscribed.wish.resource.pointer(at), now.pointer(at));
                    ensure(sent == kept, format!("{at} became {kept:?}"))?;
                }
                Ok(())
            },
        ),
        check(
            "subscription_conformance-cross-version",
            PROFILE,
            "the identifier that R5 has is taken as an extension, and kept",
            &[],
            |s| {
                let identifier = json!([{
                    "url": "http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.identifier",
                    "valueIdentifier": {"system": "http://example.org/ids", "value": "1"}
                }]);
                let subscribed = Wish::new(s, "empty")?.with("/extension", identifier.clone()).subscribe()?;
                let kept = subscribed.now()?;
                ensure(kept.get("extension") == Some(&identifier), "the extension is not kept")
            },
        ),
        check("spec/124-read", CAPABILITIES, "a Subscription can be read", &[], |s| {
            let subscribed = Wish::new(s, "empty")?.subscribe()?;
            let now = subscribed.now()?;
            let is = text(&now, "/resourceType") == "Subscription" && text(&now, "/id") == subscribed.made.id;
            ensure(is, "another type or id")
        }),
        check(
            "spec/129-130",
            CAPABILITIES,
            "Subscriptions are found by url and by status",
            &["Subscription?url", "Subscription?status"],
            |s| {
                let subscribed = Wish::new(s, "empty")?.active()?;
                let endpoint = text(&subscribed.wish.resource, "/channel/endpoint");
                for (query, is) in [
                    (format!("url={endpoint}"), true),
                    (format!("url={endpoint}&status=active"), true),
                    (format!("url={endpoint}&status=off"), false),
                    (format!("url={endpoint}-not"), false),
                ] {
                    let found = s.search("/Subscription", &query)?.found("match");
                    let expected = if is { vec![subscribed.made.reference()] } else { Vec::new() };
                    ensure(found == expected, format!("{query}: {found:?}"))?;
                }
                Ok(())
            },
        ),
    ]
}
