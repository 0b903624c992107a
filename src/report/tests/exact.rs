//! What a run of a model that is known exactly looks like at the very end.

use crate::engine::toy::Parameters;
use crate::model::architecture::ArchitectureClass;
use crate::orchestrator::sequence::exact::{measured, variants};
use crate::report::{self, Format, RenderOptions};

#[test]
fn the_table_shows_what_was_measured() {
    let mut run = measured(&variants(), |_| {});
    // The worker runs in this process, whose own memory is nobody's figure.
    for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
        visit.peak_rss_bytes = Some(64 << 20);
    }
    let options = RenderOptions { columns: 100, color: false };
    let table = report::render(Format::Markdown, &run, &options).unwrap();
    let table = String::from_utf8(table).unwrap();
    let path = run.trials[1].artifact.as_ref().unwrap().path.display().to_string();
    insta::assert_snapshot!(table.replace(&path, "PATH"));
}

#[test]
fn an_encoder_is_served_as_one() {
    let encoders = variants().map(|(label, parameters)| {
        (label, Parameters { class: ArchitectureClass::EncoderOnly, ..parameters })
    });
    let run = measured(&encoders, |experiment| {
        experiment.workloads.speed = vec!["embed8x2".parse().unwrap()];
        experiment.workloads.quality.as_mut().unwrap().text = "ab\ncd\nef\nab ef".to_owned();
    });
    let shown = super::table(&run, 100);
    // Both embed alike, so it is the smaller one.
    let serve: Vec<&str> = shown.lines().filter(|it| it.starts_with("$ llama-server")).collect();
    let [serve] = serve[..] else { panic!("{shown}") };
    assert!(serve.contains("Q8_0") && serve.ends_with(" --embedding"), "{serve}");
    assert!(!shown.contains("ollama run"), "{shown}");
}
