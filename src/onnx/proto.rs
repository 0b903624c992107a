//! The messages of an ONNX file, with the fields that are read or written here.
//!
//! Names and numbers: onnx.proto of ONNX 1.19. A field that ONNX tells present from zero is an `Option`. prost's own derive
//! would do what `message` does here, and brings build dependencies that have llama.cpp compiled anew.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use strum::FromRepr;

/// Whether a value is the one that is not written.
fn is_absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A message with its fields: name, type, and how and under which number it stands in a file.
macro_rules! message {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $kind:ty = $how:ident $what:ident, $tag:literal;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$of_field])* pub $field: $kind,)*
        }

        impl Message for $name {
            fn encode_raw(&self, buffer: &mut impl BufMut) {
                $(put!(buffer, self.$field, $how $what, $tag);)*
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire: WireType,
                buffer: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                match tag {
                    $($tag => take!(wire, self.$field, buffer, context, $how $what),)*
                    _ => encoding::skip_field(wire, tag, buffer, context),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ length!(self.$field, $how $what, $tag))*
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

macro_rules! put {
    ($buffer:expr, $field:expr, one $what:ident, $tag:expr) => {
        if !is_absent(&$field) {
            encoding::$what::encode($tag, &$field, $buffer);
        }
    };
    ($buffer:expr, $field:expr, maybe $what:ident, $tag:expr) => {
        if let Some(value) = &$field {
            encoding::$what::encode($tag, value, $buffer);
        }
    };
    ($buffer:expr, $field:expr, many $what:ident, $tag:expr) => {
        encoding::$what::encode_repeated($tag, &$field, $buffer);
    };
}

macro_rules! take {
    ($wire:expr, $field:expr, $buffer:expr, $context:expr, one $what:ident) => {
        encoding::$what::merge($wire, &mut $field, $buffer, $context)
    };
    ($wire:expr, $field:expr, $buffer:expr, $context:expr, maybe $what:ident) => {
        encoding::$what::merge($wire, $field.get_or_insert_default(), $buffer, $context)
    };
    ($wire:expr, $field:expr, $buffer:expr, $context:expr, many $what:ident) => {
        encoding::$what::merge_repeated($wire, &mut $field, $buffer, $context)
    };
}

macro_rules! length {
    ($field:expr, one $what:ident, $tag:expr) => {
        if is_absent(&$field) { 0 } else { encoding::$what::encoded_len($tag, &$field) }
    };
    ($field:expr, maybe $what:ident, $tag:expr) => {
        $field.as_ref().map_or(0, |value| encoding::$what::encoded_len($tag, value))
    };
    ($field:expr, many $what:ident, $tag:expr) => {
        encoding::$what::encoded_len_repeated($tag, &$field)
    };
}

message! {
    /// A file.
    pub struct Model {
        /// The version of the format.
        pub ir_version: i64 = one int64, 1;
        /// The program that wrote it.
        pub producer_name: String = one string, 2;
        /// That program's version.
        pub producer_version: String = one string, 3;
        /// What is computed.
        pub graph: Option<Graph> = maybe message, 7;
        /// The sets that operators are taken from.
        pub opset_import: Vec<OperatorSet> = many message, 8;
        /// What the writer had to say.
        pub metadata: Vec<Entry> = many message, 14;
    }
}

message! {
    /// A set of operators; the domain of ONNX's own is empty.
    pub struct OperatorSet {
        /// Whose operators.
        pub domain: String = one string, 1;
        /// Which version of them.
        pub version: i64 = one int64, 2;
    }
}

message! {
    /// A text under a name.
    pub struct Entry {
        /// The name.
        pub key: String = one string, 1;
        /// The text.
        pub value: String = one string, 2;
    }
}

message! {
    /// Nodes between inputs, weights and outputs; also the branch of a node.
    pub struct Graph {
        /// In the order in which they can be computed.
        pub node: Vec<Node> = many message, 1;
        /// Its name.
        pub name: String = one string, 2;
        /// Weights and other constants.
        pub initializer: Vec<Tensor> = many message, 5;
        /// What is given to it.
        pub input: Vec<ValueInfo> = many message, 11;
        /// What it gives.
        pub output: Vec<ValueInfo> = many message, 12;
    }
}

message! {
    /// An operator with its inputs and outputs.
    pub struct Node {
        /// Names of values; empty: an input that is left out.
        pub input: Vec<String> = many string, 1;
        /// Names of values; empty: an output that nobody wants.
        pub output: Vec<String> = many string, 2;
        /// Its name.
        pub name: String = one string, 3;
        /// The operator.
        pub op_type: String = one string, 4;
        /// Its parameters.
        pub attribute: Vec<Attribute> = many message, 5;
        /// The set that the operator is of.
        pub domain: String = one string, 7;
    }
}

message! {
    /// A parameter of an operator.
    pub struct Attribute {
        /// Its name.
        pub name: String = one string, 1;
        /// A number.
        pub f: Option<f32> = maybe float, 2;
        /// A whole number.
        pub i: Option<i64> = maybe int64, 3;
        /// A text.
        pub s: Option<Vec<u8>> = maybe bytes, 4;
        /// A tensor.
        pub t: Option<Tensor> = maybe message, 5;
        /// A branch.
        pub g: Option<Graph> = maybe message, 6;
        /// Numbers.
        pub floats: Vec<f32> = many float, 7;
        /// Whole numbers.
        pub ints: Vec<i64> = many int64, 8;
        /// Tensors.
        pub tensors: Vec<Tensor> = many message, 10;
        /// Branches.
        pub graphs: Vec<Graph> = many message, 11;
        /// Which of the fields holds the value.
        pub kind: i32 = one int32, 20;
    }
}

/// Which field of an attribute holds its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRepr)]
#[repr(i32)]
pub enum AttributeKind {
    /// Not said.
    Undefined = 0,
    /// `f`
    Float = 1,
    /// `i`
    Int = 2,
    /// `s`
    Text = 3,
    /// `t`
    Tensor = 4,
    /// `g`
    Graph = 5,
    /// `floats`
    Floats = 6,
    /// `ints`
    Ints = 7,
}

message! {
    /// An array of numbers. Its data stands in one of several fields, or in another file.
    pub struct Tensor {
        /// Its shape, the last dimension contiguous.
        pub dims: Vec<i64> = many int64, 1;
        /// Type of the numbers, an [`Element`].
        pub data_type: i32 = one int32, 2;
        /// Data of type f32.
        pub float_data: Vec<f32> = many float, 4;
        /// Data of types of 32 bits and less.
        pub int32_data: Vec<i32> = many int32, 5;
        /// Data of type i64.
        pub int64_data: Vec<i64> = many int64, 7;
        /// Its name.
        pub name: String = one string, 8;
        /// Data as bytes, little-endian.
        pub raw_data: Option<Vec<u8>> = maybe bytes, 9;
        /// `location`, `offset` and `length` of the data in another file.
        pub external_data: Vec<Entry> = many message, 13;
        /// Whether the data lies in another file (1).
        pub data_location: Option<i32> = maybe int32, 14;
        /// Data that was left in the file when the graph was read. Not a field of ONNX: none is written.
        pub left: Option<Left> = maybe message, 100_000;
    }
}

message! {
    /// Where the data of a tensor lies in the file that its graph was read from.
    pub struct Left {
        /// The field that it is: 4, 5, 7, 9, 10 or 11.
        pub field: u32 = one uint32, 1;
        /// Its first byte.
        pub offset: u64 = one uint64, 2;
        /// Bytes.
        pub length: u64 = one uint64, 3;
    }
}

/// Types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromRepr)]
#[repr(i32)]
pub enum Element {
    /// Not said.
    Undefined = 0,
    /// 32 bits, floating point.
    Float = 1,
    /// 8 bits, not negative.
    Uint8 = 2,
    /// 8 bits.
    Int8 = 3,
    /// 16 bits, not negative.
    Uint16 = 4,
    /// 16 bits.
    Int16 = 5,
    /// 32 bits.
    Int32 = 6,
    /// 64 bits.
    Int64 = 7,
    /// Texts.
    Text = 8,
    /// True or false, a byte.
    Bool = 9,
    /// 16 bits, floating point.
    Float16 = 10,
    /// 64 bits, floating point.
    Double = 11,
    /// 32 bits, not negative.
    Uint32 = 12,
    /// 64 bits, not negative.
    Uint64 = 13,
    /// Pairs of 32 bits.
    Complex64 = 14,
    /// Pairs of 64 bits.
    Complex128 = 15,
    /// 16 bits, of which 8 are the exponent.
    Bfloat16 = 16,
    /// 8 bits, floating point.
    Float8e4m3fn = 17,
    /// 8 bits, floating point.
    Float8e4m3fnuz = 18,
    /// 8 bits, floating point.
    Float8e5m2 = 19,
    /// 8 bits, floating point.
    Float8e5m2fnuz = 20,
    /// 4 bits, not negative.
    Uint4 = 21,
    /// 4 bits.
    Int4 = 22,
    /// 4 bits, floating point.
    Float4e2m1 = 23,
    /// 8 bits, powers of two.
    Float8e8m0 = 24,
    /// 2 bits, not negative.
    Uint2 = 25,
    /// 2 bits.
    Int2 = 26,
}

message! {
    /// A value that goes into a graph or comes out.
    pub struct ValueInfo {
        /// Its name.
        pub name: String = one string, 1;
        /// Its type.
        pub kind: Option<ValueKind> = maybe message, 2;
    }
}

message! {
    /// The type of a value; `tensor` is absent for sequences and maps.
    pub struct ValueKind {
        /// Numbers of one type.
        pub tensor: Option<TensorKind> = maybe message, 1;
    }
}

message! {
    /// Type and shape of a tensor.
    pub struct TensorKind {
        /// Type of the numbers, an [`Element`].
        pub element: i32 = one int32, 1;
        /// Absent: any shape.
        pub shape: Option<Shape> = maybe message, 2;
    }
}

message! {
    /// A shape.
    pub struct Shape {
        /// Its dimensions.
        pub dim: Vec<Dimension> = many message, 1;
    }
}

message! {
    /// A dimension; neither: any length.
    pub struct Dimension {
        /// Its length, where that is fixed.
        pub fixed: Option<i64> = maybe int64, 1;
        /// The name of its length, where that is free.
        pub named: Option<String> = maybe string, 2;
    }
}

impl From<Element> for i32 {
    fn from(element: Element) -> Self {
        element as Self
    }
}

impl From<AttributeKind> for i32 {
    fn from(kind: AttributeKind) -> Self {
        kind as Self
    }
}

impl Tensor {
    /// Type of its numbers; `Undefined` also for one that is not known here.
    #[must_use]
    pub fn data_type(&self) -> Element {
        Element::from_repr(self.data_type).unwrap_or(Element::Undefined)
    }
}

impl TensorKind {
    /// Type of the numbers; `Undefined` also for one that is not known here.
    #[must_use]
    pub fn element(&self) -> Element {
        Element::from_repr(self.element).unwrap_or(Element::Undefined)
    }
}
