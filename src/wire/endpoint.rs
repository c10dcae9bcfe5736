//! What a request is for: the table of endpoints.
//!
//! Owns: paths, methods, whether an endpoint is for backends only, whether it takes a body, and its label in metrics
//! and logs. The answers that follow from the table are made here: `404`, and `405` with `Allow`. Never knows: what an
//! endpoint does, or the key.
//!
//! A new endpoint is a row here and a handler in `hub/endpoints`.

use crate::snapshot::SnapshotError;

use super::http::{Head, Method, Refusal, Status};

/// What a request is for. A connection carries it from the head to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Ws,
    Broadcast,
    Disconnect,
    Join,
    Leave,
    Channels,
    Connections,
    Health,
    Metrics,
    Tap,
    Playground,
    /// `OPTIONS`, on any path.
    Preflight,
    /// No such path, or no such method on it.
    Unknown,
}

/// The methods of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    /// `GET`, and `HEAD` like it without the body.
    Get,
    Post,
}

impl Methods {
    fn fit(self, method: Method) -> bool {
        match self {
            Methods::Get => matches!(method, Method::Get | Method::Head),
            Methods::Post => method == Method::Post,
        }
    }

    /// The value of `Allow` (RFC 9110 10.2.1).
    fn allow(self) -> &'static str {
        match self {
            Methods::Get => "GET, HEAD, OPTIONS",
            Methods::Post => "POST, OPTIONS",
        }
    }
}

struct Row {
    endpoint: Endpoint,
    path: &'static str,
    methods: Methods,
    /// Only for backends: with the key, or from this machine.
    backend: bool,
    /// It takes a JSON body.
    body: bool,
    /// In metrics and logs.
    label: &'static str,
}

const ROWS: [Row; 11] = [
    Row {
        endpoint: Endpoint::Ws,
        path: "/ws",
        methods: Methods::Get,
        backend: false,
        body: false,
        label: "ws",
    },
    Row {
        endpoint: Endpoint::Broadcast,
        path: "/broadcast",
        methods: Methods::Post,
        backend: true,
        body: true,
        label: "broadcast",
    },
    Row {
        endpoint: Endpoint::Disconnect,
        path: "/disconnect",
        methods: Methods::Post,
        backend: true,
        body: true,
        label: "disconnect",
    },
    Row {
        endpoint: Endpoint::Join,
        path: "/join",
        methods: Methods::Post,
        backend: true,
        body: true,
        label: "join",
    },
    Row {
        endpoint: Endpoint::Leave,
        path: "/leave",
        methods: Methods::Post,
        backend: true,
        body: true,
        label: "leave",
    },
    Row {
        endpoint: Endpoint::Channels,
        path: "/channels",
        methods: Methods::Get,
        backend: true,
        body: false,
        label: "channels",
    },
    Row {
        endpoint: Endpoint::Connections,
        path: "/connections",
        methods: Methods::Get,
        backend: true,
        body: false,
        label: "connections",
    },
    Row {
        endpoint: Endpoint::Health,
        path: "/health",
        methods: Methods::Get,
        backend: false,
        body: false,
        label: "health",
    },
    Row {
        endpoint: Endpoint::Metrics,
        path: "/metrics",
        methods: Methods::Get,
        backend: true,
        body: false,
        label: "metrics",
    },
    Row {
        endpoint: Endpoint::Tap,
        path: "/tap",
        methods: Methods::Get,
        backend: true,
        body: false,
        label: "tap",
    },
    Row {
        endpoint: Endpoint::Playground,
        path: "/",
        methods: Methods::Get,
        backend: false,
        body: false,
        label: "playground",
    },
];

impl Endpoint {
    /// The endpoint that a request is for. `playground`: there is one.
    pub fn of(head: &Head, playground: bool) -> Endpoint {
        if head.method == Method::Options {
            return Endpoint::Preflight;
        }
        match at(head.path(), playground) {
            Some(row) if row.methods.fit(head.method) => row.endpoint,
            _ => Endpoint::Unknown,
        }
    }

    /// The endpoint's name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Endpoint::Preflight => "options",
            _ => self.row().map_or("other", |row| row.label),
        }
    }

    /// What [`Endpoint::label`] has returned.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn restore(label: &str) -> Result<Endpoint, SnapshotError> {
        let rows = ROWS.iter().map(|row| row.endpoint);
        let mut all = rows.chain([Endpoint::Preflight, Endpoint::Unknown]);
        let unknown = || SnapshotError::new(format!("unknown endpoint {label:?}"));
        all.find(|endpoint| endpoint.label() == label)
            .ok_or_else(unknown)
    }

    /// Whether only backends may use it.
    pub fn is_for_backends(self) -> bool {
        self.row().is_some_and(|row| row.backend)
    }

    /// Whether it takes a JSON body.
    pub fn takes_body(self) -> bool {
        self.row().is_some_and(|row| row.body)
    }

    /// The rows stand in the order of the names; those without a row come last.
    fn row(self) -> Option<&'static Row> {
        ROWS.get(self as usize)
    }
}

/// The answer to a request for [`Endpoint::Unknown`]: `405` where the path is known, `404` elsewhere.
pub fn unknown(head: &Head, playground: bool) -> Refusal {
    if let Some(row) = at(head.path(), playground) {
        let message = "this path does not support this method: see Allow";
        return Refusal::new(Status::MethodNotAllowed, "method_not_allowed", message)
            .with("Allow", row.methods.allow());
    }
    let paths: Vec<&str> = ROWS
        .iter()
        .map(|row| row.path)
        .filter(|path| *path != "/")
        .collect();
    let (last, others) = paths.split_last().unwrap_or((&"", &[]));
    let message = format!(
        "this path does not exist: use {} or {last}",
        others.join(", ")
    );
    Refusal::new(Status::NotFound, "not_found", message)
}

fn at(path: &[u8], playground: bool) -> Option<&'static Row> {
    let row = ROWS.iter().find(|row| row.path.as_bytes() == path)?;
    (row.endpoint != Endpoint::Playground || playground).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http;

    fn head(line: &str) -> Head {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        http::parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn paths_and_methods_find_their_endpoint() {
        let table = [
            ("GET /ws?a=b", Endpoint::Ws, "ws"),
            ("HEAD /health", Endpoint::Health, "health"),
            ("POST /broadcast", Endpoint::Broadcast, "broadcast"),
            ("GET /broadcast", Endpoint::Unknown, "other"),
            ("POST /disconnect", Endpoint::Disconnect, "disconnect"),
            ("GET /disconnect", Endpoint::Unknown, "other"),
            ("POST /join", Endpoint::Join, "join"),
            ("POST /leave", Endpoint::Leave, "leave"),
            ("GET /channels?limit=1", Endpoint::Channels, "channels"),
            ("HEAD /connections", Endpoint::Connections, "connections"),
            ("POST /connections", Endpoint::Unknown, "other"),
            ("POST /ws", Endpoint::Unknown, "other"),
            ("GET /metrics", Endpoint::Metrics, "metrics"),
            ("GET /tap", Endpoint::Tap, "tap"),
            ("GET /wss", Endpoint::Unknown, "other"),
            ("GET /", Endpoint::Playground, "playground"),
            ("OPTIONS /nowhere", Endpoint::Preflight, "options"),
        ];
        for (line, endpoint, label) in table {
            let found = Endpoint::of(&head(line), true);
            assert_eq!((found, found.label()), (endpoint, label), "{line}");
            assert_eq!(Endpoint::restore(label), Ok(endpoint));
        }
        assert_eq!(Endpoint::of(&head("GET /"), false), Endpoint::Unknown);
        assert!(Endpoint::restore("elsewhere").is_err());
    }

    #[test]
    fn refusals_follow_from_the_table() {
        let refusal = unknown(&head("DELETE /broadcast"), false);
        assert_eq!(refusal.status, Status::MethodNotAllowed);
        assert_eq!(refusal.headers, [("Allow", "POST, OPTIONS".into())]);
        let refusal = unknown(&head("GET /"), false);
        assert_eq!(refusal.status, Status::NotFound);
        assert_eq!(
            refusal.message,
            "this path does not exist: use /ws, /broadcast, /disconnect, /join, /leave, /channels, /connections, /health, /metrics or /tap"
        );
        assert_eq!(
            unknown(&head("POST /"), true).status,
            Status::MethodNotAllowed
        );
    }

    #[test]
    fn every_row_stands_at_its_name() {
        for row in &ROWS {
            let found = row.endpoint.row().map(|found| found.path);
            assert_eq!(found, Some(row.path));
        }
        assert!(Endpoint::Preflight.row().is_none() && Endpoint::Unknown.row().is_none());
    }
}
