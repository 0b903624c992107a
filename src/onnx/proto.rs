//! The messages of an ONNX file, with the fields that are read or written here.
//!
//! Names and numbers: onnx.proto of ONNX 1.19. A field that ONNX tells present from zero is an `Option`.

use prost::{Enumeration, Message, Oneof};

/// A file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// The version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// That program's version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// What is computed.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// The sets that operators are taken from.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// What the writer had to say.
    #[prost(message, repeated, tag = "14")]
    pub metadata: Vec<Entry>,
}

/// A set of operators; the domain of ONNX's own is empty.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Whose operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Which version of them.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A text under a name.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Nodes between inputs, weights and outputs; also the branch of a node.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// In the order in which they can be computed.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Weights and other constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What is given to it.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What it gives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// An operator with its inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of values; empty: an input that is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of values; empty: an output that nobody wants.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its parameters.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// The set that the operator is of.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A parameter of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// A whole number.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A text.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// A branch.
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Whole numbers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    /// Branches.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    /// Which of the fields holds the value.
    #[prost(enumeration = "AttributeKind", tag = "20")]
    pub kind: i32,
}

/// Which field of an attribute holds its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
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

/// An array of numbers. Its data stands in one of several fields, or in another file.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Its shape, the last dimension contiguous.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Type of the numbers, an [`Element`].
    #[prost(enumeration = "Element", tag = "2")]
    pub data_type: i32,
    /// Data of type f32.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Data of types of 32 bits and less.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Data of type i64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Data as bytes, little-endian.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    /// `location`, `offset` and `length` of the data in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// Whether the data lies in another file (1).
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
    /// Data that was left in the file when the graph was read. Not a field of ONNX: none is written.
    #[prost(message, optional, tag = "100000")]
    pub left: Option<Left>,
}

/// Where the data of a tensor lies in the file that its graph was read from.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Left {
    /// The field that it is: 4, 5, 7, 9, 10 or 11.
    #[prost(uint32, tag = "1")]
    pub field: u32,
    /// Its first byte.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
}

/// Types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
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

/// A value that goes into a graph or comes out.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub kind: Option<ValueKind>,
}

/// The type of a value; `tensor` is absent for sequences and maps.
#[derive(Clone, PartialEq, Message)]
pub struct ValueKind {
    /// Numbers of one type.
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorKind>,
}

/// Type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorKind {
    /// Type of the numbers, an [`Element`].
    #[prost(enumeration = "Element", tag = "1")]
    pub element: i32,
    /// Absent: any shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// Its dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A dimension.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Absent: any length.
    #[prost(oneof = "Length", tags = "1, 2")]
    pub length: Option<Length>,
}

/// The length of a dimension.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Length {
    /// Fixed.
    #[prost(int64, tag = "1")]
    Fixed(i64),
    /// Free, under a name.
    #[prost(string, tag = "2")]
    Named(String),
}
