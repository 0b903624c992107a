//! What variants hold besides what their names say, and which of them are one file under several names.

use super::text::{list, sanitize};
use crate::model::stored_types::StoredTypes;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::{each_once, grouped};

/// Notes about the types of tensors: of each variant that holds others than its name says, then of those
/// that do not differ.
pub(super) fn notes(run: &RunRecord) -> Vec<String> {
    let mut notes = each_once(typed(run).filter_map(|(trial, types)| {
        let told = types.told(trial.quantization.file_type())?;
        Some(format!("{}: {told}.", name(run, trial)))
    }));
    let told = |labels: Vec<String>, more: &str| {
        format!(
            "{} are one file under {} names: all their tensors have the same types{more}.",
            list(&labels),
            labels.len()
        )
    };
    notes.extend(made_alike(run).into_iter().map(|labels| told(labels, "")));
    let more = ", and they compute the same";
    notes.extend(found_alike(run).into_iter().map(|labels| told(labels, more)));
    notes
}

/// Names of variants that are one file, group by group.
pub(super) fn same(run: &RunRecord) -> Vec<Vec<String>> {
    made_alike(run).into_iter().chain(found_alike(run)).collect()
}

fn is_made(trial: &TrialRecord) -> bool {
    trial.artifact.as_ref().is_some_and(|artifact| artifact.quantize_seconds.is_some())
}

/// Those made of one source in one way whose tensors all have the same types.
fn made_alike(run: &RunRecord) -> Vec<Vec<String>> {
    let made = typed(run).filter(|(trial, _)| is_made(trial));
    several(made.map(|(trial, types)| {
        ((&trial.model, trial.quantization.method, &types.checksum), name(run, trial))
    }))
}

/// Those that were there already: their weights may differ where their types do not, and then so does what they compute.
fn found_alike(run: &RunRecord) -> Vec<Vec<String>> {
    let found = typed(run).filter(|(trial, _)| !is_made(trial));
    several(found.filter_map(|(trial, types)| {
        // The later chunks are not of all variants.
        let computed = trial.quality.as_ref()?.chunk_nll.first()?.to_bits();
        Some(((&trial.model, &types.checksum, computed), name(run, trial)))
    }))
}

fn several<K: PartialEq>(named: impl Iterator<Item = (K, String)>) -> Vec<Vec<String>> {
    let groups = grouped(named).into_iter().map(|(_, names)| each_once(names));
    groups.filter(|names| names.len() > 1).collect()
}

fn typed(run: &RunRecord) -> impl Iterator<Item = (&TrialRecord, &StoredTypes)> {
    run.trials.iter().filter_map(|trial| Some((trial, trial.facts.as_ref()?.types.as_ref()?)))
}

fn name(run: &RunRecord, trial: &TrialRecord) -> String {
    let label = sanitize(&trial.label);
    let several = run.trials.iter().any(|other| other.model != trial.model);
    if several { format!("{} {label}", sanitize(&trial.model)) } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored_types::Substituted;
    use crate::results::made_up::{LADDER, MadeUp};

    fn with_types(checksums: [&str; 3]) -> RunRecord {
        let variants = [LADDER[0], LADDER[7], LADDER[11]].to_vec();
        let mut run = MadeUp { variants, ..MadeUp::default() }.run();
        for (trial, checksum) in run.trials.iter_mut().zip(checksums) {
            let replaced = trial.label == "Q2_K";
            trial.facts.as_mut().unwrap().types = Some(StoredTypes {
                checksum: checksum.to_owned(),
                matrices: 211,
                as_named: u32::from(!replaced),
                substituted: if replaced {
                    vec![Substituted { format: "Q4_0".to_owned(), tensors: 180 }]
                } else {
                    Vec::new()
                },
                rows: vec![576],
                block: 256,
            });
        }
        run
    }

    #[test]
    fn what_a_variant_holds_instead_of_its_type_is_told() {
        assert_eq!(
            notes(&with_types(["a", "b", "c"])),
            [
                "Q2_K: 180 of 211 tensors are Q4_0 (rows of 576 are no multiple of 256), none is Q2_K."
            ]
        );
    }

    #[test]
    fn variants_that_do_not_differ_are_one_file() {
        let run = with_types(["a", "b", "b"]);
        assert_eq!(same(&run), [["Q4_0", "Q2_K"]]);
        let expected =
            "Q4_0 and Q2_K are one file under 2 names: all their tensors have the same types.";
        assert_eq!(notes(&run).last().unwrap(), expected);
        let mut ready = run.clone();
        ready.trials[2].artifact.as_mut().unwrap().quantize_seconds = None;
        assert!(same(&ready).is_empty());
        ready.trials[1].artifact.as_mut().unwrap().quantize_seconds = None;
        assert!(same(&ready).is_empty(), "other weights");
        ready.trials[2].quality = ready.trials[1].quality.clone();
        assert_eq!(same(&ready), [["Q4_0", "Q2_K"]]);
        assert!(notes(&ready).last().unwrap().ends_with("same types, and they compute the same."));
        let mut other = run;
        other.trials[2].quantization = "imatrix:Q2_K".parse().unwrap();
        assert!(same(&other).is_empty());
    }
}
