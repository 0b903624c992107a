//! Recipes: a mix as a TOML file, which makes the same file again.

use super::MixError;
use super::choose::MeasuredMix;
use super::groups::{Group, needs_importance};
use super::jobs::MixJob;
use crate::engine::llama::blocks::{can_quantize, row_bytes};
use crate::model::file_type::FileType;
use crate::model::gguf::{GgmlType, Header};
use crate::quantize::shape;
use crate::quantize::types::TensorTypes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of the file format.
const VERSION: u32 = 1;

/// A mix as a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the file format; 1.
    pub version: u32,
    /// `general.file_type` of the GGUF: the type of most weights.
    pub file_type: FileType,
    /// The model it was made for.
    pub model: ModelStamp,
    /// How the mix was chosen; not needed to make the GGUF again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Type of each tensor. Others get what llama.cpp gives them for the file type.
    pub tensors: BTreeMap<String, String>,
}

/// The model that a recipe was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStamp {
    /// `general.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// SHA-256 of the GGUF, hex; empty if unknown.
    pub sha256: String,
    /// Number of weights.
    pub parameters: u64,
    /// SHA-256 of the importance matrix, hex; `None`: round to nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_sha256: Option<String>,
}

/// How a mix was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// SHA-256 of the text, hex.
    pub text_sha256: String,
    /// Tokens per chunk.
    pub context: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// Mean KLD of the mix on that text, nats.
    pub kld: f64,
    /// Standard error of `kld`, from the spread of chunks.
    pub kld_standard_error: f64,
    /// Predicted before the mix was measured, nats.
    pub kld_predicted: f64,
    /// Sum of the divergences that each tensor's type causes alone, nats.
    pub kld_sum_alone: f64,
    /// Bits per weight over all tensors.
    pub bits_per_weight: f64,
}

/// SHA-256 of the inputs, hex. The worker does not compute them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums {
    /// Empty if unknown.
    pub model: String,
    /// Of the text that divergence is measured on.
    pub text: String,
    /// `None`: no importance matrix.
    pub importance: Option<String>,
}

impl Recipe {
    #[expect(clippy::cast_precision_loss, reason = "shown with four digits")]
    pub(super) fn new(
        job: &MixJob,
        source: &Header,
        groups: &[Group],
        choice: &MeasuredMix,
    ) -> Result<Self, MixError> {
        let types = choice.assignment.types(groups);
        let bits = source.tensors.iter().map(|tensor| match types.get(&tensor.name) {
            Some(format) => tensor.weights as f64 * format.bits_per_weight(),
            None => tensor.bytes as f64 * 8.0,
        });
        let bits_per_weight = bits.sum::<f64>() / source.parameters().max(1) as f64;
        let tensors = types.iter().map(|(name, format)| (name.clone(), format.to_string()));
        Ok(Self {
            version: VERSION,
            file_type: file_type(source, &types)?,
            model: ModelStamp {
                name: source.name().map(str::to_owned),
                sha256: job.checksums.model.clone(),
                parameters: source.parameters(),
                importance_sha256: job.checksums.importance.clone(),
            },
            measured: Some(Measured {
                text_sha256: job.checksums.text.clone(),
                context: job.context,
                chunks: u32::try_from(choice.measured.chunk_kld.len()).unwrap_or(u32::MAX),
                kld: choice.measured.kld(),
                kld_standard_error: choice.measured.standard_error(),
                kld_predicted: choice.predicted,
                kld_sum_alone: choice.sum_alone,
                bits_per_weight,
            }),
            tensors: tensors.collect(),
        })
    }

    /// Parses a recipe.
    ///
    /// # Errors
    /// [`MixError::RecipeText`] with line and column.
    pub fn parse(text: &str) -> Result<Self, MixError> {
        let wrong = MixError::RecipeText;
        let recipe: Self =
            toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        if recipe.version != VERSION {
            let found = recipe.version;
            return Err(wrong(format!("it has version {found}; this program reads {VERSION}")));
        }
        if recipe.tensors.is_empty() {
            return Err(wrong("[tensors] is empty".to_owned()));
        }
        recipe.types()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// [`MixError::RecipeText`] for numbers that TOML cannot hold.
    pub fn to_text(&self) -> Result<String, MixError> {
        let body =
            toml::to_string(self).map_err(|error| MixError::RecipeText(error.to_string()))?;
        Ok(format!(
            "# A mix of types, made by quantbench. The same file again:\n\
             # quantbench mix MODEL --recipe THIS_FILE -o OUT.gguf\n\n{body}"
        ))
    }

    /// The types of a model's tensors.
    ///
    /// # Errors
    /// The recipe does not fit the model.
    pub fn resolve(&self, model: &Header, has_importance: bool) -> Result<TensorTypes, MixError> {
        let types = self.types()?;
        self.check(model, &types, has_importance)?;
        Ok(TensorTypes(types))
    }

    /// Type of each tensor.
    fn types(&self) -> Result<BTreeMap<String, GgmlType>, MixError> {
        let types = self.tensors.iter().map(|(tensor, name)| {
            let wrong = |what| {
                MixError::RecipeText(format!("tensor '{tensor}': '{name}' is no type {what}"))
            };
            let format = GgmlType::from_name(name).ok_or_else(|| wrong("of ggml"))?;
            if !can_quantize(format) {
                return Err(wrong("that weights are stored in"));
            }
            Ok((tensor.clone(), format))
        });
        types.collect()
    }

    /// Checks that a model has the tensors, and rows that fit their types, and that no type needs an importance matrix
    /// that is missing.
    fn check(
        &self,
        model: &Header,
        types: &BTreeMap<String, GgmlType>,
        has_importance: bool,
    ) -> Result<(), MixError> {
        const NEEDED: &str = "which is made only with an importance matrix";
        if self.file_type.needs_importance_matrix() && !has_importance {
            let reason = format!("its file type is {}, {NEEDED}", self.file_type);
            return Err(MixError::Recipe(reason));
        }
        for (name, &format) in types {
            let tensor = model.tensors.iter().find(|tensor| tensor.name == *name);
            let Some(tensor) = tensor else {
                return Err(MixError::Recipe(format!("it has no tensor '{name}'")));
            };
            if needs_importance(format) && !has_importance {
                let reason = format!("'{name}' is to be {format}, {NEEDED}");
                return Err(MixError::Recipe(reason));
            }
            let [columns, ..] = shape(tensor);
            if row_bytes(format, columns).is_none() {
                let reason =
                    format!("'{name}' has rows of {columns} weights, which {format} cannot store");
                return Err(MixError::Recipe(reason));
            }
        }
        Ok(())
    }
}

/// llama.cpp's file type for the type of most weights.
fn file_type(source: &Header, types: &BTreeMap<String, GgmlType>) -> Result<FileType, MixError> {
    let mut weights: BTreeMap<GgmlType, u64> = BTreeMap::new();
    for tensor in &source.tensors {
        if let Some(&format) = types.get(&tensor.name).filter(|format| format.block_weights() > 1) {
            *weights.entry(format).or_default() += tensor.weights;
        }
    }
    let most = weights.into_iter().max_by_key(|&(_, weights)| weights).map(|(format, _)| format);
    let name = match most.map_or("Q8_0", GgmlType::name) {
        // llama.cpp has no file type of these names alone.
        name @ ("Q3_K" | "Q4_K" | "Q5_K") => format!("{name}_M"),
        name => name.to_owned(),
    };
    name.parse().map_err(|_| MixError::Recipe(format!("no file type is named {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            version: VERSION,
            file_type: "Q4_K_M".parse().unwrap(),
            model: ModelStamp {
                name: Some("demo".to_owned()),
                sha256: "ab".to_owned(),
                parameters: 7,
                importance_sha256: None,
            },
            measured: None,
            tensors: [("blk.0.attn_q.weight".to_owned(), "Q4_K".to_owned())].into(),
        }
    }

    #[test]
    fn a_recipe_comes_back_as_it_was_written() {
        let text = recipe().to_text().unwrap();
        assert_eq!(Recipe::parse(&text).unwrap(), recipe());
        assert!(text.contains("\"blk.0.attn_q.weight\" = \"Q4_K\""), "{text}");
    }

    #[test]
    fn what_is_wrong_in_a_recipe_is_named() {
        let text = recipe().to_text().unwrap();
        for (from, to, part) in [
            ("\"Q4_K\"", "\"Q4_Z\"", "'Q4_Z' is no type of ggml"),
            ("\"Q4_K\"", "\"Q8_K\"", "'blk.0.attn_q.weight': 'Q8_K' is no type that weights"),
            ("\"Q4_K\"", "\"i32\"", "'i32' is no type that weights"),
            ("\"Q4_K\"", "\"F64\"", "'F64' is no type that weights"),
            ("version = 1", "version = 2", "version 2"),
            ("version = 1", "versoin = 1", "versoin"),
            ("\"blk.0.attn_q.weight\" = \"Q4_K\"", "", "[tensors] is empty"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = Recipe::parse(&changed).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn types_of_few_bits_are_refused_where_there_is_no_importance_matrix() {
        let header = |recipe: &Recipe, has_importance| {
            let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
            let model = Header::read(std::path::Path::new(demo)).unwrap();
            let checked = recipe.check(&model, &recipe.types().unwrap(), has_importance);
            checked.map_err(|error| error.to_string())
        };
        let mut few_bits = recipe();
        few_bits.tensors = [("blk.0.attn_q.weight".to_owned(), "IQ2_XS".to_owned())].into();
        let error = header(&few_bits, false).unwrap_err();
        assert!(error.contains("'blk.0.attn_q.weight' is to be IQ2_XS, which is made"), "{error}");
        assert_eq!(header(&few_bits, true), Ok(()));
        let file_type = Recipe { file_type: "IQ1_S".parse().unwrap(), ..recipe() };
        let error = header(&file_type, false).unwrap_err();
        assert!(error.contains("its file type is IQ1_S, which is made"), "{error}");
    }
}
