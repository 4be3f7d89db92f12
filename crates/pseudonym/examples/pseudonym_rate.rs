//! How many CT slices a second the engine takes on one core.
//!
//!     cargo run --release -p pseudonym --example pseudonym_rate

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use base::{Secret, Uid};
use fixtures::{CtSeries, Subject, TransferSyntax};
use pseudonym::{Plan, Profile, ProfileOption, Pseudonymizer, Pseudonyms, WordList};

const ROUNDS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let series = CtSeries {
        subject: Subject::new(1).with_patient_id("471100").with_patient_name("DOE^JANE"),
        slices: 8,
        side: 512,
    };
    let slices =
        (0..series.slices).map(|slice| series.slice(slice).data_set(&TransferSyntax::ExplicitLittle));
    let data = slices.collect::<Result<Vec<_>, _>>()?;
    let profile = Profile { options: vec![ProfileOption::RetainModifiedDates], ..Profile::default() };
    let plan = Arc::new(Plan::new(profile, WordList::default(), "")?);
    let pseudonyms = Arc::new(Pseudonyms::new(&Secret::random()));
    let explicit = Uid::parse("1.2.840.10008.1.2.1")?;
    let (mut out, mut bytes) = (Vec::new(), 0);
    let start = Instant::now();
    for round in 0..ROUNDS {
        let Some(instance) = data.get(round % data.len()) else { break };
        out.clear();
        let mut engine = Pseudonymizer::new(Arc::clone(&plan), Arc::clone(&pseudonyms), &explicit)?;
        for piece in instance.chunks(128 << 10) {
            engine.feed(piece, &mut out)?;
        }
        engine.finish(&mut out)?;
        bytes += instance.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = ROUNDS as f64 / seconds;
    println!(
        "{ROUNDS} slices of {} bytes: {rate:.0}/s, {:.0} MB/s",
        bytes / ROUNDS,
        bytes as f64 / seconds / 1e6
    );
    Ok(())
}
