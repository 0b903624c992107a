//! How long visits will take, before any of a run was made: from the speeds that are predicted.

use super::speed::predict;
use super::work::Work;
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::{AnswersPlan, LatencyPlan, QualityPlan, SpeedTest, Workloads};
use crate::hardware::rates::ComputeRates;
use crate::orchestrator::cost::{Spent, TOKEN_BYTES};
use crate::units::to_f64;

/// To start a worker, seconds.
const START: f64 = 0.05;

/// A file that is in memory is loaded, and one that is not is read, bytes per second: (docs/PLAN.md has the runs that these
/// and the next are from).
const LOADED: f64 = 1.5e9;
const READ: f64 = 0.4e9;

/// To score one of the vocabulary's probabilities for one token, seconds of one thread.
const SCORED: f64 = 2.5e-9;

/// Tokens that a chat template adds to a prompt.
const TEMPLATE_TOKENS: f64 = 30.0;

/// As many times as fast answers come that are generated side by side.
const SIDE_BY_SIDE: f64 = 4.0;

/// What is not predicted.
const SEVERAL: &str = "several sequences are not predicted";

/// A variant, as far as time goes.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What it computes.
    pub work: Work,
    /// Its file, bytes.
    pub bytes: u64,
    /// Tokens that it knows.
    pub vocabulary: u64,
}

impl Variant {
    /// What visits to it take, in an experiment's workloads.
    ///
    /// # Errors
    /// Something of it is not predicted; in words.
    pub fn spent(
        &self,
        experiment: &Experiment,
        workloads: &Workloads,
        rates: &ComputeRates,
        is_reference: bool,
    ) -> Result<Spent, String> {
        if !workloads.tasks.is_empty() || workloads.tokenization.is_some() {
            return Err("tasks are not predicted".to_owned());
        }
        let bytes = to_f64(self.bytes);
        let load = START + bytes / LOADED;
        let repetitions = f64::from(experiment.repetitions);
        let tests = workloads.speed.iter().map(|&test| self.test(rates, test, repetitions));
        let tests = tests.collect::<Result<Vec<f64>, String>>()?;
        let cold = if workloads.cold_load { bytes / READ } else { 0.0 };
        let latency = workloads.latency.as_ref();
        let latency = latency.map_or(Ok(0.0), |plan| self.latency(rates, plan))?;
        let rounds = f64::from(experiment.rounds.max(1));
        let round = load + cold + tests.iter().sum::<f64>() + latency / rounds;
        let quality = workloads.quality.as_ref();
        let chunk = quality.map(|plan| self.chunk(rates, plan, is_reference)).transpose()?;
        let answers = is_reference && quality.is_some_and(|plan| plan.answers.is_some());
        Ok(Spent {
            load: Some(load),
            chunk: chunk.filter(|_| !answers),
            answered: chunk.filter(|_| answers),
            round: Some(round),
            control: tests.first().copied(),
            ..Spent::default()
        })
    }

    /// A token of a test, seconds.
    fn token(&self, rates: &ComputeRates, test: SpeedTest) -> Result<f64, String> {
        Ok(predict(&self.work, rates, test)?.parts.sum())
    }

    fn prompt(&self, rates: &ComputeRates, tokens: f64, depth: u32) -> Result<f64, String> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a prompt")]
        let prompt_tokens = tokens.max(1.0) as u32;
        self.token(rates, SpeedTest { prompt_tokens, depth, ..SpeedTest::default() })
    }

    fn generated(&self, rates: &ComputeRates, tokens: u32, depth: u32) -> Result<f64, String> {
        let generated_tokens = tokens.max(1);
        self.token(rates, SpeedTest { generated_tokens, depth, ..SpeedTest::default() })
    }

    /// A speed test, its warm-up and what comes before it in the context included.
    fn test(&self, rates: &ComputeRates, test: SpeedTest, repetitions: f64) -> Result<f64, String> {
        if test.sequences > 1 {
            return Err(SEVERAL.to_owned());
        }
        let depth = f64::from(test.depth);
        let before = if depth > 0.0 { depth * self.prompt(rates, depth, 0)? } else { 0.0 };
        let prompt = f64::from(test.prompt_tokens);
        let mut seconds = 0.0;
        let mut warm_up = 0.0;
        if test.prompt_tokens > 0 {
            seconds += prompt * self.prompt(rates, prompt, test.depth)?;
            let longest = crate::workload::speed::LONGEST_WARM_UP.as_secs_f64();
            warm_up = if seconds < longest { seconds } else { 0.0 };
        }
        if test.generated_tokens > 0 {
            let after = test.depth + test.prompt_tokens;
            let token = self.generated(rates, test.generated_tokens, after)?;
            seconds += f64::from(test.generated_tokens) * token;
        }
        Ok(before + warm_up + repetitions * seconds)
    }

    /// All prompts, each answered once.
    fn latency(&self, rates: &ComputeRates, plan: &LatencyPlan) -> Result<f64, String> {
        if plan.parallel > 1 {
            return Err(SEVERAL.to_owned());
        }
        let most = plan.prompt_tokens.map_or(f64::INFINITY, f64::from);
        let lengths = plan.prompts.iter().map(|it| to_f64(it.text.len() as u64) / TOKEN_BYTES);
        let lengths: Vec<f64> = lengths.map(|it| it.min(most) + TEMPLATE_TOKENS).collect();
        let mut seconds = 0.0;
        for length in lengths {
            let answer = f64::from(plan.max_tokens) * self.generated(rates, plan.max_tokens, 0)?;
            seconds += length * self.prompt(rates, length, 0)? + answer;
        }
        Ok(seconds)
    }

    /// A chunk of a text, or an answer.
    fn chunk(
        &self,
        rates: &ComputeRates,
        plan: &QualityPlan,
        is_reference: bool,
    ) -> Result<f64, String> {
        let answers = plan.answers.as_ref();
        let (tokens, scored) = answers.map_or_else(
            || (f64::from(plan.context), f64::from(plan.context) / 2.0),
            |answers| {
                let scored = f64::from(answers.max_tokens);
                (prompt_tokens(answers) + scored, scored)
            },
        );
        // A prompt computes its output for its last token alone, a chunk for all that is scored.
        let all: f64 = self.work.bytes.values().sum();
        let last: f64 = self.work.last_bytes.values().sum();
        let output = scored / tokens * last / (all - last).max(1.0);
        let read = tokens * self.prompt(rates, tokens, 0)? * (1.0 + output);
        let threads = f64::from(rates.threads.max(1));
        let scores = scored * to_f64(self.vocabulary) * SCORED / threads;
        let answered = match answers {
            Some(plan) if is_reference => {
                scored * self.generated(rates, plan.max_tokens, 0)? / SIDE_BY_SIDE
            }
            _ => 0.0,
        };
        Ok(read + scores + answered)
    }
}

/// Tokens of a prompt, on average.
fn prompt_tokens(plan: &AnswersPlan) -> f64 {
    let bytes: usize = plan.prompts.iter().map(|it| it.text.len()).sum();
    let count = plan.prompts.len().max(1);
    to_f64(bytes as u64) / to_f64(count as u64) / TOKEN_BYTES + TEMPLATE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;
    use crate::model::gguf::Header;

    /// The demo model's variant, and its experiment with these speed tests alone.
    fn scene(speed: &[&str]) -> (Variant, Experiment, ComputeRates) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
        let header = Header::read(std::path::Path::new(path)).unwrap();
        let work = Work::of(&header).unwrap();
        let variant = Variant { work, bytes: 3_000_000, vocabulary: header.vocabulary().unwrap() };
        let rates = rates(0.0);
        let overrides = crate::experiment::Overrides::default();
        let mut experiment = crate::experiment::load(None, &overrides).unwrap();
        experiment.workloads.speed = speed.iter().map(|it| it.parse().unwrap()).collect();
        (experiment.repetitions, experiment.rounds) = (3, 2);
        experiment.workloads.latency = None;
        experiment.workloads.cold_load = false;
        experiment.workloads.tasks = Vec::new();
        (variant, experiment, rates)
    }

    fn spent(of: &(Variant, Experiment, ComputeRates), is_reference: bool) -> Spent {
        let (variant, experiment, rates) = of;
        variant.spent(experiment, &experiment.workloads, rates, is_reference).unwrap()
    }

    #[test]
    fn a_round_is_its_load_its_tests_and_its_share_of_the_prompts() {
        let scene = scene(&["tg128"]);
        let token = predict(&scene.0.work, &scene.2, "tg128".parse().unwrap()).unwrap().parts.sum();
        let it = spent(&scene, false);
        let tested = 3.0 * 128.0 * token;
        let is_near = |one: f64, other: f64| (one / other - 1.0).abs() < 1e-9;
        assert!(is_near(it.round.unwrap(), it.load.unwrap() + tested), "{it:?}");
        assert!(is_near(it.control.unwrap(), tested), "{it:?}");
        // A prompt that is short is read once more, for a warm-up.
        let prompts = super::tests::scene(&["pp64"]);
        let token = predict(&prompts.0.work, &prompts.2, "pp64".parse().unwrap()).unwrap();
        let it = spent(&prompts, false);
        assert!(is_near(it.control.unwrap(), 4.0 * 64.0 * token.parts.sum()), "{it:?}");
    }

    #[test]
    fn a_chunk_computes_the_output_of_all_that_is_scored() {
        let scene = scene(&[]);
        let plan = scene.1.workloads.quality.as_ref().unwrap();
        let test = SpeedTest { prompt_tokens: plan.context, ..SpeedTest::default() };
        let prompt = predict(&scene.0.work, &scene.2, test).unwrap().parts.sum();
        let it = spent(&scene, false);
        assert!(it.chunk.unwrap() > f64::from(plan.context) * prompt, "{it:?}");
    }

    #[test]
    fn a_reference_answers_what_the_others_are_compared_along() {
        let mut scene = scene(&[]);
        let quality = scene.1.workloads.quality.as_mut().unwrap();
        quality.answers = Some(AnswersPlan::standard(true));
        let own = spent(&scene, true).answered.unwrap();
        let other = spent(&scene, false).chunk.unwrap();
        assert!(own > other, "{own} {other}");
    }

    #[test]
    fn what_is_not_predicted_says_so() {
        let (variant, experiment, rates) = scene(&["tg128x4"]);
        let error = variant.spent(&experiment, &experiment.workloads, &rates, false).unwrap_err();
        assert_eq!(error, "several sequences are not predicted");
    }
}
