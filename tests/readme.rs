//! The tables of the documentation, held against the program: every flag in README.md, every metric in
//! docs/observing.md.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use wsify::config::FLAGS;
use wsify::metrics::{Gauges, Metrics};

/// The text between two comments of a page, which a reader does not see.
fn section(page: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    let (section, _) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap();
    section.to_owned()
}

/// A help text as Markdown: what is to be typed as it stands is set as code.
fn marked(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let bare = word.trim_end_matches([',', ';', ':']);
        match bare.contains([':', '/', '*', '[']) || bare.starts_with("--") {
            true => format!("`{bare}`{}", &word[bare.len()..]),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_of_flags_is_that_of_the_program() {
    let mut table = "| flag | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    for flag in FLAGS {
        let default = match flag.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        writeln!(
            table,
            "| `--{} {}` | `{}` | {default} | {} |",
            flag.name(),
            flag.value.replace('|', "\\|"),
            flag.variable(),
            marked(&flag.about.join(" ")),
        )
        .unwrap();
    }
    assert!(
        section("README.md", "flags") == table,
        "the README's table of flags is not that of src/config.rs, which is\n{table}"
    );
}

#[test]
fn the_table_of_metrics_names_each_and_no_other() {
    let gauges = Gauges {
        process: wsify::process::now(),
        ..Gauges::default()
    };
    let mut text = String::new();
    Metrics::new(SystemTime::now()).render(&gauges, &mut text);
    let exposed: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let section = section("docs/observing.md", "metrics");
    let described: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" |")?.0))
        })
        .collect();
    assert_eq!(described, exposed);
}
