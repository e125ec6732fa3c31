//! Going over the old blocks of the tree, a few at a time: sealing reads its edge alone, and would go on for years over
//! harm that lies before it.

use super::authority::Authority;
use super::log::{self, BLOCK, signed};
use super::memory::{Astray, tree};
use super::merkle::Frontier;
use crate::connection::Link;
use crate::error::Fault;

/// Blocks of one piece.
const PIECE: usize = 16;

/// How far somebody is, from the first block to the last and then from the first again.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    edge: Frontier,
    /// The last time the blocks did not come to what the head says, though each could be right by itself.
    doubted: bool,
    harm: Option<Astray>,
}

impl Walk {
    /// What is known to be wrong.
    pub(super) fn harm(&self) -> Option<Astray> {
        self.harm
    }

    /// Looks at the next blocks; were they the last?
    pub(super) fn on(&mut self, link: &mut Link, authority: &Authority) -> Result<bool, Fault> {
        let mut edge = self.edge.clone();
        let (found, readable) = log::readable(link, |sql| {
            sql.push(" WHERE first >= ").int(signed(edge.size())).push(" ORDER BY first").limit(PIECE);
        })?;
        let more = found.len() == PIECE;
        let mut open = None;
        for block in found {
            if block.first != edge.size() || block.position() != Some(block.last) {
                return self.is_harmed(link, edge.size());
            }
            if (block.leaves.len() as u64) < BLOCK {
                open = Some(block);
                break;
            }
            let made = block.leaves.iter().flat_map(|leaf| edge.append(*leaf)).find(|node| node.level == 8);
            if block.root != made.map(|node| node.hash) {
                return self.is_harmed(link, block.first);
            }
        }
        if !readable {
            return self.is_harmed(link, edge.size());
        }
        if more && open.is_none() {
            self.edge = edge;
            return Ok(false);
        }
        for leaf in open.iter().flat_map(|block| &block.leaves) {
            edge.append(*leaf);
        }
        self.edge = Frontier::default();
        // Of a log that can't go on, sealing tells.
        let Ok(state) = log::genuine(link, authority)? else { return Ok(true) };
        if tree(state.as_ref()) == (edge.size(), edge.root()) {
            (self.doubted, self.harm) = (false, None);
        } else if self.doubted {
            self.is_harmed(link, 0)?;
        } else {
            // Unless it was made anew meanwhile, it is so the next time too.
            self.doubted = true;
        }
        Ok(true)
    }

    /// Is something wrong with any of the blocks?
    pub(super) fn finds_harm(link: &mut Link, authority: &Authority) -> Result<bool, Fault> {
        let mut walk = Self::default();
        while !walk.on(link, authority)? {}
        Ok(walk.doubted || walk.harm.is_some())
    }

    fn is_harmed(&mut self, link: &mut Link, place: u64) -> Result<bool, Fault> {
        self.edge = Frontier::default();
        // It is one harm, however the log grows.
        if self.harm.is_none_or(|harm| harm.found != place) {
            let why = "its blocks are not what was signed";
            self.harm = Some(Astray { known: log::size(link)?, found: place, why });
        }
        Ok(true)
    }
}
