//! Agreement with the templates that the authors publish with their models. These are written for
//! the test: what a published template does, in as few words as show it.

use super::conversation;
use crate::model::gguf::SpecialTokens;
use crate::prompt::catalog::named;
use crate::prompt::detect::detect;
use crate::prompt::format::System;
use crate::prompt::template::ChatTemplate;
use time::OffsetDateTime;

const TURNS: &str = "{% for m in messages %}";

/// Format, a template that does what its authors' does, and whether it takes a system's message.
pub(super) const TEMPLATES: &[(&str, &str, bool)] = &[
    // Qwen1.5-0.5B, tokenizer_config.json.
    (
        "chatml",
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        true,
    ),
    // Llama-2-7b-chat-hf.
    (
        "llama2",
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}\
         {% set system = messages[0]['content'] %}{% else %}{% set rest = messages %}\
         {% set system = false %}{% endif %}{% for m in rest %}\
         {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
         {{ raise_exception('Roles must alternate') }}{% endif %}\
         {% if loop.index0 == 0 and system != false %}\
         {% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}\
         {% else %}{% set content = m['content'] %}{% endif %}\
         {% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
         {% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        true,
    ),
    // Meta-Llama-3-8B-Instruct.
    (
        "llama3",
        "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + \
         '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' %}\
         {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}\
         {% endfor %}{% if add_generation_prompt %}\
         {{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        true,
    ),
    // Llama-3.1-8B-Instruct without tools.
    (
        "llama3.1",
        "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n\
         {%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n    \
         {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n\
         {{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n\
         {{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n\
         {%- for message in messages %}\n        {{- '<|start_header_id|>' + message['role'] + \
         '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n\
         {%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
        true,
    ),
    // Mistral-7B-Instruct-v0.3.
    (
        "mistral-v3",
        "{%- if messages[0].role == 'system' %}\n  {%- set system = messages[0].content %}\n  \
         {%- set rest = messages[1:] %}\n{%- else %}\n  {%- set rest = messages %}\n{%- endif %}\n\
         {{- bos_token }}\n{%- for m in rest %}\n  {%- if m.role == 'user' %}\n    \
         {%- if (loop.last or (loop.index0 == rest | length - 2 and not add_generation_prompt)) and system is defined %}\n      \
         {{- '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}\n    {%- else %}\n      \
         {{- '[INST] ' + m.content + '[/INST]' }}\n    {%- endif %}\n  {%- else %}\n    \
         {{- ' ' + m.content | trim + eos_token }}\n  {%- endif %}\n{%- endfor %}",
        true,
    ),
    // Mistral-Nemo-Instruct-2407 without tools.
    (
        "mistral-tekken",
        "{%- if messages[0].role == 'system' %}\n  {%- set system = messages[0].content %}\n  \
         {%- set rest = messages[1:] %}\n{%- else %}\n  {%- set rest = messages %}\n{%- endif %}\n\
         {{- bos_token }}\n{%- for m in rest %}\n  {%- if m.role == 'user' %}\n    \
         {%- if (loop.last or (loop.index0 == rest | length - 2 and not add_generation_prompt)) and system is defined %}\n      \
         {{- '[INST]' + system + '\n\n' + m.content + '[/INST]' }}\n    {%- else %}\n      \
         {{- '[INST]' + m.content + '[/INST]' }}\n    {%- endif %}\n  {%- else %}\n    \
         {{- m.content + eos_token }}\n  {%- endif %}\n{%- endfor %}",
        true,
    ),
    // Mixtral-8x7B-Instruct-v0.1 and early Mistral-7B-Instruct-v0.2; v0.1 has a space behind `</s>` besides.
    (
        "mistral-v1",
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
         {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
         {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
         {% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}\
         {% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        false,
    ),
    // gemma-7b-it and gemma-2-9b-it.
    (
        "gemma",
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
         {{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}\
         {% if (m['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
         {% set role = m['role'] %}{% endif %}\
         {{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        false,
    ),
    // gemma-3-1b-it, for texts.
    (
        "gemma3",
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    \
         {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    \
         {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    \
         {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    \
         {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        \
         {%- set role = message['role'] -%}\n    {%- endif -%}\n    \
         {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n    \
         {{- message['content'] | trim -}}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n\
         {%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n",
        true,
    ),
    // TinyLlama-1.1B-Chat-v1.0 and zephyr-7b-beta: line ends stand outside the blocks.
    (
        "zephyr",
        "{% for m in messages %}\n{% if m['role'] == 'user' %}\n\
         {{ '<|user|>\\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'system' %}\n\
         {{ '<|system|>\\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'assistant' %}\n\
         {{ '<|assistant|>\\n'  + m['content'] + eos_token }}\n{% endif %}\n\
         {% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        true,
    ),
    // Phi-3-mini-4k-instruct.
    (
        "phi3",
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
        true,
    ),
    // vicuna-7b-v1.5 after FastChat.
    (
        "vicuna",
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}\
         {{ \"A chat between a curious user and an artificial intelligence assistant. The assistant \
         gives helpful, detailed, and polite answers to the user's questions.\" }}{% endif %}{{ ' ' }}\
         {% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}\
         {% elif m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + '</s>' }}{% endif %}\
         {% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        true,
    ),
];

/// A template with the special tokens that its models have.
pub(super) fn template(format: &str, source: &str) -> ChatTemplate {
    let special = named(format).unwrap().special;
    let begins = ["<|begin_of_text|>", "<bos>", "<s>"];
    let ends = ["<|eot_id|>", "<eos>", "</s>", "<|im_end|>", "<|endoftext|>"];
    let first = |texts: &[&str]| {
        texts.iter().find(|text| special.contains(text)).map(|text| (*text).to_owned())
    };
    let tokens = SpecialTokens {
        all: special.iter().map(|text| (*text).to_owned()).collect(),
        beginning: first(&begins),
        end: first(&ends),
    };
    ChatTemplate::new(source, tokens, OffsetDateTime::UNIX_EPOCH).unwrap()
}

#[test]
fn formats_render_what_the_authors_templates_render() {
    for (name, source, takes_system) in TEMPLATES {
        let template = template(name, source);
        assert_eq!(template.takes_system(), *takes_system, "{name}");
        let systems: &[&str] =
            if *takes_system { &["", "Be brief.", " Be brief. "] } else { &[""] };
        for system in systems {
            for turns in [&["Hi"][..], &["Hi", "Hello", "Bye"], &[" Hi ", " Hello ", " Bye "]] {
                let asked = conversation(system, turns, true);
                assert_eq!(
                    named(name).unwrap().render(&asked).unwrap(),
                    template.render(&asked).unwrap(),
                    "{name} with '{system}'"
                );
            }
        }
    }
}

#[test]
fn a_template_is_detected_as_its_format() {
    for (name, source, takes_system) in TEMPLATES {
        let detection = detect(&template(name, source));
        assert_eq!(detection.format.map(|format| format.name), Some(*name));
        let refuses = named(name).unwrap().system == System::Refused;
        let refused: Vec<&str> =
            detection.differences.iter().map(|difference| difference.conversation).collect();
        // A format that refuses what the template refuses has nothing to compare.
        if *takes_system || refuses {
            assert!(refused.is_empty(), "{name}: {refused:?}");
        } else {
            let with_system =
                ["a request with a system message", "several turns with a system message"];
            assert_eq!(refused, with_system, "{name}");
        }
    }
}

#[test]
fn a_template_that_differs_in_part_is_shown_with_what_differs() {
    // Llama 3.1's template adds dates to the system's message.
    let source = format!(
        "{TURNS}{{% if loop.first %}}{{{{ bos_token }}}}{{% endif %}}\
         {{{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}}}\
         {{% if m.role == 'system' %}}Today Date: {{{{ strftime_now('%d %b %Y') }}}}\n\n{{% endif %}}\
         {{{{ m.content | trim + '<|eot_id|>' }}}}{{% endfor %}}{{% if add_generation_prompt %}}\
         {{{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}}}{{% endif %}}"
    );
    let detection = detect(&template("llama3", &source));
    assert_eq!(detection.format.unwrap().name, "llama3");
    assert_eq!(detection.differences.len(), 2);
    assert!(detection.differences[0].template.contains("Today Date: 01 Jan 1970"));
    assert!(!detection.differences[0].format.contains("Today"));
}

#[test]
fn a_template_like_no_other_is_none_of_the_formats() {
    let detection = detect(&template("chatml", "{{ messages[0].content }}!"));
    assert_eq!((detection.format, detection.differences.len()), (None, 0));
}
