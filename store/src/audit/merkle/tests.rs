use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn hash(hex: &str) -> Hash {
    let digits: Vec<u8> =
        hex.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    std::array::from_fn(|n| digits[2 * n] << 4 | digits[2 * n + 1])
}

/// A log with what a database would hold of it, and all its roots.
#[derive(Default)]
struct Log {
    edge: Frontier,
    stored: HashMap<(u8, u64), Hash>,
    leaves: Vec<Hash>,
    roots: Vec<Hash>,
}

impl Log {
    fn of<D: AsRef<[u8]>>(entries: impl IntoIterator<Item = D>) -> Self {
        let mut log = Self { roots: vec![empty()], ..Self::default() };
        for entry in entries {
            let leaf = leaf(entry.as_ref());
            log.stored.insert((0, log.edge.size()), leaf);
            log.leaves.push(leaf);
            let nodes = log.edge.append(leaf);
            log.stored.extend(nodes.into_iter().map(|node| ((node.level, node.index), node.hash)));
            log.roots.push(log.edge.root());
        }
        log
    }

    fn read(&self, span: Span) -> Vec<Hash> {
        (span.first..span.end()).map(|index| self.stored[&(span.level, index)]).collect()
    }

    fn inclusion(&self, index: usize, size: usize) -> Vec<Hash> {
        let proof = inclusion(index as u64, size as u64, &mut |span| Ok::<_, Infallible>(self.read(span)));
        proof.unwrap().unwrap()
    }

    fn consistency(&self, old: usize, new: usize) -> Vec<Hash> {
        let proof = consistency(old as u64, new as u64, &mut |span| Ok::<_, Infallible>(self.read(span)));
        proof.unwrap().unwrap()
    }

    fn includes(&self, index: usize, size: usize, path: &[Hash]) -> bool {
        verify_inclusion(&self.leaves[index], index as u64, size as u64, path, &self.roots[size])
    }

    fn extends(&self, old: usize, new: usize, path: &[Hash]) -> bool {
        verify_consistency(old as u64, &self.roots[old], new as u64, &self.roots[new], path)
    }
}

/// RFC 6962, word for word.
mod naive {
    use super::{Hash, empty, parent};

    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    pub(super) fn mth(d: &[Hash]) -> Hash {
        match d {
            [] => empty(),
            [leaf] => *leaf,
            _ => parent(&mth(&d[..split(d.len())]), &mth(&d[split(d.len())..])),
        }
    }

    pub(super) fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
        if d.len() == 1 {
            return vec![];
        }
        let (left, right) = d.split_at(split(d.len()));
        let (mut proof, last) = if m < left.len() {
            (path(m, left), mth(right))
        } else {
            (path(m - left.len(), right), mth(left))
        };
        proof.push(last);
        proof
    }

    pub(super) fn subproof(m: usize, d: &[Hash], b: bool) -> Vec<Hash> {
        if m == d.len() {
            return if b { vec![] } else { vec![mth(d)] };
        }
        let (left, right) = d.split_at(split(d.len()));
        let (mut proof, last) = if m <= left.len() {
            (subproof(m, left, b), mth(right))
        } else {
            (subproof(m - left.len(), right, false), mth(left))
        };
        proof.push(last);
        proof
    }
}

/// The tree of the Certificate Transparency project's tests.
const ENTRIES: [&[u8]; 8] =
    [b"", b"\0", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const LEAF_0: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const LEAVES_0_1: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
const LEAVES_2_3: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const LEAVES_4_5: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const LEAVES_6_7: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const LEAVES_0_3: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
const LEAVES_4_7: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

#[test]
fn known_trees_have_their_roots() {
    assert_eq!(Log::of(ENTRIES).roots, ROOTS.map(hash));
    assert_eq!(Frontier::default().root(), hash(ROOTS[0]));
    assert_eq!(leaf(b""), hash(LEAF_0));
}

#[test]
fn known_proofs_are_made_and_hold() {
    let log = Log::of(ENTRIES);
    let included: [(usize, usize, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[LEAF_1, LEAVES_2_3, LEAVES_4_7]),
        (5, 8, &[LEAF_4, LEAVES_6_7, LEAVES_0_3]),
        (2, 3, &[LEAVES_0_1]),
        (1, 5, &[LEAF_0, LEAVES_2_3, LEAF_4]),
    ];
    for (index, size, known) in included {
        let path = log.inclusion(index, size);
        assert_eq!(path, known.iter().map(|hex| hash(hex)).collect::<Vec<_>>());
        assert!(log.includes(index, size, &path));
    }
    let consistent: [(usize, usize, &[&str]); 4] = [
        (1, 1, &[]),
        (1, 8, &[LEAF_1, LEAVES_2_3, LEAVES_4_7]),
        (6, 8, &[LEAVES_4_5, LEAVES_6_7, LEAVES_0_3]),
        (2, 5, &[LEAVES_2_3, LEAF_4]),
    ];
    for (old, new, known) in consistent {
        let path = log.consistency(old, new);
        assert_eq!(path, known.iter().map(|hex| hash(hex)).collect::<Vec<_>>());
        assert!(log.extends(old, new, &path));
    }
}

/// More than one node of level 16, and a piece of the next.
static LOG: LazyLock<Log> = LazyLock::new(|| Log::of((0..66_500_u32).map(u32::to_le_bytes)));

#[test]
fn small_trees_are_as_defined_and_prove_one_thing_only() {
    let log = &*LOG;
    for size in 0..=40 {
        let leaves = &log.leaves[..size];
        assert_eq!(log.roots[size], naive::mth(leaves));
        for index in 0..size {
            let path = log.inclusion(index, size);
            assert_eq!(path, naive::path(index, leaves));
            for other in 0..=40 {
                let held =
                    verify_inclusion(&leaves[index], other as u64, size as u64, &path, &log.roots[size]);
                assert_eq!(held, other == index, "{index} as {other} of {size}");
                assert_eq!(log.includes(index, other, &path), other == size);
            }
        }
        for old in 1..=size {
            let path = log.consistency(old, size);
            assert_eq!(path, naive::subproof(old, leaves, true));
            for other in 1..=40 {
                assert_eq!(log.extends(other, size, &path), other == old || other == size && path.is_empty());
                assert_eq!(log.extends(old, other, &path), other == size || other == old && path.is_empty());
            }
        }
    }
}

#[test]
fn what_is_not_there_has_no_proof() {
    let log = &*LOG;
    let mut read = |span: Span| Ok::<_, Infallible>(log.read(span));
    assert_eq!(inclusion(5, 5, &mut read), Ok(None));
    assert_eq!(inclusion(0, 0, &mut read), Ok(None));
    assert_eq!(inclusion(0, u64::MAX, &mut read), Ok(None));
    assert_eq!(consistency(6, 5, &mut read), Ok(None));
    assert_eq!(consistency(6, u64::MAX, &mut read), Ok(None));
    assert_eq!(consistency(0, 5, &mut read), Ok(Some(vec![])));
    assert_eq!(inclusion(3, 5, &mut |_| Ok::<_, ()>(vec![])), Ok(None));
    assert_eq!(inclusion(3, 5, &mut |_| Err(())), Err(()));
    assert!(log.extends(0, 5, &[]) && log.extends(0, 0, &[]) && log.extends(5, 5, &[]));
    assert!(!log.extends(0, 5, &[empty()]) && !log.extends(5, 0, &[]) && !log.extends(6, 5, &[empty()]));
    assert!(!verify_consistency(0, &log.roots[1], 5, &log.roots[5], &[]));
    assert!(!verify_consistency(0, &log.roots[0], 0, &log.roots[1], &[]));
    assert!(!verify_consistency(0, &log.roots[1], 0, &log.roots[1], &[]));
    assert!(!verify_consistency(5, &log.roots[5], 5, &log.roots[4], &[]));
}

#[test]
fn the_frontier_goes_on_where_it_was_written() {
    let mut edge = Frontier::default();
    for (leaf, root) in LOG.leaves.iter().zip(&LOG.roots).take(600) {
        assert_eq!(edge.root(), *root);
        let bytes = edge.to_bytes();
        edge = Frontier::from_bytes(&bytes).unwrap();
        assert_eq!(Frontier::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Frontier::from_bytes(&[bytes.as_slice(), &[0; 32]].concat()), None);
        edge.append(*leaf);
    }
    assert_eq!(Frontier::from_bytes(&[255; 8 + 64 * 32]), None);
}

fn spans(proof: impl FnOnce(Source<'_, Infallible>)) -> Vec<Span> {
    let mut asked = Vec::new();
    proof(&mut |span| {
        asked.push(span);
        Ok(vec![[0; 32]; usize::try_from(span.count).unwrap()])
    });
    asked
}

/// Of each stored level one node's children around the path and another's along the right edge.
fn few(asked: &[Span], size: u64) -> bool {
    let level = |level| asked.iter().filter(move |span| span.level == level);
    asked.iter().all(|span| span.level.is_multiple_of(8) && span.end() << span.level <= size)
        && (0..64).all(|one| level(one).count() <= 2 && level(one).all(|span| span.count <= 511))
        && (0..64).all(|one| level(one).map(|span| span.count).sum::<u64>() <= 511)
}

proptest! {
    #[test]
    fn a_proof_reads_few_ranges(size in 1..1_u64 << 40, at in any::<prop::sample::Index>()) {
        for size in [size, 1 + size % 1_000_000] {
            let index = at.index(usize::try_from(size).unwrap()) as u64;
            let included = spans(|nodes| drop(inclusion(index, size, nodes)));
            prop_assert!(few(&included, size), "{included:?}");
            let consistent = spans(|nodes| drop(consistency(index, size, nodes)));
            prop_assert!(few(&consistent, size), "{consistent:?}");
        }
    }

    #[test]
    fn proofs_of_large_trees_hold_until_a_bit_is_changed(
        size in prop_oneof![1..2_000_usize, 1..66_500_usize],
        at in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let log = &*LOG;
        let flip = |hashes: &mut Vec<Hash>| {
            let bit = flip.index(hashes.len() * 256);
            hashes[bit / 256][bit / 8 % 32] ^= 1 << (bit % 8);
        };
        let index = at.index(size);
        let path = log.inclusion(index, size);
        prop_assert!(log.includes(index, size, &path));
        let mut all = [&[log.leaves[index], log.roots[size]], path.as_slice()].concat();
        flip(&mut all);
        prop_assert!(!verify_inclusion(&all[0], index as u64, size as u64, &all[2..], &all[1]));
        prop_assert!(!log.includes(index, size, &[path.as_slice(), &[log.leaves[0]]].concat()));

        let old = index + 1;
        let path = log.consistency(old, size);
        prop_assert!(log.extends(old, size, &path));
        let mut all = [&[log.roots[old], log.roots[size]], path.as_slice()].concat();
        flip(&mut all);
        prop_assert!(!verify_consistency(old as u64, &all[0], size as u64, &all[1], &all[2..]));
        if size <= 2_000 {
            prop_assert_eq!(path, naive::subproof(old, &log.leaves[..size], true));
            prop_assert_eq!(log.inclusion(index, size), naive::path(index, &log.leaves[..size]));
        }
    }
}
