//! Programs on the machine itself: llama-server, systemd, llama-swap, Ollama.

use super::{Artefact, Deployment, Files};
use crate::causes::Problem;
use crate::files::folder_of;
use crate::report::quoted;
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where llama-server is expected where it is not found.
const SERVER: &str = "/usr/local/bin/llama-server";

/// A preset, which one server can have many of, and the same as a command.
pub(super) fn llama_server(of: &Deployment) -> Result<Files, Problem> {
    let lines = of.flags(&of.file)?.into_iter().filter(|(flag, _)| *flag != "alias");
    let lines = lines.map(|(flag, value)| {
        // A flag without a value is a yes.
        format!("{flag} = {}\n", value.unwrap_or_else(|| "true".to_owned()))
    });
    let name = format!("{}.ini", of.name);
    let text = format!(
        "; {}\nversion = 1\n\n[{}]\n{}load-on-startup = true\n",
        of.title,
        of.name,
        lines.collect::<String>()
    );
    let preset = format!(
        "llama-server --models-preset {name} --host 127.0.0.1 --port {} --metrics",
        of.port
    );
    Ok((vec![Artefact { name, text }], vec![preset, of.shell()?]))
}

/// llama-server as it is found from here.
fn server() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("llama-server"));
    found.into_iter().find(|it| it.is_absolute() && it.is_file()).unwrap_or_else(|| SERVER.into())
}

/// A word of `ExecStart=`: quoted, and free of systemd's own specifiers and variables.
pub(super) fn word(text: &str) -> String {
    in_quotes(&text.replace('$', "$$"))
}

/// A path of `BindReadOnlyPaths=`, in which a colon has a meaning and variables have none.
fn bound(path: &str) -> String {
    in_quotes(&path.replace(':', "\\:"))
}

pub(super) fn in_quotes(text: &str) -> String {
    let text = text.replace('%', "%%");
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_./:=,%$+".contains(it);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One unit for the system, under a user of its own, and one for whoever is logged in.
pub(super) fn systemd(of: &Deployment) -> Result<Files, Problem> {
    let server = server();
    let mut words = vec![word(of.text(&server)?)];
    words.extend(of.words(&of.file, "127.0.0.1")?.iter().map(|it| word(it)));
    let memory = of
        .why_limit()
        .zip(of.limit_bytes())
        .map(|(why, limit)| format!("# {why}\nMemoryMax={limit}\n"));
    let memory = memory.unwrap_or_default();
    let devices = if of.uses_gpu { "" } else { "PrivateDevices=true\n" };
    let models = bound(of.text(folder_of(&of.file))?);
    let unit = |confined: &str, wanted: &str| {
        format!(
            "[Unit]\nDescription={} (llama-server)\nAfter=network.target\n\n[Service]\nExecStart={}\nRestart=on-failure\n\
             RestartSec=5\nNoNewPrivileges=true\n{memory}{confined}\n[Install]\nWantedBy={wanted}\n",
            of.title.replace('%', "%%"),
            words.join(" ")
        )
    };
    let system = unit(
        &format!(
            "DynamicUser=true\nProtectSystem=strict\nProtectHome=tmpfs\nBindReadOnlyPaths={models}\nPrivateTmp=true\n\
             {devices}ProtectKernelTunables=true\nProtectKernelModules=true\nProtectControlGroups=true\n\
             RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nRestrictNamespaces=true\nLockPersonality=true\n\
             CapabilityBoundingSet=\nSystemCallArchitectures=native\n"
        ),
        "multi-user.target",
    );
    let name = format!("{}.service", of.name);
    let own = format!("{}-user.service", of.name);
    let commands = vec![
        format!(
            "sudo install -m 644 {name} /etc/systemd/system/ && sudo systemctl enable --now {name}"
        ),
        format!(
            "install -Dm 644 {own} ~/.config/systemd/user/{name} && systemctl --user enable --now {name}"
        ),
    ];
    let files = vec![
        Artefact { name, text: system },
        Artefact { name: own, text: unit("", "default.target") },
    ];
    Ok((files, commands))
}

/// A model of a configuration, whose port llama-swap chooses.
pub(super) fn llama_swap(of: &Deployment) -> Result<Files, Problem> {
    let mut words: Vec<String> =
        of.words(&of.file, "127.0.0.1")?.iter().map(|it| quoted(it)).collect();
    if let Some(port) = words.last_mut() {
        "${PORT}".clone_into(port);
    }
    let command = format!("llama-server {}", words.join(" "));
    let config = json!({
        "models": { of.name.clone(): { "cmd": command, "name": of.title, "checkEndpoint": "/health" } }
    });
    let name = format!("{}.llama-swap.yaml", of.name);
    let text = super::containers::yaml(&config)?;
    let start = format!("llama-swap --config {name} --listen 127.0.0.1:{}", of.port);
    Ok((vec![Artefact { name, text }], vec![start]))
}

/// Ollama has settings of its own, and reads the prompt's format out of the file.
pub(super) fn ollama(of: &Deployment) -> Result<Files, Problem> {
    let mut text = format!("# {}\nFROM {}\n", of.title, of.text(&of.file)?);
    for (path, _) in &of.adapters {
        let _ = writeln!(text, "ADAPTER {}", of.text(path)?);
    }
    let settings = of.settings.changed();
    let value = |flag: &str| settings.iter().find(|(own, _)| *own == flag).map(|it| it.1.clone());
    let parameters = [
        ("num_ctx", Some(of.context.to_string())),
        ("num_batch", value("b")),
        ("num_gpu", value("ngl")),
        ("num_thread", value("t")),
    ];
    for (parameter, value) in parameters {
        text.extend(value.map(|value| format!("PARAMETER {parameter} {value}\n")));
    }
    let name = format!("{}.Modelfile", of.name);
    let create = format!("ollama create {0} -f {name} && ollama run {0}", of.name);
    Ok((vec![Artefact { name, text }], vec![create]))
}
