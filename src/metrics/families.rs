//! Every metric family of wsify itself, as data: its name, kind, meaning and samples.
//!
//! Decision: the Prometheus text and the documentation's table follow from one table, so what is exposed cannot differ
//! from what is documented.

use super::family::{Family, Kind};

/// Every family of wsify itself, in the order of the text.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "wsify_connections",
        kind: Kind::Gauge,
        about: "open connections, by `kind`: `websocket` or `http`",
        samples: |_, now, out| {
            out.labelled(&[("kind", "websocket")], now.websockets);
            out.labelled(&[("kind", "http")], now.http_connections);
        },
    },
    Family {
        name: "wsify_connections_accepted_total",
        kind: Kind::Counter,
        about: "connections accepted",
        samples: |metrics, _, out| out.value(metrics.connections),
    },
    Family {
        name: "wsify_connections_ended_total",
        kind: Kind::Counter,
        about: "connections ended, by `reason`, such as `closed`, `left`, `too_slow`, `silent`",
        samples: |metrics, _, out| out.by("reason", &metrics.endings),
    },
    Family {
        name: "wsify_handshakes_total",
        kind: Kind::Counter,
        about: "upgrade requests, by `outcome`, such as `accepted`, `denied`, `full`",
        samples: |metrics, _, out| out.by("outcome", &metrics.handshakes),
    },
    Family {
        name: "wsify_http_responses_total",
        kind: Kind::Counter,
        about: "HTTP responses other than `101`, by `endpoint` and `status`",
        samples: |metrics, _, out| {
            for ((endpoint, status), count) in metrics.answers.iter() {
                let status = status.to_string();
                out.labelled(&[("endpoint", endpoint), ("status", &status)], count);
            }
        },
    },
    Family {
        name: "wsify_received_bytes_total",
        kind: Kind::Counter,
        about: "bytes read from clients and backends",
        samples: |metrics, _, out| out.value(metrics.received),
    },
    Family {
        name: "wsify_sent_bytes_total",
        kind: Kind::Counter,
        about: "bytes written to clients and backends",
        samples: |_, now, out| out.value(now.sent),
    },
    Family {
        name: "wsify_handovers_total",
        kind: Kind::Counter,
        about: "replacements of the running program, by `outcome`: `done`, `given_up` (the old program went on), `undone` (it was started again)",
        samples: |metrics, _, out| out.by("outcome", &metrics.handovers),
    },
    Family {
        name: "wsify_commands_total",
        kind: Kind::Counter,
        about: "clients' commands, by `command` and `outcome`: `ok` or the error's code",
        samples: |metrics, _, out| {
            for ([command, outcome], count) in metrics.commands.iter() {
                out.labelled(&[("command", command), ("outcome", outcome)], count);
            }
        },
    },
    Family {
        name: "wsify_backend_memberships_total",
        kind: Kind::Counter,
        about: "memberships that backends have begun or ended, by `action`: `join` or `leave`",
        samples: |metrics, _, out| out.by("action", &metrics.backend_memberships),
    },
    Family {
        name: "wsify_channels",
        kind: Kind::Gauge,
        about: "channels with a member",
        samples: |_, now, out| out.value(now.channels),
    },
    Family {
        name: "wsify_memberships",
        kind: Kind::Gauge,
        about: "members, summed over all channels",
        samples: |_, now, out| out.value(now.memberships),
    },
    Family {
        name: "wsify_fanouts_total",
        kind: Kind::Counter,
        about: "contents published by clients and backends",
        samples: |metrics, _, out| out.value(metrics.fanouts),
    },
    Family {
        name: "wsify_deliveries_total",
        kind: Kind::Counter,
        about: "contents sent or queued to members",
        samples: |metrics, _, out| out.value(metrics.deliveries),
    },
    Family {
        name: "wsify_fanout_duration_seconds",
        kind: Kind::Histogram,
        about: "time from publishing until the last member was served; contents published together count once",
        samples: |metrics, _, out| out.durations(&metrics.fanout_time),
    },
    Family {
        name: "wsify_compression_contents_total",
        kind: Kind::Counter,
        about: "contents for members with compression, by `outcome`: `compressed`, `not_smaller`, `too_small` (below `--compression-min-size`)",
        samples: |_, now, out| {
            let counts = &now.compression;
            out.labelled(&[("outcome", "compressed")], counts.deflated);
            out.labelled(&[("outcome", "not_smaller")], counts.not_smaller);
            out.labelled(&[("outcome", "too_small")], counts.too_small);
        },
    },
    Family {
        name: "wsify_compression_messages_total",
        kind: Kind::Counter,
        about: "compressed messages of clients, inflated",
        samples: |_, now, out| out.value(now.compression.inflated),
    },
    Family {
        name: "wsify_compression_bytes_total",
        kind: Kind::Counter,
        about: "bytes of what was compressed (`deflate`, once for each content) or inflated, by `operation` and `form`: `plain` or `compressed`",
        samples: |_, now, out| {
            let counts = &now.compression;
            for (operation, form, bytes) in [
                ("deflate", "plain", counts.before_deflate),
                ("deflate", "compressed", counts.after_deflate),
                ("inflate", "plain", counts.after_inflate),
                ("inflate", "compressed", counts.before_inflate),
            ] {
                out.labelled(&[("operation", operation), ("form", form)], bytes);
            }
        },
    },
    Family {
        name: "wsify_compression_seconds_total",
        kind: Kind::Counter,
        about: "time spent compressing and inflating, in vain too, by `operation`: `deflate` or `inflate`",
        samples: |_, now, out| {
            let counts = &now.compression;
            let (deflate, inflate) = (counts.deflate_time, counts.inflate_time);
            out.labelled(&[("operation", "deflate")], deflate.as_secs_f64());
            out.labelled(&[("operation", "inflate")], inflate.as_secs_f64());
        },
    },
    Family {
        name: "wsify_queued_bytes",
        kind: Kind::Gauge,
        about: "bytes waiting to be sent, over all connections; shared bytes count for each connection",
        samples: |_, now, out| out.value(now.queued_bytes),
    },
    Family {
        name: "wsify_laggards",
        kind: Kind::Gauge,
        about: "connections that do not read fast enough: the kernel accepts no more data for them",
        samples: |_, now, out| out.value(now.laggards),
    },
    Family {
        name: "wsify_authorizer_questions_total",
        kind: Kind::Counter,
        about: "questions for the authorizer, by `command`",
        samples: |metrics, _, out| out.by("command", &metrics.questions),
    },
    Family {
        name: "wsify_authorizer_unasked_total",
        kind: Kind::Counter,
        about: "commands that needed no question, `by` the field that answered them: `allow` or `max_age`",
        samples: |metrics, _, out| out.by("by", &metrics.unasked),
    },
    Family {
        name: "wsify_authorizer_verdicts_total",
        kind: Kind::Counter,
        about: "outcomes of questions, by `verdict`: `allow`, `deny`, `unavailable`",
        samples: |metrics, _, out| out.by("verdict", &metrics.verdicts),
    },
    Family {
        name: "wsify_authorizer_answers_total",
        kind: Kind::Counter,
        about: "questions, by `class` of the answer's status: `200`, `1xx`, `2xx` (without 200), `3xx` to `5xx`, `other`; `none`: no answer, queue full, or waited too long",
        samples: |metrics, _, out| out.by("class", &metrics.authorizer_answers),
    },
    Family {
        name: "wsify_authorizer_failures_total",
        kind: Kind::Counter,
        about: "questions that failed, by `kind`: `5xx`, `no_answer`, `bad_answer`, `not_put` (queue full, or waited too long), `refused` (not asked, as it is down)",
        samples: |metrics, _, out| out.by("kind", &metrics.authorizer_failures),
    },
    Family {
        name: "wsify_authorizer_up",
        kind: Kind::Gauge,
        about: "0 while the authorizer is down, else 1; with `--authorizer-failure close` 0 from a failed call to the next answer",
        samples: |_, now, out| out.value(u8::from(now.authorizer_up)),
    },
    Family {
        name: "wsify_authorizer_held",
        kind: Kind::Gauge,
        about: "questions that are held until the authorizer is back, those being asked again included",
        samples: |_, now, out| out.value(now.questions_held),
    },
    Family {
        name: "wsify_authorizer_duration_seconds",
        kind: Kind::Histogram,
        about: "time from a question's arrival in the queue to its answer",
        samples: |metrics, _, out| out.durations(&metrics.verdict_time),
    },
    Family {
        name: "wsify_authorizer_batch_size",
        kind: Kind::Histogram,
        about: "questions per call to the authorizer; its `_count` is the number of calls",
        samples: |metrics, _, out| out.histogram(&metrics.batch_size, |size| size.to_string()),
    },
    Family {
        name: "wsify_authorizer_calls_in_flight",
        kind: Kind::Gauge,
        about: "questions that wait for an answer",
        samples: |_, now, out| out.value(now.questions_in_flight),
    },
    Family {
        name: "wsify_authorizer_questions_waiting",
        kind: Kind::Gauge,
        about: "questions waiting for a worker",
        samples: |_, now, out| out.value(now.questions_waiting),
    },
    Family {
        name: "wsify_broker_up",
        kind: Kind::Gauge,
        about: "1 while the broker is up and every channel with a member here is subscribed, else 0; always 1 with `memory`",
        samples: |_, now, out| out.value(u8::from(now.broker_up)),
    },
    Family {
        name: "wsify_broker_reconnections_total",
        kind: Kind::Counter,
        about: "how often the broker was lost and came back",
        samples: |_, now, out| out.value(now.broker_reconnections),
    },
    Family {
        name: "wsify_broker_messages_total",
        kind: Kind::Counter,
        about: "messages received from redis, by `outcome`: `delivered`, `nodes` (between nodes), `not_json` (dropped), `unknown` (without the prefix: dropped)",
        samples: |metrics, _, out| out.by("outcome", &metrics.broker_messages),
    },
    Family {
        name: "wsify_broker_gaps_total",
        kind: Kind::Counter,
        about: "channels whose members here may have missed messages, as they were not subscribed for a while; all users and connections count as one",
        samples: |metrics, _, out| out.value(metrics.broker_gaps),
    },
    Family {
        name: "wsify_broker_nodes",
        kind: Kind::Gauge,
        about: "nodes that share the broker with this one, which counts too",
        samples: |_, now, out| out.value(now.broker_nodes),
    },
    Family {
        name: "wsify_broker_hostile_total",
        kind: Kind::Counter,
        about: "messages on the channels of the nodes that were dropped, by `reason`",
        samples: |metrics, _, out| out.by("reason", &metrics.broker_hostile),
    },
    Family {
        name: "wsify_broker_shard_up",
        kind: Kind::Gauge,
        about: "1 while both connections to a master are up, by its address as `shard`",
        samples: |_, now, out| {
            for shard in &now.broker_shards {
                if let Some(up) = shard.up {
                    out.labelled(&[("shard", &shard.name)], u8::from(up));
                }
            }
        },
    },
    Family {
        name: "wsify_broker_shard_reconnections_total",
        kind: Kind::Counter,
        about: "times that a master was lost and came back, by `shard`",
        samples: |_, now, out| {
            for shard in &now.broker_shards {
                out.labelled(&[("shard", &shard.name)], shard.reconnections);
            }
        },
    },
    Family {
        name: "wsify_broker_shard_gaps_total",
        kind: Kind::Counter,
        about: "gaps as above, by `shard`",
        samples: |_, now, out| {
            for shard in &now.broker_shards {
                out.labelled(&[("shard", &shard.name)], shard.gaps);
            }
        },
    },
    Family {
        name: "wsify_events_total",
        kind: Kind::Counter,
        about: "events for the receiver, by `event`: those that `--events` chooses",
        samples: |metrics, _, out| out.by("event", &metrics.events),
    },
    Family {
        name: "wsify_events_dropped_total",
        kind: Kind::Counter,
        about: "events dropped: too many waited, or the receiver refused one alone with `413`",
        samples: |metrics, _, out| out.value(metrics.events_dropped),
    },
    Family {
        name: "wsify_events_waiting",
        kind: Kind::Gauge,
        about: "events that the receiver has not taken yet",
        samples: |_, now, out| out.value(now.events_waiting),
    },
    Family {
        name: "wsify_events_lag_seconds",
        kind: Kind::Gauge,
        about: "age of the oldest event that the receiver has not taken yet; 0 without one",
        samples: |_, now, out| out.value(now.events_lag.as_secs_f64()),
    },
    Family {
        name: "wsify_events_calls_total",
        kind: Kind::Counter,
        about: "calls to the receiver of events, by `outcome`: `taken` (2xx), `too_large` (413), `failed`",
        samples: |metrics, _, out| out.by("outcome", &metrics.event_calls),
    },
    Family {
        name: "wsify_taps",
        kind: Kind::Gauge,
        about: "open taps",
        samples: |_, now, out| out.value(now.taps),
    },
    Family {
        name: "wsify_tap_lines_lost_total",
        kind: Kind::Counter,
        about: "lines dropped because a tap was too slow",
        samples: |_, now, out| out.value(now.lost_tap_lines),
    },
    Family {
        name: "wsify_loop_turn_duration_seconds",
        kind: Kind::Histogram,
        about: "duration of a turn of the event loop, without the time it slept",
        samples: |metrics, _, out| out.durations(&metrics.turn_time),
    },
    Family {
        name: "wsify_loop_turn_longest_seconds",
        kind: Kind::Gauge,
        about: "longest turn in the last one to two minutes; all connections waited that long",
        samples: |_, now, out| out.value(now.longest_turn.as_secs_f64()),
    },
    Family {
        name: "wsify_log_lines_dropped_total",
        kind: Kind::Counter,
        about: "log lines dropped because stdout was blocked",
        samples: |_, now, out| out.value(now.dropped_log_lines),
    },
];
