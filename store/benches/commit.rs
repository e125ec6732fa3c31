//! How fast single Observations and bundles become durable, and how fast they are read:
//! `cargo bench -p store` on a new SQLite file, and on `AUGURY_TEST_POSTGRES` if that is set.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark")]

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use fhir::json::Limits;
use fhir::reference::{hash, hash_text};
use fhir::resource_type::ResourceType;
use fhir::search::parameter;
use store::{About, Commit, Context, NewTask, Options, Store, Wanted, Write};

const NOW: i64 = 1_714_979_289_000_000;

fn observation(n: usize) -> String {
    let code = ["8480-6", "8462-4", "2093-3", "2085-9", "2160-0", "4548-4"].get(n % 6).unwrap();
    format!(
        r#"{{"resourceType":"Observation","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital Signs"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"{code}","display":"Something that is measured"}}],"text":"Something that is measured"}},"subject":{{"reference":"Patient/p{}"}},"encounter":{{"reference":"Encounter/e{n}"}},"effectiveDateTime":"2024-{:02}-{:02}T10:00:00Z","issued":"2024-01-01T10:00:00.000Z","performer":[{{"reference":"Practitioner/x"}}],"valueQuantity":{{"value":{}.50,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},"note":[{{"text":"{}"}}]}}"#,
        n % 1000,
        n % 12 + 1,
        n % 28 + 1,
        n % 200,
        "x".repeat(400)
    )
}

fn commit(text: &str) -> Commit<'_> {
    let resource = fhir::json::parse(text.as_bytes(), &Limits::default()).unwrap();
    Commit {
        writes: vec![Write::Create { resource, id: None, if_none_exist: None }],
        tasks: vec![NewTask { topic: 1, due: NOW, about: About::Write(0) }],
        ..Commit::default()
    }
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

async fn timed<F: Future<Output = usize>>(name: &str, work: F) {
    let (begun, before) = (Instant::now(), cpu());
    let done = work.await as f64;
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu().saturating_sub(before).as_secs_f64());
    println!("{name:44} {:>9.0}/s {:>8.1} us CPU each", done / wall, cpu / done * 1e6);
}

async fn singles(store: &Store, callers: usize, seconds: u64) -> usize {
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks = (0..callers).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                let text = observation(caller * 7919 + done);
                store.commit(&Context::system("bench", NOW), commit(&text)).await.unwrap();
                done += 1;
            }
            done
        })
    });
    futures_util::future::join_all(tasks).await.into_iter().map(Result::unwrap).sum()
}

async fn bundles(store: &Store, size: usize, number: usize) -> usize {
    for bundle in 0..number {
        let texts: Vec<String> = (0..size).map(|n| observation(bundle * size + n)).collect();
        let writes = texts
            .iter()
            .map(|text| Write::Create {
                resource: fhir::json::parse(text.as_bytes(), &Limits::default()).unwrap(),
                id: None,
                if_none_exist: None,
            })
            .collect();
        let tasks = (0..size).map(|n| NewTask { topic: 1, due: NOW, about: About::Write(n) }).collect();
        let whole = Commit { writes, tasks, ..Commit::default() };
        store.commit(&Context::system("bench", NOW), whole).await.unwrap();
    }
    size * number
}

async fn reads(store: &Store, callers: usize, number: usize) -> usize {
    let id = {
        let text = observation(0);
        let written = store.commit(&Context::system("bench", NOW), commit(&text)).await.unwrap();
        written.first().unwrap().stored.id.clone()
    };
    let tasks = (0..callers).map(|_| {
        let (store, id) = (store.clone(), id.clone());
        tokio::spawn(async move {
            for _ in 0..number {
                store.read(&Context::system("bench", NOW), ResourceType::OBSERVATION, &id).await.unwrap();
            }
        })
    });
    futures_util::future::join_all(tasks).await;
    callers * number
}

async fn gathers(store: &Store, number: usize) -> usize {
    let params = &parameter(ResourceType::OBSERVATION, "combo-code").unwrap().params;
    let codes = ["8480-6", "8462-4", "2093-3", "2085-9", "2160-0", "4548-4"];
    for n in 0..number {
        let patient = hash(ResourceType::PATIENT, &format!("p{}", n % 1000));
        let values: Vec<i64> =
            codes.iter().copied().chain(std::iter::repeat_n("none", 40)).map(hash_text).collect();
        store
            .reading(&Context::system("bench", NOW), move |reader| {
                let wanted = |param: &i64| Wanted { param: *param, values: &values, each: 3 };
                Ok(reader.latest(patient, &params.iter().map(wanted).collect::<Vec<_>>())?.found)
            })
            .await
            .unwrap();
    }
    number
}

async fn drains(store: &Store) -> usize {
    let mut done = 0;
    loop {
        let worked =
            store.work(&Context::system("bench", NOW), 64, |_, _| Ok(Commit::default())).await.unwrap();
        if worked.done == 0 || done > 20_000 {
            return done;
        }
        done += worked.done;
    }
}

fn run(name: &str, url: &str) {
    println!("{name}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let store = Store::open(url, &Options::default()).unwrap();
        println!("  open {:?}", begun.elapsed());
        timed("  commit, 1 caller", singles(&store, 1, 3)).await;
        timed("  commit, 16 callers", singles(&store, 16, 3)).await;
        timed("  commit, 64 callers", singles(&store, 64, 6)).await;
        timed("  bundles of 231, 1 caller", bundles(&store, 231, 60)).await;
        timed("  read by id, 16 callers", reads(&store, 16, 2000)).await;
        timed("  newest of 46 codes of a patient", gathers(&store, 2000)).await;
        timed("  tasks claimed and ended", drains(&store)).await;
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("  {}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
}

fn main() {
    let folder = std::env::temp_dir().join(format!("augury-bench-{}", store::new_id()));
    std::fs::create_dir_all(&folder).unwrap();
    run("SQLite", &format!("sqlite:{}", folder.join("store.db").display()));
    let _ = std::fs::remove_dir_all(folder);
    if let Ok(server) = std::env::var("AUGURY_TEST_POSTGRES") {
        let schema = format!("b{}", store::new_id().replace('-', ""));
        let mut connection = PgConnection::establish(&server).unwrap();
        connection.batch_execute(&format!("CREATE SCHEMA {schema}")).unwrap();
        run("PostgreSQL", &format!("{server}?options=-csearch_path%3D{schema}"));
        connection.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).unwrap();
    }
}
