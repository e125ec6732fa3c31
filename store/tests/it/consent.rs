//! What a patient withholds is not found, read, counted or reached; and the glass can be broken.

use fhir::resource_type::ResourceType;
use fhir::scope::{Clinical, Op};
use serde_json::{Value, json};
use store::{Access, Agent, Context, Error, Grant, HistoryQuery, Options, Store, Who};

use crate::audit_kept::intrude;
use crate::place::*;

both!(
    what_is_withheld_is_not_there,
    who_is_meant,
    hops_end_at_what_is_withheld,
    numbers_go_with_what_they_stand_on,
    decisions_change,
    what_is_not_understood_denies,
    who_is_kept_from_a_record_does_not_end_it,
    what_was_said_before_is_withheld_too,
    many_ways_to_withhold,
    any_rule_means_the_same_everywhere,
    what_was_read_by_other_rules_is_read_again,
);

/// As a person with these scopes.
fn person(user: &str, scopes: &str) -> Context {
    let agent = Agent {
        client: Some("app".into()),
        user: Some("login".into()),
        fhir_user: Some(user.into()),
        ..Agent::default()
    };
    let grants = scopes.split(' ').map(|scope| Clinical::parse(scope).unwrap());
    let grants =
        grants.map(|scope| Grant { kind: scope.kind, may: scope.may, within: None, only: scope.only });
    Context { access: Access::Granted(grants.collect()), who: Who::new(agent), ..now() }
}

fn doctor() -> Context {
    person("Practitioner/dr", "user/*.cruds")
}

async fn put(store: &Store, resource: Value) {
    let text = resource.to_string();
    let kind = ResourceType::parse(resource["resourceType"].as_str().unwrap()).unwrap();
    let id = resource["id"].as_str().unwrap();
    one(store, &now(), update(kind, id, json(&text), None)).await.unwrap();
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn consent(id: &str, patient: &str, provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "patient": {"reference": format!("Patient/{patient}")}, "provision": provision,
    })
}

fn actor(reference: &str) -> Value {
    json!([{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": reference}}])
}

fn observed(id: &str, patient: &str, code: &str, year: u32) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "code": {"coding": [{"system": "urn:c", "code": code}]},
        "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": format!("{year}-05-05"),
    })
}

async fn hospital(store: &Store) {
    for resource in [
        json!({"resourceType": "Organization", "id": "org"}),
        json!({"resourceType": "Practitioner", "id": "dr"}),
        json!({"resourceType": "Patient", "id": "a", "name": [{"family": "Ann"}], "managingOrganization": {"reference": "Organization/org"}}),
        json!({"resourceType": "Patient", "id": "b", "name": [{"family": "Bob"}], "managingOrganization": {"reference": "Organization/org"}}),
        observed("a1", "a", "x", 2019),
        observed("a2", "a", "y", 2020),
        observed("b1", "b", "x", 2019),
        json!({"resourceType": "Condition", "id": "ac", "subject": {"reference": "Patient/a"}, "code": {"coding": [{"system": "urn:c", "code": "y"}]}}),
        json!({"resourceType": "Account", "id": "joint", "status": "active", "subject": [{"reference": "Patient/b"}, {"reference": "Patient/a"}]}),
    ] {
        put(store, resource).await;
    }
}

async fn found(store: &Store, context: &Context, text: &str) -> Vec<String> {
    let page = store.search(context, &query(text)).await.unwrap();
    let named = page.entries.iter().chain(&page.included).map(|one| format!("{}/{}", one.kind, one.id));
    let mut named: Vec<String> = named.collect();
    named.sort();
    named
}

fn history(kind: ResourceType, id: Option<&str>) -> HistoryQuery {
    let id = id.map(str::to_owned);
    HistoryQuery { kinds: vec![kind], id, since: None, at: None, count: 50, after: None, used: Vec::new() }
}

async fn what_is_withheld_is_not_there(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    assert_eq!(found(&store, &dr, "Observation").await.len(), 3);
    put(&store, consent("all", "a", json!({"type": "deny"}))).await;
    assert_eq!(found(&store, &dr, "Observation").await, ["Observation/b1"]);
    assert_eq!(found(&store, &dr, "Observation?patient=a").await, Vec::<String>::new());
    assert_eq!(found(&store, &dr, "Observation?patient=b").await, ["Observation/b1"]);
    assert_eq!(found(&store, &dr, "Observation?patient=b,a").await, ["Observation/b1"]);
    assert_eq!(found(&store, &dr, "Patient").await, ["Patient/b"]);
    // What is of several is withheld by any of them.
    assert_eq!(found(&store, &dr, "Account").await, Vec::<String>::new());
    assert_eq!(store.search(&dr, &query("Observation?_summary=count")).await.unwrap().total, Some(1));
    for (kind, id) in [(OBSERVATION, "a1"), (PATIENT, "a"), (ResourceType::CONDITION, "ac")] {
        assert_eq!(store.read(&dr, kind, id).await, Err(Error::NotFound));
        assert_eq!(store.vread(&dr, kind, id, 1).await, Err(Error::NotFound));
        assert_eq!(store.history(&dr, &history(kind, Some(id))).await.unwrap().entries.len(), 0);
    }
    assert_eq!(store.history(&dr, &history(OBSERVATION, None)).await.unwrap().entries.len(), 1);
    let mut everywhere = query("Observation");
    everywhere.kinds = ResourceType::all().collect();
    let page = store.search(&dr, &everywhere).await.unwrap();
    let mut ids: Vec<&str> = page.entries.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    // The decision itself is to be seen.
    assert_eq!(ids, ["all", "b", "b1", "dr", "org"]);
    // What is not seen is not changed, and no condition finds it; new data may come.
    let text = observed("a1", "a", "z", 2024).to_string();
    let denied = Err(Error::Denied(Op::Update, OBSERVATION));
    assert_eq!(one(&store, &dr, update(OBSERVATION, "a1", json(&text), None)).await, denied);
    let text = observed("a9", "a", "z", 2024).to_string();
    assert!(one(&store, &dr, update(OBSERVATION, "a9", json(&text), None)).await.is_ok());
    // The program itself reads all, and so does who breaks the glass.
    assert_eq!(found(&store, &now(), "Observation").await.len(), 4);
    let agent = Agent { purpose: Some("BTG".into()), ..dr.who.agent.clone() };
    let broken = Context { who: Who::new(agent), ..dr };
    assert_eq!(found(&store, &broken, "Observation").await.len(), 4);
    assert!(store.read(&broken, PATIENT, "a").await.is_ok());
}

async fn who_is_meant(store: Store, _: String) {
    hospital(&store).await;
    let of_a = async |context: &Context| found(&store, context, "Observation?patient=a").await.len();
    let nurse = person("Practitioner/nurse", "user/*.cruds");
    put(&store, consent("one", "a", json!({"type": "deny", "actor": actor("Practitioner/dr")}))).await;
    assert_eq!((of_a(&doctor()).await, of_a(&nurse).await), (0, 2));
    put(&store, consent("one", "a", json!({"type": "deny", "actor": actor("Organization/org")}))).await;
    assert_eq!((of_a(&doctor()).await, of_a(&nurse).await), (2, 2));
    let role = |active: bool| {
        json!({"resourceType": "PractitionerRole", "id": "r", "active": active,
            "practitioner": {"reference": "Practitioner/dr"}, "organization": {"reference": "Organization/org"}})
    };
    put(&store, role(true)).await;
    assert_eq!((of_a(&doctor()).await, of_a(&nurse).await), (0, 2));
    put(&store, role(false)).await;
    assert_eq!(of_a(&doctor()).await, 2);
    let team = json!({"resourceType": "CareTeam", "id": "t", "participant": [{"member": {"reference": "Practitioner/nurse"}}]});
    put(&store, team).await;
    put(&store, consent("one", "a", json!({"type": "deny", "actor": actor("CareTeam/t")}))).await;
    assert_eq!((of_a(&doctor()).await, of_a(&nurse).await), (2, 0));
    // A client by its id.
    let app =
        json!([{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"identifier": {"value": "app"}}}]);
    put(&store, consent("one", "a", json!({"type": "deny", "actor": app}))).await;
    assert_eq!(of_a(&doctor()).await, 0);
    // Everybody but one; the patient always.
    let but =
        json!({"type": "deny", "provision": [{"type": "permit", "actor": actor("Practitioner/nurse")}]});
    put(&store, consent("one", "a", but)).await;
    assert_eq!((of_a(&doctor()).await, of_a(&nurse).await), (0, 2));
    assert_eq!(of_a(&person("Patient/a", "user/*.cruds")).await, 2);
    assert_eq!(of_a(&person("Patient/b", "user/*.cruds")).await, 0);
}

async fn hops_end_at_what_is_withheld(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    put(&store, consent("all", "a", json!({"type": "deny"}))).await;
    let none = Vec::<String>::new();
    assert_eq!(found(&store, &dr, "Observation?patient.family=Ann").await, none);
    assert_eq!(found(&store, &dr, "Observation?patient.family=Bob").await, ["Observation/b1"]);
    assert_eq!(found(&store, &dr, "Organization?_has:Patient:organization:family=Ann").await, none);
    assert_eq!(found(&store, &dr, "Patient?_has:Observation:patient:code=y").await, none);
    let along = "Organization?_revinclude=Patient:organization&_revinclude:iterate=Observation:patient";
    assert_eq!(found(&store, &dr, along).await, ["Observation/b1", "Organization/org", "Patient/b"]);
    let list = json!({"resourceType": "List", "id": "l", "status": "current", "mode": "working",
        "entry": [{"item": {"reference": "Observation/a1"}}, {"item": {"reference": "Observation/b1"}}]});
    put(&store, list).await;
    assert_eq!(found(&store, &dr, "Observation?_list=l").await, ["Observation/b1"]);
    assert_eq!(found(&store, &dr, "List?_include=List:item").await, ["List/l", "Observation/b1"]);
}

async fn numbers_go_with_what_they_stand_on(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    let risk = json!({"resourceType": "RiskAssessment", "id": "ra", "status": "final", "subject": {"reference": "Patient/a"}});
    put(&store, risk).await;
    let deny = |provision: Value| consent("some", "a", provision);
    let code = json!([{"coding": [{"system": "urn:c", "code": "x"}]}]);
    put(&store, deny(json!({"type": "deny", "code": code}))).await;
    assert_eq!(found(&store, &dr, "Observation?patient=a").await, ["Observation/a2"]);
    assert_eq!(store.read(&dr, ResourceType::RISK_ASSESSMENT, "ra").await, Err(Error::NotFound));
    assert_eq!(found(&store, &dr, "RiskAssessment").await, Vec::<String>::new());
    // No number stands on a document.
    let class = json!([{"system": "http://hl7.org/fhir/resource-types", "code": "DocumentReference"}]);
    put(&store, deny(json!({"type": "deny", "class": class}))).await;
    assert_eq!(found(&store, &dr, "RiskAssessment").await, ["RiskAssessment/ra"]);
}

async fn decisions_change(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    let of_a = async || found(&store, &dr, "Observation?patient=a").await.len();
    let mut decision = consent("all", "a", json!({"type": "deny"}));
    put(&store, decision.clone()).await;
    assert_eq!(of_a().await, 0);
    for (status, seen) in
        [("inactive", 2), ("active", 0), ("entered-in-error", 2), ("active", 0), ("draft", 2)]
    {
        decision["status"] = json!(status);
        put(&store, decision.clone()).await;
        assert_eq!(of_a().await, seen, "{status}");
    }
    decision["status"] = json!("active");
    put(&store, decision.clone()).await;
    one(&store, &now(), delete(ResourceType::CONSENT, "all")).await.unwrap();
    assert_eq!(of_a().await, 2);
    // HL7's opt-out, without a rule.
    decision["policyRule"]["coding"][0]["code"] = json!("OPTOUT");
    decision.as_object_mut().unwrap().remove("provision");
    put(&store, decision.clone()).await;
    assert_eq!(of_a().await, 0);
    // It is about research.
    decision["scope"]["coding"][0]["code"] = json!("research");
    put(&store, decision.clone()).await;
    assert_eq!(of_a().await, 2);
    // What is not understood denies more, and permits nothing.
    let strange = json!([{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]);
    put(&store, consent("all", "a", json!({"type": "deny", "class": strange}))).await;
    assert_eq!(of_a().await, 0);
    let permit = json!({"type": "deny", "provision": [{"type": "permit", "class": strange}]});
    put(&store, consent("all", "a", permit)).await;
    assert_eq!(of_a().await, 0);
    // To change is another thing than to read.
    let correct = json!([{"coding": [{"code": "correct"}]}]);
    put(&store, consent("all", "a", json!({"type": "deny", "action": correct}))).await;
    assert_eq!(of_a().await, 2);
}

async fn what_is_not_understood_denies(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    let of_a = async || found(&store, &dr, "Observation?patient=a").await.len();
    let strange = json!([{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]);
    let by_name =
        json!([{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"display": "the doctor next door"}}]);
    let mut deep = json!({"type": "permit"});
    for _ in 0..20 {
        deep = json!({"type": "permit", "provision": [deep]});
    }
    let nested = json!([{"type": "deny", "actor": actor("Practitioner/dr")}]);
    for (rule, seen) in [
        (json!({"type": "deny", "action": [{"text": "any use"}]}), 0),
        (json!({"type": "deny", "action": [{"coding": [{"code": "local"}]}]}), 0),
        (json!({"type": "deny", "action": [{"coding": [{"code": "collect"}]}]}), 2),
        (json!({"type": "deny", "provision": [{"type": "permit", "purpose": [{"display": "research"}]}]}), 0),
        (json!({"type": "deny", "purpose": [{"display": "research"}]}), 0),
        (json!({"type": "permit", "class": strange, "provision": nested}), 0),
        (json!({"type": "permit", "action": [{"coding": [{"code": "collect"}]}], "provision": nested}), 0),
        (json!({"type": "deny", "actor": by_name}), 0),
        (json!({"type": "deny", "provision": [{"type": "permit", "actor": by_name}]}), 0),
        (json!({"type": "permit", "actor": by_name}), 2),
        (json!({"type": "permit", "provision": [deep]}), 0),
        (
            json!({"type": "deny", "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}]}),
            2,
        ),
    ] {
        put(&store, consent("c", "a", rule.clone())).await;
        assert_eq!(of_a().await, seen, "{rule}");
    }
    // Whose record it is must be known, or nothing would be withheld.
    for patient in
        [json!({"display": "Ann"}), json!({"reference": "https://elsewhere.example/fhir/Patient/a"})]
    {
        let mut unclear = consent("d", "a", json!({"type": "deny"}));
        unclear["patient"] = patient;
        let written =
            one(&store, &now(), update(ResourceType::CONSENT, "d", json(&unclear.to_string()), None)).await;
        assert!(
            matches!(&written, Err(Error::Invalid(issues)) if issues.0[0].expression == "Consent.patient"),
            "{written:?}"
        );
        unclear["provision"]["type"] = json!("permit");
        assert!(
            one(&store, &now(), update(ResourceType::CONSENT, "d", json(&unclear.to_string()), None))
                .await
                .is_ok()
        );
    }
}

async fn who_is_kept_from_a_record_does_not_end_it(store: Store, _: String) {
    hospital(&store).await;
    let decision = consent("all", "a", json!({"type": "deny"}));
    put(&store, decision.clone()).await;
    let dr = person("Practitioner/dr", "user/*.cruds user/Consent.cruds");
    let denied = |op| Err(Error::Denied(op, ResourceType::CONSENT));
    assert!(store.read(&dr, ResourceType::CONSENT, "all").await.is_ok());
    assert_eq!(one(&store, &dr, delete(ResourceType::CONSENT, "all")).await, denied(Op::Delete));
    let mut ended = decision;
    ended["status"] = json!("inactive");
    let end = || update(ResourceType::CONSENT, "all", json(&ended.to_string()), None);
    assert_eq!(one(&store, &dr, end()).await, denied(Op::Update));
    let agent = Agent { purpose: Some("BTG".into()), ..dr.who.agent.clone() };
    let broken = Context { who: Who::new(agent), ..dr };
    assert_eq!(one(&store, &broken, end()).await, denied(Op::Update));
    // A program does that has a right by that name, and the patient.
    let program = |scopes: &str| {
        let who = Who::new(Agent { client: Some("portal".into()), ..Agent::default() });
        Context { who, ..person("", scopes) }
    };
    assert_eq!(one(&store, &program("system/*.cruds"), end()).await, denied(Op::Update));
    assert!(one(&store, &program("system/*.cruds system/Consent.cruds"), end()).await.is_ok());
    put(&store, consent("all", "a", json!({"type": "deny"}))).await;
    assert!(one(&store, &person("Patient/a", "user/*.cruds"), end()).await.is_ok());
}

async fn what_was_said_before_is_withheld_too(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    let label = json!([{"system": "urn:l", "code": "R"}]);
    put(&store, consent("c", "a", json!({"type": "deny", "securityLabel": label}))).await;
    assert!(store.vread(&dr, OBSERVATION, "a1", 1).await.is_ok());
    let mut labelled = observed("a1", "a", "x", 2019);
    labelled["meta"] = json!({"security": label});
    put(&store, labelled).await;
    assert_eq!(store.read(&dr, OBSERVATION, "a1").await, Err(Error::NotFound));
    assert_eq!(store.vread(&dr, OBSERVATION, "a1", 1).await, Err(Error::NotFound));
    assert_eq!(store.history(&dr, &history(OBSERVATION, Some("a1"))).await.unwrap().entries.len(), 0);
    assert_eq!(store.history(&dr, &history(OBSERVATION, None)).await.unwrap().entries.len(), 2);
    one(&store, &now(), delete(OBSERVATION, "a1")).await.unwrap();
    assert_eq!(store.vread(&dr, OBSERVATION, "a1", 1).await, Err(Error::NotFound));
}

/// Each patient in a way of their own: no statement is too long for it, and each chart is exact.
async fn many_ways_to_withhold(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    for n in 0..400 {
        let id = format!("m{n}");
        put(&store, json!({"resourceType": "Patient", "id": id})).await;
        put(&store, observed(&format!("{id}-x"), &id, "x", 2019)).await;
        put(&store, observed(&format!("{id}-y"), &id, "y", 2020)).await;
        let from = format!("2020-01-01T00:{:02}:{:02}Z", n / 60, n % 60);
        put(&store, consent(&id, &id, json!({"type": "deny", "dataPeriod": {"start": from}}))).await;
    }
    for n in [0, 399] {
        let of_one = found(&store, &dr, &format!("Observation?patient=m{n}")).await;
        assert_eq!(of_one, [format!("Observation/m{n}-x")]);
        assert_eq!(store.read(&dr, OBSERVATION, &format!("m{n}-y")).await, Err(Error::NotFound));
        assert!(store.read(&dr, OBSERVATION, &format!("m{n}-x")).await.is_ok());
    }
    let y = found(&store, &dr, "Observation?code=y&_count=1000").await;
    assert_eq!(y, ["Observation/a2"]);
    let x = found(&store, &dr, "Observation?code=x&_count=1000").await;
    assert!((66..=402).contains(&x.len()), "{}", x.len());
    let by_has = found(&store, &dr, "Patient?_has:Observation:patient:code=y").await;
    assert_eq!(by_has, ["Patient/a"]);
}

/// A small generator of numbers that come again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn rule(dice: &mut Dice, depth: u32) -> Value {
    let mut rule = json!({"type": if dice.roll(2) == 0 { "deny" } else { "permit" }});
    match dice.roll(4) {
        0 => rule["actor"] = actor("Practitioner/dr"),
        1 => rule["actor"] = actor("Practitioner/nurse"),
        _ => {}
    }
    match dice.roll(5) {
        0 => rule["period"] = json!({"end": "2020-01-01"}),
        1 => rule["period"] = json!({"start": "2020-01-01", "end": "2030-01-01"}),
        _ => {}
    }
    if dice.roll(3) == 0 {
        let code = if dice.roll(2) == 0 { "Observation" } else { "Condition" };
        rule["class"] = json!([{"system": "http://hl7.org/fhir/resource-types", "code": code}]);
    }
    if dice.roll(3) == 0 {
        let code = if dice.roll(2) == 0 { "x" } else { "y" };
        rule["code"] = json!([{"coding": [{"system": "urn:c", "code": code}]}]);
    }
    if dice.roll(4) == 0 {
        rule["dataPeriod"] = json!({"start": "2020-01-01", "end": "2020-12-31"});
    }
    if depth > 0 && dice.roll(2) == 0 {
        let nested: Vec<Value> = (0..=dice.roll(2)).map(|_| self::rule(dice, depth - 1)).collect();
        rule["provision"] = json!(nested);
    }
    rule
}

/// The last word of a rule about a resource, read off the JSON of both: none if it is not about it.
fn word(rule: &Value, resource: &Value) -> Option<bool> {
    let denies = rule["type"] == "deny";
    let is = |member: &str, fits: &dyn Fn(&Value) -> bool| rule.get(member).is_none_or(fits);
    let about = is("actor", &|actor| actor[0]["reference"]["reference"] == "Practitioner/dr")
        && is("period", &|period| period["end"] != "2020-01-01")
        && is("class", &|class| class[0]["code"] == resource["resourceType"])
        && is("code", &|code| code[0]["coding"][0]["code"] == resource["code"]["coding"][0]["code"])
        && is("dataPeriod", &|_| {
            resource["effectiveDateTime"].as_str().map_or(denies, |date| date.starts_with("2020"))
        });
    if !about {
        return None;
    }
    let nested: Vec<&Value> = rule["provision"].as_array().into_iter().flatten().collect();
    let words = nested.iter().filter_map(|rule| Some((rule["type"] == "deny", word(rule, resource)?)));
    let mut words = words.filter(|(of, word)| !denies || !of || *word);
    // Whatever takes away within a rule that permits counts; within one that denies, what it gives back.
    let other = if denies { words.any(|(of, word)| !of && !word) } else { words.any(|(_, word)| word) };
    Some(denies != other)
}

async fn any_rule_means_the_same_everywhere(store: Store, _: String) {
    hospital(&store).await;
    let dr = doctor();
    let mut dice = Dice(7);
    let mut withheld = 0;
    for _ in 0..80 {
        let rule = rule(&mut dice, 2);
        put(&store, consent("c", "a", rule.clone())).await;
        for kind in ["Observation", "Condition"] {
            let mut seen = Vec::new();
            for one in found(&store, &now(), kind).await {
                let id = one.split('/').next_back().unwrap();
                let of = ResourceType::parse(kind).unwrap();
                let body = store.read(&now(), of, id).await.unwrap().body;
                let resource: Value = serde_json::from_str(&body).unwrap();
                let denied =
                    resource["subject"]["reference"] == "Patient/a" && word(&rule, &resource) == Some(true);
                assert_eq!(store.read(&dr, of, id).await.is_ok(), !denied, "{one} {rule}");
                withheld += usize::from(denied);
                if !denied {
                    seen.push(one);
                }
            }
            assert_eq!(found(&store, &dr, kind).await, seen, "{rule}");
            let own: Vec<String> = seen.iter().filter(|one| !one.ends_with("b1")).cloned().collect();
            assert_eq!(found(&store, &dr, &format!("{kind}?patient=a")).await, own, "{rule}");
        }
    }
    assert!(withheld > 20, "{withheld}");
}

async fn what_was_read_by_other_rules_is_read_again(store: Store, url: String) {
    for resource in [
        json!({"resourceType": "Patient", "id": "a"}),
        consent("c", "a", json!({"type": "deny"})),
        consent("d", "a", json!({"type": "permit"})),
    ] {
        put(&store, resource).await;
    }
    let reads = async |store: &Store| store.read(&doctor(), ResourceType::PATIENT, "a").await;
    assert!(reads(&store).await.is_err());
    drop(store);
    let open = || Store::open(&url, &Options::default()).unwrap();
    intrude(&url, "DELETE FROM denial; UPDATE denial_state SET generation = 7");
    assert!(reads(&open()).await.is_ok());
    intrude(&url, "UPDATE denial_state SET rules = 0");
    assert!(reads(&open()).await.is_err());
}
