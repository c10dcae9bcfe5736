//! The frame of content in each encoding.
//!
//! Owns: which of them is smaller, with compression and without. Knows: what stands before content for a client that
//! uses `wsify.v1`. Never knows: where content goes.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the lengths are of what is in memory"
)]

use crate::wire::deflate::Enveloped;
use crate::wire::encoding::Encoding;
use crate::wire::frame::{self, Opcode};
use crate::wire::server_message;

/// Appends the frame of content as it is.
#[inline]
pub fn push_plain(out: &mut Vec<u8>, encoding: Encoding, prefix: &[u8], content: &[u8]) {
    if encoding.is_v1() {
        let size = prefix.len() + content.len() + server_message::V1_SUFFIX.len();
        frame::push_header(out, Opcode::Text, size);
        server_message::push_v1(out, prefix, content);
    } else {
        frame::push_frame(out, Opcode::Text, content);
    }
}

/// Appends the frame of content that was compressed, where that frame is smaller.
pub fn push_deflated(
    out: &mut Vec<u8>,
    encoding: Encoding,
    prefix: &[u8],
    content: &[u8],
    deflated: &[u8],
) {
    if !encoding.is_v1() {
        frame::push_compressed_header(out, Opcode::Text, deflated.len());
        return out.extend_from_slice(deflated);
    }
    let plain = prefix.len() + content.len() + server_message::V1_SUFFIX.len();
    match Enveloped::new(prefix, deflated, server_message::V1_SUFFIX) {
        Some(enveloped) if enveloped.size() < plain => {
            frame::push_compressed_header(out, Opcode::Text, enveloped.size());
            enveloped.push(out);
        }
        _ => push_plain(out, encoding, prefix, content),
    }
}
