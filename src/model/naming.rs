//! What file names of GGUFs say: `Llama-3-8B-Instruct-Q4_K_M.gguf`.

use super::quantization::FileType;
use super::split;

/// The file type in a file's name: the last word between `-`, `.` or spaces that is one.
#[must_use]
pub fn file_type_in(file_name: &str) -> Option<FileType> {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    split::stem(name).rsplit(['-', '.', ' ']).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_found_where_people_write_it() {
        for (name, expected) in [
            ("Llama-3-8B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("dir/model.iq4_xs.gguf", Some("IQ4_XS")),
            ("m-BF16-00001-of-00002.gguf", Some("BF16")),
            ("model-f16.gguf", Some("F16")),
            ("ggml-model.gguf", None),
            ("x-UD-Q4_K_XL.gguf", None),
        ] {
            assert_eq!(file_type_in(name).map(FileType::name), expected, "{name}");
        }
    }
}
