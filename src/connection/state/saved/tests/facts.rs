//! Snapshots of which a part is forgotten or altered: it makes a difference, and no panic.

use std::collections::BTreeSet;

use minicbor::Encoder;

use super::courses::{Course, play_on, play_to_cut, scripts, some_courses};
use super::*;
use crate::snapshot::tests::cbor::Part;

impl Part {
    /// Every form of this in which `vary` has changed one part, and that part's name.
    fn varied(
        &self,
        name: &str,
        vary: &dyn Fn(&Part) -> Vec<(String, Part)>,
    ) -> Vec<(String, Part)> {
        let own = vary(self).into_iter();
        let mut all: Vec<_> = own
            .map(|(end, part)| (format!("{name}{end}"), part))
            .collect();
        match self {
            Part::Map(entries) => {
                for (nth, (key, part)) in entries.iter().enumerate() {
                    for (name, part) in part.varied(&format!("{name}.{key}"), vary) {
                        let mut entries = entries.clone();
                        entries[nth].1 = part;
                        all.push((name, Part::Map(entries)));
                    }
                }
            }
            Part::Array(parts) => {
                // A variant of an enum and its fields, or many of a kind.
                let name = match parts.first() {
                    Some(Part::Leaf(variant)) => format!("{name}:{}", variant[0]),
                    _ => name.to_owned(),
                };
                for (nth, part) in parts.iter().enumerate() {
                    for (name, part) in part.varied(&name, vary) {
                        let mut parts = parts.clone();
                        parts[nth] = part;
                        all.push((name, Part::Array(parts)));
                    }
                }
            }
            Part::Leaf(_) => {}
        }
        all
    }
}

/// Scripts that are cut here and there, with the snapshots of it.
/// `cuts`: how many of each.
fn snapshots(cuts: usize) -> Vec<(Vec<u8>, Course, Snapshot)> {
    let mut all = Vec::new();
    for (nth, script) in scripts().into_iter().enumerate() {
        for cut in (0..=script.len()).rev().step_by(script.len() / cuts + 1) {
            for course in some_courses(nth, cut) {
                let snapshot = play_to_cut(&script, course).save();
                all.push((script.clone(), course, snapshot));
            }
        }
    }
    all
}

/// What follows if the connection has been as `part` says.
fn play_altered(
    script: &[u8],
    course: Course,
    altered: &Snapshot,
) -> Result<String, SnapshotError> {
    let side = play_to_cut(script, course).restored(altered)?;
    Ok(play_on(side, script, course).0)
}

#[test]
fn nothing_is_saved_that_makes_no_difference() {
    let forget = |part: &Part| match part {
        Part::Map(entries) => {
            let without = |nth: usize| {
                let mut entries = entries.clone();
                let (key, _) = entries.remove(nth);
                (format!(".{key}"), Part::Map(entries))
            };
            (0..entries.len()).map(without).collect()
        }
        _ => Vec::new(),
    };
    let (mut all, mut missed) = (BTreeSet::new(), BTreeSet::new());
    for (script, course, snapshot) in snapshots(60) {
        let expected = play_altered(&script, course, &snapshot);
        for (name, part) in Part::of(&snapshot.connection).varied("", &forget) {
            all.insert(name.clone());
            if missed.contains(&name) {
                continue;
            }
            let altered = Snapshot {
                connection: part.bytes(),
                ..snapshot.clone()
            };
            if play_altered(&script, course, &altered) != expected {
                missed.insert(name);
            }
        }
    }
    for field in [
        ".4:0.2",
        ".4:1.3",
        ".4:1.4",
        ".4:2.1:0.3",
        ".4:2.1:3.0",
        ".4:2.1:4.1",
        ".4:3.1",
        ".4:3.3",
        ".4:3.4.1:1.0",
        ".4:5.3",
        ".5",
        ".6",
        ".7",
        ".8",
        ".9.1",
        ".10",
        ".11",
        ".12",
        ".13",
        ".14",
        ".15",
        ".16.3",
    ] {
        assert!(all.contains(field), "{field} is in no snapshot");
    }
    // A request whose body is being read is not answered before.
    let unneeded = [".4:1.2.7".to_owned()];
    let unmissed: Vec<&String> = all.difference(&missed).collect();
    assert_eq!(unmissed, unneeded.each_ref());
}

#[test]
fn no_snapshot_of_a_connection_causes_a_panic() {
    let numbers = [0, 1, 23, u64::from(u32::MAX), u64::MAX];
    let alter = |part: &Part| {
        let leaf = |value: &dyn Fn(&mut Encoder<Vec<u8>>)| {
            let mut out = Encoder::new(Vec::new());
            value(&mut out);
            Part::Leaf(out.into_writer())
        };
        let mut all: Vec<Part> = numbers
            .map(|number| leaf(&|out| _ = out.u64(number).unwrap()))
            .into();
        for text in ["", "x", "broadcast", "null", "[1,"] {
            all.push(leaf(&|out| _ = out.str(text).unwrap()));
        }
        for bytes in [&b""[..], &[0xFF; 18], &[0; 4], &[b'a'; 3_000]] {
            all.push(leaf(&|out| _ = out.bytes(bytes).unwrap()));
        }
        for value in [true, false] {
            all.push(leaf(&|out| _ = out.bool(value).unwrap()));
        }
        all.push(Part::Map(Vec::new()));
        all.push(Part::Array(vec![part.clone(), part.clone()]));
        all.into_iter().map(|part| (String::new(), part)).collect()
    };
    let mut seen = BTreeSet::new();
    let mut refused = 0;
    for (script, course, snapshot) in snapshots(12) {
        let altered = Part::of(&snapshot.connection).varied("", &alter);
        for (nth, (name, part)) in altered.into_iter().enumerate() {
            // Each alteration once.
            if !seen.insert((name, nth % 18)) {
                continue;
            }
            let altered = Snapshot {
                connection: part.bytes(),
                ..snapshot.clone()
            };
            refused += usize::from(play_altered(&script, course, &altered).is_err());
        }
    }
    assert!(
        refused > 500 && refused < seen.len() - 100,
        "{refused} of {}",
        seen.len()
    );
}

#[test]
fn no_bytes_in_the_place_of_a_snapshot_cause_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    };
    for (script, course, snapshot) in snapshots(12) {
        for _ in 0..10 {
            let mut altered = snapshot.clone();
            let bytes = match below(4) {
                0 => &mut altered.around,
                _ => &mut altered.connection,
            };
            let at = below(bytes.len());
            match below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, below(256) as u8),
                2 => bytes[at] ^= 1 << below(8),
                _ => bytes[at] = below(256) as u8,
            }
            _ = play_altered(&script, course, &altered);
        }
    }
}
