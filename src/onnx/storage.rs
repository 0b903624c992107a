//! What a graph says about its weights: how each is stored, and what is rounded while it is computed.

use super::CONTRIB;
use super::proto::{Element, Graph, Model, Node, Tensor};
use crate::units::to_f64;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// How a weight is stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    /// 64 bits, floating point.
    F64,
    /// 32 bits, floating point.
    F32,
    /// 16 bits, floating point.
    F16,
    /// 16 bits, of which 8 are the exponent.
    Bf16,
    /// In blocks that have a scale each: `MatMulNBits`, `GatherBlockQuantized`, `QMoE`.
    Blocks {
        /// Bits of a weight, without its share of the scale.
        bits: u8,
        /// Weights of a block.
        block: u32,
        /// No zero points: blocks reach as far below zero as above.
        symmetric: bool,
        /// `MatMulNBits`'s `accuracy_level`: 4 rounds the activations to 8 bits, 1 is f32; 0 leaves it to the library.
        accuracy_level: u8,
    },
    /// In blocks of 4-bit floating point: `MatMulBnb4`.
    Bnb4 {
        /// Weights of a block.
        block: u32,
        /// NF4; else FP4.
        normal: bool,
    },
    /// Whole numbers, and activations are rounded to 8 bits by the range that each has: `MatMulInteger`.
    DynamicInt {
        /// Bits of a weight.
        bits: u8,
    },
    /// Whole numbers, and activations are rounded to a range that was fixed when the file was made: `QLinear`, QDQ.
    StaticInt {
        /// Bits of a weight.
        bits: u8,
    },
    /// Whole numbers that are made floating point before they are multiplied: `DequantizeLinear`.
    WeightOnlyInt {
        /// Bits of a weight.
        bits: u8,
        /// Weights that share a scale, where a row has several.
        block: Option<u32>,
    },
}

/// What a weight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A matrix that is multiplied.
    Matrix,
    /// A table that rows are taken from.
    Embedding,
    /// Of one dimension: norms, biases.
    Vector,
}

/// Weights that are stored in one way, for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How.
    pub stored: Stored,
    /// For what.
    pub role: Role,
    /// Tensors.
    pub tensors: u64,
    /// Weights.
    pub weights: u64,
    /// Bytes, with scales and zero points.
    pub bytes: u64,
}

/// How the weights of a graph are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Matrices first, by number of weights, then the rest.
    pub shares: Vec<Share>,
}

impl Storage {
    /// Reads it off a graph.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let Some(graph) = &model.graph else { return Self::default() };
        let mut finder = Finder {
            tensors: Vec::new(),
            made_from: HashMap::new(),
            found: HashMap::new(),
            rounds: Rounds::default(),
        };
        finder.rounds.look(graph);
        finder.graph(graph, &mut Vec::new());
        finder.storage()
    }

    /// How most weights of matrices are stored; `None` without weights.
    #[must_use]
    pub fn main(&self) -> Option<Stored> {
        self.shares.first().map(|share| share.stored)
    }

    /// How a graph is called by: as most weights of matrices are stored; where those are floating point and another part
    /// (1 % or more) is not, such as an embedding, as that part is. `None` without weights.
    #[must_use]
    pub fn named_by(&self) -> Option<Stored> {
        let main = self.main()?;
        let all = self.shares.iter().map(|share| share.weights).fold(0, u64::saturating_add);
        let counts = |it: &&Share| it.stored.is_quantized() && it.weights >= all.div_ceil(100);
        let part = self.shares.iter().filter(counts).max_by_key(|share| share.weights);
        Some(part.filter(|_| !main.is_quantized()).map_or(main, |share| share.stored))
    }

    /// Bits per weight over everything; `None` without weights.
    #[must_use]
    pub fn bits_per_weight(&self) -> Option<f64> {
        let sum = |get: fn(&Share) -> u64| self.shares.iter().map(get).fold(0, u64::saturating_add);
        let weights = sum(|share| share.weights);
        (weights > 0).then(|| to_f64(sum(|share| share.bytes)) * 8.0 / to_f64(weights))
    }
}

impl Stored {
    /// Whether weights are whole numbers or less than 16 bits of floating point.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        !matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Without what is said of how it is multiplied.
    const fn bits(self) -> Self {
        match self {
            Self::Blocks { bits, block, symmetric, .. } => {
                Self::Blocks { bits, block, symmetric, accuracy_level: 0 }
            }
            other => other,
        }
    }

    /// How a tensor of numbers is stored that no operator for whole numbers takes; `None` for what is no weight.
    fn plain(element: Element) -> Option<Self> {
        match element {
            Element::Double => Some(Self::F64),
            Element::Float => Some(Self::F32),
            Element::Float16 => Some(Self::F16),
            Element::Bfloat16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F64 => formatter.write_str("F64"),
            Self::F32 => formatter.write_str("F32"),
            Self::F16 => formatter.write_str("F16"),
            Self::Bf16 => formatter.write_str("BF16"),
            Self::Blocks { bits, block, symmetric, accuracy_level } => {
                let symmetry = if *symmetric { "symmetric" } else { "asymmetric" };
                write!(formatter, "INT{bits} block {block} {symmetry}")?;
                match accuracy_level {
                    0 => Ok(()),
                    level => write!(formatter, " accuracy {level}"),
                }
            }
            Self::Bnb4 { block, normal: true } => write!(formatter, "NF4 block {block}"),
            Self::Bnb4 { block, normal: false } => write!(formatter, "FP4 block {block}"),
            Self::DynamicInt { bits } => write!(formatter, "dynamic INT{bits}"),
            Self::StaticInt { bits } => write!(formatter, "static INT{bits}"),
            Self::WeightOnlyInt { bits, block: None } => write!(formatter, "INT{bits} weights"),
            Self::WeightOnlyInt { bits, block: Some(block) } => {
                write!(formatter, "INT{bits} weights block {block}")
            }
        }
    }
}

impl fmt::Display for Storage {
    /// How matrices are stored, and what of the weights is stored in another way, in per cent.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(main) = self.main() else { return formatter.write_str("no weights") };
        write!(formatter, "{main}")?;
        let all: u64 = self.shares.iter().map(|share| share.weights).fold(0, u64::saturating_add);
        let mut others: Vec<(Stored, u64)> = Vec::new();
        for share in self.shares.iter().filter(|share| share.stored.bits() != main.bits()) {
            let stored = share.stored.bits();
            match others.iter_mut().find(|(known, _)| *known == stored) {
                Some((_, weights)) => *weights = weights.saturating_add(share.weights),
                None => others.push((stored, share.weights)),
            }
        }
        for (stored, weights) in others {
            let percent = to_f64(weights) * 100.0 / to_f64(all.max(1));
            if percent >= 1.0 {
                write!(formatter, " + {percent:.0} % {stored}")?;
            }
        }
        Ok(())
    }
}

/// Whether activations are rounded anywhere.
#[derive(Debug, Default)]
struct Rounds {
    dynamically: bool,
    statically: bool,
}

impl Rounds {
    fn look(&mut self, graph: &Graph) {
        for node in &graph.node {
            self.dynamically |=
                matches!(node.op_type.as_str(), "DynamicQuantizeLinear" | "DynamicQuantizeMatMul");
            self.statically |= node.op_type == "QuantizeLinear";
            branches(node).for_each(|inner| self.look(inner));
        }
    }
}

fn branches(node: &Node) -> impl Iterator<Item = &Graph> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// A tensor that may be a weight.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    tensor: &'a Tensor,
    /// Rows are taken from it.
    is_table: bool,
    /// It belongs to another: scales and zero points.
    is_part: bool,
}

struct Finder<'a> {
    tensors: Vec<Candidate<'a>>,
    /// The tensors whose rows, or numbers as floating point, have these names.
    made_from: HashMap<&'a str, usize>,
    /// How quantized tensors are stored, with their weights and bytes, by their index.
    found: HashMap<usize, (Stored, u64, u64)>,
    rounds: Rounds,
}

/// What names mean in a graph and in those around it.
type Scopes<'a> = Vec<HashMap<&'a str, usize>>;

impl<'a> Finder<'a> {
    fn graph(&mut self, graph: &'a Graph, scopes: &mut Scopes<'a>) {
        scopes.push(HashMap::new());
        let constants = graph.node.iter().filter(|node| node.op_type == "Constant");
        let constants = constants.filter_map(|node| {
            Some((node.output.first()?.as_str(), node.attribute("value")?.t.as_ref()?))
        });
        let weights = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        for (name, tensor) in weights.chain(constants) {
            let at = self.tensors.len();
            self.tensors.push(Candidate { tensor, is_table: false, is_part: false });
            if let Some(scope) = scopes.last_mut() {
                scope.insert(name, at);
            }
        }
        for node in &graph.node {
            self.node(node, scopes);
            branches(node).for_each(|inner| self.graph(inner, scopes));
        }
        scopes.pop();
    }

    /// The tensor that a node has for an input.
    fn input(node: &Node, index: usize, scopes: &Scopes<'a>) -> Option<usize> {
        let name = node.input.get(index).filter(|name| !name.is_empty())?;
        scopes.iter().rev().find_map(|scope| scope.get(name.as_str())).copied()
    }

    /// The same, or the tensor that an input was made from.
    fn origin(&self, node: &Node, index: usize, scopes: &Scopes<'a>) -> Option<usize> {
        let made = || self.made_from.get(node.input.get(index)?.as_str()).copied();
        Self::input(node, index, scopes).or_else(made)
    }

    fn node(&mut self, node: &'a Node, scopes: &Scopes<'a>) {
        let is_contrib = node.domain == CONTRIB;
        let attribute = |name: &str, otherwise: u32| {
            node.number(name).and_then(|it| u32::try_from(it).ok()).unwrap_or(otherwise)
        };
        let bits = |otherwise| u8::try_from(attribute("bits", otherwise)).unwrap_or(0);
        let blocks = |bits: u8, zero_point: usize| Stored::Blocks {
            bits,
            block: attribute(
                "block_size",
                if node.op_type == "GatherBlockQuantized" { 128 } else { 0 },
            ),
            symmetric: node.input.get(zero_point).is_none_or(String::is_empty),
            accuracy_level: u8::try_from(attribute("accuracy_level", 0)).unwrap_or(0),
        };
        // The weight's input, its scales and zero points, and how it is stored.
        let (weight, parts, stored): (usize, &[usize], Stored) = match node.op_type.as_str() {
            "Gather" => return self.table(node, scopes),
            // Cosines and sines of positions are no weights.
            "RotaryEmbedding" if is_contrib => return self.leave_out(node, &[2, 3], scopes),
            "GroupQueryAttention" if is_contrib => return self.leave_out(node, &[7, 8], scopes),
            "MatMulNBits" if is_contrib => (1, &[2, 3, 4], blocks(bits(4), 3)),
            "GatherBlockQuantized" if is_contrib => {
                if let Some(at) = Self::input(node, 0, scopes) {
                    self.tensors[at].is_table = true;
                }
                (0, &[2, 3], blocks(bits(4), 3))
            }
            "MatMulBnb4" if is_contrib => {
                let (block, normal) = (attribute("block_size", 0), attribute("quant_type", 1) == 1);
                (1, &[2], Stored::Bnb4 { block, normal })
            }
            "MatMulInteger" | "ConvInteger" => (1, &[3], Stored::DynamicInt { bits: 8 }),
            "DynamicQuantizeMatMul" if is_contrib => (1, &[2, 3], Stored::DynamicInt { bits: 8 }),
            "MatMulIntegerToFloat" if is_contrib => (1, &[3, 5], Stored::DynamicInt { bits: 8 }),
            "QAttention" if is_contrib => (1, &[4, 7], self.rounded(8, None)),
            "QLinearMatMul" | "QLinearConv" | "QGemm" => {
                (3, &[4, 5], Stored::StaticInt { bits: 8 })
            }
            "DequantizeLinear" => return self.dequantized(node, scopes),
            "QMoE" if is_contrib => {
                let bits = u8::try_from(attribute("expert_weight_bits", 4)).unwrap_or(0);
                for (weight, scale) in [(2, 3), (5, 6), (8, 9)] {
                    let stored = blocks(bits, scale + 8);
                    let weight = Self::input(node, weight, scopes);
                    self.claim(node, weight, &[scale, scale + 8], stored, scopes);
                }
                return;
            }
            _ => return,
        };
        let weight = Self::input(node, weight, scopes);
        self.claim(node, weight, parts, stored, scopes);
    }

    /// A table of which a node takes rows: nothing is rounded for it.
    fn table(&mut self, node: &'a Node, scopes: &Scopes<'a>) {
        let Some(at) = self.origin(node, 0, scopes) else { return };
        self.tensors[at].is_table = true;
        if let Some((stored, ..)) = self.found.get_mut(&at)
            && let Stored::DynamicInt { bits } | Stored::StaticInt { bits } = *stored
        {
            *stored = Stored::WeightOnlyInt { bits, block: None };
        }
        self.made_from.extend(node.output.first().map(|name| (name.as_str(), at)));
    }

    /// Whole numbers that a node makes floating point: a weight, or rows of a table.
    fn dequantized(&mut self, node: &'a Node, scopes: &Scopes<'a>) {
        let Some(at) = self.origin(node, 0, scopes) else { return };
        let Candidate { tensor, is_table, .. } = self.tensors[at];
        let bits = tensor.data_type().bits().and_then(|bits| u8::try_from(bits).ok()).unwrap_or(8);
        let block = node.number("block_size").and_then(|it| u32::try_from(it).ok());
        let block = block.filter(|&block| block > 0);
        let stored = if is_table {
            Stored::WeightOnlyInt { bits, block }
        } else {
            self.rounded(bits, block)
        };
        self.claim(node, Some(at), &[1, 2], stored, scopes);
        self.made_from.extend(node.output.first().map(|name| (name.as_str(), at)));
    }

    /// Leaves out what a node has for some inputs.
    fn leave_out(&mut self, node: &Node, inputs: &[usize], scopes: &Scopes<'a>) {
        for &input in inputs {
            if let Some(at) = Self::input(node, input, scopes) {
                self.tensors[at].is_part = true;
            }
        }
    }

    /// How whole numbers are stored that are made floating point before use.
    fn rounded(&self, bits: u8, block: Option<u32>) -> Stored {
        if self.rounds.statically {
            Stored::StaticInt { bits }
        } else if self.rounds.dynamically && block.is_none() {
            Stored::DynamicInt { bits }
        } else {
            Stored::WeightOnlyInt { bits, block }
        }
    }

    fn claim(
        &mut self,
        node: &Node,
        weight: Option<usize>,
        parts: &[usize],
        stored: Stored,
        scopes: &Scopes<'a>,
    ) {
        let Some(weight) = weight else { return };
        let mut bytes = self.tensors[weight].tensor.bytes().unwrap_or(0);
        let bits = match stored {
            Stored::Blocks { bits, .. }
            | Stored::DynamicInt { bits }
            | Stored::StaticInt { bits }
            | Stored::WeightOnlyInt { bits, .. } => u64::from(bits.max(1)),
            _ => 4,
        };
        let dimension = |name: &str| node.number(name).and_then(|it| u64::try_from(it).ok());
        let stated = dimension("K").zip(dimension("N")).and_then(|(k, n)| k.checked_mul(n));
        // The last block of a row may be filled up.
        let weights = stated.unwrap_or_else(|| bytes.saturating_mul(8) / bits);
        if self.found.contains_key(&weight) {
            return;
        }
        for &part in parts {
            let Some(part) = Self::input(node, part, scopes) else { continue };
            if part != weight && !self.tensors[part].is_part {
                self.tensors[part].is_part = true;
                bytes = bytes.saturating_add(self.tensors[part].tensor.bytes().unwrap_or(0));
            }
        }
        self.found.insert(weight, (stored, weights, bytes));
    }

    fn storage(self) -> Storage {
        let mut shares: Vec<Share> = Vec::new();
        for (at, candidate) in self.tensors.iter().enumerate() {
            let tensor = candidate.tensor;
            let plain = || {
                let stored = Stored::plain(tensor.data_type())?;
                Some((stored, tensor.elements()?, tensor.bytes()?))
            };
            let known = self.found.get(&at).copied();
            let Some((stored, weights, bytes)) = known.or_else(plain) else { continue };
            if candidate.is_part {
                continue;
            }
            let role = match (candidate.is_table, tensor.dims.len()) {
                (true, _) => Role::Embedding,
                (false, 0 | 1) if !stored.is_quantized() => Role::Vector,
                _ => Role::Matrix,
            };
            match shares.iter_mut().find(|share| (share.stored, share.role) == (stored, role)) {
                Some(share) => {
                    share.tensors += 1;
                    share.weights = share.weights.saturating_add(weights);
                    share.bytes = share.bytes.saturating_add(bytes);
                }
                None => shares.push(Share { stored, role, tensors: 1, weights, bytes }),
            }
        }
        shares.sort_by_key(|share| (share.role, std::cmp::Reverse(share.weights)));
        Storage { shares }
    }
}

#[cfg(test)]
mod tests;
