//! The commands of the binary, without a terminal.

use std::process::{Command, Output};

fn relay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relay")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn init_writes_what_check_accepts_and_never_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let config = dir.path().join("relay.toml");
    let config = config.to_str().unwrap();
    let made = relay(&["init", "--dir", path, "--name", "relay-1", "--listen", "127.0.0.1:0"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let checked = relay(&["check", "--config", config]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let out = text(&checked.stdout);
    assert!(out.contains("name relay-1, fingerprint"), "{out}");
    assert!(out.contains("memory.budget"), "{out}");
    assert!(out.contains("nobody may deposit"), "{out}");

    let card = text(&relay(&["key", "show", "--config", config]).stdout);
    assert_eq!(text(&made.stdout).lines().next(), card.lines().next());
    assert_eq!(std::fs::read_to_string(dir.path().join("relay-1.card")).unwrap(), card);
    let card = identity::PeerCard::parse(card.trim()).unwrap();
    let fingerprint = text(&relay(&["key", "fingerprint", "--config", config]).stdout);
    assert!(
        fingerprint.starts_with(&identity::fingerprint_text(&card.identity.fingerprint())),
        "{fingerprint}"
    );
    assert_eq!(fingerprint.lines().nth(1).unwrap().split_whitespace().count(), 12);

    let again = relay(&["init", "--dir", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("not replaced"), "{}", text(&again.stderr));
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(relay(&["init", "--dir", path]).status.success());
    let config = dir.path().join("relay.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    let tenant = |more: &str| format!("{good}\n[[tenant]]\nname = \"relay\"\ncard = \"relay.card\"\n{more}");
    let cases = [
        (good.replace("budget =", "budgets ="), "budget"),
        (good.replace("\"1 GiB\"", "\"1 MiB\""), "memory.budget"),
        (good.replace("\"15m\"", "\"2h\""), "memory.ttl"),
        (tenant("deposit_for = [\"nobody\"]\n"), "there is no [[tenant]] called nobody"),
        (tenant("[[tenant]]\nname = \"other\"\ncard = \"relay.card\"\n"), "card of relay"),
        (tenant("[[tenant]]\nname = \"relay\"\ncard = \"relay.card\"\n"), "in another [[tenant]]"),
        (good.replace("keys/relay.key", "keys/none.key"), "none.key"),
    ];
    for (text_, want) in cases {
        std::fs::write(&config, text_).unwrap();
        let output = relay(&["check", "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(64), "{want}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(want), "{want}: {stderr}");
        assert!(stderr.contains("relay.toml"), "{want}: {stderr}");
    }
    assert_eq!(relay(&["check", "--nothing"]).status.code(), Some(2));
    assert_eq!(relay(&["--help"]).status.code(), Some(0));
}

#[test]
fn status_without_a_running_relay_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(relay(&["init", "--dir", path, "--admin", "127.0.0.1:1"]).status.success());
    let output = relay(&["status", "--config", dir.path().join("relay.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is the daemon running?"), "{}", text(&output.stderr));
}
