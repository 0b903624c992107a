//! A GPU that llama.cpp computes on: its memory and power are measured, and it answers as the processor does.

use crate::world::World;
use serde_json::Value;

#[test]
#[ignore = "needs an NVIDIA GPU, whose figures NVML tells, and a build with a back end for it"]
fn a_gpu_is_measured_and_answers_as_the_processor_does() {
    let world = World::new();
    let devices = world.run(&["devices"]).expect(0).stdout;
    let is_seen = |line: &str| line.contains("NVIDIA") && line.contains("(GPU, back end");
    assert!(devices.lines().any(is_seen), "no back end sees an NVIDIA GPU: {devices}");
    world.experiment("\"F16\", \"Q8_0\"", "settings = { gpu_layers = [-1, 0] }");
    let shown = world.run(&["run", "models.toml", "--quiet", "--format", "json"]).expect(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let trials = shown["run"]["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    for trial in trials {
        let on_gpu = trial["settings"]["gpu_layers"] == -1;
        let visit = &trial["visits"][0];
        let weights_on_device = visit["memory"].as_array().unwrap().iter().any(|buffer| {
            buffer["on_device"] == true && buffer["weights_bytes"].as_u64() > Some(0)
        });
        assert_eq!(weights_on_device, on_gpu, "{}", visit["memory"]);
        let gpu = &visit["usage"].as_array().unwrap().last().unwrap()["usage"]["gpus"][0];
        assert!(gpu["max_memory_bytes"].as_u64() > Some(0), "{gpu}");
        assert!(gpu["mean_power_watts"].as_f64() > Some(0.0), "{gpu}");
        // F16 on the processor against F16 on the GPU, and Q8_0 on either: random weights, near equal answers.
        let divergence = trial["quality"]["divergence"]["kld"]["mean"].as_f64();
        if trial["is_reference"] == false || !on_gpu {
            assert!(divergence.unwrap() < 1e-2, "{divergence:?}");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU, whose figures NVML tells, and a build with a back end for it"]
fn what_a_process_takes_on_a_gpu_is_planned_too() {
    let world = World::new();
    let plan =
        world.run(&["plan", "tiny-F16.gguf", "--quant", "F16", "--format", "json"]).expect(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let text = plan.to_string();
    assert!(text.contains("\"memory\":\"gpu0\""), "{text}");
    // The driver's context is larger than the tiny model.
    let own = text.split("\"gpu_process_bytes\":").nth(1).and_then(|it| it.split(',').next());
    let own: u64 = own.unwrap().parse().unwrap();
    assert!(own > 16 << 20, "{text}");
}

#[test]
#[ignore = "needs two NVIDIA GPUs and a build with a back end for them"]
fn a_model_divided_over_two_gpus_answers_as_on_one() {
    let world = World::new();
    world.write(
        "split.toml",
        "quantizations = [\"F16\"]\n[[models]]\nsource = \"demo\"\n\
         [experiment]\nrounds = 1\n[settings]\nsplit_mode = [\"none\", \"layer\", \"tensor\"]\n\
         [workloads]\nlatency.enabled = false\nquality.chunks = 4\n",
    );
    let shown = world.run(&["run", "split.toml", "--quiet", "--format", "json"]).expect(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for trial in shown["run"]["trials"].as_array().unwrap() {
        let buffers = trial["visits"][0]["memory"].as_array().unwrap();
        let with_weights = buffers.iter().filter(|buffer| {
            buffer["on_device"] == true && buffer["weights_bytes"].as_u64() > Some(0)
        });
        let expected = if trial["settings"]["split_mode"] == "none" { 1 } else { 2 };
        assert_eq!(with_weights.count(), expected, "{buffers:?}");
        let divergence = trial["quality"]["divergence"]["kld"]["mean"].as_f64();
        assert!(divergence.is_none_or(|nats| nats < 1e-3), "{divergence:?}");
    }
}
