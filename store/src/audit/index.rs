//! Rows by what their events are about: charts, entities, agents. Hashes are spread evenly, so in one B-tree each
//! seal would touch nearly every page of it. Instead each seal adds one run of sorted pairs, in pages; sixteen runs
//! of a level become one of the next, until it is large. Who looks for a hash asks each run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diesel::sql_types::{BigInt, Binary};

use crate::connection::Link;
use crate::error::Fault;
use crate::sql::{Sql, chunks, lossy};

/// Pairs of a page.
const PAGE: usize = 512;
/// Runs of a level that are merged.
const TOGETHER: usize = 16;
/// Larger runs stay as they are, which bounds what one seal may have to merge.
const LARGE: usize = 1 << 16;
/// No run is of a greater one: each level takes sixteen times as many pairs.
const LEVELS: i64 = 16;
/// Pages read by one statement.
const READ: usize = 256;

/// What rows are about, and the key of the row.
pub(super) type Pair = (i64, i64);

/// A page as it lies in the database: its first pair, and all of them.
type Page = (i64, i64, String);

fn read(link: &mut Link, sql: &Sql<'_>) -> Result<Vec<Page>, Fault> {
    let found = sql.rows::<(BigInt, BigInt, Binary), (i64, i64, Vec<u8>)>(&mut link.connection)?;
    Ok(found.into_iter().map(|(first, key, pairs)| (first, key, lossy(pairs))).collect())
}

/// What a seal adds, and the runs that are in it from now on.
#[derive(Debug)]
pub(super) struct Adding {
    /// The place in the log of the first event that it is about.
    run: i64,
    level: i64,
    pairs: usize,
    pages: Vec<Page>,
    merged: Vec<i64>,
}

fn put(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        bytes.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    bytes.push(low);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Each pair as its distance from the one before; a key may be less than that, which costs a bit.
fn page(pairs: &[Pair]) -> Option<Page> {
    let (first, rest) = pairs.split_first()?;
    let mut bytes = Vec::with_capacity(rest.len() * 11);
    let mut last = *first;
    for pair in rest {
        let step = pair.1.wrapping_sub(last.1);
        put(pair.0.wrapping_sub(last.0).cast_unsigned(), &mut bytes);
        put(((step << 1) ^ (step >> 63)).cast_unsigned(), &mut bytes);
        last = *pair;
    }
    Some((first.0, first.1, STANDARD.encode(bytes)))
}

/// The pairs of a page; none of what is no page.
fn unpack((hash, key, text): &Page) -> Option<Vec<Pair>> {
    let bytes = STANDARD.decode(text).ok()?;
    let mut rest = bytes.as_slice();
    let mut last = (*hash, *key);
    let mut pairs = Vec::with_capacity(PAGE);
    pairs.push(last);
    while !rest.is_empty() {
        let (hash, step) = (take(&mut rest)?.cast_signed(), take(&mut rest)?);
        let step = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
        last = (last.0.wrapping_add(hash), last.1.wrapping_add(step));
        pairs.push(last);
    }
    Some(pairs)
}

/// The pages of a run, in order, each as it is read.
fn pages(link: &mut Link, run: i64, seen: &mut dyn FnMut(&Page)) -> Result<(), Fault> {
    let mut last: Option<Pair> = None;
    loop {
        let mut sql = Sql::new(link.dialect, "SELECT first, key, pairs FROM audit_index WHERE run = ");
        sql.int(run);
        if let Some((first, key)) = last {
            sql.push(" AND (first, key) > (").int(first).push(", ").int(key).push(")");
        }
        sql.push(" ORDER BY first, key").limit(READ);
        let found = read(link, &sql)?;
        found.iter().for_each(&mut *seen);
        last = found.last().map(|(first, key, _)| (*first, *key));
        if found.len() < READ {
            return Ok(());
        }
    }
}

/// The pairs as a run, merged with those before it where there are so many. They need not be in order.
pub(super) fn prepare(link: &mut Link, mut run: i64, mut pairs: Vec<Pair>) -> Result<Adding, Fault> {
    let (mut level, mut merged) = (0, Vec::new());
    while pairs.len() <= LARGE {
        let mut sql = Sql::new(link.dialect, "SELECT run FROM audit_run WHERE level = ");
        sql.int(level).push(" AND pairs <= ").int(i64::try_from(LARGE).unwrap_or(i64::MAX));
        sql.push(" ORDER BY run");
        let small = sql.rows::<BigInt, i64>(&mut link.connection)?;
        if small.len() + 1 < TOGETHER {
            break;
        }
        let (mut readable, new) = (true, pairs.len());
        for run in &small {
            pages(link, *run, &mut |page| match unpack(page) {
                Some(more) => pairs.extend(more),
                None => readable = false,
            })?;
        }
        if !readable {
            // It is found by who looks at all of the trail, and is not to stop the log.
            tracing::error!("the index of the audit trail has an unreadable page");
            pairs.truncate(new);
            break;
        }
        run = small.iter().copied().fold(run, i64::min);
        merged.extend(small);
        level += 1;
    }
    #[expect(clippy::stable_sort_primitive, reason = "it takes runs that are in order as they are")]
    pairs.sort();
    pairs.dedup();
    let pages = pairs.chunks(PAGE).filter_map(page).collect();
    Ok(Adding { run, level, pairs: pairs.len(), pages, merged })
}

/// Writes it.
pub(super) fn write(link: &mut Link, adding: &Adding) -> Result<(), Fault> {
    // What is there already under its own name is not ours.
    let gone: Vec<i64> = adding.merged.iter().copied().chain([adding.run]).collect();
    for runs in chunks(&gone) {
        for table in ["audit_index", "audit_run"] {
            let mut sql = Sql::new(link.dialect, "DELETE FROM ");
            sql.push(table).push(" WHERE run IN ").ints(runs.iter().copied());
            sql.run(&mut link.connection)?;
        }
    }
    let mut sql = Sql::new(link.dialect, "INSERT INTO audit_run (run, level, pairs) VALUES (");
    sql.int(adding.run).push(",").int(adding.level).push(",");
    sql.int(i64::try_from(adding.pairs).unwrap_or(i64::MAX)).push(")");
    sql.run(&mut link.connection)?;
    for pages in chunks(&adding.pages) {
        let mut sql = Sql::new(link.dialect, "INSERT INTO audit_index (run, first, key, pairs) VALUES ");
        for (n, (first, key, text)) in pages.iter().enumerate() {
            sql.push(if n > 0 { ",(" } else { "(" }).int(adding.run).push(",").int(*first);
            sql.push(",").int(*key).push(",").text(text.as_str()).push(")");
        }
        sql.run(&mut link.connection)?;
    }
    Ok(())
}

/// The first so many rows about any of these, in growing order from a key on, or from below it downwards.
pub(super) fn about(
    link: &mut Link,
    hashes: &[i64],
    from: i64,
    descending: bool,
    most: usize,
) -> Result<Vec<i64>, Fault> {
    let mut keys = Vec::new();
    for hash in hashes {
        link.in_time()?;
        // Of each run the last page that begins before the hash, and those that begin with it.
        let mut sql = Sql::new(
            link.dialect,
            "SELECT p.first, p.key, p.pairs FROM audit_run r CROSS JOIN audit_index p WHERE p.run = r.run \
             AND p.first <= ",
        );
        sql.int(*hash)
            .push(" AND p.first >= COALESCE((SELECT MAX(q.first) FROM audit_index q WHERE q.run = ");
        sql.push("r.run AND q.first < ").int(*hash).push("), ").int(*hash).push(")");
        for page in read(link, &sql)? {
            let pairs = unpack(&page).into_iter().flatten();
            let here = pairs.filter(|(known, key)| known == hash && (*key < from) == descending);
            keys.extend(here.map(|(_, key)| key));
        }
        settle(&mut keys, descending, most);
    }
    Ok(keys)
}

/// The first so many, each once, in order.
pub(super) fn settle(keys: &mut Vec<i64>, descending: bool, most: usize) {
    keys.sort_unstable();
    keys.dedup();
    if descending {
        keys.reverse();
    }
    keys.truncate(most);
}

/// All pairs; false if not each of them would be found where it is looked for.
pub(super) fn all(link: &mut Link, seen: &mut dyn FnMut(Pair)) -> Result<bool, Fault> {
    let sql = Sql::new(link.dialect, "SELECT run, level, pairs FROM audit_run ORDER BY run");
    let runs = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?;
    let (mut met, mut sound) = (0_i64, true);
    for (run, level, pairs) in runs {
        sound &= (0..LEVELS).contains(&level);
        let (mut many, mut last) = (0_i64, None);
        pages(link, run, &mut |page| {
            met += 1;
            let pairs = unpack(page);
            sound &= pairs.is_some();
            for pair in pairs.into_iter().flatten() {
                sound &= last.is_none_or(|last| last < pair);
                last = Some(pair);
                many += 1;
                seen(pair);
            }
        })?;
        sound &= many == pairs;
    }
    // Those of no run are none of ours.
    let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM audit_index");
    Ok(sound && sql.rows::<BigInt, i64>(&mut link.connection)?.pop() == Some(met))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let mut pairs = vec![(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (-1, 7), (-1, 9), (0, 0), (1, -5)];
        pairs.extend((0..400).map(|n| (n << 40, 1000 - n)));
        pairs.sort_unstable();
        let page = page(&pairs).unwrap();
        assert_eq!(unpack(&page).unwrap(), pairs);
        for text in ["!", "gA==", "AQ=="] {
            assert_eq!(unpack(&(0, 0, text.into())), None, "{text}");
        }
        assert_eq!(unpack(&(1, 2, String::new())).unwrap(), [(1, 2)]);
    }
}
