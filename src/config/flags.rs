//! Every flag, as data: its name, variable, default and help.
//!
//! Decision: one table makes argh's struct, the help, the README's table, the variables and the defaults, over argh's own
//! help, which knows neither variables nor defaults. A default passes through the same checks as any other value, so it cannot disagree with its
//! documentation.

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
    /// The value without flag and variable, spelled as a user would; empty is none.
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
        about: "where to listen: :PORT (all interfaces, IPv4 and IPv6), HOST:PORT, [V6]:PORT or \
                unix:/path; port 0 is any free one; may be repeated",
    };
    reuse_port: REUSE_PORT = Flag {
        name: "reuse-port",
        group: "Listening",
        kind: ValueKind::Switch,
        value: "true|false",
        default: "false",
        about: "share the TCP port with other processes on this machine; the kernel spreads the \
                connections; each process needs this flag",
    };
    authorizer_url: AUTHORIZER_URL = Flag {
        name: "authorizer-url",
        group: "Authorizer",
        kind: ValueKind::Url,
        value: "URL",
        default: "",
        about: "the webhook that is asked before every connect, join, leave and broadcast, http://... or \
                https://...; without it everything is allowed",
    };
    authorizer_timeout: AUTHORIZER_TIMEOUT = Flag {
        name: "authorizer-timeout",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "DURATION",
        default: "5s",
        about: "how long one whole call to the authorizer may take, and a question wait for a worker \
                before it",
    };
    authorizer_workers: AUTHORIZER_WORKERS = Flag {
        name: "authorizer-workers",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "COUNT",
        default: "256",
        about: "worker threads, which is to say calls in flight at most; by default no more than an \
                eighth of the limit on open files",
    };
    authorizer_queue: AUTHORIZER_QUEUE = Flag {
        name: "authorizer-queue",
        group: "Authorizer",
        kind: ValueKind::One,
        value: "COUNT",
        default: "10000",
        about: "questions that may wait for a worker; one more counts as authorizer down",
    };
    authorizer_key: AUTHORIZER_KEY = Flag {
        name: "authorizer-key",
        group: "Authorizer",
        kind: ValueKind::Secret,
        value: "KEY[,KEY]",
        default: "",
        about: "signs every call to the authorizer with HMAC-SHA256, in X-Wsify-Signature; two keys while \
                they are rotated",
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
        about: "where redis is: redis://[user:pass@]host[:port][/db], rediss:// for TLS, redis-sentinel:// or \
                redis-cluster://; needed with --broker-driver redis",
    };
    broker_prefix: BROKER_PREFIX = Flag {
        name: "broker-prefix",
        group: "Broker",
        kind: ValueKind::One,
        value: "TEXT",
        default: "",
        about: "put before every channel name at the broker",
    };
    broadcasting_key: BROADCASTING_KEY = Flag {
        name: "broadcasting-key",
        group: "Access",
        kind: ValueKind::Secret,
        value: "KEY",
        default: "",
        about: "what backends must send to /broadcast, /metrics and /tap; without it only peers on \
                loopback or a unix socket may use them",
    };
    allowed_origins: ALLOWED_ORIGINS = Flag {
        name: "allowed-origins",
        group: "Access",
        kind: ValueKind::List,
        value: "ORIGIN,...",
        default: "*",
        about: "origins that a browser may connect from: https://app.example.com, https://*.example.com, \
                an app's scheme alone such as capacitor://, or null; * is any",
    };
    trusted_proxies: TRUSTED_PROXIES = Flag {
        name: "trusted-proxies",
        group: "Access",
        kind: ValueKind::List,
        value: "CIDR,...",
        default: "",
        about: "proxies whose X-Forwarded-For is trusted: addresses, networks such as 10.0.0.0/8, or \
                unix for peers on a unix socket",
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
        about: "connections at most; 0 is what the limit on open files allows, less a reserve",
    };
    max_connections_per_ip: MAX_CONNECTIONS_PER_IP = Flag {
        name: "max-connections-per-ip",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "0",
        about: "connections at most from one address; an IPv6 /64 counts as one; 0 is no limit",
    };
    max_message_size: MAX_MESSAGE_SIZE = Flag {
        name: "max-message-size",
        group: "Limits",
        kind: ValueKind::One,
        value: "SIZE",
        default: "1MiB",
        about: "largest message of a client, and largest body of a POST",
    };
    max_channels: MAX_CHANNELS = Flag {
        name: "max-channels",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "1000",
        about: "channels that one connection may be in",
    };
    max_message_rate: MAX_MESSAGE_RATE = Flag {
        name: "max-message-rate",
        group: "Limits",
        kind: ValueKind::One,
        value: "COUNT",
        default: "0",
        about: "messages that one connection may send per second, and as a burst; 0 is no limit",
    };
    max_queue_size: MAX_QUEUE_SIZE = Flag {
        name: "max-queue-size",
        group: "Limits",
        kind: ValueKind::One,
        value: "SIZE",
        default: "1MiB",
        about: "bytes that may wait for one slow connection",
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
    handshake_timeout: HANDSHAKE_TIMEOUT = Flag {
        name: "handshake-timeout",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "10s",
        about: "time from accepting a connection to its complete request",
    };
    ping_interval: PING_INTERVAL = Flag {
        name: "ping-interval",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "25s",
        about: "silence after which the server pings; after another interval of silence the connection \
                ends; 0 is never",
    };
    drain_timeout: DRAIN_TIMEOUT = Flag {
        name: "drain-timeout",
        group: "Timeouts",
        kind: ValueKind::One,
        value: "DURATION",
        default: "10s",
        about: "how long a graceful stop may take; 0 stops at once",
    };
    log_level: LOG_LEVEL = Flag {
        name: "log-level",
        group: "Logging",
        kind: ValueKind::One,
        value: "error|warn|info|debug",
        default: "info",
        about: "least severe lines that are logged",
    };
    log_format: LOG_FORMAT = Flag {
        name: "log-format",
        group: "Logging",
        kind: ValueKind::One,
        value: "json|text",
        default: "",
        about: "how log lines look; by default text at a terminal, and json elsewhere",
    };
    access_log: ACCESS_LOG = Flag {
        name: "access-log",
        group: "Logging",
        kind: ValueKind::One,
        value: "off|errors|all",
        default: "errors",
        about: "which disconnects are logged: none, only errors, or all with their counts of messages \
                and bytes",
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
        about: "try the addresses, the authorizer and the broker, report, and exit with 0 or 1",
    };
}

/// Every flag as it is typed, with the two that take no value.
pub(super) fn names() -> Vec<String> {
    let flags = FLAGS.iter().map(|flag| flag.name);
    let all = flags.chain(["help", "version"]);
    all.map(|name| format!("--{name}")).collect()
}

/// Columns of the help, as a terminal has them at least.
const COLUMNS: usize = 80;

/// Where what a flag does begins: behind the longest flags that leave room for it.
const INDENT: usize = 32;

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = format!(
        "wsify {}\n{}\n\nUsage: wsify [OPTIONS]\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    let mut group = "";
    for flag in FLAGS {
        if flag.group != group {
            group = flag.group;
            text += &format!("\n{group}:\n");
        }
        let spelled = match flag.kind {
            ValueKind::Switch => format!("--{}", flag.name),
            _ => format!("--{} {}", flag.name, flag.value),
        };
        let default = match (flag.kind, flag.default) {
            (ValueKind::Switch, _) | (_, "") => None,
            (_, default) => Some(format!("[default: {default}]")),
        };
        push_entry(&mut text, &spelled, flag.about, default.as_deref());
    }
    text += "\nOther options:\n";
    push_entry(&mut text, "--help, -h", "show this help", None);
    push_entry(&mut text, "--version", "show the version", None);
    text + "\n\
        Every option has an environment variable, which the option overrides:\n\
        WSIFY_LISTEN_ADDR for --listen-addr.\n\
        Durations: 500ms, 5s, 2m. Sizes: 65536, 64KiB, 1MiB."
}

/// Appends an option, and what it does in a column of its own.
fn push_entry(text: &mut String, spelled: &str, about: &str, default: Option<&str>) {
    let mut line = format!("  {spelled}");
    // Two spaces at least between the columns.
    if line.len() + 2 > INDENT {
        *text += &line;
        text.push('\n');
        line.clear();
    }
    line = format!("{line:INDENT$}");
    // The default stays in one piece.
    let words = about.split_whitespace().chain(default);
    for (nth, word) in words.enumerate() {
        if line.len() + 1 + word.len() > COLUMNS {
            *text += &line;
            text.push('\n');
            line = " ".repeat(INDENT);
        } else if nth > 0 {
            line.push(' ');
        }
        let (first, rest) = word.split_at(usize::from(nth == 0));
        line += &first.to_uppercase();
        line += rest;
    }
    *text += &line;
    text.push('\n');
}
