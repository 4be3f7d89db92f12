//! What is written is what dicom-rs reads; what is read may be as odd as the files of archives are.

use std::io::{Cursor, Read as _, Seek as _};

use base::{AeTitle, InstanceMeta, Phi, Priority, Uid};
use dataset::part10::{FileMeta, FileMetaError, Implementation, read_file_meta, write_file_meta};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn instance(sop_instance: &str, transfer_syntax: &str) -> InstanceMeta {
    InstanceMeta {
        sop_class: uid(CT),
        sop_instance: Phi::new(uid(sop_instance)),
        transfer_syntax: uid(transfer_syntax),
        calling: AeTitle::parse("MODALITY1").unwrap(),
        called: AeTitle::parse("SLUIS").unwrap(),
        move_originator: None,
        priority: Priority::Medium,
    }
}

fn head(sop_instance: &str, transfer_syntax: &str) -> Vec<u8> {
    let writer = Implementation { class_uid: &uid("2.25.1"), version_name: "SLUIS_0.1" };
    write_file_meta(
        &instance(sop_instance, transfer_syntax),
        writer,
        Some(&AeTitle::parse("MODALITY1").unwrap()),
    )
}

fn element(tag: (u16, u16), vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(vr);
    if vr == b"OB" {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    [out, value.to_vec()].concat()
}

fn data_set() -> Vec<u8> {
    [element((8, 0x16), b"UI", CT.as_bytes()), element((8, 0x18), b"UI", b"2.25.42\0")].concat()
}

fn read(file: &[u8]) -> Result<FileMeta, FileMetaError> {
    read_file_meta(Cursor::new(file))
}

#[test]
fn dicom_rs_reads_what_is_written() {
    for (instance, syntax, version, source) in [
        ("2.25.4711", EXPLICIT, "SLUIS_0.1", true),
        ("2.25.47110", "1.2.840.10008.1.2.4.100.1", "", false),
        ("1.2.3", "1.2.3.4", "a version name that is far too long", true),
    ] {
        let source = source.then(|| AeTitle::parse("STORE1").unwrap());
        let writer = Implementation { class_uid: &uid("2.25.1"), version_name: version };
        let file = write_file_meta(&self::instance(instance, syntax), writer, source.as_ref());
        assert_eq!(file.len() % 2, 0);

        let mut theirs = Cursor::new(&file[128..]);
        let table = dicom_object::FileMetaTable::from_reader(&mut theirs).unwrap();
        assert_eq!(
            theirs.stream_position().unwrap(),
            file.len() as u64 - 128,
            "the group length covers the group"
        );
        let trimmed = |text: &str| text.trim_end_matches(['\0', ' ']).to_owned();
        assert_eq!(trimmed(table.media_storage_sop_class_uid()), CT);
        assert_eq!(trimmed(table.media_storage_sop_instance_uid()), instance);
        assert_eq!(trimmed(table.transfer_syntax()), syntax);
        assert_eq!(trimmed(table.implementation_class_uid()), "2.25.1");
        let want: String = version.chars().take(16).collect();
        assert_eq!(table.implementation_version_name().map(trimmed).unwrap_or_default(), want.trim_end());
        assert_eq!(table.source_application_entity_title().map(trimmed).is_some(), source.is_some());
        let own = read(&file).unwrap();
        assert_eq!((own.data_set_offset, own.transfer_syntax.as_str()), (file.len() as u64, syntax));
    }
}

#[test]
fn the_reader_stands_at_the_data_set() {
    let file = [head("2.25.42", EXPLICIT), data_set()].concat();
    let mut reader = Cursor::new(&file);
    let meta = read_file_meta(&mut reader).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, data_set());
    assert_eq!(meta.data_set_offset, (file.len() - rest.len()) as u64);
    assert!(!meta.is_directory());
}

#[test]
fn odd_files_are_read() {
    let syntax = element((2, 0x10), b"UI", b"1.2.840.10008.1.2.1\0");
    let whole = [head("2.25.42", EXPLICIT), data_set()].concat();
    let mut wrong_length = whole.clone();
    wrong_length[140] ^= 0x14;
    let large = [
        head("2.25.42", EXPLICIT)[..132].to_vec(),
        syntax.clone(),
        element((2, 0x0102), b"OB", &[7; 100_000]),
        data_set(),
    ]
    .concat();
    let cases = [
        ("as it should be", whole.clone()),
        ("no preamble", whole[128..].to_vec()),
        ("neither preamble nor prefix", whole[132..].to_vec()),
        ("no group length", [&whole[..132], &whole[144..]].concat()),
        ("a wrong group length", wrong_length),
        ("only the transfer syntax", [b"DICM".to_vec(), syntax.clone(), data_set()].concat()),
        (
            "implicit VR",
            [
                b"DICM".to_vec(),
                b"\x02\0\x10\0\x14\0\0\0".to_vec(),
                b"1.2.840.10008.1.2.1\0".to_vec(),
                data_set(),
            ]
            .concat(),
        ),
        ("other UIDs than its data set", [head("2.25.9", EXPLICIT), data_set()].concat()),
        ("private information of 100 kB", large),
    ];
    for (case, file) in cases {
        let meta = read(&file).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(meta.sop_class.as_str(), CT, "{case}");
        assert_eq!(meta.sop_instance.reveal().as_str(), "2.25.42", "{case}");
        assert_eq!(meta.transfer_syntax.as_str(), EXPLICIT, "{case}");
        assert_eq!(&file[usize::try_from(meta.data_set_offset).unwrap()..], data_set(), "{case}");
    }
}

#[test]
fn a_private_transfer_syntax_is_identified_by_group_2_alone() {
    let file = [head("2.25.9", "1.2.3.4.5"), b"\x02\x00anything".to_vec()].concat();
    let meta = read(&file).unwrap();
    assert_eq!(meta.sop_instance.reveal().as_str(), "2.25.9");
    assert_eq!(meta.data_set_offset as usize, file.len() - 10);
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    let whole = head("2.25.42", EXPLICIT);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "not a DICOM file"),
        ("a picture", [b"\x89PNG\r\n\x1a\n".to_vec(), vec![7; 500]].concat(), "not a DICOM file"),
        ("a short text", b"DICOM".to_vec(), "not a DICOM file"),
        ("a bare data set", data_set(), "a data set without file meta information"),
        (
            "a bare data set, implicit",
            [b"\x08\0\x16\0\x1a\0\0\0".to_vec(), CT.as_bytes().to_vec()].concat(),
            "a data set without file meta information",
        ),
        (
            "cut in group 2",
            whole[..whole.len() - 3].to_vec(),
            "truncated inside its file meta information, at byte",
        ),
        ("no transfer syntax", b"DICM".to_vec(), "file has no Transfer Syntax UID (0002,0010)"),
        (
            "a name for a transfer syntax",
            [b"DICM".to_vec(), element((2, 0x10), b"UI", b"Explicit")].concat(),
            "Transfer Syntax UID (0002,0010) is not a UID",
        ),
        (
            "no SOP class anywhere",
            [b"DICM".to_vec(), element((2, 0x10), b"UI", b"1.2.840.10008.1.2.1\0")].concat(),
            "file has no Media Storage SOP Class UID (0002,0002)",
        ),
        (
            "an element of 2 GB in group 2",
            [b"DICM".to_vec(), b"\x02\0\x02\x01OB\0\0\0\0\0\x80".to_vec()].concat(),
            "file meta information is damaged at byte 4",
        ),
        (
            "no end of group 2",
            [b"DICM".to_vec(), element((2, 0x16), b"AE", b"STORE1").repeat(80_000)].concat(),
            "file meta information exceeds 1048576 bytes",
        ),
    ];
    for (case, file, want) in cases {
        let text = read(&file).expect_err(case).to_string();
        assert!(text.contains(want), "{case}: {text}");
    }
}
