//! The commands of gateway-in.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use base::{AeTitle, Name, Timestamp};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use identity::{fingerprint_text, fingerprint_words};
use sandbox::Plan;
use serde_json::Map;
use service::{
    Supervisor, admin,
    alarm::{self, AlarmCommand},
    config::{self, Span},
    exit,
    files::{self, Readable},
    manual::{self, GenerateArgs},
    own::Own,
    peers::admin_access,
    pins::Pins,
    ports,
    receipt::{self, CardFiles},
    rotation::{self, Ask, KeyFiles},
    support::{self, SupportArgs},
    telemetry,
    trust::{self, TrustArgs},
    witness,
};
use spool::{Inbound, LedgerKey};
use statement::command::ConformanceArgs;
use tokio_util::sync::CancellationToken;

use crate::{
    app, commands, commitment,
    config::{Config, Settings, Target},
    conformance, init, receipts, trial,
};

/// Collects sealed instances, opens them, hands them to a destination, signs receipts.
#[derive(Debug, Parser)]
#[command(name = "gateway-in", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an identity and a commented configuration.
    Init(InitArgs),
    /// Check the configuration and every file that it names, show every value with its source, and what has to be entered at the
    /// destinations.
    Check(CheckArgs),
    /// Show the card of a sending gateway or relay, and pin it when its words were compared.
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
    /// Show relays, destinations and the ledger's counts.
    Status(StatusArgs),
    /// Collect what somebody who helps needs to know, without patient data, as one JSON file.
    Support {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: SupportArgs,
    },
    /// Have the running daemon read its configuration again, as SIGHUP does, and say what it took over. Exit code 0 says that it did.
    Reload(StatusArgs),
    /// Show the status again and again, until interrupted.
    Watch {
        #[command(flatten)]
        config: ConfigArg,
        /// How often.
        #[arg(long, value_name = "SPAN", default_value = "2s")]
        every: Span,
    },
    /// Tell people what is wrong: by mail, a webhook or a program.
    Alarm {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/sluis/gateway-in.toml", global = true)]
        config: PathBuf,
        #[command(subcommand)]
        command: AlarmCommand,
    },
    /// Show what others pin, or make other keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Ask a destination what it accepts, and print it: SOP class by transfer syntax. The running daemon keeps it for
    /// its senders.
    Probe(DestinationArgs),
    /// Ask a destination whether it answers: by C-ECHO, a web service by a POST of nothing. Exit code 0 says that it does.
    Echo(DestinationArgs),
    /// Show what passes on the associations to a destination, by its AE title or the one that calls: association items, command
    /// sets, and how long data sets are. No byte of a data set, and no instance UID.
    Trace {
        #[command(flatten)]
        args: StatusArgs,
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

#[derive(Debug, Subcommand)]
enum PeerCommand {
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

#[derive(Debug, Subcommand)]
enum RelayCommand {
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
enum ReceiptCommand {
    /// List all receipts.
    List(StatusArgs),
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

#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/sluis/gateway-in.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Try it out, too: relays, destinations as `echo` does, disk, clock, ends of cards. Exit code 1 when something does not work.
    #[arg(long)]
    connect: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Without the kernel's bounds on files, programs and memory. For tests, and kernels that cannot give them.
    #[arg(long)]
    no_sandbox: bool,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The name on our card.
    #[arg(long)]
    name: Name,
    /// Address and TCP port of the admin listener.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9182")]
    admin: SocketAddr,
    /// The folder of attempts, answers and receipts. Default: `ledger` beside the configuration, or for one in /etc
    /// /var/lib/sluis/gateway-in/ledger.
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DestinationArgs {
    #[command(flatten)]
    args: StatusArgs,
    /// The destination's name in the configuration.
    name: Name,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print our card: one line to give to the other side.
    Show(ConfigArg),
    /// Print the fingerprint, in digits and in words for the telephone.
    Fingerprint(ConfigArg),
    /// Make other keys (identity, TLS, log) and a card that the present ones vouch for. These are used for half of the
    /// overlap, and count for all of it.
    Rotate {
        #[command(flatten)]
        config: ConfigArg,
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
    /// Make the key of `[commitment]`, which seals what destinations are asked to commit to. An existing file is kept.
    Ledger {
        /// The new file.
        file: PathBuf,
    },
}

/// Runs one command; the exit codes are those of [`service::exit`].
pub fn cli_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    exit::leave_with_the_reader();
    match Cli::try_parse_from(args) {
        Ok(cli) => exit::finish(run(cli.command)),
        Err(error) => {
            // Help and version go to stdout with 0, everything else to stderr with 2.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
        }
    }
}

fn run(command: Command) -> Result<()> {
    // It locks itself down before a runtime starts threads.
    if let Command::Run(args) = &command {
        return daemon(args);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Init(args) => initialise(&args),
            Command::Check(args) => check(&args).await,
            Command::Trust { config, args } => trust_card(&config, &args).await,
            Command::Run(args) => daemon(&args),
            Command::Generate(args) => manual::generate(Cli::command(), &args),
            Command::Status(args) => status(&args).await,
            Command::Support { config, args } => {
                let loaded = config::load::<Config>(&config.config, config::ENVIRONMENT_PREFIX)?;
                let bundle =
                    support::bundle(&loaded, "gateway-in", env!("CARGO_PKG_VERSION"), Map::new()).await?;
                support::write(&bundle, &args)
            }
            Command::Trace { args, ae, span } => {
                service::trace::command(&args.config.config, ae.as_str(), span.duration(), args.json).await
            }
            Command::Alarm { config, command } => commands::alarm(&config, command).await,
            Command::Reload(args) => service::reload::command(&args.config.config, args.json).await,
            Command::Watch { config, every } => service::watch::watch(&config.config, every.0).await,
            Command::Key(KeyCommand::Show(arg)) => show_card(&arg),
            Command::Key(KeyCommand::Fingerprint(arg)) => show_fingerprint(&arg),
            Command::Key(KeyCommand::Rotate { config, overlap, switch, finish }) => {
                let ask = match finish {
                    true => Ask::Finish,
                    false => Ask::Begin { overlap: overlap.duration(), switch },
                };
                rotate(&config, ask).await
            }
            Command::Peer(PeerCommand::Update { card, config, replace }) => {
                update_peer(&config, &card, replace).await
            }
            Command::Key(KeyCommand::Ledger { file }) => {
                LedgerKey::generate_file(&file)?;
                println!(
                    "key            {}  (name it in [commitment] key, and keep a copy elsewhere)",
                    file.display()
                );
                Ok(())
            }
            Command::Probe(args) => {
                commands::probe_command(&load(&args.args)?, &args.name, args.args.json).await
            }
            Command::Echo(args) => {
                commands::echo_command(&load(&args.args)?, &args.name, args.args.json).await
            }
            Command::Receipt(command) => receipt_command(command).await,
            Command::Relay(command) => relay_command(&command),
            Command::Conformance(args) => conformance::command(&args),
        }
    })
}

fn load(args: &StatusArgs) -> Result<config::Loaded<Config>> {
    Ok(config::load::<Config>(&args.config.config, config::ENVIRONMENT_PREFIX)?)
}

fn daemon(args: &RunArgs) -> Result<()> {
    let loaded = config::load::<Config>(&args.config.config, config::ENVIRONMENT_PREFIX)?;
    telemetry::init(&loaded.config.log);
    let settings = Config::check(&loaded)?;
    alarm::check_files(loaded.config.alarm.as_ref(), &loaded)?;
    let admin = ports::listen(settings.admin)
        .with_context(|| format!("cannot listen on {} ([admin] listen)", settings.admin))?;
    let reports = report_ports(settings.commitment.as_ref())?;
    let supervisor = Supervisor::from_environment();
    let workers = ports::workers();
    match args.no_sandbox {
        false => sandbox::lock_down(&plan(&loaded, &settings)?)?,
        true => sandbox::unlocked(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let admin = tokio::net::TcpListener::from_std(admin).context("cannot use the admin port")?;
        let stop = CancellationToken::new();
        let (plain, tls) = reports;
        let adopt = |port: std::net::TcpListener| {
            tokio::net::TcpListener::from_std(port).context("cannot use the ports of [commitment]")
        };
        let plain = plain.map(adopt).transpose()?;
        let tls = tls.map(|(port, keeper)| Ok::<_, anyhow::Error>((adopt(port)?, keeper))).transpose()?;
        let listeners = app::Listeners { admin, reports: commitment::Ports { plain, tls }, supervisor };
        let running = app::run(settings, listeners, stop.clone());
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return ended,
            signal = service::shutdown_signal() => tracing::info!(signal = signal?, "asked to stop"),
        }
        stop.cancel();
        running.await
    })
}

type ReportPorts = (Option<std::net::TcpListener>, Option<(std::net::TcpListener, dimse::Doorkeeper)>);

/// Where destinations report, without TLS and with it.
fn report_ports(settings: Option<&commitment::CommitmentSettings>) -> Result<ReportPorts> {
    let Some(settings) = settings else { return Ok((None, None)) };
    let open = |address, key| {
        ports::listen(address).with_context(|| format!("cannot listen on {address} ([commitment] {key})"))
    };
    let plain = settings.listen.map(|address| open(address, "listen")).transpose()?;
    let tls = settings
        .tls
        .as_ref()
        .map(|(address, keeper)| Ok::<_, anyhow::Error>((open(*address, "tls.listen")?, keeper.clone())));
    Ok((plain, tls.transpose()?))
}

/// Configuration, cards and keys can be read again; the ledger and the folders of destinations can be written.
fn plan(loaded: &config::Loaded<Config>, settings: &Settings) -> Result<Plan> {
    let folders = settings.destinations.values().filter_map(|destination| match &destination.target {
        Target::Folder(folder) => Some(folder.clone()),
        Target::Dicom(_) | Target::Stow(_) => None,
    });
    let mut folders: Vec<_> = folders.collect();
    for folder in &folders {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let ledger = settings.ledger_dir.clone();
    files::make_folder(&ledger).with_context(|| format!("cannot make the folder {}", ledger.display()))?;
    folders.push(ledger);
    let config = &loaded.config;
    let cards =
        config.peers.iter().map(|peer| &peer.card).chain(config.relays.iter().map(|relay| &relay.card));
    let tls = config.admin.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let of_destinations = config.destinations.iter().filter_map(|table| table.tls.as_ref());
    let users = config.destinations.iter().filter_map(|table| table.user.as_ref()?.passcode.as_ref());
    let tokens = config.destinations.iter().filter_map(|table| table.bearer.as_ref());
    let of_reports = config.commitment.iter();
    let of_reports =
        of_reports.flat_map(|table| table.tls.iter().flat_map(|tls| tls.files()).chain([&table.key]));
    let tls =
        tls.chain(of_destinations.flat_map(|tls| tls.files())).chain(of_reports).chain(users).chain(tokens);
    let files: Vec<_> =
        cards.chain(config.identity.files()).chain(tls).map(|file| loaded.resolve(file)).collect();
    Ok(Plan::stateful(folders).reading(loaded.dir()).reading_beside(files.iter().map(PathBuf::as_path)))
}

fn initialise(args: &InitArgs) -> Result<()> {
    let config = &args.config.config;
    files::refuse_foreign(config)?;
    let dir = config.parent().unwrap_or_else(|| Path::new("."));
    let ledger = args.ledger.clone().unwrap_or_else(|| files::state_dir(config, init::ROLE, "ledger"));
    let keys = init::create_keys(&dir.join("keys"), &args.name)?;
    let options = init::Options {
        admin: args.admin,
        ledger,
        keys: "keys".into(),
        card: format!("{}.card", args.name).into(),
        relays: Vec::new(),
        peers: Vec::new(),
        destinations: Vec::new(),
        routes: Vec::new(),
    };
    files::write_new(config, init::config_text(&options).as_bytes(), Readable::Everybody)
        .with_context(|| format!("cannot write {}", config.display()))?;
    let card = dir.join(format!("{}.card", args.name));
    init::write_card(&card, &keys).with_context(|| format!("cannot write {}", card.display()))?;
    println!("configuration  {}", config.display());
    println!("card           {}  (give it to the sending gateway and to the relay)", card.display());
    print_fingerprint(&keys.identity.fingerprint());
    println!(
        "next           gateway-in trust RELAY.card --relay ADDRESS:PORT; gateway-in trust SENDER.card;"
    );
    println!("               [[destination]] and [[route]] in the configuration; gateway-in check");
    Ok(())
}

async fn check(args: &CheckArgs) -> Result<()> {
    let arg = &args.config;
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    let settings = Config::check(&loaded)?;
    alarm::check_files(loaded.config.alarm.as_ref(), &loaded)?;
    for value in loaded.effective()? {
        println!("{value}");
    }
    println!("{}: good", arg.config.display());
    for line in settings.own.lines(Timestamp::now()) {
        println!("{line}");
    }
    for relay in &settings.relays {
        println!(
            "relay {} at {}, fingerprint {}",
            relay.name,
            relay.address,
            fingerprint_text(&relay.card.identity.fingerprint())
        );
    }
    for destination in settings.destinations.values() {
        match &destination.target {
            Target::Dicom(target) if target.dialer.is_secure() => {
                println!("destination {} at {} over TLS", destination.name, target.address);
            }
            Target::Stow(target) => {
                let tls = if target.dialer.is_secure() { "over TLS" } else { "without TLS" };
                println!("destination {} is {} at {} {tls}", destination.name, target.url, target.address);
            }
            Target::Dicom(_) | Target::Folder(_) => {}
        }
    }
    if let Some(commitment) = &settings.commitment {
        for (address, tls) in commitment
            .listen
            .iter()
            .map(|address| (address, ""))
            .chain(commitment.tls.iter().map(|(address, _)| (address, " over TLS")))
        {
            println!("commitment reports on {address}{tls}");
        }
    }
    for (destination, ask) in
        settings.destinations.values().filter_map(|one| Some((one, one.commitment.as_ref()?)))
    {
        println!(
            "destination {} is asked for storage commitment; its report may take {} s",
            destination.name,
            ask.table.report_timeout.0.as_secs()
        );
    }
    for route in settings.routes.values() {
        println!("route {} from {} to {} (suite {})", route.id, route.from, route.destination, route.suite);
        if let Some(coercion) = &route.coercion {
            println!("  coercion: {coercion}");
        }
        if let Some(warning) = route.warning() {
            println!("warning: {warning}");
        }
    }
    trial::far_lines(&settings).iter().for_each(|line| println!("{line}"));
    if args.connect {
        trial::run(&loaded, &settings).await?;
    }
    Ok(())
}

fn relay_command(RelayCommand::Trust { config, name, reason }: &RelayCommand) -> Result<()> {
    let loaded = config::load::<Config>(&config.config, config::ENVIRONMENT_PREFIX)?;
    let dir = loaded.resolve(&loaded.config.ledger.dir);
    match witness::trust_again(&dir, name, reason, Timestamp::now())? {
        Some(distrust) => println!("relay {name} is used again; it was not, because {distrust}"),
        None => println!("relay {name} was not out of use"),
    }
    Ok(())
}

async fn receipt_command(command: ReceiptCommand) -> Result<()> {
    match command {
        ReceiptCommand::List(args) => {
            let rows = receipts::all(&open_ledger(&args.config)?).await?;
            if args.json {
                let values = rows.iter().map(receipts::json).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&values)?);
            } else {
                for row in &rows {
                    println!("{}", receipts::line(row));
                }
                println!("{} receipts", rows.len());
            }
        }
        ReceiptCommand::Show { config, id } => {
            print!("{}", receipts::of(&open_ledger(&config)?, &id).await?.to_text());
        }
        ReceiptCommand::Verify { file, peer, sender, relay } => {
            print!("{}", receipt::verify(&file, &CardFiles { receiver: peer, sender, relay })?);
        }
    }
    Ok(())
}

/// The ledger, beside the running daemon.
fn open_ledger(arg: &ConfigArg) -> Result<Inbound> {
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    Ok(Inbound::open_admin(&loaded.resolve(&loaded.config.ledger.dir))?)
}

async fn status(args: &StatusArgs) -> Result<()> {
    let loaded = config::load::<Config>(&args.config.config, config::ENVIRONMENT_PREFIX)?;
    let status = match admin::fetch_status(admin_access(loaded.path())?).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("not running ({error}); this is what the ledger says");
            let inbound = Inbound::open_admin(&loaded.resolve(&loaded.config.ledger.dir))?;
            serde_json::json!({ "role": "gateway-in", "running": false, "ledger": app::ledger_json(&inbound).await })
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", service::text::render(&status));
    }
    Ok(())
}

fn show_card(arg: &ConfigArg) -> Result<()> {
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    println!("{}", Own::load(&loaded, &loaded.config.identity)?.card.to_line());
    Ok(())
}

fn show_fingerprint(arg: &ConfigArg) -> Result<()> {
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    // Of the card that peers are to take: where keys are being rotated, not yet of those in use.
    let fingerprint = match Own::load(&loaded, &loaded.config.identity) {
        Ok(own) => own.card.identity.fingerprint(),
        Err(_) => service::own::load_identity(&loaded, &loaded.config.identity)?.fingerprint(),
    };
    print_fingerprint(&fingerprint);
    Ok(())
}

async fn rotate(arg: &ConfigArg, ask: Ask) -> Result<()> {
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    let files = KeyFiles::of(&loaded, &loaded.config.identity);
    rotation::command(&arg.config, &files, ask).await
}

async fn update_peer(arg: &ConfigArg, card: &Path, replace: bool) -> Result<()> {
    let loaded = config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?;
    let pins = Pins::of(&loaded, &loaded.config.peers, &loaded.config.relays);
    pins.update(&arg.config, card, replace, || good(arg)).await
}

async fn trust_card(arg: &ConfigArg, args: &TrustArgs) -> Result<()> {
    trust::trust(args, &arg.config, || good(arg)).await
}

fn good(arg: &ConfigArg) -> Result<()> {
    Config::check(&config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?)?;
    Ok(())
}

fn print_fingerprint(fingerprint: &base::Fingerprint) {
    println!("fingerprint    {}", fingerprint_text(fingerprint));
    println!("in words       {}", fingerprint_words(fingerprint));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_in_the_documents_is_one() {
        let commands = testkit::documented_commands("gateway-in").unwrap();
        assert!(!commands.is_empty());
        for (place, words) in commands {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{place}: {words:?}: {error}");
            }
        }
    }
}
