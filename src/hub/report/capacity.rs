//! The report that the server has reached a limit for all connections together, and that it is below it again.
//!
//! Knows: when a line about it was logged. Never knows: what becomes of the connections.

use crate::connection::Stream;
use crate::hub::state::Hub;
use crate::log::Value;

/// An upgrade was refused because the server is full.
pub fn server_is_full<S: Stream>(hub: &mut Hub<S>) {
    if hub.listeners.full.begin(hub.clock.now) {
        let most = Value::Number(hub.settings.max_connections as u64);
        let full =
            "the server is full: upgrades get 503 until a connection ends; see --max-connections";
        hub.listeners.log.warn(full, &[("connections", most)]);
    }
}

/// The memory budget is used up: a connection that holds much of it is ended.
pub fn overloaded<S: Stream>(hub: &mut Hub<S>) {
    if hub.listeners.overloaded.begin(hub.clock.now) {
        let message = "queue memory is used up: the connections with the most buffered bytes are disconnected; \
                       raise --max-total-queue-size, and add memory if needed";
        hub.listeners.log.warn(message, &memory_budget(hub));
    }
}

/// Checks whether the memory budget is no longer used up.
pub fn check_memory_relief<S: Stream>(hub: &mut Hub<S>) {
    let overloaded = &mut hub.listeners.overloaded;
    if overloaded.holds() && hub.usage.memory.is_relaxed(&hub.runs) && overloaded.end(hub.clock.now)
    {
        let message = "there is queue memory again: no more connections are disconnected for it";
        hub.listeners.log.info(message, &memory_budget(hub));
    }
}

/// The buffered bytes, and `--max-total-queue-size`.
fn memory_budget<S: Stream>(hub: &Hub<S>) -> [(&'static str, Value<'static>); 2] {
    let number = |bytes: usize| Value::Number(bytes as u64);
    let bytes = number(hub.usage.memory.total(&hub.runs));
    let limit = number(hub.settings.max_total_queue);
    [("bytes", bytes), ("limit", limit)]
}
