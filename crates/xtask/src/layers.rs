//! The tables: which crate stands where, what must not be reached from where, and who alone uses a dependency.

/// Every crate of the workspace with its row. A crate uses lower rows only; crates of one row do not see each other.
pub(crate) const ROWS: &[(&str, u8)] = &[
    ("base", 0),
    ("identity", 1),
    ("dataset", 1),
    ("sandbox", 1),
    ("envelope", 2),
    ("wire", 2),
    ("ledger", 2),
    ("dimse", 2),
    ("enquiry", 2),
    ("pseudonym", 2),
    // Synthetic instances: for tests and the quickstart.
    ("fixtures", 2),
    ("transport", 3),
    ("service", 3),
    ("spool", 3),
    ("statement", 3),
    ("stow", 3),
    ("testkit", 3),
    ("gateway-out", 4),
    ("relay", 4),
    ("gateway-in", 4),
    ("quickstart", 5),
    ("xtask", 5),
];

/// Crates that may stand in `[dev-dependencies]` of any other, whatever the rows.
pub(crate) const TEST_ONLY: &[&str] = &["testkit", "fixtures"];

/// Test crates that are nevertheless part of a program.
pub(crate) const TEST_ONLY_EXCEPT: &[(&str, &str, &str)] =
    &[("quickstart", "fixtures", "it sends them"), ("testkit", "fixtures", "it is a test crate itself")];

/// What a crate must not reach, by whatever way. A name that ends in `*` stands for all that start so.
pub(crate) const FORBIDDEN_REACHES: &[(&str, &[&str])] = &[
    (
        "relay",
        &[
            "dataset",
            "envelope",
            "dimse",
            "enquiry",
            "pseudonym",
            "spool",
            "hpke",
            "ml-kem",
            "x-wing",
            "x25519-dalek",
            "p256",
            "aes-gcm",
            "chacha20poly1305",
            "rusqlite",
            "dicom-*",
        ],
    ),
    ("gateway-in", &["pseudonym"]),
];

/// Dependencies that one crate keeps away from all others.
pub(crate) const OWNERS: &[(&str, &str)] = &[
    ("dicom-object", "dataset"),
    ("dicom-encoding", "dataset"),
    ("dicom-transfer-syntax-registry", "dataset"),
    ("dicom-ul", "dimse"),
    ("ed25519-dalek", "identity"),
    ("ml-dsa", "identity"),
    ("hpke", "envelope"),
    ("ml-kem", "envelope"),
    ("x-wing", "envelope"),
    ("x25519-dalek", "envelope"),
    ("p256", "envelope"),
    ("aes-gcm", "envelope"),
    ("chacha20poly1305", "envelope"),
    ("ct-merkle", "ledger"),
    ("rusqlite", "spool"),
    ("aho-corasick", "pseudonym"),
    ("cms", "pseudonym"),
    ("csv", "pseudonym"),
    ("hayro-jpeg2000", "pseudonym"),
    ("jpeg-decoder", "pseudonym"),
    ("pure_jpegls", "pseudonym"),
    ("unicode-normalization", "pseudonym"),
    ("quinn", "transport"),
    ("rustls", "transport"),
    ("tokio-rustls", "dimse"),
    ("httparse", "stow"),
    ("landlock", "sandbox"),
    ("seccompiler", "sandbox"),
    ("memmap2", "relay"),
    ("zeroizing-alloc", "relay"),
    ("figment", "service"),
    ("axum", "service"),
    ("lettre", "service"),
    ("ureq", "service"),
    ("maud", "statement"),
];

/// Who uses an owned dependency besides its owner, and why that is right.
pub(crate) const OWNERS_EXCEPT: &[(&str, &str, &str)] = &[
    (
        "rustls",
        "dimse",
        "DIMSE over TLS (PS3.15 B.12) is TLS over TCP with X.509 certificates, for DICOM peers; transport has QUIC with pinned raw keys, for ours. Nothing is common to both but the library and its provider, and dimse stands a row below",
    ),
    (
        "rustls",
        "service",
        "the admin port may speak HTTPS with an X.509 certificate; transport has QUIC only, and the relay must not reach dimse",
    ),
    ("tokio-rustls", "service", "the same"),
    (
        "maud",
        "service",
        "pages of the admin ports need HTML that escapes what it is given; statement is about DICOM, which the relay must not reach",
    ),
    (
        "dicom-object",
        "fixtures",
        "the generator of synthetic instances writes data sets; no product code does",
    ),
    (
        "aes-gcm",
        "spool",
        "wraps content keys and records under the outbox key; using envelope for it would let the store open bodies",
    ),
];
