//! PNG, JPEG and WebP, each to RGB.

use super::{LONGEST_SIDE, MOST_PIXELS, Picture, PictureError};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};
use std::io::Cursor;
use std::path::Path;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Decodes `bytes`, the content of `path`.
///
/// # Errors
/// They are no whole picture, or one with too many pixels.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Picture, PictureError> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg(path, bytes),
        Ok(ImageFormat::Png) => {
            let decoder = image::codecs::png::PngDecoder::with_limits;
            from_decoder(path, decoder(Cursor::new(bytes), limits()))
        }
        Ok(ImageFormat::WebP) => {
            from_decoder(path, image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)))
        }
        _ => Err(PictureError::UnknownFormat { path: path.to_owned() }),
    }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> PictureError {
    PictureError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

fn check_size(path: &Path, width: u32, height: u32) -> Result<(), PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if width <= LONGEST_SIDE && height <= LONGEST_SIDE && (1..=MOST_PIXELS).contains(&pixels) {
        return Ok(());
    }
    Err(PictureError::Size { path: path.to_owned(), width, height })
}

/// What a decoder allocates at most: pixels of four channels of 16 bits, and as much again.
fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(16 * MOST_PIXELS);
    limits
}

fn from_decoder<D: ImageDecoder>(
    path: &Path,
    decoder: Result<D, ImageError>,
) -> Result<Picture, PictureError> {
    let mut decoder = decoder.map_err(|error| damaged(path, error))?;
    let (width, height) = decoder.dimensions();
    check_size(path, width, height)?;
    decoder.set_limits(limits()).map_err(|error| damaged(path, error))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| damaged(path, error))?;
    Ok(Picture { width, height, rgb: decoded.into_rgb8().into_raw() })
}

/// Strictly: `image` itself decodes a JPEG as far as it goes and leaves the rest grey.
fn jpeg(path: &Path, bytes: &[u8]) -> Result<Picture, PictureError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let source = ZCursor::new(bytes);
    let mut decoder = JpegDecoder::new_with_options(source, options);
    decoder.decode_headers().map_err(|error| damaged(path, error))?;
    let (width, height) =
        decoder.info().map_or((0, 0), |info| (u32::from(info.width), u32::from(info.height)));
    check_size(path, width, height)?;
    let rgb = decoder.decode().map_err(|error| damaged(path, error))?;
    if rgb.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(damaged(path, "its colours are not understood"));
    }
    Ok(Picture { width, height, rgb })
}
