//! What a run of a model that is known exactly looks like at the very end.

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
