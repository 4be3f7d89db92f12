//! What a compressed frame says of itself, looked at before a decoder allocates for it. The bytes are a stranger's: a few hundred of them can
//! ask for more memory than a machine has, and an allocation that fails cannot be caught.

use crate::mask::Layout;

/// Tiles of an image: these, and one more for so many pixels.
const TILES_FREE: u64 = 1024;
const PIXELS_PER_TILE: u64 = 4096;
/// Exponents of a code-block's width and height together: at least 32 × 32 samples.
const BLOCK_EXPONENTS_MIN: u8 = 10;
/// Exponent of a precinct's width or height.
const PRECINCT_EXPONENT_MIN: u8 = 5;
const LAYERS_MAX: u16 = 32;
const LEVELS_MAX: u8 = 32;

/// Markers of ISO/IEC 15444-1, Annex A.
mod j2k {
    pub(super) const SOC: u16 = 0xFF4F;
    pub(super) const SIZ: u16 = 0xFF51;
    pub(super) const COD: u16 = 0xFF52;
    pub(super) const COC: u16 = 0xFF53;
    pub(super) const POC: u16 = 0xFF5F;
    pub(super) const SOT: u16 = 0xFF90;
    pub(super) const SOD: u16 = 0xFF93;
    pub(super) const EOC: u16 = 0xFFD9;
}

/// Reads numbers, big endian.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A marker segment's content, behind its length.
    fn segment(&mut self) -> Option<Self> {
        let length = usize::from(self.u16()?).checked_sub(2)?;
        Some(Self(self.take(length)?))
    }
}

/// Whether a JPEG 2000 codestream is of the size that the header gives, of unsigned components that are all alike, and asks for no more
/// tiles, code-blocks, precincts and layers than such an image needs.
pub(crate) fn is_modest_jpeg_2000(frame: &[u8], layout: &Layout) -> bool {
    jpeg_2000(frame, layout).is_some()
}

fn jpeg_2000(frame: &[u8], layout: &Layout) -> Option<()> {
    let mut bytes = Bytes(frame);
    (bytes.u16()? == j2k::SOC && bytes.u16()? == j2k::SIZ).then_some(())?;
    let components = size(&mut bytes.segment()?, layout)?;
    // The main header, then that of each tile-part.
    let mut tile_part = None;
    loop {
        let at = bytes.0;
        match bytes.u16()? {
            j2k::COD => coding_style(&mut bytes.segment()?)?,
            j2k::COC => component_style(&mut bytes.segment()?, components)?,
            // Progressions in any order, as often as somebody likes: only a hostile frame needs them here.
            j2k::POC => return None,
            j2k::SOT => {
                let mut segment = bytes.segment()?;
                segment.u16()?;
                let length = usize::try_from(segment.u32()?).ok()?;
                // Zero: all that is left.
                tile_part = Some(if length == 0 { &[][..] } else { at.get(length..)? });
            }
            j2k::SOD => match tile_part.take()? {
                [] => return Some(()),
                next => bytes = Bytes(next),
            },
            j2k::EOC => return Some(()),
            _ => {
                bytes.segment()?;
            }
        }
        if bytes.0.is_empty() {
            return Some(());
        }
    }
}

/// Image and tile sizes; gives the number of components.
fn size(segment: &mut Bytes<'_>, layout: &Layout) -> Option<u16> {
    segment.u16()?;
    let [width, height, left, top] = [segment.u32()?, segment.u32()?, segment.u32()?, segment.u32()?];
    let [tile_width, tile_height, tile_left, tile_top] =
        [segment.u32()?, segment.u32()?, segment.u32()?, segment.u32()?];
    let is_size = width.checked_sub(left)? == layout.columns && height.checked_sub(top)? == layout.rows;
    let across = u64::from(width.checked_sub(tile_left)?).div_ceil(u64::from(tile_width.max(1)));
    let down = u64::from(height.checked_sub(tile_top)?).div_ceil(u64::from(tile_height.max(1)));
    let pixels = u64::from(layout.columns) * u64::from(layout.rows);
    let is_tiled_modestly = across.checked_mul(down)? <= TILES_FREE + pixels / PIXELS_PER_TILE;
    let count = segment.u16()?;
    let mut alike = None;
    for _ in 0..count {
        let one = (segment.u8()?, segment.u8()?, segment.u8()?);
        let is_plain = one.0 & 0x80 == 0 && (one.1, one.2) == (1, 1);
        (is_plain && *alike.get_or_insert(one) == one).then_some(())?;
    }
    (is_size && is_tiled_modestly && tile_width > 0 && tile_height > 0 && u32::from(count) == layout.samples)
        .then_some(count)
}

fn coding_style(segment: &mut Bytes<'_>) -> Option<()> {
    let style = segment.u8()?;
    segment.u8()?;
    let layers = segment.u16()?;
    segment.u8()?;
    (1..=LAYERS_MAX).contains(&layers).then_some(())?;
    parameters(style, segment)
}

fn component_style(segment: &mut Bytes<'_>, components: u16) -> Option<()> {
    if components < 257 {
        segment.u8()?;
    } else {
        segment.u16()?;
    }
    let style = segment.u8()?;
    parameters(style, segment)
}

fn parameters(style: u8, segment: &mut Bytes<'_>) -> Option<()> {
    let levels = segment.u8()?;
    let (width, height) = (segment.u8()?, segment.u8()?);
    // They stand there less 2.
    let exponents = width.checked_add(height)?.checked_add(4)?;
    (levels <= LEVELS_MAX && exponents >= BLOCK_EXPONENTS_MIN).then_some(())?;
    segment.take(2)?;
    if style & 1 == 1 {
        for _ in 0..=levels {
            let precinct = segment.u8()?;
            ((precinct & 0x0F).min(precinct >> 4) >= PRECINCT_EXPONENT_MIN).then_some(())?;
        }
    }
    Some(())
}

/// Whether a lossless JPEG has neither restart intervals nor a point transform (ISO/IEC 10918-1, H.1.2.1): the decoder takes no notice of
/// them, and what it made of such a frame would be another image.
pub(crate) fn is_plain_lossless_jpeg(frame: &[u8]) -> bool {
    lossless_jpeg(frame).is_some()
}

fn lossless_jpeg(frame: &[u8]) -> Option<()> {
    const SOI: u16 = 0xFFD8;
    const DRI: u16 = 0xFFDD;
    const SOS: u16 = 0xFFDA;
    let mut bytes = Bytes(frame);
    (bytes.u16()? == SOI).then_some(())?;
    loop {
        // Fill bytes may stand before a marker.
        while bytes.0.starts_with(&[0xFF, 0xFF]) {
            bytes.u8()?;
        }
        match bytes.u16()? {
            DRI => (bytes.segment()?.u16()? == 0).then_some(())?,
            SOS => {
                let transform = bytes.segment()?.0.last().copied()?;
                return (transform & 0x0F == 0).then_some(());
            }
            marker if marker >= 0xFF01 => {
                bytes.segment()?;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(side: u32) -> Layout {
        Layout {
            rows: side,
            columns: side,
            frames: 1,
            samples: 1,
            bits_allocated: 8,
            bits_stored: 8,
            ..Layout::default()
        }
    }

    /// SOC, SIZ, COD, and a tile-part without content.
    fn stream(side: u32, tile: u32, component: [u8; 3], cod: &[u8]) -> Vec<u8> {
        let mut out = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for number in [side, side, 0, 0, tile, tile, 0, 0] {
            out.extend(number.to_be_bytes());
        }
        out.extend([0, 1]);
        out.extend(component);
        out.extend([0xFF, 0x52, 0, u8::try_from(cod.len() + 2).unwrap()]);
        out.extend(cod);
        out.extend([0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0x93, 0xFF, 0xD9]);
        out
    }

    const COD: [u8; 10] = [0, 0, 0, 1, 0, 5, 4, 4, 0, 1];
    const PLAIN: [u8; 3] = [7, 1, 1];

    #[test]
    fn a_codestream_that_asks_for_too_much_is_not_decoded() {
        let good = |frame: &[u8], side| is_modest_jpeg_2000(frame, &layout(side));
        assert!(good(&stream(256, 256, PLAIN, &COD), 256));
        assert!(good(&stream(8192, 64, PLAIN, &COD), 8192), "as many tiles as it has pixels for");
        let cases: &[(&str, Vec<u8>)] = &[
            ("tiles of a pixel", stream(8192, 1, PLAIN, &COD)),
            ("tiles of nothing", stream(8192, 0, PLAIN, &COD)),
            ("another size", stream(8191, 8192, PLAIN, &COD)),
            ("sparse components", stream(8192, 8192, [7, 255, 255], &COD)),
            ("signed", stream(8192, 8192, [0x87, 1, 1], &COD)),
            ("tiny code-blocks", stream(8192, 8192, PLAIN, &[0, 0, 0, 1, 0, 5, 0, 0, 0, 1])),
            ("layers", stream(8192, 8192, PLAIN, &[0, 0, 0xFF, 0xFF, 0, 5, 4, 4, 0, 1])),
            ("tiny precincts", stream(8192, 8192, PLAIN, &[1, 0, 0, 1, 0, 1, 4, 4, 0, 1, 0x00, 0xFF])),
            ("no components", {
                let mut frame = stream(8192, 8192, PLAIN, &COD);
                frame[41] = 0;
                frame
            }),
        ];
        for (what, frame) in cases {
            assert!(!good(frame, 8192), "{what}");
        }
        let whole = stream(256, 256, PLAIN, &COD);
        assert!((0..40).all(|end| !good(&whole[..end], 256)));
    }

    #[test]
    fn a_lossless_frame_with_restarts_or_a_point_transform_is_not_decoded() {
        let frame = |dri: u8, transform: u8| {
            [
                &[0xFF, 0xD8, 0xFF, 0xDD, 0, 4, 0, dri][..],
                &[0xFF, 0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, transform, 9, 9],
            ]
            .concat()
        };
        assert!(is_plain_lossless_jpeg(&frame(0, 0)));
        assert!(!is_plain_lossless_jpeg(&frame(8, 0)) && !is_plain_lossless_jpeg(&frame(0, 1)));
        assert!(!is_plain_lossless_jpeg(&[0xFF, 0xD8, 0xFF]));
    }
}
