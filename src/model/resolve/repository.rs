//! A repository of ready variants: nothing of it is fetched before it is needed.

use super::{
    PICKLES, ReadyVariant, ResolveOptions, Resolved, SourceFile, folder, no_model, onnx,
    read_model, stored_as, what_else,
};
use crate::causes::Problem;
use crate::files::{self, Room};
use crate::model::artifact::Artifact;
use crate::model::cache::{Cache, of_texts};
use crate::model::convert;
use crate::model::gguf::Header;
use crate::model::hub::api::{self, Found, RemoteFile, Repository};
use crate::model::hub::{self, HubFile, HubOptions, RepoType};
use crate::model::naming;
use crate::model::progress::Progress;
use crate::model::quantization::USUAL;
use crate::model::repository::{
    self, NamedVariant, RemoteVariant, has_only_pickles, has_safetensors,
};
use crate::model::split;
use crate::model::stores;
use crate::units::format_bytes;
use std::path::{Path, PathBuf};

/// Repositories that a message names.
const NAMED: u32 = 5;

/// What is wanted of the hub.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// `owner/name`.
    pub(super) repository: &'a str,
    pub(super) revision: Option<&'a str>,
    /// The label of the only variant that is meant.
    pub(super) variant: Option<&'a str>,
}

/// The variants of a repository; without the hub, those that were fetched before.
pub(super) fn resolve(
    wanted: Wanted<'_>,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    if options.hub.offline {
        let folder = fetched_before(wanted.repository, wanted.revision, &options.hub)?;
        return there(wanted, &folder, cache, options);
    }
    let repository = api::repository(wanted.repository, wanted.revision, &options.hub)?;
    let found = repository::variants(&repository);
    for missing in repository::incomplete(&repository) {
        let note = Progress::Note(format!("left out: {missing}"));
        options.progress.say(wanted.repository, &note);
    }
    if found.is_empty() {
        let paths = repository.files.iter().map(|file| file.path.as_str());
        if onnx::is_in(&repository)
            && (wanted.variant.is_some() || !convert::is_checkpoint(paths.clone()))
        {
            return onnx::fetched(&repository, wanted.variant, cache, options);
        }
        if wanted.variant.is_none() && convert::is_checkpoint(paths) {
            return converted(&repository, cache, options);
        }
        return Err(nothing_in(&repository, &options.hub));
    }
    let chosen = choose(wanted.repository, wanted.variant, found)?;
    let ready = chosen.iter().map(|one| ready(one, options));
    let mut ready = ready.collect::<Result<Vec<ReadyVariant>, Problem>>()?;
    if wanted.variant.is_none() && ready.len() > 1 {
        mark_defaults(&mut ready, options);
    }
    let name = |one: &NamedVariant| one.remote.path().rsplit('/').next().map(str::to_owned);
    let names: Vec<String> = chosen.iter().filter_map(name).collect();
    folder::distinguish(&mut ready, &names);
    Ok(with_source(ready))
}

/// The folder of what was fetched of a repository, where the hub is not asked.
pub(super) fn fetched_before(
    repository: &str,
    revision: Option<&str>,
    options: &HubOptions,
) -> Result<PathBuf, Problem> {
    let none = || {
        let cache = options.cache.display();
        Problem::new(format!(
            "nothing of {repository} is in the hub cache at {cache}, and offline mode is on"
        ))
    };
    hub::snapshot(repository, revision.unwrap_or("main"), options).ok_or_else(none)
}

/// What a repository holds, with the folder that has it where the hub was not asked or did not answer: that is what was
/// fetched of it before.
///
/// # Errors
/// The hub does not show it, or does not answer and nothing was fetched.
pub fn held(
    repository: &str,
    revision: Option<&str>,
    options: &HubOptions,
) -> Result<(Repository, Option<PathBuf>), Problem> {
    let folder = if options.offline {
        fetched_before(repository, revision, options)?
    } else {
        match api::repository(repository, revision, options) {
            Ok(held) => return Ok((held, None)),
            Err(problem) => hub::snapshot(repository, revision.unwrap_or("main"), options)
                .filter(|_| hub::is_unreachable(&problem))
                .ok_or(problem)?,
        }
    };
    Ok((stores::snapshot(repository, &folder), Some(folder)))
}

/// What was fetched of a repository.
fn there(
    wanted: Wanted<'_>,
    folder: &Path,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let found = repository::variants(&stores::snapshot(wanted.repository, folder));
    if found.is_empty() {
        return folder::resolve(folder, wanted.repository, cache, options);
    }
    let mut ready = Vec::new();
    for variant in choose(wanted.repository, wanted.variant, found)? {
        let path = folder.join(variant.remote.path());
        let header = Header::read(&path)?;
        // An image encoder often lies beside the models that it belongs to.
        if what_else(&header).is_some() {
            continue;
        }
        let checksum = super::checksum(&path, cache, options)?;
        let stored = super::ready(path, &header, checksum)?;
        let quantization = variant.quantization.unwrap_or(stored.quantization);
        ready.push(ReadyVariant { quantization, label: variant.label(), ..stored });
    }
    if ready.is_empty() {
        let folder = folder.display();
        return Err(Problem::new(format!("{folder} has no GGUF file of a model in it")));
    }
    Ok(with_source(ready))
}

fn with_source(ready: Vec<ReadyVariant>) -> Resolved {
    // What others are made from: the floating point numbers of the fewest bytes.
    let float = ready.iter().filter(|it| it.quantization.is_float());
    let float = float.min_by_key(|it| it.artifact.file_bytes);
    let only = Some(ready.as_slice()).filter(|ready| ready.len() == 1).and_then(|it| it.first());
    let source = float.or(only).map(|it| SourceFile {
        artifact: it.artifact.clone(),
        quantization: it.quantization,
        header: None,
        remote: it.remote.clone(),
        template: None,
    });
    Resolved { source, ready }
}

/// The model that a file of a repository is, of which no more than its header is fetched. `None` if it is there, or
/// the hub does not say enough of it.
pub(super) fn file(
    wanted: HubFile<'_>,
    options: &ResolveOptions,
) -> Result<Option<Resolved>, Problem> {
    let mut parts = Vec::new();
    let mut commit = String::new();
    for path in split::all_parts(Path::new(wanted.file)) {
        // Paths on the hub have slashes on every system.
        let path = path.to_string_lossy().replace('\\', "/");
        let part = HubFile { file: &path, ..wanted };
        if options.hub.offline || hub::fetched(part, &options.hub).is_some() {
            return Ok(None);
        }
        let Some(found) = hub::look(part, &options.hub)? else { return Ok(None) };
        parts.push(found.file);
        commit = found.commit;
    }
    let (repository, revision) = (wanted.repository.to_owned(), wanted.revision.map(str::to_owned));
    let remote = RemoteVariant { repository, revision, commit, parts };
    let header = remote.header(&options.hub)?;
    if let Some(holds) = what_else(&header) {
        return Err(no_model(&wanted, &holds));
    }
    let path = hub::place(&remote.repository, &remote.commit, remote.path(), &options.hub);
    let quantization = stored_as(&header, &path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let label = naming::label(&name, quantization);
    let artifact = Artifact::found(path, checksum(&remote), remote.bytes());
    let source = SourceFile {
        artifact: artifact.clone(),
        quantization,
        // Of a split model this is no more than the first part's.
        header: Some(header).filter(|_| remote.parts.len() == 1),
        remote: Some(remote.clone()),
        template: None,
    };
    let ready =
        ReadyVariant { artifact, quantization, label, remote: Some(remote), by_default: true };
    Ok(Some(Resolved { source: Some(source), ready: vec![ready] }))
}

/// Those that are meant: the one that is named, or all that may be asked for.
///
/// # Errors
/// The repository has no variant of that name.
pub fn choose(
    repository: &str,
    variant: Option<&str>,
    found: Vec<NamedVariant>,
) -> Result<Vec<NamedVariant>, Problem> {
    let Some(variant) = variant else { return Ok(found) };
    let is_called = found.iter().any(|one| one.is_called(variant));
    let is_meant = |one: &NamedVariant| {
        if is_called { one.is_called(variant) } else { one.is_filed_as(variant) }
    };
    let all: Vec<String> = found.iter().map(NamedVariant::label).collect();
    // Two of one quantization are told apart by their files.
    let names = found.iter().map(|one| {
        let is_only = all.iter().filter(|label| **label == one.label()).count() == 1;
        if is_only { one.label() } else { one.stem() }
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let mut chosen: Vec<NamedVariant> = found.into_iter().filter(is_meant).collect();
    // `Q4_K` is read as Q4_K_M, too; a file that is spelled as it is asked for goes before.
    if chosen.iter().any(|one| one.is_filed_as(variant)) {
        chosen.retain(|one| one.is_filed_as(variant));
    }
    if chosen.is_empty() {
        return Err(Problem::new(format!("{repository} has no {variant}; it has {names}")));
    }
    Ok(chosen)
}

fn ready(variant: &NamedVariant, options: &ResolveOptions) -> Result<ReadyVariant, Problem> {
    let remote = &variant.remote;
    let path = hub::place(&remote.repository, &remote.commit, remote.path(), &options.hub);
    let quantization = match variant.quantization {
        Some(named) => named,
        None => stored_as(&remote.header(&options.hub)?, &path)?,
    };
    let artifact = Artifact::found(path, checksum(remote), remote.bytes());
    let (label, remote) = (variant.label(), Some(remote.clone()));
    Ok(ReadyVariant { artifact, quantization, label, remote, by_default: true })
}

/// Without a list, the usual ones are measured as far as they fit this machine, and of floating point numbers
/// only the first: a repository may hold 30 variants.
fn mark_defaults(ready: &mut [ReadyVariant], options: &ResolveOptions) {
    let mut has_float = false;
    for one in ready {
        let is_float = one.quantization.is_float();
        let is_usual = is_float || USUAL.contains(&one.quantization.label.name());
        let fits = one.artifact.file_bytes <= options.most_bytes;
        one.by_default = is_usual && fits && !(is_float && has_float);
        has_float |= one.by_default && is_float;
    }
}

/// SHA-256 as a file on the disk has it.
fn checksum(remote: &RemoteVariant) -> String {
    let parts: Option<Vec<&str>> = remote.parts.iter().map(|part| part.sha256.as_deref()).collect();
    match parts.as_deref() {
        Some([only]) => (*only).to_owned(),
        Some(parts) => of_texts(parts.iter().copied()),
        None => of_texts([remote.repository.as_str(), &remote.commit, remote.path()]),
    }
}

/// Why a repository has nothing to measure, and where there is something.
#[must_use]
pub fn nothing_in(repository: &Repository, options: &HubOptions) -> Problem {
    let name = &repository.name;
    let beside = repository::beside_models(repository);
    let holds = if repository.files.is_empty() {
        "no files"
    } else if repository::has_adapter(repository) {
        "an adapter (LoRA) and no model"
    } else if let Some(first) = beside.first() {
        return Problem::new(format!(
            "{name} holds no model, only what belongs to one ({first}){}",
            instead(repository, options)
        ));
    } else if has_safetensors(repository) {
        return Problem::new(format!(
            "{name} holds safetensors and no GGUF; 'quantbench run --model {name}' converts them{}",
            instead(repository, options)
        ));
    } else if has_only_pickles(repository) {
        PICKLES
    } else if let Some(first) = repository::incomplete(repository).first() {
        return Problem::new(format!(
            "{name} holds no whole model: {first}{}",
            instead(repository, options)
        ));
    } else {
        "no model"
    };
    Problem::new(format!("{name} holds {holds}{}", instead(repository, options)))
}

/// Where GGUFs of a repository's model are; empty if none are known.
fn instead(repository: &Repository, options: &HubOptions) -> String {
    let name = &repository.name;
    let bases = std::iter::once(name).chain(&repository.base_models);
    let mut others: Vec<Found> = Vec::new();
    for base in bases {
        // That none can be named is not what is wrong.
        others.extend(api::quantized_from(base, NAMED, options).unwrap_or_default());
    }
    let mut names: Vec<&str> =
        others.iter().map(|it| it.id.as_str()).filter(|it| it != name).collect();
    names.dedup();
    names.truncate(NAMED as usize);
    match names.as_slice() {
        [] => String::new(),
        names => format!("; GGUFs of the same model are in {}", names.join(", ")),
    }
}

/// The GGUF that a repository of safetensors becomes.
fn converted(
    repository: &Repository,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let Repository { name, commit, .. } = repository;
    let paths = repository.files.iter().map(|file| file.path.as_str());
    if let Some(missing) = convert::lacks(paths) {
        let instead = instead(repository, &options.hub);
        let message = format!("{name} cannot be converted: it has {missing}{instead}");
        return Err(Problem::new(message));
    }
    let configuration = hub::place(name, commit, convert::CONFIGURATION, &options.hub);
    let folder = files::folder_of(&configuration);
    let is_there = |path: &str| hub::place(name, commit, path, &options.hub).exists();
    let read = repository.files.iter().filter(|file| convert::reads(&file.path));
    let mut missing: Vec<&RemoteFile> = read.filter(|file| !is_there(&file.path)).collect();
    // The first tells whether the others are of use.
    missing.sort_by_key(|file| (file.path != convert::CONFIGURATION, file.bytes));
    if !missing.is_empty() {
        let bytes = missing.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes));
        let instead = instead(repository, &options.hub);
        if !options.fetches {
            return Err(Problem::new(format!(
                "{name} holds safetensors and no GGUF, and nothing is fetched and converted now: \
                 'quantbench inspect {name}' downloads {} and converts them{instead}",
                format_bytes(bytes)
            )));
        }
        let note = Progress::Note(format!("its safetensors are converted{instead}"));
        options.progress.say(name, &note);
        check_space(name, bytes, options)?;
        options.consent.ask(name, bytes)?;
    }
    for RemoteFile { path, .. } in missing {
        if let Some(method) = convert::imported_by(folder) {
            return Err(Problem::new(format!(
                "{name} holds safetensors quantized by {method}; fetch them into a folder and make a GGUF of it with \
                 'quantbench import {method}'"
            )));
        }
        let (kind, revision) = (RepoType::Model, Some(commit.as_str()));
        let file = HubFile { kind, repository: name, revision, file: path };
        hub::fetch(file, &options.hub, &options.progress)?;
    }
    folder::resolve(folder, name, cache, options)
}

/// Of weights that have to be converted all have to be there at a time.
pub(super) fn check_space(name: &str, bytes: u64, options: &ResolveOptions) -> Result<(), Problem> {
    let folder = &options.hub.cache;
    match Room::of(folder).free {
        Some(free) if free < bytes => Err(Problem::new(format!(
            "{name} has {} to download, but the disk with {} has {} free; free some or set {} to another disk",
            format_bytes(bytes),
            folder.display(),
            format_bytes(free),
            hub::cache_variable()
        ))),
        _ => Ok(()),
    }
}

/// Fetches a variant's files, as far as they are not there.
///
/// # Errors
/// One of them cannot be fetched whole, or they are no language model.
pub fn fetch(remote: &RemoteVariant, options: &ResolveOptions) -> Result<(), Problem> {
    let (repository, revision) = (remote.repository.as_str(), Some(remote.commit.as_str()));
    for part in &remote.parts {
        let file = HubFile { kind: RepoType::Model, repository, revision, file: &part.path };
        hub::fetch(file, &options.hub, &options.progress)?;
    }
    // Without the hub, the revision is what was fetched of it last.
    hub::point(repository, remote.revision.as_deref(), &remote.commit, &options.hub)?;
    read_model(&hub::place(repository, &remote.commit, remote.path(), &options.hub)).map(|_| ())
}
