//! The program: arguments, configuration, server; and one line where it cannot go on. No logic.

use std::process::ExitCode;

use wsify::config::{Config, Stop};
use wsify::log::Log;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.say(),
    }
}

fn run() -> Result<(), Stop> {
    let arguments = std::env::args_os().skip(1);
    let config = Config::read(arguments, |name| std::env::var_os(name))?;
    let log = Log::to_stdout(config.log_level)
        .map_err(|e| Stop::failed(format_args!("the log cannot be started: {e}")))?;
    // HERE: the server is made of `config` and `log`, and runs.
    drop((config, log));
    Ok(())
}
