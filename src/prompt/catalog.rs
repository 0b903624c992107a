//! The formats that have a name, each as its authors document it.

use super::format::{Format, System, system_turn};

/// All formats, in the order in which they are listed and tried.
pub const FORMATS: [Format; 10] =
    [CHATML, LLAMA2, LLAMA3, MISTRAL, MISTRAL_V1, GEMMA, ZEPHYR, PHI3, VICUNA, ALPACA];

/// Other names of formats.
const ALIASES: [(&str, &str); 6] = [
    ("llama-2", "llama2"),
    ("llama", "llama2"),
    ("llama-3", "llama3"),
    ("tinyllama", "zephyr"),
    ("fastchat", "vicuna"),
    ("phi-3", "phi3"),
];

/// The format called `name`, in any case.
#[must_use]
pub fn named(name: &str) -> Option<&'static Format> {
    static ALL: [Format; 10] = FORMATS;
    let name = name.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name.as_str(), |(_, format)| format);
    ALL.iter().find(|format| format.name == name)
}

/// All formats.
#[must_use]
pub fn all() -> &'static [Format] {
    static ALL: [Format; 10] = FORMATS;
    &ALL
}

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().iter().map(|format| format.name)
}

/// `OpenAI`'s Chat Markup Language, used by Qwen, Yi, Hermes and many others.
const CHATML: Format = Format {
    name: "chatml",
    models: "Qwen, Yi, Hermes, SmolLM and many others",
    source: "github.com/openai/openai-python/blob/v0.28.1/chatml.md",
    special: &["<|im_start|>", "<|im_end|>"],
    markers: &[],
    beginning: "",
    system: system_turn("<|im_start|>system\n{}<|im_end|>\n"),
    user: "<|im_start|>user\n{}<|im_end|>\n",
    user_with_input: None,
    assistant: "<|im_start|>assistant\n{}<|im_end|>\n",
    generation: "<|im_start|>assistant\n",
    stops: &["<|im_end|>"],
    trims: false,
};

/// `[INST]` and `<<SYS>>` are ordinary text to Llama 2; only `<s>` and `</s>` are tokens.
const LLAMA2: Format = Format {
    name: "llama2",
    models: "Llama 2 Chat, Code Llama Instruct",
    source: "github.com/meta-llama/llama: llama/generation.py, chat_completion",
    special: &["<s>", "</s>"],
    markers: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    beginning: "",
    system: System::InFirstUser("<<SYS>>\n{}\n<</SYS>>\n\n"),
    user: "<s>[INST] {} [/INST]",
    user_with_input: None,
    assistant: " {} </s>",
    generation: "",
    stops: &["</s>"],
    trims: true,
};

const LLAMA3: Format = Format {
    name: "llama3",
    models: "Llama 3, 3.1, 3.2 and 3.3 Instruct",
    source: "github.com/meta-llama/llama3: llama/tokenizer.py, ChatFormat",
    special: &[
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    markers: &[],
    beginning: "<|begin_of_text|>",
    system: system_turn("<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>"),
    user: "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    user_with_input: None,
    assistant: "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
    generation: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    stops: &["<|eot_id|>", "<|end_of_text|>"],
    trims: true,
};

/// From the third version of Mistral's tokenizer on `[INST]` and `[/INST]` are tokens; the system's
/// message goes before the last message of the user.
const MISTRAL: Format = Format {
    name: "mistral",
    models: "Mistral 7B Instruct v0.3, Mixtral 8x22B Instruct",
    source: "github.com/mistralai/mistral-common: docs, tokenizer version 3",
    special: &["<s>", "</s>", "[INST]", "[/INST]"],
    markers: &[],
    beginning: "<s>",
    system: System::InLastUser("{}\n\n"),
    user: "[INST] {}[/INST]",
    user_with_input: None,
    assistant: " {}</s>",
    generation: "",
    stops: &["</s>"],
    trims: false,
};

/// Before that they are ordinary text, and the system's message goes before the user's first.
const MISTRAL_V1: Format = Format {
    name: "mistral-v1",
    models: "Mistral 7B Instruct v0.1 and v0.2, Mixtral 8x7B Instruct",
    source: "github.com/mistralai/mistral-common: docs, tokenizer version 1",
    special: &["<s>", "</s>"],
    markers: &["[INST]", "[/INST]"],
    beginning: "<s>",
    system: System::InFirstUser("{}\n\n"),
    user: " [INST] {} [/INST]",
    user_with_input: None,
    assistant: " {}</s>",
    generation: "",
    stops: &["</s>"],
    trims: false,
};

/// Gemma has no role for the system: what it says goes before the user's first message.
const GEMMA: Format = Format {
    name: "gemma",
    models: "Gemma, Gemma 2 and Gemma 3, instruction-tuned",
    source: "ai.google.dev/gemma/docs/core/prompt-structure",
    special: &["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    markers: &[],
    beginning: "<bos>",
    system: System::InFirstUser("{}\n\n"),
    user: "<start_of_turn>user\n{}<end_of_turn>\n",
    user_with_input: None,
    assistant: "<start_of_turn>model\n{}<end_of_turn>\n",
    generation: "<start_of_turn>model\n",
    stops: &["<end_of_turn>", "<eos>"],
    trims: true,
};

/// The headings are ordinary text to the Llama vocabulary of these models.
const ZEPHYR: Format = Format {
    name: "zephyr",
    models: "Zephyr, TinyLlama Chat",
    source: "huggingface.co/HuggingFaceH4/zephyr-7b-beta, huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    special: &["<s>", "</s>"],
    markers: &["<|system|>", "<|user|>", "<|assistant|>"],
    beginning: "",
    system: system_turn("<|system|>\n{}</s>\n"),
    user: "<|user|>\n{}</s>\n",
    user_with_input: None,
    assistant: "<|assistant|>\n{}</s>\n",
    generation: "<|assistant|>\n",
    stops: &["</s>"],
    trims: false,
};

const PHI3: Format = Format {
    name: "phi3",
    models: "Phi-3 and Phi-3.5, mini and medium",
    source: "huggingface.co/microsoft/Phi-3-mini-4k-instruct",
    special: &["<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"],
    markers: &[],
    beginning: "",
    system: system_turn("<|system|>\n{}<|end|>\n"),
    user: "<|user|>\n{}<|end|>\n",
    user_with_input: None,
    assistant: "<|assistant|>\n{}<|end|>\n",
    generation: "<|assistant|>\n",
    stops: &["<|end|>", "<|endoftext|>"],
    trims: false,
};

const VICUNA: Format = Format {
    name: "vicuna",
    models: "Vicuna v1.1 to v1.5 and others trained with FastChat",
    source: "github.com/lm-sys/FastChat: docs/vicuna_weights_version.md",
    special: &["<s>", "</s>"],
    markers: &["USER:", "ASSISTANT:"],
    beginning: "",
    system: System::Turn {
        text: "{} ",
        default: Some(
            "A chat between a curious user and an artificial intelligence assistant. The assistant \
             gives helpful, detailed, and polite answers to the user's questions.",
        ),
        default_with_input: None,
    },
    user: "USER: {} ",
    user_with_input: None,
    assistant: "ASSISTANT: {}</s>",
    generation: "ASSISTANT:",
    stops: &["</s>"],
    trims: false,
};

/// Its authors document one instruction and its response; further turns repeat the same.
const ALPACA: Format = Format {
    name: "alpaca",
    models: "Alpaca and models trained on its instructions",
    source: "github.com/tatsu-lab/stanford_alpaca: README.md, train.py",
    special: &["<s>", "</s>"],
    markers: &["### Instruction:", "### Input:", "### Response:"],
    beginning: "",
    system: System::Turn {
        text: "{}\n\n",
        default: Some(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.",
        ),
        default_with_input: Some(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.",
        ),
    },
    user: "### Instruction:\n{}\n\n",
    user_with_input: Some("### Instruction:\n{}\n\n### Input:\n{input}\n\n"),
    assistant: "### Response:{}</s>\n\n",
    generation: "### Response:",
    stops: &["</s>", "### Instruction:"],
    trims: false,
};
