//! Two commands to try, printed when the server starts at a terminal.
//!
//! Owns: that text. Knows: how a listen address is reached from this machine. Never knows: the key, which the commands
//! take from the shell's environment, or whether stdout is a terminal.

/// The text for a server that listens on `address`, as [`Listener::address`](crate::listener::Listener::address) shows it.
pub fn text(address: &str, has_key: bool, has_authorizer: bool) -> String {
    let (connect, curl, host) = match address.strip_prefix("unix:") {
        Some(path) => (
            format!("ws+unix://{path}:/ws"),
            format!("curl --unix-socket {}", quoted(path)),
            "localhost".to_owned(),
        ),
        None => {
            let host = reachable(address);
            (format!("ws://{host}/ws"), "curl".to_owned(), host)
        }
    };
    let key = if has_key {
        "\\\n    -H \"Authorization: Bearer $WSIFY_BROADCASTING_KEY\" "
    } else {
        ""
    };
    let login = if has_authorizer {
        ", with the query or headers that your authorizer asks for"
    } else {
        ""
    };
    let connect = quoted(&connect);
    format!(
        "
Try it. Connect{login}, and join a channel:

  npx wscat -c {connect} -x '{{\"command\":\"join\",\"args\":{{\"channel\":\"hello\"}}}}' -w -1

and publish to it from another terminal:

  {curl} http://{host}/broadcast {key}-H 'Content-Type: application/json' \\
    -d '{{\"channel\":\"hello\",\"content\":\"from the backend\"}}'

"
    )
}

/// The address with which a client on this machine connects: a wildcard becomes a loopback address.
fn reachable(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("", port)) => format!("localhost:{port}"),
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

/// The text as one word of a shell command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.-_+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_clients_reach_them() {
        for (address, connect, publish) in [
            (
                ":3000",
                "ws://localhost:3000/ws",
                "curl http://localhost:3000/broadcast",
            ),
            (
                "127.0.0.1:80",
                "ws://127.0.0.1:80/ws",
                "curl http://127.0.0.1:80/broadcast",
            ),
            (
                "0.0.0.0:80",
                "ws://127.0.0.1:80/ws",
                "curl http://127.0.0.1:80/broadcast",
            ),
            (
                "[::1]:80",
                "'ws://[::1]:80/ws'",
                "curl http://[::1]:80/broadcast",
            ),
            (
                "[::]:80",
                "'ws://[::1]:80/ws'",
                "curl http://[::1]:80/broadcast",
            ),
            (
                "unix:/run/it's.sock",
                r"'ws+unix:///run/it'\''s.sock:/ws'",
                r"curl --unix-socket '/run/it'\''s.sock' http://localhost/broadcast",
            ),
        ] {
            let text = text(address, false, false);
            assert!(text.contains(&format!("wscat -c {connect} ")), "{text}");
            assert!(text.contains(&format!("  {publish} ")), "{text}");
            assert!(!text.contains("Authorization") && !text.contains("authorizer"));
        }
    }

    #[test]
    fn the_key_is_a_shell_variable_and_the_login_is_left_to_the_reader() {
        let text = text(":1", true, true);
        assert!(text.contains("Bearer $WSIFY_BROADCASTING_KEY"), "{text}");
        assert!(text.contains("your authorizer"), "{text}");
    }
}
