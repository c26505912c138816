//! What the fuzzer feeds its targets with, replayed: the documentation's examples, the corpus, and whatever once broke a target. And
//! each of them bent a little, so that a target which panics at the first odd byte is noticed without a fuzzer.
//!
//! `VELT_WATCH_FUZZ=300 cargo test --test fuzz state -- --nocapture` goes on bending for so many seconds, at random, and says from which
//! seed; `fuzz/run TARGET SECONDS` does it knowing which code an input has reached.

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use targets::{TARGETS, run};

/// The inputs in a folder, with their names.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

/// `input` with a byte changed, one missing, and a piece of it twice: at places that are always the same.
fn bent(input: &[u8]) -> Vec<Vec<u8>> {
    let mut bent = vec![];
    for part in [3, 2] {
        let at = input.len() / part;
        let mut changed = input.to_vec();
        if let Some(byte) = changed.get_mut(at) {
            *byte = byte.wrapping_add(0x5b);
        }
        bent.push(changed);
        bent.push(input[..at].to_vec());
        bent.push([&input[..at], input].concat());
    }
    bent
}

fn replay(target: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let documented = tempfile::tempdir().unwrap();
    let written = Command::new(root.join("documented")).arg(documented.path()).status().unwrap();
    assert!(written.success());
    let examples = inputs(&documented.path().join(target));
    let kept = [inputs(&root.join("corpus").join(target)), inputs(&root.join("regressions").join(target))].concat();
    // What the documents hold is found in them.
    let expected = match target {
        "config" => 10,
        "template" => 6,
        "watch_file" => 1,
        _ => 0,
    };
    assert!(examples.len() >= expected && examples.len() + kept.len() > 0, "{} and {}", examples.len(), kept.len());
    let all: Vec<_> = examples.into_iter().chain(kept).collect();
    for (name, input) in &all {
        for input in [vec![input.clone()], bent(input)].concat() {
            let shown = String::from_utf8_lossy(&input).into_owned();
            let held = catch_unwind(|| run(target, &input));
            assert!(held.is_ok(), "{name} breaks {target}, as it is or bent:\n{shown}");
        }
    }
    if let Ok(seconds) = std::env::var("VELT_WATCH_FUZZ") {
        let seconds = Duration::from_secs(seconds.parse().expect("VELT_WATCH_FUZZ is a number of seconds"));
        wander(target, &all.into_iter().map(|(_, input)| input).collect::<Vec<_>>(), seconds);
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).expect("below a limit that is one")
    }
}

/// Feeds a target with inputs that were bent at random, for a while.
#[expect(clippy::print_stdout, reason = "for whoever asked for it; cargo shows it with --nocapture")]
fn wander(target: &str, inputs: &[Vec<u8>], time: Duration) {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos()));
    println!("{target}: seed {seed}");
    let mut random = Random(seed);
    let (began, mut runs, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    while began.elapsed() < time {
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.below(6) {
            bend(&mut input, inputs, &mut random);
        }
        let start = Instant::now();
        let held = catch_unwind(|| run(target, &input));
        assert!(held.is_ok(), "seed {seed} breaks {target}:\n{input:?}\n{}", String::from_utf8_lossy(&input));
        slowest = slowest.max(start.elapsed());
        runs += 1;
    }
    println!("{target}: {runs} runs in {:?}, the slowest took {slowest:?}", began.elapsed());
}

/// Changes a piece of `input`: bytes, a piece of it elsewhere, a piece of another input, or gone.
fn bend(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    const ODD: [&[u8]; 12] = [
        b"\0",
        b"\xff",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"\n",
        b"-1",
        b"99999999999999999999",
        b"1e999",
        b"\xe2\x80\xae",
    ];
    let at = random.below(input.len() + 1);
    let end = (at + random.below(40)).min(input.len());
    match random.below(7) {
        0 => drop(input.drain(at..end)),
        1 => drop(input.splice(at..at, ODD[random.below(ODD.len())].iter().copied())),
        2 => drop(input.splice(at..end, ODD[random.below(ODD.len())].iter().copied())),
        3 => {
            let piece = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        4 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(200)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 => input.truncate(at),
        _ => input[at..end].iter_mut().take(3).for_each(|byte| *byte ^= 1 << random.below(8)),
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn each_target_is_replayed() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

replayed!(api snapshots config watch_file template slack state);
