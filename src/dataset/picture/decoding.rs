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
        _ => Err(PictureError::unusable(path, "is neither PNG, JPEG nor WebP")),
    }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> PictureError {
    PictureError::unusable(path, format!("is damaged: {}", reason.to_string().trim()))
}

fn check_size(path: &Path, width: u32, height: u32) -> Result<(), PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if width <= LONGEST_SIDE && height <= LONGEST_SIDE && (1..=MOST_PIXELS).contains(&pixels) {
        return Ok(());
    }
    Err(PictureError::unusable(
        path,
        format!(
            "says that it has {width} × {height} pixels; pictures have at most {LONGEST_SIDE} in one \
             direction and {} million in all",
            MOST_PIXELS >> 20
        ),
    ))
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

/// A JPEG's decoder takes what is there and leaves the rest grey, even where it is told to be strict: a
/// picture that is cut off or shorter than its header says would go unnoticed.
fn jpeg(path: &Path, bytes: &[u8]) -> Result<Picture, PictureError> {
    let mut decoder = jpeg_decoder(bytes, true);
    decoder.decode_headers().map_err(|error| damaged(path, error))?;
    let (width, height) =
        decoder.info().map_or((0, 0), |info| (u32::from(info.width), u32::from(info.height)));
    check_size(path, width, height)?;
    let rgb = decoder.decode().map_err(|error| damaged(path, error))?;
    if rgb.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(damaged(path, "its colours are not understood"));
    }
    let Some(end) = end_of_scans(bytes) else { return Err(damaged(path, "it has no end")) };
    // What follows the last scan plays no part in a picture that is whole.
    let other = [&bytes[..end], &other_end()].concat();
    match jpeg_decoder(&other, false).decode() {
        Ok(same) if same == rgb => Ok(Picture { width, height, rgb }),
        _ => Err(damaged(path, "it holds fewer pixels than its header says")),
    }
}

fn jpeg_decoder(bytes: &[u8], strict: bool) -> JpegDecoder<ZCursor<&[u8]>> {
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

/// Bytes that would come to some picture, and the marker that ends one.
fn other_end() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    // 255 begins a marker.
    let mut bytes: Vec<u8> = (0..1024).map(|_| random.u8(..255)).collect();
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// Where the marker stands that ends the picture, behind its first scan: a thumbnail within a header has
/// an end of its own.
fn end_of_scans(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let rest = bytes.get(at..)?;
        match rest {
            [0xff, 0xff, ..] => at += 1,
            [0xff, 0xda, ..] => break,
            [0xff, 0x01 | 0xd0..=0xd8, ..] => at += 2,
            [0xff, _, high, low, ..] => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            // Bytes between two segments, which decoders skip.
            [_, ..] => at += 1,
            [] => return None,
        }
    }
    bytes[at..].windows(2).position(|pair| pair == [0xff, 0xd9]).map(|end| at + end)
}
