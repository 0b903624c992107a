//! Pictures as an engine reads them.

use std::any::Any;

/// How much of a context a picture takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureExtent {
    /// Tokens of context in all.
    pub tokens: usize,
    /// Tokens of its longest part.
    pub longest_part: usize,
}

/// A picture that was encoded, for a context of the same model.
#[derive(Debug)]
pub struct EncodedPicture {
    /// How much of a context it takes.
    pub extent: PictureExtent,
    /// What the engine that encoded it keeps of it.
    #[cfg_attr(not(feature = "multimodal"), expect(dead_code, reason = "nothing reads pictures"))]
    pub(super) content: Box<dyn Any>,
}
