//! A log as a Merkle tree (RFC 6962, section 2.1; proofs are checked after RFC 9162, sections 2.1.3.2
//! and 2.1.4.2). Who holds one root can be shown that an entry is in the log (2.1.1), and that a
//! later root only added to it (2.1.2).
//!
//! Stored are the leaves and, of the nodes above, those of every eighth level: a proof reads a few
//! hundred hashes of each, in at most two ranges, and there is one node for 255 leaves, not for one.

use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// SHA-256.
pub(crate) type Hash = [u8; 32];

/// Levels from one stored row of nodes to the next.
const STRIDE: u8 = 8;
/// A greater size is no number in a database; below it no sum here overflows.
const LARGEST: u64 = 1 << 63;

/// The hash of an entry.
pub(crate) fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The root over complete subtrees, each smaller than the one before it; none over none.
fn bag(peaks: &[Hash]) -> Option<Hash> {
    peaks.iter().rev().copied().reduce(|right, left| parent(&left, &right))
}

/// The root of a complete subtree over one of its rows.
pub(super) fn top(mut row: Vec<Hash>) -> Option<Hash> {
    while row.len() > 1 {
        row = row.as_chunks().0.iter().map(|[left, right]| parent(left, right)).collect();
    }
    row.pop()
}

/// The root of a complete subtree of `2^level` leaves, that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// A multiple of 8, at least 8.
    pub(crate) level: u8,
    /// Its place in the level, from 0: it is over the leaves from `index << level` on.
    pub(crate) index: u64,
    /// The root.
    pub(crate) hash: Hash,
}

/// The right edge of a tree: all that is needed to add to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frontier {
    size: u64,
    /// Roots of complete subtrees from the left, one for each bit of the size.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// How many leaves there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves.
    pub(crate) fn root(&self) -> Hash {
        bag(&self.peaks).unwrap_or_else(empty)
    }

    /// Adds a leaf; the nodes that are complete by it, to be stored beside it. Mostly there are none.
    pub(crate) fn append(&mut self, leaf: Hash) -> Vec<Node> {
        self.add(0, leaf)
    }

    /// Adds the root of a complete subtree of `2^level` leaves; the size must be a multiple of that.
    pub(super) fn add(&mut self, level: u8, root: Hash) -> Vec<Node> {
        let mut complete = Vec::new();
        let (added, mut level, mut index, mut hash) = (1 << level, level, self.size >> level, root);
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = parent(&left, &hash);
            level += 1;
            index >>= 1;
            if level % STRIDE == 0 {
                complete.push(Node { level, index, hash });
            }
        }
        self.peaks.push(hash);
        self.size += added;
        complete
    }

    /// The size, big-endian, and the peaks.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.size.to_be_bytes().as_slice(), self.peaks.as_flattened()].concat()
    }

    /// What [`Frontier::to_bytes`] wrote; none for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, peaks) = bytes.split_first_chunk()?;
        let size = u64::from_be_bytes(*size);
        let (peaks, rest) = peaks.as_chunks();
        let whole = rest.is_empty() && peaks.len() == usize::try_from(size.count_ones()).ok()?;
        (whole && size < LARGEST).then(|| Self { size, peaks: peaks.to_vec() })
    }
}

/// Stored hashes side by side: level 0 are the leaves, levels 8, 16, … the [`Node`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Their level.
    pub(crate) level: u8,
    /// The first one's place in it.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
}

impl Span {
    fn end(self) -> u64 {
        self.first + self.count
    }
}

/// Leaves that are under one node: a complete subtree, or the right edge of a tree.
#[derive(Clone, Copy)]
struct Part {
    first: u64,
    end: u64,
}

impl Part {
    /// What is under its left child and under its right one; none under a leaf.
    fn halves(self) -> Option<(Self, Self)> {
        let last = (self.end - self.first - 1).checked_ilog2()?;
        let middle = self.first + (1 << last);
        Some((Self { end: middle, ..self }, Self { first: middle, ..self }))
    }

    /// Its complete subtrees, the greatest first, each as the stored row that is the nearest below
    /// its root. The first leaf of a part is a multiple of each of their sizes.
    fn rows(self) -> impl Iterator<Item = Span> {
        let size = self.end - self.first;
        (0..64_u8).rev().filter(move |level| (size >> level) & 1 == 1).map(move |level| {
            let below = level % STRIDE;
            let index = (self.first >> level) + (size >> level) - 1;
            Span { level: level - below, first: index << below, count: 1 << below }
        })
    }
}

/// Where the hashes of a proof come from: called once for each range, with a result as long as it.
pub(crate) type Source<'a, E> = &'a mut dyn FnMut(Span) -> Result<Vec<Hash>, E>;

/// The proof that leaf `index` is in the tree of the first `size` leaves; none when it is not, or
/// when the source has fewer hashes than it was asked for.
pub(crate) fn inclusion<E>(index: u64, size: u64, nodes: Source<'_, E>) -> Result<Option<Vec<Hash>>, E> {
    if index >= size || size >= LARGEST {
        return Ok(None);
    }
    let (siblings, _) = descend(size, index, |_| false);
    roots(&siblings, nodes)
}

/// The proof that the tree of the first `new` leaves begins with that of the first `old`; none when
/// it is smaller, or when the source has fewer hashes than it was asked for. Nothing needs to be said
/// of equal sizes and of the empty tree: the proof is empty.
pub(crate) fn consistency<E>(old: u64, new: u64, nodes: Source<'_, E>) -> Result<Option<Vec<Hash>>, E> {
    if old > new || new >= LARGEST {
        return Ok(None);
    }
    let Some(last) = old.checked_sub(1) else { return Ok(Some(Vec::new())) };
    let (mut parts, seed) = descend(new, last, |part| part.end == old);
    // Where it is the whole old tree, its root is what the verifier has.
    if seed.first > 0 {
        parts.insert(0, seed);
    }
    roots(&parts, nodes)
}

/// From the root towards a leaf as far as a part is one to stop at: that part, and the siblings of
/// the way to it, the lowest first.
fn descend(size: u64, leaf: u64, stop: impl Fn(Part) -> bool) -> (Vec<Part>, Part) {
    let (mut siblings, mut at) = (Vec::new(), Part { first: 0, end: size });
    while !stop(at)
        && let Some((left, right)) = at.halves()
    {
        let (near, far) = if leaf < left.end { (left, right) } else { (right, left) };
        siblings.push(far);
        at = near;
    }
    siblings.reverse();
    (siblings, at)
}

fn roots<E>(parts: &[Part], nodes: Source<'_, E>) -> Result<Option<Vec<Hash>>, E> {
    let mut rows: Vec<Span> = parts.iter().copied().flat_map(Part::rows).collect();
    rows.sort_unstable();
    let mut spans: Vec<Span> = Vec::new();
    for row in rows {
        match spans.last_mut() {
            // Left and right of the path are two ranges with one hash between them: to read that
            // too costs less than to ask twice.
            Some(last) if last.level == row.level && row.first <= last.end() + 1 => {
                last.count = row.end() - last.first;
            }
            _ => spans.push(row),
        }
    }
    let stored = spans.into_iter().map(|span| Ok((span, nodes(span)?))).collect::<Result<Vec<_>, E>>()?;
    let row = |row: Span| {
        // Ranges are in order, so the first that ends no earlier is the one.
        let reaches = |span: &Span| span.level == row.level && row.end() <= span.end();
        let (span, hashes) = stored.iter().find(|(span, _)| reaches(span))?;
        let before = usize::try_from(row.first - span.first).ok()?;
        let count = usize::try_from(row.count).ok()?;
        hashes.get(before..before + count)
    };
    let root = |part: &Part| {
        let peaks: Option<Vec<Hash>> = part.rows().map(|span| top(row(span)?.to_vec())).collect();
        bag(&peaks?)
    };
    Ok(parts.iter().map(root).collect())
}

/// The way up from a leaf, along the right edge of a tree too (RFC 9162: fn and sn).
struct Climb {
    at: u64,
    last: u64,
}

impl Climb {
    /// Is the next hash of the proof on the left? None above the root.
    fn left(&self) -> Option<bool> {
        (self.last > 0).then_some(self.at & 1 == 1 || self.at == self.last)
    }

    fn up(&mut self) {
        // Along the right edge a node without a sibling is its own parent.
        if self.at == self.last {
            self.skip(self.at.trailing_zeros());
        }
        self.skip(1);
    }

    fn skip(&mut self, levels: u32) {
        self.at >>= levels;
        self.last >>= levels;
    }
}

/// Does the proof show that leaf `index` of the tree with this size and root has this hash? Size and
/// root are to be from one signed head: a proof alone does not tell sizes apart.
pub(crate) fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let mut climb = Climb { at: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in path {
        let Some(left) = climb.left() else { return false };
        hash = if left { parent(sibling, &hash) } else { parent(&hash, sibling) };
        climb.up();
    }
    climb.last == 0 && hash == *root
}

/// Does the proof show that the tree `new` begins with the tree `old`? Each size and root are to be
/// from one signed head.
pub(crate) fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> bool {
    if old == 0 || old >= new {
        let begins = old > 0 || *old_root == empty();
        let same = old == new && old_root == new_root;
        return path.is_empty() && begins && (same || old < new);
    }
    let (seed, path) = match path {
        // An old tree that is one complete subtree stands for itself.
        _ if old.is_power_of_two() => (old_root, path),
        [seed, path @ ..] => (seed, path),
        [] => return false,
    };
    let mut climb = Climb { at: old - 1, last: new - 1 };
    climb.skip(old.trailing_zeros());
    let (mut before, mut after) = (*seed, *seed);
    for sibling in path {
        let Some(left) = climb.left() else { return false };
        if left {
            before = parent(sibling, &before);
            after = parent(sibling, &after);
        } else {
            after = parent(&after, sibling);
        }
        climb.up();
    }
    climb.last == 0 && before == *old_root && after == *new_root
}
