//! Tables of redirections and sentinels' answers.

use super::*;

/// Text as RESP: words are bulk strings, numbers after a colon, `[` begins an array with as many items as follow to its `]`.
pub fn resp(text: &str) -> Vec<u8> {
    fn item(words: &mut std::str::SplitWhitespace, out: &mut Vec<u8>) -> bool {
        match words.next() {
            None | Some("]") => return false,
            Some("[") => {
                let (mut count, mut items) = (0, Vec::new());
                while item(words, &mut items) {
                    count += 1;
                }
                out.extend_from_slice(format!("*{count}\r\n").as_bytes());
                out.extend_from_slice(&items);
            }
            Some("null") => out.extend_from_slice(b"$-1\r\n"),
            Some(number)
                if number
                    .strip_prefix(':')
                    .is_some_and(|n| n.parse::<i64>().is_ok()) =>
            {
                out.extend_from_slice(format!("{number}\r\n").as_bytes());
            }
            Some(word) => {
                let word = word.trim_matches('"');
                out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        true
    }
    let mut out = Vec::new();
    item(&mut text.split_whitespace(), &mut out);
    out
}

/// Read whole, cut anywhere, and with more behind it.
pub fn reads<T: PartialEq + std::fmt::Debug + Clone>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Malformed>,
) -> Result<T, Malformed> {
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]) {
            Ok(None) => {}
            Err(Malformed) => return Err(Malformed),
            Ok(Some(early)) => panic!("{early:?} after {cut} bytes"),
        }
    }
    let (found, used) = read(bytes)?.expect("it is whole");
    assert_eq!(used, bytes.len());
    let more = [bytes, b"+OK\r\n"].concat();
    assert_eq!(read(&more), Ok(Some((found.clone(), used))));
    Ok(found)
}

#[test]
fn errors_of_a_cluster() {
    let moved = |slot, host: Option<&str>, port| {
        let host = host.map(str::to_owned);
        ClusterError::Moved(slot, Some(NodeAddress { host, port }))
    };
    for (words, expected) in [
        (
            "MOVED 3999 127.0.0.1:6381",
            moved(3_999, Some("127.0.0.1"), 6_381),
        ),
        ("MOVED 0 ::1:6381", moved(0, Some("::1"), 6_381)),
        ("MOVED 0 [::1]:6381", moved(0, Some("::1"), 6_381)),
        (
            "MOVED 16383 h.example:1",
            moved(16_383, Some("h.example"), 1),
        ),
        ("MOVED 1 :6381", moved(1, None, 6_381)),
        ("MOVED 1 ?:6381", ClusterError::Moved(1, None)),
        ("MOVED 1 h:0", ClusterError::Moved(1, None)),
        ("MOVED 1 h:99999", ClusterError::Moved(1, None)),
        ("MOVED 1", ClusterError::Moved(1, None)),
        ("MOVED 16384 h:1", ClusterError::Other),
        ("MOVED x h:1", ClusterError::Other),
        ("MOVED", ClusterError::Other),
        ("ASK 3999 127.0.0.1:6381", ClusterError::Again),
        (
            "TRYAGAIN Multiple keys request during rehashing of slot",
            ClusterError::Again,
        ),
        ("CLUSTERDOWN Hash slot not served", ClusterError::Down),
        ("MASTERDOWN Link with MASTER is down", ClusterError::Down),
        (
            "READONLY You can't write against a read only replica.",
            ClusterError::Replica,
        ),
        (
            "NOREPLICAS Not enough good replicas to write.",
            ClusterError::Other,
        ),
        ("NOPERM no", ClusterError::Other),
        ("", ClusterError::Other),
    ] {
        assert_eq!(ClusterError::parse(words), expected, "{words}");
    }
}

#[test]
fn messages_of_sentinels_are_read() {
    let at = |host: &str, port| {
        let host = Some(host.to_owned());
        Ok(MasterAnswer::At(NodeAddress { host, port }))
    };
    for (bytes, expected) in [
        (resp("[ 127.0.0.1 6379 ]"), at("127.0.0.1", 6_379)),
        (resp("[ ::1 6379 ]"), at("::1", 6_379)),
        // A host may be called as the answer to ROLE begins.
        (resp("[ master 6379 ]"), at("master", 6_379)),
        (b"*-1\r\n".to_vec(), Ok(MasterAnswer::Unknown)),
        (
            b"-ERR no\r\n".to_vec(),
            Ok(MasterAnswer::Refused("ERR no".into())),
        ),
        (resp("[ 127.0.0.1 0 ]"), Err(Malformed)),
        (resp("[ a/b 1 ]"), Err(Malformed)),
        (resp("[ 127.0.0.1 x ]"), Err(Malformed)),
        (resp("[ 127.0.0.1 ]"), Err(Malformed)),
        (resp("x"), Err(Malformed)),
    ] {
        assert_eq!(
            reads(&bytes, read_master),
            expected,
            "{}",
            bytes.escape_ascii()
        );
    }
    let new = |host: &str, port| {
        let host = Some(host.to_owned());
        Some(NodeAddress { host, port })
    };
    for (content, expected) in [
        (
            "mymaster 127.0.0.1 7000 127.0.0.1 7001",
            new("127.0.0.1", 7_001),
        ),
        ("mymaster2 127.0.0.1 7000 127.0.0.1 7001", None),
        ("other 127.0.0.1 7000 127.0.0.1 7001", None),
        ("mymaster 127.0.0.1 7000 127.0.0.1", None),
        ("mymaster 127.0.0.1 7000 127.0.0.1 x", None),
        ("", None),
    ] {
        assert_eq!(
            switched("mymaster", content.as_bytes()),
            expected,
            "{content}"
        );
    }
}
