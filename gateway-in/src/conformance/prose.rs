//! The sentences of the statement. Numbers in them come from the tables and the configuration.

use statement::{Prose, Stage, tables};

use crate::{coercion::ATTRIBUTES, config::Config};

pub(super) fn prose(config: &Config) -> Prose {
    Prose {
        glance: glance(),
        overview: overview(),
        character_sets: character_sets(),
        flow: flow(),
        entity: entity(),
        storage: storage(),
        conformance: conformance(),
        commitment: commitment(),
        web: web(),
        configuration: configuration(),
        sequence: sequence(config),
        initiation: initiation(),
        acceptance: acceptance(),
        failures: failures(),
        security: security(),
        ports: ports(),
        deidentification: Vec::new(),
        user_identity: user_identity(),
        attributes: attributes(),
    }
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

fn glance() -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        pair(
            "The answer decides",
            "an instance counts as stored only when the destination has answered so; that answer is signed for the sender.",
        ),
        pair(
            "Refused is not lost",
            "what the destination refuses stays with its sender, with the status, until an operator decides.",
        ),
        pair(
            "Busy is asked again",
            "a destination that is full, busy, silent or away gets the instance later, in the study's order.",
        ),
        pair(
            "Every class, every syntax",
            "proposed as the instance came, one presentation context for each pair; re-encoded only where that is configured.",
        ),
        pair(
            "Not a byte changed",
            "the data set is handed over as it was sent, private elements and signatures included, unless coercion or re-encoding \
             is written out for it; the receipt says so then.",
        ),
        pair(
            "Never half of one",
            "the last fragment of a data set leaves only after the whole of it has verified.",
        ),
        pair("Proved", "each row below is checked against the real program, on the wire, in every test run."),
    ]
}

fn overview() -> Vec<String> {
    lines([
        "gateway-in collects sealed instances from a relay, opens them, and hands each to a destination by C-STORE or \
         STOW-RS, or writes it as a file. What the destination answered becomes a signed receipt for the sending gateway, which has a \
         statement of its own.",
        "To a destination gateway-in is a Storage SCU, and on demand a Storage Commitment SCU, or a user agent of the Studies \
         Service. It accepts associations only \
         for commitment reports, on a port that is off by default.",
    ])
}

fn character_sets() -> Vec<String> {
    lines([
        "Data sets are passed on as bytes, whatever their Specific Character Set (0008,0005) says. No text in them is \
         converted. What coercion writes is encoded in the character set of the data set, or the instance is refused.",
    ])
}

fn flow() -> Vec<Stage> {
    let stage = |name: &str, about: &str, edge: &str, ours: bool| Stage {
        name: name.to_owned(),
        about: about.to_owned(),
        edge: edge.to_owned(),
        ours,
    };
    vec![
        stage("PACS or modality", "Storage SCU", "C-STORE", false),
        stage("gateway-out", "Storage SCP; seals and keeps", "sealed, not DICOM", false),
        stage("relay", "carries what it cannot read", "sealed, not DICOM", false),
        stage(
            "gateway-in",
            "Storage SCU, Verification SCU, Storage Commitment SCU, STOW-RS user agent; opens, signs receipts",
            "C-STORE, C-ECHO, N-ACTION, STOW-RS",
            true,
        ),
        stage("destination", "Storage SCP, a DICOM web service, or a folder of PS3.10 files", "", false),
    ]
}

fn entity() -> Vec<String> {
    lines([
        "One process serves any number of destinations. Each has workers, and each worker one association at most. A \
         study stays with one worker, so that its instances keep their order and the destination sees one association for \
         it. Associations are never shared between two senders.",
    ])
}

fn storage() -> Vec<String> {
    lines([
        "As SCU of the storage SOP classes gateway-in sends an instance with the Affected SOP Class and Instance UID, the \
         priority and the Move Originator with which it came. It waits for each answer before it sends the next instance \
         on the same association.",
        "It sends an instance again only where the destination asked to wait, or where no answer came. After a time-out, \
         an abort or a crash in the wrong moment, an instance may so reach the destination twice, with the same SOP \
         Instance UID and the same bytes; the receipt says so.",
    ])
}

fn conformance() -> Vec<statement::Fact> {
    let fact = |row: &str, name: &str, value: &str, note: &str| {
        tables::fact(super::claim("storage", row), name, value, note)
    };
    let mut facts = vec![
        fact(
            "coercion",
            "Coercion of attributes",
            "none, unless a `[[coercion]]` names sender and destination",
            "without one the data set is bit-identical to the one that was received at the other end",
        ),
        fact(
            "transcoding",
            "Transcoding",
            "none: pixels are never touched",
            "an instance whose transfer syntax is not accepted is refused",
        ),
        fact(
            "reencoding",
            "Re-encoding",
            "none, unless the destination has `reencode = \"syntax-only\"`",
            "then of the layout of elements only: sequences get undefined length, group lengths are left out, private and unknown \
             elements become UN in explicit VR; the receipt has both transfer syntaxes and both digests",
        ),
        fact(
            "private-vr",
            "Private elements in Implicit VR",
            "an instance with a private element whose value representation would be lost is refused",
            "`private_vr = \"lose\"`: sent without it",
        ),
        fact(
            "original-attributes",
            "Original Attributes Sequence (0400,0561)",
            "gets an item with the previous values of coerced attributes",
            "its time is that of the first offer, so that a repeat has the same bytes; the receipt has a digest of the rules",
        ),
        fact(
            "move-originator",
            "Move Originator (0000,1030) and (0000,1031), Priority (0000,0700)",
            "passed on",
            "as they came with the instance",
        ),
    ];
    facts.extend(ATTRIBUTES.iter().map(|attribute| {
        let row = format!("coercion-{}", attribute.keyword);
        let note = if attribute.stays { "`remove` empties it: it has to be there (type 2)" } else { "" };
        fact(&row, &format!("Coercion of {attribute}"), &attribute.deeds().join(", "), note)
    }));
    facts
}

fn commitment() -> Vec<String> {
    lines([
        "As SCU of the Storage Commitment Push Model gateway-in asks a destination with `means = \"committed\"` to commit to \
         each instance that it has stored. The instances of a study are asked for in one N-ACTION, with a Transaction UID of \
         ours below 2.25, as soon as none has come for `quiet` (5 s by default), 500 at most. UIDs are those that were sent.",
        "The request is on disk before it is sent, and what the report says before it is answered 0000. The report may come \
         on the association that asked, which is kept open for `stay` (10 s by default), or on one of the destination's own, \
         with or without SCP/SCU role selection (SCU 0, SCP 1).",
        "What a destination says is signed for the sending gateway, as a second receipt. Until it is there no peer of that \
         gateway hears that the instance is committed, whatever that gateway's own configuration asks for short of \
         `means = \"outbox\"`.",
    ])
}

fn web() -> Vec<String> {
    lines([
        "As user agent of the Store transaction of the Studies Service (PS3.18 §10.5) gateway-in sends a destination of the kind `stow` \
         one instance in each request, over HTTP/1.1, and waits for the answer before it sends the next one on the same connection.",
        "Only an answer that names the instance in its Referenced SOP Sequence makes it stored. A success that does not is no success: \
         the instance may be stored, and is sent again.",
        "Names are not looked up: a URL with a host name needs an `address`. What a service writes into its answers, beside codes and \
         UIDs, is neither kept nor logged.",
    ])
}

fn configuration() -> Vec<String> {
    lines([
        "Everything is configured in one TOML file, which is checked before the daemon starts: `gateway-in check` names \
         file, line and column of what cannot be used. AE titles, addresses and ports of destinations have no defaults. \
         `gateway-in conformance --config FILE` writes this statement with the values of one installation.",
    ])
}

fn sequence(config: &Config) -> Vec<String> {
    vec![
        format!(
            "An instance is collected and opened. Up to {} it is verified as a whole first; a larger one is sent as it \
             comes, on an association of its own.",
            config.collect.verify_first
        ),
        "An association is opened, or one is used that is open for this study and has the presentation context.".to_owned(),
        "C-STORE-RQ and data set are sent. That an attempt is made is on disk before the last fragment leaves.".to_owned(),
        "The response becomes a verdict by Table 7.3.2.5: stored, refused or deferred. It is on disk before it is signed.".to_owned(),
        "The receipt goes to the sender.".to_owned(),
        "An association without work is released; at once where another study of the same destination wants one.".to_owned(),
    ]
}

fn initiation() -> Vec<String> {
    lines([
        "An association is opened when an instance is there. It proposes the pair of SOP class and transfer syntax of \
         that instance and those that came lately for this destination, each in a presentation context of its own, so \
         that the answer says which pairs the destination takes.",
        "The calling AE title is a fixed one, or that of the PACS which sent the instance.",
        "While a destination cannot be reached nothing is collected for it; it is asked by C-ECHO, and gets its instances \
         as soon as it answers. A destination that rejects such an association is there, and counts as up.",
    ])
}

fn acceptance() -> Vec<String> {
    lines([
        "gateway-in accepts associations only where `[commitment] listen` or `tls.listen` is configured, and only of \
         destinations that are asked for storage commitment: their AE title as calling, their address (or one of \
         `commitment.from`), and as called the AE title under which they are asked.",
    ])
}

fn failures() -> Vec<String> {
    lines([
        "On any failure within an instance the association is aborted before the last fragment of the data set has left, \
         so that a destination never takes a part for the whole.",
    ])
}

fn security() -> Vec<String> {
    lines([
        "Instances arrive sealed and are verified before the destination gets their end. That is no DICOM security \
         profile; `SECURITY.md` in the sources describes it. Without TLS the connection to the destination belongs into a \
         network that is trusted with the images.",
    ])
}

fn ports() -> Vec<String> {
    lines([
        "gateway-in listens on a DICOM port only for commitment reports, at the address of `[commitment] listen`, or over TLS \
         at that of `tls.listen`; by default on none. Destinations are reached at the TCP port that is configured for each, web services at that of their URL or `address`.",
    ])
}

fn user_identity() -> Vec<String> {
    lines([
        "A User Identity item is proposed to a destination that has `user`: a user name, with the passcode of a file if there \
         is one. By default none is.",
    ])
}

fn attributes() -> Vec<String> {
    lines([
        "No information object is created and no attribute is added, removed or changed, private ones included, but by the \
         coercion that Table 5-10 has, where it is configured. A folder \
         destination gets PS3.10 files with a file meta information of ours before the data set as it came.",
    ])
}
