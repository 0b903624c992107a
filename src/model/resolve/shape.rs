//! A shape: the header of a network, from the catalogue, a file with dimensions, or a model of which no more is read.

use super::{ResolveOptions, Resolved, SourceFile, no_model, what_else};
use crate::causes::Problem;
use crate::model::artifact::Artifact;
use crate::model::cache::Cache;
use crate::model::file_type::FileType;
use crate::model::gguf::{Header, RawKey};
use crate::model::shape::{Dimensions, Shape, ShapeOf, Template, entries};
use crate::model::source::Source;
use crate::model::split;
use std::path::Path;

/// The file that variants are generated from. None is ready: every one is made.
pub(super) fn resolve(
    shape: &Shape,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let wrong = |what: &dyn std::fmt::Display, reason: String| {
        Problem::new(format!("{what} gives no shape: {reason}"))
    };
    let template = match &shape.of {
        ShapeOf::Name(name) => entries().get(name).map(|entry| entry.dimensions.template()),
        ShapeOf::Dimensions(path) => {
            let template = Dimensions::read_file(path).and_then(|it| it.template());
            Some(Ok(template.map_err(|reason| wrong(&path.display(), reason))?))
        }
        ShapeOf::Model(source) => {
            let (header, keys) = header_of(source, cache, options)?;
            Some(Template::of_header(&header, keys))
        }
    };
    let missing = || Err("this version has none of that name".to_owned());
    let template = template.unwrap_or_else(missing).map_err(|reason| wrong(shape, reason))?;
    let files = template.in_cache(cache)?;
    let header = Header::read(&files.whole)?;
    if let Some(holds) = what_else(&header) {
        return Err(no_model(shape, &holds));
    }
    let source = SourceFile {
        artifact: Artifact::found(files.whole, files.checksum, header.file_bytes),
        quantization: FileType::F16.into(),
        header: Some(header),
        remote: None,
        template: Some(files.header),
    };
    Ok(Resolved { source: Some(source), ready: Vec::new() })
}

/// The header of a model, of all its parts, and the keys of the first.
fn header_of(
    source: &Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<(Header, Vec<RawKey>), Problem> {
    if let Source::File(path) = source {
        return read(path);
    }
    // Nothing but headers is fetched.
    let options = ResolveOptions { fetches: false, ..options.clone() };
    let resolved = super::resolve(source, cache, &options)?;
    let ready = resolved.ready.first().map(|it| (&it.artifact.path, &it.remote));
    let found = resolved.source.as_ref().map(|it| (&it.artifact.path, &it.remote)).or(ready);
    match found {
        Some((path, Some(remote))) if !path.exists() => remote.raw_header(&options.hub),
        Some((path, _)) => read(path),
        None => Err(Problem::new(format!("{source} holds no model"))),
    }
}

fn read(path: &Path) -> Result<(Header, Vec<RawKey>), Problem> {
    let parts = split::all_parts(path);
    let (first, keys) = Header::read_beginning(parts.first().map_or(path, |first| first))?;
    // The other parts have tensors.
    let header = if parts.len() > 1 { Header::read(path)? } else { first };
    Ok((header, keys))
}
