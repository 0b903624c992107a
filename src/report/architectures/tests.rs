//! Words of the diagram against figures.

use super::*;
use crate::results::made_up::MadeUp;

#[test]
fn shares_deserve_words_by_their_limits() {
    let words = [95.0, 90.0, 89.9, 60.0, 59.9, 0.0].map(word_of_share);
    assert_eq!(words, ["Excellent", "Excellent", "Good", "Good", "Limited", "Limited"]);
}

#[test]
fn a_cell_says_word_and_figure_and_what_is_missing() {
    let figure = || Some("81.5 % acc".to_owned());
    assert_eq!(cell(Some("Good"), figure()), "Good: 81.5 % acc");
    assert_eq!(cell(Some("Good"), None), "Good: not measured");
    assert_eq!(cell(None, figure()), "81.5 % acc");
    assert_eq!(cell(None, None), "");
}

#[test]
fn the_diagram_has_an_arrow_for_every_relation_of_the_seed() {
    let uses = Architecture::ALL
        .iter()
        .flat_map(|it| Use::ALL.map(|use_case| it.word_for(use_case)))
        .flatten();
    let traits = Architecture::ALL
        .iter()
        .flat_map(|it| Trait::ALL.map(|characteristic| it.word_of(characteristic)))
        .flatten();
    // Counted in the diagram: 14 arrows to use cases, 11 to characteristics.
    assert_eq!((uses.count(), traits.count()), (14, 11));
}

#[test]
fn a_run_of_another_version_is_refused_with_its_name() {
    let mut run = MadeUp::default().run();
    run.experiment = serde_json::json!({"models": 3});
    let error = render(&run, None).unwrap_err().to_string();
    assert!(error.contains(&run.id), "{error}");
}
