//! The command line and the environment as texts, unchecked: for each flag its value, and where it came from.
//!
//! Decisions
//! - Arguments are respelled as `--flag value` before argh reads them, because argh knows neither `--flag=value` nor v3's
//!   single dash. A flag takes what follows it, even when that begins with a dash, and the last of two wins, as with
//!   v3's parser. A switch takes only what does not begin with one.
//! - For a typing error the message suggests the nearest name, by strsim's edit distance. Nothing is guessed.
//! - What may carry a password is hidden in every error line and every `Debug`, because both end up in logs.

use std::ffi::{OsStr, OsString};

use argh::FromArgs;

use super::flags::{FLAGS, Flag, Given, ValueKind, names};
use super::help;
use super::stop::Stop;
use super::values::items;
use crate::secret::HIDDEN;

/// What was given on the command line: for each flag its values, in order.
pub(super) struct Arguments(Vec<(Flag, Vec<String>)>);

impl Arguments {
    /// # Errors
    /// [`Stop`] with status 0 for `--help` and `--version`, and with 2 for what is not a flag or has no value.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, Stop> {
        let mut respelled = Vec::new();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            let argument = utf8(&argument, "an argument")?;
            let (name, value) = named(&argument)?;
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                return Err(unknown(name));
            };
            let next = arguments.peek().map(|next| next.as_encoded_bytes());
            let alone = next.is_none_or(|next| next.starts_with(b"-"));
            let value = match value {
                Some(value) => value.to_owned(),
                None if flag.kind == ValueKind::Switch && alone => "true".to_owned(),
                None => match arguments.next() {
                    Some(value) => utf8(&value, &format!("the value of --{name}"))?,
                    None => {
                        return Err(Stop::misused(format_args!(
                            "--{name} has no value: write --{name} {}",
                            flag.value
                        )));
                    }
                },
            };
            respelled.extend([format!("--{name}"), value]);
        }
        let respelled: Vec<&str> = respelled.iter().map(String::as_str).collect();
        let given = Given::from_args(&["wsify"], &respelled)
            .map_err(|exit| Stop::misused(exit.output.trim()))?;
        Ok(Arguments(given.texts()))
    }

    /// The flag's value: from the command line, else from its variable, else its default.
    ///
    /// # Errors
    /// [`Stop`] with status 2 where the variable is not UTF-8.
    pub fn setting(
        &self,
        flag: Flag,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Setting, Stop> {
        let given = self.0.iter().find(|(other, _)| other.name == flag.name);
        let given = given.map_or(&[][..], |(_, values)| values.as_slice());
        let variable = flag.variable();
        let (name, text, given) = if let Some(last) = given.last() {
            let text = match flag.kind {
                ValueKind::List => given.join(","),
                ValueKind::One | ValueKind::Url | ValueKind::Secret | ValueKind::Switch => {
                    last.clone()
                }
            };
            (format!("--{}", flag.name), text, true)
        } else if let Some(text) = env(&variable).filter(|text| !text.is_empty()) {
            let text = utf8(&text, &variable)?;
            (variable, text, true)
        } else {
            let default = flag.default.to_owned();
            (format!("--{}", flag.name), default, false)
        };
        Ok(Setting {
            flag,
            name,
            text,
            given,
        })
    }
}

/// A flag's name, and the value behind its `=`.
fn named(argument: &str) -> Result<(&str, Option<&str>), Stop> {
    let undashed = argument.strip_prefix("--");
    let Some(undashed) = undashed.or_else(|| argument.strip_prefix('-')) else {
        return Err(stray(argument));
    };
    let (name, value) = match undashed.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (undashed, None),
    };
    match (name, value) {
        ("", _) => Err(stray(argument)),
        ("help" | "h", None) => Err(Stop::asked_for(help::text())),
        ("version", None) => Err(Stop::asked_for(concat!(
            "wsify ",
            env!("CARGO_PKG_VERSION")
        ))),
        named => Ok(named),
    }
}

fn utf8(text: &OsStr, what: &str) -> Result<String, Stop> {
    // Not shown: it may be a secret, and a text that is not UTF-8 cannot be checked for one.
    let text = text.to_str().map(str::to_owned);
    text.ok_or_else(|| Stop::misused(format_args!("{what} is not UTF-8")))
}

fn stray(argument: &str) -> Stop {
    Stop::misused(format_args!(
        "{:?} is not a flag: accepted are --flag value and --flag=value; --help lists the flags",
        redacted(argument)
    ))
}

fn unknown(name: &str) -> Stop {
    let (name, names) = (format!("--{name}"), names());
    let all = names.join(", ");
    match meant(&name, names.iter().map(String::as_str)) {
        Some(word) => Stop::misused(format_args!(
            "{name} is no flag: did you mean {word}? Accepted are {all}"
        )),
        None => Stop::misused(format_args!("{name} is no flag: accepted are {all}")),
    }
}

/// The one of the `words` that was most likely meant.
fn meant<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    // A third of the letters: more is another word. A swap of two neighbours counts once.
    let bound = |word: &str| word.trim_start_matches('-').len().div_ceil(3);
    // Nothing near is that long, and the distance takes time and memory by the product of the lengths.
    let words = words.into_iter().filter(|_| written.len() <= 64);
    let near = words
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        .filter(|&(distance, word)| distance <= bound(word))
        .min_by_key(|&(distance, _)| distance);
    near.map(|(_, word)| word)
}

/// One flag's text on its way to being checked.
pub(super) struct Setting {
    flag: Flag,
    /// As the user calls it: `--flag` or `WSIFY_FLAG`.
    name: String,
    text: String,
    /// Whether the user has given it; otherwise the text is the default.
    pub given: bool,
}

impl Setting {
    /// The text as a value, by `check`, whose error is what it accepts.
    pub fn checked<T>(&self, check: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Stop> {
        check(&self.text).map_err(|accepted| self.refused(&accepted))
    }

    /// The text's items as a value, by `parse`, whose error is the item that it refuses.
    pub fn checked_list<T>(
        &self,
        accepted: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Stop> {
        parse(&self.text).map_err(|item| match items(&self.text).count() {
            0 | 1 => self.refused(accepted),
            _ => self.refused_for(&format!(" because of {item:?}"), accepted),
        })
    }

    fn refused(&self, accepted: &str) -> Stop {
        self.refused_for("", accepted)
    }

    /// `because` names the part of the text that is wrong.
    fn refused_for(&self, because: &str, accepted: &str) -> Stop {
        let shown = match self.flag.kind {
            ValueKind::One | ValueKind::List | ValueKind::Switch => self.text.clone(),
            ValueKind::Url => redacted(&self.text),
            ValueKind::Secret => HIDDEN.to_owned(),
        };
        let choices = self
            .flag
            .value
            .split('|')
            .filter(|_| self.flag.value.contains('|'));
        let hint = meant(&self.text, choices);
        let hint = hint.map_or(String::new(), |word| format!("; did you mean {word}?"));
        Stop::misused(format_args!(
            "{}: invalid value {shown:?}{because}: expected {accepted}{hint}",
            self.name
        ))
    }
}

/// A URL without what may be secret in it: user, password, query. Of a text that is hardly a URL, too little is shown
/// rather than too much.
fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest))
            if scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
        {
            (&url[..scheme.len() + 3], rest)
        }
        _ => ("", url),
    };
    let (path, query) = match rest.split_once(['?', '#']) {
        Some((path, _)) => (path, HIDDEN),
        None => (rest, ""),
    };
    if let Some((_, place)) = rest.rsplit_once('@') {
        return match query {
            "" => format!("{scheme}{HIDDEN}@{place}"),
            // It is unknown whether the '@' ends a password or is part of the query.
            _ => format!("{scheme}{HIDDEN}"),
        };
    }
    // What follows a colon and is not a port may be a password without its host.
    let authority = path.split('/').next().unwrap_or_default();
    let password = |place: &&str| {
        let port = place.rsplit_once(':').map_or("", |(_, port)| port);
        !port.bytes().all(|b| b.is_ascii_digit() || b == b']')
    };
    match authority.split(',').find(password) {
        Some(place) => {
            let before = authority.split(place).next().unwrap_or_default();
            let host = place.rsplit_once(':').map_or("", |(host, _)| host);
            format!("{scheme}{before}{host}:{HIDDEN}")
        }
        None => format!("{scheme}{path}{query}"),
    }
}
