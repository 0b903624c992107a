//! One layer of a model as a model of its own, fed with hidden states.
//!
//! Its file holds the layer's tensors as those of layer 0, the final norm, and a vocabulary of one token, so that
//! loading it takes the memory of one layer. The layer's inputs are kept by the sequence, so a whole calibration costs
//! as much as evaluating the text a few times, not once per layer. Uses `llama`; used by the sequence over layers.

use super::GptqError;
use crate::experiment::settings::Settings;
use crate::llama::backend::Backend;
use crate::llama::capture::{CapturingContext, Flow, NodeOutput, Sink, WeightInput};
use crate::llama::context::ContextShape;
use crate::llama::gguf_file::{GgufInput, GgufOutput, MetadataValue, TensorPlan};
use crate::llama::model::{LoadExtent, Model};
use crate::model::gguf::{GgmlType, Value};
use std::collections::HashMap;
use std::path::Path;

/// The node of a lone layer's output.
const OUTPUT: &str = "l_out-0";
/// The node of the residual stream between attention and feed-forward network.
const MIDDLE: &str = "ffn_inp-0";

/// Tensors that were made anew, by their name in the whole model.
pub type Replaced = HashMap<String, Vec<u8>>;

/// Products of a layer that have the same inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The weight matrices, by their name in the lone layer, in the order of evaluation.
    pub weights: Vec<String>,
}

/// The name that a tensor of layer `layer` has in a lone layer.
#[must_use]
pub fn lone_name(name: &str, layer: u64) -> Option<String> {
    name.strip_prefix(&format!("blk.{layer}.")).map(|rest| format!("blk.0.{rest}"))
}

/// The name that a lone layer's tensor has in the whole model.
#[must_use]
pub fn whole_name(name: &str, layer: u64) -> String {
    name.strip_prefix("blk.0.")
        .map_or_else(|| name.to_owned(), |rest| format!("blk.{layer}.{rest}"))
}

/// Writes layer `layer` of `model`, with `replaced` in place of its own tensors, as a model of one layer.
///
/// # Errors
/// When the model has keys that differ by layer, or the file cannot be written.
pub fn write(
    model: &GgufInput,
    layer: u64,
    replaced: &Replaced,
    path: &Path,
) -> Result<(), GptqError> {
    let header = model.header();
    let architecture = header.architecture();
    let own = format!("{architecture}.");
    let mut keys = model.metadata()?;
    for (key, value) in &header.metadata {
        if key.starts_with("tokenizer.") {
            keys.remove(key);
        }
        let per_layer =
            matches!(value, Value::Array { count, .. } if Some(*count) == header.layers());
        if key.starts_with(&own) && per_layer {
            return Err(GptqError::Layers { reason: format!("'{key}' differs by layer") });
        }
    }
    keys.set("tokenizer.ggml.model", MetadataValue::Text("no_vocab"))?;
    keys.set(&format!("{own}vocab_size"), MetadataValue::U32(1))?;
    keys.set(&format!("{own}block_count"), MetadataValue::U32(1))?;
    let width = header.get_own("embedding_length").and_then(Value::as_count).unwrap_or(0);
    let format = GgmlType::from_name("F32").ok_or(GptqError::NoEmbedding)?;
    let embedding =
        TensorPlan { name: "token_embd.weight".to_owned(), dimensions: vec![width, 1], format };
    let zeros = vec![0; usize::try_from(embedding.bytes()?).unwrap_or(0)];
    let mut plans = vec![embedding];
    let mut sources = Vec::new();
    for tensor in model.tensors() {
        let name = &tensor.entry.name;
        let kept = lone_name(name, layer).or_else(|| {
            let shared = !name.starts_with("blk.")
                && !matches!(name.as_str(), "token_embd.weight" | "output.weight");
            shared.then(|| name.clone())
        });
        let Some(kept) = kept else { continue };
        plans.push(TensorPlan { name: kept, ..TensorPlan::from(&tensor.entry) });
        sources.push(replaced.get(name).map_or_else(|| model.bytes(tensor), Vec::as_slice));
    }
    let mut output = GgufOutput::create(path, &keys, &plans)?;
    output.write_tensor(&plans[0].name, &zeros)?;
    for (plan, source) in plans[1..].iter().zip(sources) {
        output.write_tensor(&plan.name, source)?;
    }
    Ok(output.finish()?)
}

/// What is to be seen of a layer.
#[derive(Debug, Default)]
pub struct Look {
    /// Inputs of the product with this weight matrix.
    pub inputs_of: Option<String>,
    /// The residual stream in the middle.
    pub middle: bool,
    /// The layer's output.
    pub output: bool,
}

/// What was seen of a layer.
#[derive(Debug, Default)]
pub struct Seen {
    /// Inputs of the product that was asked for, `[tokens, width]`.
    pub inputs: Vec<f32>,
    /// The residual stream in the middle, `[tokens, width]`.
    pub middle: Vec<f32>,
    /// The layer's output, `[tokens, width]`.
    pub output: Vec<f32>,
    /// Weight matrices and the names of their inputs, in order.
    products: Vec<(String, String)>,
}

/// Looks at a layer.
#[derive(Debug, Default)]
struct Watcher {
    look: Look,
    list: bool,
    seen: Seen,
}

impl Sink for Watcher {
    fn wants_weight(&mut self, weight: &str) -> bool {
        let listed = self.list && weight.starts_with("blk.0.");
        let asked = self.look.inputs_of.as_deref() == Some(weight);
        listed || asked
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        if self.list {
            // Experts' matrices see different tokens each.
            if input.matrices == 1 {
                self.seen.products.push((input.weight.to_owned(), input.input.to_owned()));
            }
            return Flow::Continue;
        }
        self.seen.inputs.clear();
        self.seen.inputs.extend_from_slice(input.rows);
        // Nothing behind the only thing asked for is needed; the middle lies before it.
        if self.look.output { Flow::Continue } else { Flow::Stop }
    }

    fn wants_node(&mut self, name: &str) -> bool {
        (self.look.middle && name == MIDDLE) || (self.look.output && name == OUTPUT)
    }

    fn node_output(&mut self, output: &NodeOutput<'_>) -> Flow {
        let seen = &mut self.seen;
        let place = if output.name == OUTPUT { &mut seen.output } else { &mut seen.middle };
        place.clear();
        place.extend_from_slice(output.rows);
        Flow::Continue
    }
}

/// Loads a lone layer. Its weights are read, not mapped: the file is written anew while they are in use.
///
/// # Errors
/// When llama.cpp cannot load it.
pub fn load(backend: Backend, path: &Path) -> Result<Model, GptqError> {
    let settings = Settings { mmap: false, gpu_layers: 0, ..Settings::default() };
    Ok(Model::load(backend, path, &settings, LoadExtent::Everything)?)
}

/// A lone layer being evaluated.
#[derive(Debug)]
pub struct Layer<'model> {
    context: CapturingContext<'model>,
    watcher: Watcher,
}

impl<'model> Layer<'model> {
    /// For texts of up to `context` tokens.
    ///
    /// # Errors
    /// When there is no memory for the context.
    pub fn new(model: &'model Model, context: u32, threads: u32) -> Result<Self, GptqError> {
        let settings = Settings { threads: Some(threads), gpu_layers: 0, ..Settings::default() };
        let shape = ContextShape { tokens: context, sequences: 1, batch: context, ubatch: context };
        let context = CapturingContext::new(model, &settings, shape)?;
        Ok(Self { context, watcher: Watcher::default() })
    }

    /// Evaluates hidden states of one text, `[tokens, width]`.
    ///
    /// # Errors
    /// When llama.cpp cannot, or what was asked for does not exist or is no plain rows.
    pub fn look(&mut self, hidden: &[f32], look: Look) -> Result<&Seen, GptqError> {
        self.watcher.look = look;
        self.watcher.seen.inputs.clear();
        self.watcher.seen.middle.clear();
        self.watcher.seen.output.clear();
        self.context.evaluate_hidden(hidden, &mut self.watcher)?;
        let Watcher { look, seen, .. } = &self.watcher;
        let missing = [
            (look.inputs_of.is_some() && seen.inputs.is_empty(), look.inputs_of.as_deref()),
            (look.middle && seen.middle.is_empty(), Some(MIDDLE)),
            (look.output && seen.output.len() != hidden.len(), Some(OUTPUT)),
        ];
        match missing.into_iter().find(|(missing, _)| *missing) {
            Some((_, name)) => Err(GptqError::Layers {
                reason: format!("{} was not computed", name.unwrap_or_default()),
            }),
            None => Ok(seen),
        }
    }

    /// The layer's products in their order, those with the same inputs together.
    ///
    /// # Errors
    /// When llama.cpp cannot evaluate the layer.
    pub fn stages(&mut self, hidden: &[f32]) -> Result<Vec<Stage>, GptqError> {
        self.watcher.list = true;
        self.watcher.seen.products.clear();
        let result = self.look(hidden, Look::default()).map(|seen| seen.products.clone());
        self.watcher.list = false;
        let mut stages: Vec<(String, Stage)> = Vec::new();
        for (weight, identity) in result? {
            match stages.last_mut() {
                Some((last, stage)) if *last == identity => stage.weights.push(weight),
                _ => stages.push((identity, Stage { weights: vec![weight] })),
            }
        }
        Ok(stages.into_iter().map(|(_, stage)| stage).collect())
    }
}
