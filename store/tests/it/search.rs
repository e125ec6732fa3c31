//! Searches find what they should, in order, page by page.

use fhir::reference::{hash, hash_text};
use fhir::search::parameter;
use store::{Error, Store, Wanted};

use crate::place::*;

both!(
    a_chart_by_code_and_date,
    pages_follow_each_other,
    tokens_with_and_without_system,
    dates_by_prefix,
    strings_and_ids,
    sorting,
    sql_and_memory_agree,
    the_newest_of_each_code,
    a_search_that_takes_too_long_is_ended,
);

async fn chart(store: &Store) {
    for (n, (patient, code, date)) in [
        ("a", "2093-3", "2020-01-01"),
        ("a", "2093-3", "2022-01-01"),
        ("a", "2085-9", "2021-06-01T10:00:00+02:00"),
        ("a", "2093-3", "2021-01"),
        ("b", "2093-3", "2023-01-01"),
        ("b", "2160-0", "2019-01-01"),
    ]
    .into_iter()
    .enumerate()
    {
        let one_more = update(OBSERVATION, &format!("o{n}"), observation(patient, code, date, "1"), None);
        one(store, &at(i64::try_from(n).unwrap()), one_more).await.unwrap();
    }
}

async fn a_chart_by_code_and_date(store: Store, _: String) {
    chart(&store).await;
    assert_eq!(ids(&store, "Observation?patient=a&code=2093-3").await, ["o1", "o3", "o0"]);
    assert_eq!(ids(&store, "Observation?subject=Patient/a").await, ["o1", "o2", "o3", "o0"]);
    assert_eq!(
        ids(&store, "Observation?patient=a&code=2093-3,2085-9&_sort=date").await,
        ["o0", "o3", "o2", "o1"]
    );
    assert_eq!(ids(&store, "Observation?patient=a&code=2093-3&date=ge2021").await, ["o1", "o3"]);
    assert_eq!(
        ids(&store, "Observation?patient=a,b&code=2093-3&date=ge2022&_sort=-date").await,
        ["o4", "o1"]
    );
    assert!(ids(&store, "Observation?patient=a&code=2160-0").await.is_empty());
    assert!(ids(&store, "Observation?patient=nobody").await.is_empty());
}

async fn pages_follow_each_other(store: Store, _: String) {
    let all: Vec<_> = (0..53)
        .map(|n| {
            let date = format!("2024-01-{:02}", n % 5 + 1);
            update(
                OBSERVATION,
                &format!("o{n:02}"),
                observation(["a", "b"][n % 2], "2093-3", &date, "1"),
                None,
            )
        })
        .collect();
    store.commit(&now(), writes(all)).await.unwrap();
    for (text, total) in [
        ("Observation?code=2093-3", 53),
        ("Observation?patient=a&code=2093-3", 27),
        ("Observation?patient=a,b&_sort=-date", 53),
        ("Observation?code=2093-3&_sort=_lastUpdated", 53),
        ("Observation?_sort=-_id", 53),
        ("Observation?_sort=date", 53),
        ("Observation", 53),
    ] {
        let mut wanted = query(text);
        wanted.count = 10;
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = store.search(&now(), &wanted).await.unwrap();
            assert!(page.entries.len() <= 10);
            assert!(page.total.is_none());
            seen.extend(page.entries.into_iter().map(|stored| stored.id));
            match page.next {
                Some(next) => wanted.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), total, "{text}");
        let whole =
            ids(&store, &format!("{text}{}_count=1000", if text.contains('?') { '&' } else { '?' })).await;
        assert_eq!(seen, whole, "{text}");
    }
    let mut wanted = query("Observation?patient=a&_total=accurate&_count=2");
    assert_eq!(store.search(&now(), &wanted).await.unwrap().total, Some(27));
    for page in [
        "x",
        "1_a_2",
        "1_2_3_4",
        "[1]",
        "[[],\"x\"]",
        "id.x",
        "9999999999999999999_1_1",
        "1_1_1; DROP TABLE resource",
    ] {
        wanted.after = Some(page.into());
        let refused = store.search(&now(), &wanted).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{page}");
    }
}

async fn tokens_with_and_without_system(store: Store, _: String) {
    let two = json(
        r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"A"},{"system":"http://snomed.info/sct","code":"A"},{"code":"B"}]},"subject":{"reference":"Patient/p"}}"#,
    );
    one(&store, &now(), update(OBSERVATION, "o", two, None)).await.unwrap();
    for found in [
        "code=A",
        "code=http://loinc.org|A",
        "code=|B",
        "code=X,A",
        "code=http://loinc.org|",
        "status=final&code=B",
    ] {
        assert_eq!(ids(&store, &format!("Observation?{found}")).await, ["o"], "{found}");
    }
    for missing in ["code=|A", "code=http://loinc.org|B", "code=C", "code=A&status=amended", "code=http://x|"]
    {
        assert!(ids(&store, &format!("Observation?{missing}")).await.is_empty(), "{missing}");
    }
}

async fn dates_by_prefix(store: Store, _: String) {
    let period = json(
        r#"{"resourceType":"Observation","status":"final","effectivePeriod":{"start":"2024-03-01","end":"2024-03-31"}}"#,
    );
    one(&store, &now(), update(OBSERVATION, "o", period, None)).await.unwrap();
    for found in [
        "2024",
        "2024-03",
        "gt2024-03-15",
        "ge2024-03-31",
        "lt2024-03-15",
        "le2024-03-01",
        "ne2024-03-15",
        "sa2024-02",
        "eb2024-04",
    ] {
        assert_eq!(ids(&store, &format!("Observation?date={found}")).await, ["o"], "{found}");
    }
    for missing in ["2024-03-15", "gt2024-03-31", "lt2024-03-01", "sa2024-03-01", "eb2024-03-31", "ne2024"] {
        assert!(ids(&store, &format!("Observation?date={missing}")).await.is_empty(), "{missing}");
    }
    assert_eq!(ids(&store, "Observation?_lastUpdated=2024-05-06").await, ["o"]);
    assert!(ids(&store, "Observation?_lastUpdated=gt2024-05-06").await.is_empty());
}

async fn strings_and_ids(store: Store, _: String) {
    let named =
        |family: &str| json(&format!(r#"{{"resourceType":"Patient","name":[{{"family":"{family}"}}]}}"#));
    for (id, family) in [("a", "Müller"), ("b", "Muster"), ("c", "Mu%"), ("d", "M")] {
        one(&store, &now(), update(PATIENT, id, named(family), None)).await.unwrap();
    }
    assert_eq!(ids(&store, "Patient?family=mü&_sort=-_id").await, ["c", "b", "a"]);
    assert_eq!(ids(&store, "Patient?family=mul,mus&_sort=_id").await, ["a", "b"]);
    assert_eq!(ids(&store, "Patient?family:contains=U%").await, ["c"]);
    assert_eq!(ids(&store, "Patient?_sort=family").await, ["d", "c", "a", "b"]);
    assert_eq!(ids(&store, "Patient?family:exact=m").await, Vec::<String>::new());
    assert_eq!(ids(&store, "Patient?family=m%").await, Vec::<String>::new());
    assert_eq!(ids(&store, "Patient?family:exact=M").await, ["d"]);
    assert_eq!(ids(&store, "Patient?_id=b,d,x&_sort=-_id").await, ["d", "b"]);
    assert_eq!(ids(&store, "Patient?_id=b&family=mus").await, ["b"]);
}

async fn sorting(store: Store, _: String) {
    chart(&store).await;
    assert_eq!(ids(&store, "Observation?_sort=_lastUpdated").await, ["o0", "o1", "o2", "o3", "o4", "o5"]);
    assert_eq!(ids(&store, "Observation?_sort=-date").await, ["o4", "o1", "o2", "o3", "o0", "o5"]);
    assert_eq!(ids(&store, "Observation?code=2093-3&_sort=-_lastUpdated").await, ["o4", "o3", "o1", "o0"]);
    assert_eq!(ids(&store, "Observation?patient=b&_sort=_id").await, ["o4", "o5"]);
    // What has no date stands where it was written, by whatever way it is found.
    let undated = r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"2160-0"}]},"subject":{"reference":"Patient/b"}}"#;
    one(&store, &at(9), update(OBSERVATION, "none", json(undated), None)).await.unwrap();
    for chart in ["", "code=2160-0,2093-3&", "patient=b&", "patient=b&code=2160-0,2093-3&"] {
        let found = ids(&store, &format!("Observation?{chart}_sort=-date")).await;
        assert_eq!(found[..2], ["none", "o4"], "{chart}");
        let found = ids(&store, &format!("Observation?{chart}_sort=date")).await;
        assert_eq!(found.last().unwrap(), "none", "{chart}");
    }
}

/// The same conditions in SQL and in memory, over many resources and queries.
async fn sql_and_memory_agree(store: Store, _: String) {
    let (patients, codes) = (["a", "b", "c"], ["2093-3", "2085-9", "2160-0"]);
    let dates = ["2020", "2021-03", "2021-03-04", "2021-03-04T05:06:07Z", "2021-03-04T05:06:07.5+01:00"];
    let mut all = Vec::new();
    for n in 0..90 {
        let resource = observation(patients[n % 3], codes[n / 3 % 3], dates[n % 5], "1");
        all.push(update(OBSERVATION, &format!("o{n}"), resource, None));
    }
    let written = store.commit(&now(), writes(all)).await.unwrap();
    for text in [
        "patient=a",
        "patient=a&code=2093-3",
        "code=2093-3,2085-9",
        "patient=b,c&code=http://loinc.org|2160-0",
        "date=2021",
        "date=lt2021-03-04&patient=a",
        "date=ge2021-03-04T05&code=2093-3",
        "date=ne2021-03-04,2020",
        "status=final&patient=c&date=sa2020",
        "status=final",
        "status=amended",
        "_id=o1,o2,o70&patient=b",
        "_lastUpdated=ge2024&code=2085-9",
        "subject=a",
        "combo-code=2085-9&date=eb2021-03-05",
    ] {
        let Some(mut wanted) = try_query(&format!("Observation?{text}")) else { continue };
        wanted.count = 1000;
        let found: std::collections::BTreeSet<String> =
            store.search(&now(), &wanted).await.unwrap().entries.into_iter().map(|one| one.id).collect();
        let expected: std::collections::BTreeSet<String> = written
            .iter()
            .filter(|one| {
                let index = fhir::search::index(OBSERVATION, &json(&one.stored.body));
                wanted.clauses.iter().all(|clause| clause.matches(&index, &one.stored.id, one.stored.updated))
            })
            .map(|one| one.stored.id.clone())
            .collect();
        assert_eq!(found, expected, "{text}");
        wanted.count_only = true;
        let total = store.search(&now(), &wanted).await.unwrap().total;
        assert_eq!(total, u64::try_from(expected.len()).ok(), "{text}");
    }
}

fn try_query(text: &str) -> Option<fhir::search::SearchQuery> {
    let (_, criteria) = text.split_once('?')?;
    let pairs: Vec<(String, String)> = criteria
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let parsed =
        fhir::search::SearchQuery::parse(&[OBSERVATION], &pairs, "", 0, fhir::search::Handling::Strict);
    parsed.ok().map(|(query, _)| query)
}

async fn the_newest_of_each_code(store: Store, _: String) {
    chart(&store).await;
    let codes = vec![hash_text("2093-3"), hash_text("2085-9"), hash_text("none")];
    let of_code = newest(&store, "combo-code", codes.clone(), 2).await;
    assert_eq!(of_code, ["o1", "o2", "o3"]);
    assert_eq!(newest(&store, "patient", vec![hash(PATIENT, "a")], 100).await, ["o1", "o2", "o3", "o0"]);
    // A chart of many years is read another way and answers the same.
    let weights = (0..1600)
        .map(|n| update(OBSERVATION, &format!("w{n}"), observation("a", "29463-7", "2020-01-01", "1"), None))
        .collect();
    store.commit(&now(), writes(weights)).await.unwrap();
    assert_eq!(newest(&store, "combo-code", codes, 2).await, of_code);
    assert_eq!(newest(&store, "patient", vec![hash(PATIENT, "a")], 3).await, ["o1", "o2", "o3"]);
}

async fn newest(store: &Store, code: &str, values: Vec<i64>, each: usize) -> Vec<String> {
    let param = parameter(OBSERVATION, code).unwrap().params[0];
    let found = store
        .reading(&now(), move |reader| {
            reader.latest(hash(PATIENT, "a"), &[Wanted { param, values: &values, each }])
        })
        .await
        .unwrap();
    found.found.into_iter().map(|stored| stored.id).collect()
}

async fn a_search_that_takes_too_long_is_ended(store: Store, url: String) {
    for part in 0..4 {
        let many = (0..1000)
            .map(|n| {
                update(
                    OBSERVATION,
                    &format!("o{part}-{n}"),
                    observation("a", "29463-7", "2020-01-01", "1"),
                    None,
                )
            })
            .collect();
        store.commit(&now(), writes(many)).await.unwrap();
    }
    // In the middle of it too: the rows are looked at one by one, and others are done with at once.
    let texts: Vec<String> = (1..200).map(|n| "x".repeat(n)).collect();
    let long = query(&format!("Observation?status=final&code:not=none&identifier:not={}", texts.join(",")));
    let patience = std::time::Duration::from_millis(2);
    let hurried = Store::open(&url, &store::Options { patience, ..store::Options::default() }).unwrap();
    let ended = hurried.search(&now(), &long).await;
    assert!(matches!(ended, Err(Error::Busy)), "{ended:?}");
    // PostgreSQL takes it for a millisecond.
    let patience = std::time::Duration::ZERO;
    let hasty = Store::open(&url, &store::Options { patience, ..store::Options::default() }).unwrap();
    for text in
        ["value-quantity=gt5", "code=29463-7&value-quantity=gt5&_total=accurate", "_sort=value-quantity"]
    {
        let slow = query(&format!("Observation?{text}"));
        let ended = hasty.search(&now(), &slow).await;
        assert!(matches!(ended, Err(Error::Busy)), "{text}");
        store.search(&now(), &slow).await.unwrap();
    }
    // The connection goes on being of use.
    assert_eq!(hasty.read(&now(), OBSERVATION, "o0-1").await.unwrap().version, 1);
}
