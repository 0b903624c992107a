//! The keys of a task.

use super::Kind::{Choice, Named, OptionalTable, Text, Variables, Whole};
use super::table::{FORMAT, spelled};
use super::{Key, Kind, Table};
use crate::experiment::tasks::UseCase;
use crate::metrics::TaskMetric;
use strum::VariantNames as _;

/// `[[workloads.tasks]]`.
#[rustfmt::skip]
pub(in crate::experiment) static TASKS: Table = Table {
    repeated: true,
    ..Table::new(
        "workloads.tasks",
        "Questions that the model answers, a column of the table for each task; docs/TASKS.md explains every \
         key, and demo/tasks.toml runs tasks on the demo models. None by default.",
        &[
            Key::new("name", Text, "column of the table; letters, digits, - and _").example("\"questions\""),
            Key::new("kind", Choice("no kind of task", UseCase::VARIANTS),
                "or text-generation, classification, translation, …").example("\"question-answering\""),
            Key::new("dataset", Text,
                "or a .jsonl, .json, .csv, .tsv, or hf://datasets/owner/name/file").example("\"demo:questions\""),
            Key::new("columns", Text, "names of the columns of a table without a header").many().not_shown(),
            Key::new("fields", Kind::Table(&FIELDS),
                "where in an example things are").example("{ choices = \"choices\", gold = \"answer\" }"),
            Key::new("template", Text,
                "the request, in Jinja").example("\"{{ context }}\\nQuestion: {{ question }}\""),
            Key::new("continuation", Text,
                "what follows the request and is scored").default("\"{{ choice }}\"").not_shown(),
            Key::new("choices", Text, "templates of the choices, the same for every example").many().not_shown(),
            Key::new("labels", Text, "what choices are called, where `fields.gold` holds a label").many().not_shown(),
            Key::new("correct", Whole(0, 1000),
                "the number of the right choice, where it is always the same one").not_shown(),
            Key::new("separator", Text,
                "what stands between request and continuation; left out: a space where one is due").not_shown(),
            Key::new("answer", Choice("no way to answer", &["generate", "choose", "predict"]),
                "how it is answered; left out: what the kind and the choices call for").not_shown(),
            Key::new("max_tokens", Whole(1, 100_000),
                "tokens of a generated answer at most").default("64").not_shown(),
            Key::new("stop", Text, "texts that end an answer, besides the format's own").many().not_shown(),
            Key::new("metrics", Named("metric", spelled::<TaskMetric>),
                "the first is shown first; left out: what the kind's field of research reports").many().not_shown(),
            Key::new("corpus", OptionalTable(&CORPUS), "passages to be found").not_shown(),
            Key::new("limit", Whole(1, 4_294_967_295),
                "so many questions at most, spread evenly over the file").not_shown(),
            Key::new("formats", FORMAT,
                "prompt formats to compare; or format = \"auto\", the default")
                .many().alias("format").example("[\"auto\", \"alpaca\"]"),
            Key::new("chat_template_kwargs", Variables,
                "variables of the model's own template").example("{ enable_thinking = false }"),
        ],
    )
};

#[rustfmt::skip]
static FIELDS: Table = Table::new(
    "workloads.tasks.fields",
    "Where in an example things are; a way through nested objects is written `answers.text` or `choices.0`.",
    &[
        Key::new("id", Text, "what a question is called in messages; left out: its line"),
        Key::new("each", Text, "the list of objects that hold one question each"),
        Key::new("choices", Text, "the list of choices"),
        Key::new("labels", Text, "what the choices are called, in the same order"),
        Key::new("gold", Text, "what is right"),
        Key::new("image", Text, "the file of the picture that is shown, of image-text"),
    ],
);

#[rustfmt::skip]
static CORPUS: Table = Table::new(
    "workloads.tasks.corpus",
    "The passages of a task that finds some (retrieval, rag).",
    &[
        Key::new("passages", Text, "the data set of them"),
        Key::new("id", Text, "the field that names a passage").default("\"id\""),
        Key::new("text", Text, "the field that holds it").default("\"text\""),
        Key::new("prefix", Text, "what stands before a chunk that is embedded").default("\"\""),
        Key::new("relevant", Text, "the field of a question that names the right passage"),
        Key::new("query", Text, "template of what is embedded to find passages"),
        Key::new("chunk", Whole(8, 1_048_576), "tokens of a chunk at most").default("256"),
        Key::new("encoder", Text, "of rag: the GGUF file of the model that embeds"),
        Key::new("top", Whole(1, 100), "chunks put into a request").default("3"),
    ],
);
