//! How graphs that are made up store their weights.

use super::super::proto::Attribute;
use super::*;

fn tensor(name: &str, element: Element, dims: &[i64]) -> Tensor {
    let data_type = element.into();
    Tensor { name: name.to_owned(), dims: dims.to_vec(), data_type, ..Tensor::default() }
}

fn node(op: &str, domain: &str, inputs: &[&str], numbers: &[(&str, i64)]) -> Node {
    let attribute = |&(name, i): &(&str, i64)| Attribute {
        name: name.to_owned(),
        i: Some(i),
        kind: 2,
        ..Attribute::default()
    };
    Node {
        op_type: op.to_owned(),
        domain: domain.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        attribute: numbers.iter().map(attribute).collect(),
        ..Node::default()
    }
}

fn storage(initializer: Vec<Tensor>, node: Vec<Node>) -> Storage {
    let graph = Graph { node, initializer, ..Graph::default() };
    Storage::of(&Model { graph: Some(graph), ..Model::default() })
}

#[test]
fn blocks_are_told_with_their_scales_beside_what_stayed_in_floating_point() {
    let tensors = vec![
        tensor("embedding", Element::Float, &[100, 64]),
        tensor("w", Element::Uint8, &[256, 2, 16]),
        tensor("w_scales", Element::Float, &[512]),
        tensor("norm", Element::Float, &[64]),
        tensor("shape", Element::Int64, &[2]),
        tensor("cosines", Element::Float, &[1000, 32]),
    ];
    let numbers = [("K", 64), ("N", 256), ("bits", 4), ("block_size", 32), ("accuracy_level", 4)];
    let nodes = vec![
        node("Gather", "", &["embedding", "input_ids"], &[]),
        node("RotaryEmbedding", CONTRIB, &["x", "position_ids", "cosines", "cosines"], &[]),
        node("MatMulNBits", CONTRIB, &["x", "w", "w_scales"], &numbers),
    ];
    let storage = storage(tensors, nodes);
    let stored = Stored::Blocks { bits: 4, block: 32, symmetric: true, accuracy_level: 4 };
    let share = |stored, role, weights, bytes| Share { stored, role, tensors: 1, weights, bytes };
    let expected = [
        share(stored, Role::Matrix, 64 * 256, 64 * 256 / 2 + 2048),
        share(Stored::F32, Role::Embedding, 6400, 25_600),
        share(Stored::F32, Role::Vector, 64, 256),
    ];
    assert_eq!(storage.shares, expected);
    assert_eq!(storage.to_string(), "INT4 block 32 symmetric accuracy 4 + 28 % F32");
    let bits = storage.bits_per_weight().unwrap();
    assert!((bits - 36_096.0 * 8.0 / 22_848.0).abs() < 1e-9, "{bits}");
}

#[test]
fn the_two_kinds_of_int8_are_told_apart() {
    let weights =
        || vec![tensor("w", Element::Int8, &[64, 64]), tensor("s", Element::Float, &[64])];
    let dynamic = storage(
        weights(),
        vec![
            node("DynamicQuantizeLinear", "", &["x"], &[]),
            node("MatMulInteger", "", &["xq", "w"], &[]),
        ],
    );
    assert_eq!(dynamic.main(), Some(Stored::DynamicInt { bits: 8 }));
    let dequantize = || node("DequantizeLinear", "", &["w", "s"], &[]);
    let only = storage(weights(), vec![dequantize()]);
    assert_eq!(only.main(), Some(Stored::WeightOnlyInt { bits: 8, block: None }));
    let fixed =
        storage(weights(), vec![node("QuantizeLinear", "", &["x", "s"], &[]), dequantize()]);
    assert_eq!(fixed.main(), Some(Stored::StaticInt { bits: 8 }));
    let blocks = storage(
        vec![tensor("w", Element::Int4, &[64, 64]), tensor("s", Element::Float, &[2, 64])],
        vec![node("DequantizeLinear", "", &["w", "s"], &[("block_size", 32)])],
    );
    assert_eq!(blocks.to_string(), "INT4 weights block 32");
    assert_eq!(blocks.shares[0].bytes, 64 * 64 / 2 + 2 * 64 * 4);
}

#[test]
fn an_embedding_that_is_the_larger_part_does_not_name_the_file() {
    let tensors = vec![
        tensor("embedding", Element::Float, &[5000, 64]),
        tensor("w", Element::Float16, &[64, 64]),
    ];
    let nodes =
        vec![node("Gather", "", &["embedding", "x"], &[]), node("MatMul", "", &["y", "w"], &[])];
    assert_eq!(storage(tensors, nodes).main(), Some(Stored::F16));
}

#[test]
fn weights_in_branches_and_in_constants_are_seen() {
    let constant = Node {
        output: vec!["w".to_owned()],
        attribute: vec![Attribute {
            name: "value".to_owned(),
            t: Some(tensor("", Element::Int8, &[8, 8])),
            ..Attribute::default()
        }],
        ..node("Constant", "", &[], &[])
    };
    let branch = Graph {
        node: vec![node("MatMulInteger", "", &["x", "w"], &[])],
        initializer: vec![tensor("inner", Element::Float, &[4, 4])],
        ..Graph::default()
    };
    let attribute =
        Attribute { name: "else_branch".to_owned(), g: Some(branch), ..Attribute::default() };
    let both = Node { attribute: vec![attribute], ..node("If", "", &["c"], &[]) };
    let storage = storage(Vec::new(), vec![constant, both]);
    let stored: Vec<Stored> = storage.shares.iter().map(|share| share.stored).collect();
    assert_eq!(stored, [Stored::DynamicInt { bits: 8 }, Stored::F32]);
}

#[test]
fn dimensions_that_cannot_be_count_nothing() {
    let tensors = vec![
        tensor("negative", Element::Float, &[-4, 4]),
        tensor("huge", Element::Float, &[i64::MAX, i64::MAX]),
    ];
    let nodes = vec![
        node(
            "MatMulNBits",
            CONTRIB,
            &["x", "huge", "huge"],
            &[("K", i64::MAX), ("N", i64::MAX), ("bits", -1)],
        ),
        node("MatMul", "", &["x", "negative"], &[]),
    ];
    let storage = storage(tensors, nodes);
    assert_eq!(storage.shares.len(), 1);
    assert_eq!(storage.shares[0].bytes, 0);
}

#[test]
fn a_table_of_whole_numbers_counts_and_names_a_graph_in_floating_point() {
    let scales = [tensor("scales", Element::Float, &[]), tensor("zeros", Element::Int8, &[])];
    let matrix = || tensor("w", Element::Float, &[64, 64]);
    let with = |node: Node, output: &str| Node { output: vec![output.to_owned()], ..node };
    let gathered = [
        with(node("Gather", "", &["table", "input_ids"], &[]), "rows"),
        node("DequantizeLinear", "", &["rows", "scales", "zeros"], &[]),
    ];
    let whole = [
        with(node("DequantizeLinear", "", &["table", "scales", "zeros"], &[]), "floats"),
        node("Gather", "", &["floats", "input_ids"], &[]),
    ];
    // Elsewhere activations are rounded, but none is for a table.
    let rounds = node("DynamicQuantizeLinear", "", &["x"], &[]);
    for nodes in [gathered, whole] {
        let tensors =
            [&[matrix(), tensor("table", Element::Int8, &[100, 64])], &scales[..]].concat();
        let storage = storage(tensors, [&nodes[..], std::slice::from_ref(&rounds)].concat());
        let table = Stored::WeightOnlyInt { bits: 8, block: None };
        let share =
            Share { stored: table, role: Role::Embedding, tensors: 1, weights: 6400, bytes: 6405 };
        assert_eq!(storage.shares[1], share);
        assert_eq!((storage.main(), storage.named_by()), (Some(Stored::F32), Some(table)));
    }
    let blocks = node(
        "GatherBlockQuantized",
        CONTRIB,
        &["table", "ids", "scales"],
        &[("bits", 4), ("block_size", 32)],
    );
    let tensors = vec![matrix(), tensor("table", Element::Uint8, &[100, 32]), scales[0].clone()];
    let found = storage(tensors, vec![blocks]);
    let stored = Stored::Blocks { bits: 4, block: 32, symmetric: true, accuracy_level: 0 };
    assert_eq!(found.named_by(), Some(stored));
    assert_eq!(found.to_string(), "F32 + 61 % INT4 block 32 symmetric");
    let few = vec![matrix(), tensor("table", Element::Uint8, &[1, 16]), scales[0].clone()];
    let blocks = node("GatherBlockQuantized", CONTRIB, &["table", "ids", "scales"], &[("bits", 4)]);
    assert_eq!(storage(few, vec![blocks]).named_by(), Some(Stored::F32));
}
