//! A gateway-out whose relay is never there.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use base::{AeTitle, InstanceMeta, Name, Phi, Priority, RouteId, Secret};
use dimse::{ConnectError, Requestor, RequestorConfig};
use envelope::Suite;
use fixtures::{CtSeries, Subject, TransferSyntax};
use gateway_out::{
    app::Listeners,
    config::{Config, Respond},
    init,
};
use identity::{CardFields, IdentityKey};
use spool::{Delivery, Filter, Outbox, Queue};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// See the module. One route, AE title `GW`.
pub(crate) struct Bed {
    dir: TempDir,
    pub(crate) dicom: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Bed {
    pub(crate) async fn start(tweak: impl Fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let name = |text: &str| Name::parse(text).unwrap();
        init::write_card(&dir.path().join("out.card"), &init::create_keys(&keys, &name("out")).unwrap())
            .unwrap();
        init::create_outbox(&dir.path().join("outbox"), &keys).unwrap();
        for who in ["relay", "in"] {
            let card = IdentityKey::generate(name(who), &Secret::random())
                .card(CardFields::new(1, &[Suite::B.code()]));
            fs::write(dir.path().join(format!("{who}.card")), card.to_line()).unwrap();
        }
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let text = init::config_text(&init::Options {
            listen: nowhere,
            admin: nowhere,
            outbox: "outbox".into(),
            keys: "keys".into(),
            card: "out.card".into(),
            relays: vec![(name("relay"), testkit::free_udp_address().unwrap(), "relay.card".into())],
            peers: vec![(name("in"), "in.card".into())],
            routes: vec![init::RouteOptions {
                id: RouteId([1; 16]),
                ae: ae("GW"),
                to: name("in"),
                destination: name("pacs"),
                suite: Suite::B,
                respond: Respond::Spooled,
            }],
        });
        let file = dir.path().join("gateway-out.toml");
        fs::write(&file, text).unwrap();
        let mut loaded = service::config::load::<Config>(&file, "SLUIS_NOT_SET_").unwrap();
        tweak(&mut loaded.config);
        let settings = Config::check(&loaded).unwrap();
        let listen = async || TcpListener::bind(nowhere).await.unwrap();
        let plain = listen().await;
        let dicom = plain.local_addr().unwrap();
        let ports = gateway_out::intake::Ports { plain: Some(plain), tls: None };
        let listeners = Listeners { dicom: ports, admin: listen().await, supervisor: Default::default() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(gateway_out::app::run(settings, listeners, stop.clone()));
        Self { dir, dicom, stop, task }
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.dir
    }

    /// Every delivery in the outbox.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        self.queue().list(Filter { open: false, ..Filter::default() }).await.unwrap()
    }

    /// The outbox as a command beside the daemon sees it.
    pub(crate) fn queue(&self) -> Queue {
        let file = self.dir.path().join("gateway-out.toml");
        let loaded = service::config::load::<Config>(&file, "SLUIS_NOT_SET_").unwrap();
        let settings = Config::check(&loaded).unwrap();
        let (key, index_key) = gateway_out::app::outbox_keys(&settings.outbox).unwrap();
        let config = gateway_out::app::outbox_config(&settings.outbox, settings.retry.policy());
        Outbox::open_admin(config, key, index_key).unwrap()
    }

    /// Files of sealed bodies.
    pub(crate) fn bodies(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.dir.path().join("outbox")];
        let mut bodies = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if !name.contains("index") && !name.contains("lock") {
                    bodies.push(path);
                }
            }
        }
        bodies
    }
}

pub(crate) fn ae(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// An instance, and what is said of it.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) meta: InstanceMeta,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn slice(seed: u64, side: u16) -> Sample {
    let instance = CtSeries { subject: Subject::new(seed), slices: 1, side }.slice(0);
    let syntax = TransferSyntax::ExplicitLittle;
    Sample {
        meta: InstanceMeta {
            sop_class: instance.sop_class.clone(),
            sop_instance: Phi::new(instance.sop_instance.clone()),
            transfer_syntax: syntax.uid(),
            calling: ae("MODALITY"),
            called: ae("GW"),
            move_originator: None,
            priority: Priority::Medium,
        },
        data: instance.data_set(&syntax).unwrap(),
    }
}

/// Proposes an association for CT slices.
pub(crate) async fn associate(
    to: SocketAddr,
    calling: &str,
    called: &str,
) -> Result<Requestor, ConnectError> {
    let meta = slice(1, 8).meta;
    let contexts = vec![(meta.sop_class, meta.transfer_syntax)];
    Requestor::connect(to, RequestorConfig::new(ae(calling), ae(called), contexts)).await
}

/// Result, source and reason of a rejection.
pub(crate) fn rejection(answer: Result<Requestor, ConnectError>) -> (u8, u8, u8) {
    match answer {
        Err(ConnectError::Rejected(it)) => (it.result_code(), it.source_code(), it.reason_code()),
        other => panic!("not rejected: {:?}", other.err()),
    }
}

pub(crate) async fn store(association: &mut Requestor, sample: &Sample) -> u16 {
    association.store_begin(&sample.meta).await.unwrap();
    association.store_data(sample.data.clone()).await.unwrap();
    association.store_finish().await.unwrap().status.0
}
