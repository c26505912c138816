//! The plain way to watch: every execution at the same interval, from when it is known to when its end has been read.

use crate::{
    measure::{Figures, Requests, Told, figures},
    truth::Truth,
};

/// When the watch learns of an execution: a watch file is looked at every second.
pub(crate) fn listed(began: i64) -> i64 {
    (began.max(0) + 999) / 1000 * 1000
}

/// `latency` is how long a request takes, in milliseconds; it is answered with the truth of half of it.
pub(crate) fn poll(truth: &Truth, window: (i64, i64), end: i64, interval: f64, latency: i64) -> Figures {
    let mut told = Told::none(truth);
    let mut requests = Requests::default();
    for (index, run) in truth.runs.iter().enumerate() {
        let (mut known, mut count) = (0, 0_u32);
        let begun = listed(run.began());
        loop {
            #[expect(clippy::cast_possible_truncation, reason = "hours in milliseconds")]
            let at = begun + (f64::from(count) * interval * 1000.0) as i64;
            if at >= end || known == run.changes.len() {
                break;
            }
            count += 1;
            requests.get += u64::from((window.0..window.1).contains(&at));
            known = told.tell_view(truth, index, known, at + latency / 2, at + latency);
        }
    }
    figures(truth, &told, window, requests)
}

/// The same with as many requests as are given.
pub(crate) fn poll_with(truth: &Truth, window: (i64, i64), end: i64, requests: u64, latency: i64) -> (f64, Figures) {
    // In the logarithm: intervals lie between a tenth of a second and a day.
    let (mut low, mut high) = (0.1_f64.ln(), 86_400_f64.ln());
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if counted(truth, window, end, middle.exp()) > requests { low = middle } else { high = middle }
    }
    (high.exp(), poll(truth, window, end, high.exp(), latency))
}

/// How many requests of this interval fall into the window, without making them.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
fn counted(truth: &Truth, window: (i64, i64), end: i64, interval: f64) -> u64 {
    let before = |begun: i64, at: i64| if at <= begun { 0.0 } else { ((at - begun) as f64 / 1000.0 / interval).ceil() };
    let of = |run: &crate::truth::Run| {
        let begun = listed(run.began());
        let last = begun + (before(begun, run.ended()) * interval * 1000.0) as i64 + 1;
        let till = last.min(end);
        before(begun, till.min(window.1)) - before(begun, till.min(window.0))
    };
    truth.runs.iter().map(of).sum::<f64>() as u64
}
