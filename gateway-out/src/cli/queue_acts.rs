//! `queue`: what waits, and the few things that an operator may do to it.

use anyhow::{Result, bail};
use base::{DeliveryId, Timestamp};
use spool::{Delivery, DeliveryError, State};

use super::{
    args::{QueueActArgs, QueueCommand},
    open_queue, print_hindrances,
};
use crate::queue;

pub(super) async fn command(command: QueueCommand) -> Result<()> {
    let now = Timestamp::now();
    match command {
        QueueCommand::Ls { args, all, state, limit } => {
            let queue::Listed { rows, more } =
                queue::list(&open_queue(&args.config)?, state, all, limit).await?;
            if args.json {
                let rows = rows.iter().map(|row| queue::delivery_json(row, now)).collect::<Vec<_>>();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                for row in &rows {
                    println!("{}", queue::delivery_line(row, now));
                }
                println!("{} deliveries", rows.len());
            }
            if more {
                eprintln!("{}", queue::more_text(rows.len()));
            }
        }
        QueueCommand::Show { args, id } => {
            let queue = open_queue(&args.config)?;
            let row = queue::one(&queue, &id).await?;
            let (events, value) = queue::life(&queue, &row).await?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&value)?);
            } else {
                print!("{}", queue::life_text(&row, &events));
                print_hindrances(&args.config, [&row]).await?;
            }
        }
        QueueCommand::Hold(QueueActArgs { config, id, reason }) => {
            let (queue, by) = (open_queue(&config)?, queue::operator(&reason)?);
            let act = async |delivery| queue.hold(delivery, by.clone(), now).await;
            each(&queue::meant(&queue, &id).await?, act).await?;
        }
        QueueCommand::Release(QueueActArgs { config, id, reason }) => {
            let (queue, by) = (open_queue(&config)?, queue::operator(&reason)?);
            let act = async |delivery| queue.release(delivery, by.clone(), now).await;
            each(&queue::meant(&queue, &id).await?, act).await?;
        }
        QueueCommand::Retry { config, id, reason } => {
            let (queue, by) = (open_queue(&config)?, queue::operator(&reason)?);
            let act = async |delivery| queue.retry(delivery, by.clone(), now).await;
            each(&queue::meant(&queue, &id).await?, act).await?;
        }
        QueueCommand::Discard { config, id, reason } => {
            let queue = open_queue(&config)?;
            let row = queue::by_id(&queue, &id).await?;
            let state = queue.discard(row.delivery, queue::operator(&reason)?, now).await?;
            println!("{}  {state}", row.delivery);
        }
    }
    Ok(())
}

/// Acts on each of them, says what became of it, and fails when nothing could be done. Of many deliveries of a study some may have gone
/// on or ended meanwhile: those are passed over.
async fn each(
    rows: &[Delivery],
    act: impl AsyncFn(DeliveryId) -> Result<State, DeliveryError>,
) -> Result<()> {
    let mut done = 0;
    for row in rows {
        match act(row.delivery).await {
            Ok(state) => {
                done += 1;
                println!("{}  {state}", row.delivery);
            }
            Err(error @ DeliveryError::NotNow { .. }) if rows.len() > 1 => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    match (done, rows.len()) {
        (0, count) => bail!("none of {count} deliveries: see above"),
        (_, 1) => {}
        (done, count) => println!("{done} of {count} deliveries"),
    }
    Ok(())
}
