//! Snapshots that are read by this release and every later one, and what other releases and strangers may have changed.
//!
//! `fuzz/corpus/snapshot` has snapshots of release 4.0.0, which together have every kind of record of a hub. They are
//! never generated again, as they stand for what this release has written. A release that adds a kind of record adds a
//! file:
//!
//! ```text
//! WSIFY_SNAPSHOTS=fuzz/corpus/snapshot cargo test --test hub -- simulation snapshots
//! ```
//!
//! writes the first small snapshot of the simulations for each kind that no file has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use wsify::effect::Verdict;
use wsify::hub::Inventory;
use wsify::snapshot::RecordKind;
use wsify::wire::answer_fields::AnswerFields;

use crate::foreign::{play, restored, run};
use crate::rig::Rig;

/// A record of a snapshot, as it is written.
#[derive(Clone)]
struct Record {
    kind: u32,
    content: Vec<u8>,
}

fn records(mut snapshot: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((kind, rest)) = snapshot.split_first_chunk::<4>() {
        let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
        let (content, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        records.push(Record {
            kind: u32::from_le_bytes(*kind),
            content: content.to_vec(),
        });
        snapshot = rest;
    }
    records
}

/// A snapshot of these records; the last one says how many there are.
fn joined(records: &[Record]) -> Vec<u8> {
    let mut snapshot = Vec::new();
    let end = RecordKind::End.number();
    for Record { kind, content } in records {
        let before = records.len() as u32 - 1;
        let content = if *kind == end {
            minicbor::to_vec(std::collections::BTreeMap::from([(0, before)])).unwrap()
        } else {
            content.clone()
        };
        snapshot.extend(kind.to_le_bytes());
        snapshot.extend((content.len() as u64).to_le_bytes());
        snapshot.extend(content);
    }
    snapshot
}

/// The kinds of records that a hub has.
fn kinds_of_hub() -> BTreeSet<u32> {
    let of_hub = |number: &u32| matches!(number, 10..=12 | 20..=59 | 70..=79);
    let all = RecordKind::ALL.iter().map(|kind| kind.number());
    all.filter(of_hub).collect()
}

/// The snapshots of releases, by the names of their files. What a fuzzer has found beside them has no point in its name.
fn files() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").display().to_string();
            (name, fs::read(&path).expect("a snapshot"))
        })
        .filter(|(name, _)| name.contains('.'))
        .collect();
    files.sort();
    files
}

/// Keeps a snapshot that has a kind of record which no file has, if that is wanted.
pub fn keep(snapshot: &[u8]) {
    static KEPT: Mutex<Option<BTreeSet<u32>>> = Mutex::new(None);
    let Ok(directory) = std::env::var("WSIFY_SNAPSHOTS") else {
        return;
    };
    if snapshot.len() > 16_000 {
        return;
    }
    let mut kept = KEPT.lock().expect("no panic");
    let kept = kept.get_or_insert_with(|| {
        let all = files()
            .into_iter()
            .flat_map(|(_, snapshot)| records(&snapshot));
        all.map(|record| record.kind).collect()
    });
    let wanted = kinds_of_hub();
    let mut new = records(snapshot).into_iter().map(|record| record.kind);
    if let Some(kind) = new.find(|kind| wanted.contains(kind) && !kept.contains(kind)) {
        let name = format!("{:?}", RecordKind::numbered(kind).expect("known")).to_lowercase();
        let path = Path::new(&directory).join(format!("{}-{name}", env!("CARGO_PKG_VERSION")));
        fs::write(path, snapshot).expect("written");
        kept.extend(records(snapshot).into_iter().map(|record| record.kind));
    }
}

#[test]
fn states_that_connections_share_are_handed_over_once() {
    let mut rig = Rig::with_authorizer();
    let state = format!(r#"{{"roles":"{}"}}"#, "x".repeat(40));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let fields = AnswerFields::with_state(&state);
            let mut client = rig.granted(*fields);
            client.hear();
            client
        })
        .collect();
    assert_eq!(rig.hub.inventory().shared_states, 1);
    rig.hand_over();
    for client in &clients {
        client.say(r#"{"command":"join","args":{"channel":"c"}}"#);
        rig.run();
        let shown = rig.connection_shown();
        assert_eq!(shown["state"]["roles"].as_str().map(str::len), Some(40));
        rig.answer(Verdict::Allow);
    }
}

#[test]
fn snapshots_of_this_release_and_earlier_ones_are_read() {
    let mut missing = kinds_of_hub();
    for (name, snapshot) in files() {
        for record in records(&snapshot) {
            missing.remove(&record.kind);
        }
        let mut rig = restored(&snapshot).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Inventory { connections, .. } = rig.hub.inventory();
        assert!(connections > 0, "{name}");
        // What the drivers had taken before is not answered here.
        run(&mut rig);
    }
    assert!(missing.is_empty(), "no snapshot has records of {missing:?}");
}

#[test]
fn what_a_later_release_has_added_is_skipped() {
    for (name, snapshot) in files() {
        let mut added = Vec::new();
        for mut record in records(&snapshot) {
            // A map of up to 22 entries has one more, with a number that no release has used.
            if let Some(first @ 0xA0..=0xB6) = record.content.first().copied() {
                record.content[0] = first + 1;
                record.content.extend(minicbor::to_vec(9_999).unwrap());
                record
                    .content
                    .extend(minicbor::to_vec(["what", "is", "this"]).unwrap());
            }
            if record.kind == RecordKind::HubEnd.number() {
                added.push(Record {
                    kind: 4_000_000_000,
                    content: b"anything".to_vec(),
                });
            }
            added.push(record);
        }
        let read = restored(&joined(&added)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let usual = restored(&snapshot).expect("a snapshot");
        assert_eq!(read.hub.inventory(), usual.hub.inventory(), "{name}");
    }
}

#[test]
fn a_snapshot_without_one_of_its_records_or_with_one_twice_harms_nothing() {
    let mut refused = 0;
    for (_, snapshot) in files() {
        let all = records(&snapshot);
        for nth in 1..all.len() - 1 {
            let mut fewer = all.clone();
            fewer.remove(nth);
            let mut more = all.clone();
            more.insert(nth, all[nth].clone());
            for changed in [fewer, more] {
                match restored(&joined(&changed)) {
                    Ok(mut rig) => run(&mut rig),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_snapshot_in_which_a_byte_is_wrong_harms_nothing() {
    let mut dice = crate::seeds::Dice(7);
    for (_, snapshot) in files() {
        for _ in 0..60 {
            let mut wrong = snapshot.clone();
            let at = dice.below(wrong.len());
            wrong[at] = dice.of(&[0, 1, 0x7F, 0x80, 0xFF, wrong[at] ^ 1, wrong[at] ^ 0x20]);
            play(&wrong);
        }
    }
}
