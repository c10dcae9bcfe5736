//! The tables of the documentation agree with the program: flags in README.md, metrics in docs/observing.md.

use std::fmt::Write;
use std::path::Path;

use wsify::config::FLAGS;
use wsify::metrics::all_families;

/// The text of a page between `<!-- name -->` and `<!-- end of name -->`.
fn section(page: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    let (section, _) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap();
    section.to_owned()
}

/// A help text as Markdown, with literals set as code.
fn marked(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let bare = word.trim_end_matches([',', ';', ':']);
        if bare.contains([':', '/', '*', '[']) || bare.starts_with("--") {
            format!("`{bare}`{}", &word[bare.len()..])
        } else {
            word.to_owned()
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
            flag.name,
            flag.value.replace('|', "\\|"),
            flag.variable(),
            marked(flag.about),
        )
        .unwrap();
    }
    assert!(
        section("README.md", "flags") == table,
        "the README's table of flags is not that of src/config/flags.rs, which is\n{table}"
    );
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let mut table = "| metric | kind | meaning |\n|---|---|---|\n".to_owned();
    for family in all_families() {
        let (name, kind, about) = (family.name, family.kind.name(), family.about);
        writeln!(table, "| `{name}` | {kind} | {about} |").unwrap();
    }
    assert!(
        section("docs/observing.md", "metrics") == table,
        "the table of metrics in docs/observing.md is not that of src/metrics/families.rs, which is\n{table}"
    );
}
