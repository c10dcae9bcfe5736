//! Compression, for all connections together: one compressor, one inflater (`docs/protocol.md#compression`).
//!
//! Owns: the compressor and the inflater, whether compression is switched on, which content is compressed, and the
//! counts for `/metrics`. Knows: how much of a turn it takes. Never knows: connections, channels, frames.

use std::time::Instant;

use crate::metrics::CompressionCounts;
use crate::wire::deflate::{Deflater, Inflated, Inflater};
use crate::wire::frame::{Opcode, Violation};

/// This many bytes take about the time of one more message: plain bytes to deflate, compressed bytes to inflate,
/// inflated bytes.
const DEFLATED_PER_MESSAGE: usize = 512;
const COMPRESSED_PER_MESSAGE: usize = 256;
const INFLATED_PER_MESSAGE: usize = 2048;

#[derive(Debug, Default)]
pub struct Compression {
    /// `None`: it is switched off.
    codec: Option<Box<Codec>>,
    pub counts: CompressionCounts,
    /// Messages that would have taken the time that it has taken, since they were last asked for.
    cost: usize,
}

#[derive(Debug)]
struct Codec {
    deflater: Deflater,
    inflater: Inflater,
    min_size: usize,
}

impl Compression {
    /// The compression of all connections. `min_size`: `--compression-min-size`; `None` where it is switched off.
    pub fn new(min_size: Option<usize>) -> Compression {
        let codec = min_size.map(|min_size| {
            Box::new(Codec {
                deflater: Deflater::default(),
                inflater: Inflater::default(),
                min_size,
            })
        });
        Compression {
            codec,
            ..Compression::default()
        }
    }

    pub fn is_on(&self) -> bool {
        self.codec.is_some()
    }

    /// Compresses content that a member wants compressed. `None`: it is not worth it. [`Compression::rest`] is to
    /// follow.
    pub fn deflate(&mut self, content: &[u8]) -> Option<&[u8]> {
        let (codec, counts) = (self.codec.as_deref_mut()?, &mut self.counts);
        if content.len() < codec.min_size {
            counts.too_small = counts.too_small.saturating_add(1);
            return None;
        }
        let began = Instant::now();
        let deflated = codec.deflater.deflate(content);
        counts.deflate_time = counts.deflate_time.saturating_add(began.elapsed());
        self.cost = self
            .cost
            .saturating_add(content.len() / DEFLATED_PER_MESSAGE);
        let Some(deflated) = deflated else {
            counts.not_smaller = counts.not_smaller.saturating_add(1);
            return None;
        };
        counts.deflated = counts.deflated.saturating_add(1);
        counts.before_deflate = counts.before_deflate.saturating_add(content.len() as u64);
        counts.after_deflate = counts.after_deflate.saturating_add(deflated.len() as u64);
        Some(deflated)
    }

    /// What was deflated is no longer needed.
    pub fn rest(&mut self) {
        if let Some(codec) = &mut self.codec {
            codec.deflater.rest();
        }
    }

    /// Inflates a client's message. To be given back with [`Compression::keep`].
    pub fn inflate(
        &mut self,
        kind: Opcode,
        payload: &[u8],
        max: usize,
    ) -> Result<Inflated, Violation> {
        let codec = self.codec.as_deref_mut().ok_or(Violation::ReservedBit)?;
        let counts = &mut self.counts;
        let began = Instant::now();
        let inflated = codec.inflater.inflate(payload, kind == Opcode::Text, max);
        counts.inflate_time = counts.inflate_time.saturating_add(began.elapsed());
        let len = match &inflated {
            Ok(inflated) => inflated.bytes().len(),
            Err(Violation::TooBig) => max,
            Err(_) => 0,
        };
        self.cost = self
            .cost
            .saturating_add(payload.len() / COMPRESSED_PER_MESSAGE)
            .saturating_add(len / INFLATED_PER_MESSAGE);
        if inflated.is_ok() {
            counts.inflated = counts.inflated.saturating_add(1);
            counts.before_inflate = counts.before_inflate.saturating_add(payload.len() as u64);
            counts.after_inflate = counts.after_inflate.saturating_add(len as u64);
        }
        inflated
    }

    /// Takes back what was inflated.
    pub fn keep(&mut self, inflated: Inflated) {
        if let Some(codec) = &mut self.codec {
            codec.inflater.keep(inflated);
        }
    }

    /// How many messages its work since the last call counts for, in a turn's limits.
    #[inline]
    pub fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.cost)
    }
}
