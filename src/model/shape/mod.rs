//! Shapes: networks whose weights are generated, so that what a model takes is measured before it is downloaded.
//!
//! `written.rs` is what stands behind `shape:`, `catalogue/` has public models by name, `families.toml` what each
//! architecture consists of, `dimensions.rs` makes keys and tensors of both. All that comes of a shape here is the header
//! of an F16 file without data; `quantize::generate` makes files of it.

mod catalogue;
mod dimensions;
mod vocabulary;
mod written;

pub use catalogue::{Entry, entries};
pub use dimensions::Dimensions;
pub use written::{Shape, ShapeOf};

use super::cache::{Cache, CacheError, of_bytes};
use super::gguf::{GgmlType, Header, RawKey, Tensor, header_bytes, laid_out};
use std::path::PathBuf;

/// The key that says that a file's weights are generated, and the version of how.
pub const SHAPE_KEY: &str = "quantbench.shape";

/// Changes with what is generated, so that the cache serves nothing that an earlier version made.
const VERSION: u32 = 1;

/// Keys of a file that are not those of its shape.
const DROPPED: [&str; 10] = [
    SHAPE_KEY,
    "general.alignment",
    "general.file_type",
    "quantize.imatrix.file",
    "quantize.imatrix.dataset",
    "quantize.imatrix.entries_count",
    "quantize.imatrix.chunks_count",
    "split.no",
    "split.count",
    "split.tensors.count",
];

/// The header of a shape, in F16.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    header: Vec<u8>,
    /// Bytes of the whole file.
    file_bytes: u64,
}

/// The files of a shape in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeFiles {
    /// Its header alone: what files are generated from, here or on another machine.
    pub header: PathBuf,
    /// SHA-256 of it, hex.
    pub checksum: String,
    /// The same with the length that the F16 file would have and no data: what is looked at.
    pub whole: PathBuf,
}

impl Template {
    /// # Errors
    /// A tensor cannot be, in words.
    fn new(
        mut keys: Vec<RawKey>,
        tensors: impl Iterator<Item = (String, Vec<u64>, GgmlType)>,
    ) -> Result<Self, String> {
        let tensors = laid_out(tensors)?;
        keys.retain(|key| !DROPPED.contains(&key.name.as_str()));
        keys.push(RawKey::u32("general.file_type", 1));
        keys.push(RawKey::u32(SHAPE_KEY, VERSION));
        let header = header_bytes(&keys, &tensors);
        let data = tensors.last().map_or(0, |last| last.offset.saturating_add(last.bytes));
        let file_bytes = data.saturating_add(header.len() as u64);
        Ok(Self { header, file_bytes })
    }

    /// The shape of a model by its header, whatever its weights are stored as.
    ///
    /// # Errors
    /// A tensor cannot be, in words.
    pub fn of_header(header: &Header, keys: Vec<RawKey>) -> Result<Self, String> {
        let format = |tensor: &Tensor| match tensor.format.name() {
            "F32" | "F16" | "BF16" => tensor.format,
            _ => GgmlType::F16,
        };
        let tensors = header.tensors.iter();
        Self::new(keys, tensors.map(|it| (it.name.clone(), it.dimensions.clone(), format(it))))
    }

    /// The header, as the file begins with.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Its files, written if they are not there.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn in_cache(&self, cache: &Cache) -> Result<ShapeFiles, CacheError> {
        let checksum = of_bytes(&self.header);
        let place = |extension: &str| cache.shapes().join(format!("{checksum}.{extension}"));
        let (header, whole) = (place("header"), place("gguf"));
        for (path, length) in [(&header, self.header.len() as u64), (&whole, self.file_bytes)] {
            if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) != length {
                cache.write_long(path, &self.header, length)?;
            }
        }
        Ok(ShapeFiles { header, checksum, whole })
    }
}
