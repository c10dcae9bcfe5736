//! wsify: a WebSocket publish/subscribe server that asks a webhook who may do what. What it promises to its users is in
//! README.md and docs/; this page is the map of how it keeps that. An hour here and in the headers of the files should do.
//!
//! The hard part is not bytes but interleaving (a verdict of the authorizer, a broadcast, a hang-up and the next frame,
//! in any order), and never letting one party's work delay another's. So one thread owns everybody, and the part of it
//! that decides, the [`hub`], knows no poll, thread or clock: a test can own the order of events.
//!
//! # Rooms
//!
//! ```text
//! main.rs                  starts: arguments, configuration, log, server; says why it could not
//! config/mod.rs            the command line and the environment, turned once into a checked Config; no other file reads them
//! config/flags.rs          every flag as data: name, default, help
//! config/arguments.rs      arguments and variables as texts, and the errors that name them
//! config/values.rs         what a usable value looks like
//! config/dsn.rs            --broker-dsn: where redis is, and how that is shown without its secrets
//! log/mod.rs               lines on stdout, written by a thread of its own, so that the loop never waits
//! log/format.rs            a line as JSON or as text
//! log/seldom.rs            throttles for lines: at most so many in a while, once for as long as something lasts
//! metrics/mod.rs           counters, gauges, histograms
//! metrics/families.rs      every metric as data: name, kind, meaning, and the Prometheus text that follows
//! clock.rs                 Millis and Clock: the time, as every part below the loop is given it
//! secret.rs                a text that is never shown
//! random.rs                one generator, for jitter
//! fd_table.rs              threads that have a table of file descriptors of their own
//! heap.rs                  memory that nobody uses any more, given back to the kernel
//! process.rs               what the kernel says of this process, read when /metrics is asked for
//! effect.rs                what crosses between the hub and its drivers: ConnId, Effect, Answer, Receipt
//! buffers.rs               bytes that wait: Inbox (in), Outbox (out), Runs (encoded once, shared by many outboxes)
//!
//! wire/mod.rs              bytes to values and back, pure: no sockets, time, threads, logging, ConnId
//! wire/http/mod.rs         HTTP/1.1 on the server's side: one request, one reply (RFC 9112)
//! wire/http/head.rs        a request's head: its bytes and its lines
//! wire/http/facts.rs       what its headers say about the request itself: host, framing, keep-alive
//! wire/http/target.rs      its target, and query strings
//! wire/http/body.rs        its body, and how the end of it is found
//! wire/http/reply.rs       statuses, error answers, and their bytes
//! wire/authority.rs        a host, and perhaps a port
//! wire/handshake.rs        may this request upgrade, and with what answer (RFC 6455 4)
//! wire/origins.rs          the meaning of --allowed-origins, and the CORS headers that follow from it
//! wire/forwarded.rs        for whom a proxy asks: X-Forwarded-For, and --trusted-proxies
//! wire/proxy_protocol.rs   what a proxy says of its client before anything else (PROXY protocol 1 and 2)
//! wire/frame.rs            one frame: read its header, judge it, unmask, encode (RFC 6455 5.2)
//! wire/message.rs          frames to messages: fragments, UTF-8, sizes, pings, closes (RFC 6455 5.4 to 5.6, 7)
//! wire/json.rs             one JSON object in one pass: where its values lie, which name came twice
//! wire/command.rs          a client's message, a POST's body
//! wire/channel_name.rs     channel names: trimmed, checked, shared
//! wire/answer.rs           the JSON that clients are sent: answers, errors, contents with their channel
//! wire/question.rs         the JSON of a question to the authorizer, and the state in its answer
//! wire/resp.rs             commands to redis, and its replies
//! wire/response.rs         an HTTP answer as a client reads it: the authorizer's
//!
//! connection/mod.rs        one connection: stream, session, what waits; all reads and writes of a client's socket
//! connection/session.rs    its phases: bytes in, events out; answers pings and malformed requests by itself
//! connection/ending.rs     every way in which it ends: close code, the log's word, the metric's label
//! connection/peer.rs       who is at the other end, packed
//! connection/badge.rs      the query and the state that go with each of its questions, packed
//!
//! hub/mod.rs               all connections: the doors, the lists of who has to be looked at
//! hub/access.rs            the access log: whose end and which refusals are told of, and what they had said and heard
//! hub/registry.rs          every connection by its name; the one place that knows slots and generations
//! hub/routes.rs            what each request is answered: /ws, /broadcast, /health, /metrics
//! hub/commands.rs          join, leave, broadcast
//! hub/asking.rs            questions to the authorizer: when one is asked, when it is taken back
//! hub/addresses.rs         how many WebSockets there are from one address
//! hub/backlog.rs           how much waits in all, and how much more may
//! hub/tap.rs               GET /tap: what happens, told to those who look on
//! hub/channels.rs          who is in what, both ways
//! hub/broker.rs            the doors for a broker that is shared with other servers
//! hub/subscriptions.rs     which channels that broker has been asked for
//! hub/fanout.rs            deliveries under way to one audience: members, batches, the cursor
//! hub/room.rs              who makes way where there are no file descriptors
//! hub/drain.rs             the graceful stop: who is told to leave, and when
//! hub/rates.rs             how many messages a connection may send in a second
//! hub/deadlines.rs         when which connection has to be looked at: a wheel
//!
//! authorizer/mod.rs        the loop's side: a Question goes out, an Answer comes home; never sees a client
//! authorizer/pool.rs       how many worker threads there are, and what they share with the loop
//! authorizer/waiting.rs    questions that wait for a worker
//! authorizer/worker.rs     one worker: it asks, hands the answer in, rests, ends
//! authorizer/call.rs       one question and its answer, on a connection that is kept alive
//! authorizer/dial.rs       a connection to the authorizer: name, TCP, TLS, timeouts
//! authorizer/signature.rs  what proves to the receiver of a call that wsify has sent it: --authorizer-key
//! authorizer/url.rs        --authorizer-url, and how it is shown without its secrets
//!
//! broker/mod.rs            the broker: memory or redis; commands in, news out, as values
//! broker/link.rs           one connection to it: bytes in and out, broken, made anew, back-off
//! broker/socket.rs         the socket below it: TCP, unix or TLS; the lookup of a name
//! broker/redis/mod.rs      two links, one that publishes and one that listens; what the log says of them
//! broker/redis/dialogue/mod.rs       what is said on them, without I/O: what is outstanding, which answer it had
//! broker/redis/dialogue/commands.rs  publications and subscriptions become commands
//! broker/redis/dialogue/replies.rs   the greeting, and what each reply means
//! tls.rs                   which certificates are trusted, the authorizer's and redis'
//!
//! listener.rs              where clients come in: TCP and unix listeners, and the sockets they yield
//! playground.rs            the page of --playground, and what a browser may do with it
//! systemd.rs               what a service manager is told: ready, alive, stopping
//! quickstart.rs            the commands to try first, printed at a terminal
//! check.rs                 --check: tries what a start needs, and says what is wrong
//! server.rs                the poll, accepting, signals, the clock, the order of a turn; no rule about a client
//! ```
//!
//! Imports point one way; `tests/map.rs` holds these lines, and the list above, against the source:
//!
//! ```text
//! main -> check, config, heap, log, server
//! check -> authorizer, config, effect, listener, log, server, wire
//! server -> authorizer, broker, clock, config, connection, effect, heap, hub, listener, log, metrics, quickstart, random, systemd, tls, wire
//! listener -> config, connection
//! heap, random, systemd -> clock
//! hub -> buffers, clock, config, connection, effect, log, metrics, playground, process, random, secret, wire
//! connection -> buffers, clock, wire
//! broker -> clock, config, effect, log, random, secret, wire
//! authorizer -> effect, fd_table, secret, tls, wire
//! config -> authorizer, log, secret, wire
//! effect, playground -> wire
//! process -> metrics
//! log -> clock, fd_table
//! buffers, clock, fd_table, metrics, quickstart, secret, tls, wire -> nothing
//! ```
//!
//! (Of `config` the hub needs the type of `--access-log`; of `authorizer`, `config` needs the type of the URL, and of `wire`
//! those of proxies and origins.)
//!
//! # Who owns what
//!
//! ```text
//! Server { poll, listeners, signals, hub, authorizer, broker, log }        and the one receive buffer, 64 KiB
//!  Hub<S> { settings, clock, registry, channels, runs, badges, deadlines, lists of names, effects, metrics }
//!   Registry<S> { Slab<Connection<S>>, accepted }
//!    Connection<S> { stream: S, session, inbox, outbox, peer, badge, dialect, a few marks }
//!     Session { phase, ending, over }        Outbox: own bytes and slices of runs, in order
//!   Channels { by_name, Slab<Channel>, joined: by slot }
//!    Channel { name, audiences: [Audience; 2], who waits for it }          one audience for each Dialect
//!     Audience { members, batches, cursor }
//!   Runs { Slab<Run { bytes, holders }> }
//!  Authorizer { queue, workers, answers }    the only thing that threads share, with the log's queue
//! ```
//!
//! `S` is a socket in the program, and whatever reads and writes in a test. The words:
//!
//! - **ConnId** (slot, generation): a connection's name. Whoever comes back late (an event of the poll, a verdict) is
//!   looked up by it, so that a slot's new tenant is never taken for the old one.
//! - **Phase**: `Request`, `Body`, `Authorizing`, `Publishing`, `Open`, `Streaming`, `Closing`. What belongs to a phase lives in it.
//!   While a question is open (`Authorizing`, `Publishing`, `Open` with something parked) nothing further is
//!   understood: bytes wait in the inbox or in the kernel, and the end of the stream behind them.
//! - **Event** (session to hub): `Introduced`, `Request`, `Body`, `BadBody`, `Said`, `Bye`. That is all a connection can tell the
//!   house.
//! - **Effect**: what the hub wants from outside. A `Question` to the authorizer comes home as an **Answer** with a
//!   **Verdict** (`Allow`, `Deny`, `Unavailable`), which is no `Result`: no is as good an answer as yes. What is published
//!   and subscribed at redis comes home as a **Receipt**. Each comes exactly once.
//! - **Dialect**: how a member hears a content, `Raw` or `V1` (the subprotocol). A **Place** is one dialect's audience
//!   of one channel, in 32 bits.
//! - **Run**: encoded frames in one buffer that grows at its end, named by an index and counted by hand. A **Slice** is
//!   a stretch of one: what a batch is, and what an outbox holds of it.
//! - **Ending**: why it is over. The first reason stays.
//!
//! # One turn
//!
//! [`server`] calls the hub's doors in this order. Each has its limit, and what is left over makes the next poll return
//! at once.
//!
//! ```text
//!  1 poll            until the next deadline; not at all while hub.has_work() or somebody waits to be accepted
//!  2 events          256: signals, listeners (only noted), and hub.ready(): one read each, 512 requests or messages, 4,096 of all
//!  3 accept          16 from each listener, as long as there are file descriptors
//!  4 verdicts        all that have come home: hub.verdict(); the broker's news: 256 KiB from each link, 2,048 replies and news
//!  5 hub.turns       256 who need not wait for a channel any longer, 512 channels to be subscribed again, then 256 of those
//!                    with work but no edge to come, 4,096 messages
//!  6 effects         hub.effect() to the authorizer and the broker, until there is none
//!  7 hub.expire      64 due deadlines; in a graceful stop, 64 whose time it is to leave
//!  8 hub.fan_out     32 sends, round-robin between audiences, 16 each; a large frame counts for more
//!  9 hub.make_room   somebody waits to be accepted, and there are no file descriptors: some who have no request make way
//! 10 hub.flush       everybody into whose outbox something was put, once
//! 11 hub.reap        64 of those that are over: the only place where a connection is dropped
//! ```
//!
//! Sockets are registered once, readable and writable, edge-triggered. A read that did not fill the buffer has drained
//! the socket, and a write that blocked is told by an edge; whoever stops early for another reason has to stand in a
//! list: `again` (has work), `released` (has waited for a channel), `serving` (an audience with a batch), `dirty` (has something
//! to be sent), `doomed` (is over). `Hub::settle` is called after whatever was done to a connection, and puts it into
//! them.
//!
//! # Four walks
//!
//! 1. **A client's broadcast.** `hub.ready` → `turn` → `connection.fill` reads into the shared buffer → `session.next`:
//!    frame, judge, unmask where it lies, message → `Event::Said` → `commands::said`: parse, and ask (the command is
//!    parked with a copy of its message) or, without an authorizer, go on → `perform` → `deliver` → `channels.publish`:
//!    the frame is encoded once for each dialect, behind the batch that has not begun to go out → later in the turn
//!    `fan_out` → `serve` → `connection.deliver`: one write for each member, of all that was published to the audience
//!    in the meantime. Who cannot take it keeps a slice in its outbox; over `--max-queue-size` it is too slow.
//! 2. **A verdict.** A worker puts an `Answer` on the pile, and the first since the last look wakes the poll →
//!    `hub.verdict`: the connection is gone → ignored; `Authorizing` → `101`, or a refusal; parked → done,
//!    `not_authorized`, or closed with 1013 → `settle` puts it on the again-list, as more bytes may have waited.
//!    A connection that was reset, or has left, takes its question back: `settle` → `asking` → `Effect::Withdraw`.
//! 3. **POST /broadcast.** `Event::Request` → `routes::broadcast`: key, type, each an early return → the body, which
//!    usually came with the head, or `Event::Body` later → parsed → `deliver`, and `201`. More than 4 MiB under way to
//!    that channel: the phase `Publishing` until `fan_out` has sent some of it (a client's broadcast is parked for the
//!    same reason) → a pipelined request goes on.
//!    With redis, 1 and 3 go out instead: `Effect::Publish`, parked or `Publishing` until `hub.receipt` → `ok` or `201`,
//!    `unavailable` or `503`. The content comes back as any other: `broker.next` → `hub.arrived` → `deliver`. A join waits
//!    likewise, for `hub.subscribed`.
//! 4. **An end.** The client's close, a violation, `too_slow`, `stopping`, the authorizer's silence → `hub.close`: what
//!    was published while it was a member goes first, then the close frame → `Closing`: until the client's close, or
//!    the deadline → over → `settle` ends its memberships and dooms it → `reap`: its runs are let go, it is counted and
//!    dropped, and its slot may have a new tenant.
//!
//! # Rules of the house
//!
//! - A file's header says what it owns, what it knows and what it never knows, and which decisions bind it: chose,
//!   over, because, reconsider when.
//! - "Not yet" is a value, malformed is an error that ends the connection, and no input can make anything panic: where
//!   input comes by (`wire`, `connection`, `hub`, `buffers`) lints refuse to unwrap, to index, and to compute what could
//!   overflow. Reading, judging and encoding are separate functions.
//! - Whoever has to wait, waits in one place, and in order: one open question for each connection.
//! - Bytes leave to a client in one place, and a connection dies in one place. Below `server.rs` time is an argument.
//! - Everything has a limit; its reason stands beside it, and what it leads to is an [`Ending`](connection::Ending) or
//!   an answer. Memory follows what has come, never what was announced.
//! - No `unsafe` but for three calls (heap.rs and fd_table.rs say why), no `Rc<RefCell>`, no lifetimes in structs, no trait with one
//!   implementor, no callbacks.
//! - Names are the documentation's nouns: one word, one meaning. Comments say why.
//! - Comments cite promises by their place, such as docs/authorizer.md#answers. `CONTRACT §n` is: §2 README.md#flags and
//!   docs/operating.md, §3 docs/api.md, §4 docs/protocol.md, §5 docs/api.md#broadcast, §6 docs/authorizer.md, §7
//!   docs/scaling.md, §8 docs/operating.md#stopping, §9 docs/protocol.md#violations and docs/limits.md, §10
//!   docs/from-v3.md.
//!
//! # Decisions that bind the whole
//!
//! - **One thread for all clients**, over a runtime with tasks: a broadcast to many is a walk over a dense array, the
//!   order in a channel comes for nothing, and an idle connection is some hundred bytes. Reconsider when one core is
//!   not enough: then several processes behind a broker.
//! - **Threads for the authorizer**, over non-blocking calls in the loop: calls take milliseconds, names and TLS may block,
//!   and the loop only sees questions and answers. A call costs about twice the CPU of a non-blocking one. Reconsider when
//!   thousands have to be in flight.
//! - **Three crates for the kernel's calls**: rustix for clients' sockets and limits, because its system calls are inlined;
//!   socket2 for what has to be set before a socket listens or connects; libc for the C library's own allocator, which is no
//!   system call.
//! - **With the memory broker a broadcast is delivered within the hub**, over sending it out and taking it back in:
//!   nothing waits for a receipt, and what one turn brings makes one batch.
//! - **Batches grow with the load by themselves**: what is published while one goes out makes the next. No delay is
//!   ever added.
//! - **Runs named by an index and counted by hand**, over `Rc<[u8]>`: see [`buffers`].
//!
//! # Tests
//!
//! At a file's foot: tables of bytes and what they mean, read whole, byte by byte, and with more behind them. In
//! `tests/`: stories and a seeded simulation of the hub without sockets, with broken copies of it that the simulation has
//! to find; the command line, this map, the tables and links of the documentation, the corpora of `fuzz/`, and how often
//! the kernel and the allocator are called (cargo); the promises of README and docs one by one over real sockets (`tests/contract`), clients
//! that others wrote (`tests/clients`), and what README and docs print (`tests/docs`). `tests/run` runs them all.
//!
//! `cargo bench` measures: `versus` against programs that do only what the kernel demands, `codec` a frame beside other
//! libraries, `million` the hub with a million connections and no sockets, `redis` two nodes beside one.

pub mod authorizer;
pub mod broker;
pub mod buffers;
pub mod check;
pub mod clock;
pub mod config;
pub mod connection;
pub mod effect;
pub mod fd_table;
pub mod heap;
pub mod hub;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod playground;
pub mod process;
pub mod quickstart;
pub mod random;
pub mod secret;
pub mod server;
pub mod systemd;
pub mod tls;
pub mod wire;
