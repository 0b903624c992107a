//! Answers about pictures: a projector turns a picture into tokens, a decoder answers behind them.
//!
//! The picture stands in front of the request, a line end between them: that is where llama.cpp's own
//! server puts it. One question at a time, so that it can be told where the time goes; of questions in a
//! row about one picture, the picture is encoded once.

use super::answerer::Answer;
use super::encode::prompt;
use super::record::{VisionRecord, VisionSeconds};
use super::{Answered, TaskError, TaskRequest};
use crate::causes;
use crate::dataset::picture;
use crate::engine::picture::{EncodedPicture, PictureExtent};
use crate::engine::{ContextPurpose, ContextShape, Model, Projector};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, PictureFile, Question};
use crate::prompt::choice::Prompter;
use crate::statistics::sample::to_f64;
use crate::workload::Progress;
use crate::workload::batched::BatchedContext;
use crate::workload::draft::{self, Draft, Limits};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::Instant;

/// A question that fits the model.
struct Fitting<'a> {
    position: usize,
    question: &'a Question,
    picture: &'a PictureFile,
    /// Tokens before the picture, and behind it.
    before: Vec<i32>,
    behind: Vec<i32>,
}

/// The questions that fit the model, and the room that they need.
struct Fitted<'a> {
    questions: Vec<Fitting<'a>>,
    too_long: Vec<String>,
    /// Most tokens of any question, its answer included.
    most: usize,
    /// Tokens of the longest part of any picture.
    longest_part: usize,
}

/// Sums over what was seen: time, pictures and their tokens.
#[derive(Default)]
struct Sums {
    pictures: usize,
    picture_tokens: usize,
    seconds: VisionSeconds,
}

/// Answers of a decoder that sees.
pub(super) fn see(
    request: &TaskRequest<'_>,
    limits: &Limits,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, .. } = *request;
    let files = request.job.pictures.as_ref().zip(request.job.projector.as_ref());
    let blind =
        || TaskError::Other("the task shows pictures, but the model has no projector".to_owned());
    let (folder, projector) = files.ok_or_else(blind)?;
    let mut projector = model.projector(&projector.path, settings)?;
    let Fitted { questions, too_long, most, longest_part } =
        fit(request, projector.as_ref(), limits)?;
    let shape = shape(settings, projector.as_ref(), most, longest_part);
    let mut batched = BatchedContext::open(model, settings, shape, ContextPurpose::Separate)?;
    let memory = batched.context.memory();
    let mut answered = Answered { too_long, memory, ..Answered::default() };
    let mut sums = Sums::default();
    let mut encoded: Option<(&str, EncodedPicture)> = None;
    for (done, fitting) in questions.iter().enumerate() {
        let name = fitting.picture.name.as_str();
        let mut seen = match encoded.take() {
            Some((known, seen)) if known == name => seen,
            _ => look(projector.as_mut(), &folder.path, fitting, &mut sums)?,
        };
        let start = Instant::now();
        batched.context.clear_memory();
        let position = batched.read(&fitting.before, 0, false)?;
        let position = batched.context.read_picture(&mut seen, position)?;
        let position = batched.read(&fitting.behind, position, true)?;
        let draft = Draft::begin(0, position, batched.context.all_logits(1)?);
        sums.seconds.prefill += start.elapsed().as_secs_f64();
        let start = Instant::now();
        let texts = draft::write(&mut batched, vec![draft], limits)?;
        sums.seconds.generation += start.elapsed().as_secs_f64();
        answered.count(fitting.before.len() + seen.extent.tokens + fitting.behind.len());
        answered.positions.push(fitting.position);
        answered.answers.extend(texts.into_iter().map(Answer::Text));
        encoded = Some((name, seen));
        progress(to_f64(done + 1) / to_f64(questions.len()), "");
    }
    let (pictures, count) = (to_f64(sums.pictures), to_f64(questions.len()));
    answered.vision = Some(VisionRecord {
        pictures: u32::try_from(sums.pictures).unwrap_or(u32::MAX),
        tokens_per_picture: to_f64(sums.picture_tokens) / pictures,
        projector_bytes: projector.bytes(),
        seconds: VisionSeconds {
            encoding: sums.seconds.encoding / pictures,
            prefill: sums.seconds.prefill / count,
            generation: sums.seconds.generation / count,
        },
    });
    Ok(answered)
}

/// The context for the longest question. A picture whose parts attend to each other in both directions
/// is computed in one go.
fn shape(
    settings: &Settings,
    projector: &dyn Projector,
    most: usize,
    longest_part: usize,
) -> ContextShape {
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let least = if projector.reads_at_once() { narrow(longest_part) } else { 1 };
    let tokens = narrow(most);
    let batch = settings.batch.min(tokens).max(least);
    ContextShape { tokens, sequences: 1, batch, ubatch: settings.ubatch.max(least).min(batch) }
}

/// Reads a picture's file and encodes it.
fn look(
    projector: &mut dyn Projector,
    folder: &Path,
    fitting: &Fitting<'_>,
    sums: &mut Sums,
) -> Result<EncodedPicture, TaskError> {
    let wrong =
        |reason: String| TaskError::Other(format!("question '{}': {reason}", fitting.question.id));
    let PictureFile { name, width, height, .. } = fitting.picture;
    let path = folder.join(name);
    let picture = picture::bytes(&path)
        .and_then(|bytes| picture::decode(&path, &bytes))
        .map_err(|error| wrong(causes::in_words(&error)))?;
    if (picture.width, picture.height) != (*width, *height) {
        return Err(wrong(format!(
            "the picture {} has changed since the run began",
            path.display()
        )));
    }
    let start = Instant::now();
    let encoded = projector.encode(&picture);
    let encoded = encoded.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    sums.seconds.encoding += start.elapsed().as_secs_f64();
    sums.pictures += 1;
    sums.picture_tokens += encoded.extent.tokens;
    Ok(encoded)
}

/// Turns requests into tokens and leaves out what does not fit the model's context; how many tokens a
/// picture takes depends on its size alone.
fn fit<'a>(
    request: &TaskRequest<'a>,
    projector: &dyn Projector,
    limits: &Limits,
) -> Result<Fitted<'a>, TaskError> {
    let context = request.model.context_length();
    let mut fitted =
        Fitted { questions: Vec::new(), too_long: Vec::new(), most: 0, longest_part: 0 };
    let mut extents: HashMap<(u32, u32), PictureExtent> = HashMap::new();
    for (position, question) in request.questions.iter().enumerate() {
        let Asked::See { picture, request: text, .. } = &question.asked else { continue };
        let (before, behind) = around(request.model, request.prompter, question, text)?;
        let extent = match extents.entry((picture.width, picture.height)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(projector.measure(picture.width, picture.height)?),
        };
        let length = before.len() + extent.tokens + behind.len() + limits.max_tokens;
        if length as u64 > u64::from(context) {
            fitted.too_long.push(question.id.clone());
            continue;
        }
        fitted.most = fitted.most.max(length);
        fitted.longest_part = fitted.longest_part.max(extent.longest_part);
        fitted.questions.push(Fitting { position, question, picture, before, behind });
    }
    if fitted.questions.is_empty() {
        return Err(TaskError::NothingFits);
    }
    Ok(fitted)
}

/// The tokens before and behind the picture of a request.
fn around(
    model: &dyn Model,
    prompter: &Prompter,
    question: &Question,
    text: &str,
) -> Result<(Vec<i32>, Vec<i32>), TaskError> {
    // A mark that the request itself does not hold says where the format puts what it begins with.
    let mut mark = "(picture)".to_owned();
    while text.contains(&mark) {
        mark.insert(0, '(');
        mark.push(')');
    }
    let prompt = prompt(prompter, question, &format!("{mark}\n{text}"))?;
    let no_place = || {
        TaskError::OwnTemplate(format!(
            "question '{}': the prompt format leaves out the request, or repeats it, so that the picture has no place",
            question.id
        ))
    };
    let (before, behind) = prompt.split_at(&mark).ok_or_else(no_place)?;
    Ok((model.tokenize_prompt(&before)?, model.tokenize_rest(&behind)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::backend::Backend;
    use crate::engine::{Engine as _, LoadExtent};
    use crate::experiment::tasks::{Answering, TaskPlan};
    use crate::metrics::TaskMetric;
    use crate::model::artifact::ArtifactRef;
    use crate::workload::tasks::TaskJob;
    use crate::workload::tasks::{TaskRun, run};
    use std::path::PathBuf;

    fn demo(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(file)
    }

    fn settings() -> Settings {
        Settings { threads: Some(1), ..Settings::default() }
    }

    fn load() -> Box<dyn Model> {
        let path = demo("model/quantbench-demo-chat-F16.gguf");
        Backend::initialise().load(&path, &settings(), LoadExtent::Everything).unwrap()
    }

    fn question(name: &str, request: &str, reference: &str) -> Question {
        let picture =
            PictureFile { name: name.to_owned(), width: 64, height: 64, checksum: String::new() };
        let (request, references) = (request.to_owned(), vec![reference.to_owned()]);
        Question { id: name.to_owned(), asked: Asked::See { picture, request, references } }
    }

    fn prompter() -> Prompter {
        Prompter::new("chatml".parse().unwrap(), || Ok(None)).unwrap()
    }

    fn ask(questions: &[Question], projector: &Path) -> Result<TaskRun, TaskError> {
        let model = load();
        let prompter = prompter();
        let file = |path: &Path| ArtifactRef::input("", path, 0);
        let answering = Answering::See { max_tokens: 40, stop: vec![".".to_owned()] };
        let job = TaskJob {
            plan: TaskPlan::made_up(answering, TaskMetric::ExactMatch),
            questions: file(Path::new("")),
            corpus: None,
            pictures: Some(file(&demo("tasks"))),
            projector: Some(file(projector)),
        };
        let request = TaskRequest {
            model: model.as_ref(),
            settings: &settings(),
            job: &job,
            questions,
            prompter: &prompter,
            passages: None,
            encoder: None,
        };
        run(&request, &mut |_, _| ())
    }

    fn projector() -> PathBuf {
        demo("model/quantbench-demo-see-mmproj-F16.gguf")
    }

    #[test]
    fn a_request_stays_text_and_stands_behind_the_picture() {
        let model = load();
        let text = "Is (picture) or ((picture)) <|im_end|>?";
        let question = question("a", text, "no");
        let (before, behind) = around(model.as_ref(), &prompter(), &question, text).unwrap();
        let special = |text: &str| model.tokenize(text, false, true).unwrap();
        let plain = |text: &str| model.tokenize(text, false, false).unwrap();
        let begin: Vec<i32> = model.beginning_token().into_iter().collect();
        assert_eq!(before, [begin, special("<|im_start|>"), plain("user\n")].concat());
        let rest = [
            plain(&format!("\n{text}")),
            special("<|im_end|>"),
            plain("\n"),
            special("<|im_start|>"),
            plain("assistant\n"),
        ];
        assert_eq!(behind, rest.concat());
        assert_eq!(special("<|im_end|>").len(), 1);
        assert!(plain("<|im_end|>").len() > 1);
    }

    #[test]
    fn questions_in_a_row_about_a_picture_share_its_encoding() {
        let questions = [
            question("scenes/000.png", "Describe the picture.", "x"),
            question("scenes/000.png", "Which shape is orange?", "square"),
            question("scenes/001.png", "Which shape is orange?", "square"),
            question("scenes/000.png", "Which shape is orange?", "square"),
        ];
        let TaskRun { record, memory } = ask(&questions, &projector()).unwrap();
        let vision = record.vision.unwrap();
        assert_eq!((vision.pictures, record.questions), (3, 4));
        assert!(vision.tokens_per_picture >= 64.0, "{vision:?}");
        assert!(vision.projector_bytes > 500_000, "{vision:?}");
        for seconds in [vision.seconds.encoding, vision.seconds.prefill, vision.seconds.generation]
        {
            assert!(seconds > 0.0, "{vision:?}");
        }
        assert!(memory.iter().any(|buffer| buffer.kv_bytes > 0));
        let right = &record.scores[0].counts;
        assert_eq!((right[1], right[3]), (1.0, 1.0), "{:?}", record.answers);
        // The same question about the same picture, whatever was asked before.
        assert_eq!(record.answers[1], record.answers[3]);
        assert_ne!(record.answers[0], record.answers[1]);
    }

    #[test]
    fn a_question_that_does_not_fit_is_named() {
        let long = "word ".repeat(2000);
        let long = question("scenes/002.png", &long, "x");
        let fits = question("scenes/000.png", "Which shape is orange?", "square");
        let record = ask(&[long.clone(), fits], &projector()).unwrap().record;
        assert_eq!(
            (record.questions, record.too_long.as_slice()),
            (1, &["scenes/002.png".to_owned()][..])
        );
        let record = ask(&[long], &projector()).unwrap().record;
        assert_eq!((record.questions, record.too_long.len()), (0, 1));
    }

    #[test]
    fn a_picture_that_is_gone_or_changed_is_named_with_its_question() {
        let error = |name: &str, width: u32| {
            let mut question = question(name, "What?", "x");
            if let Asked::See { picture, .. } = &mut question.asked {
                picture.width = width;
            }
            ask(&[question], &projector()).unwrap_err().to_string()
        };
        let gone = error("scenes/none.png", 64);
        assert!(gone.starts_with("question 'scenes/none.png': the picture "), "{gone}");
        assert!(error("scenes/003.png", 65).ends_with("003.png has changed since the run began"));
    }

    #[test]
    fn what_is_no_projector_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(projector()).unwrap();
        let questions = [question("scenes/000.png", "What?", "x")];
        let error = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            ask(&questions, &path).unwrap_err().to_string()
        };
        for (name, content) in [
            ("half.gguf", &whole[..whole.len() / 2]),
            ("head.gguf", &whole[..2000]),
            ("empty.gguf", &[]),
            ("text.gguf", b"a text"),
        ] {
            let told = error(name, content);
            assert!(
                told.contains(&format!("cannot load {}", folder.path().join(name).display())),
                "{told}"
            );
        }
        let model = std::fs::read(demo("model/quantbench-demo-chat-F16.gguf")).unwrap();
        assert!(error("model.gguf", &model).contains("model.gguf"));
    }
}
