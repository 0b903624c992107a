//! Hundreds of damaged GGUFs: each is measured or refused in words, none crashes or hangs the
//! program. What native code makes of one may cost its trial and nothing else.

use crate::tiny_model::{self, Random, Weights};
use crate::world::{Ended, World};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How a damaged file came about, for the message of a failed test.
type Damage = (String, Vec<u8>);

fn cut(whole: &[u8], random: &mut Random) -> Damage {
    let length = random.below(whole.len());
    (format!("cut to {length} bytes"), whole[..length].to_vec())
}

/// Flips bits in the part before the weights, where every byte means something.
fn flipped(whole: &[u8], header: usize, random: &mut Random) -> Damage {
    let mut bytes = whole.to_vec();
    let mut places = Vec::new();
    for _ in 0..=random.below(3) {
        let place = random.below(header);
        bytes[place] ^= 1 << random.below(8);
        places.push(place);
    }
    (format!("bits flipped at {places:?}"), bytes)
}

/// Overwrites eight bytes with a number that lies about a length.
fn lying(whole: &[u8], header: usize, random: &mut Random) -> Damage {
    const LIES: [u64; 5] = [u64::MAX, 1 << 62, 1 << 32, 0, 0x7fff_ffff];
    let mut bytes = whole.to_vec();
    let place = 8 + random.below(header - 16);
    let lie = LIES[random.below(LIES.len())];
    bytes[place..place + 8].copy_from_slice(&lie.to_le_bytes());
    (format!("{lie} written at {place}"), bytes)
}

fn damages(count: usize, seed: u64) -> Vec<Damage> {
    let whole = tiny_model::bytes(Weights::F16);
    // The names of tensors come last in the header.
    let name = b"ffn_down.weight";
    let header = whole.windows(name.len()).position(|window| window == name).unwrap() + 40;
    let mut random = Random(seed);
    (0..count)
        .map(|nth| match nth % 3 {
            0 => cut(&whole, &mut random),
            1 => flipped(&whole, header, &mut random),
            _ => lying(&whole, header, &mut random),
        })
        .collect()
}

/// Gives every damaged file to the program, on two threads. Most damage must be noticed: a third of the
/// files is cut off.
fn check(count: usize, seed: u64, arguments: &[&str], codes: &[i32]) {
    let noticed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for half in 0..2 {
            let noticed = &noticed;
            scope.spawn(move || {
                let world = World::new();
                let mine = damages(count, seed).into_iter().skip(half).step_by(2);
                for (how, bytes) in mine {
                    fs::write(world.path("damaged.gguf"), bytes).unwrap();
                    let ended = world.run(arguments);
                    judge(&how, &ended, codes);
                    if ended.code != Some(0) {
                        noticed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let noticed = noticed.into_inner();
    assert!(noticed > count / 2, "only {noticed} of {count} damaged files were noticed");
}

fn judge(how: &str, ended: &Ended, codes: &[i32]) {
    let Some(code) = ended.code else { panic!("{how}: killed or hung: {ended:?}") };
    assert!(codes.contains(&code), "{how}: exit code {code}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{how}: {}", ended.stderr);
    if code != 0 {
        assert!(!ended.stderr.trim().is_empty(), "{how}: exit code {code} without a word");
        let longest = ended.stderr.lines().map(str::len).max().unwrap_or(0);
        assert!(longest < 1000, "{how}: {}", ended.stderr);
    }
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!ended.stderr.contains(control), "{how}: {:?}", ended.stderr);
    assert!(!ended.stdout.contains(control), "{how}: {:?}", ended.stdout);
}

#[test]
fn the_undamaged_file_is_measured() {
    let world = World::new();
    world.run(&["bench", "tiny-F16.gguf", "-p", "8", "-n", "2", "-r", "1", "--quiet"]).expect(0);
    world.run(&["inspect", "tiny-F16.gguf"]).expect(0);
}

#[test]
fn damaged_files_are_inspected_or_refused() {
    check(300, 11, &["inspect", "damaged.gguf"], &[0, 2, 3]);
}

#[test]
fn damaged_files_are_measured_or_refused() {
    let arguments =
        ["bench", "damaged.gguf", "-p", "8", "-n", "2", "-r", "1", "-t", "1", "--quiet"];
    check(200, 12, &arguments, &[0, 2, 3]);
}

#[test]
fn damaged_files_are_quantized_or_refused() {
    let arguments = ["quantize", "damaged.gguf", "--to", "Q8_0", "--force", "--quiet"];
    check(60, 13, &arguments, &[0, 2]);
}
