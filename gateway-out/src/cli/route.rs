//! `route test`.

use anyhow::{Result, bail};
use base::Priority;

use super::{
    args::{PriorityArg, RouteCommand},
    load,
};
use crate::{config::Config, route_test};

/// Explains a choice; an error where no route takes the file.
pub(super) fn command(command: RouteCommand) -> Result<()> {
    let RouteCommand::Test { args, file, called, calling, source, priority, reveal, pseudonymize } = command;
    let priority = match priority {
        PriorityArg::Low => Priority::Low,
        PriorityArg::Medium => Priority::Medium,
        PriorityArg::High => Priority::High,
    };
    let loaded = load(&args.config)?;
    let settings = Config::check(&loaded)?;
    let asked = route_test::Asked { called, calling, source, priority, reveal, pseudonymize };
    let explained = route_test::explain(&loaded, &settings.routes, &file, &asked)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&explained.json())?);
    } else {
        print!("{}", explained.text());
    }
    if !explained.is_taken() {
        bail!("no route takes it");
    }
    if explained.is_refused_by_pseudonymization() {
        bail!("its route would refuse it");
    }
    Ok(())
}
