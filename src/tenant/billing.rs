//! The day of the month that a tenant's monthly periods begin on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A day of the month, from 1 to 31; in a month that has no such day it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub struct BillingDay(i16);

impl BillingDay {
    pub(crate) fn from_database(day: i16) -> Result<Self> {
        if (1..=31).contains(&day) {
            Ok(Self(day))
        } else {
            Err(Error::invalid("billing_day", day.to_string(), "a month has days 1 to 31"))
        }
    }

    /// The day as a number.
    pub fn day(self) -> i16 {
        self.0
    }
}

impl TryFrom<i16> for BillingDay {
    type Error = Error;

    fn try_from(day: i16) -> Result<Self> {
        Self::from_database(day)
    }
}

impl From<BillingDay> for i16 {
    fn from(day: BillingDay) -> Self {
        day.0
    }
}

impl FromStr for BillingDay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("billing_day", text, "a month has days 1 to 31");
        text.trim().parse().ok().and_then(|day| Self::from_database(day).ok()).ok_or_else(wrong)
    }
}

impl fmt::Display for BillingDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
