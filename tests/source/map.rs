//! The structure of `src`: it agrees with the map in src/lib.rs, and keeps the rules on imports, sizes and names.
//!
//! Exceptions are listed here, and the lists may only get shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of product code in a file.
const FILE: usize = 400;
/// Files that have more, and how many at most.
const LONG_FILES: &[(&str, usize)] = &[];

/// Lines of a function, from its `fn` to its last brace.
const FUNCTION: usize = 60;
/// Functions that have more, and how many at most.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Files that import each other, directly or through others.
const CIRCLES: &[&[&str]] = &[];

/// Names of more than one type.
const SHARED_NAMES: &[&str] = &[];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The lines of the map, without their comment markers.
fn map() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Whether the map lists a file: not the form of its module in a snapshot.
fn is_listed(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    !file.starts_with("saved")
}

/// Every file of Rust but the map itself, by its path below `src`, and its text. Files of tests and of fuzzing are not the
/// product's.
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
            let name = path.strip_prefix(source()).unwrap().to_str().unwrap();
            let aside = name
                .split('/')
                .any(|part| ["tests", "tests.rs", "fuzz.rs"].contains(&part));
            if name.ends_with(".rs") && name != "lib.rs" && !aside {
                files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// A file's product code: without the tests at its foot.
fn product(text: &str) -> &str {
    let foot = text.find("\n#[cfg(test)]\nmod tests {");
    &text[..foot.map_or(text.len(), |foot| foot + 1)]
}

/// Product code without comments.
fn code(text: &str) -> String {
    let code = |line: &&str| !line.trim().starts_with("//");
    let lines: Vec<&str> = product(text).lines().filter(code).collect();
    lines.join("\n")
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
    let there: Vec<String> = files().into_keys().filter(|name| is_listed(name)).collect();
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

/// `hub/limits/mod.rs` is `[hub, limits]`, and so is `hub/limits.rs`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// All paths in a text that begin at the crate, at this module or above it, with the groups of `use` taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            // Not in the middle of a path, or of a word.
            if code[..at].ends_with(|c: char| word(c) || c == ':') {
                continue;
            }
            expand(&code[at..], &mut Vec::new(), &mut paths);
        }
    }
    paths
}

/// Appends the paths of a tree such as `a::{b, c::d}` at the beginning of `text`. Returns what is behind it.
fn expand<'t>(text: &'t str, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    let depth = before.len();
    let mut rest = text;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            while !rest.trim_start().starts_with('}') && !rest.trim_start().is_empty() {
                rest = expand(rest, before, paths).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            before.truncate(depth);
            return rest.trim_start().strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() {
            // A glob, generics, or the end.
            let next = rest.chars().next().map_or(0, char::len_utf8);
            before.truncate(depth);
            return &rest[next..];
        }
        before.push(word.to_owned());
        match behind.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                paths.push(before.clone());
                before.truncate(depth);
                let renamed = behind.trim_start().strip_prefix("as ");
                return renamed.map_or(behind, |renamed| {
                    renamed.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_')
                });
            }
        }
    }
}

/// Where a path leads, from a module: names from the crate's root.
fn absolute(path: &[String], from: &[String]) -> Vec<String> {
    let mut base: Vec<String> = from.to_vec();
    let mut rest = path;
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            _ => break,
        }
        rest = more;
    }
    base.extend(rest.iter().cloned());
    base
}

/// The files that each file imports from. A re-exported name counts for the file that defines it.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let files = files();
    let by_module: BTreeMap<Vec<String>, &String> =
        files.keys().map(|file| (module(file), file)).collect();
    let mut passed_on: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (file, text) in &files {
        let from = module(file);
        for statement in code(text).split("pub use ").skip(1) {
            let mut found = Vec::new();
            let statement = statement.split(';').next().unwrap();
            expand(statement, &mut Vec::new(), &mut found);
            for path in found {
                let mut name = from.clone();
                name.push(path.last().unwrap().clone());
                passed_on.insert(name, absolute(&path, &from));
            }
        }
    }
    let resolve = |mut path: Vec<String>| -> Option<String> {
        for _ in 0..4 {
            match (1..=path.len()).find_map(|len| passed_on.get(&path[..len])) {
                Some(origin) if *origin != path => path = origin.clone(),
                _ => break,
            }
        }
        let longest = (1..=path.len())
            .rev()
            .find_map(|len| by_module.get(&path[..len]));
        longest.map(|file| (*file).clone())
    };
    let mut imports = BTreeMap::new();
    for (file, text) in &files {
        let from = module(file);
        let code = code(text);
        let mut taken: BTreeSet<String> = paths(&code)
            .iter()
            .filter_map(|path| resolve(absolute(path, &from)))
            .collect();
        taken.remove(file);
        // A re-export is not an import.
        for statement in code.split("pub use ").skip(1) {
            let statement = format!("use {};", statement.split(';').next().unwrap());
            let mut found = Vec::new();
            expand(&statement["use ".len()..], &mut Vec::new(), &mut found);
            for path in found {
                if let Some(origin) = resolve(absolute(&path, &from))
                    && !uses_elsewhere(&code, path.last().unwrap())
                {
                    taken.remove(&origin);
                }
            }
        }
        imports.insert(file.clone(), taken);
    }
    imports
}

/// Whether a name is used apart from the `pub use` that re-exports it.
fn uses_elsewhere(code: &str, name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let hits = code.match_indices(name).filter(|(at, _)| {
        let behind = &code[at + name.len()..];
        !code[..*at].ends_with(word) && !behind.starts_with(word)
    });
    hits.count() > 1
}

/// Files that can be reached from a file.
fn reach(imports: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(file) = next.pop() {
        for other in &imports[&file] {
            if reached.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    reached
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let imports = imports();
    let reached: BTreeMap<&String, BTreeSet<String>> = imports
        .keys()
        .map(|file| (file, reach(&imports, file)))
        .collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, others) in &reached {
        if others.contains(*file) {
            let circle = others.iter().filter(|other| reached[other].contains(*file));
            circles.insert(circle.map(String::as_str).collect());
        }
    }
    let allowed: BTreeSet<Vec<&str>> = CIRCLES.iter().map(|circle| circle.to_vec()).collect();
    assert_eq!(circles, allowed);
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use super::{Clock, session::{self, Event as E}};\nlet a = crate::wire::http::parse(b);\npub use self::x::*;";
    let found: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    for path in [
        "super::Clock",
        "super::session::self",
        "super::session::Event",
        "crate::wire::http::parse",
    ] {
        assert!(found.iter().any(|it| it == path), "{path} in {found:?}");
    }
    let imports = imports();
    assert!(imports["hub/commands.rs"].contains("hub/publish.rs"));
    assert!(imports["hub/turn.rs"].contains("connection/input.rs"));
    assert!(!imports["hub/publish.rs"].contains("hub/mod.rs"));
}

/// Asserts that everything over the limit is in the list of exceptions and no longer than listed, and that the list has
/// nothing else.
fn assert_only(found: &BTreeMap<String, usize>, exceptions: &[(&str, usize)], limit: usize) {
    let exceptions: BTreeMap<&str, usize> = exceptions.iter().copied().collect();
    for (name, lines) in found {
        let most = exceptions.get(name.as_str()).copied().unwrap_or(limit);
        assert!(*lines <= most, "{name} has {lines} lines: {most} at most");
    }
    for name in exceptions.keys() {
        assert!(found.contains_key(*name), "{name} is no exception any more");
    }
}

#[test]
fn files_are_not_too_long() {
    let lengths = files().into_iter().map(|(name, text)| {
        let lines = product(&text).lines().count();
        (name, lines)
    });
    let long = lengths.filter(|(_, lines)| *lines > FILE).collect();
    assert_only(&long, LONG_FILES, FILE);
}

#[test]
fn functions_are_not_too_long() {
    let mut long = BTreeMap::new();
    for (file, text) in files() {
        let lines: Vec<&str> = product(&text).lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let end = format!("{}}}", " ".repeat(indent));
            let begins = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "const fn ",
                "pub const fn ",
            ];
            if !begins.iter().any(|begin| code.starts_with(begin)) || code.ends_with(';') {
                continue;
            }
            let Some(length) = lines[at..].iter().position(|line| *line == end) else {
                continue;
            };
            let name = code.split("fn ").nth(1).unwrap().split(['(', '<']).next();
            if length + 1 > FUNCTION {
                let name = format!("{file}: {}", name.unwrap());
                long.insert(name, length + 1);
            }
        }
    }
    assert_only(&long, LONG_FUNCTIONS, FUNCTION);
}

#[test]
fn one_type_name_is_one_type() {
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files() {
        for line in code(&text).lines() {
            let line = line.trim_start_matches("pub(super) ");
            let line = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            let kinds = ["struct ", "enum ", "trait ", "type "];
            if let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
                let name = rest[..end.unwrap_or(rest.len())].to_owned();
                types.entry(name).or_default().insert(file.clone());
            }
        }
    }
    let shared: BTreeSet<String> = types
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, _)| name)
        .collect();
    let allowed: BTreeSet<String> = SHARED_NAMES.iter().map(|name| name.to_string()).collect();
    assert_eq!(shared, allowed);
}

#[test]
fn a_connection_has_no_public_field() {
    let files = files();
    let fields = files["connection/state.rs"]
        .split("pub struct Connection<S> {")
        .nth(1)
        .and_then(|rest| rest.split("\n}").next())
        .expect("its fields");
    let public = |line: &&str| line.trim_start().starts_with("pub ");
    assert_eq!(fields.lines().find(public), None);
    assert!(fields.contains("session: Session"));
}
