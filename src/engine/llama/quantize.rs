//! llama.cpp's own quantization of whole files.

use super::backend::Backend;
use super::model::to_c_string;
use super::{ErrorText, blocks, log, shim};
use crate::engine::error::EngineError;
use crate::model::file_type::FileType;
use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::rc::Rc;

/// What to round, to what, and where to write it.
#[derive(Debug, Clone, Copy)]
pub struct Rounding<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// What to make.
    pub file_type: FileType,
    /// Threads.
    pub threads: u32,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
    /// Importance of the columns of each weight; `None`: round to nearest.
    pub importance: Option<&'a [Importance]>,
    /// Formats of single tensors, instead of those that the file type gives them; the first match
    /// counts.
    pub overrides: &'a [FormatOverride],
    /// Keys to add to the file's metadata, or to replace there.
    pub metadata: &'a [(String, OverrideValue)],
}

/// How much the columns of one weight matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// The weight: `blk.0.attn_q.weight`.
    pub weight: String,
    /// Mean square of the inputs of each column, `[matrices, columns]`.
    pub values: Vec<f32>,
}

/// The format of the tensors whose names match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatOverride {
    /// A regular expression (C++'s ECMAScript), found anywhere in the name.
    pub pattern: String,
    /// The format.
    pub format: GgmlType,
}

/// A value that a metadata key is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideValue {
    /// Text; llama.cpp keeps the first 127 bytes.
    Text(String),
    /// A number, stored as u32.
    Number(u32),
}

impl FormatOverride {
    /// The format of one tensor.
    #[must_use]
    pub fn of_tensor(name: &str, format: GgmlType) -> Self {
        let mut pattern = String::from("^");
        for character in name.chars() {
            if character.is_ascii_punctuation() && character != '_' {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('$');
        Self { pattern, format }
    }
}

/// Room of a text in `llama_model_kv_override`, without its terminator.
const MOST_TEXT: usize = 127;

/// Writes a file, rounded to another file type.
///
/// # Errors
/// [`EngineError::Quantize`] with llama.cpp's last error lines; the output may then hold part of a
/// file.
pub fn quantize_file(backend: Backend, rounding: &Rounding<'_>) -> Result<(), EngineError> {
    quantize(backend, rounding, false)
}

fn quantize(_backend: Backend, rounding: &Rounding<'_>, dry_run: bool) -> Result<(), EngineError> {
    let Rounding { input, output, file_type, threads, allow_requantize, .. } = *rounding;
    let failed = |reason| EngineError::Quantize {
        input: input.to_owned(),
        file_type: file_type.name().to_owned(),
        reason,
    };
    // ggml ends the program for these.
    let mut formats = rounding.overrides.iter().map(|entry| entry.format);
    if let Some(format) = formats.find(|format| !blocks::can_quantize(*format)) {
        return Err(failed(format!("{format} is no type that weights are stored in")));
    }
    let c_input = to_c_string(&input.to_string_lossy())?;
    let c_output = to_c_string(&output.to_string_lossy())?;
    // SAFETY: returns a plain struct.
    let mut parameters = unsafe { sys::llama_model_quantize_default_params() };
    parameters.nthread = i32::try_from(threads).unwrap_or(0);
    parameters.ftype = file_type.number();
    parameters.allow_requantize = allow_requantize;
    parameters.dry_run = dry_run;
    let tables = Tables::new(rounding)?;
    if rounding.importance.is_some() {
        parameters.imatrix = tables.importance.as_ptr();
    }
    if !rounding.overrides.is_empty() {
        parameters.tt_overrides = tables.overrides.as_ptr();
    }
    if !rounding.metadata.is_empty() {
        parameters.kv_overrides = tables.metadata.as_ptr();
    }
    // SAFETY: both paths are terminated and outlive the call; the parameters point into
    // `tables`, whose arrays end with an empty entry; the error buffer has the length given.
    let (code, error) = ErrorText::of(|text, length| unsafe {
        let (from, to) = (c_input.as_ptr(), c_output.as_ptr());
        shim::quantbench_quantize(from, to, &raw const parameters, text, length)
    });
    if code == 0 { Ok(()) } else { Err(failed(error.reason())) }
}

/// The types that llama.cpp would give the tensors of a file, by their names; nothing is rounded or written.
///
/// llama.cpp tells them in its log alone. `is_weighted`: whether rounding is weighted with an importance
/// matrix, which moves some types.
///
/// # Errors
/// As [`quantize_file`].
pub fn planned_types(
    backend: Backend,
    input: &Path,
    file_type: FileType,
    is_weighted: bool,
) -> Result<Vec<(String, GgmlType)>, EngineError> {
    // That there is a matrix is all that is asked of it.
    let matrix = [Importance { weight: "any".to_owned(), values: vec![1.0] }];
    let rounding = Rounding {
        input,
        output: Path::new(""),
        file_type,
        threads: 1,
        allow_requantize: true,
        importance: is_weighted.then_some(&matrix),
        overrides: &[],
        metadata: &[],
    };
    let lines = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&lines);
    log::listen(Some(Box::new(move |line| heard.borrow_mut().push(line.to_owned()))));
    let result = quantize(backend, &rounding, true);
    log::listen(None);
    result?;
    let lines = lines.borrow();
    Ok(lines.windows(2).filter_map(|two| planned_type(&two[0], &two[1])).collect())
}

/// Name and type from the two lines about a tensor: `[ 1/ 9] NAME - [ 576, 64], type = f16,` and
/// `size = 54.00 MiB -> 15.19 MiB (q4_0)`, or without the arrow where the type stays.
fn planned_type(line: &str, size: &str) -> Option<(String, GgmlType)> {
    let (_, rest) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let (name, shape) = rest.rsplit_once(" - [")?;
    let own = shape.rsplit_once("type =")?.1.trim_matches([' ', ',']);
    let size = size.strip_prefix("size =")?;
    let planned = match size.split_once("->") {
        Some((_, new)) => new.rsplit_once('(')?.1.strip_suffix(')')?,
        None => own,
    };
    Some((name.trim().to_owned(), GgmlType::from_name(planned)?))
}

/// The arrays that llama.cpp reads, each ended by an empty entry, and the names they point to.
struct Tables {
    importance: Vec<sys::llama_model_imatrix_data>,
    overrides: Vec<sys::llama_model_tensor_override>,
    metadata: Vec<sys::llama_model_kv_override>,
    /// What the pointers in the arrays point to; moving a `CString` leaves its text in place.
    _names: Vec<CString>,
}

impl Tables {
    fn new(rounding: &Rounding<'_>) -> Result<Self, EngineError> {
        let mut names = Vec::new();
        let mut importance = Vec::new();
        for entry in rounding.importance.unwrap_or_default() {
            let name = to_c_string(&entry.weight)?;
            importance.push(sys::llama_model_imatrix_data {
                name: name.as_ptr(),
                data: entry.values.as_ptr(),
                size: entry.values.len(),
            });
            names.push(name);
        }
        importance.push(sys::llama_model_imatrix_data {
            name: std::ptr::null(),
            data: std::ptr::null(),
            size: 0,
        });
        let mut overrides = Vec::new();
        for entry in rounding.overrides {
            let pattern = to_c_string(&entry.pattern)?;
            overrides.push(sys::llama_model_tensor_override {
                pattern: pattern.as_ptr(),
                type_: entry.format.number(),
            });
            names.push(pattern);
        }
        overrides.push(sys::llama_model_tensor_override { pattern: std::ptr::null(), type_: 0 });
        let mut metadata: Vec<_> =
            rounding.metadata.iter().map(|(key, value)| key_value(key, value)).collect();
        // An empty key ends the list.
        metadata.push(key_value("", &OverrideValue::Number(0)));
        Ok(Self { importance, overrides, metadata, _names: names })
    }
}

fn key_value(key: &str, value: &OverrideValue) -> sys::llama_model_kv_override {
    let (tag, value) = match value {
        OverrideValue::Text(text) => (
            sys::LLAMA_KV_OVERRIDE_TYPE_STR,
            sys::llama_model_kv_override__bindgen_ty_1 { val_str: fixed_text(text) },
        ),
        OverrideValue::Number(number) => (
            sys::LLAMA_KV_OVERRIDE_TYPE_INT,
            sys::llama_model_kv_override__bindgen_ty_1 { val_i64: i64::from(*number) },
        ),
    };
    sys::llama_model_kv_override { tag, key: fixed_text(key), __bindgen_anon_1: value }
}

/// A text in a field of fixed size, cut between characters where it is longer, always terminated.
fn fixed_text(text: &str) -> [c_char; MOST_TEXT + 1] {
    let mut field = [0; MOST_TEXT + 1];
    let end = text.floor_char_boundary(MOST_TEXT);
    for (to, from) in field.iter_mut().zip(text[..end].bytes()) {
        *to = from.cast_signed();
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::gguf_file::GgufInput;

    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
    const WEIGHT: &str = "blk.0.attn_q.weight";

    fn made(
        backend: Backend,
        importance: Option<&[Importance]>,
        overrides: &[FormatOverride],
        metadata: &[(String, OverrideValue)],
    ) -> Result<GgufInput, String> {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.gguf");
        let rounding = Rounding {
            input: Path::new(DEMO),
            output: &output,
            file_type: "Q4_0".parse().unwrap(),
            threads: 2,
            allow_requantize: false,
            importance,
            overrides,
            metadata,
        };
        quantize_file(backend, &rounding).map_err(|error| error.to_string())?;
        Ok(GgufInput::open(backend, &output).unwrap())
    }

    fn bytes<'a>(file: &'a GgufInput, name: &str) -> &'a [u8] {
        file.bytes(file.find(name).unwrap())
    }

    fn importance(values: usize) -> [Importance; 1] {
        let value = |column: usize| if column.is_multiple_of(4) { 1000.0 } else { 1.0 };
        [Importance { weight: WEIGHT.to_owned(), values: (0..values).map(value).collect() }]
    }

    #[test]
    fn the_name_of_a_tensor_is_found_only_where_it_is_whole() {
        let format = GgmlType::from_name("Q8_0").unwrap();
        let found = FormatOverride::of_tensor("blk.1.attn_q.weight", format);
        assert_eq!(found.pattern, r"^blk\.1\.attn_q\.weight$");
    }

    #[test]
    fn importance_changes_the_weight_it_is_about_and_no_other() {
        let backend = Backend::initialise();
        let plain = made(backend, None, &[], &[]).unwrap();
        let matrix = importance(256);
        let weighted = made(backend, Some(&matrix), &[], &[]).unwrap();
        assert_ne!(bytes(&plain, WEIGHT), bytes(&weighted, WEIGHT));
        let other = "blk.1.attn_q.weight";
        assert_eq!(bytes(&plain, other), bytes(&weighted, other));
    }

    #[test]
    fn the_planned_type_is_read_from_the_lines_of_a_tensor() {
        let planned = |line: &str, size: &str| {
            planned_type(line, size).map(|(name, format)| (name, format.name()))
        };
        let line = "[   2/  83] token_embd.weight   - [   576,  49152,   1,   1], type =    f16,";
        let name = "token_embd.weight".to_owned();
        let rounded = "size =    54.00 MiB ->    28.69 MiB (q8_0)";
        assert_eq!(planned(line, rounded), Some((name.clone(), "Q8_0")));
        assert_eq!(planned(line, "size =    54.000 MiB"), Some((name, "F16")));
        assert_eq!(planned(line, "another line"), None);
        assert_eq!(planned("another line", rounded), None);
    }

    #[test]
    fn importance_of_another_size_is_refused() {
        let matrix = importance(128);
        let error = made(Backend::initialise(), Some(&matrix), &[], &[]).unwrap_err();
        assert!(error.contains("imatrix size 128 is different from tensor size 256"), "{error}");
    }

    #[test]
    fn formats_that_hold_no_weights_do_not_reach_llama_cpp() {
        let none = ["F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K"];
        for name in none {
            let overrides = [FormatOverride::of_tensor(WEIGHT, GgmlType::from_name(name).unwrap())];
            let error = made(Backend::initialise(), None, &overrides, &[]).unwrap_err();
            assert!(error.contains(&format!("{name} is no type that weights")), "{error}");
        }
    }

    #[test]
    fn formats_of_single_tensors_and_keys_are_as_asked_for() {
        let overrides = [FormatOverride {
            pattern: r"blk\.0\.attn_q".to_owned(),
            format: GgmlType::from_name("Q8_0").unwrap(),
        }];
        let long = "ö".repeat(100);
        let metadata = [
            ("quantbench.method".to_owned(), OverrideValue::Text("imatrix".to_owned())),
            ("quantbench.calibration.chunks".to_owned(), OverrideValue::Number(7)),
            ("quantbench.long".to_owned(), OverrideValue::Text(long.clone())),
        ];
        let file = made(Backend::initialise(), None, &overrides, &metadata).unwrap();
        assert_eq!(file.find(WEIGHT).unwrap().entry.format.name(), "Q8_0");
        assert_eq!(file.find("blk.1.attn_q.weight").unwrap().entry.format.name(), "Q4_0");
        let header = file.header();
        let text = |key: &str| header.get(key).and_then(|value| value.as_text()).unwrap();
        assert_eq!(text("quantbench.method"), "imatrix");
        assert_eq!(header.get("quantbench.calibration.chunks").unwrap().as_count(), Some(7));
        // Cut between characters, at 127 bytes.
        assert_eq!(text("quantbench.long"), &long[..126]);
    }
}
