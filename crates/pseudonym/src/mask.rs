//! Rectangles of native pixels that become black as they pass.

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// A rectangle: columns from the left, rows from the top, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// The first column.
    pub x: u32,
    /// The first row.
    pub y: u32,
    /// How many columns.
    pub width: u32,
    /// How many rows.
    pub height: u32,
}

/// How pixels are encoded, as the header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) frames: u64,
    pub(crate) samples: u32,
    pub(crate) bits_allocated: u32,
    pub(crate) bits_stored: u32,
    pub(crate) planes: bool,
    pub(crate) photometric: String,
}

/// What is done with the pixels of one instance.
#[derive(Debug)]
pub(crate) struct Mask {
    /// Of each row, the bytes that become black: from, to.
    rows: Vec<Vec<(usize, usize)>>,
    row_bytes: usize,
    /// The bytes of a black pixel; of each plane its own, where there are planes.
    fill: Vec<Vec<u8>>,
    /// The value's bytes, without padding.
    bytes: u64,
    at: u64,
}

impl Layout {
    /// Makes everything within these rectangles black, or with `outside` everything that is in none.
    pub(crate) fn mask(&self, rectangles: &[Rectangle], outside: bool) -> Result<Mask, Refusal> {
        let bytes = match self.bits_allocated {
            8 => 1_usize,
            16 => 2,
            32 => 4,
            _ => return Err(Refusal::Pixels("they cannot be masked: samples of 8, 16 or 32 bits only")),
        };
        let sample = |value: u64| value.to_le_bytes().get(..bytes).unwrap_or_default().to_vec();
        let white = 1_u64.checked_shl(self.bits_stored).unwrap_or(0).wrapping_sub(1);
        let middle = 1_u64.checked_shl(self.bits_stored.saturating_sub(1)).unwrap_or(0);
        let pixel: Vec<Vec<u8>> = match (self.photometric.as_str(), self.samples) {
            ("MONOCHROME1", 1) => vec![sample(white)],
            ("MONOCHROME2" | "PALETTE COLOR", 1) => vec![sample(0)],
            ("RGB", 3) => vec![sample(0); 3],
            ("YBR_FULL", 3) => vec![sample(0), sample(middle), sample(middle)],
            _ => {
                return Err(Refusal::Pixels("they cannot be masked: Photometric Interpretation (0028,0004)"));
            }
        };
        let fill = if self.planes && self.samples > 1 { pixel } else { vec![pixel.concat()] };
        let pixel_bytes = fill.first().map_or(0, Vec::len);
        let columns = usize::try_from(self.columns).unwrap_or(usize::MAX);
        let row = |y: u32| ranges(&self.inside(y, rectangles), columns, outside, pixel_bytes);
        let row_bytes = columns.saturating_mul(pixel_bytes);
        let total = u64::from(self.rows)
            .checked_mul(row_bytes as u64)
            .and_then(|bytes| bytes.checked_mul(fill.len() as u64))
            .and_then(|bytes| bytes.checked_mul(self.frames));
        match total {
            Some(bytes) if bytes > 0 => {
                let rows: Vec<_> = (0..self.rows).map(row).collect();
                if rows.iter().all(Vec::is_empty) {
                    return Err(Refusal::Pixels("nothing in them would become black"));
                }
                Ok(Mask { rows, row_bytes, fill, bytes, at: 0 })
            }
            _ => Err(Refusal::Pixels("they cannot be masked: rows, columns or frames are missing")),
        }
    }

    /// Columns of a row that lie in a rectangle: from, to.
    fn inside(&self, y: u32, rectangles: &[Rectangle]) -> Vec<(usize, usize)> {
        let within = |one: &&Rectangle| (one.y..one.y.saturating_add(one.height)).contains(&y);
        let columns = |one: &Rectangle| {
            let (from, to) = (one.x.min(self.columns), one.x.saturating_add(one.width).min(self.columns));
            (from as usize, to as usize)
        };
        let mut spans: Vec<_> = rectangles.iter().filter(within).map(columns).collect();
        spans.sort_unstable();
        spans
    }
}

/// The bytes of a row that become black.
fn ranges(
    inside: &[(usize, usize)],
    columns: usize,
    outside: bool,
    pixel_bytes: usize,
) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    if outside {
        let mut at = 0;
        for (from, to) in inside {
            if *from > at {
                spans.push((at, *from));
            }
            at = at.max(*to);
        }
        spans.push((at, columns));
    } else {
        spans.extend_from_slice(inside);
    }
    spans.retain(|(from, to)| from < to);
    spans.iter().map(|(from, to)| (from * pixel_bytes, to * pixel_bytes)).collect()
}

impl Mask {
    /// Whether a value of this length is what the header says: its pixels, and a byte of padding.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes == self.bytes.saturating_add(self.bytes % 2)
    }

    /// The next bytes of the value.
    pub(crate) fn alter(&mut self, piece: &mut [u8]) {
        let mut rest = piece;
        while !rest.is_empty() && self.row_bytes > 0 {
            let (line, in_row) = (self.at / self.row_bytes as u64, self.at % self.row_bytes as u64);
            let in_row = usize::try_from(in_row).unwrap_or_default();
            let taken = (self.row_bytes - in_row).min(rest.len());
            let (now, later) = rest.split_at_mut(taken);
            self.row(line, in_row, now);
            self.at += taken as u64;
            rest = later;
        }
    }

    /// A part of one row.
    fn row(&self, line: u64, in_row: usize, bytes: &mut [u8]) {
        let rows = self.rows.len() as u64;
        let place = usize::try_from(line % rows).ok();
        let plane = usize::try_from(line / rows % self.fill.len() as u64).ok();
        let spans = place.and_then(|place| self.rows.get(place));
        let (Some(spans), Some(fill)) = (spans, plane.and_then(|plane| self.fill.get(plane))) else { return };
        for (from, to) in spans {
            let (from, to) = (from.saturating_sub(in_row), to.saturating_sub(in_row).min(bytes.len()));
            for (at, byte) in bytes.iter_mut().enumerate().take(to).skip(from) {
                *byte = fill.get((in_row + at) % fill.len()).copied().unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(photometric: &str, samples: u32, bits: u32) -> Layout {
        Layout {
            rows: 3,
            columns: 4,
            frames: 2,
            samples,
            bits_allocated: bits,
            bits_stored: bits,
            planes: false,
            photometric: photometric.to_owned(),
        }
    }

    const BOX: Rectangle = Rectangle { x: 1, y: 1, width: 2, height: 9 };

    fn masked(layout: &Layout, rectangles: &[Rectangle], outside: bool, piece: usize) -> Vec<u8> {
        let mut mask = layout.mask(rectangles, outside).unwrap();
        let bytes = layout.frames
            * u64::from(layout.rows * layout.columns * layout.samples * layout.bits_allocated / 8);
        assert!(mask.fits(bytes) && !mask.fits(bytes + 2));
        let mut pixels = vec![9; usize::try_from(bytes).unwrap()];
        pixels.chunks_mut(piece).for_each(|piece| mask.alter(piece));
        pixels
    }

    #[test]
    fn a_rectangle_is_black_in_every_frame_however_the_bytes_come() {
        for piece in [1, 3, 5, 100] {
            let one = [9, 9, 9, 9, 9, 0, 0, 9, 9, 0, 0, 9];
            assert_eq!(masked(&layout("MONOCHROME2", 1, 8), &[BOX], false, piece), one.repeat(2));
            let other = [0, 0, 0, 0, 0, 9, 9, 0, 0, 9, 9, 0];
            assert_eq!(masked(&layout("MONOCHROME2", 1, 8), &[BOX], true, piece), other.repeat(2));
            let wide = masked(&layout("MONOCHROME1", 1, 16), &[BOX], false, piece);
            assert_eq!(wide[8..16], [9, 9, 255, 255, 255, 255, 9, 9]);
            let colour = masked(&layout("YBR_FULL", 3, 8), &[BOX], false, piece);
            assert_eq!(colour[12..24], [9, 9, 9, 0, 128, 128, 0, 128, 128, 9, 9, 9]);
            let planes = Layout { planes: true, ..layout("YBR_FULL", 3, 8) };
            let planes = masked(&planes, &[BOX], false, piece);
            assert_eq!((planes[5], planes[12 + 5], planes[24 + 5], planes[36 + 5]), (0, 128, 128, 0));
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let good = layout("RGB", 3, 8);
        assert!(good.mask(&[BOX], false).is_ok());
        for bad in [
            Layout { rows: 0, ..good.clone() },
            Layout { frames: u64::MAX, ..good.clone() },
            Layout { bits_allocated: 1, ..good.clone() },
            Layout { photometric: "YBR_FULL_422".to_owned(), ..good.clone() },
            Layout { samples: 1, ..good },
        ] {
            assert!(bad.mask(&[BOX], false).is_err(), "{bad:?}");
        }
    }
}
