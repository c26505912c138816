//! `fuzz/run TARGET [SECONDS]` runs this; the variable `FUZZ_TARGET` says what for.

#![no_main]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<String> = LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run(&TARGET, data));
