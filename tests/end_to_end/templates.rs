//! Templates are strangers' programs: whatever one does costs only what needs it, and says why.

use crate::tiny_model;
use crate::world::{Ended, World};
use serde_json::Value;

/// Templates that end, hang or fill a program that renders them itself, and what is said of each.
fn hostile() -> Vec<(String, &'static str)> {
    let times = |text: &str, count: usize| text.repeat(count);
    let loops = |body: &str| {
        format!("{{% set ns = namespace(s=[1]) %}}{{% for i in range(60) %}}{body}{{% endfor %}}")
    };
    vec![
        ("{% set ns=namespace() %}{% set ns.a=ns %}{{ ns }}".to_owned(), "nests too deep"),
        ("{% set ns=namespace() %}{% set ns.a=ns %}{{ ns|tojson }}".to_owned(), ""),
        (
            "{% set ns=namespace(l=[]) %}{% for i in range(60000) %}{% set ns.l=[ns.l] %}{% endfor %}{{ ns.l }}"
                .to_owned(),
            "nests too deep",
        ),
        (format!("{{{{ {}1 }}}}", times("-", 60_000)), ""),
        (format!("{{{{ 1{} }}}}", times("+1", 60_000)), ""),
        (format!("{{% if 0 %}}{}{{% endif %}}", times("{% elif 0 %}", 9000)), ""),
        (format!("{{{{ {}1{} }}}}", times("(", 60_000), times(")", 60_000)), ""),
        ("{% macro a(x) %}{{ a(x) }}{% endmacro %}{{ a(1) }}".to_owned(), ""),
        (loops("{% set ns.s = ns.s + ns.s %}") + "{{ ns.s|length }}", ""),
        (loops("{% set ns.s = ns.s ~ ns.s %}") + "{{ ns.s|length }}", ""),
        (loops("{% set ns.s = ns.s|string|replace('1', '1111111111') %}") + "{{ ns.s|length }}", ""),
        (loops("{% set ns.s = [ns.s, ns.s]|tojson %}") + "{{ ns.s|length }}", ""),
        ("{{ '{:9000000000}'.format(1)|length }}".to_owned(), ""),
        ("{{ 'x' * 9000000000 }}".to_owned(), ""),
        ("{{ ([1] * 9000000000)|length }}".to_owned(), ""),
        ("{{ ('x'|indent(900000000))|length }}".to_owned(), ""),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}".to_owned(), "steps"),
        ("{% for i in range(9000) %}{{ 'x' * 1000 }}{% endfor %}".to_owned(), "yields more"),
        ("{% for i in range(90000) %}</s>{% endfor %}".to_owned(), ""),
        ("{% include 'chat_template' %}".to_owned(), ""),
        ("{{ raise_exception('x' * 9000000) }}".to_owned(), "refuses"),
    ]
}

/// Neither a signal nor an exit code that is not documented.
fn is_answered(ended: &Ended, what: &str) {
    let what: String = what.chars().take(80).collect();
    assert!(matches!(ended.code, Some(0 | 2)), "{what}: {:?} {}", ended.code, ended.stderr);
    assert!(ended.stderr.len() < 4000 && !ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_chat_template_that_ends_its_renderer_is_told_of() {
    let world = World::new();
    for (template, said) in hostile() {
        tiny_model::write_with_template(&world.path("t.gguf"), &template);
        let ended = world.run(&["prompt", "render", "t.gguf", "hello"]);
        is_answered(&ended, &template);
        assert!(said.is_empty() || ended.stderr.contains(said), "no '{said}' in {}", ended.stderr);
        is_answered(&world.run(&["prompt", "detect", "t.gguf"]), &template);
    }
}

#[test]
fn a_task_whose_template_ends_its_renderer_is_refused() {
    let world = World::new();
    world.experiment("", "");
    world.write("q.jsonl", "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"a\"}\n");
    let whole = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let (before, models) = whole.split_once("[[models]]").unwrap();
    for (template, _) in hostile().into_iter().take(13) {
        world.write(
            "models.toml",
            &format!(
                "{before}[[workloads.tasks]]\nname = \"t\"\nkind = \"question-answering\"\n\
                 dataset = \"q.jsonl\"\nfields = {{ choices = \"choices\", gold = \"answer\" }}\n\
                 template = \'\'\'{template}\'\'\'\n[[models]]{models}"
            ),
        );
        is_answered(&world.run(&["run", "--dry-run"]), &template);
    }
}

fn shown(world: &World) -> Value {
    serde_json::from_str(&world.run(&["show", "last", "--format", "json"]).stdout).unwrap()
}

const TASK: &str = "[[workloads.tasks]]\nname = \"t\"\nkind = \"question-answering\"\n\
                    dataset = \"q.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\n\
                    template = \"{{ q }}\"\n";

/// An experiment on the tiny model with this chat template and `tasks`.
fn world_with(template: &str, tasks: &str) -> World {
    let world = World::new();
    world.experiment("\"Q8_0\"", "");
    tiny_model::write_with_template(&world.path("tiny-F16.gguf"), template);
    world.write(
        "q.jsonl",
        "{\"q\":\"is it\",\"choices\":[\"yes\",\"no\"],\"gold\":0}\n\
         {\"q\":\"was it\",\"choices\":[\"yes\",\"no\"],\"gold\":1}\n",
    );
    let whole = std::fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &whole.replace("[[models]]", &format!("{tasks}[[models]]")));
    world
}

#[test]
fn a_bad_chat_template_costs_only_what_needs_it() {
    let plain = TASK.replace("\"t\"", "\"plain\"") + "format = \"none\"\n";
    for template in ["{% if", "{{ '{:9000000000}'.format(1)|length }}", "{{ nothing.at.all }}"] {
        let world = world_with(template, &format!("{TASK}{plain}"));
        let ended = world.run(&["run", "--quiet"]).expect(3);
        assert!(ended.stdout.contains("latency, because"), "{}", ended.stdout);
        assert_eq!(ended.stdout.matches("latency, because").count(), 1, "{}", ended.stdout);
        let record = shown(&world);
        for trial in record["run"]["trials"].as_array().unwrap() {
            assert!(trial["failure"].is_null(), "{trial}");
            assert!(!trial["quality"].is_null() && trial["visits"][1]["speed"][1].is_object());
            let left_out = trial["left_out"].as_array().unwrap();
            assert_eq!(left_out.len(), 2, "{left_out:?}");
            let tasks = trial["tasks"].as_array().unwrap();
            assert_eq!(tasks.len(), 1);
            assert_eq!(tasks[0]["task"], "plain");
        }
    }
}

#[test]
fn a_thought_that_is_left_open_is_told_of_and_can_be_closed() {
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}<think>\n\
                    {% if enable_thinking is defined and not enable_thinking %}</think>\n{% endif %}";
    let world = world_with(template, TASK);
    let ended = world.run(&["run", "--quiet"]).expect(0);
    assert!(ended.stdout.replace('\n', " ").contains("open <think>"), "{}", ended.stdout);
    assert_eq!(shown(&world)["run"]["trials"][0]["tasks"][0]["open_thought"], "<think>");

    let closed = format!("{TASK}chat_template_kwargs = {{ enable_thinking = false }}\n");
    let world = world_with(template, &closed);
    let ended = world.run(&["run", "--quiet"]).expect(0);
    assert!(!ended.stdout.contains("think"), "{}", ended.stdout);
    let flag = ["--chat-template-kwargs", "{\"enable_thinking\": false}"];
    let render = ["prompt", "render", "tiny-F16.gguf", "a"];
    let rendered = world.run(&[&render[..], &flag].concat());
    assert_eq!(rendered.stdout, "user: a\n<think>\n</think>\n");
}

#[test]
fn a_prompt_is_printed_as_it_is() {
    let world = World::new();
    let rendered = world.run(&["prompt", "render", "llama2", "Hi"]);
    assert_eq!(rendered.stdout, "<s>[INST] Hi [/INST]");
    tiny_model::write_with_template(&world.path("t.gguf"), "{{ messages[0].content }}!");
    let detected = world.run(&["prompt", "detect", "t.gguf"]);
    assert!(detected.stdout.contains("rendered as it is.\n"), "{}", detected.stdout);
}

#[test]
fn marks_of_what_the_assistant_says_are_measured_without() {
    let template =
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}";
    let world = world_with(template, "");
    world.run(&["run", "--quiet"]).expect(0);
    let rendered = world.run(&["prompt", "render", "tiny-F16.gguf", "a", "b", "c"]);
    assert_eq!(rendered.stdout, "a|b|c|");
}
