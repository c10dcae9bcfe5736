//! wsify: a WebSocket publish/subscribe server that asks a webhook for permission. README.md and docs/ describe what it
//! does; this page is the map of how. Each file's header tells more.
//!
//! The hard part is not bytes but interleaving. A verdict of the authorizer, a broadcast, a disconnect and the next
//! frame arrive in any order, and no client's work may delay another's. So one thread owns all connections. The part of
//! it that decides, the [`hub`], has no poll, thread or clock of its own, so a test controls the order of events.
//!
//! # Files
//!
//! Not listed are files `saved….rs`: `saved.rs` in a module's folder is the module's form in a snapshot.
//!
//! ```text
//! main.rs                  arguments, configuration, log, server, or a part in a handover; one line on stderr if it cannot start
//! config/mod.rs            flags and variables, turned once into a checked Config; no other file reads settings from them
//! config/flags.rs          every flag as data: name, default, help
//! config/help.rs           the text of --help, made from the flags
//! config/arguments.rs      arguments and variables as texts, and the errors that name them
//! config/values.rs         checks and types of values
//! config/stop.rs           why the program does not start, or ends early: a text and an exit status
//! config/dsn.rs            --broker-dsn: where redis is, and how that is shown without its secrets
//! log/mod.rs               lines on stdout, written by a separate thread, so that the loop never waits
//! log/format.rs            a log line as JSON or as text
//! log/throttle.rs          throttles for log lines: a number in an interval, or one while a condition lasts
//! metrics/mod.rs           counters, gauges, histograms
//! metrics/instruments.rs   the types of counters by label and of histograms
//! metrics/family.rs        the type of a metric family
//! metrics/families.rs      every metric of wsify itself as data: name, kind, meaning, samples
//! metrics/process_families.rs  the metrics of the process as data: name, kind, meaning, samples
//! metrics/render.rs        all families, and their Prometheus text
//! metrics/samples.rs       the Prometheus text of a family's samples
//! metrics/saved/mod.rs     the counters in a snapshot
//! metrics/saved/instruments.rs  counters by label and histograms in a snapshot
//! clock.rs                 Millis and Clock: the time, as the loop passes it to the hub and the broker
//! secret.rs                a text that is never shown
//! short_text.rs            a short text on the stack: an id, an address
//! random.rs                one random generator, for jitter
//! backoff.rs               exponential back-off with jitter
//! interned.rs              values that many connections share, kept once
//! signals.rs               signals, which wait until the loop reads them
//! fd_table.rs              threads that have a table of file descriptors of their own
//! heap.rs                  free memory is returned to the kernel
//! process.rs               the process_* metrics, read from /proc when /metrics is requested
//! effect.rs                values that cross between the hub and its drivers: ConnId, Effect, Answer, Receipt
//! snapshot/mod.rs          the format in which a program hands over its state to the one that replaces it
//! snapshot/record_kind.rs  the kinds of records in a snapshot, and their numbers
//! snapshot/header.rs       a snapshot's first record and its last; what a reader has to know
//! snapshot/writer.rs       writes a snapshot, record by record
//! snapshot/reader.rs       reads a snapshot, record by record; skips records of unknown kinds
//! snapshot/error.rs        why a snapshot cannot be used
//! buffers/mod.rs           bytes of connections that wait, in both directions
//! buffers/inbox.rs         Inbox: bytes received from a client and not yet used
//! buffers/outbox.rs        Outbox: bytes for a client that the kernel has not yet taken
//! buffers/queued.rs        what waits in an outbox, piece by piece
//! buffers/slice.rs         a stretch of a run, and sums of queued bytes
//! buffers/runs.rs          Runs: frames encoded once, shared by many outboxes
//!
//! wire/mod.rs              bytes to values and back, pure: no sockets, time, threads, logging, ConnId
//! wire/http/mod.rs         HTTP/1.1 on the server's side: one request, one reply (RFC 9112)
//! wire/http/head.rs        a request's head: its bytes and its lines
//! wire/http/facts.rs       what a request's headers say about the request itself: host, framing, keep-alive
//! wire/http/target.rs      a request's target, and query strings
//! wire/http/body.rs        a request's body, and how its end is found
//! wire/http/reply.rs       statuses, error answers, and their bytes
//! wire/authority.rs        a host with an optional port
//! wire/endpoint.rs         the table of endpoints, and the 404 and 405 that follow from it
//! wire/event.rs            an event for the webhook of --events-url as JSON, and the kinds of events
//! wire/event_batch.rs      the events of one call to the receiver of events
//! wire/encoding.rs         the encodings in which content is sent to members
//! wire/extensions.rs       which offer of permessage-deflate is accepted (RFC 7692 7)
//! wire/handshake.rs        whether a request may upgrade, and the answer (RFC 6455 4)
//! wire/origins.rs          the meaning of --allowed-origins, and the CORS headers that follow from it
//! wire/forwarded.rs        the client behind a proxy: X-Forwarded-For, and --trusted-proxies
//! wire/proxy_protocol.rs   the header in which a proxy names its client (PROXY protocol 1 and 2)
//! wire/frame.rs            one WebSocket frame: read its header, judge it, unmask, encode (RFC 6455 5.2)
//! wire/message.rs          WebSocket frames to messages: fragments, UTF-8, sizes, pings, closes (RFC 6455 5.4 to 5.6, 7)
//! wire/deflate.rs          a message compressed, a compressed message inflated (RFC 7692 6)
//! wire/json.rs             one JSON object in one pass: where its values lie, which name came twice
//! wire/json/members.rs     any JSON object or array, by its parts
//! wire/json/scalars.rs     JSON strings, integers and users' names: types and ranges
//! wire/command.rs          a client's message or a POST's body as a command
//! wire/channel_name.rs     channel names: trimmed, checked, shared
//! wire/server_message.rs   the JSON that clients are sent: answers, errors, content with its channel
//! wire/answer_fields.rs    what the authorizer's answer may say besides yes and no; patterns of channels
//! wire/answer_fields/read.rs  reads the body of an authorizer's answer, or the array that answers a batch: types, ranges
//! wire/answer_fields/state.rs  the state in an authorizer's answer
//! wire/answer_fields/wrong.rs  a field of an authorizer's answer that cannot be used, for the log
//! wire/question.rs         the JSON of a question to the authorizer
//! wire/backend/mod.rs      commands of backends to channels, users and connections, as values
//! wire/backend/body.rs     commands of backends read from request bodies
//! wire/backend/query.rs    commands of backends read from query strings
//! wire/backend/answer.rs   a node's answer to a backend's command, and how answers of several nodes become one
//! wire/node_message/mod.rs  messages between nodes, as values, and their channels
//! wire/node_message/envelope.rs  which node a message is from, and the signature that proves it
//! wire/node_message/read.rs  messages of nodes read from JSON: types and ranges
//! wire/node_message/write.rs  messages of nodes as JSON
//! wire/node_message/replay.rs  which messages of a node were received already
//! wire/nodes.rs            which nodes redis names: redirections, answers of sentinels
//! wire/cluster_view.rs     how a node sees its cluster
//! wire/hash_slot.rs        the slot of a channel in a redis cluster
//! wire/resp.rs             commands to redis, and its replies
//!
//! connection/mod.rs        one connection, as the hub sees it: the values it takes and gives
//! connection/traffic.rs    all reads and writes of a client's socket
//! connection/closing.rs    how a connection ends: by its client, by the hub, because of a limit or a stop
//! connection/state.rs      a connection's fields, and what it can be asked
//! connection/session.rs    a connection from phase to phase: bytes in, inputs out; answers malformed requests by itself
//! connection/phase.rs      the phase that a connection is in, and what follows from the phase alone
//! connection/refusal.rs    a connection that is refused: malformed, too late, evicted, or over the memory budget
//! connection/input.rs      every input that a connection yields to the hub
//! connection/stream.rs     what carries a connection's bytes: a socket, or a scripted pipe in tests
//! connection/limits.rs     what a connection may take, and how long it may take for it
//! connection/exchange.rs   HTTP requests on their way in: the head, the body, what decides how a request is answered
//! connection/websocket.rs  a WebSocket while it is open (pings, messages) and while it closes
//! connection/suspended.rs  what a connection waits with: for the authorizer, a channel or the broker
//! connection/ending.rs     every way in which a connection ends: close code, the log's word, the metric's label
//! connection/peer.rs       the address at a connection's other end, packed
//! connection/identity.rs   the query, the user and the state that go with each of a connection's questions, packed
//!
//! hub/mod.rs               all connections: the hub's doors
//! hub/turn.rs              one turn of a connection: reads its input, passes each one to its handler
//! hub/broker.rs            the doors for the broker's news
//! hub/returned.rs          publications that the broker has not published, to be handed out again
//! hub/resume.rs            what has waited for a channel goes on
//! hub/waiter.rs            the name of what waits: a connection, or a job that belongs to none
//! hub/drain.rs             the graceful stop, carried out: what happens to upgrades, clients and taps
//! hub/delivery.rs          sends what was published: the fan-out in slices, and the flush
//! hub/finish.rs            what is finished before a snapshot, so that it need not be saved
//! hub/endpoints/mod.rs     HTTP requests: passes each to the handler of its row in the table; checks the key
//! hub/endpoints/upgrade.rs  GET /ws: the checks in their order, then the WebSocket is open
//! hub/endpoints/broadcast.rs  POST /broadcast
//! hub/endpoints/health.rs  GET /health
//! hub/endpoints/metrics.rs  GET /metrics, and where each gauge comes from
//! hub/endpoints/tap.rs     GET /tap: how a tap begins, how its lines are sent, how it ends
//! hub/endpoints/backend.rs  POST /disconnect, /join and /leave, GET /channels and /connections
//! hub/backend/mod.rs       commands of backends: begun, continued, answered
//! hub/backend/jobs.rs      commands of backends under way, and which of them wait for each other
//! hub/backend/reach.rs     the connections of a user, or one by its id
//! hub/backend/contents.rs  content to channels, users and connections
//! hub/backend/actions.rs   connections are disconnected, join a channel, or leave it
//! hub/backend/lists.rs     pages of channels and connections
//! hub/backend/gather.rs    a command that all nodes are asked for: sent, answered by each, answered to the backend
//! hub/nodes/mod.rs         the nodes that share a broker: what this one knows of the others
//! hub/nodes/hear.rs        messages of other nodes: validated, then executed
//! hub/nodes/rounds.rs      what is due between nodes in each turn
//! hub/nodes/gap.rs         clients are told that they may have missed what goes to users and connections
//! hub/nodes/say.rs         messages to the other nodes
//! hub/nodes/gathering.rs   the answers of nodes to one command
//! hub/nodes/peers.rs       which other nodes are there, and which of their messages have come
//! hub/nodes/standing.rs    the two channels of a node at the broker
//! hub/nodes/missed.rs      which clients are still to be told of a gap
//! hub/permission.rs        permission for a command: whether to ask, the question, what an answer does, what a failure does
//! hub/grants/mod.rs        what needs no question of a connection, and until when: allow, max_age, expires_in
//! hub/grants/remembered.rs  answers that are remembered for one connection
//! hub/commands.rs          join, leave and broadcast, once they are allowed
//! hub/publish.rs           the one way to publish, and the one way to wait for it
//! hub/replies.rs           what clients and backends are answered, and that it is reported
//! hub/failure.rs           what a failure of the authorizer leads to for each kind of waiting request
//! hub/questions.rs         questions on their way to the authorizer: put, held, asked again, withdrawn
//! hub/settle.rs            what follows from a change to a connection, in named steps; how a WebSocket is closed
//! hub/report/mod.rs        what happens, reported to metrics, access log, taps, the receiver of events and the log
//! hub/report/listeners.rs  the five listeners of the report, and the counts of every read and send
//! hub/report/asking.rs     reports of questions, and of commands that need none
//! hub/report/events.rs     what the receiver of events is sent
//! hub/report/event_listener.rs  which kinds of events the receiver gets, and first close codes
//! hub/report/event_queue.rs  events that wait for their receiver: numbered, bounded, the oldest dropped
//! hub/report/answers.rs    what is logged of the authorizer's answers
//! hub/report/access_log.rs  the access log: a line for an end, and for a refused request
//! hub/report/outage.rs     an authorizer that fails: two log lines for an outage, and what becomes of questions meanwhile
//! hub/report/gap.rs        the report that members may have missed messages
//! hub/report/nodes.rs      the report of messages on the channels of the nodes that are not used
//! hub/report/tap.rs        taps: the filter of each, and the lines that wait for it
//! hub/state.rs             the hub's fields: facts, what follows from them, what leaves
//! hub/effects.rs           requests to the drivers that have not been taken, and which of them are held back
//! hub/settings.rs          what the hub is configured with
//! hub/outage/mod.rs        what becomes of questions when the authorizer fails
//! hub/outage/breaker.rs    whether the authorizer is down, and how fast questions may go out to it
//! hub/outage/held.rs       questions that wait in the hub: in the queue, or for the end of a pause
//! hub/roster.rs            every connection by its id; how many there are of each kind
//! hub/saved/mod.rs         the hub in a snapshot: which part writes what, in which order
//! hub/saved/facts.rs       what a snapshot says of the hub as a whole, and of each slot
//! hub/saved/restoring.rs   reads the hub's part of a snapshot
//! hub/saved/rebuild.rs     rebuilds what follows from the facts of a restored hub, in one walk
//! hub/users.rs             which connections belong to which user
//! hub/users/blocks.rs      pairs of numbers in order, in blocks of memory
//! hub/disconnects.rs       upgrades under way, and the users that were disconnected meanwhile
//! hub/slots.rs             tables by slot, and the walk over all slots
//! hub/agenda.rs            which connections and audiences have work: lists and the wheel
//! hub/deadlines.rs         deadlines of connections: a wheel
//! hub/channels.rs          channels and their members, both ways
//! hub/channels/joining.rs  how a connection becomes a member, and how that ends
//! hub/channels/named.rs    names of the channels that a connection is in
//! hub/channels/listed.rs   channels and members in the order of lists
//! hub/channels/publishing.rs  publishes content to a channel's members on this node
//! hub/channels/reserved.rs  channels that a connection joins together with its 101
//! hub/channel.rs           one channel: its audiences, what waits for it
//! hub/frames.rs            the frame of content in each encoding
//! hub/names.rs             channels by name
//! hub/memberships.rs       the memberships of one connection
//! hub/audience.rs          the members of a channel with one encoding: batches, the cursor
//! hub/compression.rs       which content is compressed; the compressor and the inflater of all connections
//! hub/subscriptions.rs     which channels the broker has been asked for
//! hub/subscriptions/unsubscriptions.rs  subscriptions that the broker has been asked to end
//! hub/shards.rs            which shard of the broker has a channel, and what each can do
//! hub/drain_plan.rs        the graceful stop, planned: when which client is closed
//! hub/limits/mod.rs        the limits that hold for all connections together
//! hub/limits/per_address.rs  WebSockets from one address
//! hub/limits/message_rate.rs  messages of a connection in a second
//! hub/limits/memory.rs     bytes buffered for all connections
//! hub/limits/eviction.rs   idle HTTP connections are closed when file descriptors run out
//!
//! authorizer/mod.rs        the loop's side: a Question goes out, an Answer comes back; never sees a client
//! authorizer/settings.rs   the authorizer's settings
//! authorizer/pool.rs       how many worker threads there are, and what they share with the loop
//! authorizer/task.rs       a question on its way through the pool
//! authorizer/waiting.rs    questions that wait for a worker
//! authorizer/worker.rs     one worker thread: asks, hands the answer in, rests, ends
//! authorizer/parker.rs     where an idle worker is called
//! authorizer/call.rs       one call and its answer, on a connection that is kept alive
//! authorizer/outcome.rs    what a call's answer means for each of its questions, and when its body is looked at
//! authorizer/probe.rs      a call for --check
//!
//! webhook/mod.rs           calls to webhooks: what the authorizer and the receiver of events have in common
//! webhook/caller.rs        one caller of a webhook: a POST and its answer, on a connection that is kept alive
//! webhook/dial.rs          how a connection to a webhook is made: name, TCP, TLS
//! webhook/link.rs          a connection to a webhook as bytes: TCP or TLS, timeouts
//! webhook/transport.rs     a connection to a webhook as ureq uses it
//! webhook/traffic.rs       how many connections a caller has made, and how long a read may take
//! webhook/unfold.rs        an answer's folded header lines, made one line
//! webhook/signature.rs     what proves to the receiver of a call that wsify has sent it: --authorizer-key
//! webhook/url.rs           a webhook's URL, and how it is shown without its secrets
//! webhook/threads.rs       the stack of all threads that call webhooks, and how they take a lock
//!
//! events/mod.rs            events on their way to their receiver: the loop's side
//! events/delivery.rs       one batch of events: which of them go in the next call, and when; pauses, halves
//! events/sender.rs         the thread that calls the receiver of events
//!
//! broker/mod.rs            the broker: memory or redis; commands in, news out, as values
//! broker/news.rs           news of the broker for the hub
//! broker/link.rs           one connection to the broker: bytes in and out, broken, made again, back-off
//! broker/socket.rs         a socket to the broker: TCP, unix or TLS; the lookup of a name
//! broker/redis/mod.rs      the links to redis, and the bytes on them
//! broker/redis/redis_log.rs  what is logged about redis
//! broker/redis/topology/mod.rs  which redis servers there are, without I/O: one, a watched master, or the masters of a cluster
//! broker/redis/topology/links.rs  the names of the links to redis that should exist
//! broker/redis/topology/masters.rs  sends commands to the master that has the channel, and takes the news of each in order
//! broker/redis/topology/watched.rs  the master that sentinels name: followed, left
//! broker/redis/topology/sentinels.rs  what sentinels have said, and which master follows from it
//! broker/redis/topology/clustered.rs  the masters of a cluster: found, followed, left
//! broker/redis/topology/cluster.rs  what is known of a cluster, and when a node is asked for its view
//! broker/redis/topology/hash_slots.rs  which shard has which slot of a cluster
//! broker/redis/scout.rs    a link that asks a sentinel for the master, or a node for its view
//! broker/redis/dialogue/mod.rs  commands to a master on two links, and its replies, without I/O
//! broker/redis/dialogue/values.rs  the values of a dialogue: what a link is for, what is awaited, what comes of a reply
//! broker/redis/dialogue/commands.rs  publications and subscriptions become commands
//! broker/redis/dialogue/replies.rs  the greeting, and what each reply means
//! broker/redis/dialogue/sharded.rs  replies that only a node of a cluster sends
//! broker/redis/conversation.rs  the commands and replies of one link: what is to be sent, which replies are awaited
//! broker/redis/meaning.rs  the meaning of a redis reply that depends on no command; authentication
//! tls.rs                   which certificates of the authorizer, the receiver of events and redis are trusted
//!
//! listener.rs              TCP and unix listeners, and the clients' sockets that they accept
//! playground.rs            the page of --playground, and what a browser may do with it
//! systemd.rs               notifications to the service manager: ready, status, watchdog, stopping
//! quickstart.rs            two commands to try, printed when the server starts at a terminal
//! check.rs                 --check: tries what a start needs, and reports what is wrong
//! start/mod.rs             builds the parts of the server, divides the file descriptors, logs what was built
//! start/parts.rs           parts that every server is built with, and the split of the file descriptors
//! start/take_over.rs       the start of a program that replaces another one
//! start/trial.rs           whether a takeover would work, tested as a child of the running program
//! acceptor.rs              accepts connections: pending listeners, the pause and the eviction when file descriptors run out
//! handover/mod.rs          replaces the running program: its phases, the trials of the new program, execve
//! handover/role.rs         what this process is in a handover, and what one program leaves to the next
//! handover/program.rs      the running program, and the file at the path it was started from
//! handover/trial.rs        the new program as a child that answers with a line
//! handover/memory.rs       the sealed file in memory that holds a snapshot
//! handover/descriptors.rs  descriptors that pass from one program to the next
//! handover/rollback.rs     back to the old program, if the new one fails after execve
//! server/mod.rs            the loop: the poll, signals, the clock, the order of a turn; no rule about a client
//! server/drivers.rs        what passes between the hub and its drivers
//! server/stop.rs           signals, and the graceful stop
//! server/replace.rs        the steps of a handover in the loop
//! server/resume.rs         what a new program logs and counts once it has taken over
//! ```
//!
//! Imports point one way; `tests/source/map.rs` holds these lines, and the list above, against the source:
//!
//! ```text
//! main -> check, config, handover, heap, log, server, signals, start
//! check -> authorizer, config, effect, events, listener, log, start, wire
//! start -> acceptor, authorizer, broker, clock, config, connection, events, fd_table, handover, hub, listener, log, metrics, quickstart, random, secret, server, signals, snapshot, systemd, tls, wire
//! server -> acceptor, authorizer, broker, clock, config, connection, effect, events, handover, heap, hub, listener, log, signals, snapshot, systemd
//! handover -> clock, snapshot
//! acceptor -> clock, config, connection, effect, hub, listener, log
//! listener -> config, connection, snapshot
//! backoff -> clock, random
//! heap, random, systemd -> clock
//! hub -> backoff, buffers, clock, config, connection, effect, interned, log, metrics, playground, process, random, secret, short_text, snapshot, wire
//! connection -> buffers, clock, interned, short_text, snapshot, wire
//! broker -> backoff, clock, config, effect, log, random, snapshot, wire
//! authorizer -> effect, fd_table, secret, webhook, wire
//! config -> authorizer, log, secret, webhook, wire
//! webhook -> secret, tls, wire
//! effect -> clock, snapshot, wire
//! events -> backoff, clock, fd_table, log, random, snapshot, webhook, wire
//! playground -> wire
//! process -> metrics
//! log -> clock, fd_table
//! buffers, wire -> snapshot
//! clock, fd_table, interned, metrics, quickstart, secret, short_text, signals, snapshot, tls -> nothing
//! ```
//!
//! `config` holds the types of parsed flag values, which the hub, the broker and the listener take as settings. It needs
//! from `authorizer` and `webhook` their settings and the type of a URL, from `log` levels and formats, and from `wire` the
//! types of proxies, origins and events.
//!
//! # Ownership
//!
//! ```text
//! Server { poll, signals, acceptor, hub, authorizer, broker, events, manager, handover, log, heap }
//!  Acceptor { listeners, max_sockets, paused_until }
//!  Hub<S> { settings, limits now, clock, random, drivers, and: }
//!   Roster<S> { Slab<Connection<S>>, identities, counts }                   facts
//!    Connection<S> { stream: S, session, inbox, outbox, peer, encoding, identity, marks }       all private
//!     Session { phase, ending, over }        Outbox: own bytes and slices of runs, in order
//!   Channels { by_name, Slab<Channel>, joined: by slot, subscriptions }     facts
//!    Channel { name, audiences: [Audience], connections that wait for it }  one audience for each Encoding
//!     Audience { members, batches, cursor }
//!   Grants { allow, remembered, refresh: by slot }                          facts
//!   Runs { Slab<Run { bytes, holders }> }, Compression                      facts
//!   Outage { breaker, held questions }, Jobs, Disconnects, DrainPlan        what is under way
//!   Nodes { peers, channels, commands asked of all }                        what is known of other nodes
//!   Users, Usage { per address, message rate, memory, eviction }            indexes, and what the limits count
//!   Agenda { again, released, serving, dirty, to_drop, wheel }              what follows from the facts
//!   effects, returned publications                                          what leaves
//!   Listeners { metrics, access log, taps, events, log }                    what reports go to
//!  Authorizer { pool: queue, workers, answers }
//!  EventSender { batch under way, pause }    the batches behind it wait in the hub
//! ```
//!
//! Threads share the authorizer's pool, the log's queue and the event sender's call. They also share lookups of names
//! (`broker/socket.rs`, `webhook/dial.rs`), and the list of descriptors that a handover has brought (`fd_table.rs`). All
//! reads from clients go through one buffer of 64 KiB. `S` is a socket in the program, and a scripted pipe in tests. The
//! words:
//!
//! - **ConnId** (slot, generation): a connection's name inside the process. Events of the poll and late answers are
//!   looked up by it, so a slot's new connection is never mistaken for the old one. The **PublicId** is its name
//!   outside.
//! - **Phase**: `Request`, `Body`, `Suspended`, `Open`, `Streaming`, `Closing`. What belongs to a phase lives in it.
//! - **Suspended**: an upgrade, a command, a POST, a backend's command or a refresh of the grants that waits for an
//!   answer. **Awaits** names the answer: `Verdict`, `HeldVerdict`, `Channel`, `Receipt`, `Backend`. Until it comes, no
//!   further message of the connection is handled.
//! - **Effect**: a request of the hub to a driver. A `Question` to the authorizer is answered with an **Answer** that
//!   holds a **Verdict** (`Allow`, `Deny`, `Unavailable`). It is not a `Result`, because a denial is not an error.
//!   Publications and subscriptions at redis are answered with a **Receipt**. Each answer comes exactly once, unless
//!   the question was withdrawn.
//! - **Encoding**: how content is written for a member: `Raw` or `V1` (the subprotocol), each plain or compressed. An
//!   **AudienceId** is one encoding's audience of one channel, in 32 bits.
//! - **Run**: encoded frames in one buffer that grows at its end, named by an index and counted by hand ([`buffers`] says
//!   why). A **Slice** is a stretch of one: what a batch is, and what an outbox holds of it.
//! - **Ending**: why a connection is over. The first reason stays.
//!
//! # One turn
//!
//! [`server`] calls the hub's doors in this order. Answers, effects, returned publications and the flush are worked off
//! completely. Each other step has a limit, a constant beside its code, and work that is left over waits for the next turn.
//!
//! ```text
//!  1 poll            until the next deadline; not at all while the hub, a driver or the acceptor has work
//!  2 events          signals; listeners and the broker's links (only marked pending); hub.ready(): one read for each
//!                    connection, then the requests and messages in it
//!  3 accept          from each listener, as long as there are file descriptors
//!  4 answers         all of the authorizer's: hub.verdict(); then the broker's news, messages of other nodes among them
//!  5 hub.turns       connections that no longer wait for a channel; channels subscribed again; returned publications; steps
//!                    of backends' commands; the again-list; contents of nodes that have waited; clients told of a gap
//!  6 effects         all of them: hub.effect() to the authorizer and the broker
//!  7 hub.expire      due deadlines; held questions asked or given up; in a graceful stop, clients to be closed
//!  8 hub.fan_out     sends, round-robin between audiences; a large frame counts for more
//!  9 hub.evict       if connections wait to be accepted, and file descriptors have run out: closes idle HTTP connections
//! 10 hub.flush       each connection into whose outbox something was put, once
//! 11 hub.reap        connections that are over
//! 12 hub.take_events the next batch, if no call is under way; then a handover, and the end of a graceful stop
//! ```
//!
//! Sockets are registered once, readable and writable, edge-triggered. A read that did not fill the buffer has drained
//! the socket, and a write that blocked is reported by an edge. A connection that stops early for another reason has to
//! be in a list of the agenda. The lists are `again` (has work), `released` (has waited for a channel), `dirty` (has
//! something to be sent) and `to_drop` (is over). An audience with a batch is in `serving`. `settle` is called after
//! each change to a connection, and enters it into the lists.
//!
//! # Four walks
//!
//! 1. **A client's broadcast.** `hub.ready` → `turn` → `connection.fill` reads into the shared buffer →
//!    `connection.next`: frame, judge, unmask in place, message → `Input::Said` → `commands::read`: parse, limits →
//!    `permission::for_command` → `commands::perform` → `publish::publish` → `channels.publish`: the frame is encoded once
//!    for each encoding, behind the batch that has not begun to go out.
//!    - With an authorizer, `permission` suspends the command with a copy of its message, unless a grant answers it.
//!    - Later in the turn `delivery::fan_out` → `connection.deliver`: one write for each member, of all that was published
//!      to the audience in the meantime.
//!    - What the kernel does not take waits as a slice in the member's outbox. Over `--max-queue-size` the member is too
//!      slow.
//! 2. **An answer of the authorizer.** A worker hands in an `Answer`, and the first of a turn wakes the poll →
//!    `hub.verdict` → `permission::answer`. An answer for an id that is gone is ignored.
//!    - Allowed: `endpoints::upgrade::allowed` or `commands::perform`. Then `settle` puts the connection on the
//!      again-list, as more bytes may have waited.
//!    - Refused: an upgrade is answered `403`, a join or broadcast `not_authorized`, both by `replies`.
//!    - Failed: `questions::hold` keeps the question, to be asked again; or `failure` answers `503`, rejects the command or
//!      closes with 1013 (`--authorizer-failure`).
//!    - The question of a connection that was reset or has left is withdrawn: `settle` → `Effect::Withdraw`.
//! 3. **POST /broadcast.** `Input::Request` → `endpoints::request`: the row in the table, the key, the type, each an
//!    early return → the body, which usually came with the head, or `Input::Body` later → `endpoints::broadcast`.
//!    - To one channel: `publish::publish`, and `201`. To more targets: `backend::begin`, a job in steps.
//!    - With more than 4 MiB under way to that channel the request is suspended, and so is a client's broadcast. Both
//!      continue once `delivery::fan_out` has sent enough.
//!    - With redis, 1 and 3 become effects instead: `Effect::Publish`, suspended until `hub.receipt` →
//!      `publish::confirmed` → `ok` or `201`, `unavailable` or `503`. The content comes back as any other: `broker.next` →
//!      `hub.arrived` → `publish::arrived`, and to `nodes::hear` what a node says. A join waits likewise, for `hub.subscribed`.
//! 4. **An end.** The client's close, a violation, `too_slow`, `stopping`, the authorizer's failure → `settle::close`:
//!    what was published while it was a member is put into its outbox first, then the close frame → `Closing`, until the
//!    client's close or the deadline → over.
//!    - As soon as it closes, `settle` reports the end of the WebSocket and ends its memberships and grants.
//!    - When it is over, it is listed to be dropped → `hub.reap`: its runs are released, it is reported and dropped, and
//!      its slot is free.
//!    - A graceful stop (`hub.drain`) closes client after client in this way, with 1012.
//!
//! # A handover
//!
//! `SIGUSR2` replaces the running program, in the same process, and no connection is closed. [`handover`] knows how,
//! `server/replace.rs` in which order.
//!
//! - Each part saves its own facts, in a file `saved.rs`, as types that define only the format of the [`snapshot`]. What
//!   follows from facts is not saved but rebuilt.
//! - A snapshot can be made between any two doors of the hub. Only threads cannot be handed over. So `hub.hold_back` keeps
//!   questions, and the answers to those under way are awaited.
//! - Sockets stay open across `execve`, with their numbers. Their new owner registers them with its own poll, and the first
//!   edges report readable and writable sockets.
//! - Until `execve` the old program is as it was. After it, until the first byte, [`handover::Rollback`] rolls back.
//!
//! # What to touch
//!
//! Each also has its place in `docs/`: `tests/source` compares the tables there with the code.
//!
//! - **An endpoint**: a variant and a row in `wire/endpoint.rs`, at the same position. An arm in both matches of
//!   `hub/endpoints/mod.rs`, and a handler beside it. docs/api.md.
//! - **A command of backends**: `wire/backend` to read and answer it, a job in `hub/backend`. docs/api.md.
//! - **A metric**: a field and its start value in `metrics/mod.rs`, a row in `metrics/families.rs`, a field in
//!   `metrics/saved`. A function in `hub/report` counts it; `hub/endpoints/metrics.rs` fills in a gauge.
//! - **A log line, a line of taps**: a function in `hub/report`, and the call where it happens. docs/observing.md.
//! - **An event for the receiver**: its kind and JSON in `wire/event.rs`, its label in `metrics/mod.rs` (`events`), a
//!   function in `hub/report/events.rs`, and the call where it happens. docs/events.md.
//! - **A client's command**: a `Verb` in `wire/command.rs`, what it does in `hub/commands.rs`. `permission` asks about
//!   every command: `Asked` and `Allow` in `wire/answer_fields.rs`. Its labels in `metrics/mod.rs` (`commands`,
//!   `questions`). docs/protocol.md, docs/authorizer.md.
//! - **A field of the authorizer's answers**: a field of `AnswerFields`, its name in `wire/answer_fields/wrong.rs`, its
//!   type and place in `read.rs`. Its effect is in `hub/permission.rs` and `hub/grants`. docs/authorizer.md.
//! - **A broker**: a variant of `broker::Broker`, a driver beside `broker/redis` that takes `Effect::{Publish,
//!   Subscribe, Unsubscribe}` and yields `News`. `server/` passes these to the hub; `publish.rs`, `subscriptions.rs` and
//!   `shards.rs` know no driver.
//! - **A fact that a replacement of the program has to hand over**: a field of the `Saved…` type beside its owner, with the
//!   next number. An `Option`, or with a default; if a reader must know it, a name in `snapshot/header.rs`.
//! - **A limit**: its flag in `config/flags.rs` and a field of `Config`. A field of `connection/limits.rs` or
//!   `hub/settings.rs`, which `settings()` in `start/parts.rs` fills in. If it holds for all connections together: a file
//!   in `hub/limits`, a field of `Usage` in `hub/state.rs`. README.md, docs/limits.md.
//!
//! # Rules
//!
//! - A file's header says what it owns, what it knows and what it never knows, and which decisions bind it: A rather
//!   than B, because C; reconsider when D.
//! - "Not yet" is a value, malformed is an error that ends the connection, and no input can cause a panic. In the
//!   folders that handle input (`wire`, `connection`, `hub`, `buffers`, `snapshot`, `broker`, `webhook`), lints refuse
//!   unwrapping, indexing and panics. They refuse arithmetic that could overflow too, except in `webhook`, in `buffers` and
//!   in a few files of `hub` and `wire` that say why. Reading, judging and encoding are separate functions.
//! - These have one place each: what waits for an answer (`Suspended`, one open question for each connection), bytes to
//!   a client (`connection/traffic.rs`), the drop of a connection (`hub.reap`).
//! - Hub, connections and broker get the time as an argument; only `hub/compression.rs` reads the clock, for a metric.
//!   Threads, webhooks, handovers and the log read it themselves.
//! - Files do not import each other in circles. A file has at most 400 lines of product code, and a function 60. One
//!   type name is one type. `tests/source/map.rs` checks these rules, and lists the exceptions.
//! - Everything has a limit, with its reason beside it. Reaching it leads to an [`Ending`](connection::Ending) or an
//!   answer. Memory follows what was received, never what was announced.
//! - No `unsafe` but for calls of the kernel and the C library that no crate makes safe. They are in heap.rs, fd_table.rs,
//!   signals.rs and two files of `handover`, which say why. No `Rc<RefCell>`, no lifetimes in structs that are
//!   kept, no trait with one implementor, no callbacks.
//! - Names are the documentation's nouns: one word, one meaning. Comments say why, and cite the documentation by its
//!   anchors, such as docs/authorizer.md#answers, and RFCs by their sections.
//!
//! # Decisions that bind the whole
//!
//! - **One thread for all clients** rather than a runtime with tasks. A broadcast to many is a walk over a dense array,
//!   the order in a channel costs nothing, and an idle connection has no task. If one core is not enough, run several
//!   processes with a broker.
//! - **Threads for the authorizer** rather than non-blocking calls in the loop. Calls take milliseconds, names and TLS
//!   may block, and the loop only sees questions and answers. A call costs about twice the CPU of a non-blocking one.
//!   Reconsider when thousands of calls have to be in flight.
//! - **Three crates for the kernel and the C library.** rustix is for clients' sockets and limits, because its system
//!   calls are inlined. socket2 sets what has to be set before a socket listens or connects. libc is for the allocator,
//!   signals and the rollback of a handover.
//! - **Batches grow with the load automatically**: what is published while one goes out makes the next. No delay is
//!   ever added. For this, with the memory broker a broadcast is delivered within the hub (`publish.rs`).
//!
//! # Tests
//!
//! At a file's foot: tables of bytes and what they mean, read whole, byte by byte, and with more behind them. In `tests/`
//! there is one folder for each kind of test, and `tests/run` runs them all but `load` and `autobahn`:
//!
//! ```text
//! hub/        stories and seeded simulations of the hub, without sockets
//! source/     this map; the tables and links of the documentation; mutants: broken hubs that simulations have to find
//! kernel/     the number of system calls and allocations, exactly
//! corpus/     the corpora of fuzz/, replayed
//! contract/   the behaviour that README and docs describe, over real sockets; the command line
//! clients/    browsers, libraries and tools of other authors
//! docs/       the commands and programs that README and docs print
//! load/       many clients: for minutes, under strain, in an outage, during replacements; by hand
//! autobahn/   the echo server that the Autobahn|Testsuite runs against (.ci/run)
//! harness/    what the tests in Python share
//! ```
//!
//! `cargo bench` measures. `versus`: wsify beside programs that do only what the kernel demands. `codec`: a frame
//! beside other libraries. `million`: the hub with a million connections and no sockets. `redis`: two nodes beside one.

pub mod acceptor;
pub mod authorizer;
pub mod backoff;
pub mod broker;
pub mod buffers;
pub mod check;
pub mod clock;
pub mod config;
pub mod connection;
pub mod effect;
pub mod events;
pub mod fd_table;
pub mod handover;
pub mod heap;
pub mod hub;
pub mod interned;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod playground;
pub mod process;
pub mod quickstart;
pub mod random;
pub mod secret;
pub mod server;
pub mod short_text;
pub mod signals;
pub mod snapshot;
pub mod start;
pub mod systemd;
pub mod tls;
pub mod webhook;
pub mod wire;
