//! The good file, and what can be wrong with it.

use testkit::Mistake;

/// Everything that has to be there.
pub(crate) const GOOD: &str = r#"[identity]
key = "keys/gateway-out.key"
log_key = "keys/gateway-out-log.key"
card = "hospital.card"

[outbox]
dir = "outbox"
key = "keys/outbox.key"
index_key = "keys/index.key"

[dicom]
listen = "127.0.0.1:11112"

[admin]
listen = "127.0.0.1:9180"

[[relay]]
name = "hub"
address = "192.0.2.1:4433"
card = "cards/hub.card"

[[peer]]
name = "clinic"
card = "cards/clinic.card"

[[route]]
ae = "CLINIC"
id = "3d2f6c1e9a4b58077c6d5e4f3a2b1c0d"
to = "clinic"
destination = "archive"
"#;

/// Further tables, so that all defaults can be looked at.
pub(crate) const ALL_TABLES: &str = r#"
[[route]]
ae = "SEVERAL"
[[route.destination]]
id = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
name = "archive"
[route.pseudonymize]
key = "keys/site.key"
[[route.pseudonymize.pixels]]
pixels = "pass"
[[commitment]]
ae = "CT1"
[[watch]]
dir = "inbox"
ae = "CLINIC"
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
    instead("a text without its end", "dir = \"outbox\"", "dir = \"outbox"),
    instead("a key twice", "to = \"clinic\"", "to = \"clinic\"\nto = \"clinic\""),
    instead("an unknown key that is like one", "listen = \"127.0.0.1:11112\"", "lisen = \"127.0.0.1:11112\""),
    instead("an unknown key that is like none", "dir = \"outbox\"", "dir = \"outbox\"\ncolour = \"red\""),
    instead("an unknown table", "[admin]", "[administration]"),
    instead("a key of a route that is like one", "to = \"clinic\"", "too = \"clinic\""),
    instead("a table that is missing", "[admin]\nlisten = \"127.0.0.1:9180\"\n", ""),
    instead("a key that is missing", "dir = \"outbox\"\n", ""),
    instead("a key of a route that is missing", "ae = \"CLINIC\"\n", ""),
    // Types
    instead("a number instead of a text", "dir = \"outbox\"", "dir = 5"),
    instead("a text instead of a number", "[admin]", "max_pdu = \"large\"\n[admin]"),
    instead("a number that is too large", "[admin]", "async_operations = 70000\n[admin]"),
    instead("a negative number", "[admin]", "associations_max = -1\n[admin]"),
    instead("a text instead of an array", "to = \"clinic\"", "to = \"clinic\"\ncalling = \"PACS\""),
    instead("a table instead of an array of tables", "[[relay]]", "[relay]"),
    instead("a truth that is none", "to = \"clinic\"", "to = \"clinic\"\nprivate_sop_classes = \"yes\""),
    // Values
    instead("an address without a port", "listen = \"127.0.0.1:11112\"", "listen = \"127.0.0.1\""),
    instead("a host name instead of an address", "192.0.2.1:4433", "relay.example.org:4433"),
    instead("an AE title that is too long", "ae = \"CLINIC\"", "ae = \"CLINIC_OF_THE_NORTH\""),
    instead("an AE title with a backslash", "ae = \"CLINIC\"", "ae = 'CLI\\NIC'"),
    instead("an empty AE title", "ae = \"CLINIC\"", "ae = \"\""),
    instead("a name with a space", "name = \"hub\"", "name = \"the hub\""),
    instead("a route id that is too short", "3d2f6c1e9a4b58077c6d5e4f3a2b1c0d", "3d2f"),
    instead("a duration without a unit", "[admin]", "idle_timeout = \"30\"\n[admin]"),
    instead("a duration that is a number", "[admin]", "idle_timeout = 30\n[admin]"),
    instead("a size with an unknown unit", "[dicom]", "bytes_max = \"100 Gb/s\"\n[dicom]"),
    instead("a size without a number", "[dicom]", "bytes_max = \"much\"\n[dicom]"),
    instead("a word that is like one", "to = \"clinic\"", "to = \"clinic\"\nrespond = \"deliverd\""),
    instead("a word that is like none", "to = \"clinic\"", "to = \"clinic\"\npriority = \"stat\""),
    instead("a cipher suite that is none", "to = \"clinic\"", "to = \"clinic\"\nsuite = \"C\""),
    instead("a padding that is none", "[dicom]", "padding = \"pad\"\n[dicom]"),
    instead("a UID that is none", "to = \"clinic\"", "to = \"clinic\"\nprefer = [\"1.2.x\"]"),
    instead("a network that is none", "to = \"clinic\"", "to = \"clinic\"\nsources = [\"10.1.0.0/64\"]"),
    instead("a rule that cannot be read", "to = \"clinic\"", "to = \"clinic\"\nwhen = 'Modality = \"CT\"'"),
    instead("a rule with an unknown attribute", "to = \"clinic\"", "to = \"clinic\"\nwhen = 'Modalty == \"CT\"'"),
    instead("a time window that is none", "to = \"clinic\"", "to = \"clinic\"\nwindow = \"at night\""),
    instead("a time zone that is none", "to = \"clinic\"", "to = \"clinic\"\nwindow = \"Sat\"\ntime_zone = \"Mars\""),
    instead("a rate that is none", "to = \"clinic\"", "to = \"clinic\"\nrate = \"fast\""),
    instead("a PDU length out of range", "[admin]", "max_pdu = 1000\n[admin]"),
    instead("a reserve that is too small", "[dicom]", "reserve = \"1 MiB\"\n[dicom]"),
    instead("a time-out out of range", "to = \"clinic\"", "to = \"clinic\"\necho_timeout = \"2min\""),
    added("a silence that is too short", "[transparency]\nsilent_after = \"1s\""),
    added("a time until a proof is asked for again that is too long", "[transparency]\nresubmit_after = \"7days\""),
    added("an age of no time", "[alarm]\noldest = \"0s\""),
    added("no parked instances", "[alarm]\nparked = 0"),
    // Files
    instead("a key file that is not there", "keys/gateway-out.key", "keys/gateway.key"),
    instead("a log key file that is not there", "keys/gateway-out-log.key", "keys/log.key"),
    instead("an outbox key that is not there", "keys/outbox.key", "keys/out.key"),
    instead("another key instead of an index key", "keys/index.key", "keys/outbox.key"),
    instead("another file instead of a key", "keys/gateway-out.key", "notes.txt"),
    instead("a card that is not there", "cards/clinic.card", "cards/klinik.card"),
    instead("a card that cannot be read", "cards/clinic.card", "notes.txt"),
    instead("a card that is damaged", "cards/clinic.card", "cards/damaged.card"),
    instead("a card of an earlier format", "cards/clinic.card", "cards/old.card"),
    instead("the card of somebody else", "cards/clinic.card", "cards/hub.card"),
    instead("a card that does not name our keys", "\"hospital.card\"", "\"cards/clinic.card\""),
    instead("a key inside of the outbox", "\"keys/outbox.key\"", "\"outbox/outbox.key\""),
    // What contradicts itself
    instead("no relay", "[[relay]]\nname = \"hub\"\naddress = \"192.0.2.1:4433\"\ncard = \"cards/hub.card\"\n", ""),
    instead("two peers of one name", "[[route]]", "[[peer]]\nname = \"clinic\"\ncard = \"cards/clinic.card\"\n[[route]]"),
    instead("two relays of one name", "[[peer]]", "[[relay]]\nname = \"hub\"\naddress = \"192.0.2.2:4433\"\ncard = \"cards/hub.card\"\n[[peer]]"),
    instead("a route to an unknown peer", "to = \"clinic\"", "to = \"klinik\""),
    instead("a route without a peer", "to = \"clinic\"\n", ""),
    instead("a route without an id", "id = \"3d2f6c1e9a4b58077c6d5e4f3a2b1c0d\"\n", ""),
    added("two routes of one id", "[[route]]\nae = \"OTHER\"\nid = \"3d2f6c1e9a4b58077c6d5e4f3a2b1c0d\"\nto = \"clinic\"\ndestination = \"archive\""),
    instead("a route with an id and several destinations", "destination = \"archive\"", "[[route.destination]]\nid = \"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"\nname = \"archive\""),
    instead("the same destination twice", "id = \"3d2f6c1e9a4b58077c6d5e4f3a2b1c0d\"\nto = \"clinic\"\ndestination = \"archive\"", "to = \"clinic\"\n[[route.destination]]\nid = \"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"\nname = \"archive\"\n[[route.destination]]\nid = \"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\nname = \"archive\""),
    instead("no destination", "id = \"3d2f6c1e9a4b58077c6d5e4f3a2b1c0d\"\nto = \"clinic\"\ndestination = \"archive\"", "to = \"clinic\"\ndestination = []"),
    instead("delivered with a time window", "to = \"clinic\"", "to = \"clinic\"\nrespond = \"delivered\"\nwindow = \"Sat\""),
    instead("delivered with a rate", "to = \"clinic\"", "to = \"clinic\"\nrespond = \"delivered\"\nrate = \"5 MB/s\""),
    instead("a group that is not there", "to = \"clinic\"", "to = \"clinic\"\ncalling = [\"@modalities\"]"),
    added("a network in a group that is none", "[groups]\nmodalities = [\"10.1.0.0/99\"]"),
    instead("no DICOM port", "listen = \"127.0.0.1:11112\"", "max_pdu = 0"),
    instead("users without user_identity", "[admin]", "users = \"notes.txt\"\n[admin]"),
    instead("a file of users that others may read", "[admin]", "user_identity = \"accepted\"\nusers = \"notes.txt\"\n[admin]"),
    // TLS and ports
    instead("an admin port for everybody", "127.0.0.1:9180", "0.0.0.0:9180"),
    instead("an admin port with TLS and without", "[[relay]]", "without_tls = true\ntls = { cert = \"a.crt\", key = \"a.key\" }\n[[relay]]"),
    instead("an admin certificate that is not there", "[[relay]]", "tls = { cert = \"a.crt\", key = \"a.key\" }\n[[relay]]"),
    instead("a certificate that is not there", "[admin]", "tls = { listen = \"127.0.0.1:2762\", cert = \"a.crt\", key = \"a.key\", clients = \"ca.crt\" }\n[admin]"),
    instead("a certificate that is none", "[admin]", "tls = { listen = \"127.0.0.1:2762\", cert = \"notes.txt\", key = \"a.key\", clients = \"ca.crt\" }\n[admin]"),
    instead("TLS on the port without it", "[admin]", "tls = { listen = \"127.0.0.1:11112\", cert = \"notes.txt\", key = \"a.key\", clients = \"ca.crt\" }\n[admin]"),
    // Storage commitment
    added("commitment without an address", "[[commitment]]\nae = \"CT1\""),
    added("two commitment peers of one title", "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\n[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.8:104\""),
    added("commitment that fails at once", "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\ntimeout = \"0s\""),
    added("commitment that waits longer than it lasts", "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\narrival = \"2days\""),
    added("commitment for nothing", "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\ninstances_max = 0"),
    added("commitment of no request", "[[commitment]]\nae = \"CT1\"\naddress = \"192.0.2.7:104\"\nopen_max = 0"),
    // Pseudonymization
    added("pseudonymization without a key", "[route.pseudonymize]"),
    added("a site key that is not there", "[route.pseudonymize]\nkey = \"keys/site.key\""),
    added("a site key that is none", "[route.pseudonymize]\nkey = \"keys/index.key\""),
    added("a profile that is none, with files", "[route.pseudonymize]\nprofile = \"none\"\nkey = \"keys/site.key\""),
    added("an option that is like one", "[route.pseudonymize]\noptions = [\"retain-uid\"]"),
    added("options that exclude each other", "[route.pseudonymize]\nkey = \"site.key\"\noptions = [\"retain-full-dates\", \"retain-modified-dates\"]"),
    added("descriptors without words", "[route.pseudonymize]\nkey = \"site.key\"\noptions = [\"clean-descriptors\"]"),
    added("an override of an unknown attribute", "[route.pseudonymize]\nkey = \"site.key\"\n[[route.pseudonymize.override]]\ntag = \"PatientNam\"\naction = \"keep\""),
    added("an override without its value", "[route.pseudonymize]\nkey = \"site.key\"\n[[route.pseudonymize.override]]\ntag = \"SeriesDescription\"\naction = \"replace\""),
    added("dates that are not moved", "[route.pseudonymize]\nkey = \"site.key\"\ndate_shift = 0\noptions = [\"retain-modified-dates\"]"),
    added("a concept that is none", "[route.pseudonymize]\nkey = \"site.key\"\noptions = [\"clean-structured-content\"]\ncontent = { keep_text = [\"121071\"] }"),
    added("a rule for pixels without a size", "[route.pseudonymize]\nkey = \"site.key\"\n[[route.pseudonymize.pixels]]\npixels = \"mask\"\nrectangles = [{ x = 0, y = 0, width = 9, height = 9 }]"),
    added("a rule for objects of no class", "[route.pseudonymize]\nkey = \"site.key\"\n[[route.pseudonymize.object]]\nsop_class = \"PDF\"\ncontent = \"pass\""),
    added("a certificate that is not there", "[route.pseudonymize]\nkey = \"site.key\"\nreidentify = [\"committee.pem\"]"),
    added("a certificate that is none", "[route.pseudonymize]\nkey = \"site.key\"\nreidentify = [\"notes.txt\"]"),
    added("a watched folder that is not there", "[[watch]]\ndir = \"outbox/inbox\"\nae = \"CLINIC\""),
    added("a watched folder for nobody", "[[watch]]\ndir = \"inbox\"\nae = \"CLINIK\""),
    added("a watched folder around the keys", "[[watch]]\ndir = \".\"\nae = \"CLINIC\""),
    added("watched folders in each other", "[[watch]]\ndir = \"inbox/ward\"\nae = \"CLINIC\"\n[[watch]]\ndir = \"inbox\"\nae = \"CLINIC\""),
    added("an unknown thing to do with a file", "[[watch]]\ndir = \"inbox\"\nae = \"CLINIC\"\ndelivered = \"burn\""),
    added("words that are not there", "[route.pseudonymize]\nkey = \"site.key\"\nwords = \"words.txt\"\noptions = [\"clean-descriptors\"]"),
];
