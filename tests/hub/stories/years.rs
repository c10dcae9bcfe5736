//! A server that has run for years: where its 32-bit clocks and numbers wrap around.

use crate::client::{PONG, frame, get};
use crate::rig::Rig;

/// Milliseconds in 32 bits: 49 days. Steps of the wheel in 32 bits: two years.
const TURNING_POINTS: [u64; 3] = [1 << 32, 1 << 36, 1 << 33];

#[test]
fn pings_and_silence_work_when_clocks_wrap_around() {
    for point in TURNING_POINTS {
        for before in (0..60_000).step_by(997) {
            let mut rig = Rig::new();
            rig.hub.clock.now = point - before;
            let mut ann = rig.websocket();
            let mut silent = rig.websocket();
            rig.pass(24_900);
            assert_eq!(ann.hear(), [""; 0], "{before} ms before {point}");
            rig.pass(200);
            assert_eq!(ann.hear(), ["ping"], "{before} ms before {point}");
            assert_eq!(silent.hear(), ["ping"]);
            assert_eq!(rig.sends(&mut ann, &frame(PONG, b"")), [""; 0]);
            rig.pass(25_100);
            assert_eq!(ann.hear(), ["ping"], "{before} ms before {point}");
            assert_eq!(silent.hear(), ["end"], "{before} ms before {point}");
        }
    }
}

#[test]
fn an_incomplete_request_times_out_when_clocks_wrap_around() {
    for point in TURNING_POINTS {
        for before in (0..80_000).step_by(499) {
            let mut rig = Rig::new();
            rig.hub.clock.now = point - before;
            // Kept alive for 75 s: its deadline lies beyond the one that the next request brings.
            let mut ann = rig.client();
            assert_eq!(rig.sends(&mut ann, &get("/nothing")), ["404 not_found"]);
            assert_eq!(rig.sends(&mut ann, b"GET"), [""; 0]);
            rig.pass(9_900);
            assert_eq!(ann.hear(), [""; 0], "{before} ms before {point}");
            rig.pass(200);
            let late = ["408 request_timeout, close", "end"];
            assert_eq!(ann.hear(), late, "{before} ms before {point}");
        }
    }
}
