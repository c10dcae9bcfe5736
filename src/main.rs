//! The program: arguments, configuration, server; and one line where it cannot go on. No logic.

use std::process::ExitCode;

use wsify::check;
use wsify::config::{Config, Stop};
use wsify::heap;
use wsify::log::Log;
use wsify::server::Server;

fn main() -> ExitCode {
    run().unwrap_or_else(Stop::print)
}

fn run() -> Result<ExitCode, Stop> {
    let arguments = std::env::args_os().skip(1);
    let config = Config::read(arguments, |name| std::env::var_os(name))?;
    if config.check {
        return Ok(match check::run(&config) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
    heap::share();
    let log = Log::to_stdout(config.log_level, config.log_format, config.colours)
        .map_err(|e| Stop::failed(format_args!("the log cannot be started: {e}")))?;
    Server::start(config, log)?.run().map(ExitCode::from)
}
