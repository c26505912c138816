//! The small value types of a scenario file, each with a deserializer whose errors keep their place in the file.
//!
//! Untagged enums would be shorter, but they answer every mistake with "did not match any variant".

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value};

/// A duration in milliseconds, fixed or drawn from a range by the run's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Span {
    pub(crate) const fn fixed(ms: u64) -> Self {
        Self { min: ms, max: ms }
    }

    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> i64 {
        i64::try_from(rng.u64(self.min..=self.max)).unwrap_or(i64::MAX / 4)
    }
}

/// `250`, `"250ms"`, `"2s"`, `"5m"`, `"72h"`, `"30d"`: milliseconds.
fn parse_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // A century is enough for a script, and keeps every sum of times far from overflow.
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|ms| *ms <= MAX_MS)
}

const MAX_MS: u64 = 100 * 366 * 86_400_000;

struct Ms(u64);

impl<'de> Deserialize<'de> for Ms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span { min, max } = Span::deserialize(deserializer)?;
        if min == max { Ok(Self(min)) } else { Err(D::Error::custom("a range within a range")) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl<'de> Visitor<'de> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds, a duration such as \"2s\", or { min, max }")
            }

            fn visit_i64<E: Error>(self, ms: i64) -> Result<Span, E> {
                match u64::try_from(ms) {
                    Ok(ms) if ms <= MAX_MS => Ok(Span::fixed(ms)),
                    _ => Err(E::custom("a duration is between 0 and a century")),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse_ms(text).map(Span::fixed).ok_or_else(|| {
                    E::custom(format_args!(
                        "`{text}` is no duration: write 250 (milliseconds), \"2s\", \"5m\" or \"72h\""
                    ))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Span, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Range {
                    min: Ms,
                    max: Ms,
                }
                let Range { min: Ms(min), max: Ms(max) } = Range::deserialize(value::MapAccessDeserializer::new(map))?;
                if min > max {
                    return Err(A::Error::custom("`min` is above `max`"));
                }
                Ok(Span { min, max })
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// One value, or one for each time a loop enters the node; the last one stays.
#[derive(Debug, Clone)]
pub(crate) struct PerVisit<T>(Vec<T>);

impl<T> PerVisit<T> {
    pub(crate) fn always(value: T) -> Self {
        Self(vec![value])
    }

    /// `visit` counts from 1.
    pub(crate) fn at(&self, visit: u32) -> &T {
        let last = self.0.len() - 1;
        &self.0[(visit.saturating_sub(1) as usize).min(last)]
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerVisit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
            type Value = PerVisit<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an array with one string for each visit of the node")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(value::StrDeserializer::new(text)).map(PerVisit::always)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                if values.is_empty() {
                    return Err(A::Error::custom("an empty array says nothing: leave the key out"));
                }
                Ok(PerVisit(values))
            }
        }
        deserializer.deserialize_any(OneOrMany(PhantomData))
    }
}
