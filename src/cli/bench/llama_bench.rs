//! llama-bench's formats: its JSON, CSV and Markdown table, from its JSONL rows.
//!
//! Source: llama.cpp, tools/llama-bench (`printer` and its four kinds).

use super::{BenchError, OutputFormat};
use crate::experiment::settings::Settings;
use crate::results::record::RunRecord;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// llama-bench's columns of CSV, in its order; its JSON has the samples besides.
const COLUMNS: [&str; 42] = [
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "cpu_mask",
    "cpu_strict",
    "poll",
    "type_k",
    "type_v",
    "n_gpu_layers",
    "n_cpu_moe",
    "split_mode",
    "main_gpu",
    "no_kv_offload",
    "flash_attn",
    "devices",
    "tensor_split",
    "tensor_buft_overrides",
    "load_mode",
    "lazy_mode",
    "embeddings",
    "no_op_offload",
    "no_host",
    "repack",
    "fit_target",
    "fit_min_ctx",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
];

/// One row of llama-bench's JSONL.
type Row = Map<String, Value>;

/// Which settings the Markdown table shows a column for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per column")]
pub(super) struct Shown {
    threads: bool,
    batch: bool,
    ubatch: bool,
    type_k: bool,
    type_v: bool,
    main_gpu: bool,
    split_mode: bool,
    no_kv_offload: bool,
    flash_attn: bool,
}

impl Shown {
    /// Settings that are not llama-bench's default in some trial.
    pub(super) fn of(run: &RunRecord) -> Self {
        let default = Settings::default();
        let any = |differs: &dyn Fn(&Settings) -> bool| {
            run.trials.iter().any(|trial| differs(&trial.settings))
        };
        Self {
            threads: any(&|it| it.threads != default.threads),
            batch: any(&|it| it.batch != default.batch),
            ubatch: any(&|it| it.ubatch != default.ubatch),
            type_k: any(&|it| it.cache_type_k != default.cache_type_k),
            type_v: any(&|it| it.cache_type_v != default.cache_type_v),
            main_gpu: any(&|it| it.main_gpu != default.main_gpu),
            split_mode: any(&|it| it.split_mode != default.split_mode),
            no_kv_offload: any(&|it| it.kv_offload != default.kv_offload),
            flash_attn: any(&|it| it.flash_attention != default.flash_attention),
        }
    }
}

/// Turns llama-bench's JSONL into one of its other formats.
pub(super) fn convert(
    jsonl: Vec<u8>,
    format: OutputFormat,
    shown: &Shown,
) -> Result<Vec<u8>, BenchError> {
    if matches!(format, OutputFormat::Table | OutputFormat::Jsonl) {
        return Ok(jsonl);
    }
    let rows = jsonl
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice::<Row>)
        .collect::<Result<Vec<Row>, _>>()?;
    match format {
        OutputFormat::Json => {
            let mut bytes = serde_json::to_vec_pretty(&rows)?;
            bytes.push(b'\n');
            Ok(bytes)
        }
        OutputFormat::Csv => csv(&rows),
        _ => Ok(markdown(&rows, shown).into_bytes()),
    }
}

/// Every value in quotes, as llama-bench writes it.
fn csv(rows: &[Row]) -> Result<Vec<u8>, BenchError> {
    let mut bytes = COLUMNS.join(",").into_bytes();
    bytes.push(b'\n');
    let mut writer =
        csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(bytes);
    for row in rows {
        writer.write_record(COLUMNS.map(|column| text(row, column)))?;
    }
    writer.into_inner().map_err(|error| BenchError::Csv(error.into_error().into()))
}

/// A value as text: numbers and truth values as llama-bench prints them, nothing for what is not
/// there.
fn text(row: &Row, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => u8::from(*truth).to_string(),
        Some(value) => value.to_string(),
    }
}

fn number(row: &Row, column: &str) -> f64 {
    row.get(column).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// One column of the Markdown table: its field, its heading, and the width of its cells (negative:
/// aligned left).
struct Column {
    field: &'static str,
    heading: &'static str,
    width: i8,
}

fn columns(rows: &[Row], shown: &Shown) -> Vec<Column> {
    let on_cpu = rows.iter().all(|row| {
        let backend = text(row, "backends");
        ["CPU", "BLAS", "ZenDNN"].iter().any(|name| backend.contains(name))
    });
    let all = [
        (true, "model", "model", -30),
        (true, "size", "size", 10),
        (true, "params", "params", 10),
        (true, "backends", "backend", -10),
        (!on_cpu, "n_gpu_layers", "ngl", 3),
        (on_cpu || shown.threads, "n_threads", "threads", 7),
        (shown.batch, "n_batch", "n_batch", 7),
        (shown.ubatch, "n_ubatch", "n_ubatch", 8),
        (shown.type_k, "type_k", "type_k", 6),
        (shown.type_v, "type_v", "type_v", 6),
        (shown.main_gpu, "main_gpu", "main_gpu", 10),
        (shown.split_mode, "split_mode", "sm", 6),
        (shown.no_kv_offload, "no_kv_offload", "nkvo", 13),
        (shown.flash_attn, "flash_attn", "fa", 3),
        (true, "test", "test", 15),
        (true, "t/s", "t/s", 20),
    ];
    all.into_iter()
        .filter(|(shown, ..)| *shown)
        .map(|(_, field, heading, width)| Column { field, heading, width })
        .collect()
}

fn markdown(rows: &[Row], shown: &Shown) -> String {
    let columns = columns(rows, shown);
    let mut table = String::from("|");
    for column in &columns {
        table.push_str(&cell(column.heading, column.width));
    }
    table.push_str("\n|");
    for column in &columns {
        let dashes = "-".repeat(usize::from(column.width.unsigned_abs()) - 1);
        // Writing to a String cannot fail.
        let _ = write!(table, " {dashes}{} |", if column.width > 0 { ':' } else { '-' });
    }
    table.push('\n');
    for row in rows {
        table.push('|');
        for column in &columns {
            table.push_str(&cell(&value(row, column.field), column.width));
        }
        table.push('\n');
    }
    if let Some(row) = rows.first() {
        let _ = write!(
            table,
            "\nbuild: {} ({})\n",
            text(row, "build_commit"),
            text(row, "build_number")
        );
    }
    table
}

fn cell(text: &str, width: i8) -> String {
    let places = usize::from(width.unsigned_abs());
    if width > 0 { format!(" {text:>places$} |") } else { format!(" {text:places$} |") }
}

fn value(row: &Row, field: &str) -> String {
    const MEBIBYTE: f64 = 1_048_576.0;
    match field {
        "model" => text(row, "model_type"),
        "size" => {
            let size = number(row, "model_size") / MEBIBYTE;
            if size < 1024.0 {
                format!("{size:.2} MiB")
            } else {
                format!("{:.2} GiB", size / 1024.0)
            }
        }
        "params" => {
            let count = number(row, "model_n_params");
            if count < 1e9 {
                format!("{:.2} M", count / 1e6)
            } else {
                format!("{:.2} B", count / 1e9)
            }
        }
        "test" => test_name(row),
        "t/s" => format!("{:.2} ± {:.2}", number(row, "avg_ts"), number(row, "stddev_ts")),
        field => text(row, field),
    }
}

fn test_name(row: &Row) -> String {
    let count = |column| row.get(column).and_then(Value::as_u64).unwrap_or_default();
    let mut name = match (count("n_prompt"), count("n_gen")) {
        (prompt, 0) => format!("pp{prompt}"),
        (0, generated) => format!("tg{generated}"),
        (prompt, generated) => format!("pp{prompt}+tg{generated}"),
    };
    let depth = count("n_depth");
    if depth > 0 {
        let _ = write!(name, " @ d{depth}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = concat!(
        r#"{"build_commit":"abc","build_number":7,"backends":"CPU","model_type":"llama 6M F16","#,
        r#""model_size":12988416,"model_n_params":6320000,"n_threads":2,"flash_attn":1,"#,
        r#""n_prompt":512,"n_gen":0,"n_depth":0,"avg_ts":2310.456,"stddev_ts":1.5,"samples_ts":[1]}"#,
        "\n",
        r#"{"build_commit":"abc","build_number":7,"backends":"CPU","model_type":"a \"b\" c","#,
        r#""model_size":12988416000,"model_n_params":6320000000,"n_threads":2,"flash_attn":1,"#,
        r#""n_prompt":0,"n_gen":128,"n_depth":1024,"avg_ts":185.0,"stddev_ts":0.0,"embeddings":true}"#,
        "\n",
    );

    fn converted(format: OutputFormat, shown: &Shown) -> String {
        String::from_utf8(convert(ROWS.into(), format, shown).unwrap()).unwrap()
    }

    #[test]
    fn the_markdown_table_is_llama_benchs() {
        assert_eq!(
            converted(OutputFormat::Md, &Shown { flash_attn: true, ..Shown::default() }),
            "\
| model                          |       size |     params | backend    | threads |  fa |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | ------: | --: | --------------: | -------------------: |
| llama 6M F16                   |  12.39 MiB |     6.32 M | CPU        |       2 |   1 |           pp512 |       2310.46 ± 1.50 |
| a \"b\" c                        |  12.10 GiB |     6.32 B | CPU        |       2 |   1 |   tg128 @ d1024 |        185.00 ± 0.00 |

build: abc (7)
"
        );
    }

    #[test]
    fn csv_has_all_columns_with_every_value_in_quotes() {
        let csv = converted(OutputFormat::Csv, &Shown::default());
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().starts_with("build_commit,build_number,cpu_info,"));
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("\"abc\",\"7\",\"\",\"\",\"CPU\",\"\",\"llama 6M F16\",")
        );
        assert!(lines.next().unwrap().contains("\"a \"\"b\"\" c\""));
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert!(reader.records().all(|record| record.unwrap().len() == COLUMNS.len()));
    }

    #[test]
    fn json_is_an_array_of_the_same_rows() {
        let json = converted(OutputFormat::Json, &Shown::default());
        let rows: Vec<Row> = serde_json::from_str(&json).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["samples_ts"][0], 1);
        assert_eq!(converted(OutputFormat::Jsonl, &Shown::default()), ROWS);
    }
}
