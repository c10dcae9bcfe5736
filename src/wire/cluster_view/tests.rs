//! Tables of views.

use super::*;
use crate::wire::nodes::tests::{reads, resp};

/// A view in short: `slots of master, replicas`.
fn view(form: ViewForm, bytes: &[u8]) -> Result<Vec<String>, Malformed> {
    let place = |node: &Node| {
        let host = node.address.host.as_deref().unwrap_or("same");
        let tls = node
            .tls_port
            .map_or(String::new(), |port| format!("/{port}"));
        format!("{host}:{}{tls}", node.address.port)
    };
    Ok(match reads(bytes, |bytes| read_view(form, bytes))? {
        ViewAnswer::Refused(why) => vec![why],
        ViewAnswer::View(view) => {
            let shard = |shard: &ViewShard| {
                let master = shard.master.as_ref().map_or("none".to_owned(), place);
                let replicas: Vec<String> = shard.replicas.iter().map(place).collect();
                format!("{:?} of {master}, {replicas:?}", shard.slots)
            };
            view.iter().map(shard).collect()
        }
    })
}

const NODE: &str = r#"id x port :7000 ip 10.0.0.1 endpoint 10.0.0.1 replication-offset :72156"#;

#[test]
fn cluster_shards() {
    for (text, expected) in [
        ("[ ]", vec![]),
        (
            &format!(
                "[ [ slots [ :0 :5 :7 :9 ] nodes [ [ {NODE} role master health online ] ] ] ]"
            ),
            vec![r#"[0..=5, 7..=9] of 10.0.0.1:7000, []"#],
        ),
        // The order of names does not matter, nor do unknown ones.
        (
            "[ [ new [ :1 [ a ] ] nodes [ [ role replica port :2 ip ::1 health online ] \
             [ health online role master tls-port :8 port :7 endpoint h.example hostname z what [ ] ] ] slots [ :1 :1 ] ] ]",
            vec![r#"[1..=1] of h.example:7/8, ["::1:2"]"#],
        ),
        // Without a host it is the one that was asked; only TLS.
        (
            r#"[ [ slots [ :1 :2 ] nodes [ [ tls-port :8 ip "" endpoint "" role master health online ] ] ] ]"#,
            vec!["[1..=2] of same:8/8, []"],
        ),
        (
            r#"[ [ slots [ :1 :2 ] nodes [ [ port :8 ip 1.2.3.4 endpoint null role master health online ] ] ] ]"#,
            vec!["[1..=2] of same:8, []"],
        ),
        // A master that has failed, in either order; a failed one is better than none.
        (
            "[ [ slots [ :1 :2 ] nodes [ [ port :1 ip a role master health failed ] [ port :2 ip b role master health online ] ] ] ]",
            vec!["[1..=2] of b:2, []"],
        ),
        (
            "[ [ slots [ :1 :2 ] nodes [ [ port :2 ip b role master health online ] [ port :1 ip a role master health failed ] ] ] ]",
            vec!["[1..=2] of b:2, []"],
        ),
        (
            "[ [ slots [ :1 :2 ] nodes [ [ port :1 ip a role master health failed ] [ port :2 ip b role replica health online ] ] ] ]",
            vec![r#"[1..=2] of a:1, ["b:2"]"#],
        ),
        // Addresses that cannot be.
        (
            "[ [ slots [ :1 :2 ] nodes [ [ port :0 ip a role master health online ] [ port :70000 ip a role master health online ] \
             [ port :1 ip a/b role replica health online ] [ port :1 ip ? role replica health online ] ] ] ]",
            vec!["[1..=2] of none, []"],
        ),
        ("[ [ ] ]", vec!["[] of none, []"]),
    ] {
        let found = view(ViewForm::Shards, &resp(text));
        assert_eq!(
            found,
            Ok(expected.into_iter().map(str::to_owned).collect()),
            "{text}"
        );
    }
}

#[test]
fn cluster_slots() {
    for (text, expected) in [
        ("[ ]", vec![]),
        (
            "[ [ :0 :5 [ 10.0.0.1 :7000 id [ ] ] [ ::1 :7003 id [ hostname h ] ] ] [ :6 :6 [ h :1 ] ] ]",
            vec![
                r#"[0..=5] of 10.0.0.1:7000, ["::1:7003"]"#,
                r#"[6..=6] of h:1, []"#,
            ],
        ),
        (
            r#"[ [ :0 :5 [ "" :7000 id ] ] ]"#,
            vec!["[0..=5] of same:7000, []"],
        ),
        (
            "[ [ :0 :5 [ null :7000 id ] ] ]",
            vec!["[0..=5] of same:7000, []"],
        ),
        ("[ [ :0 :5 ] ]", vec!["[0..=5] of none, []"]),
        // What is said of the first node holds for no other one.
        (
            "[ [ :0 :5 [ ? :7000 ] [ a :1 ] ] ]",
            vec![r#"[0..=5] of none, ["a:1"]"#],
        ),
    ] {
        let found = view(ViewForm::Slots, &resp(text));
        assert_eq!(
            found,
            Ok(expected.into_iter().map(str::to_owned).collect()),
            "{text}"
        );
    }
}

#[test]
fn malformed_cluster_views_are_refused() {
    for text in [
        "x",
        ":1",
        "[ x ]",
        "[ [ slots x ] ]",
        "[ [ slots [ :0 :16384 ] ] ]",
        "[ [ slots [ :5 :4 ] ] ]",
        "[ [ slots [ :-1 :4 ] ] ]",
        "[ [ slots [ a b ] ] ]",
        "[ [ nodes [ x ] ] ]",
        "[ [ nodes [ [ port x ] ] ] ]",
        "[ [ :1 :2 ] ]",
        "[ [ slots [ :0 :1 :2 ] ] ]",
        "[ [ slots ] ]",
        "[ [ nodes [ [ port ] ] ] ]",
    ] {
        assert_eq!(
            view(ViewForm::Shards, &resp(text)),
            Err(Malformed),
            "{text}"
        );
    }
    for text in [
        "[ [ :0 ] ]",
        "[ [ :0 :1 x ] ]",
        "[ [ :0 :1 [ a ] ] ]",
        "[ [ :0 :70000 [ a :1 ] ] ]",
    ] {
        assert_eq!(view(ViewForm::Slots, &resp(text)), Err(Malformed), "{text}");
    }
    let refused = b"-ERR This instance has cluster support disabled\r\n";
    let words = "ERR This instance has cluster support disabled".to_owned();
    assert_eq!(view(ViewForm::Shards, refused), Ok(vec![words]));
}

#[test]
fn a_view_is_bounded() {
    let node = resp("[ port :1 ip a role replica health online ]");
    let nodes = |count: usize| {
        let head = format!("*1\r\n*2\r\n$5\r\nnodes\r\n*{count}\r\n");
        [head.into_bytes(), node.repeat(count)].concat()
    };
    let read = |bytes: &[u8]| read_view(ViewForm::Shards, bytes);
    let Ok(Some((ViewAnswer::View(view), _))) = read(&nodes(5_000)) else {
        panic!("a large cluster is one");
    };
    assert_eq!(view[0].replicas.len(), 5_000);
    assert_eq!(read(&nodes(10_000)), Err(Malformed));
    // What is announced takes no memory, and what has no end is given up.
    assert_eq!(read(b"*999999999\r\n"), Ok(None));
    assert_eq!(
        read(&[b"*999999999\r\n", b"*0\r\n".repeat(50_000).as_slice()].concat()),
        Err(Malformed)
    );
    let long = [
        b"*1\r\n*2\r\n$1\r\nx\r\n$9999999\r\n",
        b"x".repeat(MAX_VIEW).as_slice(),
    ]
    .concat();
    assert_eq!(read(&long), Err(Malformed));
    assert_eq!(read(&long[..MAX_VIEW - 1]), Ok(None));
    assert_eq!(
        read(
            &[
                b"*1\r\n*2\r\n$1\r\nx\r\n",
                b"*1\r\n".repeat(1_000_000).as_slice()
            ]
            .concat()
        ),
        Err(Malformed)
    );
}
