//! Quality: tasks by variant, divergence by domain of the text, and how divergence is spread over tokens.

use super::scope::{label, ranked, span, table};
use super::speed::bars;
use super::{Axis, Draw, Plot, Scope, Series, Spot};
use crate::report::text::sanitize;
use crate::results::domain::DomainFigure;
use crate::results::each_once;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::units::significant;

/// Divergences below this are drawn here.
const FLOOR: f64 = 1e-6;

pub(super) fn plots(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let mut plots: Vec<Plot> = spread(run, summary, scope).into_iter().collect();
    plots.extend(domains(summary, scope));
    for metric in &summary.metrics {
        let Metric::Task(column) = metric else { continue };
        if !column.is_main {
            continue;
        }
        let reading = "Share of the points that the answers get, with its 95 % interval over the questions; longer is better. \
                       All variants answer the same questions: the notes compare them question by question.";
        let name = format!("task-{}", column.task).replace(['@', '.', ' '], "-");
        let title = format!("Task {} ({})", column.task, column.metric);
        plots.extend(bars(summary, scope, *metric, (&name, &title), reading));
    }
    let cosine = ("embedding-cosine", "Embeddings: cosine with the reference");
    let reading =
        "How alike a text's embedding and the reference's are, 1 being the same direction.";
    plots.extend(bars(summary, scope, Metric::EmbeddingCosine, cosine, reading));
    plots
}

/// How divergence is spread over the tokens of the text.
fn spread(run: &RunRecord, summary: &Summary, scope: &Scope) -> Option<Plot> {
    let found = scope.rows.iter().filter_map(|&row| {
        let quality =
            run.trials[row].quality.as_ref().filter(|_| summary.rows[row].failure.is_none())?;
        Some((row, quality.divergence.as_ref()?))
    });
    let found: Vec<_> = found.collect();
    let spots = found.iter().enumerate().map(|(at, (row, it))| {
        let tip = format!(
            "{}\nmean {}\nmedian {}\n90 % {}\n99 % {}\n99.9 % {}\nlargest {}",
            label(summary, *row),
            significant(it.kld.mean, 3),
            significant(it.kld_median, 3),
            significant(it.kld_90, 3),
            significant(it.kld_99, 3),
            significant(it.kld_999, 3),
            significant(it.kld_max, 3)
        );
        let floor = |value: f64| value.max(FLOOR);
        let (span, inner) =
            ((floor(it.kld_median), floor(it.kld_999)), (floor(it.kld_90), floor(it.kld_99)));
        (
            *row,
            Spot {
                span: Some(span),
                inner: Some(inner),
                ..Spot::in_row(at, floor(it.kld.mean), tip)
            },
        )
    });
    let spots: Vec<(usize, Spot)> = spots.collect();
    let ends =
        spots.iter().flat_map(|(_, spot)| spot.span.map_or([spot.x; 2], |(low, high)| [low, high]));
    let x = Axis::logarithmic("divergence of a token (KLD, nats)", ends)?;
    let y = Axis::Rows(found.iter().map(|(row, _)| label(summary, *row)).collect());
    let rows = found.iter().map(|(row, it)| {
        let own = [it.kld.mean, it.kld_median, it.kld_90, it.kld_99, it.kld_999, it.kld_max];
        [label(summary, *row)].into_iter().chain(own.map(|value| significant(value, 3))).collect()
    });
    let table = table(
        &["variant", "mean", "median", "90 %", "99 %", "99.9 %", "largest"],
        &rows.collect::<Vec<_>>(),
    );
    let reading = "Dot: the mean. Thin: from the median token to the worst in a thousand; thick: from the 90th to the 99th \
                   percentile. A mean far from the median says that few tokens carry the loss.";
    let series = ranked(summary, Draw::Points, &spots);
    let title = scope.titled("Divergence over tokens");
    Some(Plot::simple("divergence-over-tokens", title, reading, [x, y], series).with_table(table))
}

/// Divergence by domain of the text, a colour for each variant.
fn domains(summary: &Summary, scope: &Scope) -> Option<Plot> {
    let of = |row: usize| summary.rows[row].domains.iter();
    let klds =
        |row: usize| of(row).filter_map(|it: &DomainFigure| Some((it.name.as_str(), it.kld?)));
    let names = each_once(scope.rows.iter().flat_map(|&row| klds(row)).map(|(name, _)| name));
    if names.len() < 2 {
        return None;
    }
    let measured: Vec<usize> =
        scope.rows.iter().copied().filter(|&row| klds(row).next().is_some()).collect();
    let series = scope.identities(summary, &measured).into_iter().map(|(row, colour, name)| {
        let own = label(summary, row);
        let spots = klds(row).filter_map(|(domain, kld)| {
            let at = names.iter().position(|name| *name == domain)?;
            let floor = |value: f64| value.max(FLOOR);
            let tip =
                format!("{own}\n{}: KLD {} nats", sanitize(domain), significant(kld.value, 3));
            let span =
                span(kld, 1.0).map(|(low, high)| (floor(low.max(kld.value / 10.0)), floor(high)));
            Some(Spot { span, ..Spot::in_row(at, floor(kld.value), tip) })
        });
        Series { name, colour, draw: Draw::Points, spots: spots.collect() }
    });
    let series: Vec<Series> = series.collect();
    let ends = series
        .iter()
        .flat_map(|it| &it.spots)
        .flat_map(|spot| spot.span.map_or([spot.x; 2], |(low, high)| [low, high]));
    let x = Axis::logarithmic("divergence (KLD, nats)", ends)?;
    let y = Axis::Rows(names.iter().map(|name| sanitize(name)).collect());
    let heads: Vec<String> = measured.iter().map(|&row| label(summary, row)).collect();
    let titles: Vec<&str> =
        ["domain"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let rows = names.iter().map(|name| {
        let cell = |&row: &usize| {
            let kld = klds(row).find(|(own, _)| own == name);
            kld.map_or_else(String::new, |(_, kld)| significant(kld.value, 3))
        };
        [sanitize(name)].into_iter().chain(measured.iter().map(cell)).collect()
    });
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let reading = "Divergence on each domain of the text, with 95 % intervals; further left is nearer to the reference. What a \
                   variant loses on code or in one language a mean over all does not show.";
    let title = scope.titled("Divergence by domain");
    Some(Plot::simple("divergence-by-domain", title, reading, [x, y], series).with_table(table))
}
