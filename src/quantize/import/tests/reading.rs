//! Checkpoints that are not what their configuration says, or say it otherwise.

use super::*;

#[test]
fn zero_points_are_read_as_they_are_stored_whatever_the_label_says() {
    for (bits, group, zero, format, tolerance) in [
        (4, 64, Some(8), "Q4_0", 0.0),
        (3, 32, Some(4), "Q4_0", 0.0),
        (8, 32, Some(128), "Q8_0", 0.0),
        (4, 32, None, "Q4_1", 6e-4),
        (8, 128, None, "F16", 1e-3),
    ] {
        // Stored less one, or not: against the label, and as it says.
        for (label, stored_less, other) in
            [("gptq", 0, Some("gptq_v2")), ("gptq_v2", 1, Some("gptq")), ("gptq", 1, None)]
        {
            let scene = Scene::new();
            let layers = scene.rounded(bits, group, zero);
            scene.configure(&format!(
                "{{\"bits\":{bits},\"group_size\":{group},\"checkpoint_format\":\"{label}\"}}"
            ));
            scene.write(&gptq(&layers, stored_less));
            let (made, note) = scene.import_with_note(CheckpointKind::Gptq).unwrap();
            Scene::check(&made, &layers, format, tolerance);
            let packing = made.header().get("quantbench.import.packing").and_then(Value::as_text);
            assert_eq!(packing, Some(other.unwrap_or(label)));
            assert_eq!(note.is_some(), other.is_some(), "{note:?}");
            assert!(note.is_none_or(|note| note.contains("zero points are read as those of")));
        }
    }
}

#[test]
fn modules_may_have_bits_and_groups_of_their_own() {
    let scene = Scene::new();
    let layers = scene.rounded(4, 32, Some(8));
    let own =
        [round(&scene.weights[0], 8, 64, Some(128)), round(&scene.weights[1], 4, COLUMNS, Some(8))];
    let mut tensors = gptq(&layers, 1);
    for (layer, (_, module, _)) in own.iter().zip(LAYERS) {
        tensors.gptq(module, layer, 1);
    }
    scene.write(&tensors);
    scene.configure(
        r#"{"bits":4,"group_size":32,"dynamic":{"+:.*q_proj":{"bits":8,"group_size":64}}}"#,
    );
    let made = scene.import(CheckpointKind::Gptq).unwrap();
    let format = |name: &str| made.find(name).unwrap().entry.format.name();
    assert_eq!(format("blk.0.attn_q.weight"), "Q8_0");
    assert_eq!(format("blk.0.attn_k.weight"), "Q4_0");
    assert_eq!(format("blk.0.ffn_up.weight"), "Q4_0");
    let stored = made.bytes(made.find("blk.0.attn_q.weight").unwrap());
    let weights = decoded(stored, "Q8_0");
    assert_eq!(weights[..COLUMNS].len(), COLUMNS);
    for (column, weight) in weights[..COLUMNS].iter().enumerate() {
        assert!((weight - own[0].weight(0, column)).abs() < 1e-6, "column {column}");
    }
    // Without the rules the shapes are a contradiction.
    scene.configure(r#"{"bits":4,"group_size":32,"dynamic":{}}"#);
    assert!(scene.import(CheckpointKind::Gptq).is_err());
}

#[test]
fn awq_without_zero_points_has_them_in_the_middle() {
    let scene = Scene::new();
    let symmetric = scene.rounded(4, 32, Some(8));
    scene.configure(r#"{"w_bit":4,"q_group_size":32,"zero_point":false,"version":"GEMM"}"#);
    let mut tensors = awq(&symmetric);
    scene.write(&tensors);
    Scene::check(&scene.import(CheckpointKind::Awq).unwrap(), &symmetric, "Q4_0", 0.0);
    for (_, module, _) in LAYERS {
        tensors.0.remove(&format!("{module}.qzeros"));
    }
    scene.write(&tensors);
    Scene::check(&scene.import(CheckpointKind::Awq).unwrap(), &symmetric, "Q4_0", 0.0);
    scene.write(&awq(&scene.rounded(4, 32, None)));
    let error = scene.import(CheckpointKind::Awq).unwrap_err().to_string();
    assert!(error.contains("zero points that are not 8, though zero_point is false"), "{error}");
}

#[test]
fn what_other_programs_packed_is_called_by_its_name() {
    let scene = Scene::new();
    let config = |json: &str| {
        fs::write(scene.path("checkpoint/config.json"), json).unwrap();
        scene.import(CheckpointKind::Gptq).unwrap_err().to_string()
    };
    for key in ["quantization_config", "compression_config"] {
        let error = config(&format!(
            "{{\"{key}\":{{\"config_groups\":{{\"group_0\":{{}}}},\"format\":\"pack-quantized\",\
             \"version\":\"0.9.0\"}}}}"
        ));
        assert!(error.contains("compressed-tensors") && error.contains("convert_hf"), "{error}");
    }
    let error = config(r#"{"quantization_config":{"quant_method":"awq"}}"#);
    assert!(error.contains("use 'quantbench import awq'"), "{error}");
}
