//! A crowd connects at once while standing connections measure their round trip (M12).

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{self, Opening, Plan};
use super::probes::{Probes, Question};
use super::{Args, Sample};

pub struct Rush {
    net: Net,
    crowd: usize,
    probes: Option<Probes>,
}

/// So few at a time that the probes are looked at every fraction of a millisecond.
const AT_A_TIME: usize = 16;

impl Rush {
    pub fn open(args: &Args) -> io::Result<Self> {
        let standing = args.get("standing", 0)?;
        let mut net = Net::new(args.addr()?, AT_A_TIME)?;
        open::open(&mut net, vec![Plan::member(0); standing])?;
        let probes = match standing {
            0 => None,
            _ => Some(Probes::take(
                &mut net,
                0,
                Question::Ping,
                args.get("probes_per_second", 1000)?,
            )?),
        };
        Ok(Self {
            net,
            crowd: args.get("crowd", 1)?,
            probes,
        })
    }

    pub fn sample(&mut self) -> io::Result<Sample> {
        let plans = vec![Plan::outsider(); self.crowd];
        let mut opening = Opening::new(&self.net, plans, self.crowd);
        let begun = Instant::now();
        self.net.begin();
        if let Some(probes) = &mut self.probes {
            probes.begin();
        }
        while !opening.done() {
            let mut timeout = Duration::from_secs(1);
            if let Some(probes) = &mut self.probes {
                timeout = probes.turn()?;
            }
            opening.begin(&mut self.net, AT_A_TIME)?;
            if opening.eager() {
                timeout = Duration::ZERO;
            }
            self.net.turn(timeout)?;
            for at in 0..self.net.ready.len() {
                let ready = self.net.ready[at];
                opening.advance(&mut self.net, ready)?;
            }
        }
        let mut sample = Sample {
            units: self.crowd as u64,
            elapsed: begun.elapsed(),
            ..Sample::default()
        };
        if let Some(probes) = &mut self.probes {
            sample.round_trips = probes.finish()?;
        }
        Ok(sample)
    }
}
