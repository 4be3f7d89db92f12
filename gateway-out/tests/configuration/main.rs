//! What an operator's mistakes in `gateway-out.toml` are answered with, and that the reference has every key.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod mistakes;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base::{Name, Secret};
use gateway_out::{config::Config, init, pseudonymize::KeyRing, settings::check_at_start};
use identity::{CardFields, IdentityKey};
use service::config::{Origin, load_with};
use testkit::{ALARM_MISTAKES, compare_snapshot, errors_of_mistakes, keys_documented, keys_known};

use mistakes::{GOOD, MISTAKES};

const FILE: &str = "gateway-out.toml";

/// A folder with all files that the good configuration names, and some that cannot be used.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let keys = init::create_keys(&path("keys"), &Name::parse("hospital").unwrap()).unwrap();
    init::write_card(&path("hospital.card"), &keys).unwrap();
    fs::create_dir(path("cards")).unwrap();
    fs::create_dir_all(path("inbox/ward")).unwrap();
    for (seed, name) in [(1, "hub"), (2, "clinic")] {
        let key = IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([seed; 96]));
        let card = key.card(CardFields::new(1, &[1, 2]));
        fs::write(path(&format!("cards/{name}.card")), format!("{}\n", card.to_line())).unwrap();
    }
    fs::write(path("cards/damaged.card"), "sluis-card-2:clinic:AAAA\n").unwrap();
    KeyRing::generate(&path("site.key")).unwrap();
    fs::write(path("cards/old.card"), "sluis-card-1:clinic:AAAA\n").unwrap();
    fs::write(path("notes.txt"), "not what you think\n").unwrap();
    dir
}

fn error_of(dir: &Path, text: &str, check: bool) -> Option<String> {
    let path = dir.join(FILE);
    fs::write(&path, text).unwrap();
    let loaded = load_with::<Config>(&path, "SLUIS_", Vec::new());
    let outcome = loaded.and_then(|loaded| match check {
        true => Config::check(&loaded).and_then(|_| check_at_start(&loaded)),
        false => Ok(()),
    });
    let error = outcome.err()?.to_string();
    Some(error.replace(&format!("{}/", dir.display()), ""))
}

#[test]
fn every_mistake_is_answered_with_place_and_remedy() {
    let dir = folder();
    let text = errors_of_mistakes(GOOD, &[MISTAKES, ALARM_MISTAKES].concat(), |text| {
        error_of(dir.path(), text, true)
    });
    compare_snapshot(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configuration/errors.txt"), &text);
}

#[test]
fn the_reference_has_exactly_the_keys_that_the_daemon_knows() {
    let dir = folder();
    let known = keys_known(&|text: &str| error_of(dir.path(), text, false));
    let documented = keys_documented("gateway-out");
    let keys: BTreeMap<_, _> =
        documented.into_iter().map(|(table, keys)| (table, keys.into_keys().collect())).collect();
    assert_eq!(keys, known);
}

#[test]
fn the_reference_has_the_defaults_that_hold() {
    let dir = folder();
    let path = dir.path().join(FILE);
    fs::write(&path, format!("{GOOD}{}", mistakes::ALL_TABLES)).unwrap();
    let loaded = load_with::<Config>(&path, "SLUIS_", Vec::new()).unwrap();
    let documented = keys_documented("gateway-out");
    let shown = loaded.effective().unwrap().into_iter().filter(|one| one.origin == Origin::Default);
    testkit::compare_defaults(&documented, shown.map(|one| (one.key, one.value.to_string())));
}
