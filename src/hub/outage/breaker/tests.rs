use super::*;

const WORKERS: usize = 8;

/// A breaker, the time, and what has come of it.
struct Bench {
    breaker: Breaker,
    now: Millis,
    random: Random,
    calls: u64,
}

fn conn(slot: u32) -> ConnId {
    ConnId {
        slot,
        generation: 1,
    }
}

impl Bench {
    fn new() -> Bench {
        Bench {
            breaker: Breaker::new(WORKERS, 1),
            now: 10_000,
            random: Random::new(7),
            calls: 0,
        }
    }

    fn hears(&mut self, from: u32, outcome: CallOutcome) -> Option<OutageChange> {
        self.breaker
            .answered(conn(from), outcome, self.now, &mut self.random)
    }

    /// A call about this connection fails.
    fn fails(&mut self, from: u32) -> Option<OutageChange> {
        self.calls += 1;
        self.hears(from, CallOutcome::Failed(self.calls))
    }

    fn is_answered(&mut self, from: u32) -> Option<OutageChange> {
        self.hears(from, CallOutcome::Answered)
    }

    /// Lets out as many questions as may go now, of these connections.
    fn lets_out(&mut self, from: impl Iterator<Item = u32>) -> Vec<u32> {
        self.breaker.pass(self.now);
        let mut out = Vec::new();
        for slot in from {
            if !self.breaker.admits(self.now) {
                break;
            }
            self.breaker.let_out(conn(slot));
            out.push(slot);
        }
        out
    }

    fn down() -> Bench {
        let mut bench = Bench::new();
        for from in 0..4 {
            assert_eq!(bench.fails(from), None);
        }
        assert_eq!(bench.fails(4), Some(OutageChange::Down));
        bench
    }

    /// Down, and back after a time.
    fn back() -> Bench {
        let mut bench = Bench::down();
        bench.now += 700;
        assert_eq!(bench.lets_out(0..9), [0]);
        bench.now += 300;
        assert_eq!(bench.is_answered(0), Some(OutageChange::Up));
        bench
    }
}

/// Down after which of these answers: `f3` a failed call about connection 3, `F3` another answer of the same call, `a3` an
/// answer, `n3` neither.
#[test]
fn five_failed_calls_in_a_row_for_three_connections_are_an_outage() {
    for (answers, down) in [
        ("f1 f2 f3 f4 f5", Some(5)),
        ("f1 f2 f3 f1 f2", Some(5)),
        ("f1 f1 f1 f1 f1 f1 f2 f2 f3", Some(9)),
        ("f1 f2 f1 f2 f1 f2 f1 f2", None),
        ("f1 f1 f1 f1 f1 f1 f1 f1", None),
        // An answer begins a new row.
        ("f1 f2 f3 f4 a5 f1 f2 f3 f4 f5", Some(10)),
        ("f1 a1 f2 a2 f3 a3 f4 a4 f5 a5", None),
        // What concerns one question alone does not count, and does not end a row.
        ("n1 n2 n3 n4 n5 n6", None),
        ("f1 n1 f2 n2 f3 n3 f4 n4 f5", Some(9)),
        // A batch is one call, about many connections.
        ("f1 F2 F3 F4 F5 F6 F7", None),
        ("f1 F2 F3 f1 f1 f1 f1", Some(7)),
    ] {
        let mut bench = Bench::new();
        let found = answers.split(' ').position(|answer| {
            let from = answer[1..].parse().unwrap();
            let change = match &answer[..1] {
                "f" => bench.fails(from),
                "F" => bench.hears(from, CallOutcome::Failed(bench.calls)),
                "a" => bench.is_answered(from),
                _ => bench.hears(from, CallOutcome::Nothing),
            };
            change == Some(OutageChange::Down)
        });
        assert_eq!(found.map(|at| at + 1), down, "{answers}");
        assert_eq!(bench.breaker.is_down(), down.is_some(), "{answers}");
    }
}

#[test]
fn while_it_is_up_as_many_that_wait_go_out_as_there_are_workers() {
    let mut bench = Bench::new();
    assert_eq!(bench.lets_out(0..20).len(), WORKERS);
    assert_eq!(bench.is_answered(3), None);
    assert_eq!(bench.lets_out(20..30), [20]);
    assert!(bench.breaker.forget(conn(4)));
    assert_eq!(bench.lets_out(30..40), [30]);
    // What was not let out one by one may be taken back as well.
    assert!(bench.breaker.forget(conn(99)));
}

#[test]
fn with_batches_as_many_that_wait_go_out_as_fill_all_calls() {
    let mut breaker = Breaker::new(2, 10);
    for slot in 0..20 {
        assert!(breaker.admits(0));
        breaker.let_out(conn(slot));
    }
    assert!(!breaker.admits(0));
}

#[test]
fn one_question_at_a_time_probes_with_pauses_that_double() {
    let mut bench = Bench::down();
    for whole in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
        let next = bench.breaker.next().unwrap();
        assert!(
            (whole / 2..=whole).contains(&(next - bench.now)),
            "{next} {whole}"
        );
        bench.now = next - 1;
        assert_eq!(bench.lets_out(0..9), [0; 0]);
        bench.now = next;
        assert_eq!(bench.lets_out(1..9), [1]);
        assert_eq!(bench.breaker.next(), None);
        // However long it takes, there is no second one.
        bench.now += 4_000;
        assert_eq!(bench.lets_out(2..9), [0; 0]);
        assert!(!bench.breaker.forget(conn(1)));
        assert_eq!(bench.fails(1), None);
    }
}

#[test]
fn a_probe_that_was_never_put_is_followed_by_another_after_a_pause() {
    let mut bench = Bench::down();
    bench.now += 250;
    assert_eq!(bench.lets_out(0..9), [0]);
    assert_eq!(bench.hears(0, CallOutcome::Nothing), None);
    assert!(bench.breaker.is_down());
    assert_eq!(bench.lets_out(1..9), [0; 0]);
    bench.now += 500;
    assert_eq!(bench.lets_out(1..9), [1]);
}

#[test]
fn calls_from_before_the_outage_put_the_probe_off_and_do_not_lengthen_the_pause() {
    let mut bench = Bench::down();
    for _ in 0..10 {
        bench.now += 200;
        bench.fails(7);
        let next = bench.breaker.next().unwrap();
        assert!((125..=250).contains(&(next - bench.now)));
    }
    // What was not put is not a failure of the authorizer's.
    let next = bench.breaker.next();
    bench.now += 100;
    bench.hears(8, CallOutcome::Nothing);
    assert_eq!(bench.breaker.next(), next);
    // While a probe is out it alone decides about the next.
    bench.now += 250;
    assert_eq!(bench.lets_out(0..9), [0]);
    bench.fails(7);
    assert_eq!(bench.breaker.next(), None);
    // An answer to such a call ends the outage as well. The probe still counts.
    assert_eq!(bench.is_answered(9), Some(OutageChange::Up));
    assert_eq!(bench.lets_out(1..9), [0; 0]);
    bench.is_answered(0);
    assert_eq!(bench.lets_out(1..9), [1, 2]);
}

#[test]
fn an_answer_ends_the_outage_and_each_further_one_lets_two_questions_go() {
    let mut bench = Bench::back();
    let mut out = bench.lets_out(0..99);
    for sent in [1, 2, 4] {
        assert_eq!(out.len(), sent);
        assert!(!bench.breaker.is_up() && !bench.breaker.is_down());
        for from in out {
            assert_eq!(bench.is_answered(from), None);
        }
        out = bench.lets_out(0..99);
    }
    // Every worker is busy.
    assert_eq!(out.len(), WORKERS);
    assert!(bench.breaker.is_up());
    // From now on five have to fail.
    assert_eq!(bench.fails(0), None);
}

#[test]
fn no_more_goes_out_than_twice_what_is_answered() {
    let mut bench = Bench::back();
    let (mut sent, mut answered) = (0, 1);
    let mut out = Vec::new();
    for turn in 0..200 {
        let more = bench.lets_out(turn * 100..turn * 100 + 99);
        sent += more.len();
        out.extend(more);
        assert!(
            bench.breaker.is_up() || sent < 2 * answered,
            "{sent} {answered}"
        );
        // They come back in any order, some later.
        for _ in 0..bench.random.within(0..=2) {
            if !out.is_empty() {
                let at = bench.random.within(0..=out.len() as u64 - 1) as usize;
                let from = out.swap_remove(at);
                bench.is_answered(from);
                answered += 1;
            }
        }
    }
    assert!(bench.breaker.is_up());
}

#[test]
fn a_failed_call_in_a_slow_start_is_an_outage_again() {
    let mut bench = Bench::back();
    assert_eq!(bench.lets_out(0..9), [0]);
    assert_eq!(bench.is_answered(0), None);
    assert_eq!(bench.lets_out(1..9), [1, 2]);
    // Neither what failed alone, nor what was asked before.
    assert_eq!(bench.hears(1, CallOutcome::Nothing), None);
    assert_eq!(bench.fails(77), None);
    assert_eq!(bench.lets_out(3..9), [3]);
    bench.now += 10;
    assert_eq!(bench.fails(2), Some(OutageChange::Down));
    assert!((125..=250).contains(&(bench.breaker.next().unwrap() - bench.now)));
    bench.now += 250;
    assert_eq!(bench.lets_out(4..9), [4]);
    assert_eq!(bench.is_answered(4), Some(OutageChange::Up));
}

#[test]
fn a_slow_start_is_over_after_a_minute() {
    let mut bench = Bench::back();
    assert_eq!(bench.lets_out(0..9), [0]);
    assert_eq!(bench.breaker.next(), Some(bench.now + 60_000));
    bench.now += 59_999;
    assert_eq!(bench.lets_out(1..9), [0; 0]);
    bench.now += 1;
    assert_eq!(bench.lets_out(1..99).len(), WORKERS - 1);
    assert_eq!(bench.fails(0), None);
}

#[test]
fn in_a_slow_start_nothing_that_is_out_may_be_taken_back() {
    let mut bench = Bench::back();
    assert_eq!(bench.lets_out(0..9), [0]);
    assert!(!bench.breaker.forget(conn(0)));
    assert!(bench.breaker.forget(conn(1)));
    assert_eq!(bench.lets_out(1..9), [0; 0]);
    bench.is_answered(0);
    assert_eq!(bench.lets_out(1..9), [1, 2]);
}

#[test]
fn which_answers_count_as_authorizer_failures() {
    let answer = |call, status, call_failed| Answer {
        call,
        status,
        call_failed,
        ..Answer::unavailable(conn(1), String::new(), std::time::Duration::ZERO)
    };
    for (call, status, call_failed, outcome) in [
        (Some(7), None, true, CallOutcome::Failed(7)),
        (Some(7), Some(502), true, CallOutcome::Failed(7)),
        (Some(7), Some(200), false, CallOutcome::Answered),
        (Some(7), Some(403), false, CallOutcome::Answered),
        (Some(7), Some(999), false, CallOutcome::Answered),
        // An item of a batch whose other items are not all 5xx.
        (Some(7), Some(500), false, CallOutcome::Nothing),
        (None, None, false, CallOutcome::Nothing),
        (None, None, true, CallOutcome::Nothing),
    ] {
        let answer = answer(call, status, call_failed);
        assert_eq!(CallOutcome::of(&answer), outcome, "{answer:?}");
    }
}

#[test]
fn pauses_double_up_to_five_seconds() {
    let mut random = Random::new(1);
    for (failures, whole) in [
        (1, 250),
        (2, 500),
        (5, 4_000),
        (6, 5_000),
        (60, 5_000),
        (u32::MAX, 5_000),
    ] {
        let pauses = (0..5_000).map(|_| BACKOFF.pause(failures, &mut random));
        let found: HashSet<Millis> = pauses.collect();
        assert!(
            found
                .iter()
                .all(|pause| (whole / 2..=whole).contains(pause))
        );
        assert!(found.len() > 100);
    }
}
