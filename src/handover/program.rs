//! The program that runs, and the one that lies at the path it was started from.
//!
//! Owns: that path, a descriptor of the running program's own file. Knows: what was executed, arguments, PATH,
//! `/proc/self/exe`. Never knows: whether the other program is any good.
//!
//! Decision: the path as it was started from, without following symbolic links, rather than `/proc/self/exe`: a deploy
//! often points a link to another file.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use rustix::fs::{Mode, OFlags};

use super::role::{HandoverRole, VARIABLE};

/// What the running program has in `/proc`.
const RUNNING: &str = "/proc/self/exe";

/// The running program, and where its successors lie.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    file: File,
}

/// Which file it is, and in which state: another one has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Program {
    /// The program of this process. `path`: where it was started from, if an earlier program has handed that over.
    ///
    /// # Errors
    /// There is no `/proc`, or no file descriptor left.
    pub fn running(path: Option<PathBuf>) -> io::Result<Program> {
        // It is executed, and not read: that may not be allowed.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(RUNNING, flags, Mode::empty())?);
        let path = match path {
            Some(path) => path,
            None => {
                let identity = FileIdentity::of(&file.metadata()?);
                let is_it = |path: &PathBuf| {
                    fs::metadata(path).is_ok_and(|it| FileIdentity::of(&it) == identity)
                };
                match candidates().find(is_it) {
                    Some(path) => path,
                    None => env::current_exe()?,
                }
            }
        };
        Ok(Program { path, file })
    }

    /// The path that the program was started from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the running program.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file that lies at the path now.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub fn successor(&self) -> io::Result<FileIdentity> {
        Ok(FileIdentity::of(&fs::metadata(&self.path)?))
    }

    /// How the program at the path is called for a role, with this process's arguments and environment.
    ///
    /// A trial also gets `--check`. A program that does not know of trials, such as an early release, then does not serve.
    pub fn command(&self, role: &HandoverRole) -> Command {
        let mut command = command(self.path.as_os_str(), role);
        if matches!(role, HandoverRole::Probe | HandoverRole::Check) {
            command.arg("--check");
        }
        command
    }
}

/// How a program is called for a role, with this process's arguments and environment.
pub(super) fn command(program: &OsStr, role: &HandoverRole) -> Command {
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command.env(VARIABLE, role.text(process::id()));
    command
}

/// Where this program may have been started from: the path that was executed; its name as a path, or in the folders of PATH.
/// The name may be any text (`exec -a`).
fn candidates() -> impl Iterator<Item = PathBuf> {
    let executed = PathBuf::from(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
    // The number of a descriptor is another file's later (fexecve(3)).
    let is_descriptor = ["/dev/fd", "/proc"]
        .iter()
        .any(|it| executed.starts_with(it));
    let executed = (!is_descriptor).then_some(executed);
    let name = env::args_os().next().unwrap_or_default();
    let is_path = name.as_encoded_bytes().contains(&b'/');
    let folders = if is_path {
        OsString::new()
    } else {
        env::var_os("PATH").unwrap_or_default()
    };
    let folders: Vec<PathBuf> = env::split_paths(&folders)
        .filter(|folder| !is_path && !folder.as_os_str().is_empty())
        .collect();
    let alone = is_path.then(|| PathBuf::from(&name));
    let found = folders.into_iter().map(move |folder| folder.join(&name));
    executed
        .into_iter()
        .chain(alone)
        .chain(found)
        .filter_map(|path| std::path::absolute(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_program_is_found_where_it_was_started_from() {
        let program = Program::running(None).unwrap();
        assert!(program.path().is_absolute());
        let running = FileIdentity::of(&program.file.metadata().unwrap());
        assert_eq!(program.successor().unwrap(), running);
    }

    #[test]
    fn a_path_that_was_handed_over_stays() {
        let path = PathBuf::from("/no/such/wsify");
        let program = Program::running(Some(path.clone())).unwrap();
        assert_eq!(program.path(), path);
        let missing = program.successor().unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn trials_do_not_serve_even_if_the_program_knows_of_none() {
        let program = Program::running(None).unwrap();
        for (role, checks) in [
            (HandoverRole::Probe, true),
            (HandoverRole::Check, true),
            (HandoverRole::Fresh, false),
        ] {
            let command = program.command(&role);
            let last = command.get_args().last().map(OsStr::to_owned);
            assert_eq!(last == Some("--check".into()), checks, "{role:?}");
            let mut variables = command.get_envs();
            assert!(variables.any(|(name, value)| name == VARIABLE && value.is_some()));
        }
    }
}
