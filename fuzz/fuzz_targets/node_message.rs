#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wsify::wire::node_message::fuzz(bytes));
