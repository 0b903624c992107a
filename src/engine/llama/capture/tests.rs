//! A sink that records, on the demo model.

use super::*;
use crate::engine::LoadExtent;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::tensors::Weights;
use std::path::Path;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const TOKENS: usize = 24;

fn model() -> Model {
    let settings = Settings { threads: Some(2), ..Settings::default() };
    Model::load(Backend::initialise(), Path::new(DEMO), &settings, LoadExtent::Editable).unwrap()
}

fn context(model: &Model) -> CapturingContext<'_> {
    let shape = ContextShape { tokens: 64, sequences: 1, batch: 64, ubatch: 64 };
    let settings = Settings { threads: Some(2), ..Settings::default() };
    CapturingContext::new(model, &settings, shape).unwrap()
}

fn tokens() -> Vec<i32> {
    (0..TOKENS).map(|index| i32::try_from(index * 7 % 300 + 300).unwrap()).collect()
}

/// One input as it was shown.
#[derive(Debug, Clone)]
struct Seen {
    weight: String,
    layer: Option<u32>,
    input: String,
    columns: usize,
    rows: Vec<f32>,
}

/// Keeps everything whose name begins with one of the prefixes.
#[derive(Default)]
struct Recorder {
    prefixes: Vec<&'static str>,
    stop_at: Option<&'static str>,
    asked: Vec<String>,
    inputs: Vec<Seen>,
    nodes: Vec<(String, Vec<f32>)>,
}

impl Sink for Recorder {
    fn wants_weight(&mut self, weight: &str) -> bool {
        self.asked.push(weight.to_owned());
        self.prefixes.iter().any(|prefix| weight.starts_with(prefix))
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        assert!(input.matrix_of_row.is_empty());
        self.inputs.push(Seen {
            weight: input.weight.to_owned(),
            layer: input.layer,
            input: input.input.to_owned(),
            columns: input.columns,
            rows: input.rows.to_vec(),
        });
        if self.stop_at == Some(input.weight) { Flow::Stop } else { Flow::Continue }
    }

    fn wants_node(&mut self, name: &str) -> bool {
        self.prefixes.contains(&name)
    }

    fn node_output(&mut self, output: &NodeOutput<'_>) -> Flow {
        self.nodes.push((output.name.to_owned(), output.rows.to_vec()));
        Flow::Continue
    }
}

/// A weight as f32, `[matrices, rows, columns]`.
fn read_f32(weights: &Weights<'_>, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    let format = weights.get(name).unwrap().format;
    blocks::dequantize(format, &weights.read(name).unwrap(), &mut values).unwrap();
    values
}

#[test]
fn the_captured_input_times_the_weight_is_what_the_graph_computed() {
    let model = model();
    let mut recorder =
        Recorder { prefixes: vec!["blk.2.ffn_up", "ffn_up-2"], ..Recorder::default() };
    let flow = context(&model).evaluate(&tokens(), &mut recorder).unwrap();
    assert_eq!(flow, Flow::Continue);
    let weights = Weights::of(&model).unwrap();
    let info = weights.get("blk.2.ffn_up.weight").unwrap().clone();
    let weight = read_f32(&weights, &info.name);
    let [seen] = &recorder.inputs[..] else { panic!("one weight") };
    assert_eq!((seen.weight.as_str(), seen.layer), ("blk.2.ffn_up.weight", Some(2)));
    let columns = info.columns();
    assert_eq!((seen.columns, seen.rows.len()), (columns, TOKENS * columns));
    let [(_, outputs)] = &recorder.nodes[..] else { panic!("one node") };
    assert_eq!(outputs.len(), TOKENS * info.rows());
    for (input, output) in seen.rows.chunks(columns).zip(outputs.chunks(info.rows())) {
        for (row, given) in weight.chunks(columns).zip(output) {
            let product: f32 = row.iter().zip(input).map(|(a, b)| a * b).sum();
            // The graph rounds inputs to F16 before it multiplies.
            assert!((product - given).abs() < 0.02, "{product} {given}");
        }
    }
}

#[test]
fn weights_with_the_same_input_say_so_and_attention_products_are_left_out() {
    let model = model();
    let mut recorder = Recorder {
        prefixes: vec!["blk.0.attn_q", "blk.0.attn_k", "blk.0.ffn_up"],
        ..Recorder::default()
    };
    context(&model).evaluate(&tokens(), &mut recorder).unwrap();
    let input = |weight: &str| {
        let seen = recorder.inputs.iter().find(|seen| seen.weight == weight);
        seen.map(|seen| seen.input.clone()).unwrap()
    };
    assert_eq!(input("blk.0.attn_q.weight"), input("blk.0.attn_k.weight"));
    assert_ne!(input("blk.0.attn_q.weight"), input("blk.0.ffn_up.weight"));
    assert!(recorder.asked.iter().all(|name| name.ends_with(".weight")), "{:?}", recorder.asked);
}

#[test]
fn the_last_layer_sees_every_row() {
    let model = model();
    let mut recorder = Recorder { prefixes: vec!["blk.8.ffn_down"], ..Recorder::default() };
    context(&model).evaluate(&tokens(), &mut recorder).unwrap();
    assert_eq!(recorder.inputs[0].rows.len(), TOKENS * recorder.inputs[0].columns);
}

#[test]
fn a_sink_that_stops_is_asked_about_nothing_later() {
    let model = model();
    let mut context = context(&model);
    let mut recorder = Recorder {
        prefixes: vec!["blk."],
        stop_at: Some("blk.1.attn_q.weight"),
        ..Recorder::default()
    };
    assert_eq!(context.evaluate(&tokens(), &mut recorder).unwrap(), Flow::Stop);
    assert_eq!(recorder.inputs.last().unwrap().weight, "blk.1.attn_q.weight");
    assert!(!recorder.asked.iter().any(|name| name.starts_with("blk.2.")), "{:?}", recorder.asked);
    // The next evaluation starts afresh.
    let mut recorder = Recorder { prefixes: vec!["blk.8.ffn_down"], ..Recorder::default() };
    assert_eq!(context.evaluate(&tokens(), &mut recorder).unwrap(), Flow::Continue);
    assert_eq!(recorder.inputs.len(), 1);
}

#[test]
fn a_panic_of_a_sink_does_not_cross_into_c() {
    struct Panics;
    impl Sink for Panics {
        fn wants_weight(&mut self, _weight: &str) -> bool {
            true
        }
        fn weight_input(&mut self, _input: &WeightInput<'_>) -> Flow {
            panic!("by the sink")
        }
    }
    let model = model();
    let mut context = context(&model);
    let result =
        catch_unwind(AssertUnwindSafe(|| context.evaluate(&tokens(), &mut Panics).map(|_| ())));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"by the sink"));
    let mut recorder = Recorder::default();
    assert_eq!(context.evaluate(&tokens(), &mut recorder).unwrap(), Flow::Continue);
}

#[test]
fn an_overwritten_weight_is_what_the_next_evaluation_uses() {
    let model = model();
    let weights = Weights::of(&model).unwrap();
    let mut context = context(&model);
    let input = |context: &mut CapturingContext<'_>| {
        let mut recorder = Recorder { prefixes: vec!["blk.0.ffn_down"], ..Recorder::default() };
        context.evaluate(&tokens(), &mut recorder).unwrap();
        recorder.inputs.remove(0).rows
    };
    let before = input(&mut context);
    assert!(before.iter().any(|value| *value != 0.0));
    let name = "blk.0.ffn_up.weight";
    let bytes = weights.read(name).unwrap();
    weights.write_f32(name, &vec![0.0; read_f32(&weights, name).len()]).unwrap();
    assert!(input(&mut context).iter().all(|value| *value == 0.0));
    weights.write(name, &bytes).unwrap();
    assert_eq!(input(&mut context), before);
    let error = weights.write(name, &bytes[1..]).unwrap_err().to_string();
    assert!(error.contains("cannot replace"), "{error}");
    assert!(weights.read("blk.0.nothing.weight").is_err());
}

#[test]
fn names_of_copies_and_layers_are_read() {
    assert_eq!(weight_name("CUDA0#blk.0.attn_q.weight#0"), "blk.0.attn_q.weight");
    assert_eq!(weight_name("output.weight"), "output.weight");
    assert_eq!(layer_of("blk.12.attn_q.weight"), Some(12));
    assert_eq!(layer_of("output.weight"), None);
    assert_eq!(layer_in_node("Qcur-3"), Some(3));
    assert_eq!(layer_in_node("result_output"), None);
}
