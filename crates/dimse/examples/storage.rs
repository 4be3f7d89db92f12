//! Both sides of this crate by hand, to try it against other implementations:
//!
//! ```text
//! cargo run --release -p dimse --example storage -- serve 127.0.0.1:11112 [MAX_PDU]
//! cargo run --release -p dimse --example storage -- send AET@127.0.0.1:11113 FILE|DIR…
//! ```
//!
//! `serve` keeps nothing. Both print a digest over the data sets, in the order of their instances, so that
//! two runs can be compared, and the rate of each association.

use std::{fs, io::Read as _, path::PathBuf, process::ExitCode, time::Instant};

use base::{AeTitle, Hasher, InstanceMeta, Priority, Status};
use bytes::BytesMut;
use dataset::part10::{self, FileMeta};
use dimse::{
    AcceptorConfig, Association, Incoming, Proposal, Requestor, RequestorConfig, StoragePolicy, Verdict,
};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is read of a file at once.
const PIECE_BYTES: usize = 64 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", address] => serve(address, AcceptorConfig::default().max_pdu).await,
        ["serve", address, max_pdu] => match max_pdu.parse() {
            Ok(max_pdu) => serve(address, max_pdu).await,
            Err(error) => Err(Failure::from(error)),
        },
        ["send", peer, paths @ ..] if !paths.is_empty() => send(peer, paths).await,
        _ => Err("usage: storage serve ADDRESS [MAX_PDU] | storage send AET@HOST:PORT FILE|DIR…".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storage: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: &str, max_pdu: u32) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            let policy = StoragePolicy { private_sop_classes: true, prefer: Vec::new() };
            let admit = move |proposal: &Proposal| Verdict::Accept(policy.decide(proposal).into());
            let config = AcceptorConfig { max_pdu, ..AcceptorConfig::default() };
            let served = match dimse::accept(stream, &config, &admit).await {
                Ok(mut association) => served(&mut association).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match served {
                Ok(line) => println!("{peer}: {line}"),
                Err(error) => println!("{peer}: {error}"),
            }
        });
    }
}

async fn served(association: &mut Association) -> Result<String, dimse::AssociationError> {
    let (started, mut instances, mut bytes, mut hasher) = (Instant::now(), 0u64, 0u64, Hasher::new(b""));
    loop {
        match association.receive().await? {
            Incoming::Echo(request) => association.respond_echo(&request, Status::SUCCESS).await?,
            Incoming::Other(request) => {
                association.respond_other(&request, Status::UNRECOGNISED_OPERATION).await?
            }
            Incoming::Released => return Ok(rate(instances, bytes, started, hasher)),
            Incoming::Store(request) => {
                while let Some(fragment) = association.data().await? {
                    bytes += fragment.len() as u64;
                    if std::env::var_os("NO_DIGEST").is_none() {
                        hasher.update(&fragment);
                    }
                }
                instances += 1;
                association.respond_store(&request, Status::SUCCESS, None).await?;
            }
        }
    }
}

fn rate(instances: u64, bytes: u64, started: Instant, hasher: Hasher) -> String {
    let seconds = started.elapsed().as_secs_f64();
    let (per_second, megabytes) = (instances as f64 / seconds, bytes as f64 / seconds / 1e6);
    let digest = hasher.finish();
    format!(
        "{instances} instances, {bytes} bytes, {per_second:.0} instances/s, {megabytes:.0} MB/s, digest {digest}"
    )
}

async fn send(peer: &str, paths: &[&str]) -> Result<(), Failure> {
    let (called, address) = peer.split_once('@').ok_or("the peer is AET@HOST:PORT")?;
    let mut files = Vec::new();
    for path in paths {
        list(PathBuf::from(path), &mut files)?;
    }
    let mut metas: Vec<(PathBuf, FileMeta)> = Vec::new();
    for path in files {
        let meta = part10::read_file_meta(fs::File::open(&path)?)?;
        metas.push((path, meta));
    }
    let mut contexts: Vec<_> =
        metas.iter().map(|(_, meta)| (meta.sop_class.clone(), meta.transfer_syntax.clone())).collect();
    contexts.sort();
    contexts.dedup();
    let title = AeTitle::parse("SLUIS")?;
    let config = RequestorConfig::new(title.clone(), AeTitle::parse(called)?, contexts);
    let mut association = Requestor::connect(address, config).await?;
    for context in association.contexts() {
        println!("accepted: {context}");
    }
    let (started, mut bytes, mut hasher) = (Instant::now(), 0u64, Hasher::new(b""));
    for (path, file) in &metas {
        let meta = InstanceMeta {
            sop_class: file.sop_class.clone(),
            sop_instance: file.sop_instance.clone(),
            transfer_syntax: file.transfer_syntax.clone(),
            calling: title.clone(),
            called: title.clone(),
            move_originator: None,
            priority: Priority::Medium,
        };
        let mut data = fs::File::open(path)?;
        std::io::Seek::seek(&mut data, std::io::SeekFrom::Start(file.data_set_offset))?;
        association.store_begin(&meta).await?;
        loop {
            let mut piece = BytesMut::zeroed(PIECE_BYTES);
            let read = data.read(&mut piece)?;
            if read == 0 {
                break;
            }
            piece.truncate(read);
            bytes += read as u64;
            hasher.update(&piece);
            association.store_data(piece).await?;
        }
        let response = association.store_finish().await?;
        if response.status != Status::SUCCESS {
            println!("{}: {}", path.display(), response.status);
        }
    }
    association.release().await;
    println!("{}", rate(metas.len() as u64, bytes, started, hasher));
    Ok(())
}

fn list(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        files.push(path);
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    entries.into_iter().try_for_each(|entry| list(entry, files))
}
