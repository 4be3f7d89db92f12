use std::collections::VecDeque;

use bytes::Bytes;

use crate::pages::{PAGE_BYTES, Page};

/// Pieces at the end that are kept as they came before they are put together.
const LOOSE_PIECES: usize = 64;

/// The part of a body that is in memory: from `base` (what lies before it was freed) to `end`.
///
/// Bytes stay loose, as they came, until there is a page full of them or the body is complete: a recipient that keeps up gets
/// them without a copy, and a body that waits fills its pages to the end.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// With the offset of each segment's first byte. The last `loose` of them are no pages.
    segments: VecDeque<(u64, Bytes)>,
    base: u64,
    end: u64,
    loose: usize,
    loose_bytes: usize,
}

impl Held {
    /// Adds the next bytes. Many small ones are put together, so that a dripping sender cannot cost many
    /// times its bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.add_loose(bytes);
        if self.loose_bytes >= PAGE_BYTES {
            self.fill_pages(false);
        } else if self.loose >= LOOSE_PIECES {
            self.join_loose();
        }
    }

    /// No more bytes come.
    pub(super) fn complete(&mut self) {
        self.fill_pages(true);
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
            if self.loose == self.segments.len() {
                self.loose -= 1;
                self.loose_bytes -= bytes.len();
            }
            self.segments.pop_front();
        }
        self.base - before
    }

    fn add_loose(&mut self, bytes: Bytes) {
        let length = bytes.len();
        self.segments.push_back((self.end, bytes));
        self.end += u64::try_from(length).unwrap_or(0);
        self.loose += 1;
        self.loose_bytes += length;
    }

    /// Takes the loose pieces from the end, which lies before them afterwards.
    fn take_loose(&mut self) -> VecDeque<(u64, Bytes)> {
        let run = self.segments.split_off(self.segments.len().saturating_sub(self.loose));
        if let Some((start, _)) = run.front() {
            self.end = *start;
        }
        (self.loose, self.loose_bytes) = (0, 0);
        run
    }

    /// Whole pages, and with `all` what is left in one of its size.
    fn fill_pages(&mut self, all: bool) {
        let mut left = self.loose_bytes;
        let mut pieces = self.take_loose().into_iter().map(|(_, bytes)| bytes);
        let mut piece = Bytes::new();
        while left >= PAGE_BYTES || (all && left > 0) {
            let mut page = Page::with_room(left.min(PAGE_BYTES));
            loop {
                let count = page.take(&piece);
                left -= count;
                piece = piece.slice(count..);
                if !piece.is_empty() {
                    break;
                }
                let Some(next) = pieces.next() else { break };
                piece = next;
            }
            let bytes = page.freeze();
            let start = self.end;
            self.end += u64::try_from(bytes.len()).unwrap_or(0);
            self.segments.push_back((start, bytes));
        }
        if !piece.is_empty() {
            self.add_loose(piece);
        }
        pieces.for_each(|piece| self.add_loose(piece));
    }

    fn join_loose(&mut self) {
        let mut joined = Vec::with_capacity(self.loose_bytes);
        for (_, bytes) in self.take_loose() {
            joined.extend_from_slice(&bytes);
        }
        self.add_loose(transport::wiping(joined));
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
                held.segments.len() <= LOOSE_PIECES + 200_000 / PAGE_BYTES + 1,
                "{step}: {}",
                held.segments.len()
            );
            if step % 2 == 0 {
                held.complete();
                assert_eq!(held.segments.len(), 200_000usize.div_ceil(PAGE_BYTES));
            }
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
        let page = PAGE_BYTES as u64;
        assert_eq!(held.free_to(page - 1), 0);
        assert_eq!(held.free_to(page), page);
        assert_eq!((held.base(), held.bytes()), (page, 160_000 - page));
        assert_eq!(held.at(page - 1, 10), None);
        assert_eq!(held.at(page, 10).map(|b| b.len()), Some(10));
        assert_eq!(held.at(160_000, 10), None);
        assert_eq!(held.free_to(160_000), 160_000 - page);
        held.push(Bytes::from_static(b"more"));
        held.complete();
        assert_eq!(held.at(160_000, 10).as_deref(), Some(&b"more"[..]));
    }
}
