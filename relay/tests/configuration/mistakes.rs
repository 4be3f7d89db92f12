//! The good file, and what can be wrong with it.

use testkit::Mistake;

/// Everything that has to be there, and two gateways.
pub(crate) const GOOD: &str = r#"[identity]
key = "keys/relay.key"
log_key = "keys/relay-log.key"
card = "hub.card"

[quic]
listen = "127.0.0.1:4433"

[admin]
listen = "127.0.0.1:8442"

[[tenant]]
name = "clinic"
card = "cards/clinic.card"

[[tenant]]
name = "hospital"
card = "cards/hospital.card"
deposit_for = ["clinic"]
"#;

/// Further tables, so that all defaults can be looked at.
pub(crate) const ALL_TABLES: &str = r#"
[[revoked]]
name = "earlier"
fingerprint = "0000000000000000000000000000000000000000000000000000000000000000"
"#;

const fn instead(title: &'static str, right: &'static str, wrong: &'static str) -> Mistake {
    Mistake { title, right, wrong }
}

const fn added(title: &'static str, wrong: &'static str) -> Mistake {
    Mistake { title, right: "", wrong }
}

/// By kind.
#[rustfmt::skip]
pub(crate) const MISTAKES: &[Mistake] = &[
    // TOML and keys
    instead("no TOML", "[admin]", "[admin"),
    instead("an unknown key that is like one", "deposit_for", "deposits_for"),
    added("an unknown key that is like none", "colour = \"red\""),
    instead("an unknown table", "[quic]", "[dicom]"),
    instead("a table that is missing", "[quic]\nlisten = \"127.0.0.1:4433\"\n", ""),
    instead("a key that is missing", "card = \"cards/clinic.card\"\n", ""),
    // Types
    instead("a text instead of an array", "deposit_for = [\"clinic\"]", "deposit_for = \"clinic\""),
    instead("a table instead of an array of tables", "[[tenant]]\nname = \"clinic\"\ncard = \"cards/clinic.card\"\n\n[[tenant]]", "[tenant]"),
    added("a text instead of a number", "deliveries_per_second = \"many\""),
    // Values
    instead("an address without a port", "127.0.0.1:4433", "127.0.0.1"),
    instead("a host name instead of an address", "127.0.0.1:4433", "relay.example.org:4433"),
    instead("a name with a space", "name = \"clinic\"", "name = \"the clinic\""),
    added("a size with an unknown unit", "budget = \"1 Gigabyte\""),
    added("a duration without a unit", "[memory]\nttl = \"900\""),
    added("a budget that is too small", "[memory]\nbudget = \"1 MiB\""),
    added("a lease that is too short", "[memory]\nlease = \"1s\""),
    added("bodies that are held too long", "[memory]\nttl = \"1day\""),
    added("a silence of a gateway that is too short", "[alarm]\nsilent = \"1s\""),
    added("heads that come too seldom", "[transparency]\ninterval = \"2h\""),
    added("epochs that are too short", "[transparency]\nentries_max = 10"),
    added("a word for swap that is none", "[sandbox]\nswap = \"allow\""),
    added("a level of the log that is none", "[log]\nlevel = \"verbose\""),
    added("a fingerprint that is none", "[[revoked]]\nname = \"hospital\"\nfingerprint = \"b06d-53fd\""),
    // Files
    instead("a key file that is not there", "keys/relay.key", "keys/hub.key"),
    instead("another file instead of a key", "keys/relay.key", "notes.txt"),
    instead("a card that is not there", "cards/clinic.card", "cards/klinik.card"),
    instead("a card that cannot be read", "cards/clinic.card", "notes.txt"),
    instead("a card that is damaged", "cards/hospital.card", "cards/damaged.card"),
    instead("a card of an earlier format", "cards/hospital.card", "cards/old.card"),
    instead("the card of somebody else", "cards/clinic.card", "cards/hospital.card"),
    instead("a card that does not name our keys", "\"hub.card\"", "\"cards/clinic.card\""),
    added("a log directory that is a file", "[transparency]\ndir = \"notes.txt\""),
    added("a log directory that holds keys", "[transparency]\ndir = \"keys\""),
    // What contradicts itself
    added("two tenants of one name", "[[tenant]]\nname = \"clinic\"\ncard = \"cards/clinic.card\""),
    instead("deposits for nobody", "deposit_for = [\"clinic\"]", "deposit_for = [\"klinik\"]"),
    instead("deposits from nobody", "deposit_for = [\"clinic\"]", "deposit_from = [\"klinik\"]"),
    // Ports
    instead("an admin port for everybody", "127.0.0.1:8442", "0.0.0.0:8442"),
    instead("an admin certificate that is not there", "[admin]", "[admin]\ntls = { cert = \"a.crt\", key = \"a.key\" }"),
    instead("an admin certificate that is none", "[admin]", "[admin]\ntls = { cert = \"notes.txt\", key = \"notes.txt\" }"),
];
