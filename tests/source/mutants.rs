//! Mutants: deliberately broken copies of the hub. The simulations have to find each of them.
//!
//! A mutant is a file in `tests/source/mutants`: a sentence about what is broken, and changes that look like a `diff`. A
//! change has a line `--- path`, then context lines (after a space), removed lines (`-`) and added lines (`+`). Context and
//! removed lines together occur exactly once in that file, so there are no line numbers.
//!
//! `cargo test --test mutants -- --ignored --nocapture` builds a copy for each mutant and runs the simulations against it,
//! until one seed fails. That takes up to a minute for each. `WSIFY_MUTANTS=restored-,grants` plays only those that have one
//! of these parts in their name. By default the test only checks that the changes still apply.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Mutant {
    name: String,
    /// The changed text of each file, by path.
    files: BTreeMap<PathBuf, String>,
}

fn mutants() -> Vec<Mutant> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("tests/source/mutants"))
        .expect("tests/source/mutants")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| Mutant::read(path)).collect()
}

impl Mutant {
    fn read(path: &Path) -> Mutant {
        let name = path.file_stem().expect("a name").display().to_string();
        let text = fs::read_to_string(path).expect("a text");
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for change in text.split("\n--- ").skip(1) {
            let (file, lines) = change.split_once('\n').expect("a path and its change");
            let side = |left_out: char| -> String {
                lines
                    .lines()
                    .filter(|line| !line.is_empty() && !line.starts_with(left_out))
                    .map(|line| format!("{}\n", line.get(1..).unwrap_or_default()))
                    .collect()
            };
            let (before, after) = (side('+'), side('-'));
            let source = files
                .remove(Path::new(file))
                .unwrap_or_else(|| fs::read_to_string(root().join(file)).expect("a source file"));
            let places = source.matches(&before).count();
            assert_eq!(
                places, 1,
                "{name}: these lines stand in {places} places of {file}:\n{before}"
            );
            files.insert(file.into(), source.replace(&before, &after));
        }
        assert!(!files.is_empty(), "{name} changes nothing");
        Mutant { name, files }
    }
}

#[test]
fn every_mutant_still_applies() {
    assert!(mutants().len() >= 80);
}

#[test]
#[ignore = "it builds the program anew for each mutant"]
fn every_mutant_is_found_by_a_simulation() {
    let copy = root().join("target/mutant");
    begin(&copy);
    let mut missed = Vec::new();
    for mutant in mutants().into_iter().filter(is_wanted) {
        let began = Instant::now();
        let said = simulate(&copy, &mutant);
        let last = |text: &str| said.lines().rfind(|line| line.contains(text));
        let found = last("seeds fail").or(last("test result: FAILED"));
        let (name, seconds) = (&mutant.name, began.elapsed().as_secs());
        println!(
            "{name:<44} {seconds:>3} s  {}",
            found.unwrap_or("not found")
        );
        if found.is_none() {
            missed.push(mutant.name);
        }
    }
    assert!(missed.is_empty(), "no simulation finds {missed:?}");
}

/// Makes a copy of the program that is not broken. It has a version of its own: cargo would take what is built of a mutant
/// for the program's, as both are in one directory. The binary is left out: it would be linked for each mutant.
fn begin(copy: &Path) {
    let _ = fs::remove_dir_all(copy);
    for part in ["Cargo.toml", "Cargo.lock", "src", "tests", "benches"] {
        copy_all(&root().join(part), &copy.join(part));
    }
    let version = concat!("name = \"wsify\"\nversion = \"", env!("CARGO_PKG_VERSION"));
    for file in ["Cargo.toml", "Cargo.lock"] {
        let text = fs::read_to_string(copy.join(file)).expect("a text");
        let mut text = text.replacen(version, &format!("{version}-mutant"), 1);
        if let Some((before, binary)) = text.split_once("[[bin]]\n") {
            let (_, behind) = binary.split_once("\n\n").expect("its end");
            text = format!("{before}{behind}");
        }
        assert!(text.contains("-mutant"), "{file} has no version");
        fs::write(copy.join(file), text).expect("written");
    }
    fs::remove_file(copy.join("src/main.rs")).expect("the binary");
}

/// Whether the environment asks for it, or for none.
fn is_wanted(mutant: &Mutant) -> bool {
    std::env::var("WSIFY_MUTANTS").map_or(true, |parts| {
        parts.split(',').any(|part| mutant.name.contains(part))
    })
}

/// The output of the simulations on a copy while it is broken in this way.
fn simulate(copy: &Path, mutant: &Mutant) -> String {
    for (file, text) in &mutant.files {
        fs::write(copy.join(file), text).expect("written");
    }
    let mut command = Command::new(env!("CARGO"));
    // What cargo sets for a test would have it build some dependencies again.
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["test", "--quiet", "--test", "hub", "simulation"])
        .current_dir(copy)
        // Reuses the dependencies that are built already.
        .env("CARGO_TARGET_DIR", root().join("target"))
        .env("RUST_BACKTRACE", "0")
        .env("WSIFY_FAILURES", "1")
        .output()
        .expect("cargo runs");
    for file in mutant.files.keys() {
        copy_all(&root().join(file), &copy.join(file));
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        !said.contains("could not compile"),
        "{}: {said}",
        mutant.name
    );
    said
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            if name != "node_modules" {
                copy_all(&from.join(&name), &to.join(&name));
            }
        }
    } else {
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(from, to).expect("copied");
    }
}
