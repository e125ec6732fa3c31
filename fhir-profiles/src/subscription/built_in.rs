//! The topics of this server.

use super::change::Interaction;
use super::topic::{FilterBy, Publication, Shape, Topic};
use super::trigger::{Criterion, Trigger};
use crate::outcome::Issues;
use crate::resource_type::ResourceType;
use crate::search::Include;

/// What their addresses begin with.
pub(super) const BASE: &str = "https://augury.dev/fhir/SubscriptionTopic/";

const VERSION: &str = "1.0.0";

struct BuiltIn {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    kind: ResourceType,
    /// What must be true beside that it was created or updated; empty for nothing.
    expression: &'static str,
    /// Parameters that it can be filtered by, with spaces between.
    filters: &'static str,
    /// References whose targets come along.
    includes: &'static str,
}

const OF_ASSESSMENT: &str =
    "_id _tag condition date encounter identifier method patient performer probability risk subject";

/// The band that an assessment was in before is written once, where it was crossed; a later version of the
/// same assessment (it was superseded) is no second crossing. So with refusals.
const TOPICS: [BuiltIn; 5] = [
    BuiltIn {
        name: "risk-assessment",
        title: "A risk was assessed",
        description: "A RiskAssessment was created or updated.",
        kind: ResourceType::RISK_ASSESSMENT,
        expression: "",
        filters: OF_ASSESSMENT,
        includes: "subject",
    },
    BuiltIn {
        name: "risk-band-crossed",
        title: "A risk is in another band than before",
        description: "A RiskAssessment is in another band than the one that it supersedes.",
        kind: ResourceType::RISK_ASSESSMENT,
        expression: "%current.prediction.extension('https://augury.dev/fhir/StructureDefinition/band-before').exists() \
                     and %previous.prediction.extension('https://augury.dev/fhir/StructureDefinition/band-before').empty()",
        filters: OF_ASSESSMENT,
        includes: "subject",
    },
    BuiltIn {
        name: "risk-refused",
        title: "A risk could not be computed",
        description: "A RiskAssessment says why it has no number.",
        kind: ResourceType::RISK_ASSESSMENT,
        expression: "%current.prediction.probability.extension('http://hl7.org/fhir/StructureDefinition/data-absent-reason').exists() \
                     and %previous.prediction.probability.extension('http://hl7.org/fhir/StructureDefinition/data-absent-reason').empty()",
        filters: OF_ASSESSMENT,
        includes: "subject",
    },
    BuiltIn {
        name: "observation-critical",
        title: "A critical value",
        description: "An Observation, or a component of one, is interpreted as critical (AA, HH, LL) and was not before.",
        kind: ResourceType::OBSERVATION,
        expression: "%current.interpretation.combine(%current.component.interpretation).coding.where(\
                     system = 'http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation' \
                     and (code = 'AA' or code = 'HH' or code = 'LL')).exists() \
                     and %previous.interpretation.combine(%previous.component.interpretation).coding.where(\
                     system = 'http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation' \
                     and (code = 'AA' or code = 'HH' or code = 'LL')).empty()",
        filters: "_id _tag based-on category code combo-code component-code date device encounter \
                  identifier patient performer specimen status subject value-concept value-quantity",
        includes: "subject",
    },
    BuiltIn {
        name: "model-change",
        title: "A model was changed",
        description: "The Device that stands for a version of a model was created or updated.",
        kind: ResourceType::DEVICE,
        expression: "%current.meta.profile.where($this = 'https://augury.dev/fhir/StructureDefinition/augury-device').exists()",
        filters: "_id _tag device-name identifier manufacturer model status type",
        includes: "",
    },
];

/// All of them.
pub(super) fn topics() -> impl Iterator<Item = Topic> {
    TOPICS.iter().filter_map(topic)
}

/// None if its expression were none, which a test rules out.
fn topic(of: &BuiltIn) -> Option<Topic> {
    let expression = match of.expression {
        "" => None,
        text => Some(Criterion::parse(text).ok()?),
    };
    let words = |text: &'static str| text.split_ascii_whitespace().map(str::to_owned);
    let include = |code| Include {
        reverse: false,
        iterate: false,
        source: Some(of.kind),
        code: Some(code),
        target: None,
    };
    let includes: Vec<Include> = words(of.includes).map(include).collect();
    let filter = |parameter| FilterBy {
        kind: Some(of.kind),
        parameter,
        comparators: Vec::new(),
        modifiers: Vec::new(),
    };
    Some(Topic {
        url: format!("{BASE}{}", of.name),
        version: Some(VERSION.to_owned()),
        name: Some(of.name.to_owned()),
        title: Some(of.title.to_owned()),
        description: Some(of.description.to_owned()),
        status: Publication::Active,
        triggers: vec![Trigger {
            description: Some(of.description.to_owned()),
            kind: of.kind,
            interactions: vec![Interaction::Create, Interaction::Update],
            query: None,
            expression,
        }],
        filters: words(of.filters).map(filter).collect(),
        shapes: if includes.is_empty() { Vec::new() } else { vec![Shape { kind: of.kind, includes }] },
        doubts: Issues::default(),
    })
}
