//! Judgement over the trials of a model: front, best trade-off, next steps, best of each column.

use super::choice::{
    Candidate, Choice, best_trade_off, is_advised_for_loss, is_advised_for_size, pareto_front,
    size_relation,
};
use super::figure::{Figure, Relation};
use super::grouped;
use super::metric::{Better, Metric};
use super::summary::{Group, ModelSummary, Row};
use super::verdict::Verdict;
use crate::experiment::settings::Settings;

/// Sorts rows into models and settings, and judges each model.
pub(super) fn models(rows: &[Row], speed: Option<Metric>) -> Vec<ModelSummary> {
    let group = |(settings, rows): (&Settings, _)| Group { settings: settings.clone(), rows };
    let model = |(name, own): (&String, Vec<usize>)| {
        let by_settings = grouped(own.iter().map(|&row| (&rows[row].settings, row)));
        let mut model = ModelSummary {
            name: name.clone(),
            groups: by_settings.into_iter().map(group).collect(),
            facts: own.iter().find_map(|&row| rows[row].facts.clone()),
            reference: own.iter().copied().find(|&row| rows[row].is_reference),
            ..ModelSummary::default()
        };
        judge(rows, &mut model, speed);
        model
    };
    let by_model = grouped(rows.iter().enumerate().map(|(position, row)| (&row.model, position)));
    by_model.into_iter().map(model).collect()
}

/// Finds the front and the best trade-off of a model among its trials that did not fail.
fn judge(rows: &[Row], model: &mut ModelSummary, speed: Option<Metric>) {
    let sound: Vec<usize> = model
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().copied())
        .filter(|&row| rows[row].failure.is_none() && !rows[row].figures.is_empty())
        .collect();
    let measured = |metric| sound.iter().any(|&row| rows[row].figures.contains_key(&metric));
    // An encoder's loss is how far its embeddings are from the reference's, one minus the cosine.
    let embeds = measured(Metric::EmbeddingCosine);
    let loss_is_perplexity = !embeds && !measured(Metric::Kld);
    model.speed = speed.filter(|&metric| measured(metric)).or_else(|| {
        let tests = sound.iter().flat_map(|&row| rows[row].figures.keys().copied());
        // Of several the one with the most texts and tokens at once.
        tests
            .filter_map(Metric::embedding_test)
            .max_by_key(|test| (test.sequences, test.prompt_tokens))
            .map(Metric::Speed)
    });
    let speed = model.speed;
    let candidates: Vec<Candidate> = sound
        .iter()
        .map(|&row| {
            let figure = |metric: Metric| rows[row].figures.get(&metric).cloned();
            let loss = if loss_is_perplexity {
                figure(Metric::Perplexity)
            } else if rows[row].is_reference {
                Some(Figure::exact(0.0))
            } else if embeds {
                figure(Metric::EmbeddingCosine).map(Figure::complement)
            } else {
                figure(Metric::Kld)
            };
            Candidate {
                row,
                size: figure(Metric::FileBytes),
                speed: speed.and_then(figure),
                loss,
                loss_is_perplexity,
            }
        })
        .collect();
    // An unfinished run has trials of which not everything is known yet: no judgement over them.
    let has = |part: fn(&Candidate) -> bool| candidates.iter().any(part);
    let parts = (
        has(|candidate| candidate.size.is_some()),
        has(|candidate| candidate.speed.is_some()),
        has(|candidate| candidate.loss.is_some()),
    );
    let candidates: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| {
            parts == (candidate.size.is_some(), candidate.speed.is_some(), candidate.loss.is_some())
        })
        .collect();
    if candidates.len() > 1 {
        model.front = pareto_front(&candidates);
    }
    let meets =
        |candidate: &&Candidate| rows[candidate.row].verdict.as_ref().is_none_or(Verdict::is_met);
    let meeting: Vec<Candidate> = candidates.iter().filter(meets).cloned().collect();
    let perplexities = sound.iter().filter_map(|&row| rows[row].value(Metric::Perplexity));
    let loss = model
        .reference
        .and_then(|row| rows[row].value(Metric::Perplexity))
        .or_else(|| perplexities.reduce(f64::min))
        .map(f64::ln);
    let Some(loss) = loss else { return };
    model.choice = match meeting.as_slice() {
        [] => best_trade_off(&candidates, loss),
        [only] if candidates.len() > 1 => {
            Some(Choice { row: only.row, equals: Vec::new(), rests_on_single_speeds: false })
        }
        _ => best_trade_off(&meeting, loss),
    };
    find_neighbours(if meeting.is_empty() { &candidates } else { &meeting }, model, loss);
}

/// The next steps from the chosen row along the front, either way, that are advised.
fn find_neighbours(candidates: &[Candidate], model: &mut ModelSummary, reference_loss: f64) {
    let candidate = |row: usize| candidates.iter().find(|candidate| candidate.row == row);
    let Some(chosen) = model.choice.as_ref().and_then(|choice| candidate(choice.row)) else {
        return;
    };
    let size =
        |candidate: &Candidate| candidate.size.as_ref().map_or(f64::NAN, |it| it.estimate.value);
    let on_front = || model.front.members.iter().filter_map(|&row| candidate(row));
    model.closer = on_front()
        .filter(|other| size(other) > size(chosen) && is_advised_for_loss(other, chosen))
        .min_by(|left, right| size(left).total_cmp(&size(right)))
        .map(|other| other.row);
    model.smaller = on_front()
        .filter(|other| is_advised_for_size(other, chosen, reference_loss))
        .max_by(|left, right| size(left).total_cmp(&size(right)))
        .map(|other| other.row);
}

/// Marks, per metric, every sound trial of the model that no other beats beyond the noise, unless
/// that is all of them: then the column has no best.
pub(super) fn mark_best(rows: &mut [Row], model: &ModelSummary, metrics: &[Metric]) {
    let sound: Vec<usize> = model
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().copied())
        .filter(|&row| rows[row].failure.is_none())
        .collect();
    // The reference under other settings differs from itself by nothing: no feat to be marked.
    let reference = model.reference.map(|row| rows[row].label.clone());
    let is_reference: Vec<bool> =
        rows.iter().map(|row| Some(&row.label) == reference.as_ref()).collect();
    let is_reference_variant = |row: usize| is_reference[row];
    for &metric in metrics {
        let Some(better) = metric.descriptor().better else { continue };
        let figures: Vec<(usize, Figure)> = sound
            .iter()
            .filter(|&&row| !(metric.descriptor().is_comparison && is_reference_variant(row)))
            .filter_map(|&row| Some((row, rows[row].figures.get(&metric)?.clone())))
            .collect();
        let relation = |own: &Figure, other: &Figure| {
            if metric == Metric::FileBytes {
                size_relation(own, other)
            } else {
                own.relation(other)
            }
        };
        let wins = |own: &Figure, other: &Figure| match better {
            Better::Lower => relation(own, other) == Relation::Lower,
            Better::Higher => relation(own, other) == Relation::Higher,
        };
        let Some((_, top)) = figures.iter().reduce(|best, next| {
            // Not the values: perplexities whose evaluation ended early are of different chunks.
            let lead = next.1.difference(&best.1).map_or(0.0, |difference| difference.value);
            let ahead = match better {
                Better::Lower => lead < 0.0,
                Better::Higher => lead > 0.0,
            };
            if ahead { next } else { best }
        }) else {
            continue;
        };
        let best: Vec<usize> =
            figures.iter().filter(|(_, figure)| !wins(top, figure)).map(|&(row, _)| row).collect();
        if best.len() < figures.len() {
            for row in best {
                rows[row].best.insert(metric);
            }
        }
    }
}
