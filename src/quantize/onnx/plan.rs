//! A graph, of whatever network, before its weights are made.

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::forms::Forms;
use super::network::Network;
use super::target::Target;
use super::weight::Weight;
use crate::causes::Problem;
use crate::model::gguf::Header;
use crate::onnx::CONTRIB;
use crate::onnx::proto::{Entry, Model, OperatorSet};

/// The version of ONNX's format that is written, and of its operators: what ONNX Runtime 1.18 and later read.
const IR_VERSION: i64 = 10;
const OPERATORS: i64 = 21;

/// A graph whose weights are still to be made.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) model: Model,
    pub(super) weights: Vec<Weight>,
    pub(super) notes: Vec<String>,
}

/// Builds the graph of a model.
///
/// # Errors
/// A weight would have to be rounded a second time.
pub(super) fn plan(
    header: &Header,
    network: &Network,
    rope_factors: Option<&[f32]>,
    target: Target,
    allow_requantize: bool,
) -> Result<Planned, Problem> {
    let mut forms = Forms::new(target, header, allow_requantize);
    let (graph, weights) = match network {
        Network::Llama(network) => Decoder::new(network, &mut forms).build(rope_factors)?,
        Network::Bert(network) => Encoder::new(network, &mut forms).build()?,
    };
    let set = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let source = header.file_type().map(|it| it.to_string()).unwrap_or_default();
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![set("", OPERATORS), set(CONTRIB, 1)],
        metadata: vec![
            entry("quantbench.target", target.to_string()),
            entry("quantbench.source", source),
        ],
    };
    let mut notes = forms.notes();
    if matches!(network, Network::Bert(network) if network.classifies) {
        notes.push("the weights that classify are left out: the graph gives vectors".to_owned());
    }
    Ok(Planned { model, weights, notes })
}
