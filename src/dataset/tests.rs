//! Data sets as they are published, and as they are broken.

use super::{Columns, Example, read};
use serde_json::json;

fn parsed(name: &str, content: &[u8], columns: Columns<'_>) -> Result<Vec<Example>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let folder = format!("{}/", folder.path().display());
    read(&path, columns).map_err(|error| error.to_string().replace(&folder, ""))
}

fn error(name: &str, content: &[u8]) -> String {
    parsed(name, content, Columns::Header).unwrap_err()
}

#[test]
fn lines_of_json_are_examples_with_their_lines() {
    let content = "\u{feff}{\"q\":\"a\",\"n\":1}\r\n\n{\"q\":\"b\"}";
    let found = parsed("d.jsonl", content.as_bytes(), Columns::Header).unwrap();
    assert_eq!(found.iter().map(|example| example.line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(found[0].get("n").unwrap(), &json!(1));
}

#[test]
fn tables_have_a_header_or_names_given_for_their_columns() {
    let csv = parsed("d.csv", b"q,a\n\"x, y\",\"two\nlines\"\nz,1\n", Columns::Header).unwrap();
    assert_eq!(csv[0].get("q").unwrap(), "x, y");
    assert_eq!((csv[1].line, csv[1].get("a").unwrap()), (4, &json!("1")));
    let names = ["en".to_owned(), "de".to_owned()];
    let tsv = parsed("d.tsv", b"\"Go\tGeh\n", Columns::Named(&names)).unwrap();
    assert_eq!(tsv[0].get("en").unwrap(), "\"Go", "a quote is a character in TSV");
}

#[test]
fn a_list_of_objects_is_a_data_set_too() {
    let found = parsed("d.json", b"[{\"a\": 1},\n {\"a\": 2}]", Columns::Header).unwrap();
    assert_eq!(found[1].get("a").unwrap(), &json!(2));
    let found =
        parsed("d.json", b"\n[\n {\"a\":\n  1},\n\n {\"a\": \"]\"}\n]\n", Columns::Header).unwrap();
    assert_eq!(found.iter().map(|it| it.line).collect::<Vec<_>>(), [3, 6]);
}

#[test]
fn nested_fields_are_reached_and_lists_taken_apart() {
    let line = br#"{"c":"text","qas":[{"q":"1","answers":{"text":["x","y"]}},{"q":"2"}]}"#;
    let found = parsed("d.jsonl", line, Columns::Header).unwrap();
    assert_eq!(found[0].get("qas.0.answers.text.1").unwrap(), "y");
    let questions = found[0].each("qas").unwrap();
    assert_eq!(questions[1].get("c").unwrap(), "text");
    assert_eq!(questions[1].get("q").unwrap(), "2");
    assert_eq!(questions[0].get("answers.text").unwrap(), &json!(["x", "y"]));
    assert_eq!(found[0].each("c").unwrap_err().reason, "the field 'c' is no list of objects");
    let missing = found[0].get("gold").unwrap_err();
    assert_eq!(missing.reason, "there is no field 'gold'; there are c, qas");
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    for (name, content, expected) in [
        (
            "d.jsonl",
            &b"{\"a\":1}\n{\"a\":}\n"[..],
            "has a wrong example at d.jsonl:2: expected value (column 6)",
        ),
        ("d.jsonl", b"{}\n\n[1]", "has a wrong example at d.jsonl:3: a list is no object"),
        (
            "d.jsonl",
            b"{\"a\":\"b\"}\n{\"a\":\"\xff\"}",
            "has a wrong example at d.jsonl:2: this is no UTF-8 text (byte 16 of the file)",
        ),
        ("d.csv", b"a,b\n1,2\n3\n", "has a wrong example at d.csv:3: 1 field for 2 columns"),
        (
            "d.csv",
            b"a,b\n1,2\n3,\"x\n4,y\n5,z\n",
            "has a wrong example at d.csv:3: a quote in this row is never closed",
        ),
        (
            "d.json",
            b"[{\"a\":1},\n\n {\"a\":}]",
            "has a wrong example at d.json:3: expected value (column 7); a .json data set is a list of objects",
        ),
        (
            "d.json",
            b"[{},\n {}",
            "has a wrong example at d.json:2: it ends within the list; a .json data set is a list of objects",
        ),
        (
            "d.json",
            b"[{},]",
            "has a wrong example at d.json:1: expected value (column 5); a .json data set is a list of objects",
        ),
        (
            "d.json",
            b"[{}]\nx",
            "has a wrong example at d.json:2: something stands behind the list; a .json data set is a list of objects",
        ),
        ("d.json", b" []", "is d.json, which has no example in it"),
        ("d.jsonl", b" \n\n", "is d.jsonl, which has no example in it"),
        ("d.tsv", b"a\tb\n", "is d.tsv, which has no example in it"),
        (
            "d.parquet",
            b"PAR1",
            "is d.parquet; data sets are read from .jsonl, .json (a list of objects), .csv and .tsv",
        ),
    ] {
        assert_eq!(error(name, content), expected);
    }
    let list = error("d.json", b"{\"data\":[]}");
    assert!(
        list.starts_with("has a wrong example at d.json:1: it does not begin with '['"),
        "{list}"
    );
    assert!(list.contains("a .json data set is a list of objects"), "{list}");
}

#[test]
fn an_example_of_many_megabytes_is_refused() {
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(17 << 20));
    let found = error("d.jsonl", huge.as_bytes());
    assert_eq!(
        found,
        "has a wrong example at d.jsonl:1: the example has 17.0 MiB, more than 16.0 MiB"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = read(std::path::Path::new("/nowhere/d.jsonl"), Columns::Header).unwrap_err();
    assert!(error.to_string().starts_with("cannot be read from /nowhere/d.jsonl"), "{error}");
}
