//! `quantbench run --against RUN`: an earlier run's variants in turns with those of now, which is the only fair comparison of
//! speeds.

use super::Arguments;
use crate::causes::Problem;
use crate::cli::compare::side;
use crate::cli::output;
use crate::cli::session::{Session, is_elsewhere};
use crate::cli::version;
use crate::error::Error;
use crate::experiment::resolved::{Against, Experiment};
use crate::experiment::settings::Settings;
use crate::model::artifact::Artifact;
use crate::model::engine_name::EngineIdentity;
use crate::model::resolve::Origin;
use crate::orchestrator::plan::{Plan, Variant};
use crate::report::Format;
use crate::report::compare::CompareFormat;
use crate::report::sanitize;
use crate::results::change::{Member, partners_of};
use crate::results::record::TrialRecord;
use crate::results::repeats::Repeats;
use crate::results::store::Store;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The earlier run, and what computes its trials.
pub(super) struct Earlier {
    member: Member,
    build: Option<OtherBuild>,
}

struct OtherBuild {
    program: PathBuf,
    engine_version: String,
}

/// The form in which a comparison is shown, for the form that was asked for.
pub(super) fn format(arguments: &Arguments) -> Result<CompareFormat, Error> {
    if arguments.against.is_none() && !arguments.gates.fail_on.is_empty() {
        return Err(Problem::new(
            "--fail-on is on what changed: say against what with --against RUN, or ask 'quantbench compare'",
        )
        .into());
    }
    match arguments.format {
        _ if arguments.against.is_none() => Ok(CompareFormat::Table),
        Format::Table => Ok(CompareFormat::Table),
        Format::Markdown => Ok(CompareFormat::Markdown),
        Format::Json => Ok(CompareFormat::Json),
        _ => Err(Problem::new(
            "what --against comes to is shown as table, markdown or json; 'quantbench show' has the run itself in every format",
        )
        .into()),
    }
}

impl Earlier {
    /// The run that `--against` names; `None` without it. The experiment notes it.
    pub(super) fn of(
        arguments: &Arguments,
        store: &Store,
        experiment: &mut Experiment,
    ) -> Result<Option<Self>, Error> {
        let Some(name) = &arguments.against else { return Ok(None) };
        if !experiment.keep.is_all() {
            return Err(Problem::new(
                "--against measures in turns, which takes all files at once: leave --keep at 'all'",
            )
            .into());
        }
        let mut members = side(name, Some(store))?.0;
        let (Some(member), true) = (members.pop(), members.is_empty()) else {
            return Err(
                Problem::new(format!("--against takes one run, and '{name}' is several")).into()
            );
        };
        let member = match begun(arguments, store, experiment, &member)? {
            Some(earlier) => side(&earlier, Some(store))?.0.pop().unwrap_or(member),
            None => member,
        };
        let build = arguments.against_binary.as_deref().map(OtherBuild::of).transpose()?;
        let program = build.as_ref().map(|build| build.program.clone());
        experiment.against = Some(Against { run: member.run.id.clone(), program });
        Ok(Some(Self { member, build }))
    }

    /// The version of the other build's engine as its trials have it, and its program.
    pub(super) fn other_build(&self) -> Option<(String, PathBuf)> {
        self.build.as_ref().map(|build| (build.engine_version.clone(), build.program.clone()))
    }

    /// Takes the earlier run's trials into a plan, each before its partner.
    pub(super) fn join(
        &self,
        session: &Session,
        experiment: &Experiment,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let run = &self.member.run;
        let trials = self.member.trials()?.into_iter().filter(|trial| trial.artifact.is_some());
        // What a setting came to is known of one side alone.
        let planned = |trial: &TrialRecord| TrialRecord { facts: None, ..trial.clone() };
        let known: Vec<TrialRecord> = trials.map(planned).collect();
        let (mut earlier, mut same) = (Vec::new(), 0);
        for (was, is) in partners_of(&known, &plan.empty_records()) {
            let (trial, planned) = (&known[was], &plan.trials[is]);
            let Some(artifact) = &trial.artifact else { continue };
            let variant = plan.variant_of(is);
            let engine = self.engine(&variant.engine);
            let is_same = checksum_now(session, variant)?.as_ref() == Some(&artifact.checksum)
                && trial.settings == planned.settings
                && trial.adapters == variant.adapters
                && engine == variant.engine;
            if is_same {
                same += 1;
                continue;
            }
            let origin = Origin::Ready(self.there(session, trial, artifact)?);
            let repeats = Repeats { run: run.id.clone(), label: trial.label.clone() };
            let variant = Variant {
                engine,
                quantization: trial.quantization,
                label: format!("{} (base)", trial.label),
                origin,
                calibration: None,
                adapters: trial.adapters.clone(),
                repeats: Some(repeats),
                ..variant.clone()
            };
            earlier.push((is, variant, trial.settings.clone()));
        }
        self.told(&earlier, same)?;
        plan.interleave(experiment, earlier);
        Ok(())
    }

    /// What would compare nothing is refused; what is left out is told.
    fn told(&self, earlier: &[(usize, Variant, Settings)], same: usize) -> Result<(), Error> {
        let run = sanitize(&self.member.run.id);
        match (earlier.len(), same) {
            (0, 0) => Err(Problem::new(format!(
                "nothing that run {run} measured is asked for now: use the same models and quantizations"
            ))
            .into()),
            (0, _) => Err(Problem::new(format!(
                "nothing that both measure differs from run {run}: the same files under the same settings, computed by this build; to compare \
                 two builds give the other one as --against-binary PROGRAM"
            ))
            .into()),
            (_, 0) => Ok(()),
            (_, same) => {
                output::tell(&format!(
                    "note: {same} of run {run} would be the same file under the same settings and are not measured again"
                ));
                Ok(())
            }
        }
    }

    /// What computes the earlier trials.
    fn engine(&self, own: &EngineIdentity) -> EngineIdentity {
        let version = self.build.as_ref().map(|build| build.engine_version.clone());
        EngineIdentity { version: version.unwrap_or_else(|| own.version.clone()), ..own.clone() }
    }

    /// The file of an earlier trial, if it is still what it was.
    fn there(
        &self,
        session: &Session,
        trial: &TrialRecord,
        artifact: &Artifact,
    ) -> Result<Artifact, Error> {
        let path = artifact.path.display();
        let name = format!("{} of run {}", sanitize(&trial.label), sanitize(&self.member.run.id));
        if !artifact.path.is_file() {
            return Err(Problem::new(format!(
                "the file of {name} is not there any more: {path}; measure that run again, or compare the results with \
                 'quantbench compare'"
            ))
            .into());
        }
        // Of a split file the checksum is of all parts: size tells enough of what nobody replaces by part.
        let is_split = artifact.path.metadata().is_ok_and(|it| it.len() != artifact.file_bytes);
        if !is_split && session.cache.checksum(&artifact.path, &mut |_| {})? != artifact.checksum {
            return Err(Problem::new(format!(
                "the file of {name} has been replaced since: {path}; keep the old one under a name of its own"
            ))
            .into());
        }
        Ok(artifact.clone())
    }
}

/// What the run is against that is gone on with, where `named` is that run itself: by now it is the last one.
fn begun(
    arguments: &Arguments,
    store: &Store,
    experiment: &Experiment,
    named: &Member,
) -> Result<Option<String>, Error> {
    if !arguments.resume {
        return Ok(None);
    }
    let open = store.latest_unfinished(&experiment.name)?;
    let open = open.filter(|open| open.id == named.run.id);
    let earlier =
        open.and_then(|open| Some(open.experiment.pointer("/against/run")?.as_str()?.to_owned()));
    Ok(earlier)
}

/// The checksum of a variant's file, if it is known before it is made.
fn checksum_now(session: &Session, variant: &Variant) -> Result<Option<String>, Error> {
    Ok(match &variant.origin {
        Origin::Ready(artifact) | Origin::Remote(artifact, _) => Some(artifact.checksum.clone()),
        Origin::Make { key, .. } => session.cache.variant(key).existing()?.map(|it| it.checksum),
    })
}

impl OtherBuild {
    /// Asks a program what it was built from.
    fn of(program: &Path) -> Result<Self, Error> {
        if is_elsewhere() {
            return Err(Problem::new(
                "--against-binary starts workers on this machine, and QUANTBENCH_AGENT leads to another",
            )
            .into());
        }
        let unknown = |why: String| {
            Problem::new(format!(
                "{} is no quantbench that can be measured with: {why}",
                program.display()
            ))
        };
        let program = std::path::absolute(program).map_err(|error| unknown(error.to_string()))?;
        let asked = Command::new(&program)
            .args(["--version", "--verbose"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| unknown(error.to_string()))?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let own = concat!("quantbench ", env!("CARGO_PKG_VERSION"));
        if first != own {
            let first: String = sanitize(first).chars().take(40).collect();
            return Err(unknown(format!("it says '{first}', and both have to be {own}")).into());
        }
        let part = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().map(|value| sanitize(value.trim())).unwrap_or_default()
        };
        let build = version::build();
        let (version, commit) = (part("llama.cpp "), part("commit "));
        let is_alike = build.engines.iter().any(|engine| engine.version == version);
        // Two builds of one version are told apart by their commits, or else by their places.
        let engine_version = match is_alike {
            false => version,
            true if build.quantbench.contains(&commit) => {
                format!("{version} in {}", program.display())
            }
            true => format!("{version} in quantbench {commit}"),
        };
        Ok(Self { program, engine_version })
    }
}
