//! The hub without sockets: stories, and simulations.
//!
//! A story is one behaviour that the documentation promises, and reads as a transcript. [`rig::Rig`] plays it: it drives
//! the [`Hub`](wsify::hub::Hub) as `server/` does, over [`pipe::Pipe`], with scripted time and verdicts.

mod backend_simulation;
mod broker;
mod client;
mod cluster;
mod facts;
mod foreign;
mod grants_simulation;
mod handover;
mod ledger;
mod nodes;
mod nodes_simulation;
mod outage_simulation;
mod pipe;
mod rig;
mod seeds;
mod sharded_simulation;
mod shared_simulation;
mod simulation;
mod snapshots;
mod stories;
mod twins_simulation;
