//! `quantbench deploy`: a measured variant in the form that another program runs it from.

use super::output;
use super::report::load;
use crate::causes::Problem;
use crate::deploy::{Deployment, Target, Wishes};
use crate::error::{Error, Outcome};
use crate::files::Unfinished;
use crate::report::sanitize;
use crate::results::each_once;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::units::parse_within;
use clap::Args;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Flags of `quantbench deploy`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A run as `show` takes it, with a colon and a label for another variant than the one that it chose, as `last:Q4_K_M`
    #[arg(value_name = "RUN[:VARIANT]", default_value = "last")]
    pub run: String,
    /// What runs it
    #[arg(long, value_enum)]
    pub target: Target,
    /// The folder to write to, made where it is not there [deploy]
    #[arg(short, long, value_name = "DIR", default_value = "deploy", hide_default_value = true)]
    pub output: PathBuf,
    /// Tokens of context of each sequence; 4096 if left out, or as many as the model was trained for
    #[arg(short, long, value_name = "TOKENS", value_parser = parse_within(1_u32..=16_777_216))]
    pub context: Option<u32>,
    /// Sequences that are answered side by side
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_within(1_u32..=256))]
    pub parallel: u32,
    /// The port to listen at
    #[arg(long, value_name = "N", default_value = "8080", value_parser = parse_within(1_u16..=65_535))]
    pub port: u16,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
}

/// Writes the files, and says what starts them.
///
/// # Errors
/// No run or no variant is meant, its file is gone, a file is there already, or one cannot be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    // A variant may have a colon of its own.
    let (name, variant) = match arguments.run.split_once(':') {
        Some((name, variant)) if !Path::new(&arguments.run).is_file() => (name, Some(variant)),
        _ => (arguments.run.as_str(), None),
    };
    let record = load(name)?;
    let summary = Summary::of(&record);
    let at = trial(&record, &summary, variant)?;
    let Arguments { context, parallel, port, .. } = *arguments;
    let wishes = Wishes { context, parallel, port, folder: arguments.output.clone() };
    let deployment = Deployment::of(&record, (&record.trials[at], &summary.rows[at]), &wishes)?;
    let (artefacts, commands) = deployment.artefacts(arguments.target)?;
    let folder = &arguments.output;
    let own = deployment.copy_of.as_ref().map(|_| deployment.file.clone());
    let mut all = artefacts.iter().map(|it| folder.join(&it.name)).chain(own);
    let there = all.find(|it| it.exists());
    if let Some(path) = there.filter(|_| !arguments.force) {
        let message = format!("{} is there already; --force replaces it", path.display());
        return Err(Problem::new(message).into());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Output { path: Some(path), source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut lines = Vec::new();
    if let Some(from) = &deployment.copy_of {
        let to = &deployment.file;
        copy(from, to).map_err(failed(to))?;
        lines.push(format!("wrote {}", to.display()));
    }
    for artefact in &artefacts {
        let path = folder.join(&artefact.name);
        let mut file = Unfinished::beside(&path).map_err(failed(&path))?;
        file.write_all(artefact.text.as_bytes()).map_err(failed(&path))?;
        file.finish(&path).map_err(failed(&path))?;
        lines.push(format!("wrote {}", path.display()));
    }
    lines.push(format!("To start {}, in {}:", sanitize(&deployment.title), folder.display()));
    lines.extend(commands.into_iter().map(|command| format!("$ {command}")));
    output::print((lines.join("\n") + "\n").as_bytes())?;
    Ok(Outcome::Done)
}

/// A copy comes to stand there whole.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut file = Unfinished::beside(to)?;
    std::io::copy(&mut std::fs::File::open(from)?, &mut file)?;
    file.finish(to).map(|_| ())
}

/// The trial that is named, or that the run chose.
fn trial(run: &RunRecord, summary: &Summary, variant: Option<&str>) -> Result<usize, Problem> {
    let chosen = |at: &usize| summary.is_chosen(*at);
    let found: Vec<usize> = match variant {
        None => (0..run.trials.len()).filter(chosen).collect(),
        Some(variant) => {
            let all = run.trials.iter().enumerate();
            let meant = all.filter(|(_, it)| it.label.eq_ignore_ascii_case(variant));
            let meant: Vec<usize> = meant.map(|(at, _)| at).collect();
            let best: Vec<usize> = meant.iter().copied().filter(chosen).collect();
            if best.is_empty() { meant } else { best }
        }
    };
    let named = |at: &usize| sanitize(&run.trials[*at].label);
    let labels = || each_once((0..run.trials.len()).map(|at| named(&at))).join(", ");
    match (found.as_slice(), variant) {
        ([only], _) => Ok(*only),
        ([], None) => Err(Problem::new(format!(
            "run {} chose no variant; name one, as {}:VARIANT: {}",
            run.id,
            run.id,
            labels()
        ))),
        ([], Some(variant)) => Err(Problem::new(format!(
            "run {} has no variant '{}'; it has {}",
            run.id,
            sanitize(variant),
            labels()
        ))),
        (several, _) => Err(Problem::new(format!(
            "run {} has {} trials that may be meant ({}), of several models or settings; measure one model under the settings to \
             deploy",
            run.id,
            several.len(),
            each_once(several.iter().map(named)).join(", ")
        ))),
    }
}
