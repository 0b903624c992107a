//! Plans of made-up models of several architectures.

use super::*;
use crate::engine::LoadExtent;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::model::Model;
use crate::engine::llama::partial::{Look, PartialContext};
use crate::experiment::settings::Settings;
use crate::quantize::testing::THREADS;
use crate::quantize::testing::made_up::{self, ARCHITECTURES, Architecture, LAYERS};

/// Longer than the window of the layers that have one.
const TOKENS: u32 = 96;

fn tokens() -> Vec<i32> {
    (0..TOKENS.cast_signed()).map(|index| index * 7 % 37 + 1).collect()
}

/// Calls back with a model's context.
fn with_context<T>(architecture: Architecture, then: impl Fn(PartialContext<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    made_up::write(architecture, &path);
    let settings = Settings { gpu_layers: 0, ..Settings::default() };
    let backend = Backend::initialise();
    let model = Model::load(backend, &path, &settings, LoadExtent::Everything).unwrap();
    then(PartialContext::new(&model, TOKENS, THREADS).unwrap())
}

/// The groups of layer 0, by the last parts of their weights' names; those with a residual stream have a `+` for each
/// of its parts.
fn first_layer(architecture: &str) -> Vec<String> {
    let architecture = ARCHITECTURES.into_iter().find(|other| other.name == architecture).unwrap();
    with_context(architecture, |context| {
        let plan = Plan::new(context.graph());
        assert_eq!(plan.left, []);
        let groups = plan.groups.iter().filter(|group| group.layer() == Some(0));
        groups
            .map(|group| {
                let short = |name: &String| name.split('.').nth(2).unwrap().to_owned();
                let names: Vec<String> = group.weights.iter().map(short).collect();
                names.join(" ") + &"+".repeat(group.streams.len())
            })
            .collect()
    })
}

#[test]
fn products_with_the_same_inputs_are_done_together_and_streams_are_found() {
    let llama = ["attn_q attn_k attn_v", "attn_output+", "ffn_gate ffn_up", "ffn_down+"];
    let same = |architecture: &str| {
        let mut groups = first_layer(architecture);
        // The order of products with the same inputs is llama.cpp's and differs.
        for group in &mut groups {
            let mut names: Vec<&str> = group.split(' ').collect();
            names.sort_unstable();
            *group = names.join(" ");
        }
        groups
    };
    let sorted = |groups: &[&str]| -> Vec<String> {
        let sort = |group: &&str| {
            let mut names: Vec<&str> = group.split(' ').collect();
            names.sort_unstable();
            names.join(" ")
        };
        groups.iter().map(sort).collect()
    };
    for architecture in ["llama", "qwen2", "qwen3"] {
        assert_eq!(same(architecture), sorted(&llama), "{architecture}");
    }
    // Norms behind the products: no stream can be made good through them.
    let gemma = ["attn_q attn_k attn_v", "attn_output", "ffn_gate ffn_up", "ffn_down"];
    for architecture in ["gemma2", "gemma3"] {
        assert_eq!(same(architecture), sorted(&gemma), "{architecture}");
    }
    // Attention and feed-forward network side by side, both added to the stream; the second also to the first.
    assert_eq!(same("phi2"), sorted(&["attn_qkv ffn_up", "attn_output+", "ffn_down++"]));
    assert_eq!(same("phi3"), sorted(&["attn_qkv", "attn_output+", "ffn_up", "ffn_down+"]));
    let experts = [
        "attn_q attn_k attn_v",
        "attn_output+",
        "ffn_gate_inp",
        "ffn_gate_exps ffn_up_exps",
        "ffn_down_exps",
    ];
    assert_eq!(same("qwen3moe"), sorted(&experts));
    let shared = first_layer("qwen2moe");
    let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
    for group in ["ffn_gate_exps", "ffn_gate_shexp", "ffn_gate_inp_shexp"] {
        assert!(shared.iter().any(|other| other.contains(group)), "{shared:?}");
    }
}

/// The layers of all weights that a part multiplies with or adds.
fn layers_of(graph: &Graph, computed: &[bool]) -> Vec<u64> {
    let steps = graph.steps.iter().zip(computed).filter(|(_, computed)| **computed);
    let sources = steps.flat_map(|(&node, _)| graph.nodes[node].sources.iter().flatten());
    let mut layers: Vec<u64> = sources
        .filter_map(|&source| {
            let name = graph.nodes[source].name.strip_prefix("blk.")?;
            name.split('.').next()?.parse().ok()
        })
        .collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

#[test]
fn inputs_computed_from_the_last_cut_are_those_of_the_whole_model_to_the_bit() {
    for architecture in ARCHITECTURES {
        with_context(architecture, |mut context| {
            let graph = context.graph().clone();
            let plan = Plan::new(&graph);
            let layers: Vec<u64> =
                plan.groups.iter().map(|group| group.layer().unwrap().into()).collect();
            assert_eq!(layers.last(), Some(&(LAYERS - 1)), "{}", architecture.name);
            for group in &plan.groups {
                let cut = group.cut.unwrap();
                let from_tokens = vec![(cut, Look::Output), (group.step, Look::Input)];
                let whole = plan.flow.part(None, from_tokens);
                let whole = context.evaluate(&tokens(), &whole, &[]).unwrap();
                let part = plan.flow.part(Some(cut), vec![(group.step, Look::Input)]);
                let own: Vec<u64> = group.layer().into_iter().map(u64::from).collect();
                let used = layers_of(&graph, &part.computed);
                assert!(used.iter().all(|layer| own.contains(layer)), "{used:?} for {group:?}");
                let seen = context.evaluate(&tokens(), &part, &whole[0].rows).unwrap();
                assert_eq!(seen[0], whole[1], "{}: {:?}", architecture.name, group.weights);
                assert!(seen[0].rows.iter().any(|value| *value != 0.0));
            }
        });
    }
}
