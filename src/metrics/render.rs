//! All metric families, and their text (Prometheus text format, version 0.0.4).

use std::fmt::Write;

use super::families::FAMILIES;
use super::process_families::PROCESS_FAMILIES;
use super::samples::Samples;
use super::{Family, Gauges, Metrics};

/// Every family, in the order of the text.
pub fn all_families() -> impl Iterator<Item = &'static Family> {
    PROCESS_FAMILIES.iter().chain(FAMILIES)
}

impl Metrics {
    /// Appends all metrics to `text`, in the Prometheus text format, version 0.0.4.
    pub fn render(&self, now: &Gauges, text: &mut String) {
        for family in all_families() {
            let before = text.len();
            let (name, kind) = (family.name, family.kind.name());
            let help = family.about.replace('`', "");
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            let mut samples = Samples::new(text, name);
            (family.samples)(self, now, &mut samples);
            if samples.unknown {
                text.truncate(before);
            }
        }
    }
}
