//! Models that see, and tasks that show them pictures.

use crate::dataset::picture;
use crate::experiment::resolved::Experiment;
use crate::experiment::{Overrides, parse};
use std::path::Path;
use tempfile::TempDir;

const HEAD: &str = "[workloads]\nlatency.enabled = false\nquality.enabled = false\n";

const TASK: &str = "name = \"see\"\nkind = \"image-text\"\ndataset = \"seen.jsonl\"\n\
    fields = { image = \"file\", gold = \"said\" }\ntemplate = \"{{ asked }}\"\n";

const SEES: &str = "[[models]]\nsource = \"hf://owner/name/model.gguf\"\nname = \"eyes\"\n\
    mmproj = \"hf://owner/name/mmproj.gguf\"\n";

const BLIND: &str = "[[models]]\nsource = \"hf://owner/name/model.gguf\"\nname = \"blind\"\n";

/// A folder with a picture, something that is none, and questions about both.
fn folder(questions: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let whole = std::fs::read(fixtures.join("baseline.jpg")).unwrap();
    std::fs::write(folder.path().join("whole.jpg"), &whole).unwrap();
    std::fs::write(folder.path().join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(folder.path().join("seen.jsonl"), questions).unwrap();
    folder
}

fn question(file: &str) -> String {
    format!("{{\"file\":\"{file}\",\"asked\":\"What is red?\",\"said\":\"the left\"}}\n")
}

fn loaded(folder: &TempDir, text: &str, overrides: &Overrides) -> Result<Experiment, String> {
    let place = format!("{}/", folder.path().display());
    parse(text.as_bytes(), &folder.path().join("x.toml"), overrides)
        .map_err(|error| error.to_string().replace(&place, ""))
}

fn said(text: &str) -> String {
    let folder = folder(&question("whole.jpg"));
    loaded(&folder, text, &Overrides::default()).unwrap_err()
}

fn own(task: &str) -> String {
    format!("[[models.workloads.tasks]]\n{task}")
}

#[test]
fn a_task_with_pictures_needs_a_model_that_sees() {
    let text = format!("{HEAD}{BLIND}{}", own(TASK));
    assert_eq!(
        said(&text),
        "x.toml:9:8: this task shows pictures to a model that sees none
  |
9 | kind = \"image-text\"
  |        ^^^^^^^^^^^^
  = help: name the model's projector in its [[models]]: mmproj = \"path/to/mmproj.gguf\""
    );
    let shared = format!("{HEAD}[[workloads.tasks]]\n{TASK}{BLIND}");
    assert!(said(&shared).starts_with("x.toml:6:8: this task shows pictures to a model that"));
}

#[test]
fn a_projector_is_a_file() {
    let wrong = |mmproj: &str| said(&format!("{HEAD}{BLIND}mmproj = \"{mmproj}\"\n{SEES}"));
    if picture::BUILT_IN {
        assert!(
            wrong("none.gguf")
                .starts_with("x.toml:7:10: 'models.mmproj' is 'none.gguf', but there is")
        );
        assert!(wrong("demo").contains("'models.mmproj' is 'demo', which is no file"));
    } else {
        assert!(wrong("none.gguf").contains("--features multimodal"));
    }
}

#[cfg(not(feature = "multimodal"))]
#[test]
fn a_build_without_pictures_leaves_out_models_that_see_and_says_why() {
    let folder = folder(&question("whole.jpg"));
    let shared = format!("{HEAD}[[workloads.tasks]]\n{TASK}{SEES}{}{BLIND}", own(TASK));
    let experiment = loaded(&folder, &shared, &Overrides::default()).unwrap();
    let names: Vec<&str> = experiment.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["blind"]);
    let told = experiment.left_out[0].to_string();
    assert!(told.starts_with("model 'eyes' is left out: this build reads no pictures"), "{told}");
    assert!(told.contains("cargo build --release --features multimodal"), "{told}");

    // Nothing else to measure.
    let alone = said(&format!("{HEAD}{SEES}"));
    assert!(
        alone.starts_with("x.toml:7:10: 'models.mmproj' is for pictures, and this build reads no")
    );
    // Asked for by name.
    let only = |names: &[&str]| Overrides {
        only: names.iter().map(|&name| name.to_owned()).collect(),
        ..Overrides::default()
    };
    let error = loaded(&folder, &shared, &only(&["eyes"])).unwrap_err();
    assert!(error.starts_with("--only eyes: this build reads no pictures"), "{error}");
    assert!(loaded(&folder, &shared, &only(&["blind"])).unwrap().left_out.is_empty());
    let skip = Overrides { skip: vec!["eyes".to_owned()], ..Overrides::default() };
    assert!(loaded(&folder, &shared, &skip).unwrap().left_out.is_empty());
}

#[cfg(feature = "multimodal")]
mod seen {
    use super::*;
    use crate::experiment::tasks::{Answering, Asked};
    use crate::model::source::Source;

    #[test]
    fn questions_about_a_picture_know_its_file_and_size() {
        let folder = folder(&format!("{}{}", question("whole.jpg"), question("./whole.jpg")));
        let text = format!("{HEAD}{SEES}{}max_tokens = 9\n", own(TASK));
        let experiment = loaded(&folder, &text, &Overrides::default()).unwrap();
        assert!(matches!(experiment.models[0].projector, Some(Source::Hub { .. })));
        let task = &experiment.workloads_of(0).tasks[0];
        assert_eq!(task.answering, Answering::See { max_tokens: 9, stop: Vec::new() });
        assert_eq!(task.pictures.as_deref(), Some(folder.path()));
        let metrics: Vec<String> = task.metrics.iter().map(ToString::to_string).collect();
        assert_eq!(metrics, ["exact_match", "f1"]);
        let pictures: Vec<_> = task
            .questions
            .iter()
            .map(|question| match &question.asked {
                Asked::See { picture, request, references } => {
                    assert_eq!((request.as_str(), references.len()), ("What is red?", 1));
                    (picture.name.as_str(), picture.width, picture.height, &picture.checksum)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pictures[0], ("whole.jpg", 40, 24, pictures[1].3));
        assert_eq!((pictures[1].0, pictures[0].3.len()), ("./whole.jpg", 32));
    }

    /// What is said of the data set with a second line about `file`.
    fn of(file: &str) -> String {
        let folder = folder(&format!("{}{}", question("whole.jpg"), question(file)));
        std::fs::write(folder.path().join("empty.png"), "").unwrap();
        std::fs::write(folder.path().join("text.png"), "a text").unwrap();
        let text = format!("{HEAD}{SEES}{}", own(TASK));
        loaded(&folder, &text, &Overrides::default()).unwrap_err()
    }

    #[test]
    fn a_picture_that_is_none_is_told_with_the_line_that_refers_to_it() {
        let place = "x.toml:11:11: 'workloads.tasks.dataset' has a wrong example at seen.jsonl:2: the picture ";
        for (file, reason) in [
            ("cut.jpg", "cut.jpg is damaged: "),
            ("empty.png", "empty.png is empty"),
            ("text.png", "text.png is neither PNG, JPEG nor WebP"),
            ("none.png", "none.png cannot be read: "),
            (".", "it is a folder, not a regular file"),
        ] {
            let told = of(file);
            assert!(told.starts_with(place) && told.contains(reason), "{file}: {told}");
        }
    }

    #[test]
    fn what_shows_pictures_and_what_does_not_are_not_mixed() {
        let wrong = |task: &str| said(&format!("{HEAD}{SEES}{}", own(task)));
        let no_image = TASK.replace("image = \"file\", ", "");
        assert!(wrong(&no_image).contains("this task does not say what it shows"));
        let other_kind = TASK.replace("image-text", "summarization");
        assert!(
            wrong(&other_kind)
                .contains("'workloads.tasks.fields.image' is for tasks that show pictures")
        );
        let chosen = format!("{TASK}answer = \"choose\"\n");
        assert!(
            wrong(&chosen)
                .contains("'workloads.tasks.answer' has no meaning for a task that shows pictures")
        );
        let metric = format!("{TASK}metrics = [\"acc_norm\"]\n");
        assert!(
            wrong(&metric)
                .contains("'workloads.tasks.metrics' has acc_norm, which says nothing of answers")
        );
    }
}
