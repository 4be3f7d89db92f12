//! The sentences of the statement. Numbers in them come from the tables and the configuration.

use dimse::TLS_PORT;
use statement::{Prose, Stage, tables};

use super::deidentification;
use crate::{
    commitment::ask::{FAULTS, Refusal},
    config::Config,
};

pub(super) fn prose(config: &Config) -> Prose {
    Prose {
        glance: glance(),
        overview: overview(),
        character_sets: character_sets(),
        flow: flow(),
        entity: entity(),
        storage: storage(),
        conformance: conformance(),
        commitment: commitment(config),
        web: Vec::new(),
        configuration: configuration(),
        sequence: sequence(config),
        initiation: initiation(),
        acceptance: acceptance(config),
        failures: failures(),
        security: security(),
        ports: ports(config),
        deidentification: deidentification::prose(),
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
            "Success is custody",
            "0000 is answered only when the sealed instance is on disk. It is given up only for a signed receipt of the far side, or by an operator's named act.",
        ),
        pair(
            "Every storage SOP class",
            "those of the standard, retired ones, private ones, and those that are not invented yet.",
        ),
        pair(
            "Every transfer syntax",
            "as it comes: nothing is compressed or re-encoded, and decoded only what a pseudonymizing route has to mask.",
        ),
        pair(
            "Not a byte changed",
            "the data set is passed on as it was sent, private elements and signatures included.",
        ),
        pair(
            "Broken data is refused",
            "a data set that is truncated, unreadable or not what its command says gets a failure status, never success.",
        ),
        pair(
            "Commitment that holds",
            "by default Storage Commitment is given only when the destination itself has answered, not when the gateway has.",
        ),
        pair("Bounded", "each association, PDU, wait and byte in store has a limit that is stated here."),
        pair("Proved", "each row below is checked against the real program, on the wire, in every test run."),
    ]
}

fn overview() -> Vec<String> {
    lines([
        "gateway-out receives instances by C-STORE from a PACS, a modality or a workstation. It seals each of them for \
         one receiving gateway, keeps it on disk, and sends it through a relay that cannot read it. At the other end \
         gateway-in hands the instance to its destination; that side has a statement of its own.",
        "To its peers gateway-out is a Storage SCP that accepts what a storage archive accepts. It keeps instances only \
         until they are delivered: it does not answer queries and does not give instances back.",
    ])
}

fn character_sets() -> Vec<String> {
    lines([
        "Data sets are passed on as bytes, whatever their Specific Character Set (0008,0005) says. No text in them is \
         converted.",
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
        stage("PACS or modality", "Storage SCU", "C-STORE, C-ECHO", false),
        stage(
            "gateway-out",
            "Storage, Storage Commitment and Verification SCP; seals and keeps",
            "sealed, not DICOM",
            true,
        ),
        stage("relay", "carries what it cannot read", "sealed, not DICOM", false),
        stage("gateway-in", "Storage SCU; signs receipts", "C-STORE", false),
        stage("destination", "Storage SCP", "", false),
    ]
}

fn entity() -> Vec<String> {
    lines([
        "One process listens on one port for any number of AE titles. An AE title has one route or several. Which of \
         them takes an instance follows from the calling AE title, the source address and a rule over the instance's \
         header: in the order of the configuration the first whose rule holds. A route leads to one destination behind a \
         receiving gateway, or to several, each of which gets every instance of the route.",
        "For each C-STORE-RQ it reads the data set as it comes, checks its structure, encrypts it, writes it to disk and \
         answers. Delivery is another matter, and goes on while the association is long gone.",
    ])
}

fn storage() -> Vec<String> {
    lines([
        "As SCP of the storage SOP classes gateway-out takes custody of an instance and passes it on. 0000 means that \
         the instance, sealed, has been written to disk with its index, and that both are synchronised. With \
         `respond = \"delivered\"` a route answers only once the destination has: then 0000 means that the destination \
         has stored the instance, and nothing is kept here.",
        "Instances are delivered within a study in the order in which they came. The same data set again, while the \
         first one is on its way, is answered 0000 and delivered once. A known SOP Instance UID with another data set is \
         delivered after the earlier one, or refused where a route says so.",
        "An instance that the destination refuses after 0000 has been answered is kept until an operator decides about \
         it. No time-out and no full disk deletes it.",
    ])
}

fn conformance() -> Vec<statement::Fact> {
    let fact = |row: &str, name: &str, value: &str, note: &str| {
        tables::fact(super::claim("storage", row), name, value, note)
    };
    vec![
        fact(
            "level",
            "Level of conformance",
            "2 (Full)",
            "all attributes, private ones too, are passed on (PS3.4 B.4.1)",
        ),
        fact(
            "coercion",
            "Coercion of attributes",
            "none",
            "the data set leaves as it came; a receiving gateway that coerces for its destination says so in the receipt",
        ),
        fact(
            "signatures",
            "Digital signatures",
            "bit-preserving",
            "signatures stay valid, since no byte changes",
        ),
        fact(
            "transcoding",
            "Transcoding",
            "none",
            "the transfer syntax of the association is that of the delivery",
        ),
        fact(
            "move-originator",
            "Move Originator (0000,1030) and (0000,1031)",
            "passed on",
            "to the destination, by gateway-in",
        ),
    ]
}

fn commitment(config: &Config) -> Vec<String> {
    let timeout = config.commitments.first().map_or_else(String::new, |table| {
        format!(
            "; what is not decided after `timeout`, {} by default, has failed",
            tables::seconds(table.timeout.0)
        )
    });
    let faults: Vec<String> =
        FAULTS.iter().map(|Refusal(status, comment)| format!("{status:04X} ({comment})")).collect();
    vec![
        "As SCP of the Storage Commitment Push Model gateway-out says of instances whether they are stored where they were \
         to go. Event 1 is reported only when a signed receipt of every destination of the route says so, for every \
         instance of the request. Where the receiving gateway asks a destination for its own commitment, a second receipt \
         has to say that it was given; `means = \"committed\"` demands that of every destination. `means = \"outbox\"` lets a peer be told as soon as they are on the gateway's own disk, and \
         is off by default. Otherwise event 2 names what is committed and what failed, with the reasons below."
            .to_owned(),
        format!(
            "The report comes as soon as every instance is decided, mostly within seconds of the C-STORE, and much later \
             where a destination is away{timeout}. A request may come before its instances, on any AE title of ours, and \
             again with the same Transaction UID."
        ),
        "N-EVENT-REPORT comes on an association of our own, to the address that is configured for the peer, under the AE \
         title on which it asked; SCP/SCU role selection is proposed (SCU 0, SCP 1), and the report is sent also where the \
         peer does not answer it. With `on = \"same\"` it comes on the association that asked, while it is open."
            .to_owned(),
        format!(
            "A request is on disk before it is answered 0000, and its report is repeated until it is answered. Where the \
             disk fails a request is answered {}.",
            faults.join(" or ")
        ),
    ]
}

fn configuration() -> Vec<String> {
    lines([
        "Everything is configured in one TOML file, which is checked before the daemon starts: `gateway-out check` names \
         file, line and column of what cannot be used. AE titles, addresses and ports have no defaults that a site would \
         keep, and are not listed here. `gateway-out conformance --config FILE` writes this statement with the values of \
         one installation.",
    ])
}

fn sequence(config: &Config) -> Vec<String> {
    let wait = tables::seconds(config.retry.delivered_timeout.0);
    vec![
        "The peer opens an association with the AE title of a route.".to_owned(),
        "It sends C-STORE-RQ and data set. The data set is checked and sealed as it arrives; one that is large may leave \
         for the receiving gateway before it is complete, but its last piece never does."
            .to_owned(),
        "At the end of the data set, Affected SOP Class and SOP Instance UID are compared with those in the data set.".to_owned(),
        "The sealed instance is committed to disk. Then C-STORE-RSP follows.".to_owned(),
        format!(
            "Where a route has `respond = \"delivered\"`, the destination's status is waited for instead, {wait} at most."
        ),
        "Operations of one association are served one after another, in their order.".to_owned(),
        "The peer releases the association. An association that is idle for too long is aborted.".to_owned(),
    ]
}

fn initiation() -> Vec<String> {
    lines([
        "gateway-out initiates an association to report storage commitment: presentation contexts for Storage Commitment \
         Push Model in Explicit and in Implicit VR Little Endian, in the SCP role.",
        "`gateway-out send FILE` is a Storage SCU for tests, which sends files to the gateway's own port.",
    ])
}

fn acceptance(config: &Config) -> Vec<String> {
    vec![
        "An association is accepted if its called AE title is that of a route, its calling AE title and source address \
         are allowed there, and there is room. It is accepted even where none of its presentation contexts is."
            .to_owned(),
        format!(
            "Each presentation context is decided for itself. P-DATA-TF PDUs of up to {} bytes are accepted, with any \
             number of PDVs, of any length, empty ones too; command and data set may share a PDU.",
            config.dicom.max_pdu
        ),
    ]
}

fn failures() -> Vec<String> {
    lines([
        "An association that ends in the middle of a data set, by release, abort, time-out or loss of the connection, \
         leaves nothing behind: no part of that instance is kept or delivered. Instances that were answered 0000 before \
         are not touched by it.",
    ])
}

fn security() -> Vec<String> {
    lines([
        "Instances leave gateway-out sealed for one receiving gateway (hybrid post-quantum encryption), so that neither \
         network nor relay can read or change them unseen. That is no DICOM security profile; `SECURITY.md` in the \
         sources describes it.",
        "The DICOM port without TLS belongs into the network of the peers that use it. Who may use a route is restricted \
         by calling AE title and source network, on both ports; the default allows the same machine only.",
    ])
}

fn ports(config: &Config) -> Vec<String> {
    let suggested = config
        .dicom
        .listen
        .map_or(String::new(), |listen| format!("; `gateway-out init` suggests {}", listen.port()));
    vec![format!(
        "One TCP port without TLS, `dicom.listen`{suggested}; and one with TLS, `dicom.tls.listen`, by convention {TLS_PORT}: \
         either of them, or both, for all AE titles."
    )]
}

fn user_identity() -> Vec<String> {
    lines([
        "What becomes of a User Identity item is configured by `dicom.user_identity`: `ignored` (the default), `accepted` or \
         `refused`; Table 7-1 has a row for each case. Users and their passcodes stand in the file `dicom.users`. A peer \
         without such an item is admitted by titles and addresses, and nothing of an item is kept or logged.",
    ])
}

fn attributes() -> Vec<String> {
    let unread = tables::transfer_syntaxes(super::ROLE).iter().filter(|row| !row.walked).count();
    vec![
        "No information object is created and no attribute is added, removed or changed, private ones included, except \
         by a route that pseudonymizes (8.4). There are no private SOP classes, attributes or transfer syntaxes of our \
         own."
            .to_owned(),
        format!(
            "Read: SOP Class UID (0008,0016), SOP Instance UID (0008,0018), Modality (0008,0060), Study \
             and Series Instance UID (0020,000D) and (0020,000E), Accession Number (0008,0050), Patient ID (0010,0020) \
             and its issuer (0010,0021): for checks, for the order of delivery, and to find an instance again. They are \
             kept encrypted or as keyed digests only. In private transfer syntaxes, and in {unread} of Table 1-1a that \
             PS3.5 does not define (any more), nothing is read."
        ),
    ]
}
