//! llama-bench's way to write several numbers: `512`, `1,2,4`, `1-8`, `128-1024+128`, `1-64*2`.

use std::str::FromStr;

/// More values than this are no plan of measurements but a slip of the hand.
const MOST_VALUES: usize = 1000;

/// Numbers written as a list with ranges, in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers<T>(pub Vec<T>);

/// Why a text is no list of numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// A part is neither a number nor a range.
    #[error(
        "'{part}' is neither a number nor a range; write 512, 1,2,4, 1-8, 128-1024+128 or 1-64*2"
    )]
    Syntax {
        /// The part.
        part: String,
    },
    /// The numbers of a range do not grow.
    #[error("the range '{part}' never ends: its step must make the numbers grow")]
    Endless {
        /// The part.
        part: String,
    },
    /// A range ends before it begins.
    #[error("the range '{part}' is empty: it ends before it begins")]
    Empty {
        /// The part.
        part: String,
    },
    /// A number is not among those that make sense.
    #[error("{value} is out of range")]
    OutOfRange {
        /// The number.
        value: i64,
    },
    /// There are too many numbers.
    #[error("these are more than {MOST_VALUES} values; name fewer")]
    TooMany,
}

impl<T: TryFrom<i64>> FromStr for Numbers<T> {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            for value in range(part.trim())? {
                if numbers.len() == MOST_VALUES {
                    return Err(ListError::TooMany);
                }
                let number = T::try_from(value).map_err(|_| ListError::OutOfRange { value })?;
                numbers.push(number);
            }
        }
        Ok(Self(numbers))
    }
}

/// How a range goes on.
enum Step {
    Add(i64),
    Multiply(i64),
}

/// The numbers of one part: `a`, `a-b`, `a-b+step` or `a-b*factor`. Only `a` may be negative.
fn range(part: &str) -> Result<Vec<i64>, ListError> {
    let syntax = || ListError::Syntax { part: part.to_owned() };
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        text.parse::<i64>().map_err(|_| syntax())
    };
    // The first character may be the sign of the first number.
    let dash = part.char_indices().skip(1).find(|(_, c)| *c == '-').map(|(at, _)| at);
    let Some(dash) = dash else { return Ok(vec![number(part)?]) };
    let first = number(&part[..dash])?;
    let rest = &part[dash + 1..];
    if rest.contains('-') {
        return Err(syntax());
    }
    let (last, step) = match rest.split_once(['+', '*']) {
        None => (number(rest)?, Step::Add(1)),
        Some((last, step)) if rest.contains('*') => (number(last)?, Step::Multiply(number(step)?)),
        Some((last, step)) => (number(last)?, Step::Add(number(step)?)),
    };
    if last < first {
        return Err(ListError::Empty { part: part.to_owned() });
    }
    let mut values = vec![first];
    let mut value = first;
    loop {
        let next = match step {
            Step::Add(step) => value.checked_add(step),
            Step::Multiply(factor) => value.checked_mul(factor),
        };
        match next {
            Some(next) if next <= value => {
                return Err(ListError::Endless { part: part.to_owned() });
            }
            Some(next) if next <= last => value = next,
            _ => return Ok(values),
        }
        if values.len() == MOST_VALUES {
            return Err(ListError::TooMany);
        }
        values.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> Result<Vec<i32>, ListError> {
        text.parse::<Numbers<i32>>().map(|numbers| numbers.0)
    }

    #[test]
    fn lists_and_ranges_read_as_llama_bench_reads_them() {
        assert_eq!(list("512"), Ok(vec![512]));
        assert_eq!(list("1,2,4"), Ok(vec![1, 2, 4]));
        assert_eq!(list("1-4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(list("128-512+128"), Ok(vec![128, 256, 384, 512]));
        assert_eq!(list("1-9*2"), Ok(vec![1, 2, 4, 8]));
        assert_eq!(list("0,8-16+4,99"), Ok(vec![0, 8, 12, 16, 99]));
        assert_eq!(list("-1"), Ok(vec![-1]));
        assert_eq!(list("-1-1"), Ok(vec![-1, 0, 1]));
        assert_eq!(list("7-7"), Ok(vec![7]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_part_that_is_wrong() {
        for text in ["", "a", "1,,2", "1-", "1-2+", "1-2/3", "1--2", "0x10", "1.5", "+1"] {
            assert!(matches!(list(text), Err(ListError::Syntax { .. })), "{text}");
        }
        assert!(matches!(list("1-8+0"), Err(ListError::Endless { .. })));
        assert!(matches!(list("0-8*2"), Err(ListError::Endless { .. })));
        assert!(matches!(list("8-1"), Err(ListError::Empty { .. })));
        assert_eq!(list("1-1000000000"), Err(ListError::TooMany));
        assert_eq!("-1".parse::<Numbers<u32>>(), Err(ListError::OutOfRange { value: -1 }));
        let huge = "9223372036854775807-9223372036854775807";
        assert!(matches!(list(huge), Err(ListError::OutOfRange { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_run_for_ever(text in "[-+*,0-9 ]{0,24}") {
            let _ = list(&text);
        }
    }
}
