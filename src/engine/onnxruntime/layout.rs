//! What a graph is given and gives: its inputs and outputs by their names, types and shapes.
//!
//! Two layouts are understood: that of optimum and onnx-community, and that of onnxruntime-genai, whose names may be
//! others ([`Names`]). A graph with anything else is refused by the name of what is not known.

use crate::onnx::names::Names;
use crate::onnx::proto::{Dimension, Element, Graph, ValueInfo};
use ort::value::{TensorElementType, ValueType};

/// An input or an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// What it is called usually.
    usual: String,
    /// `None`: it is no tensor.
    pub(super) kind: Option<TensorElementType>,
    /// -1: as large as the input makes it.
    pub(super) dimensions: Vec<i64>,
}

impl Port {
    pub(super) fn input(names: &Names, name: &str, kind: &ValueType) -> Self {
        Self::of(name, &names.input(name), kind)
    }

    pub(super) fn output(names: &Names, name: &str, kind: &ValueType) -> Self {
        Self::of(name, &names.output(name), kind)
    }

    /// What a file says that its graph is given, and gives: as a session tells it, before there is one.
    pub(super) fn in_file(names: &Names, graph: &Graph) -> (Vec<Self>, Vec<Self>) {
        let is_weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        // Old files list weights among the inputs.
        let inputs = graph.input.iter().filter(|input| !is_weight(&input.name));
        let inputs = inputs.map(|input| Self::declared(input, &names.input(&input.name)));
        let outputs = graph.output.iter();
        let outputs = outputs.map(|output| Self::declared(output, &names.output(&output.name)));
        (inputs.collect(), outputs.collect())
    }

    fn declared(value: &ValueInfo, usual: &str) -> Self {
        let tensor = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        let kind = tensor.and_then(|tensor| match tensor.element() {
            Element::Float => Some(TensorElementType::Float32),
            Element::Float16 => Some(TensorElementType::Float16),
            Element::Int64 => Some(TensorElementType::Int64),
            Element::Int32 => Some(TensorElementType::Int32),
            Element::Bool => Some(TensorElementType::Bool),
            _ => None,
        });
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        let length = |dimension: &Dimension| dimension.fixed.unwrap_or(-1);
        let dimensions = shape.into_iter().flat_map(|shape| &shape.dim).map(length).collect();
        Self { name: value.name.clone(), usual: usual.to_owned(), kind, dimensions }
    }

    fn of(name: &str, usual: &str, kind: &ValueType) -> Self {
        let (name, usual) = (name.to_owned(), usual.to_owned());
        let (kind, dimensions) = match kind {
            ValueType::Tensor { ty, shape, .. } => (Some(*ty), shape.iter().copied().collect()),
            _ => (None, Vec::new()),
        };
        Self { name, usual, kind, dimensions }
    }

    fn is_whole(&self) -> bool {
        matches!(self.kind, Some(TensorElementType::Int64 | TensorElementType::Int32))
    }

    fn is_real(&self) -> bool {
        matches!(self.kind, Some(TensorElementType::Float32 | TensorElementType::Float16))
    }

    fn kind_name(&self) -> String {
        self.kind.map_or_else(|| "no tensor".to_owned(), |kind| kind.to_string())
    }
}

/// What an input, apart from caches, is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The tokens, `[batch, tokens]`.
    Tokens,
    /// 1 for every token, those of the cache included, `[batch, all tokens]`.
    Mask,
    /// The place of every token, `[batch, tokens]`.
    Positions,
    /// 0 for every token, of encoders that read two texts, `[batch, tokens]`.
    Segments,
    /// Whether there is something in the cache, `[1]`.
    UseCache,
    /// How many of the last tokens get logits; 0: all. A number.
    LogitsToKeep,
}

/// The cache of keys or of values of a layer, `[batch, heads, tokens, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachePort {
    pub(super) past: String,
    pub(super) present: String,
    pub(super) kind: TensorElementType,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl CachePort {
    /// Bytes of so many tokens.
    pub(super) fn bytes(&self, tokens: usize) -> u64 {
        let each = if self.kind == TensorElementType::Float16 { 2 } else { 4 };
        // Shapes are a file's: they may be any.
        [self.heads, self.width, tokens, each]
            .iter()
            .fold(1, |bytes: u64, &it| bytes.saturating_mul(it as u64))
    }
}

/// What a graph gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Logits of every token, `[batch, tokens, width]`.
    Logits { name: String, width: usize },
    /// A vector for every token, `[batch, tokens, width]`.
    Hidden { name: String, width: usize },
    /// A vector for the text, `[batch, width]`.
    Embedding { name: String, width: usize },
}

impl Output {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Logits { name, .. }
            | Self::Hidden { name, .. }
            | Self::Embedding { name, .. } => name,
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Self::Logits { width, .. }
            | Self::Hidden { width, .. }
            | Self::Embedding { width, .. } => *width,
        }
    }
}

/// What a graph is given and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) inputs: Vec<(Port, Role)>,
    /// Empty of an encoder.
    pub(super) caches: Vec<CachePort>,
    pub(super) output: Output,
}

impl Layout {
    /// Reads what a graph is given and gives.
    ///
    /// # Errors
    /// There is something that is not understood; in half a sentence.
    pub(super) fn of(inputs: &[Port], outputs: &[Port]) -> Result<Self, String> {
        let mut named = Vec::new();
        let mut caches = Vec::new();
        for input in inputs {
            match role_of(input)? {
                Some(role) => named.push((input.clone(), role)),
                None => caches.push(cache_of(input, outputs)?),
            }
        }
        if !named.iter().any(|(_, role)| *role == Role::Tokens) {
            return Err("it has no input 'input_ids'".to_owned());
        }
        let output = output_of(outputs)?;
        if matches!(output, Output::Logits { .. }) && caches.is_empty() {
            return Err(
                "it gives logits and has no cache (past_key_values): export it as text-generation-with-past"
                    .to_owned(),
            );
        }
        Ok(Self { inputs: named, caches, output })
    }

    /// Whether the graph wants to be told something.
    pub(super) fn has(&self, role: Role) -> bool {
        self.inputs.iter().any(|(_, own)| *own == role)
    }

    /// Bytes of the cache of so many tokens.
    pub(super) fn cache_bytes(&self, tokens: usize) -> u64 {
        self.caches.iter().map(|cache| cache.bytes(tokens)).fold(0, u64::saturating_add)
    }

    /// Bytes of full caches of so many tokens in all. While a sequence's is copied, the old and the new one are there.
    pub(super) fn held_bytes(&self, is_in_place: bool, tokens: u32, sequences: u32) -> u64 {
        let copy = if is_in_place { 0 } else { tokens / sequences.max(1) };
        self.cache_bytes(tokens as usize).saturating_add(self.cache_bytes(copy as usize))
    }

    /// Layers that have a cache.
    pub(super) fn layers(&self) -> usize {
        self.caches.len() / 2
    }
}

/// What an input is for; `None`: it is a cache.
fn role_of(input: &Port) -> Result<Option<Role>, String> {
    let Port { name, usual, dimensions, .. } = input;
    let role = match usual.as_str() {
        "input_ids" => Role::Tokens,
        "attention_mask" => Role::Mask,
        "position_ids" => Role::Positions,
        "token_type_ids" => Role::Segments,
        "use_cache_branch" => Role::UseCache,
        "num_logits_to_keep" => Role::LogitsToKeep,
        usual if usual.starts_with("past") => return Ok(None),
        _ => {
            let hint = match name.as_str() {
                "block_table" | "block_tables" | "slot_mapping" | "cumulative_sequence_length" => {
                    ": caches in pages are not filled here"
                }
                "encoder_hidden_states" | "encoder_attention_mask" => {
                    ": encoder-decoders are measured as GGUFs alone"
                }
                "inputs_embeds" | "pixel_values" | "image_features" => {
                    ": models that see are measured as GGUFs alone"
                }
                _ => "",
            };
            return Err(format!("its input '{name}' is not known{hint}"));
        }
    };
    let is_right = match role {
        Role::UseCache => input.kind == Some(TensorElementType::Bool),
        Role::LogitsToKeep => input.is_whole() && dimensions.len() <= 1,
        _ => input.is_whole() && dimensions.len() == 2,
    };
    if !is_right {
        let (kind, rank) = (input.kind_name(), dimensions.len());
        return Err(format!(
            "its input '{name}' is {kind} of {rank} dimensions, which is not known"
        ));
    }
    if role == Role::Tokens && (dimensions[0] > 1 || dimensions[1] > 0) {
        return Err(format!(
            "its input '{name}' has a fixed size, {} × {}: texts have any length",
            dimensions[0], dimensions[1]
        ));
    }
    Ok(Some(role))
}

/// A cache with the output that takes its place.
fn cache_of(input: &Port, outputs: &[Port]) -> Result<CachePort, String> {
    let past = &input.name;
    let usual = &input.usual;
    let rest = usual.strip_prefix("past_key_values").or_else(|| usual.strip_prefix("past"));
    let present = format!("present{}", rest.unwrap_or_default());
    let output = outputs.iter().find(|output| {
        output.usual == present || output.usual.strip_prefix("present_key_values") == rest
    });
    let output =
        output.ok_or_else(|| format!("its input '{past}' has no output '{present}' beside it"))?;
    if !input.is_real() || output.kind != input.kind {
        return Err(format!(
            "its cache '{past}' is stored as {}; float32 and float16 are known",
            input.kind_name()
        ));
    }
    let &[batch, heads, _, width] = input.dimensions.as_slice() else {
        return Err(format!(
            "its input '{past}' has {} dimensions: it is no cache of keys and values but another state, which is not known",
            input.dimensions.len()
        ));
    };
    let size = |value: i64| usize::try_from(value).ok().filter(|size| *size > 0);
    let (Some(heads), Some(width), true) = (size(heads), size(width), batch <= 1) else {
        return Err(format!(
            "its cache '{past}' is {:?}; heads and width are to be numbers, and the batch 1 or any",
            input.dimensions
        ));
    };
    let kind = input.kind.unwrap_or(TensorElementType::Float32);
    Ok(CachePort { past: past.clone(), present: output.name.clone(), kind, heads, width })
}

/// What is taken of what a graph gives.
fn output_of(outputs: &[Port]) -> Result<Output, String> {
    let find = |name: &str| outputs.iter().find(|output| output.usual == name);
    let width = |output: &Port| output.dimensions.last().and_then(|&it| usize::try_from(it).ok());
    let of = |output: &Port, rank: usize| {
        if !output.is_real() || output.dimensions.len() != rank {
            let (kind, rank) = (output.kind_name(), output.dimensions.len());
            let name = &output.name;
            return Err(format!(
                "its output '{name}' is {kind} of {rank} dimensions, which is not known"
            ));
        }
        width(output)
            .filter(|width| *width > 0)
            .map(|width| (output.name.clone(), width))
            .ok_or_else(|| format!("its output '{}' has no width", output.name))
    };
    if let Some(logits) = find("logits") {
        let (name, width) = of(logits, 3)?;
        return Ok(Output::Logits { name, width });
    }
    // A vector that the graph pooled itself.
    if let Some(embedding) = find("sentence_embedding") {
        let (name, width) = of(embedding, 2)?;
        return Ok(Output::Embedding { name, width });
    }
    for name in ["last_hidden_state", "token_embeddings"] {
        if let Some(hidden) = find(name) {
            let (name, width) = of(hidden, 3)?;
            return Ok(Output::Hidden { name, width });
        }
    }
    let names: Vec<&str> = outputs.iter().map(|it| it.name.as_str()).take(4).collect();
    Err(format!(
        "none of its outputs ({}) is 'logits', 'last_hidden_state' or 'sentence_embedding'",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{Shape, Tensor, TensorKind, ValueKind};

    fn port(name: &str, kind: TensorElementType, dimensions: &[i64]) -> Port {
        let (name, usual) = (name.to_owned(), name.to_owned());
        Port { name, usual, kind: Some(kind), dimensions: dimensions.to_vec() }
    }

    fn whole(name: &str) -> Port {
        port(name, TensorElementType::Int64, &[-1, -1])
    }

    fn cache(name: &str) -> Port {
        port(name, TensorElementType::Float32, &[-1, 2, -1, 64])
    }

    fn logits() -> Port {
        port("logits", TensorElementType::Float32, &[-1, -1, 4096])
    }

    #[test]
    fn both_layouts_are_understood() {
        let caches = ["key", "value"].map(|it| cache(&format!("past_key_values.0.{it}")));
        let presents = ["key", "value"].map(|it| cache(&format!("present.0.{it}")));
        let outputs = [&[logits()], &presents[..]].concat();
        let genai = [&[whole("input_ids"), whole("attention_mask")], &caches[..]].concat();
        let layout = Layout::of(&genai, &outputs).unwrap();
        assert_eq!((layout.layers(), layout.output.width()), (1, 4096));
        assert_eq!(layout.caches[0].present, "present.0.key");
        let each = 2 * 2 * 64 * 4;
        assert_eq!(layout.cache_bytes(10), 10 * each);
        assert_eq!(layout.held_bytes(true, 10, 1), 10 * each);
        assert_eq!(layout.held_bytes(false, 10, 1), 20 * each, "the old and the new one");
        assert_eq!(layout.held_bytes(false, 10, 2), 15 * each, "one sequence's is new at a time");
        let keep = port("num_logits_to_keep", TensorElementType::Int64, &[]);
        let optimum = [&[whole("position_ids"), keep], genai.as_slice()].concat();
        let layout = Layout::of(&optimum, &outputs).unwrap();
        assert!(layout.has(Role::Positions) && layout.has(Role::LogitsToKeep));
    }

    #[test]
    fn a_file_tells_what_a_session_would() {
        let value = |name: &str, element: Element, dimensions: &[i64]| {
            let dimension = |&it: &i64| match it {
                -1 => Dimension { named: Some("any".to_owned()), ..Dimension::default() },
                fixed => Dimension { fixed: Some(fixed), ..Dimension::default() },
            };
            let shape = Some(Shape { dim: dimensions.iter().map(dimension).collect() });
            let tensor = Some(TensorKind { element: element.into(), shape });
            ValueInfo { name: name.to_owned(), kind: Some(ValueKind { tensor }) }
        };
        let graph = Graph {
            input: vec![
                value("input_ids", Element::Int64, &[-1, -1]),
                value("past_key_values.0.key", Element::Float, &[-1, 2, -1, 64]),
                value("weight", Element::Float, &[4, 4]),
            ],
            output: vec![
                value("logits", Element::Float, &[-1, -1, 4096]),
                value("present.0.key", Element::Float, &[-1, 2, -1, 64]),
            ],
            initializer: vec![Tensor { name: "weight".to_owned(), ..Tensor::default() }],
            ..Graph::default()
        };
        let (inputs, outputs) = Port::in_file(&Names::default(), &graph);
        assert_eq!(inputs, [whole("input_ids"), cache("past_key_values.0.key")]);
        assert_eq!(outputs, [logits(), cache("present.0.key")]);
    }

    #[test]
    fn other_names_are_those_that_a_file_gives() {
        let of = |own: &str, port: Port| Port { name: own.to_owned(), ..port };
        let inputs =
            [of("tokens", whole("input_ids")), of("cache_k_0", cache("past_key_values.0.key"))];
        let outputs = [of("scores", logits()), of("new_k_0", cache("present.0.key"))];
        let layout = Layout::of(&inputs, &outputs).unwrap();
        assert_eq!((layout.inputs[0].0.name.as_str(), layout.output.name()), ("tokens", "scores"));
        let found = (layout.caches[0].past.as_str(), layout.caches[0].present.as_str());
        assert_eq!(found, ("cache_k_0", "new_k_0"));
    }

    #[test]
    fn an_encoder_gives_vectors() {
        let inputs = [whole("input_ids"), whole("attention_mask"), whole("token_type_ids")];
        let hidden = port("last_hidden_state", TensorElementType::Float32, &[-1, -1, 384]);
        let layout = Layout::of(&inputs, std::slice::from_ref(&hidden)).unwrap();
        assert_eq!(layout.output, Output::Hidden { name: hidden.name, width: 384 });
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused = |inputs: &[Port], outputs: &[Port]| Layout::of(inputs, outputs).unwrap_err();
        let tokens = || whole("input_ids");
        for (inputs, outputs, said) in [
            (
                vec![tokens(), whole("block_table")],
                vec![logits()],
                "'block_table' is not known: caches in pages",
            ),
            (vec![tokens(), whole("encoder_hidden_states")], vec![logits()], "encoder-decoders"),
            (vec![whole("attention_mask")], vec![logits()], "no input 'input_ids'"),
            (vec![tokens()], vec![logits()], "has no cache"),
            (
                vec![tokens(), cache("past_key_values.0.key")],
                vec![logits()],
                "no output 'present.0.key'",
            ),
            (
                vec![tokens(), port("past_conv.0", TensorElementType::Float32, &[1, 2, 3])],
                vec![logits(), port("present_conv.0", TensorElementType::Float32, &[1, 2, 3])],
                "another state",
            ),
            (
                vec![tokens(), port("past.0.key", TensorElementType::Int8, &[1, 2, -1, 3])],
                vec![logits(), port("present.0.key", TensorElementType::Int8, &[1, 2, -1, 3])],
                "is stored as",
            ),
            (
                vec![port("input_ids", TensorElementType::Int64, &[1, 128])],
                vec![logits()],
                "fixed size",
            ),
            (
                vec![port("input_ids", TensorElementType::Float32, &[1, -1])],
                vec![logits()],
                "not known",
            ),
            (
                vec![tokens()],
                vec![port("y", TensorElementType::Float32, &[1])],
                "none of its outputs (y)",
            ),
        ] {
            let error = refused(&inputs, &outputs);
            assert!(error.contains(said), "{error}");
        }
    }
}
