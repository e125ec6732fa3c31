//! Rules of Bundles (<https://hl7.org/fhir/R4/bundle.html>, <https://hl7.org/fhir/R4/documents.html>):
//! invariants that have a better place here than as FHIRPath, and what only the text states.

use std::collections::{HashMap, HashSet};

use crate::json::Json;
use crate::reference;
use crate::resource_type::ResourceType;
use crate::validate::{At, Walk};

/// References of a Composition that a document has to hold; those of sections come beside them.
const HELD: [&[&str]; 6] =
    [&["subject"], &["encounter"], &["author"], &["attester", "party"], &["custodian"], &["event", "detail"]];
const OF_SECTION: [&[&str]; 3] = [&["author"], &["focus"], &["entry"]];

/// Checks a Bundle.
pub(crate) fn check(walk: &mut Walk<'_>, resource: &Json, at: &At<'_>) {
    let bundle = resource.text("type").unwrap_or_default();
    let entries = resource.list("entry");
    let here = at.element("entry");
    for (n, entry) in entries.iter().enumerate() {
        let request = entry.get("request").is_some();
        if request != matches!(bundle, "batch" | "transaction" | "history") {
            let details = if request {
                "only a batch, transaction or history has requests (bdl-3)"
            } else {
                "the entry needs a request (bdl-3)"
            };
            walk.error(&here.item(n).element("request"), "invariant", details);
        }
        let response = entry.get("response").is_some();
        if response != matches!(bundle, "batch-response" | "transaction-response" | "history") {
            let details = if response {
                "only a response or history has responses (bdl-4)"
            } else {
                "the entry needs a response (bdl-4)"
            };
            walk.error(&here.item(n).element("response"), "invariant", details);
        }
        if entry.get("search").is_some() && bundle != "searchset" {
            walk.error(&here.item(n).element("search"), "invariant", "only a searchset has searches (bdl-2)");
        }
        own_url(walk, entry, &here.item(n));
        if bundle == "searchset" {
            found(walk, entry, &here.item(n));
        }
    }
    links(walk, resource.list("link"), &at.element("link"));
    if bundle != "history" {
        same_url_twice(walk, entries, &here);
    }
    if matches!(bundle, "document" | "message") {
        whole(walk, entries, &here);
    }
}

/// A fullUrl that is an address on a server is that of the resource: type and id are its own.
fn own_url(walk: &mut Walk<'_>, entry: &Json, at: &At<'_>) {
    let (Some(url), Some(resource)) = (entry.text("fullUrl"), entry.get("resource")) else { return };
    let mut parts = url.rsplit('/');
    let (Some(id), Some(kind)) = (parts.next(), parts.next()) else { return };
    if !url.starts_with("http") || !reference::is_id(id) || ResourceType::parse(kind).is_none() {
        return;
    }
    if resource.text("resourceType") != Some(kind) || resource.text("id") != Some(id) {
        walk.doubt(
            &at.element("fullUrl"),
            "invalid",
            "the fullUrl is that of another resource, or the resource has no id",
        );
    }
}

/// What was found has an id; what says something of the search is an OperationOutcome.
fn found(walk: &mut Walk<'_>, entry: &Json, at: &At<'_>) {
    let Some(resource) = entry.get("resource") else { return };
    let outcome = resource.text("resourceType") == Some("OperationOutcome");
    let mode = entry.at(&["search", "mode"]).and_then(Json::as_str);
    if mode == Some("outcome") && !outcome {
        walk.error(&at.element("resource"), "invalid", "the outcome of a search is an OperationOutcome");
    }
    if mode.is_some() && !outcome && resource.get("id").is_none() {
        walk.error(&at.element("resource"), "required", "what a search has found has an id");
    }
}

/// A page has one address, and one before and after it.
fn links(walk: &mut Walk<'_>, links: &[Json], at: &At<'_>) {
    let mut seen = HashSet::new();
    for (n, link) in links.iter().enumerate() {
        let page = link
            .text("relation")
            .filter(|page| matches!(*page, "self" | "first" | "previous" | "prev" | "next" | "last"));
        if page.is_some_and(|page| !seen.insert(page)) {
            walk.error(&at.item(n), "duplicate", "there is one link of each relation to a page");
        }
    }
}

/// bdl-7 and bdl-8.
fn same_url_twice(walk: &mut Walk<'_>, entries: &[Json], here: &At<'_>) {
    let mut seen = HashSet::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let Some(url) = entry.text("fullUrl") else { continue };
        let version = entry.at(&["resource", "meta", "versionId"]).and_then(Json::as_str);
        if !seen.insert((url, version)) {
            let at = here.item(n);
            walk.error(&at.element("fullUrl"), "invariant", "two entries have this fullUrl (bdl-7)");
        }
        if url.contains("/_history/") {
            let at = here.item(n);
            walk.error(&at.element("fullUrl"), "invariant", "a fullUrl names no version (bdl-8)");
        }
    }
}

/// What a document's Composition or a message's header refers to has to be in the Bundle.
fn whole(walk: &mut Walk<'_>, entries: &[Json], at: &At<'_>) {
    let Some((entry, first)) = entries.first().and_then(|entry| Some((entry, entry.get("resource")?))) else {
        return;
    };
    let Some(own) = entry.text("fullUrl") else { return };
    let mut urls: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
    for url in entries.iter().filter_map(|entry| entry.text("fullUrl")) {
        *urls.entry(url).or_default() += 1;
    }
    let kind = first.text("resourceType").unwrap_or_default();
    // A relative reference is read against the address the entry has on its server.
    let server = own.strip_suffix(first.text("id").unwrap_or_default()).and_then(|url| {
        url.strip_suffix('/')?.strip_suffix(kind)?.strip_suffix('/').filter(|url| url.starts_with("http"))
    });
    if server.is_none() && !own.starts_with("urn:") {
        return;
    }
    let mut missing = |reference: &str, at: &At<'_>| {
        let (target, version) =
            reference.split_once("/_history/").map_or((reference, None), |(target, v)| (target, Some(v)));
        // An absolute address may be of another server, and criteria are resolved elsewhere.
        if target.starts_with(['#', 'h']) || target.contains('?') {
            return;
        }
        let url = match server {
            _ if target.starts_with("urn:") => Some(target.to_owned()),
            Some(server) => Some(format!("{server}/{target}")),
            None => None,
        };
        match url.and_then(|url| urls.get(url.as_str()).copied()) {
            None => walk.error(at, "not-found", "what the first entry refers to is not in the Bundle"),
            Some(several) if several > 1 && version.is_none() => {
                walk.error(at, "multiple-matches", "several entries are what the first refers to");
            }
            Some(_) => {}
        }
    };
    let entry = at.item(0);
    let at = entry.element("resource");
    match kind {
        "MessageHeader" => each(first, &["focus"], &at, &mut missing),
        "Composition" => {
            for path in HELD {
                each(first, path, &at, &mut missing);
            }
            sections(first, &at, 0, &mut missing);
        }
        _ => {}
    }
}

/// Sections lie within sections as deep as JSON may be.
fn sections(node: &Json, at: &At<'_>, depth: usize, found: &mut dyn FnMut(&str, &At<'_>)) {
    if depth > 64 {
        return;
    }
    let here = at.element("section");
    for (n, section) in node.list("section").iter().enumerate() {
        let here = here.item(n);
        for path in OF_SECTION {
            each(section, path, &here, found);
        }
        sections(section, &here, depth + 1, found);
    }
}

/// Every reference at the end of a path.
fn each(node: &Json, path: &[&str], at: &At<'_>, found: &mut dyn FnMut(&str, &At<'_>)) {
    let Some((name, rest)) = path.split_first() else {
        if let Some(reference) = node.text("reference") {
            found(reference, at);
        }
        return;
    };
    let here = at.element(name);
    match node.get(name) {
        Some(Json::Array(items)) => {
            items.iter().enumerate().for_each(|(n, item)| each(item, rest, &here.item(n), found));
        }
        Some(one) => each(one, rest, &here, found),
        None => {}
    }
}
