//! README.md and docs/: links and anchors resolve, blocks that show a file are that file, commands and programs have a
//! test, and no page or table cell is too long.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and every page of docs/, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// A fenced block: the comment in front of it, its language, its text without the fence's indentation.
struct Block {
    line: usize,
    comment: Option<String>,
    language: String,
    text: String,
}

/// A page's blocks, and its lines outside of them, each with its number.
fn parse(text: &str) -> (Vec<Block>, Vec<(usize, &str)>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            prose.push((number + 1, line));
            before = line;
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut block = Block {
            line: number + 1,
            comment: before
                .trim()
                .strip_prefix("<!-- ")
                .and_then(|rest| rest.strip_suffix(" -->"))
                .map(str::to_owned),
            language: language.to_owned(),
            text: String::new(),
        };
        loop {
            let (_, line) = lines
                .next()
                .unwrap_or_else(|| panic!("the block of line {} has no end", block.line));
            let line = line.get(indent..).unwrap_or("");
            if line == "```" {
                break;
            }
            block.text.push_str(line);
            block.text.push('\n');
        }
        blocks.push(block);
        before = "";
    }
    (blocks, prose)
}

/// The anchor that GitHub derives from a heading: lower case, no punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(prose: &[(usize, &str)]) -> HashSet<String> {
    let mut seen = HashMap::new();
    let mut anchors = HashSet::new();
    for (_, line) in prose {
        let heading = line.trim_start_matches('#');
        if !line.starts_with('#') || !heading.starts_with(' ') {
            continue;
        }
        let name = anchor(heading);
        let times: &mut usize = seen.entry(name.clone()).or_default();
        anchors.insert(match *times {
            0 => name,
            n => format!("{name}-{n}"),
        });
        *times += 1;
    }
    anchors
}

/// The targets of the links and pictures of a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn relative_links_and_anchors_resolve() {
    let pages = pages();
    let known: HashMap<PathBuf, HashSet<String>> = pages
        .iter()
        .map(|(path, text)| (path.clone(), anchors(&parse(text).1)))
        .collect();
    let mut broken = Vec::new();
    for (path, text) in &pages {
        let (_, prose) = parse(text);
        // A link's text may begin on the line before.
        for (number, line) in prose {
            for target in links(line) {
                if target.starts_with("https://") {
                    continue;
                }
                let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
                let there = match file {
                    "" => path.clone(),
                    file => path.parent().unwrap().join(file),
                };
                let found = there.canonicalize().is_ok_and(|there| {
                    fragment.is_empty()
                        || known.iter().any(|(page, anchors)| {
                            page.canonicalize().unwrap() == there && anchors.contains(fragment)
                        })
                });
                if !found {
                    broken.push(format!("{}:{number}: {target}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Comments of the source cite pages and anchors as `docs/page.md#anchor`.
#[test]
fn pages_that_the_source_cites_exist() {
    let known: HashMap<String, HashSet<String>> = pages()
        .iter()
        .map(|(path, text)| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, anchors(&parse(text).1))
        })
        .collect();
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        sources(&root().join(folder), &mut files);
    }
    let mut broken = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (page, anchors) in &known {
            for (at, _) in text.match_indices(&format!("{page}#")) {
                let rest = &text[at + page.len() + 1..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
                let cited = &rest[..end.unwrap_or(rest.len())];
                if !anchors.contains(cited) {
                    broken.push(format!("{}: {page}#{cited}", file.display()));
                }
            }
        }
        for (at, _) in text.match_indices("docs/") {
            let rest = &text[at..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && !"-_./".contains(c));
            let cited = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            if cited.ends_with(".md") && !known.contains_key(cited) && cited != "docs/page.md" {
                broken.push(format!("{}: {cited}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                sources(&path, found);
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "py")
        {
            found.push(path);
        }
    }
}

#[test]
fn a_block_that_shows_a_file_is_that_file() {
    let mut shown = HashSet::new();
    for (path, text) in pages() {
        for block in parse(&text).0 {
            let Some(name) = block
                .comment
                .as_deref()
                .and_then(|comment| comment.strip_prefix("file: "))
            else {
                continue;
            };
            let file = std::fs::read_to_string(root().join(name)).unwrap();
            assert!(
                block.text == file,
                "{}:{}: this is not {name}, which is\n{file}",
                path.display(),
                block.line
            );
            shown.insert(name.to_owned());
        }
    }
    assert!(shown.len() > 5, "{shown:?}");
}

/// `tests/docs/test_blocks.py` has a function for each of these names.
#[test]
fn commands_and_programs_have_a_test() {
    let tests = std::fs::read_to_string(root().join("tests/docs/test_blocks.py")).unwrap();
    let mut named = HashSet::new();
    for (path, text) in pages() {
        for block in parse(&text).0 {
            let place = format!("{}:{}", path.display(), block.line);
            if matches!(block.language.as_str(), "" | "json") {
                continue;
            }
            let comment = block.comment.unwrap_or_default();
            if let Some(name) = comment.strip_prefix("test: ") {
                assert!(
                    tests.contains(&format!("\ndef test_{name}(")),
                    "{place}: there is no test_{name} in tests/docs/test_blocks.py"
                );
                named.insert(name.to_owned());
            } else {
                assert!(
                    comment.starts_with("file: "),
                    "{place}: neither a file nor a test is named before this block"
                );
            }
        }
    }
    for line in tests.lines() {
        if let Some((name, _)) = line
            .strip_prefix("def test_")
            .and_then(|rest| rest.split_once('('))
        {
            assert!(
                named.contains(name),
                "test_{name} runs a block that no page has"
            );
        }
    }
}

#[test]
fn the_readme_has_at_most_350_lines() {
    let lines = std::fs::read_to_string(root().join("README.md"))
        .unwrap()
        .lines()
        .count();
    assert!(
        lines <= 350,
        "README.md has {lines} lines: move some of it to docs/"
    );
}

#[test]
fn cells_of_tables_have_at_most_25_words() {
    let mut long = Vec::new();
    for (path, text) in pages() {
        for (number, line) in parse(&text).1 {
            if !line.trim_start().starts_with('|') {
                continue;
            }
            for cell in line.replace("\\|", "/").split('|') {
                let words = cell
                    .split_whitespace()
                    .filter(|word| word.contains(char::is_alphanumeric))
                    .count();
                if words > 25 {
                    long.push(format!(
                        "{}:{number}: {words} words: {cell}",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn examples_of_json_are_json() {
    for (path, text) in pages() {
        for block in parse(&text).0 {
            if block.language != "json" {
                continue;
            }
            let text = block.text.replace('…', "null");
            for value in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>()
            {
                assert!(
                    value.is_ok(),
                    "{}:{}: {value:?}",
                    path.display(),
                    block.line
                );
            }
        }
    }
}
