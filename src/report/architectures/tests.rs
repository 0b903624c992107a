//! Tables of classes and use cases.

use super::*;
use crate::results::made_up::MadeUp;

#[test]
fn a_table_has_what_was_measured_and_no_more() {
    let columns = [
        ("writes", UseCase::TextGeneration),
        ("finds", UseCase::Retrieval),
        ("translates", UseCase::Translation),
    ];
    let figure = |architecture, use_case| match (architecture, use_case) {
        (Architecture::EncoderOnly, UseCase::Retrieval) => Some("96.5 % hit@1".to_owned()),
        (Architecture::DecoderOnly, UseCase::TextGeneration) => Some("PPL 9.67".to_owned()),
        _ => None,
    };
    let expected = [
        "| architecture | writes | finds |",
        "| :-- | :-- | :-- |",
        "| decoder-only | PPL 9.67 |  |",
        "| encoder-only |  | 96.5 % hit@1 |",
    ];
    assert_eq!(table(&columns, figure), expected);
    assert_eq!(table(&columns, |_, _| None), [""; 0]);
}

#[test]
fn a_run_of_another_version_is_refused_with_its_name() {
    let mut run = MadeUp::default().run();
    run.experiment = serde_json::json!({"models": 3});
    let error = render(&run, None).unwrap_err().to_string();
    assert!(error.contains(&run.id), "{error}");
}
