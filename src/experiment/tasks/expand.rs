//! From what the user wrote of a task to what it means.

use super::corpus::CorpusPlan;
use super::file::TaskFile;
use super::pictures::Pictures;
use super::plan::{Answering, TaskName, TaskPlan, UseCase};
use super::question::{CONTINUATION, Maker, QUERY, Question, REQUEST, choice_name};
use crate::causes;
use crate::dataset::{Columns, DatasetError, Example, picture};
use crate::experiment::diagnostic::Problem;
use crate::experiment::expand::{Expansion, chat_template_kwargs};
use crate::experiment::inputs;
use crate::experiment::reader::Located;
use crate::metrics::TaskMetric;
use crate::model::cache::of_bytes;
use crate::prompt::choice::FormatChoice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Turns tasks as they were written into plans, one per format.
pub(crate) fn expand(tasks: &[Located<TaskFile>], expansion: &mut Expansion<'_>) -> Vec<TaskPlan> {
    let mut plans: Vec<TaskPlan> = Vec::new();
    for task in tasks {
        let before = expansion.problems.len();
        let found = expand_one(task, expansion);
        if expansion.problems.len() > before {
            continue;
        }
        for plan in found {
            // Figures are called by names in which '-', '.' and '_' are one.
            let same = |other: &TaskPlan| plain(&other.name) == plain(&plan.name);
            if plans.iter().any(same) {
                let span = task.name.as_ref().map_or(task.span.clone(), |name| name.span.clone());
                let message = format!("two tasks are called '{}'", plan.name);
                expansion
                    .problems
                    .push(Problem::new(span, message).help("give each a name of its own"));
            }
            plans.push(plan);
        }
    }
    plans
}

fn plain(name: &TaskName) -> String {
    name.as_str().to_lowercase().replace(['-', '@', '.'], "_")
}

/// A key that has to be there.
fn required<'f, T>(
    task: &Located<TaskFile>,
    key: &str,
    written: Option<&'f Located<T>>,
    problems: &mut Vec<Problem>,
) -> Option<&'f Located<T>> {
    if written.is_none() && !task.wrong.iter().any(|wrong| wrong.value == key) {
        let message = format!("this task has no '{key}'");
        problems.push(Problem::new(task.span.clone(), message));
    }
    written
}

fn expand_one(task: &Located<TaskFile>, expansion: &mut Expansion<'_>) -> Vec<TaskPlan> {
    let problems = &mut expansion.problems;
    let name = required(task, "name", task.name.as_ref(), problems);
    let kind = required(task, "kind", task.kind.as_ref(), problems);
    let source = required(task, "dataset", task.dataset.as_ref(), problems);
    let template = required(task, "template", task.template.as_ref(), problems);
    let (Some(name), Some(kind), Some(source), Some(_)) = (name, kind, source, template) else {
        return Vec::new();
    };
    let parsed = name.value.parse::<TaskName>();
    if let Err(error) = &parsed {
        problems.push(name.problem(error));
    }
    if name.value.contains('@') {
        problems.push(name.problem("has an '@' in it, which stands before a format's name"));
    }
    let Ok(name) = parsed else { return Vec::new() };
    let use_case = kind.value;
    if use_case == UseCase::ImageText && !picture::BUILT_IN {
        // The models that it is for are left out, and that is said.
        return Vec::new();
    }
    let Some(answering) = expand_answering(task, use_case, problems) else { return Vec::new() };
    let metrics = expand_metrics(task, use_case, &answering, problems);
    let formats = task.formats.as_ref().filter(|formats| !formats.is_empty());
    let formats = formats.map_or_else(
        || vec![FormatChoice::default()],
        |formats| formats.iter().map(|format| format.value).collect(),
    );
    let chat_template_kwargs =
        chat_template_kwargs(task.chat_template_kwargs.as_ref(), &formats, problems);
    let Some(mut maker) = maker(task, &answering, problems) else { return Vec::new() };
    let finds = matches!(answering, Answering::Retrieve | Answering::Augment { .. });
    let corpus = if finds {
        let Some(corpus) = corpus(task, &answering, &mut maker, expansion) else {
            return Vec::new();
        };
        Some(corpus)
    } else {
        None
    };
    let Some((folder, questions)) = questions(task, source, &mut maker, expansion) else {
        return Vec::new();
    };
    let shows = use_case == UseCase::ImageText;
    let plan = TaskPlan {
        name,
        use_case,
        dataset: source.value.clone(),
        answering,
        metrics,
        format: FormatChoice::default(),
        chat_template_kwargs,
        separator: task.separator.as_ref().map(|separator| separator.value.clone()),
        corpus,
        pictures: shows.then_some(folder),
        question_count: u32::try_from(questions.len()).unwrap_or(u32::MAX),
        checksum: checksum(&questions),
        questions: Arc::new(questions),
    };
    let several = formats.len() > 1;
    let in_format = |format: FormatChoice| TaskPlan {
        name: if several { name.in_format(format).unwrap_or(name) } else { name },
        format,
        ..plan.clone()
    };
    formats.into_iter().map(in_format).collect()
}

/// The passages of a task that finds some; `maker` learns what names them.
fn corpus(
    task: &Located<TaskFile>,
    answering: &Answering,
    maker: &mut Maker<'_>,
    expansion: &mut Expansion<'_>,
) -> Option<CorpusPlan> {
    let before = expansion.problems.len();
    let Some(file) = &task.corpus else {
        let problem = Problem::new(task.span.clone(), "this task has no 'corpus'");
        expansion.problems.push(problem.help(
            "write corpus = { passages = \"…\", relevant = \"…\" }: the passages, and the field \
             of a question that names its own",
        ));
        return None;
    };
    let answers = matches!(answering, Answering::Augment { .. });
    let template = task.template.as_ref();
    let (plan, places) = super::corpus::expand(file, template, answers, expansion)?;
    maker.places = places;
    // What is retrieved only is found by the task's own template.
    if let Some(query) = file.query.as_ref().or(template.filter(|_| !answers))
        && let Err(error) = maker.add(QUERY, &query.value)
    {
        expansion.problems.push(query.problem(format!("is no template: {error}")));
    }
    (expansion.problems.len() == before).then_some(plan)
}

fn expand_answering(
    task: &Located<TaskFile>,
    use_case: UseCase,
    problems: &mut Vec<Problem>,
) -> Option<Answering> {
    let (max_tokens, stop) = (*task.max_tokens, TaskFile::texts(task.stop.as_ref()));
    let has_choices = task.choices.is_some() || task.fields.choices.is_some();
    let finds = match use_case {
        UseCase::Retrieval => Some(Answering::Retrieve),
        UseCase::Rag => Some(Answering::Augment { max_tokens, stop: stop.clone() }),
        UseCase::ImageText => Some(Answering::See { max_tokens, stop: stop.clone() }),
        _ => None,
    };
    let shows = use_case == UseCase::ImageText;
    match (&finds, &task.answer, &task.corpus) {
        (Some(_), Some(answer), _) => {
            let whose = if shows { "shows pictures" } else { "finds passages" };
            problems.push(answer.problem(format!("has no meaning for a task that {whose}")));
        }
        (_, _, Some(corpus)) if finds.is_none() || shows => {
            let problem =
                Problem::new(corpus.span.clone(), "'corpus' is for tasks that find passages");
            problems.push(problem.help("write kind = \"retrieval\" or kind = \"rag\""));
        }
        _ => {}
    }
    match &task.fields.image {
        None if shows => {
            let problem = Problem::new(task.span.clone(), "this task does not say what it shows");
            problems
                .push(problem.help(
                    "write fields = { image = \"…\" }, the field with the path of a picture",
                ));
        }
        Some(image) if !shows => {
            let problem = image.problem("is for tasks that show pictures");
            problems.push(problem.help("write kind = \"image-text\""));
        }
        _ => {}
    }
    let answering = match task.answer.as_ref().map(|answer| answer.value.as_str()) {
        _ if finds.is_some() => finds?,
        Some("generate") => Answering::Generate { max_tokens, stop },
        Some("predict") => Answering::Predict,
        Some(_) => Answering::Choose,
        None if has_choices => Answering::Choose,
        None if use_case == UseCase::TextGeneration => Answering::Predict,
        None => Answering::Generate { max_tokens, stop },
    };
    if !answering.writes() {
        let unused = "is for answers that are generated";
        let stop = task.stop.as_ref().and_then(|stop| stop.first()).map(|it| it.problem(unused));
        let max_tokens = Some(&task.max_tokens).filter(|it| it.is_written());
        problems.extend(max_tokens.map(|it| it.problem(unused)));
        problems.extend(stop);
    }
    let mut stops = task.stop.iter().flat_map(|stop| stop.iter());
    if let Some(empty) = stops.find(|text| text.is_empty()) {
        problems.push(empty.problem("is empty: every answer would end before it began"));
    }
    Some(answering)
}

fn expand_metrics(
    task: &Located<TaskFile>,
    use_case: UseCase,
    answering: &Answering,
    problems: &mut Vec<Problem>,
) -> Vec<TaskMetric> {
    use TaskMetric as M;
    // Classes are the same for every question only if the choices are.
    let has_classes = task.choices.is_some()
        || matches!(answering, Answering::Generate { .. } | Answering::See { .. });
    let Some(written) = &task.metrics else {
        return match (answering, use_case) {
            (Answering::Predict, _) => vec![M::Accuracy],
            (Answering::Retrieve, _) => vec![M::Hit(1), M::ReciprocalRank, M::Ndcg(10)],
            (Answering::Augment { .. }, _) => vec![M::ExactMatch, M::F1, M::Hit(1)],
            (_, UseCase::Classification) if has_classes => vec![M::Accuracy, M::MacroF1],
            (Answering::Choose, _) => vec![M::Accuracy, M::AccuracyNormalized],
            (_, UseCase::Translation) => vec![M::Bleu, M::Chrf],
            (_, UseCase::Summarization) => vec![M::RougeL, M::Rouge1, M::Rouge2],
            (_, UseCase::QuestionAnswering | UseCase::ImageText) => vec![M::ExactMatch, M::F1],
            (
                _,
                UseCase::Classification
                | UseCase::TextGeneration
                | UseCase::Retrieval
                | UseCase::Rag,
            ) => vec![M::Accuracy],
        };
    };
    let mut metrics = Vec::new();
    for text in written.iter() {
        match text.value {
            metric if !answering.allows(metric) => problems.push(text.problem(format!(
                "has {metric}, which says nothing of answers that a model gives by '{}'",
                <&str>::from(answering)
            ))),
            M::MacroF1 if !has_classes => problems.push(
                text.problem("has macro_f1, but the choices differ from question to question")
                    .help("list the classes: choices = [\"…\", \"…\"]"),
            ),
            metric => metrics.push(metric),
        }
    }
    if metrics.is_empty() && written.is_empty() {
        problems.push(Problem::new(task.span.clone(), "this task has no metric"));
    }
    metrics
}

/// What makes questions of the data set's examples; `None` if what was written does not do for that.
fn maker<'t>(
    task: &'t Located<TaskFile>,
    answering: &'t Answering,
    problems: &mut Vec<Problem>,
) -> Option<Maker<'t>> {
    let before = problems.len();
    let needs_gold = match answering {
        Answering::Choose => task.correct.is_none(),
        // The corpus says which passage is right.
        Answering::Retrieve => false,
        _ => true,
    };
    if needs_gold && task.fields.gold.is_none() {
        let problem = Problem::new(task.span.clone(), "this task does not say what is right");
        problems
            .push(problem.help("write fields = { gold = \"…\" }, the field of the right answer"));
    }
    match answering {
        Answering::Choose => check_choices(task, problems)?,
        // That it is missing is a problem already.
        Answering::See { .. } if task.fields.image.is_none() => return None,
        _ => {}
    }
    let maker = Maker::new(task, answering);
    let mut set = |written: &Located<String>, result: Result<(), String>| {
        if let Err(error) = result {
            problems.push(written.problem(format!("is no template: {error}")));
        }
    };
    if let Some(template) = &task.template {
        set(template, maker.add(REQUEST, &template.value));
    }
    if task.continuation.is_written() {
        set(&task.continuation, maker.add(CONTINUATION, &task.continuation));
    }
    let choices = task.choices.iter().flat_map(|choices| choices.iter());
    for (position, choice) in choices.enumerate() {
        set(choice, maker.add(&choice_name(position), &choice.value));
    }
    (problems.len() == before).then_some(maker)
}

/// Choices are templates, or stand in a field.
fn check_choices(task: &Located<TaskFile>, problems: &mut Vec<Problem>) -> Option<()> {
    match (&task.fields.choices, &task.choices) {
        (Some(_), None) | (None, Some(_)) => Some(()),
        (Some(field), Some(_)) => {
            problems.push(field.problem("and 'choices' are both there").help("write one of them"));
            None
        }
        (None, None) => {
            let problem = Problem::new(task.span.clone(), "this task has nothing to choose from");
            problems.push(problem.help(
                "write choices = [\"…\", \"…\"], or fields = { choices = \"…\" } for a field that holds a list",
            ));
            None
        }
    }
}

/// The questions of a task, and the folder of its data set; faults are reported at
/// `source`.
fn questions(
    task: &Located<TaskFile>,
    source: &Located<String>,
    maker: &mut Maker<'_>,
    expansion: &mut Expansion<'_>,
) -> Option<(PathBuf, Vec<Question>)> {
    let Expansion { origin, problems } = expansion;
    let names = task.columns.as_ref().map(|names| TaskFile::texts(Some(names)));
    let columns = names.as_deref().map_or(Columns::Header, Columns::Named);
    let made = inputs::dataset(&source.value, origin.base, columns).and_then(|dataset| {
        maker.pictures = Pictures::beside(&dataset.path);
        let questions = make(task, &dataset.examples, maker, &dataset.path)?;
        let folder = dataset.path.parent().unwrap_or_else(|| Path::new(""));
        Ok((folder.to_owned(), questions))
    });
    made.map_err(|reason| problems.push(source.problem(causes::in_words(&reason)))).ok()
}

fn make(
    task: &Located<TaskFile>,
    examples: &[Example],
    maker: &mut Maker<'_>,
    path: &Path,
) -> Result<Vec<Question>, DatasetError> {
    let taken_apart: Vec<Example>;
    let examples = match &task.fields.each {
        None => examples,
        Some(field) => {
            let parts = examples.iter().map(|example| example.each(&field.value));
            let parts: Result<Vec<_>, _> = parts.collect();
            taken_apart = parts.map_err(|fault| fault.within(path))?.concat();
            &taken_apart
        }
    };
    if examples.is_empty() {
        return Err(DatasetError::empty(path));
    }
    maker.settle_reading(examples).map_err(|fault| fault.within(path))?;
    let limit = task.limit.as_deref().copied();
    let chosen = evenly(examples.len(), limit).map(|position| maker.question(&examples[position]));
    chosen.collect::<Result<_, _>>().map_err(|fault| fault.within(path))
}

/// Up to `limit` positions of `count`, spread evenly: files are often sorted by subject.
fn evenly(count: usize, limit: Option<usize>) -> impl Iterator<Item = usize> {
    let taken = limit.unwrap_or(count).min(count);
    (0..taken).map(move |nth| nth * count / taken)
}

/// The first half of the SHA-256 of the questions, hex.
fn checksum(questions: &[Question]) -> String {
    // Plain data with string keys always serializes.
    of_bytes(&serde_json::to_vec(questions).unwrap_or_default())[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::evenly;

    #[test]
    fn a_limit_takes_questions_from_everywhere() {
        assert_eq!(evenly(10, Some(4)).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(evenly(3, Some(9)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(evenly(3, None).count(), 3);
    }
}
