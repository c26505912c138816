//! What a seed stands for: a fleet, sinks, settings, weather, and what is done to the program and when. Drawn whole before it begins,
//! so that two runs of one seed differ in nothing.

use std::{num::NonZeroUsize, time::Duration};

use fastrand::Rng;
use velt_watch::{
    config::{Discover, Poll, Rate, Retry, Threshold},
    pace::Pace,
    route::{Filter, Initial},
    velt::model::ExecutionStatus,
    watch::attention::Attention,
};
use wildmatch::WildMatch;

use crate::script::Script;

/// How a seed is lived.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Faults end here; then everything has to come right by itself.
    pub(crate) length: Duration,
    pub(crate) poll: Poll,
    pub(crate) not_found_grace: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) retention: Duration,
    pub(crate) fleet: Vec<Script>,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) api: Vec<Window<ApiWeather>>,
    /// A share of the API's answers is bad in fair weather too.
    pub(crate) api_noise: f64,
    /// Of the engine's streams alone, on top of the API's.
    pub(crate) streams: Vec<Window<StreamWeather>>,
    /// Of the lists alone.
    pub(crate) lists: Vec<Window<ListWeather>>,
    pub(crate) pages: Pages,
    /// What lists show of these is watched too.
    pub(crate) discover: Vec<Discover>,
    pub(crate) attention: Attention,
    pub(crate) store: Vec<Window<StoreWeather>>,
    pub(crate) store_noise: f64,
    /// For each URL.
    pub(crate) urls: Vec<Url>,
    pub(crate) deeds: Vec<(Duration, Deed)>,
    /// The wall clock is set in this one: what compares wall times says nothing.
    pub(crate) clock_is_set: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Window<W> {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) weather: W,
}

/// The weather at `at`, if it isn't fair.
pub(crate) fn at<W>(windows: &[Window<W>], at: Duration) -> Option<&W> {
    windows.iter().find(|window| window.from <= at && at < window.to).map(|window| &window.weather)
}

#[derive(Debug, Clone)]
pub(crate) enum ApiWeather {
    /// 429 for everybody.
    Quota { retry_after: Option<u64> },
    /// 5xx, resets, silence.
    Down,
    /// Bodies that are no answer.
    Garbled,
    /// Reads from a replica that is so far behind.
    Behind(Duration),
}

/// What Get Events is like, beside what all of the API is.
#[derive(Debug, Clone)]
pub(crate) enum StreamWeather {
    /// 403 or 404, though the execution can be read.
    Refused(u16),
    Down,
    /// An answer, but after so long.
    Slow(Duration),
    /// It tells of nothing that is younger.
    Behind(Duration),
}

/// What List is like, beside what all of the API is.
#[derive(Debug, Clone)]
pub(crate) enum ListWeather {
    /// 403, or 404 from somebody who knows no such way.
    Refused(u16),
    Down,
    /// It shows what was true before.
    Behind(Duration),
}

/// How the API cuts what it answers in pages, where its documentation leaves that open.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an open question of its own")]
pub(crate) struct Pages {
    /// So many events at most, whatever is asked for.
    pub(crate) events: usize,
    /// The engine's own events count into a page before they are left out of it.
    pub(crate) sparse: bool,
    /// So many executions at most.
    pub(crate) items: usize,
    pub(crate) oldest_first: bool,
    /// A page begins with the millisecond that the cursor names, and not beyond it.
    pub(crate) repeats: bool,
    /// As older versions of the API, it says whether more follows.
    pub(crate) says_more: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum StoreWeather {
    /// Nothing can be written.
    Full,
    /// Every other call fails, reads too.
    Flaky,
}

#[derive(Debug, Clone)]
pub(crate) struct Url {
    pub(crate) weather: Vec<Window<SinkWeather>>,
    pub(crate) noise: f64,
}

#[derive(Debug, Clone)]
pub(crate) enum SinkWeather {
    Status(u16),
    /// 429 or 503 with a Retry-After in seconds.
    Busy {
        code: u16,
        retry_after: u64,
    },
    Unreachable,
    Silent,
    /// It takes what it is sent and the connection breaks before the answer.
    Mute,
}

#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) wants: Wants,
}

#[derive(Debug, Clone)]
pub(crate) enum Way {
    Send {
        url: usize,
        rate: Rate,
        max_in_flight: NonZeroUsize,
        retry: Retry,
        /// The executions (by their place in the fleet, modulo this) of which it refuses one kind of event for good.
        picky: Option<usize>,
        /// It speaks Slack: a message carries what is pending of an execution.
        slack: bool,
    },
    Print,
}

/// A filter in words that the checker can read for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Everything,
    NothingInitial,
    WaitingAndEnds,
    Legal,
    /// As Slack's default: of what was already so, what waits and what has ended.
    Pressing,
}

impl Wants {
    pub(crate) fn filter(self) -> Filter {
        let globs = |globs: &[&str]| globs.iter().map(|glob| WildMatch::new(glob)).collect();
        match self {
            Self::Everything => Filter::default(),
            Self::NothingInitial => Filter { initial: Initial::None, ..Filter::default() },
            Self::WaitingAndEnds => {
                Filter { events: globs(&["step.waiting", "execution.*", "watch.*"]), ..Filter::default() }
            }
            Self::Legal => Filter { definitions: globs(&["legal-*"]), include_output: true, ..Filter::default() },
            Self::Pressing => Filter { initial: Initial::Pressing, ..Filter::default() },
        }
    }

    /// The same, without the program's help.
    pub(crate) fn wants(self, kind: &str, definition: Option<&str>, initial: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::NothingInitial => !initial,
            Self::WaitingAndEnds => {
                kind == "step.waiting" || kind.starts_with("execution.") || kind.starts_with("watch.")
            }
            Self::Pressing => {
                let ends = matches!(kind, "execution.completed" | "execution.failed" | "execution.cancelled");
                !initial || kind == "step.waiting" || kind == "execution.waiting" || ends
            }
            Self::Legal => definition.is_none_or(|definition| definition.starts_with("legal-")),
        }
    }
}

/// What is done to the program.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// The watch file holds these from now on.
    List(Vec<usize>),
    /// The configuration is read again and has these sinks.
    Reload(Vec<usize>),
    /// SIGTERM; started again after this.
    Stop(Duration),
    /// SIGKILL at this moment; started again after this.
    Kill(Duration),
    /// SIGKILL so many steps from now.
    KillAfter { steps: u64, pause: Duration },
    /// Somebody sets the wall clock.
    SetClock(i64),
    /// The API token expires: the old one is refused from now on.
    ExpireToken,
    /// The file that holds the token is replaced.
    RotateToken,
    /// Another process replays every dead letter.
    Replay,
    /// The state is lost while the program is down, which it is for this long.
    LoseState(Duration),
}

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

fn secs(from: u64, to: u64, rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(from * 1000..=to * 1000))
}

impl Plan {
    /// Those that no list ever shows to somebody who looks for what this seed looks for.
    pub(crate) fn named(&self) -> Vec<usize> {
        let is_found = |script: &Script| self.discover.iter().any(|rule| script.definition == Some(&*rule.definition));
        (0..self.fleet.len()).filter(|who| !is_found(&self.fleet[*who])).collect()
    }

    pub(crate) fn draw(seed: u64, hours: f64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let length = Duration::from_secs_f64(3600.0 * hours).mul_f64(1.0 + rng.f64() * 0.5);
        // Now and then as many as make it worth it to read lists for their ends.
        let count = if rng.u32(..12) == 0 { rng.u64(22..36) } else { rng.u64(1..14) };
        let fleet: Vec<Script> = (0..count)
            .map(|n| {
                let until = length.mul_f64(0.3 + 0.7 * rng.f64());
                // Some began in one millisecond, and no more than fit on a page.
                let first = Duration::from_millis(n / 2);
                Script::draw(rng, format!("exec_{n:02}"), first, until)
            })
            .collect();
        let urls: Vec<Url> = (0..rng.usize(1..4)).map(|_| url(rng, length)).collect();
        let sinks = (0..rng.usize(1..=NAMES.len())).map(|n| sink(rng, NAMES[n], urls.len())).collect();
        let mut plan = Self {
            seed,
            length,
            poll: poll(rng),
            not_found_grace: secs(20, 240, rng),
            shutdown_grace: secs(1, 15, rng),
            retention: secs(300, 3600, rng),
            fleet,
            sinks,
            api: windows(rng, length, 4, api_weather),
            api_noise: rng.f64() * rng.f64() * 0.15,
            streams: windows(rng, length, 3, stream_weather),
            lists: windows(rng, length, 3, list_weather),
            pages: pages(rng),
            discover: discover(rng),
            attention: attention(rng),
            store: windows(rng, length, 2, |rng| if rng.bool() { StoreWeather::Full } else { StoreWeather::Flaky }),
            store_noise: if rng.u32(..3) == 0 { rng.f64() * 0.05 } else { 0.0 },
            urls,
            deeds: vec![],
            clock_is_set: false,
        };
        plan.deeds = deeds(rng, &plan);
        plan.clock_is_set = plan.deeds.iter().any(|(_, deed)| matches!(deed, Deed::SetClock(_)));
        plan
    }
}

fn poll(rng: &mut Rng) -> Poll {
    let initial = Duration::from_millis(rng.u64(500..5_000));
    let max = initial.max(secs(10, 120, rng));
    let pace =
        Pace::try_new(initial, max, 1.0 + rng.f64() * 2.0, rng.f64() * 0.4).expect("within the bounds of a pace");
    let rate = if rng.u32(..3) == 0 { f64::INFINITY } else { 0.5 + rng.f64() * 6.0 };
    Poll {
        pace,
        rate_limit: Rate::try_new(rate).expect("above zero"),
        max_in_flight: NonZeroUsize::new(rng.usize(1..8)).expect("above zero"),
        events: rng.u32(..6) > 0,
    }
}

fn windows<W>(rng: &mut Rng, length: Duration, most: usize, mut draw: impl FnMut(&mut Rng) -> W) -> Vec<Window<W>> {
    (0..rng.usize(..=most))
        .map(|_| {
            let from = length.mul_f64(rng.f64());
            let to = (from + secs(1, 900, rng).mul_f64(rng.f64())).min(length);
            Window { from, to, weather: draw(rng) }
        })
        .collect()
}

fn api_weather(rng: &mut Rng) -> ApiWeather {
    match rng.u32(..4) {
        0 => ApiWeather::Quota { retry_after: rng.bool().then(|| rng.u64(1..400)) },
        1 => ApiWeather::Down,
        2 => ApiWeather::Garbled,
        _ => ApiWeather::Behind(secs(1, 120, rng)),
    }
}

fn list_weather(rng: &mut Rng) -> ListWeather {
    match rng.u32(..4) {
        0 => ListWeather::Refused([403, 404][rng.usize(..2)]),
        1 => ListWeather::Down,
        _ => ListWeather::Behind(secs(1, 60, rng)),
    }
}

fn pages(rng: &mut Rng) -> Pages {
    Pages {
        events: [500, 500, 20, 3, 1][rng.usize(..5)],
        sparse: rng.bool(),
        items: [500, 500, 5, 3][rng.usize(..4)],
        oldest_first: rng.u32(..4) == 0,
        repeats: rng.bool(),
        says_more: rng.bool(),
    }
}

/// None, more often than not.
fn discover(rng: &mut Rng) -> Vec<Discover> {
    if rng.u32(..3) > 0 {
        return vec![];
    }
    let one = |definition: &str, rng: &mut Rng| {
        let under_way = vec![ExecutionStatus::Pending, ExecutionStatus::Running];
        let all = [ExecutionStatus::Completed, ExecutionStatus::Failed, ExecutionStatus::Cancelled];
        // Nobody looks for ends that began before what is kept.
        let (status, since) = match rng.u32(..3) {
            0 => (under_way.into_iter().chain(all).collect(), Duration::from_secs(300)),
            1 => (vec![ExecutionStatus::Running], secs(600, 7_200, rng)),
            _ => (under_way, Duration::from_secs(24 * 3600)),
        };
        Discover { definition: definition.into(), status, since }
    };
    let definitions = ["marketing-copy", "legal-review"];
    definitions[..rng.usize(1..=2)].iter().map(|definition| one(definition, rng)).collect()
}

fn attention(rng: &mut Rng) -> Attention {
    let stalled_after = (rng.u32(..4) == 0).then(|| secs(60, 1_200, rng));
    let mut remind: Vec<Threshold> = (0..if rng.u32(..3) == 0 { rng.usize(1..4) } else { 0 })
        .map(|_| {
            let seconds = rng.u64(20..900);
            Threshold { after: Duration::from_secs(seconds), spelled: format!("{seconds}s").into() }
        })
        .collect();
    remind.sort_by_key(|threshold| threshold.after);
    remind.dedup_by_key(|threshold| threshold.after);
    Attention { stalled_after, remind }
}

fn stream_weather(rng: &mut Rng) -> StreamWeather {
    match rng.u32(..5) {
        0 => StreamWeather::Refused([403, 404][rng.usize(..2)]),
        1 => StreamWeather::Down,
        2 => StreamWeather::Slow(secs(1, 14, rng)),
        _ => StreamWeather::Behind(secs(1, 60, rng)),
    }
}

fn url(rng: &mut Rng, length: Duration) -> Url {
    let weather = windows(rng, length, 4, |rng| match rng.u32(..14) {
        0..2 => SinkWeather::Status(500),
        2 => SinkWeather::Status(401),
        3 => SinkWeather::Status(404),
        4 => SinkWeather::Status(302),
        5 => SinkWeather::Status(410),
        6..8 => SinkWeather::Busy { code: 503, retry_after: rng.u64(1..900) },
        8..10 => SinkWeather::Busy { code: 429, retry_after: rng.u64(1..5_000) },
        10 => SinkWeather::Unreachable,
        11 => SinkWeather::Silent,
        _ => SinkWeather::Mute,
    });
    Url { weather, noise: rng.f64() * rng.f64() * 0.2 }
}

fn sink(rng: &mut Rng, name: &'static str, urls: usize) -> Sink {
    let slack = rng.u32(..3) == 0;
    let wants = match rng.u32(..6) {
        0..2 => Wants::Everything,
        2 => Wants::NothingInitial,
        3 => Wants::WaitingAndEnds,
        4 => Wants::Legal,
        _ => Wants::Pressing,
    };
    // Slack has no place for outputs.
    let wants = if slack && wants == Wants::Legal { Wants::Pressing } else { wants };
    if !slack && rng.u32(..4) == 0 {
        return Sink { name, way: Way::Print, wants };
    }
    let initial = secs(1, 10, rng);
    let pace = Pace::try_new(initial, initial + secs(10, 600, rng), 1.0 + rng.f64() * 3.0, rng.f64() * 0.5);
    let max_age = if rng.u32(..4) == 0 { secs(60, 1800, rng) } else { Duration::from_secs(72 * 3600) };
    let rate = if rng.u32(..3) == 0 { 0.2 + rng.f64() * 3.0 } else { f64::INFINITY };
    let way = Way::Send {
        url: rng.usize(..urls),
        rate: Rate::try_new(rate).expect("above zero"),
        max_in_flight: NonZeroUsize::new(rng.usize(1..6)).expect("above zero"),
        retry: Retry { pace: pace.expect("within the bounds of a pace"), max_age },
        picky: (rng.u32(..4) == 0).then(|| rng.usize(2..5)),
        slack,
    };
    Sink { name, way, wants }
}

fn deeds(rng: &mut Rng, plan: &Plan) -> Vec<(Duration, Deed)> {
    let mut deeds = vec![];
    let calm = rng.u32(..8) == 0;
    let clock = rng.u32(..5) == 0;
    for _ in 0..if calm { 0 } else { rng.usize(..14) } {
        let at = plan.length.mul_f64(rng.f64() * 0.98);
        let deed = match rng.u32(..100) {
            0..18 => Deed::List(some(rng, plan.fleet.len())),
            18..30 => Deed::Reload(some(rng, plan.sinks.len())),
            30..42 => Deed::Stop(secs(0, 600, rng).mul_f64(rng.f64())),
            42..54 => Deed::Kill(secs(0, 600, rng).mul_f64(rng.f64())),
            54..80 => Deed::KillAfter { steps: 1 + rng.u64(..400) * rng.u64(..3), pause: secs(0, 120, rng) },
            80..86 if clock => Deed::SetClock(rng.i64(-40_000..40_000) * [1, 60, 3600][rng.usize(..3)]),
            86..92 => Deed::ExpireToken,
            92..97 => Deed::Replay,
            97 => Deed::LoseState(secs(0, 300, rng)),
            _ => continue,
        };
        if matches!(deed, Deed::ExpireToken) {
            deeds.push(((at + secs(1, 400, rng)).min(plan.length), Deed::RotateToken));
        }
        deeds.push((at, deed));
    }
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

/// Some of `count` things, in a drawn order; all of them more often than not.
fn some(rng: &mut Rng, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    if rng.bool() {
        rng.shuffle(&mut all);
        all.truncate(rng.usize(..=count));
    }
    all
}
