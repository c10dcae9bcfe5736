//! The fuzz targets that run a whole hub: scripts and snapshots. The fuzzer and the corpus read this file.

#![expect(
    dead_code,
    reason = "the stories use more of the rig, and a fuzz target only one of the two"
)]

mod client;
mod facts;
pub mod foreign;
pub mod language;
mod pipe;
mod rig;
