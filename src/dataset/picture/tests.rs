//! Pictures as they are, and as they are broken.

use super::*;
use std::fs;

/// What is said of a file with this content, without its folder.
fn said(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.png");
    fs::write(&path, content).unwrap();
    let error = bytes(&path).and_then(|bytes| decode(&path, &bytes)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn what_is_no_file_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| crate::causes::in_words(&bytes(path).unwrap_err());
    assert!(error(&folder.path().join("none.png")).contains("none.png cannot be read: "));
    assert!(error(folder.path()).ends_with(" cannot be read: it is a folder, not a regular file"));
    assert_eq!(said(b""), "the picture it.png is empty");
}

#[test]
fn a_file_that_is_too_large_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    // Takes no disk: the file is one hole.
    fs::File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert!(bytes(&path).unwrap_err().to_string().ends_with("large.png is larger than 64.0 MiB"));
}

#[cfg(not(feature = "multimodal"))]
#[test]
fn a_build_without_decoders_says_how_to_get_them() {
    assert!(said(b"\x89PNG\r\n\x1a\n").contains("cargo build --release --features multimodal"));
}

#[cfg(feature = "multimodal")]
mod decoded {
    use super::*;

    const FILES: [&str; 5] =
        ["baseline.jpg", "progressive.jpg", "lossy.webp", "lossless.webp", "transparent.png"];

    fn at(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name)
    }

    /// A PNG of one colour channel whose header and pixels are what is given.
    fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([8, 0, 0, 0, 0]);
        // Stored, not compressed: zlib's header, one last block, and a checksum.
        let length = u16::try_from(pixels.len()).unwrap();
        let mut data = vec![0x78, 0x01, 0x01];
        data.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        data.extend(pixels);
        data.extend(adler(pixels).to_be_bytes());
        for (kind, content) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
            png.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
            let marked = [&kind[..], &content].concat();
            png.extend(&marked);
            png.extend(crc(&marked).to_be_bytes());
        }
        png
    }

    fn adler(bytes: &[u8]) -> u32 {
        let step = |(a, b): (u32, u32), &byte: &u8| {
            let a = (a + u32::from(byte)) % 65_521;
            (a, (b + a) % 65_521)
        };
        let (a, b) = bytes.iter().fold((1, 0), step);
        (b << 16) | a
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        })
    }

    #[test]
    fn every_format_comes_to_the_same_picture() {
        for name in FILES {
            let content = bytes(&at(name)).unwrap();
            let Picture { width, height, rgb } = decode(&at(name), &content).unwrap();
            assert_eq!((width, height, rgb.len()), (40, 24, 40 * 24 * 3), "{name}");
            let pixel = |x: usize, y: usize| &rgb[3 * (40 * y + x)..][..3];
            for (found, right) in [(pixel(5, 5), [200, 40, 30]), (pixel(32, 12), [56, 60, 146])] {
                let far = found.iter().zip(right).map(|(&a, b)| a.abs_diff(b)).max().unwrap();
                assert!(far <= 12, "{name}: {found:?}, not {right:?}");
            }
        }
    }

    #[test]
    fn a_picture_that_ends_early_is_damaged_wherever_it_ends() {
        for name in FILES {
            let content = bytes(&at(name)).unwrap();
            for part in 1..10 {
                // Its first bytes tell the format.
                let told = said(&content[..(content.len() * part / 10).max(16)]);
                assert!(told.starts_with("the picture it.png is damaged: "), "{name}: {told}");
            }
        }
    }

    #[test]
    fn a_picture_of_another_size_than_its_header_says_is_damaged() {
        let pixels = [0, 7, 7, 0, 7, 7];
        assert_eq!(decode(Path::new("a"), &png(2, 2, &pixels)).unwrap().rgb, [7; 12]);
        for (width, height) in [(2, 3), (9, 2)] {
            let told = said(&png(width, height, &pixels));
            assert!(told.starts_with("the picture it.png is damaged: "), "{told}");
        }
        // The height of a JPEG stands behind the marker of its frame.
        for (name, marker) in [("baseline.jpg", 0xc0), ("progressive.jpg", 0xc2)] {
            let mut content = bytes(&at(name)).unwrap();
            let frame = content.windows(2).position(|pair| pair == [0xff, marker]).unwrap();
            assert_eq!(content[frame + 5..frame + 7], [0, 24]);
            content[frame + 6] = 240;
            let told = said(&content);
            assert!(told.starts_with("the picture it.png is damaged: "), "{name}: {told}");
        }
    }

    #[test]
    fn a_size_that_nobody_means_is_refused_before_anything_is_decoded() {
        for (width, height) in [(60_000, 60_000), (16_384, 16_384), (20_000, 1)] {
            let told = said(&png(width, height, &[0, 7]));
            assert!(
                told.contains(&format!("says that it has {width} × {height} pixels")),
                "{told}"
            );
        }
        assert!(said(&png(0, 4, &[0, 7])).starts_with("the picture it.png"));
        let mut content = bytes(&at("baseline.jpg")).unwrap();
        let frame = content.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        content[frame + 5..frame + 9].fill(0xff);
        assert!(said(&content).contains("65535 × 65535"));
    }

    #[test]
    fn other_files_are_told_by_what_is_read() {
        for other in [&b"a text"[..], b"GIF89a", b"GGUF\x03\0\0\0"] {
            assert_eq!(said(other), "the picture it.png is neither PNG, JPEG nor WebP");
        }
    }

    #[test]
    fn no_damage_brings_a_decoder_down() {
        let mut random = fastrand::Rng::with_seed(7);
        for name in FILES {
            let whole = bytes(&at(name)).unwrap();
            for _ in 0..200 {
                let mut content = whole.clone();
                for _ in 0..random.usize(1..6) {
                    let place = random.usize(12..content.len());
                    content[place] = random.u8(..);
                }
                // Some damage cannot be told from another picture; all else is an error.
                if let Ok(picture) = decode(Path::new("x"), &content) {
                    let pixels = u64::from(picture.width) * u64::from(picture.height);
                    assert_eq!(picture.rgb.len() as u64, 3 * pixels);
                }
            }
        }
    }
}
