//! Outlines: for every variant a file whose header is that of the variant, so that llama.cpp can plan its memory.

use crate::causes;
use crate::cli::native;
use crate::error::Error;
use crate::files;
use crate::model::cache::{Cache, Scratch};
use crate::model::progress::Progress;
use crate::model::quantization::Quantization;
use crate::model::repository::RemoteVariant;
use crate::model::resolve::ResolveOptions;
use crate::orchestrator::plan::{Origin, Variant};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files to plan by; those that were written are gone when this is.
pub(in crate::cli) struct Outlines {
    /// One for each variant, or why there is none.
    pub(in crate::cli) paths: Vec<Result<PathBuf, String>>,
    _scratch: Scratch,
}

impl Outlines {
    /// Takes files that are here as they are. Of others the header is fetched, or written as it would be.
    pub(in crate::cli) fn of(
        variants: &[Variant],
        cache: &Cache,
        options: &ResolveOptions,
    ) -> Result<Self, Error> {
        let scratch = cache.scratch("plan")?;
        let folder = files::folder_of(scratch.path());
        let mut sources = BTreeMap::new();
        let mut paths = Vec::new();
        // By source, what is to be made of it.
        let mut makings: BTreeMap<PathBuf, Vec<(usize, Quantization)>> = BTreeMap::new();
        for (at, variant) in variants.iter().enumerate() {
            let own = folder.join(at.to_string());
            let name = variant.name();
            paths.push(match &variant.origin {
                Origin::Ready(artifact) => Ok(artifact.path.clone()),
                Origin::Remote(artifact, remote) => {
                    here_or_outline(&artifact.path, Some(remote), &own, &name, options)
                }
                // Also where it is in the cache: to find it there, the source would have to be read whole.
                Origin::Make { input, remote, .. } => {
                    let source = sources.entry(input.clone()).or_insert_with(|| {
                        here_or_outline(input, remote.as_ref(), &own, &name, options)
                    });
                    if let Ok(source) = source {
                        let making = makings.entry(source.clone()).or_default();
                        making.push((at, variant.quantization));
                    }
                    source.clone()
                }
            });
        }
        for (source, making) in makings {
            let outline = |at: usize| folder.join(format!("{at}.gguf"));
            let all = making.iter().map(|&(at, it)| (it, outline(at))).collect();
            // Together they take one process. Where one of them fails, each is tried alone.
            let together = native::write_outlines(&source, all);
            for (at, quantization) in making {
                let written = match &together {
                    Ok(()) => Ok(()),
                    Err(_) => native::write_outlines(&source, vec![(quantization, outline(at))]),
                };
                paths[at] = written.map(|()| outline(at));
            }
        }
        Ok(Self { paths, _scratch: scratch })
    }
}

/// A file that is there, or the outline of one that is not, in a folder of its own.
fn here_or_outline(
    path: &Path,
    remote: Option<&RemoteVariant>,
    folder: &Path,
    name: &str,
    options: &ResolveOptions,
) -> Result<PathBuf, String> {
    let Some(remote) = remote.filter(|_| !path.exists()) else { return Ok(path.to_owned()) };
    let what = format!("reading the header of {name}");
    options.progress.say(&what, &Progress::Fraction(0.0, String::new()));
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let outline = remote.outline(folder, &options.hub).map_err(|error| causes::in_words(&error));
    options.progress.say(&what, &Progress::Fraction(1.0, String::new()));
    outline
}
