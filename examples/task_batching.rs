//! What answering in parallel saves: every task of an experiment, answered as `quantbench run` does and with one request
//! at a time, in one process, one after the other.
//!
//! `cargo run --release --example task_batching MODEL.gguf EXPERIMENT.toml`
//!
//! One request at a time: an ordinary context with all threads is emptied before each request, which is
//! evaluated whole; a question with four choices is four requests. Neither side includes HTTP, loading or
//! reading the data set; both include turning text into tokens. The two are compared as a ratio, and
//! their answers as well.

use quantbench::engine::batch::Batch;
use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::context::Context;
use quantbench::engine::llama::model::Model;
use quantbench::engine::{Context as _, ContextPurpose, ContextShape, LoadExtent, Model as _};
use quantbench::experiment::settings::Settings;
use quantbench::experiment::tasks::{Answering, Asked, TaskPlan};
use quantbench::experiment::{Overrides, load};
use quantbench::model::architecture::ArchitectureClass;
use quantbench::model::artifact::ArtifactRef;
use quantbench::model::gguf::{Header, SpecialTokens};
use quantbench::prompt::choice::Prompter;
use quantbench::prompt::sandbox;
use quantbench::prompt::template::ChatTemplate;
use quantbench::workload::batched::BatchedContext;
use quantbench::workload::softmax::{index_of_maximum, log_sum_exp};
use quantbench::workload::tasks::encode::Encoder;
use quantbench::workload::tasks::record::KeptAnswer;
use quantbench::workload::tasks::{TaskJob, TaskRequest, run};
use std::path::Path;
use std::time::Instant;
use time::OffsetDateTime;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some(sandbox::SUBCOMMAND) {
        // Templates are rendered by a process of the same program.
        let _ = sandbox::main();
        return Ok(());
    }
    let (Some(path), Some(experiment)) = (arguments.next(), arguments.next()) else {
        return Err("usage: task_batching MODEL.gguf EXPERIMENT.toml".into());
    };
    let experiment = load(Some(Path::new(&experiment)), &Overrides::default())?;
    let settings = Settings::default();
    let backend = Backend::initialise();
    let model = Model::load(backend, Path::new(&path), &settings, LoadExtent::Everything)?;
    for task in &experiment.workloads.tasks {
        compare(&model, Path::new(&path), &settings, task)?;
    }
    Ok(())
}

fn compare(
    model: &Model,
    path: &Path,
    settings: &Settings,
    task: &TaskPlan,
) -> Result<(), Failure> {
    let (header, tokens) = (Header::read(path)?, SpecialTokens::read(path)?);
    let template = |source| ChatTemplate::new(source, tokens, OffsetDateTime::now_utc());
    let prompter = Prompter::new(task.format, || header.chat_template().map(template).transpose())?;
    let job = TaskJob {
        plan: task.clone(),
        questions: ArtifactRef::input("", path, 0),
        corpus: None,
        pictures: None,
        projector: None,
    };
    let request = TaskRequest {
        model,
        settings,
        job: &job,
        questions: &task.questions,
        prompter: &prompter,
        passages: None,
        encoder: None,
    };
    let together = || -> Result<_, Failure> {
        let start = Instant::now();
        let record = run(&request, &mut |_, _| ())?.record;
        Ok((record, start.elapsed().as_secs_f64()))
    };
    // Before and after, so that a machine that grows slower does so for both.
    let (record, before) = together()?;
    let start = Instant::now();
    let answers = one_at_a_time(model, settings, &request)?;
    let alone = start.elapsed().as_secs_f64();
    let (_, after) = together()?;
    let side_by_side = f64::midpoint(before, after);
    let same = answers.iter().zip(&record.answers).filter(|(one, other)| one == other).count();
    println!(
        "{}: {} questions, {} tokens of requests, {} evaluated; one at a time {alone:.2} s, side by \
         side {side_by_side:.2} s, ratio {:.1}; same answer to {same} of {}",
        task.name,
        record.questions,
        record.request_tokens,
        record.evaluated_tokens,
        alone / side_by_side,
        record.answers.len(),
    );
    Ok(())
}

/// All questions with one request at a time.
fn one_at_a_time(
    model: &Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
) -> Result<Vec<KeptAnswer>, Failure> {
    if model.class() == ArchitectureClass::EncoderDecoder {
        return one_source_at_a_time(model, settings, request);
    }
    let separator = request.job.plan.separator.as_deref();
    let encoder = Encoder { model, settings, prompter: request.prompter, separator };
    let shape = ContextShape {
        tokens: model.context_length(),
        sequences: 1,
        batch: settings.batch,
        ubatch: settings.ubatch,
    };
    let mut server = Server {
        context: Context::new(model, settings, shape, ContextPurpose::Separate)?,
        batch: Batch::with_capacity(settings.batch as usize),
    };
    let Answering::Generate { max_tokens, stop } = &request.job.plan.answering else {
        let mut answers = Vec::new();
        for alternatives in encoder.alternatives(request.questions)?.tokens {
            let mut best = (0, f64::NEG_INFINITY);
            for (position, it) in (0..).zip(&alternatives) {
                let found = server.likelihood(&it.tokens, it.scored_from)?;
                if found > best.1 {
                    best = (position, found);
                }
            }
            answers.push(KeptAnswer::Choice(best.0));
        }
        return Ok(answers);
    };
    let mut stops: Vec<&str> = stop.iter().map(String::as_str).collect();
    stops.extend(request.prompter.stops());
    let max_tokens = *max_tokens as usize;
    let requests = encoder.requests(request.questions, max_tokens)?.tokens;
    let answers = requests.iter().map(|tokens| server.write(tokens, max_tokens, &stops));
    answers.map(|text| Ok(KeptAnswer::Text(text?))).collect()
}

/// What an encoder-decoder writes after each source.
fn one_source_at_a_time(
    model: &Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
) -> Result<Vec<KeptAnswer>, Failure> {
    let Answering::Generate { max_tokens, stop } = &request.job.plan.answering else {
        return Err("of encoder-decoders only what they write is compared".into());
    };
    let context = model.context_length();
    let mut reader = BatchedContext::for_source(model, settings, context, *max_tokens)?;
    let mut answers = Vec::new();
    for question in request.questions {
        let Asked::Write { request, .. } = &question.asked else { continue };
        let written = reader.answer(&model.tokenize(request, true, false)?, *max_tokens)?;
        let written = written.iter().filter(|&&token| !model.ends_generation(token));
        let bytes: Vec<u8> = written.flat_map(|&token| model.token_bytes(token)).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let end = stop.iter().filter_map(|stop| text.find(stop)).min();
        answers.push(KeptAnswer::Text(text[..end.unwrap_or(text.len())].to_owned()));
    }
    Ok(answers)
}

/// What answers one request at a time.
struct Server<'model> {
    context: Context<'model>,
    batch: Batch,
}

impl Server<'_> {
    fn submit(&mut self, tokens: &[i32], outputs_from: usize) -> Result<(), Failure> {
        self.context.clear_memory();
        self.batch.clear();
        for (position, &token) in tokens.iter().enumerate() {
            self.batch.add(token, i32::try_from(position)?, 0, position >= outputs_from)?;
        }
        Ok(self.context.decode(&mut self.batch)?)
    }

    fn likelihood(&mut self, tokens: &[i32], scored_from: usize) -> Result<f64, Failure> {
        // The last token predicts nothing that is asked for.
        self.submit(&tokens[..tokens.len() - 1], scored_from - 1)?;
        let vocabulary = self.context.model().vocabulary_size();
        let logits = self.context.all_logits(tokens.len() - scored_from)?;
        let mut sum = 0.0;
        for (row, &token) in logits.chunks_exact(vocabulary).zip(&tokens[scored_from..]) {
            sum += f64::from(row[usize::try_from(token)?] - log_sum_exp(row));
        }
        Ok(sum)
    }

    fn write(
        &mut self,
        tokens: &[i32],
        max_tokens: usize,
        stops: &[&str],
    ) -> Result<String, Failure> {
        self.submit(tokens, tokens.len() - 1)?;
        let mut bytes = Vec::new();
        for position in tokens.len()..tokens.len() + max_tokens {
            let token = i32::try_from(index_of_maximum(self.context.all_logits(1)?))?;
            if self.context.model().ends_generation(token) {
                break;
            }
            bytes.extend(self.context.model().token_bytes(token));
            let text = String::from_utf8_lossy(&bytes);
            if let Some(end) = stops.iter().filter_map(|stop| text.find(stop)).min() {
                return Ok(text[..end].to_owned());
            }
            self.batch.clear();
            self.batch.add(token, i32::try_from(position)?, 0, true)?;
            self.context.decode(&mut self.batch)?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
