//! Compressed pixels become native ones as they pass, frame by frame, and parts of them black.
//!
//! Of an instance no more is held than one frame, compressed and decoded. What comes out is Explicit VR Little Endian: every destination
//! takes it, nothing is lost a second time, and its length is known before its first byte. All frames have to be there, each as
//! large as the header says.

use base::Uid;
use dataset::Fragment;

use crate::decode::{Coding, FRAME_BYTES_MAX};
use crate::mask::{Layout, Mask};

/// What the pixels are in afterwards: Explicit VR Little Endian.
pub(crate) const NATIVE: &str = "1.2.840.10008.1.2.1";

/// Decoded bytes that may wait for whoever takes them. Thousands of blank frames fit into a message; whoever feeds gives less at one time.
const OUT_BYTES_MAX: usize = 256 << 20;

const UNDECODED: &str = "they cannot be masked: a frame cannot be decoded";
const NOT_ALL: &str =
    "they cannot be masked: there are not as many frames as Number of Frames (0028,0008) says";

/// What is done with the fragments of one instance.
#[derive(Debug)]
pub(crate) struct Recode {
    coding: Coding,
    is_lossy: bool,
    came: Layout,
    /// As they go.
    pub(crate) goes: Layout,
    /// Where frames begin, in bytes from the first fragment; empty where nobody says.
    begins: Vec<u64>,
    /// Fragments begun, the offset table included.
    fragments: u64,
    /// The table, then the fragments of the running frame.
    held: Vec<u8>,
    /// Where the running fragment begins, in bytes from the first one.
    at: u64,
    /// Bytes of the running fragment.
    length: u64,
    /// The running fragment begins in `held` here.
    held_from: usize,
    frames: u64,
    /// Why it had to stop.
    pub(crate) fault: Option<&'static str>,
}

impl Recode {
    /// For pixels in this transfer syntax; `None` where they are native, or nobody decodes them.
    pub(crate) fn new(syntax: &Uid, came: &Layout) -> Option<Self> {
        let coding = Coding::of(syntax)?;
        Some(Self {
            coding,
            is_lossy: Coding::is_lossy(syntax),
            came: came.clone(),
            goes: coding.decoded(came),
            begins: Vec::new(),
            fragments: 0,
            held: Vec::new(),
            at: 0,
            length: 0,
            held_from: 0,
            frames: 0,
            fault: None,
        })
    }

    /// Bytes of the native value, with padding; `None` where it would be longer than a value of defined length can be.
    pub(crate) fn bytes(&self) -> Option<u32> {
        let bytes = self.goes.frame_bytes()?.checked_mul(self.goes.frames)?.checked_next_multiple_of(2)?;
        u32::try_from(bytes).ok().filter(|bytes| *bytes < u32::MAX - 1)
    }

    /// Whether every image of its transfer syntax has lost something.
    pub(crate) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// The value of Extended Offset Table (7FE0,0001).
    pub(crate) fn extended_offsets(&mut self, value: &[u8]) {
        let (offsets, _) = value.as_chunks::<8>();
        // One more than there are frames is enough to find that there are too many.
        let most = usize::try_from(self.came.frames).unwrap_or(usize::MAX).saturating_add(1);
        self.begins = offsets.iter().take(most).map(|offset| u64::from_le_bytes(*offset)).collect();
    }

    /// Takes the next piece and appends native pixels to `out`.
    pub(crate) fn take(
        &mut self,
        piece: Fragment<'_>,
        mask: &mut Mask,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let taken = self.piece(piece, mask, out);
        self.fault = taken.err();
        taken
    }

    fn piece(&mut self, piece: Fragment<'_>, mask: &mut Mask, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match piece {
            Fragment::Begins => {
                self.fragments += 1;
                self.length = 0;
                self.held_from = self.held.len();
                // The next frame's place, or none: a table may be longer than the data set.
                let next = usize::try_from(self.frames + 1).ok().and_then(|next| self.begins.get(next));
                if self.fragments > 2 && next == Some(&self.at) {
                    self.frame(self.held.len(), mask, out)?;
                }
            }
            Fragment::Bytes(bytes) => {
                self.length += bytes.len() as u64;
                if self.held.len() as u64 + bytes.len() as u64 > FRAME_BYTES_MAX {
                    return Err("they cannot be masked: a frame is too large");
                }
                self.held.extend_from_slice(bytes);
            }
            Fragment::Ends if self.fragments == 1 => {
                let (offsets, _) = self.held.as_chunks::<4>();
                if self.begins.is_empty() {
                    let most = usize::try_from(self.came.frames).unwrap_or(usize::MAX).saturating_add(1);
                    let offsets = offsets.iter().take(most);
                    self.begins = offsets.map(|offset| u32::from_le_bytes(*offset).into()).collect();
                }
                self.held.clear();
            }
            Fragment::Ends => {
                self.at += self.length + 8;
                // Without a table, a frame ends where the next one begins.
                let fragment = self.held.get(self.held_from..).unwrap_or_default();
                let begins = self.begins.is_empty()
                    && self.came.frames > 1
                    && self.held_from > 0
                    && self.coding.begins_frame(fragment);
                if begins {
                    self.frame(self.held_from, mask, out)?;
                }
            }
            Fragment::Over => {
                if !self.held.is_empty() {
                    self.frame(self.held.len(), mask, out)?;
                }
                if self.frames != self.came.frames {
                    return Err(NOT_ALL);
                }
                let bytes = self.goes.frame_bytes().and_then(|bytes| bytes.checked_mul(self.frames));
                out.extend(bytes.filter(|bytes| bytes % 2 == 1).map(|_| 0));
            }
        }
        Ok(())
    }

    /// A frame is complete: so many bytes of what is held.
    fn frame(&mut self, bytes: usize, mask: &mut Mask, out: &mut Vec<u8>) -> Result<(), &'static str> {
        self.frames += 1;
        if self.frames > self.came.frames {
            return Err(NOT_ALL);
        }
        let frame = self.held.get(..bytes).unwrap_or_default();
        if out.len() > OUT_BYTES_MAX {
            return Err("they cannot be masked: more frames come at once than can be held decoded");
        }
        let mut pixels = self.coding.decode(frame, &self.came).ok_or(UNDECODED)?;
        mask.alter(&mut pixels);
        out.append(&mut pixels);
        self.held.drain(..bytes);
        self.held_from = 0;
        Ok(())
    }
}
