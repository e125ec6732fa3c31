//! Somebody who may do everything in the database changes the trail: it is found and named.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde_json::Value;
use store::{Act, Entry, Finding, Store, Trail};

use crate::audit::{all_sealed, as_user, known, verified};
use crate::place::*;

both!(tampering_is_found_and_named, what_is_put_in_is_not_sealed, heads_are_found_too);

/// So many events, in rows of many lengths, sealed in parts.
async fn trail_of(store: &Store, many: usize) {
    let trail = Trail::default();
    let user = as_user(&trail);
    for n in 0..many {
        let (entity, second) = (Some((OBSERVATION, format!("o{n}"), 1)), i64::try_from(n).unwrap());
        let act = if n % 5 == 0 { Act::Vread } else { Act::Read };
        trail.note(Entry { entity, patient: format!("p{}", n % 7), ..Entry::of(act) });
        if n % 23 == 0 || n % 31 == 0 {
            store.record(&store::Context { at: NOW + second, ..user.clone() }).await.unwrap();
        }
        if n % 97 == 0 {
            all_sealed(store, second).await;
        }
    }
    store.record(&user).await.unwrap();
    all_sealed(store, i64::try_from(many).unwrap()).await;
}

/// A direct way into the database.
enum Intruder {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName, Clone)]
struct Row {
    #[diesel(sql_type = BigInt)]
    key: i64,
    #[diesel(sql_type = Text)]
    body: String,
}

impl Intruder {
    fn at(url: &str) -> Self {
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let mut connection = SqliteConnection::establish(path).unwrap();
                connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
                Self::Sqlite(connection)
            }
            None => Self::Postgres(PgConnection::establish(url).unwrap()),
        }
    }

    fn run(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    fn rows(&mut self, sql: &str) -> Vec<Row> {
        let query = diesel::sql_query(sql);
        match self {
            Self::Sqlite(connection) => query.load(connection).unwrap(),
            Self::Postgres(connection) => query.load(connection).unwrap(),
        }
    }

    fn trail(&mut self) -> Vec<Row> {
        self.rows("SELECT key, body FROM audit ORDER BY key")
    }

    fn heads(&mut self) -> Vec<Row> {
        self.rows("SELECT size AS key, note AS body FROM audit_head ORDER BY size")
    }

    fn keep(&mut self) {
        for table in TABLES {
            self.run(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"));
        }
    }

    fn heal(&mut self, table: &str) {
        self.run(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
    }
}

const TABLES: [&str; 6] = ["audit", "audit_agent", "audit_run", "audit_index", "audit_block", "audit_head"];
const NUMBERS: [&str; 7] = ["epoch", "events", "low", "high", "acts", "outcomes", "mac"];
const REST: &str = "epoch, events, low, high, acts, outcomes, mac, body";

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }

    fn step(&mut self) -> i64 {
        1 + i64::try_from(self.below(9)).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What is done, to which table, and what is to be named; nothing in particular where it can't be.
type Harm = (String, &'static str, Option<Finding>);

fn texts(body: &str) -> String {
    body.replace('\'', "''")
}

/// Something of one event is something else.
fn other(line: &str, random: &mut Random) -> String {
    let mut event: Value = serde_json::from_str(line).unwrap();
    let parts = event.as_array_mut().unwrap();
    let part = random.below(parts.len());
    let part = parts[part].as_array_mut().unwrap();
    let place = random.below(part.len());
    part[place] = match &part[place] {
        Value::Number(number) => Value::from(number.as_i64().unwrap().wrapping_add(random.step())),
        text => Value::from(format!("{}x", text.as_str().unwrap())),
    };
    event.to_string()
}

fn in_a_body(row: &Row, random: &mut Random) -> Harm {
    let key = |place: usize| row.key + i64::try_from(place).unwrap();
    let mut lines: Vec<String> = row.body.split('\n').map(str::to_owned).collect();
    let (place, last) = (random.below(lines.len()), lines.len() - 1);
    let named = match random.below(7) {
        0 => {
            lines[place].push(' ');
            Finding::Changed(key(place))
        }
        1 if last > 0 => {
            let with = (place + 1 + random.below(last)) % lines.len();
            lines.swap(place, with);
            Finding::Changed(key(place))
        }
        2 if last > 0 => {
            lines.remove(place);
            Finding::Removed(key(last))
        }
        3 => {
            lines.push(lines[place].clone());
            Finding::Inserted(key(last + 1))
        }
        4 => {
            lines[place] = "nonsense".into();
            Finding::Changed(key(place))
        }
        _ => {
            lines[place] = other(&lines[place], random);
            Finding::Changed(key(place))
        }
    };
    let mut set = format!("body = '{}'", texts(&lines.join("\n")));
    if random.below(2) == 0 {
        set.push_str(&format!(", events = {}", lines.len()));
    }
    (format!("UPDATE audit SET {set} WHERE key = {}", row.key), "audit", Some(named))
}

fn among_rows(rows: &[Row], random: &mut Random) -> Harm {
    let row = random.of(rows);
    let (key, end) = (row.key, row.key + i64::try_from(row.body.split('\n').count()).unwrap());
    let copy = |new: i64, of: i64| {
        format!("INSERT INTO audit (key, {REST}) SELECT {new}, {REST} FROM kept_audit WHERE key = {of}")
    };
    match random.below(5) {
        0 => {
            let named = Some(Finding::Removed(end - 1));
            (format!("DELETE FROM audit WHERE key = {key}"), "audit", named)
        }
        1 => {
            let last = rows[rows.len() - 1].key + 100;
            let new = if random.below(2) == 0 { last } else { rows[0].key - 100 - random.step() };
            (copy(new, key), "audit", Some(Finding::Inserted(new)))
        }
        // It would hide what comes behind it from who asks by id.
        2 if end - key > 1 => (copy(key + 1, key), "audit", Some(Finding::Inserted(key + 1))),
        3 => {
            let other = random.of(rows).key;
            if other == key {
                return (
                    format!("DELETE FROM audit WHERE key = {key}"),
                    "audit",
                    Some(Finding::Removed(key)),
                );
            }
            let swapped = format!(
                "DELETE FROM audit WHERE key IN ({key}, {other}); {}; {}",
                copy(key, other),
                copy(other, key)
            );
            (swapped, "audit", Some(Finding::Changed(key)))
        }
        _ => {
            let far = rows[rows.len() - 1].key + 1000;
            (format!("UPDATE audit SET key = {far} WHERE key = {key}"), "audit", Some(Finding::Removed(key)))
        }
    }
}

fn in_columns(rows: &[Row], random: &mut Random) -> Harm {
    let (key, column) = (random.of(rows).key, *random.of(&NUMBERS));
    let change = match column {
        "acts" | "outcomes" if random.below(2) == 0 => "0".to_owned(),
        "acts" | "outcomes" => format!("{column} | {}", 1_i64 << (40 + random.step())),
        _ if random.below(2) == 0 => format!("{column} - {}", random.step()),
        _ => format!("{column} + {}", random.step()),
    };
    let sql = format!("UPDATE audit SET {column} = {change} WHERE key = {key}");
    (sql, "audit", Some(Finding::Changed(key)))
}

/// The index, the agents, the blocks and the heads.
fn around(heads: &[Row], random: &mut Random) -> Harm {
    let first = 256 * random.below(2);
    let cut = 1 + random.below(40);
    let other = |column: &str| {
        let (before, one, after) = (
            format!("substr({column}, 1, {})", cut - 1),
            format!("substr({column}, {cut}, 1)"),
            format!("substr({column}, {})", cut + 1),
        );
        format!("{column} = {before} || CASE {one} WHEN 'A' THEN 'B' ELSE 'A' END || {after}")
    };
    let size = random.of(heads).key;
    match random.below(10) {
        0 => ("UPDATE audit_agent SET text = text || ' '".into(), "audit_agent", None),
        1 => ("DELETE FROM audit_agent".into(), "audit_agent", None),
        2 => {
            (format!("UPDATE audit_block SET keys = '1' || keys WHERE first = {first}"), "audit_block", None)
        }
        3 => {
            (format!("UPDATE audit_block SET {} WHERE first = {first}", other("leaves")), "audit_block", None)
        }
        4 => (format!("UPDATE audit_block SET {} WHERE first = {first}", other("root")), "audit_block", None),
        5 => (format!("DELETE FROM audit_block WHERE first = {first}"), "audit_block", None),
        6 => {
            let named = Finding::Head(u64::try_from(size).unwrap());
            let sql = format!("UPDATE audit_head SET {} WHERE size = {size}", other("note"));
            (sql, "audit_head", Some(named))
        }
        7 => {
            let at = random.of(&[-1, -256, 1, 255, 257]);
            (format!("INSERT INTO audit_block VALUES ({at}, 0, 0, 'x', 'x', 'x')"), "audit_block", None)
        }
        _ => in_the_index(random),
    }
}

fn in_the_index(random: &mut Random) -> Harm {
    let extreme = if random.below(2) == 0 { "MAX" } else { "MIN" };
    let page = format!("first = (SELECT {extreme}(first) FROM audit_index)");
    let run = format!("run = (SELECT {extreme}(run) FROM audit_run)");
    let sql = match random.below(8) {
        0 => format!("DELETE FROM audit_index WHERE {page}"),
        1 => format!("UPDATE audit_index SET key = key - {} WHERE {page}", 1_000_000 + random.step()),
        2 => format!("UPDATE audit_index SET first = first / 2 + {} WHERE {page}", random.step()),
        3 => format!("UPDATE audit_index SET run = run + {} WHERE {page}", 1_000_000 + random.step()),
        4 => format!("UPDATE audit_index SET pairs = substr(pairs, 1, 8 * {}) WHERE {run}", random.below(3)),
        5 => {
            let cut = 1 + random.below(20);
            format!(
                "UPDATE audit_index SET pairs = substr(pairs, 1, {}) || CASE substr(pairs, {cut}, 1) \
                 WHEN 'C' THEN 'D' ELSE 'C' END || substr(pairs, {}) WHERE {run}",
                cut - 1,
                cut + 1
            )
        }
        6 => {
            return (
                format!("UPDATE audit_run SET pairs = pairs + {} WHERE {run}", random.step()),
                "audit_run",
                None,
            );
        }
        _ => return (format!("DELETE FROM audit_run WHERE {run}"), "audit_run", None),
    };
    (sql, "audit_index", None)
}

/// Each time something at random: it is found, and names the record.
async fn tampering_is_found_and_named(store: Store, url: String) {
    trail_of(&store, 600).await;
    let before = verified(&store).await;
    assert_eq!((before.events, before.wrong), (600, 0));
    let mut intruder = Intruder::at(&url);
    let (rows, heads) = (intruder.trail(), intruder.heads());
    intruder.keep();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..1000 {
        let (harm, table, named) = match round % 4 {
            0 => in_a_body(&random.of(&rows).clone(), &mut random),
            1 => among_rows(&rows, &mut random),
            2 => in_columns(&rows, &mut random),
            _ => around(&heads, &mut random),
        };
        intruder.run(&harm);
        let found = verified(&store).await;
        assert!(found.wrong > 0, "{round} {harm}");
        let is_named = named.as_ref().is_none_or(|named| found.findings.contains(named));
        assert!(is_named, "{round} {harm}: {named:?} is not in {:?}", found.findings);
        intruder.heal(table);
    }
    assert_eq!(verified(&store).await.findings, []);
}

async fn what_is_put_in_is_not_sealed(store: Store, url: String) {
    trail_of(&store, 60).await;
    let mut intruder = Intruder::at(&url);
    let rows = intruder.trail();
    let new = rows[rows.len() - 1].key + 1000;
    let epoch = if url.starts_with("postgres") { 1_000_000 } else { 0 };
    intruder.run(&format!(
        "INSERT INTO audit (key, {REST}) SELECT {new}, epoch + {epoch}, {} FROM audit WHERE key = {}",
        REST.trim_start_matches("epoch, "),
        rows[0].key
    ));
    assert_eq!(verified(&store).await.findings, [Finding::Inserted(new)]);
    trail_of(&store, 10).await;
    let mut found = verified(&store).await.findings;
    found.retain(|one| *one != Finding::Index);
    // On SQLite the numbers go on behind it.
    let end = new - 1000 + i64::try_from(rows[rows.len() - 1].body.split('\n').count()).unwrap();
    let gap = url.starts_with("sqlite").then_some(Finding::Vanished(end, new));
    assert_eq!(found, [Some(Finding::Inserted(new)), gap].into_iter().flatten().collect::<Vec<_>>());
}

async fn heads_are_found_too(store: Store, url: String) {
    trail_of(&store, 300).await;
    let mut intruder = Intruder::at(&url);
    let heads = intruder.heads();
    let Row { key: size, body: note } = heads.last().unwrap();
    // The end cut off, with all that knows of it: only who kept a head elsewhere sees it.
    let shorter = heads[heads.len() - 2].key;
    intruder.run(&format!("DELETE FROM audit_head WHERE size > {shorter}"));
    let found = store.verify_audit(&now(), known(note), |_| {}).await.unwrap();
    assert!(found.findings.contains(&Finding::Shortened(u64::try_from(*size).unwrap())));
}
