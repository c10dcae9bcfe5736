//! The samples of one metric family, written in the Prometheus text format.
//!
//! Owns: names, labels and values as text. Never knows: which families there are.

use std::fmt::{Display, Write};

use super::{Counters, Histogram};

/// The samples of one family, as they are written.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    family: &'static str,
    /// The family is not known here, and left out.
    pub unknown: bool,
}

// Writing to a String cannot fail.
impl Samples<'_> {
    pub fn new<'a>(text: &'a mut String, family: &'static str) -> Samples<'a> {
        Samples {
            text,
            family,
            unknown: false,
        }
    }

    pub fn value(&mut self, value: impl Display) {
        self.labelled(&[], value);
    }

    pub fn known(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.unknown = true,
        }
    }

    pub fn by(&mut self, label: &str, counters: &Counters<&'static str>) {
        for (text, count) in counters.iter() {
            self.labelled(&[(label, text)], count);
        }
    }

    pub fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample("", labels, value);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (nth, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if nth == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.text.push_str(r"\\"),
                    '"' => self.text.push_str(r#"\""#),
                    '\n' => self.text.push_str(r"\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    pub fn durations(&mut self, histogram: &Histogram) {
        self.histogram(histogram, |duration| duration.as_secs_f64().to_string());
    }

    pub fn histogram<T: Copy>(&mut self, histogram: &Histogram<T>, shown: fn(T) -> String) {
        let bounds = histogram.bounds.iter().map(|bound| shown(*bound));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(&histogram.counts) {
            total += count;
            self.sample("_bucket", &[("le", &bound)], total);
        }
        self.sample("_sum", &[], shown(histogram.sum));
        self.sample("_count", &[], total);
    }
}
