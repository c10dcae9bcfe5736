//! Pairs of numbers in order, in blocks of a fixed size.
//!
//! Owns: their order. Never knows: what the numbers mean.
//!
//! Decision: blocks of 8 KiB rather than a `BTreeSet`, because its nodes of 100 bytes are allocated between the questions
//! of a rush of clients, which are freed a moment later. Each node then keeps a page of the heap in use: 100 bytes per
//! connection that has a user. An insertion moves half a block.

/// Pairs of a block.
const BLOCK: usize = 1024;

type Pair = (u32, u32);

/// A set of pairs.
#[derive(Debug, Default)]
pub struct Blocks {
    /// In order; no block is empty, or longer than [`BLOCK`].
    blocks: Vec<Vec<Pair>>,
    len: usize,
}

impl Blocks {
    /// The block in which a pair is or belongs.
    fn block(&self, pair: Pair) -> usize {
        let after = |block: &Vec<Pair>| block.first().is_some_and(|first| *first <= pair);
        self.blocks.partition_point(after).saturating_sub(1)
    }

    pub fn insert(&mut self, pair: Pair) {
        if self.blocks.is_empty() {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let mut at = self.block(pair);
        if self
            .blocks
            .get(at)
            .is_some_and(|block| block.len() >= BLOCK)
        {
            self.split(at);
            at = self.block(pair);
        }
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        if let Err(place) = block.binary_search(&pair) {
            block.insert(place, pair);
            self.len = self.len.saturating_add(1);
        }
    }

    fn split(&mut self, at: usize) {
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        let mut upper = Vec::with_capacity(BLOCK);
        upper.extend(block.drain(BLOCK / 2..));
        self.blocks.insert(at.saturating_add(1), upper);
    }

    pub fn remove(&mut self, pair: Pair) {
        let at = self.block(pair);
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        let Ok(place) = block.binary_search(&pair) else {
            return;
        };
        block.remove(place);
        self.len = self.len.saturating_sub(1);
        if block.is_empty() {
            self.blocks.remove(at);
        } else {
            self.merge(at);
            self.merge(at.saturating_sub(1));
        }
    }

    /// Merges a block with the next one, if both together fill no more than half a block.
    fn merge(&mut self, at: usize) {
        let next = at.saturating_add(1);
        let len = |at: usize| self.blocks.get(at).map(Vec::len);
        let (Some(one), Some(other)) = (len(at), len(next)) else {
            return;
        };
        if one.saturating_add(other) <= BLOCK / 2 {
            let moved = self.blocks.remove(next);
            if let Some(block) = self.blocks.get_mut(at) {
                block.extend(moved);
            }
        }
    }

    /// The pairs from `first` on, in order.
    pub fn from(&self, first: Pair) -> impl Iterator<Item = Pair> {
        let blocks = self.blocks.get(self.block(first)..).unwrap_or_default();
        let pairs = blocks.iter().flatten().copied();
        // Only pairs of the first block can be before it.
        let skipped = blocks
            .first()
            .map_or(0, |block| block.partition_point(|pair| *pair < first));
        pairs.skip(skipped)
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

    #[test]
    fn pairs_are_those_of_a_tree_whatever_is_inserted_and_removed() {
        for seed in 1..=8 {
            let mut random = Random::new(seed);
            let (mut blocks, mut tree) = (Blocks::default(), BTreeSet::new());
            let mut most_blocks = 0;
            for step in 0..40_000 {
                let pair = (random.within(0..=200) as u32, random.within(0..=100) as u32);
                // First it grows, then it shrinks.
                if random.within(0..=9) < if step < 20_000 { 8 } else { 2 } {
                    blocks.insert(pair);
                    tree.insert(pair);
                } else {
                    blocks.remove(pair);
                    tree.remove(&pair);
                }
                most_blocks = most_blocks.max(blocks.blocks.len());
                if step % 1_000 == 0 {
                    let first = (random.within(0..=200) as u32, random.within(0..=100) as u32);
                    assert!(blocks.from(first).eq(tree.range(first..).copied()));
                    assert!(blocks.from((0, 0)).eq(tree.iter().copied()));
                    assert_eq!(blocks.len(), tree.len());
                    let fits = |block: &Vec<Pair>| (1..=BLOCK).contains(&block.len());
                    assert!(blocks.blocks.iter().all(fits));
                }
            }
            assert!(most_blocks > 8);
            for pair in tree {
                blocks.remove(pair);
            }
            assert_eq!((blocks.len(), blocks.blocks.len()), (0, 0));
        }
    }
}
