//! The graph of an encoder, with the inputs and outputs of optimum's layout: a vector for every token.
//!
//! Attention, the activation and norms are ONNX Runtime's own operators (`MultiHeadAttention`, `BiasGelu`,
//! `SkipLayerNormalization`), which add biases by the way. The activation is the exact GELU that checkpoints were trained
//! with; llama.cpp computes its approximation by tanh.

use super::forms::Forms;
use super::graph::{Axis, Builder, Parameter, int, value};
use super::network::Bert;
use super::weight::{Form, Weight};
use crate::causes::Problem;
use crate::onnx::proto::{Element, Graph};

/// The graph of an encoder under construction.
pub(super) struct Encoder<'a> {
    network: &'a Bert,
    forms: &'a mut Forms,
    graph: Builder,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(network: &'a Bert, forms: &'a mut Forms) -> Self {
        Self { network, forms, graph: Builder::default() }
    }

    /// # Errors
    /// A weight would have to be rounded a second time.
    pub(super) fn build(mut self) -> Result<(Graph, Vec<Weight>), Problem> {
        let Bert { layers, segments, width, .. } = *self.network;
        let mut stream = self.embedded();
        let mask = self.graph.cast("attention_mask", Element::Int32);
        for layer in 0..layers {
            let attended = self.attention(layer, &stream, &mask)?;
            stream = self.norm(layer, "attention.output", "attn_output", &attended, &stream);
            let fed = self.feed_forward(layer, &stream)?;
            stream = self.norm(layer, "output", "ffn_down", &fed, &stream);
        }
        let output = "last_hidden_state";
        let float = [("to", Parameter::Int(i64::from(i32::from(Element::Float))))];
        self.graph.node("Cast", output, &[&stream], &float);
        let tokens = [Axis::Named("batch_size"), Axis::Named("sequence_length")];
        let mut inputs = vec!["input_ids", "attention_mask"];
        if segments > 0 {
            inputs.push("token_type_ids");
        }
        let inputs = inputs.iter().map(|name| value(name, Element::Int64, &tokens)).collect();
        let [batch, sequence] = tokens;
        let outputs = vec![value(output, Element::Float, &[batch, sequence, Axis::Fixed(width)])];
        Ok(self.graph.finish(inputs, outputs))
    }

    /// Tokens, positions and segments, added and normed.
    fn embedded(&mut self) -> String {
        let Bert { vocabulary, context, segments, width, epsilon, .. } = *self.network;
        let tensor = "token_embd.weight".to_owned();
        let form = self.forms.table(&tensor, width);
        let name = "embeddings.word_embeddings.weight".to_owned();
        let words = Weight { name, tensor, rows: vocabulary, columns: width, heads: None, form };
        let words = self.graph.rows("embeddings.words", "input_ids", words);
        let positions = self.positions();
        let element = self.forms.element();
        let mut table = |part: &str, tensor: &str, rows: usize, indices: &str| {
            let name = format!("embeddings.{part}_embeddings.weight");
            let (tensor, form) = (format!("{tensor}.weight"), Form::Table(element));
            let weight = Weight { name, tensor, rows, columns: width, heads: None, form };
            self.graph.rows(&format!("embeddings.{part}s"), indices, weight)
        };
        let positions = table("position", "position_embd", context, &positions);
        let segments =
            (segments > 0).then(|| table("token_type", "token_types", segments, "token_type_ids"));
        let add = |graph: &mut Builder, name: &str, left: &str, right: &str| {
            graph.node("Add", name, &[left, right], &[])
        };
        let mut sum = add(&mut self.graph, "embeddings.sum", &words, &positions);
        if let Some(segments) = segments {
            sum = add(&mut self.graph, "embeddings.sum_of_three", &sum, &segments);
        }
        let name = "embeddings.LayerNorm";
        let [weight, bias] = ["weight", "bias"].map(|part| {
            self.vector(format!("{name}.{part}"), format!("token_embd_norm.{part}"), width)
        });
        let parameters = [("axis", Parameter::Int(-1)), ("epsilon", Parameter::Float(epsilon))];
        self.graph.node("LayerNormalization", name, &[&sum, &weight, &bias], &parameters)
    }

    /// From 0 to the length of the texts.
    fn positions(&mut self) -> String {
        let graph = &mut self.graph;
        let shape = graph.node("Shape", "input_ids/shape", &["input_ids"], &[]);
        let [zero, one] =
            [("zero", 0), ("one", 1)].map(|(name, it)| graph.constant(name, &[it], &[]));
        let length = graph.node("Gather", "input_ids/length", &[&shape, &one], &[]);
        graph.node("Range", "positions", &[&zero, &length, &one], &[])
    }

    fn attention(&mut self, layer: usize, input: &str, mask: &str) -> Result<String, Problem> {
        let Bert { heads, width, .. } = *self.network;
        let mut projected = Vec::new();
        let mut biases = Vec::new();
        for (part, tensor) in [("query", "attn_q"), ("key", "attn_k"), ("value", "attn_v")] {
            let part = format!("attention.self.{part}");
            projected.push(self.project(layer, &part, tensor, (width, width), input)?);
            biases.push(self.bias(layer, &part, tensor, width));
        }
        let name = format!("encoder.layer.{layer}.attention.self");
        let biases: Vec<&str> = biases.iter().map(String::as_str).collect();
        let axis = [("axis", Parameter::Int(0))];
        // Joined once, when the graph is loaded.
        let bias = self.graph.node("Concat", &format!("{name}/bias"), &biases, &axis);
        let heads = [("num_heads", Parameter::Int(int(heads)))];
        let inputs = [&projected[0], &projected[1], &projected[2], bias.as_str(), mask];
        let attended = self.graph.node("MultiHeadAttention", &name, &inputs, &heads);
        self.project(layer, "attention.output.dense", "attn_output", (width, width), &attended)
    }

    fn feed_forward(&mut self, layer: usize, input: &str) -> Result<String, Problem> {
        let Bert { width, feed_forward, .. } = *self.network;
        let part = "intermediate.dense";
        let up = self.project(layer, part, "ffn_up", (feed_forward, width), input)?;
        let bias = self.bias(layer, part, "ffn_up", feed_forward);
        let active = self.graph.node("BiasGelu", &format!("{up}/gelu"), &[&up, &bias], &[]);
        self.project(layer, "output.dense", "ffn_down", (width, feed_forward), &active)
    }

    /// A norm of the stream with what a product, whose bias is missing yet, adds to it.
    fn norm(
        &mut self,
        layer: usize,
        part: &str,
        tensor: &str,
        added: &str,
        stream: &str,
    ) -> String {
        let Bert { width, epsilon, .. } = *self.network;
        let bias = self.bias(layer, &format!("{part}.dense"), tensor, width);
        let tensor = if part == "output" { "layer_output_norm" } else { "attn_output_norm" };
        let name = format!("encoder.layer.{layer}.{part}.LayerNorm");
        let [weight, shift] = ["weight", "bias"].map(|part| {
            self.vector(format!("{name}.{part}"), format!("blk.{layer}.{tensor}.{part}"), width)
        });
        let inputs = [added, stream, &weight, &shift, &bias];
        let epsilon = [("epsilon", Parameter::Float(epsilon))];
        self.graph.node("SkipLayerNormalization", &name, &inputs, &epsilon)
    }

    /// Multiplies with a matrix of a layer, rows and columns in pairs.
    fn project(
        &mut self,
        layer: usize,
        part: &str,
        tensor: &str,
        (rows, columns): (usize, usize),
        input: &str,
    ) -> Result<String, Problem> {
        let output = format!("encoder.layer.{layer}.{part}");
        let tensor = format!("blk.{layer}.{tensor}.weight");
        let form = self.forms.matrix(&tensor)?;
        let name = format!("{output}.weight");
        let weight = Weight { name, tensor, rows, columns, heads: None, form };
        Ok(self.graph.linear(&output, input, weight))
    }

    fn bias(&mut self, layer: usize, part: &str, tensor: &str, width: usize) -> String {
        let name = format!("encoder.layer.{layer}.{part}.bias");
        self.vector(name, format!("blk.{layer}.{tensor}.bias"), width)
    }

    fn vector(&mut self, name: String, tensor: String, columns: usize) -> String {
        let form = Form::Vector(self.forms.element());
        self.graph.weight(Weight { name, tensor, rows: 1, columns, heads: None, form })
    }
}
