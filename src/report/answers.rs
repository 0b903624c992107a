//! Answers that moved most: what the reference answers to a prompt beside what a variant answers.

use super::notes::name;
use super::text::{sanitize, width, wrap};
use super::{RenderOptions, Renderer};
use crate::causes::Problem;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::units::significant;
use crate::workload::measured::ComparedAnswer;

/// For every variant the prompts whose answers moved most, with both answers side by side; the worst of all first.
#[derive(Debug, Clone, Copy)]
pub struct Answers;

impl Renderer for Answers {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        let mut answers = Vec::new();
        for trial in &run.trials {
            let Some(row) = summary.rows.iter().find(|row| row.key == trial.key) else { continue };
            let reference = run.trials.iter().find(|it| it.is_reference && it.model == trial.model);
            let reference = reference.map_or_else(String::new, |it| sanitize(&it.label));
            let heads = [reference, name(summary, row)];
            answers.extend(worst(trial).iter().map(|answer| (heads.clone(), answer)));
        }
        answers.sort_by(|(_, left), (_, right)| right.kld.total_cmp(&left.kld));
        let mut lines: Vec<String> = answers
            .iter()
            .flat_map(|(heads, answer)| compared(answer, heads, options.columns))
            .collect();
        if lines.is_empty() {
            let nothing = "No answers side by side: no variant of this run was compared along answers of its \
                           reference (text = \"answers\" in [workloads.quality], and a reference).";
            lines = wrap(nothing, options.columns, "");
        }
        Ok(format!("{}\n", lines.join("\n").trim_end()).into_bytes())
    }
}

fn worst(trial: &TrialRecord) -> &[ComparedAnswer] {
    trial.quality.as_ref().map_or(&[], |quality| &quality.worst_answers)
}

/// Prompt and answers, and an empty line.
fn compared(answer: &ComparedAnswer, heads: &[String; 2], columns: usize) -> Vec<String> {
    const BETWEEN: &str = " │ ";
    let ComparedAnswer { domain, prompt, kld, reference, variant } = answer;
    let kld = significant(*kld, 3);
    let asked = format!("{} ({}, KLD {kld} nats)", sanitize(prompt), sanitize(domain));
    let mut lines = wrap(&asked, columns, "  ");
    let half = (columns.max(44) - BETWEEN.chars().count()) / 2;
    let side = |head: &str, text: &str| {
        let mut lines = vec![head.to_owned()];
        lines.extend(wrap(&sanitize(text), half, ""));
        lines
    };
    let [left, right] = [side(&heads[0], reference), side(&heads[1], variant)];
    for at in 0..left.len().max(right.len()) {
        let [left, right] = [&left, &right].map(|lines| lines.get(at).map_or("", String::as_str));
        let gap = " ".repeat(half.saturating_sub(width(left)));
        lines.push(format!("{left}{gap}{BETWEEN}{right}").trim_end().to_owned());
    }
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;
    use crate::results::made_up::{LADDER, MadeUp};

    fn shown(run: &RunRecord, columns: usize) -> String {
        let options = RenderOptions { columns, color: false };
        String::from_utf8(render(Answers, run, &options).unwrap()).unwrap()
    }

    fn run() -> RunRecord {
        let mut run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        let answer = |prompt: &str, kld, reference: &str, variant: &str| ComparedAnswer {
            domain: "prose".to_owned(),
            prompt: prompt.to_owned(),
            kld,
            reference: reference.to_owned(),
            variant: variant.to_owned(),
        };
        let quality = run.trials[2].quality.as_mut().unwrap();
        quality.worst_answers = vec![
            answer(
                "Why do leaves change colour?",
                0.31,
                "In autumn the green fades,\nand the yellow that was there all along is seen.",
                "Because \u{1b}[31mthe trees are cold.",
            ),
            answer("冬はなぜ寒い", 0.2, "太陽の光が斜めに当たり、昼が短いからです。", ""),
        ];
        run
    }

    #[test]
    fn answers_stand_side_by_side() {
        insta::assert_snapshot!(shown(&run(), 60));
        for line in shown(&run(), 60).lines() {
            assert!(width(line) <= 60 && !line.chars().any(char::is_control), "{line}");
        }
    }

    #[test]
    fn a_run_without_answers_says_so() {
        assert!(shown(&MadeUp::default().run(), 100).starts_with("No answers side by side"));
    }
}
