//! Headers without data: read from what is cut off behind them, and written.

use super::cursor::Cursor;
use super::error::GgufError;
use super::{DEFAULT_ALIGNMENT, GgmlType, Header, Tensor, ValueKind, size};
use crate::causes::Problem;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Most that is read of a file for its header, bytes: vocabularies of 260,000 tokens take 12 MiB.
pub const LONGEST_HEADER: u64 = 64 << 20;

/// The version of GGUF that is written.
const VERSION: u32 = 3;

/// A metadata key as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawKey {
    /// The key.
    pub name: String,
    /// Its length, itself, the kind of its value and the value.
    bytes: Vec<u8>,
}

/// A text with its length, as a file has it.
fn text_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl RawKey {
    fn new(name: &str, kind: ValueKind, value: &[u8]) -> Self {
        let bytes = [&text_bytes(name), &(kind as u32).to_le_bytes()[..], value].concat();
        Self { name: name.to_owned(), bytes }
    }

    /// A key with a number.
    pub fn u32(name: &str, value: u32) -> Self {
        Self::new(name, ValueKind::U32, &value.to_le_bytes())
    }

    /// A key with a floating point number.
    pub fn f32(name: &str, value: f32) -> Self {
        Self::new(name, ValueKind::F32, &value.to_le_bytes())
    }

    /// A key that is true or false.
    pub fn bool(name: &str, value: bool) -> Self {
        Self::new(name, ValueKind::Bool, &[u8::from(value)])
    }

    /// A key with a text.
    pub fn text(name: &str, value: &str) -> Self {
        Self::new(name, ValueKind::String, &text_bytes(value))
    }

    fn array<T>(name: &str, kind: ValueKind, values: &[T], bytes: impl Fn(&T) -> Vec<u8>) -> Self {
        let mut value = (kind as u32).to_le_bytes().to_vec();
        value.extend((values.len() as u64).to_le_bytes());
        value.extend(values.iter().flat_map(bytes));
        Self::new(name, ValueKind::Array, &value)
    }

    /// A key with several texts.
    pub fn texts(name: &str, values: &[String]) -> Self {
        Self::array(name, ValueKind::String, values, |text| text_bytes(text))
    }

    /// A key with several numbers.
    pub fn i32s(name: &str, values: &[i32]) -> Self {
        Self::array(name, ValueKind::I32, values, |number| number.to_le_bytes().to_vec())
    }

    /// A key with several floating point numbers.
    pub fn f32s(name: &str, values: &[f32]) -> Self {
        Self::array(name, ValueKind::F32, values, |number| number.to_le_bytes().to_vec())
    }
}

/// Keeps a copy of what is read.
struct Tee<R> {
    inner: R,
    kept: Arc<Mutex<Vec<u8>>>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl Header {
    /// Reads the header of a file that may be cut off behind it, and its keys as they stand there. Its
    /// `file_bytes` are those of the whole file. Other parts of a split model are not looked for.
    ///
    /// # Errors
    /// As for [`Header::read`].
    pub fn read_beginning(path: &Path) -> Result<(Self, Vec<RawKey>), GgufError> {
        // For its message: what is no GGUF is told as everywhere.
        let bytes = Cursor::open(path)?.file_bytes;
        let file = File::open(path);
        let file = file.map_err(|source| {
            Problem::because(format!("cannot read {}", path.display()), source)
        })?;
        Self::read_raw(path, bytes, file)
    }

    /// As [`Header::read_beginning`], of a file that lies elsewhere, which has so many bytes.
    ///
    /// # Errors
    /// As for [`Header::read`].
    pub fn read_raw(
        path: &Path,
        file_bytes: u64,
        stream: impl Read + Send + 'static,
    ) -> Result<(Self, Vec<RawKey>), GgufError> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let tee = Tee { inner: stream.take(LONGEST_HEADER), kept: Arc::clone(&kept) };
        let mut cursor = Cursor::of_stream(path, file_bytes.min(LONGEST_HEADER), tee);
        let (mut header, places) = Self::read_entries(&mut cursor)?;
        header.file_bytes = u64::MAX;
        header.check_data(&cursor)?;
        let ends = header.tensors.iter().map(|it| it.offset.saturating_add(it.bytes));
        let data = cursor.offset.next_multiple_of(DEFAULT_ALIGNMENT);
        header.file_bytes = data.saturating_add(ends.max().unwrap_or(0));
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let within = |place: &Range<u64>| {
            let [start, end] = [place.start, place.end].map(|it| usize::try_from(it).ok());
            kept.get(start?..end?).map(<[u8]>::to_vec)
        };
        let keys = header.metadata.iter().zip(&places).filter_map(|((name, _), place)| {
            Some(RawKey { name: name.clone(), bytes: within(place)? })
        });
        let keys = keys.collect();
        Ok((header, keys))
    }
}

/// Tensors one after the other, each where it lies in a file.
///
/// # Errors
/// A tensor cannot be, in words.
pub fn laid_out(
    tensors: impl Iterator<Item = (String, Vec<u64>, GgmlType)>,
) -> Result<Vec<Tensor>, String> {
    let mut offset = 0_u64;
    let tensors = tensors.map(|(name, dimensions, format)| {
        let (weights, bytes) =
            size(format, &dimensions).map_err(|problem| format!("tensor '{name}' {problem}"))?;
        let tensor = Tensor { name, format, dimensions, offset, weights, bytes };
        let end =
            offset.checked_add(bytes).and_then(|it| it.checked_next_multiple_of(DEFAULT_ALIGNMENT));
        offset = end.ok_or("the tensors are larger than any file")?;
        Ok(tensor)
    });
    tensors.collect()
}

/// What a file with these keys and tensors begins with, padded up to its data.
pub fn header_bytes(keys: &[RawKey], tensors: &[Tensor]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    bytes.extend(keys.iter().flat_map(|key| &key.bytes));
    for tensor in tensors {
        bytes.extend(text_bytes(&tensor.name));
        bytes.extend(u32::try_from(tensor.dimensions.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(tensor.dimensions.iter().flat_map(|it| it.to_le_bytes()));
        bytes.extend(tensor.format.number().to_le_bytes());
        bytes.extend(tensor.offset.to_le_bytes());
    }
    let alignment = usize::try_from(DEFAULT_ALIGNMENT).unwrap_or(1);
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes
}
