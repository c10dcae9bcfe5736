//! The type of a metric family.

use super::samples::Samples;
use super::{Gauges, Metrics};

/// A metric family.
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// What it means, in Markdown.
    pub about: &'static str,
    pub(super) samples: fn(&Metrics, &Gauges, &mut Samples),
}

/// The kinds of families that Prometheus knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}
