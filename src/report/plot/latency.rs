//! Latency: how times to first token and between tokens are distributed, and when the tokens of an answer came.

use super::scope::{label, rank, ranked, table};
use super::{Axis, Draw, Plot, Scope, Series, Spot};
use crate::report::text::sanitize;
use crate::results::each_once;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::statistics::sample::Sample;
use crate::units::{format_seconds, to_f64};
use crate::workload::measured::Response;

pub(super) fn plots(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let first = |trial: &TrialRecord| responses(trial).filter_map(Response::ttft_seconds).collect();
    let between = |trial: &TrialRecord| responses(trial).flat_map(Response::itl_seconds).collect();
    let first = distribution(
        run,
        summary,
        scope,
        first,
        ("ttft", "Time to first token"),
        "Over the prompts of the test. Dot: median; thick: the middle half; thin: from the 5th to the 95th percentile. Further \
         left is better. Long prompts take longer: the spread is mostly theirs.",
    );
    let between = distribution(
        run,
        summary,
        scope,
        between,
        ("itl", "Time between tokens"),
        "Over all tokens of all answers but their first. Dot: median; thick: the middle half; thin: from the 5th to the 95th \
         percentile. A long thin line to the right is stutter.",
    );
    first.into_iter().chain(between).chain(tokens(run, summary, scope)).collect()
}

fn responses(trial: &TrialRecord) -> impl Iterator<Item = &Response> {
    trial.visits.iter().flat_map(|visit| &visit.responses)
}

fn distribution(
    run: &RunRecord,
    summary: &Summary,
    scope: &Scope,
    values: impl Fn(&TrialRecord) -> Vec<f64>,
    (name, title): (&str, &str),
    reading: &str,
) -> Option<Plot> {
    const MILLI: f64 = 1e3;
    let samples = scope.rows.iter().filter_map(|&row| {
        let is_sound = summary.rows[row].failure.is_none();
        Some((row, Sample::new(values(&run.trials[row])).filter(|_| is_sound)?))
    });
    let samples: Vec<(usize, Sample)> = samples.collect();
    let quantiles =
        |sample: &Sample| [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| sample.quantile(share));
    let spots = samples.iter().enumerate().map(|(at, (row, sample))| {
        let [low, lower, median, upper, high] = quantiles(sample);
        let tip = format!(
            "{}\nmedian {}\nmiddle half {} to {}\n5th to 95th percentile {} to {}\n{} values",
            label(summary, *row),
            format_seconds(median),
            format_seconds(lower),
            format_seconds(upper),
            format_seconds(low),
            format_seconds(high),
            sample.len()
        );
        let (span, inner) = ((low * MILLI, high * MILLI), (lower * MILLI, upper * MILLI));
        (
            *row,
            Spot { span: Some(span), inner: Some(inner), ..Spot::in_row(at, median * MILLI, tip) },
        )
    });
    let spots: Vec<(usize, Spot)> = spots.collect();
    let ends =
        spots.iter().flat_map(|(_, spot)| spot.span.map_or([spot.x; 2], |(low, high)| [low, high]));
    let x = Axis::logarithmic(format!("{} (ms)", title.to_lowercase()), ends)?;
    let y = Axis::Rows(samples.iter().map(|(row, _)| label(summary, *row)).collect());
    let rows = samples.iter().map(|(row, sample)| {
        let own = quantiles(sample).map(format_seconds);
        [label(summary, *row)].into_iter().chain(own).chain([sample.len().to_string()]).collect()
    });
    let table = table(
        &["variant", "p5", "p25", "median", "p75", "p95", "values"],
        &rows.collect::<Vec<_>>(),
    );
    let series = ranked(summary, Draw::Points, &spots);
    Some(Plot::simple(name, scope.titled(title), reading, [x, y], series).with_table(table))
}

/// When the tokens of the answers to one prompt came: the prompt of middle length among those that most variants answered.
fn tokens(run: &RunRecord, summary: &Summary, scope: &Scope) -> Option<Plot> {
    let measured: Vec<usize> =
        scope.rows.iter().copied().filter(|&row| summary.rows[row].failure.is_none()).collect();
    let of_scope = || measured.iter().flat_map(|&row| responses(&run.trials[row]));
    let mut prompts = each_once(of_scope().map(|it| (it.prompt_tokens, it.prompt_id.as_str())));
    prompts.sort_unstable();
    let (length, prompt) = *prompts.get(prompts.len() / 2)?;
    let answers = measured.iter().filter_map(|&row| {
        let mut own = responses(&run.trials[row])
            .filter(|it| it.prompt_id == prompt && it.token_nanoseconds.len() > 1);
        Some((row, own.next()?))
    });
    let answers: Vec<(usize, &Response)> = answers.collect();
    let seconds = |nanoseconds: u64| to_f64(nanoseconds) / 1e9;
    let ends =
        answers.iter().filter_map(|(_, it)| it.token_nanoseconds.last()).map(|&end| seconds(end));
    let x = Axis::from_zero("seconds since the request", ends)?;
    let most = answers.iter().map(|(_, it)| it.token_nanoseconds.len()).max()?;
    let y = Axis::from_zero("tokens of the answer", [super::axis::row(most)])?;
    let rows: Vec<usize> = answers.iter().map(|(row, _)| *row).collect();
    let series = scope.identities(summary, &rows).into_iter().filter_map(|(row, colour, name)| {
        let (_, response) = answers.iter().find(|(own, _)| *own == row)?;
        let spots = response.token_nanoseconds.iter().enumerate().map(|(at, &nanoseconds)| Spot {
            x: seconds(nanoseconds),
            y: super::axis::row(at + 1),
            ..Spot::default()
        });
        let mut spots: Vec<Spot> = spots.collect();
        let end = spots.last_mut()?;
        end.tip = format!("{}\n{most} tokens at {}", label(summary, row), format_seconds(end.x));
        Some(Series { name, colour, draw: Draw::Trace, spots })
    });
    let series: Vec<Series> = series.collect();
    let mut sorted = answers.clone();
    sorted.sort_by_key(|(row, _)| rank(summary, *row));
    let rows = sorted.iter().map(|(row, it)| {
        let (first, last) = (it.token_nanoseconds.first(), it.token_nanoseconds.last());
        let told =
            |at: Option<&u64>| at.map_or_else(String::new, |&at| format_seconds(seconds(at)));
        vec![label(summary, *row), it.token_nanoseconds.len().to_string(), told(first), told(last)]
    });
    let table =
        table(&["variant", "tokens", "first token", "last token"], &rows.collect::<Vec<_>>());
    let title =
        scope.titled(&format!("Tokens of the answers to '{}' ({length} tokens)", sanitize(prompt)));
    let reading = "When each token of the answer to one prompt came. The line begins at the first token; steeper is faster, and \
                   a step to the right is a pause.";
    Some(Plot::simple("tokens", title, reading, [x, y], series).with_table(table))
}
