//! The text of `--help`.
//!
//! Owns: its columns. Knows: the table of flags. Never knows: a flag's value.

use super::flags::{FLAGS, ValueKind};

/// Columns of the help: the least that a terminal has.
const COLUMNS: usize = 80;

/// The column where the description of a flag begins.
const INDENT: usize = 32;

/// The text of `--help`.
pub(super) fn text() -> String {
    let mut text = format!(
        "wsify {}\n{}\n\nUsage: wsify [OPTIONS]\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    let mut group = "";
    for flag in FLAGS {
        if flag.group != group {
            group = flag.group;
            text += &format!("\n{group}:\n");
        }
        let spelled = match flag.kind {
            ValueKind::Switch => format!("--{}", flag.name),
            _ => format!("--{} {}", flag.name, flag.value),
        };
        let default = match (flag.kind, flag.default) {
            (ValueKind::Switch, _) | (_, "") => None,
            (_, default) => Some(format!("[default: {default}]")),
        };
        push_entry(&mut text, &spelled, flag.about, default.as_deref());
    }
    text += "\nOther options:\n";
    push_entry(&mut text, "--help, -h", "show this help", None);
    push_entry(&mut text, "--version", "show the version", None);
    text + "\n\
        Every option can also be set by an environment variable, for instance\n\
        WSIFY_LISTEN_ADDR for --listen-addr. An option overrides its variable.\n\
        Durations: 500ms, 5s, 2m. Sizes: 65536, 64KiB, 1MiB."
}

/// Appends an option, and what it does in a column of its own.
fn push_entry(text: &mut String, spelled: &str, about: &str, default: Option<&str>) {
    let mut line = format!("  {spelled}");
    // Two spaces at least between the columns.
    if line.len() + 2 > INDENT {
        *text += &line;
        text.push('\n');
        line.clear();
    }
    line = format!("{line:INDENT$}");
    // The default stays in one piece.
    let words = about.split_whitespace().chain(default);
    for (nth, word) in words.enumerate() {
        if line.len() + 1 + word.len() > COLUMNS {
            *text += &line;
            text.push('\n');
            line = " ".repeat(INDENT);
        } else if nth > 0 {
            line.push(' ');
        }
        let (first, rest) = word.split_at(usize::from(nth == 0));
        line += &first.to_uppercase();
        line += rest;
    }
    *text += &line;
    text.push('\n');
}
