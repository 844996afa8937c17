// SPDX-License-Identifier: GPL-2.0
//! Log lines with the time, in UTC.

use std::fmt::Arguments;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes a line to standard error: the time, the domain it is about (or nothing), the text.
pub(crate) fn line(domain: &str, text: Arguments<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = stamp(now.unwrap_or_default());
    let colon = if domain.is_empty() { "" } else { ": " };
    // One write, so that the lines of several threads stay whole. Nobody to tell of an error.
    let text = format!("{now} {domain}{colon}{text}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A time since 1970 as ISO 8601 with milliseconds.
fn stamp(time: Duration) -> String {
    let (secs, day) = (time.as_secs(), time.as_secs() / 86400);
    let (year, month, date) = civil(day);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        secs / 3600 % 24,
        secs / 60 % 60,
        secs % 60,
        time.subsec_millis()
    )
}

/// Year, month and day of month of a day since 1970-01-01.
fn civil(mut day: u64) -> (u64, usize, u64) {
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    (year, month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(Duration::from_millis(millis)), text);
        }
    }
}
