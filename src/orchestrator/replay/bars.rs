//! What a recommendation is held to: generated requirements, asked of a recorded run, and graded by all that it holds.

use super::{Replay, plan_of};
use crate::causes::Problem;
use crate::experiment::recommend::{Order, Recommend};
use crate::experiment::requirements::{Bound, MEMORY, Requirement, Requirements};
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::{QualityPlan, Workloads};
use crate::orchestrator::strategy::{self, Matrix};
use crate::results::choice::SIZE_THAT_MATTERS;
use crate::results::metric::Metric;
use crate::results::proof::Proof;
use crate::results::recommendation::{ALIKE_LOSS, ALIKE_SPEED, NO_LOSS, Recommendation, Status};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::results::verdict::Verdict;
use crate::statistics::sample::Sample;
use std::time::Duration;

/// Peaks of memory that differ by less are no matter of a requirement, bytes.
const LEAST_SPAN: f64 = 32.0 * 1024.0 * 1024.0;

/// What came of one set of requirements.
#[derive(Debug, Clone)]
pub struct Graded {
    /// The requirements in words.
    pub asked: String,
    /// What is recommended, by its name; `None`: nothing.
    pub recommended: Option<String>,
    /// What the exhaustive matrix says by its values.
    pub exhaustive: Option<String>,
    /// What all that was recorded says by its values.
    pub truth: Option<String>,
    /// Whether the recommended one is alike to the exhaustive matrix' in what the order goes by, and meets everything there.
    pub is_as_good: bool,
    /// Verdicts that were proved, and those of them that all that was recorded contradicts.
    pub verdicts: usize,
    /// In words.
    pub contradicted: Vec<String>,
    /// Trials that were left open, in words.
    pub open: Vec<String>,
    /// Seconds that it took, that the exhaustive matrix took of the same workloads, and of all that the experiment has, as
    /// `run` would have measured them.
    pub seconds: [f64; 3],
}

/// Asks `count` generated sets of requirements of a recorded run.
///
/// # Errors
/// The run cannot be played.
pub fn graded(
    experiment: &Experiment,
    recorded: &RunRecord,
    count: u64,
    seed: u64,
) -> Result<Vec<Graded>, Problem> {
    (0..count).map(|nth| one(experiment, recorded, seed.wrapping_add(nth))).collect()
}

fn one(experiment: &Experiment, recorded: &RunRecord, seed: u64) -> Result<Graded, Problem> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (order, requirements) = generated(recorded, &mut random);
    let mut asked = experiment.clone();
    asked.requirements = requirements.clone();
    // Both measure what the requirements and the order are about, and nothing else.
    let has = |part: &str| requirements.0.iter().any(|it| it.metric.contains(part));
    if !has("ttft") {
        asked.workloads.latency = None;
    }
    asked.workloads.speed.retain(|test| test.is_generation_only() || has(&test.to_string()));
    asked.workloads.cold_load = false;
    if order != Order::Closest && !has("kld") && !has("perplexity") {
        asked.workloads.quality = None;
    }
    let visits = recorded.trials.iter().map(|it| it.visits.len()).min().unwrap_or(0);
    let start = random.usize(0..visits.max(1));
    let rounds: Vec<usize> = (0..visits).map(|round| (start + round) % visits).collect();
    let plan = plan_of(&asked, recorded)?;
    let play = |experiment: &Experiment, strategy: &mut dyn strategy::Strategy| {
        Replay { experiment, plan: &plan, recorded, rounds: rounds.clone() }.run(strategy)
    };
    let mut usual = asked.clone();
    if usual.workloads.quality.is_some() {
        usual.workloads.quality = usual_quality(experiment);
    }
    let exhaustive = play(&usual, &mut Matrix::default());
    usual.workloads =
        Workloads { quality: usual_quality(experiment), ..experiment.workloads.clone() };
    let whole_run = play(&usual, &mut Matrix::default());
    let mut recommending = asked.clone();
    recommending.recommend = Some(Recommend { order, ..Recommend::default() });
    if let Some(quality) = &mut recommending.workloads.quality {
        (quality.chunks, quality.precision) = (None, None);
    }
    let mut strategy = strategy::Recommend::new(order, Duration::from_secs(1_000_000));
    let run = play(&recommending, &mut strategy);
    let truth = RunRecord { requirements: requirements.clone(), ..recorded.clone() };
    let found = Recommendation::by(&run, order);
    let name = |row: usize| recorded.trials[row].label.clone();
    let by_values = |run: &RunRecord| answer(run, order);
    let (best, true_best) = (by_values(&exhaustive), by_values(&truth));
    let whole = Recommendation::by(&truth, order);
    let summary = Summary::of(&truth);
    let (verdicts, contradicted) = contradicted(&found, &whole, &truth);
    let is_met = |row: usize| summary.rows[row].verdict.as_ref().is_none_or(Verdict::is_met);
    let is_as_good = match (found.chosen, best) {
        (Some(one), Some(other)) => {
            one == other || (is_met(one) && is_alike(&whole, &truth, one, other))
        }
        (None, None) => true,
        _ => false,
    };
    let open = found.undecided().filter(|it| it.status == Status::Open);
    let open = open.map(|it| {
        let marginal = it.findings.iter().filter(|it| it.proof != Proof::Met);
        let marginal =
            marginal.map(|it| format!("{} {:?} of {}", it.requirement.metric, it.margin(), it.n));
        format!("{} ({})", name(it.row), marginal.collect::<Vec<_>>().join("; "))
    });
    Ok(Graded {
        asked: in_words(order, &requirements),
        recommended: found.chosen.map(name),
        exhaustive: best.map(name),
        truth: true_best.map(name),
        is_as_good,
        verdicts,
        contradicted,
        open: open.collect(),
        seconds: [&run, &exhaustive, &whole_run].map(|run| run.active_seconds.unwrap_or(0.0)),
    })
}

/// How many verdicts were proved, and those that all that was recorded contradicts, in words.
fn contradicted(
    found: &Recommendation,
    whole: &Recommendation,
    truth: &RunRecord,
) -> (usize, Vec<String>) {
    let mut contradicted = Vec::new();
    let mut verdicts = 0;
    for candidate in &found.candidates {
        for finding in &candidate.findings {
            let all = whole.evidences().finding(truth, candidate.row, &finding.requirement);
            let Some(value) = all.value else { continue };
            let is_met = match finding.requirement.bound {
                Bound::AtLeast => value >= finding.requirement.limit,
                Bound::AtMost => value <= finding.requirement.limit,
            };
            let is_wrong = match finding.proof {
                Proof::Met => !is_met,
                Proof::NotMet => is_met,
                Proof::Marginal | Proof::NotMeasured => continue,
            };
            verdicts += 1;
            if is_wrong {
                let Requirement { metric, limit, .. } = &finding.requirement;
                let (row, seen, n) =
                    (truth.trials[candidate.row].label.clone(), finding.value, finding.n);
                contradicted.push(format!(
                    "{row}: {metric} {limit:.5}: {:?} by {seen:.5?} of {n}, all say {value:.5}",
                    finding.proof
                ));
            }
        }
    }
    (verdicts, contradicted)
}

/// Quality as the built-in experiment measures it.
fn usual_quality(experiment: &Experiment) -> Option<QualityPlan> {
    let quality = experiment.workloads.quality.clone()?;
    Some(QualityPlan { chunks: Some(40), precision: Some(0.1), ..quality })
}

/// Whether two trials are shown to be alike by all that was recorded.
fn is_alike(whole: &Recommendation, truth: &RunRecord, one: usize, other: usize) -> bool {
    let [one, other] = [one, other].map(|row| whole.worth(truth, row).abs());
    match whole.order {
        Order::Closest => one <= other * (1.0 + ALIKE_LOSS) || one < NO_LOSS,
        Order::Fastest => one >= other / (1.0 + ALIKE_SPEED),
        Order::Smallest => one <= other * (1.0 + SIZE_THAT_MATTERS),
    }
}

/// The best in the order of those that meet everything by their values.
fn answer(run: &RunRecord, order: Order) -> Option<usize> {
    let summary = Summary::of(run);
    let found = Recommendation::by(run, order);
    let meets = |&row: &usize| summary.rows[row].verdict.as_ref().is_some_and(Verdict::is_met);
    let rows = (0..run.trials.len()).filter(meets);
    rows.max_by(|&one, &other| found.worth(run, one).total_cmp(&found.worth(run, other)))
}

/// One to three requirements whose limits lie among what was recorded.
fn generated(recorded: &RunRecord, random: &mut fastrand::Rng) -> (Order, Requirements) {
    let order = [Order::Closest, Order::Fastest, Order::Smallest][random.usize(0..3)];
    let whole = Recommendation::by(recorded, order);
    let evidences = whole.evidences();
    let generation = evidences.generation().map(Metric::name).unwrap_or_default();
    let kinds = [
        (generation.as_str(), Bound::AtLeast),
        ("kld_nats", Bound::AtMost),
        (MEMORY, Bound::AtMost),
        ("ttft_p90_seconds", Bound::AtMost),
        ("perplexity_increase", Bound::AtMost),
    ];
    let weights = [0, 0, 0, 1, 1, 1, 2, 3, 4];
    let mut requirements = Vec::new();
    let count = random.usize(1..=3);
    while requirements.len() < count {
        let (metric, bound) = kinds[weights[random.usize(0..weights.len())]];
        let asked = Requirement { metric: metric.to_owned(), bound, limit: 1.0 };
        let values = (0..recorded.trials.len())
            .filter(|&row| !(recorded.trials[row].is_reference && metric == "kld_nats"))
            .filter_map(|row| evidences.finding(recorded, row, &asked).value)
            .filter(|value| *value > 0.0);
        let Some(sample) = Sample::new(values) else { continue };
        // Small models differ by less than the process itself varies.
        let span = sample.maximum() - sample.minimum();
        if metric == MEMORY && span < LEAST_SPAN {
            continue;
        }
        if requirements.iter().any(|it: &Requirement| it.metric == metric) {
            // Fewer are as good.
            break;
        }
        let (low, high) = ((sample.minimum() * 0.9).ln(), (sample.maximum() * 1.1).ln());
        let limit = (low + (high - low) * random.f64()).exp();
        requirements.push(Requirement { limit, ..asked });
    }
    (order, Requirements(requirements))
}

fn in_words(order: Order, requirements: &Requirements) -> String {
    let one = |it: &Requirement| {
        let sign = if it.bound == Bound::AtMost { '≤' } else { '≥' };
        format!("{} {sign} {:.5}", it.metric, it.limit)
    };
    let all: Vec<String> = requirements.0.iter().map(one).collect();
    format!("{}, {order:?}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::resolved::ModelPlan;
    use crate::experiment::workloads::{LatencyPlan, Sampling};
    use crate::hardware::timeline::Timeline;
    use crate::hardware::usage::Usage;
    use crate::model::source::Source;
    use crate::prompt::choice::FormatChoice;
    use crate::results::made_up::{MadeUp, speed_test, started};
    use crate::results::record::{PhaseUsage, Stage, StageRecord};
    use crate::workload::Phase;

    /// A made-up run with fifty rounds, and what it would have taken.
    fn recorded() -> RunRecord {
        let mut run = MadeUp { rounds: 50, noise: 0.02, ..MadeUp::default() }.run();
        for trial in &mut run.trials {
            let used = |phase: Phase, seconds: f64| PhaseUsage {
                phase,
                begin_seconds: None,
                end_seconds: None,
                usage: Usage { seconds, ..Usage::default() },
            };
            for visit in &mut trial.visits {
                let tests = visit.speed.iter().map(|it| {
                    let nanoseconds: u64 = it.samples.iter().map(|it| it.nanoseconds).sum();
                    used(Phase::Speed(it.test), crate::units::to_f64(nanoseconds) / 1e9)
                });
                let tests: Vec<PhaseUsage> = tests.collect();
                visit.usage = vec![used(Phase::Start, 0.1), used(Phase::Load, 0.2)];
                visit.usage.extend(tests);
                visit.usage.push(used(Phase::Latency, 10.0));
            }
            trial.stages = vec![StageRecord {
                stage: Stage::Quality,
                started: started(),
                measured: Vec::new(),
                usage: vec![
                    used(Phase::Start, 0.1),
                    used(Phase::Load, 0.2),
                    used(Phase::Quality, 160.0),
                ],
                timeline: Timeline::default(),
                peak_rss_bytes: None,
            }];
        }
        run
    }

    fn experiment(recorded: &RunRecord) -> Experiment {
        let quantizations = recorded.trials.iter().map(|it| it.quantization).collect();
        let model = ModelPlan::new(recorded.trials[0].model.clone(), Source::Demo);
        Experiment {
            models: vec![ModelPlan { quantizations, ..model }],
            rounds: 5,
            workloads: Workloads {
                speed: vec![speed_test("pp512"), speed_test("tg128")],
                latency: Some(LatencyPlan {
                    prompts: Vec::new(),
                    source: "demo".to_owned(),
                    prompt_tokens: None,
                    max_tokens: 24,
                    parallel: 0,
                    sampling: Sampling::default(),
                    format: FormatChoice::None,
                    chat_template_kwargs: serde_json::Map::new(),
                }),
                quality: Some(QualityPlan {
                    text: String::new(),
                    domains: Vec::new(),
                    answers: None,
                    source: "demo".to_owned(),
                    context: 512,
                    chunks: None,
                    divergence: true,
                    precision: Some(0.1),
                    reference_budget_bytes: 1 << 30,
                }),
                ..Workloads::default()
            },
            ..Experiment::default()
        }
    }

    #[test]
    fn recommendations_are_those_of_the_matrix_in_a_part_of_its_time() {
        let recorded = recorded();
        let all = graded(&experiment(&recorded), &recorded, 24, 7).unwrap();
        let told = |it: &Graded| format!("{it:#?}");
        let agree = all.iter().filter(|it| it.recommended == it.exhaustive || it.is_as_good);
        let differ: Vec<String> = all
            .iter()
            .filter(|it| it.recommended != it.exhaustive && !it.is_as_good)
            .map(told)
            .collect();
        assert!(agree.count() >= 22, "{}", differ.join("\n"));
        let verdicts: usize = all.iter().map(|it| it.verdicts).sum();
        let contradicted: Vec<&String> = all.iter().flat_map(|it| &it.contradicted).collect();
        assert!(contradicted.len() * 50 <= verdicts, "{contradicted:#?} of {verdicts}");
        let parts = Sample::new(all.iter().map(|it| it.seconds[0] / it.seconds[2])).unwrap();
        assert!(parts.median() < 1.0 / 3.0, "{parts:?}");
    }
}
