//! A caller with few rights sees, finds, changes and learns of nothing else.

use fhir::resource_type::ResourceType;
use fhir::scope::{Clinical, Op};
use store::{Access, Commit, Context, Error, Grant, HistoryQuery, Store, Who, Write};

use crate::place::*;

both!(
    only_the_own_chart_is_found,
    hops_end_where_rights_end,
    types_that_are_not_granted_fall_away,
    granular_scopes_are_filters,
    versions_and_what_was_deleted,
    writes_stay_inside,
    who_may_not_read_learns_nothing_by_a_patch,
    any_query_of_any_scope_finds_what_both_allow,
);

/// As the one with these scopes, of that patient.
fn with(scopes: &str, patient: &str) -> Context {
    let grants = scopes.split(' ').map(|scope| Clinical::parse(scope).unwrap()).map(|scope| Grant {
        kind: scope.kind,
        may: scope.may,
        within: scope.to_string().starts_with("patient/").then(|| patient.to_owned()),
        only: scope.only,
    });
    let access = Access::Granted(grants.collect());
    Context { access, who: Who::system("app"), ..now() }
}

async fn found(store: &Store, context: &Context, text: &str) -> Result<Vec<String>, Error> {
    let page = store.search(context, &query(text)).await?;
    let named = page.entries.iter().chain(&page.included).map(|one| format!("{}/{}", one.kind, one.id));
    let mut named: Vec<String> = named.collect();
    named.sort();
    Ok(named)
}

async fn put(store: &Store, text: &str) {
    let resource = json(text);
    let kind = ResourceType::parse(resource.text("resourceType").unwrap()).unwrap();
    let id = resource.text("id").unwrap().to_owned();
    one(store, &now(), update(kind, &id, resource, None)).await.unwrap();
}

/// Two patients with a chart each, and what belongs to nobody.
async fn hospital(store: &Store) {
    for text in [
        r#"{"resourceType":"Organization","id":"org","name":"House"}"#,
        r#"{"resourceType":"Practitioner","id":"dr","name":[{"family":"Heal"}]}"#,
        r#"{"resourceType":"Patient","id":"a","name":[{"family":"Ann"}],"managingOrganization":{"reference":"Organization/org"}}"#,
        r#"{"resourceType":"Patient","id":"b","name":[{"family":"Bob"}],"managingOrganization":{"reference":"Organization/org"},"link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}"#,
        r#"{"resourceType":"Observation","id":"a1","status":"final","category":[{"coding":[{"system":"urn:c","code":"laboratory"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/a"}}"#,
        r#"{"resourceType":"Observation","id":"a2","status":"preliminary","category":[{"coding":[{"system":"urn:c","code":"vital-signs"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/a"},"derivedFrom":[{"reference":"Observation/b1"}]}"#,
        r#"{"resourceType":"Observation","id":"b1","status":"final","category":[{"coding":[{"system":"urn:c","code":"laboratory"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/b"},"performer":[{"reference":"Patient/a"}],"hasMember":[{"reference":"Observation/a1"}]}"#,
        r#"{"resourceType":"Device","id":"shared","deviceName":[{"name":"m","type":"model-name"}]}"#,
        r#"{"resourceType":"Device","id":"worn","patient":{"reference":"Patient/b"}}"#,
        r#"{"resourceType":"Group","id":"both","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}},{"entity":{"reference":"Patient/b"}}]}"#,
        r#"{"resourceType":"List","id":"of-b","status":"current","mode":"working","subject":{"reference":"Patient/b"},"entry":[{"item":{"reference":"Observation/a1"}}]}"#,
    ] {
        put(store, text).await;
    }
}

async fn only_the_own_chart_is_found(store: Store, _: String) {
    hospital(&store).await;
    let a = with("patient/*.cruds", "a");
    assert_eq!(found(&store, &a, "Observation").await.unwrap(), ["Observation/a1", "Observation/a2"]);
    assert_eq!(found(&store, &a, "Patient").await.unwrap(), ["Patient/a"]);
    assert_eq!(found(&store, &a, "Patient?family=Bob").await.unwrap(), Vec::<String>::new());
    assert_eq!(found(&store, &a, "Device").await.unwrap(), ["Device/shared"]);
    assert_eq!(found(&store, &a, "Practitioner").await.unwrap(), ["Practitioner/dr"]);
    assert_eq!(store.search(&a, &query("Observation?_summary=count")).await.unwrap().total, Some(2));
    for (kind, id) in [("Observation", "b1"), ("Patient", "b"), ("Device", "worn"), ("Observation", "none")] {
        let kind = ResourceType::parse(kind).unwrap();
        assert_eq!(store.read(&a, kind, id).await, Err(Error::NotFound));
        assert_eq!(store.vread(&a, kind, id, 1).await, Err(Error::NotFound));
    }
    for kind in ["Group", "AuditEvent", "Binary"] {
        let kind = ResourceType::parse(kind).unwrap();
        assert_eq!(store.read(&a, kind, "both").await, Err(Error::Denied(Op::Read, kind)));
        assert_eq!(found(&store, &a, kind.name()).await, Err(Error::Denied(Op::Search, kind)));
    }
    let everywhere: Vec<ResourceType> = ResourceType::all().collect();
    let mut all = query("Observation");
    all.kinds = everywhere;
    let page = store.search(&a, &all).await.unwrap();
    let mut ids: Vec<&str> = page.entries.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "a1", "a2", "dr", "org", "shared"]);
}

/// Where types fall away, what was asked of them does too.
async fn types_that_are_not_granted_fall_away(store: Store, _: String) {
    hospital(&store).await;
    let subject =
        |kind: &str| fhir::search::parameter(ResourceType::parse(kind).unwrap(), "subject").unwrap();
    let mut all = query("Observation?_count=50");
    all.kinds = ResourceType::all().collect();
    let value = Some(fhir::reference::hash(PATIENT, "b"));
    let params = ["Observation", "List"].iter().flat_map(|kind| subject(kind).params.clone()).collect();
    let test = fhir::search::Test::Exact(vec![fhir::search::ExactTest { value, system: None }]);
    all.clauses.push(fhir::search::Clause { params, negated: false, test });
    let ids = async |scopes: &str| -> Vec<String> {
        let page = store.search(&with(scopes, "b"), &all).await.unwrap();
        page.entries.iter().map(|one| one.id.clone()).collect()
    };
    assert_eq!(ids("user/*.rs").await.len(), 2);
    assert_eq!(ids("user/Observation.rs").await, ["b1"]);
    assert_eq!(ids("patient/Practitioner.rs").await, Vec::<String>::new());
    assert_eq!(ids("user/Observation.rs user/Patient.rs").await, ["b1"]);
    let along = found(&store, &with("user/Patient.rs", ""), "Patient?_id=b&_revinclude=*").await.unwrap();
    assert_eq!(along, ["Patient/b"]);
}

async fn hops_end_where_rights_end(store: Store, _: String) {
    hospital(&store).await;
    let a = with("patient/*.rs", "a");
    let none = Vec::<String>::new();
    assert_eq!(found(&store, &a, "Organization?_has:Patient:organization:family=Bob").await.unwrap(), none);
    assert_eq!(
        found(&store, &a, "Organization?_has:Patient:organization:family=Ann").await.unwrap(),
        ["Organization/org"]
    );
    assert_eq!(found(&store, &a, "Observation?derived-from:Observation.status=final").await.unwrap(), none);
    assert_eq!(
        found(&store, &a, "Observation?_has:Observation:has-member:status=final").await.unwrap(),
        none
    );
    assert_eq!(found(&store, &a, "Observation?_list=of-b").await.unwrap(), none);
    assert_eq!(
        found(&store, &a, "Observation?_include=Observation:derived-from&_revinclude=Observation:has-member")
            .await
            .unwrap(),
        ["Observation/a1", "Observation/a2"]
    );
    assert_eq!(
        found(&store, &a, "Organization?_revinclude=Patient:organization&_revinclude:iterate=Patient:link")
            .await
            .unwrap(),
        ["Organization/org", "Patient/a"]
    );
    let narrow = with("patient/Observation.rs", "a");
    assert_eq!(found(&store, &narrow, "Observation?subject:Patient.family=Ann").await.unwrap(), none);
    assert_eq!(
        found(&store, &narrow, "Observation?_include=Observation:subject").await.unwrap(),
        ["Observation/a1", "Observation/a2"]
    );
    let read_only = with("patient/Observation.r", "a");
    assert!(found(&store, &read_only, "Observation").await.is_err());
    assert!(store.read(&read_only, OBSERVATION, "a1").await.is_ok());
    let search_only = with("patient/Observation.s", "a");
    assert!(found(&store, &search_only, "Observation").await.is_ok());
    assert_eq!(store.read(&search_only, OBSERVATION, "a1").await, Err(Error::Denied(Op::Read, OBSERVATION)));
}

async fn granular_scopes_are_filters(store: Store, _: String) {
    hospital(&store).await;
    let user = with("user/Observation.rs?category=urn:c|laboratory", "");
    assert_eq!(found(&store, &user, "Observation").await.unwrap(), ["Observation/a1", "Observation/b1"]);
    assert_eq!(store.read(&user, OBSERVATION, "a2").await, Err(Error::NotFound));
    let either = with("patient/Observation.rs?category=laboratory patient/Observation.rs?status=final", "a");
    assert_eq!(found(&store, &either, "Observation").await.unwrap(), ["Observation/a1"]);
    let any = with("patient/Observation.rs?category=laboratory user/Observation.rs?status=preliminary", "b");
    assert_eq!(found(&store, &any, "Observation").await.unwrap(), ["Observation/a2", "Observation/b1"]);
    let wider = with("patient/Observation.rs?category=laboratory patient/Observation.rs", "a");
    assert_eq!(found(&store, &wider, "Observation").await.unwrap().len(), 2);
}

async fn versions_and_what_was_deleted(store: Store, _: String) {
    hospital(&store).await;
    // a1 moves into b's chart, b1 is deleted, a2 too.
    put(
        &store,
        r#"{"resourceType":"Observation","id":"a1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/b"}}"#,
    )
    .await;
    for id in ["b1", "a2"] {
        one(&store, &now(), delete(OBSERVATION, id)).await.unwrap();
    }
    let a = with("patient/*.cruds", "a");
    assert_eq!(store.read(&a, OBSERVATION, "a1").await, Err(Error::NotFound));
    assert_eq!(store.vread(&a, OBSERVATION, "a1", 1).await.unwrap().version, 1);
    assert_eq!(store.vread(&a, OBSERVATION, "a1", 2).await, Err(Error::NotFound));
    assert_eq!(store.read(&a, OBSERVATION, "b1").await, Err(Error::NotFound));
    assert_eq!(store.read(&a, OBSERVATION, "a2").await, Err(Error::Gone { version: 2 }));
    let history = |id: Option<&str>, count| HistoryQuery {
        kinds: vec![OBSERVATION],
        id: id.map(str::to_owned),
        since: None,
        at: None,
        count,
        after: None,
        used: Vec::new(),
    };
    let versions = |page: store::Page| -> Vec<String> {
        page.entries.iter().map(|one| format!("{}/{}", one.id, one.version)).collect()
    };
    assert_eq!(versions(store.history(&a, &history(None, 50)).await.unwrap()), ["a2/2", "a2/1", "a1/1"]);
    let mut paged = Vec::new();
    let mut query = history(None, 1);
    loop {
        let page = store.history(&a, &query).await.unwrap();
        assert_eq!(page.total, None);
        query.after.clone_from(&page.next);
        paged.extend(versions(page));
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(paged, ["a2/2", "a2/1", "a1/1"]);
    assert_eq!(versions(store.history(&a, &history(Some("b1"), 50)).await.unwrap()), Vec::<String>::new());
    let others = store.history(&with("patient/Patient.rs", "a"), &history(None, 50)).await;
    assert_eq!(others, Err(Error::Denied(Op::Search, OBSERVATION)));
}

async fn writes_stay_inside(store: Store, _: String) {
    hospital(&store).await;
    let a = with("patient/Observation.cruds patient/Patient.rs", "a");
    let of = |patient: &str| observation(patient, "2093-3", "2020-01-01", "1");
    let create = |patient: &str| Write::Create { resource: of(patient), id: None, if_none_exist: None };
    let denied = |op| Err(Error::Denied(op, OBSERVATION));
    assert!(one(&store, &a, create("a")).await.is_ok());
    assert_eq!(one(&store, &a, create("b")).await, denied(Op::Create));
    let put = |id: &str, patient: &str| update(OBSERVATION, id, of(patient), None);
    assert!(one(&store, &a, put("new", "a")).await.is_ok());
    assert_eq!(one(&store, &a, put("newer", "b")).await, denied(Op::Update));
    assert_eq!(one(&store, &a, put("b1", "a")).await, denied(Op::Update)); // not mine to take
    assert_eq!(one(&store, &a, put("a1", "b")).await, denied(Op::Update)); // not mine to give
    for (id, version) in [("b1", 1), ("b1", 7), ("never", 1)] {
        let written = one(&store, &a, update(OBSERVATION, id, of("a"), Some(version))).await;
        let text = format!("there is no Observation/{id} of which a version could match");
        assert_eq!(written, Err(Error::Precondition(text)), "the version of what is hidden stays hidden");
    }
    let of_kind = delete;
    let delete = |id: &str| delete(OBSERVATION, id);
    let absent = one(&store, &a, delete("never")).await.unwrap();
    let hidden = one(&store, &a, delete("b1")).await.unwrap();
    assert_eq!((absent.effect, absent.stored.version), (hidden.effect, hidden.stored.version));
    assert!(store.read(&now(), OBSERVATION, "b1").await.is_ok());
    assert!(one(&store, &a, delete("new")).await.is_ok());
    // One that exists, but not for this caller, is no match: it creates its own.
    let unless =
        Write::Create { resource: of("a"), id: None, if_none_exist: Some(query("Observation?_id=b1")) };
    assert_eq!(one(&store, &a, unless).await.unwrap().effect, store::Effect::Created);
    let by = |scopes| with(scopes, "a");
    assert_eq!(one(&store, &by("patient/Observation.rs"), create("a")).await, denied(Op::Create));
    assert_eq!(one(&store, &by("patient/Observation.c"), put("a1", "a")).await, denied(Op::Update));
    assert!(one(&store, &by("patient/Observation.u"), put("fresh", "a")).await.is_ok());
    assert_eq!(one(&store, &by("patient/Observation.cru"), delete("a1")).await, denied(Op::Delete));
    // What is about somebody else too is not to be planted, changed or taken away.
    let both = |id: &str| {
        let text = format!(
            r#"{{"resourceType":"Account","id":"{id}","status":"active","subject":[{{"reference":"Patient/a"}},{{"reference":"Patient/b"}}]}}"#
        );
        update(ResourceType::parse("Account").unwrap(), id, json(&text), None)
    };
    let account = ResourceType::parse("Account").unwrap();
    let all = by("patient/*.cruds");
    assert_eq!(one(&store, &all, both("planted")).await, Err(Error::Denied(Op::Update, account)));
    one(&store, &now(), both("shared")).await.unwrap();
    assert!(store.read(&all, account, "shared").await.is_ok());
    assert_eq!(one(&store, &all, of_kind(account, "shared")).await, Err(Error::Denied(Op::Delete, account)));
    // Criteria that find nothing need the right too.
    let criteria = Write::Delete {
        target: store::Target::Only(query("Observation?_id=nothing")),
        only_if: store::OnlyIf::Always,
    };
    assert_eq!(one(&store, &by("patient/Observation.rs"), criteria).await, denied(Op::Delete));
    // All or nothing.
    let commit = Commit { writes: vec![create("a"), create("b")], ..Commit::default() };
    let before = found(&store, &now(), "Observation").await.unwrap();
    assert_eq!(store.commit(&a, commit).await.map(drop), Err(Error::Denied(Op::Create, OBSERVATION)));
    assert_eq!(found(&store, &now(), "Observation").await.unwrap(), before);
}

async fn who_may_not_read_learns_nothing_by_a_patch(store: Store, _: String) {
    hospital(&store).await;
    let patch = || Write::Patch {
        target: store::Target::Id(OBSERVATION, "a1".into()),
        only_if: store::OnlyIf::Always,
        patch: store::Patch::new(|old| Ok(old.clone().into_owned())),
    };
    for scopes in
        ["patient/Observation.u", "patient/Observation.cud patient/Observation.r?status=preliminary"]
    {
        let denied = Err(Error::Denied(Op::Read, OBSERVATION));
        assert_eq!(one(&store, &with(scopes, "a"), patch()).await, denied, "{scopes}");
    }
    assert_eq!(one(&store, &with("patient/Observation.u", "b"), patch()).await, Err(Error::NotFound));
    assert!(one(&store, &with("patient/Observation.ru", "a"), patch()).await.is_ok());
}

/// The SQL of every scope with every query finds what the query finds alone, without what the scope does
/// not allow to be read.
async fn any_query_of_any_scope_finds_what_both_allow(store: Store, _: String) {
    hospital(&store).await;
    let queries = [
        "Observation",
        "Observation?status=final",
        "Observation?category=laboratory",
        "Observation?status:not=final",
        "Observation?category:missing=true",
        "Observation?_lastUpdated=gt2000&_sort=-_lastUpdated",
        "Observation?_sort=status",
        "Observation?subject=Patient/a",
        "Observation?patient=a,b&_sort=_id",
        "Observation?code:text=x",
        "Observation?_id=a1,b1",
    ];
    let scopes = [
        "patient/Observation.rs",
        "patient/*.rs",
        "patient/*.rs patient/Observation.rs?status=final",
        "patient/Observation.rs?status=final",
        "patient/Observation.rs?status=final&category=urn:c|laboratory",
        "patient/Observation.rs?status=final patient/Observation.rs?category=vital-signs",
        "user/Observation.rs?_id=a1 patient/Observation.rs?_id=b1",
        "user/*.rs",
    ];
    for patient in ["a", "b"] {
        for scopes in scopes {
            let context = with(scopes, patient);
            for text in queries {
                let mut expected = Vec::new();
                for one in found(&store, &now(), text).await.unwrap() {
                    let id = one.strip_prefix("Observation/").unwrap();
                    if store.read(&context, OBSERVATION, id).await.is_ok() {
                        expected.push(one);
                    }
                }
                assert_eq!(found(&store, &context, text).await.unwrap(), expected, "{scopes} {text}");
            }
        }
    }
}
