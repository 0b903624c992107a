//! The formats that have a name, each as its authors document it.

use super::format::{Format, System, Trims, system_turn};

/// All formats, in the order in which they are listed and tried.
#[rustfmt::skip]
static FORMATS: [Format; 15] = [
    CHATML, LLAMA2, LLAMA3, LLAMA3_1, MISTRAL_V1, MISTRAL_V3, MISTRAL_TEKKEN, GEMMA, GEMMA3, ZEPHYR,
    TINYLLAMA_FASTCHAT, PHI3, VICUNA, ALPACA, ALPACA_FASTCHAT,
];

/// Other names of formats.
#[rustfmt::skip]
const ALIASES: [(&str, &str); 15] = [
    ("llama-2", "llama2"), ("llama", "llama2"), ("llama-3", "llama3"),
    ("llama-3.1", "llama3.1"), ("llama3.2", "llama3.1"), ("llama3.3", "llama3.1"),
    ("mistral", "mistral-v3"), ("mistral-v3-tekken", "mistral-tekken"), ("mistral-nemo", "mistral-tekken"),
    ("gemma2", "gemma"), ("gemma-2", "gemma"), ("gemma-3", "gemma3"),
    ("tinyllama", "zephyr"), ("fastchat", "vicuna"), ("phi-3", "phi3"),
];

/// The format called `name`, in any case.
pub fn named(name: &str) -> Option<&'static Format> {
    let name = name.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name.as_str(), |(_, format)| format);
    FORMATS.iter().find(|format| format.name == name)
}

/// All formats.
pub fn all() -> &'static [Format] {
    &FORMATS
}

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().iter().map(|format| format.name)
}

/// What formats have in common that say nothing else.
const BLANK: Format = Format {
    name: "",
    models: "",
    source: "",
    special: &[],
    markers: &[],
    beginning: "",
    system: System::Refused,
    user: "",
    user_with_input: None,
    assistant: "",
    generation: "",
    stops: &[],
    trims: Trims::Nothing,
};

/// `OpenAI`'s Chat Markup Language, used by Qwen, Yi, Hermes and many others.
const CHATML: Format = Format {
    name: "chatml",
    models: "Qwen, Yi, Hermes, SmolLM and many others",
    source: "github.com/openai/openai-python/blob/v0.28.1/chatml.md",
    special: &["<|im_start|>", "<|im_end|>"],
    system: system_turn("<|im_start|>system\n{}<|im_end|>\n", None),
    user: "<|im_start|>user\n{}<|im_end|>\n",
    assistant: "<|im_start|>assistant\n{}<|im_end|>\n",
    generation: "<|im_start|>assistant\n",
    stops: &["<|im_end|>"],
    ..BLANK
};

/// `[INST]` and `<<SYS>>` are ordinary text to Llama 2; only `<s>` and `</s>` are tokens.
const LLAMA2: Format = Format {
    name: "llama2",
    models: "Llama 2 Chat, Code Llama Instruct",
    source: "github.com/meta-llama/llama: llama/generation.py, chat_completion",
    special: &["<s>", "</s>"],
    markers: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    system: System::InFirstUser("<<SYS>>\n{}\n<</SYS>>\n\n"),
    user: "<s>[INST] {} [/INST]",
    assistant: " {} </s>",
    stops: &["</s>"],
    trims: Trims::Joined,
    ..BLANK
};

const LLAMA3: Format = Format {
    name: "llama3",
    models: "Llama 3 Instruct",
    source: "github.com/meta-llama/llama3: llama/tokenizer.py, ChatFormat",
    special: &[
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    beginning: "<|begin_of_text|>",
    system: system_turn("<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>", None),
    user: "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    assistant: "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
    generation: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    stops: &["<|eot_id|>", "<|end_of_text|>"],
    trims: Trims::Everything,
    ..BLANK
};

/// From 3.1 on there is a system's turn always, with two dates before the message. The templates of 3.1 and
/// 3.3 tell the day below, whatever day it is; that of 3.2 tells today's.
const LLAMA3_1: Format = Format {
    name: "llama3.1",
    models: "Llama 3.1 and 3.3 Instruct; 3.2, but for today's date",
    source: "github.com/meta-llama/llama-models: models/llama3_1/prompt_format.md; huggingface.co/meta-llama/Llama-3.1-8B-Instruct",
    special: &[
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
    ],
    system: System::Turn {
        text: "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
               Today Date: 26 Jul 2024\n\n{}<|eot_id|>",
        default: Some(""),
        default_with_input: None,
    },
    stops: &["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"],
    ..LLAMA3
};

/// `[INST]` and `[/INST]` are ordinary text. The templates that came with the models write no white space
/// around them and `<s>`, `</s>` and answers, for the vocabulary begins a text with a space of its own; their
/// later revisions and Mistral's cookbook write it, which makes it two.
const MISTRAL_V1: Format = Format {
    name: "mistral-v1",
    models: "Mistral 7B Instruct v0.1 and v0.2, Mixtral 8x7B Instruct",
    source: "huggingface.co/mistralai/Mixtral-8x7B-Instruct-v0.1: tokenizer_config.json; the system's message as in mistral-common, tokenizer version 1",
    special: &["<s>", "</s>"],
    markers: &["[INST]", "[/INST]"],
    beginning: "<s>",
    system: System::InFirstUser("{}\n\n"),
    user: "[INST] {} [/INST]",
    assistant: "{}</s>",
    stops: &["</s>"],
    ..BLANK
};

/// From the third version of Mistral's tokenizer on `[INST]` and `[/INST]` are tokens; the system's
/// message goes before the last message of the user.
const MISTRAL_V3: Format = Format {
    name: "mistral-v3",
    models: "Mistral 7B Instruct v0.3, Mixtral 8x22B Instruct",
    source: "github.com/mistralai/mistral-common: docs, tokenizer version 3; huggingface.co/mistralai/Mistral-7B-Instruct-v0.3",
    special: &["<s>", "</s>", "[INST]", "[/INST]"],
    markers: &[],
    system: System::InLastUser("{}\n\n"),
    user: "[INST] {}[/INST]",
    assistant: " {}</s>",
    trims: Trims::Answers,
    ..MISTRAL_V1
};

/// The same with the vocabulary Tekken, which begins no text with a space.
const MISTRAL_TEKKEN: Format = Format {
    name: "mistral-tekken",
    models: "Mistral Nemo Instruct",
    source: "github.com/mistralai/mistral-common: docs, tokenizer version 3 (tekken); huggingface.co/mistralai/Mistral-Nemo-Instruct-2407",
    user: "[INST]{}[/INST]",
    assistant: "{}</s>",
    trims: Trims::Nothing,
    ..MISTRAL_V3
};

/// The templates of Gemma 1 and 2 refuse a message of the system.
const GEMMA: Format = Format {
    name: "gemma",
    models: "Gemma and Gemma 2, instruction-tuned",
    source: "ai.google.dev/gemma/docs/core/prompt-structure; huggingface.co/google/gemma-2-9b-it",
    special: &["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    beginning: "<bos>",
    system: System::Refused,
    user: "<start_of_turn>user\n{}<end_of_turn>\n",
    assistant: "<start_of_turn>model\n{}<end_of_turn>\n",
    generation: "<start_of_turn>model\n",
    stops: &["<end_of_turn>", "<eos>"],
    trims: Trims::Everything,
    ..BLANK
};

/// That of Gemma 3 puts what the system says before the user's first message.
const GEMMA3: Format = Format {
    name: "gemma3",
    models: "Gemma 3, instruction-tuned",
    source: "ai.google.dev/gemma/docs/core/prompt-structure; huggingface.co/google/gemma-3-1b-it",
    system: System::InFirstUser("{}\n\n"),
    trims: Trims::Turns,
    ..GEMMA
};

/// The headings are ordinary text to the Llama vocabulary of these models.
const ZEPHYR: Format = Format {
    name: "zephyr",
    models: "Zephyr, TinyLlama Chat",
    source: "huggingface.co/HuggingFaceH4/zephyr-7b-beta, huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    special: &["<s>", "</s>"],
    markers: &["<|system|>", "<|user|>", "<|assistant|>"],
    system: system_turn("<|system|>\n{}</s>\n", None),
    user: "<|user|>\n{}</s>\n",
    assistant: "<|assistant|>\n{}</s>\n",
    generation: "<|assistant|>\n",
    stops: &["</s>"],
    ..BLANK
};

/// `FastChat` writes the system's turn even if there is nothing in it.
const TINYLLAMA_FASTCHAT: Format = Format {
    name: "tinyllama-fastchat",
    models: "TinyLlama Chat as FastChat serves it",
    source: "github.com/lm-sys/FastChat: fastchat/conversation.py, TinyLlama",
    system: system_turn("<|system|>\n{}</s>\n", Some("")),
    ..ZEPHYR
};

const PHI3: Format = Format {
    name: "phi3",
    models: "Phi-3 and Phi-3.5, mini and medium",
    source: "huggingface.co/microsoft/Phi-3-mini-4k-instruct",
    special: &["<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"],
    system: system_turn("<|system|>\n{}<|end|>\n", None),
    user: "<|user|>\n{}<|end|>\n",
    assistant: "<|assistant|>\n{}<|end|>\n",
    generation: "<|assistant|>\n",
    stops: &["<|end|>", "<|endoftext|>"],
    ..BLANK
};

const VICUNA: Format = Format {
    name: "vicuna",
    models: "Vicuna v1.1 to v1.5 and others trained with FastChat",
    source: "github.com/lm-sys/FastChat: docs/vicuna_weights_version.md",
    special: &["<s>", "</s>"],
    markers: &["USER:", "ASSISTANT:"],
    system: System::Turn {
        text: "{} ",
        default: Some(
            "A chat between a curious user and an artificial intelligence assistant. The assistant \
             gives helpful, detailed, and polite answers to the user's questions.",
        ),
        default_with_input: None,
    },
    user: "USER: {} ",
    assistant: "ASSISTANT: {}</s>",
    generation: "ASSISTANT:",
    stops: &["</s>"],
    ..BLANK
};

/// Its authors document one instruction and its response; further turns repeat the same.
const ALPACA: Format = Format {
    name: "alpaca",
    models: "Alpaca and models trained on its instructions",
    source: "github.com/tatsu-lab/stanford_alpaca: README.md, train.py",
    special: &["<s>", "</s>"],
    markers: &["### Instruction:", "### Input:", "### Response:"],
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
    ..BLANK
};

/// `FastChat` puts instruction and response on the line of their headings, and has no place for an input.
const ALPACA_FASTCHAT: Format = Format {
    name: "alpaca-fastchat",
    models: "Alpaca as FastChat serves it",
    source: "github.com/lm-sys/FastChat: fastchat/conversation.py, alpaca",
    markers: &["### Instruction:", "### Response:"],
    system: System::Turn {
        text: "{}\n\n",
        default: Some(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.",
        ),
        default_with_input: None,
    },
    user: "### Instruction: {}\n\n",
    user_with_input: None,
    assistant: "### Response: {}</s>",
    ..ALPACA
};
