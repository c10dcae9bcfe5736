//! Silent connections that answer the server's pings (M11).

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{self, Plan, unexpected};
use super::{Args, Sample};
use crate::wire;

pub struct Heartbeat {
    net: Net,
}

impl Heartbeat {
    pub fn open(args: &Args) -> io::Result<Self> {
        let mut net = Net::new(args.addr()?, 1024)?;
        open::open(&mut net, vec![Plan::member(0); args.get("members", 1)?])?;
        Ok(Self { net })
    }

    pub fn sample(&mut self, time: Duration) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let begun = Instant::now();
        self.net.begin();
        let mut pong = Vec::new();
        while let Some(left) = time.checked_sub(begun.elapsed()) {
            self.net.turn(left)?;
            for at in 0..self.net.ready.len() {
                let ready = self.net.ready[at];
                if !ready.readable {
                    continue;
                }
                self.net.fill(ready.link)?;
                let inbox = &mut self.net.links[ready.link].inbox;
                pong.clear();
                let mut done = 0;
                while let Some(frame) = wire::frame(inbox, done) {
                    let payload = &inbox[frame.start..frame.end];
                    if frame.opcode != wire::PING {
                        return Err(unexpected(payload, "a ping"));
                    }
                    wire::client_frame(wire::PONG, payload, [2, 7, 1, 8], &mut pong);
                    sample.units += 1;
                    done = frame.end;
                }
                inbox.drain(..done);
                self.net.write(ready.link, &pong)?;
            }
        }
        sample.elapsed = begun.elapsed();
        Ok(sample)
    }
}
