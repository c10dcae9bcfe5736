//! How a log line looks: JSON for programs, text for people.
//!
//! Decisions
//! - serde_json writes every text, so no input can break out of its line.
//! - Text is for a terminal, which executes control sequences. So everything that is not plainly visible is escaped, in
//!   fields and in messages, with and without a terminal.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use super::{Level, Value};

/// How lines look, in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Plain,
    Coloured,
}

/// A line, its end included.
pub(super) fn encoded(
    style: Style,
    level: Level,
    message: &str,
    fields: &[(&str, Value)],
) -> Vec<u8> {
    // Times before 1970 are written as 1970.
    let now = SystemTime::now().max(SystemTime::UNIX_EPOCH);
    let time = humantime::format_rfc3339_millis(now);
    match style {
        Style::Json => as_json(&time, level, message, fields),
        Style::Plain => as_text(&time, level, message, fields, ["", "", ""]),
        Style::Coloured => {
            let colour = match level {
                Level::Error => "\x1b[31m",
                Level::Warn => "\x1b[33m",
                Level::Info => "\x1b[32m",
                Level::Debug => "\x1b[34m",
            };
            as_text(
                &time,
                level,
                message,
                fields,
                ["\x1b[2m", colour, "\x1b[0m"],
            )
        }
    }
}

/// `2026-01-01T00:00:00.000Z WARN  a message  name=value other="another value"`. What is `faint`, and the level in its
/// `colour`, end with a `reset`.
fn as_text(
    time: &dyn fmt::Display,
    level: Level,
    message: &str,
    fields: &[(&str, Value)],
    [faint, colour, reset]: [&str; 3],
) -> Vec<u8> {
    let mut line = String::with_capacity(256);
    let name = level.name().to_uppercase();
    // Writing to memory cannot fail; a `Display` that does cuts its own field short.
    let _ = fmt::write(
        &mut line,
        format_args!("{faint}{time}{reset} {colour}{name:<5}{reset} "),
    );
    push_visible(&mut line, message);
    for (nth, (name, value)) in fields.iter().enumerate() {
        line.push_str(if nth == 0 { "  " } else { " " });
        line.push_str(faint);
        push_visible(&mut line, name);
        line.push('=');
        line.push_str(reset);
        match value {
            Value::Number(number) => line.push_str(&number.to_string()),
            Value::Flag(flag) => line.push_str(&flag.to_string()),
            Value::Text(text) => push_value(&mut line, text),
            Value::Shown(shown) => {
                let mut text = String::new();
                let _ = fmt::write(&mut text, format_args!("{shown}"));
                push_value(&mut line, &text);
            }
        }
    }
    line.push('\n');
    line.into_bytes()
}

/// A value, between quotes where it could be mistaken for something else.
fn push_value(line: &mut String, text: &str) {
    let plain = |c: char| !matches!(c, ' ' | '"' | '=' | '\\') && is_visible(c);
    if !text.is_empty() && text.chars().all(plain) {
        return line.push_str(text);
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c if is_visible(c) => line.push(c),
            c => line.extend(c.escape_default()),
        }
    }
    line.push('"');
}

fn push_visible(line: &mut String, text: &str) {
    for c in text.chars() {
        if is_visible(c) {
            line.push(c)
        } else {
            line.extend(c.escape_default())
        }
    }
}

/// Whether a terminal shows a character as it is. False for control characters, for characters that change the order of
/// text, and for invisible ones.
pub fn is_visible(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hidden
}

fn as_json(
    time: &dyn fmt::Display,
    level: Level,
    message: &str,
    fields: &[(&str, Value)],
) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    // Writing to memory cannot fail; a `Display` that does cuts its own field short.
    let _ = write!(
        line,
        r#"{{"time":"{time}","level":"{}","message":"#,
        level.name()
    );
    let _ = serde_json::to_writer(&mut line, message);
    for (name, value) in fields {
        line.push(b',');
        let _ = serde_json::to_writer(&mut line, name);
        line.push(b':');
        let _ = match value {
            Value::Number(number) => serde_json::to_writer(&mut line, number),
            Value::Flag(flag) => serde_json::to_writer(&mut line, flag),
            Value::Text(text) => serde_json::to_writer(&mut line, text),
            Value::Shown(shown) => serde_json::to_writer(&mut line, &format_args!("{shown}")),
        };
    }
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_a_terminal_is_escaped() {
        let hostile = "\x1b[2J\u{9b}31m\r\n\u{202e}x\u{7f}";
        let rows: [(&str, &str); 8] = [
            ("plain", "plain"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("é中", "é中"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a=b", r#""a=b""#),
            (r#"a"\"#, r#""a\"\\""#),
            (hostile, r#""\u{1b}[2J\u{9b}31m\r\n\u{202e}x\u{7f}""#),
        ];
        let at = &"2026-01-01T00:00:00.000Z";
        for (value, shown) in rows {
            for value in [Value::Text(value), Value::Shown(&value)] {
                let fields = [
                    ("a", Value::Number(1)),
                    ("b", value),
                    ("c", Value::Flag(true)),
                ];
                let line = as_text(at, Level::Warn, "a message", &fields, [""; 3]);
                let line = String::from_utf8(line).unwrap();
                assert_eq!(
                    line,
                    format!("{at} WARN  a message  a=1 b={shown} c=true\n")
                );
            }
        }
        let line = encoded(
            Style::Coloured,
            Level::Error,
            hostile,
            &[(hostile, Value::Number(1))],
        );
        let line = String::from_utf8(line).unwrap();
        let bare = ["\x1b[2m", "\x1b[31m", "\x1b[0m"]
            .iter()
            .fold(line.clone(), |line, colour| line.replace(colour, ""));
        let (bare, end) = bare.split_at(bare.len() - 1);
        assert!(line.len() > bare.len() && end == "\n");
        assert!(
            bare.contains("Z ERROR ") && !bare.chars().any(char::is_control),
            "{bare}"
        );
    }
}
