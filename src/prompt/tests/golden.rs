//! Golden renderings, written down from the documentation that each format names as its source.

use super::conversation;
use crate::prompt::catalog::{all, named};
use crate::prompt::message::{Conversation, ConversationError, Message, Role};

fn render(format: &str, system: &str, turns: &[&str]) -> String {
    named(format).unwrap().render(&conversation(system, turns, true)).unwrap().text()
}

/// Format, system message, turns, and what its authors document.
const GOLDEN: &[(&str, &str, &[&str], &str)] = &[
    // openai-python v0.28.1, chatml.md.
    (
        "chatml",
        "You are helpful.",
        &["How are you", "I am doing well!", "How are you now?"],
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHow are you<|im_end|>\n\
         <|im_start|>assistant\nI am doing well!<|im_end|>\n<|im_start|>user\nHow are you now?\
         <|im_end|>\n<|im_start|>assistant\n",
    ),
    ("chatml", "", &["Hi"], "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
    // huggingface.co/blog/llama2, "How to Prompt Llama 2", after llama/generation.py.
    (
        "llama2",
        "Be kind.",
        &["Hi", "Hello", " Bye "],
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
    ),
    ("llama2", "", &["Hi"], "<s>[INST] Hi [/INST]"),
    // llama.com/docs/model-cards-and-prompt-formats/meta-llama-3.
    (
        "llama3",
        "You are helpful.",
        &["What can you help me with?"],
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are helpful.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nWhat can you help me with?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    (
        "llama3",
        "",
        &["Hi", "Hello", "Bye"],
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    // Only what is joined is stripped: a request keeps the white space before it behind a system's message.
    (
        "llama2",
        " Be kind. ",
        &[" Hi ", " Hello ", "Bye"],
        "<s>[INST] <<SYS>>\n Be kind. \n<</SYS>>\n\n Hi [/INST] Hello </s><s>[INST] Bye [/INST]",
    ),
    // huggingface.co/meta-llama/Llama-3.1-8B-Instruct, rendered with and without a system's message.
    (
        "llama3.1",
        "",
        &["Hi"],
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    (
        "llama-3.1",
        "Be brief.",
        &["Hi"],
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    // mistral-common, "Instruct tokenizer V3": the system's message goes with the last request; answers
    // are trimmed, requests are not.
    (
        "mistral",
        "Be brief.",
        &["Hi ", " Hello ", "Bye"],
        "<s>[INST] Hi [/INST] Hello</s>[INST] Be brief.\n\nBye[/INST]",
    ),
    // The same with Tekken, which takes no white space.
    (
        "mistral-tekken",
        "Be brief.",
        &["Hi", "Hello ", "Bye"],
        "<s>[INST]Hi[/INST]Hello </s>[INST]Be brief.\n\nBye[/INST]",
    ),
    // Mixtral-8x7B-Instruct-v0.1's template; the system's message goes with the first request, as in
    // mistral-common, "Instruct tokenizer V1".
    (
        "mistral-v1",
        "Be brief.",
        &["Hi", "Hello", "Bye"],
        "<s>[INST] Be brief.\n\nHi [/INST]Hello</s>[INST] Bye [/INST]",
    ),
    // ai.google.dev/gemma/docs/core/prompt-structure.
    (
        "gemma",
        "",
        &["knock knock", "who is there", "Gemma"],
        "<bos><start_of_turn>user\nknock knock<end_of_turn>\n<start_of_turn>model\nwho is there\
         <end_of_turn>\n<start_of_turn>user\nGemma<end_of_turn>\n<start_of_turn>model\n",
    ),
    // The same page, as gemma-3-1b-it renders it: the system's message keeps its white space.
    (
        "gemma3",
        "Only reply like a pirate. ",
        &[" What is the answer? "],
        "<bos><start_of_turn>user\nOnly reply like a pirate. \n\nWhat is the answer?<end_of_turn>\n\
         <start_of_turn>model\n",
    ),
    // The card of TinyLlama-1.1B-Chat-v1.0.
    (
        "tinyllama",
        "You are a friendly chatbot who always responds in the style of a pirate.",
        &["How many helicopters can a human eat in one sitting?"],
        "<|system|>\nYou are a friendly chatbot who always responds in the style of a pirate.</s>\n\
         <|user|>\nHow many helicopters can a human eat in one sitting?</s>\n<|assistant|>\n",
    ),
    ("zephyr", "", &["Hi"], "<|user|>\nHi</s>\n<|assistant|>\n"),
    // FastChat, fastchat/conversation.py: the system's turn is there although it is empty.
    ("tinyllama-fastchat", "", &["Hi"], "<|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\n"),
    // The card of Phi-3-mini-4k-instruct.
    (
        "phi3",
        "You are a helpful assistant.",
        &["How to explain Internet?", "It is a network.", "Shorter?"],
        "<|system|>\nYou are a helpful assistant.<|end|>\n<|user|>\nHow to explain Internet?<|end|>\n\
         <|assistant|>\nIt is a network.<|end|>\n<|user|>\nShorter?<|end|>\n<|assistant|>\n",
    ),
    // FastChat, docs/vicuna_weights_version.md, "Prompt template" of v1.1.
    (
        "vicuna",
        "",
        &["Hello!", "Hello!", "How are you?"],
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
         helpful, detailed, and polite answers to the user's questions. USER: Hello! ASSISTANT: \
         Hello!</s>USER: How are you? ASSISTANT:",
    ),
    ("fastchat", "Be brief.", &["Hello!"], "Be brief. USER: Hello! ASSISTANT:"),
    // stanford_alpaca, README.md, "prompt for examples with an empty input field".
    (
        "alpaca",
        "",
        &["Name three colours."],
        "Below is an instruction that describes a task. Write a response that appropriately \
         completes the request.\n\n### Instruction:\nName three colours.\n\n### Response:",
    ),
    // FastChat, fastchat/conversation.py, ADD_COLON_TWO: each on the line of its heading.
    (
        "alpaca-fastchat",
        "",
        &["Name a colour.", "Red.", "Another."],
        "Below is an instruction that describes a task. Write a response that appropriately \
         completes the request.\n\n### Instruction: Name a colour.\n\n### Response: Red.</s>\
         ### Instruction: Another.\n\n### Response:",
    ),
];

#[test]
fn prompts_are_those_that_the_authors_document() {
    for (format, system, turns, expected) in GOLDEN {
        assert_eq!(render(format, system, turns), *expected, "{format}");
    }
    for format in all() {
        let shown = |golden: &&(&str, &str, &[&str], &str)| named(golden.0) == Some(format);
        assert!(GOLDEN.iter().any(|golden| shown(&golden)), "{} has no golden text", format.name);
    }
}

fn with_input(system: &str) -> Conversation {
    let mut asked = conversation(system, &["Translate to German."], true);
    asked.messages.last_mut().unwrap().input = Some("Good day".to_owned());
    asked
}

#[test]
fn an_input_has_its_place_in_alpaca_and_is_appended_elsewhere() {
    // stanford_alpaca, README.md, "prompt for examples with a non-empty input field".
    assert_eq!(
        named("alpaca").unwrap().render(&with_input("")).unwrap().text(),
        "Below is an instruction that describes a task, paired with an input that provides further \
         context. Write a response that appropriately completes the request.\n\n### Instruction:\n\
         Translate to German.\n\n### Input:\nGood day\n\n### Response:"
    );
    assert_eq!(
        named("llama2").unwrap().render(&with_input("Hm.")).unwrap().text(),
        "<s>[INST] <<SYS>>\nHm.\n<</SYS>>\n\nTranslate to German.\n\nGood day [/INST]"
    );
}

#[test]
fn a_conversation_that_is_over_has_no_generation_prompt() {
    let over = conversation("", &["Hi", "Hello"], false);
    let text = |format: &str| named(format).unwrap().render(&over).unwrap().text();
    assert!(text("chatml").ends_with("assistant\nHello<|im_end|>\n"));
    assert!(text("llama2").ends_with("[/INST] Hello </s>"));
    assert!(text("alpaca").ends_with("### Response:Hello</s>\n\n"));
}

#[test]
fn messages_out_of_turn_are_refused_by_every_format() {
    let wrong = Conversation {
        messages: vec![Message::new(Role::System, "a"), Message::new(Role::Assistant, "b")],
        generation_prompt: false,
    };
    let nobody = conversation("only the system", &[], true);
    let answered = conversation("", &["a", "b"], true);
    for format in all() {
        let error = format.render(&wrong).unwrap_err();
        assert_eq!(error, ConversationError::OutOfTurn { number: 2, role: Role::Assistant });
        assert_eq!(format.render(&nobody), Err(ConversationError::Empty));
        assert_eq!(format.render(&answered), Err(ConversationError::NothingToAnswer));
    }
}

#[test]
fn names_are_found_in_any_case_and_every_stop_can_be_met() {
    assert_eq!(named("ChatML").unwrap().name, "chatml");
    assert_eq!(named("nonsense"), None);
    for format in all() {
        assert_eq!(named(format.name), Some(format));
        for stop in format.stops {
            let known = format.special.contains(stop) || format.markers.contains(stop);
            assert!(known, "{}: {stop}", format.name);
        }
    }
}

#[test]
fn an_answer_stands_where_its_format_puts_it() {
    let gap = |name: &str| named(name).unwrap().gap();
    for name in [
        "chatml",
        "llama3",
        "llama3.1",
        "mistral-v1",
        "mistral-tekken",
        "gemma",
        "gemma3",
        "zephyr",
        "phi3",
        "alpaca",
    ] {
        assert_eq!(gap(name), "", "{name}");
    }
    for name in ["llama2", "mistral-v3", "vicuna", "alpaca-fastchat"] {
        assert_eq!(gap(name), " ", "{name}");
    }
}

#[test]
fn a_format_refuses_the_system_as_its_authors_do() {
    let asked = conversation("Be brief.", &["Hi"], true);
    let error = named("gemma").unwrap().render(&asked).unwrap_err();
    assert_eq!(error, ConversationError::SystemRefused { format: "gemma" });
    let refuse = all().iter().filter(|format| format.render(&asked).is_err());
    assert_eq!(refuse.map(|format| format.name).collect::<Vec<_>>(), ["gemma"]);
}
