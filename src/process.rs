//! What the kernel says of this process: the values of the `process_*` metrics.
//!
//! Owns: nothing. Knows: `/proc`. Never knows: who asks. It is read when somebody does, and at no other time; what
//! cannot be read is left out.
//!
//! Decision: the number of open files is the size of `/proc/self/fd`, over counting its entries, which takes a third of a
//! second for a million. Linux before 6.2 says 0 there: then entries are counted, up to [`FEW_FILES`].

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::metrics::Process;

/// Open files that may be counted one by one while everybody waits: two milliseconds.
const FEW_FILES: usize = 4096;
/// What `/proc/self/stat` counts CPU time in, on every architecture that this is built for (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Reads it all, in some 50 microseconds.
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

/// The times in user and system mode, the 14th and 15th value of proc_pid_stat(5). The second is the program's name,
/// which may hold anything, and ends with the last parenthesis.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    let ticks = next()?.checked_add(next()?)?;
    Some(Duration::from_millis(
        ticks.checked_mul(1000 / TICKS_PER_SECOND)?,
    ))
}

/// The number behind `name` in proc_pid_status(5).
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => {
            let count = fs::read_dir(folder).ok()?.take(FEW_FILES + 1).count();
            // One of them was the folder's own.
            (count <= FEW_FILES).then(|| count as u64 - 1)
        }
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_some_of_everything() {
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
    fn a_name_may_hold_anything() {
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
