//! `[[destination]]`: what the operator writes, and what comes of it once it is checked.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base::{AeTitle, Name, ServiceUrl, Uid};
use dataset::PrivateVr;
use dimse::Dialer;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, Span};

use super::{
    Config,
    probe::{self, Probe, ProbeSettings},
    proposes::{self, Proposes, UserTable},
    stow::{self, StowTarget, TlsTable},
};
use crate::{
    commitment::{self, AskSettings, AskTable, Means},
    forward::StatusOverrides,
};

/// `[[destination]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    /// How routes and receipts call it.
    pub name: Name,
    /// `"dicom"`, `"folder"` or `"stow"`, a DICOM web service.
    pub kind: Kind,
    /// `folder`: where the files go.
    pub dir: Option<PathBuf>,
    /// `dicom`: the destination's AE title.
    pub ae: Option<AeTitle>,
    /// `dicom`, and `stow` where `url` has a name: its address and port. Names are not looked up.
    pub address: Option<SocketAddr>,
    /// `stow`: the root of its DICOM web services, as in `"https://pacs.example/dicom-web"`: instances go to `/studies` below it.
    /// It is part of each receipt. Redirects are not followed.
    pub url: Option<ServiceUrl>,
    /// `stow`: the file of a bearer token, in its first line, which only the daemon may read. It is read again on a reload, so that
    /// a token can be changed. Default: none; `user` is the other way.
    pub bearer: Option<PathBuf>,
    /// `dicom`, `stow`: `{ ca = "…", cert = "…", key = "…", name = "…" }`, PEM files: the destination is called over TLS 1.2 or
    /// 1.3. It has to show a certificate of `ca` with the `name` (default: its address, or the host in `url`; `"*"` is any), and is
    /// shown `cert`. Files are read again on a reload. Default: without TLS; `https` needs it.
    pub tls: Option<TlsTable>,
    /// `dicom`: the AE title that we present, or `"original"` for the one that the sender's PACS used.
    pub calling: Option<String>,
    /// `dicom`, `stow`: associations or connections at one time. Default 4; parallelism is across studies.
    #[serde(default = "max_associations")]
    pub max_associations: usize,
    /// `dicom`, `stow`: how long an idle association or connection is kept open. Default 10 s.
    #[serde(default = "linger")]
    pub linger: Span,
    /// `dicom`, `stow`: connecting and the handshakes of TLS and A-ASSOCIATE. Default 10 s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// `dicom`, `stow`: the wait for a C-STORE response, or an HTTP response. Default 60 s.
    #[serde(default = "response_timeout")]
    pub response_timeout: Span,
    /// `dicom`: the longest PDU that we send, whatever the destination allows. Default 256 KiB.
    #[serde(default = "max_pdu")]
    pub max_pdu: u32,
    /// `dicom`, `stow`: how often a destination that is down is asked by C-ECHO, or by a POST of nothing. Default 5 s.
    #[serde(default = "probe_every")]
    pub probe_every: Span,
    /// `dicom`: whether the destination is asked what it accepts: `"daily"` (default; at most once a day, and only while
    /// a sender has a use for it, `negotiate = "mirror"`) or `"off"`. `gateway-in probe NAME` asks in either case.
    #[serde(default)]
    pub probe: Probe,
    /// `dicom`: the AE title that a probe presents where `calling` is `"original"`: archives decide by it. Without one
    /// such a destination is not probed.
    pub probe_calling: Option<AeTitle>,
    /// `dicom`: SOP class UIDs that a probe asks about beside the standard's storage classes, such as private ones: what
    /// is not asked about is not offered to the senders' PACS. Default: none.
    #[serde(default)]
    pub probe_classes: Vec<Uid>,
    /// `dicom`: transfer syntax UIDs that a probe asks about. Default: the usual ones, 21 of them. Classes times syntaxes
    /// are the presentation contexts, 128 of them an association: by default some 4,700 in 37.
    pub probe_syntaxes: Option<Vec<Uid>>,
    /// `dicom`: `"syntax-only"` turns Implicit VR, Explicit VR and Deflated Little Endian into each other where the destination
    /// takes another one of them only; pixels are never touched. `"off"` (default): everything goes as it came, or is refused.
    #[serde(default)]
    pub reencode: Reencode,
    /// `dicom`, with `reencode`: what becomes of an instance with private elements whose value representation implicit VR
    /// cannot say: `"keep"` (default) refuses it with status C010, `"lose"` sends it without them.
    #[serde(default)]
    pub private_vr: PrivateVrRule,
    /// `dicom`: `{ name = "…", passcode = "FILE" }`: the user identity that each association proposes, for a destination that
    /// asks for one. The file has the passcode in its first line, and only the daemon may read it. Default: none is proposed.
    /// `stow`: the same as HTTP Basic credentials. Read again on a reload (`dicom`: where the rest of the
    /// table is as it was).
    pub user: Option<UserTable>,
    /// `dicom`: the asynchronous operations that are proposed as outstanding, for a destination that wants to be asked; 0 is
    /// any number. Each answer is waited for in any case. Default: nothing is proposed.
    pub async_operations: Option<u16>,
    /// Codes that this destination uses in another sense than the standard's table.
    #[serde(default)]
    pub status: StatusOverrides,
    /// `dicom`: what counts for whoever asks the sending gateway for storage commitment: `"delivered"` (default), that this
    /// destination has stored it; or `"committed"`, that it has committed itself, for which it is asked.
    #[serde(default)]
    pub means: Means,
    /// `means = "committed"`: how it is asked.
    pub commitment: Option<AskTable>,
}

/// Whether the layout of elements is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reencode {
    /// It is not.
    #[default]
    Off,
    /// Implicit, Explicit and Deflated Little Endian become each other.
    SyntaxOnly,
}

/// What becomes of value representations that implicit VR cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateVrRule {
    /// The instance is refused.
    #[default]
    Keep,
    /// They are lost; the values stay.
    Lose,
}

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An application entity.
    Dicom,
    /// Part 10 files.
    Folder,
    /// The Studies Service of a DICOM web server (STOW-RS).
    Stow,
}

fn max_associations() -> usize {
    4
}
fn linger() -> Span {
    Span(Duration::from_secs(10))
}
fn connect_timeout() -> Span {
    Span(Duration::from_secs(10))
}
fn response_timeout() -> Span {
    Span(Duration::from_secs(60))
}
fn max_pdu() -> u32 {
    256 * 1024
}
fn probe_every() -> Span {
    Span(Duration::from_secs(5))
}

/// A checked `[[destination]]`.
#[derive(Debug)]
pub struct DestinationSettings {
    /// Its name.
    pub name: Name,
    /// What it is and how to reach it.
    pub target: Target,
    /// Codes used in another sense.
    pub status: StatusOverrides,
    /// It is asked for storage commitment, and how.
    pub commitment: Option<AskSettings>,
}

impl DestinationSettings {
    /// Whether Implicit, Explicit and Deflated Little Endian are turned into each other on the way to it.
    pub fn reencodes(&self) -> bool {
        matches!(&self.target, Target::Dicom(target) if target.reencode)
    }

    /// What becomes of private elements then.
    pub fn private_vr(&self) -> PrivateVr {
        match &self.target {
            Target::Dicom(target) => target.private_vr,
            Target::Folder(_) | Target::Stow(_) => PrivateVr::Keep,
        }
    }
}

/// How a destination is reached.
#[derive(Debug, Clone)]
pub enum Target {
    /// An application entity.
    Dicom(DicomTarget),
    /// Part 10 files below this folder.
    Folder(PathBuf),
    /// A DICOM web service.
    Stow(StowTarget),
}

/// A `kind = "dicom"` destination.
#[derive(Debug, Clone)]
pub struct DicomTarget {
    /// Called AE title.
    pub ae: AeTitle,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is called: with TLS, or without.
    pub dialer: Dialer,
    /// The AE title that we present; `None` is the original one.
    pub calling: Option<AeTitle>,
    /// Associations at one time.
    pub max_associations: usize,
    /// How long an idle association is kept.
    pub linger: Duration,
    /// Limit of connecting and handshake.
    pub connect_timeout: Duration,
    /// Limit of the wait for a response.
    pub response_timeout: Duration,
    /// The longest PDU that we send.
    pub max_pdu: u32,
    /// Pace of the C-ECHO to one that is down.
    pub probe_every: Duration,
    /// What it is asked about.
    pub probe: Arc<ProbeSettings>,
    /// Implicit, Explicit and Deflated Little Endian become each other.
    pub reencode: bool,
    /// What becomes of private elements then.
    pub private_vr: PrivateVr,
    /// What is proposed with each association.
    pub proposes: Proposes,
}

impl DicomTarget {
    /// Takes over certificates of the same node, for associations from now on, and the user identity where all else is as it was: it may
    /// be for TLS that comes with the next start only.
    pub fn exchange(&self, now: &Self, is_same: bool) {
        if (&self.ae, self.address) == (&now.ae, now.address) {
            self.dialer.exchange(&now.dialer);
        }
        if is_same {
            self.proposes.user_identity.exchange(now.proposes.user_identity.now());
        }
    }

    /// As whom it is asked what it accepts: the AE title of the real sends.
    pub fn probe_calling(&self) -> Option<&AeTitle> {
        self.calling.as_ref().or(self.probe.calling.as_ref())
    }
}

/// Checks all keys of one such table.
pub(super) fn check(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<DestinationSettings, ConfigError> {
    if let Some(key) = stow::only_here(table) {
        let message = "only a destination of the kind \"stow\" has one; remove it, or write that kind";
        return Err(loaded.error(&format!("destination[{i}].{key}"), message));
    }
    let target = match table.kind {
        Kind::Folder => {
            let dir = table
                .dir
                .as_ref()
                .ok_or_else(|| missing(loaded, i, table, "dir", "name the folder that the files go to"))?;
            let refuse = |key: &str, message: &str| {
                Err(loaded.error(&format!("destination[{i}].{key}"), message.to_owned()))
            };
            if table.tls.is_some() {
                return refuse("tls", "a folder is called by nobody; remove it");
            }
            if table.reencode != Reencode::Off {
                return refuse("reencode", "a folder takes every transfer syntax; remove it");
            }
            Target::Folder(loaded.resolve(dir))
        }
        Kind::Dicom => Target::Dicom(check_dicom(loaded, i, table)?),
        Kind::Stow => Target::Stow(stow::check(loaded, i, table)?),
    };
    Ok(DestinationSettings {
        name: table.name.clone(),
        target,
        status: table.status.clone(),
        commitment: commitment::config::check_destination(loaded, i, table)?,
    })
}

pub(super) fn missing(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
    key: &str,
    hint: &str,
) -> ConfigError {
    let message = format!("destination {} has no `{key}`: {hint}", table.name);
    loaded.error(&format!("destination[{i}]"), message)
}

fn check_dicom(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<DicomTarget, ConfigError> {
    let missing = |key: &str, hint: &str| missing(loaded, i, table, key, hint);
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    let ae = table.ae.clone().ok_or_else(|| missing("ae", "give the destination's AE title"))?;
    let hint = "give the destination's address and port";
    let address = table.address.ok_or_else(|| missing("address", hint))?;
    let calling = match table.calling.as_deref() {
        None => return Err(missing("calling", "give the AE title that it knows us by, or \"original\"")),
        Some("original") => None,
        Some(title) => Some(AeTitle::parse(title).map_err(|error| refuse("calling", error.to_string()))?),
    };
    if table.private_vr == PrivateVrRule::Lose && table.reencode == Reencode::Off {
        let message =
            "nothing is re-encoded for this destination; remove it, or set reencode = \"syntax-only\"";
        return Err(refuse("private_vr", message.to_owned()));
    }
    let tls = table.tls.as_ref().map(TlsTable::peer).transpose();
    let tls = tls.map_err(|why| refuse("tls", why.to_owned()))?;
    let dialer = Dialer::of(tls.as_ref(), |file| loaded.resolve(file), address.ip())
        .map_err(|refused| refuse(&format!("tls.{}", refused.key), refused.to_string()))?;
    Ok(DicomTarget {
        ae,
        address,
        dialer,
        calling,
        max_associations: table.max_associations.clamp(1, 64),
        linger: table.linger.0,
        connect_timeout: table.connect_timeout.0,
        response_timeout: table.response_timeout.0,
        max_pdu: table.max_pdu,
        probe_every: table.probe_every.0.max(Duration::from_millis(100)),
        probe: Arc::new(probe::check(loaded, i, table)?),
        reencode: table.reencode == Reencode::SyntaxOnly,
        private_vr: match table.private_vr {
            PrivateVrRule::Keep => PrivateVr::Keep,
            PrivateVrRule::Lose => PrivateVr::Lose,
        },
        proposes: proposes::check(loaded, i, table)?,
    })
}
