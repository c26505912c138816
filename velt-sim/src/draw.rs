//! Chance that repeats: every draw has a name, and the same seed and name give the same draw.
//!
//! It must never keep a running generator: a run is replayed whenever something changes, and what was drawn before must be drawn again.

use std::fmt::Write as _;

/// A generator for the draw with this name.
pub(crate) fn rng(seed: u64, name: &str, numbers: [u64; 2]) -> fastrand::Rng {
    // FNV-1a over the name, then one round of mixing per number: enough to keep neighbours apart.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes().chain(numbers.iter().flat_map(|number| number.to_le_bytes())) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    fastrand::Rng::with_seed(hash)
}

/// The tail of an id: eight of a–z and 0–9.
pub(crate) fn tail(rng: &mut fastrand::Rng) -> String {
    (0..8).fold(String::with_capacity(8), |mut tail, _| {
        let digit = rng.digit(36);
        let _ = write!(tail, "{digit}");
        tail
    })
}
