//! `POST /broadcast` over kept-alive connections, pipelined or not, to a room with or without a member (M7).
//!
//! What the member hears comes from many connections, in an order only the server knows; but of each connection
//! everything, once, in order, unchanged. Asked in volleys, as in `requests.rs`.

use std::io;
use std::time::{Duration, Instant};

use super::net::Net;
use super::open::{self, Plan, unexpected};
use super::{Args, Sample};
use crate::wire;

pub struct Post {
    net: Net,
    backends: Vec<Backend>,
    /// Requests in one write.
    pipelined: usize,
    size: usize,
    /// The last head that was found to be right: the next one is likely the same.
    created: Vec<u8>,
}

#[derive(Clone, Default)]
struct Backend {
    asked: u64,
    answered: u64,
    /// What each member has heard of it.
    heard: Vec<u64>,
}

impl Post {
    pub fn open(args: &Args) -> io::Result<Self> {
        let backends = args.get("links", 64)?;
        let members = args.get("members", 0)?;
        let mut net = Net::new(args.addr()?, 1024)?;
        let mut plans = vec![Plan::Plain; backends];
        plans.extend(vec![Plan::member(0); members]);
        open::open(&mut net, plans)?;
        let backend = Backend {
            heard: vec![0; members],
            ..Backend::default()
        };
        Ok(Self {
            net,
            backends: vec![backend; backends],
            pipelined: args.get("pipelined", 1)?,
            size: args.get("size", 128)?,
            created: Vec::new(),
        })
    }

    pub fn sample(&mut self, time: Duration) -> io::Result<Sample> {
        let mut sample = Sample::default();
        let answered_before: u64 = self.backends.iter().map(|it| it.answered).sum();
        let begun = Instant::now();
        self.net.begin();
        while begun.elapsed() < time {
            for link in 0..self.backends.len() {
                self.ask(link)?;
            }
            let mut outstanding = self.backends.len() * self.pipelined;
            while outstanding > 0 {
                outstanding -= self.turn()?;
            }
        }
        while self.backends.iter().any(Backend::unheard) {
            self.turn()?;
        }
        sample.units = self.backends.iter().map(|it| it.answered).sum::<u64>() - answered_before;
        sample.elapsed = begun.elapsed();
        Ok(sample)
    }

    /// What one turn brings; how many answers that was.
    fn turn(&mut self) -> io::Result<usize> {
        self.net.turn(Duration::from_secs(1))?;
        let mut answers = 0;
        for at in 0..self.net.ready.len() {
            let ready = self.net.ready[at];
            if !ready.readable {
                continue;
            }
            self.net.fill(ready.link)?;
            if ready.link < self.backends.len() {
                answers += self.answered(ready.link)?;
            } else {
                self.hear(ready.link)?;
            }
        }
        Ok(answers)
    }

    fn ask(&mut self, link: usize) -> io::Result<()> {
        let mut requests = Vec::new();
        for _ in 0..self.pipelined {
            let content = wire::content(link, self.backends[link].asked, self.size);
            wire::post(0, &content, &mut requests);
            self.backends[link].asked += 1;
        }
        self.net.write(link, &requests)
    }

    /// How many answers have come.
    fn answered(&mut self, link: usize) -> io::Result<usize> {
        let inbox = &mut self.net.links[link].inbox;
        let mut at = 0;
        let mut count = 0;
        while let Some(end) = wire::head_end(&inbox[at..]) {
            let head = &inbox[at..at + end];
            if head != self.created {
                if !head.starts_with(b"HTTP/1.1 201 ")
                    || wire::header_value(head, "content-length") != Some(b"0")
                {
                    return Err(unexpected(head, "201 with an empty body"));
                }
                self.created = head.to_vec();
            }
            at += end;
            count += 1;
        }
        inbox.drain(..at);
        let backend = &mut self.backends[link];
        backend.answered += count as u64;
        if backend.answered > backend.asked {
            return Err(unexpected(b"201", "no further answer"));
        }
        Ok(count)
    }

    /// Takes a member's messages to the backends they came from.
    fn hear(&mut self, link: usize) -> io::Result<()> {
        let member = link - self.backends.len();
        let mut at = 0;
        let inbox = &self.net.links[link].inbox;
        while let Some(frame) = wire::frame(inbox, at) {
            let payload = &inbox[frame.start..frame.end];
            let number = wire::named(payload).map_or(usize::MAX, |(backend, _)| backend);
            let Some(backend) = self.backends.get_mut(number) else {
                return Err(unexpected(payload, "a content of ours"));
            };
            let next = backend.heard[member];
            if payload != wire::content(number, next, self.size) {
                return Err(unexpected(
                    payload,
                    &format!("message {next} of backend {number}"),
                ));
            }
            backend.heard[member] += 1;
            at = frame.end;
        }
        self.net.links[link].inbox.drain(..at);
        Ok(())
    }
}

impl Backend {
    fn unheard(&self) -> bool {
        self.heard.iter().any(|&heard| heard < self.asked)
    }
}
