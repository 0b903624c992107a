//! The meter: stores groups of a loaded model as types would, and measures what that does to its output.

use super::Assignment;
use super::MixError;
use super::groups::Group;
use super::ledger::{Answer, Ledger, Question};
use super::rounding::Original;
use crate::engine::llama::tensors::Weights;
use crate::workload::quality::Comparison;

/// A loaded model whose weights are replaced and restored.
pub struct Meter<'a> {
    /// The groups.
    pub groups: &'a [Group],
    /// The weights as they are in the file.
    pub original: &'a Original<'a>,
    /// The weights in memory.
    pub weights: Weights<'a>,
    /// The text, with what the original says about it.
    pub comparison: Comparison<'a>,
    /// What was measured so far.
    pub ledger: Ledger,
    /// Which alternative each group is stored as in memory; `None`: as in the file.
    pub stored: Vec<Option<usize>>,
    /// Evaluations that were made: what the ledger knew is not among them.
    pub made: u32,
}

impl Meter<'_> {
    /// Divergence with one group stored as an alternative and all others as in `around` (`None`: as in
    /// the file); `progress` is told the fraction of the text that is done.
    ///
    /// # Errors
    /// When weights cannot be rounded or replaced, or the model cannot be evaluated.
    pub fn measure_group(
        &mut self,
        around: Option<&Assignment>,
        group: usize,
        alternative: usize,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Answer, MixError> {
        let question = Question {
            around: around.map_or(String::new(), |around| around.checksum(self.groups)),
            group: self.groups[group].name.clone(),
            format: self.groups[group].alternatives[alternative].format.name().to_owned(),
        };
        let mut places: Vec<Option<usize>> =
            around.map_or(vec![None; self.groups.len()], |around| around.places().collect());
        places[group] = Some(alternative);
        self.answer(question, &places, progress)
    }

    /// Divergence of a whole mix.
    ///
    /// # Errors
    /// As [`Self::measure_group`].
    pub fn measure_mix(
        &mut self,
        mix: &Assignment,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Answer, MixError> {
        let question = Question {
            around: mix.checksum(self.groups),
            group: String::new(),
            format: String::new(),
        };
        self.answer(question, &mix.places().collect::<Vec<_>>(), progress)
    }

    fn answer(
        &mut self,
        question: Question,
        places: &[Option<usize>],
        progress: &mut dyn FnMut(f64),
    ) -> Result<Answer, MixError> {
        if let Some(known) = self.ledger.get(&question) {
            return Ok(known.clone());
        }
        for (group, &place) in places.iter().enumerate() {
            self.store(group, place)?;
        }
        let divergence = self.comparison.measure(&mut |fraction, _| progress(fraction))?;
        let divergence = divergence.ok_or(MixError::NoReference)?;
        let answer = Answer { chunk_kld: divergence.chunk_kld };
        self.made += 1;
        self.ledger.keep(question, answer.clone()).map_err(MixError::Ledger)?;
        Ok(answer)
    }

    /// Puts a group into memory as an alternative, or as it is in the file.
    fn store(&mut self, group: usize, place: Option<usize>) -> Result<(), MixError> {
        if self.stored[group] == place {
            return Ok(());
        }
        for (index, tensor) in self.groups[group].tensors.iter().enumerate() {
            match place {
                None => self.weights.write(&tensor.name, self.original.bytes(&tensor.name)?)?,
                Some(place) => {
                    let format = self.groups[group].alternatives[place].formats[index];
                    let rounded = self.original.rounded(&tensor.name, format)?;
                    self.weights.write_f32(&tensor.name, &rounded.values)?;
                }
            }
        }
        self.stored[group] = place;
        Ok(())
    }
}
