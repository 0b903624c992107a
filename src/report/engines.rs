//! What stands under a comparison of several engines: how graphs store their weights, what becomes of their caches, and
//! how far engines are from each other with equal weights.

use super::text::{list, sanitize};
use crate::engine::CacheUse;
use crate::model::engine_name::EngineName;
use crate::model::quantization::Quantization;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::{each_once, grouped};
use crate::units::significant;

/// Notes about engines; none of runs of llama.cpp alone.
pub(super) fn notes(run: &RunRecord) -> Vec<String> {
    let mut notes = each_once(onnx(run).filter_map(storage));
    notes.extend(caches(run));
    notes.extend(rounded_activations(run));
    notes.extend(floors(run));
    notes
}

fn onnx(run: &RunRecord) -> impl Iterator<Item = &TrialRecord> {
    run.trials.iter().filter(|trial| trial.engine.name == EngineName::OnnxRuntime)
}

/// `onnx-int4: llama 7.5 M INT4 block 32 symmetric …`.
fn storage(trial: &TrialRecord) -> Option<String> {
    let description = sanitize(&trial.facts.as_ref()?.description);
    Some(format!("{}: {description}.", sanitize(&trial.label)))
}

fn caches(run: &RunRecord) -> Vec<String> {
    let used = onnx(run).filter_map(|trial| Some((trial.facts.as_ref()?.cache?, trial)));
    let told = |(used, labels): (CacheUse, Vec<String>)| {
        let labels = list(&each_once(labels));
        match used {
            CacheUse::InPlace => format!(
                "ONNX Runtime writes the KV cache of {labels} in place, into one buffer as long as the context."
            ),
            CacheUse::Copied => format!(
                "ONNX Runtime copies the KV cache of {labels} for every token: their graphs take no buffer as past and \
                 present."
            ),
        }
    };
    let named = used.map(|(used, trial)| (used, sanitize(&trial.label)));
    grouped(named).into_iter().map(told).collect()
}

/// "INT8" is two things in ONNX.
fn rounded_activations(run: &RunRecord) -> Option<String> {
    let dynamic = "onnx-int8-dynamic".parse::<Quantization>().ok()?;
    let rounds = |trial: &&TrialRecord| trial.quantization.meets(dynamic);
    let labels = each_once(onnx(run).filter(rounds).map(|trial| sanitize(&trial.label)));
    (!labels.is_empty()).then(|| {
        format!(
            "{}: activations are rounded to 8 bits over a whole tensor, too; INT8 of weights alone, in blocks, loses far less.",
            list(&labels)
        )
    })
}

/// How far the most precise weights of one engine are from the reference, which another computes.
fn floors(run: &RunRecord) -> Vec<String> {
    let references = run.trials.iter().filter(|trial| trial.is_reference);
    let told = references.filter_map(|reference| {
        let is_like = |trial: &&TrialRecord| {
            trial.model == reference.model
                && trial.engine.name != reference.engine.name
                && trial.quantization.is_float()
        };
        if !reference.quantization.is_float() {
            return None;
        }
        let others = run.trials.iter().filter(is_like);
        let other = others.min_by_key(|trial| trial.quantization.precision_rank())?;
        let kld = other.quality.as_ref()?.divergence.as_ref()?.kld.mean;
        Some(format!(
            "Between engines: {} of {} diverges from {} of {} by {}, the floor of the comparison: a smaller KLD is of the \
             computation and not of the weights.",
            sanitize(&other.label),
            other.engine.name,
            sanitize(&reference.label),
            reference.engine.name,
            significant(kld, 2)
        ))
    });
    each_once(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};

    fn run() -> RunRecord {
        let variants = [LADDER[0], LADDER[1], LADDER[7]].to_vec();
        MadeUp { variants, ..MadeUp::default() }.run()
    }

    #[test]
    fn a_run_of_one_engine_says_nothing() {
        assert_eq!(notes(&run()), [""; 0]);
    }

    #[test]
    fn graphs_are_described_and_the_floor_is_told() {
        let mut run = run();
        let float = run.trials.iter().position(|trial| !trial.is_reference).unwrap();
        let trial = &mut run.trials[float];
        trial.engine.name = EngineName::OnnxRuntime;
        trial.quantization = "onnx-fp32".parse().unwrap();
        trial.label = "onnx-fp32".to_owned();
        let facts = trial.facts.as_mut().unwrap();
        facts.description = "llama 7 M F32".to_owned();
        facts.cache = Some(CacheUse::InPlace);
        let last = run.trials.last_mut().unwrap();
        last.engine.name = EngineName::OnnxRuntime;
        last.quantization = "onnx-int8-dynamic".parse().unwrap();
        last.label = "onnx-int8-dynamic".to_owned();
        last.facts.as_mut().unwrap().cache = Some(CacheUse::Copied);
        let notes = notes(&run);
        assert_eq!(notes[0], "onnx-fp32: llama 7 M F32.");
        let said = |words: &str| notes.iter().any(|note| note.contains(words));
        assert!(said("cache of onnx-fp32 in place"), "{notes:?}");
        assert!(said("cache of onnx-int8-dynamic for every token"), "{notes:?}");
        assert!(said("onnx-int8-dynamic: activations are rounded"), "{notes:?}");
        assert!(said("onnx-fp32 of ONNX Runtime diverges from"), "{notes:?}");
    }
}
