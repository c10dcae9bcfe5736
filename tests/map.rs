//! The map in src/lib.rs, held against the source: every file has its line there, and imports go where it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The lines of the map, without what makes comments of them.
fn map() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Every file of Rust but the map itself, by its path below `src`, and its text.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|it| it != "rs") {
                continue;
            }
            let name = path.strip_prefix(source()).unwrap().to_str().unwrap();
            files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
    files.remove("lib.rs").unwrap();
    files
}

#[test]
fn every_file_has_its_line() {
    let mut described: Vec<String> = map()
        .iter()
        .filter_map(|line| line.split_once("  "))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.ends_with(".rs"))
        .collect();
    described.sort();
    // Tests and fuzzing in a file of their own belong to the file that they test.
    let there = files().into_keys();
    let there: Vec<String> = there
        .filter(|name| !name.ends_with("/tests.rs") && !name.ends_with("/fuzz.rs"))
        .collect();
    assert_eq!(described, there);
}

#[test]
fn every_file_begins_with_its_header() {
    for (name, text) in files() {
        assert!(text.starts_with("//! "), "{name} has no header");
    }
}

#[test]
fn imports_go_where_the_map_says() {
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (rooms, others) in map().iter().filter_map(|line| line.split_once(" -> ")) {
        for room in rooms.split(", ") {
            let others = others.split(", ").filter(|other| *other != "nothing");
            allowed.insert(room.to_owned(), others.map(str::to_owned).collect());
        }
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in files() {
        let room = name.split(['/', '.']).next().unwrap().to_owned();
        let imports = found.entry(room.clone()).or_default();
        let code = text.lines().filter(|line| !line.trim().starts_with("//"));
        for root in ["crate::", "wsify::"] {
            for path in code.clone().flat_map(|line| line.split(root).skip(1)) {
                let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                imports.insert(path[..end.unwrap_or(path.len())].to_owned());
            }
        }
        imports.remove(&room);
    }
    assert_eq!(found, allowed);
}
