use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use base::{Fingerprint, Name, Timestamp};
use clap::{CommandFactory as _, Parser, Subcommand};
use identity::{fingerprint_text, fingerprint_words};
use sandbox::Plan;
use serde::Deserialize;
use service::alarm::{self, AlarmCommand, AlarmTable, Role};
use service::config::{ENVIRONMENT_PREFIX, Loaded, Span, load, peek};
use service::exit::UsageError;
use service::files::{self, Readable};
use service::manual::{self, GenerateArgs};
use service::own::{Own, load_identity};
use service::peers::admin_access;
use service::rotation::{self, Ask, KeyFiles};
use service::{Supervisor, admin, exit, ports, shutdown_signal, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admit::{self, AdmitArgs, RevokeArgs};
use crate::app::{self, Listeners, run};
use crate::attest::attest_command;
use crate::config::{Config, TransparencyTable};
use crate::init::{self, Options};
use crate::log::LogDir;
use crate::settings::Settings;
use crate::vault::Status;

/// The Sluis relay: holds sealed DICOM instances in memory between two gateways.
#[derive(Debug, Parser)]
#[command(name = "relay", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the relay until SIGTERM or Ctrl-C.
    Run {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
        /// Without the kernel's word that nothing reaches a disk. For tests, and kernels that cannot give it.
        #[arg(long)]
        no_sandbox: bool,
    },
    /// Writes manual pages and shell completions into a folder.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Says what keeps the running relay from writing, in its own words and in the kernel's; as root, it says all.
    Attest {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
        /// All of it, for a script.
        #[arg(long)]
        json: bool,
    },
    /// Makes an identity and a configuration to complete, and prints the card to give to the gateways.
    Init {
        /// The folder for configuration, card and keys. Default: that of --config, else the working directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The configuration file; default relay.toml in the folder.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The relay's name on its card.
        #[arg(long, default_value = "relay")]
        name: String,
        /// Address and UDP port for gateways.
        #[arg(long, default_value = "0.0.0.0:4433")]
        listen: SocketAddr,
        /// Address and TCP port of health and status.
        #[arg(long, default_value = "127.0.0.1:8442")]
        admin: SocketAddr,
    },
    /// Checks a configuration and every file it names, and prints what would be used.
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
    },
    /// Asks the running relay how it is.
    Status {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
        /// All of it, for a script.
        #[arg(long)]
        json: bool,
    },
    /// Has the running relay read its configuration again, as SIGHUP does, and says what it took over. Exit code 0 says that it did.
    Reload {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Tells people what is wrong: by mail, a webhook or a program.
    Alarm {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml", global = true)]
        config: PathBuf,
        #[command(subcommand)]
        command: AlarmCommand,
    },
    /// Admits a gateway, or takes over a newer card of one, also while the relay runs.
    Admit(AdmitArgs),
    /// Takes a gateway out: its connections are closed at once, what it has here is burned, and it stays out.
    Revoke(RevokeArgs),
    /// Lists who is admitted, who is connected, and who is revoked.
    Tenants {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
        /// All of it, for a script.
        #[arg(long)]
        json: bool,
    },
    /// Shows this relay's public keys, or makes others.
    Key {
        #[command(subcommand)]
        what: KeyCommand,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// The card, one line, to be pinned by the gateways.
    Show {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
    },
    /// The fingerprint, to be read over the telephone.
    Fingerprint {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
    },
    /// Makes other keys (identity, TLS, log) and a card that the present ones vouch for. These are used for half of the
    /// overlap, and count for all of it.
    Rotate {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/relay.toml")]
        config: PathBuf,
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
}

/// The whole program, for `main` and for a binary that holds several roles.
pub fn cli_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    exit::leave_with_the_reader();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Also --help and --version, which are no failure.
            let code = u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    exit::finish(execute(cli.command))
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run { config, no_sandbox } => run_command(&config, no_sandbox),
        Command::Generate(args) => manual::generate(Cli::command(), &args),
        Command::Attest { config, json } => attest_command(&config, json),
        Command::Init { dir, config, name, listen, admin } => init_command(dir, config, &name, listen, admin),
        Command::Check { config } => check_command(&config),
        Command::Status { config, json } => status_command(&config, json),
        Command::Reload { config, json } => runtime()?.block_on(service::reload::command(&config, json)),
        Command::Alarm { config, command } => runtime()?.block_on(alarm_command(&config, command)),
        Command::Admit(args) => runtime()?.block_on(admit::admit(args)),
        Command::Revoke(args) => runtime()?.block_on(admit::revoke(args)),
        Command::Tenants { config, json } => runtime()?.block_on(admit::tenants(&config, json)),
        Command::Key { what: KeyCommand::Show { config } } => {
            let loaded = loaded(&config)?;
            println!("{}", Own::load(&loaded, &loaded.config.identity)?.card.to_line());
            Ok(())
        }
        Command::Key { what: KeyCommand::Fingerprint { config } } => {
            let loaded = loaded(&config)?;
            match Own::load(&loaded, &loaded.config.identity) {
                // Of the card that peers are to take: where keys are being rotated, not yet of those in use.
                Ok(own) => print_fingerprint(&own.card.identity.fingerprint()),
                Err(_) => print_fingerprint(&load_identity(&loaded, &loaded.config.identity)?.fingerprint()),
            }
            Ok(())
        }
        Command::Key { what: KeyCommand::Rotate { config, overlap, switch, finish } } => {
            let ask = match (switch, finish) {
                (_, true) => Ask::Finish,
                (switch, false) => Ask::Begin { overlap: overlap.duration(), switch },
            };
            runtime()?.block_on(rotate_command(&config, ask))
        }
    }
}

pub(crate) fn loaded(path: &Path) -> Result<Loaded<Config>> {
    Ok(load(path, ENVIRONMENT_PREFIX)?)
}

async fn rotate_command(path: &Path, ask: Ask) -> Result<()> {
    let loaded = loaded(path)?;
    let files = KeyFiles::of(&loaded, &loaded.config.identity);
    rotation::command(path, &files, ask).await
}

fn print_fingerprint(fingerprint: &Fingerprint) {
    println!("{}\n{}", fingerprint_text(fingerprint), fingerprint_words(fingerprint));
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// The order matters: everything by path and every socket first, then the lock-down, then threads.
fn run_command(path: &Path, no_sandbox: bool) -> Result<()> {
    let loaded = loaded(path)?;
    telemetry::init(&loaded.config.log);
    let settings = Settings::check(&loaded)?;
    alarm::check_files(loaded.config.alarm.as_ref(), &loaded)?;
    let quic = std::net::UdpSocket::bind(settings.quic)
        .with_context(|| format!("cannot listen on UDP {}", settings.quic))?;
    let admin =
        ports::listen(settings.admin).with_context(|| format!("cannot listen on {}", settings.admin))?;
    let supervisor = Supervisor::from_environment();
    let workers = ports::workers();
    if let Some(dir) = &settings.log_dir {
        files::make_folder(dir)
            .with_context(|| format!("cannot make the log directory {}", dir.display()))?;
    }
    match no_sandbox {
        false => sandbox::lock_down(&plan(&loaded, settings.log_dir.clone()))?,
        true => sandbox::unlocked(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let admin = TcpListener::from_std(admin).context("cannot use the admin port")?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let signal = async move {
            let signal = shutdown_signal().await?;
            info!(signal, "signal");
            stop.cancel();
            std::future::pending::<Result<()>>().await
        };
        tokio::select! {
            ended = run(settings, Listeners { quic, admin, supervisor }, shutdown) => Ok(ended?),
            failed = signal => failed,
        }
    })
}

/// Configuration, cards and keys can be read again; nothing can be written but the log, where it has a directory.
fn plan(loaded: &Loaded<Config>, log: Option<PathBuf>) -> Plan {
    let config = &loaded.config;
    let cards = config.tenants.iter().map(|tenant| loaded.resolve(&tenant.card));
    let tls = config.admin.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let own = config.identity.files().into_iter().chain(tls).map(|file| loaded.resolve(file));
    let files: Vec<_> = cards.chain(own).collect();
    Plan::memory_only(config.sandbox.swap, log)
        .reading(loaded.dir())
        .reading_beside(files.iter().map(PathBuf::as_path))
}

fn init_command(
    dir: Option<PathBuf>,
    config: Option<PathBuf>,
    name: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> Result<()> {
    let name = Name::parse(name).map_err(|error| UsageError(format!("--name: {error}")))?;
    // Keys and card lie beside the configuration, unless told otherwise.
    let beside_config = || config.as_deref().and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.or_else(|| beside_config().map(Path::to_owned)).unwrap_or_else(|| PathBuf::from("."));
    let dir = dir.as_path();
    let config = config.unwrap_or_else(|| dir.join("relay.toml"));
    files::refuse_foreign(&config)?;
    let keys = std::path::absolute(dir)?.join("keys");
    let own = init::create_keys(&keys, &name)?;
    let card = dir.join(format!("{}.card", own.identity.name()));
    let written =
        init::write_card(&card, &own).with_context(|| format!("cannot write {}", card.display()))?;
    let beside = config
        .parent()
        .is_some_and(|parent| parent == dir || (parent.as_os_str().is_empty() && dir == Path::new(".")));
    let keys = if beside { PathBuf::from("keys") } else { keys };
    let own_card = if beside { card.file_name().map(PathBuf::from) } else { std::path::absolute(&card).ok() };
    let options =
        Options { listen, admin, keys, card: own_card.unwrap_or_else(|| card.clone()), tenants: Vec::new() };
    let text = init::config_text(&options);
    files::write_new(&config, text.as_bytes(), Readable::Everybody).with_context(|| {
        format!("cannot write {}; it is not replaced when it is there already", config.display())
    })?;
    println!("{}", written.to_line());
    print_fingerprint(&own.identity.fingerprint());
    eprintln!(
        "wrote {} and {}; admit each gateway: relay admit CARD --config {config}; then: relay run --config {config}",
        config.display(),
        card.display(),
        config = config.display()
    );
    Ok(())
}

fn check_command(path: &Path) -> Result<()> {
    let loaded = loaded(path)?;
    let settings = Settings::check(&loaded)?;
    alarm::check_files(loaded.config.alarm.as_ref(), &loaded)?;
    for value in loaded.effective()? {
        println!("{value}");
    }
    println!("{}: good", path.display());
    for line in settings.own.lines(Timestamp::now()) {
        println!("{line}");
    }
    if let Some(dir) = &settings.log_dir {
        println!("{}", describe_log(dir, &settings.own)?);
    }
    let tenants = &settings.policy.tenants;
    for (fingerprint, tenant) in tenants {
        let names: Vec<_> = tenant
            .deposit_for
            .iter()
            .filter_map(|peer| tenants.get(peer))
            .map(|t| t.name.to_string())
            .collect();
        let may = match names.as_slice() {
            [] => "collects only".to_owned(),
            names => format!("deposits for {}", names.join(", ")),
        };
        println!("tenant {} {may}, fingerprint {}", tenant.name, fingerprint_text(fingerprint));
    }
    if tenants.values().all(|tenant| tenant.deposit_for.is_empty()) {
        println!("nobody may deposit: add [[tenant]] tables, one of them with deposit_for");
    }
    Ok(())
}

/// What the log directory holds, verified; the relay may be running.
fn describe_log(dir: &Path, own: &Own) -> Result<String> {
    let earlier = app::earlier_log_key(own);
    let found = if dir.exists() { LogDir::inspect(dir, &own.log_key, earlier.as_ref())? } else { None };
    let Some(found) = found else {
        return Ok(format!("log directory {}: empty; the next start begins a log there", dir.display()));
    };
    let head = found.head.head();
    let behind = found.part.tree.size() - head.size;
    Ok(format!(
        "log directory {}: {}, {} entries under the head signed {}, {behind} behind it",
        dir.display(),
        head.origin,
        head.size,
        service::text::utc(found.signed)
    ))
}

fn status_command(path: &Path, json: bool) -> Result<()> {
    let access = admin_access(path)?;
    let answer = runtime()?.block_on(admin::fetch_status(access))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let status: Status =
        serde_json::from_value(answer.clone()).context("the answer is not a relay's status")?;
    println!("relay {}  boot {}", text_of(&answer, "name"), text_of(&answer, "boot"));
    if answer.pointer("/sandbox/enforced") != Some(&serde_json::Value::Bool(true)) {
        println!("NOT LOCKED DOWN: started with --no-sandbox; `relay attest` says what is missing");
    }
    println!(
        "holds {} bodies, {} bytes of {}; {} under lease",
        status.blobs, status.bytes_held, status.budget, status.leases
    );
    let reload = answer.get("last_reload");
    if let Some(reason) = reload.and_then(|reload| reload.get("refused")).and_then(|reason| reason.as_str()) {
        let at = reload.map_or("?", |reload| text_of(reload, "at"));
        println!("the configuration was refused at {at}; the earlier one holds: {reason}");
    }
    for alarm in answer.get("alarms").and_then(|list| list.as_array()).into_iter().flatten() {
        println!("! {}", alarm.as_str().unwrap_or("?"));
    }
    for entry in answer.get("admission").and_then(|list| list.as_array()).into_iter().flatten() {
        if let Some(at) = entry.get("revoked").and_then(|at| at.as_str()) {
            println!("  {:<24} REVOKED {at}", text_of(entry, "name"));
        }
    }
    println!("waiting: {} offers, {} settlements", status.offers_waiting, status.settlements_waiting);
    for tenant in &status.tenants {
        println!(
            "  {:<24} {}; {} bodies, {} bytes reserved, {} settlements waiting",
            tenant.name,
            tenant.connected(),
            tenant.blobs,
            tenant.bytes_reserved,
            tenant.settlements_waiting
        );
    }
    Ok(())
}

/// Looks what is wrong, and tells it. In a process of its own: the relay starts no program and reaches nobody.
async fn alarm_command(config: &Path, command: AlarmCommand) -> Result<()> {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        transparency: TransparencyTable,
        alarm: Option<AlarmTable>,
    }
    let only: Only = peek(config, ENVIRONMENT_PREFIX)?;
    let role = Role {
        role: "relay",
        version: env!("CARGO_PKG_VERSION"),
        config,
        table: only.alarm,
        folder: only.transparency.dir,
        conditions: alarm::tenants,
    };
    role.command(command).await
}

fn text_of<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value.get(key).and_then(|text| text.as_str()).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_in_the_documents_is_one() {
        let commands = testkit::documented_commands("relay").unwrap();
        assert!(!commands.is_empty());
        for (place, words) in commands {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{place}: {words:?}: {error}");
            }
        }
    }
}
