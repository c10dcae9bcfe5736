//! Replays the corpus of every fuzz target, without a fuzzer.

#[path = "../hub/fuzz.rs"]
mod hub;

use std::{fs, path::Path};

type Target = (&'static str, fn(&[u8]));

/// Each target in `fuzz/fuzz_targets`, and what it calls.
const TARGETS: [Target; 19] = [
    ("answer", wsify::webhook::fuzz),
    ("answer_fields", wsify::wire::answer_fields::fuzz),
    ("backend", wsify::wire::backend::fuzz),
    ("command", wsify::wire::command::fuzz),
    ("deflate", wsify::wire::deflate::fuzz),
    ("extensions", wsify::wire::extensions::fuzz),
    ("forwarded", wsify::wire::forwarded::fuzz),
    ("frame", wsify::wire::frame::fuzz),
    ("handshake", wsify::wire::handshake::fuzz),
    ("http", wsify::wire::http::fuzz),
    ("hub", hub::language::play),
    ("message", wsify::wire::message::fuzz),
    ("node_message", wsify::wire::node_message::fuzz),
    ("nodes", wsify::wire::nodes::fuzz),
    ("origins", wsify::wire::origins::fuzz),
    ("proxy_protocol", wsify::wire::proxy_protocol::fuzz),
    ("redis_snapshot", wsify::broker::redis::fuzz),
    ("resp", wsify::wire::resp::fuzz),
    ("snapshot", hub::foreign::play),
];

/// The names in a directory of `fuzz/`, sorted.
fn names(directory: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(directory);
    let mut names: Vec<String> = fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_file_keeps_the_invariants() {
    for (target, fuzz) in TARGETS {
        let files = names(&format!("corpus/{target}"));
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            // Printed only where the call panics.
            println!("fuzz/corpus/{target}/{file}");
            let path = format!("{}/fuzz/corpus/{target}/{file}", env!("CARGO_MANIFEST_DIR"));
            fuzz(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let targets = TARGETS.map(|(target, _)| target.to_string());
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets.map(|target| target + ".rs"));
}
