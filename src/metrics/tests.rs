//! Golden values: computed with sacrebleu 2.6.0, `rouge_score` 0.1.2, scikit-learn 1.9.1 and SQuAD's
//! evaluate-v1.1.py on sentences written for this test.

use super::TaskMetric;
use super::{bleu, chrf, ranking, rouge, squad};
use std::collections::HashSet;

/// Answers, each with its references.
const PAIRS: [(&str, &[&str]); 7] = [
    (
        "The baker's old dog sleeps near the stove.",
        &["The old dog of the baker sleeps by the stove."],
    ),
    (
        "Two ships left the harbour at 5.30 today, and one sank.",
        &[
            "Two ships left the harbour at 5.30 today, but one of them sank.",
            "At 5.30 two ships left port; one sank.",
        ],
    ),
    (
        "Manchmal trägt die Königin einen grünen Mantel.",
        &["Manchmal trägt die Königin einen roten Mantel."],
    ),
    ("", &["Nothing was said."]),
    ("yes", &["yes"]),
    (
        "\"Why,\" asked Kira, \"is 1,000-year-old cheese so dear?\"",
        &[
            "Why is thousand-year-old cheese so expensive, asked Kira?",
            "\"Why is 1,000-year-old cheese so dear?\" asked Kira.",
        ],
    ),
    ("A &amp; B (both small) cost 3-4 coins...", &["A & B, both small, cost 3 or 4 coins."]),
];

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

fn references(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The value over pairs of an answer and its references.
fn corpus(metric: TaskMetric, pairs: &[(&str, &[&str])]) -> f64 {
    let counts = if metric == TaskMetric::Bleu { bleu::counts } else { chrf::counts };
    let rows: Vec<f64> =
        pairs.iter().flat_map(|(answer, right)| counts(answer, &references(right))).collect();
    metric.value_of_all(&rows)
}

#[test]
fn bleu_and_chrf_are_sacrebleus() {
    close(corpus(TaskMetric::Bleu, &PAIRS), 47.702_088_406_198_24);
    close(corpus(TaskMetric::Chrf, &PAIRS), 65.979_325_800_042_62);
    let first_only = PAIRS.map(|(answer, right)| (answer, &right[..1]));
    close(corpus(TaskMetric::Bleu, &first_only), 33.979_525_797_453_82);
    close(corpus(TaskMetric::Chrf, &first_only), 58.249_420_142_224_28);
}

#[test]
fn single_sentences_are_scored_as_sacrebleu_scores_them() {
    for (position, of_bleu, of_chrf) in [
        (0, 19.437_571_020_720_103, 53.489_182_278_923_12),
        (2, 59.460_355_750_136_1, 83.661_392_256_942_48),
        (4, 0.0, 100.0),
        (5, 7.692_375_026_049_747, 46.946_270_352_182_005),
    ] {
        let (answer, right) = PAIRS[position];
        close(corpus(TaskMetric::Bleu, &[(answer, &right[..1])]), of_bleu);
        close(corpus(TaskMetric::Chrf, &[(answer, &right[..1])]), of_chrf);
    }
    // Fewer than four words, and orders without a match.
    close(corpus(TaskMetric::Bleu, &[("a b c", &["a b c"]), ("d e", &["d f"])]), 0.0);
    let smoothed: (&str, &[&str]) = ("the cat sat on a red mat", &["a cat sat in the red hat"]);
    close(corpus(TaskMetric::Bleu, &[smoothed]), 16.515_821_590_069_034);
}

#[test]
fn nothing_answered_is_worth_nothing() {
    let nothing: [(&str, &[&str]); 2] = [("", &["a b c d e"]), (" \n", &["f"])];
    for metric in [TaskMetric::Bleu, TaskMetric::Chrf] {
        close(corpus(metric, &nothing), 0.0);
        close(corpus(metric, &[]), 0.0);
    }
}

#[test]
fn rouge_is_that_of_rouge_score() {
    let expected = [
        [0.736_842_105_263_157_7, 0.352_941_176_470_588_26, 0.631_578_947_368_421],
        [0.846_153_846_153_846_1, 0.666_666_666_666_666_7, 0.846_153_846_153_846_1],
        [0.842_105_263_157_894_8, 0.705_882_352_941_176_5, 0.842_105_263_157_894_8],
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 1.0],
        [1.0, 0.8, 0.818_181_818_181_818_2],
        [0.888_888_888_888_888_8, 0.625, 0.888_888_888_888_888_8],
    ];
    for ((answer, right), [one, two, longest]) in PAIRS.iter().zip(expected) {
        let right = references(right);
        close(rouge::rouge_n(1, answer, &right), one);
        close(rouge::rouge_n(2, answer, &right), two);
        close(rouge::rouge_l(answer, &right), longest);
    }
}

#[test]
fn exact_match_and_f1_are_squads() {
    for (answer, right, exact, f1) in [
        ("The Old Mill.", &["old mill"][..], 1.0, 1.0),
        ("near the old mill", &["the old mill", "a mill"], 0.0, 0.8),
        ("Mount-Blanc, an Alp", &["mountblanc alp!"], 1.0, 1.0),
        ("nothing", &["something"], 0.0, 0.0),
        // Nothing is left of either: equal, without a word in common.
        ("an", &["the"], 1.0, 0.0),
    ] {
        close(squad::exact_match(answer, &references(right)), exact);
        close(squad::f1(answer, &references(right)), f1);
    }
}

#[test]
fn macro_f1_is_that_of_scikit_learn() {
    // f1_score([0, 0, 1, 2, 2, 2, 3], [0, 1, 1, 2, 0, 2, 4], average="macro")
    let rows = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 2, 2, 3, 4].map(f64::from);
    close(TaskMetric::MacroF1.value_of_all(&rows), 0.393_333_333_333_333_3);
}

#[test]
fn ranks_count_from_one() {
    let found = ["d", "b", "a", "c"];
    let relevant = HashSet::from(["a", "c", "x"]);
    close(ranking::hit(&found, &relevant, 2), 0.0);
    close(ranking::hit(&found, &relevant, 3), 1.0);
    close(ranking::reciprocal_rank(&found, &relevant), 1.0 / 3.0);
    // scikit-learn: ndcg_score([[0, 0, 1, 1, 1]], [[5, 4, 3, 2, 1]], k=4) has x in fifth place.
    close(ranking::ndcg(&found, &relevant, 4), 0.436_746_709_511_9);
    close(ranking::ndcg(&found, &HashSet::from(["y"]), 4), 0.0);
    close(ranking::reciprocal_rank(&found, &HashSet::<&str>::new()), 0.0);
}

#[test]
fn names_read_back_as_the_same_metric() {
    for name in [
        "acc",
        "acc_norm",
        "macro_f1",
        "exact_match",
        "f1",
        "bleu",
        "chrf",
        "rouge1",
        "rouge2",
        "rougeL",
        "hit@3",
        "mrr",
        "ndcg@10",
    ] {
        assert_eq!(name.parse::<TaskMetric>().unwrap().to_string(), name);
    }
    for wrong in ["", "hit", "hit@0", "hit@300", "rouge3", "meteor"] {
        assert!(wrong.parse::<TaskMetric>().is_err(), "{wrong}");
    }
}

#[test]
fn a_question_drawn_twice_counts_twice() {
    let rows = [1.0, 0.0, 1.0];
    close(TaskMetric::F1.value(&rows, [2, 0, 0].into_iter()), 1.0);
    close(TaskMetric::F1.value(&rows, [1, 2, 0].into_iter()), 1.0 / 3.0);
    let twice: Vec<f64> = bleu::counts("a b c d", &references(&["a b c d"]));
    close(TaskMetric::Bleu.value(&twice, std::iter::once(2)), 100.0);
}
