//! The metric families of the process, as data.

use std::time::SystemTime;

use super::family::{Family, Kind};

/// The families of the process: those that Prometheus' clients have in common, and the version.
pub const PROCESS_FAMILIES: &[Family] = &[
    Family {
        name: "wsify_build_info",
        kind: Kind::Gauge,
        about: "1, with the `version`",
        samples: |_, _, out| out.labelled(&[("version", env!("CARGO_PKG_VERSION"))], 1),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        about: "start of the process, Unix time",
        samples: |metrics, _, out| {
            let started = metrics.started.duration_since(SystemTime::UNIX_EPOCH);
            out.value(started.unwrap_or_default().as_secs_f64());
        },
    },
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        about: "CPU time used",
        samples: |_, now, out| out.known(now.process.cpu.map(|cpu| cpu.as_secs_f64())),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        about: "resident memory",
        samples: |_, now, out| out.known(now.process.resident_memory),
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        about: "address space",
        samples: |_, now, out| out.known(now.process.virtual_memory),
    },
    Family {
        name: "process_threads",
        kind: Kind::Gauge,
        about: "threads",
        samples: |_, now, out| out.known(now.process.threads),
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        about: "open files; before Linux 6.2 absent above 4,096, because counting is slow there",
        samples: |_, now, out| out.known(now.process.open_fds),
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        about: "the limit on open files",
        samples: |_, now, out| out.known(now.process.max_fds),
    },
];
