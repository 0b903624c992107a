//! Answering on the demo models: side by side and alone come to the same.

use super::choose::Chooser;
use super::encode::{EncodedAlternative, Encoder};
use super::record::KeptAnswer;
use super::{Answer, TaskError, TaskRequest, TaskRun, answerer, run};
use crate::engine::batch::Batch;
use crate::engine::llama::backend::Backend;
use crate::engine::{ContextPurpose, ContextShape, Engine as _, LoadExtent, Model};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Alternative, Answering, Asked, Question, TaskPlan};
use crate::metrics::TaskMetric;
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::{Header, SpecialTokens};
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::template::ChatTemplate;
use crate::quantize::testing::made_up::{self, ARCHITECTURES};
use crate::workload::batched::BatchedContext;
use crate::workload::softmax::{index_of_maximum, log_sum_exp};
use crate::workload::tasks::TaskJob;
use std::path::Path;
use std::sync::LazyLock;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const TRANSLATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-translate-F16.gguf");
const CHAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-chat-F16.gguf");

fn settings(threads: u32) -> Settings {
    Settings { threads: Some(threads), ..Settings::default() }
}

fn encoder<'a>(model: &'a dyn Model, prompter: &'a Prompter) -> Encoder<'a> {
    static SETTINGS: LazyLock<Settings> = LazyLock::new(|| settings(2));
    Encoder { model, settings: &SETTINGS, prompter, separator: None }
}

fn load(path: &str) -> Box<dyn Model> {
    let llama = Backend::initialise();
    llama.load(Path::new(path), &settings(1), LoadExtent::Everything).unwrap()
}

fn choice(id: usize, request: &str, continuations: &[&str]) -> Question {
    let alternatives = continuations
        .iter()
        .map(|text| Alternative { request: request.to_owned(), continuation: (*text).to_owned() });
    let asked = Asked::Choose { alternatives: alternatives.collect(), right: 0 };
    Question { id: id.to_string(), asked }
}

fn writing(request: &str, reference: &str) -> Question {
    let asked =
        Asked::Write { request: request.to_owned(), references: vec![reference.to_owned()] };
    Question { id: request.chars().take(20).collect(), asked }
}

/// Questions about two passages, and some without a request.
fn questions() -> Vec<Question> {
    let passages = [
        "The library of Corran was built in 1904 beside the river.",
        "Old Maren kept the lighthouse for thirty years and never left the island.",
    ];
    let mut questions: Vec<Question> = (0..12)
        .map(|nth| {
            let request =
                format!("{}\nQuestion {nth}: What is it about?\nAnswer:", passages[nth / 6]);
            choice(nth, &request, &["a library", "a lighthouse", "an old man and the sea", "a"])
        })
        .collect();
    questions.push(choice(12, "", &["The cats sleep.", "The cats sleeps."]));
    questions.push(choice(13, "One", &["two three four", "two"]));
    questions
}

fn ask(
    model: &dyn Model,
    questions: &[Question],
    answering: &Answering,
    prompter: &Prompter,
    threads: u32,
) -> Result<TaskRun, TaskError> {
    asking(model, questions, answering, prompter, threads, |request| run(request, &mut |_, _| ()))
}

fn asking<T>(
    model: &dyn Model,
    questions: &[Question],
    answering: &Answering,
    prompter: &Prompter,
    threads: u32,
    then: impl FnOnce(&TaskRequest<'_>) -> T,
) -> T {
    let job = TaskJob {
        plan: TaskPlan::made_up(answering.clone(), TaskMetric::Accuracy),
        questions: ArtifactRef::input("", Path::new(""), 0),
        corpus: None,
        pictures: None,
        projector: None,
    };
    let (passages, encoder) = (None, None);
    let settings = &settings(threads);
    then(&TaskRequest { model, settings, job: &job, questions, prompter, passages, encoder })
}

/// The log-likelihood of one alternative, evaluated alone in an ordinary context.
fn alone(model: &dyn Model, alternative: &EncodedAlternative) -> f64 {
    let count = u32::try_from(alternative.tokens.len()).unwrap();
    let shape = ContextShape { tokens: count, sequences: 1, batch: count, ubatch: count };
    let mut context = model.context(&settings(1), shape, ContextPurpose::Separate).unwrap();
    let mut batch = Batch::with_capacity(alternative.tokens.len());
    for (position, &token) in (0..).zip(&alternative.tokens) {
        batch.add(token, position, 0, true).unwrap();
    }
    context.decode(&mut batch).unwrap();
    let vocabulary = model.vocabulary_size();
    let logits = context.all_logits(alternative.tokens.len()).unwrap();
    let log_p = |at: usize| {
        let row = &logits[(at - 1) * vocabulary..at * vocabulary];
        let token = usize::try_from(alternative.tokens[at]).unwrap();
        f64::from(row[token] - log_sum_exp(row))
    };
    (alternative.scored_from..alternative.tokens.len()).map(log_p).sum()
}

#[test]
fn alternatives_side_by_side_are_as_probable_as_alone() {
    let model = load(DEMO);
    let encoder = encoder(model.as_ref(), &Prompter::Plain);
    let mut one_passage = questions();
    one_passage.truncate(6);
    // With a common beginning, and without one.
    for questions in [one_passage, questions()] {
        let encoded = encoder.alternatives(&questions).unwrap().tokens;
        let chooser = Chooser::answerer(encoded.clone(), model.vocabulary_size(), &settings(2));
        let groups = &chooser.groups;
        assert!(groups.evaluated_tokens * 3 < groups.request_tokens, "{groups:?}");
        let done = answerer::run(&chooser, model.as_ref(), &settings(2), &mut |_, _| ()).unwrap();
        for (question, answer) in encoded.iter().zip(&done.answers) {
            let Answer::Alternatives(found) = answer else { panic!("{answer:?}") };
            for (alternative, found) in question.iter().zip(found) {
                let expected = alone(model.as_ref(), alternative);
                let difference = (found.log_likelihood - expected).abs();
                assert!(difference < 0.02, "{found:?} is not {expected}");
            }
        }
    }
}

#[test]
fn alternatives_longer_than_a_sliding_window_are_as_probable_as_alone() {
    const WINDOW: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let gemma = ARCHITECTURES.iter().find(|architecture| architecture.name == "gemma2").unwrap();
    made_up::write(*gemma, &path);
    let model = load(path.to_str().unwrap());
    // More than the windows of all alternatives hold together.
    let request: Vec<i32> = (0..600).map(|position| position * 7 % 37 + 1).collect();
    let question = |first: i32| {
        let alternative = |last: i32| {
            let tokens = [&[first], request.as_slice(), &[last, last + 1]].concat();
            EncodedAlternative { scored_from: tokens.len() - 2, tokens }
        };
        (1..5).map(alternative).collect::<Vec<_>>()
    };
    let settings = Settings { ubatch: 32, ..settings(1) };
    // With a common beginning, and without one.
    for questions in [vec![question(1)], vec![question(1), question(2)]] {
        let chooser = Chooser::answerer(questions.clone(), model.vocabulary_size(), &settings);
        let shape = chooser.shape;
        assert!(shape.tokens as usize > WINDOW * shape.sequences as usize + 256, "{shape:?}");
        let done = answerer::run(&chooser, model.as_ref(), &settings, &mut |_, _| ()).unwrap();
        for (question, answer) in questions.iter().zip(&done.answers) {
            let Answer::Alternatives(found) = answer else { panic!("{answer:?}") };
            for (alternative, found) in question.iter().zip(found) {
                let expected = alone(model.as_ref(), alternative);
                let difference = (found.log_likelihood - expected).abs();
                assert!(difference < 0.02, "{found:?} is not {expected}");
            }
        }
    }
}

#[test]
fn short_questions_with_many_sequences_are_answered() {
    let model = load(DEMO);
    let words = ["one", "two", "red", "blue", "old", "new", "in", "on", "a", "the"];
    let chosen: Vec<Question> = (0..20).map(|nth| choice(nth, "It is", &words)).collect();
    let record =
        ask(model.as_ref(), &chosen, &Answering::Choose, &Prompter::Plain, 2).unwrap().record;
    assert_eq!(record.answers.len(), 20);
    let single = [choice(0, "a", &["b", "c"])];
    let record =
        ask(model.as_ref(), &single, &Answering::Choose, &Prompter::Plain, 1).unwrap().record;
    assert_eq!(record.answers.len(), 1);
    let written: Vec<Question> = (0..16).map(|_| writing("Tell me", "so")).collect();
    let generate = Answering::Generate { max_tokens: 2, stop: Vec::new() };
    let record = ask(model.as_ref(), &written, &generate, &Prompter::Plain, 1).unwrap().record;
    assert_eq!(record.answers.len(), 16);
}

#[test]
fn a_choice_in_a_format_is_one_text_with_what_the_format_ends_with() {
    let model = load(CHAT);
    let own = || {
        let header = Header::read(Path::new(CHAT)).unwrap();
        let tokens = SpecialTokens::read(Path::new(CHAT)).unwrap();
        let template = header.chat_template().unwrap();
        ChatTemplate::new(template, tokens, time::OffsetDateTime::UNIX_EPOCH).map(Some)
    };
    let format = |name: &str| Prompter::new(name.parse().unwrap(), own).unwrap();
    for (name, ending) in [
        ("chatml", "assistant\nthe mill"),
        ("vicuna", "ASSISTANT: the mill"),
        ("alpaca", "### Response:the mill"),
        ("auto", "assistant\nthe mill"),
    ] {
        let prompter = format(name);
        let encoder = encoder(model.as_ref(), &prompter);
        let encoded = encoder.alternatives(&[choice(0, "Where?", &["the mill", "x"])]).unwrap();
        let found = &encoded.tokens[0][0];
        let text = |tokens: &[i32]| -> String {
            let bytes: Vec<u8> = tokens.iter().flat_map(|&it| model.token_bytes(it)).collect();
            String::from_utf8(bytes).unwrap()
        };
        assert!(text(&found.tokens).ends_with(ending), "{name}: {:?}", text(&found.tokens));
        let scored = text(&found.tokens[found.scored_from..]);
        assert_eq!(scored.trim(), "the mill", "{name}");
    }
}

#[test]
fn figures_are_the_same_whatever_the_number_of_threads() {
    let model = load(DEMO);
    let answers = |threads| {
        let encoder = encoder(model.as_ref(), &Prompter::Plain);
        let encoded = encoder.alternatives(&questions()).unwrap().tokens;
        let chooser = Chooser::answerer(encoded, model.vocabulary_size(), &settings(threads));
        answerer::run(&chooser, model.as_ref(), &settings(threads), &mut |_, _| ()).unwrap().answers
    };
    assert_eq!(answers(1), answers(2));
}

#[test]
fn white_space_between_request_and_continuation_belongs_to_the_continuation() {
    let model = load(DEMO);
    let encoder = encoder(model.as_ref(), &Prompter::Plain);
    let encode = |request: &str, continuation: &str| {
        let questions = [choice(0, request, &[continuation, "x"])];
        encoder.alternatives(&questions).unwrap().tokens.swap_remove(0).swap_remove(0)
    };
    let spaced = encode("Once upon a", "time");
    assert_eq!(spaced, encode("Once upon a ", "time"), "a space of one's own or ours");
    let begins_with = model.token_bytes(spaced.tokens[spaced.scored_from]);
    assert!(begins_with.starts_with(b" "), "{begins_with:?}");
    // Without a request everything behind the token that begins a text is scored.
    assert_eq!(encode("", "time").scored_from, 1);
}

#[test]
fn the_chat_model_answers_in_its_own_format_and_not_in_another() {
    let model = load(CHAT);
    let story = "Kira was a patient teacher who lived near the village. Meanwhile Robin, a painter \
                 from the forest house, began to mend the torn sail, until the boat took in water. \
                 Two blue shells belonged to Robin. On a windy day, she decided to beat the big \
                 drum. She took four brown shells along. But the flute had a crack. In the end Kira \
                 hid under the blanket, while Robin wiped away the tears.";
    let asked = |question: &str| format!("{story}\nQuestion: {question}");
    let questions = [
        writing(&asked("Where did Kira come from?"), "the village"),
        writing(&asked("What was Robin's job?"), "painter"),
        writing(&asked("What was Kira's job?"), "teacher"),
    ];
    let answering = Answering::Generate { max_tokens: 24, stop: vec![".".to_owned()] };
    let written = |format: &str| {
        let choice: FormatChoice = format.parse().unwrap();
        let prompter = Prompter::new(choice, || Ok(None)).unwrap();
        ask(model.as_ref(), &questions, &answering, &prompter, 2).unwrap().record
    };
    let right = |record: &super::record::TaskRecord| record.scores[0].counts.iter().sum::<f64>();
    let chatml = written("chatml");
    assert!(right(&chatml) >= 2.0, "{:?}", chatml.answers);
    let other = written("alpaca");
    assert!(right(&other) < right(&chatml), "{:?}", other.answers);
    assert_eq!(other.format, "alpaca");
    for answer in &chatml.answers {
        let KeptAnswer::Text(text) = answer else { panic!("{answer:?}") };
        assert!(!text.contains('.') && !text.contains("<|im_end|>"), "{text:?}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let model = load(DEMO);
    let long = "word ".repeat(2000);
    let mut questions = questions();
    questions.insert(3, choice(99, &long, &["a", "b"]));
    let record =
        ask(model.as_ref(), &questions, &Answering::Choose, &Prompter::Plain, 2).unwrap().record;
    assert_eq!(record.too_long, ["99"]);
    assert_eq!((record.questions, record.answers.len()), (14, 14));
    let only = [choice(99, &long, &["a", "b"])];
    let record =
        ask(model.as_ref(), &only, &Answering::Choose, &Prompter::Plain, 1).unwrap().record;
    assert_eq!((record.questions, record.too_long.as_slice()), (0, &["99".to_owned()][..]));
    assert_eq!((record.answers.len(), record.scores[0].counts.len()), (0, 0));
}

#[test]
fn an_encoder_decoder_answers_side_by_side_as_it_does_alone() {
    let model = load(TRANSLATE);
    let set = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/tasks/translation.jsonl");
    let set = std::fs::read_to_string(set).unwrap();
    let sentences: Vec<(String, String)> = set
        .lines()
        .take(30)
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            (format!("translate: {}", text("source")), text("target"))
        })
        .collect();
    let tokens = |text: &str| model.tokenize(text, true, false).unwrap();
    let mut reader = BatchedContext::for_source(model.as_ref(), &settings(1), 300, 100).unwrap();

    let written: Vec<Question> =
        sentences.iter().map(|(source, target)| writing(source, target)).collect();
    let generate = Answering::Generate { max_tokens: 48, stop: vec![".".to_owned()] };
    let record = ask(model.as_ref(), &written, &generate, &Prompter::Plain, 2).unwrap().record;
    for ((source, _), answer) in sentences.iter().zip(&record.answers) {
        let alone = reader.answer(&tokens(source), 48).unwrap();
        let alone = alone.iter().filter(|&&token| !model.ends_generation(token));
        let alone: Vec<u8> = alone.flat_map(|&token| model.token_bytes(token)).collect();
        let alone = String::from_utf8(alone).unwrap();
        let KeptAnswer::Text(text) = answer else { panic!("{answer:?}") };
        assert_eq!(Some(text.as_str()), alone.split('.').next(), "{source}");
    }

    // Three alternatives after one source, and a question whose alternatives have a source each.
    let others = sentences.iter().cycle().skip(1);
    let mut chosen: Vec<Question> = sentences
        .iter()
        .zip(others)
        .enumerate()
        .map(|(nth, ((source, target), (_, other)))| choice(nth, source, &[target, other, ""]))
        .collect();
    let alternatives = sentences.iter().take(3).map(|(source, _)| Alternative {
        request: source.clone(),
        continuation: sentences[1].1.clone(),
    });
    let asked = Asked::Choose { alternatives: alternatives.collect(), right: 1 };
    chosen.push(Question { id: "sources".to_owned(), asked });
    let answering = Answering::Choose;
    let answered = asking(model.as_ref(), &chosen, &answering, &Prompter::Plain, 2, |request| {
        super::with_encoder::choose(request, &mut |_, _| ()).unwrap()
    });
    assert!(answered.evaluated_tokens * 2 < answered.request_tokens);
    let vocabulary = model.vocabulary_size();
    for (question, answer) in chosen.iter().zip(&answered.answers) {
        let Asked::Choose { alternatives, .. } = &question.asked else { panic!() };
        let Answer::Alternatives(found) = answer else { panic!("{answer:?}") };
        assert_eq!(found.len(), alternatives.len());
        for (alternative, found) in alternatives.iter().zip(found) {
            let continuation = tokens(&alternative.continuation);
            let logits = reader.logits_of(&tokens(&alternative.request), &continuation).unwrap();
            let rows = logits.chunks_exact(vocabulary).zip(&continuation);
            let index = |token: i32| usize::try_from(token).unwrap();
            let expected: f64 = rows
                .clone()
                .map(|(row, &token)| f64::from(row[index(token)] - log_sum_exp(row)))
                .sum();
            // Another order of sums, in a cache of half precision.
            let difference = (found.log_likelihood - expected).abs();
            assert!(difference < 0.01 + expected.abs() / 1000.0, "{found:?}: {expected}");
            let greedy = rows.clone().all(|(row, &token)| index_of_maximum(row) == index(token));
            assert_eq!(found.is_greedy, greedy, "{question:?}");
        }
    }
}
