#![no_main]

#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/client.rs"]
mod client;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/house.rs"]
mod house;
#[path = "../../tests/hub/language.rs"]
mod language;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "../../tests/hub/pipe.rs"]
mod pipe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| language::play(bytes));
