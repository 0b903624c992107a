//! Shapes as files: weights generated in the type that they are stored in, at the speed of the disk.
//!
//! Random rows are rounded once for every type and row length, and written again and again. What computes a model takes
//! as long for them as for trained ones, and the file has the size and the types that llama.cpp's quantization would
//! give it.

use super::jobs::QuantizeJob;
use super::{MethodError, fraction};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{
    GgufFileError, GgufInput, GgufOutput, Metadata, MetadataValue, TensorPlan,
};
use crate::engine::llama::quantize::planned_types;
use crate::model::gguf::{GgmlType, Header, Tensor};
use crate::model::quantization::Method;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

/// Weights of the rows that are rounded: enough for many rows, and rounded within a second.
const PATTERN: usize = 1 << 19;

/// The same of F32, which is not rounded.
const PLAIN: usize = 1 << 22;

/// Rows of a router have to differ, or the same experts are chosen for all tokens; those of floating point cost nothing.
const ROWS: std::ops::RangeInclusive<usize> = 32..=512;

/// How weights of a tensor are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fill {
    /// Normally distributed, with the variance that keeps that of what comes in.
    Random,
    /// All 1: norms, and factors of frequencies.
    One,
}

/// Writes the file of a shape. `on_fraction` is called with the fraction of tensors done.
///
/// # Errors
/// The header is none, llama.cpp cannot plan with it, or the file cannot be written; it is then incomplete.
pub(super) fn generate(
    backend: Backend,
    job: &QuantizeJob,
    on_fraction: impl Fn(f64),
) -> Result<(), MethodError> {
    if job.method != Method::Rtn {
        let reason = format!("{} looks at weights, and a shape has none", job.method);
        return Err(MethodError::Refused(reason));
    }
    let output = &job.output.path;
    lay_out(&job.input.path, output)?;
    let (metadata, plans) = plans(backend, job)?;
    let mut file = GgufOutput::create(output, &metadata, &plans)?;
    let mut patterns: HashMap<(GgmlType, usize, Fill), Vec<u8>> = HashMap::new();
    for (done, plan) in plans.iter().enumerate() {
        let columns = plan.dimensions.first().copied().unwrap_or(1);
        let columns = usize::try_from(columns).unwrap_or(usize::MAX);
        let is_one = plan.name.contains("norm.weight") || plan.name.starts_with("rope_");
        let key = (plan.format, columns, if is_one { Fill::One } else { Fill::Random });
        let bytes = match patterns.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(pattern(key)?),
        };
        file.write_repeated(&plan.name, bytes)?;
        on_fraction(fraction(done + 1, 0.0, plans.len()));
    }
    Ok(file.finish()?)
}

/// Writes the header of a shape with the length of its file and no data, which is all that llama.cpp needs to plan.
fn lay_out(header: &Path, output: &Path) -> Result<(), GgufFileError> {
    let (whole, _) = Header::read_beginning(header)?;
    let read = |source| GgufFileError::Read { path: header.to_owned(), source };
    let write = |source| GgufFileError::Write { path: output.to_owned(), source };
    let bytes = fs::read(header).map_err(read)?;
    fs::write(output, bytes).map_err(write)?;
    let file = File::options().write(true).open(output).map_err(write)?;
    file.set_len(whole.file_bytes).map_err(write)
}

/// The keys and tensors of the file, from what lies at its place.
fn plans(backend: Backend, job: &QuantizeJob) -> Result<(Metadata, Vec<TensorPlan>), MethodError> {
    let QuantizeJob { output, file_type, types, .. } = job;
    let is_weighted = file_type.needs_importance_matrix();
    let planned = planned_types(backend, &output.path, *file_type, is_weighted)?;
    let mut planned: BTreeMap<String, GgmlType> = planned.into_iter().collect();
    planned.extend(types.iter().flat_map(|types| types.0.clone()));
    let input = GgufInput::open(backend, &output.path)?;
    let mut metadata = input.metadata()?;
    metadata.set("general.quantization_version", MetadataValue::U32(2))?;
    metadata.set("general.file_type", MetadataValue::U32(file_type.number()))?;
    let plan = |tensor: &Tensor| {
        let format = planned.get(&tensor.name).copied().unwrap_or(tensor.format);
        TensorPlan { format, ..TensorPlan::from(tensor) }
    };
    let plans = input.tensors().iter().map(|tensor| plan(&tensor.entry)).collect();
    Ok((metadata, plans))
}

/// Rows of weights as they are stored.
fn pattern((format, columns, fill): (GgmlType, usize, Fill)) -> Result<Vec<u8>, MethodError> {
    let weights = if format == GgmlType::F32 { PLAIN } else { PATTERN };
    let rows = (weights / columns.max(1)).clamp(*ROWS.start(), *ROWS.end());
    let count = rows.saturating_mul(columns);
    let mut random = fastrand::Rng::with_seed(u64::from(format.number()));
    #[expect(clippy::cast_precision_loss, reason = "a row has fewer weights than f32 counts")]
    let width = (columns.max(1) as f32).sqrt().recip();
    let values: Vec<f32> = match fill {
        Fill::One => vec![1.0; columns],
        Fill::Random => (0..count).map(|_| width * normal(&mut random)).collect(),
    };
    // Types that ask for an importance matrix are given one in which all columns count alike.
    let importance = blocks::needs_importance(format).then(|| vec![1.0; columns]);
    Ok(blocks::quantize(format, &values, columns, importance.as_deref())?)
}

/// A number that is normally distributed (Box and Muller 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let (radius, angle) = (1.0 - random.f32(), random.f32());
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LoadExtent;
    use crate::engine::llama::model::Model;
    use crate::model::artifact::ArtifactRef;
    use crate::model::cache::Cache;
    use crate::model::shape::{Dimensions, ShapeFiles, entries};
    use crate::quantize::testing::{few_tokens, log_probabilities, settings};
    use std::path::PathBuf;

    /// A network of the same architecture and as many layers as decide what it consists of.
    fn small(dimensions: &Dimensions) -> Dimensions {
        let layers = if dimensions.architecture() == "deepseek2" { 27 } else { 2 };
        let (width, head) = (64, 32);
        let mut values = vec![
            ("hidden_size", width),
            ("num_hidden_layers", layers),
            ("num_attention_heads", 4),
            ("num_key_value_heads", 2),
            ("head_dim", head),
            ("intermediate_size", 96),
            ("vocab_size", 320),
            ("max_position_embeddings", 128),
            ("sliding_window", 64),
        ];
        match dimensions.architecture() {
            // Theirs is the width over the heads.
            "bert" | "qwen2" | "phi3" => {
                values.extend([("head_dim", 16), ("num_key_value_heads", 4)]);
            }
            "t5" => values.push(("num_key_value_heads", 4)),
            "deepseek2" => values.extend([
                ("qk_nope_head_dim", 16),
                ("qk_rope_head_dim", 16),
                ("v_head_dim", 32),
                ("kv_lora_rank", 32),
            ]),
            _ => {}
        }
        if dimensions.value("num_experts", 0) > 0 {
            values.extend([("num_experts", 4), ("num_experts_per_tok", 2)]);
            values.push(("moe_intermediate_size", 32));
        }
        dimensions.with(&values)
    }

    struct Scene {
        folder: tempfile::TempDir,
        cache: Cache,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::at(&folder.path().join("cache")).unwrap();
            Self { folder, cache }
        }

        fn files(&self, dimensions: &Dimensions) -> ShapeFiles {
            dimensions.template().unwrap().in_cache(&self.cache).unwrap()
        }

        fn make(&self, dimensions: &Dimensions, quantization: &str) -> Result<PathBuf, String> {
            let output = self.folder.path().join("made.gguf");
            let quantization: crate::model::quantization::Quantization =
                quantization.parse().unwrap();
            let job = QuantizeJob {
                input: ArtifactRef::here(&self.files(dimensions).header),
                output: ArtifactRef::output(&output),
                file_type: quantization.to_make().unwrap(),
                types: None,
                method: quantization.method,
                threads: None,
                allow_requantize: false,
                calibration: None,
                generates: true,
            };
            let made = generate(Backend::initialise(), &job, |_| ());
            made.map(|()| output).map_err(|error| crate::causes::in_words(&error))
        }
    }

    #[test]
    fn llama_cpp_plans_the_memory_of_every_shape_of_the_catalogue() {
        let scene = Scene::new();
        for (name, entry) in entries() {
            // The vocabulary takes long and plans nothing.
            let whole = scene.files(&entry.dimensions.with(&[("vocab_size", 512)])).whole;
            let planned = Model::load(
                Backend::initialise(),
                &whole,
                &settings(),
                LoadExtent::MemoryPlan { experts_on_host: false },
            );
            assert!(planned.is_ok(), "{name}: {}", planned.unwrap_err());
        }
    }

    #[test]
    fn a_small_network_of_every_architecture_is_loaded_and_computes() {
        let scene = Scene::new();
        let mut done = Vec::new();
        for (name, entry) in entries() {
            let dimensions = small(&entry.dimensions);
            let architecture = dimensions.architecture().to_owned();
            // Of llama there are two: with experts and without.
            let kind = (architecture.clone(), dimensions.value("num_experts", 0));
            if done.contains(&kind) {
                continue;
            }
            done.push(kind);
            for quantization in ["F16", "Q8_0", "Q4_K_M", "IQ2_XXS"] {
                let path = scene.make(&dimensions, quantization);
                let path = path.unwrap_or_else(|error| panic!("{name} {quantization}: {error}"));
                if ["bert", "t5"].contains(&architecture.as_str()) {
                    let extent = LoadExtent::Everything;
                    let loaded = Model::load(Backend::initialise(), &path, &settings(), extent);
                    assert!(loaded.is_ok(), "{name}: {}", loaded.unwrap_err());
                    continue;
                }
                let rows = log_probabilities(&path, &few_tokens());
                assert!(rows.iter().flatten().all(|it| it.is_finite()), "{name} {quantization}");
                assert_ne!(rows[1], rows[2], "{name}: what is computed depends on the token");
            }
        }
        assert_eq!(done.len(), 12);
    }

    #[test]
    fn a_file_has_the_types_that_llama_cpp_gives_it_and_says_what_it_is() {
        let scene = Scene::new();
        let dimensions = entries()["smollm2-135m"].dimensions.with(&[("num_hidden_layers", 2)]);
        let path = scene.make(&dimensions, "Q4_K_M").unwrap();
        let made = Header::read(&path).unwrap();
        let whole = scene.files(&dimensions).whole;
        let backend = Backend::initialise();
        let planned = planned_types(backend, &whole, "Q4_K_M".parse().unwrap(), false).unwrap();
        for (name, format) in planned {
            let tensor = made.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            assert_eq!(tensor.format, format, "{name}");
        }
        assert_eq!(made.file_type(), Some("Q4_K_M".parse().unwrap()));
        assert_eq!(made.get(crate::model::shape::SHAPE_KEY).unwrap().as_count(), Some(1));
        let error = scene.make(&dimensions, "gptq:Q4_0").unwrap_err();
        assert!(error.contains("gptq looks at weights"), "{error}");
    }

    #[test]
    fn rows_are_normally_distributed_and_differ() {
        let bytes = pattern((GgmlType::F32, 1024, Fill::Random)).unwrap();
        let values = blocks::values(GgmlType::F32, &bytes).unwrap();
        let square: f32 = values.iter().map(|value| value * value * 1024.0).sum();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let mean = square / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert_ne!(values[..1024], values[1024..2048]);
    }
}
