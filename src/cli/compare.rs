//! `quantbench compare BASE NEW`: what changed between two runs, and how sure that is.

use super::output::{self, Destination, may_color};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::files;
use crate::report::compare::{CompareFormat, Shown};
use crate::report::{RenderOptions, read};
use crate::results::change::gate::{Gate, GateResult};
use crate::results::change::{Comparison, Member, Part, Side};
use crate::results::record::RunRecord;
use crate::results::store::Store;
use crate::units::parse_within;
use clap::Args;
use std::path::{Path, PathBuf};

/// The largest file that is read: a run with every answer and token is some megabytes.
const LARGEST_FILE: u64 = 1 << 30;

/// Stored runs of the same experiment, besides those that are compared, that say how much runs differ.
const MOST_OTHERS: usize = 20;

/// Flags of `quantbench compare`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What was before: a stored run (its name, its beginning, or 'last'), a file that 'show --format json' or
    /// llama-bench (-o json, jsonl, csv) wrote, or RUN:VARIANT for one variant; several runs of the same as A,B,C
    pub base: String,
    /// What is new, likewise; left out: BASE is a run that was measured --against another
    pub new: Option<String>,
    /// What may not get worse.
    #[command(flatten)]
    pub gates: Gates,
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    pub format: CompareFormat,
    /// Width of the table, 40 or more
    #[arg(long, value_name = "N", default_value_t = RenderOptions::default().columns, value_parser = parse_within(40_usize..))]
    pub columns: usize,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What may not get worse.
#[derive(Debug, Clone, Default, Args)]
pub struct Gates {
    /// End with exit code 1 if a figure is shown to be worse by more than this: 'tg128 -5%', 'kld +10%', or 'flips 1%'
    /// for answers that turned from right to wrong; several may follow, or the flag be repeated
    #[arg(long = "fail-on", value_name = "FIGURE ±N%", num_args = 1..)]
    pub fail_on: Vec<Gate>,
}

/// Compares two sides.
///
/// # Errors
/// A side cannot be read, nothing of one has a partner in the other, or a gate is on what nobody measured.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = Store::open_existing()?;
    let base = side(&arguments.base, store.as_ref())?;
    let (base, new) = match &arguments.new {
        Some(new) => (base, side(new, store.as_ref())?),
        None => of_one(base)?,
    };
    for (one, other) in [(&base, &new), (&new, &base)] {
        if let Some(run) = in_turns(one, other) {
            output::tell(&format!(
                "note: {run} measured the other side again in turns with its own, which tells more: 'quantbench compare {run}'"
            ));
        }
    }
    let destination = Destination::open(arguments.output.as_deref())?;
    let others = others(store.as_ref(), &[&base, &new])?;
    let options = RenderOptions { columns: arguments.columns, color: may_color(&destination) };
    compare([&base, &new], &others, &arguments.gates, arguments.format, &options, destination)
}

/// Compares and shows, and says on standard error why it fails unless that stands on the terminal anyway.
pub(super) fn compare(
    [base, new]: [&Side; 2],
    others: &[RunRecord],
    Gates { fail_on }: &Gates,
    format: CompareFormat,
    options: &RenderOptions,
    destination: Destination,
) -> Result<Outcome, Error> {
    let comparison =
        Comparison::of(base, new, others, |metric| fail_on.iter().any(|gate| gate.names(metric)))?;
    // A gate that is about nothing here does not keep back what was measured.
    let mut gates: Vec<GateResult> = Vec::new();
    let mut wrong = None;
    for gate in fail_on {
        match gate.check(&comparison) {
            Ok(results) => gates.extend(results),
            Err(problem) => wrong = wrong.or(Some(problem)),
        }
    }
    let shown = Shown { base, new, comparison: &comparison, gates: &gates };
    let is_seen =
        format == CompareFormat::Table && matches!(destination, Destination::StandardOutput);
    destination.write(&shown.render(format, options)?)?;
    if let Some(problem) = wrong {
        return Err(problem.into());
    }
    let reasons = shown.reasons();
    if reasons.is_empty() {
        return Ok(Outcome::Done);
    }
    if !is_seen {
        output::tell(&reasons.join("\n"));
    }
    Ok(Outcome::RequirementsUnmet)
}

/// The run of a side that measured a run of the other side again.
fn in_turns<'s>(side: &'s Side, other: &Side) -> Option<&'s str> {
    let repeats = |run: &RunRecord| {
        let against = run.experiment.pointer("/against/run").and_then(|it| it.as_str());
        against.is_some_and(|it| other.0.iter().any(|member| member.run.id == it && it != run.id))
    };
    side.0.iter().find(|member| repeats(&member.run)).map(|member| member.run.id.as_str())
}

/// What a run repeated of an earlier one, and what it measured besides.
pub(super) fn sides_of_one(run: RunRecord) -> [Side; 2] {
    let member = |run: RunRecord, part: Part| Member { name: run.id.clone(), run, part };
    [Side(vec![member(run.clone(), Part::Repeated)]), Side(vec![member(run, Part::Own)])]
}

fn of_one(base: Side) -> Result<(Side, Side), Error> {
    let name = base.name();
    let mut members = base.0.into_iter().map(|member| member.run);
    match (members.next(), members.next()) {
        (Some(run), None) if run.trials.iter().any(|trial| trial.repeats.is_some()) => {
            let [base, new] = sides_of_one(run);
            Ok((base, new))
        }
        _ => Err(Problem::new(format!(
            "{name} was not measured --against another run: name what to compare it with"
        ))
        .into()),
    }
}

/// A side as it was written: one file, or a list.
pub(super) fn side(text: &str, store: Option<&Store>) -> Result<Side, Error> {
    let whole = Path::new(text).is_file() || !text.contains(',');
    let names: Vec<&str> =
        if whole { vec![text] } else { text.split(',').map(str::trim).collect() };
    let members = names.into_iter().map(|name| member(name, store));
    Ok(Side(members.collect::<Result<_, _>>()?))
}

fn member(name: &str, store: Option<&Store>) -> Result<Member, Error> {
    let of = |run: RunRecord, variant: Option<&str>| Member {
        name: name.to_owned(),
        run,
        part: variant.map_or(Part::Own, |variant| Part::Variant(variant.to_owned())),
    };
    if Path::new(name).is_file() {
        return Ok(of(of_file(name)?, None));
    }
    // A variant may have a colon of its own: gptq:Q4_0.
    let places = name.match_indices(':').map(|(at, _)| name.split_at(at));
    for (file, variant) in places.clone() {
        if Path::new(file).is_file() {
            return Ok(of(of_file(file)?, Some(&variant[1..])));
        }
    }
    let (run, variant) = match name.split_once(':') {
        Some((run, variant)) => (run, Some(variant)),
        None => (name, None),
    };
    let is_path =
        run.contains('/') || [".json", ".jsonl", ".csv"].iter().any(|end| run.ends_with(end));
    if is_path {
        return Err(Problem::new(format!("there is no file {run}")).into());
    }
    if variant.is_some_and(str::is_empty) || run.is_empty() {
        return Err(Problem::new(format!("'{name}' is no RUN and no RUN:VARIANT")).into());
    }
    let store = store.ok_or_else(|| {
        Problem::new(format!(
            "'{name}' is no file, and there is no stored run; 'quantbench run' makes one"
        ))
    })?;
    Ok(of(store.load(run)?, variant))
}

/// The run that a file holds.
pub(super) fn of_file(path: &str) -> Result<RunRecord, Error> {
    let unread = |source| Problem::because(format!("cannot read {path}"), source);
    let bytes = files::read_at_most(Path::new(path), LARGEST_FILE).map_err(unread)?;
    let bytes =
        bytes.ok_or_else(|| Problem::new(format!("{path} is larger than 1 GiB: no result is")))?;
    Ok(read::run(path, &bytes)?)
}

/// Further stored runs of the experiments that are compared, the latest first.
fn others(store: Option<&Store>, sides: &[&Side]) -> Result<Vec<RunRecord>, Error> {
    let Some(store) = store else { return Ok(Vec::new()) };
    let members = || sides.iter().flat_map(|side| &side.0);
    let known = store.list()?;
    let others = known.iter().filter(|header| {
        header.finished.is_some()
            && members().any(|member| member.run.name == header.name)
            && !members().any(|member| member.run.id == header.id)
    });
    Ok(others.take(MOST_OTHERS).map(|header| store.load(&header.id)).collect::<Result<_, _>>()?)
}
