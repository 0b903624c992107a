//! Sources as people write them.

use super::*;

fn parse(text: &str) -> Result<Source, String> {
    Source::parse(text, Path::new("/nowhere")).map_err(|error| error.to_string())
}

#[test]
fn a_repository_is_named_with_or_without_a_variant() {
    for (text, name) in [
        ("hf://unsloth/Qwen3-8B-GGUF", "Qwen3-8B"),
        ("hf://o/n@v1.0:Q4_K_M", "n"),
        ("hf://o/n@refs/pr/1", "n"),
    ] {
        let source = parse(text).unwrap();
        assert_eq!((source.to_string().as_str(), source.default_name().as_str()), (text, name));
    }
    let source = parse("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL").unwrap();
    assert_eq!(source.to_string(), "hf://unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL");
    for path in ["models/x.gguf", "my/e.toml", "a/b/c", "plain", "./a/b", "a/b:", "a/b:x y", "/a/b"]
    {
        assert!(parse(path).is_err(), "{path}");
    }
}

#[test]
fn hub_sources_read_back_as_written() {
    for text in [
        "hf://owner/name/file.gguf",
        "hf://o-1/n.2_x@v1.0/dir/sub/file-Q4_K_M.gguf",
        "hf://owner/name@refs/pr/1/file.gguf",
        "hf://owner/name@refs/convert/gguf/d/file.gguf",
        "hf://owner/name@feature%2Fnew%23x/file.gguf",
        "hf://owner/name/at@x/file.gguf",
    ] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn models_of_ollama_are_named_as_it_names_them() {
    for (text, name) in [
        ("ollama:llama3.2", "llama3.2"),
        ("ollama:gemma3:4b-it-q8_0", "gemma3-4b-it-q8_0"),
        ("ollama:hf.co/owner/Name-GGUF:Q4_K_M", "Name-GGUF-Q4_K_M"),
        ("ollama:localhost:5000/owner/name", "name"),
    ] {
        let source = parse(text).unwrap();
        assert_eq!((source.to_string().as_str(), source.default_name().as_str()), (text, name));
    }
    for text in
        ["ollama:", "ollama://x", "ollama:x:", "ollama:../x", "ollama:a/b/c/d", "ollama:x:.."]
    {
        assert!(parse(text).unwrap_err().contains("names no model of Ollama's"), "{text}");
    }
}

#[test]
fn revisions_may_have_slashes_and_other_characters() {
    for (text, expected) in [
        ("hf://o/n@refs/pr/12/f.gguf", ("refs/pr/12", "f.gguf")),
        ("hf://o/n@refs%2Fpr%2F12/f.gguf", ("refs/pr/12", "f.gguf")),
        ("hf://o/n@refs/pr/f.gguf", ("refs", "pr/f.gguf")),
        ("hf://o/n@main/refs/pr/1/f.gguf", ("main", "refs/pr/1/f.gguf")),
        ("hf://o/n@a%2Fb%20%2Bc/f.gguf", ("", "")),
        ("hf://o/n@a%2Fb+c%25/f.gguf", ("a/b+c%", "f.gguf")),
        ("hf://o/n@gr%C3%BCn/f.gguf", ("gr\u{fc}n", "f.gguf")),
    ] {
        let found = HubAddress::parse(text.strip_prefix("hf://").unwrap());
        let found = found.map(|found| (found.revision.unwrap(), found.file));
        let (revision, file) = expected;
        let expected = (!revision.is_empty()).then(|| (revision.to_owned(), file.to_owned()));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn secrets_in_addresses_are_not_shown() {
    for text in [
        "hf://me:hunter2@owner/name/f.gguf",
        "https://me:hunter2@huggingface.co/o/n/f.gguf",
        "https://huggingface.co/o/n/resolve/main/f.gguf?token=hunter2",
    ] {
        let shown = parse(text).unwrap_err();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn what_names_no_hub_file_is_refused() {
    for text in [
        "hf://",
        "hf://owner",
        "hf://owner/name/file.safetensors",
        "hf://owner/../file.gguf",
        "hf://owner/name/../../file.gguf",
        "hf://owner/name/a//file.gguf",
        "hf://owner/name@/file.gguf",
        "hf://owner/name@../file.gguf",
        "hf://owner/name@..%2F..%2Fx/file.gguf",
        "hf://owner/name@%2Fetc/file.gguf",
        "hf://owner/name@a%2F%2Fb/file.gguf",
        "hf://owner/name@a%00/file.gguf",
        "hf://owner/name@%FF/file.gguf",
        "hf://owner/name@refs/pr/1/",
        "hf://own er/name/file.gguf",
        "hf://owner/name/file.gguf?x=.gguf",
    ] {
        assert!(parse(text).unwrap_err().contains("names nothing on the hub"), "{text}");
    }
}

#[test]
fn a_web_address_of_the_hub_is_answered_with_its_spelling() {
    let error = parse("https://huggingface.co/o/n/resolve/main/f.gguf?download=true");
    assert!(error.unwrap_err().ends_with("write 'hf://o/n/f.gguf'"));
    let error = parse("https://huggingface.co/o/n/blob/v2/d/f.gguf");
    assert!(error.unwrap_err().ends_with("write 'hf://o/n@v2/d/f.gguf'"));
    let error = parse("https://huggingface.co/o/n-GGUF/");
    assert!(error.unwrap_err().ends_with("write 'hf://o/n-GGUF'"));
    assert_eq!(parse("hf.co/o/n:Q8_0").unwrap(), parse("o/n:Q8_0").unwrap());
    assert!(parse("http://example.org/f.gguf").unwrap_err().contains("download the file"));
}

#[test]
fn paths_start_at_the_base_and_folders_are_told_from_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m-Q4_0-00001-of-00002.gguf"), b"x").unwrap();
    std::fs::create_dir(folder.path().join("ready")).unwrap();
    let file = Source::parse("m-Q4_0-00001-of-00002.gguf", folder.path()).unwrap();
    assert!(matches!(&file, Source::File(path) if path.starts_with(folder.path())));
    assert_eq!(file.default_name(), "m-Q4_0");
    let ready = Source::parse("./ready/", folder.path()).unwrap();
    assert!(matches!(&ready, Source::Directory(_)));
    assert_eq!(ready.default_name(), "ready");
    let missing = Source::parse("absent.gguf", folder.path()).unwrap_err();
    assert!(missing.to_string().starts_with("is 'absent.gguf', but there is no file"));
}
