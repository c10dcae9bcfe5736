//! The values of the `process_*` metrics, as the kernel reports them.
//!
//! Owns: nothing. Knows: `/proc`, which it reads only when `/metrics` is requested. Never knows: how the values are
//! rendered. A value that cannot be read is left out.
//!
//! Decision: the number of open files is the size of `/proc/self/fd`, rather than counting its entries, which takes a
//! third of a second for a million. Linux before 6.2 reports a size of 0: then entries are counted, up to
//! [`MAX_COUNTED_FILES`].

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::metrics::Process;

/// Open files counted one by one, which blocks the loop: 4,096 take about 2 ms.
const MAX_COUNTED_FILES: usize = 4096;
/// The unit of CPU time in `/proc/self/stat`, on every supported architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Reads the process's values from `/proc`.
pub fn now() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Process {
        cpu: cpu(&stat),
        resident_memory: field(&status, "VmRSS:").map(|kib| kib * 1024),
        virtual_memory: field(&status, "VmSize:").map(|kib| kib * 1024),
        threads: field(&status, "Threads:"),
        open_fds: open_fds(),
        max_fds: getrlimit(Resource::Nofile).current,
    }
}

/// CPU time in user and system mode, the 14th and 15th field of proc_pid_stat(5).
///
/// The second field is the program's name, which may contain anything and ends with the last parenthesis.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    let ticks = next()?.checked_add(next()?)?;
    Some(Duration::from_millis(
        ticks.checked_mul(1000 / TICKS_PER_SECOND)?,
    ))
}

/// The number after `name` in proc_pid_status(5).
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => {
            let count = fs::read_dir(folder)
                .ok()?
                .take(MAX_COUNTED_FILES + 1)
                .count();
            // One entry is the descriptor that reads the folder.
            (count <= MAX_COUNTED_FILES).then(|| count as u64 - 1)
        }
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_this_process_can_be_read() {
        let now = now();
        assert!(now.cpu.is_some());
        let [resident, virtually] =
            [now.resident_memory, now.virtual_memory].map(Option::unwrap_or_default);
        assert!(resident > 100_000 && virtually >= resident, "{now:?}");
        assert!(now.threads >= Some(1), "{now:?}");
        assert!(
            now.open_fds >= Some(3) && now.max_fds >= now.open_fds,
            "{now:?}"
        );
    }

    #[test]
    fn a_program_name_may_contain_anything() {
        let stat = "7 (a) 1 (b)) R 1 2 3 4 5 6 7 8 9 10 250 75 14 15";
        assert_eq!(cpu(stat), Some(Duration::from_millis(3_250)));
        for broken in ["", "7 (a) R 1 2", "7 (a) R 1 2 3 4 5 6 7 8 9 10 x 75"] {
            assert_eq!(cpu(broken), None);
        }
        assert_eq!(
            field("VmSize:\t  4096 kB\nThreads:\t3\n", "Threads:"),
            Some(3)
        );
        assert_eq!(field("VmSize:\t  4096 kB\n", "VmRSS:"), None);
    }
}
