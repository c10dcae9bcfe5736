//! What the authorizer is asked (`docs/authorizer.md#questions`).
//!
//! Owns: the JSON of a question. Knows: which parts are the client's word and which are the server's own.
//! Never knows: how it travels, or what a verdict means.
//!
//! Decision: the client's `args` are copied byte for byte, rather than writing them again. What is allowed must be what
//! is done, and two JSON writers might differ. It is safe: they were checked to be one JSON object without a repeated
//! name.

use super::json;

/// Appends a question. `args` is JSON; `connection` appends what the server says of the connection.
pub fn push_question(
    out: &mut Vec<u8>,
    command: &str,
    args: &[u8],
    connection: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(br#"{"command":"#);
    json::push_string(out, command);
    out.extend_from_slice(br#","args":"#);
    out.extend_from_slice(args);
    out.extend_from_slice(br#","connection":"#);
    connection(out);
    out.push(b'}');
}

/// Appends what the server says of a connection. `state` is JSON; `id` and `remote_addr` are ASCII in which nothing has to be
/// escaped.
pub fn push_connection(
    out: &mut Vec<u8>,
    id: &[u8],
    remote_addr: &[u8],
    user: Option<&str>,
    query: &[(String, Vec<String>)],
    state: Option<&str>,
) {
    out.extend_from_slice(br#"{"id":""#);
    out.extend_from_slice(id);
    out.extend_from_slice(br#"","remote_addr":""#);
    out.extend_from_slice(remote_addr);
    out.push(b'"');
    if let Some(user) = user {
        out.extend_from_slice(br#","user":"#);
        json::push_string(out, user);
    }
    out.extend_from_slice(br#","query":"#);
    push_query(out, query);
    if let Some(state) = state {
        out.extend_from_slice(br#","state":"#);
        out.extend_from_slice(state.as_bytes());
    }
    out.push(b'}');
}

/// Adds the id by which an authorizer recognises a question that it is asked again. `question` is a whole one.
pub fn add_id(question: &mut Vec<u8>, id: u128) {
    question.pop();
    question.extend_from_slice(format!(r#","question":"{id:032x}"}}"#).as_bytes());
}

/// Appends the `args` of a `connect`.
///
/// `headers` come in the order in which they were sent, with names in canonical form. They are written sorted by name,
/// as Go's maps are, the values of one name together and in order. What is not UTF-8 in a value becomes U+FFFD: JSON
/// has no other bytes.
pub fn push_connect_args<'h>(
    out: &mut Vec<u8>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    query: &[(String, Vec<String>)],
) {
    let mut headers: Vec<_> = headers.collect();
    headers.sort_by_key(|(name, _)| *name);
    let grouped = headers.chunk_by(|(name, _), (next, _)| name == next);
    out.extend_from_slice(br#"{"headers":"#);
    push_lists(
        out,
        grouped.filter_map(|group| {
            let (name, _) = group.first()?;
            let values = group
                .iter()
                .map(|(_, value)| String::from_utf8_lossy(value));
            Some((*name, values))
        }),
    );
    out.extend_from_slice(br#","query":"#);
    push_query(out, query);
    out.push(b'}');
}

fn push_query(out: &mut Vec<u8>, query: &[(String, Vec<String>)]) {
    push_lists(out, query.iter().map(|(name, values)| (name, values)));
}

/// Appends an object that has an array of strings under each name.
fn push_lists(
    out: &mut Vec<u8>,
    lists: impl Iterator<Item = (impl AsRef<str>, impl IntoIterator<Item = impl AsRef<str>>)>,
) {
    out.push(b'{');
    for (i, (name, values)) in lists.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::push_string(out, name.as_ref());
        out.extend_from_slice(b":[");
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::push_string(out, value.as_ref());
        }
        out.push(b']');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before ".to_vec();
        push(&mut out);
        String::from_utf8(out.split_off(7)).unwrap()
    }

    fn query(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        pairs
            .iter()
            .map(|(name, values)| {
                let values = values.iter().map(|value| value.to_string());
                (name.to_string(), values.collect())
            })
            .collect()
    }

    #[test]
    fn a_question_says_who_asks() {
        let args = br#"{ "channel":"hello", "n":1.00 }"#;
        let query = query(&[("token", &["a\"bc", ""]), ("x", &[])]);
        assert_eq!(
            written(
                |out| push_question(out, "join", args, |out| push_connection(
                    out,
                    b"c-1",
                    b"203.0.113.7:51814",
                    Some("o\"neil"),
                    &query,
                    Some(r#"{"user": 42}"#),
                ))
            ),
            r#"{"command":"join","args":{ "channel":"hello", "n":1.00 },"connection":{"id":"c-1","remote_addr":"203.0.113.7:51814","user":"o\"neil","query":{"token":["a\"bc",""],"x":[]},"state":{"user": 42}}}"#
        );
        assert_eq!(
            written(
                |out| push_question(out, "leave", b"{}", |out| push_connection(
                    out,
                    b"1",
                    b"unix",
                    None,
                    &[],
                    None
                ))
            ),
            r#"{"command":"leave","args":{},"connection":{"id":"1","remote_addr":"unix","query":{}}}"#
        );
    }

    #[test]
    fn an_id_is_the_last_member() {
        let asked = |id| {
            written(|out| {
                push_question(out, "leave", b"{}", |out| {
                    push_connection(out, b"1", b"unix", None, &[], None)
                });
                add_id(out, id);
            })
        };
        assert_eq!(
            asked(0x7f),
            r#"{"command":"leave","args":{},"connection":{"id":"1","remote_addr":"unix","query":{}},"question":"0000000000000000000000000000007f"}"#
        );
        assert!(asked(u128::MAX).ends_with(r#""ffffffffffffffffffffffffffffffff"}"#));
    }

    #[test]
    fn a_connect_shows_every_header_and_parameter() {
        let headers: [(&str, &[u8]); 5] = [
            ("X-Forwarded-For", b"10.0.0.1"),
            ("Host", b"example.com"),
            ("Cookie", b"a=\"b\""),
            ("X-Forwarded-For", b"10.0.0.2"),
            ("User-Agent", b"caf\xe9"),
        ];
        let query = query(&[("token", &["abc", "d e"])]);
        assert_eq!(
            written(|out| push_connect_args(out, headers.into_iter(), &query)),
            "{\"headers\":{\"Cookie\":[\"a=\\\"b\\\"\"],\"Host\":[\"example.com\"],\
             \"User-Agent\":[\"caf\u{fffd}\"],\"X-Forwarded-For\":[\"10.0.0.1\",\"10.0.0.2\"]},\
             \"query\":{\"token\":[\"abc\",\"d e\"]}}"
        );
        assert_eq!(
            written(|out| push_connect_args(out, std::iter::empty(), &[])),
            r#"{"headers":{},"query":{}}"#
        );
    }
}
