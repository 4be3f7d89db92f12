//! `key gen` and `pseudonyms`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use pseudonym::enveloped::Recipient;
use serde_json::{Value, json};
use service::exit::UsageError;
use spool::{DeedCount, Refused};

use super::{args::PseudonymsCommand, load, open_queue};
use crate::{
    config::Config,
    pseudonymize::{KeyRing, crosswalk, import},
    queue::utc,
};

/// Makes a file of site keys, or puts another key in front of those in it.
pub(super) fn generate(path: &Path, next: bool) -> Result<()> {
    let ring = if next { KeyRing::rotate(path)? } else { KeyRing::generate(path)? };
    println!("site key       {}", ring.current().name());
    if next {
        println!("earlier keys   {}, for studies that were seen under them", ring.earlier());
        println!("SIGHUP or a restart takes it over; give the file to every gateway that shares it");
    } else {
        println!("file           {}  (pseudonymize.key of a route)", path.display());
    }
    println!(
        "Keep a copy elsewhere. Whoever has it can link pseudonyms to patients; without it nobody can make the same ones again."
    );
    Ok(())
}

pub(super) async fn command(command: PseudonymsCommand) -> Result<()> {
    match command {
        PseudonymsCommand::Refused { args, limit } => {
            let refused = open_queue(&args.config)?.refusals(limit).await?;
            if args.json {
                let rows = refused.iter().map(refused_json).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                refused.iter().for_each(|one| println!("{}", refused_line(one)));
                println!("{} refused", refused.len());
            }
        }
        PseudonymsCommand::Report { args, study, instance: Some(digest) } => {
            match open_queue(&args.config)?.report(&study, digest).await? {
                // Exactly these bytes: their SHA-256 is the digest.
                Some(report) => print!("{report}"),
                None => bail!("no report with this digest on this study; give the UID that it came with"),
            }
        }
        PseudonymsCommand::Report { args, study, instance: None } => {
            let counts = open_queue(&args.config)?.deeds(&study).await?;
            if args.json {
                let rows = counts.iter().map(deeds_json).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                counts.iter().for_each(|count| print!("{}", deeds_text(count)));
            }
            if counts.is_empty() {
                bail!("no study with this UID was pseudonymized here; give the UID that it came with");
            }
        }
        PseudonymsCommand::Crosswalk { config, called, out, recipients, plain, paths } => {
            let settings = Config::check(&load(&config)?)?;
            let route = crosswalk::of_route(&settings.routes, &called)?;
            let Some(how) = &route.pseudonymize else { bail!("the route does not pseudonymize") };
            let recipients = match (plain, recipients.as_slice()) {
                (true, _) => Vec::new(),
                (false, []) if how.plan.recipients().is_empty() => {
                    let why = "name a certificate to encrypt it for (--for CERT), or say --plain";
                    return Err(UsageError(why.to_owned()).into());
                }
                (false, []) => how.plan.recipients().to_vec(),
                (false, paths) => paths.iter().map(|path| recipient(path)).collect::<Result<_>>()?,
            };
            let crosswalk = crosswalk::make(how, &open_queue(&config)?, &called, &paths).await?;
            crosswalk.write(&out, &recipients)?;
            let (patients, uids) = crosswalk.counts();
            println!(
                "{patients} patients and {uids} UIDs in {}; it leads to patients: keep it here",
                out.display()
            );
            for path in &crosswalk.left_out {
                eprintln!("{}: left out, its route refuses it", path.display());
            }
        }
        PseudonymsCommand::Import { file } => {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let rules =
                import::import(&text).with_context(|| format!("{} is no such JSON", file.display()))?;
            print!("{rules}");
        }
    }
    Ok(())
}

fn recipient(path: &Path) -> Result<Recipient> {
    let pem = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Recipient::from_pem(&pem).map_err(|why| anyhow::anyhow!("{} {why}", path.display()))
}

/// One line of `why` and `pseudonyms refused`.
pub(super) fn refused_line(refused: &Refused) -> String {
    let Refused { at, called, status, reason, sop_class, by: _ } = refused;
    format!("{}  refused {:04X} at {called}, SOP class {sop_class}: {reason}", utc(*at), status.0)
}

/// The same for programs.
pub(super) fn refused_json(refused: &Refused) -> Value {
    json!({
        "at": refused.at, "called": refused.called, "status": format!("{:04X}", refused.status.0),
        "reason": refused.reason, "sop_class": refused.sop_class, "found_by": refused.by.map(|by| by.to_string()),
    })
}

fn tag(attribute: u32) -> dataset::Tag {
    let [a, b, c, d] = attribute.to_be_bytes();
    dataset::Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

fn deeds_text(count: &DeedCount) -> String {
    let mut text = format!(
        "profile {}: {} instances, {} to {}\n",
        count.profile,
        count.instances,
        utc(count.first_at),
        utc(count.last_at)
    );
    for deed in &count.deeds {
        let tag = tag(deed.attribute);
        text.push_str(&format!(
            "  {tag}  {:<20} {:>9}  {}\n",
            deed.what,
            deed.count,
            tag.keyword().unwrap_or("")
        ));
    }
    for (digest, instances) in &count.reports {
        text.push_str(&format!("  report {digest}  of {instances} instances\n"));
    }
    text
}

fn deeds_json(count: &DeedCount) -> Value {
    let deeds = count.deeds.iter().map(|deed| {
        let tag = tag(deed.attribute);
        json!({ "tag": tag.to_string(), "name": tag.keyword(), "what": deed.what, "count": deed.count })
    });
    json!({
        "profile": count.profile, "instances": count.instances, "first_at": count.first_at,
        "last_at": count.last_at, "done": deeds.collect::<Vec<_>>(),
        "reports": count.reports.iter()
            .map(|(digest, instances)| json!({ "digest": digest.to_string(), "instances": instances }))
            .collect::<Vec<_>>(),
    })
}
