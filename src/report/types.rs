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
    notes.extend(same(run).into_iter().map(|labels| {
        format!(
            "{} are one file under {} names: all their tensors have the same types.",
            list(&labels),
            labels.len()
        )
    }));
    notes
}

/// Names of variants whose tensors all have the same types, made of one source in one way, group by group.
pub(super) fn same(run: &RunRecord) -> Vec<Vec<String>> {
    // A file that was there already may have the same types and other weights.
    let is_made = |trial: &TrialRecord| {
        trial.artifact.as_ref().is_some_and(|artifact| artifact.quantize_seconds.is_some())
    };
    let made = typed(run).filter(|(trial, _)| is_made(trial));
    let named = made.map(|(trial, types)| {
        ((&trial.model, trial.quantization.method, &types.checksum), name(run, trial))
    });
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
        let mut other = run;
        other.trials[2].quantization = "imatrix:Q2_K".parse().unwrap();
        assert!(same(&other).is_empty());
    }
}
