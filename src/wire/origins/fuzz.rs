//! Fuzzing: what must hold for any flag and any origin. The target in `fuzz/` and the replayed corpus call it.

use super::*;

/// Panics if a promise is broken.
///
/// The first line is the flag's value, the rest is the origin.
pub fn fuzz(bytes: &[u8]) {
    let Some((flag, origin)) = str::from_utf8(bytes).ok().and_then(|t| t.split_once('\n')) else {
        return;
    };
    let Ok(origins) = Origins::parse(flag) else {
        return;
    };
    let entries = flag.split(',').map(str::trim).filter(|e| !e.is_empty());
    for entry in entries {
        // What the operator wrote is allowed, in capitals too. What has more text behind it is not.
        let entry = &entry.replace("://*.", "://a.");
        assert!(origins.allows(entry) || entry == "*");
        assert!(origins.allows(&entry.to_ascii_uppercase()) || entry == "null");
        if origins != Origins::Any {
            assert!(!origins.allows(&format!("{entry}/")));
        }
    }
    let allowed = origins.allows(origin);
    let echoed = origins.cors(Some(origin.as_bytes()));
    let requested = origin.as_bytes().split(|&byte| byte == b',');
    let preflight = origins.preflight(Some(origin.as_bytes()), requested);
    for (_, value) in &preflight.headers {
        assert!(!value.contains(['\r', '\n']));
    }
    assert_eq!(preflight.headers.len() > echoed.len(), allowed);
    let echoed = echoed
        .iter()
        .find(|(name, _)| *name == "Access-Control-Allow-Origin");
    match (&origins, echoed) {
        (Origins::Any, echoed) => assert_eq!(echoed.map(|(_, value)| &**value), Some("*")),
        (Origins::Listed(_), Some((_, value))) => {
            assert!(allowed && value == origin && !value.contains(['\r', '\n', ' ']));
        }
        (Origins::Listed(_), None) => assert!(!allowed),
    }
}
