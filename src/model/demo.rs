//! The demo model and its texts, compiled into the binary by the feature `demo`.

/// Why the demo is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DemoError {
    /// Built without the feature.
    #[error("this build carries no demo model (it was built without the feature 'demo')")]
    NotBuiltIn,
}

/// Whether the demo is in this build.
pub const BUILT_IN: bool = false;

/// The test prompts, one JSON object per line.
///
/// # Errors
/// When the demo is not in this build.
pub fn prompts() -> Result<&'static str, DemoError> {
    Err(DemoError::NotBuiltIn)
}

/// The text that quality is measured on.
///
/// # Errors
/// When the demo is not in this build.
pub fn evaluation_text() -> Result<&'static str, DemoError> {
    Err(DemoError::NotBuiltIn)
}

/// The demo model's GGUF.
///
/// # Errors
/// When the demo is not in this build.
pub fn model() -> Result<&'static [u8], DemoError> {
    Err(DemoError::NotBuiltIn)
}
