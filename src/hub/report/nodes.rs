//! Messages on the channels of the nodes that are not used.
//!
//! Knows: what is counted and logged of them. Never knows: which nodes may send them.

use crate::connection::Stream;
use crate::hub::state::Hub;
use crate::log::Value;
use crate::wire::node_message::NodeMessageError;

/// A message is dropped.
pub fn hostile<S: Stream>(hub: &mut Hub<S>, channel: &str, why: &NodeMessageError) {
    let now = hub.clock.now;
    let listeners = &mut hub.listeners;
    listeners.metrics.broker_hostile.add(why.label());
    if let Some(left_out) = listeners.hostile.admit(now) {
        let message = "a message on the channels of the nodes is dropped: give all nodes the same \
                       --broadcasting-key, clock and version, and let no other program publish there";
        let mut fields = vec![
            ("channel", Value::Text(channel)),
            ("reason", Value::Text(why.label())),
        ];
        if left_out > 0 {
            fields.push(("left_out", Value::Number(left_out)));
        }
        listeners.log.warn(message, &fields);
    }
}
