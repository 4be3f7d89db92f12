//! A search of this process's own memory for what was freed.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

/// Below the size that a C library gives back to the kernel at once.
const BLOCK: usize = 48 * 1024;
const NEEDLE: usize = 96;

/// The needle is computed wherever it is needed, so that no copy of it lies anywhere.
fn byte(seed: u8, i: usize) -> u8 {
    let i = (i % NEEDLE) as u8;
    i.wrapping_mul(167) ^ black_box(seed).rotate_left(u32::from(i % 7)) ^ 0x5A
}

fn fill(block: &mut [u8], seed: u8) {
    for (i, to) in block.iter_mut().enumerate() {
        *to = byte(seed, i);
    }
    black_box(block);
}

/// How often the needle lies in the memory of this process.
fn found(seed: u8) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut piece = vec![0u8; 1 << 20];
    let mut count = 0;
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(piece.len());
            // What the kernel keeps to itself, as `[vvar]`, cannot be read.
            let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
            let is_needle = |window: &&[u8]| window.iter().enumerate().all(|(i, is)| *is == byte(seed, i));
            count += piece[..read].windows(NEEDLE).filter(is_needle).count();
            // Not to be found in the search's own buffer.
            piece[..read].fill(0);
            if read < length || end - at <= length as u64 {
                break;
            }
            at += (length - NEEDLE) as u64;
        }
    }
    count
}

/// How much of a block is found after it was freed, and of one that had to move because it grew.
pub(crate) fn found_after_the_end() -> [usize; 2] {
    let mut block = vec![0u8; BLOCK];
    fill(&mut block, 1);
    // So that neither lies at the end of the heap, which is given back.
    let guard = black_box(vec![1u8; BLOCK]);
    assert!(found(1) > 100, "the search does not find what is there");
    drop(block);
    let freed = found(1);

    let mut block = vec![0u8; BLOCK];
    fill(&mut block, 2);
    let second_guard = black_box(vec![1u8; BLOCK]);
    block.reserve_exact(BLOCK * 40);
    let whole = found(2);
    drop(black_box(block));
    let moved = found(2);
    assert!(whole > 100);
    drop((guard, second_guard));
    [freed, moved]
}
