//! Searches: the best matches come first, whatever the hub's order is.

use super::{Request, Server, options, response};
use crate::model::hub::api;

/// A hub with three repositories, that finds nothing by more than one word unless it `joins` them.
fn hub(joins: bool) -> Server {
    Server::start(move |request: &Request| {
        let found = r#"[{"id": "a/Qwen3-32B-GGUF", "downloads": 9},
            {"id": "b/Qwen3-8B-GGUF", "downloads": 1}, {"id": "c/qwen3-8b-gguf", "downloads": 5},
            {"id": "d/eight", "downloads": 7}]"#;
        let body = if request.path.contains("%20") && !joins { "[]" } else { found };
        response("200 OK", &[("content-length", &body.len().to_string())], body.as_bytes())
    })
}

#[test]
fn names_that_have_all_words_are_found_first_and_then_those_that_are_fetched_most() {
    for joins in [true, false] {
        let (hub, folder) = (hub(joins), tempfile::tempdir().unwrap());
        let options = options(&hub.address, &folder);
        let words = ["qwen3", "8B"].map(str::to_owned);
        let found = |most| -> Vec<String> {
            let found = api::search(&words, most, &options).unwrap();
            found.into_iter().map(|it| it.id).collect()
        };
        let best = ["c/qwen3-8b-gguf", "b/Qwen3-8B-GGUF", "a/Qwen3-32B-GGUF", "d/eight"];
        assert_eq!(found(10), best);
        assert_eq!(found(1), best[..1]);
    }
}
