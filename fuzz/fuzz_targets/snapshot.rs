#![no_main]

#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/client.rs"]
mod client;
#[allow(dead_code, reason = "the tests of snapshots use more of it")]
#[path = "../../tests/hub/foreign.rs"]
mod foreign;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/pipe.rs"]
mod pipe;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/rig.rs"]
mod rig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreign::play(bytes));
