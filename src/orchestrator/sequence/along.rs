//! Answers: figures along what the reference answers, of a model whose probabilities are known.

use super::exact::{expect, measured, variants};
use super::steps::in_steps_as_at_once;
use crate::engine::toy::Parameters;
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::{AnswersPlan, PlannedPrompt};
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::workload::measured::Quality;

/// The prompt alone: after its last letter the next ones of the alphabet are the most probable.
const TEMPLATE: &str = "{{ messages[0].content }}";

const PROMPTS: [(&str, &str); 4] =
    [("prose", "tell me x"), ("prose", "what is a"), ("code", "why p"), ("code", "who is '")];

/// What is measured along answers of up to 6 tokens to `prompts`, besides `text` or in its place.
fn run(
    template: Option<&str>,
    prompts: &[(&str, &str)],
    text: &str,
    or_text: bool,
    precision: Option<f64>,
) -> RunRecord {
    let variants = variants().map(|(label, parameters)| {
        (label, Parameters { template: template.map(str::to_owned), ..parameters })
    });
    let prompt = |&(domain, text): &(&str, &str)| PlannedPrompt {
        domain: domain.to_owned(),
        text: text.to_owned(),
    };
    let prompts = prompts.iter().map(prompt).collect();
    measured(&variants, |experiment| {
        let quality = experiment.workloads.quality.as_mut().unwrap();
        quality.text = text.to_owned();
        quality.answers = Some(AnswersPlan { prompts, max_tokens: 6, or_text });
        quality.precision = precision;
        experiment.workloads.latency = None;
    })
}

fn quality(run: &RunRecord, trial: usize) -> &Quality {
    run.trials[trial].quality.as_ref().unwrap()
}

fn domains(quality: &Quality) -> Vec<(&str, usize)> {
    quality.domains.iter().map(|it| (it.name.as_str(), it.chunks.len())).collect()
}

#[test]
fn figures_along_answers_are_exact() {
    let run = run(Some(TEMPLATE), &PROMPTS, &"ab".repeat(40), true, None);
    // Each token of an answer is the most probable one, which has the probability p.
    let (p, q): (f64, f64) = (0.5, 0.4);
    expect(&run, "F16", Metric::Perplexity, 1.0 / p);
    expect(&run, "Q8_0", Metric::Perplexity, 1.0 / q);
    let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    expect(&run, "Q8_0", Metric::Kld, divergence);
    expect(&run, "Q8_0", Metric::TopTokenAgreement, 1.0);
    for trial in 0..2 {
        let quality = quality(&run, trial);
        // The text is for models that do not chat. After the last letter come the begin mark and the end mark.
        assert_eq!((quality.chunks, quality.answers, quality.scored_tokens), (4, 4, 6 * 3 + 2));
        assert_eq!(domains(quality), [("prose answers", 2), ("code answers", 2)]);
        assert!(run.trials[trial].left_out.is_empty(), "{:?}", run.trials[trial].left_out);
    }
    assert!(quality(&run, 0).worst_answers.is_empty());
    let worst = &quality(&run, 1).worst_answers;
    assert_eq!(worst.len(), 3);
    for answer in worst {
        let known = [
            ("tell me x", "yz.,?\n"),
            ("what is a", "bcdefg"),
            ("why p", "qrstuv"),
            ("who is '", ""),
        ];
        let (_, text) = known.iter().find(|(prompt, _)| *prompt == answer.prompt).unwrap();
        assert_eq!((&*answer.reference, &*answer.variant), (*text, *text));
        assert!((answer.kld - divergence).abs() < 1e-5);
    }
}

#[test]
fn a_model_without_a_template_is_measured_on_the_text_or_not_at_all() {
    let text = "ab".repeat(40);
    let fallback = run(None, &PROMPTS, &text, true, None);
    let plain = run(None, &PROMPTS, &text, false, None);
    // Asked for precisely or not, nothing is measured once.
    let nothing = run(None, &PROMPTS, "", false, Some(0.1));
    for trial in 0..2 {
        let on_text = quality(&fallback, trial);
        assert_eq!((on_text.answers, on_text.chunks), (0, 10));
        assert_eq!(quality(&plain, trial).chunk_nll, on_text.chunk_nll);
        assert!(fallback.trials[trial].left_out.is_empty());
        assert!(nothing.trials[trial].quality.is_none() && nothing.trials[trial].failure.is_none());
        assert_eq!(nothing.trials[trial].stages.len(), 1);
    }
    for run in [&plain, &nothing] {
        let reason = &run.trials[0].left_out[0].reason;
        assert!(reason.starts_with("it has no chat template (text = "), "{reason}");
    }
}

#[test]
fn text_and_answers_are_measured_in_one_run() {
    let run = run(Some(TEMPLATE), &PROMPTS, &"ab".repeat(40), false, None);
    for trial in 0..2 {
        let quality = quality(&run, trial);
        assert_eq!((quality.chunks, quality.answers), (14, 4));
        assert_eq!(domains(quality), [("text", 10), ("prose answers", 2), ("code answers", 2)]);
    }
}

#[test]
fn a_template_that_fails_costs_the_answers_and_says_so() {
    let run = run(Some("{{ nothing.at.all }}"), &PROMPTS, &"ab".repeat(40), true, None);
    for trial in 0..2 {
        assert_eq!(quality(&run, trial).answers, 0);
    }
    assert_eq!(run.trials[0].left_out[0].what, "quality along answers");
}

#[test]
fn precision_counts_answers_not_their_tokens() {
    let prompts: Vec<String> = (0..30).map(|_| "why p".to_owned()).collect();
    let prompts: Vec<(&str, &str)> =
        prompts.iter().map(|prompt| ("prose", prompt.as_str())).collect();
    let run = run(Some(TEMPLATE), &prompts, "", false, Some(0.1));
    // The reference answers no more prompts than the others need.
    for trial in 0..2 {
        assert_eq!((quality(&run, trial).chunks, quality(&run, trial).answers), (10, 10));
    }
    assert!(quality(&run, 1).divergence.as_ref().unwrap().stopped_early);
}

#[test]
fn answers_written_in_steps_are_those_of_one_pass() {
    let variants = variants().map(|(label, it)| {
        let odd = Some(if label == "F16" { 0.5 } else { 0.49 });
        (label, Parameters { odd, template: Some(TEMPLATE.to_owned()), ..it })
    });
    let mut random = fastrand::Rng::with_seed(7);
    // After an apostrophe an answer ends early.
    let mut prompt = || PlannedPrompt {
        domain: "prose".to_owned(),
        text: format!("say {}", if random.u8(..5) == 0 { '\'' } else { random.lowercase() }),
    };
    let prompts: Vec<PlannedPrompt> = (0..200).map(|_| prompt()).collect();
    let change = |experiment: &mut Experiment| {
        let quality = experiment.workloads.quality.as_mut().unwrap();
        let prompts = prompts.clone();
        quality.answers = Some(AnswersPlan { prompts, max_tokens: 3, or_text: true });
        quality.precision = Some(0.1);
    };
    let [reference, whole] = in_steps_as_at_once(&variants, change);
    assert!(reference.answers < whole.answers && whole.answers == 200);
}
