//! The program: reads the configuration, starts the log and the server. If it cannot start, it prints one line on stderr.
//! In a handover it is a trial, or takes over from another program.

use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::process::{self, ExitCode};
use std::time::Duration;

use wsify::check;
use wsify::config::{Config, Stop};
use wsify::handover::{self, HandoverRole, Rollback, TakeoverState, VARIABLE};
use wsify::heap;
use wsify::log::Log;
use wsify::server::Pause;
use wsify::signals;
use wsify::start::{self, Restored};

fn main() -> ExitCode {
    run().unwrap_or_else(Stop::print)
}

fn run() -> Result<ExitCode, Stop> {
    let begun = handover::monotonic();
    match HandoverRole::read(std::env::var_os(VARIABLE), parent_id(), process::id()) {
        HandoverRole::Fresh => serve(),
        HandoverRole::Probe => start::probe(&read_config()?).map(|()| answer()),
        HandoverRole::Check => start::check(&read_config()?).map(|()| answer()),
        HandoverRole::Take(takeover) => take_over(&takeover, None, begun),
        HandoverRole::Return(takeover, failure) => take_over(&takeover, Some(failure), begun),
    }
}

fn read_config() -> Result<Config, Stop> {
    let arguments = std::env::args_os().skip(1);
    Config::read(arguments, |name| std::env::var_os(name))
}

fn serve() -> Result<ExitCode, Stop> {
    let config = read_config()?;
    if config.check {
        return Ok(if check::run(&config) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    heap::share();
    signals::block();
    let log = Log::to_stdout(config.log_level, config.log_format, config.colours)
        .map_err(|e| Stop::failed(format_args!("the log cannot be started: {e}")))?;
    start::build(config, log)?.run().map(ExitCode::from)
}

/// A trial was passed.
fn answer() -> ExitCode {
    // If nothing reads it, the trial has failed without it.
    let _ = writeln!(io::stdout(), "{}", handover::answer());
    ExitCode::SUCCESS
}

/// Goes on with what another program has left. If that fails, the other one goes on. `failure`: this is that one.
fn take_over(
    takeover: &TakeoverState,
    failure: Option<String>,
    begun: Duration,
) -> Result<ExitCode, Stop> {
    let rollback = match failure {
        None => Some(Rollback::open(*takeover)),
        Some(_) => {
            handover::arrived();
            None
        }
    };
    heap::share();
    let mut restored = Restored::default();
    let config = read_config().map_err(|stop| stop.text);
    let pending = config.and_then(|config| start::take_over(&config, takeover, &mut restored));
    let pending = match (pending, rollback) {
        (Ok(pending), rollback) => {
            if let Some(rollback) = rollback {
                rollback.close();
            }
            pending
        }
        (Err(why), None) => return Err(Stop::failed(why)),
        (Err(why), Some(rollback)) => {
            let error = rollback.go(&why);
            return Err(Stop::failed(format_args!(
                "{why}; there is no way back: {error}"
            )));
        }
    };
    drop(restored);
    let pause = Pause {
        times: takeover.times,
        begun,
        failure,
    };
    pending.begin(&pause).run().map(ExitCode::from)
}
