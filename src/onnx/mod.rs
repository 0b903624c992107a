//! ONNX files: the graph as data, read without its weights and written with them; knows no engine.
//!
//! `proto` has the messages, `reading` a file's graph, `external` the files that hold its weights, `storage` what it says of
//! how they are stored, `names` what its inputs and outputs are called, `writing` files whose weights come one after the other.

pub mod external;
pub mod names;
pub mod proto;
mod reading;
pub mod storage;
pub mod writing;

pub use reading::read;

use proto::{Attribute, Element, Node, Tensor};

/// The set of operators that are ONNX Runtime's own.
pub const CONTRIB: &str = "com.microsoft";

impl Element {
    /// Bits of a number; `None` for texts and what is not said.
    #[must_use]
    pub const fn bits(self) -> Option<u64> {
        Some(match self {
            Self::Undefined | Self::Text => return None,
            Self::Uint2 | Self::Int2 => 2,
            Self::Uint4 | Self::Int4 | Self::Float4e2m1 => 4,
            Self::Uint8
            | Self::Int8
            | Self::Bool
            | Self::Float8e4m3fn
            | Self::Float8e4m3fnuz
            | Self::Float8e5m2
            | Self::Float8e5m2fnuz
            | Self::Float8e8m0 => 8,
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => 16,
            Self::Float | Self::Int32 | Self::Uint32 => 32,
            Self::Double | Self::Int64 | Self::Uint64 | Self::Complex64 => 64,
            Self::Complex128 => 128,
        })
    }
}

impl Tensor {
    /// How many numbers it has; `None` if its shape is none that can be.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.dims
            .iter()
            .try_fold(1_u64, |product, &length| product.checked_mul(u64::try_from(length).ok()?))
    }

    /// Bytes of its numbers; `None` if its shape or type is none that can be.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let bits = self.elements()?.checked_mul(self.data_type().bits()?)?;
        Some(bits.div_ceil(8))
    }
}

impl Node {
    /// A parameter of it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// A whole number among its parameters.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|attribute| attribute.i)
    }
}
