//! What is older than the policy says leaves the trail: whole rows, the oldest first, and only as they were
//! sealed. Their leaves stay in the tree, so its heads hold as before; what left is counted and authenticated, so
//! that nobody else's removals pass for it.
//!
//! On PostgreSQL the table has parts, each of about a month. Of one that nothing is written to any more all rows are gone
//! through, and then it is dropped in one stroke.

use diesel::sql_types::{BigInt, Binary};

use super::act::Act;
use super::authority::Authority;
use super::log::{self, BLOCK, Position, after, in_order, signed};
use super::merkle::Hash;
use super::row::{self, Agents, SELECT, rows};
use super::verify::Sum;
use crate::connection::Link;
use crate::error::{Error, Fault};
use crate::partition::{self, Part};
use crate::sql::{Sql, chunks, lossy};

/// Rows that leave together, at most.
const ROWS: usize = 512;
/// The blocks that these are looked up in.
const BLOCKS: usize = 256;
/// Rows that leave with a part and are of the next one, at most.
const BESIDE: usize = 200_000;

/// Microseconds. A time in which nothing was sealed counts as so long at most.
const SILENCE: i64 = 7 * 86_400_000_000;

/// What has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retired {
    /// So many events, which were the first of the log.
    pub(super) events: u64,
    /// Where the last one stood.
    pub(super) last: Position,
    /// When the log was last accepted by one of them; 0 if by none.
    pub(super) accepted: i64,
    /// Over what the index still says of them.
    pub(super) sum: Sum,
}

/// Whether something leaves.
#[derive(Debug)]
pub(super) enum Old {
    /// Nothing is so old.
    Nothing,
    /// Nothing yet, but more is known of what may.
    More,
    /// The row is the oldest, and is not what was sealed.
    Doubted(i64),
    /// These.
    Leaves(Retiring),
}

/// What leaves now.
#[derive(Debug)]
pub(crate) struct Retiring {
    /// The code of what has left before.
    base: i64,
    rows: Vec<i64>,
    after: Retired,
    /// Of the last of them, in the log that they are of.
    leaf: Option<Hash>,
    mac: i64,
    /// How many events.
    pub(super) events: u64,
    /// With all that is in it.
    part: Option<Box<Part>>,
}

impl Retiring {
    /// The number of the last event that leaves.
    pub(super) fn last(&self) -> i64 {
        self.after.last.1
    }
}

type Numbers = (i64, i64, i64, i64, i64, i64);
type Types = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);

/// What has left this log, as somebody with the key says.
pub(super) fn retired(link: &mut Link, authority: &Authority) -> Result<Option<Retired>, Fault> {
    Ok(kept(link, authority)?.map(|(retired, _)| retired))
}

/// Is that all there is, and nothing that somebody else says?
pub(super) fn is_sound(link: &mut Link, authority: &Authority) -> Result<bool, Fault> {
    let known = usize::from(kept(link, authority)?.is_some());
    let sql = Sql::new(link.dialect, "SELECT COUNT(*) FROM audit_retired");
    let rows = sql.rows::<BigInt, i64>(&mut link.connection)?.pop();
    Ok(rows.is_some_and(|rows| usize::try_from(rows) == Ok(known)))
}

/// The same, and its code.
fn kept(link: &mut Link, authority: &Authority) -> Result<Option<(Retired, i64)>, Fault> {
    let sql = Sql::new(link.dialect, "SELECT events, epoch, key, accepted, sum, mac FROM audit_retired");
    let found = sql.rows::<Types, Numbers>(&mut link.connection)?;
    if found.is_empty() {
        return Ok(None);
    }
    let log = log::leaf(link, 0)?;
    let read = |(events, epoch, key, accepted, sum, mac): Numbers| {
        let events = u64::try_from(events).ok()?;
        let retired = Retired { events, last: (epoch, key), accepted, sum: Sum::from(sum) };
        (code(authority, &retired, log) == mac).then_some((retired, mac))
    };
    Ok(found.into_iter().filter_map(read).max_by_key(|(retired, _)| retired.events))
}

/// The first leaf tells one log from another that was made anew; where nothing has left, it is any log's.
fn code(authority: &Authority, retired: &Retired, log: Option<Hash>) -> i64 {
    let Retired { events, last: (epoch, key), accepted, sum } = retired;
    let log = log.filter(|_| *events > 0).unwrap_or_default();
    let of = [b"retired".as_slice(), &log].concat();
    authority.number(&of, &[signed(*events), *epoch, *key, *accepted, i64::from(*sum)])
}

/// The log begins anew, behind what has left the one before.
pub(super) fn begin_anew(link: &mut Link) -> Result<(), Fault> {
    let Some(authority) = link.authority.clone() else { return Ok(()) };
    let Some(retired) = retired(link, &authority)? else { return Ok(()) };
    let anew = Retired { events: 0, sum: Sum::default(), ..retired };
    put(link, &anew, code(&authority, &anew, None))
}

fn put(link: &mut Link, retired: &Retired, mac: i64) -> Result<(), Fault> {
    link.execute("DELETE FROM audit_retired")?;
    let Retired { events, last: (epoch, key), accepted, sum } = *retired;
    let columns = "INSERT INTO audit_retired (events, epoch, key, accepted, sum, mac) VALUES (";
    let mut sql = Sql::new(link.dialect, columns);
    sql.int(signed(events));
    for number in [epoch, key, accepted, i64::from(sum), mac] {
        sql.push(", ").int(number);
    }
    sql.push(")");
    sql.run(&mut link.connection)?;
    Ok(())
}

/// Since when what was recorded is not as old yet as what was recorded `before`, as the signed heads tell: one clock
/// that is years ahead makes a head, and not the years.
fn cutoff(link: &mut Link, authority: &Authority, at: i64, before: i64) -> Result<i64, Fault> {
    let sql = Sql::new(
        link.dialect,
        "SELECT note FROM audit_head WHERE size IN \
         (SELECT MAX(size) FROM audit_head GROUP BY recorded / 86400000000)",
    );
    let trusted = authority.signer.verifier();
    let notes = sql.rows::<Binary, Vec<u8>>(&mut link.connection)?.into_iter();
    let times = notes.filter_map(|note| Some(trusted.open(&lossy(note)).ok()?.recorded));
    let mut times: Vec<i64> = times.filter(|time| *time <= at).collect();
    times.sort_unstable();
    let (mut rest, mut from) = (at.saturating_sub(before), at);
    for time in times.into_iter().rev() {
        let step = (from - time).min(SILENCE);
        if step >= rest {
            return Ok(time + (step - rest));
        }
        (rest, from) = (rest - step, time);
    }
    Ok(if rest <= SILENCE { from - rest } else { i64::MIN })
}

/// How far the oldest part of the table was gone through, none of which leaves before all of it does.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    part: Part,
    /// The code of what has left before.
    base: i64,
    so_far: Retired,
    /// Of the last of these: a log that is made anew has others in these places.
    leaf: Option<Hash>,
    /// Rows of it, and those of the next part that come before the last of these.
    rows: usize,
    beside: Vec<i64>,
    /// These are too many: it leaves row by row.
    one_by_one: bool,
}

impl Pass {
    fn new(part: Part, base: i64, so_far: Retired, leaf: Option<Hash>) -> Self {
        Self { part, base, so_far, leaf, rows: 0, beside: Vec::new(), one_by_one: false }
    }
}

/// What leaves next: of a part that is still written the oldest rows, of one that is not all of it.
pub(super) fn prepare(
    link: &mut Link,
    authority: &Authority,
    at: i64,
    before: i64,
    place: u64,
    pass: &mut Option<Pass>,
) -> Result<Old, Fault> {
    let known = kept(link, authority)?;
    let base = known.map_or(0, |(_, mac)| mac);
    let nothing = Retired { events: 0, last: (0, 0), accepted: 0, sum: Sum::default() };
    let so_far = known.map_or(nothing, |(retired, _)| retired);
    let leaves = |link: &mut Link, rows, after: Retired, part| -> Result<Old, Fault> {
        let log = log::leaf(link, 0)?;
        let (mac, events) = (code(authority, &after, log), after.events - so_far.events);
        let leaf = last_leaf(link, after)?;
        Ok(Old::Leaves(Retiring { base, rows, after, leaf, mac, events, part }))
    };
    let closed = partition::closed(link)?;
    let known = pass.take().filter(|pass| Some(&pass.part) == closed.as_ref());
    let Some(part) = closed.filter(|_| !known.as_ref().is_some_and(|pass| pass.one_by_one)) else {
        *pass = known;
        let mut after = so_far;
        let (rows, doubted) = olds(link, authority, at, before, place, &mut after)?;
        return match (rows.is_empty(), doubted) {
            (false, _) => leaves(link, rows, after, None),
            (true, Some(key)) => Ok(Old::Doubted(key)),
            (true, None) => Ok(Old::Nothing),
        };
    };
    let mut going = known.filter(|pass| pass.base == base);
    if let Some(pass) = &going
        && pass.leaf != last_leaf(link, pass.so_far)?
    {
        going = None;
    }
    let leaf = last_leaf(link, so_far)?;
    let going = pass.insert(going.unwrap_or_else(|| Pass::new(part, base, so_far, leaf)));
    let Some((end, high)) = end(link, &going.part)? else { return Ok(Old::Nothing) };
    // Else it would be gone through in vain.
    if high >= before {
        return Ok(Old::Nothing);
    }
    if going.rows == 0
        && let Some(key) = left_over(link, &going.part, so_far.last)?
    {
        *pass = None;
        return Ok(Old::Doubted(key));
    }
    if going.so_far.last < end {
        let (rows, doubted) = olds(link, authority, at, before, place, &mut going.so_far)?;
        going.leaf = last_leaf(link, going.so_far)?;
        let own = rows.iter().filter(|key| **key < going.part.high).count();
        going.rows += own;
        going.beside.extend(rows.iter().filter(|key| **key >= going.part.high));
        if going.beside.len() > BESIDE {
            (going.beside, going.one_by_one) = (Vec::new(), true);
            return Ok(Old::More);
        }
        if going.so_far.last < end {
            return Ok(match doubted {
                Some(key) => {
                    *pass = None;
                    Old::Doubted(key)
                }
                None if rows.is_empty() => Old::Nothing,
                None => Old::More,
            });
        }
    }
    let sql = Sql::new(link.dialect, &format!("SELECT COUNT(*) FROM {}", going.part.name));
    let there = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    if usize::try_from(there) != Ok(going.rows) {
        // Somebody put one in behind: the next time it is met.
        *pass = None;
        return Ok(Old::Nothing);
    }
    let Pass { part, so_far: after, beside, .. } = going.clone();
    leaves(link, beside, after, Some(Box::new(part)))
}

fn last_leaf(link: &mut Link, so_far: Retired) -> Result<Option<Hash>, Fault> {
    so_far.events.checked_sub(1).map_or(Ok(None), |last| log::leaf(link, last))
}

/// A row of the part where nobody can have left one: before what comes next in the log.
fn left_over(link: &mut Link, part: &Part, last: Position) -> Result<Option<i64>, Fault> {
    let mut sql = Sql::new(link.dialect, &format!("SELECT a.key FROM {} a WHERE 1 = 1", part.name));
    log::up_to(&mut sql, link.dialect, last);
    sql.push(" LIMIT 1");
    Ok(sql.rows::<BigInt, i64>(&mut link.connection)?.pop())
}

/// Where the last row of a part stands, and when the last of its events was recorded.
fn end(link: &mut Link, part: &Part) -> Result<Option<(Position, i64)>, Fault> {
    let text = format!(
        "SELECT a.epoch, a.key, a.high FROM {} a ORDER BY a.epoch DESC, a.key DESC LIMIT 1",
        part.name
    );
    let sql = Sql::new(link.dialect, &text);
    let found = sql.rows::<(BigInt, BigInt, BigInt), (i64, i64, i64)>(&mut link.connection)?.pop();
    Ok(found.map(|(epoch, key, high)| ((epoch, key), high)))
}

/// The rows that come next in the log, as far as they were recorded before that time, are in it before that place, and
/// are what was sealed; and the row that is not, if one is.
fn olds(
    link: &mut Link,
    authority: &Authority,
    at: i64,
    before: i64,
    place: u64,
    so_far: &mut Retired,
) -> Result<(Vec<i64>, Option<i64>), Fault> {
    let first = so_far.events;
    let blocks = log::blocks(link, |sql| {
        sql.push(" WHERE first >= ").int(signed(first / BLOCK * BLOCK));
        sql.push(" AND first < ").int(signed(place)).push(" ORDER BY first").limit(BLOCKS);
    })?;
    let leaves = blocks.iter().flat_map(|block| {
        let positions = block.epochs.iter().copied().zip(block.keys.iter().copied());
        (block.first..).zip(positions.zip(block.leaves.iter().copied()))
    });
    let mut leaves = leaves.filter(|(at, _)| (first..place).contains(at)).map(|(_, leaf)| leaf);
    let mut sql = Sql::new(link.dialect, SELECT);
    sql.push(" WHERE 1 = 1");
    if so_far.last != (0, 0) {
        after(&mut sql, link.dialect, so_far.last);
    }
    in_order(&mut sql, link.dialect);
    sql.limit(ROWS);
    let found = rows(link, &sql)?;
    if found.first().is_none_or(|oldest| oldest.high >= before) {
        return Ok((Vec::new(), None));
    }
    let before = cutoff(link, authority, at, before)?.min(before);
    let (mut gone, mut doubted) = (Vec::new(), None);
    for opened in row::open(link, authority, &mut Agents::default(), found)? {
        let sealed: Vec<_> = leaves.by_ref().take(opened.lines.len()).collect();
        if opened.row.high >= before || sealed.len() < opened.lines.len() {
            break;
        }
        let here = opened.keys().map(|key| (opened.row.epoch, key));
        let hashes = opened.lines.iter().map(|line| line.as_ref().map(|(_, hash)| *hash));
        let same = here.zip(hashes).eq(sealed.into_iter().map(|(position, hash)| (position, Some(hash))));
        if !opened.genuine || !same {
            doubted = Some(opened.row.key);
            break;
        }
        so_far.last = (opened.row.epoch, opened.last());
        so_far.events += opened.lines.len() as u64;
        for (event, _) in opened.lines.iter().flatten().filter(|(event, _)| event.act == Act::Accept.number())
        {
            so_far.accepted = so_far.accepted.max(event.at);
        }
        opened.leaves().about.iter().for_each(|hash| so_far.sum.one(authority, *hash, opened.row.key));
        gone.push(opened.row.key);
    }
    Ok((gone, doubted))
}

/// They leave, inside the open transaction.
pub(crate) fn write(link: &mut Link, retiring: &Retiring) -> Result<(), Fault> {
    log::lock(link)?;
    let Some(authority) = link.authority.clone() else { return Ok(()) };
    let lost = || Fault::from(Error::Conflict { current: 0 });
    if kept(link, &authority)?.map_or(0, |(_, mac)| mac) != retiring.base {
        return Err(lost());
    }
    if last_leaf(link, retiring.after)? != retiring.leaf {
        return Err(lost());
    }
    link.touched = true;
    if let Some(part) = &retiring.part {
        // The table first, as whoever reads or writes does; and then nobody comes between. Nor is anything done before
        // that may have been in vain.
        link.execute(partition::TURN)?;
        link.execute("LOCK TABLE ONLY audit IN ACCESS EXCLUSIVE MODE")?;
        if !partition::parts(link, "audit")?.contains(part.as_ref()) {
            return Err(lost());
        }
        if end(link, part)?.is_some_and(|(end, _)| end > retiring.after.last) {
            return Err(lost());
        }
    }
    for rows in chunks(&retiring.rows) {
        let mut sql = Sql::new(link.dialect, "DELETE FROM audit WHERE key IN ");
        sql.ints(rows.iter().copied());
        sql.run(&mut link.connection)?;
    }
    if let Some(part) = &retiring.part {
        link.execute(&format!("DROP TABLE {}", part.name))?;
    }
    put(link, &retiring.after, retiring.mac)
}
