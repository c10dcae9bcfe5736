//! Every flag, as data: its name, variable, default and help.
//!
//! Decision: argh's struct, the help, the README's table, the variables and the defaults come from one table. Chosen
//! over argh's own help, which has neither variables nor defaults. A default passes through the same checks as any
//! other value, so it cannot disagree with its documentation.

use argh::FromArgs;

/// A flag of the command line, as `--help` and the README show it.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes: `listen-addr`.
    pub name: &'static str,
    /// The heading under which the help has it.
    pub group: &'static str,
    pub(super) kind: ValueKind,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// The value without flag and variable, spelled as a user would; empty means none.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// How a flag's value is gathered, and how much of it an error line may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    One,
    /// Comma-separated; a repeated flag adds to the list.
    List,
    /// May hold credentials, which are hidden.
    Url,
    /// Never shown.
    Secret,
    /// true or false; alone it means true.
    Switch,
}

impl Flag {
    /// The environment variable: `WSIFY_LISTEN_ADDR`.
    pub fn variable(&self) -> String {
        format!("WSIFY_{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// A constant for each flag, the list of them, and argh's struct.
macro_rules! flags {
    ($($field:ident: $id:ident = $flag:expr;)+) => {
        $(pub(super) const $id: Flag = $flag;)+

        /// Every flag but `--help` and `--version`, in the order of the help.
        pub const FLAGS: &[Flag] = &[$($id),+];

        /// The command line as argh reads it: for each flag the texts that were given.
        #[derive(FromArgs)]
        pub(super) struct Given {
            $(#[doc = "as in the table"] #[argh(option)] $field: Vec<String>,)+
        }

        impl Given {
            pub(super) fn texts(self) -> Vec<(Flag, Vec<String>)> {
                vec![$(($id, self.$field)),+]
            }
        }
    };
}

flags! {
    listen_addr: LISTEN_ADDR = Flag {
        name: "listen-addr",
        group: "Listening",
        kind: ValueKind::List,
        value: "ADDR,...",
        default: ":3000",
        about: "address to listen on: :PORT (all interfaces, IPv4 and IPv6), HOST:PORT, [V6]:PORT or \
                unix:/path; port 0 picks a free port; may be repeated",
    };
    reuse_port: REUSE_PORT = Flag {
        name: "reuse-port",
        group: "Listening",
        kind: ValueKind::Switch,
        value: "true|false",
        default: "false",
        about: "share the TCP port with other processes on this machine that have this flag; the kernel \
                distributes the connections",
    };
    authorizer_url: AUTHORIZER_URL = Flag {
        name: "authorizer-url",
        group: "Authorizer",
        kind: ValueKind::Url,
        value: "URL",
        default: "",
        about: "webhook to ask before every connect, join, leave and broadcast, http://... or \
                https://...; without it everything is allowed",
    };
    authorizer_timeout: AUTHORIZER_TIMEOUT = Flag {
        name: "authorizer-timeout",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "DURATION",
        default: "5s",
        about: "time limit for one call to the authorizer, and separately for the wait for a worker \
                before it",
    };
    authorizer_workers: AUTHORIZER_WORKERS = Flag {
        name: "authorizer-workers",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "COUNT",
        default: "256",
        about: "maximum number of worker threads, each with one call in flight; the default is capped at \
                an eighth of the limit on open files",
    };
    authorizer_queue: AUTHORIZER_QUEUE = Flag {
        name: "authorizer-queue",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "COUNT",
        default: "10000",
        about: "maximum number of questions that wait for a worker; a further one fails as if the \
                authorizer were down",
    };
    authorizer_batch: AUTHORIZER_BATCH = Flag {
        name: "authorizer-batch",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "COUNT",
        default: "1",
        about: "maximum number of questions per call; above 1 every call posts a JSON array, and \
                --authorizer-workers defaults to 8",
    };
    authorizer_failure: AUTHORIZER_FAILURE = Flag {
        name: "authorizer-failure",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "close|reject|hold",
        default: "close",
        about: "what happens when it is down: clients are closed, their commands are rejected, or all \
                questions are held until it is back",
    };
    authorizer_hold: AUTHORIZER_HOLD = Flag {
        name: "authorizer-hold",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "DURATION",
        default: "45s",
        about: "how long a question is held, with --authorizer-failure hold; then its client is closed",
    };
    authorizer_key: AUTHORIZER_KEY = Flag {
        name: "authorizer-key",
        group: "Authorizer",
        kind: ValueKind::Secret,
        value: "KEY[,KEY]",
        default: "",
        about: "sign every call to a webhook with HMAC-SHA256, in X-Wsify-Signature; give two keys while \
                rotating them",
    };
    events_url: EVENTS_URL = Flag {
        name: "events-url",
        group: "Events",
        kind: ValueKind::Url,
        value: "URL",
        default: "",
        about: "webhook to send events to: http://... or https://...; without it no events are sent",
    };
    events: EVENTS = Flag {
        name: "events",
        group: "Events",
        kind: ValueKind::List,
        value: "EVENT,...",
        default: "disconnected",
        about: "events to send: connected, disconnected, occupied (a channel has its first member here) \
                and vacated (its last one has left)",
    };
    events_queue: EVENTS_QUEUE = Flag {
        name: "events-queue",
        group: "Events",
        kind: ValueKind::One,
        value: "COUNT",
        default: "100000",
        about: "maximum number of events that wait while the webhook is slow or down; beyond it the oldest \
                are dropped",
    };
    broker_driver: BROKER_DRIVER = Flag {
        name: "broker-driver",
        group: "Broker",
        kind: ValueKind::One,
        value: "memory|redis",
        default: "memory",
        about: "how servers share their channels: memory (not at all) or redis",
    };
    broker_dsn: BROKER_DSN = Flag {
        name: "broker-dsn",
        group: "Broker",
        kind: ValueKind::Url,
        value: "URL",
        default: "",
        about: "address of redis: redis://[user:pass@]host[:port][/db], rediss:// for TLS, redis-sentinel:// or \
                redis-cluster://; required with --broker-driver redis",
    };
    broker_prefix: BROKER_PREFIX = Flag {
        name: "broker-prefix",
        group: "Broker",
        kind: ValueKind::One,
        value: "TEXT",
        default: "",
        about: "prefix for every channel name at the broker",
    };
    broadcasting_key: BROADCASTING_KEY = Flag {
        name: "broadcasting-key",
        group: "Access",
        kind: ValueKind::Secret,
        value: "KEY",
        default: "",
        about: "key that backends must send to /broadcast and the other backend endpoints; without it only peers on \
                loopback or a unix socket may use them",
    };
    allowed_origins: ALLOWED_ORIGINS = Flag {
        name: "allowed-origins",
        group: "Access",
        kind: ValueKind::List,
        value: "ORIGIN,...",
        default: "*",
        about: "origins that a browser may connect from: https://app.example.com, https://*.example.com, \
                an app's scheme alone such as capacitor://, or null; * allows any",
    };
    trusted_proxies: TRUSTED_PROXIES = Flag {
        name: "trusted-proxies",
        group: "Access",
        kind: ValueKind::List,
        value: "CIDR,...",
        default: "",
        about: "proxies to trust for X-Forwarded-For: addresses, networks such as 10.0.0.0/8, or unix \
                for peers on a unix socket",
    };
    proxy_protocol: PROXY_PROTOCOL = Flag {
        name: "proxy-protocol",
        group: "Access",
        kind: ValueKind::Switch,
        value: "true|false",
        default: "false",
        about: "expect a PROXY protocol header, version 1 or 2, from trusted proxies and on unix sockets",
    };
    max_connections: MAX_CONNECTIONS = Flag {
        name: "max-connections",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "0",
        about: "maximum number of connections; 0 means what the limit on open files allows, less a reserve",
    };
    max_connections_per_ip: MAX_CONNECTIONS_PER_IP = Flag {
        name: "max-connections-per-ip",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "0",
        about: "maximum number of connections per address; an IPv6 /64 counts as one address; 0 means no \
                limit",
    };
    max_message_size: MAX_MESSAGE_SIZE = Flag {
        name: "max-message-size",
        group: "Limits",
        kind: ValueKind::One,
        value: "SIZE",
        default: "1MiB",
        about: "maximum size of a client's message, and of a POST body",
    };
    max_channels: MAX_CHANNELS = Flag {
        name: "max-channels",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "1000",
        about: "maximum number of channels per connection",
    };
    max_message_rate: MAX_MESSAGE_RATE = Flag {
        name: "max-message-rate",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "0",
        about: "messages per second that a connection may send, and its largest burst; 0 means no limit",
    };
    max_queue_size: MAX_QUEUE_SIZE = Flag {
        name: "max-queue-size",
        group: "Limits",
        kind: ValueKind::One,
        value: "SIZE",
        default: "1MiB",
        about: "maximum number of bytes queued for one slow connection; beyond it the connection is closed",
    };
    max_total_queue_size: MAX_TOTAL_QUEUE_SIZE = Flag {
        name: "max-total-queue-size",
        group: "Limits",
        kind: ValueKind::One,
        value: "SIZE",
        default: "1GiB",
        about: "total bytes buffered for all connections; under pressure the largest holders are \
                disconnected first",
    };
    compression: COMPRESSION = Flag {
        name: "compression", group: "Compression", kind: ValueKind::One, value: "on|off", default: "off",
        about: "agree to permessage-deflate; a content is compressed once, for all members that have agreed",
    };
    compression_min_size: COMPRESSION_MIN_SIZE = Flag {
        name: "compression-min-size", group: "Compression", kind: ValueKind::One, value: "SIZE", default: "512",
        about: "smallest content that is compressed",
    };
    handshake_timeout: HANDSHAKE_TIMEOUT = Flag {
        name: "handshake-timeout",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "10s",
        about: "time limit from accepting a connection to its complete request",
    };
    ping_interval: PING_INTERVAL = Flag {
        name: "ping-interval",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "25s",
        about: "silence after which the server sends a ping; after another interval of silence the \
                connection ends; 0 means never",
    };
    drain_timeout: DRAIN_TIMEOUT = Flag {
        name: "drain-timeout",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "10s",
        about: "time limit for a graceful stop; 0 stops at once",
    };
    log_level: LOG_LEVEL = Flag {
        name: "log-level",
        group: "Logging",
        kind: ValueKind::One,
        value: "error|warn|info|debug",
        default: "info",
        about: "least severe level to log",
    };
    log_format: LOG_FORMAT = Flag {
        name: "log-format",
        group: "Logging",
        kind: ValueKind::One,
        value: "json|text",
        default: "",
        about: "format of log lines; by default text at a terminal, and json elsewhere",
    };
    access_log: ACCESS_LOG = Flag {
        name: "access-log",
        group: "Logging",
        kind: ValueKind::One,
        value: "off|errors|all",
        default: "errors",
        about: "which disconnects are logged: none, only errors, or all with their message and byte counts",
    };
    playground: PLAYGROUND = Flag {
        name: "playground",
        group: "Trying it out",
        kind: ValueKind::Switch,
        value: "true|false",
        default: "false",
        about: "serve a page at / that connects, joins, broadcasts and shows what happens",
    };
    check: CHECK = Flag {
        name: "check",
        group: "Trying it out",
        kind: ValueKind::Switch,
        value: "true|false",
        default: "false",
        about: "test the addresses, the webhooks and the broker, print a report, and exit with 0 or 1",
    };
}

/// Every flag as it is typed, with the two that take no value.
pub(super) fn names() -> Vec<String> {
    let flags = FLAGS.iter().map(|flag| flag.name);
    let all = flags.chain(["help", "version"]);
    all.map(|name| format!("--{name}")).collect()
}
