pub mod cbor;

use minicbor::{Decode, Encode};

use super::*;

/// A record as one release has it.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
struct Old {
    #[n(0)]
    id: u32,
    #[n(1)]
    name: Option<String>,
}

/// The same record as a later release has it: with fields of every type more.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
struct New {
    #[n(0)]
    id: u32,
    #[n(1)]
    name: Option<String>,
    #[cbor(n(2), default)]
    counts: Vec<u64>,
    #[n(3)]
    nested: Option<Box<Old>>,
    #[cbor(n(4), with = "minicbor::bytes", default)]
    bytes: Vec<u8>,
    #[n(7)]
    deep: Option<Vec<Vec<Vec<String>>>>,
}

fn old(id: u32) -> Old {
    Old {
        id,
        name: Some(format!("n{id}")),
    }
}

fn new(id: u32) -> New {
    New {
        id,
        name: Some(format!("n{id}")),
        counts: vec![1, u64::MAX],
        nested: Some(Box::new(old(9))),
        bytes: vec![0, 255],
        deep: Some(vec![vec![vec!["x".into()]], vec![]]),
    }
}

fn header(needs: &[&str]) -> SnapshotHeader {
    let needs = needs.iter().map(ToString::to_string).collect();
    SnapshotHeader {
        needs,
        ..SnapshotHeader::new(17)
    }
}

fn written(needs: &[&str], records: &[(RecordKind, New)]) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), &header(needs)).unwrap();
    for (kind, record) in records {
        writer.write(*kind, record).unwrap();
    }
    writer.finish().unwrap()
}

/// All records, as the old release reads them.
fn read(bytes: &[u8]) -> Result<Vec<(RecordKind, Old)>, SnapshotError> {
    let mut reader = SnapshotReader::new(bytes, bytes.len() as u64)?;
    let mut records = Vec::new();
    while let Some(record) = reader.read_next()? {
        records.push((record.kind, record.decode()?));
    }
    assert!(reader.read_next()?.is_none());
    Ok(records)
}

fn problem(bytes: &[u8]) -> String {
    read(bytes).expect_err("it was read").to_string()
}

/// Where the record of a kind begins.
fn position(bytes: &[u8], kind: RecordKind) -> usize {
    let number = kind.number().to_le_bytes();
    let mut windows = bytes.windows(4);
    windows.position(|window| window == number).unwrap()
}

#[test]
fn fields_that_another_release_has_added_are_skipped_and_missing_ones_are_absent() {
    let bytes = written(&[], &[(RecordKind::Run, new(1)), (RecordKind::Run, new(2))]);
    let records = read(&bytes).unwrap();
    assert_eq!(
        records,
        [(RecordKind::Run, old(1)), (RecordKind::Run, old(2))]
    );
    let mut writer = SnapshotWriter::new(Vec::new(), &header(&[])).unwrap();
    writer.write(RecordKind::Run, &old(3)).unwrap();
    let bytes = writer.finish().unwrap();
    let mut reader = SnapshotReader::new(&*bytes, bytes.len() as u64).unwrap();
    let read: New = reader.read_next().unwrap().unwrap().decode().unwrap();
    let absent = New {
        counts: Vec::new(),
        nested: None,
        bytes: Vec::new(),
        deep: None,
        ..new(3)
    };
    assert_eq!(read, absent);
    assert_eq!(reader.header().started, 17);
    assert_eq!(reader.header().release, env!("CARGO_PKG_VERSION"));
}

#[test]
fn records_of_an_unknown_kind_are_skipped() {
    let records = [(RecordKind::Run, new(1)), (RecordKind::Connection, new(2))];
    let mut bytes = written(&[], &records);
    let at = position(&bytes, RecordKind::Run);
    bytes[at..at + 4].copy_from_slice(&4_000_000_000_u32.to_le_bytes());
    assert_eq!(read(&bytes).unwrap(), [(RecordKind::Connection, old(2))]);
}

#[test]
fn a_snapshot_that_needs_what_is_not_known_is_refused() {
    let bytes = written(&["teleport"], &[]);
    assert_eq!(
        problem(&bytes),
        format!(
            "record Header: release {:?} needs \"teleport\" to be known, and this release does not know it",
            env!("CARGO_PKG_VERSION")
        )
    );
    let mut later = header(&[]);
    later.format = FORMAT + 1;
    let writer = SnapshotWriter::new(Vec::new(), &later).unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(
        problem(&bytes),
        "record Header: its format is 2, and this release reads 1"
    );
}

#[test]
fn a_snapshot_that_is_cut_or_longer_than_it_says_is_refused() {
    let bytes = written(
        &[],
        &[(RecordKind::Run, new(1)), (RecordKind::Connection, new(2))],
    );
    for cut in 0..bytes.len() {
        assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        // The file is shorter than the kernel says.
        let all = bytes.len() as u64;
        let cut_off = SnapshotReader::new(&bytes[..cut], all).and_then(|mut reader| {
            while reader.read_next()?.is_some() {}
            Ok(())
        });
        assert!(cut_off.is_err(), "{cut}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(
        problem(&longer),
        "record End: expected 3 records, found 3; bytes behind the last: 1"
    );
    // A record that is missing as a whole.
    let (run, connection) = (
        position(&bytes, RecordKind::Run),
        position(&bytes, RecordKind::Connection),
    );
    let without = [&bytes[..run], &bytes[connection..]].concat();
    assert_eq!(
        problem(&without),
        "record End: expected 3 records, found 2; bytes behind the last: 0"
    );
    // And a length beyond all bounds.
    let mut absurd = bytes.clone();
    absurd[run + 4..run + 12].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(problem(&absurd), "the snapshot is truncated");
    let twice = [&bytes[..run], &bytes[..]].concat();
    assert_eq!(problem(&twice), "record Header: duplicate record");
    assert_eq!(
        problem(b"#!/bin/sh\necho hello\n"),
        "not a snapshot: it begins with something else than a header"
    );
    assert_eq!(problem(b""), "the snapshot is truncated");
}

#[test]
fn a_malformed_record_is_an_error_that_names_it() {
    let contents: [&[u8]; 8] = [
        b"",
        b"\xa1\x00",
        b"\xa1\x00\x20",
        b"\xa1\x01\x61x",
        // A text that is not UTF-8.
        b"\xa2\x00\x01\x01\x61\xff",
        // A map of 2^64 - 1 entries; nested arrays without an end; something behind the content.
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0x9f; 100_000],
        b"\xa1\x00\x01\x00",
    ];
    for content in contents {
        let record = Record {
            kind: RecordKind::Connection,
            content,
        };
        let problem = record.decode::<Old>().expect_err("it was read").to_string();
        assert!(problem.starts_with("record Connection: "), "{problem}");
    }
    // An unknown field without an end.
    let mut endless = b"\xa2\x00\x01\x18\x63".to_vec();
    endless.extend([0x81; 100_000]);
    let record = Record {
        kind: RecordKind::Run,
        content: &endless,
    };
    assert!(record.decode::<Old>().is_err());
}

#[test]
fn every_kind_has_its_own_number() {
    for kind in RecordKind::ALL {
        assert_eq!(RecordKind::numbered(kind.number()), Some(*kind));
    }
    assert_eq!(RecordKind::numbered(0), None);
}
