//! Tasks in an experiment: what they mean, and what is said when they are wrong.

use super::PLAIN;
use crate::experiment::tasks::{Answering, Asked, TaskPlan};
use crate::experiment::{Overrides, parse};
use crate::metrics::TaskMetric;
use tempfile::TempDir;

/// A folder with data sets in the forms in which others publish them; the texts are ours.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "arc.jsonl",
        "{\"query\":\"Question: What is wet?\",\"choices\":[\"fire\",\"water\"],\"gold\":1}\n\
         {\"query\":\"Question: What is hot?\",\"choices\":[\"fire\",\"ice\",\"snow\"],\"gold\":0}\n",
    );
    write(
        "hub.jsonl",
        "{\"question\":\"q\",\"choices\":{\"text\":[\"x\",\"y\"],\"label\":[\"A\",\"B\"]},\"answerKey\":\"B\"}\n",
    );
    write(
        "winogrande.jsonl",
        "{\"context_options\":[\"The cup fell, so the cup\",\"The cup fell, so the cat\"],\
          \"continuation\":\"broke.\",\"gold\":0}\n",
    );
    // Golds as text: by number, by text, by either, by number here and by text there.
    let golds = |rows: &[(&str, &str)]| -> String {
        let row = |(choices, gold): &(&str, &str)| {
            format!("{{\"choices\":[{choices}],\"gold\":{gold}}}\n")
        };
        rows.iter().map(row).collect()
    };
    let digits = "\"1\",\"2\",\"0\"";
    let words = "\"red\",\"blue\",\"green\"";
    write("by-number.jsonl", &golds(&[(digits, "\"0\""), (words, "\"2\""), (digits, "\"1\"")]));
    write(
        "by-text.jsonl",
        &golds(&[(digits, "\"0\""), ("\"7\",\"8\"", "\"8\""), (digits, "\"1\"")]),
    );
    write("by-either.jsonl", &golds(&[(digits, "\"0\""), (digits, "\"1\"")]));
    write("by-both.jsonl", &golds(&[(words, "\"1\""), (words, "\"green\"")]));
    write("numbers.jsonl", &golds(&[(digits, "0"), (words, "2")]));
    write("all-numbers.jsonl", &golds(&[("1,2,0", "0"), ("1,2,0", "1")]));
    write("blimp.jsonl", "{\"good\":\"Cats sleep.\",\"bad\":\"Cats sleeps.\"}\n");
    write("lambada.jsonl", "{\"context\":\"He went\",\"continuation\":\"home\"}\n");
    write(
        "squad.jsonl",
        "{\"context\":\"A mill.\",\"qas\":[{\"question\":\"What?\",\"answers\":[\"a mill\",\"mill\"]},\
          {\"question\":\"Who?\",\"answers\":[\"nobody\"]}]}\n",
    );
    write("pairs.tsv", "Good day.\tGuten Tag.\nGo!\tGeh!\n");
    write("moods.csv", "text,mood\nshe sang,happy\nhe wept,sad\n");
    folder
}

fn parsed(task: &str) -> Result<Vec<TaskPlan>, String> {
    let folder = folder();
    let text = format!("{PLAIN}[[workloads.tasks]]\n{task}\n");
    let path = folder.path().join("x.toml");
    let place = format!("{}/", folder.path().display());
    parse(text.as_bytes(), &path, &Overrides::default())
        .map(|experiment| experiment.workloads.tasks)
        .map_err(|error| error.to_string().replace(&place, ""))
}

fn one(task: &str) -> TaskPlan {
    let mut plans = parsed(task).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plans.len(), 1);
    plans.swap_remove(0)
}

/// Request and continuation of every alternative of a question, and which is right.
fn alternatives(plan: &TaskPlan, question: usize) -> (Vec<(String, String)>, usize) {
    match &plan.questions[question].asked {
        Asked::Choose { alternatives, right } => {
            let both = alternatives.iter().map(|it| (it.request.clone(), it.continuation.clone()));
            (both.collect(), *right)
        }
        asked @ (Asked::Write { .. } | Asked::See { .. } | Asked::Find { .. }) => {
            panic!("{asked:?}")
        }
    }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(one, other)| (one.to_owned(), other.to_owned())).collect()
}

#[test]
fn multiple_choice_takes_its_choices_from_a_field() {
    let plan = one("name = \"arc\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\n\
                    fields = { choices = \"choices\", gold = \"gold\" }\n\
                    template = \"{{ query }}\\nAnswer:\"");
    let request = "Question: What is wet?\nAnswer:";
    assert_eq!(alternatives(&plan, 0), (texts(&[(request, "fire"), (request, "water")]), 1));
    assert_eq!(alternatives(&plan, 1).0.len(), 3);
    assert_eq!(plan.answering, Answering::Choose);
    assert_eq!(plan.metrics, [TaskMetric::Accuracy, TaskMetric::AccuracyNormalized]);
    assert_eq!(plan.questions[1].id, "line 2");
}

#[test]
fn the_right_choice_may_be_named_by_a_label() {
    let hub = one("name = \"arc\"\nkind = \"question-answering\"\ndataset = \"hub.jsonl\"\n\
                   fields = { choices = \"choices.text\", labels = \"choices.label\", gold = \"answerKey\" }\n\
                   template = \"{{ question }}\"");
    assert_eq!(alternatives(&hub, 0).1, 1);
    let moods = one("name = \"moods\"\nkind = \"classification\"\ndataset = \"moods.csv\"\n\
                     fields = { gold = \"mood\" }\nlabels = [\"sad\", \"happy\"]\n\
                     choices = [\"He was sad.\", \"He was happy.\"]\ntemplate = \"{{ text }}.\"");
    assert_eq!((alternatives(&moods, 0).1, alternatives(&moods, 1).1), (1, 0));
    assert_eq!(moods.metrics, [TaskMetric::Accuracy, TaskMetric::MacroF1]);
}

#[test]
fn the_choice_may_be_within_the_request_or_be_all_there_is() {
    let plan =
        one("name = \"winogrande\"\nkind = \"text-generation\"\ndataset = \"winogrande.jsonl\"\n\
                    fields = { choices = \"context_options\", gold = \"gold\" }\n\
                    template = \"{{ choice }}\"\ncontinuation = \"{{ continuation }}\"");
    let expected =
        texts(&[("The cup fell, so the cup", "broke."), ("The cup fell, so the cat", "broke.")]);
    assert_eq!(alternatives(&plan, 0), (expected, 0));
    let plan = one("name = \"blimp\"\nkind = \"text-generation\"\ndataset = \"blimp.jsonl\"\n\
                    choices = [\"{{ good }}\", \"{{ bad }}\"]\ncorrect = 0\ntemplate = \"\"\n\
                    metrics = [\"acc\"]");
    assert_eq!(alternatives(&plan, 0), (texts(&[("", "Cats sleep."), ("", "Cats sleeps.")]), 0));
    let plan = one("name = \"lambada\"\nkind = \"text-generation\"\ndataset = \"lambada.jsonl\"\n\
                    fields = { gold = \"continuation\" }\ntemplate = \"{{ context }}\"");
    assert_eq!(plan.answering, Answering::Predict);
    assert_eq!(alternatives(&plan, 0), (texts(&[("He went", "home")]), 0));
}

#[test]
fn a_paragraph_with_several_questions_is_taken_apart() {
    let plan = one("name = \"squad\"\nkind = \"question-answering\"\ndataset = \"squad.jsonl\"\n\
                    fields = { each = \"qas\", gold = \"answers\" }\n\
                    template = \"{{ context }} {{ question }}\"\nmax_tokens = 9\nstop = \"\\n\"");
    let Asked::Write { request, references } = &plan.questions[0].asked else { panic!() };
    assert_eq!(request, "A mill. What?");
    assert_eq!(references, &["a mill", "mill"]);
    assert_eq!(plan.question_count, 2);
    assert_eq!(plan.answering, Answering::Generate { max_tokens: 9, stop: vec!["\n".to_owned()] });
    assert_eq!(plan.metrics, [TaskMetric::ExactMatch, TaskMetric::F1]);
}

#[test]
fn a_table_without_a_header_gets_names_and_a_task_several_formats() {
    let plans = parsed(
        "name = \"en-de\"\nkind = \"translation\"\ndataset = \"pairs.tsv\"\n\
         columns = [\"en\", \"de\"]\nfields = { id = \"en\", gold = \"de\" }\n\
         template = \"translate: {{ en }}\"\nformats = [\"chatml\", \"none\"]\nlimit = 1",
    )
    .unwrap();
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["en-de@chatml", "en-de@none"]);
    assert_eq!(plans[0].metrics, [TaskMetric::Bleu, TaskMetric::Chrf]);
    assert_eq!((plans[0].questions.len(), plans[0].questions[0].id.as_str()), (1, "Good day."));
    assert_eq!(plans[0].checksum, plans[1].checksum);
}

/// A task with this in place of what `arc.jsonl` needs, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("", "this task has no 'name'"),
    (
        "name = \"a b\"\nkind = \"translation\"\ndataset = \"x\"\ntemplate = \"\"",
        "'workloads.tasks.name' is 'a b'",
    ),
    (
        "name = \"a\"\nkind = \"translate\"\ndataset = \"arc.jsonl\"\ntemplate = \"\"",
        "is 'translate', which is no kind of task",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"none.jsonl\"\nfields = { gold = \"g\" }\ntemplate = \"x\"",
        "x.toml:9:11: 'workloads.tasks.dataset' cannot be read from none.jsonl",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\ntemplate = \"x\"",
        "this task does not say what is right",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\nfields = { gold = \"answer\" }\ntemplate = \"x\"",
        "has a wrong example at arc.jsonl:1: there is no field 'answer'; there are choices, gold, query",
    ),
    (
        "name = \"a\"\nkind = \"classification\"\ndataset = \"arc.jsonl\"\nfields = { choices = \"choices\", gold = \"query\" }\ntemplate = \"x\"",
        "has a wrong example at arc.jsonl:1: 'query' is 'Question: What is wet?', which is no choice of this example",
    ),
    (
        "name = \"a\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\ntemplate = \"{{ querry }}\"",
        "has a wrong example at arc.jsonl:1: 'template' cannot be filled in",
    ),
    (
        "name = \"a\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\ntemplate = \"{{ query \"",
        "x.toml:11:12: 'workloads.tasks.template' is no template",
    ),
    (
        "name = \"a\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\ntemplate = \"x\"\nmetrics = [\"bleu\"]",
        "has bleu, which says nothing of answers that a model gives by 'choose'",
    ),
    (
        "name = \"a\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\nfields = { choices = \"choices\", gold = \"gold\" }\ntemplate = \"x\"\nmetrics = [\"macro_f1\"]",
        "the choices differ from question to question",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\nfields = { gold = \"query\" }\ntemplate = \"x\"\nformat = \"chatlm\"",
        "'chatlm' is no prompt format; there are auto, none, chatml",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\nfields = { gld = \"query\" }\ntemplate = \"x\"",
        "unknown key 'gld' in [workloads.tasks.fields]",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"hf://owner/name/x.jsonl\"\nfields = { gold = \"q\" }\ntemplate = \"x\"",
        "write 'hf://datasets/owner/name/file.jsonl'",
    ),
    (
        "name = \"a\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\nfields = { gold = \"query\" }\ntemplate = \"{{ '' }}\"",
        "has a wrong example at arc.jsonl:1: the template yields no text",
    ),
];

#[test]
fn what_is_wrong_with_a_task_is_said_where_it_stands() {
    for (task, expected) in WRONG {
        let error = parsed(task).expect_err(task);
        assert!(error.contains(expected), "no '{expected}' in:\n{error}");
        assert!(error.starts_with("x.toml:"), "{error}");
    }
}

/// Which choices of a data set are right.
fn right(dataset: &str, more: &str) -> Result<Vec<usize>, String> {
    let plans = parsed(&format!(
        "name = \"a\"\nkind = \"question-answering\"\ndataset = \"{dataset}.jsonl\"\n\
         fields = {{ choices = \"choices\", gold = \"gold\"{more} }}\ntemplate = \"x\""
    ))?;
    Ok((0..plans[0].questions.len()).map(|question| alternatives(&plans[0], question).1).collect())
}

#[test]
fn golds_are_numbers_or_texts_for_a_whole_data_set() {
    assert_eq!(right("by-number", "").unwrap(), [0, 2, 1]);
    assert_eq!(right("by-text", "").unwrap(), [2, 1, 0]);
    assert_eq!(right("numbers", "").unwrap(), [0, 2]);
    for dataset in ["by-either", "all-numbers"] {
        let error = right(dataset, "").unwrap_err();
        assert!(error.contains("the text of a choice or the number of another"), "{error}");
    }
    let error = right("by-both", "").unwrap_err();
    assert!(error.contains("by-both.jsonl:1: 'gold' is '1', which is no choice"), "{error}");
    assert!(error.contains("texts of choices"), "{error}");
    // What the error advises.
    assert_eq!(right("by-either", ", labels = \"choices\"").unwrap(), [2, 0]);
    let numbers = " }\nlabels = [\"0\", \"1\", \"2\"] # ";
    assert_eq!(right("by-either", numbers).unwrap(), [0, 1]);
}

#[test]
fn variables_of_chat_templates_are_those_of_json() {
    let task = "name = \"t\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\n\
                fields = { gold = \"query\" }\ntemplate = \"x\"\n";
    let with = |more: &str| parsed(&format!("{task}{more}"));
    let plan =
        with("chat_template_kwargs = { enable_thinking = false, a = { b = [1, 2.5, \"x\"] } }");
    let variables = serde_json::to_string(&plan.unwrap()[0].chat_template_kwargs).unwrap();
    assert_eq!(variables, "{\"a\":{\"b\":[1,2.5,\"x\"]},\"enable_thinking\":false}");
    let wrong = [
        ("format = \"chatml\"\nchat_template_kwargs = { a = 1 }", "for the model's own template"),
        (
            "chat_template_kwargs = { messages = [] }",
            "has 'messages', which every template is given",
        ),
        (
            "chat_template_kwargs = { a = 2026-01-01 }",
            "chat_template_kwargs.a' must be a string, not a date",
        ),
        ("chat_template_kwargs = 1", "must be a table"),
    ];
    for (more, expected) in wrong {
        let error = with(more).unwrap_err();
        assert!(error.contains(expected), "no '{expected}' in:\n{error}");
    }
}

#[test]
fn what_a_task_scores_can_be_required() {
    let task = "name = \"arc\"\nkind = \"question-answering\"\ndataset = \"arc.jsonl\"\n\
                fields = { choices = \"choices\", gold = \"gold\" }\ntemplate = \"x\"\n";
    let asked = |key: &str| parsed(&format!("{task}[requirements]\n{key} = 0.7"));
    assert_eq!(asked("min_task_arc_acc").unwrap().len(), 1);
    let error = asked("min_task_arc_ac").unwrap_err();
    assert!(error.contains("did you mean 'min_task_arc_acc'?"), "{error}");
}

#[test]
fn a_wrong_value_is_not_called_missing_too() {
    let error =
        parsed("name = \"a\"\nkind = 3\ndataset = \"arc.jsonl\"\ntemplate = \"x\"").unwrap_err();
    assert_eq!(error.matches("x.toml:").count(), 1, "{error}");
}

#[test]
fn two_tasks_of_one_name_are_refused() {
    let task = |name: &str| {
        format!(
            "name = \"{name}\"\nkind = \"translation\"\ndataset = \"arc.jsonl\"\n\
             fields = {{ gold = \"query\" }}\ntemplate = \"x\"\n"
        )
    };
    let both = format!("{}[[workloads.tasks]]\n{}", task("a-b"), task("a_b"));
    assert!(parsed(&both).unwrap_err().contains("two tasks are called 'a_b'"));
}

#[cfg(feature = "demo")]
#[test]
fn the_demos_data_sets_are_built_in() {
    let plan = one("name = \"q\"\nkind = \"question-answering\"\ndataset = \"demo:questions\"\n\
                    fields = { choices = \"choices\", gold = \"answer\" }\n\
                    template = \"{{ context }}\\nQuestion: {{ question }}\"");
    assert_eq!(plan.question_count, 160);
    let error = parsed(
        "name = \"q\"\nkind = \"translation\"\ndataset = \"demo:question\"\n\
                        fields = { gold = \"answer\" }\ntemplate = \"x\"",
    );
    assert!(error.unwrap_err().contains("the demo's data sets are classification, passages"));
}
