//! From what the user wrote to what it means: every default is filled in here and nowhere else, and
//! values are checked against each other.

use super::calibration::CalibrationChoice;
use super::diagnostic::Problem;
use super::file::{ExperimentFile, LatencyFile, QualityFile, RequirementsFile, WorkloadsFile};
use super::inputs;
use super::reader::Located;
use super::requirements::Requirements;
use super::resolved::{Experiment, Workloads};
use super::workloads::{LatencyPlan, QualityPlan, Sampling, SpeedTest};
use crate::causes;
use crate::prompt::choice::FormatChoice;
use crate::prompt::template;
use serde_json::{Map, Value};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Visits of each trial.
const ROUNDS: u32 = 5;
/// Timed repetitions within a visit; the rounds repeat it already.
const REPETITIONS: u32 = 1;
/// Silence after which a worker is ended.
const PHASE_LIMIT: Duration = Duration::from_mins(10);
/// Longer limits and pauses are a slip; it also keeps deadlines within the clock's range.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// llama-bench's default tests.
const SPEED: [&str; 2] = ["pp512", "tg128"];
/// Tokens generated per prompt.
const MAX_TOKENS: u32 = 64;
/// llama-perplexity's `n_ctx`.
const CONTEXT: u32 = 512;
/// Disk that the reference's log-probabilities may take.
const REFERENCE_BUDGET: u64 = 2 << 30;

/// Where an experiment comes from: it decides what its paths and missing names mean.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Folder at which relative paths start.
    pub base: &'a Path,
    /// The name of an experiment that names itself not.
    pub fallback_name: &'a str,
    /// Whether this is the experiment compiled into the program.
    pub built_in: bool,
    /// Whether nobody asked for it by its name: it is the default.
    pub is_default: bool,
    /// Whether the command line allows variants of sources that are quantized already.
    pub allow_requantize: bool,
}

/// Turns what was written into what it means; what is wrong goes to `problems`.
pub fn expand(
    file: &ExperimentFile,
    calibration: &CalibrationChoice,
    origin: Origin<'_>,
    problems: &mut Vec<Problem>,
) -> Experiment {
    let workloads = expand_workloads(&file.workloads, origin, problems);
    let (models, left_out) = super::models::expand(file, calibration, origin, problems);
    let settings = file.settings.combinations(problems);
    Experiment {
        name: expand_name(file.name.as_ref(), origin.fallback_name, problems),
        models,
        left_out,
        settings,
        requirements: expand_requirements(&file.requirements, &workloads, problems),
        workloads,
        rounds: value(file.rounds.as_ref(), ROUNDS),
        repetitions: value(file.repetitions.as_ref(), REPETITIONS),
        cool_down: limited(file.cool_down.as_ref(), Duration::ZERO, Duration::ZERO, problems),
        phase_limit: limited(
            file.phase_limit.as_ref(),
            PHASE_LIMIT,
            Duration::from_secs(1),
            problems,
        ),
    }
}

fn value<T: Copy>(written: Option<&Located<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

fn limited(
    written: Option<&Located<Duration>>,
    default: Duration,
    least: Duration,
    problems: &mut Vec<Problem>,
) -> Duration {
    let Some(written) = written else { return default };
    if written.value < least || written.value > LONGEST {
        problems.push(written.problem(format!(
            "is {}; it must be from {} to {}",
            humantime::format_duration(written.value),
            humantime::format_duration(least),
            humantime::format_duration(LONGEST)
        )));
    }
    written.value
}

fn expand_name(
    written: Option<&Located<String>>,
    fallback: &str,
    problems: &mut Vec<Problem>,
) -> String {
    let Some(written) = written else { return fallback.to_owned() };
    if let Some(wrong) = wrong_name(&written.value) {
        problems.push(written.problem(wrong));
    }
    written.value.clone()
}

/// Why `name` cannot stand in a table, if it cannot.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("is empty")
    } else if name.chars().any(char::is_control) {
        Some("has a control character in it")
    } else if name.chars().count() > 80 {
        Some("is longer than 80 characters")
    } else {
        None
    }
}

/// What is measured of a model that has `own` keys instead of some of the experiment's. What is wrong
/// with the experiment's is reported once, where it stands.
pub fn workloads_of_model(
    own: &WorkloadsFile,
    file: &ExperimentFile,
    origin: Origin<'_>,
    problems: &mut Vec<Problem>,
) -> Workloads {
    let mut found = Vec::new();
    let workloads = expand_workloads(&own.over(&file.workloads), origin, &mut found);
    found.retain(|problem| !problems.contains(problem));
    problems.append(&mut found);
    workloads
}

fn expand_workloads(
    file: &WorkloadsFile,
    origin: Origin<'_>,
    problems: &mut Vec<Problem>,
) -> Workloads {
    Workloads {
        cold_load: value(file.cold_load.as_ref(), true),
        speed: expand_speed(file.speed.as_deref(), problems),
        latency: expand_latency(file.latency.as_ref(), origin, problems),
        quality: expand_quality(file.quality.as_ref(), origin, problems),
        tasks: super::tasks::expand(&file.tasks, origin.base, problems),
    }
}

fn expand_speed(
    written: Option<&[Located<String>]>,
    problems: &mut Vec<Problem>,
) -> Vec<SpeedTest> {
    let Some(written) = written else {
        return SPEED.iter().filter_map(|test| test.parse().ok()).collect();
    };
    let mut tests: Vec<SpeedTest> = Vec::new();
    for text in written {
        match text.value.parse::<SpeedTest>() {
            Ok(test) if tests.contains(&test) => {
                problems.push(text.problem(format!("has {test} twice")));
            }
            Ok(test) => tests.push(test),
            Err(error) => {
                problems.push(Problem::new(text.span.clone(), format!("'{}': {error}", text.key)));
            }
        }
    }
    tests
}

/// Whether a workload that was not asked for can be left out: the built-in experiment of a build
/// without the demo still measures everything else.
fn lacks_demo(origin: Origin<'_>, source: &str) -> bool {
    origin.built_in && source == inputs::DEMO && !crate::model::demo::BUILT_IN
}

fn expand_latency(
    file: Option<&LatencyFile>,
    origin: Origin<'_>,
    problems: &mut Vec<Problem>,
) -> Option<LatencyPlan> {
    let defaults = LatencyFile::default();
    let written = file.unwrap_or(&defaults);
    let source = written.prompts.as_ref().map_or(inputs::DEMO, |prompts| &prompts.value);
    if !value(written.enabled.as_ref(), true) || lacks_demo(origin, source) {
        return None;
    }
    let prompts = match inputs::prompts(source, origin.base) {
        Ok(prompts) => prompts,
        Err(error) => {
            report_input("workloads.latency.prompts", written.prompts.as_ref(), &error, problems);
            Vec::new()
        }
    };
    let default = Sampling::default();
    #[expect(clippy::cast_possible_truncation, reason = "within 0 to 100, checked when read")]
    let narrow = |written: Option<&Located<f64>>, default: f32| {
        written.map_or(default, |written| written.value as f32)
    };
    let format = match written.format.as_ref().map(|format| (format, format.value.parse())) {
        None => FormatChoice::default(),
        Some((_, Ok(format))) => format,
        Some((format, Err(error))) => {
            let error: crate::prompt::choice::FormatChoiceError = error;
            let message = format!("'{}': {error}", format.key);
            problems.push(Problem::new(format.span.clone(), message));
            FormatChoice::default()
        }
    };
    let chat_template_kwargs =
        chat_template_kwargs(written.chat_template_kwargs.as_ref(), &[format], problems);
    Some(LatencyPlan {
        format,
        chat_template_kwargs,
        prompts,
        source: source.to_owned(),
        max_tokens: value(written.max_tokens.as_ref(), MAX_TOKENS),
        sampling: Sampling {
            temperature: narrow(written.temperature.as_ref(), default.temperature),
            top_k: written
                .top_k
                .as_ref()
                .and_then(|top_k| i32::try_from(top_k.value).ok())
                .unwrap_or(default.top_k),
            top_p: narrow(written.top_p.as_ref(), default.top_p),
            seed: value(written.seed.as_ref(), default.seed),
        },
    })
}

/// What is given to the model's own template, which has to be among `formats`.
pub(in crate::experiment) fn chat_template_kwargs(
    written: Option<&Located<Map<String, Value>>>,
    formats: &[FormatChoice],
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let Some(written) = written else { return Map::new() };
    if !formats.contains(&FormatChoice::Auto) {
        let problem = written.problem("is for the model's own template, which is not asked for");
        problems.push(problem.help("write format = \"auto\", or leave the format out"));
    }
    for key in template::OWN_VALUES {
        if written.value.contains_key(key) {
            problems.push(written.problem(format!("has '{key}', which every template is given")));
        }
    }
    written.value.clone()
}

fn expand_quality(
    file: Option<&QualityFile>,
    origin: Origin<'_>,
    problems: &mut Vec<Problem>,
) -> Option<QualityPlan> {
    let defaults = QualityFile::default();
    let written = file.unwrap_or(&defaults);
    let source = written.text.as_ref().map_or(inputs::DEMO, |text| &text.value);
    if !value(written.enabled.as_ref(), true) || lacks_demo(origin, source) {
        return None;
    }
    let context = value(written.context.as_ref(), CONTEXT);
    let text = match inputs::text(source, origin.base) {
        Ok(text) => {
            check_length(&text, context, written, problems);
            text
        }
        Err(error) => {
            report_input("workloads.quality.text", written.text.as_ref(), &error, problems);
            String::new()
        }
    };
    let divergence = value(written.divergence.as_ref(), true);
    if let (Some(precision), false) = (&written.precision, divergence) {
        problems.push(
            precision
                .problem("asks for a precise divergence, but divergence is off")
                .help("remove it, or set divergence = true"),
        );
    }
    Some(QualityPlan {
        text,
        source: source.to_owned(),
        context,
        chunks: written.chunks.as_ref().map(|chunks| chunks.value),
        divergence,
        precision: written.precision.as_ref().map(|precision| precision.value),
        reference_budget_bytes: value(written.memory_budget.as_ref(), REFERENCE_BUDGET),
    })
}

/// A token is at least one byte, so a text of fewer bytes than two chunks have tokens cannot fill
/// them; the worker counts exactly, but only after a model was loaded.
fn check_length(text: &str, context: u32, written: &QualityFile, problems: &mut Vec<Problem>) {
    let bytes = text.len() as u64;
    let needed = 2 * u64::from(context);
    if bytes >= needed {
        return;
    }
    let span = written
        .text
        .as_ref()
        .map(|text| text.span.clone())
        .or_else(|| written.context.as_ref().map(|context| context.span.clone()));
    problems.push(
        Problem::new(
            span.unwrap_or(0..0),
            format!(
                "'workloads.quality.text' has {bytes} bytes, too few for 2 chunks of {context} tokens"
            ),
        )
        .help(format!(
            "use a text of at least {needed} tokens (about {} bytes), or a smaller context",
            4 * needed
        )),
    );
}

fn report_input(
    key: &str,
    written: Option<&Located<String>>,
    error: &inputs::InputError,
    problems: &mut Vec<Problem>,
) {
    let span: Range<usize> = written.map_or(0..0, |written| written.span.clone());
    let problem = Problem::new(span, format!("'{key}' {}", causes::in_words(error)));
    problems.push(if written.is_none() {
        // The default could not be had: the user has to say what to do instead.
        problem.help("write a file of your own there, or switch the workload off: enabled = false")
    } else {
        problem
    });
}

/// A requirement on something that is not measured would never be met and never be missed.
fn expand_requirements(
    file: &RequirementsFile,
    workloads: &Workloads,
    problems: &mut Vec<Problem>,
) -> Requirements {
    let generates = workloads.speed.iter().any(|test| test.is_generation_only());
    if let (Some(written), false) = (&file.min_generation_tps, generates) {
        problems.push(
            written
                .problem("asks for a speed that is not measured")
                .help("add a generation test such as \"tg128\" to workloads.speed"),
        );
    }
    if let (Some(written), None) = (&file.max_ttft_ms, &workloads.latency) {
        problems.push(
            written
                .problem("asks for a latency that is not measured")
                .help("enable [workloads.latency]"),
        );
    }
    if let (Some(written), None) = (&file.max_perplexity_increase, &workloads.quality) {
        problems.push(
            written
                .problem("asks for a quality that is not measured")
                .help("enable [workloads.quality]"),
        );
    }
    let diverges = workloads.quality.as_ref().is_some_and(|quality| quality.divergence);
    if let (Some(written), false) = (&file.max_kld, diverges) {
        problems.push(
            written
                .problem("asks for a divergence that is not measured")
                .help("enable [workloads.quality] with divergence = true"),
        );
    }
    let number = |written: &Option<Located<f64>>| written.as_ref().map(|written| written.value);
    Requirements {
        max_memory_bytes: file.max_memory.as_ref().map(|written| written.value),
        min_generation_tokens_per_second: number(&file.min_generation_tps),
        max_ttft_ms: number(&file.max_ttft_ms),
        max_kld: number(&file.max_kld),
        max_perplexity_increase: number(&file.max_perplexity_increase),
    }
}
