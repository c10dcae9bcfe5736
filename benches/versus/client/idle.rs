//! Connections that have joined one room and are silent (M4): each sample opens this many more.

use std::io;
use std::time::Instant;

use super::net::Net;
use super::open::{self, Plan};
use super::{Args, Sample};

pub struct Idle {
    net: Net,
    query: String,
}

impl Idle {
    pub fn open(args: &Args) -> io::Result<Self> {
        Ok(Self {
            net: Net::new(args.addr()?, 1024)?,
            query: args.get("query", String::new())?,
        })
    }

    pub fn sample(&mut self, more: usize) -> io::Result<Sample> {
        let begun = Instant::now();
        let plan = Plan::WebSocket {
            query: self.query.clone(),
            room: Some(0),
            slow: false,
            deflate: false,
        };
        open::open(&mut self.net, vec![plan; more])?;
        Ok(Sample {
            units: more as u64,
            elapsed: begun.elapsed(),
            ..Sample::default()
        })
    }
}
