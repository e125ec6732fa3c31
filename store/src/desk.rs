//! What is not a resource: queued tasks, recorded scorings, models in use, clients.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::commit::{About, Activate, ClientChange, NewAssessment, NewTask};
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::record::{Activation, Assessment, Backlog, Client, Task};
use crate::sql::{Dialect, Sql, chunks};
use crate::version::Move;

type TaskRow = (i64, i64, String, i64, i64, i64);
type AssessmentRow = (i64, String, String, String, String, String, i64, bool);
type ActivationRow = (String, String, i64);
type ClientTypes = (Text, Text, Text, Text, Nullable<BigInt>, BigInt, Nullable<BigInt>);
type ClientRow = (String, String, String, String, Option<i64>, i64, Option<i64>);

/// Removes tasks that are done; all of them must still be there.
pub(crate) fn finish(link: &mut Link, keys: &[i64]) -> Result<(), Fault> {
    for keys in chunks(keys) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM task WHERE key IN ");
        sql.ints(keys.iter().copied());
        if sql.run(&mut link.connection)? != keys.len() {
            return Err(Error::Conflict { current: 0 }.into());
        }
    }
    Ok(())
}

/// Queues tasks; of several for one topic and patient, one stays. What is due is so by the clock of whoever asks at
/// that time, and is kept by the one of all.
pub(crate) fn queue(link: &mut Link, parts: &[(&[NewTask], &[Move])], at: i64) -> Result<(), Fault> {
    let ahead = at - link.time(at);
    let mut wanted: BTreeMap<(i64, &str), (i64, i64)> = BTreeMap::new();
    for (task, moves) in parts.iter().flat_map(|(tasks, moves)| tasks.iter().map(move |task| (task, moves))) {
        let (patients, cause) = match &task.about {
            About::Patient(patient) => (std::slice::from_ref(patient), 0),
            About::Write(at) => moves.get(*at).map_or((&[][..], 0), |moved| (&moved.patients, moved.key)),
        };
        for patient in patients {
            wanted
                .entry((task.topic, patient))
                .and_modify(|(due, last)| {
                    *due = task.due.min(*due);
                    *last = cause.max(*last);
                })
                .or_insert((task.due, cause));
        }
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    for tasks in chunks(&wanted) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO task (topic, patient, due, cause, tries) VALUES ");
        for (n, ((topic, patient), (due, cause))) in tasks.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(*topic).push(",").text(*patient);
            sql.push(",").int(*due - ahead).push(",").int(*cause).push(",0)");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Tasks that are due, oldest first. On PostgreSQL they are held until the transaction ends, and
/// those that others hold are left out.
pub(crate) fn due(link: &mut Link, at: i64, most: usize) -> Result<Vec<Task>, Fault> {
    let mut sql =
        Sql::new(link.dialect, "SELECT key, topic, patient, due, cause, tries FROM task WHERE due <= ");
    sql.int(link.time(at)).push(" ORDER BY key").limit(most);
    if link.dialect == Dialect::Postgres {
        sql.push(" FOR UPDATE SKIP LOCKED");
    }
    let rows: Vec<TaskRow> =
        sql.rows::<(BigInt, BigInt, Text, BigInt, BigInt, BigInt), TaskRow>(&mut link.connection)?;
    let task = |(key, topic, patient, due, cause, tries)| Task { key, topic, patient, due, cause, tries };
    Ok(rows.into_iter().map(task).collect())
}

/// How many tasks wait, and since when the oldest is due.
pub(crate) fn backlog(link: &mut Link) -> Result<Backlog, Fault> {
    let sql = Sql::new(
        link.dialect,
        "SELECT COUNT(*), MIN(due), CAST(COALESCE(SUM(CASE WHEN tries > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) FROM task",
    );
    let rows =
        sql.rows::<(BigInt, Nullable<BigInt>, BigInt), (i64, Option<i64>, i64)>(&mut link.connection)?;
    let (waiting, oldest, put_off) = rows.first().copied().unwrap_or_default();
    Ok(Backlog { waiting, oldest, put_off })
}

/// Puts failed tasks off.
pub(crate) fn postpone(link: &mut Link, keys: &[i64], until: i64) -> Result<(), Fault> {
    for keys in chunks(keys) {
        let mut sql = Sql::new(link.dialect, "UPDATE task SET tries = tries + 1, due = ");
        sql.int(until).push(" WHERE key IN ").ints(keys.iter().copied());
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// Records scorings: each becomes the patient's current one of its model.
pub(crate) fn assess(link: &mut Link, at: i64, assessments: &[NewAssessment]) -> Result<(), Fault> {
    for new in assessments {
        let mut sql = Sql::new(link.dialect, "SELECT key, current FROM assessment WHERE patient = ");
        sql.text(new.patient.as_str()).push(" AND model = ").text(new.model.as_str());
        sql.push(" AND version = ").text(new.version.as_str());
        sql.push(" AND inputs = ").text(new.inputs.as_str());
        let known: Vec<(i64, bool)> = sql.rows::<(BigInt, Bool), (i64, bool)>(&mut link.connection)?;
        if known.iter().any(|(_, current)| *current) {
            return Err(Error::Conflict { current: 0 }.into());
        }
        let mut sql = Sql::new(link.dialect, "UPDATE assessment SET current = ");
        sql.bool(false).push(" WHERE patient = ").text(new.patient.as_str());
        sql.push(" AND model = ").text(new.model.as_str()).push(" AND current = ").bool(true);
        sql.run(&mut link.connection)?;
        let mut sql;
        if let Some((key, _)) = known.first() {
            sql = Sql::new(link.dialect, "UPDATE assessment SET current = ");
            sql.bool(true).push(", resource_id = ").text(new.resource_id.as_str());
            sql.push(", at = ").int(at).push(" WHERE key = ").int(*key);
        } else {
            sql = Sql::new(
                link.dialect,
                "INSERT INTO assessment (patient, model, version, inputs, resource_id, at, current) VALUES (",
            );
            sql.text(new.patient.as_str()).push(",").text(new.model.as_str()).push(",");
            sql.text(new.version.as_str()).push(",").text(new.inputs.as_str()).push(",");
            sql.text(new.resource_id.as_str()).push(",").int(at).push(",").bool(true).push(")");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

const ASSESSMENTS: &str =
    "SELECT key, patient, model, version, inputs, resource_id, at, current FROM assessment";

/// A patient's scorings, or everybody's: newest first, at most so many.
pub(crate) fn assessments(
    link: &mut Link,
    patient: Option<&str>,
    most: usize,
) -> Result<Vec<Assessment>, Fault> {
    let mut sql = Sql::new(link.dialect, ASSESSMENTS);
    if let Some(patient) = patient {
        sql.push(" WHERE patient = ").text(patient.to_owned());
    }
    sql.push(" ORDER BY key DESC").limit(most);
    read(link, &sql)
}

/// A patient's scorings that hold now: one of each model.
pub(crate) fn current(link: &mut Link, patient: &str) -> Result<Vec<Assessment>, Fault> {
    let mut sql = Sql::new(link.dialect, ASSESSMENTS);
    sql.push(" WHERE patient = ").text(patient.to_owned()).push(" AND current ORDER BY key");
    read(link, &sql)
}

/// The scoring of a patient by a model version from these inputs.
pub(crate) fn assessment(
    link: &mut Link,
    patient: &str,
    model: &str,
    version: &str,
    inputs: &str,
) -> Result<Option<Assessment>, Fault> {
    let mut sql = Sql::new(link.dialect, ASSESSMENTS);
    sql.push(" WHERE patient = ").text(patient.to_owned()).push(" AND model = ").text(model.to_owned());
    sql.push(" AND version = ").text(version.to_owned()).push(" AND inputs = ").text(inputs.to_owned());
    Ok(read(link, &sql)?.pop())
}

fn read(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<Assessment>, Fault> {
    let rows: Vec<AssessmentRow> = sql
        .rows::<(BigInt, Text, Text, Text, Text, Text, BigInt, Bool), AssessmentRow>(&mut link.connection)?;
    let assessment = |(key, patient, model, version, inputs, resource_id, at, current)| Assessment {
        key,
        patient,
        model,
        version,
        inputs,
        resource_id,
        at,
        current,
    };
    Ok(rows.into_iter().map(assessment).collect())
}

/// Records that an item was taken in.
pub(crate) fn take(link: &mut Link, taken: Option<&str>) -> Result<(), Fault> {
    let Some(taken) = taken else { return Ok(()) };
    if is_taken(link, taken)? {
        return Err(Error::Conflict { current: 0 }.into());
    }
    let mut sql = Sql::new(link.dialect, "INSERT INTO taken (digest) VALUES (");
    sql.text(taken).push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}

pub(crate) fn is_taken(link: &mut Link, digest: &str) -> Result<bool, Fault> {
    let mut sql = Sql::new(link.dialect, "SELECT digest FROM taken WHERE digest = ");
    sql.text(digest.to_owned());
    Ok(!sql.rows::<Text, String>(&mut link.connection)?.is_empty())
}

pub(crate) fn activate(link: &mut Link, at: i64, activate: &[Activate]) -> Result<(), Fault> {
    for Activate { model, version } in activate {
        let mut sql = Sql::new(link.dialect, "INSERT INTO model_activation (model, version, since) VALUES (");
        sql.text(model.as_str()).push(",").text(version.as_str()).push(",").int(at);
        sql.push(") ON CONFLICT (model) DO UPDATE SET version = excluded.version, since = excluded.since");
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

pub(crate) fn activations(link: &mut Link) -> Result<Vec<Activation>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT model, version, since FROM model_activation ORDER BY model");
    let rows: Vec<ActivationRow> = sql.rows::<(Text, Text, BigInt), ActivationRow>(&mut link.connection)?;
    Ok(rows.into_iter().map(|(model, version, since)| Activation { model, version, since }).collect())
}

pub(crate) fn clients(link: &mut Link, at: i64, changes: &[ClientChange]) -> Result<(), Fault> {
    for change in changes {
        match change {
            ClientChange::Add { id, name, key_hash, scope, expires } => {
                let mut sql = Sql::new(link.dialect, "SELECT created FROM client WHERE id = ");
                sql.text(id.as_str()).push(" OR key_hash = ").text(key_hash.as_str());
                if !sql.rows::<BigInt, i64>(&mut link.connection)?.is_empty() {
                    return Err(Error::Conflict { current: 0 }.into());
                }
                let mut sql = Sql::new(
                    link.dialect,
                    "INSERT INTO client (id, name, key_hash, scope, expires, created) VALUES (",
                );
                sql.text(id.as_str()).push(",").text(name.as_str()).push(",");
                sql.text(key_hash.as_str()).push(",").text(scope.as_str()).push(",");
                match expires {
                    Some(expires) => sql.int(*expires),
                    None => sql.push("NULL"),
                };
                sql.push(",").int(at).push(")");
                sql.run(&mut link.connection)?;
            }
            ClientChange::Revoke { id } => {
                let mut sql = Sql::new(link.dialect, "UPDATE client SET revoked = COALESCE(revoked, ");
                sql.int(at).push(") WHERE id = ").text(id.as_str());
                if sql.run(&mut link.connection)? == 0 {
                    return Err(Error::NotFound.into());
                }
            }
        }
    }
    Ok(())
}

/// Clients: all, or the one whose key has that digest.
pub(crate) fn known(link: &mut Link, key_hash: Option<&str>) -> Result<Vec<Client>, Fault> {
    let mut sql =
        Sql::new(link.dialect, "SELECT id, name, key_hash, scope, expires, created, revoked FROM client");
    if let Some(key_hash) = key_hash {
        sql.push(" WHERE key_hash = ").text(key_hash.to_owned());
    }
    sql.push(" ORDER BY id");
    let rows: Vec<ClientRow> = sql.rows::<ClientTypes, ClientRow>(&mut link.connection)?;
    let client = |(id, name, key_hash, scope, expires, created, revoked)| Client {
        id,
        name,
        key_hash,
        scope,
        expires,
        created,
        revoked,
    };
    Ok(rows.into_iter().map(client).collect())
}
