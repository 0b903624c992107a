//! Deployments: a measured variant in the forms that other programs run it from, with the figures that it is held to.
//!
//! `mod.rs` says what is deployed, `command` how llama-server is told, `services` and `containers` have a form each,
//! `baseline` keeps what was measured.

mod baseline;
mod command;
mod containers;
mod services;
#[cfg(test)]
mod tests;

use crate::causes::Problem;
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use crate::model::engine_name::EngineName;
use crate::model::gguf::{GgmlType, Header};
use crate::model::memory::kv_bytes;
use crate::model::split;
use crate::report::sanitize;
use crate::results::metric::Metric;
use crate::results::record::{LOCAL, RunRecord, TrialRecord};
use crate::results::summary::Row;
use std::path::{Path, PathBuf};

/// Memory beyond the measured peak and the KV cache that a deployment may take before it is ended, as a fraction of both.
pub const MARGIN: f64 = 0.25;

/// The form of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// A preset of llama-server's, and the command
    LlamaServer,
    /// A unit of systemd, for the system or for a user
    Systemd,
    /// A container that systemd starts through podman
    Quadlet,
    /// A service of docker compose
    Compose,
    /// A Deployment and a Service of Kubernetes
    Kubernetes,
    /// A model of llama-swap's
    LlamaSwap,
    /// A Modelfile of Ollama's
    Ollama,
}

/// A file of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Its name, without a folder.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The files of a form, and commands that use them.
type Files = (Vec<Artefact>, Vec<String>);

/// What the user asks for besides.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Tokens of context of each sequence; `None`: 4096, or as many as the model was trained for.
    pub context: Option<u32>,
    /// Sequences side by side.
    pub parallel: u32,
    /// Where it is served.
    pub port: u16,
    /// Where the files are written to.
    pub folder: PathBuf,
}

/// A variant in use.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// In small letters, digits, `-` and `.`: what files, services and the served model are called.
    pub name: String,
    /// For people.
    pub title: String,
    /// The GGUF, absolute.
    pub file: PathBuf,
    /// What has to be copied there: in a cache a file stays only as long as it is of use to that.
    pub copy_of: Option<PathBuf>,
    settings: Settings,
    adapters: Vec<(PathBuf, f64)>,
    context: u32,
    parallel: u32,
    port: u16,
    /// Measured peak with the KV cache that is asked for, bytes.
    peak_bytes: Option<u64>,
    uses_gpu: bool,
    embeds: bool,
    baseline: serde_json::Value,
}

/// Tokens of context where nobody says how many.
const CONTEXT: u32 = 4096;

impl Deployment {
    /// A trial of a run in use, with its row in the run's summary.
    ///
    /// # Errors
    /// The trial failed, its file is not on this machine any more, or it is none of llama.cpp's.
    pub fn of(
        run: &RunRecord,
        (trial, row): (&TrialRecord, &Row),
        wishes: &Wishes,
    ) -> Result<Self, Problem> {
        // A line end in a name would begin a line of its own in a unit.
        let title = sanitize(&format!("{} of {}", trial.label, trial.model));
        if let Some(failure) = &trial.failure {
            return Err(Problem::new(format!("{title} failed: {}", failure.reason)));
        }
        if trial.engine.name != EngineName::LlamaCpp {
            return Err(Problem::new(format!(
                "{title} is ONNX, which llama-server does not serve"
            )));
        }
        let artifact = trial.artifact.as_ref();
        let artifact = artifact.ok_or_else(|| Problem::new(format!("{title} has no file")))?;
        if trial.host.name != LOCAL {
            return Err(Problem::new(format!(
                "{title} was measured on {}: deploy it there, from a run of that machine",
                trial.host.name
            )));
        }
        let path = &artifact.path;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let file = absolute(path);
        if artifact.deleted || !file.is_file() {
            return Err(Problem::new(format!(
                "{} is not there any more; 'quantbench run' makes or fetches it again",
                path.display()
            )));
        }
        let header = Header::read(&file)?;
        let name = named(&format!("{}-{}", trial.model, trial.label));
        // What was made lies in this program's cache, and a link leads into another's.
        let is_in_cache = artifact.quantize_seconds.is_some() || file.is_symlink();
        let is_split = split::part(&file.to_string_lossy()).is_some();
        let copy_of = (is_in_cache && !is_split).then(|| file.clone());
        let own = absolute(&wishes.folder).join(format!("{name}.gguf"));
        let file = if copy_of.is_some() { own } else { file };
        let learnt = header.context_length().and_then(|it| u32::try_from(it).ok());
        let learnt = learnt.unwrap_or(u32::MAX);
        let context = wishes.context.unwrap_or(CONTEXT.min(learnt));
        let facts = trial.facts.as_ref();
        let adapters = trial.adapters.iter().map(|it| (it.file.path.clone(), it.scale)).collect();
        let mut deployment = Self {
            name,
            title,
            file,
            copy_of,
            settings: trial.settings.clone(),
            adapters,
            context,
            parallel: wishes.parallel,
            port: wishes.port,
            peak_bytes: None,
            uses_gpu: facts.is_some_and(|it| it.backends.iter().any(|name| name != "CPU")),
            embeds: facts.is_some_and(|it| it.class == ArchitectureClass::EncoderOnly),
            baseline: serde_json::Value::Null,
        };
        deployment.peak_bytes = deployment.peak(&header, row);
        deployment.baseline = baseline::of(run, trial, row, &deployment);
        Ok(deployment)
    }

    /// The measured peak, and the KV cache of all sequences on top: that of the tests was small.
    fn peak(&self, header: &Header, row: &Row) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
        let measured = row.value(Metric::PeakRssBytes)? as u64;
        let k = GgmlType::from_name(self.settings.cache_type_k.into());
        let v = GgmlType::from_name(self.settings.cache_type_v.into());
        let kv =
            k.zip(v).and_then(|(k, v)| kv_bytes(header, self.tokens(), k, v).ok()).unwrap_or(0);
        Some(measured.saturating_add(kv))
    }

    /// Tokens of all sequences.
    fn tokens(&self) -> u32 {
        self.context.saturating_mul(self.parallel)
    }

    /// The memory that it may take, bytes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bytes"
    )]
    fn limit_bytes(&self) -> Option<u64> {
        self.peak_bytes.map(|peak| (peak as f64 * (1.0 + MARGIN)).ceil() as u64)
    }

    /// What the limit rests on, in a line.
    fn why_limit(&self) -> Option<String> {
        let (peak, limit) = (self.peak_bytes?, self.limit_bytes()?);
        let bytes = crate::units::format_bytes;
        Some(format!(
            "{}: the measured peak with a KV cache of {} tokens, {}, and {:.0} % more",
            bytes(limit),
            self.tokens(),
            bytes(peak),
            MARGIN * 100.0
        ))
    }

    /// The files of a form, and commands that use them, with what was measured last.
    ///
    /// # Errors
    /// A name cannot be written in this form.
    pub fn artefacts(&self, target: Target) -> Result<Files, Problem> {
        let (mut files, commands) = match target {
            Target::LlamaServer => services::llama_server(self),
            Target::Systemd => services::systemd(self),
            Target::LlamaSwap => services::llama_swap(self),
            Target::Ollama => services::ollama(self),
            Target::Quadlet => containers::quadlet(self),
            Target::Compose => containers::compose(self),
            Target::Kubernetes => containers::kubernetes(self),
        }?;
        files.push(Artefact {
            name: format!("{}.baseline.json", self.name),
            text: format!("{:#}\n", self.baseline),
        });
        Ok((files, commands))
    }

    /// A path as text.
    ///
    /// # Errors
    /// It is no Unicode, or has line ends or other controls in it.
    fn text<'p>(&self, path: &'p Path) -> Result<&'p str, Problem> {
        let text = path.to_str().filter(|it| !it.chars().any(char::is_control));
        text.ok_or_else(|| {
            Problem::new(format!(
                "the path {} cannot be written into a file of {}: move the model to one of plain letters",
                path.display(),
                self.name
            ))
        })
    }
}

/// A name that every form takes: Kubernetes' are the strictest.
fn named(text: &str) -> String {
    const LONGEST: usize = 52;
    let letters = text.chars().map(|it| match it.to_ascii_lowercase() {
        it @ ('a'..='z' | '0'..='9') => it,
        _ => '-',
    });
    let mut name: String = letters.collect();
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    // What tells variants apart stands at the end.
    let cut = name.len().saturating_sub(LONGEST);
    let name = name[cut..].trim_matches('-');
    if name.starts_with(|it: char| it.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        format!("model-{name}").trim_end_matches('-').to_owned()
    }
}
