//! What passes between the hub and its drivers in a turn: the authorizer, the broker, the receiver of events.
//!
//! Owns: nothing. Knows: which effect is for which driver, and which news are for which door. Never knows: why.

use std::time::Duration;

use super::Server;
use crate::broker::News;
use crate::effect::{Answer, Effect, Question};

impl Server {
    /// Turns the broker and passes its news to the hub.
    pub(super) fn take_news(&mut self, buffer: &mut [u8]) {
        let now = self.hub.clock.now;
        self.broker.turn(self.poll.registry(), buffer, now);
        while let Some(news) = self.broker.next(now) {
            match news {
                News::Shard(shard, name) => self.hub.name_shard(shard, name),
                News::Slots(slots, shard) => self.hub.assign_slots(slots, shard),
                News::Publishing(shard, up) => self.hub.set_publishing(shard, up),
                News::Listening(shard, up) => self.hub.set_listening(shard, up),
                News::Published(by, receipt) => self.hub.receipt(by, receipt),
                News::Returned(publication) => self.hub.returned(publication),
                News::Subscribed(id, receipt) => self.hub.subscribed(id, receipt),
                News::Unsubscribed(channel) => self.hub.unsubscribed(channel.as_str()),
                News::Dropped(why) => self.hub.metrics_mut().broker_messages.add(why),
                News::Message(message) => {
                    let (channel, content) = self.broker.content(&message);
                    if self.hub.arrived(channel, content) {
                        self.broker.take(&message);
                    } else {
                        self.broker.postpone(&message);
                    }
                }
            }
        }
        if self.broker.judge(self.hub.is_broker_up(), now) {
            self.hub.drivers.broker_reconnections += 1;
        }
    }

    /// Hands the hub's effects to the authorizer and the broker.
    pub(super) fn take_effects(&mut self) {
        let now = self.hub.clock.now;
        while let Some(effect) = self.hub.effect() {
            match effect {
                Effect::Ask(question) => self.ask(question),
                Effect::Withdraw(id) => {
                    if let Some(authorizer) = &self.authorizer {
                        authorizer.withdraw(id);
                    }
                }
                Effect::Recall => {
                    if let Some(authorizer) = &mut self.authorizer {
                        authorizer.recall();
                    }
                }
                Effect::Publish(publication) => self.broker.publish(publication, now),
                Effect::Subscribe(subscription) => self.broker.subscribe(subscription, now),
                Effect::Unsubscribe(channel) => self.broker.unsubscribe(channel, now),
            }
        }
        self.broker.flush(now);
    }

    fn ask(&mut self, question: Question) {
        let Some(Err(question)) = self.authorizer.as_mut().map(|a| a.ask(question)) else {
            return;
        };
        let trouble = "more questions wait than --authorizer-queue allows".to_owned();
        let answer = Answer::unavailable(question.from, trouble, Duration::ZERO);
        self.hub.verdict(answer.returning(question));
    }

    pub(super) fn take_answers(&mut self, answers: &mut Vec<Answer>) {
        let Some(authorizer) = &mut self.authorizer else {
            return;
        };
        let load = authorizer.answers(answers);
        self.hub.drivers.questions_in_flight = load.in_flight as u64;
        self.hub.drivers.questions_waiting = load.waiting as u64;
        for answer in answers.drain(..) {
            self.hub.verdict(answer);
        }
    }

    /// Hands the hub's events to their receiver.
    pub(super) fn send_events(&mut self) {
        let Some(events) = &mut self.events else {
            return;
        };
        let now = self.hub.clock.now;
        if let Some((result, dropped)) = events.take_result(self.hub.events_left(), now) {
            let metrics = self.hub.metrics_mut();
            metrics.event_calls.add(result.as_str());
            metrics.events_dropped += dropped as u64;
        }
        if self.handover.is_waiting() {
            return;
        }
        if events.is_free()
            && let Some(batch) = self.hub.take_events()
        {
            events.begin(batch);
        }
        events.call(now);
        let (count, oldest) = events.under_way();
        self.hub.drivers.events_under_way = count as u64;
        self.hub.drivers.oldest_event = oldest;
    }
}
