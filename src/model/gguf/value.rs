//! Metadata values of a GGUF.

use super::cursor::Cursor;
use super::error::GgufError;
use std::fmt;

/// Numbers that are kept of an array: enough for one per layer of any model.
const KEPT_NUMBERS: u64 = 1024;

/// Strings that are kept of an array: enough to see what kind of vocabulary it is.
const KEPT_STRINGS: u64 = 8;

/// More than the tokens or merges of any vocabulary. ggml accepts a thousand million, and takes four
/// times the memory that empty ones have in the file.
const MOST_STRINGS: u64 = 1 << 22;

/// More tokens than any vocabulary has.
const MOST_TOKENS: u64 = 1 << 22;

/// The type of a metadata value, by GGUF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::FromRepr)]
#[repr(u32)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "GGUF's own names")]
pub enum ValueKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    #[strum(serialize = "str")]
    String,
    #[strum(serialize = "arr")]
    Array,
    U64,
    I64,
    F64,
}

impl ValueKind {
    /// Bytes of a value; `None` where that depends on the value.
    fn bytes(self) -> Option<u64> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::String | Self::Array => return None,
        })
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned number.
    Unsigned(u64),
    /// Any signed number.
    Signed(i64),
    /// Any floating point number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text; very long ones are cut.
    Text(String),
    /// Several values of one type.
    Array {
        /// The type of the elements.
        kind: ValueKind,
        /// How many the file has.
        count: u64,
        /// The first of them: up to 1,024 numbers or 8 strings.
        first: Vec<Value>,
    },
}

impl Value {
    /// The value as a number that counts something.
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Reads the value of `key`: its type, then itself.
    pub(super) fn read(cursor: &mut Cursor, key: &str) -> Result<Self, GgufError> {
        let key = &format!("'{key}'");
        let kind = read_kind(cursor, key)?;
        if kind != ValueKind::Array {
            return Self::read_one(cursor, kind, key);
        }
        let kind = read_kind(cursor, key)?;
        let (most, kept, least_bytes) = match (kind, kind.bytes()) {
            (_, Some(bytes)) => (u64::MAX, KEPT_NUMBERS, bytes),
            (ValueKind::String, None) => (MOST_STRINGS, KEPT_STRINGS, 8),
            (_, None) => return Err(array_of_arrays(cursor, key)),
        };
        let count = cursor.count(most, least_bytes, key)?;
        let kept = count.min(kept);
        let first: Vec<Self> =
            (0..kept).map(|_| Self::read_one(cursor, kind, key)).collect::<Result<_, _>>()?;
        match kind.bytes() {
            Some(bytes) => cursor.skip((count - kept).saturating_mul(bytes), key)?,
            None => {
                for _ in kept..count {
                    cursor.skip_text(key)?;
                }
            }
        }
        Ok(Self::Array { kind, count, first })
    }

    /// Reads an array of texts whole: the tokens of a vocabulary.
    pub(super) fn read_texts(cursor: &mut Cursor, key: &str) -> Result<Vec<String>, GgufError> {
        let (kind, count) = Self::read_array_start(cursor, key, 8)?;
        if kind != ValueKind::String {
            return Err(not_of(cursor, key, "texts"));
        }
        (0..count).map(|_| cursor.text(key)).collect()
    }

    /// Reads an array of whole numbers whole; one below 0 is no count and read as 0.
    pub(super) fn read_counts(cursor: &mut Cursor, key: &str) -> Result<Vec<u64>, GgufError> {
        let (kind, count) = Self::read_array_start(cursor, key, 1)?;
        if matches!(kind, ValueKind::String | ValueKind::Array) {
            return Err(not_of(cursor, key, "numbers"));
        }
        (0..count).map(|_| Ok(Self::read_one(cursor, kind, key)?.as_count().unwrap_or(0))).collect()
    }

    fn read_array_start(
        cursor: &mut Cursor,
        key: &str,
        least_bytes: u64,
    ) -> Result<(ValueKind, u64), GgufError> {
        if read_kind(cursor, key)? != ValueKind::Array {
            return Err(not_of(cursor, key, "several values"));
        }
        let kind = read_kind(cursor, key)?;
        Ok((kind, cursor.count(MOST_TOKENS, least_bytes, key)?))
    }

    fn read_one(cursor: &mut Cursor, kind: ValueKind, key: &str) -> Result<Self, GgufError> {
        Ok(match kind {
            ValueKind::U8 => Self::Unsigned(u8::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::I8 => Self::Signed(i8::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::U16 => Self::Unsigned(u16::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::I16 => Self::Signed(i16::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::U32 => Self::Unsigned(u32::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::I32 => Self::Signed(i32::from_le_bytes(cursor.bytes(key)?).into()),
            ValueKind::U64 => Self::Unsigned(u64::from_le_bytes(cursor.bytes(key)?)),
            ValueKind::I64 => Self::Signed(i64::from_le_bytes(cursor.bytes(key)?)),
            ValueKind::F32 => Self::Float(shortest(f32::from_le_bytes(cursor.bytes(key)?))),
            ValueKind::F64 => Self::Float(f64::from_le_bytes(cursor.bytes(key)?)),
            ValueKind::Bool => Self::Bool(cursor.bytes::<1>(key)? != [0]),
            ValueKind::String => Self::Text(cursor.text(key)?),
            ValueKind::Array => return Err(array_of_arrays(cursor, key)),
        })
    }
}

fn not_of(cursor: &Cursor, key: &str, what: &str) -> GgufError {
    cursor.inconsistent(&format!("'{key}' is no array of {what}"))
}

fn array_of_arrays(cursor: &Cursor, key: &str) -> GgufError {
    cursor.inconsistent(&format!("{key} is an array of arrays"))
}

/// The number a person wrote: 0.00001, not the 0.000009999999747378752 that its `f32` stands for.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

fn read_kind(cursor: &mut Cursor, key: &str) -> Result<ValueKind, GgufError> {
    let offset = cursor.offset;
    let code = cursor.u32(key)?;
    ValueKind::from_repr(code).ok_or_else(|| cursor.unknown_type(key, offset, code))
}

impl fmt::Display for Value {
    /// The value as a reader wants to see it; an array by its first elements and their number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(formatter, "{value}"),
            Self::Signed(value) => write!(formatter, "{value}"),
            Self::Float(value) => write!(formatter, "{value}"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Text(text) => write!(formatter, "{text}"),
            Self::Array { kind, count, first } => {
                let shown: Vec<String> = first.iter().take(4).map(ToString::to_string).collect();
                let more = if *count > shown.len() as u64 { ", …" } else { "" };
                write!(formatter, "[{}{more}] ({count} {kind})", shown.join(", "))
            }
        }
    }
}
