//! Quantities as people write and read them: byte sizes, durations, rates.
//!
//! Inside the program sizes are `u64` bytes and times are seconds (`f64`) or nanoseconds (`u64`);
//! the unit is part of the name. This file only turns them into text and back.

use bytesize::ByteSize;
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

/// Formats bytes with a binary prefix and three significant digits: `12.4 MiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const STEPS: [(&str, f64); 4] = [
        ("TiB", 1_099_511_627_776.0),
        ("GiB", 1_073_741_824.0),
        ("MiB", 1_048_576.0),
        ("KiB", 1024.0),
    ];
    let value = to_f64(bytes);
    for (unit, size) in STEPS {
        if value >= size {
            return format!("{} {unit}", significant(value / size, 3));
        }
    }
    format!("{bytes} B")
}

/// Formats a number with `digits` significant digits, never in exponent form.
///
/// Integers larger than that keep all their digits: `significant(12345.6, 3)` is `12346`.
#[must_use]
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "log10 of a finite f64 is within ±324")]
    let magnitude = value.abs().log10().floor() as i64;
    let decimals = i64::try_from(digits).unwrap_or(3) - 1 - magnitude;
    let decimals = usize::try_from(decimals.max(0)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    // 9.999 with three digits becomes 10.00: one digit too many after rounding up.
    let digits_shown = text.chars().filter(char::is_ascii_digit).collect::<String>();
    let digits_shown = digits_shown.trim_start_matches('0').len();
    if digits_shown > digits && decimals > 0 {
        let fewer = decimals - 1;
        return format!("{value:.fewer$}");
    }
    text
}

/// Formats a duration for people: `431 ms`, `12.4 s`, `3 min 05 s`, `2 h 10 min`.
#[must_use]
pub fn format_seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "n/a".to_owned();
    }
    if seconds < 1.0 {
        return format!("{} ms", significant(seconds * 1e3, 3));
    }
    if seconds < 100.0 {
        return format!("{} s", significant(seconds, 3));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a finite, positive number of whole seconds"
    )]
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// Reads a byte size such as `3.5GiB`, `512 MB` or `1073741824`.
///
/// # Errors
/// A sentence that names the text and shows the accepted forms.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let size = text.parse::<ByteSize>().map(|size| size.as_u64());
    let size =
        size.map_err(|_| format!("'{text}' is not a size; write it like 3.5GiB, 512MiB or 4GB"))?;
    // Nobody means six bytes by 6.
    let has_unit = text.contains(char::is_alphabetic);
    if !has_unit && (1..1 << 20).contains(&size) {
        return Err(format!("'{text}' has no unit; write it like {text}GiB or {text}MiB"));
    }
    Ok(size)
}

/// A reader of whole numbers within limits, for flags: what clap says of its own ranges is no sentence. Its error says
/// the limits.
pub fn parse_within<T>(
    limits: impl RangeBounds<T> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| limits.contains(number));
        number.ok_or_else(|| match (limits.start_bound(), limits.end_bound()) {
            (Bound::Included(least), Bound::Included(most)) => {
                format!("it must be a whole number from {least} to {most}")
            }
            (Bound::Included(least), _) => format!("it must be a whole number, {least} or more"),
            _ => "it must be a whole number".to_owned(),
        })
    }
}

/// `6.36 M`, `7.62 G`: as people say it.
#[must_use]
pub fn format_count(count: u64) -> String {
    let value = to_f64(count);
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{} k", significant(value / 1e3, 3)),
        1_000_000..1_000_000_000 => format!("{} M", significant(value / 1e6, 3)),
        _ => format!("{} G", significant(value / 1e9, 3)),
    }
}

/// A count with its noun: `1 round`, `5 rounds`.
#[must_use]
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A count of bytes, tokens or nanoseconds as a number: exact, since they are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "such counts are below 2^53")]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_significant_digits() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(1536), "1.50 KiB");
        assert_eq!(format_bytes(12_988_416), "12.4 MiB");
        assert_eq!(format_bytes(1_073_741_824), "1.00 GiB");
    }

    #[test]
    fn rounding_up_does_not_add_a_digit() {
        assert_eq!(significant(9.999, 3), "10.0");
        assert_eq!(significant(0.012_345, 3), "0.0123");
        assert_eq!(significant(12345.6, 3), "12346");
        assert_eq!(significant(-1.5, 2), "-1.5");
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(format_seconds(0.4312), "431 ms");
        assert_eq!(format_seconds(12.41), "12.4 s");
        assert_eq!(format_seconds(185.0), "3 min 05 s");
        assert_eq!(format_seconds(7800.0), "2 h 10 min");
    }

    #[test]
    fn sizes_parse_with_binary_and_decimal_prefixes() {
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("1 GB"), Ok(1_000_000_000));
        assert!(parse_bytes("four").unwrap_err().contains("3.5GiB"));
    }

    #[test]
    fn a_number_outside_its_limits_is_refused_with_them() {
        assert_eq!(parse_within(2_u32..)("2"), Ok(2));
        let refused = |text| parse_within(2_u32..)(text).unwrap_err();
        for text in ["1", "-1", "x", ""] {
            assert_eq!(refused(text), "it must be a whole number, 2 or more");
        }
        let refused = parse_within(1_u32..=4096)("5000").unwrap_err();
        assert_eq!(refused, "it must be a whole number from 1 to 4096");
    }
}
