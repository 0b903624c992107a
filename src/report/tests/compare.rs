//! Comparisons of runs in every format, and what is read back.

use super::*;
use crate::report::compare::{CompareFormat, Shown};
use crate::report::{BenchFormat, read};
use crate::results::change::gate::Gate;
use crate::results::change::{Comparison, Member, Part, Side, Verdict};
use serde_json::Value;

fn side(run: &RunRecord, variant: Option<&str>) -> Side {
    let part = variant.map_or(Part::Own, |variant| Part::Variant(variant.to_owned()));
    Side(vec![Member { name: run.id.clone(), run: run.clone(), part }])
}

fn shown(base: &Side, new: &Side, gates: &[&str], format: CompareFormat) -> String {
    let comparison = Comparison::of(base, new, &[], |_| false).unwrap();
    let gates = gates.iter().map(|gate| gate.parse::<Gate>().unwrap());
    let gates: Vec<_> = gates.flat_map(|gate| gate.check(&comparison).unwrap()).collect();
    let shown = Shown { base, new, comparison: &comparison, gates: &gates };
    String::from_utf8(shown.render(format, &RenderOptions::default()).unwrap()).unwrap()
}

fn two_runs() -> (RunRecord, RunRecord) {
    let variants = LADDER[..2].to_vec();
    let base = MadeUp { variants: variants.clone(), ..MadeUp::default() }.run();
    let mut new = MadeUp { variants, seed: 2, ..MadeUp::default() }.run();
    new.id = "2026-11-24-m2p7".to_owned();
    new.started += time::Duration::days(1);
    new.hosts[0].environment.governor = Some("powersave".to_owned());
    (base, new)
}

#[test]
fn two_runs_and_two_variants_are_told_apart() {
    let (base, new) = two_runs();
    let gates = ["tg128 -5%", "kld +10%"];
    insta::assert_snapshot!(
        "compare_runs",
        shown(&side(&base, None), &side(&new, None), &gates, CompareFormat::Table)
    );
    let (one, other) = (side(&base, Some("Q8_0")), side(&base, Some("F16")));
    insta::assert_snapshot!(
        "compare_variants_markdown",
        shown(&one, &other, &["tg128 -5%"], CompareFormat::Markdown)
    );
}

#[test]
fn a_comparison_fits_its_terminal_and_says_what_found_no_room() {
    let (base, new) = two_runs();
    let (base, new) = (side(&base, None), side(&new, None));
    let comparison = Comparison::of(&base, &new, &[], |_| false).unwrap();
    let shown = Shown { base: &base, new: &new, comparison: &comparison, gates: &[] };
    let at = |columns: usize| {
        let options = RenderOptions { columns, color: false };
        String::from_utf8(shown.render(CompareFormat::Table, &options).unwrap()).unwrap()
    };
    for columns in [60, 72, 80, 100] {
        let text = at(columns);
        assert!(widest(&text) <= columns, "{columns}:\n{text}");
    }
    let narrow = at(60);
    assert!(narrow.contains("95 % interval") && narrow.contains("none shown"), "{narrow}");
    assert!(narrow.contains("Left out to fit 60 columns: unit and base"), "{narrow}");
    assert!(!at(120).contains("Left out"), "{}", at(120));
}

#[test]
fn a_multiple_has_an_interval_of_multiples() {
    let (base, mut new) = two_runs();
    let divergence = new.trials[1].quality.as_mut().unwrap().divergence.as_mut().unwrap();
    for (chunk, kld) in divergence.chunk_kld.iter_mut().enumerate() {
        *kld *= if chunk % 9 == 0 { 200.0 } else { 1.0 };
    }
    let text = shown(&side(&base, None), &side(&new, None), &[], CompareFormat::Table);
    let line = text.lines().find(|line| line.starts_with("KLD")).unwrap();
    assert!(line.contains(" times"), "{line}");
    let (_, interval) = line.split_once(" times").unwrap();
    let (low, rest) = interval.trim().split_once(" to ").unwrap();
    assert!(low.parse::<f64>().unwrap() >= 0.0 && rest.contains("times"), "{line}");
}

#[test]
fn json_is_what_its_schema_says() {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../../docs/schema/compare.json")).unwrap();
    formats::strict(&mut schema);
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("compare.json", schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let compiled = compiler.compile("compare.json", &mut schemas).unwrap();
    let (base, mut new) = two_runs();
    fail(&mut new, 1, 0, Phase::Load, "no memory");
    let of_runs = (side(&base, None), side(&new, None));
    let of_variants = (side(&base, Some("Q8_0")), side(&base, Some("F16")));
    for (base, new) in [of_runs, of_variants] {
        let text = shown(&base, &new, &["tg128 -5%"], CompareFormat::Json);
        let document: Value = serde_json::from_str(&text).unwrap();
        if let Err(error) = schemas.validate(&document, compiled) {
            panic!("{error:#}");
        }
        assert_eq!(document["failed"], true);
        let mut broken = document;
        broken["pairs"][0]["figures"][0]["verdict"] = Value::from("fine");
        assert!(schemas.validate(&broken, compiled).is_err(), "the schema must be able to fail");
    }
}

#[test]
fn hostile_names_command_no_terminal_and_no_page() {
    let (mut base, mut new) = two_runs();
    for run in [&mut base, &mut new] {
        run.name = "\u{1b}[2J<script>|\u{202e}".to_owned();
        run.trials[1].label = "a\u{0}|`<b>\n\u{1b}]0;x".to_owned();
        run.trials[0].failure = None;
    }
    new.hosts[0].environment.cpu = "<img src=x>\u{1b}[31m".to_owned();
    let (base, new) = (side(&base, None), side(&new, None));
    for format in [CompareFormat::Table, CompareFormat::Markdown] {
        let text = shown(&base, &new, &["tg128 -5%"], format);
        assert!(!text.contains(['\u{1b}', '\u{0}', '\u{202e}']), "{text}");
        if format == CompareFormat::Markdown {
            let markup = text.replace("\\<", "");
            assert!(!markup.contains("<script") && !markup.contains("<img"), "{text}");
        }
    }
}

#[test]
fn what_was_exported_is_read_back() {
    let (base, _) = two_runs();
    let written = |format: Format| render(format, &base, &RenderOptions::default()).unwrap();
    assert_eq!(read::run("a.json", &written(Format::Json)).unwrap(), base);
    let lines = read::run("a.jsonl", &written(Format::Jsonl)).unwrap();
    assert_eq!(lines.trials, base.trials);
    for format in [BenchFormat::Json, BenchFormat::Jsonl, BenchFormat::Csv] {
        let bytes = render(format, &base, &RenderOptions::default()).unwrap();
        let read = read::run("b", &bytes).unwrap();
        assert_eq!(read.trials.len(), 2, "{format:?}");
        // Their rows are of the same files, under the same settings.
        let read = Member { name: "b".to_owned(), run: read, part: Part::Own };
        let comparison =
            Comparison::of(&side(&base, None), &Side(vec![read]), &[], |_| false).unwrap();
        assert_eq!(comparison.pairs.len(), 2, "{format:?}");
        let names: Vec<&str> = comparison.pairs.iter().map(|it| it.new.label.as_str()).collect();
        assert_eq!(names, ["F16", "Q8_0"]);
        let speeds = comparison.figures().filter(|(_, it)| it.change.is_some_and(|it| !it.exact));
        for (_, figure) in speeds {
            assert_eq!(figure.verdict, Verdict::NoDifference);
            assert!(figure.change.unwrap().value.abs() < 0.02, "{figure:?}");
        }
    }
}

#[test]
fn what_is_no_result_is_told_as_such() {
    let told = |bytes: &[u8]| crate::causes::in_words(&read::run("a", bytes).unwrap_err());
    for (bytes, words) in [
        (b"".as_slice(), "is empty"),
        (b"  \n", "is empty"),
        (b"\xff\xfe", "is no text"),
        (b"{\"format\":\"quantbench.run\",\"version\":99,\"run\":{}}", "later quantbench"),
        (b"{\"format\":\"quantbench.run\",\"version\":3,\"run\":{}}", "run 1 in it cannot be read"),
        (b"{\"format\":\"quantbench.compare\",\"version\":1}", "no run"),
        (b"{\"format\":\"quantbench.run\"", "cut off"),
        (b"[]", "list is empty"),
        (b"[1]", "holds no result"),
        (b"{\"a\":1}", "no results that are known"),
        (b"| model | test |", "Markdown"),
        (b"a,b\n1,2\n", "no result that can be compared"),
        (b"n_prompt,n_gen,avg_ns\n", "holds no result"),
        (b"n_prompt,n_gen,avg_ns\nx,0,5\n", "row 1 of a: 'x' is no n_prompt"),
        (b"n_prompt,n_gen,avg_ns\n0,0,5\n", "is no n_prompt"),
        (b"n_prompt,n_gen,avg_ns\n8,0,0\n", "took no time"),
        (b"n_prompt,n_gen,avg_ns,type_k\n8,0,9,q9\n", "'q9' is no type_k"),
        (b"n_prompt,n_gen,avg_ns\n4294967295,4294967295,9\n", "is no n_prompt"),
    ] {
        let message = told(bytes);
        assert!(message.contains(words), "{}: {message}", String::from_utf8_lossy(bytes));
    }
}
