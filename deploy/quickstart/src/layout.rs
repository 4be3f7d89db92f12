//! What the quickstart puts where: keys, cards and the three configurations, each role pinned to the
//! others. Written again at each start; keys and the route's id stay.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use base::{AeTitle, Name, RouteId, random_bytes};
use envelope::Suite;
use gateway_in::init as inward;
use gateway_out::{config::Respond, init as outward};
use service::files::{self, Readable};

/// Where instances go.
#[derive(Debug, Clone)]
pub(crate) enum To {
    /// A folder; `None` is `inbox` in the quickstart's own.
    Folder(Option<PathBuf>),
    /// An application entity.
    Dicom(AeTitle, SocketAddr),
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) ae: AeTitle,
    pub(crate) to: To,
    pub(crate) relay: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) suite: Suite,
}

/// The AE title that gateway-in presents to a destination.
const CALLING: &str = "SLUIS_IN";
/// The destination's name in gateway-in's configuration.
const DESTINATION: &str = "destination";

impl Layout {
    /// The role's configuration file.
    pub(crate) fn config(&self, role: &str) -> PathBuf {
        self.dir.join(format!("{role}.toml"))
    }

    /// The card that verifies receipts.
    pub(crate) fn receiver_card(&self) -> PathBuf {
        self.dir.join("cards/gateway-in.card")
    }

    /// The card that verifies who sent.
    pub(crate) fn sender_card(&self) -> PathBuf {
        self.dir.join("cards/gateway-out.card")
    }

    /// Where files arrive, if the destination is a folder.
    pub(crate) fn inbox(&self) -> Option<PathBuf> {
        match &self.to {
            To::Folder(Some(dir)) => Some(dir.clone()),
            To::Folder(None) => Some(self.dir.join("inbox")),
            To::Dicom(..) => None,
        }
    }

    /// Admin ports: gateway-out, relay, gateway-in.
    pub(crate) fn admin_port(&self, role: &str) -> SocketAddr {
        let offset = match role {
            "gateway-out" => 0,
            "relay" => 1,
            _ => 2,
        };
        SocketAddr::new(self.admin.ip(), self.admin.port().saturating_add(offset))
    }

    /// Writes all of it.
    pub(crate) fn write(&self) -> Result<()> {
        let (keys, cards) = (self.dir.join("keys"), self.dir.join("cards"));
        fs::create_dir_all(&cards).with_context(|| format!("cannot make {}", cards.display()))?;
        let [out, relay, inn] = ["gateway-out", "relay", "gateway-in"].map(Name::parse);
        let (out, relay, inn) = (out?, relay?, inn?);
        outward::write_card(&self.card(&out), &outward::create_keys(&keys, &out)?)?;
        relay::init::write_card(&self.card(&relay), &relay::init::create_keys(&keys, &relay)?)?;
        inward::write_card(&self.card(&inn), &inward::create_keys(&keys, &inn)?)?;
        outward::create_outbox(&self.dir.join("outbox"), &keys)?;
        let route = self.route_id()?;
        let destination = Name::parse(DESTINATION)?;
        let card = |name: &Name| PathBuf::from(format!("cards/{name}.card"));
        self.save(
            "gateway-out",
            &outward::config_text(&outward::Options {
                listen: self.listen,
                admin: self.admin_port("gateway-out"),
                outbox: "outbox".into(),
                keys: "keys".into(),
                card: card(&out),
                relays: vec![(relay.clone(), self.relay, card(&relay))],
                peers: vec![(inn.clone(), card(&inn))],
                routes: vec![outward::RouteOptions {
                    id: route,
                    ae: self.ae.clone(),
                    to: inn.clone(),
                    destination: destination.clone(),
                    suite: self.suite,
                    respond: Respond::Spooled,
                }],
            }),
        )?;
        self.save(
            "relay",
            &relay::init::config_text(&relay::init::Options {
                listen: self.relay,
                admin: self.admin_port("relay"),
                keys: "keys".into(),
                card: card(&relay),
                tenants: vec![
                    relay::init::TenantOptions {
                        name: out.clone(),
                        card: card(&out),
                        deposit_for: vec![inn.clone()],
                    },
                    relay::init::TenantOptions {
                        name: inn.clone(),
                        card: card(&inn),
                        deposit_for: Vec::new(),
                    },
                ],
            }),
        )?;
        self.save(
            "gateway-in",
            &inward::config_text(&inward::Options {
                admin: self.admin_port("gateway-in"),
                ledger: "ledger".into(),
                keys: "keys".into(),
                card: card(&inn),
                relays: vec![(relay.clone(), self.relay, card(&relay))],
                peers: vec![(out.clone(), card(&out))],
                destinations: vec![inward::DestinationOptions {
                    name: destination.clone(),
                    target: self.target()?,
                }],
                routes: vec![inward::RouteOptions { id: route, from: out, destination, suite: self.suite }],
            }),
        )
    }

    fn card(&self, name: &Name) -> PathBuf {
        self.dir.join("cards").join(format!("{name}.card"))
    }

    fn target(&self) -> Result<inward::TargetOptions> {
        Ok(match &self.to {
            To::Folder(None) => inward::TargetOptions::Folder("inbox".into()),
            To::Folder(Some(dir)) => inward::TargetOptions::Folder(dir.clone()),
            To::Dicom(ae, address) => {
                let calling = AeTitle::parse(CALLING)?;
                inward::TargetOptions::Dicom { ae: ae.clone(), address: *address, calling }
            }
        })
    }

    /// Random at the first start.
    fn route_id(&self) -> Result<RouteId> {
        let path = self.dir.join("route-id");
        if let Ok(text) = fs::read_to_string(&path) {
            return RouteId::from_hex(text.trim())
                .with_context(|| format!("{} is damaged; remove it", path.display()));
        }
        let id = RouteId(random_bytes());
        files::write_new(&path, format!("{id}\n").as_bytes(), Readable::Everybody)?;
        Ok(id)
    }

    fn save(&self, role: &str, text: &str) -> Result<()> {
        let path = self.config(role);
        files::replace(&path, text.as_bytes(), Readable::Everybody)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The commands that start each role by hand.
    pub(crate) fn commands(&self) -> Result<String> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let line = |role: &str| format!("{} {role} run --config {}\n", show(&own), show(&self.config(role)));
        Ok(["relay", "gateway-in", "gateway-out"].map(line).concat())
    }

    /// What to try when everything is up.
    pub(crate) fn try_next(&self) -> String {
        let (host, port) = (self.listen.ip(), self.listen.port());
        format!(
            "\nUp until you press Ctrl-C. Send your own files:\n  \
             storescu -v -aec {} {host} {port} FILE.dcm\n  \
             quickstart gateway-out queue ls --config {out}\n  \
             quickstart gateway-out why UID --config {out}\n",
            self.ae,
            out = show(&self.config("gateway-out")),
        )
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
