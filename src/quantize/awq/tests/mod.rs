//! Scaled models are the same models; salient channels are found; files are what was searched for.

use super::*;
use crate::engine::LoadExtent;
use crate::engine::llama::graph;
use crate::engine::llama::model::Model;
use crate::quantize::testing::made_up::{self, ARCHITECTURES};
use crate::quantize::testing::{
    THREADS, divergence, few_tokens, importance_of, log_probabilities, plan, settings,
};
use relations::{Relation, Relations};
use std::collections::BTreeMap;
use std::path::PathBuf;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const EXPERTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-experts-F16.gguf");
fn relations_of(path: &Path) -> Relations {
    let model =
        Model::load(Backend::initialise(), path, &settings(), LoadExtent::Everything).unwrap();
    relations::find(&graph::of(&model, THREADS).unwrap())
}

/// How llama.cpp rounds the demo model.
fn rounding<'a>(output: &'a Path, file_type: &str) -> Rounding<'a> {
    Rounding {
        input: Path::new(DEMO),
        output,
        file_type: file_type.parse().unwrap(),
        threads: THREADS,
        allow_requantize: false,
        importance: None,
        overrides: &[],
        metadata: &[],
    }
}

/// Scales between 1/4 and 4.
fn random_scales(relation: &Relation, random: &mut fastrand::Rng) -> Vec<f32> {
    let count = relation.channels * relation.experts;
    (0..count).map(|_| (4.0 * random.f32() - 2.0).exp2()).collect()
}

/// Scales everything that can be, at random, and writes the model; `skip` leaves one tensor as it is, which makes it
/// another model.
fn scale_at_random(path: &Path, folder: &Path, skip: Option<&str>) -> PathBuf {
    let source = GgufInput::open(Backend::initialise(), path).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut changes = change::Changes::new();
    for relation in relations_of(path).found {
        let scales = random_scales(&relation, &mut random);
        change::add_scales(&mut changes, &relation, &scales);
    }
    if let Some(name) = skip {
        changes.remove(name).expect("the tensor is scaled");
    }
    let scaled = folder.join("scaled.gguf");
    change::write(&source, &changes, &scaled).unwrap();
    scaled
}

/// The model in F32, so that products are computed alike.
fn in_single(path: &str, folder: &Path) -> PathBuf {
    let source = GgufInput::open(Backend::initialise(), Path::new(path)).unwrap();
    let unchanged = |name: &str| (name.to_owned(), change::Change::default());
    let changes = source.tensors().iter().map(|tensor| unchanged(&tensor.entry.name)).collect();
    let single = folder.join("single.gguf");
    change::write(&source, &changes, &single).unwrap();
    single
}

#[test]
fn scaled_models_of_every_architecture_are_the_same_models() {
    for architecture in ARCHITECTURES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        made_up::write(architecture, &path);
        let reference = log_probabilities(&path, &few_tokens());
        let same = log_probabilities(&scale_at_random(&path, folder.path(), None), &few_tokens());
        let kld = divergence(&reference, &same);
        assert!(kld < 1e-6, "{}: {kld}", architecture.name);
        for part in ["blk.1.attn_norm.weight", "blk.1.attn_output.weight"] {
            let other = log_probabilities(
                &scale_at_random(&path, folder.path(), Some(part)),
                &few_tokens(),
            );
            let kld = divergence(&reference, &other);
            assert!(kld > 1e-3, "{} does not depend on {part}: {kld}", architecture.name);
        }
    }
}

#[test]
fn the_scaled_demo_models_are_the_same_models() {
    for model in [DEMO, EXPERTS] {
        let folder = tempfile::tempdir().unwrap();
        let single = in_single(model, folder.path());
        let reference = log_probabilities(&single, &few_tokens());
        let scaled = scale_at_random(&single, folder.path(), None);
        let kld = divergence(&reference, &log_probabilities(&scaled, &few_tokens()));
        assert!(kld < 1e-6, "{model}: {kld}");
    }
}

/// The products of each producer in layer 1, and the reasons of those without, by the names' last parts.
fn layer(relations: &Relations) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let short = |name: &str| {
        let name = name.strip_prefix("blk.1.")?;
        Some(name.strip_suffix(".weight").unwrap_or(name).to_owned())
    };
    let products = relations.found.iter().filter_map(|relation| {
        let products: Vec<String> =
            relation.products.iter().filter_map(|name| short(name)).collect();
        Some((short(&relation.producer.weight)?, products.join(" ")))
    });
    let unscaled = relations
        .unscaled
        .iter()
        .filter_map(|unscaled| Some((short(&unscaled.weight)?, unscaled.reason.clone())));
    (products.collect(), unscaled.collect())
}

#[test]
fn graphs_say_what_can_be_scaled() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = BTreeMap::new();
    for architecture in ARCHITECTURES {
        let path = folder.path().join("model.gguf");
        made_up::write(architecture, &path);
        said.insert(architecture.name, relations_of(&path));
    }
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let usual = pairs(&[
        ("attn_norm", "attn_q attn_k attn_v"),
        ("attn_v", "attn_output"),
        ("ffn_norm", "ffn_up ffn_gate"),
        ("ffn_up", "ffn_down"),
    ]);
    for name in ["llama", "qwen2", "qwen3", "gemma2", "gemma3"] {
        let (products, unscaled) = layer(&said[name]);
        let sorted = |products: &BTreeMap<String, String>| -> BTreeMap<String, Vec<String>> {
            let words = |text: &String| {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                words.sort();
                words
            };
            products.iter().map(|(name, text)| (name.clone(), words(text))).collect()
        };
        assert_eq!(sorted(&products), sorted(&usual), "{name}");
        assert_eq!(unscaled, BTreeMap::new(), "{name}");
    }
    let (products, unscaled) = layer(&said["phi2"]);
    assert_eq!(products["attn_norm"].split(' ').count(), 2, "{products:?}");
    assert_eq!(products["attn_qkv"], "attn_output");
    assert!(unscaled["ffn_down"].contains("GELU"), "{unscaled:?}");
    let (products, unscaled) = layer(&said["phi3"]);
    assert_eq!(
        (products["attn_qkv"].as_str(), products["ffn_up"].as_str()),
        ("attn_output", "ffn_down")
    );
    assert_eq!(unscaled, BTreeMap::new());
    let (products, unscaled) = layer(&said["qwen2moe"]);
    assert_eq!(products["ffn_norm"].split(' ').count(), 6, "{products:?}");
    assert_eq!(products["ffn_up_exps"], "ffn_down_exps");
    assert_eq!(products["ffn_up_shexp"], "ffn_down_shexp");
    assert_eq!(unscaled, BTreeMap::new());
    // The output matrix has the final norm to itself, unless it is the table of embeddings too.
    let covers = |name: &str, weight: &str| {
        said[name].found.iter().any(|relation| relation.products.contains(&weight.to_owned()))
    };
    assert!(covers("qwen2", "output.weight") && !covers("llama", "token_embd.weight"));
    let tied = &said["llama"].unscaled;
    assert!(tied.iter().any(|unscaled| unscaled.weight == "token_embd.weight"
        && unscaled.reason.contains("more than one place")));
}

#[test]
fn a_file_is_made_with_the_same_types_and_the_matrix_follows_the_scales() {
    let backend = Backend::initialise();
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/texts/calibration.txt"),
    )
    .unwrap();
    let text = &text[..text.floor_char_boundary(4000)];
    let output = folder.path().join("out.gguf");
    let mut request = AwqRequest {
        rounding: rounding(&output, "Q4_K_M"),
        plan: &plan(text, 256, Some(4)),
        folder: folder.path(),
        parameters: AwqParameters {
            exponents: 4,
            limits: LimitGrid { steps: 0, percent: 5 },
            rows: 64,
            // Several evaluations of the text.
            memory: 4 << 20,
            ..AwqParameters::default()
        },
    };
    let tokens = chunk_tokens(request.plan, backend, Path::new(DEMO)).unwrap();
    let importance = importance_of(Path::new(DEMO), &[&tokens[..256]]);
    request.rounding.importance = Some(&importance);
    let mut last = 0.0;
    let mut memory = Vec::new();
    let report = quantize(backend, &request, |event| match event {
        Progress::Fraction(fraction, _) => {
            assert!(fraction >= last, "{fraction} after {last}");
            last = fraction;
        }
        Progress::Memory(parts) => memory = parts,
        Progress::Note(_) => {}
    })
    .unwrap();
    assert!((last - 1.0).abs() < f64::EPSILON);
    let part = |name: &str| memory.iter().find(|(purpose, _)| purpose == name).unwrap().1;
    let sums = part("sums over inputs");
    assert!(sums > 0 && sums <= request.parameters.memory);
    assert!(part("the weights of the model") > 12 << 20);
    let names: Vec<&str> = report.kept.iter().map(|kept| kept.tensor.as_str()).collect();
    assert_eq!(names, ["token_embd.weight"]);
    let draft = GgufInput::open(backend, &folder.path().join("draft.gguf")).unwrap();
    let made = GgufInput::open(backend, &output).unwrap();
    for (made, draft) in made.tensors().iter().zip(draft.tensors()) {
        assert_eq!((&made.entry.name, made.entry.format), (&draft.entry.name, draft.entry.format));
    }
    // The scaled model, evaluated, has the importance that the scales predict.
    let source = GgufInput::open(backend, Path::new(DEMO)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let scaling =
        Scaling { backend, request: &request, source: &source, draft: &draft, pool: &pool };
    let Scaled { importance: predicted, .. } = scaling.run(&tokens, |_| ()).unwrap();
    let recomputed = importance_of(&folder.path().join("scaled.gguf"), &[&tokens[..256]]);
    for (predicted, recomputed) in predicted.unwrap().iter().zip(&recomputed) {
        assert_eq!(predicted.weight, recomputed.weight);
        let pairs = predicted.values.iter().zip(&recomputed.values);
        let (mut error, mut all) = (0.0, 0.0);
        for (predicted, recomputed) in pairs {
            error += (predicted - recomputed).abs();
            all += recomputed;
        }
        // Products of F16 and of F32 weights round their inputs differently.
        assert!(error < 0.01 * all, "{}: {error} of {all}", predicted.weight);
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let refused = |file_type: &str| {
        let request = AwqRequest {
            rounding: rounding(&output, file_type),
            plan: &plan("A few words.", 512, None),
            folder: folder.path(),
            parameters: AwqParameters::default(),
        };
        quantize(Backend::initialise(), &request, |_| ()).unwrap_err().to_string()
    };
    assert!(refused("F16").contains("needs none of it"));
    assert!(refused("Q4_0").contains("with a context of 512 it needs at least that many"));
}
