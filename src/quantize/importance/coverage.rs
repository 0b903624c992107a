//! Whether an importance matrix is of a model, and how much of it.

use super::{ImportanceError, ImportanceMatrix, Sums};
use crate::model::gguf::{Header, Tensor};
use crate::quantize::shape;
use std::collections::HashMap;
use std::path::Path;

/// A matrix that covers less of what is rounded is taken for a mistake: percent of the weights.
const LEAST_PERCENT: u64 = 10;

/// Names of weights that are shown where a matrix lacks some.
const SHOWN: usize = 3;

/// How much of what is rounded a matrix covers. The embedding of tokens and the output count on
/// neither side: llama-imatrix leaves them out as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Tensors that it covers.
    pub covered: usize,
    /// Names of those that it lacks.
    pub missing: Vec<String>,
    /// Percent of their weights that it covers, rounded down.
    pub percent: u64,
}

impl Coverage {
    fn of<'a>(matrix: &ImportanceMatrix, tensors: impl Iterator<Item = &'a Tensor>) -> Self {
        let mut coverage = Self::default();
        let (mut covered, mut all) = (0_u128, 0_u128);
        for tensor in tensors.filter(|tensor| is_collected(tensor)) {
            all += u128::from(tensor.weights);
            let sums = matrix.weights.get(&tensor.name);
            if sums.is_some_and(|sums| sums.counts.iter().any(|&count| count > 0)) {
                covered += u128::from(tensor.weights);
                coverage.covered += 1;
            } else {
                coverage.missing.push(tensor.name.clone());
            }
        }
        let percent = (100 * covered).checked_div(all).unwrap_or(100);
        coverage.percent = u64::try_from(percent).unwrap_or(100);
        coverage
    }

    /// What of a file that was made has been rounded without the matrix; `None`: nothing.
    pub fn note(matrix: &ImportanceMatrix, source: &Header, made: &Header) -> Option<String> {
        let before: HashMap<&str, &Tensor> =
            source.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let rounded = made.tensors.iter().filter(|tensor| {
            let was = before.get(tensor.name.as_str());
            tensor.format.block_weights() > 1 && was.is_some_and(|was| was.format != tensor.format)
        });
        let coverage = Self::of(matrix, rounded);
        (!coverage.missing.is_empty())
            .then(|| format!("{}; the others are rounded as rtn rounds them", coverage.in_words()))
    }

    fn in_words(&self) -> String {
        let all = self.covered + self.missing.len();
        let shown = self.missing.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>();
        let more = if self.missing.len() > SHOWN { ", …" } else { "" };
        format!(
            "the importance matrix covers {} of {all} tensors ({} % of their weights), not {}{more}",
            self.covered,
            self.percent,
            shown.join(", ")
        )
    }
}

impl ImportanceMatrix {
    /// Looks whether the matrix, read from `path`, is of this model, and of more than a bit of it.
    /// llama.cpp passes over sums for weights that a model does not have: it would silently round
    /// plainly.
    ///
    /// # Errors
    /// It is of another model, or of hardly any weight.
    pub fn check(&self, path: &Path, model: &Header) -> Result<(), ImportanceError> {
        let tensors: HashMap<&str, &Tensor> =
            model.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let fits = |weight: &str, sums: &Sums<f32>| {
            // A row of sums for each matrix of the weight.
            tensors.get(weight).is_some_and(|tensor| {
                let [columns, _, matrices] = shape(tensor);
                columns * matrices == sums.squares.len()
            })
        };
        if let Some((weight, _)) = self.weights.iter().find(|(weight, sums)| !fits(weight, sums)) {
            return Err(ImportanceError::Refused(format!(
                "the importance matrix {} is of another model: its sums for '{weight}' do not fit this one",
                path.display()
            )));
        }
        let matrices = model.tensors.iter().filter(|tensor| is_rounded(tensor));
        let coverage = Coverage::of(self, matrices);
        if coverage.percent < LEAST_PERCENT {
            return Err(ImportanceError::Refused(format!(
                "{}: {}; at least {LEAST_PERCENT} % are needed, or nearly everything would be rounded as rtn \
                 rounds it: make it anew with 'quantbench calibrate'",
                path.display(),
                coverage.in_words()
            )));
        }
        Ok(())
    }
}

/// Whether llama-imatrix has sums for such a tensor.
fn is_collected(tensor: &Tensor) -> bool {
    !matches!(
        tensor.name.as_str(),
        "output.weight" | "token_embd.weight" | "per_layer_token_embd.weight"
    )
}

/// Whether llama.cpp rounds it, as far as name and shape tell: matrices of layers, but not norms and
/// the choice of experts.
fn is_rounded(tensor: &Tensor) -> bool {
    let name = tensor.name.as_str();
    name.ends_with(".weight")
        && name.contains("blk.")
        && tensor.dimensions.iter().filter(|&&size| size > 1).count() > 1
        && !name.contains("_norm")
        && !name.contains("ffn_gate_inp")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::testing::Builder;

    /// A model of four matrices and what belongs to them, in F32 or rounded.
    fn model(format: u32) -> Header {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut builder = Builder::model(7).tensor("blk.0.attn_norm.weight", 0, &[64]);
        for layer in 0..4 {
            builder = builder.tensor(&format!("blk.{layer}.attn_q.weight"), format, &[64, 64]);
        }
        builder.tensor("output.weight", format, &[64, 10]).write(&path);
        Header::read(&path).unwrap()
    }

    fn matrix(layers: &[u32], count: u64) -> ImportanceMatrix {
        let sums = Sums { columns: 64, squares: vec![1.0; 64], counts: vec![count] };
        let name = |layer: &u32| format!("blk.{layer}.attn_q.weight");
        let weights = layers.iter().map(|layer| (name(layer), sums.clone())).collect();
        ImportanceMatrix { weights, ..ImportanceMatrix::default() }
    }

    #[test]
    fn a_matrix_of_hardly_anything_is_refused_with_what_it_covers() {
        let check = |matrix: &ImportanceMatrix| matrix.check(Path::new("m.gguf"), &model(0));
        assert!(check(&matrix(&[0, 1, 2, 3], 7)).is_ok());
        assert!(check(&matrix(&[1], 7)).is_ok());
        // An entry over no token says nothing.
        let error = check(&matrix(&[0, 1], 0)).unwrap_err().to_string();
        assert!(
            error.contains("covers 0 of 4 tensors (0 % of their weights), not blk.0"),
            "{error}"
        );
        assert!(error.contains("at least 10 %"), "{error}");
    }

    #[test]
    fn sums_of_another_model_are_refused_by_name() {
        for (layer, columns) in [(9, 64), (1, 32)] {
            let mut matrix = matrix(&[layer], 7);
            for sums in matrix.weights.values_mut() {
                sums.squares.truncate(columns);
            }
            let error = matrix.check(Path::new("m.gguf"), &model(0)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("its sums for 'blk.{layer}.attn_q.weight'")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_was_rounded_without_the_matrix_is_named() {
        let note = |layers: &[u32]| Coverage::note(&matrix(layers, 7), &model(0), &model(8));
        assert_eq!(note(&[0, 1, 2, 3]), None);
        assert_eq!(
            note(&[0, 1, 3]).unwrap(),
            "the importance matrix covers 3 of 4 tensors (75 % of their weights), not \
             blk.2.attn_q.weight; the others are rounded as rtn rounds them"
        );
        assert_eq!(Coverage::note(&matrix(&[0], 7), &model(0), &model(0)), None);
    }
}
