//! Rules of Questionnaires that only the text states
//! (<https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen>).

use std::collections::HashSet;

use crate::json::Json;
use crate::validate::{At, Walk};

/// Checks that no item depends on an answer that stands below it.
pub(crate) fn check(walk: &mut Walk<'_>, questionnaire: &Json, at: &At<'_>) {
    items(walk, questionnaire, at);
}

/// The linkIds of the items of a node and of all below them.
fn items<'a>(walk: &mut Walk<'_>, node: &'a Json, at: &At<'_>) -> HashSet<&'a str> {
    let here = at.element("item");
    let mut all = HashSet::new();
    for (n, item) in node.list("item").iter().enumerate() {
        let here = here.item(n);
        let below = items(walk, item, &here);
        let asked = item.list("enableWhen").iter().filter_map(|one| one.text("question"));
        if asked.into_iter().any(|question| below.contains(question)) {
            walk.error(&here, "business-rule", "an item may not be enabled by an item below it");
        }
        all.extend(item.text("linkId"));
        // The smaller set goes into the larger one, or a hostile nesting would cost a square.
        if below.len() > all.len() {
            let own = std::mem::replace(&mut all, below);
            all.extend(own);
        } else {
            all.extend(below);
        }
    }
    all
}
