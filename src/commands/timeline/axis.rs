//! The time axis: which column a moment stands in, and where the ticks are. Pure.

use std::time::Duration;

use crate::{clock::Time, plain::duration};

/// Distances between ticks that people can count in, in seconds.
const STEPS: [u64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000,
];

/// Ticks are no closer than this: each has its label.
const CLOSEST: usize = 10;

#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    from: Time,
    length: Duration,
    columns: usize,
}

impl Axis {
    pub(super) fn new(from: Time, to: Time, columns: usize) -> Self {
        // What takes no time still has a picture.
        let length = to.since(from).max(Duration::from_millis(1));
        Self { from, length, columns: columns.max(1) }
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The column of a moment, the last one for the end.
    pub(super) fn column(&self, at: Time) -> usize {
        let share = at.since(self.from).as_millis() * self.columns as u128 / self.length.as_millis();
        usize::try_from(share).unwrap_or(usize::MAX).min(self.columns - 1)
    }

    /// The columns of a span, one at least.
    pub(super) fn columns_of(&self, from: Time, to: Time) -> std::ops::RangeInclusive<usize> {
        let first = self.column(from);
        // A span ends before the column in which the next one begins, unless it has only that one.
        let share = to.since(self.from).as_millis() * self.columns as u128;
        let end = share.div_ceil(self.length.as_millis());
        let last = usize::try_from(end).unwrap_or(usize::MAX).min(self.columns).saturating_sub(1);
        first..=last.max(first)
    }

    /// Columns and labels of the ticks, from the beginning on.
    pub(super) fn ticks(&self) -> Vec<(usize, String)> {
        let millis = |seconds: u64| u128::from(seconds) * 1_000;
        let columns = |seconds: u64| millis(seconds) * self.columns as u128 / self.length.as_millis();
        let step = STEPS.into_iter().find(|step| columns(*step) >= CLOSEST as u128);
        let mut ticks = vec![(0, "0".to_owned())];
        let Some(step) = step else { return ticks };
        for n in 1.. {
            let at = step * n;
            let column = usize::try_from(columns(at)).unwrap_or(usize::MAX);
            if column >= self.columns {
                break;
            }
            ticks.push((column, duration(Duration::from_secs(at))));
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_millis(1_777_374_504_000 + ms).unwrap()
    }

    #[test]
    fn ticks_are_round_and_have_room_for_their_labels() {
        for (seconds, columns, labels) in [
            (60, 60, vec!["0", "10s", "20s", "30s", "40s", "50s"]),
            (337, 50, vec!["0", "2m", "4m"]),
            (7_200, 40, vec!["0", "30m", "1h", "1h 30m"]),
            (0, 40, vec!["0"]),
            (864_000, 100, vec!["0", "1d", "2d", "3d", "4d", "5d", "6d", "7d", "8d", "9d"]),
        ] {
            let ticks = Axis::new(at(0), at(seconds * 1_000), columns).ticks();
            assert_eq!(ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(), labels, "{seconds} s");
        }
    }

    #[test]
    fn spans_touch_and_the_shortest_has_a_column() {
        let axis = Axis::new(at(0), at(1_000), 10);
        assert_eq!(axis.columns_of(at(0), at(500)), 0..=4);
        assert_eq!(axis.columns_of(at(500), at(1_000)), 5..=9);
        assert_eq!(axis.columns_of(at(550), at(550)), 5..=5);
        assert_eq!(axis.columns_of(at(1_000), at(1_000)), 9..=9);
        assert_eq!(axis.columns_of(at(-10), at(2_000)), 0..=9, "what is beyond ends at the edge");
    }

    proptest! {
        #[test]
        fn everything_is_within_the_axis(length in 0_i64..10_000_000, columns in 1_usize..300, a in 0_i64..10_000_000, b in 0_i64..10_000_000) {
            let axis = Axis::new(at(0), at(length), columns);
            let span = axis.columns_of(at(a.min(b)), at(a.max(b)));
            prop_assert!(span.start() <= span.end() && *span.end() < columns);
            let ticks = axis.ticks();
            prop_assert!(ticks.iter().all(|(column, _)| *column < columns));
            prop_assert!(ticks.windows(2).all(|pair| pair[1].0 - pair[0].0 >= CLOSEST - 1));
        }
    }
}
