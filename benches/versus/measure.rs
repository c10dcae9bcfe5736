//! How a figure is taken: floor and wsify in turn, each with its own client, medians of paired ratios, a control.
//!
//! Owns: starting contenders, one sample, the pairing. Knows no metric.
//!
//! A round is floor, wsify, a second floor. The ratio is wsify's against the mean of the floors that surround it, so that
//! a machine that slows down slows both; the control is one floor against the other, and says how far to believe the ratio.
//! All three stay connected from round to round, so that a round takes seconds.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{Client, Cores, Server};
use super::report::Progress;

/// Rounds per figure; when the control is off, as many as `ROUNDS_AT_MOST`.
const ROUNDS: usize = 5;
const ROUNDS_AT_MOST: usize = 9;
/// How far a control may be from 1.
pub const TOLERANCE: f64 = 0.02;
/// After so long no more than `ROUNDS` are run, so that the whole stays under 15 minutes.
const LATE: Duration = Duration::from_secs(12 * 60);
/// For the kernel to book a server's last slice: it does so when the server sleeps.
const SETTLE: Duration = Duration::from_millis(3);

pub struct Bench {
    pub exe: PathBuf,
    pub wsify: PathBuf,
    /// Where logs and reports go.
    pub dir: PathBuf,
    pub cores: Cores,
    /// A third floor stands in for wsify: every ratio must come out as 1.
    pub self_check: bool,
    pub begun: Instant,
    pub progress: Progress,
}

/// What is to serve.
#[derive(Clone, Copy)]
pub enum Program<'a> {
    Floor(&'a str),
    /// With these flags; with `self_check` this floor instead.
    Wsify(&'a [&'a str], &'a str),
}

/// A server and its client, connected.
pub struct Contender {
    pub server: Server,
    pub client: Client,
}

/// What one sample cost.
#[derive(Clone, Debug)]
pub struct Taken {
    pub units: f64,
    /// CPU-ns of the server per unit.
    pub ns_per_unit: f64,
    /// Share of the time in which the client ran.
    pub client_busy: f64,
    /// All that the client said.
    pub said: Value,
}

/// What a figure is about.
pub struct Paired<'a> {
    pub floor: &'a str,
    pub flags: &'a [&'a str],
    pub client: &'a str,
    /// The reference's client, where it is another.
    pub reference_client: Option<&'a str>,
    /// Length of a sample, in milliseconds.
    pub millis: u64,
    /// Servers and clients are started again for each sample, for those that would disturb each other.
    pub fresh: bool,
}

/// A round: floor, wsify, floor.
#[derive(Clone, Debug)]
pub struct Round {
    pub floors: [Taken; 2],
    pub wsify: Taken,
}

impl Bench {
    pub fn serve(&self, program: Program) -> io::Result<Server> {
        let log = self.dir.join("server.log");
        let floor = |name: &str| {
            let args = ["floor", name, "PORT"].map(str::to_owned);
            Server::start(self.cores.server, &self.exe, &args, &log)
        };
        match program {
            Program::Floor(name) => floor(name),
            Program::Wsify(_, instead) if self.self_check => floor(instead),
            Program::Wsify(flags, _) => {
                let mut args = ["--listen-addr", "127.0.0.1:PORT"]
                    .map(str::to_owned)
                    .to_vec();
                args.extend(flags.iter().map(|&flag| flag.to_owned()));
                let log = self.dir.join("wsify.log");
                Server::start(self.cores.server, &self.wsify, &args, &log)
            }
        }
    }

    /// An authorizer that answers after this many milliseconds. It shares the client's core: the servers' is theirs
    /// alone.
    pub fn authorizer(&self, millis: u64) -> io::Result<Server> {
        self.authorizer_called("authorizer", millis)
    }

    /// One that answers at once, with fields.
    pub fn granting_authorizer(&self) -> io::Result<Server> {
        self.authorizer_called("granting-authorizer", 0)
    }

    pub fn authorizer_called(&self, name: &str, millis: u64) -> io::Result<Server> {
        let args = ["floor", &format!("{name}={millis}"), "PORT"].map(str::to_owned);
        let log = self.dir.join("authorizer.log");
        Server::start(self.cores.client, &self.exe, &args, &log)
    }

    /// Starts a server and a client, whose scenario and arguments are `client`.
    pub fn contend(&self, program: Program, client: &str) -> io::Result<Contender> {
        let server = self.serve(program)?;
        let mut args: Vec<String> = client.split_whitespace().map(str::to_owned).collect();
        args.push(format!("port={}", server.port));
        let client = Client::start(self.cores.client, &args)?;
        Ok(Contender { server, client })
    }

    /// Rounds until the control is good or they are enough.
    pub fn paired(&mut self, paired: &Paired) -> io::Result<Vec<Round>> {
        self.paired_with(Program::Floor(paired.floor), paired)
    }

    /// The same, with `reference` in the floor's place.
    pub fn paired_with(&mut self, reference: Program, paired: &Paired) -> io::Result<Vec<Round>> {
        let programs = [
            reference,
            Program::Wsify(paired.flags, paired.floor),
            reference,
        ];
        let reference_client = paired.reference_client.unwrap_or(paired.client);
        let clients = [reference_client, paired.client, reference_client];
        let mut standing = Vec::new();
        let mut rounds: Vec<Round> = Vec::new();
        let round_cost = Instant::now();
        loop {
            let off = control(&rounds, |it| it.ns_per_unit)
                .is_none_or(|control| (control - 1.0).abs() > TOLERANCE);
            let enough = rounds.len() >= ROUNDS
                && (!off || rounds.len() >= ROUNDS_AT_MOST || self.begun.elapsed() > LATE);
            if enough {
                return Ok(rounds);
            }
            // Where in memory the kernel has put a server's sockets stays with it, so the further rounds are others'.
            if rounds.len() == ROUNDS {
                standing.clear();
            }
            if !paired.fresh && standing.is_empty() {
                for (program, client) in programs.into_iter().zip(clients) {
                    self.progress.step("connecting");
                    standing.push(self.contend(program, client)?);
                }
            }
            self.progress.step(&format!(
                "round {} ({} s)",
                rounds.len() + 1,
                round_cost.elapsed().as_secs()
            ));
            let mut taken = Vec::new();
            for (at, program) in programs.into_iter().enumerate() {
                let mut fresh;
                let contender = match standing.get_mut(at) {
                    Some(contender) => contender,
                    None => {
                        fresh = self.contend(program, clients[at])?;
                        &mut fresh
                    }
                };
                contender.client.sample(150)?; // warm: caches, windows, buffers
                taken.push(contender.take(paired.millis)?);
            }
            if let Ok([first, wsify, second]) = <[Taken; 3]>::try_from(taken) {
                rounds.push(Round {
                    floors: [first, second],
                    wsify,
                });
            }
        }
    }
}

impl Contender {
    /// One sample, and what it cost the server.
    pub fn take(&mut self, number: u64) -> io::Result<Taken> {
        std::thread::sleep(SETTLE);
        let server = self.server.process.cpu_ns()?;
        let client = self.client.process.cpu_ns()?;
        let said = self.client.sample(number)?;
        std::thread::sleep(SETTLE);
        let server = self.server.process.cpu_ns()? - server;
        let client = self.client.process.cpu_ns()? - client;
        let units = said["units"].as_f64().unwrap_or_default();
        if units == 0.0 {
            return Err(io::Error::other(
                "not one unit of work was done in a sample",
            ));
        }
        Ok(Taken {
            units,
            ns_per_unit: server as f64 / units,
            client_busy: client as f64 / said["ns"].as_f64().unwrap_or(f64::INFINITY),
            said,
        })
    }
}

impl Round {
    fn floor(&self, figure: impl Fn(&Taken) -> f64) -> f64 {
        (figure(&self.floors[0]) + figure(&self.floors[1])) / 2.0
    }
}

/// Medians over rounds of: the floors' figure, wsify's, floors' / wsify's.
pub fn medians(rounds: &[Round], figure: impl Fn(&Taken) -> f64 + Copy) -> [f64; 3] {
    [
        median(rounds.iter().map(|it| it.floor(figure))),
        median(rounds.iter().map(|it| figure(&it.wsify))),
        median(rounds.iter().map(|it| it.floor(figure) / figure(&it.wsify))),
    ]
}

/// The floor against itself.
pub fn control(rounds: &[Round], figure: impl Fn(&Taken) -> f64) -> Option<f64> {
    (!rounds.is_empty()).then(|| {
        median(
            rounds
                .iter()
                .map(|it| figure(&it.floors[0]) / figure(&it.floors[1])),
        )
    })
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}
