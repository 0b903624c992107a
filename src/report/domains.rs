//! What quality is on the domains of a text: a table of divergences, and a sentence where they differ.

use super::notes::name;
use super::table::{Align, Column, Group, Table};
use super::terminal::{Look, text};
use super::text::{list, sanitize};
use super::{RenderOptions, Renderer};
use crate::causes::Problem;
use crate::results::domain::DomainFigure;
use crate::results::each_once;
use crate::results::record::RunRecord;
use crate::results::summary::{Row, Summary};
use crate::statistics::estimate::Estimate;
use crate::units::significant;

/// Divergences by domain: a line a domain, a column a variant.
#[derive(Debug, Clone, Copy)]
pub struct Domains;

impl Renderer for Domains {
    fn render(
        &self,
        _: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        let compared = || summary.rows.iter().filter(|row| klds(row).next().is_some());
        // A text of one domain is both.
        let names = each_once(compared().flat_map(all).map(|(name, _)| name));
        if names.is_empty() {
            let nothing =
                "No divergence by domain: the text has no domains, or nothing was compared.\n";
            return Ok(nothing.as_bytes().to_vec());
        }
        let first = names.iter().map(|name| Some(sanitize(name))).collect();
        let mut columns = vec![Column::of_words("KLD", Align::Left, first)];
        columns.extend(compared().map(|row| {
            let kld = |name: &&str| all(row).find(|(own, _)| own == name).map(|(_, kld)| kld);
            let words = |name| Some(significant(kld(name)?.value, 3));
            Column::of_words(
                &self::name(summary, row),
                Align::Right,
                names.iter().map(words).collect(),
            )
        }));
        let groups = vec![Group { heading: String::new(), rows: (0..names.len()).collect() }];
        let look = Look { color: options.color, ..Look::default() };
        Ok(text(&Table { columns, groups }, &look).into_bytes())
    }
}

fn klds(row: &Row) -> impl Iterator<Item = (&str, Estimate)> {
    row.domains.iter().filter_map(kld)
}

/// Texts, then domains.
fn all(row: &Row) -> impl Iterator<Item = (&str, Estimate)> {
    row.texts.iter().chain(&row.domains).filter_map(kld)
}

fn kld(domain: &DomainFigure) -> Option<(&str, Estimate)> {
    Some((domain.name.as_str(), domain.kld?))
}

/// The divergence of the chosen variants on each text, where there are several: the one of all is a mixture of them.
fn of_texts(summary: &Summary) -> Option<String> {
    let chosen = summary.rows.iter().enumerate().filter(|(at, row)| {
        summary.is_chosen(*at) && row.texts.iter().any(|text| text.kld.is_some())
    });
    let words = |(name, kld): (&str, Estimate)| {
        format!("{} on {}", significant(kld.value, 2), sanitize(name))
    };
    let told = chosen.map(|(_, row)| {
        let all: Vec<String> = row.texts.iter().filter_map(kld).map(words).collect();
        format!("{} diverges by {}", name(summary, row), list(&all))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| {
        format!(
            "The KLD is of all texts together: {} ('quantbench show --domains').",
            told.join("; ")
        )
    })
}

/// What the chosen variants lose on each of several texts, and where they lose most and least, if that is beyond the noise.
pub(super) fn notes(summary: &Summary) -> Vec<String> {
    let chosen = summary.rows.iter().enumerate().filter(|(at, _)| summary.is_chosen(*at));
    let note = |(_, row): (usize, &Row)| {
        let by_value = |one: &(&str, Estimate), other: &(&str, Estimate)| {
            one.1.value.total_cmp(&other.1.value)
        };
        let (least_in, least) = klds(row).min_by(by_value)?;
        let (most_in, most) = klds(row).max_by(by_value)?;
        let apart = least.interval?.high < most.interval?.low && least.value > 0.0;
        apart.then(|| {
            format!(
                "{} diverges most on {} (KLD {}), {} times as much as on {} ('quantbench show --domains' has all).",
                name(summary, row),
                sanitize(most_in),
                significant(most.value, 2),
                significant(most.value / least.value, 2),
                sanitize(least_in),
            )
        })
    };
    of_texts(summary).into_iter().chain(chosen.filter_map(note)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;
    use crate::results::made_up::MadeUp;
    use crate::workload::measured::DomainChunks;

    fn run() -> RunRecord {
        let mut run = MadeUp::default().run();
        for trial in &mut run.trials {
            let quality = trial.quality.as_mut().unwrap();
            let (prose, korean): (Vec<u32>, Vec<u32>) =
                (0..quality.chunks).partition(|it| it % 2 == 0);
            if let Some(divergence) = &mut quality.divergence {
                for &chunk in &korean {
                    divergence.chunk_kld[chunk as usize] *= 3.0;
                }
            }
            quality.domains = vec![
                DomainChunks { name: "prose".to_owned(), chunks: prose },
                DomainChunks { name: "korean".to_owned(), chunks: korean },
            ];
        }
        run
    }

    #[test]
    fn the_domain_that_loses_most_is_named() {
        let notes = notes(&Summary::of(&run()));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("diverges most on korean (KLD 0."), "{notes:?}");
        assert!(
            notes[0].contains(", 3.") && notes[0].contains("times as much as on prose"),
            "{notes:?}"
        );
    }

    #[test]
    fn of_several_texts_each_has_its_divergence() {
        let mut several = run();
        for trial in &mut several.trials {
            for domain in &mut trial.quality.as_mut().unwrap().domains {
                domain.name =
                    if domain.name == "prose" { "prose".to_owned() } else { "my.txt".to_owned() };
            }
        }
        let notes = notes(&Summary::of(&several));
        assert!(notes[0].starts_with("The KLD is of all texts together: "), "{notes:?}");
        assert!(notes[0].contains(" on standard and 0."), "{notes:?}");
        assert!(notes[0].contains(" on my.txt"), "{notes:?}");
    }

    #[test]
    fn noise_and_equal_domains_are_not_told() {
        let mut same = run();
        for trial in &mut same.trials {
            let domains = &mut trial.quality.as_mut().unwrap().domains;
            domains[1].chunks = domains[0].chunks.clone();
        }
        assert!(notes(&Summary::of(&same)).is_empty());
        assert!(notes(&Summary::of(&MadeUp::default().run())).is_empty());
    }

    #[test]
    fn the_table_has_a_line_per_domain_and_a_column_per_variant() {
        let text = |run: &RunRecord| {
            String::from_utf8(render(Domains, run, &RenderOptions::default()).unwrap()).unwrap()
        };
        let table = text(&run());
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("KLD") && lines[0].contains("Q4_K_M"), "{table}");
        assert!(!lines[0].contains("F16 "), "the reference diverges from nothing: {table}");
        assert!(lines[2].starts_with("prose") && lines[3].starts_with("korean"), "{table}");
        assert!(text(&MadeUp::default().run()).starts_with("No divergence by domain"));
    }
}
