//! Adapters (LoRA): files that change what a model computes, and how strongly.

use super::artifact::Artifact;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// An adapter as it is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterSource {
    /// The GGUF.
    pub path: PathBuf,
    /// What it is multiplied by.
    pub scale: f64,
}

/// An adapter whose file is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The GGUF.
    pub file: Artifact,
    /// What it is multiplied by.
    pub scale: f64,
}

impl AdapterSource {
    /// Reads `FILE` or `FILE:SCALE`; a relative path starts at `base`.
    ///
    /// # Errors
    /// There is no such file; half a sentence says so.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let whole = base.join(text);
        let scaled = text.rsplit_once(':').and_then(|(path, scale)| {
            let scale = scale.parse().ok().filter(|scale: &f64| scale.is_finite())?;
            Some((base.join(path), scale))
        });
        let (path, scale) = match scaled {
            Some(scaled) if !whole.is_file() => scaled,
            _ => (whole, 1.0),
        };
        if !path.is_file() {
            return Err(format!("is '{text}', but there is no file {}", path.display()));
        }
        Ok(Self { path, scale })
    }
}

impl fmt::Display for Adapter {
    /// `style.gguf`, or `style.gguf:0.5`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.path.file_name().unwrap_or_default().to_string_lossy();
        formatter.write_str(&name)?;
        if (self.scale - 1.0).abs() > f64::EPSILON {
            write!(formatter, ":{}", self.scale)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_stands_behind_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.gguf", "b:2"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let read = |text: &str| {
            AdapterSource::parse(text, folder.path())
                .map(|it| (it.path.file_name().unwrap().to_string_lossy().into_owned(), it.scale))
        };
        assert_eq!(read("a.gguf"), Ok(("a.gguf".to_owned(), 1.0)));
        assert_eq!(read("a.gguf:-0.5"), Ok(("a.gguf".to_owned(), -0.5)));
        assert_eq!(read("b:2"), Ok(("b:2".to_owned(), 1.0)), "a name with a colon in it");
        assert_eq!(read("b:2:3"), Ok(("b:2".to_owned(), 3.0)));
        for wrong in ["c.gguf", "a.gguf:x", "a.gguf:inf"] {
            assert!(read(wrong).unwrap_err().contains("there is no file"), "{wrong}");
        }
    }
}
