//! Weights that lie beside an ONNX file.

use super::proto::{Graph, Model, Tensor};
use crate::causes::Problem;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where a tensor lies in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The file, by a path from the folder of the graph's.
    pub location: PathBuf,
    /// Its first byte.
    pub offset: u64,
    /// Bytes; `None`: what its shape needs.
    pub length: Option<u64>,
}

impl External {
    /// Where a tensor lies; `None` if it is in the file of the graph.
    ///
    /// # Errors
    /// What is wrong with the place, in words that follow the tensor's name.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>, String> {
        if tensor.data_location != Some(1) {
            return Ok(None);
        }
        let get = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
        };
        let number = |key: &str| match get(key) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("has '{text}' for the {key} of its data")),
            },
        };
        let location = PathBuf::from(get("location").ok_or("lies in a file that is not named")?);
        let is_below = location.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || location.as_os_str().is_empty() {
            let location = location.display();
            return Err(format!("lies in '{location}', which is not in the folder of the graph"));
        }
        Ok(Some(Self {
            location,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        }))
    }
}

/// The files beside `path` that hold weights of its graph, each with the bytes that it has.
///
/// # Errors
/// One is missing or too short, or a tensor says something that cannot be.
pub fn files(path: &Path, model: &Model) -> Result<Vec<(PathBuf, u64)>, Problem> {
    let folder = crate::files::folder_of(path);
    let mut needed: BTreeMap<PathBuf, (u64, &str)> = BTreeMap::new();
    let mut problem = None;
    each_tensor(model, &mut |tensor| {
        let end = match end_of(tensor) {
            Ok(Some((location, end))) => (location, end),
            Ok(None) => return,
            Err(words) => {
                problem.get_or_insert((tensor.name.as_str(), words));
                return;
            }
        };
        let known = needed.entry(end.0).or_insert((0, ""));
        if end.1 >= known.0 {
            *known = (end.1, &tensor.name);
        }
    });
    if let Some((name, words)) = problem {
        return Err(Problem::new(format!(
            "{} is damaged: tensor '{name}' {words}",
            path.display()
        )));
    }
    let mut files = Vec::new();
    for (location, (end, name)) in needed {
        let file = folder.join(&location);
        let metadata = fs::metadata(&file).map_err(|error| {
            let (graph, file) = (path.display(), file.display());
            Problem::because(
                format!("{graph} has its weights in {file}, which cannot be read"),
                error,
            )
        })?;
        if !metadata.is_file() || metadata.len() < end {
            return Err(Problem::new(format!(
                "{} is cut off: it has {} bytes, but tensor '{name}' of {} ends at byte {end}; get it again",
                file.display(),
                metadata.len(),
                path.display()
            )));
        }
        files.push((file, metadata.len()));
    }
    Ok(files)
}

/// The file of a tensor, and where it ends there.
fn end_of(tensor: &Tensor) -> Result<Option<(PathBuf, u64)>, String> {
    let Some(External { location, offset, length }) = External::of(tensor)? else {
        return Ok(None);
    };
    let bytes = tensor.bytes().ok_or("has a shape or a type that cannot be")?;
    if length.is_some_and(|length| length != bytes) {
        return Err(format!("needs {bytes} bytes, its place has {}", length.unwrap_or(0)));
    }
    let end = offset.checked_add(bytes).ok_or("begins behind the end of any file")?;
    Ok(Some((location, end)))
}

/// Every tensor of a file: of its graph, of branches, and in parameters of nodes.
pub fn each_tensor<'a>(model: &'a Model, visit: &mut dyn FnMut(&'a Tensor)) {
    fn graph<'a>(it: &'a Graph, visit: &mut dyn FnMut(&'a Tensor)) {
        it.initializer.iter().for_each(&mut *visit);
        for attribute in it.node.iter().flat_map(|node| &node.attribute) {
            attribute.t.iter().chain(&attribute.tensors).for_each(&mut *visit);
            attribute.g.iter().chain(&attribute.graphs).for_each(|inner| graph(inner, visit));
        }
    }
    model.graph.iter().for_each(|it| graph(it, visit));
}

#[cfg(test)]
mod tests {
    use super::super::proto::Entry;
    use super::*;

    fn model(location: &str, offset: &str, length: &str) -> Model {
        let entry = |(key, value): (&str, &str)| Entry { key: key.into(), value: value.into() };
        let places = [("location", location), ("offset", offset), ("length", length)];
        let tensor = Tensor {
            name: "w".to_owned(),
            dims: vec![4, 8],
            data_type: 1,
            data_location: Some(1),
            external_data: places.map(entry).to_vec(),
            ..Tensor::default()
        };
        let graph = Graph { initializer: vec![tensor], ..Graph::default() };
        Model { graph: Some(graph), ..Model::default() }
    }

    #[test]
    fn files_beside_the_graph_have_to_be_there_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let error = |model: &Model| files(&path, model).unwrap_err().to_string();
        let found = model("m.onnx_data", "128", "128");
        assert!(error(&found).contains("cannot be read"), "{}", error(&found));
        let data = folder.path().join("m.onnx_data");
        fs::write(&data, [0; 255]).unwrap();
        assert!(error(&found).contains("ends at byte 256"), "{}", error(&found));
        fs::write(&data, [0; 256]).unwrap();
        assert_eq!(files(&path, &found).unwrap(), [(data, 256)]);
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let path = Path::new("m.onnx");
        for (location, offset, length, words) in [
            ("../m.onnx_data", "0", "128", "not in the folder"),
            ("/etc/passwd", "0", "128", "not in the folder"),
            ("", "0", "128", "not in the folder"),
            ("m.onnx_data", "-1", "128", "for the offset"),
            ("m.onnx_data", "0", "127", "needs 128 bytes"),
            ("m.onnx_data", "18446744073709551615", "128", "behind the end"),
        ] {
            let error = files(path, &model(location, offset, length)).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("tensor 'w'"), "{error}");
        }
    }
}
