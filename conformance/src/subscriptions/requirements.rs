//! What the project was asked to hold of Subscriptions with topics.

use crate::requirements::{Requirement, asked};

/// All of it.
pub(crate) const ALL: &[Requirement] = &[
    asked(
        "subscriptions/cs_conformance",
        "rest.mode server, Subscription with backport-subscription as a supported profile",
        &["subscriptions/cs_conformance"],
    ),
    asked(
        "subscriptions/topic_discovery",
        "the CapabilityStatement names the topics by its extension",
        &["subscriptions/topic_discovery"],
    ),
    asked(
        "subscriptions/subscription_conformance",
        "rest-hook, a topic's address, backport-subscription; R5's own extensions do no harm",
        &["subscriptions/subscription_conformance"],
    ),
    asked(
        "subscriptions/notification_delivery",
        "create is 201; handshake, heartbeats and events come with the channel's headers",
        &["subscriptions/notification_delivery", "subscriptions/heartbeat_conformance"],
    ),
    asked(
        "subscriptions/creation_response_conformance",
        "the answer is a Subscription, rest-hook, requested and not active",
        &["subscriptions/creation_response_conformance"],
    ),
    asked(
        "subscriptions/notification_presence",
        "a notification refers to the Subscription",
        &["subscriptions/notification_presence"],
    ),
    asked(
        "subscriptions/notification_conformance",
        "history; the status first and valid, of $status; request and response everywhere; its type and status",
        &["subscriptions/notification_conformance"],
    ),
    asked(
        "subscriptions/headers",
        "Content-Type begins with the payload's; each header of the channel exactly",
        &["subscriptions/notification_conformance-headers", "subscriptions/notification_conformance-xml"],
    ),
    asked(
        "subscriptions/handshake_conformance",
        "one handshake, of status requested",
        &["subscriptions/handshake_conformance"],
    ),
    asked(
        "subscriptions/heartbeat_conformance",
        "heartbeats where a period is set, never otherwise",
        &["subscriptions/heartbeat_conformance"],
    ),
    asked(
        "subscriptions/empty_conformance",
        "the status alone, an event, nothing referred to, no topic",
        &["subscriptions/empty_conformance"],
    ),
    asked(
        "subscriptions/id_only_conformance",
        "a focus; other entries have an address and no resource",
        &["subscriptions/id_only_conformance"],
    ),
    asked(
        "subscriptions/full_resource_conformance",
        "focus and additional context are in the Bundle; resources valid; the topic said",
        &["subscriptions/full_resource_conformance"],
    ),
    asked(
        "subscriptions/status_invocation",
        "$status is 200, a searchset with a Parameters of the Subscription",
        &["subscriptions/status_invocation"],
    ),
    asked(
        "subscriptions/reject_subscription_topic",
        "another topic than there is: refused or changed",
        &["subscriptions/reject_subscription_topic"],
    ),
    asked(
        "subscriptions/reject_subscription_filter",
        "another filter: refused or changed",
        &["subscriptions/reject_subscription_filter"],
    ),
    asked(
        "subscriptions/reject_subscription_channel_type",
        "another channel: refused or changed",
        &["subscriptions/reject_subscription_channel_type"],
    ),
    asked(
        "subscriptions/reject_subscription_channel_endpoint",
        "an endpoint that is none: refused or changed",
        &["subscriptions/reject_subscription_channel_endpoint"],
    ),
    asked(
        "subscriptions/reject_subscription_payload_type",
        "another media type: refused or changed",
        &["subscriptions/reject_subscription_payload_type", "subscriptions/reject_subscription_fhir_version"],
    ),
    asked(
        "subscriptions/reject_subscription_channel_payload_combo",
        "content that the payload can't carry: refused or changed",
        &["subscriptions/reject_subscription_channel_payload_combo"],
    ),
    asked(
        "subscriptions/reject_subscription_cross_version_extension",
        "an unknown extension of criteria: refused",
        &["subscriptions/reject_subscription_cross_version_extension"],
    ),
    asked(
        "subscriptions/profile-traps",
        "numbers as strings, R4's names of parameters, the content on payload, numbers of the channel",
        &["subscriptions/profile/"],
    ),
    asked(
        "subscriptions/filter-syntax",
        "Encounter?patient=Patient/123 and Encounter.patient=Patient/123",
        &["subscriptions/filter/"],
    ),
    asked("subscriptions/spec-21-31", "a handshake that fails is an error", &["subscriptions/spec/21-31"]),
    asked(
        "subscriptions/spec-77-102",
        "the counter counts what does not arrive, and no handshakes and heartbeats",
        &["subscriptions/spec/77-102", "subscriptions/heartbeat_conformance"],
    ),
    asked("subscriptions/spec-79", "$status answers in error", &["subscriptions/spec/79"]),
    asked(
        "subscriptions/spec-81-82",
        "in error it stays until a client asks for it as requested or active",
        &["subscriptions/spec/81-82"],
    ),
    asked(
        "subscriptions/spec-106-112",
        "$status of the type: id and status are any of them, none is all",
        &["subscriptions/spec/106-112"],
    ),
    asked(
        "subscriptions/spec-115-119",
        "$events: a history Bundle, both bounds among them",
        &["subscriptions/spec/115-119"],
    ),
    asked("subscriptions/spec-95", "of several filters all must hold", &["subscriptions/spec/95"]),
    asked("subscriptions/spec-98", "maxCount counts what triggers", &["subscriptions/spec/98"]),
    asked(
        "subscriptions/spec-124-129-130",
        "read; search by url and by status",
        &["subscriptions/spec/124-read", "subscriptions/spec/129-130"],
    ),
    asked(
        "edge/subscriptions-01",
        "nothing that was rolled back is told, nothing that is there is lost",
        &["subscriptions/edge/rolled-back", "subscriptions/edge/numbered-once"],
    ),
    asked(
        "edge/subscriptions-02",
        "requested, active after a handshake that was taken, else error",
        &["subscriptions/creation_response_conformance", "subscriptions/spec/21-31"],
    ),
    asked(
        "edge/subscriptions-03",
        "the counter: what does not arrive too, no gap, nothing twice, a string",
        &[
            "subscriptions/spec/77-102",
            "subscriptions/edge/numbered-once",
            "subscriptions/profile/numbers-are-strings",
        ],
    ),
    asked(
        "edge/subscriptions-04",
        "what fails is tried again, and keeps no other waiting",
        &["subscriptions/edge/dead-endpoint"],
    ),
    asked(
        "edge/subscriptions-05",
        "the first entry is of $status; request and response; fullUrl",
        &["subscriptions/notification_conformance", "subscriptions/profile/entry-addresses"],
    ),
    asked("edge/subscriptions-07", "deletes are told with a focus", &["subscriptions/edge/delete"]),
    asked(
        "edge/subscriptions-08",
        "a query about the version before and the new one",
        &["subscriptions/edge/query-criteria"],
    ),
    asked(
        "edge/subscriptions-09",
        "endpoints inside, redirects, header injection",
        &["subscriptions/edge/inside", "subscriptions/edge/redirect", "subscriptions/edge/header-injection"],
    ),
    asked(
        "edge/subscriptions-10",
        "end, heartbeats, maxCount, another endpoint, $status of what was deleted",
        &[
            "subscriptions/edge/end",
            "subscriptions/heartbeat_conformance",
            "subscriptions/spec/98",
            "subscriptions/edge/another-endpoint",
            "subscriptions/edge/status-of-deleted",
        ],
    ),
];
