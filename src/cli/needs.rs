//! Needs: what a run downloads and the disk that it takes, told before anything is fetched or made.

use super::native;
use super::output;
use crate::causes::Problem;
use crate::error::Error;
use crate::experiment::resolved::{Experiment, Keep};
use crate::files::Room;
use crate::model::cache::{Cache, PassingFile};
use crate::model::hub::{self, HubOptions};
use crate::model::repository::RemoteVariant;
use crate::model::resolve::Consent;
use crate::orchestrator::plan::{Origin, Plan};
use crate::units::format_bytes;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

/// A download of more than this is asked about on a terminal, bytes.
const ASKED: u64 = 1 << 30;

/// Where a file comes to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Hub,
    Cache,
}

/// A file that is not there yet.
#[derive(Debug, Clone, Copy)]
struct Coming {
    place: Place,
    bytes: u64,
    /// Bytes of it that are fetched.
    download: u64,
    /// The first and the last variant, in their order, that it has to be there for.
    during: (usize, usize),
    /// The model that it is a variant of; `None`: it is only made of.
    model: Option<usize>,
}

/// Sizes of the files of variants, bytes.
pub(super) struct Sizes {
    pub(super) bytes: Vec<u64>,
    /// Whether some are bounds.
    pub(super) at_most: bool,
}

impl Sizes {
    /// What is known without asking anybody.
    fn bounds(plan: &Plan) -> Self {
        let bytes = plan.variants.iter().map(|variant| match &variant.origin {
            Origin::Ready(artifact) | Origin::Remote(artifact, _) => artifact.file_bytes,
            Origin::Make { expected_bytes, .. } => *expected_bytes,
        });
        Self { bytes: bytes.collect(), at_most: true }
    }

    /// As llama.cpp says, of variants whose source is there.
    fn exact(plan: &Plan) -> Self {
        let mut sizes = Self::bounds(plan);
        for (at, variant) in plan.variants.iter().enumerate() {
            if let Origin::Make { input, .. } = &variant.origin
                && let Ok(planned) = native::planned_types(input, vec![variant.quantization])
                && let Some(planned) = planned.first()
            {
                sizes.bytes[at] = planned.bytes;
            }
        }
        sizes
    }
}

/// What a run needs.
#[derive(Debug, PartialEq)]
pub(super) struct Needs {
    download: u64,
    disks: Vec<Disk>,
    at_most: bool,
}

#[derive(Debug, PartialEq)]
struct Disk {
    /// The folders on it that get files, and the variables that name others.
    folders: Vec<(PathBuf, &'static str)>,
    /// `None`: the system does not tell.
    free: Option<u64>,
    peak: u64,
    end: u64,
}

/// What needs are computed from.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) plan: &'a Plan,
    /// The variants that will be visited, in order.
    pub(super) order: &'a [usize],
    pub(super) cache: &'a Cache,
    pub(super) hub: &'a HubOptions,
}

impl Scene<'_> {
    /// The variants of visits, in the order in which they are needed.
    pub(super) fn order(plan: &Plan, trials: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut order = Vec::new();
        for variant in trials.map(|trial| plan.trials[trial].variant) {
            if !order.contains(&variant) {
                order.push(variant);
            }
        }
        order
    }

    /// What stays: without quality nothing is recommended, and everything does.
    pub(super) fn keep(self) -> Keep {
        let judged = self.experiment.all_workloads().any(|workloads| workloads.quality.is_some());
        match self.experiment.keep {
            Keep::Best if !judged => Keep::All,
            keep => keep,
        }
    }

    /// The files that are not there, by their paths.
    fn coming(self, sizes: &Sizes) -> HashMap<PathBuf, Coming> {
        let mut coming: HashMap<PathBuf, Coming> = HashMap::new();
        let mut add = |path: &Path, new: Coming| {
            let known = coming.entry(path.to_owned()).or_insert(new);
            known.during.1 = known.during.1.max(new.during.1);
            known.model = known.model.or(new.model);
        };
        for (step, &variant) in self.order.iter().enumerate() {
            let during = (step, step);
            let of_trial = self.plan.trials.iter().find(|trial| trial.variant == variant);
            let model = of_trial.map(|trial| trial.model_position);
            let mut fetch = |remote: &RemoteVariant, model| {
                for (file, part) in remote.places(self.hub).iter().zip(&remote.parts) {
                    let PassingFile::Fetched { pointer, blob } = file else { continue };
                    if pointer.exists() {
                        continue;
                    }
                    let (place, bytes) = (Place::Hub, if blob.exists() { 0 } else { part.bytes });
                    add(pointer, Coming { place, bytes, download: bytes, during, model });
                }
            };
            match &self.plan.variants[variant].origin {
                Origin::Ready(_) => {}
                Origin::Remote(_, remote) => fetch(remote, model),
                Origin::Make { key, remote, .. } => {
                    let path = self.cache.variant(key).path();
                    if path.exists() {
                        continue;
                    }
                    if let Some(remote) = remote {
                        fetch(remote, None);
                    }
                    let (place, bytes) = (Place::Cache, sizes.bytes[variant]);
                    add(&path, Coming { place, bytes, download: 0, during, model });
                }
            }
        }
        coming
    }
}

impl Needs {
    pub(super) fn of(scene: Scene<'_>, sizes: &Sizes, keep: Keep) -> Self {
        let coming: Vec<Coming> = scene.coming(sizes).into_values().collect();
        let folders = [
            (Place::Hub, scene.hub.cache.as_path(), hub::cache_variable()),
            (Place::Cache, scene.cache.root(), "QUANTBENCH_CACHE"),
        ];
        let folders = folders.map(|(place, folder, variable)| {
            (Room::of(folder), Folder { place, path: folder.to_owned(), variable })
        });
        let steps = scene.order.len();
        let mut disks = on_disks(folders, &coming, |files, step| used(files, step, keep), steps);
        disks.retain(|disk| disk.peak > 0);
        let in_cache = |it: &Coming| it.place == Place::Cache;
        let download = coming.iter().fold(0, |sum: u64, it| sum.saturating_add(it.download));
        Self {
            download,
            disks,
            at_most: (sizes.at_most && coming.iter().any(in_cache)) || keep == Keep::Best,
        }
    }

    /// One line without a line break.
    pub(super) fn in_words(&self) -> String {
        let download = match self.download {
            0 => "nothing to download".to_owned(),
            bytes => format!("{} to download", format_bytes(bytes)),
        };
        let bound = if self.at_most { "at most " } else { "" };
        let disks = self.disks.iter().map(|disk| {
            let Disk { free, peak, end, .. } = disk;
            let free = free.map_or_else(String::new, |free| {
                format!(", which has {} free", format_bytes(free))
            });
            format!(
                "{bound}{} of disk at the peak and {} at the end on the disk with {}{free}",
                format_bytes(*peak),
                format_bytes(*end),
                disk.folders()
            )
        });
        let mut parts: Vec<String> = vec![download];
        parts.extend(disks);
        if self.disks.is_empty() {
            parts.push("no disk".to_owned());
        }
        format!("needs: {}", parts.join("; "))
    }

    fn short(&self) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.free.is_some_and(|free| free < disk.peak))
    }
}

impl Disk {
    /// The folders in words.
    fn folders(&self) -> String {
        let paths = self.folders.iter().map(|(path, _)| path.display().to_string());
        paths.collect::<Vec<_>>().join(" and ")
    }
}

/// A folder that gets files.
struct Folder {
    place: Place,
    path: PathBuf,
    variable: &'static str,
}

/// What files take on each disk; folders that get none are not named.
fn on_disks(
    folders: [(Room, Folder); 2],
    coming: &[Coming],
    used: impl Fn(&[Coming], usize) -> u64,
    steps: usize,
) -> Vec<Disk> {
    let gets_files =
        |(_, folder): &(Room, Folder)| coming.iter().any(|file| file.place == folder.place);
    let mut disks: Vec<(Room, Vec<Folder>)> = Vec::new();
    for (room, folder) in folders.into_iter().filter(gets_files) {
        match disks.iter_mut().find(|(known, _)| known.device == room.device) {
            Some((_, on_it)) => on_it.push(folder),
            None => disks.push((room, vec![folder])),
        }
    }
    let disk = |(room, on_it): (Room, Vec<Folder>)| {
        let is_on = |file: &&Coming| on_it.iter().any(|folder| folder.place == file.place);
        let files: Vec<Coming> = coming.iter().filter(is_on).copied().collect();
        let peak = (0..=steps).map(|step| used(&files, step)).max().unwrap_or(0);
        let end = used(&files, steps);
        let folders = on_it.into_iter().map(|folder| (folder.path, folder.variable)).collect();
        Disk { folders, free: room.free, peak, end }
    };
    disks.into_iter().map(disk).collect()
}

/// Bytes that files take while the variant of a step is measured; after the last step, at the end.
fn used(files: &[Coming], step: usize, keep: Keep) -> u64 {
    let mut sum: u64 = 0;
    // The largest that may be the best of a model.
    let mut best: BTreeMap<usize, u64> = BTreeMap::new();
    for file in files.iter().filter(|file| file.during.0 <= step) {
        if keep == Keep::All || step <= file.during.1 {
            sum = sum.saturating_add(file.bytes);
        } else if let (Keep::Best, Some(model)) = (keep, file.model) {
            let largest = best.entry(model).or_default();
            *largest = file.bytes.max(*largest);
        }
    }
    best.into_values().fold(sum, u64::saturating_add)
}

/// Tells what a run needs, refuses what does not fit, and asks about a large download.
///
/// # Errors
/// The disk has less, or the user does not want it.
pub(super) fn announce(scene: Scene<'_>, quiet: bool, yes: bool) -> Result<(), Error> {
    let keep = scene.keep();
    let mut sizes = Sizes::bounds(scene.plan);
    let mut needs = Needs::of(scene, &sizes, keep);
    if needs.short().is_some() {
        sizes = Sizes::exact(scene.plan);
        needs = Needs::of(scene, &sizes, keep);
    }
    if let Some(disk) = needs.short() {
        let Disk { free, peak, folders, .. } = disk;
        let variables: Vec<&str> = folders.iter().map(|(_, variable)| *variable).collect();
        let one_by_one = Needs::of(scene, &sizes, Keep::None);
        let fits = keep != Keep::None && one_by_one.short().is_none();
        let advice = if fits { ", measure one after the other with --keep none" } else { "" };
        return Err(Error::Problem(Problem::new(format!(
            "the run needs up to {} of disk, but the disk with {} has {} free; free some{advice}, or set {} to \
             another disk",
            format_bytes(*peak),
            disk.folders(),
            format_bytes(free.unwrap_or(0)),
            variables.join(" or ")
        ))));
    }
    if !quiet && (needs.download > 0 || !needs.disks.is_empty()) {
        output::tell(&needs.in_words());
    }
    ask(needs.download, yes).map_err(Error::Problem)
}

/// What is asked before a repository is fetched that has to be converted.
pub(super) fn consent(quiet: bool, yes: bool) -> Consent {
    Consent::new(move |repository, bytes| {
        if !quiet {
            output::tell(&format!("needs: {} to download of {repository}", format_bytes(bytes)));
        }
        ask(bytes, yes)
    })
}

fn ask(download: u64, yes: bool) -> Result<(), Problem> {
    if download <= ASKED || yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let question = format!("{} will be downloaded; go on? [Y/n]", format_bytes(download));
    if output::ask(&question, true) {
        return Ok(());
    }
    Err(Problem::new(
        "nothing was downloaded, as you wish; --keep none takes less disk, --only fewer variants",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64, during: (usize, usize), model: Option<usize>) -> Coming {
        Coming { place: Place::Cache, bytes, download: 0, during, model }
    }

    #[test]
    fn every_disk_is_named_by_the_folders_that_get_files_there() {
        let fetched = Coming { place: Place::Hub, ..file(100, (0, 1), None) };
        let made = file(50, (0, 0), Some(0));
        let told = |devices: [u64; 2], coming: &[Coming]| -> Vec<(String, u64)> {
            let folder = |at: usize, place, path: &str, variable| {
                let room = Room { device: devices[at], free: Some(7) };
                (room, Folder { place, path: PathBuf::from(path), variable })
            };
            let folders = [
                folder(0, Place::Hub, "/hub", "HF_HOME"),
                folder(1, Place::Cache, "/cache", "QUANTBENCH_CACHE"),
            ];
            let disks = on_disks(folders, coming, |files, step| used(files, step, Keep::All), 2);
            disks.iter().map(|disk| (disk.folders(), disk.peak)).collect()
        };
        let told_of = |devices, coming: &[Coming], expected: &[(&str, u64)]| {
            let expected: Vec<(String, u64)> =
                expected.iter().map(|(name, peak)| ((*name).to_owned(), *peak)).collect();
            assert_eq!(told(devices, coming), expected);
        };
        told_of([1, 1], &[fetched, made], &[("/hub and /cache", 150)]);
        told_of([1, 2], &[fetched, made], &[("/hub", 100), ("/cache", 50)]);
        told_of([1, 1], &[fetched], &[("/hub", 100)]);
        told_of([1, 1], &[made], &[("/cache", 50)]);
    }

    #[test]
    fn the_peak_is_that_of_the_files_that_are_there_together() {
        // A source of 100 for both, variants of 50 and 30.
        let files = [file(100, (0, 1), None), file(50, (0, 0), Some(0)), file(30, (1, 1), Some(0))];
        let steps = |keep: Keep| [0, 1, 2].map(|step| used(&files, step, keep));
        assert_eq!(steps(Keep::All), [150, 180, 180]);
        assert_eq!(steps(Keep::None), [150, 130, 0]);
        assert_eq!(steps(Keep::Best), [150, 180, 50]);
    }
}
