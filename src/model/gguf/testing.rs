//! A GGUF written byte by byte, for tests: right by default, wrong wherever a test wants it.

/// Builds the bytes of a GGUF.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: u64,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { version: 3, keys: Vec::new(), tensors: Vec::new(), data: 0 }
    }

    /// A small whole model: every kind of metadata, two formats of tensors.
    pub(crate) fn model(file_type: u32) -> Self {
        Self::new()
            .string("general.architecture", "llama")
            .string("general.name", "Tiny")
            .u32("general.file_type", file_type)
            .u32("llama.context_length", 2048)
            .u32("llama.block_count", 2)
            .u32("llama.embedding_length", 64)
            .u32("llama.attention.head_count", 4)
            .u32("llama.attention.head_count_kv", 2)
            .strings("tokenizer.ggml.tokens", &["<s>", "a", "b", "c", "d", "e", "f", "g", "h", "i"])
            .string("tokenizer.chat_template", "{{ messages }}")
            .tensor("token_embd.weight", 8, &[64, 10])
            .tensor("output_norm.weight", 0, &[64])
    }

    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// A key with its type and value as raw bytes.
    pub(crate) fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        let mut bytes = text(name);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        self.keys.push(bytes);
        self
    }

    pub(crate) fn u32(self, name: &str, value: u32) -> Self {
        self.key(name, 4, &value.to_le_bytes())
    }

    pub(crate) fn string(self, name: &str, value: &str) -> Self {
        self.key(name, 8, &text(value))
    }

    pub(crate) fn strings(self, name: &str, values: &[&str]) -> Self {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| text(value)));
        self.key(name, 9, &bytes)
    }

    /// A tensor entry as raw parts, with no data behind it.
    pub(crate) fn entry(
        mut self,
        name: &str,
        format: u32,
        dimensions: &[u64],
        offset: u64,
    ) -> Self {
        let mut bytes = text(name);
        bytes.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
        bytes.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        bytes.extend(format.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// A tensor entry with its data.
    pub(crate) fn tensor(self, name: &str, format: u32, dimensions: &[u64]) -> Self {
        let kind = super::GgmlType::from_number(format).unwrap();
        let weights: u64 = dimensions.iter().product();
        let bytes = weights / kind.block_weights() * kind.block_bytes();
        let offset = self.data;
        let mut built = self.entry(name, format, dimensions, offset);
        built.data = (offset + bytes).next_multiple_of(32);
        built
    }

    /// Everything before the data.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    /// The whole file; the weights count up.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend((0..self.data).map(|at| at.to_le_bytes()[0]));
        bytes
    }

    /// Writes the whole file.
    pub(crate) fn write(&self, path: &std::path::Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }
}
