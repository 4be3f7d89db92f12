//! The quickstart: three daemons on loopback, real files by C-STORE, every instance followed from
//! received to receipted, every receipt verified offline, every data set compared byte by byte.
//!
//! The daemons are the real code in processes of their own: this binary starts itself with the name of
//! a role as its first argument, and then is that role's command line.

mod layout;
mod roles;
mod show;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use base::AeTitle;
use clap::Parser;
use envelope::Suite;
use service::exit;

use crate::{
    layout::{Layout, To},
    roles::Roles,
};

/// Runs gateway-out, relay and gateway-in on this machine and sends a demonstration study through them.
#[derive(Debug, Parser)]
#[command(
    name = "quickstart",
    version,
    about,
    after_help = "With a role's name as first argument (gateway-out, relay, gateway-in) this is that role's command line."
)]
struct Cli {
    /// Folder of keys, cards, configuration and state.
    #[arg(long, value_name = "DIR", default_value = "sluis-demo")]
    dir: PathBuf,
    /// Address and port where gateway-out takes C-STORE.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11112")]
    listen: SocketAddr,
    /// The AE title that a PACS sends to.
    #[arg(long, value_name = "TITLE", default_value = "SLUIS")]
    ae: AeTitle,
    /// Destination: an application entity.
    #[arg(long, value_name = "AET@HOST:PORT", conflicts_with = "folder")]
    to: Option<String>,
    /// Destination: a folder of Part 10 files. Default DIR/inbox.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Address and UDP port of the relay.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
    relay: SocketAddr,
    /// Admin port of gateway-out; the relay's is the next one, gateway-in's the one after.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9180")]
    admin: SocketAddr,
    /// Cipher suite: B (ML-KEM-768 + P-256, AES-256-GCM) or A (X-Wing, ChaCha20-Poly1305).
    #[arg(long, default_value = "B")]
    suite: Suite,
    /// Stop when all is delivered and verified; exit code 0 only if all of it held.
    #[arg(long)]
    once: bool,
    /// Write configuration, identities and cards, print the three `run` commands, and stop.
    #[arg(long)]
    write_only: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let own = args.next().unwrap_or_else(|| OsString::from("quickstart"));
    let rest = args.collect::<Vec<_>>();
    let role = rest.first().and_then(|first| first.to_str()).map(str::to_owned);
    match role.as_deref() {
        Some("gateway-out") => return gateway_out::cli_main(rest),
        Some("relay") => return relay::cli_main(rest),
        Some("gateway-in") => return gateway_in::cli_main(rest),
        _ => {}
    }
    match Cli::try_parse_from(std::iter::once(own).chain(rest)) {
        Ok(cli) => exit::finish(run(&cli)),
        Err(error) => {
            // Help and version go to stdout with 0, everything else to stderr with 2.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let dir = std::path::absolute(&cli.dir)?;
    let layout = Layout {
        dir,
        listen: cli.listen,
        ae: cli.ae.clone(),
        to: destination(cli)?,
        relay: cli.relay,
        admin: cli.admin,
        suite: cli.suite,
    };
    layout.write()?;
    if cli.write_only {
        print!("{}", layout.commands()?);
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut roles = Roles::start(&layout).await?;
        let shown = tokio::select! {
            shown = show::all(&layout) => shown,
            ended = roles.first_ended() => ended,
            _ = service::shutdown_signal() => bail!("interrupted"),
        };
        let kept_up = match shown {
            Ok(()) if !cli.once => {
                print!("{}", layout.try_next());
                tokio::select! {
                    ended = roles.first_ended() => ended,
                    _ = service::shutdown_signal() => Ok(()),
                }
            }
            other => other,
        };
        roles.stop().await;
        kept_up
    })
}

fn destination(cli: &Cli) -> Result<To> {
    let Some(text) = &cli.to else {
        return Ok(To::Folder(cli.folder.clone().map(std::path::absolute).transpose()?));
    };
    let (ae, address) = text.split_once('@').context("--to wants AET@HOST:PORT")?;
    let ae = AeTitle::parse(ae).context("--to")?;
    let address = std::net::ToSocketAddrs::to_socket_addrs(address)
        .with_context(|| format!("--to: {address} is no HOST:PORT"))?
        .next()
        .with_context(|| format!("--to: {address} has no address"))?;
    Ok(To::Dicom(ae, address))
}
