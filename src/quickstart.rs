//! The commands to try first, printed when the server starts at a terminal: two lines to copy into other terminals.
//!
//! Owns: that text. Knows: how a listen address is reached from this machine. Never knows: whether stdout is a terminal,
//! nor the key, which it leaves to the shell.

/// For a server that listens on `address`, as [`Listener::address`](crate::listener::Listener::address) shows it.
pub fn text(address: &str, has_key: bool, has_authorizer: bool) -> String {
    let (connect, curl, place) = match address.strip_prefix("unix:") {
        Some(path) => (
            format!("ws+unix://{path}:/ws"),
            format!("curl --unix-socket {}", quoted(path)),
            "localhost".to_owned(),
        ),
        None => {
            let place = reachable(address);
            (format!("ws://{place}/ws"), "curl".to_owned(), place)
        }
    };
    let key = match has_key {
        true => "\\\n    -H \"Authorization: Bearer $WSIFY_BROADCASTING_KEY\" ",
        false => "",
    };
    let login = match has_authorizer {
        true => ", with the query or headers that your authorizer asks for",
        false => "",
    };
    let connect = quoted(&connect);
    format!(
        "
Try it. Connect{login}, and join a channel:

  npx wscat -c {connect} -x '{{\"command\":\"join\",\"args\":{{\"channel\":\"hello\"}}}}' -w -1

and publish to it from another terminal:

  {curl} http://{place}/broadcast {key}-H 'Content-Type: application/json' \\
    -d '{{\"channel\":\"hello\",\"content\":\"from the backend\"}}'

"
    )
}

/// The address as a client on this machine writes it: all interfaces are not a place.
fn reachable(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("", port)) => format!("localhost:{port}"),
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.-_+".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_reached() {
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
    fn a_key_is_left_to_the_shell_and_a_login_to_the_reader() {
        let text = text(":1", true, true);
        assert!(text.contains("Bearer $WSIFY_BROADCASTING_KEY"), "{text}");
        assert!(text.contains("your authorizer"), "{text}");
    }
}
