//! Against DCMTK's command line programs, where they are installed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use base::{InstanceMeta, Phi, Status};
use dataset::part10::{self, Implementation};
use dimse::{
    AcceptorConfig, Admission, ConnectError, Proposal, RejectReason, Requestor, RequestorConfig, StoreError,
    Verdict,
};
use tokio::net::{TcpListener, TcpStream};

use crate::peer::*;

/// Whether a program can be started; where not, the test says so and does nothing.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| {
        // dcm4che has a storescu and a storescp, too, with other options.
        String::from_utf8_lossy(&output.stdout).contains("dcmtk")
    });
    if !found {
        eprintln!("SKIPPED: DCMTK's {program} is not installed (apt-get install dcmtk)");
    }
    found
}

pub(crate) async fn run(program: &str, arguments: &[&str], address: SocketAddr, files: &[&Path]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).arg(address.ip().to_string()).arg(address.port().to_string()).args(files);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A directory that goes with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("sluis-dimse-{}", hex(&base::random_bytes::<8>()));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A CT slice in Explicit VR Little Endian, as much of it as DCMTK needs.
pub(crate) fn ct(pixel_bytes: usize) -> (InstanceMeta, Vec<u8>) {
    let instance = format!("2.25.{}", u64::from_be_bytes(base::random_bytes()));
    let mut data = Vec::new();
    let mut element = |group: u16, number: u16, vr: &str, value: &[u8]| {
        data.extend_from_slice(&group.to_le_bytes());
        data.extend_from_slice(&number.to_le_bytes());
        data.extend_from_slice(vr.as_bytes());
        let length = u32::try_from(value.len() + value.len() % 2).unwrap().to_le_bytes();
        if vr == "OW" {
            data.extend_from_slice(&[0, 0]);
            data.extend_from_slice(&length);
        } else {
            data.extend_from_slice(&length[..2]);
        }
        data.extend_from_slice(value);
        data.extend_from_slice(&b"\0"[..value.len() % 2]);
    };
    element(0x0008, 0x0016, "UI", CT.as_bytes());
    element(0x0008, 0x0018, "UI", instance.as_bytes());
    element(0x0028, 0x0100, "US", &16u16.to_le_bytes());
    element(0x7FE0, 0x0010, "OW", &noise(pixel_bytes));
    let meta = InstanceMeta { sop_instance: Phi::new(uid(&instance)), ..meta(CT, EXPLICIT) };
    (meta, data)
}

/// Writes a Part 10 file.
pub(crate) fn file(dir: &Path, meta: &InstanceMeta, data: &[u8]) -> PathBuf {
    let path = dir.join("instance.dcm");
    let class_uid = dimse::implementation_class_uid();
    let writer = Implementation { class_uid: &class_uid, version_name: dimse::IMPLEMENTATION_VERSION_NAME };
    std::fs::write(&path, [&part10::write_file_meta(meta, writer, None), data].concat()).unwrap();
    path
}

#[tokio::test]
async fn echoscu_is_answered() {
    if !installed("echoscu") {
        return;
    }
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let output = run("echoscu", &["--repeat", "3"], address, &[]).await;
    assert!(output.status.success(), "{output:?}");
    let served = serving.await.unwrap();
    assert_eq!((served.echoes, served.error), (3, None));
}

#[tokio::test]
async fn storescu_sends_at_any_pdu_size_and_every_byte_arrives() {
    if !installed("storescu") {
        return;
    }
    let scratch = Scratch::new();
    let (meta, data) = ct(525_000);
    let path = file(&scratch.0, &meta, &data);
    for max_pdu in [0, 4096, 16_384, 1 << 20] {
        for options in [&["-pdu", "4096", "--max-send-pdu", "4096"][..], &["-pdu", "131072"]] {
            let config = AcceptorConfig { max_pdu, ..AcceptorConfig::default() };
            let (address, serving) = serve_one(config, storage_policy()).await;
            let output = run("storescu", options, address, &[&path]).await;
            assert!(output.status.success(), "{output:?}");
            let served = serving.await.unwrap();
            assert_eq!(served.error, None);
            let (request, received) = &served.stored[0];
            assert_eq!(request.meta.sop_instance, meta.sop_instance);
            assert!(*received == data, "{max_pdu}, {options:?}: {} of {} bytes", received.len(), data.len());
        }
    }
}

#[tokio::test]
async fn storescu_that_aborts_leaves_nothing() {
    if !installed("storescu") {
        return;
    }
    let scratch = Scratch::new();
    let (meta, data) = ct(1000);
    let path = file(&scratch.0, &meta, &data);
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    run("storescu", &["--abort"], address, &[&path]).await;
    let error = serving.await.unwrap().error;
    assert_eq!(error.as_deref(), Some("peer aborted the association (source 0, reason 0)"));
}

#[tokio::test]
async fn dcmtk_names_our_rejections() {
    if !installed("echoscu") {
        return;
    }
    let cases = [
        (RejectReason::CalledAeTitleNotRecognized, "Called AE Title Not Recognized"),
        (RejectReason::CallingAeTitleNotRecognized, "Calling AE Title Not Recognized"),
        (RejectReason::TemporaryCongestion, "Temporary Congestion"),
        (RejectReason::LocalLimitExceeded, "Local Limit Exceeded"),
    ];
    for (reason, text) in cases {
        let admission: Arc<dyn Admission> = Arc::new(move |_: &Proposal| Verdict::Reject(reason));
        let (address, serving) = serve_one(AcceptorConfig::default(), admission).await;
        let output = run("echoscu", &[], address, &[]).await;
        assert!(String::from_utf8_lossy(&output.stderr).contains(text), "{output:?}");
        serving.await.unwrap();
    }
}

/// A storescp that ends with the test.
pub(crate) struct StoreScp(std::process::Child);

impl Drop for StoreScp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl StoreScp {
    pub(crate) async fn start(options: &[&str], dir: &Path) -> (Self, SocketAddr) {
        // The port is free now; storescp cannot be given one of its own choice.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let child = Command::new("storescp")
            .args(options)
            .arg("-od")
            .arg(dir)
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scp = Self(child);
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return (scp, address);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("storescp does not listen");
    }
}

#[tokio::test]
async fn storescp_stores_what_was_sent() {
    if !installed("storescp") {
        return;
    }
    let scratch = Scratch::new();
    for pdu in ["4096", "131072"] {
        let (_scp, address) = StoreScp::start(&["+B", "-pm", "+xa", "-pdu", pdu], &scratch.0).await;
        let config = requestor_config(&[(CT, EXPLICIT), (CT, IMPLICIT), (VERIFICATION, IMPLICIT)]);
        let mut requestor = Requestor::connect(address, config).await.unwrap();
        assert_eq!(requestor.contexts().len(), 3);
        assert_eq!(requestor.echo().await.unwrap(), Status::SUCCESS);
        for size in [10, 525_000, 5_000_000] {
            let (meta, data) = ct(size);
            requestor.store_begin(&meta).await.unwrap();
            for piece in data.chunks(65_536) {
                requestor.store_data(piece.to_vec()).await.unwrap();
            }
            assert_eq!(requestor.store_finish().await.unwrap().status, Status::SUCCESS);
            let instance = meta.sop_instance.reveal().as_str();
            let stored = std::fs::read(scratch.0.join(format!("CT.{instance}"))).unwrap();
            let head = part10::read_file_meta(std::io::Cursor::new(&stored)).unwrap();
            assert_eq!(head.transfer_syntax, uid(EXPLICIT));
            assert!(
                stored[usize::try_from(head.data_set_offset).unwrap()..] == data,
                "{size} bytes, PDUs of {pdu}"
            );
        }
        requestor.release().await;
    }
}

#[tokio::test]
async fn storescp_that_refuses_or_aborts_is_told_apart() {
    if !installed("storescp") {
        return;
    }
    let scratch = Scratch::new();
    let config = || RequestorConfig {
        response_timeout: Duration::from_secs(10),
        ..requestor_config(&[(CT, EXPLICIT)])
    };
    let (scp, address) = StoreScp::start(&["--refuse"], &scratch.0).await;
    let error = Requestor::connect(address, config()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(_)), "{error}");
    drop(scp);
    for (option, is_before_last) in [("--abort-during", None), ("--abort-after", Some(false))] {
        let (_scp, address) = StoreScp::start(&[option], &scratch.0).await;
        let mut requestor = Requestor::connect(address, config()).await.unwrap();
        let (meta, data) = ct(2_000_000);
        requestor.store_begin(&meta).await.unwrap();
        let sent = async {
            for piece in data.chunks(65_536) {
                requestor.store_data(piece.to_vec()).await?;
            }
            requestor.store_finish().await
        };
        let error: StoreError = sent.await.unwrap_err();
        assert!(is_before_last.is_none_or(|want| error.is_before_last() == want), "{option}: {error}");
    }
}

/// DCMTK leaves Nagle's algorithm on and writes its response in two pieces. With TCP_QUICKACK and TCP_NODELAY
/// on our side a small instance takes about 4 ms, with neither 44 to 91.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_untouched_storescp_answers_without_delayed_acknowledgements() {
    if !installed("storescp") {
        return;
    }
    let scratch = Scratch::new();
    let (_scp, address) = StoreScp::start(&["--ignore"], &scratch.0).await;
    let mut requestor = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap();
    let (meta, data) = ct(200_000);
    let mut times = Vec::new();
    for _ in 0..25 {
        let started = std::time::Instant::now();
        requestor.store_begin(&meta).await.unwrap();
        requestor.store_data(data.clone()).await.unwrap();
        requestor.store_finish().await.unwrap();
        times.push(started.elapsed());
    }
    requestor.release().await;
    times.sort_unstable();
    assert!(times[12] < Duration::from_millis(30), "median {:?}", times[12]);
}
