//! Nodes and weights of a graph under construction.

use super::weight::{Form, Weight};
use crate::onnx::CONTRIB;
use crate::onnx::proto::{
    Attribute, AttributeKind, Dimension, Element, Graph, Node, Shape, Tensor, TensorKind,
    ValueInfo, ValueKind,
};
use std::collections::HashMap;

/// `MatMulNBits`'s `accuracy_level` that is asked for: activations are rounded to 8 bits in blocks of 32, as llama.cpp does it.
const ACCURACY_LEVEL: i64 = 4;

/// A parameter of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parameter {
    Int(i64),
    Float(f32),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
    /// In the order in which they are written.
    pub(super) weights: Vec<Weight>,
    /// What was made of values that several nodes need, by what it is and the value.
    shared: HashMap<(&'static str, String), String>,
}

impl Builder {
    /// Adds a node of one output, which has its name.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        parameters: &[(&str, Parameter)],
    ) -> String {
        self.wide(op, name, inputs, &[name], parameters);
        name.to_owned()
    }

    /// Adds a node; its operator is ONNX Runtime's own if ONNX has none of that name.
    pub(super) fn wide(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        parameters: &[(&str, Parameter)],
    ) {
        let is_contrib = matches!(
            op,
            "MatMulNBits"
                | "GatherBlockQuantized"
                | "FusedMatMul"
                | "RotaryEmbedding"
                | "GroupQueryAttention"
                | "SkipSimplifiedLayerNormalization"
                | "MultiHeadAttention"
                | "BiasGelu"
                | "SkipLayerNormalization"
        );
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.nodes.push(Node {
            input: owned(inputs),
            output: owned(outputs),
            name: format!("{name}/{op}"),
            op_type: op.to_owned(),
            attribute: parameters.iter().map(|&(name, value)| attribute(name, value)).collect(),
            domain: if is_contrib { CONTRIB.to_owned() } else { String::new() },
        });
    }

    /// A small constant of whole numbers; a scalar without dimensions.
    pub(super) fn constant(&mut self, name: &str, values: &[i64], dims: &[i64]) -> String {
        self.data(name, Element::Int64, dims, bytemuck::cast_slice(values))
    }

    /// A small constant, little-endian.
    pub(super) fn data(&mut self, name: &str, kind: Element, dims: &[i64], bytes: &[u8]) -> String {
        if !self.constants.iter().any(|constant| constant.name == name) {
            self.constants.push(Tensor {
                name: name.to_owned(),
                dims: dims.to_vec(),
                data_type: kind.into(),
                raw_data: Some(bytes.to_vec()),
                ..Tensor::default()
            });
        }
        name.to_owned()
    }

    /// Adds a weight and returns its name.
    pub(super) fn weight(&mut self, weight: Weight) -> String {
        let name = weight.name.clone();
        if !self.weights.iter().any(|it| it.name == name) {
            self.weights.push(weight);
        }
        name
    }

    /// Multiplies a value with a matrix.
    pub(super) fn linear(&mut self, output: &str, input: &str, weight: Weight) -> String {
        let (rows, columns) = (int(weight.rows), int(weight.columns));
        let form = weight.form;
        let name = self.weight(weight);
        match form {
            Form::Vector(_) | Form::Transposed(_) => {
                self.node("MatMul", output, &[input, &name], &[])
            }
            Form::Table(_) => {
                let transposed = [("transB", Parameter::Int(1))];
                self.node("FusedMatMul", output, &[input, &name], &transposed)
            }
            Form::Blocks(form) => {
                let mut scales = format!("{name}_scales");
                if form.is_table {
                    let flat = self.constant("flat", &[-1], &[1]);
                    let name = format!("{scales}/flat");
                    scales = self.node("Reshape", &name, &[&scales, &flat], &[]);
                }
                let zero_points = format!("{name}_zero_points");
                let mut inputs = vec![input, &name, &scales];
                if form.zero_points.is_some() {
                    inputs.push(&zero_points);
                }
                let parameters = [
                    ("K", Parameter::Int(columns)),
                    ("N", Parameter::Int(rows)),
                    ("bits", Parameter::Int(form.bits.into())),
                    ("block_size", Parameter::Int(int(form.block))),
                    ("accuracy_level", Parameter::Int(ACCURACY_LEVEL)),
                ];
                self.node("MatMulNBits", output, &inputs, &parameters)
            }
            Form::Dynamic => self.dynamic(output, input, &name),
        }
    }

    /// Multiplies whole numbers: the input is rounded by its own range, once for all its matrices.
    fn dynamic(&mut self, output: &str, input: &str, weight: &str) -> String {
        let [rounded, scale, zero_point] =
            ["rounded", "scale", "zero_point"].map(|part| format!("{input}/{part}"));
        if self.shared.insert(("rounded", input.to_owned()), rounded.clone()).is_none() {
            let outputs = [rounded.as_str(), &scale, &zero_point];
            self.wide("DynamicQuantizeLinear", &rounded, &[input], &outputs, &[]);
        }
        let whole = format!("{output}/whole");
        self.node("MatMulInteger", &whole, &[&rounded, weight, &zero_point], &[]);
        let cast = self.cast(&whole, Element::Float);
        let both = format!("{output}/scale");
        self.node("Mul", &both, &[&scale, &format!("{weight}_scale")], &[]);
        self.node("Mul", output, &[&cast, &both], &[])
    }

    /// Takes rows from a table.
    pub(super) fn rows(&mut self, output: &str, indices: &str, table: Weight) -> String {
        let form = table.form;
        let columns = int(table.columns);
        let name = self.weight(table);
        let Form::Blocks(form) = form else {
            return self.node("Gather", output, &[&name, indices], &[]);
        };
        let blocks = format!("{output}/blocks");
        let parameters = [
            ("bits", Parameter::Int(form.bits.into())),
            ("block_size", Parameter::Int(int(form.block))),
            ("gather_axis", Parameter::Int(0)),
            ("quantize_axis", Parameter::Int(2)),
        ];
        let inputs = [name.as_str(), indices, &format!("{name}_scales")];
        self.node("GatherBlockQuantized", &blocks, &inputs, &parameters);
        // Batch and sequence stay as they are.
        let shape = self.constant("stream_shape", &[0, 0, columns], &[3]);
        self.node("Reshape", output, &[&blocks, &shape], &[])
    }

    /// A value as another type.
    pub(super) fn cast(&mut self, input: &str, to: Element) -> String {
        let name = format!("{input}/{}", if to == Element::Float { "float" } else { "cast" });
        let code = Parameter::Int(i64::from(i32::from(to)));
        self.node("Cast", &name, &[input], &[("to", code)])
    }

    /// The graph, without its weights.
    pub(super) fn finish(
        self,
        input: Vec<ValueInfo>,
        output: Vec<ValueInfo>,
    ) -> (Graph, Vec<Weight>) {
        let name = "model".to_owned();
        let graph = Graph { node: self.nodes, name, initializer: self.constants, input, output };
        (graph, self.weights)
    }
}

fn attribute(name: &str, value: Parameter) -> Attribute {
    let attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    match value {
        Parameter::Int(value) => {
            Attribute { i: Some(value), kind: AttributeKind::Int.into(), ..attribute }
        }
        Parameter::Float(value) => {
            Attribute { f: Some(value), kind: AttributeKind::Float.into(), ..attribute }
        }
    }
}

/// A length of a shape.
#[derive(Clone, Copy)]
pub(super) enum Axis<'a> {
    Fixed(usize),
    Named(&'a str),
}

/// What goes into a graph or comes out.
pub(super) fn value(name: &str, element: Element, axes: &[Axis<'_>]) -> ValueInfo {
    let dim = |axis: &Axis<'_>| match axis {
        Axis::Fixed(length) => Dimension { fixed: Some(int(*length)), named: None },
        Axis::Named(name) => Dimension { fixed: None, named: Some((*name).to_owned()) },
    };
    let shape = Some(Shape { dim: axes.iter().map(dim).collect() });
    let tensor = Some(TensorKind { element: element.into(), shape });
    ValueInfo { name: name.to_owned(), kind: Some(ValueKind { tensor }) }
}

/// A length as ONNX counts.
pub(super) fn int(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
