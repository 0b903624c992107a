//! The graph of a decoder, with the inputs and outputs of optimum's layout.
//!
//! Attention is ONNX Runtime's `GroupQueryAttention`, which appends to the cache by itself and can do so in place; the same
//! graph from ONNX's own operators copies the whole cache for every token. Norms are joined with the additions before
//! them (`SkipSimplifiedLayerNormalization`), but for the first one, which has none and is spelled out.

use super::forms::Forms;
use super::graph::{Axis, Builder, Parameter, int, value};
use super::network::{Llama, ROPE_FACTORS};
use super::weight::{Form, Weight};
use crate::causes::Problem;
use crate::model::gguf::Header;
use crate::onnx::proto::{Element, Graph, ValueInfo};
use crate::statistics::sample::to_f64;
use half::f16;

/// The graph of a decoder under construction.
pub(super) struct Decoder<'a> {
    network: &'a Llama,
    forms: &'a mut Forms,
    graph: Builder,
}

/// A matrix of a layer: its name there and in the GGUF.
#[derive(Clone, Copy)]
struct Matrix {
    part: &'static str,
    tensor: &'static str,
    rows: usize,
    columns: usize,
    /// In how many heads its rows come in pairs; `None`: they do not.
    heads: Option<usize>,
}

/// Values that all layers use.
struct Shared {
    lengths: String,
    total: String,
    cosines: String,
    sines: String,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(network: &'a Llama, forms: &'a mut Forms) -> Self {
        Self { network, forms, graph: Builder::default() }
    }

    /// # Errors
    /// A weight would have to be rounded a second time.
    pub(super) fn build(
        mut self,
        rope_factors: Option<&[f32]>,
    ) -> Result<(Graph, Vec<Weight>), Problem> {
        let network = self.network;
        let shared = self.shared(rope_factors);
        let table = self.embedding();
        let mut stream = self.graph.rows("embedding", "input_ids", table.clone());
        let mut normed =
            self.first_norm(&stream, "model.layers.0.input_layernorm", "blk.0.attn_norm");
        for layer in 0..network.layers {
            let attended = self.attention(layer, &normed, &shared)?;
            let name = format!("model.layers.{layer}.post_attention_layernorm");
            (normed, stream) =
                self.norm(&stream, &attended, &name, &format!("blk.{layer}.ffn_norm"));
            let fed = self.feed_forward(layer, &normed)?;
            let (name, weight) = if layer + 1 < network.layers {
                let next = layer + 1;
                (format!("model.layers.{next}.input_layernorm"), format!("blk.{next}.attn_norm"))
            } else {
                ("model.norm".to_owned(), "output_norm".to_owned())
            };
            (normed, stream) = self.norm(&stream, &fed, &name, &weight);
        }
        let output = self.output(&table)?;
        self.graph.linear("logits", &normed, output);
        let (inputs, outputs) = self.values();
        Ok(self.graph.finish(inputs, outputs))
    }

    fn values(&self) -> (Vec<ValueInfo>, Vec<ValueInfo>) {
        use Axis::{Fixed, Named};
        let network = self.network;
        let element = self.forms.element();
        let (batch, sequence) = (Named("batch_size"), Named("sequence_length"));
        let total = || [Named("batch_size"), Named("total_sequence_length")];
        let tokens = [batch, sequence];
        let logits = [Named("batch_size"), Named("sequence_length"), Fixed(network.vocabulary)];
        let cache = |length| {
            [
                Named("batch_size"),
                Fixed(network.key_value_heads),
                Named(length),
                Fixed(network.head),
            ]
        };
        let mut inputs = vec![
            value("input_ids", Element::Int64, &tokens),
            value("attention_mask", Element::Int64, &total()),
            value("position_ids", Element::Int64, &tokens),
        ];
        let mut outputs = vec![value("logits", element, &logits)];
        for layer in 0..network.layers {
            for part in ["key", "value"] {
                let past = format!("past_key_values.{layer}.{part}");
                inputs.push(value(&past, element, &cache("past_sequence_length")));
                let present = format!("present.{layer}.{part}");
                outputs.push(value(&present, element, &cache("total_sequence_length")));
            }
        }
        (inputs, outputs)
    }

    /// How long sequences are, and how positions are turned.
    fn shared(&mut self, rope_factors: Option<&[f32]>) -> Shared {
        let graph = &mut self.graph;
        let one = graph.constant("one", &[1], &[1]);
        let axis = graph.constant("last_of_two", &[1], &[1]);
        let keeps = [("keepdims", Parameter::Int(0))];
        let sum = graph.node("ReduceSum", "attention_mask/sum", &["attention_mask", &axis], &keeps);
        let last = graph.node("Sub", "attention_mask/last", &[&sum, &one], &[]);
        let lengths = graph.cast(&last, Element::Int32);
        let shape = graph.node("Shape", "attention_mask/shape", &["attention_mask"], &[]);
        let second = graph.constant("second", &[1], &[]);
        let total = graph.node("Gather", "attention_mask/length", &[&shape, &second], &[]);
        let total = graph.cast(&total, Element::Int32);
        let (cosines, sines) = turns(self.network, rope_factors);
        let dims = [int(self.network.context), int(self.network.head / 2)];
        let element = self.forms.element();
        let mut table = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> = match element {
                Element::Float16 => {
                    values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
                }
                _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            };
            graph.data(name, element, &dims, &bytes)
        };
        let (cosines, sines) = (table("cos_cache", &cosines), table("sin_cache", &sines));
        Shared { lengths, total, cosines, sines }
    }

    fn attention(&mut self, layer: usize, input: &str, shared: &Shared) -> Result<String, Problem> {
        let Llama { heads, key_value_heads, head, width, .. } = *self.network;
        let of_input =
            |part, tensor, rows, heads| Matrix { part, tensor, rows, columns: width, heads };
        let query = of_input("self_attn.q_proj", "attn_q", heads * head, Some(heads));
        let keys = key_value_heads * head;
        let key = of_input("self_attn.k_proj", "attn_k", keys, Some(key_value_heads));
        let values = of_input("self_attn.v_proj", "attn_v", keys, None);
        let query = self.project(layer, input, query)?;
        let key = self.project(layer, input, key)?;
        let values = self.project(layer, input, values)?;
        let mut turn = |input: &str, heads: usize| {
            let inputs = [input, "position_ids", &shared.cosines, &shared.sines];
            let heads = [("num_heads", Parameter::Int(int(heads)))];
            self.graph.node("RotaryEmbedding", &format!("{input}/turned"), &inputs, &heads)
        };
        let (query, key) = (turn(&query, heads), turn(&key, key_value_heads));
        let cache = |when: &str, part: &str| format!("{when}.{layer}.{part}");
        let (past_key, past_value) =
            (cache("past_key_values", "key"), cache("past_key_values", "value"));
        let (present_key, present_value) = (cache("present", "key"), cache("present", "value"));
        let attention = format!("model.layers.{layer}.self_attn.attention");
        let inputs =
            [query.as_str(), &key, &values, &past_key, &past_value, &shared.lengths, &shared.total];
        let parameters = [
            ("num_heads", Parameter::Int(int(heads))),
            ("kv_num_heads", Parameter::Int(int(key_value_heads))),
        ];
        let outputs = [attention.as_str(), &present_key, &present_value];
        self.graph.wide("GroupQueryAttention", &attention, &inputs, &outputs, &parameters);
        let (part, tensor, columns) = ("self_attn.o_proj", "attn_output", heads * head);
        let output = Matrix { part, tensor, rows: width, columns, heads: None };
        self.project(layer, &attention, output)
    }

    fn feed_forward(&mut self, layer: usize, input: &str) -> Result<String, Problem> {
        let Llama { width, feed_forward, .. } = *self.network;
        let matrix =
            |part, tensor, rows, columns| Matrix { part, tensor, rows, columns, heads: None };
        let gate = matrix("mlp.gate_proj", "ffn_gate", feed_forward, width);
        let gate = self.project(layer, input, gate)?;
        let up = matrix("mlp.up_proj", "ffn_up", feed_forward, width);
        let up = self.project(layer, input, up)?;
        // SiLU; ONNX Runtime joins the two.
        let sigmoid = self.graph.node("Sigmoid", &format!("{gate}/sigmoid"), &[&gate], &[]);
        let silu = self.graph.node("Mul", &format!("{gate}/silu"), &[&gate, &sigmoid], &[]);
        let gated = format!("model.layers.{layer}.mlp.gated");
        let gated = self.graph.node("Mul", &gated, &[&silu, &up], &[]);
        self.project(layer, &gated, matrix("mlp.down_proj", "ffn_down", width, feed_forward))
    }

    /// Multiplies with a matrix of a layer.
    fn project(&mut self, layer: usize, input: &str, matrix: Matrix) -> Result<String, Problem> {
        let Matrix { part, tensor, rows, columns, heads } = matrix;
        let output = format!("model.layers.{layer}.{part}");
        let tensor = format!("blk.{layer}.{tensor}.weight");
        let form = self.forms.matrix(&tensor)?;
        let name = format!("{output}.weight");
        let weight = Weight { name, tensor, rows, columns, heads, form };
        Ok(self.graph.linear(&output, input, weight))
    }

    /// A norm of what a layer adds to the stream: itself, and the stream then.
    fn norm(&mut self, stream: &str, added: &str, name: &str, tensor: &str) -> (String, String) {
        let weight = self.norm_weight(name, tensor);
        let sum = format!("{name}/stream");
        let epsilon = [("epsilon", Parameter::Float(self.network.epsilon))];
        let (inputs, outputs) = ([stream, added, &weight], [name, "", "", &sum]);
        // The last stream is nobody's.
        let outputs = if name == "model.norm" { &outputs[..1] } else { &outputs[..] };
        self.graph.wide("SkipSimplifiedLayerNormalization", name, &inputs, outputs, &epsilon);
        (name.to_owned(), sum)
    }

    /// A norm of what nothing was added to, in 32 bits; ONNX Runtime joins these nodes.
    fn first_norm(&mut self, stream: &str, name: &str, tensor: &str) -> String {
        let weight = self.norm_weight(name, tensor);
        let is_half = self.forms.element() == Element::Float16;
        let graph = &mut self.graph;
        let input = if is_half { graph.cast(stream, Element::Float) } else { stream.to_owned() };
        let float = |value: f32| value.to_le_bytes();
        let two = graph.data("two", Element::Float, &[], &float(2.0));
        let epsilon = graph.data("epsilon", Element::Float, &[], &float(self.network.epsilon));
        let axis = graph.constant("last_axis", &[-1], &[1]);
        let step = |part: &str| format!("{name}/{part}");
        let squares = graph.node("Pow", &step("squares"), &[&input, &two], &[]);
        let keeps = [("keepdims", Parameter::Int(1))];
        let mean = graph.node("ReduceMean", &step("mean"), &[&squares, &axis], &keeps);
        let sum = graph.node("Add", &step("sum"), &[&mean, &epsilon], &[]);
        let root = graph.node("Sqrt", &step("root"), &[&sum], &[]);
        let mut scaled = graph.node("Div", &step("scaled"), &[&input, &root], &[]);
        if is_half {
            scaled = graph.cast(&scaled, Element::Float16);
        }
        graph.node("Mul", name, &[&scaled, &weight], &[])
    }

    fn norm_weight(&mut self, name: &str, tensor: &str) -> String {
        let form = Form::Vector(self.forms.element());
        self.graph.weight(Weight {
            name: format!("{name}.weight"),
            tensor: format!("{tensor}.weight"),
            rows: 1,
            columns: self.network.width,
            heads: None,
            form,
        })
    }

    fn embedding(&mut self) -> Weight {
        let tensor = "token_embd.weight".to_owned();
        let form = self.forms.table(&tensor, self.network.width);
        let name = "model.embed_tokens.weight".to_owned();
        let Llama { vocabulary: rows, width: columns, .. } = *self.network;
        Weight { name, tensor, rows, columns, heads: None, form }
    }

    /// The output; its own weights, or the embedding's. Whole numbers of `MatMulInteger` are in another order than those
    /// that rows are taken from.
    fn output(&mut self, table: &Weight) -> Result<Weight, Problem> {
        let table = table.clone();
        if self.network.tied && !self.forms.is_dynamic() {
            return Ok(table);
        }
        let tensor = if self.network.tied { table.tensor.as_str() } else { "output.weight" };
        let form = self.forms.output(tensor)?;
        Ok(Weight { name: "lm_head.weight".to_owned(), tensor: tensor.to_owned(), form, ..table })
    }
}

/// Cosines and sines of every position, a row each.
#[expect(clippy::cast_possible_truncation, reason = "they are stored in 32 bits")]
fn turns(network: &Llama, factors: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
    let half = network.head / 2;
    let speed = |at: usize| {
        let own =
            factors.and_then(|factors| factors.get(at)).map_or(1.0, |&factor| f64::from(factor));
        let exponent = -2.0 * to_f64(at) / to_f64(network.head);
        f64::from(network.rope_base).powf(exponent) / own / f64::from(network.rope_factor)
    };
    let speeds: Vec<f64> = (0..half).map(speed).collect();
    let angles =
        (0..network.context).flat_map(|at| speeds.iter().map(move |speed| to_f64(at) * speed));
    angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
}

/// The factors of wave lengths, if the model has them.
pub(super) fn rope_factors(
    header: &Header,
    network: &Llama,
    values: impl FnOnce(&str) -> Result<Vec<f32>, Problem>,
) -> Result<Option<Vec<f32>>, Problem> {
    if !header.tensors.iter().any(|tensor| tensor.name == ROPE_FACTORS) {
        return Ok(None);
    }
    let values = values(ROPE_FACTORS)?;
    if values.len() != network.head / 2 || !values.iter().all(|value| *value > 0.0) {
        return Err(Problem::new(format!(
            "tensor '{ROPE_FACTORS}' has no {} numbers above 0",
            network.head / 2
        )));
    }
    Ok(Some(values))
}
