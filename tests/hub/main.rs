//! The hub without sockets: stories, and a simulation.
//!
//! A story is one behaviour that the documentation promises, played through [`Hub`](wsify::hub::Hub) over [`pipe::Pipe`] by a
//! [`house::House`], which does what `server.rs` does, with scripted time and verdicts; it reads as a transcript.

mod broker;
mod client;
mod house;
mod pipe;
mod shared;
mod simulation;
mod stories;
