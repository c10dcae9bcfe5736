#![no_main]

#[path = "../../tests/hub/fuzz.rs"]
mod hub;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hub::language::play(bytes));
