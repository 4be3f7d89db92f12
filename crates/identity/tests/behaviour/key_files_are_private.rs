//! The identity key file: complete or absent, never overwritten, readable by its owner only.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use base::{Name, Secret};
use identity::{Context, IdentityKey, KeyFileFault, LOG_SEEDS_BYTES, LogKey, SEEDS_BYTES};
use proptest::prelude::*;

#[test]
fn a_saved_key_is_the_same_key_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    let key = key(1);
    key.save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let loaded = IdentityKey::load(&path).unwrap();
    assert_eq!(loaded.fingerprint(), key.fingerprint());
    assert_eq!(loaded.name(), key.name());
    assert_eq!(loaded.tls_pkcs8(), key.tls_pkcs8());
    let signature = loaded.sign(Context::CARD, b"x");
    assert_eq!(key.public().verify(Context::CARD, b"x", &signature), Ok(()));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["identity.key"], "no draft is left behind");
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    key(1).save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let error = key(2).save(&path).unwrap_err();
    assert!(matches!(error.fault, KeyFileFault::Exists), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let dangling = folder.path().join("link.key");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &dangling).unwrap();
    assert!(matches!(key(2).save(&dangling).unwrap_err().fault, KeyFileFault::Exists));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    key(1).save(&path).unwrap();
    for (mode, usable) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o644, false),
        (0o604, false),
        (0o660, false),
        (0o602, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match IdentityKey::load(&path) {
            Ok(_) => assert!(usable, "{mode:o}"),
            Err(error) => {
                assert!(!usable, "{mode:o}: {error}");
                assert_eq!(
                    error.to_string(),
                    format!(
                        "identity key file {}: can be read by others (mode {mode:04o}); run: chmod 600, \
                         and replace the key if others had access",
                        path.display()
                    )
                );
            }
        }
    }
}

/// systemd gives a service its credentials as root:root 0440 and an access list.
#[test]
fn a_credential_that_only_roots_group_can_read_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    key(1).save(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    let of_root = metadata.uid() == 0 && metadata.gid() == 0;
    assert_eq!(IdentityKey::load(&path).is_ok(), of_root, "anybody else's group is not root's");
}

#[test]
fn damaged_files_are_refused_and_never_become_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.key");
    key(1).save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let other = folder.path().join("other.key");
    key(2).save(&other).unwrap();
    let other = fs::read_to_string(&other).unwrap();
    let line = |text: &str, start: &str| text.lines().find(|l| l.starts_with(start)).unwrap().to_owned();

    type Expected = fn(&KeyFileFault) -> bool;
    let cases: [(&str, String, Expected); 10] = [
        ("empty", String::new(), |f| matches!(f, KeyFileFault::Kind { .. })),
        ("another file", "[identity]\nkey = 1\n".into(), |f| matches!(f, KeyFileFault::Kind { .. })),
        ("later version", text.replace("key 1", "key 2"), |f| matches!(f, KeyFileFault::Kind { .. })),
        ("line lost", text.replace(&line(&text, "tls "), ""), |f| {
            matches!(f, KeyFileFault::Missing { field: "tls" })
        }),
        ("check lost", text.replace(&line(&text, "check "), ""), |f| {
            matches!(f, KeyFileFault::Missing { field: "check" })
        }),
        ("digit lost", text.replace("ed25519 0", "ed25519 "), |f| {
            matches!(f, KeyFileFault::Line { line: 5 })
        }),
        ("digit changed", text.replace("tls 01", "tls 02"), |f| matches!(f, KeyFileFault::Check)),
        ("renamed", text.replace("name hospital-a", "name hospital-b"), |f| matches!(f, KeyFileFault::Check)),
        ("two files mixed", text.replace(&line(&text, "ml-dsa-65 "), &line(&other, "ml-dsa-65 ")), |f| {
            matches!(f, KeyFileFault::Check)
        }),
        ("field twice", format!("{text}{}\n", line(&text, "tls ")), |f| {
            matches!(f, KeyFileFault::Line { .. })
        }),
    ];
    for (case, text, expected) in cases {
        assert_refused(folder.path(), case, &text, expected);
    }
}

#[test]
fn a_log_key_file_is_kept_as_an_identity_key_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.key");
    let log = |seed| LogKey::generate(Name::parse("relay-1").unwrap(), &Secret::new([seed; LOG_SEEDS_BYTES]));
    log(1).save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let loaded = LogKey::load(&path).unwrap();
    assert_eq!((loaded.fingerprint(), loaded.name().as_str()), (log(1).fingerprint(), "relay-1"));
    assert!(matches!(log(2).save(&path).unwrap_err().fault, KeyFileFault::Exists));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&identity::fingerprint_text(&log(1).fingerprint())), "{text}");

    key(1).save(&folder.path().join("identity.key")).unwrap();
    let error = LogKey::load(&folder.path().join("identity.key")).unwrap_err();
    assert!(
        error.to_string().ends_with("does not start with \"sluis log key 1\"; is it the right file?"),
        "{error}"
    );
    assert!(error.to_string().starts_with("log key file "), "{error}");
    assert!(matches!(IdentityKey::load(&path).unwrap_err().fault, KeyFileFault::Kind { .. }));
    fs::write(&path, text.replace("ml-dsa-44 01", "ml-dsa-44 02")).unwrap();
    assert!(matches!(LogKey::load(&path).unwrap_err().fault, KeyFileFault::Check));
    fs::write(&path, text.replace("ml-dsa-44 ", "ml-dsa-65 ")).unwrap();
    assert!(matches!(LogKey::load(&path).unwrap_err().fault, KeyFileFault::Line { .. }));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(LogKey::load(&path).unwrap_err().fault, KeyFileFault::ReadableByOthers { .. }));
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = IdentityKey::load(&folder.path().join("absent.key")).unwrap_err();
    assert!(matches!(error.fault, KeyFileFault::Io(_)), "{error}");
    let error = IdentityKey::load(folder.path()).unwrap_err();
    assert!(matches!(error.fault, KeyFileFault::NotAFile), "{error}");
    let big = "#".repeat(20_000);
    assert_refused(folder.path(), "too large", &big, |f| {
        matches!(f, KeyFileFault::TooLarge { size: 20_000 })
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_behind_the_first_line_is_refused_without_panic(text in "[ -~\n]{0,300}") {
        let folder = tempfile::tempdir().unwrap();
        assert_refused(folder.path(), "any text", &format!("sluis identity key 1\n{text}"), |_| true);
    }
}

fn assert_refused(folder: &Path, case: &str, text: &str, expected: fn(&KeyFileFault) -> bool) {
    let path = folder.join("case.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let error = IdentityKey::load(&path).unwrap_err();
    assert!(expected(&error.fault), "{case}: {error}");
}

fn key(seed: u8) -> IdentityKey {
    IdentityKey::generate(Name::parse("hospital-a").unwrap(), &Secret::new([seed; SEEDS_BYTES]))
}
