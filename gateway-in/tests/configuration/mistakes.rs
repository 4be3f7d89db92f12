//! The good file, and what can be wrong with it.

use testkit::Mistake;

/// Everything that has to be there, and a destination with a route to it.
pub(crate) const GOOD: &str = r#"[identity]
key = "keys/gateway-in.key"
log_key = "keys/gateway-in-log.key"
card = "clinic.card"

[ledger]
dir = "ledger"

[admin]
listen = "127.0.0.1:9182"

[[relay]]
name = "hub"
address = "192.0.2.1:4433"
card = "cards/hub.card"

[[peer]]
name = "hospital"
card = "cards/hospital.card"

[[destination]]
name = "archive"
kind = "dicom"
ae = "ARCHIVE"
address = "192.0.2.21:104"
calling = "SLUIS"

[[route]]
id = "3d2f6c1e9a4b58077c6d5e4f3a2b1c0d"
from = "hospital"
destination = "archive"
"#;

/// Further tables, so that all defaults can be looked at.
pub(crate) const ALL_TABLES: &str = r#"
[[destination]]
name = "asked"
kind = "dicom"
[destination.commitment]
[[coercion]]
from = "hospital"
destination = "archive"
[commitment]
key = "keys/ledger.key"
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
    instead("an unknown key that is like one", "calling = \"SLUIS\"", "caling = \"SLUIS\""),
    instead("an unknown key that is like none", "dir = \"ledger\"", "dir = \"ledger\"\ncolour = \"red\""),
    instead("an unknown table", "[ledger]", "[outbox]"),
    instead("a table that is missing", "[admin]\nlisten = \"127.0.0.1:9182\"\n", ""),
    instead("a key that is missing", "dir = \"ledger\"\n", ""),
    instead("a key of a route that is missing", "from = \"hospital\"\n", ""),
    // Types
    instead("a number instead of a text", "dir = \"ledger\"", "dir = 5"),
    instead("a text instead of a number", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nmax_associations = \"many\""),
    instead("a table instead of an array of tables", "[[route]]", "[route]"),
    // Values
    instead("an address without a port", "192.0.2.21:104", "192.0.2.21"),
    instead("a host name instead of an address", "192.0.2.21:104", "archive.example.org:104"),
    instead("an AE title that is too long", "ae = \"ARCHIVE\"", "ae = \"ARCHIVE_OF_THE_NORTH\""),
    instead("an AE title of ours that is too long", "calling = \"SLUIS\"", "calling = \"SLUIS_OF_THE_CLINIC\""),
    instead("a name with a space", "name = \"archive\"", "name = \"the archive\""),
    instead("a kind that is none", "kind = \"dicom\"", "kind = \"dicon\""),
    instead("a route id that is too short", "3d2f6c1e9a4b58077c6d5e4f3a2b1c0d", "3d2f"),
    instead("a duration without a unit", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nlinger = \"10\""),
    added("a size with an unknown unit", "[collect]\nverify_first = \"16 MegaByte\""),
    instead("a UID that is none", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nprobe_classes = [\"private\"]"),
    instead("no transfer syntax to ask about", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nprobe_syntaxes = []"),
    instead("a status that is none", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nstatus = { C0 = \"deferred\" }"),
    instead("a verdict that is none", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nstatus = { C000 = \"later\" }"),
    instead("a cipher suite that is none", "from = \"hospital\"", "from = \"hospital\"\nsuite = \"C\""),
    instead("foreign ids that are refused", "from = \"hospital\"", "from = \"hospital\"\nforeign_ids = \"refused\""),
    added("a buffer that is too small", "[collect]\nbuffer = \"1 MiB\""),
    added("too few streams", "[collect]\nstreams_max = 0"),
    added("a silence that is too short", "[transparency]\nsilent_after = \"1s\""),
    // Files
    instead("a key file that is not there", "keys/gateway-in.key", "keys/gateway.key"),
    instead("another file instead of a key", "keys/gateway-in.key", "notes.txt"),
    instead("a card that is not there", "cards/hospital.card", "cards/ziekenhuis.card"),
    instead("a card that cannot be read", "cards/hospital.card", "notes.txt"),
    instead("a card that is damaged", "cards/hospital.card", "cards/damaged.card"),
    instead("a card of an earlier format", "cards/hospital.card", "cards/old.card"),
    instead("the card of somebody else", "cards/hospital.card", "cards/hub.card"),
    instead("a card that does not name our keys", "\"clinic.card\"", "\"cards/hub.card\""),
    instead("a passcode that is not there", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nuser = { name = \"sluis\", passcode = \"pass.txt\" }"),
    instead("a passcode that others may read", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nuser = { name = \"sluis\", passcode = \"notes.txt\" }"),
    instead("a user without a name", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nuser = { name = \"\" }"),
    // What contradicts itself
    instead("no relay", "[[relay]]\nname = \"hub\"\naddress = \"192.0.2.1:4433\"\ncard = \"cards/hub.card\"\n", ""),
    instead("two peers of one name", "[[destination]]", "[[peer]]\nname = \"hospital\"\ncard = \"cards/hospital.card\"\n[[destination]]"),
    instead("two relays of one name", "[[peer]]", "[[relay]]\nname = \"hub\"\naddress = \"192.0.2.2:4433\"\ncard = \"cards/hub.card\"\n[[peer]]"),
    added("two destinations of one name", "[[destination]]\nname = \"archive\"\nkind = \"folder\"\ndir = \"inbox\""),
    instead("a route from an unknown peer", "from = \"hospital\"", "from = \"ziekenhuis\""),
    instead("a route to an unknown destination", "destination = \"archive\"", "destination = \"archiv\""),
    added("two routes of one id", "[[route]]\nid = \"3d2f6c1e9a4b58077c6d5e4f3a2b1c0d\"\nfrom = \"hospital\"\ndestination = \"archive\""),
    instead("a folder without its path", "kind = \"dicom\"", "kind = \"folder\""),
    instead("a destination without its title", "ae = \"ARCHIVE\"\n", ""),
    instead("a destination without its address", "address = \"192.0.2.21:104\"\n", ""),
    instead("a destination that knows us by no title", "calling = \"SLUIS\"\n", ""),
    added("a folder over TLS", "[[destination]]\nname = \"inbox\"\nkind = \"folder\"\ndir = \"inbox\"\ntls = { ca = \"ca.crt\", cert = \"a.crt\", key = \"a.key\" }"),
    added("a folder that is re-encoded for", "[[destination]]\nname = \"inbox\"\nkind = \"folder\"\ndir = \"inbox\"\nreencode = \"syntax-only\""),
    instead("representations that are lost by nothing", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nprivate_vr = \"lose\""),
    instead("a probe under another title than the sends", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nprobe_calling = \"PROBE\""),
    // Coercion
    added("coercion for an unknown sender", "[[coercion]]\nfrom = \"ziekenhuis\"\ndestination = \"archive\"\nremove = [\"StudyID\"]"),
    added("coercion for an unknown destination", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archiv\"\nremove = [\"StudyID\"]"),
    added("coercion of nothing", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\""),
    added("coercion of an attribute that is not offered", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\nset = { PatientName = \"X\" }"),
    added("coercion by a deed that is not offered", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\nset = { OtherPatientIDsSequence = \"X\" }"),
    added("coercion by two deeds", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\nprefix = { PatientID = \"A-\" }\nremove = [\"PatientID\"]"),
    added("coercion from an attribute with a higher tag", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\ncopy = { AccessionNumber = \"StudyID\" }"),
    added("two coercions of one way", "[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\nremove = [\"StudyID\"]\n[[coercion]]\nfrom = \"hospital\"\ndestination = \"archive\"\nremove = [\"PatientID\"]"),
    // Storage commitment
    instead("commitment without its table", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nmeans = \"committed\""),
    instead("commitment that is not asked for", "calling = \"SLUIS\"", "calling = \"SLUIS\"\ncommitment = { quiet = \"5s\" }"),
    added("a commitment key that is not there", "[commitment]\nkey = \"keys/ledger.key\""),
    added("commitment of a folder", "[[destination]]\nname = \"inbox\"\nkind = \"folder\"\ndir = \"inbox\"\nmeans = \"committed\""),
    // A DICOM web service
    added("a web service without its URL", "[[destination]]\nname = \"web\"\nkind = \"stow\"\n"),
    added("a URL without a scheme", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"pacs.example/dicom-web\""),
    added("a URL with a password in it", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://sluis:geheim@pacs.example/dicom-web\""),
    added("a URL with a query", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://pacs.example/dicom-web?token=geheim\""),
    added("a URL of the resource instead of the service", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web/studies\""),
    added("a URL with a name and without an address", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://pacs.example/dicom-web\""),
    added("a URL and an address that differ", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\naddress = \"127.0.0.1:8043\""),
    added("https without an authority", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://192.0.2.7/dicom-web\""),
    added("TLS for http", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\ntls = { ca = \"ca.crt\" }"),
    added("a certificate without its key", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://192.0.2.7/dicom-web\"\ntls = { ca = \"ca.crt\", cert = \"a.crt\" }"),
    added("a web service's authority that is not there", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://192.0.2.7/dicom-web\"\ntls = { ca = \"ca.crt\" }"),
    added("another file instead of an authority", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"https://192.0.2.7/dicom-web\"\ntls = { ca = \"notes.txt\" }"),
    added("a token that is not there", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nbearer = \"token\""),
    added("a token that others may read", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nbearer = \"notes.txt\""),
    added("a token that is none", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nbearer = \"private.txt\""),
    added("a token and a user", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nbearer = \"private.txt\"\nuser = { name = \"sluis\", passcode = \"private.txt\" }"),
    added("a user without a password", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nuser = { name = \"sluis\" }"),
    added("a user whose name has a colon", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nuser = { name = \"slu:is\", passcode = \"private.txt\" }"),
    added("credentials without TLS to another machine", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://192.0.2.7:8042/dicom-web\"\nuser = { name = \"sluis\", passcode = \"private.txt\" }"),
    added("a web service with an AE title", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nae = \"ARCHIVE\""),
    added("a web service that is re-encoded for", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nreencode = \"syntax-only\""),
    added("a web service that commits itself", "[[destination]]\nname = \"web\"\nkind = \"stow\"\nurl = \"http://127.0.0.1:8042/dicom-web\"\nmeans = \"committed\""),
    instead("a URL of an application entity", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nurl = \"http://127.0.0.1/\""),
    instead("a token for an application entity", "calling = \"SLUIS\"", "calling = \"SLUIS\"\nbearer = \"private.txt\""),
    instead("an application entity that is shown no certificate", "calling = \"SLUIS\"", "calling = \"SLUIS\"\ntls = { ca = \"ca.crt\" }"),
    // TLS and ports
    instead("an admin port for everybody", "127.0.0.1:9182", "0.0.0.0:9182"),
    instead("a destination's authority that is not there", "calling = \"SLUIS\"", "calling = \"SLUIS\"\ntls = { ca = \"ca.crt\", cert = \"a.crt\", key = \"a.key\" }"),
];
