//! Time as a test may measure it, on a machine that other work holds up: what the program promises is bounded, and what the machine takes
//! from it is not counted.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "compiled into each test binary, whose root is not this module's parent alone")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Between two beats of the pulse.
const BEAT: Duration = Duration::from_millis(10);

/// So late a beat is no delay any more: the machine stood still.
const STILL: Duration = Duration::from_millis(250);

/// A thread that does nothing but sleep: it is held up whenever this machine is.
#[derive(Debug)]
struct Pulse {
    beats: u32,
    last: Instant,
    /// When the machine went on again, and after how long.
    pauses: Vec<(Instant, Duration)>,
}

fn pulse() -> MutexGuard<'static, Pulse> {
    static PULSE: OnceLock<Mutex<Pulse>> = OnceLock::new();
    let pulse = PULSE.get_or_init(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(BEAT);
                let mut pulse = pulse();
                let now = Instant::now();
                let pause = now - pulse.last;
                if pause > STILL {
                    pulse.pauses.push((now, pause));
                }
                pulse.beats += 1;
                pulse.last = now;
            }
        });
        Mutex::new(Pulse { beats: 0, last: Instant::now(), pauses: vec![] })
    });
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures what something takes while the machine goes on. It never runs ahead of the wall's clock, and stands still with the machine:
/// good for saying that something took no longer than it may, and for nothing else.
#[derive(Debug)]
pub struct Stopwatch {
    from: u32,
    since: Instant,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { from: pulse().beats, since: Instant::now() }
    }

    pub fn elapsed(&self) -> Duration {
        BEAT * (pulse().beats - self.from)
    }

    /// For how long the machine has stood still since, at a stretch.
    pub fn stood_still(&self) -> Duration {
        let pulse = pulse();
        let running = Some(pulse.last.elapsed()).filter(|pause| *pause > STILL);
        let over = pulse.pauses.iter().filter(|(end, _)| *end >= self.since).map(|(_, pause)| *pause);
        over.chain(running).max().unwrap_or_default()
    }
}

/// For a test of what the program does within moments of its own (a time-out, an interval, a pace): one that fails while the machine
/// stands still has shown nothing, and is done again from its beginning.
#[expect(clippy::print_stdout, reason = "why a test was done again is for whoever reads its output")]
pub fn undisturbed(test: impl Fn()) {
    const TRIES: u32 = 8;
    for nth in 1..=TRIES {
        let watch = Stopwatch::start();
        let Err(failure) = catch_unwind(AssertUnwindSafe(&test)) else { return };
        let pause = watch.stood_still();
        if pause.is_zero() || nth == TRIES {
            resume_unwind(failure);
        }
        println!("the machine stood still for {pause:?} meanwhile: once more");
    }
}
