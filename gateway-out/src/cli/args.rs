//! What the command line says.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use base::{AeTitle, Digest, Name};
use clap::{Args, Parser, Subcommand, ValueEnum};
use service::{
    alarm::AlarmCommand, config::Span, manual::GenerateArgs, support::SupportArgs, trust::TrustArgs,
};
use spool::State;
use statement::command::ConformanceArgs;

use super::reidentify::ReidentifyArgs;
use crate::{
    commands::{EchoArgs, MirrorArgs},
    commitment::show,
    queue,
};

/// Takes instances from a PACS by C-STORE and owes them until a receipt is in.
#[derive(Debug, Parser)]
#[command(name = "gateway-out", version, about)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an identity, the outbox's keys and a commented configuration.
    Init(InitArgs),
    /// Check the configuration and every file that it names, show every value with its source, and what has to be entered at the
    /// PACS.
    Check(CheckArgs),
    /// Show the card of a receiving gateway or relay, and pin it when its words were compared.
    Trust {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: TrustArgs,
    },
    /// Run until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Write manual pages and shell completions into a folder.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Show relays and the queue.
    Status(JsonArgs),
    /// Have the running daemon read its configuration again, as SIGHUP does, and say what it took over. Exit code 0 says that it did.
    Reload(JsonArgs),
    /// Show the status again and again, until interrupted.
    Watch {
        #[command(flatten)]
        config: ConfigArg,
        /// How often.
        #[arg(long, value_name = "SPAN", default_value = "2s")]
        every: Span,
    },
    /// Show what others pin, or make other keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Collect what somebody who helps needs to know, without patient data, as one JSON file.
    Support {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: SupportArgs,
    },
    /// Tell people what is wrong: by mail, a webhook or a program.
    Alarm {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/gateway-out.toml", global = true)]
        config: PathBuf,
        #[command(subcommand)]
        command: AlarmCommand,
    },
    /// Send DICOM files through our own C-STORE port. Exit code 0 says that all were accepted.
    Send(SendArgs),
    /// List deliveries, and act on those that need an operator.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Tell the whole life of an instance, series, study, accession number, patient id or delivery.
    Why(WhyArgs),
    /// List requests for storage commitment, and act on those that need an operator.
    #[command(subcommand)]
    Commitments(CommitmentsCommand),
    /// Ask the configuration where instances would go.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Look into what was pseudonymized, and what was refused.
    #[command(subcommand)]
    Pseudonyms(PseudonymsCommand),
    /// Show who a pseudonymized instance is of, with the private key of a certificate that its route encrypted for.
    Reidentify(ReidentifyArgs),
    /// Ask the destination behind a route by C-ECHO, through the whole path, and show how long each leg took. Exit code 0
    /// says that it answers.
    Echo(EchoArgs),
    /// Ask the receiving gateways now what their destinations accept, and show what is offered to the PACS.
    Mirror(MirrorArgs),
    /// Show whom the running daemon turned away at its DICOM ports lately (the last 200), why, and what would let it in.
    #[command(alias = "rejections")]
    Associations {
        #[command(flatten)]
        args: JsonArgs,
        /// Those that were rejected; there is no other list.
        #[arg(long, default_value_t = true)]
        rejected: bool,
    },
    /// Show what passes on the associations of an AE title, whether it calls or is called: association items, command sets, and how
    /// long data sets are. No byte of a data set, and no instance UID.
    Trace {
        #[command(flatten)]
        args: JsonArgs,
        /// The AE title.
        ae: AeTitle,
        /// How long.
        #[arg(long = "for", value_name = "SPAN", default_value = "10min")]
        span: Span,
    },
    /// Take a newer card of a peer or relay.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Decide about a relay.
    #[command(subcommand)]
    Relay(RelayCommand),
    /// List, show and verify receipts.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Write the DICOM Conformance Statement, or compare it with that of a far end.
    Conformance(ConformanceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/sluis/gateway-out.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Try it out, too: relays, our AE titles by C-ECHO, disk, clock, ends of cards. Exit code 1 when something does not work.
    #[arg(long)]
    pub(super) connect: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Without the kernel's bounds on files, programs and memory. For tests, and kernels that cannot give them.
    #[arg(long)]
    pub(super) no_sandbox: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// The name on our card.
    #[arg(long)]
    pub(super) name: Name,
    /// Address and port of the DICOM listener.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11112")]
    pub(super) listen: SocketAddr,
    /// Address and TCP port of the admin listener.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9180")]
    pub(super) admin: SocketAddr,
    /// The folder of sealed bodies and index. Default: `outbox` beside the configuration, or for one in /etc
    /// /var/lib/sluis/gateway-out/outbox.
    #[arg(long, value_name = "DIR")]
    pub(super) outbox: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Print our card: one line to give to the other side.
    Show(ConfigArg),
    /// Print the fingerprint, in digits and in words for the telephone.
    Fingerprint(ConfigArg),
    /// Make other keys (identity, TLS, log) and a card that the present ones vouch for: these are used for half of the
    /// overlap, and count for all of it. Or, by --outbox, another outbox key. Also while the daemon runs, and safe to be killed at any
    /// moment: run it again.
    Rotate {
        #[command(flatten)]
        config: ConfigArg,
        /// Only the outbox key, and at once: everything in the outbox is wrapped again, and the old key opens nothing any more.
        #[arg(long, conflicts_with_all = ["overlap", "switch", "finish"])]
        outbox: bool,
        /// How long the earlier keys count beside the new ones, as in "30d" or "12h".
        #[arg(long, value_name = "TIME", default_value = "30d")]
        overlap: Span,
        /// Use the new keys at once; also those of a rotation that is under way.
        #[arg(long)]
        switch: bool,
        /// The overlap is over: remove the earlier keys.
        #[arg(long, conflicts_with_all = ["switch", "overlap"])]
        finish: bool,
    },
    /// Make a file of site keys for pseudonyms, of mode 0600.
    Gen {
        /// The file.
        file: PathBuf,
        /// Put another key in front of those in the file: new studies get it, known ones stay under theirs.
        #[arg(long)]
        next: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PeerCommand {
    /// Pin this card in place of the pinned one of that name, where that one vouches for it; the running daemon takes it over.
    Update {
        /// The card file.
        card: PathBuf,
        #[command(flatten)]
        config: ConfigArg,
        /// Pin it although the pinned one does not vouch for it. Compare the fingerprint with the peer's people before.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// The AE title that is called; may be left out where all routes have one.
    #[arg(long)]
    pub(super) ae: Option<AeTitle>,
    /// The AE title that we present.
    #[arg(long, default_value = "SLUIS_SEND")]
    pub(super) calling: AeTitle,
    /// Files, and folders of files.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List deliveries that have not ended.
    Ls {
        #[command(flatten)]
        args: JsonArgs,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
        /// Only this state (sealed, relayed, collected, deferred, held, parked, …).
        #[arg(long)]
        state: Option<State>,
        /// The most that are listed, oldest first; whether there are more is said at the end.
        #[arg(long, default_value_t = queue::LIST_MAX)]
        limit: u32,
    },
    /// Show one delivery and its history.
    Show {
        #[command(flatten)]
        args: JsonArgs,
        /// Delivery id, or its first digits.
        id: String,
    },
    /// Keep deliveries that wait from being sent, until they are released.
    Hold(QueueActArgs),
    /// Let deliveries go that are held.
    Release(QueueActArgs),
    /// Try parked or deferred deliveries again now.
    Retry {
        #[command(flatten)]
        config: ConfigArg,
        /// Delivery id or its first digits; or, for all deliveries of it, a SOP instance, series or study UID, an accession number
        /// or a patient id.
        id: String,
        /// Why; goes into the audit table.
        #[arg(long, default_value = "retry")]
        reason: String,
    },
    /// Give a delivery up for good: its body and key are erased.
    Discard {
        #[command(flatten)]
        config: ConfigArg,
        /// Delivery id, or its first digits.
        id: String,
        /// Why; goes into the audit table.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct QueueActArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Delivery id or its first digits; or, for all deliveries of it, a SOP instance, series or study UID, an accession number
    /// or a patient id.
    pub(super) id: String,
    /// Why; goes into the audit table.
    #[arg(long)]
    pub(super) reason: String,
}

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    pub(super) args: JsonArgs,
    /// A SOP instance, series or study UID, an accession number, a patient id, or a delivery id.
    pub(super) id: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum RouteCommand {
    /// Explain which route takes an instance, and why each earlier one does not. Sends nothing and needs no daemon.
    /// Exit code 0 says that one takes it.
    Test {
        #[command(flatten)]
        args: JsonArgs,
        /// A DICOM file.
        file: PathBuf,
        /// The AE title that is called; may be left out where all routes have one.
        #[arg(long, value_name = "AE")]
        called: Option<AeTitle>,
        /// The AE title that calls.
        #[arg(long, value_name = "AE", default_value = "SLUIS_SEND")]
        calling: AeTitle,
        /// The address that it calls from.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
        source: IpAddr,
        /// Priority (0000,0700) of the C-STORE.
        #[arg(long, value_enum, default_value_t = PriorityArg::Medium)]
        priority: PriorityArg,
        /// Show what people have typed into the compared elements; it may name a patient.
        #[arg(long)]
        reveal: bool,
        /// Show what the route's pseudonymization would do to the file, element by element.
        #[arg(long)]
        pseudonymize: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PseudonymsCommand {
    /// List the last instances that could not be pseudonymized, and why. Nothing of them has left.
    Refused {
        #[command(flatten)]
        args: JsonArgs,
        /// The most that are listed, the latest first.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show what was done to the attributes of a study: tags and counts, never values.
    Report {
        #[command(flatten)]
        args: JsonArgs,
        /// The Study Instance UID that it came with.
        study: String,
        /// Print the report on one instance instead, by the digest that its receipt has: exactly the text that it is the
        /// SHA-256 of.
        #[arg(long, value_name = "DIGEST")]
        instance: Option<Digest>,
    },
    /// Work out again which pseudonym stands for which patient and UID, from the original files: patients.csv and uids.csv,
    /// encrypted as CMS (`openssl cms -decrypt -inform DER -inkey KEY -in patients.csv.cms`). They lead to patients: keep them at
    /// the sending site.
    Crosswalk {
        #[command(flatten)]
        config: ConfigArg,
        /// The AE title of the route.
        #[arg(long, value_name = "AE")]
        called: AeTitle,
        /// The folder that both are written to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Encrypt for this certificate (X.509 in PEM, RSA). Default: for those of `reidentify` of the route.
        #[arg(long = "for", value_name = "CERT")]
        recipients: Vec<PathBuf>,
        /// Do not encrypt.
        #[arg(long, conflicts_with = "recipients")]
        plain: bool,
        /// The originals: DICOM files, or folders with them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print rules that were written for the crate dicom-anonymization (JSON) as a file for `rules`.
    Import {
        /// Its configuration.
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PriorityArg {
    Low,
    Medium,
    High,
}

#[derive(Debug, Subcommand)]
pub(super) enum RelayCommand {
    /// Use a relay again whose log broke its promise. The decision is kept with the reason.
    Trust {
        #[command(flatten)]
        config: ConfigArg,
        /// The relay's name.
        name: Name,
        /// Why, in your words. No patient data.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CommitmentsCommand {
    /// List transactions that have not ended.
    Ls {
        #[command(flatten)]
        args: JsonArgs,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
        /// The most that are listed.
        #[arg(long, default_value_t = show::LIST_MAX)]
        limit: u32,
    },
    /// Report a decided transaction again now.
    Retry {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id, or the first eight digits or more.
        id: String,
        /// Why; goes into the audit table.
        #[arg(long, default_value = "retry")]
        reason: String,
    },
    /// Give a transaction up: the peer is told nothing more of it.
    Drop {
        #[command(flatten)]
        config: ConfigArg,
        /// Its id, or the first eight digits or more.
        id: String,
        /// Why; goes into the audit table.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// List all receipts.
    List(JsonArgs),
    /// Print the receipt of a delivery as a file that stands alone.
    Show {
        #[command(flatten)]
        config: ConfigArg,
        /// Delivery id, or its first digits.
        id: String,
    },
    /// Verify a receipt file offline; exit code 1 and the reason where it is not genuine.
    Verify {
        /// The receipt file.
        file: PathBuf,
        /// The receiving gateway's card.
        #[arg(long, value_name = "CARD")]
        peer: PathBuf,
        /// The sending gateway's card, to prove who sent.
        #[arg(long, value_name = "CARD")]
        sender: Option<PathBuf>,
        /// The relay's card, to prove the place in its log.
        #[arg(long, value_name = "CARD")]
        relay: Option<PathBuf>,
    },
}
