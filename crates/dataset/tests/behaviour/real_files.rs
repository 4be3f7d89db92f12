//! The walker over real files of many writers: `SLUIS_REAL_FIXTURES` names a directory that
//! `fixtures/real.py` has filled. Nothing valid may be refused, and each truncation is found.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dataset::{Walker, part10};

/// File names of the packages whose data set is known to be broken, and what is wrong with it.
const BROKEN: [(&str, &str); 4] = [
    ("MR_truncated.dcm", "truncated"),
    ("rtplan_truncated.dcm", "truncated"),
    // Its fragments have no sequence delimiter.
    ("emri_small_jpeg_2k_lossless_too_short.dcm", "truncated"),
    // Implicit VR elements under a JPEG transfer syntax.
    ("SC_rgb_jpeg.dcm", "no value representation"),
];

#[test]
fn real_files_pass_and_broken_ones_are_found() {
    let Some(directory) = std::env::var_os("SLUIS_REAL_FIXTURES") else {
        eprintln!(
            "not run: SLUIS_REAL_FIXTURES is not set; fill a directory with fixtures/real.py and name it there"
        );
        return;
    };
    let mut files = Vec::new();
    collect(Path::new(&directory), &mut files);
    assert!(!files.is_empty(), "SLUIS_REAL_FIXTURES names an empty directory");

    let mut faults = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        let broken = BROKEN.iter().find(|(broken, _)| name.ends_with(broken));
        match (look_at(path), broken) {
            (Ok(()), None) => {}
            (Err(error), Some((_, want))) if error.contains(want) => {}
            (Ok(()), Some(_)) => faults.push(format!("{name}: passed, but is broken")),
            (Err(error), _) => faults.push(format!("{name}: {error}")),
        }
    }
    println!("{} real files", files.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn look_at(path: &Path) -> Result<(), String> {
    let mut file = fs::File::open(path).unwrap();
    let meta = part10::read_file_meta(&mut file).map_err(|error| error.to_string())?;
    let mut data_set = Vec::new();
    file.read_to_end(&mut data_set).unwrap();

    let walk = |bytes: &[u8], piece| {
        let mut walker = Walker::new(&meta.transfer_syntax);
        bytes.chunks(piece).try_for_each(|piece| walker.feed(piece)).and_then(|()| walker.finish())
    };
    let found = walk(&data_set, data_set.len()).map_err(|error| error.to_string())?;
    assert_eq!(walk(&data_set, 1000).as_ref(), Ok(&found), "{}", path.display());
    if found.sop_instance.as_ref() != Some(&meta.sop_instance)
        || found.sop_class.as_ref() != Some(&meta.sop_class)
    {
        return Err("the first level does not identify the instance".to_owned());
    }
    // The last element is not empty in any of these files, so a missing byte is a missing byte of it.
    if found.data_set_bytes == data_set.len() as u64 && data_set.last() != Some(&0) {
        assert!(walk(&data_set[..data_set.len() - 1], 4096).is_err(), "{}", path.display());
    }
    Ok(())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "dcm") {
            files.push(path);
        }
    }
    files.sort();
}
