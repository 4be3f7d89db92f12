//! What the engine takes on one core, and how much memory it needs.
//!
//!     cargo run --release -p pseudonym --example pseudonym_rate                      CT slices a second
//!     cargo run --release -p pseudonym --example pseudonym_rate -- DIRECTORY         the same of DICOM files, twice over
//!     cargo run --release -p pseudonym --example pseudonym_rate -- --multi-frame 4   an instance of so many GiB, masked

use std::error::Error;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use base::{Secret, Uid};
use dataset::part10;
use fixtures::{CtSeries, Subject, TransferSyntax};
use pseudonym::{
    PixelAction, PixelRule, Plan, Profile, ProfileOption, Pseudonymizer, Pseudonyms, Rectangle, WordList,
};

const ROUNDS: usize = 400;
/// As much as a C-STORE fragment has.
const PIECE_BYTES: usize = 128 << 10;
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// Of a frame of the multi-frame instance: 1 MiB of 8 bit grey.
const SIDE: u16 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => rate(&slices()?, ROUNDS),
        ["--multi-frame", gib] => multi_frame(gib.parse()?),
        [directory] => {
            let files = files(Path::new(directory))?;
            rate(&files, 2 * files.len())
        }
        _ => Err("usage: pseudonym_rate [DIRECTORY | --multi-frame GIB]".into()),
    }
}

/// Transfer syntax and bytes.
type DataSet = (Uid, Vec<u8>);

fn slices() -> Result<Vec<DataSet>, Box<dyn Error>> {
    let series = CtSeries {
        subject: Subject::new(1).with_patient_id("471100").with_patient_name("DOE^JANE"),
        slices: 8,
        side: 512,
    };
    let explicit = Uid::parse(EXPLICIT)?;
    let one = |slice| Ok((explicit.clone(), series.slice(slice).data_set(&TransferSyntax::ExplicitLittle)?));
    (0..series.slices).map(one).collect()
}

fn files(directory: &Path) -> Result<Vec<DataSet>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let bytes = std::fs::read(entry?.path())?;
        let Ok(meta) = part10::read_file_meta(Cursor::new(&bytes)) else { continue };
        let start = usize::try_from(meta.data_set_offset)?;
        found.push((meta.transfer_syntax, bytes.get(start..).unwrap_or_default().to_vec()));
    }
    Ok(found)
}

fn engine(profile: Profile, syntax: &Uid) -> Result<Pseudonymizer, Box<dyn Error>> {
    let plan = Arc::new(Plan::new(profile, WordList::default(), "")?);
    Ok(Pseudonymizer::new(plan, Arc::new(Pseudonyms::new(&Secret::random())), syntax)?)
}

fn rate(data: &[DataSet], rounds: usize) -> Result<(), Box<dyn Error>> {
    let profile = Profile { options: vec![ProfileOption::RetainModifiedDates], ..Profile::default() };
    let plan = Arc::new(Plan::new(profile, WordList::default(), "")?);
    let pseudonyms = Arc::new(Pseudonyms::new(&Secret::random()));
    let (mut out, mut bytes) = (Vec::new(), 0);
    let start = Instant::now();
    for (syntax, instance) in data.iter().cycle().take(rounds) {
        out.clear();
        let mut engine = Pseudonymizer::new(Arc::clone(&plan), Arc::clone(&pseudonyms), syntax)?;
        for piece in instance.chunks(PIECE_BYTES) {
            engine.feed(piece, &mut out)?;
        }
        engine.finish(&mut out)?;
        bytes += instance.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = rounds as f64 / seconds;
    let (each, flow) = (bytes / rounds.max(1), bytes as f64 / seconds / 1e6);
    println!("{rounds} instances of {each} bytes: {rate:.0}/s, {flow:.0} MB/s");
    Ok(())
}

/// Explicit VR Little Endian, short form.
fn element(group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = [group.to_le_bytes(), element.to_le_bytes()].concat();
    out.extend_from_slice(vr);
    let padded = value.len().next_multiple_of(2);
    out.extend_from_slice(&u16::try_from(padded).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len() + padded - value.len(), b' ');
    out
}

fn multi_frame(gib: u32) -> Result<(), Box<dyn Error>> {
    // The longest value of defined length is a little less than 4 GiB.
    let frames = (gib * 1024).min(4095);
    let frame = vec![0x5A; usize::from(SIDE) * usize::from(SIDE)];
    let length = frames.checked_mul(u32::try_from(frame.len())?).ok_or("at most 4 GiB")?;
    let text = |value: &str| value.as_bytes().to_vec();
    let number = |value: u16| value.to_le_bytes().to_vec();
    let mut header: Vec<u8> = [
        (0x0008, 0x0016, b"UI", text("1.2.840.10008.5.1.4.1.1.3.1\0")),
        (0x0008, 0x0018, b"UI", text("1.2.3.4.5\0")),
        (0x0010, 0x0010, b"PN", text("DOE^JANE")),
        (0x0010, 0x0020, b"LO", text("471100")),
        (0x0020, 0x000D, b"UI", text("1.2.3.4\0")),
        (0x0020, 0x000E, b"UI", text("1.2.3.4.1\0")),
        (0x0028, 0x0002, b"US", number(1)),
        (0x0028, 0x0004, b"CS", text("MONOCHROME2")),
        (0x0028, 0x0008, b"IS", text(&frames.to_string())),
        (0x0028, 0x0010, b"US", number(SIDE)),
        (0x0028, 0x0011, b"US", number(SIDE)),
        (0x0028, 0x0100, b"US", number(8)),
        (0x0028, 0x0101, b"US", number(8)),
    ]
    .into_iter()
    .flat_map(|(group, tag, vr, value)| element(group, tag, vr, &value))
    .collect();
    header.extend_from_slice(b"\xE0\x7F\x10\0OB\0\0");
    header.extend_from_slice(&length.to_le_bytes());
    let rule = PixelRule {
        sop_class: None,
        modality: None,
        manufacturer: None,
        model: None,
        rows: Some(SIDE),
        columns: Some(SIDE),
        pixels: PixelAction::Mask,
        rectangles: vec![Rectangle { x: 0, y: 0, width: SIDE.into(), height: 64 }],
        regions: false,
    };
    let profile = Profile { pixel_rules: vec![rule], ..Profile::default() };
    let mut engine = engine(profile, &Uid::parse(EXPLICIT)?)?;
    let (mut out, mut written, before) = (Vec::new(), 0_u64, peak_kib());
    let start = Instant::now();
    engine.feed(&header, &mut out)?;
    for _ in 0..frames {
        for piece in frame.chunks(PIECE_BYTES) {
            engine.feed(piece, &mut out)?;
            written += out.len() as u64;
            out.clear();
        }
    }
    engine.finish(&mut out)?;
    written += out.len() as u64;
    let (seconds, after) = (start.elapsed().as_secs_f64(), peak_kib());
    println!(
        "{frames} frames, {written} bytes out: {:.0} MB/s, peak resident memory {before} KiB before, {after} KiB after",
        written as f64 / seconds / 1e6
    );
    Ok(())
}

/// VmHWM of this process.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}
