//! The yardstick of the benchmarks: the least a durable server on this stack can do.
//! actix-web and diesel over SQLite (WAL, FULL), waiting writes grouped into one commit, the
//! body stored as it came in one table with one secondary index. No FHIR, no parsing, no search.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod schema {
    diesel::table! {
        document (key) { key -> BigInt, id -> Text, body -> Text, }
    }
}
use schema::document;

struct Waiting {
    id: String,
    body: String,
    done: oneshot::Sender<bool>,
}

struct State {
    lane: SyncSender<Waiting>,
    readers: Mutex<Vec<SqliteConnection>>,
    path: String,
}

fn open(path: &str) -> anyhow::Result<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=50000; PRAGMA busy_timeout=5000;
         CREATE TABLE IF NOT EXISTS document (key INTEGER PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL);
         CREATE UNIQUE INDEX IF NOT EXISTS document_id ON document (id);",
    )?;
    Ok(connection)
}

fn write(mut connection: SqliteConnection, lane: &Receiver<Waiting>) {
    while let Ok(first) = lane.recv() {
        let mut group = vec![first];
        group.extend(lane.try_iter().take(255));
        let committed = connection
            .immediate_transaction(|c| -> QueryResult<()> {
                for one in &group {
                    c.transaction(|c| {
                        diesel::insert_into(document::table)
                            .values((document::id.eq(&one.id), document::body.eq(&one.body)))
                            .execute(c)
                    })?;
                }
                Ok(())
            })
            .is_ok();
        for one in group {
            let _ = one.done.send(committed);
        }
    }
}

async fn create(state: web::Data<State>, body: String) -> HttpResponse {
    let (done, answer) = oneshot::channel();
    let id = uuid::Uuid::now_v7().to_string();
    let location = format!("/fhir/Observation/{id}");
    let waiting = Waiting { id, body: body.clone(), done };
    if state.lane.try_send(waiting).is_err() || !answer.await.unwrap_or(false) {
        return HttpResponse::ServiceUnavailable().finish();
    }
    HttpResponse::Created()
        .insert_header(("Location", location))
        .content_type("application/fhir+json")
        .body(body)
}

async fn read(state: web::Data<State>, id: web::Path<String>) -> HttpResponse {
    let found = web::block(move || {
        let pooled = state.readers.lock().ok().and_then(|mut pool| pool.pop());
        let mut connection = pooled.or_else(|| open(&state.path).ok())?;
        let body = document::table
            .filter(document::id.eq(id.as_str()))
            .select(document::body)
            .first::<String>(&mut connection)
            .optional();
        if let Ok(mut pool) = state.readers.lock() {
            pool.push(connection);
        }
        body.ok().flatten()
    })
    .await;
    match found {
        Ok(Some(body)) => HttpResponse::Ok().content_type("application/fhir+json").body(body),
        _ => HttpResponse::NotFound().finish(),
    }
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bind), Some(path)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: bare ADDRESS:PORT FILE");
    };
    let connection = open(&path)?;
    let (lane, waiting) = sync_channel(4096);
    std::thread::spawn(move || write(connection, &waiting));
    let state = web::Data::new(State { lane, readers: Mutex::new(Vec::new()), path });
    let shared = Arc::clone(&state.clone().into_inner());
    HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&shared)))
            .route("/fhir/Observation", web::post().to(create))
            .route("/fhir/Observation/{id}", web::get().to(read))
    })
    .workers(2)
    .bind(bind)?
    .run()
    .await?;
    Ok(())
}
