//! What this process remembers of the log, whatever the database says: a log that was put back to an older
//! head, which is genuine by itself, is not built upon until somebody says that it may be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diesel::sql_types::BigInt;

use super::act::Act;
use super::authority::Authority;
use super::head::Head;
use super::log::{self, ORIGIN, State, signed};
use super::merkle::{Frontier, Hash, consistency, verify_consistency};
use super::record::Event;
use super::row::{self, Agents, SELECT, acts, rows};
use super::verify::stored;
use crate::connection::Link;
use crate::error::Fault;
use crate::partition;
use crate::sql::{Dialect, Sql};

/// A decision to go on is looked for in so many rows from the end.
const NEAR: i64 = 1_000_000;

/// So many rows, where there are processes that number theirs at the same time, may still come before one.
const BEFORE: i64 = 100_000;

/// The log is not the one that this process has seen, or none that can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Astray {
    /// So many events it had.
    pub known: u64,
    /// So many it has.
    pub found: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A tree by its size and root.
type Tree = (u64, Hash);

pub(super) fn tree(state: Option<&State>) -> Tree {
    let empty = Frontier::default();
    let frontier = state.map_or(&empty, |state| &state.frontier);
    (frontier.size(), frontier.root())
}

/// Is the tree one that grew out of this one?
fn grew(link: &mut Link, (old, old_root): Tree, (new, new_root): Tree) -> Result<bool, Fault> {
    if old > new {
        return Ok(false);
    }
    let path = consistency(old, new, &mut |span| stored(link, span))?;
    Ok(path.is_some_and(|path| verify_consistency(old, &old_root, new, &new_root, &path)))
}

/// Is the log the one that is remembered, or was it accepted as it is? If so, it is what is remembered.
pub(super) fn agrees(
    link: &mut Link,
    authority: &Authority,
    state: Option<&State>,
) -> Result<Option<Astray>, Fault> {
    let Some(known) = authority.remembered() else { return Ok(None) };
    let now = tree(state);
    if (known.size, known.root) == now {
        return Ok(None);
    }
    if !grew(link, (known.size, known.root), now)? && !accepted(link, authority, &known, now)? {
        let why = "it did not grow out of the one that was sealed last";
        return Ok(Some(Astray { known: known.size, found: now.0, why }));
    }
    let none =
        || Head { origin: ORIGIN.to_owned(), size: 0, root: now.1, recorded: known.recorded, last: (0, 0) };
    authority.replace(state.and_then(|state| state.head.clone()).unwrap_or_else(none));
    Ok(None)
}

/// When the newest head was signed that is in the database or remembered.
pub(super) fn recorded(link: &mut Link, authority: &Authority) -> Result<Option<i64>, Fault> {
    let newest = log::newest(link)?.and_then(|(note, _)| authority.signer.verifier().open(&note).ok());
    Ok(newest.into_iter().chain(authority.remembered()).map(|head| head.recorded).max())
}

/// Did somebody who has the key say, since that head, that the log may go on from where it is?
fn accepted(link: &mut Link, authority: &Authority, known: &Head, now: Tree) -> Result<bool, Fault> {
    let sql = Sql::new(link.dialect, "SELECT COALESCE(MAX(key), 0) FROM audit");
    let last = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    let from = match authority.undecided(known) {
        Some(last) => back(link, last, BEFORE)?,
        None => back(link, last, NEAR)?,
    };
    let mut sql = Sql::new(link.dialect, SELECT);
    sql.push(" WHERE (a.acts & ").int(acts([Act::Accept].into_iter()));
    sql.push(") <> 0 AND a.high >= ").int(known.recorded).push(" AND a.key > ").int(from);
    sql.push(" ORDER BY a.key DESC").limit(16);
    let found = rows(link, &sql)?;
    for opened in row::open(link, authority, &mut Agents::default(), found)? {
        for (event, _) in opened.lines.iter().flatten().filter(|_| opened.genuine) {
            let decided = event.act == Act::Accept.number() && event.at >= known.recorded;
            if let Some(tree) = said(event).filter(|_| decided)
                && grew(link, tree, now)?
            {
                return Ok(true);
            }
        }
    }
    authority.decides_not(known, last);
    Ok(false)
}

/// So many numbers before that one. On PostgreSQL some were passed over wherever a part begins.
fn back(link: &mut Link, mut last: i64, mut many: i64) -> Result<i64, Fault> {
    let parts = if link.dialect == Dialect::Postgres { partition::parts(link, "audit")? } else { Vec::new() };
    let mut parts = parts.iter().rev();
    loop {
        let from = last.saturating_sub(many);
        let Some(part) =
            parts.find(|part| (part.low..part.high).contains(&last)).filter(|part| part.low > from)
        else {
            return Ok(from);
        };
        many -= last - part.low + 1;
        let mut sql = Sql::new(link.dialect, "SELECT COALESCE(MAX(key), 0) FROM audit WHERE key < ");
        sql.int(part.low);
        last = sql.rows::<BigInt, i64>(&mut link.connection)?.pop().unwrap_or_default();
    }
}

/// What the event of that decision says.
pub(super) fn note(state: Option<&State>, reason: &str) -> (u64, String) {
    let (size, root) = tree(state);
    (size, format!("{} {} {reason}", signed(size), STANDARD.encode(root)))
}

fn said(event: &Event<'_>) -> Option<Tree> {
    let mut words = event.note.split(' ');
    let size = words.next()?.parse().ok()?;
    Some((size, STANDARD.decode(words.next()?).ok()?.try_into().ok()?))
}
