//! DICOM over TLS: between ourselves, against DCMTK, and against peers without the right certificate, or any.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base::Status;
use dimse::{
    AcceptError, AcceptorConfig, ConnectError, Credentials, PeerName, Requestor, Timers, TlsAcceptor,
    TlsConnector, TlsError, TlsFailure, TlsFiles, accept_tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    dcmtk::{Scratch, StoreScp, ct, file, installed, run},
    peer::*,
};

/// An authority with a certificate for this host, made for one test.
struct Site {
    scratch: Scratch,
}

impl Site {
    /// `None`, with a word, where openssl is not installed.
    fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: openssl is not installed (apt-get install openssl)");
            return None;
        }
        let site = Self { scratch: Scratch::new() };
        site.openssl(&["req", "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"]);
        site.certificate("own", "subjectAltName=IP:127.0.0.1");
        site.certificate("other", "subjectAltName=DNS:elsewhere.example");
        Some(site)
    }

    /// RSA with 2048 bits: what every device has.
    fn certificate(&self, name: &str, alternative: &str) {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&[
            "req",
            "-subj",
            "/CN=device",
            "-addext",
            alternative,
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", "2", "-copy_extensions", "copyall", "-CAcreateserial"]);
        command.args(["-CA", "ca.pem", "-CAkey", "ca.key", "-in", &request, "-out", &certificate]);
        self.complete(command);
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).args(["-newkey", "rsa:2048", "-nodes"]);
        self.complete(command);
    }

    fn complete(&self, mut command: Command) {
        let output = command.current_dir(&self.scratch.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            authorities: self.path("ca.pem"),
        }
    }

    fn credentials(&self, name: &str) -> Credentials {
        Credentials::read(&self.files(name)).unwrap()
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::new(&self.credentials("own")).unwrap()
    }

    fn connector(&self, peer: PeerName) -> TlsConnector {
        TlsConnector::new(&self.credentials("own"), &peer).unwrap()
    }
}

fn this_host() -> PeerName {
    PeerName::Is("127.0.0.1".to_owned())
}

/// Accepts one connection over TLS and serves it to its end.
async fn listen(
    tls: TlsAcceptor,
    config: AcceptorConfig,
) -> (SocketAddr, JoinHandle<Result<Served, AcceptError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let association = accept_tls(stream, &tls, &config, &*storage_policy()).await?;
        Ok(serve_association(association).await)
    });
    (address, serving)
}

#[tokio::test]
async fn instances_pass_whole_between_two_of_us() {
    let Some(site) = Site::new() else { return };
    let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
    let connector = site.connector(this_host());
    let config = requestor_config(&[(CT, EXPLICIT), (VERIFICATION, IMPLICIT)]);
    let mut requestor = Requestor::connect_tls(address, config, &connector).await.unwrap();
    assert_eq!(requestor.echo().await.unwrap(), Status::SUCCESS);
    assert!(requestor.is_open());
    let sizes = [10, 16_384, 525_000, 5_000_000];
    for size in sizes {
        requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
        for piece in noise(size).chunks(65_536) {
            requestor.store_data(piece.to_vec()).await.unwrap();
        }
        assert_eq!(requestor.store_finish().await.unwrap().status, Status::SUCCESS);
    }
    requestor.release().await;
    let served = serving.await.unwrap().unwrap();
    assert_eq!((served.echoes, served.error), (1, None));
    for ((_, data), size) in served.stored.iter().zip(sizes) {
        assert!(*data == noise(size), "{size} bytes");
    }
}

#[tokio::test]
async fn a_requestor_that_is_dropped_half_way_leaves_nothing_complete() {
    let Some(site) = Site::new() else { return };
    let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
    let connector = site.connector(this_host());
    let mut requestor =
        Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector).await.unwrap();
    requestor.store_begin(&meta(CT, EXPLICIT)).await.unwrap();
    requestor.store_data(noise(3_000_000)).await.unwrap();
    drop(requestor);
    let served = serving.await.unwrap().unwrap();
    assert!(served.stored.is_empty() && served.partial > 0);
    assert_eq!(served.error.as_deref(), Some("peer aborted the association (source 0, reason 0)"));
}

#[tokio::test]
async fn an_acceptor_that_has_gone_is_noticed_before_an_instance() {
    let Some(site) = Site::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = site.acceptor();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept_tls(stream, &tls, &AcceptorConfig::default(), &*storage_policy()).await.unwrap()
    };
    let connector = site.connector(this_host());
    let connecting = Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector);
    let (association, requestor) = tokio::join!(accepting, connecting);
    let mut requestor = requestor.unwrap();
    assert!(requestor.is_open());
    association.abort().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while requestor.is_open() {
        assert!(Instant::now() < deadline, "the abort was not noticed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_certificates_of_the_right_authority_and_name_are_taken() {
    let (Some(site), Some(foreign)) = (Site::new(), Site::new()) else { return };
    // Of another authority, on either side. The requestor of TLS 1.3 may learn of it a moment later.
    for (acceptor, connector) in [
        (site.acceptor(), foreign.connector(PeerName::NotChecked)),
        (foreign.acceptor(), site.connector(PeerName::NotChecked)),
    ] {
        let (address, serving) = listen(acceptor, AcceptorConfig::default()).await;
        assert!(
            Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector).await.is_err()
        );
        assert!(matches!(serving.await.unwrap(), Err(AcceptError::Tls(TlsFailure::Handshake(_)))));
    }
    // Of another host.
    let elsewhere = TlsAcceptor::new(&site.credentials("other")).unwrap();
    for (peer, is_taken) in [(this_host(), false), (PeerName::NotChecked, true)] {
        let (address, serving) = listen(elsewhere.clone(), AcceptorConfig::default()).await;
        let connector = site.connector(peer.clone());
        match Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector).await {
            Ok(requestor) => requestor.release().await,
            Err(error) => assert!(matches!(error, ConnectError::Tls(_)), "{error}"),
        }
        assert_eq!(serving.await.unwrap().is_ok(), is_taken, "{peer:?}");
    }
}

#[tokio::test]
async fn a_plain_client_is_refused_at_once_and_a_silent_one_in_time() {
    let Some(site) = Site::new() else { return };
    let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
    let started = Instant::now();
    let error = Requestor::connect(address, requestor_config(&[(CT, EXPLICIT)])).await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed(_)), "{error}");
    let refused = serving.await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "peer does not speak TLS; does it send plain DICOM to the TLS port?");
    assert!(started.elapsed() < Duration::from_secs(5));

    let timers = Timers { handshake: Duration::from_millis(300), ..Timers::default() };
    let config = AcceptorConfig { timers, ..AcceptorConfig::default() };
    // Silent before the first byte, and in the middle of a record.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"] {
        let (address, serving) = listen(site.acceptor(), config.clone()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(matches!(serving.await.unwrap(), Err(AcceptError::TimedOut(_))));
        let end = stream.read(&mut [0; 100]).await;
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn the_timer_for_the_handshake_counts_tls_and_association_together() {
    let Some(site) = Site::new() else { return };
    let timers = Timers { handshake: Duration::from_millis(700), ..Timers::default() };
    let (address, serving) =
        listen(site.acceptor(), AcceptorConfig { timers, ..AcceptorConfig::default() }).await;
    let started = Instant::now();
    // s_client ends the TLS handshake and then says nothing.
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .args([
            "-cert",
            &site.text("own.pem"),
            "-key",
            &site.text("own.key"),
            "-CAfile",
            &site.text("ca.pem"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let refused = serving.await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "no association within 700ms (handshake time-out)");
    assert!(started.elapsed() < Duration::from_secs(10));
    let _ = client.kill();
    let _ = client.wait();
}

#[tokio::test]
async fn a_tls_client_on_the_plain_port_is_told_apart() {
    let Some(site) = Site::new() else { return };
    let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
    let connector = site.connector(this_host());
    let error =
        Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    let error = serving.await.unwrap().error.unwrap();
    assert!(error.contains("does the peer speak DICOM, and without TLS?"), "{error}");
}

#[tokio::test]
async fn dcmtk_echoes_and_stores_over_tls() {
    let Some(site) = Site::new() else { return };
    if !installed("echoscu") || !installed("storescu") {
        return;
    }
    let (key, certificate, authority) = (site.text("own.key"), site.text("own.pem"), site.text("ca.pem"));
    let tls = ["+tls", &key, &certificate, "+cf", &authority];
    let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
    let output = run("echoscu", &tls, address, &[]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(serving.await.unwrap().unwrap().echoes, 1);

    let (meta, data) = ct(525_000);
    let path = file(&site.scratch.0, &meta, &data);
    let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
    let output = run("storescu", &tls, address, &[&path]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(serving.await.unwrap().unwrap().stored[0].1 == data);

    // Without a certificate of its own, and without TLS.
    for options in [&["+tla", "+cf", &authority][..], &[]] {
        let (address, serving) = listen(site.acceptor(), AcceptorConfig::default()).await;
        let output = run("echoscu", options, address, &[]).await;
        assert!(!output.status.success(), "{options:?}: {output:?}");
        assert!(matches!(serving.await.unwrap(), Err(AcceptError::Tls(_))), "{options:?}");
    }
}

#[tokio::test]
async fn dcmtk_takes_instances_over_tls() {
    let Some(site) = Site::new() else { return };
    if !installed("storescp") {
        return;
    }
    let (key, certificate, authority) = (site.text("own.key"), site.text("own.pem"), site.text("ca.pem"));
    let options = ["+B", "-pm", "+xa", "+tls", &key, &certificate, "+cf", &authority];
    let (_scp, address) = StoreScp::start(&options, &site.scratch.0).await;
    let connector = site.connector(this_host());
    let mut requestor =
        Requestor::connect_tls(address, requestor_config(&[(CT, EXPLICIT)]), &connector).await.unwrap();
    for size in [10, 525_000, 5_000_000] {
        let (meta, data) = ct(size);
        requestor.store_begin(&meta).await.unwrap();
        requestor.store_data(data.clone()).await.unwrap();
        assert_eq!(requestor.store_finish().await.unwrap().status, Status::SUCCESS);
        let stored = std::fs::read(site.path(&format!("CT.{}", meta.sop_instance.reveal()))).unwrap();
        assert!(stored.ends_with(&data), "{size} bytes");
    }
    requestor.release().await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let Some(site) = Site::new() else { return };
    let path = |name: &str| site.path(name);
    std::fs::write(path("empty.pem"), "").unwrap();
    let whole = std::fs::read_to_string(path("own.pem")).unwrap();
    std::fs::write(path("cut.pem"), &whole[..whole.len() / 2]).unwrap();
    let mut encrypt = Command::new("openssl");
    encrypt.args(["pkcs8", "-topk8", "-in", "own.key", "-out", "encrypted.key", "-passout", "pass:secret"]);
    site.complete(encrypt);
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = site.files("own");
        change(&mut files);
        Credentials::read(&files).and_then(|credentials| TlsAcceptor::new(&credentials)).unwrap_err()
    };
    let cases: [(TlsError, &str); 7] = [
        (with(&|files| files.certificate = path("none.pem")), "cannot be read"),
        (with(&|files| files.certificate = path("empty.pem")), "no certificate"),
        (with(&|files| files.certificate = path("cut.pem")), "no certificate"),
        (with(&|files| files.authorities = path("empty.pem")), "no certificate"),
        (with(&|files| files.key = path("own.pem")), "no private key"),
        (with(&|files| files.key = path("encrypted.key")), "encrypted one cannot be used"),
        (with(&|files| files.key = path("other.key")), "certificate and key cannot be used"),
    ];
    for (error, want) in cases {
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
    let nameless =
        TlsConnector::new(&site.credentials("own"), &PeerName::Is("not a name".into())).unwrap_err();
    assert!(nameless.to_string().contains("neither a host name nor an address"));
    assert_eq!(format!("{:?}", site.credentials("own")), "Credentials");
}
