//! Transaction and batch Bundles: from JSON to a plan of what is to be done
//! (<https://hl7.org/fhir/R4/http.html#transaction>). Pure; ids come from the caller.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::json::Json;
use crate::outcome::{Issue, Issues};
use crate::reference::{self, Reference};
use crate::resource_type::ResourceType;

/// What is to be done with a Bundle.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// All or nothing (transaction), or each for itself (batch).
    pub atomic: bool,
    /// In the Bundle's order, which is the order of the answers.
    pub entries: Vec<Result<Entry<'a>, Issue>>,
    /// Places in `entries` in the order of doing: DELETE, POST, PUT and PATCH, GET.
    pub order: Vec<usize>,
    /// References by criteria (`Practitioner?identifier=…`) that occur, each once an entry.
    pub conditional: Vec<Conditional>,
}

/// A reference by criteria.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditional {
    /// Place of its entry.
    pub entry: usize,
    /// Its FHIRPath.
    pub at: String,
    /// As it is written.
    pub text: String,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A new resource under an id that references may already use.
    Create {
        /// Type.
        kind: ResourceType,
        /// The id promised.
        id: String,
        /// Content, references rewritten.
        resource: Json<'a>,
        /// Do nothing if this finds one.
        if_none_exist: Option<String>,
    },
    /// A new version.
    Update {
        /// Which.
        target: Target,
        /// The id it has, or gets if criteria find nothing.
        id: String,
        /// Content, references rewritten.
        resource: Json<'a>,
        /// `ifMatch` as it came.
        if_match: Option<String>,
        /// `ifNoneMatch` as it came.
        if_none_match: Option<String>,
    },
    /// A change of what is there.
    Patch {
        /// Which.
        target: Target,
        /// What is to be done to it: a Binary with a JSON Patch, or Parameters.
        patch: Json<'a>,
        /// `ifMatch` as it came.
        if_match: Option<String>,
    },
    /// A deletion.
    Delete {
        /// Which.
        target: Target,
        /// `ifMatch` as it came.
        if_match: Option<String>,
    },
    /// A read or search: the address below the base.
    Get {
        /// E.g. `Patient/1` or `Observation?patient=1`.
        url: String,
        /// `ifNoneMatch` as it came.
        if_none_match: Option<String>,
        /// `ifModifiedSince` as it came.
        if_modified_since: Option<String>,
    },
}

/// Which resource an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By id.
    Id(ResourceType, String),
    /// The only one that matches.
    Criteria(ResourceType, String),
}

impl Target {
    /// The resource type.
    pub fn kind(&self) -> ResourceType {
        match self {
            Self::Id(kind, _) | Self::Criteria(kind, _) => *kind,
        }
    }
}

/// Plans a Bundle that has passed validation. `base` is this server's address; `new_id` gives ids.
///
/// # Errors
/// It is neither a transaction nor a batch; or in a transaction any entry is wrong.
pub fn plan<'a>(
    bundle: Json<'a>,
    base: &str,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Plan<'a>, Issues> {
    let atomic = match (bundle.text("resourceType"), bundle.text("type")) {
        (Some("Bundle"), Some("transaction")) => true,
        (Some("Bundle"), Some("batch")) => false,
        (Some("Bundle"), _) => {
            let issue = Issue::error("invalid", "only a transaction or a batch can be posted here");
            return Err(issue.at("Bundle.type").into());
        }
        _ => return Err(Issue::error("invalid", "a Bundle is needed").at("resourceType").into()),
    };
    let Json::Object(mut object) = bundle else { return Err(Issues::default()) };
    let items = match object.remove("entry") {
        Some(Json::Array(items)) => items,
        _ => Vec::new(),
    };
    let mut full_urls = HashMap::new();
    let mut roots = Vec::with_capacity(items.len());
    let mut entries: Vec<Result<Entry, Issue>> = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate() {
        let full_url = item.text("fullUrl").map(str::to_owned);
        roots.push(full_url.as_deref().and_then(root).map(str::to_owned));
        let entry = checked(&item, n, atomic).and_then(|()| entry(item, n, base, new_id));
        if let (Some(url), Ok(entry)) = (full_url, &entry)
            && let Some(target) = promised(entry)
        {
            full_urls.insert(url, target);
        }
        entries.push(entry);
    }
    let mut plan = Plan { atomic, entries, order: Vec::new(), conditional: Vec::new() };
    let mut wrong = plan.rewrite(&full_urls, &roots, base);
    wrong.extend(plan.repeated());
    wrong.extend(plan.entries.iter().filter(|_| atomic).filter_map(|entry| entry.as_ref().err().cloned()));
    if atomic && !wrong.is_empty() {
        return Err(Issues(wrong));
    }
    let mut order: Vec<usize> = (0..plan.entries.len()).collect();
    order.sort_by_key(|n| match plan.entries.get(*n) {
        Some(Ok(Entry::Delete { .. })) => 0,
        Some(Ok(Entry::Create { .. })) => 1,
        Some(Ok(Entry::Update { .. } | Entry::Patch { .. })) => 2,
        _ => 3,
    });
    plan.order = order;
    Ok(plan)
}

/// `http://h/fhir` of `http://h/fhir/Patient/1`: where relative references of the entry lie.
fn root(full_url: &str) -> Option<&str> {
    let (rest, id) = full_url.rsplit_once('/')?;
    let (root, kind) = rest.rsplit_once('/')?;
    (root.contains("://") && reference::is_id(id) && ResourceType::parse(kind).is_some()).then_some(root)
}

/// Of a batch each entry is judged for itself; a transaction was judged as a whole.
fn checked(item: &Json, n: usize, atomic: bool) -> Result<(), Issue> {
    let Some(resource) = item.get("resource").filter(|_| !atomic) else { return Ok(()) };
    let issues = crate::validate::validate(resource);
    let wrong = issues.0.into_iter().find(|issue| issue.severity >= crate::outcome::Severity::Error);
    match wrong {
        Some(issue) => {
            let place = issue.expression.split_once('.').map_or("", |(_, rest)| rest);
            let dot = if place.is_empty() { "" } else { "." };
            let at = format!("Bundle.entry[{n}].resource{dot}{place}");
            Err(issue.at(at))
        }
        None => Ok(()),
    }
}

/// What references to an entry's fullUrl become.
fn promised(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Create { kind, id, .. } => Some(format!("{}/{id}", kind.name())),
        Entry::Update { target, id, .. } => Some(format!("{}/{id}", target.kind().name())),
        _ => None,
    }
}

fn entry<'a>(
    item: Json<'a>,
    n: usize,
    base: &str,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Entry<'a>, Issue> {
    let at = |element: &str| format!("Bundle.entry[{n}].{element}");
    let Json::Object(mut item) = item else {
        return Err(Issue::error("structure", "an entry is an object").at(format!("Bundle.entry[{n}]")));
    };
    let resource = item.remove("resource");
    let request = item
        .remove("request")
        .ok_or_else(|| Issue::error("required", "an entry needs a request").at(at("request")))?;
    let method = request.text("method").unwrap_or_default();
    let url = request.text("url").unwrap_or_default();
    let url = url.strip_prefix(base).unwrap_or(url).trim_start_matches('/');
    let bad_url = |why: String| Issue::error("invalid", why).at(at("request.url"));
    let if_match = request.text("ifMatch").map(str::to_owned);
    let if_none_match = request.text("ifNoneMatch").map(str::to_owned);
    if method == "GET" {
        let if_modified_since = request.text("ifModifiedSince").map(str::to_owned);
        return Ok(Entry::Get { url: url.to_owned(), if_none_match, if_modified_since });
    }
    if if_none_match.is_some() && method != "PUT" {
        let issue = Issue::error("not-supported", "ifNoneMatch is for GET and PUT");
        return Err(issue.at(at("request.ifNoneMatch")));
    }
    if !matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
        return Err(
            Issue::error("not-supported", "the method is not supported here").at(at("request.method"))
        );
    }
    let needed = || Issue::error("required", "the entry needs a resource").at(at("resource"));
    if method == "POST" {
        let kind = ResourceType::parse(url).ok_or_else(|| bad_url("not a resource type".to_owned()))?;
        let resource = resource.ok_or_else(needed)?;
        of_kind(&resource, kind).map_err(|issue| issue.at(at("resource")))?;
        let if_none_exist = request.text("ifNoneExist").map(str::to_owned);
        return Ok(Entry::Create { kind, id: new_id(), resource, if_none_exist });
    }
    let target = target(url).ok_or_else(|| bad_url("neither Type/id nor Type?criteria".to_owned()))?;
    if method == "DELETE" {
        return Ok(Entry::Delete { target, if_match });
    }
    let resource = resource.ok_or_else(needed)?;
    if method == "PATCH" {
        return Ok(Entry::Patch { target, patch: resource, if_match });
    }
    of_kind(&resource, target.kind()).map_err(|issue| issue.at(at("resource")))?;
    if let Target::Id(_, id) = &target
        && resource.text("id") != Some(id)
    {
        return Err(
            Issue::error("invalid", "the resource's id is not the one in the url").at(at("resource.id"))
        );
    }
    let id = match &target {
        Target::Id(_, id) => id.clone(),
        Target::Criteria(..) => resource.text("id").map_or_else(new_id, str::to_owned),
    };
    Ok(Entry::Update { target, id, resource, if_match, if_none_match })
}

fn target(url: &str) -> Option<Target> {
    match reference::parse(url, "") {
        Reference::Local { kind, id, version: None } => Some(Target::Id(kind, id.to_owned())),
        Reference::Conditional { kind, criteria } if !criteria.is_empty() => {
            Some(Target::Criteria(kind, criteria.to_owned()))
        }
        _ => None,
    }
}

fn of_kind(resource: &Json, kind: ResourceType) -> Result<(), Issue> {
    if resource.text("resourceType") == Some(kind.name()) {
        return Ok(());
    }
    Err(Issue::error("invalid", format!("the resource is not a {}", kind.name())))
}

impl Plan<'_> {
    /// Rewrites references to fullUrls; in a transaction a URN that nothing in it has is wrong.
    fn rewrite(
        &mut self,
        full_urls: &HashMap<String, String>,
        roots: &[Option<String>],
        base: &str,
    ) -> Vec<Issue> {
        let mut found = References {
            full_urls,
            root: None,
            base,
            atomic: self.atomic,
            dangling: Vec::new(),
            conditional: Vec::new(),
            known: HashSet::new(),
            entry: 0,
        };
        for (n, entry) in self.entries.iter_mut().enumerate() {
            let Ok(
                Entry::Create { resource, .. }
                | Entry::Update { resource, .. }
                | Entry::Patch { patch: resource, .. },
            ) = entry
            else {
                continue;
            };
            found.entry = n;
            found.known.clear();
            found.root = roots.get(n).and_then(Option::as_deref);
            found.walk(resource, Role::Other, &mut format!("Bundle.entry[{n}].resource"));
        }
        self.conditional = found.conditional;
        found.dangling
    }

    /// The same resource may be changed once only.
    fn repeated(&self) -> Vec<Issue> {
        let mut seen = HashSet::new();
        let mut wrong = Vec::new();
        for (n, entry) in self.entries.iter().enumerate() {
            if let Ok(
                Entry::Update { target, .. } | Entry::Patch { target, .. } | Entry::Delete { target, .. },
            ) = entry
                && let Target::Id(kind, id) = target
                && !seen.insert((*kind, id))
            {
                let issue = Issue::error("duplicate", "the same resource is changed twice");
                wrong.push(issue.at(format!("Bundle.entry[{n}].request.url")));
            }
        }
        wrong
    }
}

struct References<'m> {
    full_urls: &'m HashMap<String, String>,
    /// Where relative references of the entry lie.
    root: Option<&'m str>,
    base: &'m str,
    atomic: bool,
    dangling: Vec<Issue>,
    conditional: Vec<Conditional>,
    /// The texts of those of the entry.
    known: HashSet<String>,
    entry: usize,
}

/// A narrative whose hyperlinks and images name entries, with what these become; none if none does.
fn relinked(text: &str, full_urls: &HashMap<String, String>) -> Option<String> {
    let (mut out, mut rest, mut found) = (String::new(), text, false);
    while let Some((before, after)) = rest.split_once("=\"") {
        out.push_str(before);
        out.push_str("=\"");
        rest = after;
        if !before.ends_with("href") && !before.ends_with("src") {
            continue;
        }
        let value = after.split('"').next().unwrap_or_default();
        if let (Some(target), Some(behind)) = (full_urls.get(value), after.strip_prefix(value)) {
            out.push_str(target);
            (rest, found) = (behind, true);
        }
    }
    out.push_str(rest);
    found.then_some(out)
}

/// What a text may be that points to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Reference,
    /// An address outside a Reference.
    Address,
    Narrative,
    /// Whatever it says, it points nowhere.
    Other,
}

impl Role {
    fn of(key: &str) -> Self {
        match key {
            "reference" => Self::Reference,
            "div" => Self::Narrative,
            "url" | "uri" | "valueUri" | "valueUrl" | "valueUuid" | "valueOid" | "valueCanonical" => {
                Self::Address
            }
            _ => Self::Other,
        }
    }
}

impl References<'_> {
    /// `at` is the FHIRPath of `node`; it is extended and cut back on the way.
    fn walk(&mut self, node: &mut Json, role: Role, at: &mut String) {
        match node {
            Json::String(text) if role == Role::Narrative => {
                if let Some(linked) = relinked(text, self.full_urls) {
                    *text = Cow::Owned(linked);
                }
            }
            Json::String(text) if role != Role::Other => {
                let urn = text.starts_with("urn:uuid:") || text.starts_with("urn:oid:");
                let is_reference = role == Role::Reference;
                let beside = self.root.filter(|_| is_reference && !text.contains(':'));
                let whole = beside.map(|root| format!("{root}/{text}"));
                if let Some(target) = self.full_urls.get(whole.as_deref().unwrap_or(text)) {
                    *text = Cow::Owned(target.clone());
                } else if !is_reference {
                } else if urn && self.atomic {
                    let issue = Issue::error("not-found", "no entry of the transaction has this fullUrl");
                    self.dangling.push(issue.at(at.clone()));
                } else if matches!(reference::parse(text, self.base), Reference::Conditional { .. }) {
                    let (entry, text) = (self.entry, text.clone().into_owned());
                    if self.known.insert(text.clone()) {
                        self.conditional.push(Conditional { entry, at: at.clone(), text });
                    }
                } else {
                    reference::make_relative(text, self.base);
                }
            }
            Json::Array(items) => {
                let length = at.len();
                for (n, item) in items.iter_mut().enumerate() {
                    at.push_str(&format!("[{n}]"));
                    self.walk(item, role, at);
                    at.truncate(length);
                }
            }
            Json::Object(object) => {
                let length = at.len();
                for (key, value) in object.iter_mut() {
                    at.push('.');
                    at.push_str(key);
                    self.walk(value, Role::of(key), at);
                    at.truncate(length);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, parse};

    fn planned(text: &str) -> Result<Plan<'_>, Issues> {
        let mut count = 0;
        plan(parse(text.as_bytes(), &Limits::default()).unwrap(), "http://h/fhir", &mut || {
            count += 1;
            format!("new{count}")
        })
    }

    #[test]
    fn references_follow_their_entries() {
        let plan = planned(
            r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"resource":{"resourceType":"Observation","subject":{"reference":"urn:uuid:p"},
              "performer":[{"reference":"Practitioner?identifier=x|1"}]},"request":{"method":"POST","url":"Observation"}},
            {"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient"}},
            {"request":{"method":"DELETE","url":"Patient/old"}}]}"#,
        )
        .unwrap();
        assert_eq!(plan.order, [2, 0, 1]);
        let conditional = Conditional {
            entry: 0,
            at: "Bundle.entry[0].resource.performer[0].reference".into(),
            text: "Practitioner?identifier=x|1".into(),
        };
        assert_eq!(plan.conditional, [conditional]);
        let Ok(Entry::Create { resource, .. }) = &plan.entries[0] else { panic!("{plan:?}") };
        assert_eq!(resource.at(&["subject", "reference"]).and_then(Json::as_str), Some("Patient/new2"));
    }

    #[test]
    fn hyperlinks_follow_their_entries() {
        let urls = [("urn:uuid:a", "Patient/1"), ("http://x?y=", "Patient/2"), ("Patient/1", "Patient/3")];
        let urls = urls.map(|(url, target)| (url.to_owned(), target.to_owned())).into();
        for (text, wanted) in [
            (r#"<a href="urn:uuid:a">"#, Some(r#"<a href="Patient/1">"#)),
            (
                r#"<img alt="urn:uuid:a" src="urn:uuid:a"/>"#,
                Some(r#"<img alt="urn:uuid:a" src="Patient/1"/>"#),
            ),
            (r#"<a href="http://x?y="/>"#, Some(r#"<a href="Patient/2"/>"#)),
            (r#"<a href="urn:uuid:ab" title="urn:uuid:a">"#, None),
            (r#"<a href=""#, None),
            ("", None),
        ] {
            assert_eq!(relinked(text, &urls).as_deref(), wanted, "{text}");
        }
    }

    /// A square of these would take minutes.
    #[test]
    fn many_entries_with_many_references_are_planned() {
        let mut entries = String::new();
        for n in 0..20_000 {
            let div = format!(
                r#"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"urn:uuid:{n}\">x</a></div>"#
            );
            entries.push_str(&format!(
                r#"{{"fullUrl":"urn:uuid:{n}","resource":{{"resourceType":"Patient","text":{{"div":"{div}"}}}},"request":{{"method":"POST","url":"Patient"}}}},"#
            ));
        }
        let references: Vec<_> =
            (0..100_000).map(|n| format!(r#"{{"reference":"Practitioner?identifier={n}"}}"#)).collect();
        let text = format!(
            r#"{{"resourceType":"Bundle","type":"transaction","entry":[{entries}
            {{"resource":{{"resourceType":"Observation","performer":[{}]}},"request":{{"method":"POST","url":"Observation"}}}}]}}"#,
            references.join(",")
        );
        let plan = planned(&text).unwrap();
        assert_eq!(plan.conditional.len(), 100_000);
        let Ok(Entry::Create { resource, .. }) = &plan.entries[19_999] else { panic!() };
        let div = resource.at(&["text", "div"]).and_then(Json::as_str);
        assert!(div.unwrap().contains(r#"href="Patient/new20000""#), "{div:?}");
    }

    #[test]
    fn what_is_wrong_in_a_transaction_has_a_place() {
        let at = |entries: &str| {
            let text = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{entries}]}}"#);
            planned(&text).unwrap_err().0[0].expression.clone()
        };
        assert_eq!(
            at(
                r#"{"resource":{"resourceType":"Observation","subject":{"reference":"urn:uuid:x"}},"request":{"method":"POST","url":"Observation"}}"#
            ),
            "Bundle.entry[0].resource.subject.reference"
        );
        assert_eq!(at(r#"{"request":{"method":"POST","url":"Patient"}}"#), "Bundle.entry[0].resource");
        assert_eq!(at(r#"{"request":{"method":"DELETE","url":"Patient"}}"#), "Bundle.entry[0].request.url");
        let twice = r#"{"request":{"method":"DELETE","url":"Patient/1"}}"#;
        assert_eq!(at(&format!("{twice},{twice}")), "Bundle.entry[1].request.url");
    }

    #[test]
    fn in_a_batch_each_stands_for_itself() {
        let plan = planned(
            r#"{"resourceType":"Bundle","type":"batch","entry":[
            {"request":{"method":"HEAD","url":"Patient/1"}},{"request":{"method":"GET","url":"/Patient/1"}}]}"#,
        )
        .unwrap();
        assert!(plan.entries[0].is_err());
        assert!(matches!(&plan.entries[1], Ok(Entry::Get { url, .. }) if url == "Patient/1"));
    }
}
