//! Parts of the demo model's graph.

use super::*;
use crate::engine::LoadExtent;
use crate::engine::llama::backend::Backend;
use std::path::Path;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const TOKENS: u32 = 24;

fn model() -> Model {
    let settings = Settings { gpu_layers: 0, ..Settings::default() };
    Model::load(Backend::initialise(), Path::new(DEMO), &settings, LoadExtent::Everything).unwrap()
}

fn tokens() -> Vec<i32> {
    (0..TOKENS.cast_signed()).map(|index| index * 7 % 300 + 300).collect()
}

fn step_of(graph: &Graph, name: &str) -> usize {
    graph.steps.iter().position(|&node| graph.nodes[node].name == name).unwrap()
}

/// The layer of a node's name, `ffn_inp-3`; nodes of no layer make masks and positions.
fn layer_of(graph: &Graph, step: usize) -> Option<u32> {
    let name = &graph.nodes[graph.steps[step]].name;
    name.split(' ').next()?.rsplit_once('-')?.1.parse().ok()
}

#[test]
fn a_model_goes_on_from_hidden_states_in_its_middle_and_computes_nothing_before_them() {
    let model = model();
    let mut context = PartialContext::new(&model, TOKENS, 2).unwrap();
    let graph = context.graph().clone();
    let (middle, last) = (step_of(&graph, "l_out-3"), step_of(&graph, "l_out-8"));
    let product = step_of(&graph, "ffn_up-5");
    let shown = vec![(middle, Look::Output), (product, Look::Input), (last, Look::Output)];
    let all = Part { given: None, computed: vec![true; graph.steps.len()], shown };
    let whole = context.evaluate(&tokens(), &all, &[]).unwrap();
    assert_eq!((whole[0].columns, whole[0].rows.len()), (256, 256 * 24));
    assert!(whole.iter().all(|shown| shown.matrix_of_row.is_empty()));
    // From the values of the middle on, to the same bits.
    let behind = |step: usize| layer_of(&graph, step).is_none_or(|layer| layer > 3);
    let computed: Vec<bool> = (0..graph.steps.len()).map(behind).collect();
    let rest = Part { given: Some(middle), computed, ..all.clone() };
    let again = context.evaluate(&tokens(), &rest, &whole[0].rows).unwrap();
    assert_eq!(again, whole);
    // They are all that the rest depends on.
    let halved: Vec<f32> = whole[0].rows.iter().map(|value| value / 2.0).collect();
    let other = context.evaluate(&tokens(), &rest, &halved).unwrap();
    assert_eq!(other[0].rows, halved);
    assert_ne!(other[2], whole[2]);
    // The graph is whole again afterwards.
    assert_eq!(context.evaluate(&tokens(), &all, &[]).unwrap(), whole);
}

#[test]
fn what_does_not_fit_the_graph_is_refused() {
    let model = model();
    let mut context = PartialContext::new(&model, TOKENS, 2).unwrap();
    let graph = context.graph().clone();
    let middle = step_of(&graph, "l_out-3");
    let none = Part { given: None, computed: vec![false; graph.steps.len()], shown: Vec::new() };
    let mut refused = |tokens: &[i32], part: &Part, given: &[f32]| {
        context.evaluate(tokens, part, given).unwrap_err().to_string()
    };
    assert!(refused(&tokens()[1..], &none, &[]).contains("23 tokens"));
    let short = Part { computed: vec![true], ..none.clone() };
    assert!(refused(&tokens(), &short, &[]).contains("1 steps do not fit"));
    let given = Part { given: Some(middle), ..none.clone() };
    let said = refused(&tokens(), &given, &[1.0; 256]);
    assert!(said.contains("l_out-3") && said.contains("1024 bytes"), "{said}");
    let norm = Part { shown: vec![(middle, Look::Input)], ..none.clone() };
    assert!(refused(&tokens(), &norm, &[]).contains("it is no product"));
    let beyond = Part { shown: vec![(graph.steps.len(), Look::Output)], ..none };
    assert!(refused(&tokens(), &beyond, &[]).contains("not all of it"));
}
