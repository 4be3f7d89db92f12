//! The commands of gateway-out.

mod args;
mod pseudonyms;
mod queue_acts;
mod reidentify;
mod route;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use base::{Fingerprint, Timestamp};
use clap::{CommandFactory as _, Parser as _};
use identity::{fingerprint_text, fingerprint_words};
use indicatif::{ProgressBar, ProgressStyle};
use sandbox::Plan;
use serde_json::json;
use service::{
    Supervisor,
    admin::{self, RequestError},
    config::{self, Loaded},
    exit::{self, UsageError},
    files::{self, Readable},
    manual,
    own::Own,
    peers::admin_access,
    pins::Pins,
    ports,
    receipt::{self, CardFiles},
    rotation::{self, Ask, KeyFiles},
    telemetry,
    trust::{self, TrustArgs},
    witness,
};
use spool::{Outbox, Queue};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Listeners},
    commands,
    commitment::show,
    config::Config,
    conformance,
    folders::Ours,
    hindered, init, queue, receipts, rotate,
    send::{self, Outcome, Target},
    settings::{Settings, check_at_start},
    status, trial, windows,
};
use args::{
    CheckArgs, Cli, Command, CommitmentsCommand, InitArgs, KeyCommand, PeerCommand, ReceiptCommand,
    RelayCommand, RunArgs, SendArgs, WhyArgs,
};
pub(crate) use args::{ConfigArg, JsonArgs};

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
            Command::Status(args) => show_status(&args).await,
            Command::Support { config, args } => commands::support_command(&config, &args).await,
            Command::Reload(args) => service::reload::command(&args.config.config, args.json).await,
            Command::Watch { config, every } => service::watch::watch(&config.config, every.0).await,
            Command::Key(KeyCommand::Show(arg)) => show_card(&arg),
            Command::Key(KeyCommand::Fingerprint(arg)) => show_fingerprint(&arg),
            Command::Key(KeyCommand::Gen { file, next }) => pseudonyms::generate(&file, next),
            Command::Pseudonyms(command) => pseudonyms::command(command).await,
            Command::Reidentify(args) => reidentify::command(&args),
            Command::Key(KeyCommand::Rotate { config, outbox: true, .. }) => rotate_outbox_key(&config).await,
            Command::Key(KeyCommand::Rotate { config, overlap, switch, finish, .. }) => {
                let ask = match finish {
                    true => Ask::Finish,
                    false => Ask::Begin { overlap: overlap.duration(), switch },
                };
                rotate_keys(&config, ask).await
            }
            Command::Peer(PeerCommand::Update { card, config, replace }) => {
                update_peer(&config, &card, replace).await
            }
            Command::Trace { args, ae, span } => {
                service::trace::command(&args.config.config, ae.as_str(), span.duration(), args.json).await
            }
            Command::Alarm { config, command } => commands::alarm_command(&config, command).await,
            Command::Send(args) => send_files(&args).await,
            Command::Queue(command) => queue_acts::command(command).await,
            Command::Why(args) => why(&args).await,
            Command::Receipt(command) => receipt_command(command).await,
            Command::Route(command) => route::command(command),
            Command::Relay(command) => relay_command(&command),
            Command::Conformance(args) => conformance::command(&args),
            Command::Commitments(command) => commitments_command(command).await,
            Command::Echo(args) => commands::echo_command(&args).await,
            Command::Mirror(args) => commands::mirror_command(&args).await,
            Command::Associations { args, rejected: _ } => commands::rejections_command(&args).await,
        }
    })
}

pub(crate) fn load(arg: &ConfigArg) -> Result<Loaded<Config>> {
    Ok(config::load::<Config>(&arg.config, config::ENVIRONMENT_PREFIX)?)
}

fn daemon(args: &RunArgs) -> Result<()> {
    let loaded = load(&args.config)?;
    telemetry::init(&loaded.config.log);
    let mut settings = Config::check(&loaded)?;
    check_at_start(&loaded)?;
    let outbox = &settings.outbox.dir;
    files::make_folder(outbox).with_context(|| format!("cannot make the folder {}", outbox.display()))?;
    // Only now links in its path lead somewhere. What they lead to stays ours for as long as the process runs.
    settings.ours = Ours::of(&loaded);
    settings.ours.refuse(&loaded, &settings.watched, "")?;
    let (plain, admin) = (settings.dicom.listen, settings.admin);
    let tls = settings.dicom.tls.as_ref().map(|tls| tls.listen);
    let open = |address, key: &str| {
        ports::listen(address).with_context(|| format!("cannot listen on {address} ({key})"))
    };
    let plain = plain.map(|address| open(address, "[dicom] listen")).transpose()?;
    let tls = tls.map(|address| open(address, "[dicom] tls.listen")).transpose()?;
    let admin = ports::listen(admin).with_context(|| format!("cannot listen on {admin} ([admin] listen)"))?;
    let supervisor = Supervisor::from_environment();
    let workers = ports::workers();
    match args.no_sandbox {
        false => sandbox::lock_down(&plan(&loaded, &settings))?,
        true => sandbox::unlocked(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let listeners = Listeners::adopt(plain, tls, admin, supervisor).context("cannot use the ports")?;
        let stop = CancellationToken::new();
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

/// Configuration, cards and keys can be read again; the outbox can be written.
fn plan(loaded: &Loaded<Config>, settings: &Settings) -> Plan {
    let files: Vec<PathBuf> = loaded.config.files().into_iter().map(|file| loaded.resolve(file)).collect();
    let watched = settings.watched.iter().map(|folder| folder.dir.clone());
    let writable = std::iter::once(settings.outbox.dir.clone()).chain(watched).collect();
    let plan =
        Plan::stateful(writable).reading(loaded.dir()).reading_beside(files.iter().map(PathBuf::as_path));
    // Time zones of windows that a reload brings. The host's own is known from now on.
    windows::host_zone();
    let zones = Path::new(windows::ZONES_DIR);
    if zones.is_dir() { plan.reading(zones) } else { plan }
}

fn initialise(args: &InitArgs) -> Result<()> {
    let config = &args.config.config;
    files::refuse_foreign(config)?;
    let dir = config.parent().unwrap_or_else(|| Path::new("."));
    let outbox = args.outbox.clone().unwrap_or_else(|| files::state_dir(config, init::ROLE, "outbox"));
    let keys = init::create_keys(&dir.join("keys"), &args.name)?;
    let options = init::Options {
        listen: args.listen,
        admin: args.admin,
        outbox: outbox.clone(),
        keys: "keys".into(),
        card: format!("{}.card", args.name).into(),
        relays: Vec::new(),
        peers: Vec::new(),
        routes: Vec::new(),
    };
    files::write_new(config, init::config_text(&options).as_bytes(), Readable::Everybody)
        .with_context(|| format!("cannot write {}", config.display()))?;
    init::create_outbox(&dir.join(outbox), &dir.join("keys"))?;
    let card = dir.join(format!("{}.card", args.name));
    init::write_card(&card, &keys).with_context(|| format!("cannot write {}", card.display()))?;
    println!("configuration  {}", config.display());
    println!("card           {}  (give it to the receiving gateway and to the relay)", card.display());
    println!(
        "outbox keys    {}  (keep a copy elsewhere: what waits in the outbox is lost without them)",
        dir.join("keys").display()
    );
    print_fingerprint(&keys.identity.fingerprint());
    println!(
        "next           gateway-out trust RELAY.card --relay ADDRESS:PORT; gateway-out trust RECEIVER.card;"
    );
    println!("               a [[route]] in the configuration; gateway-out check");
    Ok(())
}

async fn check(args: &CheckArgs) -> Result<()> {
    let arg = &args.config;
    let mut loaded = load(arg)?;
    let settings = Config::check(&loaded)?;
    check_at_start(&loaded)?;
    loaded.config.complete();
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
    for route in settings.routes.iter() {
        for leg in route.legs.iter() {
            println!(
                "AE {} → {} at {} (suite {}, respond {:?}, {}), fingerprint {}",
                route.ae,
                leg.destination,
                leg.receiver.name,
                leg.suite,
                route.respond,
                leg.urgency,
                fingerprint_text(&leg.receiver.identity.fingerprint())
            );
        }
    }
    for route in settings.routes.iter() {
        let Some(how) = &route.pseudonymize else { continue };
        println!("AE {}: {}", route.ae, how.line());
        for line in how.recipients() {
            println!("AE {}: {line}", route.ae);
        }
        for warning in how.warnings(Timestamp::now()) {
            println!("warning: AE {}: {warning}", route.ae);
        }
        if settings.commitment.iter().next().is_some() {
            println!(
                "warning: AE {} pseudonymizes: storage commitment for what comes there is always answered as failed, so that nobody deletes the only original",
                route.ae
            );
        }
    }
    for peer in settings.commitment.iter() {
        println!("{}", show::peer_line(&peer));
        if let Some(warning) = peer.warning() {
            println!("warning: {warning}");
        }
    }
    trial::far_lines(&settings).iter().for_each(|line| println!("{line}"));
    if args.connect {
        trial::run(&loaded, &settings).await?;
    }
    Ok(())
}

/// The outbox beside the running daemon.
pub(crate) fn open_queue(arg: &ConfigArg) -> Result<Queue> {
    let loaded = load(arg)?;
    let settings = Config::check(&loaded)?;
    queue_of(&settings)
}

fn queue_of(settings: &Settings) -> Result<Queue> {
    let config = || app::outbox_config(&settings.outbox, settings.retry.policy());
    rotate::open(&settings.outbox, |key, index_key| Outbox::open_admin(config(), key, index_key))
}

async fn show_status(args: &JsonArgs) -> Result<()> {
    let loaded = load(&args.config)?;
    let value = match admin::fetch_status(admin_access(loaded.path())?).await {
        Ok(value) => value,
        Err(error) => {
            eprintln!("not running ({error}); this is what the outbox says");
            let queue = queue_of(&Config::check(&loaded)?)?;
            let counts = status::queue(&queue, Timestamp::now()).await;
            serde_json::json!({ "role": "gateway-out", "running": false, "queue": counts })
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", service::text::render(&value));
    }
    Ok(())
}

fn show_card(arg: &ConfigArg) -> Result<()> {
    let loaded = load(arg)?;
    println!("{}", Own::load(&loaded, &loaded.config.identity)?.card.to_line());
    Ok(())
}

fn show_fingerprint(arg: &ConfigArg) -> Result<()> {
    let loaded = load(arg)?;
    // Of the card that peers are to take: where keys are being rotated, not yet of those in use.
    let fingerprint = match Own::load(&loaded, &loaded.config.identity) {
        Ok(own) => own.card.identity.fingerprint(),
        Err(_) => service::own::load_identity(&loaded, &loaded.config.identity)?.fingerprint(),
    };
    print_fingerprint(&fingerprint);
    Ok(())
}

async fn rotate_keys(arg: &ConfigArg, ask: Ask) -> Result<()> {
    let loaded = load(arg)?;
    let files = KeyFiles::of(&loaded, &loaded.config.identity);
    rotation::command(&arg.config, &files, ask).await
}

async fn update_peer(arg: &ConfigArg, card: &Path, replace: bool) -> Result<()> {
    let loaded = load(arg)?;
    let pins = Pins::of(&loaded, &loaded.config.peers, &loaded.config.relays);
    pins.update(&arg.config, card, replace, || good(arg)).await
}

async fn trust_card(arg: &ConfigArg, args: &TrustArgs) -> Result<()> {
    trust::trust(args, &arg.config, || good(arg)).await
}

fn good(arg: &ConfigArg) -> Result<()> {
    Config::check(&load(arg)?)?;
    Ok(())
}

async fn rotate_outbox_key(arg: &ConfigArg) -> Result<()> {
    files::refuse_foreign(&arg.config)?;
    let loaded = load(arg)?;
    let settings = Config::check(&loaded)?.outbox;
    rotate::prepare(&settings)?;
    let rewrapped = if rotate::is_rewrapped(&settings)? {
        println!("an earlier rotation had wrapped everything already");
        0
    } else {
        let access = admin_access(loaded.path())?;
        let running = admin::post_json(access, rotate::PATH, &serde_json::json!({})).await;
        match running {
            Ok(answer) => rotate::count(&answer),
            Err(RequestError::Connection { .. }) => {
                rotate::rewrap_alone(&settings, queue::operator("key rotate --outbox")?).await?
            }
            Err(error) => return Err(error).context("nothing was changed"),
        }
    };
    rotate::finish(&settings)?;
    println!("{rewrapped} instances wrapped under another key");
    println!("copy {} again: copies of the earlier key open nothing any more", settings.key.display());
    Ok(())
}

fn print_fingerprint(fingerprint: &Fingerprint) {
    println!("fingerprint    {}", fingerprint_text(fingerprint));
    println!("in words       {}", fingerprint_words(fingerprint));
}

async fn send_files(args: &SendArgs) -> Result<()> {
    let loaded = load(&args.config)?;
    let routes = &loaded.config.routes;
    let mut titles: Vec<_> = routes.iter().map(|route| &route.ae).collect();
    titles.dedup();
    let called = match (&args.ae, titles.as_slice()) {
        (Some(ae), _) => ae.clone(),
        (None, [title]) => (*title).clone(),
        (None, _) => {
            let several = "there are several AE titles, or none; choose one by --ae";
            return Err(UsageError(several.to_owned()).into());
        }
    };
    let Some(mut address) = loaded.config.dicom.listen else {
        let tls_only = "there is no DICOM port without TLS (`dicom.listen`), and this command has no certificate to show";
        return Err(UsageError(tls_only.to_owned()).into());
    };
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let target = Target { address, calling: args.calling.clone(), called };
    let instances = send::gather(&args.paths, &target)?;
    let bar = ProgressBar::new(instances.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {msg}") {
        bar.set_style(style);
    }
    let sent = send::send(&target, &instances, &CancellationToken::new(), |sent| {
        bar.inc(1);
        match &sent.outcome {
            Outcome::Answered(status) if status.0 == 0 => {}
            Outcome::Answered(status) => bar.println(format!("{}  {}", status, sent.path.display())),
            Outcome::NotAccepted(error) | Outcome::Failed(error) => {
                bar.println(format!("{}: {error}", sent.path.display()));
            }
        }
    })
    .await?;
    bar.finish();
    let accepted = sent.iter().filter(|sent| sent.is_accepted()).count();
    println!("{accepted} of {} accepted", sent.len());
    if accepted < sent.len() {
        bail!("{} were not accepted", sent.len() - accepted);
    }
    Ok(())
}

async fn why(why: &WhyArgs) -> Result<()> {
    let queue = open_queue(&why.args.config)?;
    let lives = queue::why(&queue, &why.id).await?;
    let refused = queue.refusals_of(&why.id, queue::FOUND_MAX).await?;
    if why.args.json {
        let settings = Config::check(&load(&why.args.config)?)?;
        let now = Timestamp::now();
        let values = lives.iter().map(|(row, _, value)| {
            let mut value = value.clone();
            if let (Some(map), Some(until)) =
                (value.as_object_mut(), hindered::window(&settings.routes, row, now))
            {
                map.insert("waits_for_window_until".to_owned(), serde_json::json!(until));
            }
            value
        });
        let refused = refused.iter().map(|one| json!({ "refused": pseudonyms::refused_json(one) }));
        let values = values.chain(refused).collect::<Vec<_>>();
        println!("{}", serde_json::to_string_pretty(&values)?);
    } else {
        for (row, events, _) in &lives {
            print!("{}", queue::life_text(row, events));
        }
        print_hindrances(&why.args.config, lives.iter().map(|(row, ..)| row)).await?;
    }
    let named = show::named(&queue, &why.id).await?;
    if !why.args.json {
        refused.iter().for_each(|one| println!("{}", pseudonyms::refused_line(one)));
        named.iter().for_each(|one| println!("{}", show::named_line(one)));
    }
    if lives.is_empty() && named.is_empty() && refused.is_empty() {
        bail!("this gateway has never accepted anything under that id");
    }
    Ok(())
}

/// Says why nothing leaves, where something has not ended yet.
async fn print_hindrances<'a>(
    config: &ConfigArg,
    rows: impl IntoIterator<Item = &'a spool::Delivery>,
) -> Result<()> {
    let open: Vec<_> = rows.into_iter().filter(|row| !row.state.is_ended()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let loaded = load(config)?;
    let settings = Config::check(&loaded)?;
    let by_windows = hindered::by_windows(&settings.routes, open, Timestamp::now());
    let by_relays = hindered::by_relays(admin_access(&config.config)?).await;
    for line in by_windows.into_iter().chain(by_relays) {
        println!("{line}");
    }
    Ok(())
}

async fn commitments_command(command: CommitmentsCommand) -> Result<()> {
    let now = Timestamp::now();
    match command {
        CommitmentsCommand::Ls { args, all, limit } => {
            let rows = open_queue(&args.config)?.commitments(!all, limit).await?;
            if args.json {
                let rows = rows.iter().map(|row| show::commitment_json(row, now)).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                rows.iter().for_each(|row| println!("{}", show::commitment_line(row, now)));
                println!("{} transactions", rows.len());
            }
        }
        CommitmentsCommand::Retry { config, id, reason } => {
            let queue = open_queue(&config)?;
            let row = show::one(&queue, &id).await?;
            queue.commitment_retry(row.id, queue::operator(&reason)?, now).await?;
            println!("{}  is reported now", row.id);
        }
        CommitmentsCommand::Drop { config, id, reason } => {
            let queue = open_queue(&config)?;
            let row = show::one(&queue, &id).await?;
            queue.commitment_drop(row.id, queue::operator(&reason)?, now).await?;
            println!("{}  dropped", row.id);
        }
    }
    Ok(())
}

fn relay_command(RelayCommand::Trust { config, name, reason }: &RelayCommand) -> Result<()> {
    let loaded = config::load::<Config>(&config.config, config::ENVIRONMENT_PREFIX)?;
    let dir = loaded.resolve(&loaded.config.outbox.dir);
    match witness::trust_again(&dir, name, reason, Timestamp::now())? {
        Some(distrust) => println!("relay {name} is used again; it was not, because {distrust}"),
        None => println!("relay {name} was not out of use"),
    }
    Ok(())
}

async fn receipt_command(command: ReceiptCommand) -> Result<()> {
    match command {
        ReceiptCommand::List(args) => {
            let receipts = receipts::all(&open_queue(&args.config)?).await?;
            if args.json {
                let values = receipts.iter().map(receipts::receipt_json).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&values)?);
            } else {
                for receipt in &receipts {
                    println!("{}", receipts::receipt_line(receipt));
                }
                println!("{} receipts", receipts.len());
            }
        }
        ReceiptCommand::Show { config, id } => {
            print!("{}", receipts::of(&open_queue(&config)?, &id).await?.to_text());
        }
        ReceiptCommand::Verify { file, peer, sender, relay } => {
            print!("{}", receipt::verify(&file, &CardFiles { receiver: peer, sender, relay })?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_in_the_documents_is_one() {
        let commands = testkit::documented_commands("gateway-out").unwrap();
        assert!(!commands.is_empty());
        for (place, words) in commands {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{place}: {words:?}: {error}");
            }
        }
    }
}
