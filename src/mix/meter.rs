//! The meter: rounds groups of a loaded model to types and measures the divergence of its output.

use super::MixError;
use super::groups::{Assignment, Group};
use super::ledger::{Ledger, Measurement, MeasurementKey};
use super::rounding::Original;
use crate::engine::llama::tensors::Weights;
use crate::workload::quality::Comparison;

/// A loaded model whose weights are replaced and restored.
pub(super) struct Meter<'a> {
    pub(super) groups: &'a [Group],
    /// The weights in the file.
    pub(super) original: &'a Original<'a>,
    /// The weights in memory.
    pub(super) weights: Weights<'a>,
    pub(super) comparison: Comparison<'a>,
    pub(super) ledger: Ledger,
    /// The alternative that each group has in memory; `None`: as in the file.
    pub(super) stored: Vec<Option<usize>>,
    /// Evaluations made; those known from the ledger are not counted.
    pub(super) evaluations: u32,
}

impl Meter<'_> {
    pub(super) fn key(
        &self,
        around: Option<&Assignment>,
        group: usize,
        alternative: usize,
    ) -> MeasurementKey {
        let group = &self.groups[group];
        MeasurementKey {
            around: around.map_or(String::new(), |around| around.checksum(self.groups)),
            group: group.name.clone(),
            format: group.alternatives[alternative].format.name().to_owned(),
        }
    }

    /// Divergence with one group as an alternative and all others as in `around` (`None`: as in the file).
    pub(super) fn measure_group(
        &mut self,
        around: Option<&Assignment>,
        group: usize,
        alternative: usize,
        on_fraction: &mut dyn FnMut(f64),
    ) -> Result<Measurement, MixError> {
        let mut places: Vec<Option<usize>> = match around {
            None => vec![None; self.groups.len()],
            Some(around) => around.0.iter().copied().map(Some).collect(),
        };
        places[group] = Some(alternative);
        self.measure(self.key(around, group, alternative), &places, on_fraction)
    }

    /// Divergence of a whole mix.
    pub(super) fn measure_mix(
        &mut self,
        mix: &Assignment,
        on_fraction: &mut dyn FnMut(f64),
    ) -> Result<Measurement, MixError> {
        let around = mix.checksum(self.groups);
        let key = MeasurementKey { around, group: String::new(), format: String::new() };
        let places: Vec<Option<usize>> = mix.0.iter().copied().map(Some).collect();
        self.measure(key, &places, on_fraction)
    }

    fn measure(
        &mut self,
        key: MeasurementKey,
        places: &[Option<usize>],
        on_fraction: &mut dyn FnMut(f64),
    ) -> Result<Measurement, MixError> {
        if let Some(known) = self.ledger.get(&key) {
            return Ok(known.clone());
        }
        for (group, &place) in places.iter().enumerate() {
            self.store(group, place)?;
        }
        let divergence = self.comparison.measure(&mut |fraction, _| on_fraction(fraction))?;
        let divergence = divergence.ok_or_else(MixError::no_reference)?;
        let measurement = Measurement { chunk_kld: divergence.chunk_kld };
        self.evaluations += 1;
        self.ledger.insert(key, measurement.clone()).map_err(MixError::Ledger)?;
        Ok(measurement)
    }

    /// Writes a group into memory as an alternative, or as it is in the file.
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
