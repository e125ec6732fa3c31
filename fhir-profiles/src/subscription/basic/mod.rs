//! A topic as a Basic of R4, in the extensions that carry R5's elements
//! (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/components.html#subscription-topics-in-fhir-r4>,
//! <https://hl7.org/fhir/R5/versions.html#extensions>).

mod read;
mod write;

const TYPES: &str = "http://hl7.org/fhir/fhir-types";
const CODE: &str = "SubscriptionTopic";
/// What a name of R5's elements stands behind; the guide's example has them of R4B, too.
const PREFIXES: [&str; 2] = [
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.",
    "http://hl7.org/fhir/4.3/StructureDefinition/extension-SubscriptionTopic.",
];
