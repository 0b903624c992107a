//! Exported tokenizers, read by the crate `tokenizers`.

use super::{Network, texts};
use crate::model::gguf::{Header, Tokens, Value};
use std::collections::HashMap;
use std::path::Path;

const EMBED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-embed-F16.gguf");

/// The files beside the graphs of the demo's encoder, with other keys of its tokenizer.
fn beside(tokens: &Tokens, keys: &[(&str, Value)]) -> HashMap<&'static str, String> {
    let mut header = Header::read(Path::new(EMBED)).unwrap();
    for (key, value) in keys {
        let key = format!("tokenizer.ggml.{key}");
        header.metadata.retain(|(name, _)| *name != key);
        header.metadata.push((key, value.clone()));
    }
    let network = Network::of(&header).unwrap();
    texts(&header, &network, tokens).unwrap().into_iter().collect()
}

#[test]
fn an_encoder_says_how_it_pools_and_what_stands_around_a_text() {
    let tokens = Tokens::read(Path::new(EMBED)).unwrap();
    let files = beside(&tokens, &[]);
    let json = |name| serde_json::from_str::<serde_json::Value>(&files[name]).unwrap();
    assert_eq!(json("config.json")["model_type"], "bert");
    assert_eq!(json("modules.json")[1]["path"], "1_Pooling");
    assert_eq!(json("1_Pooling/config.json")["pooling_mode_mean_tokens"], true);
    assert!(!files.contains_key("generation_config.json"));
    let tokenizer = tokenizers::Tokenizer::from_bytes(&files["tokenizer.json"]).unwrap();
    let ids = tokenizer.encode("the sea", true).unwrap().get_ids().to_vec();
    assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&1)), "{ids:?}");
}

#[test]
fn word_pieces_split_words_as_berts_tokenizer_does() {
    let own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁sail", "ing", "▁cafe", "▁!", "▁人"];
    let filled = own.iter().map(|it| (*it).to_owned());
    let texts: Vec<String> =
        filled.chain((own.len()..640).map(|at| format!("▁[unused{at}]"))).collect();
    let types = (0..texts.len()).map(|at| if at < 5 { 3 } else { 1 }).collect();
    let tokens = Tokens { texts, types, merges: Vec::new() };
    let id = |name: &'static str, id| (name, Value::Unsigned(id));
    let keys = [
        ("model", Value::Text("bert".to_owned())),
        id("bos_token_id", 2),
        id("eos_token_id", 3),
        id("seperator_token_id", 3),
        id("unknown_token_id", 1),
        id("padding_token_id", 0),
        id("mask_token_id", 4),
    ];
    let encoded = |files: &HashMap<&str, String>, text: &str, specials| {
        let tokenizer = tokenizers::Tokenizer::from_bytes(&files["tokenizer.json"]).unwrap();
        tokenizer.encode(text, specials).unwrap().get_ids().to_vec()
    };
    let files = beside(&tokens, &keys);
    assert_eq!(encoded(&files, "Sailing café! 人人 seas", true), [2, 5, 6, 7, 8, 9, 9, 1, 3]);
    let config: serde_json::Value = serde_json::from_str(&files["tokenizer_config.json"]).unwrap();
    assert_eq!(
        (&config["tokenizer_class"], &config["cls_token"]),
        (&"BertTokenizer".into(), &"[CLS]".into())
    );
    assert_eq!((&config["sep_token"], &config["mask_token"]), (&"[SEP]".into(), &"[MASK]".into()));
    let cased = ("normalizer.lowercase", Value::Bool(false));
    let files = beside(&tokens, &[&keys[..], &[cased]].concat());
    assert_eq!(encoded(&files, "Sail café cafe", false), [1, 1, 7]);
}
