//! One compressed frame becomes native pixels: sample by sample, little endian, colour by pixel.
//!
//! The bytes are a stranger's. What decodes them is safe Rust and is only begun when the frame itself asks for no more than the size that
//! the header gives (`codestream`); a panic in a codec is a frame that cannot be decoded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base::Uid;
use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use crate::codestream::{is_modest_jpeg_2000, is_plain_lossless_jpeg};
use crate::mask::Layout;

/// Bytes of one decoded frame, and of one that is compressed.
pub(crate) const FRAME_BYTES_MAX: u64 = 64 << 20;

/// How compressed frames are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// PS3.5 Annex G.
    Rle,
    /// ISO/IEC 10918-1 with a DCT: baseline and extended.
    Jpeg,
    /// ISO/IEC 10918-1, lossless.
    JpegLossless,
    /// ISO/IEC 14495-1.
    JpegLs,
    /// ISO/IEC 15444-1.
    Jpeg2000,
}

impl Coding {
    /// Of a transfer syntax; `None` for what is native, and for what cannot be decoded here.
    pub(crate) fn of(syntax: &Uid) -> Option<Self> {
        Some(match syntax.as_str().strip_prefix("1.2.840.10008.1.2.")? {
            "5" => Self::Rle,
            "4.50" | "4.51" => Self::Jpeg,
            "4.57" | "4.70" => Self::JpegLossless,
            "4.80" | "4.81" => Self::JpegLs,
            "4.90" | "4.91" => Self::Jpeg2000,
            _ => return None,
        })
    }

    /// Whether every image in this transfer syntax has lost something.
    pub(crate) fn is_lossy(syntax: &Uid) -> bool {
        ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"]
            .contains(&syntax.as_str())
    }

    /// How the pixels are encoded once they are decoded. What cannot be keeps an interpretation that nothing masks.
    pub(crate) fn decoded(self, layout: &Layout) -> Layout {
        let photometric = match (self, layout.photometric.as_str()) {
            (Self::Jpeg, "YBR_FULL" | "YBR_FULL_422") | (Self::Jpeg2000, "YBR_RCT" | "YBR_ICT") => "RGB",
            (_, as_it_is) => as_it_is,
        };
        Layout { planes: false, photometric: photometric.to_owned(), ..layout.clone() }
    }

    /// Whether a fragment that begins like this begins a frame.
    pub(crate) fn begins_frame(self, fragment: &[u8]) -> bool {
        match self {
            Self::Rle => true,
            Self::Jpeg | Self::JpegLossless | Self::JpegLs => fragment.starts_with(&[0xFF, 0xD8]),
            Self::Jpeg2000 => fragment.starts_with(&[0xFF, 0x4F]),
        }
    }

    /// The pixels of a frame, or `None` where they are not those that the header speaks of.
    pub(crate) fn decode(self, frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
        let decode = || match self {
            Self::Rle => rle(frame, layout),
            Self::Jpeg | Self::JpegLossless => self.jpeg(frame, layout),
            Self::JpegLs => jpeg_ls(frame, layout),
            Self::Jpeg2000 => jpeg_2000(frame, layout),
        };
        let pixels = catch_unwind(AssertUnwindSafe(decode)).ok().flatten()?;
        (pixels.len() as u64 == layout.frame_bytes()?).then_some(pixels)
    }

    fn jpeg(self, frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
        if self == Self::JpegLossless && !is_plain_lossless_jpeg(frame) {
            return None;
        }
        let mut decoder = Decoder::new(frame);
        decoder.set_max_decoding_buffer_size(usize::try_from(FRAME_BYTES_MAX).ok()?);
        if layout.samples > 1 {
            decoder.set_color_transform(match layout.photometric.starts_with("YBR") && self == Self::Jpeg {
                true => ColorTransform::YCbCr,
                false => ColorTransform::None,
            });
        }
        decoder.read_info().ok()?;
        let info = decoder.info()?;
        if !layout.has_size(info.width.into(), info.height.into()) {
            return None;
        }
        let is_wide = match (info.pixel_format, layout.samples) {
            (PixelFormat::L8, 1) | (PixelFormat::RGB24, 3) => false,
            (PixelFormat::L16, 1) => true,
            _ => return None,
        };
        let pixels = decoder.decode().ok()?;
        match is_wide {
            false => samples(pixels.into_iter().map(u32::from), layout),
            true => {
                let (pairs, _) = pixels.as_chunks::<2>();
                samples(pairs.iter().map(|pair| u16::from_ne_bytes(*pair).into()), layout)
            }
        }
    }
}

impl Layout {
    /// Of one frame; `None` above the limit, and where the header does not say.
    pub(crate) fn frame_bytes(&self) -> Option<u64> {
        let pixels = u64::from(self.rows).checked_mul(self.columns.into())?;
        let pixel = u64::from(self.samples).checked_mul(u64::from(self.bits_allocated / 8))?;
        pixels.checked_mul(pixel).filter(|bytes| (1..=FRAME_BYTES_MAX).contains(bytes))
    }

    fn has_size(&self, width: u32, height: u32) -> bool {
        (width, height) == (self.columns, self.rows)
    }
}

/// Samples as Bits Allocated wants them; `None` where one does not fit.
fn samples(values: impl Iterator<Item = u32>, layout: &Layout) -> Option<Vec<u8>> {
    let mut pixels = Vec::with_capacity(usize::try_from(layout.frame_bytes()?).ok()?);
    for value in values {
        match layout.bits_allocated {
            8 => pixels.push(u8::try_from(value).ok()?),
            16 => pixels.extend(u16::try_from(value).ok()?.to_le_bytes()),
            _ => return None,
        }
    }
    Some(pixels)
}

/// Without fill bytes before the last marker (ISO/IEC 10918-1, B.1.1.2), which some write and the decoder does not expect.
fn without_fill(frame: &[u8]) -> Vec<u8> {
    let end = frame.windows(2).rposition(|marker| marker == [0xFF, 0xD9]);
    let (mut data, marker) = end.map_or((frame, &[][..]), |at| frame.split_at(at));
    while let Some(rest) = data.strip_suffix(&[0xFF]) {
        data = rest;
    }
    [data, marker].concat()
}

fn jpeg_ls(frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    if layout.samples != 1 {
        return None;
    }
    let frame = without_fill(frame);
    let (values, width, height) = jpegls::decode(&frame, layout.columns, layout.rows).ok()?;
    if !layout.has_size(width, height) {
        return None;
    }
    samples(values.into_iter().map(u32::from), layout)
}

fn jpeg_2000(frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    if !is_modest_jpeg_2000(frame, layout) {
        return None;
    }
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let image = Image::new(frame, &settings).ok()?;
    let is_as_said =
        matches!((image.color_space(), layout.samples), (ColorSpace::Gray, 1) | (ColorSpace::RGB, 3));
    if !is_as_said || image.has_alpha() || !layout.has_size(image.width(), image.height()) {
        return None;
    }
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).ok()?;
    let components = decoded.components();
    let planes: Vec<&[f32]> = components.iter().map(|one| one.samples()).collect();
    let white = components.first().map(|one| 2_f32.powi(one.bit_depth().into()) - 1.0)?;
    let pixels = usize::try_from(layout.frame_bytes()?).ok()?
        / usize::try_from(layout.samples.checked_mul(layout.bits_allocated / 8)?).ok()?;
    if planes.len() != usize::try_from(layout.samples).ok()? || planes.iter().any(|one| one.len() != pixels) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 and 2^38 - 1")]
    let value = |value: f32| value.round().clamp(0.0, white) as u32;
    let by_pixel = (0..pixels).flat_map(|at| planes.iter().filter_map(move |plane| plane.get(at)));
    samples(by_pixel.map(|sample| value(*sample)), layout)
}

/// Bytes of the header of an RLE frame: the number of segments, and where up to 15 of them begin.
const RLE_HEADER_BYTES: usize = 64;

fn rle(frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    let bytes = usize::try_from(layout.bits_allocated / 8).ok()?;
    let segments = bytes.checked_mul(usize::try_from(layout.samples).ok()?)?;
    let mut pixels = vec![0; usize::try_from(layout.frame_bytes()?).ok()?];
    let (words, _) = frame.get(..RLE_HEADER_BYTES)?.as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word) as usize);
    if words.next() != Some(segments) {
        return None;
    }
    let begins: Vec<usize> = words.take(segments).collect();
    for (number, begin) in begins.iter().enumerate() {
        let end = begins.get(number + 1).copied().unwrap_or(frame.len());
        let segment = frame.get(*begin..end)?;
        // The most significant byte of a sample comes first.
        let place = number / bytes * bytes + (bytes - 1 - number % bytes);
        let mut to = pixels.iter_mut().skip(place).step_by(segments);
        unpack(segment, &mut to)?;
        if to.next().is_some() {
            return None;
        }
    }
    (begins.len() == segments).then_some(pixels)
}

/// PackBits (PS3.5 G.3.2). What is left of a segment once all is filled is padding.
fn unpack<'a>(segment: &[u8], to: &mut impl Iterator<Item = &'a mut u8>) -> Option<()> {
    let mut rest = segment;
    while let Some((head, after)) = rest.split_first() {
        let head = usize::from(*head);
        rest = after;
        if head < 128 {
            let (literal, after) = rest.split_at_checked(head + 1).unwrap_or((rest, &[]));
            for (byte, place) in literal.iter().zip(&mut *to) {
                *place = *byte;
            }
            rest = after;
        } else if head > 128 {
            let (byte, after) = rest.split_first()?;
            to.take(257 - head).for_each(|place| *place = *byte);
            rest = after;
        }
    }
    Some(())
}
