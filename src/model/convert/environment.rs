//! The Python environment that llama.cpp's converter runs in: made once, in the cache, of pinned packages.

use super::process::{self, Listeners};
use crate::causes::Problem;
use crate::model::cache::{Cache, of_texts};
use crate::model::progress::Progress;
use crate::model::resolve::ResolveOptions;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that names the Python to make it with.
const PYTHON_VARIABLE: &str = "QUANTBENCH_PYTHON";

const REQUIREMENTS: &str = include_str!("../../../vendor/converter/requirements.txt");
const SOURCE: &str = include_str!("../../../vendor/converter/source.txt");
const STEP: &str = include_str!("../../../vendor/converter/step.py");

/// The file of [`REQUIREMENTS`].
const PACKAGES: &str = "requirements.txt";

/// What it takes, bytes: torch for Linux brings CUDA's libraries, 4.9 GiB in all, if the user's own settings
/// name no index of builds for CPUs.
const BYTES: u64 = 6 << 30;

/// An environment that is ready.
#[derive(Debug)]
pub(super) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// What tells one version from another, hex: another converter, or other packages under it.
    pub(super) fn version() -> String {
        of_texts([REQUIREMENTS, SOURCE, STEP])[..16].to_owned()
    }

    /// The environment, made if it is not there.
    ///
    /// # Errors
    /// There is no Python, the disk is too small, or a package cannot be had.
    pub(super) fn ready(cache: &Cache, options: &ResolveOptions) -> Result<Self, Problem> {
        let folder = cache.converters().join(Self::version());
        if folder.is_dir() {
            return Ok(Self { folder });
        }
        if options.hub.offline {
            return Err(Problem::new(
                "llama.cpp's converter needs packages of Python that have not been fetched, and offline mode is on; \
                 convert once without QUANTBENCH_OFFLINE and HF_HUB_OFFLINE",
            ));
        }
        cache.check_space(BYTES)?;
        let note = "llama.cpp's converter needs packages of Python, fetched once: 4.9 GiB on disk where torch brings CUDA's libraries";
        options.progress.say("converter", &Progress::Note(note.to_owned()));
        let scratch = cache.scratch("converter")?;
        Self { folder: scratch.path().to_owned() }.make(&listeners(options))?;
        let renamed = fs::create_dir_all(cache.converters())
            .and_then(|()| fs::rename(scratch.path(), &folder));
        match renamed {
            // Another process has made the same.
            Err(_) if folder.is_dir() => {}
            renamed => renamed.map_err(writing(&folder))?,
        }
        Ok(Self { folder })
    }

    fn make(&self, listeners: &Listeners) -> Result<(), Problem> {
        let file = |name: &str| self.folder.join(name);
        fs::create_dir(&self.folder).map_err(writing(&self.folder))?;
        for (name, text) in [("step.py", STEP), (PACKAGES, REQUIREMENTS), ("source.txt", SOURCE)] {
            fs::write(file(name), text).map_err(writing(&file(name)))?;
        }
        let mut install = if self.make_empty(listeners)? {
            let mut uv = program("uv");
            uv.args(["pip", "install", "--python"]).arg(self.python());
            uv
        } else {
            self.step(&["module", "pip", "install", "--no-input"])
        };
        install.arg("--requirement").arg(file(PACKAGES));
        process::run("installing the converter's packages", install, listeners)?;
        process::run("fetching llama.cpp's converter", self.step(&["fetch"]), listeners)
    }

    /// An environment without packages; whether uv made it.
    fn make_empty(&self, listeners: &Listeners) -> Result<bool, Problem> {
        let named = std::env::var_os(PYTHON_VARIABLE).filter(|name| !name.is_empty());
        let what = "making a Python environment for llama.cpp's converter";
        let folder = self.folder.join("environment");
        if named.is_none() {
            let mut uv = program("uv");
            // With pip: uv cannot download a source package.
            uv.args(["venv", "--seed", "--python", ">=3.10,<3.14"]).arg(&folder);
            if process::run_if_there(what, uv, listeners)?.is_some() {
                return Ok(true);
            }
        }
        let python = named.unwrap_or_else(|| "python3".into());
        let mut venv = program(&python);
        venv.args(["-m", "venv"]).arg(&folder);
        if process::run_if_there(what, venv, listeners)?.is_some() {
            return Ok(false);
        }
        Err(Problem::new(format!(
            "safetensors become a GGUF with llama.cpp's own converter, which needs Python 3.10 to 3.13, and there \
             is no '{}' here; install it, or name one in {PYTHON_VARIABLE}",
            python.display()
        )))
    }

    fn python(&self) -> PathBuf {
        self.folder.join("environment/bin/python")
    }

    /// One of `vendor/converter/step.py`.
    fn step(&self, words: &[&str]) -> Command {
        let mut command = program(self.python());
        command.arg(self.folder.join("step.py")).args(words);
        command
    }

    /// The converter, without its arguments.
    pub(super) fn converter(&self) -> Command {
        let mut command = self.step(&["script"]);
        command.arg(self.folder.join("llama.cpp/convert_hf_to_gguf.py"));
        command
    }
}

/// Who hears of the programs that are run.
pub(super) fn listeners(options: &ResolveOptions) -> Listeners {
    Listeners { progress: options.progress.clone(), stop: options.stop.clone() }
}

/// A command without what would lead Python elsewhere, and without the hub's secrets.
fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    for variable in ["PYTHONPATH", "PYTHONHOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Problem {
    let shown = path.display().to_string();
    move |source| Problem::because(format!("cannot write {shown}"), source)
}
