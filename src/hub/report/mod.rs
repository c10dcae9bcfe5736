//! What happened, and what listens to it.

pub mod access_log;
pub mod tap;
