#![no_main]

#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/client.rs"]
mod client;
#[path = "../../tests/hub/language.rs"]
mod language;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/pipe.rs"]
mod pipe;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/rig.rs"]
mod rig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| language::play(bytes));
