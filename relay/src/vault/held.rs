use std::collections::VecDeque;

use bytes::Bytes;

/// Segments of a body are merged up to this size.
const SEGMENT_BYTES: usize = 64 * 1024;
/// Small segments at the end that are kept apart before they are merged.
const SMALL_RUN: usize = 64;

/// The part of a body that is in memory: from `base` (what lies before it was freed) to `end`.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// With the offset of each segment's first byte.
    segments: VecDeque<(u64, Bytes)>,
    base: u64,
    end: u64,
    small_run: usize,
}

impl Held {
    /// Adds the next bytes. Many small ones are merged, so that a dripping sender cannot cost many
    /// times its bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        let length = bytes.len();
        self.segments.push_back((self.end, bytes));
        self.end += u64::try_from(length).unwrap_or(0);
        self.small_run = if length < SEGMENT_BYTES / 2 { self.small_run + 1 } else { 0 };
        let run_bytes =
            || self.segments.iter().rev().take(self.small_run).map(|(_, b)| b.len()).sum::<usize>();
        if self.small_run >= SMALL_RUN || (self.small_run > 1 && run_bytes() >= SEGMENT_BYTES) {
            self.merge_run();
        }
    }

    /// Offset of the first byte in memory.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Offset after the last byte in memory.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.end - self.base
    }

    /// The bytes at `offset`, at most `max` and at most to the end of their segment. None beyond the end or before the base.
    pub(super) fn at(&self, offset: u64, max: u64) -> Option<Bytes> {
        let after = self.segments.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = self.segments.get(after.checked_sub(1)?)?;
        let from = usize::try_from(offset - start).ok().filter(|from| *from < bytes.len())?;
        let length = (bytes.len() - from).min(usize::try_from(max).unwrap_or(usize::MAX));
        Some(bytes.slice(from..from + length))
    }

    /// Forgets the segments that lie wholly before `offset`. Gives how many bytes that were.
    pub(super) fn free_to(&mut self, offset: u64) -> u64 {
        let before = self.base;
        while let Some((start, bytes)) = self.segments.front() {
            let end = start + u64::try_from(bytes.len()).unwrap_or(0);
            if end > offset {
                break;
            }
            self.base = end;
            self.segments.pop_front();
        }
        self.small_run = self.small_run.min(self.segments.len());
        self.base - before
    }

    fn merge_run(&mut self) {
        let at = self.segments.len().saturating_sub(self.small_run);
        let run = self.segments.split_off(at);
        let Some((start, _)) = run.front() else { return };
        let start = *start;
        let mut merged = Vec::with_capacity(run.iter().map(|(_, bytes)| bytes.len()).sum());
        for (_, bytes) in &run {
            merged.extend_from_slice(bytes);
        }
        // A merged run that is still small stays part of the next one.
        self.small_run = usize::from(merged.len() < SEGMENT_BYTES / 2);
        self.segments.push_back((start, transport::wiping(merged)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_at_their_offsets_however_they_came() {
        for step in [1usize, 7, 1000, 40_000, 65_536] {
            let body: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
            let mut held = Held::default();
            for piece in body.chunks(step) {
                held.push(Bytes::copy_from_slice(piece));
            }
            assert_eq!(held.end(), 200_000);
            assert!(
                held.segments.len() <= SMALL_RUN + 200_000 / (SEGMENT_BYTES / 2) + 1,
                "{step}: {}",
                held.segments.len()
            );
            let mut got = Vec::new();
            while let Some(piece) = held.at(got.len() as u64, 5_000) {
                assert!(piece.len() <= 5_000);
                got.extend_from_slice(&piece);
            }
            assert_eq!(got, body);
        }
    }

    #[test]
    fn freeing_goes_by_whole_segments_and_forgets_what_is_before() {
        let mut held = Held::default();
        for _ in 0..4 {
            held.push(Bytes::from(vec![1u8; 40_000]));
        }
        assert_eq!(held.free_to(39_999), 0);
        assert_eq!(held.free_to(100_000), 80_000);
        assert_eq!((held.base(), held.bytes()), (80_000, 80_000));
        assert_eq!(held.at(79_999, 10), None);
        assert_eq!(held.at(80_000, 10).map(|b| b.len()), Some(10));
        assert_eq!(held.at(160_000, 10), None);
    }
}
