//! Answers about pictures: a projector turns a picture into tokens, a decoder answers behind them.
//!
//! The picture stands in front of the request, a line end between them: that is where llama.cpp's own
//! server puts it. One question at a time, so that it can be told where the time goes; of questions in a
//! row about one picture, the picture is encoded once.

use super::alone::{Alone, mean_seconds, tell};
use super::answerer::Answer;
use super::record::{VisionRecord, VisionSeconds};
use super::{Answered, ImageSet, TaskError, TaskRequest};
use crate::causes;
use crate::dataset::picture;
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::Projector;
use crate::engine::picture::{EncodedPicture, PictureExtent};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, PictureFile, Question};
use crate::workload::Progress;
use std::collections::HashMap;
use std::time::{Duration, Instant};

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

/// Time spent in each stage.
#[derive(Default)]
struct Times {
    pictures: u32,
    picture_tokens: usize,
    questions: u32,
    encoding: Duration,
    prefill: Duration,
    generation: Duration,
}

/// Answers of a decoder that sees, up to so many tokens or to one of the texts at which it stops.
pub(super) fn see(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    images: ImageSet<'_>,
    (max_tokens, stop): (u32, &[String]),
    progress: Progress<'_>,
) -> Result<(Answered, VisionRecord), TaskError> {
    let mut projector = model.projector(images.projector, settings)?;
    let Fitted { questions, too_long, most, longest_part } =
        fit(model, projector.as_ref(), request, max_tokens)?;
    let mut stops: Vec<&str> = stop.iter().map(String::as_str).collect();
    stops.extend(request.prompter.stops());
    let shape = shape(settings, projector.as_ref(), most, longest_part);
    let mut alone = Alone::with_shape(model, settings, shape)?;
    let mut answered = Answered { too_long, ..Answered::none(alone.context.memory()) };
    let mut times = Times::default();
    let mut encoded: Option<(&str, EncodedPicture)> = None;
    for (done, fitting) in questions.iter().enumerate() {
        let name = fitting.picture.name.as_str();
        let mut seen = match encoded.take() {
            Some((known, seen)) if known == name => seen,
            _ => look(projector.as_mut(), images, fitting, &mut times)?,
        };
        let tokens = fitting.before.len() + seen.extent.tokens + fitting.behind.len();
        let start = Instant::now();
        alone.context.clear_memory();
        let position = alone.read(&fitting.before, 0, false)?;
        let position = alone.context.read_picture(&mut seen, position)?;
        let position = alone.read(&fitting.behind, position, true)?;
        let first = alone.next()?;
        times.prefill += start.elapsed();
        let start = Instant::now();
        let text = alone.write(first, position, max_tokens, &stops)?;
        times.generation += start.elapsed();
        times.questions += 1;
        encoded = Some((name, seen));
        answered.count(tokens);
        answered.positions.push(fitting.position);
        answered.answers.push(Answer::Text(text));
        tell(progress, done + 1, questions.len());
    }
    Ok((answered, times.record(projector.as_ref())))
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
    images: ImageSet<'_>,
    fitting: &Fitting<'_>,
    times: &mut Times,
) -> Result<EncodedPicture, TaskError> {
    let wrong = |reason: String| TaskError::Picture { id: fitting.question.id.clone(), reason };
    let PictureFile { name, width, height, .. } = fitting.picture;
    let path = images.folder.join(name);
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
    times.encoding += start.elapsed();
    times.pictures += 1;
    times.picture_tokens += encoded.extent.tokens;
    Ok(encoded)
}

/// Turns requests into tokens and leaves out what does not fit the model's context; how many tokens a
/// picture takes depends on its size alone.
fn fit<'a>(
    model: &dyn Model,
    projector: &dyn Projector,
    request: &TaskRequest<'a>,
    max_tokens: u32,
) -> Result<Fitted<'a>, TaskError> {
    let context = model.context_length();
    let mut fitted =
        Fitted { questions: Vec::new(), too_long: Vec::new(), most: 0, longest_part: 0 };
    let mut extents: HashMap<(u32, u32), PictureExtent> = HashMap::new();
    let mut shortest = usize::MAX;
    for (position, question) in request.questions.iter().enumerate() {
        let Asked::See { picture, request: text, .. } = &question.asked else { continue };
        let (before, behind) = around(model, request, question, text)?;
        let size = (picture.width, picture.height);
        let extent = if let Some(&known) = extents.get(&size) {
            known
        } else {
            let extent = projector.measure(size.0, size.1)?;
            extents.insert(size, extent);
            extent
        };
        let length = before.len() + extent.tokens + behind.len() + max_tokens as usize;
        shortest = shortest.min(length);
        if length as u64 > u64::from(context) {
            fitted.too_long.push(question.id.clone());
            continue;
        }
        fitted.most = fitted.most.max(length);
        fitted.longest_part = fitted.longest_part.max(extent.longest_part);
        fitted.questions.push(Fitting { position, question, picture, before, behind });
    }
    if fitted.questions.is_empty() {
        let questions = request.questions.len();
        return Err(TaskError::NothingFits { questions, shortest, context });
    }
    Ok(fitted)
}

/// The tokens before and behind the picture of a request.
fn around(
    model: &dyn Model,
    request: &TaskRequest<'_>,
    question: &Question,
    text: &str,
) -> Result<(Vec<i32>, Vec<i32>), TaskError> {
    // A mark that the request itself does not hold says where the format puts what it begins with.
    let mut mark = "(picture)".to_owned();
    while text.contains(&mark) {
        mark.insert(0, '(');
        mark.push(')');
    }
    let prompt = request
        .prompter
        .request(&format!("{mark}\n{text}"))
        .map_err(|source| TaskError::Template { id: question.id.clone(), source })?;
    let no_place = || TaskError::NoPlace { id: question.id.clone() };
    let (before, behind) = prompt.split_at(&mark).ok_or_else(no_place)?;
    Ok((model.tokenize_prompt(&before)?, model.tokenize_rest(&behind)?))
}

impl Times {
    fn record(&self, projector: &dyn Projector) -> VisionRecord {
        #[expect(clippy::cast_precision_loss, reason = "a mean, shown with two digits")]
        let tokens_per_picture = self.picture_tokens as f64 / f64::from(self.pictures.max(1));
        VisionRecord {
            pictures: self.pictures,
            tokens_per_picture,
            projector_bytes: projector.bytes(),
            seconds: VisionSeconds {
                encoding: mean_seconds(self.encoding, self.pictures),
                prefill: mean_seconds(self.prefill, self.questions),
                generation: mean_seconds(self.generation, self.questions),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::backend::Backend;
    use crate::engine::{Engine as _, LoadExtent};
    use crate::experiment::tasks::Answering;
    use crate::metrics::TaskMetric;
    use crate::prompt::choice::Prompter;
    use crate::workload::tasks::{TaskRun, run};
    use std::path::{Path, PathBuf};

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
        let (folder, prompter) = (demo("tasks"), prompter());
        let request = TaskRequest {
            name: "seen".parse().unwrap(),
            questions,
            answering: &Answering::See { max_tokens: 40, stop: vec![".".to_owned()] },
            metrics: &[TaskMetric::ExactMatch],
            prompter: &prompter,
            separator: None,
            corpus: None,
            images: Some(ImageSet { folder: &folder, projector }),
        };
        run(model.as_ref(), &settings(), &request, &mut |_, _| ())
    }

    fn projector() -> PathBuf {
        demo("model/quantbench-demo-see-mmproj-F16.gguf")
    }

    #[test]
    fn a_request_stays_text_and_stands_behind_the_picture() {
        let model = load();
        let text = "Is (picture) or ((picture)) <|im_end|>?";
        let question = question("a", text, "no");
        let prompter = prompter();
        let request = TaskRequest {
            name: "seen".parse().unwrap(),
            questions: std::slice::from_ref(&question),
            answering: &Answering::Choose,
            metrics: &[],
            prompter: &prompter,
            separator: None,
            corpus: None,
            images: None,
        };
        let (before, behind) = around(model.as_ref(), &request, &question, text).unwrap();
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
