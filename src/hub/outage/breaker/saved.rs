//! Whether the authorizer is down, in a snapshot.

use minicbor::{Decode, Encode};

use super::{Breaker, BreakerState, CONNECTIONS, FailedCalls};
use crate::clock::Millis;
use crate::effect::{ConnId, SavedConnId};
use crate::snapshot::size;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SavedBreaker {
    #[n(0)]
    state: SavedBreakerState,
    /// Questions that were let out one by one, and are not answered.
    #[cbor(n(1), default)]
    out: Vec<SavedConnId>,
}

#[derive(Debug, Encode, Decode)]
enum SavedBreakerState {
    #[n(0)]
    Up(#[n(0)] SavedFailedCalls),
    #[n(1)]
    Down(#[n(0)] SavedDown),
    #[n(2)]
    SlowStart(#[n(0)] SavedSlowStart),
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedFailedCalls {
    #[cbor(n(0), default)]
    calls: u32,
    #[n(1)]
    last: Option<u64>,
    #[cbor(n(2), default)]
    connections: Vec<SavedConnId>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedDown {
    #[n(0)]
    failures: u32,
    #[n(1)]
    next: Millis,
    #[n(2)]
    probe: Option<SavedConnId>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SavedSlowStart {
    #[n(0)]
    window: u64,
    #[n(1)]
    until: Millis,
}

impl From<&BreakerState> for SavedBreakerState {
    fn from(state: &BreakerState) -> SavedBreakerState {
        match state {
            BreakerState::Up(FailedCalls {
                calls,
                last,
                connections,
            }) => SavedBreakerState::Up(SavedFailedCalls {
                calls: *calls,
                last: *last,
                connections: connections.iter().copied().map(Into::into).collect(),
            }),
            BreakerState::Down {
                failures,
                next,
                probe,
            } => SavedBreakerState::Down(SavedDown {
                failures: *failures,
                next: *next,
                probe: probe.map(Into::into),
            }),
            BreakerState::SlowStart { window, until } => {
                SavedBreakerState::SlowStart(SavedSlowStart {
                    window: *window as u64,
                    until: *until,
                })
            }
        }
    }
}

impl From<SavedBreakerState> for BreakerState {
    fn from(saved: SavedBreakerState) -> BreakerState {
        match saved {
            SavedBreakerState::Up(failed) => {
                let connections = failed.connections.into_iter().take(CONNECTIONS);
                BreakerState::Up(FailedCalls {
                    calls: failed.calls,
                    last: failed.last,
                    connections: connections.map(ConnId::from).collect(),
                })
            }
            SavedBreakerState::Down(down) => BreakerState::Down {
                failures: down.failures,
                next: down.next,
                probe: down.probe.map(Into::into),
            },
            SavedBreakerState::SlowStart(start) => BreakerState::SlowStart {
                window: size(start.window),
                until: start.until,
            },
        }
    }
}

impl Breaker {
    pub fn save(&self) -> SavedBreaker {
        let Breaker {
            state,
            workers: _,
            most_out: _,
            out,
        } = self;
        let mut out: Vec<ConnId> = out.iter().copied().collect();
        out.sort_unstable();
        SavedBreaker {
            state: state.into(),
            out: out.into_iter().map(Into::into).collect(),
        }
    }

    pub fn restore(&mut self, saved: SavedBreaker) {
        self.state = saved.state.into();
        self.out = saved.out.into_iter().map(Into::into).collect();
    }
}
