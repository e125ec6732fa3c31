//! A database of its own for each test, and the shorthand the tests are written in.

use std::future::Future;
use std::path::PathBuf;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use fhir::json::{Json, Limits};
use fhir::resource_type::ResourceType;
use fhir::search::{Handling, SearchQuery};
use store::{Commit, Context, Error, HistoryQuery, OnlyIf, Options, Store, Stored, Target, Write, Written};

pub(crate) const OBSERVATION: ResourceType = ResourceType::OBSERVATION;
pub(crate) const PATIENT: ResourceType = ResourceType::PATIENT;
/// 2024-05-06T07:08:09Z
pub(crate) const NOW: i64 = 1_714_979_289_000_000;

pub(crate) struct Place {
    pub(crate) url: String,
    folder: Option<PathBuf>,
    schema: Option<(String, String)>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("augury-store-{}", store::new_id()));
        std::fs::create_dir_all(&folder).unwrap();
        let url = format!("sqlite:{}", folder.join("store.db").display());
        Self { url, folder: Some(folder), schema: None }
    }

    pub(crate) fn postgres() -> Self {
        let server = std::env::var("AUGURY_TEST_POSTGRES")
            .expect("AUGURY_TEST_POSTGRES must be the URL of a PostgreSQL database for tests");
        let schema = format!("t{}", store::new_id().replace('-', ""));
        let mut connection = PgConnection::establish(&server).unwrap();
        connection.batch_execute(&format!("CREATE SCHEMA {schema}")).unwrap();
        let mark = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{mark}options=-csearch_path%3D{schema}&application_name={schema}");
        Self { url, folder: None, schema: Some((server, schema)) }
    }

    /// Ends all connections to this place, as a restart of the server does.
    pub(crate) fn cut(&self) {
        let (server, schema) = self.schema.as_ref().unwrap();
        let mut connection = PgConnection::establish(server).unwrap();
        connection
            .batch_execute(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{schema}'"
            ))
            .unwrap();
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.url, &Options { connections: 8, ..Options::default() }).unwrap()
    }

    pub(crate) fn run<F: Future<Output = ()>>(self, test: impl FnOnce(Store, String) -> F) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(self.open(), self.url.clone()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        if let Some((server, schema)) = &self.schema
            && let Ok(mut connection) = PgConnection::establish(server)
        {
            let _ = connection.batch_execute(&format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

pub(crate) fn now() -> Context {
    Context::system("test", NOW)
}

pub(crate) fn at(seconds: i64) -> Context {
    Context::system("test", NOW + seconds * 1_000_000)
}

pub(crate) fn json(text: &str) -> Json<'static> {
    fhir::json::parse(text.as_bytes(), &Limits::default()).unwrap().into_owned()
}

pub(crate) fn query(text: &str) -> SearchQuery {
    let (kind, criteria) = text.split_once('?').unwrap_or((text, ""));
    let pairs: Vec<(String, String)> = criteria
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    SearchQuery::parse(&[ResourceType::parse(kind).unwrap()], &pairs, "", 0, Handling::Strict).unwrap().0
}

pub(crate) fn patient(identifier: &str) -> Json<'static> {
    json(&format!(
        r#"{{"resourceType":"Patient","identifier":[{{"system":"urn:mrn","value":"{identifier}"}}],"name":[{{"family":"Muster"}}]}}"#
    ))
}

pub(crate) fn observation(patient: &str, code: &str, date: &str, value: &str) -> Json<'static> {
    json(&format!(
        r#"{{"resourceType":"Observation","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},"subject":{{"reference":"Patient/{patient}"}},"effectiveDateTime":"{date}","valueQuantity":{{"value":{value},"unit":"mg/dL"}}}}"#
    ))
}

pub(crate) fn create(resource: Json<'static>) -> Write<'static> {
    Write::Create { resource, id: None, if_none_exist: None }
}

pub(crate) fn update(
    kind: ResourceType,
    id: &str,
    resource: Json<'static>,
    version: Option<i64>,
) -> Write<'static> {
    let only_if = version.map_or(OnlyIf::Always, OnlyIf::Version);
    Write::Update { resource, target: Target::Id(kind, id.to_owned()), id: None, only_if }
}

pub(crate) fn delete(kind: ResourceType, id: &str) -> Write<'static> {
    Write::Delete { target: Target::Id(kind, id.to_owned()), only_if: OnlyIf::Always }
}

pub(crate) fn writes(writes: Vec<Write<'static>>) -> Commit<'static> {
    Commit { writes, ..Commit::default() }
}

pub(crate) async fn one(store: &Store, context: &Context, write: Write<'static>) -> Result<Written, Error> {
    store.commit(context, writes(vec![write])).await.map(|mut written| written.remove(0))
}

pub(crate) async fn ids(store: &Store, text: &str) -> Vec<String> {
    let page = store.search(&now(), &query(text)).await.unwrap();
    page.entries.into_iter().map(|stored| stored.id).collect()
}

/// All versions of a Patient, so many a page.
pub(crate) async fn versions_of(store: &Store, id: &str, count: u32) -> Vec<Stored> {
    let mut query = HistoryQuery {
        kinds: vec![ResourceType::PATIENT],
        id: Some(id.to_owned()),
        since: None,
        at: None,
        count,
        after: None,
        used: Vec::new(),
    };
    let mut found = Vec::new();
    loop {
        let page = store.history(&now(), &query).await.unwrap();
        found.extend(page.entries);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return found,
        }
    }
}
