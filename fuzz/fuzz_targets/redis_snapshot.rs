#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wsify::broker::redis::fuzz(bytes));
