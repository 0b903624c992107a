//! Settings as others read them: TOML for quantbench, flags for llama.cpp's programs.

use super::found::Found;
use super::shown::verdict;
use crate::experiment::settings::{GraphOptimization, Settings};
use crate::experiment::tuning::{Goal, Use};
use crate::report::{quoted, sanitize, server_flags};
use serde_json::Value;
use std::fmt::Write as _;

/// `[settings]`, of what differs from the defaults; nothing if nothing does.
pub(super) fn settings_toml(settings: &Settings) -> String {
    let own = serde_json::to_value(settings).unwrap_or_default();
    let base = serde_json::to_value(Settings::default()).unwrap_or_default();
    let Value::Object(own) = own else { return String::new() };
    let mut text = String::new();
    for (key, value) in own.into_iter().filter(|(key, value)| base.get(key) != Some(value)) {
        // Numbers, flags and words are spelled alike in both.
        let _ = writeln!(text, "{key} = {value}");
    }
    if text.is_empty() { text } else { format!("[settings]\n{text}") }
}

/// An experiment that measures the model under the settings.
pub(super) fn toml(found: &Found) -> String {
    let trial = &found.search.trials[0];
    let tests: Vec<String> = found.used.tests().iter().map(ToString::to_string).collect();
    let mut text = String::new();
    let day = found.search.started.date();
    let _ = writeln!(text, "# quantbench tune, {day}: {}", sanitize(&verdict(found)));
    let _ = writeln!(text, "quantizations = []\n");
    let settings = settings_toml(found.settings());
    if !settings.is_empty() {
        let _ = writeln!(text, "{settings}");
    }
    let _ = writeln!(text, "[workloads]\ncold_load = false\nspeed = {}\n", Value::from(tests));
    let path = file(found);
    let (name, path) = (Value::from(trial.model.clone()), Value::from(path));
    let _ = write!(text, "[[models]]\nname = {name}\nsource = {path}\n");
    text
}

/// The file that was measured.
pub(super) fn file(found: &Found) -> String {
    let artifact = found.search.trials[0].artifact.as_ref();
    artifact.map_or_else(String::new, |it| it.path.to_string_lossy().into_owned())
}

/// Commands of llama.cpp's programs: that which serves the file, and those that measure it; none for a graph.
pub(super) fn commands(found: &Found) -> (Option<String>, Vec<String>) {
    if found.is_onnx() {
        return (None, Vec::new());
    }
    let (file, settings) = (file(found), found.settings());
    (Some(server(&file, settings, &found.used)), bench(&file, settings, &found.used))
}

/// What a program of ONNX Runtime gives its session, in Python's words.
pub(super) fn session_options(settings: &Settings) -> String {
    let mut options = Vec::new();
    if let Some(threads) = settings.threads {
        options.push(format!("intra_op_num_threads = {threads}"));
    }
    if !settings.spinning {
        options.push("add_session_config_entry('session.intra_op.allow_spinning', '0')".to_owned());
    }
    let level = match settings.graph_optimization {
        GraphOptimization::All => None,
        GraphOptimization::Extended => Some("ORT_ENABLE_EXTENDED"),
        GraphOptimization::Basic => Some("ORT_ENABLE_BASIC"),
        GraphOptimization::Disable => Some("ORT_DISABLE_ALL"),
    };
    options.extend(
        level.map(|level| format!("graph_optimization_level = GraphOptimizationLevel.{level}")),
    );
    if settings.ubatch != Settings::default().ubatch {
        options.push(format!("prompts in runs of {} tokens", settings.ubatch));
    }
    format!("SessionOptions: {}", options.join(", "))
}

/// llama-server's command.
pub(super) fn server(file: &str, settings: &Settings, used: &Use) -> String {
    let flags = server_flags(settings);
    let mut command = format!("llama-server -m {}{flags}", quoted(file));
    if used.depth > 0 {
        let _ = write!(command, " -c {}", used.depth.saturating_mul(2 * used.parallel));
    }
    if used.parallel > 1 {
        let _ = write!(command, " -np {}", used.parallel);
    }
    command
}

/// llama-bench's commands. It has one number of threads, so that reading and writing take one each.
pub(super) fn bench(file: &str, settings: &Settings, used: &Use) -> Vec<String> {
    let with = |settings: &Settings, tests: &str| {
        let flag = |(flag, value): (&str, String)| match flag {
            "mmap" => " -lm none".to_owned(),
            "repack" => " --repack 0".to_owned(),
            "cmoe" => " -ncmoe 999".to_owned(),
            // It has none.
            "swa-full" | "tb" => String::new(),
            flag => format!(" -{flag} {value}"),
        };
        let flags: String = settings.changed().into_iter().map(flag).collect();
        format!("llama-bench -m {}{flags} {tests}", quoted(file))
    };
    let prompt = format!("-p {} -n 0", used.prompt_tokens);
    let mut generation = format!("-p 0 -n {}", used.generated_tokens);
    if used.depth > 0 {
        let _ = write!(generation, " -d {}", used.depth);
    }
    let reading =
        Settings { threads: settings.threads_batch.or(settings.threads), ..settings.clone() };
    match used.goal {
        Goal::Prompt => vec![with(&reading, &prompt)],
        Goal::Generation => vec![with(settings, &generation)],
        // Side by side is llama-batched-bench's.
        _ if used.parallel > 1 => Vec::new(),
        _ if settings.threads_batch.is_none() => {
            let both = format!("-p {} -n {}", used.prompt_tokens, used.generated_tokens);
            vec![with(settings, &both)]
        }
        _ => vec![with(&reading, &prompt), with(settings, &generation)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::CacheType;
    use crate::experiment::{Overrides, parse};
    use std::path::Path;

    fn settings() -> Settings {
        Settings {
            threads: Some(4),
            threads_batch: Some(8),
            ubatch: 256,
            cache_type_k: CacheType::Q8_0,
            mmap: false,
            repack: false,
            ..Settings::default()
        }
    }

    #[test]
    fn settings_are_read_back_as_they_were() {
        let text = format!("{}[[models]]\nsource = \"demo\"\n", settings_toml(&settings()));
        let read = parse(text.as_bytes(), Path::new("t.toml"), &Overrides::default()).unwrap();
        assert_eq!(read.settings, [settings()]);
        assert_eq!(settings_toml(&Settings::default()), "");
    }

    #[test]
    fn options_are_those_of_a_session() {
        let settings = Settings {
            threads: Some(2),
            spinning: false,
            graph_optimization: GraphOptimization::Basic,
            ..Settings::default()
        };
        assert_eq!(
            session_options(&settings),
            "SessionOptions: intra_op_num_threads = 2, \
             add_session_config_entry('session.intra_op.allow_spinning', '0'), \
             graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC"
        );
    }

    #[test]
    fn flags_are_those_of_the_programs() {
        let used = |goal, depth, parallel| Use {
            goal,
            prompt_tokens: 512,
            generated_tokens: 32,
            depth,
            parallel,
        };
        let settings = settings();
        assert_eq!(
            server("m.gguf", &settings, &used(Goal::Throughput, 1024, 4)),
            "llama-server -m m.gguf -t 4 -tb 8 -ub 256 -ctk q8_0 --no-mmap --no-repack -c 8192 -np 4"
        );
        assert_eq!(
            bench("m.gguf", &settings, &used(Goal::Balanced, 0, 1)),
            [
                "llama-bench -m m.gguf -t 8 -ub 256 -ctk q8_0 -lm none --repack 0 -p 512 -n 0",
                "llama-bench -m m.gguf -t 4 -ub 256 -ctk q8_0 -lm none --repack 0 -p 0 -n 32"
            ]
        );
        let one = Settings { threads: Some(2), ..Settings::default() };
        assert_eq!(
            bench("m.gguf", &one, &used(Goal::Generation, 512, 1)),
            ["llama-bench -m m.gguf -t 2 -p 0 -n 32 -d 512"]
        );
        assert!(bench("m.gguf", &one, &used(Goal::Throughput, 0, 4)).is_empty());
    }
}
