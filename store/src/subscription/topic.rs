//! Topics: what names one names no other.

use fhir::json::Json;
use fhir::outcome::Issue;
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use fhir::subscription::{Topic, Topics};

use super::keep::is_topic;
use crate::access::{Access, Sight};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::record::Stored;
use crate::{draft, find};

/// Topics that are read at once.
const PAGE: u32 = 200;

fn read(stored: &Stored) -> Result<Option<(Json<'_>, Topic)>, Fault> {
    if stored.kind != ResourceType::BASIC || !is_topic(&stored.body) {
        return Ok(None);
    }
    let basic = draft::parse(&stored.body)?;
    // One that can't be kept to is nobody's.
    let topic = Topic::parse(&basic).ok().flatten();
    Ok(topic.map(|topic| (basic, topic)))
}

/// Is each of these topics the only one of its address and version? They are in their tables already, and nobody else
/// writes any while this transaction is open.
///
/// # Errors
/// `Unkept` if another is there already.
pub(super) fn only(link: &mut Link, written: &[&Stored]) -> Result<(), Fault> {
    let mut topics = Vec::new();
    for stored in written {
        if let Some((basic, topic)) = read(stored)?.filter(|(_, topic)| !Topics::is_own(&topic.url)) {
            topics.push((stored, at(&basic), topic));
        }
    }
    if topics.is_empty() {
        return Ok(());
    }
    let code = [("code".to_owned(), Topics::CODE.to_owned())];
    let (mut query, _) =
        SearchQuery::parse(&[ResourceType::BASIC], &code, "", 0, Handling::Strict).map_err(Error::from)?;
    query.count = PAGE;
    let sight = Sight::of(&Access::Whole);
    loop {
        let page = find::page(link, &sight, &query)?;
        for other in &page.entries {
            let Some((_, known)) = read(other)? else { continue };
            let same = |(stored, _, topic): &&(&&Stored, String, Topic)| {
                stored.id != other.id && topic.url == known.url && topic.version == known.version
            };
            if let Some((_, at, _)) = topics.iter().find(same) {
                let why = "another topic has this address and version";
                return Err(Error::Unkept(Issue::error("duplicate", why).at(at.as_str()).into()).into());
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(());
        }
    }
}

/// Where a topic says what it is called.
fn at(basic: &Json<'_>) -> String {
    let is_url = |one: &Json<'_>| one.text("url").is_some_and(|url| url.ends_with("SubscriptionTopic.url"));
    let n = basic.list("extension").iter().position(is_url).unwrap_or_default();
    format!("Basic.extension[{n}].value")
}
