//! What metrics count, and how amounts of it are written.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::suggest::one_of;
use crate::{Error, Result};

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes; written as `5GB`, with 1 kB = 1024 bytes as PostgreSQL's `pg_size_bytes` has it.
    Bytes,
}

/// The suffixes of sizes, largest first: those of `pg_size_bytes`, with their binary prefixes.
const SIZES: [(&str, &str, i64); 5] = [
    ("PB", "PiB", 1 << 50),
    ("TB", "TiB", 1 << 40),
    ("GB", "GiB", 1 << 30),
    ("MB", "MiB", 1 << 20),
    ("kB", "KiB", 1 << 10),
];

impl Unit {
    /// Its name in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
        }
    }

    /// Reads an amount: a whole number, or a size with its unit where bytes are counted.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse_amount(self, text: &str) -> Result<i64, String> {
        let text = text.trim();
        if let Ok(amount) = text.parse() {
            return Ok(amount);
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let split = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, suffix) = digits.split_at(split);
        if number.is_empty() {
            return Err("it is not a whole number".into());
        }
        let factor = match (self, suffix.trim()) {
            (_, "") => 1,
            (Self::Count, _) => return Err("it is not a whole number".into()),
            (Self::Bytes, suffix) if suffix.eq_ignore_ascii_case("b") => 1,
            (Self::Bytes, suffix) => SIZES
                .iter()
                .find(|(short, long, _)| {
                    suffix.eq_ignore_ascii_case(short) || suffix.eq_ignore_ascii_case(long)
                })
                .map(|(_, _, factor)| *factor)
                .ok_or_else(|| {
                    format!("{suffix:?} is no unit of size; there are B, kB, MB, GB, TB and PB")
                })?,
        };
        let sign = if text.starts_with('-') { -1 } else { 1 };
        number
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .map(|n| n * sign)
            .ok_or_else(|| "it is larger than a 64-bit number".into())
    }

    /// Writes an amount for people: sizes in the largest unit that keeps them whole numbers, else with one decimal.
    pub fn format(self, amount: i64) -> String {
        if self == Self::Bytes {
            for (short, _, factor) in SIZES {
                if amount.checked_abs().is_some_and(|a| a >= factor) {
                    return if amount % factor == 0 {
                        format!("{}{short}", amount / factor)
                    } else {
                        // Rounded towards zero: nothing looks fuller than it is.
                        let tenths = i128::from(amount) * 10 / i128::from(factor);
                        format!("{}.{}{short}", tenths / 10, (tenths % 10).abs())
                    };
                }
            }
            return format!("{amount}B");
        }
        amount.to_string()
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of("unit", text, &[("count", Self::Count), ("bytes", Self::Bytes)])
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let bytes = |text| Unit::Bytes.parse_amount(text);
        assert_eq!(bytes("1GB"), Ok(1 << 30));
        assert_eq!(bytes("5 GiB"), Ok(5 << 30));
        assert_eq!(bytes("-10kb"), Ok(-10240));
        assert_eq!(bytes("7"), Ok(7));
        for bad in
            ["", "GB", "1.5GB", "1XB", "9223372036854775807kB", "--1", "1 GB GB", "9223372036854775808"]
        {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(Unit::Count.parse_amount("1GB").is_err());
        assert_eq!(Unit::Bytes.format(1 << 30), "1GB");
        assert_eq!(Unit::Bytes.format((1 << 30) + (1 << 29)), "1.5GB");
        assert_eq!(Unit::Bytes.format(0), "0B");
        assert_eq!(Unit::Count.format(1000), "1000");
    }

    proptest! {
        #[test]
        fn amounts_never_panic(text in "\\PC{0,30}") {
            let _ = Unit::Bytes.parse_amount(&text);
            let _ = Unit::Count.parse_amount(&text);
        }

        #[test]
        fn whole_sizes_survive_the_round_trip(n in 0i64..1023, (short, _, factor) in prop::sample::select(SIZES.to_vec())) {
            let amount = n * factor;
            prop_assert_eq!(Unit::Bytes.parse_amount(&format!("{n}{short}")), Ok(amount));
            prop_assert_eq!(Unit::Bytes.parse_amount(&Unit::Bytes.format(amount)), Ok(amount));
        }
    }
}
